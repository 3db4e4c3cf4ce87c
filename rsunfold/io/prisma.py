"""Products of PRISMA: HDF5 whose cubes have the bands as their second axis, and what is known of these at the root.

The first axis of maps (level 2D) are their rows. Of images as they were taken (levels 1, 2B, 2C) it is the line of
detectors, from right to left, and the last axis are the rows.

Source: ASI, PRISMA products specification document, 2.3 (2020).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.hdf5 import foreign, stored_elsewhere
from rsunfold.io.reader import CubeReader
from rsunfold.io.times import acquired_of

_CUBE = re.compile(r"HDFEOS/SWATHS/PRS_L(?P<level>\w+)_HCO/Data Fields/(?:VNIR|SWIR)_Cube")
_NAMED = re.compile(r"(?:.*[/:])?((?:VNIR|SWIR)_Cube)")
START = "Product_StartTime"
"""Attribute: when the first line was taken."""
PIXEL = 30.0
"""Metres of a pixel of the hyperspectral cubes."""
CACHE = 2**26
"""Bytes of decompressed chunks that are kept: with less, each window of a compressed cube decompresses whole rows."""
_DAMAGED = (OSError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError)
"""What h5py raises for files that are damaged, and NumPy for attributes that are not what they should be."""


@dataclass(frozen=True)
class _Cube:
    """One of the two cubes, (rows, bands, columns), the places of its bands that are in use and what is known of these:
    wavelengths and widths in nanometres, and the scale and offset of physical values."""

    data: h5py.Dataset
    places: list[int]
    wavelengths: list[float]
    fwhm: list[float]
    scale: float
    offset: float


def is_prisma(path: str, var: str | None) -> bool:
    """Whether a file is a product of PRISMA with hyperspectral cubes, and ``var``, where it is given, one of these."""
    if var is not None and not _NAMED.fullmatch(var):
        return False
    try:
        with h5py.File(path, "r") as file:
            return "List_Cw_Vnir" in file.attrs and bool(_cubes(file))
    except _DAMAGED:
        return False


def _cubes(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The cubes by name."""
    swaths = file.get("HDFEOS/SWATHS", {})
    names = (f"HDFEOS/SWATHS/{swath}/Data Fields/{kind}_Cube" for swath in swaths for kind in ("VNIR", "SWIR"))
    found = {name.rpartition("/")[2]: file.get(name) for name in names if _CUBE.fullmatch(name)}
    return {name: item for name, item in found.items() if isinstance(item, h5py.Dataset)}


