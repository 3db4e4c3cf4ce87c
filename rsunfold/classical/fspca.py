"""FSPCA: the k features whose m principal components hold the most variance, by proxies of low rank."""

from __future__ import annotations

import numpy as np

from rsunfold.arrays import Real
from rsunfold.errors import UsageError
from rsunfold.ranking import EXHAUSTED, Indices, Ranking, by_score, check_most, standardised
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

STEPS = 100
"""Most proxies; the choice repeats itself after a few."""
GAIN = 1e-12
"""Share of the objective by which it must grow for another proxy: what is less is rounding between ties."""


@register(
    "fspca",
    task="select-features",
    kind="classical",
    paper="Tian, Nie, Wang and Li, Learning feature sparse principal subspace, NeurIPS 33, 2020",
    url="https://proceedings.neurips.cc/paper/2020/hash/ab7a710458b8378b523e39143a6764d6-Abstract.html",
    bands=(2, None),
    needs="features in the same unit; uses only their covariance",
    nested=False,
)
class FSPCA:
    """max tr(W' A W) over W (d, m) with W'W = I and at most k rows that are not 0; A the covariance, k = ``most``.

    For any choice of rows the best W holds, in these rows, the m leading eigenvectors of that block of A. So the
    problem is which rows:

    - rank A <= m (Algorithm 1): those of the k largest A_ii, which is the global optimum.
    - otherwise (Algorithm 2): from the solution of A cut to its m largest eigenvalues, repeat

        P = A W (W' A W)^+ W' A;   rows = the k largest P_ii;   W from that block of A

      P <= A has rank m and agrees with A on W, so no step lowers the objective. It ends when the rows repeat.

    score_i = P_ii of the last W, the variance of feature i that its m components explain, 0 to A_ii; the rows chosen
    are the k largest. Every ``most`` has its own scores, and its choice need not hold that for a smaller one.

    Beyond the paper: m is lowered to k where it is larger, which the paper rules out. Then, and whenever m = k, W is
    square on its rows and the objective is the sum of their A_ii: the k largest are the optimum, and are taken, where
    Algorithm 2 may stop at a local one. Other features than the k chosen follow, by score, which the paper has no
    use for; with ``spacing`` they replace the ones ruled out. Constant features score 0.

    components : m. Raises UsageError for less than one.
    """

    def __init__(self, *, components: int = 10) -> None:
        if components < 1:
            raise UsageError(f"fspca needs components of 1 or more, not {components}.")
        self.components = components

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features, the scores for ``most``."""
        d = len(scene.mean)
        check_most(most, d)
        C = standardised(scene, 0.0)
        used = np.flatnonzero(np.diagonal(C) > 0)
        scores = np.zeros(d)
        explained = 0.0
        if used.size:
            A = C[np.ix_(used, used)]
            objective, scores[used] = sparse_subspace(A, self.components, min(most, len(A)))
            explained = objective[-1] / float(np.trace(A))
        about = {"components": min(self.components, most), "explained": explained}
        return Ranking(by_score(scores, spacing), scores, about)


def sparse_subspace(A: Real, m: int, k: int) -> tuple[list[float], Real]:
    """(tr W' A W of every W, rising; P_ii (d,) of the last); see :class:`FSPCA`.

    A (d, d) positive semidefinite, its diagonal above 0; 1 <= k <= d. m above k counts as k.
    """
    d = len(A)
    m = min(m, k)
    values, vectors = np.linalg.eigh(A)
    nothing = EXHAUSTED * d * values[-1]
    largest = values[d - m :] * vectors[:, d - m :] ** 2
    # Exact for m = k and for rank A <= m; else a start, for which the paper cuts A to its m largest eigenvalues.
    exact = m == k or values[d - m - 1] <= nothing
    rows = _largest(np.diagonal(A) if exact else largest.sum(axis=1), k)
    objective: list[float] = []
    while True:
        lam, V = np.linalg.eigh(A[np.ix_(rows, rows)])
        lam, V = lam[k - m :], V[:, k - m :]
        known = lam > nothing
        # (W' A W)^+ is diagonal, as W holds eigenvectors of the block: P_ii = sum_j (A W)_ij^2 / lam_j.
        proxy = (A[:, rows] @ V[:, known]) ** 2 @ (1 / lam[known])
        objective.append(float(lam.sum()))
        before, rows = rows, _largest(proxy, k)
        still = len(objective) > 1 and objective[-1] - objective[-2] <= GAIN * objective[-1]
        if exact or still or np.array_equal(before, rows) or len(objective) == STEPS:
            return objective, proxy


def _largest(values: Real, k: int) -> Indices:
    """Indices of the k largest, rising; ties go to the lower index."""
    return np.sort(np.argsort(-values, kind="stable")[:k])
