"""From a score raster and a target mask to a list of targets, for images of any size.

The image comes in horizontal strips. Every strip gives *pieces* (8-connected within the strip) and the pairs of
pieces that touch across the seam above it; at the end the connected components of that graph are the targets, the
same ones that the whole image would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rsunfold.arrays import Mask
from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.rule import Rule, log_odds

Read = Callable[[Window], tuple[NDArray[Any], Mask, Mask]]

MARGIN = 10
"""Pixels by which the box of a target is grown on each side to get its local background (our choice)."""
MIN_RING = 20
"""Fewest background pixels from which a mean and a standard deviation are taken."""

_READ_PIXELS = 1 << 22  # most pixels that one call of ``read`` is asked for
_EIGHT = np.ones((3, 3), dtype=bool)
_TINY = float(np.finfo(np.float32).tiny)
_MIN: tuple[np.ufunc, float] = (np.minimum, np.inf)
_MAX: tuple[np.ufunc, float] = (np.maximum, -np.inf)
_SUM: tuple[np.ufunc, float] = (np.add, 0.0)
_HOW = {
    **{"first": _MIN, "row_min": _MIN, "col_min": _MIN, "row_max": _MAX, "col_max": _MAX, "peak": _MAX},
    **{"area": _SUM, "score": _SUM, "weight": _SUM, "odds": _SUM, "row": _SUM, "col": _SUM, "image": _SUM},
}


@dataclass(frozen=True)
class Target:
    """One 8-connected group of target pixels; all positions are zero-based, pixel centres are whole numbers.

    id : 1, 2, ... in the order in which a scan row by row meets the targets.
    row, col : centroid weighted by the score.
    row_min, row_max, col_min, col_max : the box, both ends inclusive. area : pixels.
    peak, mean : largest and mean score of its pixels.
    scr : local contrast, the signal-to-clutter ratio |mu_t - mu_b| / sigma_b (C. Gao et al., Infrared patch-image
        model for small target detection in a single image, IEEE TIP 22(12), 2013). mu_t is the mean grey value of the
        target; mu_b and sigma_b are mean and standard deviation of its ring: its box grown by MARGIN pixels and
        clipped to the image, less all target pixels and invalid pixels. NaN without an image, when the ring has fewer
        than MIN_RING pixels, or when it is constant.
    """

    id: int
    row: float
    col: float
    row_min: int
    row_max: int
    col_min: int
    col_max: int
    area: int
    peak: float
    mean: float
    scr: float

    @property
    def window(self) -> Window:
        """The box as a window."""
        return Window(self.row_min, self.col_min, self.row_max - self.row_min + 1, self.col_max - self.col_min + 1)


class TargetCollector:
    """Targets of an image of ``rows`` x ``cols`` pixels, fed from top to bottom in strips of any height.

    Targets that are none by ``rule`` (None: all are; its threshold is not asked here) are left out of the list, but
    count as target pixels, not as background, in the contrast of their neighbours. Memory: one strip, plus the pieces
    found.
    """

    def __init__(self, rows: int, cols: int, *, rule: Rule | None = None, margin: int = MARGIN) -> None:
        self.rows, self.cols, self.rule, self.margin = rows, cols, rule, margin
        self._before: dict[int, int] = {}  # pieces in the strips above the one that begins at a row
        self._ids = np.zeros(1, np.int64)  # of the targets that the pieces, from 1, belong to; 0 for none
        self._next_row = 0
        self._count = 0
        self._pieces: list[dict[str, NDArray[np.float64]]] = []
        self._seams: list[NDArray[np.int64]] = []
        self._above = np.zeros(cols, np.int64)  # the piece, from 1, of each pixel of the last row; 0 for none

    def add(
        self,
        row: int,
        score: NDArray[Any],
        mask: Mask,
        image: NDArray[Any] | None = None,
        valid: Mask | None = None,
    ) -> None:
        """Take the strip whose first row is ``row``.

        score : (h, cols) real, finite where it counts; its centroid weight is max(score, 0), and a target without
            any positive score gets its unweighted centroid. mask : (h, cols) bool, True on target pixels.
        image : (h, cols) grey values, or None for targets without contrast. valid : (h, cols) bool, or None for all;
            the mask counts only where it is True.

        Raises ValueError for a strip that is not the next one or has the wrong shape and for masks that are not
        boolean, InputError for a score that is not finite on a target pixel.
        """
        height = len(mask)
        shapes = {a.shape for a in (score, mask, image, valid) if a is not None}
        if row != self._next_row or shapes != {(height, self.cols)} or not 0 < height <= self.rows - row:
            raise ValueError(
                f"rows {row} to {row + height - 1} of shape {shapes} do not continue an image of "
                f"{self.rows} x {self.cols} pixels at row {self._next_row}"
            )
        if any(a is not None and a.dtype != np.bool_ for a in (mask, valid)):
            raise ValueError("the mask of the targets and that of the valid pixels must be boolean")
        labels, found = ndimage.label(mask if valid is None else mask & valid, structure=_EIGHT)
        r, c = np.nonzero(labels)
        piece = labels[r, c] - 1
        s = score[r, c].astype(np.float64)
        if not np.isfinite(s).all():
            raise InputError("the score is NaN or infinite on target pixels; mark those pixels as invalid.")
        weight = np.maximum(s, _TINY)
        odds = np.float64(0) if self.rule is None or self.rule.odds is None else log_odds(s)
        grey = np.float64(np.nan) if image is None else image[r, c].astype(np.float64)
        r += row
        pixels = {
            "first": r * self.cols + c,
            **{"row_min": r, "row_max": r, "col_min": c, "col_max": c},
            **{"area": np.float64(1), "peak": s, "score": s, "image": grey},
            **{"weight": weight, "odds": odds, "row": weight * r, "col": weight * c},
        }
        self._before[row] = self._count
        self._pieces.append(_combine(piece, found, pixels))

        ids = np.where(labels[[0, -1]] > 0, labels[[0, -1]].astype(np.int64) + self._count, 0)
        above = np.pad(self._above, 1)
        for shift in range(3):
            pair = np.stack([above[shift : shift + self.cols], ids[0]])
            self._seams.append(np.unique(pair[:, pair.all(axis=0)], axis=1))
        self._above = ids[1]
        self._count += found
        self._next_row += height

    def finish(self, read: Read | None = None) -> list[Target]:
        """All targets, in scan order.

        read : gives (image, valid, mask) of a Window, each (height, width), with the grey values and the mask that
            the strips had; it is asked for the surroundings of each target, a bounded number of pixels at a time.
            Without it every ``scr`` is NaN.

        Raises ValueError when strips are missing.
        """
        if self._next_row != self.rows:
            raise ValueError(f"only {self._next_row} of {self.rows} rows were added")
        a, b = np.concatenate([np.empty((2, 0), np.int64), *self._seams], axis=1) - 1
        graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(self._count, self._count))
        count, group = connected_components(graph, directed=False) if self._count else (0, np.empty(0, np.int64))
        joined = {k: np.concatenate([np.empty(0), *(p[k] for p in self._pieces)]) for k in _HOW}
        t = _combine(group, count, joined)
        order = np.argsort(t["first"])
        if self.rule is not None:
            middle = np.stack([t["row_min"] + t["row_max"], t["col_min"] + t["col_max"]], axis=1) / 2
            order = order[self.rule.keeps(t["area"], t["odds"], middle)[order]]
        ids = np.zeros(count, np.int64)
        ids[order] = np.arange(1, len(order) + 1)
        self._ids = np.concatenate([[0], ids[group]])
        return [self._target(n, {k: float(v[i]) for k, v in t.items()}, read) for n, i in enumerate(order, start=1)]

    def ids(self, row: int, mask: Mask) -> NDArray[np.int64]:
        """The id of the listed target that each pixel of the strip that begins at ``row`` belongs to, 0 for none; after
        :meth:`finish`.

        mask : what :meth:`add` was given for that strip, True on valid target pixels.
        """
        labels, _ = ndimage.label(mask, structure=_EIGHT)
        return np.asarray(self._ids[np.where(labels > 0, labels + self._before[row], 0)])

    def _target(self, number: int, t: dict[str, float], read: Read | None) -> Target:
        box = {k: int(t[k]) for k in ("row_min", "row_max", "col_min", "col_max")}
        target = Target(
            id=number,
            row=t["row"] / t["weight"],
            col=t["col"] / t["weight"],
            area=int(t["area"]),
            peak=t["peak"],
            mean=t["score"] / t["area"],
            scr=math.nan,
            **box,
        )
        if read is None or math.isnan(t["image"]):
            return target
        around = target.window.grown(self.margin, self.rows, self.cols)
        return replace(target, scr=_scr(t["image"] / t["area"], around, read))


def _combine(group: NDArray[Any], count: int, columns: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Each column reduced over the members of each of ``count`` groups, in the way that ``_HOW`` names."""
    out = {}
    for name, (reduce, start) in _HOW.items():
        out[name] = np.full(count, start)
        reduce.at(out[name], group, columns[name])
    return out


def _scr(target_mean: float, outer: Window, read: Read) -> float:
    """|mu_t - mu_b| / sigma_b with the background read from ``outer`` band by band of rows."""
    n, first, sum1, sum2 = 0, math.nan, 0.0, 0.0
    for window in outer.parts(max(1, _READ_PIXELS // outer.width)):
        image, valid, mask = read(window)
        x = image[valid & ~mask].astype(np.float64)
        if not x.size:
            continue
        if n == 0:
            first = float(x[0])  # sums of differences from a member: exactly 0 for a constant ring, no cancellation
        x -= first
        n += x.size
        sum1 += float(x.sum())
        sum2 += float((x * x).sum())
    if n < MIN_RING:
        return math.nan
    mean = sum1 / n
    variance = sum2 / n - mean * mean
    return abs(target_mean - first - mean) / math.sqrt(variance) if variance > 0 else math.nan
