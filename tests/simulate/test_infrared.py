"""Simulated infrared scenes: reproducible, and what they say of their targets is true of their pixels."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from rsunfold.classical.top_hat import TopHat
from rsunfold.errors import UsageError
from rsunfold.metrics.components import Components
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.rule import Rule
from rsunfold.simulate.infrared import BACKGROUNDS, infrared_scene, infrared_scenes, point_spread, power_law


def added(scene, **arguments):
    """What the targets add to the image: the same seed without targets gives the same background and noise."""
    without = infrared_scene(*scene.image.shape, background=scene.background, targets=0, seed=scene.seed, **arguments)
    return scene.image.astype(float) - without.image, without.image


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_type_range_and_number_of_targets(background):
    scene = infrared_scene(96, 131, background=background, targets=4, seed=3)
    assert scene.image.shape == scene.mask.shape == (96, 131)
    assert scene.image.dtype == np.float32 and scene.mask.dtype == np.bool_
    assert scene.image.min() >= 0 and scene.image.max() <= 1
    assert len(scene.targets) == len(Components.of(scene.mask).area) == 4
    assert scene.image.std() > 0.01


def test_the_seed_decides():
    first, again, other = (infrared_scene(64, 64, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.targets == again.targets
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_targets_have_the_stated_peak_snr_place_and_width(background):
    scene = infrared_scene(160, 160, background=background, targets=3, snr=6, seed=11)
    signal, empty = added(scene)
    for target in scene.targets:
        r, c = round(target.row), round(target.col)
        around = slice(max(0, r - 10), r + 11), slice(max(0, c - 10), c + 11)
        near = slice(max(0, r - 4), r + 5), slice(max(0, c - 4), c + 5)
        assert signal[near].max() == pytest.approx(target.peak, abs=1e-6)
        assert target.snr == 6
        assert target.peak / empty[around].astype(float).std() == pytest.approx(6, rel=1e-4)
        np.testing.assert_array_equal(scene.mask[near], signal[near] > target.peak / 2)
    assert signal[~ndimage.binary_dilation(scene.mask, iterations=12)].max() < 1e-6


def test_point_spread_is_a_gaussian_at_a_sub_pixel_place():
    spread = point_spread(40, 50, 17.3, 24.8, 1.4)
    row, col = np.ogrid[:40, :50]
    total = spread.sum()
    assert spread.max() == 1
    assert (spread * row).sum() / total == pytest.approx(17.3)
    assert (spread * col).sum() / total == pytest.approx(24.8)
    # integration over a pixel adds the variance of the pixel
    assert (spread * (col - 24.8) ** 2).sum() / total == pytest.approx(1.4**2 + 1 / 12, rel=1e-6)


def test_targets_keep_apart_and_off_the_border():
    scene = infrared_scene(128, 128, background="sky", targets=8, seed=5)
    for a, b in itertools.combinations(scene.targets, 2):
        assert np.hypot(a.row - b.row, a.col - b.col) >= 12
    assert all(4 <= t.row <= 123 and 4 <= t.col <= 123 for t in scene.targets)


@pytest.mark.parametrize("beta", [2.0, 3.4])
def test_clutter_has_the_power_spectrum_asked_for(beta):
    field = power_law(np.random.default_rng(0), 256, 256, beta)
    assert field.mean() == pytest.approx(0, abs=1e-9)
    assert field.std() == pytest.approx(1)
    window = np.hanning(256)
    power = np.abs(np.fft.fft2(field * np.outer(window, window))) ** 2
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    band = (f > 0.02) & (f < 0.4)
    slope = np.polyfit(np.log(f[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.15)


def test_stretched_clutter_is_longer_along_the_rows():
    field = power_law(np.random.default_rng(0), 128, 128, 3.0, stretch=3.0)
    assert np.diff(field, axis=0).std() > 2 * np.diff(field, axis=1).std()


def test_sensor_noise_and_column_offsets():
    """Two noise levels on one seed differ by noise alone: white pixels plus one offset per column."""
    quiet, loud = (infrared_scene(200, 200, background="sky", targets=0, noise=s, seed=2).image for s in (1e-6, 0.01))
    noise = loud - quiet
    columns = noise.mean(axis=0)
    assert (noise - columns).std() == pytest.approx(0.01, rel=0.02)
    assert columns.std() == pytest.approx(0.004, rel=0.2)
    assert noise.mean(axis=1).std() < 0.0015


def test_scenes_mix_backgrounds_and_some_are_empty():
    scenes = list(infrared_scenes(10, seed=7, rows=64, cols=64))
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    empty = [i for i, scene in enumerate(scenes) if not scene.targets]
    assert empty == [4, 9]
    assert not any(scenes[i].mask.any() for i in empty)
    assert all(5 <= target.snr <= 10 for scene in scenes for target in scene.targets)
    fourth = scenes[3]
    again = infrared_scene(
        64,
        64,
        background=fourth.background,
        targets=len(fourth.targets),
        snr=fourth.targets[0].snr,
        seed=fourth.seed,
    )
    np.testing.assert_array_equal(again.image, fourth.image)
    shorter = list(infrared_scenes(3, seed=7, rows=64, cols=64))
    np.testing.assert_array_equal(shorter[2].image, scenes[2].image)


def test_a_detector_finds_the_targets_in_a_clear_sky():
    scene = infrared_scene(128, 128, background="sky", targets=3, snr=15, seed=4)
    metrics = InfraredMetrics(Rule(min(target.peak for target in scene.targets) / 2))
    metrics.update("sky", TopHat().score(scene.image), scene.mask)
    result = metrics.result()
    assert result["overlap"]["pd"] == result["centroid"]["pd"] == 1
    assert result["iou_pooled"] > 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"background": "forest"}, "unknown background 'forest'"),
        ({"rows": 63}, "at least 64 x 64"),
        ({"targets": -1}, "at least 0"),
        ({"snr": 0.0}, "above 0"),
        ({"noise": 0.0}, "above 0"),
        ({"seed": -1}, "at least 0"),
        ({"snr": 1000.0}, "no room is left"),
        ({"targets": 300}, "no room is left"),
    ],
)
def test_impossible_scenes_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        infrared_scene(**{"rows": 64, "cols": 64, "seed": 0, **arguments})


def test_impossible_numbers_of_scenes_are_refused():
    with pytest.raises(UsageError, match="number of scenes"):
        next(infrared_scenes(-1, seed=0))
