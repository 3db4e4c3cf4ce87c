"""Stripes and dead lines are found where they are, and nowhere else."""

import numpy as np
import pytest

from rsunfold.infer.spectral import STRIP_COPIES_NEAR, SpectralImage
from rsunfold.io.memory import ArrayReader
from rsunfold.lines import BLOCK, FEWEST, ColumnSummary, column_summary, find_lines
from rsunfold.noise import robust_statistics
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import subspace_of

BANDS, ROWS, COLS, NOISE = 30, 90, 70, 0.02


def scene(seed: int = 0, rows: int = ROWS) -> np.ndarray:
    """Three mixed spectra with noise, float32 (bands, rows, cols) in about [0, 1]."""
    rng = np.random.default_rng(seed)
    spectra = np.abs(np.cos(np.outer(np.linspace(0.2, 2, BANDS), [1, 1.7, 2.6])))
    shares = rng.dirichlet([1, 1, 1], (rows, COLS))
    shares = np.cumsum(shares, axis=0) / np.arange(1, rows + 1)[:, None, None]  # varies along the columns, smoothly
    clean = np.einsum("bk,rck->brc", spectra, shares)
    return (clean + NOISE * rng.standard_normal(clean.shape)).astype(np.float32)


def spoiled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cube, offsets (bands, cols), dead (bands, cols))."""
    cube, rng = scene(), np.random.default_rng(5)
    offset, dead = np.zeros((2, BANDS, COLS))
    for band in (3, 11, 20):
        offset[band, rng.permutation(COLS)[:6]] = rng.choice([-1, 1], 6) * rng.uniform(0.05, 0.2, 6)
    for band in (5, 11, 28):
        dead[band, np.flatnonzero(offset[band] == 0)[rng.permutation(COLS - 6)[:5]]] = 1
    cube += offset[:, None].astype(np.float32)
    dead = dead.astype(bool)
    cube = np.where(dead[:, None], np.float32(0), cube)
    return cube, offset, dead


def found_in(cube: np.ndarray):
    mean, _, cleaned = robust_statistics(cube.reshape(len(cube), -1))
    return find_lines(column_summary(cube), mean, np.cov(cleaned, bias=True))


def test_stripes_and_dead_lines_are_found_with_their_offsets():
    cube, offset, dead = spoiled()
    lines = subspace_of(cube, robust=True).lines
    np.testing.assert_array_equal(lines.dead, dead)
    np.testing.assert_array_equal(lines.offset != 0, offset != 0)
    np.testing.assert_allclose(lines.offset[offset != 0], offset[offset != 0], atol=0.02)
    assert lines and lines.stripes == 18


def test_an_image_without_lines_has_none():
    lines = found_in(scene())
    assert not lines and not lines.stripes and not lines.dead.any()


@pytest.mark.parametrize("seed", range(3))
def test_impulses_and_gaussian_noise_of_all_levels_are_hardly_taken_for_lines(seed):
    cube = make_noise(scene(seed), "case4", seed=seed).data
    lines = subspace_of(cube, robust=True).lines
    assert not lines.dead.any() and lines.stripes < 0.02 * BANDS * COLS


def test_the_image_without_lines_is_what_it_was_before():
    cube, offset, dead = spoiled()
    subspace = subspace_of(cube, robust=True)
    repaired, truth = subspace.colour(subspace.whiten(cube)), scene()
    error = np.sqrt(np.mean((repaired - truth) ** 2, axis=1))
    assert error[offset != 0].max() < 0.02
    assert error[dead].max() < 2 * NOISE  # the noise of the truth itself, and of the other bands
    untouched = ~dead & (offset == 0)
    np.testing.assert_allclose(repaired.transpose(0, 2, 1)[untouched], truth.transpose(0, 2, 1)[untouched], atol=1e-5)
    # Without them the same pixels are far off.
    assert np.abs(cube - truth).mean(axis=1)[dead].min() > 5 * NOISE


def test_dead_samples_become_what_the_other_bands_say():
    cube, *_ = spoiled()
    subspace = subspace_of(cube, robust=True)
    y, A, dead = subspace.whiten(cube), subspace.A, subspace.lines.dead
    for column in np.flatnonzero(dead.any(axis=0)):
        lost = dead[:, column]
        g = np.linalg.lstsq(A[~lost], y[~lost, :, column], rcond=None)[0]
        np.testing.assert_allclose(y[lost, :, column], A[lost] @ g, atol=1e-3)


def test_windows_are_repaired_as_the_whole_image():
    cube, *_ = spoiled()
    subspace = subspace_of(cube, robust=True)
    whole = subspace.whiten(cube)
    columns = np.arange(23, 61)
    np.testing.assert_allclose(subspace.whiten(cube[:, 10:40, 23:61], columns), whole[:, 10:40, 23:61], atol=1e-5)
    assert np.abs(subspace.whiten(cube[:, 10:40, 23:61]) - whole[:, 10:40, 23:61]).max() > 1


def test_an_image_in_a_file_gives_the_lines_of_the_cube_in_memory():
    cube, *_ = spoiled()
    for room in (None, 4 * cube.size + STRIP_COPIES_NEAR * 4 * BANDS * 2 * BLOCK * 13):
        image = SpectralImage(ArrayReader(np.ma.array(cube)), near=True, room=room)
        with image:
            found, expected = image.subspace(robust=True).lines, subspace_of(cube, robust=True).lines
        np.testing.assert_array_equal(found.dead, expected.dead)
        np.testing.assert_allclose(found.offset, expected.offset, rtol=1e-6, atol=1e-9)


def test_of_columns_with_holes_the_rest_is_judged():
    cube, *_ = spoiled()
    cube = np.concatenate([cube, cube], axis=1)
    holed, valid = cube.copy(), np.ones(cube.shape[1:], bool)
    valid[[3, 100]], valid[50:90, 20] = False, False
    holed[:, ~valid] = np.nan
    columns = ColumnSummary(BANDS, *valid.shape)
    for window in ColumnSummary.windows(*valid.shape, 9):
        columns.add(holed[:, *window.slices], valid[window.slices], window)
    assert columns.seen.all()
    np.testing.assert_array_equal(columns.dead(), column_summary(cube).dead())
    np.testing.assert_allclose(columns.median, column_summary(cube).median, atol=0.03)


def test_an_image_with_a_row_without_data_keeps_its_lines():
    cube, *_ = spoiled()
    holed = np.ma.array(cube, mask=np.zeros(cube.shape, bool))
    holed.mask[:, 40] = True
    with SpectralImage(ArrayReader(holed), near=True) as image:
        found, expected = image.subspace(robust=True).lines, subspace_of(cube, robust=True).lines
    np.testing.assert_array_equal(found.dead, expected.dead)
    np.testing.assert_array_equal(found.offset != 0, expected.offset != 0)


def test_something_of_its_own_colour_in_the_scene_is_no_stripe():
    cube = scene()
    cube[12, : 2 * ROWS // 3, 30] += 0.2  # narrow, but not from the first row to the last
    assert not found_in(cube).stripes
    cube[12, 2 * ROWS // 3 :, 30] += 0.2
    assert np.argwhere(found_in(cube).offset).tolist() == [[12, 30]]


@pytest.mark.parametrize("step", [0.05, 0.2, 0.5])
def test_coarsely_quantised_images_have_no_stripes(step):
    lines = found_in(np.round(scene() / step) * np.float32(step))
    assert lines.stripes < 0.005 * BANDS * COLS and np.abs(lines.offset).max() <= 2 * step


def test_pixels_without_data_do_not_count():
    """The noise of what is valid, however little that is."""
    cube, *_ = spoiled()
    half = np.ma.array(cube, mask=np.zeros(cube.shape, bool))
    half.mask[:, :, 25:] = True
    with SpectralImage(ArrayReader(half), near=True) as image:
        found, expected = image.subspace(robust=True), subspace_of(np.ascontiguousarray(cube[:, :, :25]), robust=True)
    assert found.rank == expected.rank
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=0.05)


@pytest.mark.parametrize("shape", [(1, COLS), (FEWEST - 1, COLS), (ROWS, FEWEST - 1), (2, 2)])
def test_images_too_small_to_tell_have_none(shape):
    cube = np.ascontiguousarray(spoiled()[0][:, : shape[0], : shape[1]])
    lines = subspace_of(cube, robust=True).lines
    if lines is None:
        assert shape == (2, 2)  # no more pixels than bands: no band tells what another should hold
        return
    assert not lines.dead.any()
    if shape[1] < FEWEST or shape[0] < FEWEST:
        assert not lines.stripes


def test_what_is_constant_by_nature_is_no_dead_line():
    cube = scene()
    cube[4] = np.round(cube[4], 0)  # hardly any level: most columns are constant
    cube[:, :, 7] = 0.5  # a column without data in every band
    lines = found_in(cube)
    assert not lines.dead.any()
