"""How well selected features or bands keep what labels tell: clustering and classification on them alone.

Labels serve to score here, never to select. NMI is divided by the arithmetic mean of the entropies, scikit-learn's
default and what the figures of the literature on COIL20, Isolet and UMIST use today; older papers divide by the larger
entropy or the geometric mean, which gives smaller or slightly larger numbers. :data:`FORMULAS` has every figure.

k-means++ draws its next centre once here, with probability proportional to the squared distance from the centres so
far (Arthur and Vassilvitskii, SODA 2007), as MATLAB and the published code do. scikit-learn draws 2 + log k candidates
and keeps the best ("greedy"), which alone lifts the accuracy on COIL20 by six points: figures with and without it must
not be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real
from rsunfold.errors import InputError, UsageError
from rsunfold.quiet import silenced

Labels = NDArray[Any]

FORMULAS = {
    "acc": "ACC = (1/n) max over one-to-one maps m of clusters to classes of the count of m(cluster_i) = class_i, "
    "found by the Hungarian method",
    "nmi": "NMI = I(cluster; class) / ((H(cluster) + H(class)) / 2)",
    "oa": "OA = correctly classified test samples / test samples",
    "aa": "AA = mean over the classes among the test samples of the share of the class that is classified correctly",
    "kappa": "kappa = (OA - p) / (1 - p), p = sum over classes of (test share of the class) (predicted share of it)",
}

COSTS, WIDTHS = (1.0, 10.0, 100.0), (0.1, 1.0, 10.0)
"""Grid of the SVM: C, and gamma in units of 1 / (number of features), features standardised."""
USUAL = 10.0, 1.0
"""C and gamma, in these units, where there are too few samples to choose them."""
FOLDS = 3
FEWEST = 2
"""Samples of a class to train on, where it has more."""
DRAWS = 50
"""Splits by tile looked at, of which the first whose training tiles hold every class is taken."""
CLASSIFIER: dict[str, Any] = {
    "method": "support vector machine with an RBF kernel (scikit-learn)",
    "features": "standardised by the mean and deviation of the training samples",
    "C": COSTS,
    "gamma_times_features": WIDTHS,
    "chosen_by": "accuracy in stratified cross-validation on the training samples",
    "folds": FOLDS,
    "with_fewer_samples_of_a_class_than_folds": {"C": USUAL[0], "gamma_times_features": USUAL[1]},
}
"""What :func:`classification` classifies with, for reports."""
SPLITS = {
    "random": "the share of the samples of each class by chance, "
    f"at least {FEWEST} and at most all but one; the only one where there is one",
    "tiles": "the share of the tiles by chance, at least one and at most all but one: of up to "
    f"{DRAWS} draws the first whose tiles hold every class, else the first whose tiles hold most",
}
"""What :func:`training_samples` trains on, for reports."""


def clustering(X: Real, labels: Labels, seeds: Iterable[int], plain: bool = True) -> dict[str, list[float]]:
    """Agreement of k-means on X (n, k) with ``labels`` (n,), one start for each of ``seeds``.

    The number of clusters is that of the classes. plain : one draw a centre, see the head of this file; otherwise
    scikit-learn's greedy k-means++. X is taken as it is, not standardised.

    Returns {"acc": .., "nmi": ..}, shares in [0, 1], one for each seed. Raises InputError for NaN, fewer samples than
    classes, one class only or labels that do not fit.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    X, y = _checked(X, labels)
    classes = int(y.max()) + 1
    if classes == 1:
        raise InputError("clustering needs samples of two classes or more; all labels are the same.")
    runs: dict[str, list[float]] = {"acc": [], "nmi": []}
    for seed in seeds:
        start = plain_centres(X, classes, seed) if plain else "k-means++"
        found = _quiet(KMeans(classes, init=start, n_init=1, random_state=seed), X)
        runs["acc"].append(clustering_accuracy(y, found))
        runs["nmi"].append(float(normalized_mutual_info_score(y, found, average_method="arithmetic")))
    return runs


def plain_centres(X: Real, k: int, seed: int) -> Real:
    """Centres (k, features) of k-means++ with one candidate a draw: rows of X (n, features), n >= k.

    Where fewer than k rows differ, further ones are drawn evenly.
    """
    rng = np.random.default_rng(seed)
    centred = X - X.mean(axis=0)  # of distances far from the origin, few digits would be left
    squares = np.einsum("ij,ij->i", centred, centred)
    chosen = [int(rng.integers(len(X)))]
    distance = np.full(len(X), np.inf)
    while len(chosen) < k:
        c = centred[chosen[-1]]
        np.minimum(distance, np.maximum(squares - 2 * (centred @ c) + c @ c, 0), out=distance)
        distance[chosen[-1]] = 0
        total = float(distance.sum())
        chosen.append(int(rng.choice(len(X), p=distance / total if total > 0 else None)))
    return X[chosen]


def clustering_accuracy(labels: Labels, clusters: Labels) -> float:
    """ACC in [0, 1] of ``clusters`` (n,) against ``labels`` (n,), of any values; their numbers may differ."""
    from scipy.optimize import linear_sum_assignment

    y, p = _codes(labels), _codes(clusters)
    table = np.zeros((int(y.max()) + 1, int(p.max()) + 1))
    np.add.at(table, (y, p), 1)
    rows, cols = linear_sum_assignment(table, maximize=True)
    return float(table[rows, cols].sum() / len(y))


