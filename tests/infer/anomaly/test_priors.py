"""Each prior on its own: what it keeps, what it takes away, and how far it looks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rsunfold.cube import Window
from rsunfold.infer.anomaly.priors import (
    EPSILON,
    RADIUS,
    AttributeProfile,
    PrincipalComponents,
    edge_preserving,
    guide_of,
    small_object,
)
from rsunfold.scene import scene_of

EIGHT = np.ones((3, 3), bool)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


# ---------------------------------------------------------------- small objects


def test_regions_as_large_as_an_object_go_and_small_ones_stay():
    score = np.full((20, 20), 0.5, np.float32)
    score[2:5, 2:5] = 2  # 9 pixels
    score[10:12, 2:6] = 3  # 8 pixels
    score[15, 15] = 1
    found = small_object(score, 9)
    assert found.dtype == np.float32
    expected = np.zeros_like(score)
    expected[10:12, 2:6], expected[15, 15] = 2.5, 0.5
    np.testing.assert_array_equal(found, expected)


def test_corners_connect():
    """9 pixels along a diagonal are one region."""
    score = np.eye(12, dtype=np.float32)[:9]
    assert not small_object(score, 9).any()
    np.testing.assert_array_equal(small_object(score, 10), score)


def slow_small_object(score: np.ndarray, size: int) -> np.ndarray:
    """At every level the regions above it of ``size`` pixels or more."""
    opened = np.full_like(score, score.min())
    for level in np.unique(score):
        labels, _ = ndimage.label(score >= level, structure=EIGHT)
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        opened[areas[labels] >= size] = level
    return score - opened


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(2, 40), st.integers(0, 99))
def test_small_object_is_its_definition(rows, cols, size, seed):
    score = np.round(noise(rows, cols, seed=seed) * 5).astype(np.float32)
    found = small_object(score, size)
    np.testing.assert_array_equal(found, slow_small_object(score, size))
    np.testing.assert_array_equal(small_object(score + 3, size), found)


def test_a_window_with_a_margin_of_an_object_gives_the_same():
    score = np.round(noise(50, 60) * 6).astype(np.float32)
    size = 7
    window = Window(20, 25, 9, 11)
    grown = window.grown(size, 50, 60)
    part = small_object(score[grown.slices], size)[window.within(grown)]
    np.testing.assert_array_equal(part, small_object(score, size)[window.slices])


# ---------------------------------------------------------------- attribute profile


def test_components_are_whitened():
    cube = noise(6, 30, 30) * np.arange(1, 7, dtype=np.float32)[:, None, None]
    z = PrincipalComponents(scene_of(cube), 4)(cube)
    assert z.shape == (4, 30, 30) and z.dtype == np.float32
    np.testing.assert_allclose(np.cov(z.reshape(4, -1)), np.eye(4), atol=2e-3)
    np.testing.assert_allclose(z.mean((1, 2)), 0, atol=1e-4)


def test_the_profile_is_large_where_something_small_is():
    """A bright and a dark spot, the step between two fields, and a field of its own size."""
    cube = np.zeros((1, 30, 40), np.float32)
    cube[0, :, 20:] = 1
    cube[0, 5, 5], cube[0, 5, 30] = 0.6, 0.3
    cube[0, 15:19, 5:10] = 0.7  # 20 pixels
    profile = AttributeProfile(scene_of(cube), 20)
    assert profile.areas == [2, 5, 10, 20] and profile.radius == 20 and profile.count == 4
    found = profile(cube)
    assert found.shape == (4, 30, 40) and found.dtype == np.float32
    deviation = cube.std()
    expected = np.zeros((30, 40))
    expected[5, 5], expected[5, 30] = 0.6 / deviation, 0.7 / deviation
    for map_ in found:
        np.testing.assert_allclose(map_, expected, atol=1e-5)
    larger = AttributeProfile(scene_of(cube), 21)(cube)
    assert (larger[-1, 15:19, 5:10] > 1).all() and not larger[-2, 15:19, 5:10].any()


@pytest.mark.parametrize("level", [0.0, 0.1, 0.7])
def test_the_profile_of_a_flat_scene_is_0(level):
    cube = np.full((4, 9, 8), level, np.float32)
    profile = AttributeProfile(scene_of(cube), 10)
    assert not profile(cube).any() and profile(cube).shape == (profile.count, 9, 8)


def test_the_profile_does_not_depend_on_scale_offset_and_sign():
    cube = noise(4, 16, 17)
    expected = AttributeProfile(scene_of(cube), 8)(cube)
    for other in (cube * 0.25 + 0.5, 1 - cube):
        other = other.astype(np.float32)
        np.testing.assert_allclose(AttributeProfile(scene_of(other), 8)(other), expected, atol=2e-3)


@settings(max_examples=15)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 99))
def test_a_window_with_the_radius_as_margin_gives_the_same_features(row, col, seed):
    cube = np.round(noise(2, 70, 70, seed=seed) * 4) / 4
    profile = AttributeProfile(scene_of(cube), 10)
    window = Window(row, col, 10, 10)
    grown = window.grown(profile.radius, 70, 70)
    part = profile(np.ascontiguousarray(cube[:, *grown.slices]))[:, *window.within(grown)]
    np.testing.assert_allclose(part, profile(cube)[:, *window.slices], atol=1e-5)


# ---------------------------------------------------------------- edges


def preserved(score, guide):
    return edge_preserving(score, guide, np.ones(score.shape, bool))


@pytest.mark.parametrize("guide", [np.zeros((9, 12), np.float32), noise(9, 12)], ids=["flat", "noise"])
def test_a_constant_score_stays(guide):
    np.testing.assert_allclose(preserved(np.full((9, 12), 0.7, np.float32), guide), 0.7, rtol=1e-6)


def test_the_guided_filter_is_its_definition():
    """With a linear model of the guide fitted in every window, and the mean of all models that cover a pixel."""
    p, g = noise(10, 11).astype(float), 3 * noise(10, 11, seed=1).astype(float)
    side = 2 * RADIUS + 1

    def windows(x: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(np.pad(x, RADIUS, mode="symmetric"), (side, side))

    a, b = np.empty_like(p), np.empty_like(p)
    for at in np.ndindex(p.shape):
        x, y = windows(g)[at].ravel(), windows(p)[at].ravel()
        a[at] = ((x - x.mean()) * (y - y.mean())).mean() / (x.var() + EPSILON)
        b[at] = y.mean() - a[at] * x.mean()
    filtered = windows(a).mean((2, 3)) * g + windows(b).mean((2, 3))
    found = preserved(p.astype(np.float32), g.astype(np.float32))
    np.testing.assert_allclose(found, np.maximum((p + filtered) / 2, 0), rtol=1e-5, atol=1e-6)


def test_edges_of_the_guide_stay_and_others_blur():
    score = np.zeros((12, 20), np.float32)
    score[:, 10:] = 1
    flat = preserved(score, np.zeros_like(score))
    guided = preserved(score, score)
    assert abs(flat[5, 9] - 1 / 6) < 1e-5 and guided[5, 9] < 0.05 and guided[5, 10] > 0.95


@settings(max_examples=20)
@given(st.integers(0, 30), st.integers(0, 30))
def test_a_window_with_a_margin_of_two_radii_equals_the_whole(row, col):
    score, guide = noise(36, 36), noise(36, 36, seed=1)
    window = Window(row, col, 6, 6)
    grown = window.grown(2 * RADIUS, 36, 36)
    part = preserved(score[grown.slices], guide[grown.slices])[window.within(grown)]
    np.testing.assert_allclose(part, preserved(score, guide)[window.slices], atol=1e-6)


def test_pixels_without_a_score_lend_none():
    """Beside a border of them the filter sees what it sees beside the border of an image, but for the mirror there."""
    score, guide = noise(20, 20), noise(20, 20, seed=1)
    valid = np.ones((20, 20), bool)
    valid[:, :6] = False
    constant = edge_preserving(np.where(valid, np.float32(0.7), 0), guide, valid)
    np.testing.assert_allclose(constant[valid], 0.7, rtol=1e-6)
    others = np.where(valid, score, np.float32(1e6))
    found, again = (edge_preserving(s, guide, valid) for s in (np.where(valid, score, 0), others))
    np.testing.assert_allclose(again[valid], found[valid], rtol=1e-6)
    np.testing.assert_allclose(found[:, 8 + RADIUS :], preserved(score, guide)[:, 8 + RADIUS :], atol=1e-6)


def test_scores_stay_from_0_up():
    found = preserved((noise(20, 20) > 0.9).astype(np.float32) * 100, noise(20, 20, seed=1) * 9)
    assert (found >= 0).all() and found.dtype == np.float32


def test_the_guide_is_the_first_component():
    cube = noise(5, 8, 9)
    cube[2] *= 10
    z = guide_of(scene_of(cube))(cube)
    assert z.shape == (1, 8, 9) and abs(np.corrcoef(z.ravel(), cube[2].ravel())[0, 1]) > 0.99
