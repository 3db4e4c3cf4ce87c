"""Helpers of the reader and writer tests."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

ENVI_HEADER = {
    "samples": 4,
    "lines": 3,
    "bands": 2,
    "header offset": 0,
    "file type": "ENVI Standard",
    "data type": 4,
    "interleave": "bsq",
    "byte order": 0,
}


@pytest.fixture
def cube() -> np.ndarray:
    """Two bands of 3 rows and 4 columns, every sample different and below 128."""
    return np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def write_envi(tmp_path, cube):
    """Write an ENVI pair by hand; keyword arguments change header entries (None drops one)."""

    def write(name="a.img", data=None, header_name="a.hdr", encoding="utf-8", **entries):
        fields = ENVI_HEADER | {key.replace("_", " "): value for key, value in entries.items()}
        lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
        (tmp_path / header_name).write_bytes(("ENVI\n" + "\n".join(lines) + "\n").encode(encoding))
        path = tmp_path / name
        path.write_bytes(cube.astype("<f4").tobytes() if data is None else data)
        return path

    return write


@pytest.fixture
def write_tif(tmp_path):
    """Write a GeoTIFF with rasterio; returns its path. ``then`` gets the open dataset."""

    def write(data, name="a.tif", then=None, **profile):
        bands, rows, cols = data.shape
        size = {"count": bands, "height": rows, "width": cols, "dtype": data.dtype, "driver": "GTiff"}
        path = tmp_path / name
        with rasterio.open(path, "w", **(size | profile)) as ds:
            ds.write(data)
            if then is not None:
                then(ds)
        return path

    return write


@pytest.fixture
def plain_user():
    """A folder of a user without privileges, who stays the effective user for the test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o700)


@pytest.fixture(autouse=True)
def quiet_rasterio():
    """Files made by the tests with bare rasterio need no georeference; the package's own silence is tested apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
