"""SpectralImage: the usable bands, statistics, filled windows, the mosaic, and swapped axes."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from rsunfold.cube import Meta, Window
from rsunfold.errors import DeviceError, InputError
from rsunfold.infer import defects
from rsunfold.infer import spectral as module
from rsunfold.infer.defects import spectral_axis
from rsunfold.infer.gaps import LEARNER_BYTES, Mender
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io import RasterWriter
from rsunfold.io.memory import ArrayReader


def opened(data, **extra):
    return SpectralImage(ArrayReader(data, **extra), near=True)


def test_statistics_of_the_valid_pixels(noisy):
    data = noisy.copy()
    data[3, 2, 5] = np.nan
    data[:, 20, 1] = -9999
    image = opened(data, nodata=-9999)
    valid = np.ones(data.shape[1:], bool)
    valid[2, 5] = valid[20, 1] = False
    s = image.statistics
    assert (s.pixels, s.valid_pixels, s.passed) == (480, 478, {})
    np.testing.assert_allclose(s.moments.mean, data[:, valid].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(s.moments.covariance, np.cov(data[:, valid], bias=True), atol=1e-7)


def test_strips_do_not_change_the_statistics(noisy, monkeypatch):
    whole = opened(noisy).statistics
    monkeypatch.setattr(module, "STRIP_BYTES", 4 * 16 * 20 * 3)
    strips = opened(noisy)
    assert [w.height for w in strips.strips(16)] == [3] * 8
    for name in ("moments", "near"):
        a, b = getattr(whole, name), getattr(strips.statistics, name)
        assert a.count == b.count
        np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_holes_do_not_turn_the_directions(share):
    """Where few pixels have all their neighbours, the covariance says more of the signal than these."""
    rng = np.random.default_rng(3)
    row, col = np.mgrid[:64, :64] / 64
    spectra = 0.5 + 0.4 * np.cos(np.pi * (np.arange(60)[:, None] + 0.5) / 60 * np.arange(1, 5))
    parts = np.array([1 + np.cos(2 * np.pi * (k // 2 * row + (k + 1) // 2 * col)) for k in range(1, 5)])
    clean = np.tensordot(spectra, parts, axes=1)
    cube = clean + 0.3 * rng.standard_normal(clean.shape)
    cube[:, rng.random((64, 64)) < share] = np.nan
    found = opened(cube.astype(np.float32)).subspace()
    signal = ((clean - clean.mean(axis=(1, 2), keepdims=True)) / found.sigma[:, None, None]).reshape(60, -1)
    E = found.basis[:, : found.A.shape[1]]
    lost = [np.mean((signal - A @ (A.T @ signal)) ** 2) for A in (found.A, E)]
    assert lost[0] < 1.05 * lost[1]


def test_integers_have_the_statistics_of_their_values(noisy):
    counts = np.rint(noisy * 300).astype(np.int16)
    whole, floats = opened(counts).statistics, opened(counts.astype(np.float32)).statistics
    np.testing.assert_allclose(whole.near.covariance, floats.near.covariance)


def test_bands_that_take_no_part(noisy):
    data = noisy.copy()
    data[2], data[5] = np.nan, 7
    image = opened(data)
    assert image.statistics.passed == {2: "no valid sample", 5: "constant"}
    assert image.bands == [b for b in range(16) if b not in (2, 5)]
    assert image.statistics.valid_pixels == 480 and len(image.statistics.moments.mean) == 14


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((4, 5, 6), np.nan), "has no valid pixel"),
        (np.full((4, 5, 6), 3), "is constant in every band"),
        (np.ones((4, 1, 1)) * np.arange(4)[:, None, None], "has a single valid pixel"),
        (
            np.where(np.arange(30).reshape(1, 5, 6) % 2 == np.arange(2)[:, None, None], np.nan, 1.0),
            "has no pixel that is valid in every",
        ),
    ],
)
def test_images_without_anything_to_denoise(data, message):
    with pytest.raises(InputError, match=message):
        opened(data)


def test_windows_are_filled_as_the_whole_image(noisy):
    data = np.tile(noisy, (1, 4, 4))
    rng = np.random.default_rng(0)
    data[:, rng.random(data.shape[1:]) < 0.2] = np.nan
    data[:, 40:, 30:] = np.nan  # farther from data than the fill reaches
    image = opened(data)
    whole, valid = image.read(Window(0, 0, 96, 80))
    assert np.isfinite(whole).all() and not valid[50, 50]
    np.testing.assert_array_equal(whole[:, valid], data[:, valid])
    np.testing.assert_allclose(whole[:, 80, 70], image.statistics.moments.mean, rtol=1e-5)
    for window in (Window(10, 7, 9, 11), Window(30, 20, 40, 33), Window(95, 79, 1, 1)):
        part, ok = image.read(window)
        np.testing.assert_allclose(part, whole[:, *window.slices], atol=1e-6)
        np.testing.assert_array_equal(ok, valid[window.slices])


def test_the_fill_is_near_what_is_around(noisy):
    data = noisy.copy()
    data[:, 10, 10] = np.nan
    filled = opened(data).read(Window(0, 0, 24, 20))[0][:, 10, 10]
    near = np.delete(noisy.reshape(16, -1), 10 * 20 + 10, axis=1).mean(axis=1)
    np.testing.assert_allclose(filled, near, atol=0.15)


@pytest.mark.parametrize("shape", [(3, 40, 40), (3, 1, 900), (3, 900, 1), (3, 5, 200)])
def test_the_mosaic_is_made_of_pixels_of_the_image(shape, monkeypatch):
    monkeypatch.setattr(module, "MOSAIC_SIDE", 16)
    monkeypatch.setattr(module, "MOSAIC_TILE", 8)
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found, valid, columns = opened(data).mosaic
    np.testing.assert_array_equal(found[0] % shape[2], np.broadcast_to(columns, found[0].shape))
    assert found.shape[0] == 3 and 0 < found[0].size <= 16**2 and valid.shape == found.shape[1:]
    assert len(np.unique(found[0])) == found[0].size  # no pixel twice
    np.testing.assert_array_equal(found[1] - found[0], np.float32(data[0].size))


@pytest.mark.parametrize("where", [(slice(40, 50), slice(None)), (slice(None), slice(66, 69)), (70, 70)])
def test_the_mosaic_is_where_the_valid_pixels_are(where, monkeypatch):
    """Of an image that has none where the evenly spread windows lie, and of one that has a few there."""
    monkeypatch.setattr(module, "MOSAIC_SIDE", 16)
    monkeypatch.setattr(module, "MOSAIC_TILE", 8)
    monkeypatch.setattr(module, "CELL", 8)
    rows, cols = 90, 75
    data = np.arange(3 * rows * cols, dtype=np.float32).reshape(3, rows, cols)
    valid = np.zeros((rows, cols), bool)
    valid[where] = valid[50, 70] = True
    image = opened(np.where(valid, data, np.nan))
    found, inside, columns = image.mosaic
    assert found.shape[1:] == inside.shape and inside.sum() > 0 and found[0].size <= 16**2
    pixels = found[0][inside]
    assert valid.ravel()[pixels.astype(int)].all()
    expected = np.broadcast_to(columns, inside.shape)[inside]
    np.testing.assert_array_equal(pixels % cols, expected)
    assert len(np.unique(pixels)) >= min(valid.sum(), 16**2 // 4)


def test_a_constant_band_does_not_decide_which_pixels_are_valid(noisy):
    data = noisy.copy()
    data[6] = 7
    data[6, :2] = np.nan
    s = opened(data).statistics
    assert s.valid_pixels == s.pixels and s.passed == {6: "constant"}
    others = np.delete(noisy, 6, axis=0).reshape(15, -1)
    np.testing.assert_allclose(s.moments.mean, others.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("rows", "out"), [(2, False), (4, True)])
@pytest.mark.parametrize("how", ["nan", "nodata"])
def test_a_band_that_few_pixels_have_takes_no_part(noisy, rows, out, how):
    """Another border of the image, which most bands lack, stays one."""
    data, value = noisy.copy(), np.nan if how == "nan" else -9999
    data[6, :rows], data[:8, :, 18:] = value, value
    s = SpectralImage(ArrayReader(data, nodata=value)).statistics
    lost = 100 * (rows / 24 if out else 0)
    assert s.passed == ({6: f"no data in {lost:.0f} % of the pixels that others have"} if out else {})
    assert s.valid_pixels == 18 * (24 if out else 24 - rows)


def test_bands_whose_variance_is_no_number_are_constant(noisy):
    data = noisy.astype(np.float64)
    data[2] *= 1e-200
    assert opened(data).statistics.passed == {2: "constant"}
    with pytest.raises(InputError, match="constant in every band"):
        opened(noisy.astype(np.float64) * 1e-200)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float32, np.float64])
def test_spikes_can_be_limited(noisy, dtype):
    counts = np.rint(1000 + 100 * noisy / noisy.std()).astype(dtype)
    spiked = counts.copy()
    spiked[3, 5, 6] = 65535 if dtype == np.uint16 else 1e9
    monster = SpectralImage(ArrayReader(spiked)).statistics.moments
    assert monster.high[3] == spiked[3, 5, 6]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defects, "FAR", 60 if dtype == np.uint16 else defects.FAR)
        image, plain = (SpectralImage(ArrayReader(a), spikes="limited") for a in (spiked, counts))
    assert image.spiked == [3] and plain.spiked == [] and plain.remarks() == []
    assert "samples of 1 band(s) (4) lie more than" in image.remarks()[0]
    highest = image.statistics.moments.high[3]
    assert highest == np.delete(counts[3].ravel(), 5 * 20 + 6).max()
    read, mosaic = image.read(Window(0, 0, 24, 20))[0], image.mosaic[0]
    assert read[3, 5, 6] == mosaic[3, 5, 6] == pytest.approx(highest, rel=1e-6)
    np.testing.assert_array_equal(np.delete(read, 3, axis=0), np.delete(counts, 3, axis=0).astype(read.dtype))
    np.testing.assert_allclose(np.delete(read[3], 5, axis=0), np.delete(counts[3], 5, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(
        np.delete(image.statistics.moments.high, 3), np.delete(plain.statistics.moments.high, 3)
    )


@pytest.mark.parametrize("spikes", ["limited", "holes", "outliers"])
def test_the_rest_of_a_scene_is_no_spike(noisy, spikes):
    """A sea of one or two counts, and land of thousands."""
    counts = np.rint(3000 + 100 * noisy / noisy.std()).astype(np.uint16)
    counts[:, :, :14] = np.random.default_rng(0).integers(0, 3, counts[:, :, :14].shape)
    image = SpectralImage(ArrayReader(counts), spikes=spikes)
    assert image.spiked == [] and image.statistics.valid_pixels == 480
    counts[4, 20, 18] = 65535
    image = SpectralImage(ArrayReader(counts), spikes=spikes)
    assert image.spiked == []


@pytest.mark.parametrize(("wild", "spiked"), [(10, [1]), (11, [])])
def test_a_thousandth_of_the_samples_may_be_spikes(wild, spiked):
    counts = np.random.default_rng(0).integers(19, 22, (3, 100, 100)).astype(np.uint16)
    counts[1, 60, :wild] = 60000
    assert SpectralImage(ArrayReader(counts), spikes="limited").spiked == spiked


@pytest.mark.parametrize("spikes", ["limited", "holes", "outliers"])
def test_what_the_mosaic_misses_is_no_spike_either(spikes, monkeypatch):
    monkeypatch.setattr(module, "MOSAIC_SIDE", 16)
    monkeypatch.setattr(module, "MOSAIC_TILE", 8)
    rng = np.random.default_rng(0)
    counts = rng.integers(19, 22, (3, 90, 90)).astype(np.uint16)
    counts[:, 12:24, 12:24] += 3000  # between the windows
    image = SpectralImage(ArrayReader(counts), spikes=spikes)
    assert image.mosaic[0].max() < 100 and image.spiked == []
    counts[1, 60, 3] = 60000
    image = SpectralImage(ArrayReader(counts), spikes=spikes)
    assert image.spiked == []  # land and spike are one population
    counts[:, 12:24, 12:24] -= 3000
    image = SpectralImage(ArrayReader(counts), spikes=spikes)
    assert image.spiked == [1]


@pytest.mark.parametrize("spikes", ["kept", "limited", "holes", "outliers"])
@pytest.mark.parametrize(
    ("value", "kind"), [(-9999, np.float32), (-9999.9, np.float64), (-(2**31), np.int32), (65535, np.uint16)]
)
@pytest.mark.parametrize("dead", [False, True])
def test_a_number_that_many_pixels_hold_in_every_band_is_no_data(noisy, value, kind, dead, spikes):
    data = (abs(noisy) * 900 if kind in (np.int32, np.uint16) else noisy).astype(kind)
    data[:, :3, :7] = value
    if dead:
        data[4] = 0
    image = SpectralImage(ArrayReader(data), spikes=spikes)
    assert image.fills == [np.float32(value)] and image.statistics.valid_pixels == 480 - 21
    declared = SpectralImage(ArrayReader(data, nodata=value), spikes=spikes)
    np.testing.assert_array_equal(image.statistics.moments.covariance, declared.statistics.moments.covariance)
    for one, other in zip(image.read(Window(0, 0, 24, 20)), declared.read(Window(0, 0, 24, 20)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert f"many pixels hold {np.float32(value):g} in every band" in image.remarks()[0] and not declared.remarks()


def test_pixels_that_are_0_in_every_band_are_told(noisy):
    data = noisy.copy()
    data[:, :6, :10] = 0
    image = opened(data)
    (remark,) = image.remarks()
    assert image.statistics.valid_pixels == 480 and "about 12% of the pixels are 0 in every band" in remark
    data[0, :6, :10] = 0.1
    assert opened(data).remarks() == []


@pytest.mark.parametrize("seen", [False, True])
def test_several_numbers_may_stand_for_no_data(noisy, seen, monkeypatch):
    if not seen:
        monkeypatch.setattr(module, "MOSAIC_SIDE", 8)
        monkeypatch.setattr(module, "MOSAIC_TILE", 4)
    data = noisy.copy()
    data[:, 5:7, 5:9], data[:, 9, 9:13] = -9999, -8888
    image = opened(data)
    assert image.fills == [-9999, -8888] and image.statistics.valid_pixels == 480 - 12


def test_fill_may_be_shifted_between_detectors(noisy):
    data = noisy.copy()
    data[:, 5:7, 5:15] = data[:8, 7, 5:15] = -9999
    assert opened(data).fills == [-9999]


def test_the_largest_number_of_a_type_with_a_scale(noisy):
    data = (abs(noisy) * 900).astype(np.uint16)
    data[:, :3, :7] = 65535
    reader = ArrayReader(data)
    reader.meta = replace(reader.meta, scales=(1e-4,) * 16, offsets=(0.5,) * 16)
    assert SpectralImage(reader).fills == [pytest.approx(65535e-4 + 0.5)]


@pytest.mark.parametrize(
    ("kind", "most", "found", "told"),
    [
        (np.uint16, 12000, True, "were taken to have no data"),
        (np.uint16, 40000, True, "were taken to have no data"),
        (np.uint16, 50000, False, "are 65535 in every band and were taken as measured"),
        (np.uint8, 100, False, None),  # white is common
    ],
)
def test_the_end_of_a_type_need_not_be_far_beyond_the_others(noisy, kind, most, found, told):
    data = (abs(noisy) / abs(noisy).max() * most).astype(kind)
    data[:, :3, :7] = np.iinfo(kind).max
    image = opened(data)
    assert image.fills == [65535] * found
    assert [told in remark for remark in image.remarks()] == [True] * (told is not None)


@pytest.mark.parametrize("value", ["median", 0, "bright"])
def test_flat_spectra_of_dark_and_bright_objects_are_data(noisy, value):
    data = noisy.copy()
    data[:, :3, :7] = {"median": np.median(noisy), "bright": 20 * noisy.max()}.get(value, value)
    assert not opened(data).fills


@pytest.mark.parametrize(("ranges", "found"), [(0.2, 0), (0.8, 1)])
def test_a_number_a_little_below_all_others_is_data(noisy, ranges, found):
    data = abs(noisy)
    data[:, :3, :7] = -ranges * data.max()
    assert len(opened(data).fills) == found


def test_one_number_in_a_few_bands_says_nothing(noisy):
    data = noisy[:4].copy()
    data[:, :3, :7] = -9999
    assert not opened(data).fills


def test_one_number_in_every_band_says_nothing_where_no_pixel_has_it_in_all(noisy):
    data = noisy.copy()
    for band in range(16):
        data[band, band] = -9999
    assert not opened(data).fills


def test_lamps_that_saturate_and_single_pixels_are_data(noisy):
    counts = (noisy * 900).astype(np.uint16)
    counts[:, :2, :2] = 65535  # less than a hundredth
    assert not opened(counts).fills
    data = noisy.copy()
    data[:, 0, 0] = -9999  # one pixel is a spike
    assert not opened(data).fills


@pytest.mark.parametrize("mend", [False, True])
def test_what_may_be_held_bounds_the_strips(noisy, mend):
    row, beside = 4 * 16 * 20, (4 + LEARNER_BYTES * mend) * 16 * 20 * 24
    copies = module.STRIP_COPIES_NEAR + module.MENDED_COPIES * mend
    image = SpectralImage(ArrayReader(noisy), near=True, mend=mend, room=beside + copies * row * 3)
    assert [w.height for w in image.strips(16)] == [3] * 8
    with pytest.raises(DeviceError, match=r"16 bands of 20 columns need \d+ MB .*--memory leaves \d MB"):
        SpectralImage(ArrayReader(noisy), near=True, mend=mend, room=beside + copies * row - 1)


def test_swapped_axes(clean, noisy, tmp_path):
    for name, axis in (("rows", 1), ("columns", 2)):
        swapped = np.moveaxis(clean, 0, axis)
        (note,) = opened(swapped).remarks()
        assert note.startswith(f"the {name} look like the spectral axis") and "numpy.moveaxis" in note
        assert opened(swapped, wavelengths=range(400, 400 + len(swapped))).remarks() == []
        size = dict(zip(("bands", "rows", "cols"), swapped.shape, strict=True))
        with RasterWriter(tmp_path / f"{name}.tif", **size, dtype=np.float32, meta=Meta()) as writer:
            writer.write(swapped)
        with SpectralImage(str(tmp_path / f"{name}.tif")) as image:
            assert image.remarks()[0].startswith(f"the {name} look like the spectral axis")
    for right in (clean, noisy, clean[:7], clean[:, :1, :1] * np.linspace(1, 2, 20), noisy - clean):
        assert not [note for note in opened(right + 0 * clean[: len(right)]).remarks() if "axis" in note]


@pytest.mark.parametrize("name", ["abu-urban-3", "abu-beach-3", "hydice-urban", "pavia-car", "san-diego"])
def test_axes_of_real_scenes(shared, name):
    data = loadmat(shared / "data" / "had" / f"{name}.mat")["data"].transpose(2, 0, 1).astype(np.float32)
    assert spectral_axis(data) is None
    assert spectral_axis(data.transpose(1, 0, 2)) == "rows"
    assert spectral_axis(data.transpose(1, 2, 0)) == "columns"


def test_axes_of_hard_scenes(shared):
    """A dark corner; stripes stronger than the scene; few bands; bands that are no spectrum, but smooth fields."""
    toy = loadmat(shared / "data" / "hsi" / "clean" / "cave-chart-and-stuffed-toy.mat")
    toy = max((v for v in toy.values() if getattr(v, "ndim", 0) == 3), key=np.size).transpose(2, 0, 1)
    for row in range(0, 256, 32):
        assert spectral_axis(toy[:, row : row + 64, :64]) is None
    rng = np.random.default_rng(0)
    mixed = np.tensordot(rng.random((60, 5)), rng.random((5, 80, 80)), axes=1)
    assert spectral_axis(mixed + 2 * mixed.std() * rng.standard_normal((60, 1, 80))) is None
    gains = (1 + 0.02 * rng.standard_normal((100, 1, 80))) * np.linspace(0.3, 0.6, 100)[:, None, None]
    assert spectral_axis(gains * (1 + 0.01 * rng.standard_normal((1, 80, 80)))) is None
    assert spectral_axis(mixed[:15].transpose(1, 0, 2)) is None


def test_the_origin_is_where_0_lies(noisy):
    data = noisy.copy()
    data[3, 5, 6] = 0
    image = opened(data)
    assert image.scaled(Window(0, 0, 24, 20))[0][3, 5, 6] == pytest.approx(image.scene().origin, rel=1e-5)
    assert 0.1 < image.scene().origin < 0.9


@pytest.mark.parametrize(("dtype", "unit"), [(np.int32, 20000), (np.int64, 20000), (np.float64, 1)])
def test_an_offset_that_float32_cannot_carry_changes_nothing(noisy, dtype, unit):
    """Nor do holes, the mosaic, the sample of the scene and the way back."""
    near = (noisy * unit).astype(np.float64)
    near = np.rint(near) if np.issubdtype(dtype, np.integer) else near
    offset = 1e9 * (1 if unit > 1 else 1e-3)
    images = [
        SpectralImage(ArrayReader((near + o).astype(dtype), nodata=o + near.max()), near=True) for o in (0, offset)
    ]
    assert [image.kind for image in images] == [np.float32, np.float64]
    whole = Window(0, 0, *noisy.shape[1:])
    plain, shifted = (image.subspace() for image in images)
    np.testing.assert_allclose(shifted.sigma, plain.sigma, rtol=1e-3)
    a, b = (s.whiten(image.read(whole)[0]) for s, image in zip((plain, shifted), images, strict=True))
    np.testing.assert_allclose(b, a, atol=2e-3)
    back = shifted.colour(b, images[1].kind) - offset
    np.testing.assert_allclose(back, images[1].read(whole)[0] - offset, atol=1e-5 * unit)
    scenes = [image.scene().sample for image in images]
    np.testing.assert_allclose(scenes[1], scenes[0], atol=1e-5)


def test_fill_along_a_side_is_no_spectral_axis(noisy):
    data = noisy.copy()
    data[:, :, :5] = 0
    assert not [note for note in opened(data).remarks() if "axis" in note]


def test_swapped_axes_of_a_container_are_refused(clean, tmp_path):
    orders = {"right": clean, "bil": clean.transpose(1, 0, 2), "bip": clean.transpose(1, 2, 0)}
    for name, data in orders.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["cube"] = data
    with SpectralImage(str(tmp_path / "right.h5")) as image:
        assert image.count == 16
    for name, axis in (("bil", "rows"), ("bip", "columns")):
        with pytest.raises(
            InputError, match=rf"the {axis} of .*{name}\.h5 look like its spectral axis.*\(bands, rows, "
        ):
            SpectralImage(str(tmp_path / f"{name}.h5"))


@pytest.mark.parametrize("strip", [3, 24])
def test_pixels_that_lack_some_bands_are_mended(noisy, strip, monkeypatch):
    monkeypatch.setattr(module, "STRIP_BYTES", 4 * 16 * 20 * strip)
    data, dead = noisy.copy(), np.zeros(noisy.shape, bool)
    dead[np.arange(16), :, np.random.default_rng(0).permutation(16)] = True  # detectors
    data[dead] = data[:, 5, 19] = np.nan
    image = SpectralImage(ArrayReader(data), near=True, mend=True)
    s = image.statistics
    assert (s.valid_pixels, s.partial, s.mended) == (479, 16 * 24, 16 * 24) and (s.lacking == 24).all()
    whole, valid = image.read(image.whole)
    assert np.isfinite(whole).all() and valid.sum() == 479
    np.testing.assert_array_equal(whole[:, valid][~dead[:, valid]], noisy[:, valid][~dead[:, valid]])
    for window in (Window(0, 0, 24, 3), Window(7, 4, 2, 16)):
        np.testing.assert_allclose(image.read(window)[0], whole[:, *window.slices], atol=1e-6)
    assert "were processed as their other bands tell" in image.remarks()[0]


def test_what_is_mended_is_no_spike(noisy):
    """Before spikes are known, one that is another's several times makes wild numbers of what its pixel lacks."""
    data = noisy.copy()
    middle = np.median(data[:6], axis=(1, 2), keepdims=True)
    data[:6, 3, 4] += 900 * 1.4826 * np.median(abs(data[:6] - middle), axis=(1, 2))  # not far enough for a spike
    data[6, 3, 4], data[6, 12, 9], data[:6, 12, 9] = 1e4, 2e4, np.nan
    image = SpectralImage(ArrayReader(data), near=True, mend=True, spikes="outliers")
    assert image.spiked == [6] and image.statistics.mended == 1


