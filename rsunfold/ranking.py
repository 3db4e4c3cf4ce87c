"""What an unsupervised selector of features or bands gives, and the greedy choice of columns that several share.

X (d, n) holds d features and n samples, C its covariance. A selector sees a :class:`rsunfold.scene.Scene` and says
which features keep the information, best first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real
from rsunfold.errors import UsageError
from rsunfold.scene import Scene, some_of
from rsunfold.spacing import Spacing

Indices = NDArray[np.intp]

CONSTANT = 1e-12
"""Deviation of a feature, in units of its root mean square, that the rounding of its mean may make up."""
EXHAUSTED = 8 * float(np.finfo(np.float64).eps)
"""Times d: the share of a column's variance that rounding may leave of it once the chosen ones explain all of it."""


REPRESENTED = 1e-20
"""Share of the first gain below which a gain of the targets is rounding."""


@dataclass(frozen=True)
class Ranking:
    """Features in the order in which to take them.

    order (d,) or (m,) : zero-based indices, best first, none twice. All features, or where the method cannot rank
    more, or others lie too near, m of them. scores float64 (d,) : by index of the feature, not by rank; larger is
    better; NaN where the method gives none. about : what was learned or assumed, in types that ``json`` can write.
    notes : sentences on what the user should know of the result.
    """

    order: Indices
    scores: Real
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def greedy_columns(
    K: Real, most: int, spacing: Spacing | None = None, targets: Real | None = None
) -> tuple[Indices, Real]:
    """(order (m,), gains (d,)) of a greedy column subset selection on a positive semidefinite K (d, d).

    K holds the products of d rows, K = Z Z'. Each step takes the row that lowers ||T - P T||_F^2 most, P the projection
    on the span of the rows taken so far, T what is to be represented: the rows Z themselves, or T = A Z for
    ``targets`` A (p, d). With E the part of K that the rows taken leave, and A = I without targets::

        j = argmax_j ||A E_:j||^2 / E_jj;   E <- E - E_:j E_j: / E_jj

    gains_j : ||A E_:j||^2 / (E_jj tr A K A') when j was taken, its share of the whole, in [0, 1]; 0 for columns taken
    after the others had explained everything, NaN for those never taken. The orders of a smaller and of a larger
    ``most`` begin alike. Ties go to the lower index (up to rounding).

    Once the targets are represented, the choice goes on with the rows themselves. Duplicates and other columns that
    the chosen ones explain wait until nothing else is left; then the choice begins anew among them. Columns that are 0
    come last, by index.

    spacing : see :meth:`rsunfold.contracts.Selector.rank`; the choice goes on among what is near to nothing taken.

    Source: Farahat, Ghodsi and Kamel, Efficient greedy feature selection for unsupervised learning, Knowledge and
    Information Systems 35(2), 2013; with targets, their generalised column subset selection (arXiv:1312.6820).
    Raises UsageError for ``most`` outside 1 to d.
    """
    d = len(K)
    check_most(most, d)
    A = np.eye(d) if targets is None else targets
    total = float(np.einsum("ij,ij->", A @ K, A))
    gains = np.full(d, np.nan)
    varies = np.diagonal(K) > 0
    taken = _Taken(d, spacing)
    first = True
    while len(taken.order) < most and (taken.open & varies).any():
        left = np.flatnonzero(taken.free & varies)
        found = _greedy(K[np.ix_(left, left)], None if targets is None else A[:, left], most, left, taken)
        for j, gain in found:
            gains[j] = gain / total if first else 0.0
        first = False
    rest = taken.those(np.arange(d), most)
    gains[rest] = 0
    return np.array(taken.order, dtype=np.intp), gains


class _Taken:
    """The features taken so far, ``order``, of d.

    free (d,) : those that may stand beside them. open (d,) : of these, the ones after which there is room for as many
    as are wanted.
    """

    def __init__(self, d: int, spacing: Spacing | None) -> None:
        self.spacing = spacing
        self.order: list[int] = []
        self.free: Mask = np.ones(d, dtype=bool)
        self.open = self._open()

    def _open(self) -> Mask:
        return self.free if self.spacing is None else self.spacing.open(self.free, len(self.order))

    def take(self, j: int) -> None:
        """Take feature ``j``, which is open."""
        self.order.append(j)
        self.free[j] = False
        if self.spacing is not None:
            self.free &= ~self.spacing.near[j]
        self.open = self._open()

    def those(self, order: Indices, most: int) -> list[int]:
        """Take those of ``order`` that are open when their turn comes, until ``most`` are taken in all; which they
        are."""
        before = len(self.order)
        for j in order:
            if len(self.order) == most:
                break
            if self.open[j]:
                self.take(int(j))
        return self.order[before:]


