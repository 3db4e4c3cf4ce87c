"""Stripes and dead lines: what a line of the detector adds to, or loses of, one column of one band.

A pushbroom sensor sees a column of the image with one detector element per band. Where the element's offset is wrong
the column is lighter or darker than it should be, a stripe; where the element is dead it holds one value all along.
Both show in the column as a whole far below the noise of its pixels, and both are known before any denoising starts: a
stripe is subtracted, and a dead column is filled with what the other bands tell of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real
from rsunfold.cube import Window

BLOCK = 64
"""Rows whose median is taken at a time; the median of a column is the mean of its blocks'."""
FEWEST = 16
"""Rows and columns below which no line can be told from the rest."""
REACH, ROUNDS = 5.0, 40
"""Deviations that a stripe exceeds, and the most rounds of finding."""
AGREE = 0.5
"""Share of its offset that a stripe has at least in the upper and in the lower half of the image each."""
TOO_MANY = 0.25
"""Share of constant columns above which a band is taken to be constant by nature, and share of dead or striped bands
above which a column is taken to be no data, or something in the scene, and is left alone."""
RIDGE = 1e-6
"""Added to the correlations of the bands before they are inverted."""


@dataclass(frozen=True)
class Lines:
    """dead bool, offset float64, both (bands, cols): columns of bands that hold nothing, and what stripes add there."""

    dead: Mask
    offset: Real

    @property
    def stripes(self) -> int:
        """Number of columns of bands with a stripe."""
        return int((self.offset != 0).sum())

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.stripes or self.dead.any())


