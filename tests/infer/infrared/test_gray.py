"""Any file as one gray band: scaling, band choice, and what stands for pixels that hold nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from PIL import Image

from rsunfold.cube import Window
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.infrared import gray
from rsunfold.infer.infrared.gray import FILL_REACH, LIMITS, GrayImage, Reading
from rsunfold.io.memory import ArrayReader

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RGB = [rasterio.enums.ColorInterp.red, rasterio.enums.ColorInterp.green, rasterio.enums.ColorInterp.blue]


@pytest.fixture
def write(tmp_path):
    """Write bands (or one band) to a GeoTIFF; returns its name."""

    def make(data, colour=False, **profile):
        data = np.asarray(data)
        data = data[None] if data.ndim == 2 else data
        size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **size, photometric="MINISBLACK", **profile) as ds:
            ds.write(data)
            if colour:
                ds.colorinterp = RGB
        return str(tmp_path / "a.tif")

    return make


def scene(side: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth clutter, float64, about 0 to 1, with a small bright target at (20, 30)."""
    rows, cols = np.mgrid[:side, :side] / 10
    clutter = 0.4 + 0.2 * np.sin(rows) * np.cos(cols) + np.random.default_rng(seed).normal(0, 0.01, (side, side))
    clutter[20:22, 30:32] = 0.95
    return clutter


def read(name: str, **options):
    with GrayImage(name, Reading(**options)) as image:
        data, valid = image.read()
        assert data.dtype == np.float32 and valid.dtype == bool and data.shape == valid.shape
        assert np.isfinite(data).all()
        return data, valid, image.scale


# ------------------------------------------------------------------ scaling


def test_8_bit_is_divided_by_255(write):
    stored = np.uint8(255 * scene())
    data, valid, scale = read(write(stored))
    np.testing.assert_allclose(data, stored / 255, rtol=1e-6)
    assert valid.all() and (scale.low, scale.high, scale.how) == (0, 255, "8 bit: 0 to 255")


def test_fewer_bits_have_their_own_range(write):
    data, _, scale = read(write(np.array([[0, 3], [15, 9]], np.uint8), nbits=4))
    np.testing.assert_allclose(data, [[0, 0.2], [1, 0.6]], rtol=1e-6)
    assert scale.how == "4 bit: 0 to 15"
    data, _, _ = read(write(np.array([[0, 1], [1, 0]], np.uint8), nbits=1))
    np.testing.assert_array_equal(data, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint16, 7000, 9000),
        (np.int16, -1200, 800),
        (np.float32, -3.5, 12.25),
        (np.float64, 1e-6, 2e-6),
        (np.uint32, 3_000_000_000, 3_000_001_000),
        (np.int32, -100_000_500, -100_000_000),
    ],
)
def test_other_types_are_scaled_by_percentiles(write, dtype, low, high):
    stored = (low + (high - low) * scene()).astype(dtype)
    data, _, scale = read(write(stored))
    a, b = np.percentile(stored, [0.1, 99.9])
    assert (scale.low, scale.high) == pytest.approx((a, b)) and "percentiles 0.1 and 99.9 of 4096" in scale.how
    exact = (stored.astype(np.longdouble) - np.longdouble(a)) / np.longdouble(b - a)
    np.testing.assert_allclose(data, exact.clip(*LIMITS).astype(float), atol=2e-5)
    assert scale.as_dict() == {"low": scale.low, "high": scale.high, "fill": scale.fill, "how": scale.how}


def test_a_dim_target_of_a_16_bit_image_keeps_its_contrast(write):
    stored = np.random.default_rng(3).normal(12_000, 20, (200, 200))
    stored[90:93, 100:103] += 150  # 0.2 % of the type's range, 7.5 sigmas, beyond the upper percentile
    data, _, scale = read(write(stored.round().astype(np.uint16)))
    background = data[:80].std()
    contrast = (data[90:93, 100:103].mean() - data[:80].mean()) / background
    assert contrast == pytest.approx(7.5, rel=0.05)
    assert background > 0.1  # it would be 0.0003, had the type's range been taken
    assert data[91, 101] > 1.2 and scale.high < 12_100


