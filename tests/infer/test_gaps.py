"""What pixels lack in some bands, told by their others: conditional means, and what is learned of gappy spectra."""

import tracemalloc

import numpy as np
import pytest

from rsunfold.cube import Cube, Meta
from rsunfold.infer import gaps as module
from rsunfold.infer.gaps import Mender, mendable


@pytest.fixture(scope="module")
def spectra():
    """(12, 3000): three sources mixed about a mean, in units that differ, and a little noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 3000)) + 0.05 * rng.normal(size=(12, 3000))
    return np.geomspace(1e-3, 1e3, 12)[:, None] * (x + 5)


@pytest.fixture(scope="module")
def lost(spectra):
    """A fifth of the samples, at most half of a spectrum."""
    lost = np.random.default_rng(1).random(spectra.shape) < 0.2
    lost[:, lost.mean(axis=0) > 0.5] = False
    return lost


def test_gaps_are_filled_with_conditional_means(spectra, lost):
    mean, C = spectra.mean(axis=1), np.cov(spectra, bias=True)
    cube = Cube(np.where(lost, -9, spectra)[:, None], ~lost.any(axis=0)[None], Meta(), lost[:, None])
    found = Mender(range(12), mean, C).mended(cube, range(12))
    assert found.valid.all()
    i = int(np.flatnonzero(lost.any(axis=0))[0])
    m = lost[:, i]
    expected = mean[m] + C[np.ix_(m, ~m)] @ np.linalg.solve(C[np.ix_(~m, ~m)], (spectra[:, i] - mean)[~m])
    np.testing.assert_allclose(found.data[m, 0, i], expected, rtol=1e-3)
    np.testing.assert_array_equal(found.data[:, 0][~lost], spectra[~lost])
    some = [1, 4, 5, 6, 7, 8, 9, 10]
    part = Cube(cube.data[some], cube.valid, Meta(), cube.missing[some])
    alone = Mender(range(8), mean[some], C[np.ix_(some, some)]).mended(part, range(8))
    np.testing.assert_allclose(Mender(range(12), mean, C).mended(part, some).data, alone.data)


@pytest.mark.parametrize(("shared", "block", "systems"), [(1, 2**17, 2**18), (10**9, 2**17, 2**18), (3, 100, 20)])
def test_sets_of_bands_give_what_single_spectra_do(spectra, lost, monkeypatch, shared, block, systems):
    """However many share a set, and are filled at a time: conditional means and what is uncertain about them."""
    monkeypatch.setattr(module, "SHARED", shared)
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "SYSTEMS", systems)
    scale = spectra.std(axis=1)[:, None]
    some, gaps = ((spectra - spectra.mean(axis=1, keepdims=True)) / scale)[:, :300], lost[:, :300]
    P = np.linalg.inv(np.cov(some, bias=True))
    expected, uncertain = some.copy(), np.zeros_like(P)
    for i in np.flatnonzero(gaps.any(axis=0)):
        m = gaps[:, i]
        about = np.linalg.inv(P[np.ix_(m, m)])
        expected[m, i] = -about @ P[np.ix_(m, ~m)] @ some[~m, i]
        uncertain[np.ix_(m, m)] += about
    for total in (None, np.zeros_like(P)):
        x = np.where(gaps, 99, some)
        module._Gaps.of(gaps).fill(P, x, total)
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(total, uncertain, rtol=1e-6, atol=1e-8)


def test_systems_of_as_many_bands_are_solved_together(spectra, lost, monkeypatch):
    solved, inverse = [], np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda a: solved.append(1) or inverse(a))
    Mender.learned(range(12), spectra, lost)
    assert len(solved) < 1000  # about 700 sets, in 8 rounds


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_a_gap(spectra, count):
    lost = np.zeros(spectra.shape, bool)
    lost[3, :count] = True
    scale = spectra.std(axis=1)
    found = Mender.learned(range(12), spectra, lost)
    np.testing.assert_allclose(found.mean / scale, spectra.mean(axis=1) / scale, atol=1e-3)


def test_little_is_held_while_gaps_are_filled(spectra, lost, monkeypatch):
    """The samples are filled where they are, some at a time."""
    monkeypatch.setattr(module, "BLOCK", 2**10)
    data = np.tile(spectra.astype(np.float32), 8)[:, None]
    cube = Cube(data, np.tile(~lost.any(axis=0), 8)[None], Meta(), np.tile(lost, 8)[:, None])
    mender = Mender(range(12), spectra.mean(axis=1), np.cov(spectra, bias=True))
    tracemalloc.start()
    found = mender.mended(cube, range(12))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.valid.all() and np.shares_memory(found.data, data)
    assert held < 0.8 * data.nbytes


def test_what_is_learned_of_gappy_spectra_is_nearly_what_all_tell(spectra, lost):
    """No band is whole, and hardly a spectrum."""
    found = Mender.learned(range(12), np.where(lost, np.nan, spectra), lost)
    scale = spectra.std(axis=1)
    assert np.abs(found.mean - spectra.mean(axis=1)).max() < 0.05 * scale.max()
    whole = np.cov(spectra / scale[:, None], bias=True)
    np.testing.assert_allclose(found.covariance / np.outer(scale, scale), whole, atol=0.05)


def test_bands_that_tell_little_of_each_other_vary_as_much_where_they_lack_samples():
    """What fills the gaps hardly varies."""
    rng = np.random.default_rng(0)
    expected = np.array([[1, 0.5, 0.3], [0.5, 1, 0.4], [0.3, 0.4, 1]])
    spectra = rng.multivariate_normal(np.zeros(3), expected, 20000).T
    lost = np.zeros(spectra.shape, bool)
    lost[0, ::2] = True
    np.testing.assert_allclose(Mender.learned(range(3), spectra, lost).covariance, expected, atol=0.05)


def test_pixels_that_lack_more_than_half_cannot_be_mended():
    missing = np.arange(6)[:, None, None] < np.array([[0, 1, 3, 4, 6]])
    cube = Cube(np.zeros((6, 1, 5)), ~missing.any(axis=0), Meta(), missing)
    assert mendable(cube).tolist() == [[False, True, True, False, False]]
    cube.missing = None
    assert not mendable(cube).any()
