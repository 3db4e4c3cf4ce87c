"""Targets as vector files: GeoJSON for a GIS, CSV for a spreadsheet; both have the same columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.transform import xy

from rsunfold.cube import Meta
from rsunfold.io.csvfile import write_rows
from rsunfold.io.jsonfile import write_json
from rsunfold.io.raster import gcps_place
from rsunfold.io.warp import WGS84, Reals, reaches_wgs84, reprojected

if TYPE_CHECKING:
    from rsunfold.targets import Target

COLUMNS = (
    *("id", "row", "col", "row_min", "row_max", "col_min", "col_max"),
    *("area_px", "area_m2", "peak", "mean", "scr", "x", "y", "lon_deg", "lat_deg"),
    *("image", "acquired"),
)
"""Columns of the CSV and, without lon_deg and lat_deg, properties of a GeoJSON feature.

row, col : score-weighted centroid, zero-based, whole numbers at pixel centres. row_min .. col_max : box, inclusive.
area_px : pixels. area_m2 : square metres in the image's projection, empty unless the CRS is projected.
peak, mean : score. scr : signal-to-clutter ratio (:class:`rsunfold.targets.Target`), empty when
undefined.
x, y : centroid in the image's CRS and its units (with ground control points: in theirs), empty without
georeferencing. lon_deg, lat_deg : centroid in WGS 84 (EPSG:4326), degrees, empty when unknown.
image : what the image is called (:func:`rsunfold.io.names.shown_as`). acquired : when it was taken, empty when unknown.
They come last, after the further columns of a task, so that the others keep their places.
"""

POLAR = 80.0
"""Degrees of latitude beyond which control points are fitted in a polar projection, where all lie near the pole."""
_WGS84 = "longitude and latitude of the target's centroid in degrees, WGS 84"
_OWN = "x and y of the target's centroid in the image's own units, because it has no CRS that a globe knows"
_PIXEL = (
    "pixels, because the image has no georeferencing: x = column + 0.5, y = -(row + 0.5) of the target's centroid, "
    "where QGIS draws an image without georeferencing"
)

_RPCS = _PIXEL.replace(
    "the image has no georeferencing",
    "the image has no georeferencing but rational polynomial coefficients (RPCs), which need the height of the ground",
)
_ARRAYS = _PIXEL.replace(
    "the image has no georeferencing",
    "the image has no georeferencing but arrays of coordinates (geolocation), which are not read",
)


def _unplaced(meta: Meta) -> str:
    return _RPCS if meta.rpcs else _ARRAYS if meta.geolocated else _PIXEL


def write_geojson(
    path: Path,
    targets: Sequence[Target],
    meta: Meta,
    *,
    image: str,
    rows: int,
    cols: int,
    properties: dict[str, Any] | None = None,
    more: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write a FeatureCollection (RFC 7946) with one Point, the centroid, per target.

    image : what the image is called, for each target. more : further properties of each target, which take the place of
    ``scr``: a contrast of grey values is no property of spectra.

    The points are WGS 84 longitude and latitude when ``meta`` has a geographic or projected CRS together with a
    transform or ground control points; where it has these without such a CRS, what they give, for there a GIS draws
    the image; else pixel coordinates, x = column + 0.5, y = -(row + 0.5). The member ``rsunfold`` says which, and
    carries ``rows``, ``cols``, the CRS and the time of the image and all of ``properties``.
    A target that the projection cannot place (off the Earth's disk in a geostationary view) has a null geometry.

    Raises OutputError when the file exists or cannot be written.
    """
    table = _table(targets, meta, image, more)
    place, crs = _placement(meta)
    placed = reaches_wgs84(crs)
    features = []
    for record in table:
        lon, lat = record.pop("lon_deg"), record.pop("lat_deg")
        if placed:
            point = [lon, lat]
        elif place is not None:
            point = [record["x"], record["y"]]
        else:
            point = [record["col"] + 0.5, -(record["row"] + 0.5)]
        geometry = None if None in point else {"type": "Point", "coordinates": point}
        features.append({"type": "Feature", "id": record["id"], "geometry": geometry, "properties": record})
    about = {
        "coordinates": _WGS84 if placed else _OWN if place is not None else _unplaced(meta),
        "rows": rows,
        "cols": cols,
        "crs": None if crs is None else crs.to_string(),
        "acquired": meta.acquired or None,
        **(properties or {}),
    }
    write_json(path, {"type": "FeatureCollection", "rsunfold": about, "features": features})