def test_a_hot_pixel_is_limited_and_leaves_the_rest_alone(write):
    stored = np.uint16(1000 + 500 * scene(100))
    before, _, scale = read(write(stored))
    stored[50, 50], stored[60, 60] = 65535, 0
    data, _, again = read(write(stored))
    assert data[50, 50] == LIMITS[1] and data[60, 60] == LIMITS[0]
    assert (again.low, again.high) == pytest.approx((scale.low, scale.high), rel=0.01)
    others = np.ones(stored.shape, bool)
    others[50, 50] = others[60, 60] = False
    np.testing.assert_allclose(data[others], before[others], atol=0.05)


def test_given_scale(write):
    name = write(np.array([[10.0, 20.0, 30.0], [-1000.0, 1000.0, 15.0]], np.float32))
    data, _, scale = read(name, scale=(10, 30))
    np.testing.assert_allclose(data, [[0, 0.5, 1], [-1, 2, 0.25]])
    assert scale.how == "given"
    eight = write(np.array([[100, 150]], np.uint8))
    np.testing.assert_allclose(read(eight, scale=(100, 200))[0], [[0, 0.5]])


def test_scale_of_dark_targets(write):
    name = write(np.array([[10.0, 20.0, 30.0], [-1000.0, 1000.0, 15.0]], np.float32))
    data, _, scale = read(name, scale=(30, 10))
    np.testing.assert_allclose(data, [[1, 0.5, 0], [2, -1, 0.75]])
    assert (scale.low, scale.high, scale.how) == (30, 10, "given (dark is hot)")
    assert Reading(scale=(30, 10)).words == "gray in about [0, 1]: 30 to 10 (dark is hot) as 0 to 1"
    hot = scene()
    np.testing.assert_allclose(
        read(write(255 - np.uint8(200 * hot)), scale=(255, 0))[0], np.uint8(200 * hot) / 255, 1e-5
    )


@pytest.mark.parametrize("scale", [(40, -10), (-10, 40)])
def test_number_within_the_scale_is_no_mark(write, scale):
    stored = np.float32(20 + 5 * scene())
    stored[:9] = -9
    assert read(write(stored))[1].mean() < 1
    assert read(write(stored), scale=scale)[1].all()


@pytest.mark.parametrize("scale", [(1, 1), (0, float("nan")), (0, float("inf")), (float("-inf"), 0)])
def test_impossible_scale(scale):
    with pytest.raises(UsageError, match="--scale takes two numbers that differ, not"):
        Reading(scale=scale)


@pytest.mark.parametrize("value", [np.uint8(7), np.uint16(0), np.float32(1e10), np.int16(-5)])
def test_constant_image(write, value):
    data, valid, scale = read(write(np.full((5, 6), value)))
    assert np.ptp(data) == 0 and valid.all()
    assert scale.how == ("8 bit: 0 to 255" if value.dtype == np.uint8 else "constant image")


def test_mostly_constant_image_is_scaled_by_its_extremes(write):
    stored = np.zeros((100, 100), np.float32)
    stored[4, 5] = 8
    data, _, scale = read(write(stored))
    assert data[4, 5] == 1 and data.sum() == 1 and scale.how.startswith("minimum and maximum")


def test_scale_and_offset_of_the_file_count(write):
    name = write(np.uint8(200 * scene()))
    plain = read(name)[0]
    with rasterio.open(name, "r+") as ds:
        ds.scales, ds.offsets = (0.1,), (250.0,)
    data, _, scale = read(name)
    assert 250 < scale.low < scale.high < 275  # physical values: no longer 8 bit
    np.testing.assert_allclose(np.corrcoef(data.ravel(), plain.ravel())[0, 1], 1, atol=1e-6)


# ------------------------------------------------------------------ bands