@pytest.mark.parametrize(("constant", "lacking", "mended"), [(4, 11, 0), (8, 9, 96)])
def test_bands_that_are_constant_decide_nothing_of_what_is_mended(constant, lacking, mended, noisy):
    """Of the first bands, that are constant, and others: less than half are lacking of all, but more of those that
    vary; or more of all, but less of these."""
    data = noisy.copy()
    data[:constant] = 100
    data[(4 if mended == 0 else 0) : lacking, :, :4] = np.nan
    image = SpectralImage(ArrayReader(data), near=True, mend=True)
    s = image.statistics
    assert s.bands == list(range(constant, 16)) and (s.partial, s.mended) == (96, mended)
    assert s.valid_pixels == image.read(image.whole)[1].sum() == 384 + mended


def test_what_is_mended_depends_on_no_strip(noisy, monkeypatch):
    """Also where few pixels have data, which alone tell what others lack."""
    monkeypatch.setattr(module, "LEARNED_FROM", 50)
    data = noisy.copy()
    data[:, 4:] = np.nan
    data[np.arange(80) % 16, np.arange(80) // 20, np.arange(80) % 20] = np.nan
    spectra, learned = [], Mender.learned
    monkeypatch.setattr(Mender, "learned", lambda *of: spectra.append(of[1].shape[1]) or learned(*of))
    parts = []
    for rows in (24, 1):
        monkeypatch.setattr(module, "STRIP_BYTES", 4 * 16 * 20 * rows)
        parts.append(SpectralImage(ArrayReader(data), mend=True).read(Window(0, 0, 4, 20))[0])
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)
    assert spectra == [40, 40]  # every other one


def test_pixels_that_lack_some_bands_are_told(noisy):
    """Dark pixels of whole numbers whose samples are the nodata value."""
    data = np.rint(abs(noisy) * 900).astype(np.uint16) + 1
    data[12:, 3:, 3:5] = data[5, 3, 3] = 0
    image = opened(data, nodata=0)
    (remark,) = image.remarks()
    assert image.statistics.partial == 42 and image.statistics.mended == 0
    assert remark.startswith("9% of the pixels with data lack some bands, most of them band(s) 13, 14, 15, 16, 6: 0, ")
    assert remark.endswith("42 took no part")
    data[12:, 4:, 3:5] = 7
    assert not opened(data, nodata=0).remarks()  # few
