"""Noise protocols: what is drawn is measured on the noise itself, the noisy cube minus the clean one."""

import numpy as np
import pytest

from rsunfold.errors import InputError, UsageError
from rsunfold.simulate.noise import KINDS, make_noise

SHAPE = (30, 100, 120)
CASES = ("case1", "case2", "case3", "case4", "case5")


@pytest.fixture(scope="module")
def clean():
    """Values no noise sets a pixel to, and that differ from pixel to pixel."""
    return np.random.default_rng(5).uniform(0.2, 0.8, SHAPE)


@pytest.fixture(scope="module")
def noisy(clean):
    """One cube of each kind, seed 0."""
    sigma = {"iid": 30, "bandwise": 55}
    return {kind: make_noise(clean, kind, sigma=sigma.get(kind), seed=0) for kind in KINDS}


def added(noisy, clean, kind):
    return noisy[kind].data.astype(float) - clean


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_type_and_masks(noisy, kind):
    made = noisy[kind]
    assert made.data.dtype == np.float32 and made.data.shape == SHAPE
    assert made.sigmas.shape == SHAPE[:1] and (made.kind, made.seed) == (kind, 0)
    has = {name for name in ("stripes", "dead", "impulse") if getattr(made, name) is not None}
    case = {"case2": {"stripes"}, "case3": {"dead"}, "case4": {"impulse"}, "case5": {"stripes", "dead", "impulse"}}
    assert has == case.get(kind, set())


@pytest.mark.parametrize("kind", ["iid", "bandwise", "case1"])
def test_gaussian_noise_has_the_stated_deviation_in_each_band(noisy, clean, kind):
    noise, sigmas = added(noisy, clean, kind), noisy[kind].sigmas
    np.testing.assert_allclose(noise.std(axis=(1, 2)), sigmas, rtol=0.04)
    assert (np.abs(noise.mean(axis=(1, 2))) < 4 * sigmas / np.sqrt(noise[0].size)).all()
    flat = (noise / sigmas[:, None, None]).reshape(len(noise), -1)
    assert np.mean(flat**4) == pytest.approx(3, rel=0.05)  # kurtosis of a Gaussian
    between = np.corrcoef(flat)[~np.eye(len(flat), dtype=bool)]
    assert np.abs(between).max() < 0.05
    assert abs(np.mean(flat[:, 1:] * flat[:, :-1])) < 0.01


def test_sigmas_are_those_of_the_protocols(noisy, clean):
    assert (noisy["iid"].sigmas == 30 / 255).all()
    assert set(noisy["case1"].sigmas) == {10 / 255, 30 / 255, 50 / 255, 70 / 255}
    many = 255 * make_noise(np.full((4000, 1, 1), 0.5), "bandwise", sigma=95.0, seed=1).sigmas
    assert 0 <= many.min() < 1 and 94 < many.max() <= 95
    assert many.mean() == pytest.approx(95 / 2, rel=0.03) and many.std() == pytest.approx(95 / 12**0.5, rel=0.03)
    cases = 255 * make_noise(np.full((4000, 1, 1), 0.5), "case1", seed=1).sigmas
    np.testing.assert_allclose([np.mean(np.round(cases) == sigma) for sigma in (10, 30, 50, 70)], 0.25, atol=0.03)


def test_stripes(noisy, clean):
    difference = noisy["case2"].data.astype(float) - noisy["case1"].data
    stripes = noisy["case2"].stripes
    assert np.sum(stripes.any(axis=1)) == 10
    counts = stripes.sum(axis=1)[stripes.any(axis=1)]
    assert counts.min() >= 6 and counts.max() <= 18 and len(set(counts)) > 1  # 5 to 15 % of 120 columns
    np.testing.assert_allclose(difference.std(axis=1), 0, atol=1e-6)  # one offset per column
    offsets = difference.mean(axis=1)
    np.testing.assert_array_equal(np.abs(offsets) > 1e-6, stripes)
    values = offsets[stripes]
    assert -0.25 <= values.min() < -0.23 and 0.23 < values.max() <= 0.25
    assert values.std() == pytest.approx(0.5 / 12**0.5, rel=0.15)


def test_dead_lines(noisy):
    dead, data = noisy["case3"].dead, noisy["case3"].data
    assert np.sum(dead.any(axis=1)) == 10
    counts = dead.sum(axis=1)[dead.any(axis=1)]
    assert counts.min() >= 6 and counts.max() <= 18 and len(set(counts)) > 1
    np.testing.assert_array_equal((data == 0).all(axis=1), dead)
    untouched = np.broadcast_to(~dead[:, None], SHAPE)
    np.testing.assert_array_equal(data[untouched], noisy["case1"].data[untouched])


def test_every_share_of_columns_from_5_to_15_percent_occurs():
    made = make_noise(np.full((900, 1, 120), 0.5), "case5", seed=0)
    for mask in (made.stripes, made.dead):
        assert set(mask.sum(axis=1)) == {0, *range(6, 19)}


