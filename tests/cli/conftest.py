"""How the tests of the command line call it."""

import itertools
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from scipy.io import savemat
from typer.testing import CliRunner, Result

from rsunfold import weights
from rsunfold.cli import app
from rsunfold.registry import all_models

Call = Callable[..., Result]


@pytest.fixture
def call() -> Call:
    """``call("info", path)``: the result of a command line in this process, its exit code checked (``code``, 0)."""

    def run(*words: Any, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(w) for w in words])
        assert result.exit_code == code, f"exit code {result.exit_code}: {result.output}"
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def fails(call: Call) -> Callable[..., str]:
    """``fails(3, "info", path)``: the one sentence on standard error of a command that fails with that exit code."""

    def run(code: int, *words: Any) -> str:
        result = call(*words, code=code)
        lines = result.stderr.splitlines()
        assert result.stdout == "" and len(lines) == 1, result.output
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


def of_one_model(report: dict) -> dict:
    """What a report of evaluate detect-ir says of its model where there is one alone, else the report."""
    models = list(report.get("models", {}).values())
    return models[0] if len(models) == 1 else report


@pytest.fixture
def stop(monkeypatch) -> Callable[..., None]:
    """``stop(module, "name", 3, ending)``: the third call of that function raises ``ending`` instead."""

    def set_up(module: Any, name: str, at: int, ending: BaseException) -> None:
        real, calls = getattr(module, name), itertools.count(1)

        def run(*args: Any, **options: Any) -> Any:
            if next(calls) == at:
                raise ending
            return real(*args, **options)

        monkeypatch.setattr(module, name, run)

    return set_up


@pytest.fixture
def process() -> Callable[..., subprocess.Popen]:
    """``process("info", path)`` starts ``python -m rsunfold info path``."""

    def start(*words: Any, **options: Any) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # A shell starts its background jobs with SIGINT ignored, and what they start inherits that.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            [sys.executable, "-m", "rsunfold", *map(str, words)], text=True, env=environment, **options
        )

    return start


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A folder with images/ and masks/ of six synthetic scenes, one of them without a target."""
    folder = tmp_path_factory.mktemp("sample") / "scenes"
    result = CliRunner().invoke(app, ["sample", "ir", str(folder), "--count", "6", "--seed", "2", "--size", "72"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def network(tiny) -> tuple[str, ...]:
    """Options that choose the tiny network on the CPU."""
    return "--weights", str(tiny.path), "--device", "cpu"


@pytest.fixture
def shipped(tmp_path, tiny, random_network, monkeypatch) -> Path:
    """A folder of shipped weights in place of the package's own, tiny ones of each infrared network that has some."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for spec in (spec for spec in all_models("detect-ir", "network") if spec.weights):
        path = folder / f"{spec.weights}.safetensors"
        if spec.name == "l-rpcanet":
            path.write_bytes(tiny.path.read_bytes())
        else:
            net = random_network(spec.name)
            weights.save(path, net, weights.WeightRecord(name=spec.weights, model=spec.name, arch=net.arch))
        with (folder / "registry.toml").open("a") as registry:
            registry.write(f'[{spec.weights}]\nfile = "{path.name}"\nsha256 = "{weights.sha256_of(path)}"\n\n')
    monkeypatch.setattr(weights, "weights_folder", lambda: folder)
    return folder


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes an array (row, col) or (band, row, col) by GDAL, PNG or GeoTIFF by the name."""

    def write(path: Path, data: np.ndarray, **profile: Any) -> Path:
        data = data[None] if data.ndim == 2 else data
        drivers = {".png": "PNG", ".tif": "GTiff", ".img": "ENVI", ".bmp": "BMP", ".jpg": "JPEG"}
        size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", driver=drivers[path.suffix], **size, **profile) as ds:
                ds.write(data)
        return path

    return write


@pytest.fixture
def scene(tmp_path, tiny, write_image) -> Path:
    """An 8-bit image on which the tiny network finds targets."""
    return write_image(tmp_path / "scene.png", np.round(tiny.gray * 255).astype(np.uint8))


@pytest.fixture
def kelvin(scenes, tmp_path, write_image) -> Callable[..., Path]:
    """``kelvin()``: the folder of the scenes as temperatures of 280 to 320 K, the second of two bands, or the variable
    ``tir`` of MAT files."""

    def write(kind: str = ".tif") -> Path:
        folder = tmp_path / f"kelvin{kind}" / "scenes"
        (folder / "images").mkdir(parents=True)
        (folder / "masks").symlink_to(scenes / "masks")
        for path in (scenes / "images").iterdir():
            with rasterio.open(path) as ds:
                tir = (280 + 40 * (ds.read(1) / 255)).astype(np.float32)
            other = np.full_like(tir, 7)
            other[:10] = np.nan
            target = folder / "images" / f"{path.stem}{kind}"
            if kind == ".mat":
                savemat(target, {"other": other, "tir": tir})
            else:
                write_image(target, np.stack([other, tir]))
        return folder

    return write
