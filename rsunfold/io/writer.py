"""Rasters that appear whole or not at all, with everything that a Meta says carried along."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta, Window
from rsunfold.errors import InputError, OutputError, RsunfoldError, UsageError
from rsunfold.io import envi
from rsunfold.io.atomic import atomic_path, refuse_existing, replace, write_failure
from rsunfold.io.reader import PER_BAND
from rsunfold.io.times import as_tiff_time

ENVI_SUFFIXES = (".hdr", ".img", ".dat", ".bsq")
_OF_CONTAINERS = re.compile(r"^NETCDF_DIM_|#(scale_factor|add_offset|_FillValue|missing_value)$")
"""Tags of NetCDF and HDF5 that are true of the axes and samples in the container alone."""
LONGEST = 1e17
"""Where GDAL writes nodata of whole numbers as powers of ten."""
SIDECARS = (".aux.xml", ".ovr", ".msk")
"""What GDAL and a GIS keep beside a raster, after its whole name: statistics, overviews and a mask."""


def raster_of(path: Path) -> Path:
    """The file of the samples where ``path`` names a raster to be written: ``x.img`` for ``x.hdr``, else itself.

    Raises UsageError for ``x.img.hdr``, which readers take for the header of ``x.img``: ours is called ``x.hdr``.
    """
    if path.suffix.lower() != ".hdr":
        return path
    if Path(path.stem).suffix.lower() in {*envi.DATA_SUFFIXES, *envi.TIFF_SUFFIXES} - {""}:
        raise UsageError(
            f"{path}: a header is written under the name of its raster without the extension; use "
            f"{path.with_suffix('').with_suffix('.hdr')}."
        )
    return path.with_suffix(".img")


def refuse_shared_header(path: Path) -> None:
    """Raise OutputError unless an ENVI data file at ``path`` and its ``.hdr`` will be each other's only partner."""
    header = path.with_suffix(".hdr")
    if not path.parent.is_dir():
        return
    others = [p.name for p in envi.data_files_of(header) if p != path]
    if others:
        raise OutputError(f"{path} would share {header.name} with {others[0]}; choose another name.")
    others = [p.name for p in envi.headers_of(path) if p != header]
    if others:
        raise OutputError(f"{path} would have a second header, {others[0]}; remove it or choose another name.")


def refuse_header_of_tiff(path: Path) -> None:
    """Raise OutputError where an ENVI header beside a TIFF that is to be written would be taken for its own."""
    header = envi.header_of_tiff(path)
    if header is not None:
        raise OutputError(f"{header} would be taken for the header of {path}; remove it or choose another name.")


def the_nodata(path: Path, meta: Meta, dtype: np.dtype[Any]) -> float | None:
    """The one nodata value of a file of ``dtype``; raises UsageError where it cannot be written."""
    import rasterio.dtypes

    values = meta.nodata_values
    if len(values) > 1:
        raise UsageError(f"{path}: a file has a single nodata value, not {', '.join(values)}.")
    value = next(iter(values.values()), None)
    if value is not None and not rasterio.dtypes.in_dtype_range(value, dtype.name):
        raise UsageError(f"{path}: nodata {value:g} is not a {dtype} number.")
    if value is not None and dtype.kind in "iu" and abs(value) >= LONGEST:
        # GDAL writes a power of ten, and reads -9e+18 as -9
        raise UsageError(f"{path}: nodata {value:.0f} has more digits than can be written; choose a shorter one.")
    return value


