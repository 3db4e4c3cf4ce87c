"""Unrolled networks on images that do not fit in memory, with the result of the whole image.

A stage is written once, for tensors: ``B = keep(k, "B", x + self.FB(x))``. Here the same lines run on maps that are
kept on disk. Sums and differences of maps are not computed but noted; an operator notes itself after it has gathered
the image-wide means that its channel attention needs, window by window, in float64; and ``keep`` computes what was
noted, window by window with the margin that the operator's receptive field asks for, and stores it. Each operator
thus runs twice over the image and needs only its own small margin, not that of all stages together.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsunfold.cube import Window
from rsunfold.infer.tiles import spans
from rsunfold.unfold.operators import Operator


class Room:
    """One map of float32 in a file, row after row.

    Plain writes, so that a full disk is an OSError: HDF5 crashes when it closes such a file, and a mapped file is a bus
    error.
    """

    def __init__(self, path: Path, cols: int) -> None:
        self._file = path.open("w+b", buffering=0)
        self._cols = cols

    def read(self, window: Window) -> NDArray[np.float32]:
        """Values (height, width) of a window that has been written."""
        values = np.empty((window.height, window.width), np.float32)
        for row, line in enumerate(values, start=window.row):
            self._file.seek(4 * (row * self._cols + window.col))
            self._file.readinto(line.data)
        return values

    def write(self, window: Window, values: NDArray[np.float32]) -> None:
        """Write values (height, width); raises OSError when the disk is full."""
        for row, line in enumerate(np.ascontiguousarray(values, np.float32), start=window.row):
            self._file.seek(4 * (row * self._cols + window.col))
            if self._file.write(line) != line.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Canvas:
    """Where maps of ``rows`` x ``cols`` pixels live: files in ``folder``, worked on in tiles of ``tile`` pixels."""

    def __init__(self, rows: int, cols: int, tile: int, folder: Path, device: torch.device) -> None:
        self.rows, self.cols, self.tile, self.device = rows, cols, tile, device
        self._folder = folder
        self._rooms: list[Room] = []
        self._free: list[Room] = []
        folder.mkdir(exist_ok=True)

    def close(self) -> None:
        """Let go of the files; no map can be read any more."""
        for room in self._rooms:
            room.close()

    def windows(self) -> Iterator[Window]:
        """Tiles that cover the image once, row by row."""
        for top, bottom in spans(self.rows, self.tile):
            for left, right in spans(self.cols, self.tile):
                yield Window(top, left, bottom - top, right - left)

    def take(self) -> Room:
        """Room for one map, used again when the map that had it is forgotten."""
        if not self._free:
            self._rooms.append(Room(self._folder / f"{len(self._rooms)}.f32", self.cols))
            return self._rooms[-1]
        return self._free.pop()

    def give_back(self, room: Room) -> None:
        """Let another map have the room."""
        self._free.append(room)

    def load(self, read: Callable[[Window], NDArray[np.float32]]) -> Stored:
        """A map filled from ``read(window) -> (height, width)``, in strips of whole rows as files like to be read."""
        stored = Stored(self, self.take())
        height = max(1, min(self.tile, self.tile * self.tile // self.cols))
        for top, bottom in spans(self.rows, height):
            window = Window(top, 0, bottom - top, self.cols)
            stored.room.write(window, read(window))
        return stored

    def keep(self, stage: int, letter: str, value: Lazy) -> Stored:
        """Compute what was noted and store it; the ``keep`` of :class:`rsunfold.unfold.unrolled.Unrolled`."""
        stored = Stored(self, self.take())
        for window in self.windows():
            stored.room.write(window, value.read(window)[0, 0].float().cpu().numpy())
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
                total = total + op.total(x, inner)
            mean = (total / (rows * cols)).float()

        def apply(window: Window) -> Tensor:
            x, inner = around(window)
            y: Tensor = op(x, mean)
            return y[:, :, inner[0], inner[1]]

        return Lazy(self.canvas, apply)


class Stored(Lazy):
    """A map on disk; its room is free again when nothing refers to the map any more."""

    def __init__(self, canvas: Canvas, room: Room) -> None:
        # No bound method: a map that refers to itself would keep its room until the garbage collector comes round.
        super().__init__(canvas, lambda w: torch.from_numpy(room.read(w))[None, None].to(canvas.device))
        self.room = room

    def __del__(self) -> None:
        self.canvas.give_back(self.room)
