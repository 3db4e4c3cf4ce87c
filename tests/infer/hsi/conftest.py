"""Small cubes and a small network for the tests of denoising."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from rsunfold import weights
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.registry import get_model
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.noise import make_noise

SIGMA = 20 / 255


@pytest.fixture(scope="session")
def clean() -> np.ndarray:
    """A scene without noise, float32 (16, 24, 20), its largest value 1."""
    data = hyperspectral_scene(24, 20, 16, seed=3).data
    return (data / data.max()).astype(np.float32)


@pytest.fixture(scope="session")
def noisy(clean) -> np.ndarray:
    """The scene with noise of standard deviation ``SIGMA``, float32 (16, 24, 20)."""
    data = make_noise(clean, "iid", sigma=20, seed=1).data
    data.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def large() -> np.ndarray:
    """A noisy scene that takes several tiles, float32 (12, 150, 140)."""
    data = hyperspectral_scene(150, 140, 12, seed=5).data
    return make_noise((data / data.max()).astype(np.float32), "iid", sigma=20, seed=1).data


@pytest.fixture(scope="session")
def star(tmp_path_factory) -> Path:
    """Weights of an untrained, tiny STAR-Net."""
    spec = get_model("star-net")
    net = spec.build(**spec.sizes["tiny"]).eval().requires_grad_(False)
    path = tmp_path_factory.mktemp("star") / "star.safetensors"
    record = weights.WeightRecord(name="star", model="star-net", arch=net.arch, bands=None, scaling="whitened spectra")
    weights.save(path, net, record)
    return path


@pytest.fixture
def make(star) -> Callable[..., Denoiser]:
    """``make("fasthyde")`` or ``make("star-net")``, on the CPU."""

    def build(model: str = "fasthyde", **extra: Any) -> Denoiser:
        given = {"weights": str(star), "device": "cpu"} if model == "star-net" else {}
        return Denoiser(model, **{"memory": "4GB", **given, **extra})

    return build


@pytest.fixture
def write() -> Callable[..., str]:
    """Writes an array (band, row, col) as GeoTIFF, or as ENVI where the name ends in .img; gives its name."""

    def run(path: Path, data: np.ndarray, *, scales: Any = None, offsets: Any = None, **profile: Any) -> str:
        driver = "GTiff" if path.suffix == ".tif" else "ENVI"
        profile = {"transform": Affine(30, 0, 5e5, 0, -30, 4e6), "crs": "EPSG:32632", **profile}
        size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
        with rasterio.open(path, "w", driver=driver, **size, **profile) as ds:
            ds.write(data)
            if scales is not None:
                ds.scales, ds.offsets = scales, offsets
        return str(path)

    return run
