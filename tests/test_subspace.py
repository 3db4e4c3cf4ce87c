"""Moments, noise and signal subspace, against numpy, known noise, and spectral's estimate from differences."""

import numpy as np
import pytest
import spectral
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means

from rsunfold.errors import InputError
from rsunfold.moments import Moments
from rsunfold.noise import (
    band_noise,
    independent_bands,
    regression_noise,
    residual_noise,
    robust_statistics,
    spatial_noise,
    without_own_signal,
)
from rsunfold.subspace import (
    CENTRE,
    LEAST,
    MOST,
    SQUARES,
    hysime,
    published_subspace,
    signal_subspace,
    smooth,
    subspace_of,
)

BANDS, RANK, SIDE = 100, 5, 64


def spectra_of(bands=BANDS, rank=RANK):
    """(bands, rank), smooth and linearly independent: cosines over the bands around a positive mean."""
    position = (np.arange(bands) + 0.5) / bands
    return 0.5 + 0.4 * np.cos(np.pi * position[:, None] * np.arange(1, rank + 1))


def scene(seed=0, bands=BANDS, rank=RANK, side=SIDE):
    """A cube (bands, side, side) of exactly that rank about its mean, smooth in space, with values of about 1."""
    row, col = np.mgrid[:side, :side] / side
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, rank)
    parts = [1 + np.cos(2 * np.pi * (k // 2 * row + (k + 1) // 2 * col) + p) for k, p in enumerate(phase, start=1)]
    return np.tensordot(spectra_of(bands, rank), np.array(parts) / rank, axes=1)


def moments_of(cube):
    moments = Moments(len(cube))
    moments.add(cube.reshape(len(cube), -1))
    return moments


def near_of(cube):
    """Covariance of the image with its smoothed self."""
    moments = Moments(len(cube))
    moments.add(cube.reshape(len(cube), -1), smooth(cube).reshape(len(cube), -1))
    return moments.covariance


def with_noise(sigma, seed=1, **size):
    clean = scene(**size)
    return clean + np.random.default_rng(seed).standard_normal(clean.shape) * np.reshape(sigma, (-1, 1, 1))


class TestMoments:
    @pytest.mark.parametrize("mean", [0, 1e6, -3e8])
    def test_blocks_give_the_mean_and_covariance_of_the_whole(self, mean):
        rng = np.random.default_rng(0)
        x = mean + rng.standard_normal((7, 7)) @ rng.standard_normal((7, 1000))
        moments = Moments(7)
        for block in np.split(x, [1, 1, 30, 777], axis=1):  # one is empty, one a single spectrum
            moments.add(block)
        assert moments.count == 1000
        np.testing.assert_allclose(moments.mean, x.mean(axis=1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(x, bias=True), rtol=1e-6, atol=1e-6)

    def test_the_covariance_with_others_is_the_symmetric_part(self):
        rng = np.random.default_rng(2)
        x, z = 5 + rng.standard_normal((2, 4, 300))
        moments = Moments(4)
        for part in (slice(0, 7), slice(7, 300)):
            moments.add(x[:, part], z[:, part])
        cross = np.cov(x, z, bias=True)[:4, 4:]
        np.testing.assert_allclose(moments.covariance, (cross + cross.T) / 2, atol=1e-12)
        np.testing.assert_allclose(moments.mean, x.mean(axis=1))
        some = np.array([True, False, True, True])
        np.testing.assert_allclose(moments.select(some).covariance, moments.covariance[np.ix_(some, some)])

    def test_integers_and_float32_are_summed_in_float64(self):
        x = np.random.default_rng(1).integers(60000, 65535, (3, 5000)).astype(np.uint16)
        for dtype in (np.uint16, np.float32):
            moments = Moments(3)
            for block in np.array_split(x.astype(dtype), 7, axis=1):
                moments.add(block)
            np.testing.assert_allclose(moments.covariance, np.cov(x, bias=True), rtol=1e-12)

    def test_the_spread_is_that_of_all_blocks(self):
        moments = Moments(2)
        assert (moments.spread == 0).all()
        for block in ([[3.0, 4.0], [7.0, 7.0]], [[-1.0], [7.0]]):
            moments.add(np.array(block))
        np.testing.assert_array_equal(moments.spread, [5, 0])

    def test_selected_bands_have_the_moments_they_would_have_alone(self):
        x = 100 + np.random.default_rng(2).standard_normal((5, 200))
        bands = np.array([True, False, True, True, False])
        whole, part = Moments(5), Moments(3)
        for block in np.split(x, [80], axis=1):
            whole.add(block)
            part.add(block[bands])
        selected = whole.select(bands)
        assert selected.count == 200
        for figure in ("mean", "covariance", "spread"):
            np.testing.assert_allclose(getattr(selected, figure), getattr(part, figure), rtol=1e-12)

    def test_the_input_is_left_alone(self):
        x = np.ones((2, 3))
        Moments(2).add(x)
        np.testing.assert_array_equal(x, np.ones((2, 3)))

    def test_without_a_spectrum_there_is_no_mean(self):
        moments = Moments(3)
        moments.add(np.empty((3, 0)))
        for figure in ("mean", "covariance"):
            with pytest.raises(InputError, match="no valid pixel"):
                getattr(moments, figure)


class TestRegressionNoise:
    @pytest.mark.parametrize("sigma", [0.002, 0.05, 0.3])
    def test_the_same_noise_in_all_bands(self, sigma):
        found = regression_noise(moments_of(with_noise(sigma)).covariance)
        assert np.median(abs(found / sigma - 1)) < 0.03

    def test_noise_that_differs_from_band_to_band(self):
        sigma = np.random.default_rng(2).uniform(0.01, 0.2, BANDS)
        found = regression_noise(moments_of(with_noise(sigma)).covariance)
        ratio = found / sigma
        assert np.median(abs(ratio - 1)) < 0.03
        assert ratio.min() > 0.9
        # A band much cleaner than all others that could tell its signal seems noisier than it is.
        assert ratio[sigma > 0.05].max() < 1.1

    def test_it_is_the_residual_of_the_regression_on_the_other_bands(self):
        x = np.random.default_rng(3).standard_normal((6, 6)) @ np.random.default_rng(4).standard_normal((6, 500))
        x -= x.mean(axis=1, keepdims=True)
        found = regression_noise(np.cov(x, bias=True))
        for band in range(6):
            others = np.delete(x, band, axis=0).T
            residual = x[band] - others @ np.linalg.lstsq(others, x[band], rcond=None)[0]
            assert found[band] == pytest.approx(residual.std(), rel=1e-4)

    def test_units_do_not_matter(self):
        covariance = moments_of(with_noise(0.05)).covariance
        unit = 10.0 ** np.random.default_rng(5).integers(-6, 6, BANDS)
        np.testing.assert_allclose(
            regression_noise(covariance * np.outer(unit, unit)), unit * regression_noise(covariance), rtol=1e-6
        )

    def test_constant_bands_have_none_and_do_not_disturb_the_others(self):
        cube = with_noise(0.05)
        cube[[0, 40]] = [[[7.0]], [[0.0]]]
        found = regression_noise(moments_of(cube).covariance)
        rest = np.delete(cube, [0, 40], axis=0)
        assert (found[[0, 40]] == 0).all()
        np.testing.assert_allclose(np.delete(found, [0, 40]), regression_noise(moments_of(rest).covariance), rtol=1e-9)

    def test_a_single_band_tells_nothing(self):
        assert regression_noise(np.array([[4.0]])) == 0

    def test_duplicate_bands_are_no_error(self):
        cube = with_noise(0.05)
        found = regression_noise(moments_of(np.concatenate([cube, cube[:3]])).covariance)
        assert np.isfinite(found).all()
        assert (found[[0, 1, 2, -3, -2, -1]] < 1e-3).all()

    def test_spectral_finds_the_same_from_differences_of_neighbours(self):
        """Another way to the noise of a scene that is smooth in space, not only across bands."""
        cube = with_noise(np.linspace(0.3, 0.6, BANDS))
        differences = spectral.noise_from_diffs(cube.transpose(1, 2, 0)).cov
        found = regression_noise(moments_of(cube).covariance)
        np.testing.assert_allclose(found, np.sqrt(np.diag(differences)), rtol=0.1)


class TestResidualNoise:
    def both(self, cube):
        moments = moments_of(cube)
        begin = regression_noise(moments.covariance)
        return begin, residual_noise(moments.covariance, begin, moments.count)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_cleanest_bands_are_nearer_to_the_truth_than_by_regression(self, seed):
        sigma = np.random.default_rng(seed).uniform(0.001, 0.2, BANDS)
        begin, found = (np.abs(np.log(s / sigma)) for s in self.both(with_noise(sigma)))
        assert begin.max() > 0.2
        assert found.max() < 0.6 * begin.max()
        assert found.mean() < 0.7 * begin.mean()

    @pytest.mark.parametrize("sigma", [0.01, 0.3])
    def test_the_same_noise_in_all_bands(self, sigma):
        begin, found = self.both(with_noise(sigma))
        assert np.std(found / sigma) < np.std(begin / sigma)
        assert np.median(found) == pytest.approx(sigma, rel=0.01)

    @pytest.mark.parametrize("side", [15, 20])
    def test_few_spectra_do_not_lower_it(self, side):
        begin, found = self.both(np.random.default_rng(0).standard_normal((BANDS, side, side)))
        assert np.median(begin) < 0.9
        assert np.median(found) == pytest.approx(1, abs=0.03)

    def test_with_no_more_spectra_than_bands_nothing_changes(self):
        begin, found = self.both(np.random.default_rng(0).standard_normal((BANDS, 10, 10)))
        np.testing.assert_array_equal(found, begin)

    def test_a_band_with_a_signal_of_its_own_keeps_its_estimate(self):
        cube = with_noise(0.05)
        cube[40] = np.random.default_rng(99).standard_normal((SIDE, SIDE))
        moments = moments_of(cube)
        begin = np.full(BANDS, 0.06)
        found = residual_noise(moments.covariance, begin, moments.count)
        assert found[40] == 0.06
        np.testing.assert_allclose(np.delete(found, 40), 0.05, rtol=0.06)

    def test_repeated_bands_keep_something_to_be_divided_by(self):
        cube = with_noise(0.05)
        _, found = self.both(np.concatenate([cube, cube[:3]]))
        assert found.min() > 1e-6
        np.testing.assert_allclose(found[3:-3], 0.05, rtol=0.06)

    def test_units_do_not_matter(self):
        moments = moments_of(with_noise(np.linspace(0.01, 0.2, BANDS)))
        begin, unit = np.full(BANDS, 0.1), 10.0 ** np.random.default_rng(5).integers(-6, 6, BANDS)
        found = residual_noise(moments.covariance, begin, moments.count)
        other = residual_noise(moments.covariance * np.outer(unit, unit), unit * begin, moments.count)
        np.testing.assert_allclose(other, unit * found, rtol=1e-6)
        np.testing.assert_array_equal(begin, 0.1)


class TestBandNoise:
    """Bands that are made of others have their noise, and do not disturb the estimate of any band."""

    sigma = np.linspace(0.03, 0.08, BANDS)

    @pytest.fixture
    def cube(self):
        return with_noise(self.sigma)

    @pytest.mark.parametrize("refine", [False, True])
    @pytest.mark.parametrize("made_of", [{19: 1}, {19: 0.5, 21: 0.5}, {18: 0.5, 40: 3}])
    def test_a_repeated_band(self, cube, made_of, refine):
        repeated = cube.copy()
        repeated[20] = sum(w * cube[b] for b, w in made_of.items()).astype(np.float32)
        moments = moments_of(repeated)
        count = moments.count if refine else None
        found = band_noise(moments.covariance, count)
        expected = np.sqrt(sum((w * self.sigma[b]) ** 2 for b, w in made_of.items()))
        assert found[20] == pytest.approx(expected, rel=0.1)
        rest = np.arange(BANDS) != 20
        alone = band_noise(moments_of(np.delete(cube, 20, axis=0)).covariance, count)
        np.testing.assert_allclose(found[rest], alone, rtol=0.02)

    def test_a_cube_beside_itself(self, cube):
        found = band_noise(moments_of(np.concatenate([cube, cube])).covariance)
        np.testing.assert_allclose(
            found.reshape(2, -1), np.tile(band_noise(moments_of(cube).covariance), (2, 1)), rtol=1e-4
        )

    def test_an_image_without_noise_has_none(self):
        clean = with_noise(0)
        assert independent_bands(moments_of(clean).covariance).all()
        assert (band_noise(moments_of(clean).covariance) < 1e-3 * clean.std(axis=(1, 2))).all()

    def test_constant_bands_have_none(self, cube):
        with_constant = cube.copy()
        with_constant[7] = 3
        found = band_noise(moments_of(with_constant).covariance)
        assert found[7] == 0
        assert (np.delete(found, 7) > 0.02).all()

    @pytest.mark.parametrize("robust", [False, True])
    def test_an_interpolated_band_leaves_the_others_as_they_are(self, cube, robust):
        """One such band, divided by noise that it does not seem to have, stood out by 1000 times in all directions."""
        interpolated = cube.copy()
        interpolated[20] = (cube[19] + cube[21]) / 2
        found, plain = (subspace_of(c, robust=robust) for c in (interpolated, np.delete(cube, 20, axis=0)))
        np.testing.assert_allclose(np.delete(found.noise, 20), plain.noise, rtol=1e-6)
        assert found.noise[20] == pytest.approx(np.hypot(*found.noise[[19, 21]]) / 2, rel=0.02)
        np.testing.assert_allclose(found.whiten(interpolated), plain.whiten(np.delete(cube, 20, axis=0)), atol=1e-4)
        np.testing.assert_allclose(found.colour(found.whiten(interpolated)), interpolated, atol=1e-4)

    @pytest.mark.parametrize(("times", "rtol"), [(2, 0.05), (4, 0.4)])
    def test_bands_that_are_interpolated_and_rounded(self, times, rtol):
        """Resampled in whole numbers, no band is exactly a combination of others, yet all seem to be free of noise."""
        cube = np.round(1000 * with_noise(0.01, bands=40))
        places = np.linspace(0, 39, 39 * times + 1)
        low = np.minimum(places.astype(int), 38)
        share = (places - low)[:, None, None]
        resampled = np.round((1 - share) * cube[low] + share * cube[low + 1])
        found = subspace_of(resampled)
        assert found.made is not None
        assert 40 <= found.made.kept.sum() <= 42
        exact = places == places.astype(int)
        np.testing.assert_allclose(found.noise[exact], 10, rtol=rtol)
        np.testing.assert_allclose(found.colour(found.whiten(resampled)), resampled, atol=2.5)

    def test_rounding_alone_repeats_nothing(self):
        cube = np.round(100 * with_noise(0.01, bands=40))
        found = subspace_of(cube)
        assert found.made is None
        np.testing.assert_allclose(found.noise, np.hypot(1, 12**-0.5), rtol=0.1)

    def test_a_class_or_a_mask_is_told_by_no_other_band(self, cube):
        """Two numbers one step apart: a step is as much as they have."""
        mask = (cube[3] > np.median(cube[3])).astype(cube.dtype)
        assert subspace_of(np.concatenate([cube, mask[None]])).made is None

    def test_many_repeated_bands_of_several_kinds(self):
        cube = with_noise(self.sigma)
        halves = (cube[1:] + cube[:-1]) / 2
        assert independent_bands(moments_of(np.concatenate([cube, halves, cube[::3]])).covariance).sum() == BANDS

    @pytest.mark.parametrize("count", [1, 4, 9])
    def test_several_bands_in_a_row(self, cube, count):
        """Whatever rounding makes of exact combinations, the ends between which they lie are none."""
        share = np.arange(1, count + 1)[:, None, None] / (count + 1)
        cube = cube.copy()
        cube[30 : 30 + count] = (1 - share) * cube[29] + share * cube[30 + count]
        np.testing.assert_array_equal(np.flatnonzero(subspace_of(cube).repeated), 30 + np.arange(count))

    @pytest.mark.parametrize("noise", [0.05, 0.2, [0.05, 2.0]])
    def test_quiet_bands_in_whole_numbers_repeat_nothing(self, noise):
        """Rounding is most of the noise that they have; no other band shares it."""
        noise = np.resize(noise, BANDS)
        cube = np.round(
            300 * scene() + noise[:, None, None] * np.random.default_rng(3).standard_normal((BANDS, SIDE, SIDE))
        )
        assert not subspace_of(cube).repeated.any()

    def test_copies_among_quiet_bands_in_whole_numbers(self):
        cube = np.round(300 * scene() + 0.1 * np.random.default_rng(3).standard_normal((BANDS, SIDE, SIDE)))
        found = subspace_of(np.concatenate([cube, cube[[3, 12]]]))
        assert found.repeated.sum() == 2
        np.testing.assert_allclose(found.noise[[3, 12]], np.hypot(0.1, 12**-0.5), rtol=0.2)

    def test_few_pixels_repeat_nothing(self):
        assert not subspace_of(np.round(1000 * with_noise(0.002))[:, :12, :20]).repeated.any()

    def test_few_bands_twice(self):
        cube = with_noise(0.05, bands=8)
        found = subspace_of(np.concatenate([cube, cube]))
        assert found.repeated.sum() == 8
        np.testing.assert_allclose(found.noise, np.tile(spatial_noise(cube), 2))

    @pytest.mark.parametrize("pixels", [(13, 15), (14, 16), (16, 17), (18, 20)])
    def test_hardly_more_pixels_than_bands_do_not_seem_quieter(self, pixels):
        """A regression with as many regressors as samples leaves no residual."""
        bands, (rows, cols) = 180, pixels
        cube = scene(bands=bands)[:, :rows, :cols]
        found = subspace_of(cube + np.random.default_rng(4).normal(0, 0.05, cube.shape))
        assert 0.85 < np.median(found.sigma) / 0.05 < 1.4
        assert found.rank <= RANK + 3

    def test_no_more_pixels_than_bands_tell_little_of_each_other(self):
        noise = 0.5 * np.random.default_rng(0).standard_normal((BANDS, 6, 10))
        assert np.median(subspace_of(noise).sigma) == pytest.approx(0.5, rel=0.1)


class TestSpatialNoise:
    @pytest.mark.parametrize("sigma", [0.05, 0.5])
    def test_the_noise_of_a_scene_that_is_smooth_in_space(self, sigma):
        found = spatial_noise(0.05 * scene(bands=4) + np.random.default_rng(8).normal(0, sigma, (4, SIDE, SIDE)))
        np.testing.assert_allclose(found, sigma, rtol=0.06)

    def test_stripes_do_not_count(self):
        cube = np.random.default_rng(9).standard_normal((2, SIDE, SIDE))
        striped = cube.copy()
        striped[:, :, ::7] += 50
        np.testing.assert_allclose(spatial_noise(striped), spatial_noise(cube), rtol=1e-6)

    def test_what_fills_holes_does_not_count(self):
        cube = np.random.default_rng(11).standard_normal((2, SIDE, SIDE))
        valid = np.random.default_rng(12).random((SIDE, SIDE)) < 0.7
        valid[:, : SIDE // 2] = False
        found = spatial_noise(np.where(valid, cube, 0), valid)
        np.testing.assert_allclose(found, 1, rtol=0.15)
        assert (spatial_noise(cube, np.indices((SIDE, SIDE)).sum(0) % 2 == 0) == 0).all()

    def test_a_line_of_pixels_tells_nothing(self):
        assert (spatial_noise(np.random.default_rng(10).standard_normal((3, 1, 50))) == 0).all()


class TestSmooth:
    def test_what_white_noise_has_in_common_with_its_smoothed_self(self):
        noise = np.random.default_rng(11).standard_normal((60, 100, 100))
        left = smooth(noise)
        assert left.dtype == np.float64 and smooth(noise.astype(np.float32)).dtype == np.float32
        assert left.shape == noise.shape
        products = near_of(noise)
        assert np.diag(products).mean() == pytest.approx(CENTRE, rel=0.01)
        assert products[np.triu_indices(60, 1)].var() * 100**2 == pytest.approx(SQUARES, rel=0.1)

    def test_pixels_at_the_edge_are_no_exception(self):
        noise = np.random.default_rng(12).standard_normal((2000, 3, 4))
        share = (noise * smooth(noise)).mean(axis=0)
        np.testing.assert_allclose(share, CENTRE, atol=0.05)

    def test_constant_images_stay(self):
        np.testing.assert_allclose(smooth(np.full((2, 5, 1), 3.0)), 3)


class TestRobustStatistics:
    def corrupted(self, sigma=0.02):
        rng = np.random.default_rng(13)
        clean = scene(bands=60)
        noisy = clean + sigma * rng.standard_normal(clean.shape)
        hit = np.zeros(clean.shape, dtype=bool)
        hit[:20, :, 10:14] = True  # stripes
        hit[30:40] = rng.random((10, SIDE, SIDE)) < 0.1  # impulses
        out = noisy + np.where(hit, rng.choice([-1, 1], clean.shape), 0)
        return (x.reshape(60, -1) for x in (clean, noisy, out, hit))

    def test_noise_is_found_beside_outliers(self):
        _, _, out, _ = self.corrupted()
        mean, sigma, _ = robust_statistics(out)
        assert np.median(abs(sigma / 0.02 - 1)) < 0.12
        assert abs(sigma / 0.02 - 1).max() < 0.5
        assert abs(mean).max() < 2

    def test_salt_and_pepper_in_most_pixels_of_a_dark_band_pull_neither_mean_nor_whitened_variance(self):
        clean, noisy, _, _ = self.corrupted()
        out, rng = noisy.copy(), np.random.default_rng(3)
        lifted = 8 - clean[5].mean()
        hit, salt = rng.random(out.shape[1]) < 0.6, rng.random(out.shape[1]) < 0.5
        out[5] = np.where(hit, np.where(salt, 40, 0), out[5] + lifted)  # salt is farther from the band than pepper
        mean, sigma, left = robust_statistics(out)
        pulled = out[5].mean() - 8
        assert pulled > 4 and abs(mean[5] - 8) < 0.3 * pulled
        assert left[5].std() < 1.2 * sigma[5]

    def test_missing_samples_are_filled_whatever_they_hold(self):
        clean, noisy, _, _ = self.corrupted()
        missing = np.zeros(noisy.shape, bool)
        missing[7, ::5] = missing[20, 1::7] = True
        found = [robust_statistics(np.where(missing, value, noisy), missing) for value in (0, 1e6)]
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.sqrt(np.mean((found[0][2] - clean)[missing] ** 2)) < 0.2 * clean[missing].std()

    def test_outliers_are_replaced_by_what_the_other_bands_tell(self):
        clean, _, out, hit = self.corrupted()
        _, _, left = robust_statistics(out)
        assert np.sqrt(np.mean((left - clean)[hit] ** 2)) < 0.15 * np.sqrt(np.mean((out - clean)[hit] ** 2))

    def test_without_outliers_little_changes(self):
        _, noisy, _, _ = self.corrupted()
        mean, sigma, left = robust_statistics(noisy)
        np.testing.assert_allclose(mean, noisy.mean(axis=1), atol=1e-3)
        np.testing.assert_allclose(sigma, regression_noise(np.cov(noisy, bias=True)), rtol=0.1)
        assert np.mean(left != noisy) < 0.02


class TestSignalSubspace:
    def of(self, cube, sigma):
        moments = moments_of(cube)
        sigma = np.broadcast_to(sigma, len(cube))
        return signal_subspace(moments.mean, moments.covariance, near_of(cube), sigma, moments.count)

    @pytest.mark.parametrize("rank", [1, 3, 8])
    def test_the_rank_of_an_image_is_found(self, rank):
        sigma = np.random.default_rng(6).uniform(0.002, 0.01, BANDS)
        assert self.of(with_noise(sigma, rank=rank), sigma).rank == rank

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("shape", [(31, 150, 150), (100, 20, 20), (100, 5, 5), (4, 1, 1)])
    def test_pure_noise_has_the_smallest_rank(self, shape, seed):
        noise = 3 * np.random.default_rng(seed).standard_normal(shape)
        assert self.of(noise, 3.0).rank == 1

    def test_the_basis_is_orthonormal_and_holds_the_signal(self):
        sigma = np.random.default_rng(7).uniform(0.002, 0.01, BANDS)
        found = self.of(with_noise(sigma), sigma)
        np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(BANDS), atol=1e-10)
        signal = spectra_of() / sigma[:, None]
        A = found.basis[:, : found.rank]
        assert np.linalg.norm(signal - A @ (A.T @ signal)) < 0.01 * np.linalg.norm(signal)

    def test_the_basis_turns_the_whitened_image_to_falling_variances(self):
        sigma = np.linspace(0.01, 0.2, BANDS)
        cube = with_noise(sigma)
        found = self.of(cube, sigma)
        turned = np.tensordot(found.basis.T, found.whiten(cube), axes=1)
        values = np.linalg.eigvalsh(np.cov(found.whiten(cube).reshape(BANDS, -1), bias=True))[::-1]
        np.testing.assert_allclose(turned.var(axis=(1, 2)), values, rtol=1e-3)
        assert values[-50:].mean() == pytest.approx(1, abs=0.2)

    def test_whitening_gives_unit_noise_and_can_be_undone(self):
        sigma = np.linspace(0.01, 0.2, BANDS)
        clean, cube = scene(), with_noise(sigma)
        found = self.of(cube, sigma)
        whitened = found.whiten(cube)
        assert whitened.dtype == np.float32
        assert abs(whitened.mean(axis=(1, 2))).max() < 1e-4
        np.testing.assert_allclose((whitened - found.whiten(clean)).std(axis=(1, 2)), 1, atol=0.05)
        back = found.colour(whitened)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, cube, atol=1e-5)

    def test_without_neighbours_the_covariance_stands_in(self):
        cube = with_noise(0.05)
        moments = moments_of(cube)
        found = signal_subspace(moments.mean, moments.covariance, None, np.full(BANDS, 0.05), moments.count)
        assert found.A.shape == (BANDS, LEAST)
        signal = spectra_of() / 0.05
        assert np.linalg.norm(signal - found.A @ (found.A.T @ signal)) < 0.02 * np.linalg.norm(signal)

    @pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (2, 1000)])
    def test_a_line_of_pixels_is_not_its_own_neighbour(self, shape):
        signal = spectra_of() @ np.random.default_rng(0).standard_normal((RANK, 2000))
        cube = (signal + 0.05 * np.random.default_rng(1).standard_normal(signal.shape)).reshape(BANDS, *shape)
        assert subspace_of(cube).A.shape == (BANDS, LEAST)

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
    def test_noise_must_be_positive(self, bad):
        with pytest.raises(ValueError, match="noise above 0"):
            signal_subspace(np.zeros(2), np.eye(2), np.eye(2), np.array([1.0, bad]), 10)

    @pytest.mark.parametrize("bands", [1, 5, BANDS])
    def test_the_directions_are_orthonormal_and_enough_for_networks(self, bands):
        cube = with_noise(0.05, bands=bands, rank=min(RANK, bands))
        A = self.of(cube, 0.05).A
        assert A.shape == (bands, min(bands, LEAST))
        np.testing.assert_allclose(A.T @ A, np.eye(A.shape[1]), atol=1e-10)

    def test_the_directions_are_nearer_to_the_signal_than_the_eigenvectors(self):
        sigma = 0.3
        found = self.of(with_noise(sigma), sigma)
        signal = spectra_of() / sigma
        A, E = found.A, found.basis[:, : found.A.shape[1]]
        assert np.linalg.norm(signal - A @ (A.T @ signal)) < 0.7 * np.linalg.norm(signal - E @ (E.T @ signal))

    @pytest.mark.parametrize("seed", range(3))
    def test_noise_that_jumps_from_band_to_band_leaves_the_directions_smooth(self, seed):
        """Divided by it, the spectra are as jagged as the noise; in units of the image they are not."""
        sigma = np.random.default_rng(seed).uniform(0.03, 0.6, BANDS)
        clean, cube = scene(), with_noise(sigma)
        found = self.of(cube, sigma)
        scale = np.outer(sigma, sigma)
        _, vectors = np.linalg.eigh(near_of(cube) / scale)
        signal = found.whiten(clean).reshape(BANDS, -1)
        lost = [np.mean((signal - A @ (A.T @ signal)) ** 2) for A in (found.A, vectors[:, ::-1][:, : found.A.shape[1]])]
        assert lost[0] < 0.6 * lost[1]

    def test_bands_of_much_noise_do_not_spoil_their_neighbours(self):
        clean = scene(side=48)
        rng = np.random.default_rng(4)
        noise = np.full(BANDS, 0.02)
        cube = clean + 0.02 * rng.standard_normal(clean.shape)
        quiet = np.ones(BANDS, bool)
        quiet[40:43] = False
        lost = []
        for extra in (0.0, 10.0):
            cube[40:43] += extra * rng.standard_normal((3, 48, 48))
            found = subspace_of(cube)
            signal = ((clean - clean.mean(axis=(1, 2), keepdims=True)) / noise[:, None, None]).reshape(BANDS, -1)[quiet]
            A, _ = np.linalg.qr(found.A[quiet])
            lost.append(np.mean((signal - A @ (A.T @ signal)) ** 2))
        assert lost[1] < 1.5 * lost[0] + 1e-3

    def test_bands_of_much_signal_and_noise_are_no_noisy_bands(self):
        """Units that differ from band to band: directions are those of the same image in the same units."""
        rng = np.random.default_rng(6)
        cube = scene(side=48) + 0.02 * rng.standard_normal((BANDS, 48, 48))
        clean = scene(side=48)
        lost = []
        for gain in (1.0, 20.0):
            factor = np.ones((BANDS, 1, 1))
            factor[40:43] = gain
            found = subspace_of(cube * factor)
            signal = (clean - clean.mean(axis=(1, 2), keepdims=True)) * factor / found.sigma[:, None, None]
            signal = signal.reshape(BANDS, -1)
            lost.append(np.mean((signal - found.A @ (found.A.T @ signal)) ** 2))
        assert lost[1] < 3 * lost[0] + 1e-3

    def test_repeated_bands_add_no_directions(self):
        rng = np.random.default_rng(5)
        cube = scene(bands=40, rank=3, side=48)
        cube = cube + 0.05 * rng.standard_normal(cube.shape)
        assert subspace_of(np.repeat(cube, 2, axis=0)).rank == subspace_of(cube).rank == 3

    def test_spectra_without_noise_stay_as_they_are(self):
        cube = scene(rank=LEAST)
        sigma = np.random.default_rng(4).uniform(1e-6, 1e-4, BANDS)
        found = self.of(cube, sigma)
        _, vectors = np.linalg.eigh(near_of(cube) / np.outer(sigma, sigma))
        signal = vectors[:, -LEAST:]
        np.testing.assert_allclose(found.A @ (found.A.T @ signal), signal, atol=1e-3)


class TestSubspaceOf:
    def test_it_is_the_subspace_with_the_refined_noise(self):
        cube = with_noise(np.linspace(0.01, 0.2, BANDS))
        covariance = moments_of(cube).covariance
        refined = residual_noise(covariance, regression_noise(covariance), SIDE**2)
        found = subspace_of(cube)
        np.testing.assert_allclose(found.sigma, refined, rtol=1e-6)
        np.testing.assert_allclose(found.mean, cube.mean(axis=(1, 2)), rtol=1e-6)

    def test_beside_outliers_the_noise_is_not_refined(self):
        cube = with_noise(np.linspace(0.01, 0.2, BANDS))
        expected = robust_statistics(cube.reshape(BANDS, -1))[1]
        np.testing.assert_allclose(subspace_of(cube, robust=True).sigma, expected, rtol=1e-6)

    def test_a_constant_band_is_refused(self):
        cube = with_noise(0.05)
        cube[3] = 1
        with pytest.raises(ValueError, match="constant bands"):
            subspace_of(cube)

    def test_noise_may_be_given(self):
        np.testing.assert_array_equal(subspace_of(with_noise(0.05), sigma=np.full(BANDS, 0.2)).sigma, 0.2)

    def test_few_bands_take_their_noise_from_neighbouring_pixels(self):
        cube = with_noise(0.3, bands=4, rank=2)
        np.testing.assert_allclose(subspace_of(cube).sigma, spatial_noise(cube), rtol=1e-6)

    def test_a_band_without_noise_can_still_be_whitened(self):
        found = subspace_of(scene(bands=4, rank=1, side=16) * [[[1.0]], [[2.0]], [[3.0]], [[4.0]]])
        assert (found.sigma > 0).all()
        assert np.isfinite(found.whiten(scene(bands=4, rank=1, side=16))).all()

    def test_outliers_are_no_noise_when_robust(self):
        sigma, hit = 0.02, np.arange(0, BANDS, 10)
        cube = with_noise(sigma)
        for band in hit:  # not the same columns, or it would be signal
            cube[band, :, band % SIDE :][:, :4] += 1
        robust, plain = subspace_of(cube, robust=True), subspace_of(cube)
        assert plain.sigma[hit].min() > 4 * sigma
        assert np.median(robust.sigma[hit]) < 1.5 * sigma


class TestHySime:
    def of(self, cube, sigma):
        x = cube.reshape(len(cube), -1)
        noise = np.diag(np.broadcast_to(np.square(sigma), len(cube)).astype(float))
        correlation = x @ x.T / x.shape[1]
        return (*hysime(correlation, noise), correlation, noise)

    @pytest.mark.parametrize("rank", [2, 5, 8])
    def test_the_rank_of_an_image_is_found(self, rank):
        """Unlike that of the covariance, the rank counts the mean, which lies in the span of the spectra here."""
        assert self.of(with_noise(0.003, rank=rank), 0.003)[0] == rank

    def test_the_kept_directions_hold_more_signal_than_noise(self):
        rank, basis, correlation, noise = self.of(with_noise(0.05), 0.05)
        np.testing.assert_allclose(basis.T @ basis, np.eye(BANDS), atol=1e-10)
        cost = np.diag(2 * basis.T @ noise @ basis - basis.T @ correlation @ basis)
        assert (cost[:rank] < 0).all()
        assert (cost[rank:] >= 0).all()
        assert (np.diff(cost) >= 0).all()

    def test_the_first_columns_span_the_signal(self):
        rank, basis, *_ = self.of(with_noise(0.003), 0.003)
        E, signal = basis[:, :rank], spectra_of()
        assert np.linalg.norm(signal - E @ (E.T @ signal)) < 0.01 * np.linalg.norm(signal)


def test_the_published_subspace_is_that_of_the_published_scripts():
    """Of the cube divided by its maximum, smoothed by non-local means whose strengths are in that unit."""
    cube = 2000 * with_noise(0.03, bands=16, rank=3, side=32).astype(np.float32)
    found = published_subspace(cube, np.ones((32, 32), bool))
    y = (cube / cube.max()).astype(np.float64)
    means = {"patch_size": 7, "patch_distance": 9, "h": 0.08, "fast_mode": True, "channel_axis": 0}
    x = denoise_nl_means(y, sigma=spatial_noise(y).mean(), **means).reshape(16, -1)
    rank, basis = hysime(x @ x.T / x.shape[1], np.diag(regression_noise(np.cov(x, bias=True)) ** 2))
    assert found.rank == rank and (found.mean == 0).all() and (found.sigma == cube.max()).all()
    np.testing.assert_allclose(np.abs(found.A.T @ basis[:, :rank]), np.eye(rank), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 3000), (50, 60)])
