"""MCFS: the features that a sparse regression needs to give the clusters of the samples."""

from __future__ import annotations

import numpy as np

from rsunfold.arrays import Real
from rsunfold.classical.lap_score import LANDMARKS, NEIGHBOURS, check_neighbours, neighbour_graph
from rsunfold.errors import UsageError
from rsunfold.quiet import silenced
from rsunfold.ranking import Ranking, by_score, check_most, eigenvectors, standardised_samples
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

APART = 1e-10
"""Weight of an edge, in units of the geometric mean of its ends' degrees, that joins nothing: as small as rounding."""


@register(
    "mcfs",
    task="select-features",
    kind="classical",
    paper="Cai, Zhang and He, Unsupervised feature selection for multi-cluster data, KDD 2010",
    url="https://doi.org/10.1145/1835804.1835848",
    bands=(2, None),
    needs="samples that form clusters; uses at most 2000 of them",
    nested=False,
)
class MCFS:
    """For k = 1 .. K: min over a_k of ||y_k - X' a_k||^2 with at most ``most`` coefficients; score_j = max_k |a_kj|.

    y_1 .. y_K solve L y = lambda D y on the graph of the nearest neighbours, the smallest eigenvalues above the trivial
    one. Where the graph falls into parts, any combination of their indicators solves it with lambda = 0: y are then the
    indicators of the largest parts (by their degrees), all but one, which depend on no rounding. The sparse regressions
    are solved by least-angle regression. Features that no regression takes score 0 and follow by index.

    Each feature is divided by its deviation before the regression, so that |a_kj| does not depend on its unit. The
    graph is that of LANDMARKS samples at most, evenly spread; no matrix of all pixels is made, but one of the
    landmarks.

    clusters : K, 5 unless known, as in the paper. neighbours : of the graph.
    """

    def __init__(self, *, clusters: int = 5, neighbours: int = NEIGHBOURS) -> None:
        check_neighbours(neighbours, "mcfs")
        if clusters < 1:
            raise UsageError(f"mcfs needs at least one cluster, not {clusters}.")
        self.clusters, self.neighbours = clusters, neighbours

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features, the scores for ``most``."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path

        d = len(scene.mean)
        check_most(most, d)
        x, used, Z = standardised_samples(scene, LANDMARKS)
        scores = np.zeros(d)
        Y = embedding(x, self.clusters, self.neighbours)
        if used.size:
            for y in Y.T:
                with silenced(ConvergenceWarning):  # duplicates make it drop regressors, as they should
                    path = lars_path(Z.T, y - y.mean(), method="lar", max_iter=most, return_path=False)[2]
                scores[used] = np.maximum(scores[used], np.abs(path))
        about = {"landmarks": x.shape[1], "neighbours": self.neighbours, "clusters": int(Y.shape[1])}
        return Ranking(by_score(scores, spacing), scores, about)


def embedding(x: Real, count: int, neighbours: int) -> Real:
    """(n, count or fewer) : solutions of L y = lambda D y for samples x (d, n) by rising lambda, the trivial one left
    out, each of length sqrt(n) and with its largest entry above 0; see :class:`MCFS` for those with lambda = 0."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = x.shape[1]
    count = min(count, n - 1)
    if count < 1:
        return np.zeros((n, 0))
    W = neighbour_graph(x, neighbours).toarray()
    root = np.sqrt(np.maximum(W.sum(axis=1), np.finfo(np.float64).tiny))
    trivial = root / np.linalg.norm(root)
    # It has the largest eigenvalue, 1, not always alone: graphs fall apart. So it is sent to the other end, -1.
    A = W / root[:, None] / root - 2 * np.outer(trivial, trivial)
    Y = eigenvectors(A, n - count, n)[:, ::-1] / root[:, None]
    parts, part = connected_components(csr_array(APART * root[:, None] * root < W), directed=False)
    largest = np.argsort(-np.bincount(part, root**2), kind="stable")[: min(parts - 1, count)]
    inside = part[:, None] == largest
    Y[:, : len(largest)] = inside - root**2 @ inside / (root @ root)  # apart from the trivial one, in the metric D
    Y *= np.sqrt(n) / np.maximum(np.linalg.norm(Y, axis=0), np.finfo(np.float64).tiny)
    return np.asarray(Y * np.where(Y[np.abs(Y).argmax(axis=0), np.arange(Y.shape[1])] < 0, -1, 1))