def test_colour_becomes_luminance(write):
    bands = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    with GrayImage(write(bands, colour=True)) as image:
        assert "luminance" in image.band_used and image.scale.how == "8 bit: 0 to 255"
        data, _ = image.read()
    np.testing.assert_allclose(data, np.tensordot([0.299, 0.587, 0.114], bands / 255, 1), atol=1e-6)


def test_16_bit_colour_is_scaled_by_percentiles(write):
    bands = np.random.default_rng(0).integers(100, 5000, (3, 20, 30), np.uint16)
    _, _, scale = read(write(bands, colour=True))
    assert "percentiles" in scale.how and 100 <= scale.low < scale.high <= 5000


def test_several_bands_need_a_choice(write):
    bands = np.stack([np.full((4, 4), 10 * i, np.uint8) for i in range(4)])
    name = write(bands)
    with pytest.raises(InputError, match=r"a\.tif has 4 bands, but one is needed: choose one with --band"):
        GrayImage(name)
    with GrayImage(name, Reading(band=3)) as image:
        assert image.band_used == "band 3 of 4" and image.path == name and image.meta.driver == "GTiff"
        np.testing.assert_allclose(image.read()[0], 20 / 255)
    for wrong in (0, 5, -1):
        with pytest.raises(UsageError, match=rf"has 4 band\(s\), so --band must be 1 to 4, not {wrong}"):
            GrayImage(name, Reading(band=wrong))


def test_one_band_of_a_colour_picture_can_be_chosen(write):
    bands = np.stack([np.full((4, 4), 10 * i, np.uint8) for i in range(3)])
    np.testing.assert_allclose(read(write(bands, colour=True), band=2)[0], 10 / 255)


RAMP = np.tile(np.linspace(0, 1, 256), (30, 1))


def jet(heat):
    """False colours, uint8 (3, rows, cols), of 0 to 1: from blue over green to red."""
    return np.uint8(255 * np.clip(1.5 - np.abs(4 * heat - np.array([3, 2, 1]).reshape(-1, 1, 1)), 0, 1))


def iron(heat):
    """From black over red and yellow to white."""
    return np.uint8(255 * np.clip(3 * heat - np.arange(3).reshape(-1, 1, 1), 0, 1))


def with_letters(heat):
    """Gray with coloured letters on 4 % of the pixels."""
    return np.where((heat < 0.04) & (np.arange(3) == 1).reshape(-1, 1, 1), 255, np.uint8(255 * heat))


def of_jpeg(heat):
    """Gray whose bands differ as JPEG makes them."""
    return np.uint8(250 * heat + np.array([0, 5, 2]).reshape(-1, 1, 1))


def red_hot(heat):
    """Gray whose hottest hundredth is red."""
    return np.where(heat > 0.99, np.array([255, 0, 0]).reshape(-1, 1, 1), 255 * heat).astype(np.uint8)


@pytest.mark.parametrize(
    ("colours", "palette", "told"),
    [
        (jet, False, True),
        (jet, True, True),
        (iron, True, False),  # the hotter, the brighter
        (lambda heat: 255 - iron(heat), True, False),
        (red_hot, True, True),
        (with_letters, False, False),
        (of_jpeg, False, False),
    ],
)
def test_colours_that_mislead_are_told(write, tmp_path, colours, palette, told):
    if palette:
        picture = Image.fromarray(np.uint8(255 * RAMP), "P")
        picture.putpalette(colours(RAMP[:1])[:, 0].T.tobytes())
        picture.save(tmp_path / "a.png")
    name = str(tmp_path / "a.png") if palette else write(colours(RAMP), colour=True)
    with GrayImage(name) as image:
        assert image.band_used.startswith("luminance")
        assert any("is coloured, and the luminance that was used" in note for note in image.notes) == told
    with GrayImage(name, Reading(band=1)) as image:
        assert not any("coloured" in note for note in image.notes)


def test_complex_samples_are_refused(write):
    with pytest.raises(InputError, match="contains complex samples"):
        GrayImage(write(np.ones((4, 4), np.complex64)))


