"""A cube with wavelengths, holes, a bad and a constant band, and how it is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from rsunfold.infer.features.select import FeatureRanker
from rsunfold.simulate.hyperspectral import hyperspectral_scene

BANDS, ROWS, COLS = 30, 40, 33
WAVELENGTHS = np.linspace(400, 980, BANDS).round(1)
BAD, CONSTANT, NODATA = 4, 9, -99


@pytest.fixture(scope="session")
def counts() -> np.ndarray:
    """Reflectance x 10000 as int16 (30, 40, 33); band 9 is constant, one corner has no data."""
    data = hyperspectral_scene(ROWS, COLS, BANDS, seed=4).data
    rng = np.random.default_rng(0)
    data = np.rint(data / data.max() * 9000 + rng.normal(0, 20, data.shape)).astype(np.int16)
    data[CONSTANT] = 77
    data[:, :5, :4] = NODATA
    data.flags.writeable = False
    return data


@pytest.fixture
def write(tmp_path, counts) -> Callable[..., Path]:
    """Writes the cube with rasterio under a name that ends in .tif or .img."""

    def run(name: str, data: Any = None, wavelengths: Any = WAVELENGTHS) -> Path:
        data = counts if data is None else data
        path = tmp_path / name
        profile = {"crs": "EPSG:32632", "transform": Affine(30, 0, 5e5, 0, -30, 4e6), "nodata": NODATA}
        size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
        envi = path.suffix == ".img"
        with rasterio.open(path, "w", driver="ENVI" if envi else "GTiff", **size, **profile) as ds:
            ds.write(data)
            lists = {
                "wavelength": [str(w) for w in wavelengths],
                "fwhm": ["6.5"] * len(wavelengths),
                "bbl": [str(int(i != BAD)) for i in range(len(wavelengths))],
            }
            if envi:
                ds.update_tags(
                    ns="ENVI", wavelength_units="nm", **{k: "{" + ", ".join(v) + "}" for k, v in lists.items()}
                )
            else:
                ds.scales, ds.offsets = [1e-4] * len(data), [0.0] * len(data)
                for i in range(len(wavelengths)):
                    ds.update_tags(i + 1, wavelength_units="nm", **{k: v[i] for k, v in lists.items()})
            for i in range(len(data)):
                ds.set_band_description(i + 1, f"b{i + 1}")
        return path

    return run


@pytest.fixture
def ranker() -> FeatureRanker:
    """The greedy column subset selection."""
    return FeatureRanker("css", memory="4GB")
