"""SPCAFS: sparse principal components whose rows vanish as a whole, by reweighted eigenvectors."""

from __future__ import annotations

import numpy as np

from rsunfold.arrays import Real
from rsunfold.errors import UsageError
from rsunfold.ranking import Ranking, by_score, check_most, deviations, eigenvectors, standardised
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

STEPS, TOLERANCE = 30, 1e-6
"""Most reweightings, and the change of the row norms below which they end."""
SAME = 1e-10
"""Difference of eigenvalues, in units of the largest, that is rounding."""
DIGITS = 9
"""Decimals of a row norm that rounding, which differs between machines, leaves alone."""
LEAST = 1e-6
"""Row norm below which a row weighs no more than one of this norm."""


@register(
    "spcafs",
    task="select-features",
    kind="classical",
    paper="Li, Nie, Bian, Wu and Li, Sparse PCA via l2,p-norm regularization for unsupervised feature selection, IEEE "
    "TPAMI 45(4), 2023",
    url="https://doi.org/10.1109/TPAMI.2021.3121329",
    bands=(2, None),
    needs="features in the same unit; uses only their covariance",
)
class SPCAFS:
    """min over W'W = I of -tr(W' S W) + weight sum_i ||w^i||^p; score_i = ||w^i||, row i of W (d, m).

    S is the covariance divided by its largest eigenvalue. Each step takes for W the m leading eigenvectors of
    S - weight D, D_ii = p/2 ||w^i||^(p - 2), which raises no step's objective.

    Where few features have nearly all of the variance, W takes exactly m of them: their norms are 1 and all others 0.
    Norms that are equal to DIGITS decimals are ties, the larger variance first, which is what such a feature adds to
    the objective.

    The paper chooses weight and p by the labels for each set; here they are fixed. components : m, at most d - 1.
    power : p in (0, 2). weight : 0 for plain principal components.
    """

    def __init__(self, *, components: int = 10, power: float = 0.5, weight: float = 0.01) -> None:
        if components < 1 or not 0 < power < 2 or weight < 0:
            raise UsageError(
                "spcafs needs components of 1 or more, power between 0 and 2 and weight of 0 or more, not "
                f"{components}, {power} and {weight}."
            )
        self.components, self.power, self.weight = components, power, weight

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        d = len(scene.mean)
        check_most(most, d)
        C = standardised(scene, 0.0)
        used = np.flatnonzero(np.diagonal(C) > 0)
        scores = np.zeros(d)
        if used.size:
            C = C[np.ix_(used, used)]
            # With as many components as features W is square and orthogonal, and every row norm is 1.
            m = min(self.components, max(1, len(C) - 1))
            W = row_sparse(C / np.linalg.eigvalsh(C)[-1], m, self.weight, self.power)
            scores[used] = np.linalg.norm(W, axis=1).round(DIGITS)
        about = {"components": self.components, "power": self.power, "weight": self.weight}
        return Ranking(by_score(scores, spacing, deviations(scene)), scores, about)


def _leading_norms(S: Real, m: int, basis: Real | None) -> Real:
    """Norms (d,) of the rows of the m leading eigenvectors of S in the span of a basis, see :func:`row_sparse`."""
    values, vectors = np.linalg.eigh(S if basis is None else basis.T @ S @ basis)
    vectors = vectors if basis is None else basis @ vectors
    last = values[-m]
    same = np.abs(values - last) <= SAME * np.abs(values).max()
    above = values > last
    share = (m - np.count_nonzero(above & ~same)) / np.count_nonzero(same)
    squares = np.square(vectors)
    return np.asarray(np.sqrt(squares[:, above & ~same].sum(axis=1) + share * squares[:, same].sum(axis=1)))


def span(X: Real) -> Real:
    """Orthonormal basis (d, r) of what the columns of X (d, n) span."""
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    return np.asarray(U[:, : max(1, int(np.count_nonzero(s > SAME * s.max(initial=0.0))))])


def row_sparse(
    S: Real,
    m: int,
    weight: float,
    power: float,
    *,
    basis: Real | None = None,
    start: Real | None = None,
    steps: int = STEPS,
) -> Real:
    """W (d, m), W'W = I, a stationary point of -tr(W' S W) + weight sum_i ||w^i||^power from the eigenvectors of S.

    S (d, d) symmetric, of any sign; m <= d. basis : orthonormal (d, r), r >= m, in whose span W is to lie. start : a W
    to go on from, whose objective the result does not exceed. steps : most reweightings.

    Where the m-th eigenvalue of S is a multiple one, as of fewer samples than features, which of its eigenvectors W
    holds is arbitrary: the first row norms are then the root mean square over all choices.
    """

    def leading(A: Real) -> Real:
        if basis is None:
            return eigenvectors(A, len(A) - m, len(A))
        inside = basis.T @ A @ basis
        return np.asarray(basis @ eigenvectors((inside + inside.T) / 2, len(inside) - m, len(inside)))

    if not weight:
        return leading(S)
    norms = _leading_norms(S, m, basis) if start is None else np.linalg.norm(start, axis=1)
    for _ in range(steps):
        D = power / 2 * np.maximum(norms, LEAST) ** (power - 2)
        W = leading(S - weight * np.diag(D))
        before, norms = norms, np.linalg.norm(W, axis=1)
        if np.abs(norms - before).max() < TOLERANCE:
            break
    return W
