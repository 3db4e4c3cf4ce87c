"""Denoising metrics against values by hand and against skimage."""

import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from rsunfold.errors import InputError, UsageError
from rsunfold.metrics.denoising import quality, residual_structure


def cube(*bands):
    return np.array(bands, dtype=float)


@pytest.fixture
def pair():
    """A smooth clean cube (4, 30, 34), and the same with noise that grows from band to band."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:30, :34]
    clean = np.stack([0.5 + 0.3 * np.sin(x / (4 + b) + y / 7) for b in range(4)])
    return clean, clean + rng.normal(0, 1, clean.shape) * np.array([0.01, 0.03, 0.1, 0.2])[:, None, None]


def skimage_ssim(x, y, data_range=1.0):
    return structural_similarity(
        x, y, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )


# ---------------------------------------------------------------- by hand


CLEAN = cube([[1, 2], [2, 3]], [[4, 4], [4, 4]])
RESTORED = cube([[2, 2], [2, 3]], [[4, 4], [6, 4]])  # mse 1/4 and 1; clean means 2 and 4, restored 2.25 and 4.5


def test_psnr_and_ergas_by_hand():
    result = quality(CLEAN, RESTORED, data_range=10, published_ergas=True)
    assert result["psnr_per_band"] == pytest.approx([10 * math.log10(400), 20])
    assert result["psnr"] == pytest.approx((10 * math.log10(400) + 20) / 2)
    assert result["psnr_global"] == pytest.approx(10 * math.log10(100 / (5 / 8)))
    assert result["ergas"] == pytest.approx(100 * math.sqrt((0.25 / 4 + 1 / 16) / 2))
    assert result["ergas_published_code"] == pytest.approx(100 * math.sqrt((0.25 / 2.25 + 1 / 4.5) / 2))
    assert (result["data_range"], result["pixels"], result["nodata_pixels"], result["bands"]) == (10, 4, 0, 2)
    assert result["identical"] is False and result["bands_identical"] == 0 and result["ergas_bands"] == 2


def test_sam_by_hand():
    """Angles of 0 (only longer), 45 and 90 degrees, and two pixels without a spectrum."""
    clean = cube([[1, 1, 1, 0, 1]], [[1, 0, 0, 0, 1]])
    restored = cube([[3, 1, 0, 1, 0]], [[3, 1, 1, 1, 0]])
    result = quality(clean, restored)
    assert result["sam_degrees"] == pytest.approx(45)
    assert result["sam_radians"] == pytest.approx(math.pi / 4)
    assert result["sam_pixels_left_out"] == 2 and result["pixels"] == 5


def test_the_cosine_is_clipped():
    """The cosine of a spectrum with a multiple of itself is rounded to above 1 for some of these pixels."""
    spectrum = np.random.default_rng(0).random((7, 20, 20))
    product, norm = (
        (3 * spectrum**2).sum(axis=0),
        np.sqrt((spectrum**2).sum(axis=0)) * np.sqrt((9 * spectrum**2).sum(axis=0)),
    )
    assert (product / norm).max() > 1
    assert quality(spectrum, 3 * spectrum)["sam_radians"] < 1e-7


def test_a_spectrum_and_its_negative_are_half_a_turn_apart():
    assert quality(CLEAN, -CLEAN)["sam_degrees"] == pytest.approx(180)


def test_sam_without_any_spectrum():
    result = quality(np.zeros((2, 3, 3)), np.ones((2, 3, 3)))
    assert result["sam_radians"] is None and result["sam_degrees"] is None and result["sam_pixels_left_out"] == 9


def test_ergas_leaves_out_bands_of_mean_zero():
    clean = cube([[1, 1]], [[-1, 1]], [[2, 2]])
    restored = cube([[2, 2]], [[-1, 2]], [[2, 1]])
    result = quality(clean, restored, published_ergas=True)
    assert result["ergas"] == pytest.approx(100 * math.sqrt((1 + 0.5 / 4) / 2))
    assert result["ergas_bands"] == 2
    assert result["ergas_published_code"] == pytest.approx(100 * math.sqrt((1 / 2 + 0.5 / 0.5 + 0.5 / 1.5) / 3))
    nothing = quality(cube([[-1, 1]]), cube([[-2, 1]]), published_ergas=True)
    assert nothing["ergas"] is None and nothing["ergas_published_code"] is None and nothing["ergas_bands"] == 0


def test_every_figure_is_defined(pair):
    """What is not counted is a figure; those of each band are defined as one."""
    result = quality(*pair, published_ergas=True)
    figures = {name for name, value in result.items() if isinstance(value, float | list)} - {"data_range"}
    assert {name.removesuffix("_per_band") for name in figures} == result["conventions"].keys()


def test_the_published_variant_comes_only_on_request_and_is_named():
    plain, asked = quality(CLEAN, RESTORED), quality(CLEAN, RESTORED, published_ergas=True)
    assert "ergas_published_code" not in plain and "ergas_published_code" not in plain["conventions"]
    assert "not squared" in asked["conventions"]["ergas_published_code"]
    assert plain["conventions"] == quality(CLEAN, RESTORED)["conventions"]


# ---------------------------------------------------------------- against skimage


@pytest.mark.parametrize("data_range", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ssim_and_psnr_are_those_of_skimage(pair, data_range, dtype):
    clean, noisy = (c.astype(dtype) for c in pair)
    result = quality(clean, noisy, data_range=data_range)
    bands = [(x.astype(float), y.astype(float)) for x, y in zip(clean, noisy, strict=True)]
    ssim = [skimage_ssim(x, y, data_range) for x, y in bands]
    psnr = [peak_signal_noise_ratio(x, y, data_range=data_range) for x, y in bands]
    assert result["ssim_per_band"] == pytest.approx(ssim, rel=1e-9)
    assert result["ssim"] == pytest.approx(np.mean(ssim), rel=1e-9)
    assert result["psnr_per_band"] == pytest.approx(psnr, rel=1e-9)
    assert result["psnr"] == pytest.approx(np.mean(psnr), rel=1e-9)
    stacked = peak_signal_noise_ratio(clean.astype(float), noisy.astype(float), data_range=data_range)
    assert result["psnr_global"] == pytest.approx(stacked, rel=1e-9)
    assert result["ssim_pixels"] == 20 * 24


def test_more_noise_is_worse_by_every_figure(pair):
    clean, noisy = pair
    better, worse = quality(clean, clean + 0.3 * (noisy - clean)), quality(clean, noisy)
    for name in ("psnr", "psnr_global", "ssim"):
        assert better[name] > worse[name]
    for name in ("sam_radians", "ergas"):
        assert better[name] < worse[name]
    assert worse["psnr_per_band"] == sorted(worse["psnr_per_band"], reverse=True)
    assert worse["ssim_per_band"] == sorted(worse["ssim_per_band"], reverse=True)


# ---------------------------------------------------------------- nodata


def test_nodata_pixels_are_left_out(pair):
    """The valid part of a larger image gives what it gives alone, whatever stands in the rest."""
    clean, noisy = pair
    valid = np.zeros(clean.shape[1:], dtype=bool)
    valid[2:20, 5:29] = True
    spoilt = np.where(valid, noisy, np.nan)
    result = quality(np.where(valid, clean, -999), spoilt, valid=valid)
    alone = quality(clean[:, 2:20, 5:29], noisy[:, 2:20, 5:29])
    assert (result["pixels"], result["nodata_pixels"]) == (18 * 24, 30 * 34 - 18 * 24)
    for name in ("psnr", "psnr_global", "ssim", "sam_radians", "ergas", "psnr_per_band", "ssim_per_band"):
        assert result[name] == pytest.approx(alone[name], rel=1e-9), name
    assert result["ssim_pixels"] == alone["ssim_pixels"] == 8 * 14


def test_one_hole_costs_the_ssim_the_windows_that_hold_it(pair):
    clean, noisy = pair
    valid = np.ones(clean.shape[1:], dtype=bool)
    valid[15, 17] = False
    result = quality(clean, np.where(valid, noisy, np.inf), valid=valid)
    assert result["ssim_pixels"] == 20 * 24 - 11 * 11 and result["pixels"] == 30 * 34 - 1
    _, full = structural_similarity(
        clean[3], noisy[3], data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    used = np.zeros(valid.shape, dtype=bool)
    used[5:-5, 5:-5] = True
    used[10:21, 12:23] = False
    assert result["ssim_per_band"][3] == pytest.approx(full[used].mean(), rel=1e-9)


def test_an_image_smaller_than_the_window_has_no_ssim(pair):
    clean, noisy = (c[:, :10, :] for c in pair)
    result = quality(clean, noisy)
    assert result["ssim"] is None and result["ssim_per_band"] == [None] * 4 and result["ssim_pixels"] == 0
    assert result["psnr"] > 0
    assert quality(pair[0][:, :11], pair[1][:, :11])["ssim_pixels"] == 24


# ---------------------------------------------------------------- identical


def test_a_perfect_restoration(pair):
    clean, _ = pair
    result = quality(clean, clean.copy())
    assert result["identical"] is True and result["bands_identical"] == 4
    assert result["psnr"] is None and result["psnr_global"] is None and result["psnr_per_band"] == [None] * 4
    assert result["ssim"] == pytest.approx(1) and result["ergas"] == 0
    assert result["sam_radians"] == pytest.approx(0, abs=1e-7)


def test_one_perfect_band_does_not_make_the_mean_infinite():
    result = quality(CLEAN, cube(RESTORED[0], CLEAN[1]), data_range=10)
    assert result["psnr"] == result["psnr_per_band"][0] == pytest.approx(10 * math.log10(400))
    assert result["psnr_per_band"][1] is None
    assert result["identical"] is False and result["bands_identical"] == 1


def test_the_answer_is_json_without_nan(pair):
    clean, noisy = pair
    for restored in (clean, noisy, noisy.astype(np.float32)):
        answer = quality(clean, restored, published_ergas=True)
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        figures = {name.removesuffix("_per_band") for name in answer} & {"psnr", "psnr_global", "ssim", "ergas"}
        assert figures <= set(answer["conventions"])


# ---------------------------------------------------------------- refused


def test_wrong_input_is_refused(pair):
    clean, noisy = pair
    with pytest.raises(InputError, match=r"got \(4, 30, 34\) and \(3, 30, 34\)"):
        quality(clean, noisy[:3])
    with pytest.raises(InputError, match=r"one shape \(bands, rows, cols\)"):
        quality(clean[0], noisy[0])
    broken = noisy.copy()
    broken[2, 4, 5] = np.nan
    with pytest.raises(InputError, match="band 3 of the restored cube is NaN or infinite at valid pixels"):
        quality(clean, broken)
    with pytest.raises(InputError, match="band 3 of the clean cube is NaN or infinite at valid pixels"):
        quality(broken, noisy)
    valid = np.ones((30, 34), dtype=bool)
    with pytest.raises(InputError, match=r"boolean with shape \(30, 34\), got bool of shape \(30, 33\)"):
        quality(clean, noisy, valid=valid[:, 1:])
    with pytest.raises(InputError, match=r"got uint8 of shape"):
        quality(clean, noisy, valid=valid.astype(np.uint8))
    with pytest.raises(InputError, match="no pixel is valid"):
        quality(clean, noisy, valid=~valid)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="data range must be a number above 0"):
            quality(clean, noisy, data_range=bad)


# ---------------------------------------------------------------- without truth


def test_structure_by_hand():
    # deviations 1 -1 / 1 -1: rows are the same (lag 1 down: 1), columns alternate (lag 1 along: -1)
    np.testing.assert_allclose(residual_structure(cube([[3, 1], [3, 1]])), [[1], [-1]])
    # 4 in a row: deviations -1.5 -.5 .5 1.5, variance 1.25, products .75 -.25 .75 over 3 pairs; no pair down the rows
    np.testing.assert_allclose(residual_structure(cube([[0, 1, 2, 3]])), [[np.nan], [1.25 / 3 / 1.25]])
    np.testing.assert_allclose(residual_structure(cube([[0], [1], [2], [3]])), [[1 / 3], [np.nan]])


def test_white_noise_has_no_structure_and_signal_has():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, (3, 120, 130))
    y, x = np.mgrid[:120, :130]
    with_signal = noise + np.array([0, 0.1, 0.4])[:, None, None] * np.sin(x / 9) * np.cos(y / 8)
    white, some, much = residual_structure(with_signal).T
    np.testing.assert_allclose(white, 0, atol=0.02)
    # the share of the signal in the variance, times its own correlation of nearly 1
    shares = [np.var(a * np.sin(x / 9) * np.cos(y / 8)) for a in (0.1, 0.4)]
    np.testing.assert_allclose(some, shares[0] / (shares[0] + 0.01), atol=0.03)
    np.testing.assert_allclose(much, shares[1] / (shares[1] + 0.01), atol=0.03)


def test_stripes_have_structure_in_one_direction():
    stripes = np.broadcast_to(np.random.default_rng(2).normal(size=4000), (1, 5, 4000))
    np.testing.assert_allclose(residual_structure(stripes), [[1], [0]], atol=0.05)


def test_structure_counts_pairs_of_valid_pixels():
    residual = cube([[0, 1, 2, 3, np.nan, 70]])
    valid = np.isfinite(residual[0]) & (residual[0] < 50)
    np.testing.assert_allclose(residual_structure(residual, valid), [[np.nan], [1 / 3]])
    apart = np.array([[True, False, True, False, False, False]])
    assert np.isnan(residual_structure(residual, apart)).all()


def test_a_constant_residual_has_no_figure():
    residual = np.stack([np.full((7, 9), 0.1), np.zeros((7, 9)), np.arange(63.0).reshape(7, 9)])
    constant, zero, ramp = residual_structure(residual).T
    assert np.isnan(constant).all() and np.isnan(zero).all() and (ramp > 0.5).any()


def test_a_residual_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="band 1 of the residual is NaN"):
        residual_structure(cube([[0, np.nan]]))
    with pytest.raises(InputError, match=r"\(bands, rows, cols\)"):
        residual_structure(np.zeros((3, 3)))


def test_pixels_that_are_masked_in_any_band_do_not_count(pair):
    clean, noisy = pair
    hidden = np.zeros(clean.shape, bool)
    hidden[1, :5], hidden[2, 20, 20] = True, True
    masked = np.ma.array(np.where(hidden, -9999, noisy), mask=hidden)
    expected = quality(clean, noisy, valid=~hidden.any(axis=0))
    everything = np.ma.array(np.ones(clean.shape[1:], bool), mask=hidden.any(axis=0))
    assert quality(clean, noisy, valid=everything) == expected
    assert quality(clean, masked) == expected and expected["nodata_pixels"] == 5 * 34 + 1
    np.testing.assert_array_equal(
        residual_structure(masked - clean), residual_structure(noisy - clean, ~hidden.any(axis=0))
    )
