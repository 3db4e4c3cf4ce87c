"""Noise of gray images: what it does, and that it depends on nothing but seed, kind, level and name."""

import numpy as np
import pytest
import torch

from rsunfold.errors import UsageError
from rsunfold.simulate.corruption import Corruption, with_gaussian, with_salt_pepper

GRAY = np.full((200, 150), 0.5, np.float32)
VALID = np.ones(GRAY.shape, bool)


def test_gaussian_has_the_level_as_its_deviation_and_is_cut_where_a_sensor_saturates():
    noise = Corruption("gaussian", 0.05).apply(GRAY, VALID, "a") - 0.5
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 1e-3 and noise.std() == pytest.approx(0.05, rel=0.02)
    strong = Corruption("gaussian", 0.5).apply(GRAY, VALID, "a")
    assert strong.min() == 0 and strong.max() == 1


def test_gray_beyond_the_range_is_kept():
    bright = GRAY.copy()
    bright[5, 5], bright[6, 6] = 1.7, -0.4
    noisy = Corruption("gaussian", 0.3).apply(bright, VALID, "a")
    assert 1 < noisy.max() <= np.float32(1.7) and np.float32(-0.4) <= noisy.min() < 0
    assert noisy[5, 5] > 1


def test_salt_and_pepper_replaces_the_share_half_by_half():
    noisy = Corruption("salt-pepper", 0.1).apply(GRAY, VALID, "a")
    assert (noisy == 1).mean() == pytest.approx(0.05, rel=0.1)
    assert (noisy == 0).mean() == pytest.approx(0.05, rel=0.1)
    assert set(np.unique(noisy)) == {0, 0.5, 1}


@pytest.mark.parametrize("kind", ["gaussian", "salt-pepper"])
def test_the_noise_of_an_image_is_its_own(kind):
    first = Corruption(kind, 0.1, 3).apply(GRAY, VALID, "a")
    np.testing.assert_array_equal(first, Corruption(kind, 0.1, 3).apply(GRAY, VALID, "a"))
    assert (first != Corruption(kind, 0.1, 3).apply(GRAY, VALID, "b")).any()
    assert (first != Corruption(kind, 0.1, 4).apply(GRAY, VALID, "a")).any()
    np.testing.assert_array_equal(Corruption(kind, 0.0).apply(GRAY, VALID, "a"), GRAY)
    valid = VALID.copy()
    valid[:100] = False
    part = Corruption(kind, 0.1, 3).apply(GRAY, valid, "a")
    assert (part[:100] == 0.5).all()
    np.testing.assert_array_equal(part[100:], first[100:])


def test_a_higher_level_is_the_same_noise_and_more():
    weak, strong = (Corruption("gaussian", level).apply(GRAY, VALID, "a") - 0.5 for level in (0.02, 0.04))
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-6)
    few, many = (Corruption("salt-pepper", level).apply(GRAY, VALID, "a") for level in (0.05, 0.2))
    np.testing.assert_array_equal(many[few != 0.5], few[few != 0.5])
    assert (many != 0.5).sum() > 3 * (few != 0.5).sum()


def test_arrays_and_tensors_get_the_same():
    rng = np.random.default_rng(0)
    x, normal, u = (rng.random((9, 8), np.float32) for _ in range(3))
    for function, numbers in ((with_gaussian, normal), (with_salt_pepper, u)):
        tensor = function(torch.from_numpy(x), 0.3, torch.from_numpy(numbers))
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), function(x, 0.3, numbers), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gausian", 0.1), "unknown corruption 'gausian'; did you mean 'gaussian'"),
        (("qqq", 0.1), "choose from gaussian, salt-pepper"),
        (("gaussian", -0.1), "a level of gaussian must lie between 0 and 1, not -0.1"),
        (("salt-pepper", 1.5), "a level of salt-pepper must lie between 0 and 1, not 1.5"),
        (("gaussian", float("nan")), "not nan"),
        (("gaussian", 0.1, -1), "seed of a noise must be at least 0"),
    ],
)
def test_wrong_corruptions(arguments, message):
    with pytest.raises(UsageError, match=message):
        Corruption(*arguments)


@pytest.mark.parametrize("hidden", [np.nan, 9999.0, -9999.0])
@pytest.mark.parametrize("kind", ["gaussian", "salt-pepper"])
def test_what_is_not_valid_decides_nothing(kind, hidden):
    bright, valid = GRAY.copy(), VALID.copy()
    bright[5, 5], valid[7, 7] = 1.7, False
    spoiled = bright.copy()
    spoiled[7, 7] = hidden
    one, other = (Corruption(kind, 0.3).apply(x, valid, "a") for x in (bright, spoiled))
    np.testing.assert_array_equal(one[valid], other[valid])
    np.testing.assert_array_equal(other[7, 7], np.float32(hidden))
    assert np.isnan(Corruption(kind, 0.3).apply(np.full_like(GRAY, np.nan), ~VALID, "a")).all()