def classification(
    X: Real, labels: Labels, train_share: float, seeds: Iterable[int], tiles: Labels | None = None
) -> dict[str, list[float]]:
    """OA, AA and kappa of a support vector machine with an RBF kernel on X (n, k), one draw for each of ``seeds``.

    train_share, tiles : see :func:`training_samples`. Test samples are all others; a class among them that no training
    tile holds counts as an error. Features are standardised by the training samples. C and gamma come from COSTS and
    WIDTHS by FOLDS-fold cross-validation on the training samples, or are USUAL where a class has fewer samples than
    folds.

    Returns {"oa": .., "aa": .., "kappa": ..} as :func:`clustering` does. Raises UsageError for a share outside (0, 1),
    InputError for NaN, one class only or a single tile.
    """
    if not 0 < train_share < 1:
        raise UsageError(f"the share of training samples must lie between 0 and 1, not {train_share}.")
    X, y = _checked(X, labels)
    if not y.max():
        raise InputError("classification needs samples of two classes or more; all labels are the same.")
    runs: dict[str, list[float]] = {"oa": [], "aa": [], "kappa": []}
    for seed in seeds:
        train = training_samples(y, train_share, seed, tiles)
        predicted = _predict(X, y, train, seed)
        for name, value in agreement(y[~train], predicted).items():
            runs[name].append(value)
    return runs


def training_samples(labels: Labels, share: float, seed: int, tiles: Labels | None = None) -> Mask:
    """(n,): True for the samples that :func:`classification` trains on in the draw of ``seed``.

    share : in (0, 1), of every class by chance: at least FEWEST of its samples, all but one of them at most, and the
    only one where there is one. With tiles (n,), of the tiles, whole ones, so that hardly a test sample has a
    neighbour in the training. Raises InputError where no sample is left to test on, or there is a single tile.
    """
    y = _codes(labels)
    return _split(y, share, seed) if tiles is None else _tile_split(y, _codes(tiles), share, seed)


def agreement(truth: Labels, predicted: Labels) -> dict[str, float]:
    """OA, AA and kappa of ``predicted`` (n,) against ``truth`` (n,); kappa is 0 where chance alone gives agreement."""
    both = _codes(np.concatenate([truth, predicted]))
    t, p = both[: len(truth)], both[len(truth) :]
    classes = int(both.max()) + 1
    table = np.zeros((classes, classes))
    np.add.at(table, (t, p), 1)
    n, hits, rows, cols = table.sum(), np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
    oa, chance = hits.sum() / n, float(rows @ cols) / n**2
    there = rows > 0
    kappa = (oa - chance) / (1 - chance) if chance < 1 else 0.0
    return {"oa": float(oa), "aa": float(np.mean(hits[there] / rows[there])), "kappa": float(kappa)}


def _predict(X: Real, y: NDArray[np.intp], train: Mask, seed: int) -> NDArray[np.intp]:
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import SVC

    spread = X[train].std(axis=0)
    Z = (X - X[train].mean(axis=0)) / np.where(spread > 0, spread, 1)
    known = np.unique(y[train], return_counts=True)[1]
    if len(known) < 2:
        return np.full(int((~train).sum()), y[train][0])
    k = X.shape[1]
    model: Any = SVC(C=USUAL[0], gamma=USUAL[1] / k)
    if known.min() >= FOLDS:
        grid = {"C": COSTS, "gamma": [w / k for w in WIDTHS]}
        model = GridSearchCV(SVC(), grid, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed))
    return np.asarray(model.fit(Z[train], y[train]).predict(Z[~train]))


def _split(y: NDArray[np.intp], share: float, seed: int) -> Mask:
    rng = np.random.default_rng(seed)
    train = np.zeros(len(y), dtype=bool)
    for c in range(int(y.max()) + 1):
        members = rng.permutation(np.flatnonzero(y == c))
        train[members[: max(min(max(round(share * len(members)), FEWEST), len(members) - 1), 1)]] = True
    if train.all():
        raise InputError("no sample is left to test on; every class needs more than one sample.")
    return train


def _tile_split(y: NDArray[np.intp], tiles: NDArray[np.intp], share: float, seed: int) -> Mask:
    rng = np.random.default_rng(seed)
    count = int(tiles.max()) + 1
    if count < 2:
        raise InputError("a split by tile needs two tiles or more.")
    wanted = min(max(round(share * count), 1), count - 1)
    best, most = np.zeros(len(y), dtype=bool), 0
    for _ in range(DRAWS):
        train = np.isin(tiles, rng.permutation(count)[:wanted])
        held = len(np.unique(y[train]))
        if held > most:
            best, most = train, held
        if held == y.max() + 1:
            break
    return best


def _checked(X: Real, labels: Labels) -> tuple[Real, NDArray[np.intp]]:
    """X float64 (n, k) and the labels as 0 .. classes - 1; raises InputError."""
    X = np.asarray(X, np.float64)
    if X.ndim != 2 or len(X) != len(labels):
        raise InputError(f"features of shape {X.shape} do not go with {len(labels)} labels.")
    if not np.isfinite(X).all():
        raise InputError("the features hold NaN or infinite values; leave these samples out.")
    y = _codes(labels)
    if not len(y):
        raise InputError("there are no labelled samples.")
    return X, y


def _codes(labels: Labels) -> NDArray[np.intp]:
    return np.asarray(np.unique(np.asarray(labels).ravel(), return_inverse=True)[1], np.intp)


def _quiet(model: Any, X: Real) -> NDArray[np.intp]:
    """Clusters of X, without the warning of duplicate points that leave clusters empty."""

    from sklearn.exceptions import ConvergenceWarning

    with silenced(ConvergenceWarning):
        return np.asarray(model.fit(X).labels_)