def write_csv(
    path: Path,
    targets: Sequence[Target],
    meta: Meta,
    *,
    image: str,
    more: Sequence[Mapping[str, Any]] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write one line per target under a header of COLUMNS; what is not known is empty.

    image, more : as in :func:`write_geojson`; names : their keys, which the header needs where there is no target.

    Raises OutputError when the file exists or cannot be written.
    """
    columns = COLUMNS if more is None else columns_with(names)
    rows = ([row[name] for name in columns] for row in _table(targets, meta, image, more))
    write_rows(path, columns, rows)


def columns_with(names: Sequence[str]) -> tuple[str, ...]:
    """COLUMNS with further ones of a task, ``names``, in place of ``scr``."""
    return (*(name for name in COLUMNS[:-2] if name != "scr"), *names, *COLUMNS[-2:])


def _placement(meta: Meta) -> tuple[Any, Any]:
    """(transform or ground control points, their CRS), each None when the file does not say.

    GDAL reports the identity for an image without georeferencing.
    """
    if meta.transform is not None and not meta.transform.is_identity:
        return meta.transform, meta.crs or None
    points = meta.gcps[0] if meta.gcps else None
    return (points, meta.placed_in) if points and gcps_place(points) else (None, None)


def _positions(place: Any, crs: Any, rows: list[float], cols: list[float]) -> tuple[Reals, Reals]:
    """x and y of pixel centres, in the units of ``crs``, by a transform or ground control points.

    Longitudes of control points on both sides of the antimeridian jump by 360 degrees, of which no polynomial can be
    fitted: there they count on beyond 180 degrees, and what comes of them back again. About a pole they turn in
    circles: there the polynomial is that of a polar stereographic projection.
    """
    if isinstance(place, list) and crs is not None and crs.is_geographic:
        lon, lat = np.array([p.x for p in place]), np.array([p.y for p in place])
        north = lat[np.abs(lat).argmax()] > 0
        toward = lat if north else -lat
        if toward.max() > POLAR and toward.min() > POLAR - 20 and reaches_wgs84(crs):
            polar = "EPSG:3995" if north else "EPSG:3031"
            easts, norths = reprojected(crs, polar, lon, lat)
            points = [GroundControlPoint(p.row, p.col, e, n) for p, e, n in zip(place, easts, norths, strict=True)]
            return reprojected(polar, crs, *xy(points, rows, cols))
        east = np.where(lon < 0, lon + 360, lon)
        if np.ptp(lon) > 180 > np.ptp(east):  # an image of the whole globe spans as much either way
            points = [GroundControlPoint(p.row, p.col, e, p.y, p.z) for p, e in zip(place, east, strict=True)]
            x, y = xy(points, rows, cols)
            return _wrapped(x), y
    x, y = xy(place, rows, cols)
    return x, y


def _table(
    targets: Sequence[Target], meta: Meta, image: str, more: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """One dictionary per target with the keys COLUMNS, or with those of ``more`` in place of scr; None is unknown."""
    place, crs = _placement(meta)
    x = y = lon = lat = np.full(len(targets), np.nan)
    if targets and place is not None:
        x, y = _positions(place, crs, [t.row for t in targets], [t.col for t in targets])
    if targets and reaches_wgs84(crs):
        lon, lat = _lonlat(crs, x, y)
    pixel_m2 = math.nan
    if place is meta.transform and crs is not None and crs.is_projected:
        pixel_m2 = abs(place.determinant) * crs.linear_units_factor[1] ** 2
    rows = [
        {
            **{"id": t.id, "row": t.row, "col": t.col},
            **{"row_min": t.row_min, "row_max": t.row_max, "col_min": t.col_min, "col_max": t.col_max},
            **{"area_px": t.area, "area_m2": _known(t.area * pixel_m2)},
            **{"peak": t.peak, "mean": t.mean, "scr": _known(t.scr)},
            **{"x": _known(x[i]), "y": _known(y[i]), "lon_deg": _known(lon[i]), "lat_deg": _known(lat[i])},
        }
        for i, t in enumerate(targets)
    ]
    if more is not None:
        for row, further in zip(rows, more, strict=True):
            del row["scr"]
            row |= further
    return [row | {"image": image, "acquired": meta.acquired or None} for row in rows]


def _lonlat(crs: Any, x: Reals, y: Reals) -> tuple[Reals, Reals]:
    """Longitude in [-180, 180] and latitude in degrees; NaN for points outside the projection's domain."""
    lon, lat = reprojected(crs, WGS84, x, y)
    lon = _wrapped(lon)  # images of 0 to 360 degrees east
    placed = np.abs(lat) <= 90
    return np.where(placed, lon, np.nan), np.where(placed, lat, np.nan)


def _wrapped(lon: Reals) -> Reals:
    """Degrees in [-180, 180]."""
    return np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
