"""CRD: how badly the pixels around a pixel represent it as their linear combination."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.classical.local_rx import BETWEEN, check_windows
from rsunfold.errors import UsageError
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

BLOCK = 8  # side of the blocks of pixels that are prepared together
RIDGE = 1e-14  # share of tr S on the diagonal of S + I: what Cholesky's factors need with tiny lam
LEAST = 1e-150  # of lam G, in place of 0 for neighbours equal to y: its inverse is far from overflow
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

    By Woodbury's identity, y - N'a = (I + N' (lam G)^-1 N)^-1 y. With the mean m and the scatter S of the neighbours,
    w_j = 1 / (lam |y - n_j|^2) their weights, w the sum of these, it comes from differences of spectra alone, however
    large what all have in common is::

        y - N'a = (I + S + w m m')^-1 y = p (1 + w e'p) / (1 + w m'p) - q,  e = m - y,  (I + S) (p, q) = (m, e)

    Where bands are more than neighbours, p and q come from the smaller matrix of products of neighbours. A pixel whose
    neighbours all equal it to float32 rounding scores 0, as nearly does one that equals one of them. The diagonal of
    I + S has 1e-14 tr S more, which tells where lam is far below 1e-6.

    inner, outer : sides of the windows in pixels, odd, inner < outer. Of six fixed pairs, 5/11, 7/15, 9/15, 11/15,
    13/17 and 15/19, 11/15 had the largest mean AUC over thirteen public scenes, 92.9. lam : weight of the regulariser,
    above 0.

    Beyond the border of the image there are no neighbours: in a mirrored image a pixel near the border would find
    itself in its ring, and represent itself. Pixels that are not valid are left out too. Without any neighbour the
    score is NaN.

    Raises UsageError for sides that are even, or not in order, and for lam of 0 or less.
    """

    takes_priors: ClassVar[bool] = False
    remedy: ClassVar[str] = BETWEEN

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
        """Scores of the BLOCK x BLOCK pixels from (top, left) on, or of those that there are, in part of an image."""
        rows, cols = valid.shape
        X = cube.reshape(len(cube), -1).T.astype(np.float64)
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
                    score[i, j] = residual(X[position[row, col]], X[neighbours], self.lam)
        return score


def residual(y: Real, N: Real, lam: float) -> float:
    """|y - N'a| of y (bands,) and its neighbours N (count, bands), as :class:`CRD` describes. N is overwritten."""
    from scipy.linalg.blas import dsyrk
    from scipy.linalg.lapack import dposv

    C = np.subtract(N, y, out=N)
    G = np.einsum("ij,ij->i", C, C)
    if float(G.max()) <= ROUNDING**2 * float(y @ y):
        return 0.0
    weight = 1 / np.maximum(lam * G, LEAST)
    total = float(weight.sum())
    e = weight @ C / total
    m = y + e
    C -= e
    C *= np.sqrt(weight)[:, None]
    few = C.shape[0] <= C.shape[1]
    A = dsyrk(1.0, C.T, trans=few, lower=1)
    A[np.diag_indices_from(A)] += 1 + RIDGE * float(A.trace())
    both = np.stack([m, e], axis=1)
    if few:
        both -= C.T @ dposv(A, C @ both, lower=1, overwrite_a=1)[1]
    else:
        both = dposv(A, both, lower=1, overwrite_a=1)[1]
    p, q = both.T
    return float(np.linalg.norm(p * ((1 + total * (e @ p)) / (1 + total * (m @ p))) - q))
