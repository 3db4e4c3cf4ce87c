"""One way into every file: :func:`open_cube`, and the interface of what it returns."""

from __future__ import annotations

import math
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Cube, Meta, Window
from rsunfold.errors import InputError, UsageError
from rsunfold.io.envi import resolve
from rsunfold.io.names import refuse_undecodable

Palette = Literal["colours", "grays", "indices"]
NO_STDIN = "standard input cannot be read as an image; give a file."
PER_BAND = ("wavelengths", "fwhm", "bad_bands", "band_names", "nodata", "scales", "offsets", "units")


class CubeReader(ABC):
    """An open file: what it says about itself, and windowed reads.

    path : as given. meta : of the whole file. shape : (bands, rows, cols). dtype : of the stored samples.
    block_shape : (rows, cols) in which the file is stored; windows aligned to it read fastest.
    bits : significant bits of an integer sample where the file declares fewer than the type has, else None; a 1-bit
    image gives uint8 samples 0 and 1.
    pages : names of the pages of a TIFF that has several, of which this is the first.
    palette : uint8 (entries, 1 gray or 3 colours, and alpha) of an image whose samples are those of its palette.
    """

    path: str
    meta: Meta
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    block_shape: tuple[int, int]
    bits: int | None = None
    pages: tuple[str, ...] = ()
    palette: NDArray[np.uint8] | None = None

    def read(self, window: Window | None = None, bands: Sequence[int] | None = None, scaled: bool = True) -> Cube:
        """Read a window (default: everything) of some bands (zero-based; default: all, in file order).

        The valid mask is made from the stored samples, then scale and offset are applied. A pixel is valid where
        every band that is read is: not nodata, not masked or transparent, finite, and no number beyond any measurement
        (:func:`rsunfold.cube.measured`); so leave out ``meta.bad_bands``, which are often nodata throughout.

        With ``scaled`` and a scale or offset other than 1 and 0, data are physical values, float64 for samples of
        more than 16 bits that are not float32, else float32, and the cube's meta has neither nodata nor scaling any
        more. Otherwise data are the stored samples in native byte order.

        Raises InputError when the file breaks off or is damaged, ValueError for a window or band outside the image.
        """
        window = window or Window(0, 0, *self.shape[1:])
        chosen = self._chosen(window, bands)
        data, valid = self._stored(window, chosen)
        meta, missing = select_bands(self.meta, chosen), self._hidden(window, chosen)
        if data.dtype.kind in "fc" or meta.nodata_values:
            with np.errstate(over="ignore"):  # nodata may be a number that the type of the samples has not
                told = meta.missing(data)
            missing = told if missing is None else missing | told
        if missing is not None:
            missing &= valid
            valid &= ~missing.any(axis=0)
            missing = missing if missing.any() else None
        if scaled and (any(s != 1 for s in meta.scales) or any(o != 0 for o in meta.offsets)):
            physical = np.result_type(data.dtype, np.float32)
            data = data.astype(physical, copy=False)
            data *= np.asarray(meta.scales or 1, dtype=physical).reshape(-1, 1, 1)
            data += np.asarray(meta.offsets or 0, dtype=physical).reshape(-1, 1, 1)
            meta = replace(meta, dtype=physical.name, nodata=(), scales=(), offsets=())
        return Cube(data, valid, meta, missing)

    def _chosen(self, window: Window, bands: Sequence[int] | None) -> list[int]:
        """The numbers of ``bands``; ValueError where these, or ``window``, are not inside the image."""
        count, rows, cols = self.shape
        if bands is not None and any(isinstance(band, bool | np.bool_) for band in bands):
            raise ValueError("bands are zero-based numbers, not a mask; give np.flatnonzero(mask)")
        chosen = list(range(count)) if bands is None else [operator.index(band) for band in bands]
        inside = 0 <= window.row < window.row + window.height <= rows and 0 <= window.col < window.col + window.width
        if not inside or window.col + window.width > cols:
            raise ValueError(f"{window} is empty or not inside an image of {rows} rows and {cols} columns")
        if not chosen or not all(0 <= band < count for band in chosen):
            raise ValueError(f"bands {chosen} are not among 0 .. {count - 1}")
        return chosen

    @property
    def colour(self) -> bool:
        """Whether the bands are red, green and blue, and no others."""
        return self.shape[0] == 3 and self.meta.default_bands == (0, 1, 2)

    def refuse_complex(self) -> None:
        """Raise InputError where the samples are complex."""
        if self.dtype.kind == "c":
            raise InputError(f"{self.path} contains complex samples; write their magnitude to a file first.")

    @abstractmethod
    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Fresh arrays of stored samples (band, row, col) and of the file's own mask of pixels (row, col), without
        nodata."""

    def _hidden(self, window: Window, bands: list[int]) -> NDArray[np.bool_] | None:
        """A fresh array of the samples (band, row, col) that a mask of their own hides, where others of the pixel are
        shown; None where there is no such mask."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; reading afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def describe(self) -> dict[str, Any]:
        """Everything the reader understood, as JSON types; entries that the file does not give are left out."""
        meta, (bands, rows, cols) = self.meta, self.shape
        gcps, gcp_crs = meta.gcps or ([], None)
        entries: dict[str, Any] = {
            "path": self.path,
            "driver": meta.driver,
            "bands": bands,
            "rows": rows,
            "cols": cols,
            "dtype": meta.dtype,
            "bits": self.bits,
            "colour": self.colour or None,
            "default_bands": [band + 1 for band in meta.default_bands],
            "block": list(self.block_shape),
            "wavelengths_nm": list(meta.wavelengths) if meta.wavelengths else None,
            "fwhm_nm": list(meta.fwhm) if meta.fwhm else None,
            "bad_bands": [i + 1 for i, bad in enumerate(meta.bad_bands) if bad],
            "band_names": list(meta.band_names),
            "nodata": _same(meta.nodata),
            "scale": _same(meta.scales),
            "offset": _same(meta.offsets),
            "units": _same(meta.units),
            "crs": str(meta.crs) if meta.crs else None,
            "transform": list(meta.transform)[:6] if meta.transform else None,
            "gcps": len(gcps) or None,
            "gcp_crs": str(gcp_crs) if gcp_crs else None,
            "rpcs": True if meta.rpcs else None,
            "geolocation_arrays": True if meta.geolocated else None,
            "acquired": meta.acquired or None,
            "tags": meta.tags,
            "notes": list(meta.notes),
        }
        return {key: value for key, value in entries.items() if value not in (None, [], {})}


