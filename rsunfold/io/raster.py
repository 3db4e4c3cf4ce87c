"""Everything that GDAL opens: GeoTIFF, ENVI, PNG and the like, NetCDF and HDF5 subdatasets, ``/vsi`` paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
import rasterio.windows
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import xy

from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError, RsunfoldError
from rsunfold.io import dlr, envi, orientation
from rsunfold.io.bands import spectral_fields, split_list
from rsunfold.io.reader import CubeReader, Palette
from rsunfold.io.times import acquired_of
from rsunfold.quiet import silenced

PLACES = 16
"""Rows that tell whether the samples of an ENVI file are plausible."""
SPECTRAL = ("wavelength", "fwhm", "bbl")
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_WAVELENGTH_AXIS = re.compile(r"netcdf_dim_(wavelengths?|wl|lambda)$")
_SPATIAL = {"x", "y", "lat", "lon", "latitude", "longitude", "row", "rows", "line", "lines", "col", "cols", "column"}
_SPATIAL |= {"columns", "sample", "samples", "downtrack", "crosstrack", "easting", "northing"}
"""Names of NetCDF dimensions that are no bands."""
_OF_PRISMA = re.compile(r"SWATHS/PRS_L\w+_H\w+/+Data.Fields/\w+(?:_Cube|_MATRIX)")
_ARCHIVES = {".zip": "vsizip", ".tar": "vsitar", ".tgz": "vsitar", ".tar.gz": "vsitar"}
_ALONE = {"HDF5Image": 'HDF5:"{}"://{}', "netCDF": 'NETCDF:"{}":{}'}
"""Names of variables of a file, by GDAL's driver."""
_IN_HDF5 = re.compile(r'(?i:HDF5|NETCDF):(?:"[^"]*"|[^"].*?):/*(.+)')
_OF_HDF5 = {"netCDF", "HDF5", "HDF5Image", "BAG", "KEA", "S102", "S104", "S111"}
_WHOLE = frozenset(
    re.findall(
        r"\w+",
        """AAIGrid ACE2 AIG AVIF AirSAR BAG BASISU BIGGIF BLX BMP BSB BT BYN CALS CEOS COASP COSAR CPG CTG CTable2 DDS
    DIPEx DOQ1 DOQ2 DTED ECW EHdr ELAS ENVI ESAT EXR FIT FITS GFF GIF GPKG GRASSASCIIGrid GRIB GS7BG GSAG GSBG GSC GTX
    GTiff GXF GenBin HDF5 HDF5Image HEIF HF2 HFA IRIS ISCE ISG JAXAPALSAR JDEM JP2ECW JP2KAK JP2Lura JP2MrSID
    JP2OpenJPEG JPEG JPEGLS JPEGXL KEA KRO KTX2 L1B LAN LCP LIBERTIFF LOSLAS Leveller MBTiles MFF MSGN MrSID NGSGEOID
    NITF NOAA_B NSIDCbin NTv2 NWT_GRC NWT_GRD OZI PAux PCRaster PDF PNG PNM R RIK RMF ROI_PAC RRASTER RST Rasterlite
    S102 S104 S111 SAGA SAR_CEOS SGI SIGDEM SNAP_TIFF SRTMHGT TGA Terragen USGSDEM WEBP XPM XYZ ZMap netCDF""",
    )
)
"""Drivers of files that hold their samples, or have them beside them under their own name: they may be called anything.
What is in neither table is not read."""
_ANYWHERE = {
    "VRT": (".vrt",),
    "GTI": (".gti", ".gti.gpkg", ".gti.fgb", ".gti.parquet"),
    "WMS": (".xml", ".wms"),
    "WMTS": (".xml", ".wmts"),
    "WCS": (".xml", ".wcs"),
    "STACIT": (".json", ".geojson"),
    "STACTA": (".json",),
    "MRF": (".mrf",),
    "KMLSUPEROVERLAY": (".kml", ".kmz"),
    "SENTINEL2": (".xml", ".zip"),
}
"""Drivers of files that are made of others, be these in other folders or on a server, with the extensions of these."""
_REFERRING = _ANYWHERE | {
    "ADRG": (".gen", ".thf"),
    "DIMAP": (".xml", ".dim"),
    "ECRGTOC": (".xml",),
    "EIR": (".raw", ".hdr"),
    "ERS": (".ers",),
    "ESRIC": (".json", ".tpkx"),
    "FAST": (".fst", ".dat"),
    "HDF4": (".hdf", ".hdf4", ".h4", ".he4"),
    "ILWIS": (".mpr", ".mpl"),
    "ISIS2": (".cub", ".lbl", ".qub"),
    "ISIS3": (".cub", ".lbl"),
    "MAP": (".map",),
    "NDF": (".h1", ".h2", ".h3", ".hd"),
    "PCIDSK": (".pix",),
    "PDS": (".img", ".lbl", ".dat", ".qub"),
    "PDS4": (".xml", ".lblx"),
    "PRF": (".prf", ".x-dem"),
    "RPFTOC": (".toc",),
    "RS2": (".xml",),
    "SAFE": (".safe", ".xml"),
    "SDTS": (".ddf",),
    "SNODAS": (".hdr",),
    "SRP": (".img", ".gen", ".thf"),
    "TIL": (".til",),
    "TSX": (".xml",),
    "VICAR": (".vic", ".vicar", ".img", ".lbl"),
    "Zarr": (".zarray", ".zgroup", ".zmetadata", "zarr.json"),
}
"""Drivers of files that say in which other file the samples are, with the extensions of these. GDAL knows them by their
content, so that any of them called ``.png`` would be followed wherever it leads."""
_FILE_ELSEWHERE = re.compile(r"/vsi|(?!vrt:)[a-z\d+]+://", re.IGNORECASE)
"""How names begin of files in archives and on servers; what else is no file, such as ``HDF5:...``, names its driver."""
T = TypeVar("T")


