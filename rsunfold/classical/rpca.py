"""Outlier pursuit: a scene as a matrix of low rank plus whole spectra that do not fit in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.errors import UsageError
from rsunfold.progress import tracked
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

MU, RHO, MU_MAX = 1.25, 1.2, 1e7  # first penalty in units of 1 / largest singular value of X; growth; limit in the same
ITERATIONS, TOLERANCE = 100, 1e-6
STILL = 1e-9  # mean variance of samples in [0, 1] below which nothing stands out of anything


@dataclass(frozen=True)
class Pursuit:
    """X = L + S. L, S, Y float32 (bands, n); Y the multipliers, |Y_j| <= lam, with equality where S_j is not 0.

    Where S is shrunk by entries instead of columns, that holds for entries.

    residuals : |X - L - S| / |X| after each iteration.
    """

    L: Floats
    S: Floats
    Y: Floats
    residuals: list[float]


@register(
    "rpca",
    task="detect-anomaly",
    kind="classical",
    paper="Xu, Caramanis and Sanghavi, Robust PCA via outlier pursuit, IEEE Trans. Information Theory 58(5), 2012",
    url="https://doi.org/10.1109/TIT.2011.2173156",
    bands=(1, None),
    needs="a background in a subspace of few dimensions; the whole image in memory",
)
class RPCA:
    """min |L|_* + lam |S|_{2,1} subject to X = L + S, X (bands, n) all spectra minus their mean; 0 or more.

    |S|_{2,1} is the sum of the norms of the columns S_j, so that few spectra, with all their bands, are outliers. One
    iteration of the inexact augmented Lagrangian method with multipliers Y and penalty mu:

        L  = U max(s - 1/mu, 0) V' from X - S + Y/mu = U diag(s) V'
        q  = X - L + Y/mu;  S_j = q_j max(0, 1 - lam / (mu |q_j|))
        Y  = Y + mu (X - L - S);  mu = rho mu

    With fewer bands than pixels, U and s come from the bands x bands matrix of products, in float64.

    S may have columns of exactly 0, and such ties say nothing about their order. The multipliers do: |Y_j| <= lam,
    and S_j leaves 0 where it reaches lam. The score is |S_j| + e |Y_j| / lam, e the mean norm of X's columns / 1000:
    the same addition for all S_j that are not 0, whose order is that of |S_j|, and less for all others, in the order
    of how little they lack to become outliers.

    outliers : the share of outliers that is expected at most, gamma in lam = 3 / (7 sqrt(gamma n)) of the paper's
    Theorem 1, above 0 and at most 1. The paper subtracts no mean; here it is taken off, as in all that compares a
    spectrum with the background, and a scene without variance scores 0.

    Raises UsageError for a share that is not one.
    """

    radius: ClassVar[None] = None
    takes_priors: ClassVar[bool] = False

    def __init__(self, *, outliers: float = 0.01) -> None:
        if not 0 < outliers <= 1:
            raise UsageError(f"the share of outliers of rpca must be above 0 and at most 1, got {outliers}.")
        self.outliers = outliers

    def fit(self, scene: Scene) -> Scorer:
        """The scorer, which pursues outliers in the image that it is given; of ``scene`` it takes the mean."""
        return partial(self._score, scene)

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: X, L, S, Y and three in work, float32."""
        return 28.0 * bands + 16

    def _score(self, scene: Scene, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        score = np.zeros(valid.shape, np.float32)
        X = cube[:, valid] - scene.mean.astype(np.float32)[:, None]
        size = norms(X)
        if float((size.astype(np.float64) ** 2).sum()) <= STILL * X.size:
            return score
        lam = 3 / (7 * math.sqrt(self.outliers * X.shape[1]))
        found = outlier_pursuit(X, lam)
        score[valid] = norms(found.S) + size.mean() / 1000 * (norms(found.Y) / lam)
        return score


def outlier_pursuit(
    X: Floats, lam: float, shrink: Callable[[Floats, float], Floats] | None = None, growth: float = RHO
) -> Pursuit:
    """The decomposition that :class:`RPCA` describes of X, float32 (bands, n), not all 0.

    shrink : the proximal operator of the norm of S; None is :func:`shrink_columns`, and with :func:`shrink_entries`
    the problem is min |L|_* + lam |S|_1. growth : rho; the larger, the fewer iterations and the coarser the result.
    """
    shrink = shrink or shrink_columns
    size = float(np.linalg.norm(X))
    top = math.sqrt(float(np.linalg.eigvalsh(gram(X))[-1]))
    mu, limit = MU / top, MU_MAX * MU / top
    S, Y = np.zeros_like(X), np.zeros_like(X)
    residuals: list[float] = []
    for _ in tracked(range(ITERATIONS), "iterating, at most"):
        L = shrink_singular(X - S + Y / np.float32(mu), 1 / mu)
        q = X - L
        q += Y / np.float32(mu)
        S = shrink(q, lam / mu)
        q -= S
        Y = q * np.float32(mu)
        residuals.append(float(np.linalg.norm(X - L - S)) / size)
        if residuals[-1] < TOLERANCE:
            break
        mu = min(limit, growth * mu)
    return Pursuit(L, S, Y, residuals)


def norms(X: Floats) -> Floats:
    """(n,): of the columns of ``X``."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->j", X, X)))


def gram(X: Floats) -> NDArray[np.float64]:
    """X X' of (k, n), summed in float64 over pieces of float32."""
    total = np.zeros((len(X), len(X)))
    for first in range(0, X.shape[1], 4096):
        part = X[:, first : first + 4096].astype(np.float64)
        total += part @ part.T
    return total


def shrink_singular(A: Floats, limit: float) -> Floats:
    """U max(s - limit, 0) V' of A = U diag(s) V', (k, n): argmin of limit |L|_* + |L - A|^2 / 2.

    A = U (U' A), so only the singular values and the vectors of the shorter side are needed: U and s^2 are the
    eigenvectors and eigenvalues of A A'.
    """
    if A.shape[1] < A.shape[0]:
        return shrink_singular(np.ascontiguousarray(A.T), limit).T
    values, U = np.linalg.eigh(gram(A))
    s = np.sqrt(np.maximum(values, 0))
    kept = s > limit
    U, gain = U[:, kept], 1 - limit / s[kept]
    project = U.astype(np.float32)
    if 2 * len(gain) > len(A):  # one product of the short side is then cheaper than two of the long one
        return np.asarray((project * gain.astype(np.float32)) @ project.T @ A, np.float32)
    return np.asarray((project * gain.astype(np.float32)) @ (project.T @ A), np.float32)


def shrink_columns(Q: Floats, limit: float) -> Floats:
    """Q_j max(0, 1 - limit / |Q_j|): argmin of limit |S|_{2,1} + |S - Q|^2 / 2."""
    size = norms(Q)
    gain = np.maximum(size - np.float32(limit), 0) / np.maximum(size, np.finfo(np.float32).tiny)
    return np.asarray(Q * gain)


def shrink_entries(Q: Floats, limit: float) -> Floats:
    """sign(Q) max(|Q| - limit, 0), what clipping cuts off: argmin of limit |S|_1 + |S - Q|^2 / 2."""
    return np.asarray(Q - np.clip(Q, -limit, limit))
