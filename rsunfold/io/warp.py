"""Coordinates from one coordinate reference system to another, each point on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError  # no public names for what warp.transform raises
from rasterio.warp import transform

WGS84 = "EPSG:4326"
Reals = NDArray[np.float64]


def reaches_wgs84(crs: Any) -> bool:
    """Whether longitudes and latitudes on Earth follow from a CRS or None; not so for a local CRS, such as ENVI's
    "Arbitrary", nor for the Moon's."""
    if crs is None or not (crs.is_geographic or crs.is_projected):
        return False
    try:
        transform(crs, WGS84, [0.0], [0.0])
    except CPLE_NotSupportedError:  # PROJ knows no operation
        return False
    except CPLE_BaseError:  # it knows one, to whose domain this point does not belong
        return True
    return True


def reprojected(source: Any, target: Any, x: ArrayLike, y: ArrayLike) -> tuple[Reals, Reals]:
    """x and y float64 (n,) of the CRS ``source`` in the CRS ``target``; NaN where NaN, and for points outside the
    domain of either."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    there = np.full((2, len(x)), np.nan)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    parts = [known] if len(known) else []
    while parts:
        part = parts.pop()
        try:
            there[:, part] = transform(source, target, x[part], y[part])
        except CPLE_NotSupportedError:  # for no point
            break
        except CPLE_BaseError:  # one point that cannot be placed fails the whole call, so find it by halves
            if len(part) > 1:
                parts += np.array_split(part, 2)
    there[:, ~np.isfinite(there).all(axis=0)] = np.nan
    return there[0], there[1]