def refuse_in_envi(path: Path, meta: Meta, rows: int, cols: int) -> None:
    """Raise UsageError where an ENVI header would place an image of rows x cols elsewhere than ``meta`` says.

    GDAL writes such a header without a word, so one of a single pixel is written and read back.
    """
    import rasterio
    from affine import Affine

    from rsunfold.io.raster import RasterReader, gdal

    instead = "write GeoTIFF instead (a name in .tif, without --envi)."
    if meta.gcps:
        _refuse_points(path, meta.gcps, instead)
        return
    if meta.crs is None and meta.transform is None:
        return
    place = {"crs": meta.crs, "transform": meta.transform}
    with gdal(lambda words: write_failure(path, words)), rasterio.MemoryFile(ext=".img") as file:
        with file.open(driver="ENVI", width=1, height=1, count=1, dtype="uint8", **place):
            pass
        with RasterReader(str(path), file.name) as reader:
            held = reader.meta
    for kind in ("is_geographic", "is_projected"):
        if bool(getattr(meta.crs, kind, False)) != bool(getattr(held.crs, kind, False)):
            raise UsageError(f"{path}: an ENVI header cannot hold this CRS; {instead}")
    asked, got = meta.transform or Affine.identity(), held.transform or Affine.identity()
    pixel = min(math.hypot(asked.a, asked.d), math.hypot(asked.b, asked.e))
    if (
        meta.crs
        and held.crs
        and meta.crs != held.crs
        and _displaced(meta.crs, held.crs, asked, (rows, cols), 0.1 * pixel)
    ):
        raise UsageError(f"{path}: an ENVI header cannot hold this CRS; {instead}")
    a, b, c, d, e, f = (asked[i] - got[i] for i in range(6))
    for col, row in ((0, 0), (cols, 0), (0, rows), (cols, rows)):
        if math.hypot(a * col + b * row + c, d * col + e * row + f) > 1e-3 * pixel:
            raise UsageError(
                f"{path}: an ENVI header cannot say that pixels are sheared, mirrored or turned like these; {instead}"
            )


def _survey_feet(crs: Any) -> bool:
    """Whether a CRS or None counts in US survey feet, 2 millionths longer than international ones."""
    return crs is not None and crs.is_projected and 1e-7 < crs.linear_units_factor[1] / 0.3048 - 1 < 1e-5


def _refuse_points(path: Path, given: tuple[Sequence[Any], Any], instead: str) -> None:
    """Raise UsageError where an ENVI header cannot hold ground control points: it has at most four, in degrees."""
    points, crs = given
    if len(points) > 4:
        raise UsageError(
            f"{path}: an ENVI header can hold only four of the {len(points)} ground control points; {instead}"
        )
    if crs is None or crs.to_epsg() != 4326:
        raise UsageError(
            f"{path}: an ENVI header can hold ground control points in WGS 84 longitude and latitude only; {instead}"
        )


def _displaced(crs: Any, other: Any, transform: Any, size: tuple[int, int], tolerance: float) -> bool:
    """Whether ``other`` places points of an image of ``size`` (rows, cols) farther from where ``crs`` does than
    ``tolerance``, in units of ``crs``: a datum, or which mirror of a satellite turns first, may be lost. So too where
    no point can be placed; those off the Earth's disk or beside a map of the globe do not count."""
    from rsunfold.io.warp import WGS84, reaches_wgs84, reprojected

    a, b, c, d, e, f = transform[:6]
    row, col = (steps.ravel() for steps in np.meshgrid(*(np.linspace(0, n, 11) for n in size)))
    x, y = a * col + b * row + c, d * col + e * row + f
    middle = WGS84 if reaches_wgs84(crs) else crs  # no CRS of all bodies is there to meet in
    own, held = (np.array(reprojected(middle, crs, *reprojected(one, middle, x, y))) for one in (crs, other))
    there = (np.hypot(*(own - (x, y))) <= tolerance) & np.isfinite(held[0])
    return not there.any() or bool((np.hypot(*(held - own))[there] > tolerance).any())


def _rpc_info(rpcs: Any) -> str:
    """RPCs as the entry "rpc info" of an ENVI header: offsets, scales, four polynomials, then no offset of a part."""
    names = ("line", "samp", "lat", "long", "height")
    numbers = [getattr(rpcs, f"{name}_{kind}") for kind in ("off", "scale") for name in names]
    for kind in ("line_num", "line_den", "samp_num", "samp_den"):
        numbers += getattr(rpcs, f"{kind}_coeff")
    return "{" + ", ".join(f"{number:.17g}" for number in (*numbers, 0, 0, 1)) + "}"