class ColumnSummary:
    """Median, smallest and largest value of each column of each band, gathered block by block of about BLOCK rows.

    The upper and the lower half of the blocks are kept apart.
    """

    def __init__(self, bands: int, rows: int, cols: int) -> None:
        self._rows = rows
        self._median, self._weight = np.zeros((2, bands, cols)), np.zeros((2, cols))
        self._low, self._high = np.full((bands, cols), np.inf), np.full((bands, cols), -np.inf)

    @staticmethod
    def windows(rows: int, cols: int, width: int) -> Iterable[Window]:
        """The blocks of an image, ``width`` columns at a time: two at least, from FEWEST rows on."""
        count = max(rows // BLOCK, 2 if rows >= FEWEST else 1)
        for k in range(count):
            top, bottom = k * rows // count, (k + 1) * rows // count
            yield from Window(top, 0, bottom - top, cols).parts(bottom - top, width)

    def add(self, block: NDArray[np.floating], valid: Mask, at: Window) -> None:
        """Take a block (bands, h, w) of the window ``at``; of each column the pixels that are valid (h, w)."""
        some = np.flatnonzero(valid.any(axis=0))
        if not some.size:
            return
        half = int(at.row + at.height / 2 >= self._rows / 2)
        columns, whole = some + at.col, valid[:, some].all(axis=0)
        for picked, median in ((whole, np.median), (~whole, np.nanmedian)):  # the first is much faster
            cols, there = columns[picked], valid[:, some[picked]]
            if not cols.size:
                continue
            values = np.where(there, block[:, :, some[picked]], np.nan)
            count = there.sum(axis=0)
            self._median[half][:, cols] += count * median(values, axis=1)
            self._weight[half, cols] += count
            self._low[:, cols] = np.fmin(self._low[:, cols], np.nanmin(values, axis=1))
            self._high[:, cols] = np.fmax(self._high[:, cols], np.nanmax(values, axis=1))

    def select(self, bands: Mask) -> ColumnSummary:
        """The summary of some of the bands, bool (bands,)."""
        out = copy.copy(self)
        out._median, out._low, out._high = self._median[:, bands], self._low[bands], self._high[bands]
        return out

    @property
    def seen(self) -> Mask:
        """(cols,): columns of which at least FEWEST rows were seen."""
        return np.asarray(self._weight.sum(axis=0) >= FEWEST)

    @property
    def median(self) -> Real:
        """(bands, cols), 0 where nothing was seen."""
        return np.asarray(self._median.sum(axis=0) / np.maximum(self._weight.sum(axis=0), 1))

    @property
    def halves(self) -> tuple[Real, Mask]:
        """(2, bands, cols) of the upper and the lower half, and (cols,): columns with FEWEST / 2 rows in each."""
        own = self._median / np.maximum(self._weight, 1)[:, None]
        return np.asarray(own), np.asarray((self._weight >= FEWEST / 2).all(axis=0))

    def dead(self) -> Mask:
        """(bands, cols): columns of one value in bands where few are."""
        seen = self.seen
        if seen.sum() < FEWEST:
            return np.zeros(self._low.shape, bool)
        dead = (self._low == self._high) & seen
        dead[dead[:, seen].mean(axis=1) > TOO_MANY] = False
        dead[:, dead.mean(axis=0) > TOO_MANY] = False
        return np.asarray(dead)


def find_lines(columns: ColumnSummary, mean: Real, covariance: Real) -> Lines:
    """The lines of an image with ``mean`` (bands,) and ``covariance`` (bands, bands) of its spectra without outliers.

    Let m (bands, cols) be the medians of the columns less the mean, K = C^-1. What the other bands do not tell of m_bc,

        r = diag(K)^-1 K m,

    is noise of a pixel divided by about the square root of the rows, unless the column has an offset of its own, which
    no other band shares. A stripe disturbs the residuals of neighbouring bands too, so each round adds one band of each
    column to the stripes F: the one whose |r| is the largest, in deviations of its band (from the median absolute
    deviation), where that exceeds REACH. The offsets o of F, dead bands among them, are those that leave no residual
    there, K_FF o = (K m)_F.

    Something in the scene may be narrow and of its own colour, too, but does not run from the first row to the last
    with one strength: an offset that the upper or the lower half of the image does not share is none.
    """
    dead, seen = columns.dead(), columns.seen
    offset = np.zeros(dead.shape)
    scale = np.sqrt(np.diag(covariance))
    if seen.sum() < FEWEST or len(scale) < 2 or not (scale > 0).all():
        return Lines(dead, offset)
    K = np.linalg.inv(covariance / np.outer(scale, scale) + RIDGE * np.eye(len(scale)))
    m = (columns.median - mean[:, None]) / scale[:, None]
    free, open_ = dead.copy(), seen.copy()
    changed = np.flatnonzero(dead.any(axis=0))
    floor = _steps(columns.median[:, seen]) / scale
    for _ in range(ROUNDS):
        offset[:, changed] = _solved(K, m, free, changed)
        r = (K @ (m - offset)) / np.diag(K)[:, None]
        r -= np.median(r[:, seen], axis=1, keepdims=True)
        spread = np.maximum(1.4826 * np.median(np.abs(r[:, seen]), axis=1), floor)[:, None]
        excess = np.where(free | ~open_, 0, np.abs(r) / np.maximum(spread, 1e-12))
        worst = excess.argmax(axis=0)
        changed = np.flatnonzero(excess.max(axis=0) > REACH)
        if not changed.size:
            break
        free[worst[changed], changed] = True
        crowded = free.mean(axis=0) > TOO_MANY
        free[:, crowded] = dead[:, crowded]
        offset[:, crowded] = 0
        open_ &= ~crowded
    halves, both = columns.halves
    stripes = free & ~dead & both
    for half in (halves - mean[:, None]) / scale[:, None]:
        found = np.zeros_like(offset)
        some = np.flatnonzero(stripes.any(axis=0))
        found[:, some] = _solved(K, half, free, some)
        stripes &= found * np.sign(offset) >= AGREE * np.abs(offset)
    return Lines(dead, np.where(stripes, offset, 0) * scale[:, None])


def _solved(K: Real, m: Real, free: Mask, columns: NDArray[np.intp]) -> Real:
    """(bands, n): the offsets of the bands that are free in each of the n ``columns``, 0 elsewhere."""
    out, told = np.zeros((len(K), columns.size)), K @ m[:, columns]
    for n, column in enumerate(columns):
        F = np.flatnonzero(free[:, column])
        out[F, n] = np.linalg.solve(K[np.ix_(F, F)], told[F, n])
    return out


def _steps(values: Real) -> Real:
    """The smallest difference between values of each row of (bands, n) that are not equal: the step of integers."""
    steps = np.diff(np.sort(values, axis=1), axis=1)
    return np.asarray(np.where(steps > 0, steps, np.inf).min(axis=1, initial=np.inf), np.float64)


def column_summary(cube: NDArray[np.floating]) -> ColumnSummary:
    """The columns of a cube (bands, rows, cols) in memory, without holes."""
    bands, rows, cols = cube.shape
    columns = ColumnSummary(bands, rows, cols)
    for window in ColumnSummary.windows(rows, cols, cols):
        columns.add(cube[:, *window.slices], np.ones((window.height, window.width), bool), window)
    return columns
