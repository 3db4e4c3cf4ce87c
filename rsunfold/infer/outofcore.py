"""Unrolled networks on images that do not fit in memory, with the result of the whole image.

A stage is written once, for tensors: ``B = keep(k, "B", x + self.FB(x))``. Here the same lines run on maps that are
kept on disk. Sums and differences of maps are not computed but noted; an operator notes itself after it has gathered
the image-wide means that its channel attention needs, window by window, in float64; and ``keep`` computes what was
noted, window by window with the margin that the operator's receptive field asks for, and stores it. Each operator
thus runs once over the image for each thing that it pools and once more, and needs only its own small margin, not
that of all stages together.
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
from rsunfold.progress import tracked
from rsunfold.unfold.operators import MapOperator, Place, exact


class Room:
    """One map of float32 (channels, rows, cols) in a file, row after row.

    Its room on the disk is taken at once where the system can, so that a disk too small is known before hours of work.
    Plain writes, so that a full disk is an OSError: HDF5 crashes when it closes such a file, and a mapped file is a bus
    error.
    """

    def __init__(self, path: Path, channels: int, rows: int, cols: int) -> None:
        self._file = path.open("w+b", buffering=0)
        self.channels, self._rows, self._cols = channels, rows, cols
        try:
            os.posix_fallocate(self._file.fileno(), 0, 4 * channels * rows * cols)
        except AttributeError:  # macOS
            pass
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self._file.close()
                raise

    def _seek(self, channel: int, row: int, col: int) -> None:
        self._file.seek(4 * ((channel * self._rows + row) * self._cols + col))

    def read(self, window: Window) -> NDArray[np.float32]:
        """Values (channels, height, width) of a window that has been written."""
        values = np.empty((self.channels, window.height, window.width), np.float32)
        for channel, plane in enumerate(values):
            for row, line in enumerate(plane, start=window.row):
                self._seek(channel, row, window.col)
                self._file.readinto(line.data)
        return values

    def write(self, window: Window, values: NDArray[np.float32]) -> None:
        """Write values (channels, height, width); raises OSError when the disk is full."""
        for channel, plane in enumerate(np.ascontiguousarray(values, np.float32)):
            for row, line in enumerate(plane, start=window.row):
                self._seek(channel, row, window.col)
                if self._file.write(line) != line.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Canvas:
    """Where maps of ``rows`` x ``cols`` pixels live: files in ``folder``, worked on in tiles of ``tile`` pixels.

    stages : how many the network has, for those who wait.
    """

    def __init__(self, rows: int, cols: int, tile: int, folder: Path, device: torch.device, stages: int) -> None:
        self.rows, self.cols, self.tile, self.device, self.stages = rows, cols, tile, device, stages
        self._folder = folder
        self._rooms: list[Room] = []
        self._free: list[Room] = []
        folder.mkdir(exist_ok=True)

    def close(self) -> None:
        """Let go of the files; no map can be read any more."""
        for room in self._rooms:
            room.close()

    def windows(self, stride: int = 1) -> Iterator[Window]:
        """Tiles that cover the image once, row by row, and begin at multiples of ``stride``."""
        tile = max(stride, self.tile // stride * stride)
        return Window(0, 0, self.rows, self.cols).parts(tile, tile)

    def take(self, channels: int = 1) -> Room:
        """Room for one map, used again when the map that had it is forgotten."""
        for n, room in enumerate(self._free):
            if room.channels == channels:
                return self._free.pop(n)
        self._rooms.append(Room(self._folder / f"{len(self._rooms)}.f32", channels, self.rows, self.cols))
        return self._rooms[-1]

    def give_back(self, room: Room) -> None:
        """Let another map have the room."""
        self._free.append(room)

    def load(self, read: Callable[[Window], NDArray[np.float32]]) -> Stored:
        """A map filled from ``read(window) -> (height, width)``, in strips of whole rows as files like to be read."""
        stored = Stored(self, self.take())
        height = max(1, min(self.tile, self.tile * self.tile // self.cols))
        for window in Window(0, 0, self.rows, self.cols).parts(height):
            stored.room.write(window, read(window)[None])
        return stored

    def keep(self, stage: int, letter: str, value: Lazy) -> Stored:
        """Compute what was noted and store it; the ``keep`` of :class:`rsunfold.unfold.unrolled.Unrolled`."""
        stored: Stored | None = None
        what = f"stage {stage + 1} of {self.stages}, {letter or 'features'}"
        for window in tracked(list(self.windows()), what):
            values = value.read(window)[0].float().cpu().numpy()
            stored = stored or Stored(self, self.take(len(values)))
            stored.room.write(window, values)
        assert stored is not None
        return stored


class Lazy:
    """A map (1, channels, rows, cols) that is computed where it is read."""

    def __init__(self, canvas: Canvas, function: Callable[[Window], Tensor]) -> None:
        self.canvas, self._function = canvas, function

    def read(self, window: Window) -> Tensor:
        """The values of a window, float (1, channels, height, width) on the canvas' device."""
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

    def beside(self, other: Lazy) -> Lazy:
        """The channels of both maps."""
        return self._with(other, lambda a, b: torch.cat((a, b), 1))

    def mean(self) -> Tensor:
        """Means (1, channels) over the image, gathered in float64 where the device has it."""
        total: Any = sum(exact(self.read(window)).sum((2, 3)) for window in self.canvas.windows())
        mean: Tensor = (total / (self.canvas.rows * self.canvas.cols)).float()
        return mean

    def through(self, op: MapOperator) -> Lazy:
        """``op`` of this map, exact: what it pools is gathered over the whole image now, the rest where it is read."""
        rows, cols = self.canvas.rows, self.canvas.cols

        def around(window: Window) -> tuple[Tensor, Place]:
            grown = _aligned(window.grown(op.radius, rows, cols), op.stride, rows, cols)
            x = self.read(grown).contiguous(memory_format=torch.channels_last)
            return x, Place(grown, window.within(grown), rows, cols)

        found: list[Any] = []
        for _ in range(op.pools):
            total: Any = None
            for window in tracked(list(self.canvas.windows(op.stride)), "image-wide means"):
                part = op.gather(*around(window), found)
                total = part if total is None else op.merge(total, part)
            found.append(op.finish(total, rows, cols))

        def apply(window: Window) -> Tensor:
            x, place = around(window)
            return op.local(x, place, found)[:, :, *place.inner]

        return Lazy(self.canvas, apply)


def _aligned(window: Window, stride: int, rows: int, cols: int) -> Window:
    """The smallest window around ``window`` that begins and ends at multiples of ``stride``, or with the image."""
    top, left = window.row // stride * stride, window.col // stride * stride
    bottom = min(rows, -(-(window.row + window.height) // stride) * stride)
    right = min(cols, -(-(window.col + window.width) // stride) * stride)
    return Window(top, left, bottom - top, right - left)


class Stored(Lazy):
    """A map on disk; its room is free again when nothing refers to the map any more."""

    def __init__(self, canvas: Canvas, room: Room) -> None:
        # No bound method: a map that refers to itself would keep its room until the garbage collector comes round.
        super().__init__(canvas, lambda w: torch.from_numpy(room.read(w))[None].to(canvas.device))
        self.room = room

    def __del__(self) -> None:
        self.canvas.give_back(self.room)