def _same(values: Sequence[Any]) -> Any:
    """One value where all bands agree, else the list; non-finite numbers as text, since JSON has none."""
    plain = [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    return plain[0] if plain and all(v == plain[0] for v in plain) else plain


def select_bands(meta: Meta, bands: Sequence[int]) -> Meta:
    """``meta`` with every per-band field reduced to ``bands`` (zero-based), and without default bands where one of
    them is missing: a GIS would show others in its colour."""
    fields = {name: getattr(meta, name) for name in PER_BAND}
    some: dict[str, Any] = {name: tuple(values[band] for band in bands) for name, values in fields.items() if values}
    chosen, shown = list(bands), meta.default_bands
    shown = tuple(chosen.index(band) for band in shown) if set(shown) <= set(chosen) else ()
    return replace(meta, default_bands=shown, **some)


@contextmanager
def chosen_by(option: str) -> Iterator[None]:
    """Where readers say that ``--var`` chooses a variable, the sentence names ``option`` instead, which does for the
    files of the block."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace("--var ", f"{option} ")) from error


def full_range(reader: CubeReader) -> float:
    """The largest sample that the stored type is meant to hold: 1 for 1-bit, logical and floating-point data, 255 for
    8 bits, 65535 for 16 bits, 4095 where a file declares 12 bits.
    """
    if reader.bits is not None:
        return float(2**reader.bits - 1)
    return float(np.iinfo(reader.dtype).max) if reader.dtype.kind in "iu" else 1.0


def open_cube(path: str | Path, *, var: str | None = None, palette: Palette = "colours") -> CubeReader:
    """Open an image: ENVI (data file or header), GeoTIFF, MAT (v4, v5, v7.3), PNG, JPEG, or whatever GDAL reads.

    ``path`` may also be one of GDAL's own names: ``/vsizip/a.zip/b.tif``, ``/vsicurl/https://...``,
    ``NETCDF:file.nc:name``. ``var`` names a variable of a MAT file (dotted inside structs; elements of cells and
    struct arrays by number, the first is 1) or a subdataset of a container such as NetCDF or HDF5. ``palette`` says
    what the samples of an image with a palette are: the colours or gray values that they stand for, only the "grays" of
    a gray palette, or the "indices" themselves, which are the classes of a class map.

    Raises InputError when the file is missing, empty, truncated (for compressed images only :meth:`CubeReader.read`
    can tell), unreadable, not an image, or when it holds several images and ``var`` does not say which.
    """
    from rsunfold.io.raster import RasterReader

    name = os.fspath(path)
    if not name:
        raise InputError("the name of the image is empty.")
    if name == "-":
        raise UsageError(NO_STDIN)
    refuse_undecodable(name)
    try:
        if name.startswith("/vsi") or (":" in name and not Path(name).exists()):
            return RasterReader(name, name, var, palette)
        file = Path(name)
        if file.is_dir():
            return RasterReader(name, name, var, palette)
        if file.exists() and not file.is_file():
            raise InputError(f"{name} is not a regular file; pipes and devices cannot be read as images.")
        with file.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError as err:
        raise InputError(f"{name} does not exist.") from err
    except OSError as err:
        raise InputError(f"{name} cannot be opened ({err.strerror}).") from err
    if not start:
        raise InputError(f"{name} is empty.")
    if file.suffix.lower() == ".mat" or start.startswith(b"MATLAB"):
        from rsunfold.io.mat import MatReader

        return MatReader(name, var)
    if start.startswith(b"\x89HDF"):
        from rsunfold.io.hdf5 import refuse_damaged
        from rsunfold.io.prisma import PrismaReader, is_prisma

        refuse_damaged(name)
        if is_prisma(name, var):
            return PrismaReader(name, var)
    if file.suffix.lower() == ".hdr":
        return RasterReader(name, str(resolve(file)[0]), var, palette)
    return RasterReader(name, name, var, palette)
