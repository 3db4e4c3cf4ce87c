"""SOGFS: the features of a projection in which samples fall into clusters, graph and projection learned at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rsunfold.arrays import Real
from rsunfold.classical.lap_score import NEIGHBOURS, check_neighbours
from rsunfold.classical.spcafs import row_sparse, span
from rsunfold.errors import UsageError
from rsunfold.ranking import EXHAUSTED, Ranking, by_score, check_most, eigenvectors, standardised_samples
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

LANDMARKS = 1000
"""Most samples, evenly spread: every step takes eigenvectors of a matrix of them by them."""
STEPS, REWEIGHTINGS = 30, 3
"""Most rounds of S, F and W, and of reweightings for W in each, which goes on from the W of the round before."""
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Round:
    """What a round of SOGFS ends with: S (n, n), F (n, c), W (d, m), the number of parts of the graph, and alpha and
    lam, with which its S was found."""

    S: Real
    F: Real
    W: Real
    parts: int
    alpha: float
    lam: float


@register(
    "sogfs",
    task="select-features",
    kind="classical",
    paper="Nie, Zhu and Li, Unsupervised feature selection with structured graph optimization, AAAI 2016",
    url="https://doi.org/10.1609/aaai.v30i1.10168",
    bands=(2, None),
    needs="samples that form clusters; uses at most 1000 of them",
)
class SOGFS:
    """score_i = ||w^i||, row i of W (d, m), of

        min  sum_ij (||W'x_i - W'x_j||^2 s_ij + alpha s_ij^2) + 2 gamma ||W||_{2,1} + 2 lam tr(F' L_S F)
        over S (n, n), s_ij >= 0, sum_j s_ij = 1, s_ii = 0;  W'W = I;  F (n, c), F'F = I

    x_i : samples, L_S the Laplacian of (S + S') / 2. lam makes the graph fall into c parts, whose number is that of the
    eigenvalues 0 of L_S. In turn, each the minimum over its variable but W, which does not rise:

        s_i = projection on the simplex of -d_i / (2 alpha),  d_ij = ||W'x_i - W'x_j||^2 + lam ||f_i - f_j||^2
        F   = eigenvectors of L_S to the c smallest eigenvalues
        W   = eigenvectors of X L_S X' + gamma Q to the m smallest,  Q_ii = 1 / (2 ||w^i||), repeated
        lam = 2 lam with fewer than c parts, lam / 2 with more; it ends with c parts

    alpha = mean_i (k d_i(k+1) - sum_j<=k d_i(j)) / 2, d_i(j) the j-th smallest, gives a sample k neighbours in the
    mean. At first S comes from d_ij = ||x_i - x_j||^2, and lam = alpha.

    The paper takes c as known and chooses gamma and m for each set. Here no label is used: c = 10 as for ``udfs``
    unless it is known (``sogfs:clusters=20``), and gamma is fixed. So that it means the same for any data, features are
    divided by their deviations, constant ones left out with score 0, and X by one factor, for which X L_S X' of the
    first graph has the mean eigenvalue 1. alpha follows d in every round: distances in m dimensions are a small part of
    those in d, with whose alpha S would join all to all. gamma is that of the W step, as in the authors' code, so that
    it stands twice in the objective, whose first term is 2 tr(W' X L_S X' W). W lies in the span of the samples: with
    fewer samples than features, every direction outside makes its term 0 and says nothing of the data. Rounds and
    reweightings are bounded; a note tells where the parts are not c by then, as happens where most samples repeat more
    than k times and have no other neighbours than their copies. Neighbours come from LANDMARKS samples at most, evenly
    spread; no matrix of all pixels is made.

    gamma : 0 or more; of 600 features, 0.01 leaves some 400 rows of W above rounding, 0.1 some 50, too few to rank by.
    clusters : c, at most the samples less one. components : m, at most d - 1. neighbours : k.
    Raises UsageError for gamma below 0 and others below 1.
    """

    def __init__(
        self, *, gamma: float = 0.01, clusters: int = 10, components: int = 10, neighbours: int = NEIGHBOURS
    ) -> None:
        check_neighbours(neighbours, "sogfs")
        if clusters < 1 or components < 1 or not 0 <= gamma < np.inf:
            raise UsageError(
                "sogfs needs clusters and components of 1 or more and gamma of 0 or more, not "
                f"{clusters}, {components} and {gamma}."
            )
        self.gamma, self.clusters, self.components, self.neighbours = gamma, clusters, components, neighbours

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        d = len(scene.mean)
        check_most(most, d)
        x, used, Z = standardised_samples(scene, LANDMARKS)
        scores = np.zeros(d)
        notes: list[str] = []
        about = {"landmarks": x.shape[1], "neighbours": self.neighbours, "gamma": self.gamma, "clusters": self.clusters}
        if used.size:
            # With as many components as features W is square and orthogonal, and every row norm is 1.
            m = min(self.components, max(1, len(Z) - 1))
            wanted = min(self.clusters, Z.shape[1] - 1)
            *_, last = structured_graph(Z, wanted, m, self.neighbours, self.gamma)
            scores[used] = np.linalg.norm(last.W, axis=1)
            about["parts"] = last.parts
            if last.parts != wanted:
                notes.append(
                    f"sogfs stopped after {STEPS} rounds at {last.parts} instead of {wanted} parts of its graph: its "
                    "scores may be inexact; another number of clusters, or samples that repeat less often, may help"
                )
        return Ranking(by_score(scores, spacing), scores, about, notes)


def structured_graph(X: Real, c: int, m: int, k: int, gamma: float) -> Iterator[Round]:
    """The rounds of :class:`SOGFS` for centred samples X (d, n), n above c, the one of the first graph first."""
    n = X.shape[1]
    S, alpha = graph(squares(X), k)
    mean = float(np.trace(scatter(X, S))) / len(X)
    if mean <= EXHAUSTED * n * float(np.square(X).sum()):
        mean = 1.0  # samples that repeat join their copies alone
    X, alpha = X / np.sqrt(mean), alpha / mean
    lam = alpha
    U = span(X)
    m = min(m, U.shape[1])
    W = row_sparse(-scatter(X, S), m, gamma, 1.0, basis=U)
    F, parts = embedding(S, c)
    yield Round(S, F, W, parts, alpha, lam)
    for _ in range(STEPS):
        S, alpha = graph(squares(W.T @ X) + lam * squares(F.T), k)
        F, parts = embedding(S, c)
        W = row_sparse(-scatter(X, S), m, gamma, 1.0, basis=U, start=W, steps=REWEIGHTINGS)
        yield Round(S, F, W, parts, alpha, lam)
        if parts == c:
            break
        lam *= 2 if parts < c else 0.5


def squares(X: Real) -> Real:
    """||x_i - x_j||^2 (n, n) of the columns of X, exactly 0 on the diagonal."""
    norms = np.einsum("ij,ij->j", X, X)
    D = np.maximum(norms[:, None] + norms - 2 * X.T @ X, 0)
    np.fill_diagonal(D, 0)
    return np.asarray(D)


def graph(D: Real, k: int) -> tuple[Real, float]:
    """(S (n, n), alpha): rows of S minimise sum_j d_ij s_ij + alpha s_ij^2 on the simplex, s_ii = 0; see
    :class:`SOGFS` for alpha. n at least 2."""
    n = len(D)
    others = ~np.eye(n, dtype=bool)
    d = D[others].reshape(n, n - 1)
    k = min(k, max(1, n - 2))
    near = np.sort(np.partition(d, min(k, n - 2), axis=1)[:, : k + 1], axis=1)
    alpha = max(float(np.mean(k * near[:, -1] - near[:, :k].sum(axis=1))) / 2, TINY)
    S = np.zeros((n, n))
    # Differences before the division: alpha may be next to nothing, and the projection does not see a constant.
    with np.errstate(over="ignore"):
        S[others] = simplex_rows((d.min(axis=1, keepdims=True) - d) / (2 * alpha)).ravel()
    return S, alpha


def simplex_rows(V: Real) -> Real:
    """The nearest point of the simplex {s >= 0, sum s = 1} to each row of V: s = max(v - t, 0), t by sorting.

    Values may be -inf where others are finite. Source: Held, Wolfe and Crowder, Mathematical Programming 6, 1974.
    """
    V = np.maximum(V, V.max(axis=1, keepdims=True) - 2)  # what lies 1 below the largest is 0 anyway
    falling = -np.sort(-V, axis=1)
    above = (np.cumsum(falling, axis=1) - 1) / np.arange(1, V.shape[1] + 1)
    count = np.count_nonzero(falling > above, axis=1)
    return np.asarray(np.maximum(V - above[np.arange(len(V)), count - 1][:, None], 0))


def laplacian(S: Real) -> Real:
    """L (n, n) = D - (S + S') / 2, D its degrees."""
    A = (S + S.T) / 2
    return np.asarray(np.diag(A.sum(axis=1)) - A)


def scatter(X: Real, S: Real) -> Real:
    """X L_S X' (d, d)."""
    M = X @ laplacian(S) @ X.T
    return np.asarray((M + M.T) / 2)


def embedding(S: Real, c: int) -> tuple[Real, int]:
    """(F (n, c), number of connected parts of S)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return eigenvectors(laplacian(S), 0, c), int(connected_components(csr_array(S), directed=False)[0])
