"""Which pixels stand for a scene."""

import numpy as np
import pytest

from rsunfold.scene import some_of


@pytest.mark.parametrize("count", [1, 7, 100, 101, 1000, 99_999])
def test_some_pixels_are_one_of_each_stretch(count):
    found = some_of(count, 100)
    if count <= 100:
        np.testing.assert_array_equal(found, np.arange(count))
        return
    step = -(-count // 100)
    assert 50 < len(found) <= 100 and found.max() < count
    np.testing.assert_array_equal(found // step, np.arange(len(found)))


@pytest.mark.parametrize("width", [512, 500, 511, 64])
def test_every_column_has_its_share(width):
    """Also where the width is a multiple of the stretches."""
    found = some_of(width * 512, 2**14)
    for part in (2, 4, 8, 16):
        counts = np.bincount(found % width % part, minlength=part)
        assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()
    assert np.bincount(found % width, minlength=width).min() > 0
