"""Noisy cubes as files, and what other programs made of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.io import savemat

import rsunfold.infer.hsi.evaluate as module
from rsunfold.errors import ExistsError, InputError, UsageError
from rsunfold.infer.hsi.evaluate import evaluate_files, evaluate_models, read_clean
from rsunfold.infer.hsi.exchange import Draw, names_of_files
from rsunfold.infer.hsi.run import Options, denoise_array
from rsunfold.io import open_cube
from rsunfold.simulate.noise import definition, make_noise

NOISE = [("iid", 20.0), ("bandwise", 0.5)]
NAMES = ["a_bandwise0.5_seed0", "a_bandwise0.5_seed3", "a_clean", "a_iid20_seed0", "a_iid20_seed3"]


@pytest.fixture
def holed(clean, tmp_path):
    """A cube of 17 bands with wavelengths, of which the fourth is constant, and one pixel without data."""
    data = np.insert(clean * np.float32(250), 3, 0.5, axis=0)
    data[:, 5, 6] = np.nan
    path = tmp_path / "a.img"
    with rasterio.open(path, "w", driver="ENVI", count=17, height=24, width=20, dtype="float32") as ds:
        ds.write(data)
        waves = ", ".join(str(400 + 10 * band) for band in range(17))
        ds.update_tags(ns="ENVI", wavelength=f"{{{waves}}}", wavelength_units="Nanometers")
    return str(path)


@pytest.fixture
def saved(holed, tmp_path):
    """The folder of its noisy cubes."""
    evaluate_models({"a": holed}, NOISE, [0, 3], [], save_noisy=tmp_path / "noisy")
    return tmp_path / "noisy"


def test_the_noisy_cubes_that_models_see_are_saved(holed, saved, make):
    assert sorted(path.stem for path in saved.iterdir()) == NAMES
    clean = read_clean(holed)
    with open_cube(str(saved / "a_iid20_seed3.tif")) as reader:
        cube = reader.read()
    assert cube.data.dtype == np.float32 and not cube.valid[5, 6] and cube.valid.sum() == 479
    assert cube.meta.wavelengths == tuple(400.0 + 10 * band for band in range(17) if band != 3)
    noisy = make_noise(clean.data, "iid", sigma=20, seed=3).data
    np.testing.assert_array_equal(cube.data[:, cube.valid], noisy[:, cube.valid])
    with open_cube(str(saved / "a_clean.tif")) as reader:
        np.testing.assert_array_equal(reader.read().data[:, clean.valid], clean.data[:, clean.valid])


def test_results_stand_beside_the_models(holed, saved, make, tmp_path):
    """What another program makes of a saved cube as a model does has the figures of the model."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in NAMES:
        found = denoise_array(str(saved / f"{name}.tif"), make(), Options()).data
        savemat(theirs / f"{name}.mat", {"restored": np.moveaxis(found, 0, 2), "residual": np.zeros((24, 20, 16))})
    kept = []
    done = evaluate_models(
        {"a": holed}, NOISE, [0, 3], [make()], restored=[theirs, saved], restored_var="restored", keep=kept.append
    )
    assert list(done.about) == ["noisy", f"{theirs}/", f"{saved}/", "fasthyde"] and done.missing == []
    figures = {model: [run["quality"] for run in done.runs if run["model"] == model] for model in done.about}
    assert figures[f"{theirs}/"] == figures["fasthyde"] and figures[f"{saved}/"] == figures["noisy"]
    assert done.runs[4]["restored"] == str(theirs / "a_iid20_seed0.mat") and len(kept) == 6


def test_a_result_may_be_called_denoised(holed, saved):
    path = saved / "a_iid20_seed0.tif"
    path.rename(path.with_stem("a_iid20_seed0_denoised"))
    done = evaluate_models({"a": holed}, NOISE[:1], [0], [], restored=[saved])
    assert done.runs[1]["quality"] == done.runs[0]["quality"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "a with the noise iid 20, seed 3, called a_iid20_seed3 or a_iid20_seed3_denoised."),
        ("format", r"; a_iid20_seed3.npy is not read: folders are searched for .*\.mat, "),
        (
            "size",
            r"a_iid20_seed3.tif has \(bands, rows, cols\) \(15, 24, 20\), but .*a.img is evaluated with \(16, 24,",
        ),
        ("several", "a_iid20_seed3.mat contains several arrays: .*; choose one with --restored-var NAME"),
    ],
)
def test_results_that_do_not_fit_are_refused_first(kind, message, holed, saved, write, make, monkeypatch):
    path = saved / "a_iid20_seed3.tif"
    data = read_clean(holed).data
    path.unlink()
    if kind == "format":
        np.save(path.with_suffix(".npy"), data)
    if kind == "size":
        write(path, data[1:])
    if kind == "several":
        savemat(path.with_suffix(".mat"), {name: np.moveaxis(data, 0, 2) for name in ("x", "y")})
    for name in ("make_noise", "quality"):
        monkeypatch.setattr(module, name, None)
    with pytest.raises(InputError, match=message):
        evaluate_models({"a": holed}, NOISE, [0, 3], [make()], restored=[saved])