class RasterWriter:
    """Context manager that writes one GeoTIFF (``.tif .tiff``) or ENVI pair (``.img .dat .bsq``, or ``.hdr`` for
    ``.img`` with it), chosen by the extension of ``path``.

    bands, rows, cols : size. dtype : of the samples, anything that the format stores; bool becomes uint8 0 and 1.
    meta : wavelengths, fwhm, bad bands, names, nodata, scales, offsets, units, tags, time of acquisition, default
    bands, CRS, transform, GCPs and RPCs are written; both formats hold a single nodata value for all bands.

    GeoTIFFs are tiled (256, or 512 where a side exceeds 4096; strips where a side is below 256) and deflated, ENVI is
    band sequential. Write windows aligned to ``block_shape``, such as strips of whole rows: a block that is written in
    parts is compressed several times, which is slow and makes the file larger.

    The file appears under its name when the block ends without an exception; otherwise nothing is left behind.
    Raises UsageError for an extension, dtype or meta that cannot be written, OutputError when a file exists and
    ``overwrite`` is False, when the ENVI header would be shared with another data file, and when the folder or the
    disk does not take the data.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        bands: int,
        rows: int,
        cols: int,
        dtype: Any,
        meta: Meta,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in envi.TIFF_SUFFIXES + ENVI_SUFFIXES:
            known = " ".join(envi.TIFF_SUFFIXES + ENVI_SUFFIXES)
            raise UsageError(f"{path} has an unsupported extension; use one of {known}.")
        self._envi = suffix in ENVI_SUFFIXES
        self.path = raster_of(self.path)
        self.shape = (bands, rows, cols)
        self.dtype = np.dtype(np.uint8) if np.dtype(dtype) == bool else np.dtype(dtype).newbyteorder("=")
        self.meta = meta
        self.overwrite = overwrite
        self.block_shape: tuple[int, int] = (1, cols)
        self._nodata = self._checked()
        self._header = self.path.with_suffix(".hdr")
        self._stack = ExitStack()
        self._ds: Any = None

    def _checked(self) -> float | None:
        """The one nodata value, after checking dtype and meta."""
        import rasterio.dtypes

        known = rasterio.dtypes.check_dtype(self.dtype.name)
        if not known or (self._envi and self.dtype.name == "int8"):
            raise UsageError(f"{self.path}: {'ENVI' if self._envi else 'GeoTIFF'} has no samples of type {self.dtype}.")
        if self._envi:
            refuse_in_envi(self.path, self.meta, *self.shape[1:])
        for name in PER_BAND:
            count = len(getattr(self.meta, name))
            if count not in (0, self.shape[0]):
                raise UsageError(f"{self.path}: {count} {name} were given for {self.shape[0]} bands.")
        return the_nodata(self.path, self.meta, self.dtype)

    def __enter__(self) -> Self:
        import rasterio

        from rsunfold.io.raster import gdal

        refuse_existing(self.path, self.overwrite)
        if self._envi:
            refuse_existing(self._header, self.overwrite)
            refuse_shared_header(self.path)
        with ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(self.path, self.overwrite))
            try:
                with gdal(self._failure):
                    self._ds = rasterio.open(self._temporary, "w", **self._profile())
                    self._write_meta()
                self.block_shape = self._ds.block_shapes[0]
            except BaseException:
                self._discard()
                raise
            self._stack = stack.pop_all()
        return self

    def _failure(self, words: str) -> OutputError:
        return write_failure(self.path, words.replace(self._temporary.name, self.path.name))

    def _profile(self) -> dict[str, Any]:
        from rasterio.crs import CRS

        bands, rows, cols = self.shape
        meta = self.meta
        profile = {"width": cols, "height": rows, "count": bands, "dtype": self.dtype.name, "nodata": self._nodata}
        if meta.gcps:
            profile |= {"gcps": meta.gcps[0], "crs": meta.gcps[1] or CRS()}
        else:
            profile |= {"crs": meta.crs, "transform": meta.transform}
        if self._envi:
            return {"driver": "ENVI", **profile}
        block = 512 if max(rows, cols) > 4096 else 256
        if min(rows, cols) >= block:
            profile |= {"tiled": True, "blockxsize": block, "blockysize": block}
        else:
            # Not more: GDAL makes one strip of over 2000 rows of 8 bits known as strips of one row.
            profile |= {"blockysize": min(rows, 1024, max(1, block * block // cols))}
        if self.dtype.kind in "iuf":
            profile["predictor"] = 3 if self.dtype.kind == "f" else 2
        # photometric: the fourth band of an 8-bit image would become alpha, which masks the data
        return {
            **profile,
            "driver": "GTiff",
            "compress": "deflate",
            "interleave": "band",
            "photometric": "MINISBLACK",
            "BIGTIFF": "IF_SAFER",
        }

    def _write_meta(self) -> None:
        ds, meta = self._ds, self.meta
        entries = envi.carried(meta.tags, meta, self.shape[0])
        if meta.acquired:
            entries.setdefault("acquisition_time", meta.acquired)
        if tags := self._tags(entries):
            ds.update_tags(**tags)
        if not (self._envi and envi.FACTOR in entries):  # a factor says the same, to more programs
            if meta.scales:
                ds.scales = meta.scales
            if meta.offsets:
                ds.offsets = meta.offsets
        if meta.units:
            ds.units = meta.units
        if meta.rpcs:
            ds.rpcs = meta.rpcs
        lists = {"wavelength": meta.wavelengths, "fwhm": meta.fwhm, "bbl": [int(not bad) for bad in meta.bad_bands]}
        lists = {name: values for name, values in lists.items() if values}
        if self._envi:
            ds.update_tags(ns="ENVI", **self._header_entries(lists), **entries)
            # a comma would split a name in two, a brace would end the list
            names = [name.translate(str.maketrans(",{}\n", ";() ")) for name in meta.band_names]
        else:
            if len(set(meta.default_bands)) == 3:  # a band of a TIFF has one colour
                ds.colorinterp = self._colours()
            names = list(meta.band_names)
            for i in range(self.shape[0]):
                self._write_band_tags(i, {name: values[i] for name, values in lists.items()})
        for index, name in enumerate(names, start=1):
            ds.set_band_description(index, name)

    def _tags(self, entries: dict[str, str]) -> dict[str, str]:
        """The tags of the file; ``entries`` of ENVI headers are among those of a TIFF."""
        meta = self.meta
        tags = {k: v for k, v in meta.tags.items() if k not in envi.CARRIED and not _OF_CONTAINERS.search(k)}
        if meta.gcps:  # GDAL would move them by half a pixel while writing and again while reading
            tags.pop("AREA_OR_POINT", None)
        if not self._envi:
            tags |= entries
            if time := as_tiff_time(meta.acquired):
                tags.setdefault("TIFFTAG_DATETIME", time)
        return tags

    def _header_entries(self, lists: dict[str, Sequence[Any]]) -> dict[str, str]:
        """What the writer, not GDAL, puts into an ENVI header: ``lists`` of one entry per band, default bands, RPCs."""
        meta = self.meta
        texts = {name: "{" + ", ".join(str(v) for v in values) + "}" for name, values in lists.items()}
        if meta.wavelengths or meta.fwhm:
            texts["wavelength_units"] = "Nanometers"
        if meta.default_bands:
            texts["default_bands"] = "{" + ", ".join(str(band + 1) for band in meta.default_bands) + "}"
        if meta.rpcs:
            texts["rpc_info"] = _rpc_info(meta.rpcs)
        return texts

    def _colours(self) -> list[Any]:
        """GDAL's colour interpretation of each band."""
        from rasterio.enums import ColorInterp

        from rsunfold.io.raster import RGB

        colours = dict(zip(self.meta.default_bands, RGB, strict=True))
        return [colours.get(band, ColorInterp.undefined) for band in range(self.shape[0])]

    def _write_band_tags(self, i: int, values: dict[str, Any]) -> None:
        """Spectral entries of band ``i`` (zero-based), as QGIS and EnMAP-Box look for them and as GDAL does."""
        tags = {name: str(value) for name, value in values.items()}
        if "wavelength" in tags or "fwhm" in tags:
            tags["wavelength_units"] = "Nanometers"
        if tags:
            self._ds.update_tags(i + 1, **tags)
        keys = {"wavelength": "CENTRAL_WAVELENGTH_UM", "fwhm": "FWHM_UM"}
        imagery = {keys[name]: f"{value / 1e3:.9g}" for name, value in values.items() if name in keys}
        if imagery:
            self._ds.update_tags(i + 1, ns="IMAGERY", **imagery)

    def write(self, data: NDArray[Any], window: Window | None = None) -> None:
        """Write ``data`` (band, row, col), all bands of ``window`` (default: the whole image).

        Raises ValueError when the shape does not fit, or when the samples would not fit the file's dtype.
        """
        import rasterio.windows

        from rsunfold.io.raster import gdal

        bands, rows, cols = self.shape
        window = window or Window(0, 0, rows, cols)
        if data.shape != (bands, window.height, window.width):
            raise ValueError(f"data of shape {data.shape} do not fill {bands} bands of {window}")
        if min(window.row, window.col) < 0 or window.row + window.height > rows or window.col + window.width > cols:
            raise ValueError(f"{window} is not inside an image of {rows} rows and {cols} columns")
        if not np.can_cast(data.dtype, self.dtype, "safe"):
            raise ValueError(f"samples of {data.dtype} do not fit a file of {self.dtype}; convert them first")
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        with gdal(self._failure):
            self._ds.write(data.astype(self.dtype, copy=False), window=where)

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if err is not None:
                self._discard()
                self._stack.__exit__(kind, err, tb)
                return
            with self._stack:
                self._finish()
            for temporary, final in self._companions():
                if temporary.exists():
                    replace(temporary, final)
        finally:
            self._discard()

    def _finish(self) -> None:
        """Close and verify the temporary files, and take old companions away: no moment pairs them with new data."""
        from rsunfold.io.raster import RasterReader, gdal

        with gdal(self._failure):
            self._ds.close()
        # GDAL does not report what fails while it closes a file
        if self._envi:
            try:
                with RasterReader(str(self.path), str(self._temporary)) as reader:
                    whole = (reader.shape, reader.dtype) == (self.shape, self.dtype)
                    whole &= len(reader.meta.wavelengths) == len(self.meta.wavelengths)
            except InputError as err:
                raise self._failure(str(err)) from err
            header = self._temporary.with_suffix(".hdr")
            text = header.read_text("utf-8").replace(str(self._temporary), self.path.name)
            if not self.meta.band_names:  # GDAL numbers them, which says nothing, or of a selection what is not true
                text = re.sub(r"band names = \{[^}]*\}\n", "", text)
            if _survey_feet(self.meta.crs):  # GDAL reads its own "Feet" as international ones, metres away
                text = text.replace(", units=Feet", "", 1)
            header.write_text(text, "utf-8")
        else:
            whole = self._blocks_whole()
        if not whole:
            raise self._failure("parts of it are missing")
        for _, old in self._companions():
            old.unlink(missing_ok=True)

    def _blocks_whole(self) -> bool:
        """Whether every block of the temporary GeoTIFF lies inside the file."""
        import rasterio

        from rsunfold.io.raster import gdal

        size = self._temporary.stat().st_size
        with gdal(self._failure), rasterio.open(self._temporary) as ds:
            for band in ds.indexes:
                for (row, col), _ in ds.block_windows(band):
                    places = (f"BLOCK_OFFSET_{col}_{row}", f"BLOCK_SIZE_{col}_{row}")
                    offset, length = (ds.get_tag_item(place, "TIFF", bidx=band) for place in places)
                    if offset is None or length is None or int(offset) + int(length) > size:
                        return False
        return True

    def _companions(self) -> list[tuple[Path, Path]]:
        """(temporary, final) paths of the files beside the data: GDAL's SIDECARS, and the ENVI header."""
        pairs = [
            (self._temporary.with_name(self._temporary.name + end), self.path.with_name(self.path.name + end))
            for end in SIDECARS
        ]
        if self._envi:
            pairs.append((self._temporary.with_suffix(".hdr"), self._header))
        return pairs

    def _discard(self) -> None:
        """Close the dataset if it is still open, and remove what is left of the temporary companions."""
        from rsunfold.io.raster import gdal

        if self._ds is not None:
            with suppress(RsunfoldError), gdal(self._failure):
                self._ds.close()
        for temporary, _ in self._companions():
            temporary.unlink(missing_ok=True)
