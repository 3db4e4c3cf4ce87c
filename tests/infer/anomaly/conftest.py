"""Small scenes with known anomalies for the tests of anomaly detection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from affine import Affine

from rsunfold.infer.anomaly.detector import AnomalyDetector
from rsunfold.scene import Floats


class Scenery(NamedTuple):
    """cube float32 (bands, rows, cols) in physical units, truth bool (rows, cols)."""

    cube: Floats
    truth: np.ndarray


def scenery(bands: int = 8, rows: int = 30, cols: int = 34, seed: int = 0) -> Scenery:
    """Three materials that pass into each other, noise, and four objects of a fourth; samples about 200 to 3000."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    shares = np.stack([1.2 + np.sin(0.2 * y + 0.1 * k * x + k) for k in range(3)])
    at = np.linspace(0, 1, bands)[:, None]
    spectra = 0.5 + 0.3 * np.sin(2 * np.pi * (at + np.array([0, 0.3, 0.6])))
    cube = np.tensordot(spectra, shares / shares.sum(0), axes=1) + rng.normal(0, 0.005, (bands, rows, cols))
    truth = np.zeros((rows, cols), bool)
    truth[4, 5] = truth[12:14, 20:22] = truth[22, 7:10] = truth[25, 28] = True
    cube = np.where(truth, np.linspace(0.9, 0.15, bands)[:, None, None] ** 2, cube)
    return Scenery((cube * 3000 + 200).astype(np.float32), truth)


@pytest.fixture(scope="session")
def scene() -> Scenery:
    """8 bands, 30 x 34 pixels."""
    found = scenery()
    for array in found:
        array.flags.writeable = False
    return found


@pytest.fixture
def make() -> Callable[..., AnomalyDetector]:
    """``make("rx")``, or the default with two epochs, on the CPU, objects of 20 pixels at most."""

    def build(model: str = "lrr-net-plus", **extra: Any) -> AnomalyDetector:
        options = {"epochs": 2, "stages": 2, "atoms": 5} if model == "lrr-net-plus" else {}
        given = {"device": "cpu", "memory": "4GB", "object_size": 20, **extra}
        return AnomalyDetector(model, options={**options, **given.pop("options", {})}, **given)

    return build


@pytest.fixture
def write() -> Callable[..., str]:
    """Writes an array (band, row, col) as GeoTIFF, or as ENVI where the name ends in .img; gives its name."""

    def run(path: Path, data: np.ndarray, **profile: Any) -> str:
        driver = "GTiff" if path.suffix == ".tif" else "ENVI"
        profile = {"transform": Affine(30, 0, 5e5, 0, -30, 4e6), "crs": "EPSG:32632", **profile}
        size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
        with rasterio.open(path, "w", driver=driver, **size, **profile) as ds:
            ds.write(data)
        return str(path)

    return run
