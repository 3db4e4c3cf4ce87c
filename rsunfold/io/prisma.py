"""Products of PRISMA: HDF5 with the axes (rows, bands, columns) and what else is known of the cubes at the root.

Source: ASI, PRISMA products specification document, 2.3 (2020).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.reader import CubeReader

_CUBE = re.compile(r"HDFEOS/SWATHS/PRS_L\w+_HCO/Data Fields/(VNIR|SWIR)_Cube")
PIXEL = 30.0
"""Metres of a pixel of the hyperspectral cubes."""


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


def is_prisma(path: str) -> bool:
    """Whether a file is a product of PRISMA with hyperspectral cubes."""
    try:
        with h5py.File(path, "r") as file:
            return "List_Cw_Vnir" in file.attrs and bool(_cubes(file))
    except OSError:
        return False


def _cubes(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The cubes by name."""
    swaths = file.get("HDFEOS/SWATHS", {})
    names = (f"HDFEOS/SWATHS/{swath}/Data Fields/{kind}_Cube" for swath in swaths for kind in ("VNIR", "SWIR"))
    return {name.rpartition("/")[2]: file[name] for name in names if _CUBE.fullmatch(name) and name in file}


class PrismaReader(CubeReader):
    """The cubes of a product, both or the one that ``var`` names (VNIR_Cube, SWIR_Cube), as one image whose bands rise
    by wavelength.

    Reflectances (level 2) and radiances (level 1) are made with the scale that the file gives. Bands that are not in
    use are left out. A pixel is valid unless the first, the middle and the last band of each cube that is read are 0,
    as they are outside the swath of a map. Raises InputError for a file that is damaged.
    """

    def __init__(self, path: str, var: str | None = None) -> None:
        self.path = path
        self._file = h5py.File(path, "r")
        try:
            self._describe(var)
        except (KeyError, ValueError) as error:
            self.close()
            raise InputError(f"{path} is no complete PRISMA product ({error}).") from None
        except BaseException:
            self.close()
            raise

    def _describe(self, var: str | None) -> None:
        found = _cubes(self._file)
        if var is not None:
            found = {name: data for name, data in found.items() if name == var.rpartition("/")[2]}
        self._parts = [self._cube(name.partition("_")[0].capitalize(), data) for name, data in found.items()]
        sizes = {part.data.shape[::2] for part in self._parts}
        if len(sizes) != 1 or not any(part.places for part in self._parts):
            raise InputError(f"the cubes of {self.path} differ in size or have no band in use; choose one with --var.")
        bands = [(w, n, k) for n, part in enumerate(self._parts) for k, w in enumerate(part.wavelengths)]
        self._bands = [(n, k) for _, n, k in sorted(bands)]
        rows, cols = sizes.pop()
        self.shape = (len(self._bands), rows, cols)
        self.dtype = np.result_type(*(part.data.dtype for part in self._parts))
        chunks = self._parts[0].data.chunks
        self.block_shape = (1, cols) if chunks is None else (chunks[0], chunks[2])
        crs, transform, notes = self._place(rows, cols)
        of = [self._parts[n] for n, _ in self._bands]
        self.meta = Meta(
            driver="PRISMA",
            dtype=self.dtype.name,
            wavelengths=tuple(self._parts[n].wavelengths[k] for n, k in self._bands),
            fwhm=tuple(self._parts[n].fwhm[k] for n, k in self._bands),
            scales=tuple(part.scale for part in of),
            offsets=tuple(part.offset for part in of),
            crs=crs,
            transform=transform,
            notes=(Aside(f"the bands in use of {' and '.join(found)} were read by wavelength"), *notes),
        )

    def _cube(self, sensor: str, data: h5py.Dataset) -> _Cube:
        """``sensor`` : Vnir or Swir."""
        if data.ndim != 3:
            raise InputError(f"{self.path}: the cube {data.name} has {data.ndim} axes instead of three.")
        known = self._file.attrs
        centres, widths = (np.ravel(known[f"List_{kind}_{sensor}"]).astype(float) for kind in ("Cw", "Fwhm"))
        used = np.ravel(known.get(f"List_Cw_{sensor}_Flags", np.ones(len(centres)))) > 0
        if not len(centres) == len(widths) == len(used) == data.shape[1]:
            raise InputError(f"{self.path}: the cube {data.name} has not the bands that the file lists.")
        places = np.flatnonzero(used & (centres > 0))
        if f"L2Scale{sensor}Max" in known:
            low, high = (float(np.ravel(known[f"L2Scale{sensor}{end}"])[0]) for end in ("Min", "Max"))
            scale, offset = (high - low) / 65535, low
        else:
            scale = 1 / float(np.ravel(known[f"ScaleFactor_{sensor}"])[0])
            offset = -float(np.ravel(known[f"Offset_{sensor}"])[0])
        return _Cube(data, places.tolist(), centres[places].tolist(), widths[places].tolist(), scale, offset)

    def _place(self, rows: int, cols: int) -> tuple[CRS | None, Affine | None, list[str]]:
        """CRS and transform of a map (level 2D); of other levels a note."""
        known = self._file.attrs
        names = [f"Product_{corner}corner_{axis}" for corner in ("UL", "LR") for axis in ("easting", "northing")]
        if "Epsg_Code" not in known or not all(name in known for name in names):
            return None, None, [Aside("the product is no map, so the result has no coordinates")]
        left, top, right, bottom = (float(np.ravel(known[name])[0]) for name in names)
        try:
            crs = CRS.from_epsg(int(np.ravel(known["Epsg_Code"])[0]))
        except (CRSError, ValueError):
            return None, None, ["the EPSG code of the product is not known, so the result has no coordinates"]
        # The corners are centres of pixels in some versions of the processor, outer corners in others.
        for half in (PIXEL / 2, 0.0):
            size = (round((right - left + 2 * half) / PIXEL), round((top - bottom + 2 * half) / PIXEL))
            if size == (cols, rows):
                return crs, Affine(PIXEL, 0, left - half, 0, -PIXEL, top + half), []
        return None, None, ["the corners of the product do not fit its size, so the result has no coordinates"]

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.slices
        out = np.empty((len(bands), window.height, window.width), self.dtype)
        outside = np.ones((window.height, window.width), bool)
        try:
            for n, part in enumerate(self._parts):
                wanted = [(i, part.places[k]) for i, (m, k) in enumerate(self._bands[b] for b in bands) if m == n]
                telling = [part.places[k] for k in (0, len(part.places) // 2, -1)] if part.places else []
                if wanted:
                    places = [place for _, place in wanted]
                    first = min(places)
                    block = part.data[rows, first : max(places) + 1, cols]
                    for i, place in wanted:
                        out[i] = block[:, place - first]
                for place in telling:
                    outside &= part.data[rows, place, cols] == 0
        except OSError as error:
            raise InputError(f"{self.path} is truncated or damaged ({error}).") from None
        return out, ~outside

    def close(self) -> None:
        """Close the file."""
        self._file.close()
