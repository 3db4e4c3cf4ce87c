"""Bands of a cube and pages of a TIFF as images of their own."""

import numpy as np
import pytest
import rasterio
import scipy.io
from PIL import Image

from rsunfold.errors import UsageError
from rsunfold.infer.infrared.frames import Frame, Frames
from rsunfold.infer.infrared.gray import GrayImage, Reading
from rsunfold.io import open_cube


@pytest.fixture
def stack() -> np.ndarray:
    """Eleven frames, uint16 (11, 6, 8), each of one number."""
    return np.full((11, 6, 8), np.arange(11)[:, None, None] * 100, np.uint16)


def test_bands_are_frames(tmp_path, stack):
    scipy.io.savemat(tmp_path / "video.mat", {"frames": np.moveaxis(stack, 0, -1)})
    with rasterio.open(tmp_path / "one.tif", "w", "GTiff", 8, 6, 1, dtype="uint16") as ds:
        ds.write(stack[:1])
    video, one = (str(tmp_path / name) for name in ("video.mat", "one.tif"))
    found = Frames.parse("All").of({"day/video": video, "one": one}, None)
    assert list(found) == [f"day/video_b{n:03}" for n in range(1, 12)] + ["one_b001"]
    assert found["day/video_b007"] == Frame(video, 7) and found["one_b001"] == Frame(one, 1)
    assert list(Frames.parse("2-4, 11,3").of({"v": video}, None)) == ["v_b002", "v_b003", "v_b004", "v_b011"]


def test_pages_are_frames(tmp_path, stack):
    first, *others = map(Image.fromarray, stack)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    found = Frames.parse("10-11").of({"a": str(tmp_path / "a.tif")}, None)
    assert list(found) == ["a_p010", "a_p011"]
    for frame, data in zip(found.values(), stack[9:], strict=True):
        with open_cube(frame.source) as reader:
            assert frame.band is None
            np.testing.assert_array_equal(reader.read().data[0], data)
    assert list(Frames.parse("all").of({"a": str(tmp_path / "a.tif")}, "2")) == ["a_b001"]
    with pytest.raises(UsageError, match=r"has 11 pages, but page 1 has 1 band\(s\): --var 3 reads page 3"):
        GrayImage(str(tmp_path / "a.tif"), Reading(band=3))


def test_a_file_that_cannot_be_read_waits_for_its_turn(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    source = str(tmp_path / "a.tif")
    assert Frames.parse("all").of({"a": source}, None) == {"a": Frame(source)}


@pytest.mark.parametrize("text", ["", "x", "0-3", "3-2", "1,", "-1", "1:3", "1.5"])
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match=f"--band takes a number from 1, all, or ranges .*, not '{text}'"):
        Frames.parse(text)


def test_frames_that_are_not_there_are_refused_and_so_is_what_would_share_their_results(tmp_path, stack):
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 8, 6, 11, dtype="uint16") as ds:
        ds.write(stack)
    (tmp_path / "a_b002.tif").touch()
    a, b = (str(tmp_path / name) for name in ("a.tif", "a_b002.tif"))
    with pytest.raises(UsageError, match=r"a\.tif has 11 band\(s\), so --band must be 1 to 11, not 12"):
        Frames.parse("9-12").of({"a": a}, None)
    with pytest.raises(UsageError, match=r"a\.tif and .*a_b002\.tif would write the same outputs, a_b002_"):
        Frames.parse("all").of({"a": a, "a_b002": b}, None)