def test_there_are_no_more_directions_than_the_limit(shape):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(120, 80)) @ rng.normal(0, 3, (80, 3000))
    cube = (signal + rng.normal(size=signal.shape)).reshape(120, *shape).astype(np.float32)
    assert subspace_of(cube).A.shape == (120, MOST)


def own_signal(level: float) -> np.ndarray:
    """A smooth image that no other band holds."""
    row, col = np.mgrid[:SIDE, :SIDE] / SIDE
    return level * np.cos(2 * np.pi * (row + col))


def test_signal_that_one_band_alone_holds_is_no_noise():
    noisy = with_noise(np.full(BANDS, 0.01))
    noisy[30] += own_signal(0.15)
    noise = subspace_of(noisy.astype(np.float32)).noise
    assert noise[30] < 0.04 < 0.08 < band_noise(moments_of(noisy).covariance, SIDE**2)[30]
    np.testing.assert_allclose(np.delete(noise, 30), 0.01, rtol=0.1)


def test_texture_that_bands_share_hides_no_signal_of_one_alone():
    noisy = with_noise(np.full(BANDS, 0.01))
    noisy += spectra_of(rank=1)[:, :, None] * np.random.default_rng(3).normal(0, 0.2, (SIDE, SIDE))
    noisy[30, 5:35, 5:35] -= 0.08
    noise = subspace_of(noisy.astype(np.float32)).noise
    assert 0.01 < noise[30] < 0.018 < 0.03 < band_noise(moments_of(noisy).covariance, SIDE**2)[30]
    np.testing.assert_allclose(np.delete(noise, 30), 0.01, rtol=0.1)


