"""Unrolled networks on images that do not fit in memory, with the result of the whole image.

A stage is written once, for tensors: ``B = keep(k, "B", x + self.FB(x))``. Here the same lines run on maps that are
kept on disk. Sums and differences of maps are not computed but noted; an operator notes itself after it has gathered
the image-wide means that its channel attention needs, window by window, in float64; and ``keep`` computes what was
noted, window by window with the margin that the operator's receptive field asks for, and stores it. Each operator
thus runs twice over the image and needs only its own small margin, not that of all stages together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsunfold.cube import Window
from rsunfold.infer.tiles import spans
from rsunfold.unfold.operators import Operator

CHUNK = 256


class Canvas:
    """Where maps of ``rows`` x ``cols`` pixels live: one scratch file, worked on in tiles of ``tile`` pixels."""

    def __init__(self, rows: int, cols: int, tile: int, scratch: Path, device: torch.device) -> None:
        self.rows, self.cols, self.tile, self.device = rows, cols, tile, device
        self._file = h5py.File(scratch, "w", libver="latest", rdcc_nbytes=2**23)
        self._free: list[h5py.Dataset] = []
        self._made = 0

    def close(self) -> None:
        """Let go of the scratch file and of all maps in it."""
        self._file.close()

    def windows(self) -> Iterator[Window]:
        """Tiles that cover the image once, row by row."""
        for top, bottom in spans(self.rows, self.tile):
            for left, right in spans(self.cols, self.tile):
                yield Window(top, left, bottom - top, right - left)

    def take(self) -> h5py.Dataset:
        """Room for one map, used again when the map that had it is forgotten."""
        if self._free:
            return self._free.pop()
        self._made += 1
        chunks = (min(CHUNK, self.rows), min(CHUNK, self.cols))
        return self._file.create_dataset(str(self._made), (self.rows, self.cols), "f4", chunks=chunks)

    def give_back(self, room: h5py.Dataset) -> None:
        """Let another map have the room."""
        self._free.append(room)

    def load(self, read: Callable[[Window], NDArray[np.float32]]) -> Stored:
        """A map filled from ``read(window) -> (height, width)``, in strips of whole rows as files like to be read."""
        stored = Stored(self)
        height = max(1, min(self.tile, self.tile * self.tile // self.cols))
        for top, bottom in spans(self.rows, height):
            window = Window(top, 0, bottom - top, self.cols)
            stored.room[window.slices] = read(window)
        return stored

    def keep(self, stage: int, letter: str, value: Lazy) -> Stored:
        """Compute what was noted and store it; the ``keep`` of :class:`rsunfold.unfold.unrolled.Unrolled`."""
        stored = Stored(self)
        for window in self.windows():
            stored.room[window.slices] = value.read(window)[0, 0].float().cpu().numpy()
        return stored


class Lazy:
    """A map (1, 1, rows, cols) that is computed where it is read."""

    def __init__(self, canvas: Canvas, function: Callable[[Window], Tensor]) -> None:
        self.canvas, self._function = canvas, function

    def read(self, window: Window) -> Tensor:
        """The values of a window, float (1, 1, height, width) on the canvas' device."""
        return self._function(window)

    def _with(self, other: Any, function: Callable[[Tensor, Any], Tensor]) -> Lazy:
        if isinstance(other, Lazy):
            return Lazy(self.canvas, lambda w: function(self.read(w), other.read(w)))
        return Lazy(self.canvas, lambda w: function(self.read(w), other))

    def __add__(self, other: Any) -> Lazy:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Lazy:
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> Lazy:
        return self._with(other, lambda a, b: a * b)

    def __rsub__(self, other: Any) -> Lazy:
        return self._with(other, lambda a, b: b - a)

    __radd__ = __add__
    __rmul__ = __mul__

    def through(self, op: Operator) -> Lazy:
        """``op`` of this map, exact: its means are gathered over the whole image now, the rest where it is read."""
        rows, cols = self.canvas.rows, self.canvas.cols

        def around(window: Window) -> tuple[Tensor, tuple[slice, slice]]:
            grown = window.grown(op.radius, rows, cols)
            return self.read(grown).contiguous(memory_format=torch.channels_last), window.within(grown)

        mean: Tensor | None = None
        if op.se is not None:
            total: Any = 0
            for window in self.canvas.windows():
                x, inner = around(window)
                total = total + op.features(x)[:, :, inner[0], inner[1]].double().sum((2, 3))
            mean = (total / (rows * cols)).float()

        def apply(window: Window) -> Tensor:
            x, inner = around(window)
            y: Tensor = op(x, mean)
            return y[:, :, inner[0], inner[1]]

        return Lazy(self.canvas, apply)


class Stored(Lazy):
    """A map in the scratch file; its room is free again when nothing refers to the map any more."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas, self._load)
        self.room = canvas.take()

    def _load(self, window: Window) -> Tensor:
        return torch.from_numpy(self.room[window.slices])[None, None].to(self.canvas.device)

    def __del__(self) -> None:
        self.canvas.give_back(self.room)