@contextmanager
def gdal(failure: Callable[[str], RsunfoldError]) -> Iterator[None]:
    """Run GDAL calls quietly; what GDAL raises becomes ``failure(GDAL's own words)``."""
    # GDAL's fast path for 8-bit PNG fills a truncated file with zeros; libpng, row by row, reports it
    with silenced(NotGeoreferencedWarning), rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"):
        try:
            yield
        except (RasterioError, CPLE_BaseError, SystemError) as err:
            words = str(err.__cause__ or err).strip().splitlines() or [type(err).__name__]
            raise failure(words[0].rstrip(".")) from err


def gcps_place(points: Sequence[GroundControlPoint]) -> bool:
    """Whether ground control points say where every pixel lies: three at least, on lines enough for a polynomial."""
    try:
        with gdal(InputError):
            xy(points, [0], [0])
    except InputError:
        return False
    return len(points) > 2


class RasterReader(CubeReader):
    """One GDAL dataset. ``path`` is the name for messages, ``source`` what GDAL opens."""

    def __init__(self, path: str, source: str, var: str | None = None, palette: Palette = "colours") -> None:
        self.path = path
        self._shown = palette
        self._notes: list[str] = []
        # GDAL fills truncated ENVI data with zeros; so it refuses them below half their size, for other files see below
        check = "NO" if envi.size_of(source) else "YES"
        is_file = Path(source).is_file() or _FILE_ELSEWHERE.match(source) is not None
        with gdal(lambda words: _not_opened(path, source, words)), rasterio.Env(RAW_CHECK_FILE_SIZE=check):
            self._ds = DatasetReader(source, driver=_drivers_for(source)) if is_file else rasterio.open(source)
        try:
            with gdal(self._damaged):
                self._describe_dataset(source, var)
        except BaseException:
            self._ds.close()
            raise

    def _damaged(self, words: str) -> InputError:
        return InputError(f"{self.path} is truncated or damaged ({words}).")

    def _describe_dataset(self, source: str, var: str | None) -> None:
        self._choose_part(source, var)
        self._keep_the_order_of_rows()
        ds = self._ds
        axis = ds.tags().get("NETCDF_DIM_EXTRA", "").strip("{}")
        if axis.lower() in _SPATIAL:
            raise InputError(
                f"{self.path} has {axis} as its first axis, where the bands have to be: write it with the axes (bands, "
                "rows, columns)."
            )
        types = {"complex_int16": "complex64"}
        self.dtype = np.result_type(*(types.get(name, name) for name in ds.dtypes))
        self._indexes = self._without_alpha()
        nbits = ds.tags(self._indexes[0], ns="IMAGE_STRUCTURE").get("NBITS")
        self.bits = int(nbits) if nbits else None
        structure = ds.tags(ns="IMAGE_STRUCTURE")
        # GDAL makes them known by a palette of 8 bits.
        wide = structure.get("MINISWHITE") == "YES" and self.dtype.kind == "u" and self.dtype.itemsize > 1
        self._white = 2 ** (self.bits or 8 * self.dtype.itemsize) - 1 if wide and self._shown == "colours" else None
        self.palette = self._palette()
        if self.palette is not None:
            self.bits, self.dtype = None, self.palette.dtype
        bands = len(self._indexes) if self.palette is None else self.palette.shape[1] - 1
        self.shape = (bands, ds.height, ds.width)
        self.block_shape = ds.block_shapes[0]
        header = self._envi_header(source) if ds.driver == "ENVI" else None
        self._beside = None
        if ds.driver == "GTiff" and self.palette is None and Path(source).is_file():
            self._beside, notes = envi.beside_tiff(Path(source), *self.shape)
            self._beside = self._beside or dlr.header_of(Path(source), bands)
            self._notes += notes
        fields, nodata = self._fields(header)
        self._nodata = dict(zip(self._indexes, nodata, strict=True))
        self.meta = self._make_meta(header, fields)

    def _choose_part(self, source: str, var: str | None) -> None:
        """Open the variable or page to be read, where a file has several, and refuse what leads elsewhere."""
        _refuse_parts_of_prisma(source)
        made_of_others = self._ds.driver in _ANYWHERE or not Path(source).is_file()
        if not made_of_others:
            self._refuse_outside(Path(source).parent)
        self._refuse_foreign(var or _path_in_hdf5(source))
        if self._ds.count == 0 or var is not None:
            self._open_subdataset(var)
            if not made_of_others:
                self._refuse_outside(Path(source).parent)
            self._refuse_foreign(_path_in_hdf5(self._ds.name))
        elif self._ds.driver == "GTiff" and len(pages := _parts_of(self._ds)) > 1:
            self.pages = tuple(sorted(pages, key=lambda name: int(name.split(":")[1])))  # rasterio sorts texts
            others = f"--var 2 reads the second, GTIFF_DIR:2:{self.path} is an input of its own"
            others += ", and detect-ir --band all makes an image of each"
            self._notes.append(f"only the first of {len(pages)} pages was read; {others}")

    def _without_alpha(self) -> list[int]:
        """GDAL's numbers, from 1, of the bands that are not alpha."""
        ds = self._ds
        colours = dict(zip(ds.indexes, ds.colorinterp, strict=True))
        indexes = [index for index, colour in colours.items() if colour != ColorInterp.alpha]
        if not indexes:
            raise InputError(f"{self.path} contains only an alpha band.")
        if len(indexes) < ds.count:
            last = indexes == list(range(1, len(indexes) + 1))
            numbers = "" if last else "; the bands are numbered without it"
            self._notes.append(Aside(f"the alpha band became the valid mask: transparent pixels are invalid{numbers}"))
        return indexes

    def _refuse_outside(self, folder: Path) -> None:
        """Raise InputError where samples, or what belongs to them, lie outside of the folder of the image. Links in the
        folder are what its owner has put there, and a grid of Esri is its folder, with what lies beside that."""
        inside = folder.resolve()
        inside = inside.parent if self._ds.driver == "AIG" else inside
        for name in self._ds.files:
            if name.startswith("/vsi") or not Path(name).parent.resolve().is_relative_to(inside):
                raise InputError(
                    f"{self.path} refers to {name}, which is outside of its folder and is not read: copy it into the "
                    "folder and let the image name it there, or use a VRT."
                )

    def _refuse_foreign(self, dataset: str | None) -> None:
        """Raise InputError where a dataset of an HDF5 file lies in another file, or where none is named and only
        one is listed, since one that does may be missing."""
        if self._ds.driver in _OF_HDF5 and self._ds.files and (dataset or len(_parts_of(self._ds)) < 2):
            from rsunfold.io import hdf5

            hdf5.refuse_foreign(self._ds.files[0], dataset)

    def _open_subdataset(self, var: str | None) -> None:
        names = _short_names(_parts_of(self._ds))
        listed = ", ".join(names.values()) or "none"
        alone = _ALONE.get(self._ds.driver)
        if var is not None and not names and alone is not None:  # GDAL opens a single variable without its name
            name = alone.format(self._ds.name, var.strip("/"))
            self._ds.close()
            with gdal(
                lambda words: InputError(f"{self.path} has no variable {var!r}; it has a single one, leave it out.")
            ):
                self._ds = rasterio.open(name)
            return
        wanted = [name for name, short in names.items() if var in (None, short, name)]
        if not wanted:  # a longer or an ambiguous end of their paths
            wanted = [name for name in names if re.search(rf"[:/]{re.escape(var or '')}$", name)]
        if var is not None and not wanted:
            raise InputError(f"{self.path} has no variable {var!r}; its variables: {listed}.")
        if not names:
            raise InputError(f"{self.path} contains no image.")
        if len(wanted) > 1:
            raise InputError(f"{self.path} contains several images ({listed}); choose one with --var NAME.")
        if var is None:
            self._notes.append(Aside(f"the only variable, {names[wanted[0]]}, was read"))
        self._ds.close()
        _refuse_parts_of_prisma(wanted[0])
        with gdal(lambda words: InputError(f"{self.path} cannot be read ({words}).")):
            self._ds = rasterio.open(wanted[0])

    def _keep_the_order_of_rows(self) -> None:
        """Open a swath of NetCDF anew, as it is stored: GDAL takes a file without coordinates of its rows to begin with
        the last one, as those that GDAL wrote do; the look-up tables and coordinates of swaths count from the first."""
        ds = self._ds
        placed = not ds.transform.is_identity or ds.gcps[0]
        if ds.driver != "netCDF" or placed or "NC_GLOBAL#GDAL" in self._readable(ds.tags, {}):
            return
        name = ds.name
        ds.close()
        unread = InputError(f"{self.path} cannot be read as it is stored.")
        with gdal(lambda _: unread), rasterio.Env(GDAL_NETCDF_BOTTOMUP="NO"):
            self._ds = rasterio.open(name)
        self._notes.append(
            Aside("rows are in the order of the file; GDAL and QGIS show NetCDF files without coordinates upside down")
        )

    def _palette(self) -> NDArray[np.uint8] | None:
        """The colour table as (entries, 1 gray or 3 colours, and alpha), or None where there is none to apply."""
        ds = self._ds
        if len(self._indexes) != 1 or ds.colorinterp[0] != ColorInterp.palette or self._shown == "indices":
            return None
        if self._white is not None:
            self._notes.append(Aside("0 is white in the file, so its samples were inverted"))
            return None
        table = ds.colormap(1)
        if not table:
            return None
        lut = np.zeros((max(table) + 1, 4), np.uint8)
        for index, colour in table.items():
            lut[index] = colour
        coloured = bool(np.any(lut[:, :1] != lut[:, 1:3]))
        if coloured and self._shown == "grays":
            return None
        if coloured:
            self._notes.append(Aside("the palette was expanded to red, green and blue"))
            return lut
        if np.any(lut[:, 0] != np.arange(len(lut))):
            self._notes.append(Aside("the gray palette was expanded to gray values"))
        return lut[:, [0, 3]]

    def _envi_header(self, source: str) -> dict[str, str]:
        """The header's entries, of this dataset's own header file where it is a local one; checked for layout."""
        ds = self._ds
        data: str | Path
        if Path(source).is_file():
            data, path = envi.resolve(Path(source))
            envi.refuse_contradictions(path)
            header, name = envi.read_header(path), path.name
        else:
            data, header = source, envi.normalised(self._readable(lambda: ds.tags(ns="ENVI"), {}))
            name = "its header"
        shape = ds.count, ds.height, ds.width
        envi.check_layout(self.path, header, shape)
        self._notes += envi.check_size(self.path, header, shape, self.dtype.itemsize, data)
        if self.dtype.kind == "f":
            envi.refuse_implausible(self.path, header, name, self._some_rows())
        return header

    def _some_rows(self) -> NDArray[Any]:
        """Rows of single bands (1, n, cols) that stand for the samples, in the order of a BSQ file: what is compressed
        is read once."""
        count, rows, cols = self.shape
        places = zip(*(np.linspace(0, n - 1, PLACES).astype(int).tolist() for n in (count, rows)), strict=True)
        windows = [(self._indexes[band], Window(row, 0, 1, cols)) for band, row in dict.fromkeys(places)]
        return np.concatenate([self._alike([index], window) for index, window in windows], axis=1)

    def _readable(self, get: Callable[[], T], default: T) -> T:
        """Text from the dataset, or ``default`` and a note where it is not UTF-8."""
        try:
            return get()
        except UnicodeDecodeError:
            self._notes.append("some text in the file is not valid UTF-8 and was ignored")
            return default

    def _fields(self, header: dict[str, str] | None) -> tuple[dict[str, Any], tuple[float | None, ...]]:
        """(fields of Meta: nodata, scales, offsets, names and units of the bands; nodata of the bands as stored)."""
        bands = self.shape[0]
        fields: dict[str, Any] = {}
        nodata: tuple[float | None, ...] = tuple(self._ds.nodatavals[index - 1] for index in self._indexes)
        if header is not None:
            nodata = self._ignored_by(header)
            fields = self._scaling_of(header)
            listed = split_list(header.get("band_names"))
            if len(listed) not in (0, bands):
                self._notes.append(f"band names lists {len(listed)} names for {bands} bands and was ignored")
            fields["band_names"] = tuple(listed) if len(listed) == bands else ()
        elif self.palette is None:
            fields = self._fields_of_tags()
        if self._white is not None:
            nodata = tuple(None if value is None else self._white - value for value in nodata)
        if self._beside is not None:  # says what the tags of the TIFF do not
            if set(nodata) == {None}:
                nodata = self._ignored_by(self._beside)
            if not {"scales", "offsets"} & fields.keys():
                fields |= self._scaling_of(self._beside)
            listed = split_list(self._beside.get("band_names"))
            if "band_names" not in fields and len(listed) == bands:
                fields["band_names"] = tuple(listed)
        if self.palette is None and set(nodata) != {None}:
            fields["nodata"] = nodata
        return fields, nodata

    def _ignored_by(self, header: dict[str, str]) -> tuple[float | None, ...]:
        value, notes = envi.ignore_value(header, self.dtype)
        self._notes += notes
        return (value,) * len(self._indexes)

    def _scaling_of(self, header: dict[str, str]) -> dict[str, Any]:
        scales, offsets, notes = envi.scaling(header, self.shape[0])
        self._notes += notes
        return {"scales": scales, "offsets": offsets}

    def _fields_of_tags(self) -> dict[str, Any]:
        """Scales, offsets, names and units of the bands that GDAL gives, where they say something."""
        ds, nothing = self._ds, (None,) * self._ds.count
        names: tuple[str | None, ...] = self._readable(lambda: ds.descriptions, nothing)
        units: tuple[str | None, ...] = self._readable(lambda: ds.units, nothing)
        given = {
            "scales": (ds.scales, 1),
            "offsets": (ds.offsets, 0),
            "band_names": ([name or "" for name in names], ""),
            "units": ([unit or "" for unit in units], ""),
        }
        fields = {key: tuple(values[i - 1] for i in self._indexes) for key, (values, _) in given.items()}
        return {key: values for key, values in fields.items() if set(values) != {given[key][1]}}

    def _place(self, header: dict[str, str] | None) -> dict[str, Any]:
        """Fields of Meta that say where the pixels lie, in one way where the file says two: crs, transform, gcps,
        geolocated."""
        ds = self._ds
        gcps, gcp_crs = ds.gcps
        if header is not None and "geo_points" in header:
            gcp_crs = gcp_crs or CRS.from_epsg(4326)  # what they are in by definition, which GDAL does not say
        if gcps and not gcps_place(gcps):
            self._notes.append(
                "the ground control points do not place the image: they are too few, or on too few lines"
            )
        crs = None if header is not None and envi.is_arbitrary(header) else ds.crs or None
        if header is not None and crs is not None:
            crs = _with_its_feet(crs, header)
        transform = (header is not None and envi.rotated(header)) or ds.transform
        if gcps and not transform.is_identity:  # GDAL takes one of the two for some files, the other for others
            if crs or not gcp_crs:
                gcps = []
                self._notes.append("the image has a geotransform, so its ground control points were ignored")
            else:
                transform = Affine.identity()
                self._notes.append("the image has ground control points with a CRS, so its geotransform was ignored")
        placed = bool(gcps) or not transform.is_identity
        geolocated = not placed and bool(self._readable(lambda: ds.tags(ns="GEOLOCATION"), {}))
        if geolocated:
            self._notes.append(
                "the image is placed by arrays of coordinates (geolocation), which are not used: positions are in "
                "pixels"
            )
        return {
            "crs": crs,
            "transform": None if transform.is_identity and not crs else transform,
            "gcps": (gcps, gcp_crs) if gcps else None,
            "geolocated": geolocated,
        }

    def _make_meta(self, header: dict[str, str] | None, fields: Mapping[str, Any]) -> Meta:
        """What the file says; ``fields`` of its bands, see :meth:`_fields`."""
        ds, bands = self._ds, self.shape[0]
        spectral, notes = spectral_fields(bands, **self._spectral_texts(header))
        self._notes += notes
        place = self._place(header)
        tags: dict[str, str] = self._readable(ds.tags, {})
        if not place["transform"] and (turned := orientation.orientation_note(self._orientation(tags))):
            self._notes.append(turned)
        if header is not None:
            tags |= {key: header[key] for key in envi.CARRIED if header.get(key)}
        times = [tags, self._readable(lambda: ds.tags(ns="IMAGERY"), {}), header or self._beside or {}]
        return Meta(
            driver=ds.driver,
            dtype=self.dtype.name,
            acquired=acquired_of({key: text for some in times for key, text in some.items()}),
            default_bands=self._default_bands(header),
            rpcs=ds.rpcs,
            # what GDAL derives from an ENVI header is in the fields already
            tags={k: v for k, v in tags.items() if not re.fullmatch(r"Band_\d+|wavelength_units", k)},
            notes=tuple(dict.fromkeys(self._notes)),
            **place,
            **fields,
            **spectral,
        )

    def _orientation(self, tags: Mapping[str, str]) -> int:
        """The tag Orientation: of a JPEG among the ``tags``, which GeoTIFFs that are made of one inherit without
        effect; of a TIFF, for which GDAL does not tell it, in the file."""
        if self._ds.driver == "JPEG":
            text = tags.get("EXIF_Orientation", "")
            return int(text) if text.isdecimal() else 1
        if self._ds.driver != "GTiff":
            return 1
        page = re.fullmatch(r"GTIFF_DIR:(\d+):(.*)", self._ds.name)
        return orientation.of_tiff(Path(page[2]), int(page[1])) if page else orientation.of_tiff(Path(self._ds.name))

    def _default_bands(self, header: dict[str, str] | None) -> tuple[int, ...]:
        """See :class:`Meta`. A gray band counts in ENVI only: the first of a TIFF always is one for GDAL."""
        bands = self.shape[0]
        if self.palette is not None:
            return (0, 1, 2) if bands == 3 else ()
        listed = envi.default_bands(header or self._beside or {}, bands)
        if header is not None and listed:
            return listed
        colours = [self._ds.colorinterp[index - 1] for index in self._indexes]
        if all(colours.count(colour) == 1 for colour in RGB):
            return tuple(map(colours.index, RGB))
        return listed

    def _spectral_texts(self, header: dict[str, str] | None) -> dict[str, Any]:
        """Arguments for ``spectral_fields``, from the ENVI header or namespace, else band tags, else what lies
        beside the samples, else IMAGERY."""
        ds = self._ds
        texts = header or envi.normalised(self._readable(lambda: ds.tags(ns="ENVI"), {}))
        found: dict[str, Any] = {key: split_list(texts.get(key)) for key in SPECTRAL}
        if any(found.values()):
            return {**found, "units": texts.get("wavelength_units", "")}
        if header is not None or self.palette is not None:
            return {}
        found = self._of_band_tags()
        beside, where = self._beside, "what lies beside the TIFF, an ENVI header or the metadata of the product"
        arrays = ds.driver in ("netCDF", "HDF5", "HDF5Image") and len(self._indexes) > 1
        if arrays and ds.files and not all(map(found.get, SPECTRAL)):
            from rsunfold.io import hdf5

            beside, where = hdf5.header_of(ds.files[0], len(self._indexes)), "other arrays of the file"
        if found:
            if beside is not None and _same_numbers(found["wavelength"], split_list(beside.get("wavelength"))):
                found |= {key: split_list(beside.get(key)) for key in ("fwhm", "bbl") if not found[key]}
            return found
        found = {} if beside is None else self._spectral_texts(beside)
        if found.get("wavelength"):
            self._notes.append(Aside(f"wavelengths were taken from {where}"))
            return found
        imagery = [ds.tags(i, ns="IMAGERY") for i in self._indexes]
        keys = {"wavelength": "CENTRAL_WAVELENGTH_UM", "fwhm": "FWHM_UM"}
        own = {k: [band[name] for band in imagery if name in band] for k, name in keys.items()}
        return {**own, "bbl": found.get("bbl", []), "units": "um"} if any(own.values()) else found

    def _of_band_tags(self) -> dict[str, Any]:
        """Arguments for ``spectral_fields``, from the tags of the bands; empty where these say nothing."""
        ds = self._ds
        tags: list[dict[str, str]] = self._readable(lambda: [ds.tags(i) for i in self._indexes], [{}])
        lowered = [{_band_key(key): value for key, value in entries.items()} for entries in tags]
        found = {k: self._of_bands([band[k] for band in lowered if k in band]) for k in SPECTRAL}
        if not any(found.values()):
            return {}
        of_axis = self._units_of_axis(tags[0])
        return {**found, "units": [band.get("wavelength_units", of_axis) for band in lowered]}

    def _units_of_axis(self, tags: dict[str, str]) -> str:
        """The units of the NetCDF axis of wavelengths, which the tags of a band name; empty for none."""
        names = (m[1] for m in map(_WAVELENGTH_AXIS.match, map(str.lower, tags)) if m)
        axis = f"{next(names, None)}#units"
        own: dict[str, str] = self._readable(self._ds.tags, {})
        return {key.lower().rpartition("/")[2]: unit for key, unit in own.items()}.get(axis, "")

    def _of_bands(self, texts: list[str]) -> list[str]:
        """What the tags of the bands say. GDAL gives each band of a NetCDF variable its attributes, and so lists of all
        bands, "{1, 2, 3}", too."""
        if not texts or not texts[0].startswith("{"):
            return texts
        listed = split_list(texts[0])
        if len(set(texts)) > 1 or len(listed) != self._ds.count:
            return []
        return [listed[index - 1] for index in self._indexes]

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        ds = self._ds
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        indexes = [self._indexes[band] for band in bands] if self.palette is None else self._indexes
        valid = np.ones((window.height, window.width), dtype=bool)
        with gdal(self._damaged):
            if len({ds.dtypes[index - 1] for index in indexes}) == 1:
                data = self._alike(indexes, window)
            else:  # rasterio reads bands of different types one by one only
                data = np.stack([ds.read(index, window=where, out_dtype=self.dtype) for index in indexes])
            for index in self._masked(indexes):
                valid &= ds.read_masks(index, window=where) > 0
            for index in set(ds.indexes) - set(self._indexes):
                valid &= ds.read(index, window=where) > 0
        if self._white is not None:
            data = self.dtype.type(self._white) - data
        if self.palette is not None:
            value = self._nodata[indexes[0]]
            if value is not None:
                valid &= data[0] != value
            if data.max() >= len(self.palette):
                raise InputError(f"{self.path} is damaged: it has samples that its palette does not list.")
            pixels = self.palette[data[0]]
            valid &= pixels[..., -1] > 0
            data = np.ascontiguousarray(np.moveaxis(pixels[..., bands], -1, 0))
        return data, valid

    def _alike(self, indexes: list[int], window: Window) -> NDArray[Any]:
        """Samples as stored of bands of one type. Blocks that hold all bands are read one after the other: across
        several, GDAL would decompress all of them for each band."""
        ds = self._ds
        kind = ds.dtypes[indexes[0] - 1] if self.palette is not None else self.dtype
        data = np.empty((len(indexes), window.height, window.width), kind)
        apart = len(indexes) > 1 and ds.interleaving == Interleaving.pixel
        width = self.block_shape[1] if apart else ds.width
        for edge in range(window.col // width * width, window.col + window.width, width):
            first, last = max(edge, window.col), min(edge + width, window.col + window.width)
            where = rasterio.windows.Window(first, window.row, last - first, window.height)
            data[:, :, first - window.col : last - window.col] = ds.read(indexes, window=where, out_dtype=kind)
        return data

    def _masked(self, indexes: list[int]) -> list[int]:
        """The bands whose GDAL masks hide whole pixels: one for a mask that all share, or that of a palette.

        The masks that GDAL derives are made here instead: nodata from the samples at hand, alpha because GDAL applies
        it only to images of two or four bands. A nodata value that only GDAL knows (NODATA_VALUES of several bands, the
        largest uint64) stays a mask; that of ENVI is our own, since GDAL takes "none" for 0.
        """
        shared = [index for index in indexes if self._own_masks.get(index)]
        return shared[:1] + (self._masked_alone(indexes) if self.palette is not None else [])

    def _masked_alone(self, indexes: list[int]) -> list[int]:
        """Those that have a GDAL mask of their own."""
        return [index for index in indexes if self._own_masks.get(index) is False]

    def _hidden(self, window: Window, bands: list[int]) -> NDArray[np.bool_] | None:
        indexes = [] if self.palette is not None else [self._indexes[band] for band in bands]
        alone = self._masked_alone(indexes)
        if not alone:
            return None
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        hidden = np.zeros((len(bands), window.height, window.width), bool)
        with gdal(self._damaged):
            for place, index in enumerate(indexes):
                if index in alone:
                    hidden[place] = self._ds.read_masks(index, window=where) == 0
        return hidden

    @cached_property
    def _own_masks(self) -> dict[int, bool]:
        """The bands that have a mask which is not derived, each with whether all bands share it."""
        own, derived = {}, {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}
        every = self._ds.mask_flag_enums  # collected anew, for all bands, whenever rasterio is asked for it
        for index, nodata in self._nodata.items():
            flags = set(every[index - 1])
            if nodata is None and self._ds.driver != "ENVI":
                flags -= {MaskFlags.nodata}
            if not derived & flags:
                own[index] = MaskFlags.per_dataset in flags
        return own

    def close(self) -> None:
        """Close the dataset; a second call does nothing."""
        self._ds.close()


@cache
def _drivers() -> tuple[str, ...]:
    """All drivers; they take as long to list as a small image to open."""
    with rasterio.Env() as env:
        return tuple(env.drivers())


def _drivers_for(file: str) -> list[str]:
    """The drivers that may read a file of this name; what follows the name of one on a server does not count."""
    bare = re.sub(r"[?#].*", "", file) if "://" in file else file
    return [name for name in _drivers() if name in _WHOLE or bare.lower().endswith(_REFERRING.get(name, ()))]


def _path_in_hdf5(name: str) -> str | None:
    """The path of a variable of HDF5 or NetCDF in one of GDAL's names; None for others."""
    found = _IN_HDF5.fullmatch(name)
    return None if found is None else found[1]


def _parts_of(ds: DatasetReader) -> list[str]:
    """GDAL's names of the parts of a file, without those that a tag of a TIFF makes up."""
    pages = re.compile(rf"GTIFF_DIR:\d+:{re.escape(ds.name)}")
    return [name for name in ds.subdatasets if ds.driver != "GTiff" or pages.fullmatch(name)]


def _with_its_feet(crs: CRS, header: dict[str, str]) -> CRS:
    """``crs`` or, where the two differ in the kind of their feet, that of the header's coordinate system string: of
    "units=Feet" GDAL makes international feet, which are 2 millionths shorter than those of US state planes."""
    try:
        own = CRS.from_wkt(header.get("coordinate_system_string", "").strip("{} \n"), morph_from_esri_dialect=True)
        ratio = own.linear_units_factor[1] / crs.linear_units_factor[1]
    except CRSError:
        return crs
    return own if 1e-7 < abs(ratio - 1) < 1e-5 else crs


def _band_key(key: str) -> str:
    key = key.lower()
    return "wavelength" if key == "wavelengths" or _WAVELENGTH_AXIS.match(key) else key


def _same_numbers(these: Sequence[str], those: Sequence[str]) -> bool:
    try:
        return len(these) == len(those) and np.allclose(np.array(these, float), np.array(those, float), rtol=1e-6)
    except ValueError:  # no numbers
        return False


def _short_names(subdatasets: Sequence[str]) -> dict[str, str]:
    """By GDAL's names of subdatasets the shortest ends of their paths that no other has; the numbers of TIFF pages."""
    pages = {name: re.match(r"GTIFF_DIR:(\d+):", name) for name in subdatasets}
    short = {name: page[1] for name, page in pages.items() if page}
    for name in subdatasets:
        parts = re.split(r"[:/]", name)
        ends = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
        others = [re.sub("[:/]", "/", f"/{other}") for other in subdatasets if other != name]
        short.setdefault(name, next((end for end in ends if not any(o.endswith(f"/{end}") for o in others)), name))
    return short


def _refuse_parts_of_prisma(name: str) -> None:
    """Raise InputError for a cube of PRISMA under one of GDAL's names, which knows neither its axes nor its bands."""
    if _OF_PRISMA.search(name):
        raise InputError(
            f"{name} is part of a PRISMA product, whose axes GDAL does not know: give the .he5 file itself, complete "
            "and out of its archive; --var VNIR_Cube or SWIR_Cube takes one of its cubes."
        )


def _starts_with(file: Path, marks: tuple[bytes, ...]) -> bool:
    with file.open("rb") as stream:
        return stream.read(64).lstrip().startswith(marks)


def _not_opened(path: str, source: str, words: str) -> InputError:
    file = Path(source)
    if file.is_dir():
        return InputError(f"{path} is a folder, not an image.")
    if "No such file" in words or "does not exist" in words:
        return InputError(f"{path} does not exist.")
    if "too small" in words:
        return InputError(f"{path} is truncated: its header requires more bytes than the file has.")
    if path.startswith("/vsi") and file.suffix.lower() == ".hdr":
        return InputError(f"{path} is a header; inside archives, give the data file instead.")
    kind = next((kind for end, kind in _ARCHIVES.items() if path.lower().endswith(end)), None)
    if kind is not None and ("not recognized" in words or path.startswith("/vsi")):
        inside = path if path.startswith("/vsi") else f"/{kind}/{path}"
        return InputError(f"{path} is an archive; give the name of the image in it too: {inside}/NAME.")
    if "not recognized" not in words:
        return InputError(f"{path} cannot be read ({words}).")
    if file.is_file() and file.suffix and file.suffix.lower() in envi.DATA_SUFFIXES and not envi.headers_of(file):
        return envi.no_header(file)
    if file.is_file() and _starts_with(file, (b"<", b"{")):
        return InputError(
            f"{path} is text, not an image; what refers to images, as a VRT does, needs its own extension."
        )
    return InputError(
        f"{path} is not an image in a known format (ENVI, GeoTIFF, MAT, PNG, JPEG or another GDAL format)."
    )
