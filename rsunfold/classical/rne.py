"""RNE: the features in which every sample is, up to outliers, the same mixture of its neighbours as in all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rsunfold.arrays import Real
from rsunfold.classical.lap_score import LANDMARKS, NEIGHBOURS, check_neighbours
from rsunfold.errors import UsageError
from rsunfold.ranking import Ranking, by_score, check_most, standardised_samples
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

STEPS, REFINEMENTS = 50, 30
"""Rounds of H, M and Y, and multiplicative steps for H in each, as the paper's code has them."""
GAMMA, MU = 10.0, 1.1
"""First penalty of M = A H, and its growth."""
RIDGE = 1e-3
"""On the products of a neighbourhood, in units of their trace."""
GONE = 1e-100
"""Entries of H that count as 0: numbers that are nearly too small for float64 take many times as long."""
NOTE = (
    "rne starts from random numbers, as published, and its choice is mostly theirs: two such choices share hardly one "
    "feature in ten"
)
EPS = float(np.finfo(np.float64).eps)


@register(
    "rne",
    task="select-features",
    kind="classical",
    paper="Liu, Ye, Li, Wang and Gao, Robust neighborhood embedding for unsupervised feature selection, "
    "Knowledge-Based Systems 193, 2020",
    url="https://doi.org/10.1016/j.knosys.2019.105462",
    bands=(2, None),
    needs="samples on a manifold; uses at most 2000 of them",
    nested=False,
)
class RNE:
    """min over H (d, k) >= 0, H'H = I of ||A H||_1, A = (I - B) X; score_i = ||h^i||, row i of H, k = ``most``.

    X (n, d) samples in rows. B (n, n) as in locally linear embedding: row i, which sums to 1, gives x_i from its
    nearest samples with the least squared error. H'H = I is weighed by alpha / 4 ||H'H - I||_F^2; with M = A H, its
    multipliers Y and penalty gamma, a round of ADMM is, [.]+ and [.]- the positive and negative parts::

        H <- H sqrt((alpha H + gamma [A'M]+ + gamma [A'A]- H + [A'Y]+)
                    / (alpha H H'H + gamma [A'M]- + gamma [A'A]+ H + [A'Y]-)),  columns made of length 1 before each
        M = soft(A H - Y / gamma, 1 / gamma);   Y = Y + gamma (M - A H);   gamma = 1.1 gamma

    The equations are those of the first author's code, published in Auto-UFSTool (2022), whose numbers of steps and
    alpha = 1000 are kept. Other than there: features are divided by their deviations and X by sqrt(d), which gives
    samples the length 1 in the mean; the code gives each sample the length 1, so that the features that vary least
    have the smallest errors and win, black corners of images first. B is applied by rows, where the code transposes
    it. The Gram matrix of a neighbourhood always has a ridge, as samples may be equal. H starts from uniform numbers
    of a fixed seed, whatever the scene's: equal columns would stay equal. The minimum that the rounds find is one near
    the start: two starts share hardly a feature in ten, and the objective ends above that of the k features with the
    smallest ||A e_i||_1, one in each column of H, which are a worse choice of bands. Constant features score 0. Every
    ``most`` has its own scores, and its choice need not hold that for a smaller one. Neighbours come from LANDMARKS
    samples at most, evenly spread; no matrix of all pixels is made.

    alpha : above 0. neighbours : of each sample. Raises UsageError otherwise, and for less than one neighbour.
    """

    def __init__(self, *, alpha: float = 1000.0, neighbours: int = NEIGHBOURS) -> None:
        check_neighbours(neighbours, "rne")
        if not 0 < alpha < np.inf:
            raise UsageError(f"rne needs alpha above 0, not {alpha}.")
        self.alpha, self.neighbours = alpha, neighbours

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features, the scores for ``most``."""
        d = len(scene.mean)
        check_most(most, d)
        x, used, Z = standardised_samples(scene, LANDMARKS)
        scores = np.zeros(d)
        if used.size:
            X = Z.T / np.sqrt(used.size)
            *_, H = selections(residuals(X, self.neighbours), min(most, used.size), self.alpha)
            scores[used] = np.linalg.norm(H, axis=1)
        about = {"landmarks": x.shape[1], "neighbours": self.neighbours, "alpha": self.alpha}
        return Ranking(by_score(scores, spacing), scores, about, [NOTE])


def residuals(X: Real, neighbours: int) -> Real:
    """A (n, d) = (I - B) X of samples X (n, d), n at least 2; see :class:`RNE`."""
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(X) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(X).kneighbors(return_distance=False)
    A = np.empty_like(X)
    for i, near in enumerate(nearest):
        Z = X[near] - X[i]
        gram = Z @ Z.T
        ridge = RIDGE * np.trace(gram) or 1.0
        weights = np.linalg.solve(gram + ridge * np.eye(count), np.ones(count))
        A[i] = -(weights / weights.sum()) @ Z
    return A


def selections(A: Real, k: int, alpha: float) -> Iterator[Real]:
    """H (d, k) after each round for residuals A (n, d); see :class:`RNE`."""
    H = np.random.default_rng(0).random((A.shape[1], k))
    M = A @ H
    Y = np.zeros_like(M)
    AA = A.T @ A
    gamma = GAMMA
    for _ in range(STEPS):
        H = refined(H, AA, A.T @ M, A.T @ Y, gamma, alpha)
        AH = A @ H
        V = AH - Y / gamma
        M = np.sign(V) * np.maximum(np.abs(V) - 1 / gamma, 0)
        Y = Y + gamma * (M - AH)
        gamma *= MU
        yield H


def refined(H: Real, AA: Real, AM: Real, AY: Real, gamma: float, alpha: float) -> Real:
    """H (d, k) after REFINEMENTS multiplicative steps; AA = A'A (d, d), AM = A'M and AY = A'Y (d, k)."""
    more, less = np.maximum(AA, 0), np.maximum(-AA, 0)
    up = gamma * np.maximum(AM, 0) + np.maximum(AY, 0)
    down = gamma * np.maximum(-AM, 0) + np.maximum(-AY, 0)
    for _ in range(REFINEMENTS):
        H = H / np.sqrt(np.einsum("ij,ij->j", H, H) + EPS)
        rise = alpha * H + gamma * (less @ H) + up
        fall = alpha * (H @ (H.T @ H)) + gamma * (more @ H) + down
        H = H * np.sqrt(rise / (fall + EPS))
        H[H < GONE] = 0
    return H
