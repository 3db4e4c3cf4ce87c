"""Stripes and dead lines: what a line of the detector adds to, or loses of, one column of one band.

A pushbroom sensor sees a column of the image with one detector element per band. Where the element's offset is wrong
the column is lighter or darker than it should be, a stripe; where the element is dead it holds one value all along.
Both show in the column as a whole far below the noise of its pixels, and both are known before any denoising starts: a
stripe is subtracted, and a dead column is filled with what the other bands tell of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Window

Real = NDArray[np.float64]
Bool = NDArray[np.bool_]

BLOCK = 64
"""Rows whose median is taken at a time; the median of a column is the mean of its blocks'."""
FEWEST = 16
"""Rows and columns below which no line can be told from the rest."""
REACH, ROUNDS = 5.0, 40
"""Deviations that a stripe exceeds, and the most rounds of finding."""
TOO_MANY = 0.25
"""Share of constant columns above which a band is taken to be constant by nature, and share of dead bands above which
a column is taken to be no data, and is left alone."""
RIDGE = 1e-6
"""Added to the correlations of the bands before they are inverted."""


@dataclass(frozen=True)
class Lines:
    """dead bool, offset float64, both (bands, cols): columns of bands that hold nothing, and what stripes add there."""

    dead: Bool
    offset: Real

    @property
    def stripes(self) -> int:
        """Number of columns of bands with a stripe."""
        return int((self.offset != 0).sum())

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.stripes or self.dead.any())


class ColumnSummary:
    """Median, smallest and largest value of each column of each band, gathered block by block of at most BLOCK rows."""

    def __init__(self, bands: int, cols: int) -> None:
        self._median, self._blocks = np.zeros((bands, cols)), np.zeros(cols)
        self._low, self._high = np.full((bands, cols), np.inf), np.full((bands, cols), -np.inf)
        self._rows = np.zeros(cols)

    @staticmethod
    def windows(rows: int, cols: int, width: int) -> Iterable[Window]:
        """The blocks of an image, ``width`` columns at a time; a short last block belongs to the one before it."""
        count = max(1, rows // BLOCK)
        for k in range(count):
            top, bottom = k * BLOCK, (k + 1) * BLOCK if k + 1 < count else rows
            for left in range(0, cols, width):
                yield Window(top, left, bottom - top, min(width, cols - left))

    def add(self, block: NDArray[np.floating], valid: Bool, col: int = 0) -> None:
        """Take a block (bands, h, w) whose first column is ``col``; columns with a pixel not valid (h, w) are left."""
        whole = np.flatnonzero(valid.all(axis=0))
        some, at = block[:, :, whole], whole + col
        self._median[:, at] += np.median(some, axis=1)
        self._blocks[at] += 1
        self._rows[at] += block.shape[1]
        self._low[:, at] = np.minimum(self._low[:, at], some.min(axis=1))
        self._high[:, at] = np.maximum(self._high[:, at], some.max(axis=1))

    @property
    def seen(self) -> Bool:
        """(cols,): columns of which at least FEWEST rows were seen."""
        return self._rows >= FEWEST

    @property
    def median(self) -> Real:
        """(bands, cols), 0 where nothing was seen."""
        return np.asarray(self._median / np.maximum(self._blocks, 1))

    def dead(self) -> Bool:
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

    Let m (bands, cols) be the medians of the columns less the mean. What the other bands do not tell of m_bc,

        r = diag(C^-1)^-1 C^-1 m,

    is noise of a pixel divided by about the square root of the rows, unless the column has an offset of its own, which
    no other band shares. A stripe disturbs the residuals of neighbouring bands too, so each round adds one band of each
    column to the stripes: the one whose |r| is the largest, in deviations of its band (from the median absolute
    deviation), where that exceeds REACH. Then r of all stripes is taken off m and added to their offsets.
    """
    dead, seen = columns.dead(), columns.seen
    offset = np.zeros(dead.shape)
    scale = np.sqrt(np.diag(covariance))
    if seen.sum() < FEWEST or len(scale) < 2 or not (scale > 0).all():
        return Lines(dead, offset)
    inverse = np.linalg.inv(covariance / np.outer(scale, scale) + RIDGE * np.eye(len(scale)))
    m = (columns.median - mean[:, None]) / scale[:, None]
    m[dead] = 0
    found = np.zeros(dead.shape, bool)
    for _ in range(ROUNDS):
        # A dead column has no median: the one that the other bands predict says nothing new about them.
        r = (inverse @ m) / np.diag(inverse)[:, None]
        m[dead] -= r[dead]
        r -= np.median(r[:, seen], axis=1, keepdims=True)
        spread = 1.4826 * np.median(np.abs(r[:, seen]), axis=1, keepdims=True)
        excess = np.where(found | dead | ~seen, 0, np.abs(r) / np.maximum(spread, 1e-12))
        worst, every = excess.argmax(axis=0), np.arange(excess.shape[1])
        new = excess[worst, every] > REACH
        found[worst[new], every[new]] = True
        step = np.where(found, r, 0)
        offset += step
        m -= step
        if not new.any() and np.abs(step).max() < 0.01 * spread.max():
            break
    return Lines(dead, offset * scale[:, None])


def column_summary(cube: NDArray[np.floating]) -> ColumnSummary:
    """The columns of a cube (bands, rows, cols) in memory, without holes."""
    bands, rows, cols = cube.shape
    columns = ColumnSummary(bands, cols)
    for window in ColumnSummary.windows(rows, cols, cols):
        columns.add(cube[:, *window.slices], np.ones((window.height, window.width), bool), window.col)
    return columns
