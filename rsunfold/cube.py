"""The one image type that every part of rsunfold passes on: data, valid mask, metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows ``row .. row + height - 1``, columns likewise."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The (row, column) slices of this window in an array of the whole image."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def grown(self, margin: int, rows: int, cols: int) -> Window:
        """This window with ``margin`` pixels added on each side, clipped to an image of rows x cols."""
        r0, c0 = max(0, self.row - margin), max(0, self.col - margin)
        r1, c1 = min(rows, self.row + self.height + margin), min(cols, self.col + self.width + margin)
        return Window(r0, c0, r1 - r0, c1 - c0)

    def parts(self, height: int, width: int | None = None) -> Iterator[Window]:
        """Windows of at most height x width pixels (None: whole rows) that cover this one once, row by row."""
        bottom, right = self.row + self.height, self.col + self.width
        for row in range(self.row, bottom, height):
            for col in range(self.col, right, width or self.width):
                yield Window(row, col, min(height, bottom - row), min(width or self.width, right - col))

    def within(self, outer: Window) -> tuple[slice, slice]:
        """The slices of this window in an array that holds the window ``outer``."""
        r, c = self.row - outer.row, self.col - outer.col
        return slice(r, r + self.height), slice(c, c + self.width)


class Aside(str):
    """A note for those who ask for more: on what is usual, or was done as one would expect."""


def told(notes: Iterable[str]) -> list[str]:
    """The ``notes`` that are told to all, without those that are an :class:`Aside`."""
    return [note for note in notes if not isinstance(note, Aside)]


class Alarm(str):
    """A note that the whole result is likely of no use, of which Python functions warn, too."""


@dataclass(frozen=True)
class Meta:
    """What a file says about its pixels.

    Per-band tuples have one entry per band or are empty where the file says nothing.

    wavelengths, fwhm : nanometres.
    bad_bands : True marks a band that the file's bad-band list (ENVI ``bbl`` 0) calls unusable.
    nodata : one value or None per band.
    scales, offsets : physical value = stored * scale + offset.
    crs : a ``rasterio.crs.CRS`` or None; transform : an ``affine.Affine`` or None (pixel to CRS).
    gcps : (list of ``rasterio.control.GroundControlPoint``, CRS) or None; rpcs : ``rasterio.rpc.RPC`` or None.
    acquired : when the image was taken, in ISO 8601 or as the file says it; "" where it does not.
    geolocated : whether arrays of coordinates, one for each pixel, place the image; they are not read.
    dtype : the numpy name of the stored samples.
    default_bands : the (zero-based) bands that a GIS shows as red, green and blue, or the one in gray; empty where the
    file does not say.
    notes : sentences on what the reader assumed (units guessed, bands chosen, variable taken, ...).
    """

    driver: str = ""
    dtype: str = "float32"
    wavelengths: tuple[float, ...] = ()
    fwhm: tuple[float, ...] = ()
    bad_bands: tuple[bool, ...] = ()
    band_names: tuple[str, ...] = ()
    nodata: tuple[float | None, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    crs: Any = None
    transform: Any = None
    gcps: Any = None
    rpcs: Any = None
    geolocated: bool = False
    acquired: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    default_bands: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def spatial(self, **changes: Any) -> Meta:
        """A copy that keeps only where the pixels lie (CRS, transform, GCPs, RPCs) and when they were taken, plus
        ``changes``."""
        place = {name: getattr(self, name) for name in ("crs", "transform", "gcps", "rpcs", "geolocated", "acquired")}
        return replace(Meta(**place), **changes)

    @property
    def placed_in(self) -> Any:
        """The CRS of the ground control points or, without these, of the transform; None where none is given."""
        return (self.gcps[1] if self.gcps else None) or self.crs or None

    @property
    def nodata_values(self) -> dict[str, float]:
        """The different nodata values of the bands, by their text, because a NaN equals no other NaN."""
        return {str(float(value)): value for value in self.nodata if value is not None}

    def unmarked(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The invalid pixels, bool (rows, cols), of stored samples ``data`` (bands, rows, cols) that no NaN and no
        nodata value tells of.

        valid : (rows, cols). Only a mask beside the samples says that such pixels are invalid.
        """
        if valid.all():
            return np.zeros(valid.shape, bool)
        return np.asarray(~valid & ~self.missing(data).any(axis=0))

    def missing(self, data: NDArray[Any]) -> NDArray[np.bool_]:
        """The samples, bool (bands, rows, cols), of stored ones ``data`` that are no number or their band's nodata."""
        missing = np.empty(data.shape, bool)
        for band, samples, value in zip(missing, data, self.nodata or (None,) * len(data), strict=True):
            band[:] = ~measured(samples)
            if value is not None:
                band |= samples == value
        return missing


FILL = 1e30
"""Nothing measures as much: numbers beyond it stand for no data where a file forgets to say so, such as the lowest
float32, -3.4e38, or NetCDF's 9.97e36."""


def measured(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Where floating-point samples are finite and below FILL in magnitude, whatever the file says; others all."""
    if samples.dtype.kind not in "fc":
        return np.ones(samples.shape, bool)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(samples) < FILL)  # False for NaN


@dataclass
class Cube:
    """A block of image.

    data : (band, row, col), native-endian.
    valid : bool (row, col); False where any band is nodata, masked by the file, or not :func:`measured`.
    meta : what the file says.
    missing : bool (band, row, col); the samples that are nodata, not :func:`measured` or masked alone, but for pixels
    that are masked by the file; None where there is none.
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    meta: Meta
    missing: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.valid.shape != self.data.shape[1:]:
            raise ValueError(
                f"a Cube needs data (band, row, col) and valid (row, col), got {self.data.shape} and {self.valid.shape}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bands, rows, cols)."""
        bands, rows, cols = self.data.shape
        return bands, rows, cols
