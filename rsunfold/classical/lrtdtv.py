"""LRTDTV: low-rank tensor plus total variation, beside sparse outliers and Gaussian noise, by ADMM."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.classical.rpca import shrink_entries
from rsunfold.registry import register
from rsunfold.subspace import Subspace

Bases = tuple[Floats, Floats, Floats]

# Weights for noise of standard deviation 1, chosen once on six training cubes with the noise of case2 and case5.
TAU = 0.3  # divided by sqrt(bands): an eigen-image is spread over the bands, and so is its total variation
LAM = 0.65
BETA = 0.5  # minus the logarithm of the density of unit noise
W = (0.5, 1.0, 1.0)  # of the differences along bands, rows and columns, as in the paper
SPATIAL = 0.8  # ranks of rows and columns, as a share of their number
MU, RHO = 0.2, 1.1  # first penalty, and its growth from one iteration to the next
ITERATIONS, TOLERANCE = 40, 1e-4
START = 3  # first rank of the bands
CHECKS = (3, 6, 9, 12, 15)  # iterations after which that rank is taken anew


@dataclass(frozen=True)
class Decomposition:
    """Y = X + S + N with X = C x1 U1 x2 U2 x3 U3.

    X, S, N float32 (bands, rows, cols). U = (U1, U2, U3) : orthonormal columns, (rows, r1), (cols, r2), (bands, r3).
    residuals : after each iteration |Y - X - S - N| / |Y| and |X - Z| / |Y|, which tend to 0.
    """

    X: Floats
    S: Floats
    N: Floats
    U: Bases
    residuals: list[tuple[float, float]]


@register(
    "lrtdtv",
    task="denoise-hsi",
    kind="classical",
    paper="Wang, Peng, Zhao, Leung, Zhao and Meng, Hyperspectral image restoration via total variation regularized "
    "low-rank tensor decomposition, IEEE JSTARS 11(4), 2018",
    url="https://doi.org/10.1109/JSTARS.2017.2779539",
    bands=(1, None),
    needs="bands that share a signal subspace; Gaussian noise, and stripes, dead lines or impulses in some bands",
)
class LRTDTV:
    """min tau |X|_SSTV + lam |S|_1 + beta |N|_F^2 subject to Y = X + S + N and X = C x1 U1 x2 U2 x3 U3, U_i' U_i = I.

    S takes outliers, N the Gaussian noise. |X|_SSTV = |D X|_1, D the weighted differences along bands, rows and
    columns. With Z = X, F = D Z, multipliers M1, M2, M3 and penalty mu, one iteration of :func:`decompose` is

        C, U  Tucker decomposition of (Y - S - N + M1/mu + Z - M2/mu) / 2, by one sweep of HOOI from the last U
        Z     = (I + D'D)^-1 (X + M2/mu + D'(F - M3/mu)), diagonal in Fourier space
        F     = soft(D Z + M3/mu, tau/mu)
        S     = soft(Y - X - N + M1/mu, lam/mu)
        N     = (mu (Y - X - S) + M1) / (mu + 2 beta)
        M1    = M1 + mu (Y - X - S - N);  M2 = M2 + mu (X - Z);  M3 = M3 + mu (D Z - F);  mu = rho mu

    At first Z is Y in the START first directions of the subspace, F = D Z, all else 0. It stops after 40 iterations,
    or when both residuals are below 1e-4 of |Y|.

    S and N together are a robust loss: Y - S differs from X by lam / (2 beta) = 0.65 standard deviations at most.
    The rank r3 follows from that. The paper takes it as known, but outliers pretend to signal in the covariance of Y:
    the rank of the subspace can be ten times too large, and is only the upper limit here. r3 starts at START, and a
    few times becomes the number of directions in which Y - S has more variance than unit noise would give. Outliers,
    cut off and each in its own band, do not reach it, while signal is common to many bands.
    """

    radius: ClassVar[None] = None
    outliers: ClassVar[bool] = True

    def denoise(self, y: Floats, subspace: Subspace) -> Floats:
        """The signal in ``y``, float32 (bands, rows, cols), whitened and centred; same shape, type and units.

        Any number of rows and columns from 1; differences and their transform continue the image periodically.
        """
        return decompose(y, subspace.basis, subspace.rank).X

    def bytes_per_pixel(self, bands: int, rank: int) -> float:
        """Working memory, in bytes per pixel, beside the input: 22 cubes of float32, and small matrices."""
        return 88.0 * bands + 64


def decompose(Y: Floats, A: NDArray[np.floating], rank: int) -> Decomposition:
    """The decomposition that :class:`LRTDTV` describes of Y, float32 (bands, rows, cols) with noise 1 and mean 0.

    A (bands, rank or more) : where to start among the bands, orthonormal. rank : the largest r3.
    """
    tau = TAU / math.sqrt(len(Y))
    mu = MU
    solve = _Solver(Y.shape)
    r3 = min(START, rank)
    U = _start(Y, A[:, :r3].astype(np.float32))
    # From 0, F and X could only grow by about tau / mu and lam / mu an iteration: too little for a strong signal.
    Z = np.asarray(np.tensordot(U[2] @ U[2].T, Y, axes=1), np.float32)
    F = [_difference(Z, axis) for axis in range(3)]
    S, N, M1, M2, *M3 = (np.zeros_like(Y) for _ in range(7))
    size = float(np.linalg.norm(Y)) or 1.0
    residuals: list[tuple[float, float]] = []
    for k in range(1, ITERATIONS + 1):
        X, U = _tucker((Y - S - N + M1 / mu + Z - M2 / mu) / 2, U, r3)
        Z = solve(X + M2 / mu + _adjoint(f - m / mu for f, m in zip(F, M3, strict=True)))
        for axis in range(3):
            v = _difference(Z, axis) + M3[axis] / mu
            F[axis] = shrink_entries(v, tau / mu)
            M3[axis] = mu * (v - F[axis])
        S = shrink_entries(Y - X - N + M1 / mu, LAM / mu)
        N = (mu * (Y - X - S) + M1) / (mu + 2 * BETA)
        residuals.append((_ascend(M1, mu, Y - X - S - N) / size, _ascend(M2, mu, X - Z) / size))
        mu *= RHO
        if k in CHECKS:
            r3 = min(rank, _signal_rank(Y - S))
        elif k > CHECKS[-1] and max(residuals[-1]) < TOLERANCE:
            break
    return Decomposition(X, S, N, U, residuals)


def _difference(Z: Floats, axis: int) -> Floats:
    """One of the three parts of D Z: the next along ``axis`` minus each, weighted; the first follows the last."""
    return np.asarray(W[axis] * (np.roll(Z, -1, axis) - Z))


def _adjoint(F: Iterable[Floats]) -> Floats:
    """D' F."""
    return functools.reduce(operator.iadd, (W[axis] * (np.roll(part, 1, axis) - part) for axis, part in enumerate(F)))


