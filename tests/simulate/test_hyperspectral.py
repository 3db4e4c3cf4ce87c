"""Simulated hyperspectral scenes: reproducible, composed as they say, and shaped like landscape."""

import json

import numpy as np
import pytest
from scipy import ndimage

from rsunfold.errors import OutputError, UsageError
from rsunfold.io import open_cube
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.noise import make_noise
from rsunfold.simulate.write import write_hyperspectral


@pytest.fixture(scope="module")
def scene():
    return hyperspectral_scene(96, 110, 85, endmembers=7, seed=3)


@pytest.mark.parametrize("endmembers", range(2, 8))
@pytest.mark.parametrize("seed", [0, 1])
def test_type_range_and_composition(endmembers, seed):
    made = hyperspectral_scene(48, 61, 33, endmembers=endmembers, seed=seed)
    assert made.data.shape == (33, 48, 61) and made.data.dtype == np.float32
    assert made.data.min() >= 0 and made.data.max() <= 1 and made.data.std() > 0.03
    assert made.spectra.shape == (endmembers, 33) and len(made.materials) == endmembers
    assert made.spectra.min() > 0 and made.spectra.max() < 1 / 1.4  # below 1 on the brightest slope, too
    assert made.abundances.shape == (endmembers, 48, 61) and made.abundances.min() >= 0
    np.testing.assert_allclose(made.abundances.sum(axis=0), 1, rtol=1e-5)
    mixed = np.einsum("eb,erc->brc", made.spectra, made.abundances) * made.illumination
    np.testing.assert_allclose(made.data, mixed, rtol=1e-5)
    singular = np.linalg.svd(made.data.reshape(33, -1).astype(float), compute_uv=False)
    assert np.sum(singular > 1e-5 * singular[0]) <= endmembers


def test_the_seed_decides():
    first, again, other = (hyperspectral_scene(32, 32, 8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.data, again.data)
    assert not np.array_equal(first.spectra, other.spectra)
    assert not np.array_equal(first.abundances, other.abundances)


def test_the_landscape_does_not_depend_on_the_bands():
    few, many = (hyperspectral_scene(32, 40, bands, seed=2) for bands in (5, 50))
    np.testing.assert_array_equal(few.abundances, many.abundances)
    np.testing.assert_array_equal(few.illumination, many.illumination)
    np.testing.assert_allclose(few.spectra[:, [0, -1]], many.spectra[:, [0, -1]], rtol=1e-6)


def test_wavelengths(scene):
    assert scene.wavelengths[0] == 400 and scene.wavelengths[-1] == 2500
    np.testing.assert_allclose(np.diff(scene.wavelengths), 25)


def at(scene, material, nm):
    band = np.abs(scene.wavelengths - nm).argmin()
    return scene.spectra[scene.materials.index(material), band]


@pytest.mark.parametrize("seed", range(5))
def test_spectra_have_the_features_of_their_materials(seed):
    scene = hyperspectral_scene(16, 16, 421, endmembers=7, seed=seed)
    for leaf in ("crop", "trees"):
        assert at(scene, leaf, 800) > 4 * at(scene, leaf, 670)  # red edge
        assert at(scene, leaf, 550) > 1.5 * max(at(scene, leaf, 460), at(scene, leaf, 670))  # green peak
        assert at(scene, leaf, 1450) < 0.75 * min(at(scene, leaf, 1260), at(scene, leaf, 1660))  # liquid water
        assert at(scene, leaf, 1940) < 0.75 * min(at(scene, leaf, 1660), at(scene, leaf, 2150))
    assert at(scene, "water", 560) > 5 * at(scene, "water", 900)
    assert at(scene, "water", 2200) < 0.01
    assert at(scene, "roof", 650) > 2.5 * at(scene, "roof", 500)
    assert at(scene, "soil", 2205) < 0.99 * min(at(scene, "soil", 2150), at(scene, "soil", 2260))  # clay
    assert at(scene, "dry grass", 2100) < 0.95 * at(scene, "dry grass", 2220)  # cellulose
    assert at(scene, "dry grass", 670) > at(scene, "crop", 670)
    assert np.ptp(scene.spectra[scene.materials.index("asphalt")]) < 0.15


def test_spectra_are_smooth(scene):
    fine = hyperspectral_scene(16, 16, 2101, endmembers=7, seed=3)  # 1 nm
    assert np.abs(np.diff(fine.spectra, axis=1)).max() < 0.02


def test_regions_with_edges_and_smooth_insides(scene):
    """Most neighbours hardly differ, few differ much, and no material is scattered pixel by pixel."""
    step = np.abs(np.diff(scene.abundances, axis=2)).max(axis=0)
    assert np.median(step) < 0.1 and np.percentile(step, 98) > 0.3
    assert np.mean(scene.abundances.max(axis=0) > 0.75) > 0.4
    assert np.mean(scene.abundances.max(axis=0) < 0.95) > 0.2  # mixed pixels
    assert (scene.abundances.mean(axis=(1, 2)) > 0.005).all()
    x = scene.data[20] - scene.data[20].mean()
    assert np.mean(x[1:] * x[:-1]) > 0.8 * x.var()


def test_water_is_level_and_the_rest_mildly_lit(scene):
    water = scene.abundances[scene.materials.index("water")]
    assert water.max() > 0.99
    np.testing.assert_allclose(scene.illumination[water > 0.999], 1, atol=2e-3)
    land = scene.illumination[water < 0.01]
    assert 0.03 < land.std() < 0.2 and land.mean() == pytest.approx(1, abs=0.05)


def test_the_river_is_one_thing(scene):
    water = scene.abundances[scene.materials.index("water")] > 0.5
    labels, _ = ndimage.label(water)
    assert np.bincount(labels.ravel())[1:].max() > 0.6 * water.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 15}, "at least 16 x 16 pixels, got 15 x 20"),
        ({"bands": 1}, "at least 2 bands"),
        ({"seed": -1}, "seed of at least 0"),
        ({"endmembers": 1}, "2 to 7 endmembers, got 1"),
        ({"endmembers": 8}, "2 to 7 endmembers, got 8"),
    ],
)
def test_impossible_scenes_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        hyperspectral_scene(**{"rows": 20, "cols": 20, "bands": 4, "seed": 0, **arguments})


