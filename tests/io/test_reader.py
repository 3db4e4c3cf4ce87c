import json
from dataclasses import replace

import numpy as np
import pytest

from rsunfold.cube import Meta, Window
from rsunfold.errors import InputError
from rsunfold.io import full_range, open_cube
from rsunfold.io.reader import select_bands


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.hdr", "a.img", "a.mat", "no/such/folder/a.png", "a:b.png"])
def test_missing_file(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} does not exist"):
        open_cube(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.hdr", "a.img", "a.mat"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{name} is empty"):
        open_cube(tmp_path / name)


def test_folder(tmp_path):
    with pytest.raises(InputError, match="is a folder, not an image"):
        open_cube(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.mat", "a.hdr"])
def test_file_without_read_permission(plain_user, name):
    (plain_user / name).write_text("x")
    (plain_user / name).chmod(0)
    with pytest.raises(InputError, match=rf"{name} cannot be opened \(Permission denied\)"):
        open_cube(plain_user / name)


def test_folder_without_permission(plain_user):
    plain_user.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        open_cube(plain_user / "a.png")


def test_file_names_that_look_like_urls(write_tif, tmp_path):
    data = np.ones((1, 2, 3), np.uint8)
    write_tif(data).rename(tmp_path / "scene 12:30!x?.tif")
    with open_cube(tmp_path / "scene 12:30!x?.tif") as reader:
        np.testing.assert_array_equal(reader.read().data, data)


@pytest.mark.parametrize(
    "window", [Window(0, 0, 0, 1), Window(-1, 0, 2, 1), Window(0, 0, 4, 1), Window(0, 3, 1, 2), Window(0, -1, 1, 1)]
)
def test_windows_outside_the_image(write_tif, cube, window):
    with open_cube(write_tif(cube)) as reader, pytest.raises(ValueError, match="not inside an image of 3 rows and 4"):
        reader.read(window)


@pytest.mark.parametrize("bands", [[], [2], [-1]])
def test_bands_outside_the_image(write_tif, cube, bands):
    with open_cube(write_tif(cube)) as reader, pytest.raises(ValueError, match=r"not among 0 \.\. 1"):
        reader.read(bands=bands)


@pytest.mark.parametrize("bands", [[1], [1, 0], [0, 0, 1]])
def test_bands_in_any_order(write_tif, cube, bands):
    path = write_tif(cube, then=lambda ds: setattr(ds, "descriptions", ("a", "b")))
    with open_cube(path) as reader:
        read = reader.read(bands=bands)
    np.testing.assert_array_equal(read.data, cube[bands])
    assert read.meta.band_names == tuple("ab"[i] for i in bands)


def test_select_bands_keeps_empty_fields_empty():
    meta = select_bands(Meta(wavelengths=(1, 2, 3), nodata=(None, 0, 1), default_bands=(0, 1, 2)), [2, 0])
    assert meta.wavelengths == (3, 1) and meta.nodata == (1, None) and meta.fwhm == () and meta.default_bands == ()
    assert select_bands(replace(meta, default_bands=(0, 1, 1)), [1, 0]).default_bands == (1, 0, 0)


def test_closed_by_the_context(write_tif, cube):
    with open_cube(write_tif(cube)) as reader:
        pass
    with pytest.raises(InputError):
        reader.read()


def test_real_infrared_images(shared):
    for folder in sorted((shared / "data/irstd").glob("*/images")):
        image = min(folder.glob("*.png"))
        with open_cube(image) as reader, open_cube(folder.parent / "masks" / image.name) as mask:
            assert full_range(reader) == 255 and reader.read().valid.all()
            target = mask.read().data > full_range(mask) / 2
            assert 0 < target.sum() < 0.05 * target.size


def test_real_enmap_tile(shared):
    path = min((shared / "data/fs/enmap-potsdam/images").glob("*.tif"))
    with open_cube(path) as reader:
        meta, told = reader.meta, reader.describe()
        good = [i for i, bad in enumerate(meta.bad_bands) if not bad]
        assert reader.shape == (224, 32, 32) and len(good) == 218
        assert meta.wavelengths[0] == 418.24 and meta.fwhm[0] == 6.99561 and set(meta.nodata) == {-32768}
        assert not reader.read().valid.any()  # the bad bands are nodata throughout
        read = reader.read(bands=good)
    assert read.valid.all() and read.data.max() < 2 and len(read.meta.wavelengths) == 218
    assert told["crs"] == "EPSG:32633" and told["scale"] == 1e-4
    json.dumps(told, allow_nan=False)


def test_real_mat_files(shared):
    for path in sorted((shared / "data/hsi/noisy").glob("*.mat")):
        with open_cube(path) as reader:
            assert reader.read(Window(10, 20, 5, 6), bands=[0, 100]).shape == (2, 5, 6)
            assert len(reader.meta.wavelengths) in (0, reader.shape[0])
    with open_cube(shared / "data/hsi/noisy/salton-sea.mat") as reader:
        read = reader.read()
    np.testing.assert_array_equal(read.valid, np.isfinite(read.data).all(axis=0))


def test_real_unmixing_cube(shared):
    path = shared / "data/fs/jasper.mat"
    with pytest.raises(InputError, match=r"S_GT \(100 x 100 x 4\).*Y \(198 x 10000\)"):
        open_cube(path)
    with open_cube(path, var="A") as matrix, open_cube(path, var="S_GT") as image:
        np.testing.assert_array_equal(matrix.read().data, image.read().data)


@pytest.mark.parametrize("bands", [[True, False], [np.True_], [1.7]])
def test_bands_are_numbers(write_tif, bands):
    with open_cube(write_tif(np.ones((2, 2, 3), np.uint8))) as reader, pytest.raises((TypeError, ValueError)):
        reader.read(bands=bands)
