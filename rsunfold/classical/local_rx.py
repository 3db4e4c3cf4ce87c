"""Local RX: the Mahalanobis distance of every spectrum from the ring of pixels around it."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.errors import UsageError
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

LOADING = 1e-3
"""Diagonal loading as a share of the mean variance of the ring; where the ring has fewer pixels than bands, much less
of it, such as 1e-6, gives far worse scores."""
LEAST_LOADING = 1e-9, 1e-12
"""Share of the scene's mean variance, and variance of samples in [0, 1], below which the loading never falls: a ring
of equal pixels has no variance of its own."""
BETWEEN = "there are none between its two windows; make them smaller (--inner, --outer)"
BLOCK = 64  # pixels along a row that share one strip of spectra; also what bounds the rounding of the sliding sums


@register(
    "local-rx",
    task="detect-anomaly",
    kind="classical",
    paper="Kwon, Der and Nasrabadi, Adaptive anomaly detection using subspace separation for hyperspectral imagery, "
    "Optical Engineering 42(11), 2003",
    url="https://doi.org/10.1117/1.1614265",
    bands=(1, None),
    needs="anomalies smaller than the inner window",
)
class LocalRX:
    """score(y) = (y - m)' (C + load I)^-1 (y - m), with m and C of the ring between two windows around y, 0 or more.

    C is divided by the count minus 1; load = 1e-3 tr(C) / bands, without which a ring of fewer pixels than bands has
    no inverse. Beyond its border the image is mirrored, as often as it takes, so there is no window too large. Pixels
    that are not valid are left out of the ring; the score of a pixel without any ring is NaN. In the mirror a pixel
    less than outer / 2 from the border may find itself in its ring, which lowers its score by as much as ten times
    where it is 4 or 5 pixels away (15/23). Rings without such pixels, cut or moved inwards, had a lower AUC on most of
    six public scenes.

    inner, outer : sides of the windows in pixels, odd, inner < outer.

    From one pixel of a row to the next, sum x and sum x x' over the ring change by two columns that enter and two
    that leave. A pixel is [x - mean of the scene; 1], or zeros where it is not valid, so that one product sums counts,
    spectra and squares, and a large mean does not drown a small variance.

    Where bands are more than the pixels of a ring, the score comes from the smaller matrix of products of pixels. With
    A (n, bands) the ring less m, and d = y - m::

        d' (A'A / (n - 1) + load I)^-1 d = (d'd - v' (AA' + (n - 1) load I)^-1 v) / load,  v = A d

    Raises UsageError for sides that are even, or not in order.
    """

    takes_priors: ClassVar[bool] = False
    remedy: ClassVar[str] = BETWEEN

    def __init__(self, *, inner: int = 15, outer: int = 23) -> None:
        check_windows("local-rx", inner, outer)
        self.inner, self.outer = inner, outer

    @property
    def radius(self) -> int:
        """Pixels around a pixel that its score depends on: half of the outer window."""
        return self.outer // 2

    def fit(self, scene: Scene) -> Scorer:
        """The scorer of ``scene``, of which it takes a common shift and the least loading alone."""
        share, least = LEAST_LOADING
        floor = max(share * float(np.trace(scene.covariance)) / len(scene.mean), least)
        return partial(self._score, scene.mean, floor)

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: the score; the strips do not grow with the image."""
        return 8.0

    def _score(self, mean: Real, floor: float, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        rows, cols = valid.shape
        R = self.radius
        row_index, col_index = (np.pad(np.arange(n), R, mode="symmetric") for n in (rows, cols))
        few = self.outer**2 - self.inner**2 < len(mean)
        score_row = self._by_products if few else self._by_scatter
        score = np.zeros((rows, cols), np.float32)
        for row in range(rows):
            around = row_index[row : row + self.outer]
            for col in range(0, cols, BLOCK):
                stop = min(col + BLOCK, cols)
                strip = _strip(cube, valid, mean, around, col_index[col : stop + 2 * R])
                score[row, col:stop] = np.maximum(score_row(strip, floor), 0)
        return score

    def _by_products(self, strip: Real, floor: float) -> Real:
        """As :meth:`_by_scatter`, from a matrix of the pixels of each ring."""
        from scipy.linalg.blas import dsyrk
        from scipy.linalg.lapack import dposv

        R, r = self.outer // 2, self.inner // 2
        ring = np.ones((self.outer, self.outer), bool)
        ring[R - r : R + r + 1, R - r : R + r + 1] = False
        score = np.zeros(len(strip) - 2 * R)
        for k in range(len(score)):
            window = strip[k : k + self.outer]
            A = window[ring & (window[..., -1] > 0), :-1]
            if not len(A):
                score[k] = np.nan
                continue
            m = A.mean(axis=0)
            d = window[R, R, :-1] - m
            A -= m
            v = A @ d
            n = max(len(A) - 1, 1)
            G = dsyrk(1.0, A.T, trans=1, lower=1)
            load = _load(G.trace() / (n * len(d)), floor)
            G[np.diag_indices_from(G)] += n * load
            score[k] = (d @ d - v @ dposv(G, v, lower=1, overwrite_a=1)[1]) / load
        return score

    def _by_scatter(self, strip: Real, floor: float) -> Real:
        """Scores of the pixels in the middle row of ``strip`` (columns, outer, bands + 1), but for the margins."""
        from scipy.linalg.blas import dsyrk
        from scipy.linalg.lapack import dposv

        R, r, B = self.outer // 2, self.inner // 2, strip.shape[2] - 1
        core = np.ascontiguousarray(strip[:, R - r : R + r + 1])
        beside = np.concatenate([strip[:, : R - r], strip[:, R + r + 1 :]], axis=1)
        # At first: the columns beside the inner window in full, and what is above and below it.
        first = [strip[: R - r], strip[R + r + 1 : 2 * R + 1], beside[R - r : R + r + 1]]
        X = np.concatenate([part.reshape(-1, B + 1) for part in first])
        # BLAS counts columns first: X' is what it calls its matrix. Only the lower triangle of S is kept.
        S = dsyrk(1.0, X.T, lower=1)
        diagonal = np.diag_indices(B)
        score = np.zeros(len(strip) - 2 * R)
        for k in range(len(score)):
            if k:
                enters = np.concatenate([strip[k + 2 * R], core[k + R - r - 1]])
                leaves = np.concatenate([strip[k - 1], core[k + R + r]])
                S = dsyrk(1.0, enters.T, beta=1.0, c=S, lower=1, overwrite_c=1)
                S = dsyrk(-1.0, leaves.T, beta=1.0, c=S, lower=1, overwrite_c=1)
            count = round(S[B, B])
            if not count:
                score[k] = np.nan
                continue
            m = S[B, :B] / count
            d = strip[k + R, R, :B] - m
            n = max(count - 1, 1)
            A = S[:B, :B] - np.multiply.outer(count * m, m)  # n C
            variance = A[diagonal].sum() / (n * B)
            A[diagonal] += n * _load(variance, floor)
            score[k] = n * (d @ dposv(A, d, lower=1, overwrite_a=1)[1])
        return score


def _load(variance: float, floor: float) -> float:
    """The loading of a ring of the mean ``variance``."""
    return max(LOADING * variance, floor)


def check_windows(name: str, inner: int, outer: int) -> None:
    """Raises UsageError unless ``inner`` and ``outer`` are sides of windows with a ring between them."""
    if inner < 1 or inner % 2 == 0 or outer % 2 == 0 or inner >= outer:
        raise UsageError(
            f"the windows of {name} must be odd numbers of pixels, the inner one smaller, got {inner} and {outer}."
        )


def _strip(cube: Floats, valid: NDArray[np.bool_], mean: Real, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Real:
    """[x - mean; 1] of the pixels in ``rows`` and ``cols``, zeros where not valid: (cols, rows, bands + 1)."""
    at = np.ix_(rows, cols)
    out = np.ones((len(cols), len(rows), len(cube) + 1))
    out[..., :-1] = cube[:, at[0], at[1]].T
    out[..., :-1] -= mean
    out *= valid[at].T[..., None]
    return out