class PrismaReader(CubeReader):
    """The cubes of a product, both or the one that ``var`` names (VNIR_Cube, SWIR_Cube), as one image whose bands rise
    by wavelength.

    Reflectances (level 2) and radiances (level 1) are made with the scale that the file gives. Bands that are not in
    use are left out. A pixel is valid unless the first, the middle and the last band of each cube that is read are 0,
    as they are outside the swath of a map. There samples are 0, the nodata value; where a valid one is 0, it is 1.
    Raises InputError for a file that is damaged.
    """

    def __init__(self, path: str, var: str | None = None) -> None:
        self.path = path
        self._file = h5py.File(path, "r", rdcc_nbytes=CACHE)
        try:
            self._describe(var)
        except InputError:
            self.close()
            raise
        except _DAMAGED as error:
            self.close()
            raise InputError(f"{path} is no complete PRISMA product ({error}).") from None

    def _describe(self, var: str | None) -> None:
        found = _cubes(self._file)
        if var is not None and (named := _NAMED.fullmatch(var)):
            found = {name: data for name, data in found.items() if name == named[1]}
        self._parts = [self._cube(name.partition("_")[0].capitalize(), data) for name, data in found.items()]
        sizes = {part.data.shape[::2] for part in self._parts}
        if len(sizes) != 1 or not any(part.places for part in self._parts):
            raise InputError(
                f"the cubes of {self.path} differ in size or have no band in use; choose one with --var VNIR_Cube or "
                "SWIR_Cube."
            )
        level = _CUBE.fullmatch(self._parts[0].data.name.strip("/"))
        self._map = level is not None and level["level"] == "2D"
        bands = [(w, n, k) for n, part in enumerate(self._parts) for k, w in enumerate(part.wavelengths)]
        self._bands = [(n, k) for _, n, k in sorted(bands)]
        rows, cols = sizes.pop() if self._map else sizes.pop()[::-1]
        self.shape = (len(self._bands), rows, cols)
        self.dtype = np.result_type(*(part.data.dtype for part in self._parts))
        chunks = self._parts[0].data.chunks or (1, 1, self._parts[0].data.shape[2])
        self.block_shape = (chunks[0], chunks[2]) if self._map else (chunks[2], chunks[0])
        crs, transform, notes = self._place(rows, cols)
        of = [self._parts[n] for n, _ in self._bands]
        self.meta = Meta(
            driver="PRISMA",
            dtype=self.dtype.name,
            wavelengths=tuple(self._parts[n].wavelengths[k] for n, k in self._bands),
            fwhm=tuple(self._parts[n].fwhm[k] for n, k in self._bands),
            nodata=(0.0,) * len(of),
            scales=tuple(part.scale for part in of),
            offsets=tuple(part.offset for part in of),
            crs=crs,
            transform=transform,
            acquired=acquired_of({START: self._text(START)}),
            notes=(Aside(f"the bands in use of {' and '.join(found)} were read by wavelength"), *notes),
        )

    def _cube(self, sensor: str, data: h5py.Dataset) -> _Cube:
        """``sensor`` : Vnir or Swir."""
        if data.ndim != 3:
            raise InputError(f"{self.path}: the cube {data.name} has {data.ndim} axes instead of three.")
        if stored_elsewhere(data):
            raise foreign(self.path, data.name, others=False)
        known = self._file.attrs
        centres, widths = (np.ravel(known[f"List_{kind}_{sensor}"]).astype(float) for kind in ("Cw", "Fwhm"))
        used = np.ravel(known.get(f"List_Cw_{sensor}_Flags", np.ones(len(centres)))).astype(float) > 0
        if data.dtype.kind != "u":
            raise InputError(f"{self.path}: the cube {data.name} has samples of type {data.dtype}, not counts.")
        if not len(centres) == len(widths) == len(used) == data.shape[1]:
            raise InputError(f"{self.path}: the cube {data.name} has not the bands that the file lists.")
        places = np.flatnonzero(used & (centres > 0))
        if f"L2Scale{sensor}Max" in known:
            low, high = (self._number(f"L2Scale{sensor}{end}") for end in ("Min", "Max"))
            scale, offset = (high - low) / 65535, low
        else:
            scale, offset = 1 / self._number(f"ScaleFactor_{sensor}"), 0.0 - self._number(f"Offset_{sensor}")
        if not (0 < scale < math.inf and math.isfinite(offset)):
            raise InputError(f"{self.path}: the scale {scale:g} and offset {offset:g} of {sensor} give no values.")
        return _Cube(data, places.tolist(), centres[places].tolist(), widths[places].tolist(), scale, offset)

    def _number(self, name: str) -> float:
        return float(np.ravel(self._file.attrs[name])[0])

    def _text(self, name: str) -> str:
        """An attribute, "" where it is not there."""
        found = np.ravel(self._file.attrs.get(name, ""))[0]
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found)

    def _place(self, rows: int, cols: int) -> tuple[CRS | None, Affine | None, list[str]]:
        """CRS and transform of a map (level 2D); without them a note."""
        names = [f"Product_{corner}corner_{axis}" for corner in ("UL", "LR") for axis in ("easting", "northing")]
        if not self._map or not all(name in self._file.attrs for name in ("Epsg_Code", *names)):
            turned = "" if self._map else "; rows and columns are exchanged and detectors run from left to right"
            return None, None, [Aside(f"the product is no map, so the result has no coordinates{turned}")]
        try:
            left, top, right, bottom = map(self._number, names)
            crs = CRS.from_epsg(int(self._number("Epsg_Code")))
            # The corners are centres of pixels in some versions of the processor, outer corners in others.
            for half in (PIXEL / 2, 0.0):
                size = (round((right - left + 2 * half) / PIXEL), round((top - bottom + 2 * half) / PIXEL))
                if size == (cols, rows):
                    return crs, Affine(PIXEL, 0, left - half, 0, -PIXEL, top + half), []
        except (CRSError, *_DAMAGED):
            return None, None, ["the coordinates of the product cannot be read, so the result has none"]
        return None, None, ["the corners of the product do not fit its size, so the result has no coordinates"]

    @cached_property
    def _outside(self) -> NDArray[np.bool_]:
        """bool (rows, cols): what is not seen."""
        outside = np.ones(self.shape[1:], bool)
        height = max(1, self.block_shape[0])
        for window in Window(0, 0, *self.shape[1:]).parts(height):
            for part in self._parts:
                ends = sorted({0, len(part.places) // 2, len(part.places) - 1}) if part.places else []
                for _, plane in self._planes(part, window, [part.places[k] for k in ends]) if ends else ():
                    outside[window.slices] &= plane == 0
        return outside

    def _planes(self, part: _Cube, window: Window, places: list[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        """(number among ``places``, the band there); what is near each other is read together."""
        rows, cols = window.slices
        if not self._map:
            last = self.shape[2]
            rows, cols = slice(last - cols.stop, last - cols.start), rows
        order = np.argsort(places)
        near = part.data.chunks[1] if part.data.chunks else 1  # what one chunk holds is decompressed together
        for run in np.split(order, np.flatnonzero(np.diff(np.array(places)[order]) > near) + 1):
            first = places[run[0]]
            block = part.data[rows, first : places[run[-1]] + 1, cols]
            for i in run:
                plane = block[:, places[i] - first]
                yield int(i), plane if self._map else plane[::-1].T

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        out = np.empty((len(bands), window.height, window.width), self.dtype)
        try:
            valid = ~self._outside[window.slices]
            for n, part in enumerate(self._parts):
                wanted = [(i, part.places[k]) for i, (m, k) in enumerate(self._bands[b] for b in bands) if m == n]
                for i, plane in self._planes(part, window, [place for _, place in wanted]) if wanted else ():
                    out[wanted[i][0]] = plane
        except _DAMAGED as error:
            raise InputError(f"{self.path} is truncated or damaged ({error}).") from None
        np.maximum(out, 1, out=out, where=valid)
        out[:, ~valid] = 0
        return out, valid

    def close(self) -> None:
        """Close the file."""
        self._file.close()
