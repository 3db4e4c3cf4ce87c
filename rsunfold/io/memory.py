"""An array in memory behind the interface of a file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arguments import Numbers
from rsunfold.cube import Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.bands import spectral_fields
from rsunfold.io.reader import CubeReader

COLOURED = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "LA"}
"""Modes of pictures of PIL whose samples are indices or colours."""


def as_array(given: Any) -> NDArray[Any]:
    """What was given as a NumPy array, masked if it was, no float wider than float64; raises InputError for what is
    none, such as lists of several lengths, tensors with gradients or pictures of PIL in colour."""
    if getattr(given, "mode", None) in COLOURED:
        raise InputError(
            "a palette or colour picture is no array of samples; give its path, or convert it with .convert('L')."
        )
    try:
        array = np.asanyarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the samples cannot be read as an array of numbers ({error}).") from None
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    return np.asanyarray(array, np.float64) if wide else np.asanyarray(array)


class ArrayReader(CubeReader):
    """An array of shape (row, col) or (band, row, col) and a real dtype, as a :class:`CubeReader`.

    nodata : value that stands for no data, or None; masked samples of a ``numpy.ma`` array are missing as well.
    wavelengths : nm, or micrometres where all are below 100, one for each band, or None. Raises InputError for another
    shape, a complex dtype, no pixel, a picture of PIL in colour, or wavelengths that are not above 0 or not as many as
    bands.
    """

    def __init__(self, array: NDArray[Any], *, nodata: float | None = None, wavelengths: Numbers | None = None) -> None:
        data = np.asarray(as_array(array))
        if data.ndim not in (2, 3) or data.dtype.kind not in "buif" or data.size == 0:
            raise InputError(
                f"an array of shape {data.shape} and type {data.dtype} is not an image: "
                "(row, col) or (band, row, col) of real numbers is needed."
            )
        if data.dtype.kind == "b":
            data, self.bits = data.astype(np.uint8), 1
        self._data = data.reshape(-1, *data.shape[-2:])
        self._masked = np.ma.getmaskarray(array).reshape(self._data.shape) if np.ma.isMaskedArray(array) else None
        if self._masked is not None and data.dtype.kind == "f":
            self._data = np.where(self._masked, np.nan, self._data)  # whatever lies under the mask
        bands, rows, cols = self._data.shape
        self.path, self.shape, self.dtype, self.block_shape = "array", (bands, rows, cols), data.dtype, (1, cols)
        centres = () if wavelengths is None else tuple(float(w) for w in wavelengths)
        if wavelengths is not None and (len(centres) != bands or not all(0 < w < math.inf for w in centres)):
            raise InputError(f"the array has {bands} bands, so it needs {bands} wavelengths above 0, in nm.")
        # A number of NumPy would be compared with float32 samples as the float64 that it is.
        marks = () if nodata is None else (nodata.item() if isinstance(nodata, np.generic) else nodata,) * bands
        fields, notes = spectral_fields(bands, centres)
        self.meta = Meta(
            driver="array",
            dtype=data.dtype.name,
            nodata=marks,
            wavelengths=fields["wavelengths"],
            notes=tuple(note for note in notes if "nanometres" not in note),  # which is what is asked for
        )

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        data = np.stack([self._data[band][window.slices] for band in bands])
        return data.astype(self.dtype.newbyteorder("="), copy=False), np.ones(data.shape[1:], bool)

    def _hidden(self, window: Window, bands: list[int]) -> NDArray[np.bool_] | None:
        if self._masked is None or self.dtype.kind == "f":  # where a NaN says it
            return None
        return np.stack([self._masked[band][window.slices] for band in bands])

    def close(self) -> None:
        """Nothing to let go of."""
