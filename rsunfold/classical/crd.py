"""CRD: how badly the pixels around a pixel represent it as their linear combination."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.classical.local_rx import check_windows
from rsunfold.errors import UsageError
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

BLOCK = 8  # side of the blocks of pixels that share one matrix of products
RIDGE = 1e-13  # share of tr(N N') on the diagonal: what Cholesky's factors need where neighbours are alike
ROUNDING = 1e-7  # share of |y| below which a difference from y is rounding of float32 samples


@register(
    "crd",
    task="detect-anomaly",
    kind="classical",
    paper="Li and Du, Collaborative representation for hyperspectral anomaly detection, IEEE TGRS 53(3), 2015",
    url="https://doi.org/10.1109/TGRS.2014.2343955",
    bands=(1, None),
    needs="anomalies smaller than the inner window",
)
class CRD:
    """score(y) = |y - N'a| with a = (N N' + lam G)^-1 N y, G = diag(|y - n_j|^2), n_j the rows of N; 0 or more.

    N (count, bands) are the pixels of the ring between two windows around y. G, the square of the paper's Tikhonov
    matrix, keeps those unlike y from taking part.

    Where bands are fewer than neighbours, the same residual comes from the smaller matrix, by Woodbury's identity:
    y - N'a = (I + N' (lam G)^-1 N)^-1 y. On the diagonal of lam G lie 1e-13 tr(N N') more: neighbours equal to y leave
    no regulariser. A pixel whose neighbours all equal it to float32 rounding scores 0.

    inner, outer : sides of the windows in pixels, odd, inner < outer. Of six fixed pairs, 5/11, 7/15, 9/15, 11/15,
    13/17 and 15/19, 11/15 had the largest mean AUC over thirteen public scenes, 92.9. lam : weight of the regulariser,
    above 0.

    Beyond the border of the image there are no neighbours: in a mirrored image a pixel near the border would find
    itself in its ring, and represent itself. Pixels that are not valid are left out too. Without any neighbour the
    score is NaN.

    Raises UsageError for sides that are even, or not in order, and for lam of 0 or less.
    """

    takes_priors: ClassVar[bool] = False

    def __init__(self, *, inner: int = 11, outer: int = 15, lam: float = 1e-6) -> None:
        check_windows("crd", inner, outer)
        if not 0 < lam < np.inf:
            raise UsageError(f"lam of crd must be above 0, got {lam}.")
        self.inner, self.outer, self.lam = inner, outer, lam

    @property
    def radius(self) -> int:
        """Pixels around a pixel that its score depends on: half of the outer window."""
        return self.outer // 2

    def fit(self, scene: Scene) -> Scorer:
        """The scorer; the method learns nothing from the scene."""
        return self._score

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: the score; the blocks do not grow with the image."""
        return 8.0

    def _score(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        score = np.zeros(valid.shape, np.float32)
        rows, cols = valid.shape
        R = self.radius
        for row in range(0, rows, BLOCK):
            for col in range(0, cols, BLOCK):
                top, left = max(0, row - R), max(0, col - R)
                outer = np.s_[top : row + BLOCK + R, left : col + BLOCK + R]
                inner = np.s_[row : row + BLOCK, col : col + BLOCK]
                score[inner] = self._score_block(cube[:, *outer], valid[outer], row - top, col - left)
        return score

    def _score_block(self, cube: Floats, valid: NDArray[np.bool_], top: int, left: int) -> Real:
        """Scores of the BLOCK x BLOCK pixels from (top, left) on, or of those that there are, in a part of the image.

        The products of all pairs of its pixels are taken once; every N N' is made of them.
        """
        rows, cols = valid.shape
        X = cube.reshape(len(cube), -1).T.astype(np.float64)
        products = X @ X.T
        R, r = self.outer // 2, self.inner // 2
        position = np.arange(rows * cols).reshape(rows, cols)
        height, width = min(BLOCK, rows - top), min(BLOCK, cols - left)
        score = np.full((height, width), np.nan)
        for i in range(height):
            for j in range(width):
                row, col = top + i, left + j
                ring = valid.copy()
                ring[max(0, row - r) : row + r + 1, max(0, col - r) : col + r + 1] = False
                window = np.s_[max(0, row - R) : row + R + 1, max(0, col - R) : col + R + 1]
                neighbours = position[window][ring[window]]
                if len(neighbours):
                    score[i, j] = self._residual(X, products, position[row, col], neighbours)
        return score

    def _residual(self, X: Real, products: Real, at: np.intp, neighbours: NDArray[np.intp]) -> float:
        from scipy.linalg.blas import dsyrk
        from scipy.linalg.lapack import dposv

        y, N = X[at], X[neighbours]
        b = products[at, neighbours]
        squares = products.diagonal()[neighbours]
        energy = products[at, at]
        G = np.maximum(energy - 2 * b + squares, 0)
        if float(G.max()) <= ROUNDING**2 * energy:
            return 0.0
        weight = self.lam * G + max(RIDGE * float(squares.sum()), np.finfo(np.float64).tiny)
        if N.shape[1] < N.shape[0]:
            A = dsyrk(1.0, (N / np.sqrt(weight)[:, None]).T, lower=1)
            A[np.diag_indices_from(A)] += 1
            residual = dposv(A, y, lower=1, overwrite_a=1)[1]
        else:
            A = np.take(products, neighbours, axis=0).take(neighbours, axis=1)
            A[np.diag_indices_from(A)] += weight
            # A is symmetric, so its transpose, which LAPACK takes without a copy, is A.
            residual = y - dposv(A.T, b, lower=1, overwrite_a=1)[1] @ N
        return float(np.sqrt(residual @ residual))
