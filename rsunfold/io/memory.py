"""An array in memory behind the interface of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.reader import CubeReader


class ArrayReader(CubeReader):
    """An array of shape (row, col) or (band, row, col) and a real dtype, as a :class:`CubeReader`.

    nodata : value that stands for no data, or None. Raises InputError for another shape, a complex dtype, or no pixel.
    """

    def __init__(self, array: NDArray[Any], *, nodata: float | None = None, meta: Meta | None = None) -> None:
        data = np.asarray(array)
        if data.ndim not in (2, 3) or data.dtype.kind not in "buif" or data.size == 0:
            raise InputError(
                f"an array of shape {data.shape} and type {data.dtype} is no image: "
                "(row, col) or (band, row, col) of real numbers is needed."
            )
        self._data = data[None] if data.ndim == 2 else data
        bands, rows, cols = self._data.shape
        self.path, self.shape, self.dtype, self.block_shape = "array", (bands, rows, cols), data.dtype, (1, cols)
        self.meta = meta or Meta(driver="array", dtype=data.dtype.name, nodata=(nodata,) * bands)

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        data = self._data[bands][:, *window.slices].copy()
        valid = np.ones(data.shape[1:], bool)
        for band, nodata in zip(data, (self.meta.nodata[b] for b in bands) if self.meta.nodata else (), strict=False):
            if nodata is not None:
                valid &= band != nodata
        return data, valid

    def close(self) -> None:
        """Nothing to let go of."""
