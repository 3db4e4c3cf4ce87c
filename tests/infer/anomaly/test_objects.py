"""From a score map to anomalies: groups, spectra, and the wavelengths in which they differ."""

import csv

import numpy as np
import pytest

from rsunfold.cube import Meta
from rsunfold.infer import spectral as image_module
from rsunfold.infer.anomaly import objects as module
from rsunfold.infer.anomaly.objects import NAMES, differences, find_anomalies, picture_bands, write_spectra
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.memory import ArrayReader


def opened(cube: np.ndarray, wavelengths: tuple[float, ...] = (), **about) -> SpectralImage:
    reader = ArrayReader(cube)
    reader.meta = Meta(driver="array", wavelengths=wavelengths, **about)
    return SpectralImage(reader)


@pytest.fixture
def score(scene):
    """3 and more on the objects, below 2 elsewhere; the box of 4 pixels is the strongest."""
    found = np.random.default_rng(0).random(scene.truth.shape, np.float32)
    found[scene.truth] += 3
    found[12:14, 20:22] = [[5, 6], [9, 7]]
    return found


@pytest.mark.parametrize("strip", [1, 7, 30])
def test_groups_and_their_mean_spectra(scene, score, strip, monkeypatch):
    monkeypatch.setattr(image_module, "STRIP_BYTES", strip * 4 * 8 * 34)
    monkeypatch.setattr(ArrayReader, "block_shape", (1, 34), raising=False)
    with opened(scene.cube) as image:
        assert len(list(image.strips(8))) == -(-30 // strip)
        found = find_anomalies(image, score, 2.5)
    assert [(t.id, t.area, t.row_min, t.col_min) for t in found.targets] == [
        (1, 1, 4, 5), (2, 4, 12, 20), (3, 3, 22, 7), (4, 1, 25, 28),
    ]  # fmt: skip
    np.testing.assert_array_equal(found.mask, scene.truth)
    assert found.targets[1].peak == 9 and found.targets[1].mean == pytest.approx(27 / 4)
    assert list(found.spectra) == [2, *[t.id for t in sorted(found.targets, key=lambda t: -t.peak)][1:]]
    for t in found.targets:
        group = np.zeros_like(scene.truth)
        group[t.window.slices] = scene.truth[t.window.slices]
        np.testing.assert_allclose(found.spectra[t.id], scene.cube[:, group].mean(1, dtype=float), rtol=1e-6)
    assert found.composite.shape == (30, 34, 3) and found.step == 1
    assert np.nanmin(found.composite) == 0 and np.nanmax(found.composite) == 1


def test_small_groups_are_left_out_of_everything(scene, score):
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, 2.5, min_area=3)
    assert [(t.id, t.area) for t in found.targets] == [(1, 4), (2, 3)]
    assert found.mask.sum() == 7 and set(found.spectra) == {1, 2}
    np.testing.assert_allclose(found.spectra[2], scene.cube[:, 22, 7:10].mean(1), rtol=1e-6)


def test_groups_are_in_scan_order_by_their_first_pixel(scene):
    """One that begins above another but to the right, and one that touches at a corner only."""
    score = np.zeros((30, 34), np.float32)
    score[3, 20] = score[4, 19] = score[5, 18] = score[4, 5] = score[9, 9] = score[8, 10] = 1
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, 0.5)
    assert [(t.row_min, t.col_min, t.area) for t in found.targets] == [(3, 18, 3), (4, 5, 1), (8, 9, 2)]
    for t in found.targets:
        group = np.zeros(score.shape, bool)
        group[t.window.slices] = score[t.window.slices] > 0
        np.testing.assert_allclose(found.spectra[t.id], scene.cube[:, group].mean(1), rtol=1e-6)


def test_pixels_without_data_belong_to_no_group(scene, score):
    cube = scene.cube.copy()
    cube[:, 22, 8] = np.nan
    score = score.copy()
    score[22, 8] = np.nan
    with opened(cube) as image:
        found = find_anomalies(image, score, 2.5)
    assert [t.area for t in found.targets] == [1, 4, 1, 1, 1] and not found.mask[22, 8]
    assert all(np.isfinite(s).all() for s in found.spectra.values())
    assert np.isnan(found.composite[22, 8]).all() and np.isfinite(found.composite[22, 9]).all()


def test_no_anomaly_at_all(scene, score, tmp_path):
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, 99)
        assert found.targets == [] and found.spectra == {} and not found.mask.any()
        assert differences(image, found) == []
        write_spectra(tmp_path / "a.csv", image, found)
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "band,name,wavelength_nm,background_mean,background_std"


