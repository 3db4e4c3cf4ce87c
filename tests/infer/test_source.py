"""Readers are closed by what was to work on them, whether or not that could be made ready; files that change meanwhile
are refused."""

import os

import numpy as np
import pytest
import rasterio

import rsunfold
from rsunfold.errors import InputError
from rsunfold.infer.features.source import ImageBands
from rsunfold.infer.infrared.gray import GrayImage, Reading
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.memory import ArrayReader
from rsunfold.io.reader import CubeReader
from rsunfold.io.textcells import TextCells


class Watched(ArrayReader):
    closed = False

    def close(self):
        self.closed = True


class Interrupted(Watched):
    def read(self, *args, **kwargs):
        raise KeyboardInterrupt


def bands(reader):
    return ImageBands(reader, room=2**32)


def gray(reader):
    return GrayImage(reader, Reading(band=1))


NOTHING = np.full((3, 4, 5), np.nan, np.float32)
ONE_VARIES = np.zeros((3, 4, 5), np.float32)
ONE_VARIES[1] = np.arange(20).reshape(4, 5)


@pytest.mark.parametrize(
    ("opened", "data", "words"),
    [
        (SpectralImage, NOTHING, "no valid pixel"),
        (gray, NOTHING, "no valid pixel"),
        (GrayImage, NOTHING, "one is needed"),
        (bands, NOTHING, "no valid pixel"),
        (bands, ONE_VARIES[1:2], "a single band"),
        (bands, ONE_VARIES, "a single usable band"),
    ],
)
def test_where_it_fails(opened, data, words):
    reader = Watched(data)
    with pytest.raises(InputError, match=words):
        opened(reader)
    assert reader.closed


@pytest.mark.parametrize("opened", [SpectralImage, gray, bands])
def test_where_it_is_interrupted(opened):
    reader = Interrupted(ONE_VARIES)
    with pytest.raises(KeyboardInterrupt):
        opened(reader)
    assert reader.closed


@pytest.mark.parametrize("opened", [SpectralImage, gray, bands])
def test_in_the_end(opened):
    reader = Watched(np.stack([ONE_VARIES[1], ONE_VARIES[1] ** 2]))
    with opened(reader):
        assert not reader.closed
    assert reader.closed


TASKS = {
    "denoise_hsi": {"model": "fasthyde"},
    "detect_anomaly": {"model": "rx"},
    "detect_ir": {"model": "top-hat", "band": 1},
    "select_features": {"model": "css", "k": 2},
}


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    ("task", "gone"), [*((task, gone) for task in TASKS for gone in (False, True)), ("table", False)]
)
def test_a_file_that_is_changed_while_it_is_processed(task, gone, tmp_path, monkeypatch):
    """A camera that writes the next scene under the same name: the digest would be that of the next."""
    data = np.random.default_rng(0).random((6, 20, 18)).astype(np.float32)
    path = tmp_path / ("a.csv" if task == "table" else "a.tif")
    if task == "table":
        np.savetxt(path, data.reshape(6, -1)[:, :9].T, delimiter=",")
    else:
        with rasterio.open(path, "w", driver="GTiff", count=6, height=20, width=18, dtype="float32") as file:
            file.write(data)
    kind = TextCells if task == "table" else CubeReader
    method = "numbers" if task == "table" else "read"
    first = getattr(kind, method)

    def changed(self, *args, **more):
        found = first(self, *args, **more)
        if gone:
            path.unlink(missing_ok=True)
        else:
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(kind, method, changed)
    function = getattr(rsunfold, "select_features" if task == "table" else task)
    options = TASKS["select_features" if task == "table" else task]
    if gone:
        assert function(str(path), **options).summary["input_digest"] is None
    else:
        with pytest.raises(InputError, match=r"a\.\w+ was changed while it was being processed; run again"):
            function(str(path), **options)
