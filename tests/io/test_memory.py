"""Arrays behind the interface of a file."""

import numpy as np
import pytest
from PIL import Image

from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.io.memory import ArrayReader
from rsunfold.io.reader import full_range


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "float16", "float32", "float64"])
def test_windows_and_bands(dtype):
    array = np.arange(3 * 5 * 7).reshape(3, 5, 7).astype(dtype)
    with ArrayReader(array) as reader:
        assert reader.shape == (3, 5, 7) and reader.dtype == dtype and reader.meta.nodata == ()
        np.testing.assert_array_equal(reader.read().data, array)
        cube = reader.read(Window(1, 2, 3, 4), [2, 0])
        np.testing.assert_array_equal(cube.data, array[[2, 0], 1:4, 2:6])
        assert cube.data.dtype == dtype and cube.valid.all()
        assert reader.describe()["driver"] == "array"


def test_wavelengths():
    array = np.zeros((2, 3, 4), np.float32)
    assert ArrayReader(array, wavelengths=[400, 500.5]).meta.wavelengths == (400, 500.5)
    for wrong in ([400], [400, 500, 600], [400, 0], [400, np.nan], []):
        with pytest.raises(InputError, match="has 2 bands, so it needs 2 wavelengths above 0, in nm"):
            ArrayReader(array, wavelengths=wrong)


def test_pictures_in_colour_are_no_samples():
    gray = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    np.testing.assert_array_equal(ArrayReader(gray).read().data, np.asarray(gray)[None])
    for mode in ("P", "RGB"):
        with pytest.raises(InputError, match="a palette or colour picture is no array of samples"):
            ArrayReader(gray.convert(mode))


def test_what_is_read_is_a_copy():
    array = np.zeros((4, 4), np.float32)
    cube = ArrayReader(array).read()
    cube.data[:] = 1
    assert not array.any()


def test_a_window_does_not_copy_the_whole_array():
    """As it would if the bands were chosen before the window: each tile would cost as much as the image."""
    array = np.broadcast_to(np.float32(1), (2, 10**6, 10**6))  # 8 TB, were it copied
    np.testing.assert_array_equal(ArrayReader(array).read(Window(5, 5, 2, 3), [1]).data, np.ones((1, 2, 3)))


def test_nodata_nan_and_masks_are_invalid_where_any_band_is():
    array = np.ones((2, 2, 3), np.float32)
    array[0, 0, 0], array[1, 0, 1], array[0, 1, 2] = -9, np.nan, np.inf
    expected = [[False, False, True], [True, True, False]]
    np.testing.assert_array_equal(ArrayReader(array, nodata=-9).read().valid, expected)
    np.testing.assert_array_equal(ArrayReader(array, nodata=-9).read(bands=[1]).valid, [[1, 0, 1], [1, 1, 1]])
    masked = np.ma.masked_array(np.ones((2, 3)), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(ArrayReader(masked).read().valid, [[False, True, True], [True, True, False]])
    np.testing.assert_array_equal(ArrayReader(masked).read(Window(1, 1, 1, 2)).valid, [[True, False]])
    assert ArrayReader(np.ma.masked_array(np.ones((2, 3)))).read().valid.all()


def test_a_masked_sample_is_that_sample_alone():
    array = np.ma.masked_array(np.ones((2, 2, 3), np.float32), np.zeros((2, 2, 3), bool))
    array[1, 0, 2] = np.ma.masked
    np.testing.assert_array_equal(np.argwhere(np.isnan(ArrayReader(array).read().data)), [[1, 0, 2]])
    for kind in (np.float32, np.int16, bool):
        reader = ArrayReader(array.astype(kind), nodata=-9)
        for _ in range(2):
            np.testing.assert_array_equal(np.argwhere(reader.read(scaled=False).missing), [[1, 0, 2]])
        np.testing.assert_array_equal(np.argwhere(reader.read(Window(0, 1, 1, 2), [1]).missing), [[0, 0, 1]])
        assert reader.read(bands=[0]).missing is None and reader.read(bands=[0]).valid.all()


@pytest.mark.parametrize("fill", [np.finfo("f4").min, np.finfo("f4").max, np.finfo("f8").min, 9.97e36])
def test_a_fill_value_that_nobody_declares_is_no_data(fill):
    for dtype in ("f4", "f8"):
        array = np.full((2, 2, 3), 1e25, dtype)
        with np.errstate(over="ignore"):
            array[1, 0, 2] = np.asarray(fill).astype(dtype)
        np.testing.assert_array_equal(np.argwhere(~ArrayReader(array).read().valid), [[0, 2]])


def test_booleans_are_one_bit_and_byte_order_is_native():
    reader = ArrayReader(np.eye(3, dtype=bool))
    assert (reader.dtype, reader.bits, full_range(reader)) == (np.uint8, 1, 1)
    np.testing.assert_array_equal(reader.read().data[0], np.eye(3))
    swapped = ArrayReader(np.arange(6, dtype=">u2").reshape(2, 3)).read().data
    assert swapped.dtype.isnative
    np.testing.assert_array_equal(swapped[0], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "array", [np.zeros(4), np.zeros((1, 2, 3, 4)), np.zeros((0, 3)), np.zeros((2, 2), complex), np.array([["a"]]), None]
)
def test_what_is_no_image(array):
    with pytest.raises(
        InputError, match=r"is not an image: \(row, col\) or \(band, row, col\) of real numbers is needed"
    ):
        ArrayReader(array)