def test_arrays_and_bool():
    with GrayImage(ArrayReader(np.eye(5, dtype=bool))) as image:
        np.testing.assert_array_equal(image.read()[0], np.eye(5))


# ------------------------------------------------------------------ what is not valid


def with_holes() -> np.ndarray:
    """Float clutter with NaN: single pixels, a border, and a block wider than the fill reaches."""
    data = scene(128).astype(np.float32)
    rng = np.random.default_rng(1)
    data[rng.integers(0, 128, 60), rng.integers(0, 128, 60)] = np.nan
    data[:, :5] = np.nan
    data[40:110, 50:120] = np.nan
    data[3, 3] = np.inf
    return data


@pytest.mark.parametrize("form", ["nan", "nodata"])
def test_windows_agree_with_the_whole_image(write, form):
    stored = with_holes()
    holes = ~np.isfinite(stored)
    if form == "nodata":
        name = write(np.where(holes, -9999, stored * 1000).astype(np.int16), nodata=-9999)
    else:
        name = write(stored)
    with GrayImage(name) as image:
        whole, valid = image.read()
        np.testing.assert_array_equal(valid, ~holes)
        assert np.isfinite(whole).all()
        rng = np.random.default_rng(2)
        windows = [Window(0, 0, 1, 1), Window(127, 0, 1, 128), Window(70, 80, 5, 5), Window(0, 45, 128, 20)]
        for r, c in rng.integers(0, 120, (12, 2)):
            windows.append(Window(int(r), int(c), int(rng.integers(1, 129 - r)), int(rng.integers(1, 129 - c))))
        for window in windows:
            part, part_valid = image.read(window)
            assert np.abs(part - whole[window.slices]).max() <= 1e-5
            np.testing.assert_array_equal(part_valid, valid[window.slices])


def test_fill_is_the_mean_of_the_neighbours_and_far_away_the_median(write):
    stored = np.full((100, 100), 3.0, np.float32)
    stored[:, 50:] = 5.0
    stored[0, 0] = stored[10, 10] = np.nan
    stored[20:80, 20:80] = np.nan
    data, valid, scale = read(write(stored), scale=(0, 10))
    assert data[0, 0] == data[10, 10] == pytest.approx(0.3)
    assert data[50, 50] == pytest.approx(scale.fill) == pytest.approx(np.nanmedian(stored) / 10)
    near = 20 + FILL_REACH - 1
    assert data[50, near] == pytest.approx(0.3) and data[50, near + 1] == pytest.approx(scale.fill)
    np.testing.assert_allclose(data[valid], stored[valid] / 10, rtol=1e-6)


def test_holes_do_not_change_the_scale(write):
    stored = scene().astype(np.float32)
    stored[:10] = np.nan
    _, _, scale = read(write(stored))
    assert (scale.low, scale.high) == pytest.approx(tuple(np.percentile(stored[10:], [0.1, 99.9])))


@pytest.mark.parametrize(
    ("stored", "profile"),
    [
        (np.full((6, 7), np.nan, np.float32), {}),
        (np.full((6, 7), -1, np.int16), {"nodata": -1}),
        (np.zeros((6, 7), np.uint8), {"nodata": 0}),
    ],
)
def test_nothing_valid(write, stored, profile):
    with pytest.raises(InputError, match=r"a\.tif has no valid pixel: all are nodata, masked or not finite"):
        GrayImage(write(stored, **profile))


# ------------------------------------------------------------------ large images


def test_large_images_are_sampled(write, monkeypatch):
    monkeypatch.setattr(gray, "SAMPLE_PIXELS", 512 * 512)
    stored = np.uint16(5000 + 300 * np.random.default_rng(0).normal(size=(700, 800)))
    _, _, scale = read(write(stored))
    assert "of 186667 valid pixels" in scale.how
    assert (scale.low, scale.high) == pytest.approx(tuple(np.percentile(stored, [0.1, 99.9])), abs=60)