def test_smooth_noise_of_many_bands_and_few_squares_tell_nothing():
    noisy = with_noise(np.full(BANDS, 0.01))
    noisy[30] += own_signal(0.15)
    covariance, valid = moments_of(noisy).covariance, np.zeros((SIDE, SIDE), bool)
    found = band_noise(covariance, SIDE**2)
    valid[:4, :5] = True  # 12 squares
    assert without_own_signal(found, covariance, noisy, valid) is found
    noisy[40:60] = gaussian_filter(noisy[40:60], (0, 3, 3))
    found[40:60] = 0.05
    assert without_own_signal(found, covariance, noisy, np.ones_like(valid)) is found


def test_a_stripe_is_no_signal():
    noisy = with_noise(np.full(BANDS, 0.01))
    noisy[30] += 0.3 * (np.arange(SIDE) % 7 == 3)
    noise = subspace_of(noisy.astype(np.float32)).noise
    assert (
        noise[30] == pytest.approx(band_noise(moments_of(noisy).covariance, SIDE**2)[30], rel=1e-3) and noise[30] > 0.05
    )


@pytest.mark.parametrize("sigma", [np.full(BANDS, 0.01), np.geomspace(0.001, 0.1, BANDS)])
@pytest.mark.parametrize("blurred", [False, True])
def test_noise_that_bands_have_is_left_as_it_is(sigma, blurred):
    noisy = with_noise(sigma)
    if blurred:
        noisy = gaussian_filter(noisy, (0, 0.7, 0.7))
    covariance, valid = moments_of(noisy).covariance, np.ones((SIDE, SIDE), bool)
    found = band_noise(covariance, SIDE**2)
    np.testing.assert_array_equal(without_own_signal(found, covariance, noisy, valid), found)


def test_rows_and_columns_of_distant_parts_are_no_details():
    mosaic = with_noise(np.full(BANDS, 0.01))
    mosaic[30] += own_signal(0.15) + np.kron([[0, 0.15], [0.3, 0.6]], np.ones((32, 32)))
    covariance, valid = moments_of(mosaic).covariance, np.ones((SIDE, SIDE), bool)
    found = band_noise(covariance, SIDE**2)
    assert without_own_signal(found, covariance, mosaic, valid)[30] < 0.045 < 0.08 < found[30]
    assert without_own_signal(found, covariance, mosaic, np.zeros_like(valid)) is found