def _greedy(K: Real, A: Real | None, most: int, left: Indices, taken: _Taken) -> list[tuple[int, float]]:
    """(index, gain) of columns of K, called ``left``, that are taken, up to ``most`` in all, until nothing is to be
    explained any more.

    The gain is 0 once the targets A K are represented. Every diagonal entry of K is above 0.
    """
    E = K.copy()
    B = None if A is None else A @ E
    enough = EXHAUSTED * max(len(E), 8) * np.diagonal(K)
    nothing = 0.0 if B is None else REPRESENTED * float(_gain(B, np.diagonal(K)).max())
    open_ = taken.open[left]
    represented = False
    found: list[tuple[int, float]] = []
    while len(taken.order) < most:
        open_ &= np.diagonal(E) > enough
        if not open_.any():
            break
        # What is explained keeps only rounding, which must not count as something to represent.
        safe = np.where(open_, np.diagonal(E), np.inf)
        gain = _gain(E if B is None else B, safe)
        if B is not None and float(gain.max()) <= nothing:
            B, represented, gain = None, True, _gain(E, safe)
        best = float(gain.max())
        # Rounding differs between machines; columns that are as good as the best up to it are ties.
        j = int(np.flatnonzero(open_ & (gain >= best * (1 - 1e-12)))[0])
        found.append((int(left[j]), 0.0 if represented else best))
        taken.take(int(left[j]))
        column = E[:, j] / np.sqrt(E[j, j])
        if B is not None and A is not None:
            B -= np.outer(A @ column, column)
        E -= np.outer(column, column)
        E[j] = E[:, j] = 0
        open_ &= taken.open[left]
    return found


def _gain(B: Real, variance: Real) -> Real:
    return np.asarray(np.einsum("ij,ij->j", B, B) / variance)


def by_score(scores: Real, spacing: Spacing | None = None, ties: Real | None = None) -> Indices:
    """Indices (m,) of ``scores`` (d,) from the largest down, ties by index, NaN last.

    ties (d,) : what decides between equal scores before the index does, from the largest down. spacing : see
    :meth:`rsunfold.contracts.Selector.rank`; what is near to a better feature is left out.
    """
    known = -np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((known,) if ties is None else (-ties, known))
    return spaced(order, spacing)


def spaced(order: Indices, spacing: Spacing | None) -> Indices:
    """``order`` without the features that are near to one before them, or would take the room that others need."""
    if spacing is None:
        return order.astype(np.intp)
    return np.array(_Taken(len(spacing.places), spacing).those(order, len(order)), dtype=np.intp)


def check_most(most: int, d: int) -> None:
    """Raises UsageError unless 1 <= most <= d."""
    if not 1 <= most <= d:
        raise UsageError(f"between 1 and {d} features can be chosen of {d}, not {most}.")


def eigenvectors(A: Real, first: int, end: int) -> Real:
    """(n, end - first): eigenvectors of a symmetric A (n, n) to the eigenvalues ``first`` to ``end`` - 1, ascending."""
    from scipy.linalg import eigh

    try:
        return np.asarray(eigh(A, subset_by_index=[first, end - 1])[1])
    except np.linalg.LinAlgError:  # LAPACK's method for some of them gives up where many eigenvalues are equal
        return np.asarray(np.linalg.eigh(A)[1][:, first:end])


def deviations(scene: Scene) -> Real:
    """Standard deviations (d,) of the features; exactly 0 for a constant one, whose variance is rounding."""
    variance = np.maximum(np.diagonal(scene.covariance), 0)
    constant = variance <= CONSTANT**2 * (variance + scene.mean**2)
    return np.asarray(np.where(constant, 0, np.sqrt(variance)))


def standardised(scene: Scene, power: float = 1.0) -> Real:
    """C_ij / (s_i s_j)^power, (d, d), with the deviations s: 0 gives the covariance, 1 the correlation.

    Rows and columns of constant features are 0.
    """
    s = deviations(scene)
    weight = np.divide(1, s**power, out=np.zeros_like(s), where=s > 0)
    K = scene.covariance * weight[:, None] * weight
    return np.asarray((K + K.T) / 2)


def noise_scaled(scene: Scene) -> Real:
    """C_ij / (n_i n_j), (d, d), with the noise n of the scene: variances are signal-to-noise ratios, 1 for noise alone.

    Noise below a fourth of the usual share of a band's deviation (the median of all bands) counts as that fourth:
    bands that were interpolated from others have none of their own, and no say for it. Constant bands are 0.
    Source: Green et al., A transformation for ordering multispectral data in terms of image quality with implications
    for noise removal (the maximum noise fraction), IEEE TGRS 26(1), 1988.
    """
    assert scene.noise is not None
    s = deviations(scene)
    varies = s > 0
    share = np.divide(scene.noise, s, out=np.zeros_like(s), where=varies)
    n = s * np.maximum(share, max(float(np.median(share[varies])) / 4, 1e-6) if varies.any() else 1.0)
    weight = np.divide(1, n, out=np.zeros_like(s), where=varies)
    K = scene.covariance * weight[:, None] * weight
    return np.asarray((K + K.T) / 2)


def feature_samples(scene: Scene, most: int) -> Real:
    """Features of at most ``most`` samples, float64 (d, n), :func:`~rsunfold.scene.some_of` the scene's."""
    return scene.sample[:, some_of(scene.sample.shape[1], most)].astype(np.float64)


def standardised_samples(scene: Scene, most: int) -> tuple[Real, Indices, Real]:
    """(x (d, n), used (m,), Z (m, n)) : :func:`feature_samples`, the features that vary in them and in the scene, and
    these centred and divided by their deviations in the samples."""
    x = feature_samples(scene, most)
    spread = np.where(deviations(scene) > 0, x.std(axis=1), 0)
    used = np.flatnonzero(spread > 0)
    return x, used, (x[used] - x[used].mean(axis=1, keepdims=True)) / spread[used, None]