def test_every_part_of_a_large_image_decides_its_scale(write, monkeypatch):
    monkeypatch.setattr(gray, "SAMPLE_PIXELS", 50_000)
    monkeypatch.setattr(gray, "SIDE", 64)
    stored = np.random.default_rng(0).normal(290, 0.5, (900, 900)).astype(np.float32)
    stored[110:330, 110:330] += 20  # 6 % of the pixels
    layouts = ({}, {"tiled": True, "blockxsize": 16, "blockysize": 48}, {"tiled": True, "blockxsize": 256})
    scales = [read(write(stored, **blocks))[2] for blocks in layouts]
    assert (scales[0].low, scales[0].high) == pytest.approx(tuple(np.percentile(stored, [0.1, 99.9])), abs=0.3)
    assert scales[1:] == scales[:1] * 2  # however the file is cut


@pytest.mark.parametrize(
    ("block", "shape", "windows"),
    [
        ((1, 9000), (9000, 9000), (444, 9000)),
        ((256, 256), (9000, 9000), (1792, 2048)),
        ((1024, 1024), (2048, 40_000), (1024, 2048)),
        ((9000, 9000), (9000, 9000), (444, 9000)),  # no file is held as a whole
        ((9000, 1), (9000, 9000), (9000, 444)),
        ((5000, 5000), (9000, 9000), (800, 5000)),
        ((512, 512), (1, 5_000_000), (1953, 2048)),
    ],
)
def test_large_images_are_read_by_blocks(block, shape, windows):
    image = object.__new__(GrayImage)
    image.rows, image.cols = shape
    image.reader = SimpleNamespace(block_shape=block)
    assert image._blocks() == windows


def test_valid_pixels_outside_the_sampled_windows_are_found(write, monkeypatch):
    monkeypatch.setattr(gray, "SAMPLE_PIXELS", 512 * 512)
    stored = np.full((700, 800), np.nan, np.float32)
    stored[650:690, 700:780] = scene(80)[:40]
    data, valid, scale = read(write(stored))
    assert valid.sum() == 3200 and 0.1 < scale.low < scale.high < 1
    assert 0.3 < data[valid].mean() < 0.7
    with pytest.raises(InputError, match="no valid pixel"):
        GrayImage(write(np.full((700, 800), np.nan, np.float32)))


# ------------------------------------------------------------------ nodata that the file does not declare


