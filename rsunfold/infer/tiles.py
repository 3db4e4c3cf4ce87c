"""Images of any size by windows: how they are laid out, blended, and sized from a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Window
from rsunfold.errors import DeviceError
from rsunfold.progress import tracked

STRIP_PIXEL_BYTES = 48
"""Bytes per pixel of the strip of whole rows that goes to the writers: image, score, masks, labels."""
KEPT_PIXEL_BYTES = 1 / 8
"""Bytes per pixel of the whole image that stay to the end: the target mask as bits."""


def spans(size: int, tile: int, overlap: int = 0) -> list[tuple[int, int]]:
    """(start, stop) of tiles of at most ``tile`` pixels that cover ``size`` pixels and share ``overlap`` pixels."""
    if not 0 <= overlap < tile:
        raise ValueError(f"an overlap of {overlap} does not go with tiles of {tile} pixels")
    return [(a, min(a + tile, size)) for a in range(0, max(1, size - overlap), tile - overlap)]


def evenly_spread(rows: int, cols: int, height: int, width: int, count: int) -> tuple[list[int], list[int]]:
    """First rows and first columns of at most ``count`` windows of height x width pixels that do not overlap, in a grid
    with about the proportions of the image."""
    down = max(1, min(rows // height, count, round((count * rows / cols) ** 0.5)))
    across = max(1, min(cols // width, count // down))
    starts = np.linspace(0, rows - height, down), np.linspace(0, cols - width, across)
    return starts[0].astype(int).tolist(), starts[1].astype(int).tolist()


def ramp(index: int, parts: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Blend weights of one tile along one axis: linear in what it shares with its neighbours, positive everywhere."""
    start, stop = parts[index]
    weight = np.ones(stop - start, np.float32)
    if index > 0:
        n = parts[index - 1][1] - start
        weight[:n] = np.arange(1, n + 1) / (n + 1)
    if index + 1 < len(parts):
        n = stop - parts[index + 1][0]
        if n:
            weight[-n:] *= np.arange(n, 0, -1) / (n + 1)
    return weight


def strips(
    rows: int, cols: int, tile: int, compute: Callable[[Window], NDArray[Any]], overlap: int = 0
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Compute an image tile by tile; yields (first row, values (..., h, cols)) from top to bottom, each row once.

    compute : gives float (..., height, width) of a window, whose type the result has. Where tiles overlap, the result
    is their mean under weights that are positive everywhere and divided by their sum. A ``compute`` whose values do not
    depend on the window (because it reads the margin that it needs) gives the result of the whole image, whatever tile
    and overlap are.
    """
    down, across = spans(rows, tile, overlap), spans(cols, tile, overlap)
    held: tuple[NDArray[Any], NDArray[np.float32]] | None = None
    windows = tracked(
        [Window(top, left, bottom - top, right - left) for top, bottom in down for left, right in across], "computing"
    )
    with closing(windows):
        for i, (top, bottom) in enumerate(down):
            total: NDArray[Any] | None = None
            weights = np.zeros(cols, np.float32)
            for j, (left, right) in enumerate(across):
                part = compute(next(windows))
                if total is None:
                    total = np.zeros((*part.shape[:-1], cols), part.dtype)
                w = ramp(j, across)
                total[..., left:right] += part * w
                weights[left:right] += w
            assert total is not None  # an image has at least one column
            total /= weights
            down_weight = ramp(i, down)
            total *= down_weight[:, None]
            if held is not None:
                n = held[1].size
                total[..., :n, :] += held[0]
                down_weight[:n] += held[1]
            done = (down[i + 1][0] if i + 1 < len(down) else bottom) - top
            yield top, total[..., :done, :] / down_weight[:done, None]
            held = (total[..., done:, :].copy(), down_weight[done:])
        next(windows, None)  # a step is told when the next is asked for


@dataclass(frozen=True)
class Plan:
    """How an image is computed: in one piece (``whole``) or by tiles of ``tile`` pixels, margins not counted."""

    whole: bool
    tile: int

    @property
    def words(self) -> str:
        """How, in words."""
        return "in one piece" if self.whole else f"in tiles of {self.tile} pixels"


def plan(
    rows: int,
    cols: int,
    *,
    bytes_per_pixel: float,
    margin: int,
    budget: float,
    most: int = 4096,
    strip_bytes: float = STRIP_PIXEL_BYTES,
    kept_bytes: float = KEPT_PIXEL_BYTES,
) -> Plan:
    """The fewest, largest pieces within ``budget`` bytes.

    bytes_per_pixel : of what is computed. margin : pixels read around each tile. most : largest tile side.
    strip_bytes : per pixel of the strip of whole rows. kept_bytes : per pixel of the whole image, to the end.
    Raises DeviceError when not even a tile of 64 pixels fits.
    """
    if rows * cols * (bytes_per_pixel + strip_bytes) <= budget:
        return Plan(True, max(rows, cols))

    def cost(tile: int) -> float:
        grown = min(tile + 2 * margin, max(rows, cols))
        return grown**2 * bytes_per_pixel + min(tile, rows) * cols * strip_bytes + rows * cols * kept_bytes

    side = next((s for s in range(most, 0, -64) if cost(s) <= budget), 0)
    if not side:
        raise DeviceError.no_room(f"an image of {rows} x {cols} pixels needs", cost(64), budget)
    # Whole blocks of the output files and of the scratch file keep each block from being written twice.
    block = 512 if side >= 512 else 256
    return Plan(False, side // block * block if side >= block else side)