def test_a_result_has_a_value_at_each_valid_pixel(holed, saved, write):
    data = read_clean(holed).data.copy()
    data[:, :2, 0] = np.nan
    write(saved / "a_iid20_seed0.tif", data)
    with pytest.raises(
        InputError, match=r"a_iid20_seed0.tif has no value at 2 of the 479 valid pixels of .*a.img; all"
    ):
        evaluate_models({"a": holed}, NOISE[:1], [0], [], restored=[saved])


def test_noisy_cubes_are_saved_whole_or_not_at_all(holed, saved, monkeypatch, tmp_path):
    before = (saved / "a_clean.tif").read_bytes()
    with pytest.raises(ExistsError, match="already exists"):
        evaluate_models({"a": holed}, NOISE, [0, 3], [], save_noisy=saved)
    evaluate_models({"a": holed}, NOISE, [0, 3], [], save_noisy=saved, overwrite=True)
    assert (saved / "a_clean.tif").read_bytes() == before

    def failing(*args, seed, **more):
        if seed == 3:
            raise KeyboardInterrupt
        return make_noise(*args, seed=seed, **more)

    monkeypatch.setattr(module, "make_noise", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models({"a": holed}, NOISE, [0, 3], [], save_noisy=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_noisy_cubes_are_not_put_beside_clean_ones(holed, tmp_path):
    with pytest.raises(UsageError, match="where clean cubes are"):
        evaluate_models({"a": holed}, NOISE, [0], [], save_noisy=tmp_path, overwrite=True)


def test_another_scale_is_told(holed, clean, saved, write, tmp_path):
    write(tmp_path / "counts.tif", clean * 4294)
    write(tmp_path / "unit.tif", clean)
    done = evaluate_files(tmp_path / "counts.tif", [tmp_path / "unit.tif", tmp_path / "counts.tif"])
    (told,) = done.notes
    assert re.search(r"unit.tif has a median of 8.8e-05, but .*counts.tif 0\.\d+: is one of them divided by its", told)
    half = write(tmp_path / "half.tif", clean * np.float32(0.39 / clean.max()))
    (told,) = evaluate_files(Path(half), [tmp_path / "unit.tif"]).notes  # as where noisy cubes were saved, scaled to 1
    assert "unit.tif has a median" in told and not evaluate_files(Path(half), [Path(half)]).notes
    write(saved / "a_iid20_seed0.tif", read_clean(holed).data * 255)
    notes = evaluate_models({"a": holed}, NOISE[:1], [0], [], restored=[saved]).notes
    assert [note for note in notes if "is one of them divided by its maximum?" in note and "a_iid20_seed0" in note]


def test_bands_that_nobody_dropped_are_told(holed):
    for drop, bands in (((), "left out 1 of 17 bands (4)"), (("1", "4"), None)):
        notes = evaluate_models({"a": holed}, NOISE[:1], [0], [], drop_bands=drop).notes
        assert notes == ([] if bands is None else [f"{holed}: {bands}: constant"])


def test_reports_tell_the_noise(holed):
    done = evaluate_models({"a": holed}, [("case5", None)], [4], [])
    noisy = make_noise(read_clean(holed).data, "case5", seed=4)
    drawn = done.runs[0]["drawn"]
    np.testing.assert_array_equal(drawn["sigmas"], noisy.sigmas)
    for name, mask in (("stripe", noisy.stripes), ("dead", noisy.dead), ("impulse", noisy.impulse)):
        share = drawn[f"{name}_share"]
        np.testing.assert_allclose(share, mask.reshape(16, -1).mean(axis=1))
        assert (share > 0).sum() == 5
    assert done.protocol["noises"] == {"case5": definition("case5")}
    assert "{10, 30, 50, 70}" in definition("case5") and "nothing is clipped" in definition("iid")


def test_names(tmp_path):
    assert Draw("iid", 20.0, 3).of("a") == "a_iid20_seed3" and Draw("case5", None, 0).label == "case5"
    one, two = tmp_path / "x" / "r.mat", tmp_path / "y" / "r.mat"
    assert list(names_of_files([one, two, tmp_path / "s.mat"])) == [str(one), str(two), "s.mat"]