def test_impulses(noisy):
    hit, data = noisy["case4"].impulse, noisy["case4"].data
    shares = hit.mean(axis=(1, 2))
    assert np.sum(shares > 0) == 10
    nearest = np.array([0.1, 0.3, 0.5, 0.7])[np.abs(shares[shares > 0, None] - [0.1, 0.3, 0.5, 0.7]).argmin(axis=1)]
    np.testing.assert_allclose(shares[shares > 0], nearest, atol=0.02)
    assert len(set(nearest)) > 1
    assert set(np.unique(data[hit])) == {0, 1}
    assert data[hit].mean() == pytest.approx(0.5, abs=0.01)  # as much salt as pepper
    np.testing.assert_array_equal(data[~hit], noisy["case1"].data[~hit])


def test_every_share_of_impulses_occurs_as_often():
    shares = make_noise(np.full((900, 40, 40), 0.5), "case4", seed=0).impulse.mean(axis=(1, 2))
    occurs = np.array([np.mean(np.abs(shares - ratio) < 0.06) for ratio in (0, 0.1, 0.3, 0.5, 0.7)])
    assert occurs.sum() == pytest.approx(1)
    np.testing.assert_allclose(occurs, [2 / 3, *[1 / 12] * 4], atol=0.03)


def test_the_mixture_has_the_noise_of_the_other_cases_on_thirds_without_overlap(noisy):
    mixture = noisy["case5"]
    np.testing.assert_array_equal(mixture.stripes, noisy["case2"].stripes)
    np.testing.assert_array_equal(mixture.dead, noisy["case3"].dead)
    np.testing.assert_array_equal(mixture.impulse, noisy["case4"].impulse)
    touched = [mask.reshape(30, -1).any(axis=1) for mask in (mixture.stripes, mixture.dead, mixture.impulse)]
    np.testing.assert_array_equal(np.sum(touched, axis=0), 1)
    for bands, case in zip(touched, ("case2", "case3", "case4"), strict=True):
        np.testing.assert_array_equal(mixture.data[bands], noisy[case].data[bands])


def test_a_seed_draws_one_gaussian_field(noisy, clean):
    standard = added(noisy, clean, "iid") / (30 / 255)
    for kind in ("bandwise", "case1"):
        np.testing.assert_allclose(
            added(noisy, clean, kind), standard * noisy[kind].sigmas[:, None, None], rtol=0, atol=1e-6
        )
    for case in CASES:
        np.testing.assert_array_equal(noisy[case].sigmas, noisy["case1"].sigmas)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    sigma = 50 if kind in ("iid", "bandwise") else None
    cube = np.full((6, 12, 20), 0.5, np.float32)
    first, again, other = (make_noise(cube, kind, sigma=sigma, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.data, again.data)
    assert np.mean(first.data != other.data) > 0.9
    assert (cube == 0.5).all()


def test_noise_differs_from_the_random_numbers_of_a_scene_of_its_seed():
    noise = make_noise(np.zeros((1, 50, 50)), "iid", sigma=255, seed=3).data.ravel()
    for stream in (np.random.default_rng(3), *np.random.default_rng(3).spawn(6)):
        other = stream.standard_normal(noise.size, dtype=np.float32)
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.1


def test_small_cubes():
    assert make_noise(np.ones((1, 2, 3)), "iid", sigma=10, seed=0).data.shape == (1, 2, 3)
    assert make_noise(np.ones((2, 2, 3)), "case1", seed=0).data.shape == (2, 2, 3)
    made = make_noise(np.ones((5, 4, 3)), "case5", seed=0)  # 5 // 3 bands each, one column at least
    assert made.stripes.sum() == made.dead.sum() == 1
    assert np.sum(made.impulse.any(axis=(1, 2))) == 1


CUBE = np.full((3, 4, 5), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "caze1"},
            r"unknown noise 'caze1'; did you mean 'case1'\?$",
        ),
        ({"kind": "zzz"}, "unknown noise 'zzz'; choose from iid"),
        ({"kind": "iid"}, "iid noise needs a sigma above 0, on the 0 to 255 scale, got none"),
        ({"kind": "bandwise", "sigma": 0}, "bandwise noise needs a sigma above 0, .* got 0"),
        ({"kind": "iid", "sigma": float("nan")}, "got nan"),
        ({"kind": "case2", "sigma": 30}, "case2 draws its sigmas from 10, 30, 50, 70; leave sigma out"),
        ({"seed": -1}, "seed of a noise must be at least 0, got -1"),
    ],
)
def test_impossible_noise_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        make_noise(CUBE, **{"kind": "case1", "seed": 0, **arguments})


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (CUBE[0], r"floating-point cubes \(bands, rows, cols\).*float64 of shape \(4, 5\)"),
        (CUBE.astype(np.uint16), "not to uint16"),
        (np.where(CUBE == CUBE, np.nan, CUBE), "NaN or infinities"),
        (np.full((3, 4, 5), np.inf), "NaN or infinities"),
        (CUBE[:2], "case5 corrupts thirds of the bands and needs at least 3 of them, got 2"),
    ],
)
def test_cubes_that_take_no_noise_are_refused(cube, message):
    with pytest.raises(InputError, match=message):
        make_noise(cube, "case5", seed=0)
