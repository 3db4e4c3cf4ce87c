"""UDFS: the features of the projection in which neighbourhoods of samples are told apart best."""

from __future__ import annotations

import numpy as np

from rsunfold.arrays import Real
from rsunfold.classical.lap_score import NEIGHBOURS, check_neighbours
from rsunfold.classical.spcafs import row_sparse, span
from rsunfold.errors import UsageError
from rsunfold.ranking import Ranking, by_score, check_most, standardised_samples
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

LANDMARKS = 1000
"""Most samples, evenly spread, each with its neighbours among them."""
RIDGE = 1e-3
"""On the Gram matrix of a neighbourhood, in units of its mean eigenvalue."""


@register(
    "udfs",
    task="select-features",
    kind="classical",
    paper="Yang, Shen, Ma, Huang and Zhou, l2,1-norm regularized discriminative feature selection for unsupervised "
    "learning, IJCAI 2011",
    url="https://doi.org/10.5591/978-1-57735-516-8/IJCAI11-267",
    bands=(2, None),
    needs="samples that form neighbourhoods; uses at most 1000 of them",
)
class UDFS:
    """min over W'W = I of tr(W' M W) + gamma ||W||_{2,1}; score_i = ||w^i||, row i of W (d, c).

    M = X (sum_i S_i H B_i H S_i') X' with S_i the choice of sample i and its k nearest, H the centring of k + 1
    samples, B_i = r_i (H X_i' X_i H + r_i I)^-1, r_i RIDGE times the mean eigenvalue of what it is added to. The paper
    has one ridge, which depends on the units of X, and no factor; with it B_i has no units, and no neighbourhood weighs
    more because its samples lie closer together. W by reweighting: eigenvectors of M + gamma D to the smallest
    eigenvalues, D_ii = 1 / (2 ||w^i||). H stands on both sides of B_i, as in the paper.

    W lies in the span of the samples: with fewer samples than features, every direction outside makes the first term 0
    and says nothing of the data. M is divided by its mean eigenvalue before, so that gamma means the same for any data:
    the paper chooses gamma and the ridge by the labels for each set. Features are divided by their deviations. Constant
    ones score 0. Neighbours come from LANDMARKS samples at most, evenly spread; no matrix of all pixels is made.

    gamma, clusters : c, at most d. neighbours : k.
    """

    def __init__(self, *, gamma: float = 0.1, clusters: int = 10, neighbours: int = NEIGHBOURS) -> None:
        check_neighbours(neighbours, "udfs")
        if clusters < 1 or gamma < 0:
            raise UsageError(f"udfs needs clusters of 1 or more and gamma of 0 or more, not {clusters} and {gamma}.")
        self.gamma, self.clusters, self.neighbours = gamma, clusters, neighbours

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        d = len(scene.mean)
        check_most(most, d)
        x, used, Z = standardised_samples(scene, LANDMARKS)
        scores = np.zeros(d)
        if used.size:
            M = discrimination(Z, self.neighbours)
            M /= max(np.trace(M) / len(M), np.finfo(np.float64).tiny)
            U = span(Z)
            # With as many clusters as features W is square and orthogonal, and every row norm is 1.
            m = min(self.clusters, max(1, len(M) - 1), U.shape[1])
            W = row_sparse(-M, m, self.gamma, 1.0, basis=U)
            scores[used] = np.linalg.norm(W, axis=1)
        about = {"landmarks": x.shape[1], "neighbours": self.neighbours, "gamma": self.gamma}
        return Ranking(by_score(scores, spacing), scores, about)


def discrimination(x: Real, neighbours: int) -> Real:
    """M (d, d) of samples x (d, n), see :class:`UDFS`; 0 for a single sample."""
    from sklearn.neighbors import NearestNeighbors

    d, n = x.shape
    count = min(neighbours, n - 1)
    if count < 1:
        return np.zeros((d, d))
    nearest = NearestNeighbors(n_neighbors=count).fit(x.T).kneighbors(return_distance=False)
    G = np.zeros((n, n))
    H = np.eye(count + 1) - 1 / (count + 1)
    for i in range(n):
        member = np.append(i, nearest[i])
        local = x[:, member] @ H
        gram = local.T @ local
        ridge = RIDGE * np.trace(gram) / len(gram) or 1.0
        G[np.ix_(member, member)] += ridge * (H @ np.linalg.solve(gram + ridge * np.eye(len(gram)), H))
    M = x @ G @ x.T
    return np.asarray((M + M.T) / 2)