@pytest.mark.parametrize(
    ("stored", "fill"),
    [
        (10 * scene(), -9999),
        (-40 + 100 * scene(), -32768),
        (-10 + 40 * scene(), -99),
        (-40 + 100 * scene(), -273),
        (-10 + 40 * scene(), -5555),
        (22000 + 5000 * scene(), -1),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_negative_number_that_is_far_from_all_others_is_no_data(write, stored, fill, kind):
    data = stored.astype(kind)
    data[:4] = fill
    with GrayImage(write(data)) as image:
        found, valid = image.read()
        assert image.fill == fill and not valid[:4].any() and valid[4:].all()
        (remark,) = image.remarks()
        assert remark.startswith(f"many pixels hold {fill}, far from all others, and were taken to have no data")
    declared, _, scale = read(write(data, nodata=fill))
    np.testing.assert_array_equal(found, declared)
    assert scale == image.scale
    with GrayImage(write(data), undeclared=False) as image:
        assert image.fill is None and image.read()[1].all() and image.remarks() == []


COLD = np.vstack([np.full((40, 64), -40.0), 15 + 0.5 * scene()[40:]]).astype(np.float32)


def test_what_may_be_a_temperature_is_no_mark_of_no_data(write):
    with GrayImage(write(COLD)) as image:
        assert image.fill is None and image.read()[1].all()
        (remark,) = image.remarks()
    assert remark.startswith("62.5% of the pixels hold -40, far from all others, which decides the scale")
    marked = np.where(COLD == -40, np.float32(-99), COLD)
    for scale, fill in ((None, -99), ((0, 20), -99), ((-100, 20), None)):
        with GrayImage(write(marked), Reading(scale=scale)) as image:
            assert image.fill == fill and image.read()[1].all() == (fill is None)


def test_few_pixels_that_decide_the_scale_are_told(write):
    dead = (8000 + 90 * np.random.default_rng(0).normal(size=(192, 192))).astype(np.uint16)
    flare = dead.copy()
    dead.flat[:: 192 * 192 // 110] = 0
    flare[50:57, 50:60] += np.linspace(6000, 9000, 70, dtype=np.uint16).reshape(7, 10)
    hot = dead.copy()
    hot[dead == 0] = 8000
    hot[50:58, 50:61] = 16383  # 0.2 % of the pixels
    ends = "1 % of the pixels at either end take 9"
    for data, words in ((dead, "0.3% of the pixels hold 0, far from"), (flare, ends), (hot, ends)):
        with GrayImage(write(data)) as image:
            (remark,) = image.remarks()
            assert remark.startswith(words)
        with GrayImage(write(data), Reading(scale=(7700, 8300))) as image:
            assert image.remarks() == []


def test_a_scale_in_other_units_is_told(write):
    counts = (41000 + 300 * scene()).astype(np.uint16)
    path = write(counts)
    with rasterio.open(path, "r+") as ds:
        ds.scales, ds.offsets = [0.00341802], [149.0]
    with GrayImage(path, Reading(scale=(41000, 43000))) as image:
        (remark,) = image.remarks()
    assert remark.startswith(
        "100% of the pixels lie far outside the scale 41000 to 43000 (the image has values from 289"
    )
    assert "after the file's own scale factor and offset" in remark
    for scale in ((288, 292), (289, 289.3)):  # of the latter some lie far beyond
        with GrayImage(path, Reading(scale=scale)) as image:
            assert image.remarks() == []


SKY = np.vstack([np.zeros((40, 64)), 8000 + 100 * scene()[40:]])
SKY[20:22, 30:33] = 4000
NIGHT = np.zeros((64, 64))
NIGHT[30:33, 30:33] = np.linspace(800, 1000, 9).reshape(3, 3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (np.clip(scene() - 0.45, 0, None).astype(np.float32), False),  # a background that was subtracted
        (np.where(scene() < 0.5, 0, scene()).astype(np.float32), True),  # an image that was cut off
        ((scene() > 0.9).astype(np.float32), False),
        (np.where(scene() > 0.9, 65535, 3000 + 500 * scene()).astype(np.uint16), False),  # a few that saturate
        (np.where(scene() > 0.55, 65535, 3000 + 500 * scene()).astype(np.uint16), True),
        (SKY.astype(np.uint16), True),
        (np.where(SKY == 0, -20, 2 + 28 * scene()).astype(np.float32), True),  # what the camera measures at least
        (np.where(scene() > 0.9, -20, -60 + 8 * scene()).astype(np.int16), False),  # targets
        (NIGHT.astype(np.uint16), True),
        (np.where(scene() < 0.3, 0, 20000 + 4000 * scene()).astype(np.uint16), True),  # perhaps around a swath
        (np.where(scene() < 0.3, 0, 255 * scene()).astype(np.uint8), False),
        (np.full((8, 8), 7, np.uint16), False),
    ],
)
def test_numbers_that_may_have_been_measured_are_kept_and_told(write, data, told):
    with GrayImage(write(data)) as image:
        assert image.fill is None and image.read()[1].all()
        remarks = image.remarks()
    assert len(remarks) == told
    bright = told and data.max() > 60_000
    words = "give --scale, or if they" if bright else "if they"
    assert all(f"which decides the scale: {words} have no data" in r for r in remarks)


def test_a_few_samples_far_below_are_kept(write):
    data = (200 + 20 * scene()).astype(np.float32)
    data[0, :4] = -9999
    with GrayImage(write(data)) as image:
        assert image.fill is None and image.remarks() == []