def _ascend(M: Floats, mu: float, residual: Floats) -> float:
    """M + mu residual in place of the multiplier M, and the length of the residual."""
    length = float(np.linalg.norm(residual))
    residual *= mu
    M += residual
    return length


class _Solver:
    """(I + D'D)^-1: division by 1 + sum over axes of w^2 (2 - 2 cos(2 pi f / n)) at the frequencies f."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        one = [w**2 * (2 - 2 * np.cos(2 * np.pi * np.arange(n) / n)) for n, w in zip(shape, W, strict=True)]
        # Of the last axis the transform of real values holds only half.
        one[2] = one[2][: shape[2] // 2 + 1]
        self.divisor = (1 + one[0][:, None, None] + one[1][:, None] + one[2]).astype(np.float32)
        self.shape = shape

    def __call__(self, x: Floats) -> Floats:
        from scipy import fft

        spectrum = fft.rfftn(x)
        spectrum /= self.divisor
        return np.asarray(fft.irfftn(spectrum, s=self.shape, overwrite_x=True), np.float32)


def _start(Y: Floats, U3: Floats) -> Bases:
    """Bases of rows and columns from the image in the directions U3 (bands, r3) alone, and U3."""
    G = np.tensordot(U3.T, Y, axes=1)
    r1, r2 = (math.ceil(SPATIAL * n) for n in Y.shape[1:])
    return _leading(np.tensordot(G, G, ((0, 2), (0, 2))), r1), _leading(np.tensordot(G, G, ((0, 1), (0, 1))), r2), U3


def _tucker(T: NDArray[np.floating], U: Bases, r3: int) -> tuple[Floats, Bases]:
    """C x1 U1 x2 U2 x3 U3 near T (bands, rows, cols), and U after one sweep of HOOI from ``U``.

    Source: De Lathauwer, De Moor and Vandewalle, SIAM J. Matrix Anal. Appl. 21(4), 2000. Each basis in turn becomes
    the leading left singular vectors of T unfolded along it and reduced by the other two.
    """
    U1, U2, U3 = U
    few = np.tensordot(U3.T, T, axes=1)
    G = few @ U2
    U1 = _leading(np.tensordot(G, G, ((0, 2), (0, 2))), U1.shape[1])
    G = U1.T @ few
    U2 = _leading(np.tensordot(G, G, ((0, 1), (0, 1))), U2.shape[1])
    G = (U1.T @ T) @ U2
    U3 = _leading(np.tensordot(G, G, ((1, 2), (1, 2))), r3)
    C = np.tensordot(U3.T, G, axes=1)
    return np.asarray(np.tensordot(U3, U1 @ C @ U2.T, axes=1), np.float32), (U1, U2, U3)


def _leading(gram: NDArray[np.floating], count: int) -> Floats:
    """The eigenvectors (n, count) of the largest eigenvalues of ``gram`` (n, n)."""
    return np.linalg.eigh(gram.astype(np.float64))[1][:, : -count - 1 : -1].astype(np.float32)


def _signal_rank(Q: Floats) -> int:
    """Directions of the bands with a variance above what unit noise gives in so many pixels, 1 or more."""
    spectra = Q.reshape(len(Q), -1)
    count = spectra.shape[1]
    values = np.linalg.eigvalsh((spectra @ spectra.T / count).astype(np.float64))
    return max(1, int((values > (1 + math.sqrt(len(Q) / count)) ** 2).sum()))