# ---------------------------------------------------------------- files


def small(kind="case5", seed=0):
    scene = hyperspectral_scene(18, 20, 9, seed=seed)
    return scene, make_noise(scene.data, kind, seed=seed + 1)


@pytest.mark.parametrize("envi", [False, True])
def test_what_is_written_can_be_read(tmp_path, envi):
    scene, noisy = small()
    names = write_hyperspectral(tmp_path / "out", scene, noisy, envi=envi)
    suffix, headers = (".img", ["clean.hdr", "noisy.hdr"]) if envi else (".tif", [])
    assert names == [f"clean{suffix}", f"noisy{suffix}", *headers, "truth.json"]
    assert {p.name for p in (tmp_path / "out").iterdir() if not p.name.endswith(".xml")} == set(names)
    for name, data in (("clean", scene.data), ("noisy", noisy.data)):
        with open_cube(tmp_path / "out" / f"{name}{suffix}") as reader:
            np.testing.assert_array_equal(reader.read().data, data)
            np.testing.assert_allclose(reader.meta.wavelengths, scene.wavelengths, rtol=1e-9)


def test_the_truth_is_what_was_added(tmp_path):
    scene, noisy = small()
    write_hyperspectral(tmp_path, scene, noisy)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["seed"] == 0 and truth["data_range"] == 1 and truth["materials"] == list(scene.materials)
    np.testing.assert_allclose(truth["spectra"], scene.spectra, rtol=1e-6)
    noise = truth["noise"]
    assert (noise["kind"], noise["seed"]) == ("case5", 1)
    assert noise["sigmas"] == noisy.sigmas.tolist()
    assert noise["stripe_share"] == (noisy.stripes.sum(axis=1) / 20).tolist()
    assert noise["dead_share"] == (noisy.dead.sum(axis=1) / 20).tolist()
    np.testing.assert_allclose(noise["impulse_share"], noisy.impulse.sum(axis=(1, 2)) / 360)
    write_hyperspectral(tmp_path / "plain", *small("case1"))
    assert json.loads((tmp_path / "plain" / "truth.json").read_text())["noise"]["stripe_share"] is None


@pytest.mark.parametrize("name", ["clean.tif", "noisy.tif", "truth.json"])
def test_nothing_is_overwritten_unasked(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} already exists"):
        write_hyperspectral(tmp_path, *small())
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
    write_hyperspectral(tmp_path, *small(), overwrite=True)
    assert len(list(tmp_path.iterdir())) == 3


def test_noise_of_another_scene_is_refused(tmp_path):
    scene, _ = small()
    with pytest.raises(UsageError, match="does not belong to a scene"):
        write_hyperspectral(tmp_path / "out", scene, make_noise(scene.data[:, 1:], "case1", seed=0))
    assert not (tmp_path / "out").exists()
