"""What pixels lack in some bands, told by their others: conditional means, and what is learned of gappy spectra."""

import numpy as np
import pytest

from rsunfold.cube import Cube, Meta
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


def test_what_is_learned_of_gappy_spectra_is_nearly_what_all_tell(spectra, lost):
    """No band is whole, and hardly a spectrum."""
    found = Mender.learned(range(12), np.where(lost, np.nan, spectra), lost)
    scale = spectra.std(axis=1)
    assert np.abs(found.mean - spectra.mean(axis=1)).max() < 0.05 * scale.max()
    whole = np.cov(spectra / scale[:, None], bias=True)
    np.testing.assert_allclose(found.covariance / np.outer(scale, scale), whole, atol=0.05)


def test_pixels_that_lack_more_than_half_cannot_be_mended():
    missing = np.arange(6)[:, None, None] < np.array([[0, 1, 3, 4, 6]])
    cube = Cube(np.zeros((6, 1, 5)), ~missing.any(axis=0), Meta(), missing)
    assert mendable(cube).tolist() == [[False, True, True, False, False]]
    cube.missing = None
    assert not mendable(cube).any()
