"""Readers are closed by what was to work on them, whether or not that could be made ready."""

import numpy as np
import pytest

from rsunfold.errors import InputError
from rsunfold.infer.features.source import ImageBands
from rsunfold.infer.infrared.gray import GrayImage, Reading
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.memory import ArrayReader


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