def test_only_the_strongest_have_spectra(scene, score, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, 2.5)
        more = differences(image, found)
    strongest = sorted(found.targets, key=lambda t: -t.peak)[:2]
    assert list(found.spectra) == [t.id for t in strongest] and len(found.targets) == 4
    assert [m["bands_differing"] is not None for m in more] == [t in strongest for t in found.targets]
    assert all(tuple(m) == NAMES for m in more)


def test_bands_that_differ_most(scene, score):
    """40 bands; one object differs in three places only."""
    rng = np.random.default_rng(0)
    cube = rng.normal(100, 2, (40, 30, 34)).astype(np.float32)
    waves = tuple(400.0 + 25 * i for i in range(40))
    cube[[3, 20, 33], 4, 5] += [60, -40, 20]
    cube[4, 4, 5] += 55  # a neighbour of the first, which says the same
    with opened(cube, waves, bad_bands=tuple(i == 0 for i in range(40))) as image:
        found = find_anomalies(image, score, 2.5)
        first = differences(image, found)[0]
    assert first["bands_differing"] == "4;21;34"
    assert first["wavelengths_nm_differing"] == "475.0;900.0;1225.0"
    z = [float(v) for v in first["deviations_differing"].split(";")]
    chosen = [3, 20, 33]
    rest = cube[chosen][:, ~(score > 2.5)]
    expected = (cube[chosen, 4, 5] - rest.mean(axis=1)) / rest.std(axis=1)
    np.testing.assert_allclose(z, expected, atol=0.02)
    assert first["names_differing"] is None
    names = tuple(f"B{i}; {i}" for i in range(40))
    with opened(cube, bad_bands=tuple(i == 0 for i in range(40)), band_names=names) as image:
        first = differences(image, found)[0]
    assert first["wavelengths_nm_differing"] is None and first["names_differing"] == "B3, 3;B20, 20;B33, 33"


def test_spectra_as_a_table(scene, score, tmp_path):
    waves = tuple(400.0 + 50.5 * i for i in range(8))
    with opened(scene.cube, waves, bad_bands=tuple(i == 2 for i in range(8)), band_names=tuple("abcdefgh")) as image:
        found = find_anomalies(image, score, 2.5)
        write_spectra(tmp_path / "a.csv", image, found)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert list(rows[0])[5:] == ["anomaly_1", "anomaly_2", "anomaly_3", "anomaly_4"]
    assert [int(r["band"]) for r in rows] == [1, 2, 4, 5, 6, 7, 8]
    assert "".join(r["name"] for r in rows) == "abdefgh"
    used = [0, 1, 3, 4, 5, 6, 7]
    assert [float(r["wavelength_nm"]) for r in rows] == [waves[b] for b in used]
    cube = scene.cube[used].astype(float)
    rest = cube[:, ~(score > 2.5)]
    np.testing.assert_allclose([float(r["background_mean"]) for r in rows], rest.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose([float(r["background_std"]) for r in rows], rest.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose([float(r["anomaly_2"]) for r in rows], cube[:, 12:14, 20:22].mean((1, 2)), rtol=1e-6)


def test_the_picture_of_a_large_image_is_decimated(scene, score, monkeypatch):
    monkeypatch.setattr(module, "PICTURE_SIDE", 12)
    monkeypatch.setattr(image_module, "STRIP_BYTES", 5 * 4 * 8 * 34)
    monkeypatch.setattr(ArrayReader, "block_shape", (1, 34), raising=False)
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, 2.5)
        bands = picture_bands(image)
    assert found.step == 3 and found.composite.shape == (10, 12, 3)
    expected = scene.cube[bands][:, ::3, ::3].astype(float)
    for k in range(3):
        low, high = np.percentile(expected[k], [1, 99])
        np.testing.assert_allclose(found.composite[..., k], np.clip((expected[k] - low) / (high - low), 0, 1))


@pytest.mark.parametrize(
    ("bands", "waves", "expected"),
    [
        (1, (), [0]),
        (2, (), [0]),
        (6, (), [5, 3, 1]),
        (4, (450.0, 560.0, 650.0, 800.0), [2, 1, 0]),
        (4, (900.0, 1000.0, 1100.0, 1200.0), [3, 2, 0]),
    ],
)
def test_bands_of_a_picture(bands, waves, expected, scene):
    with opened(scene.cube[:bands], waves) as image:
        assert picture_bands(image) == expected


def test_where_all_is_above_the_threshold_the_background_is_the_image(scene, score):
    with opened(scene.cube) as image:
        found = find_anomalies(image, score, -1.0)
    np.testing.assert_allclose(found.background, scene.cube.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, scene.cube.std((1, 2)), rtol=1e-5)
