"""Figures of denoisers on simulated noise, and of somebody else's results."""

import re
import time

import numpy as np
import pytest

import rsunfold
import rsunfold.infer.hsi.evaluate as module
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.hsi.evaluate import evaluate_files, evaluate_models, noises, read_clean
from rsunfold.infer.hsi.run import Options, denoise_array
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.denoising import quality
from rsunfold.simulate.noise import definition, make_noise


def test_models_have_the_figures_of_their_arrays(clean, make, write, tmp_path):
    data = clean * np.float32(250)
    data[:, 5, 6] = np.nan
    path = write(tmp_path / "a.tif", data)
    said = []
    done = evaluate_models(
        {"a": path}, [("iid", 20.0), ("iid", 50.0)], [0, 3], [make(), make("star-net")], say=said.append
    )
    assert [(r["model"], r["noise"], r["seed"]) for r in done.runs] == [
        (m, n, s) for m in ("noisy", "fasthyde", "star-net (star)") for n in ("iid 20", "iid 50") for s in (0, 3)
    ]
    read = read_clean(path)
    truth, valid = read.data, read.valid
    assert truth[:, valid].max() == 1 and not valid[5, 6] and valid.sum() == 479
    noisy = make_noise(truth, "iid", sigma=50, seed=3).data
    masked = np.ma.array(noisy, mask=np.broadcast_to(~valid, noisy.shape))
    found = denoise_array(ArrayReader(masked), make(), Options()).data
    expected = quality(truth, found, valid=valid)
    assert done.runs[7]["quality"] | {"conventions": done.conventions} == expected and expected["nodata_pixels"] == 1
    assert done.runs[3]["quality"].items() < quality(truth, noisy, valid=valid).items()
    assert expected["psnr"] > done.runs[3]["quality"]["psnr"] + 3
    assert {(r["file"], r["divided_by"]) for r in done.runs} == {(path, read.top)} and done.notes == []
    rows = done.rows()[3:]
    assert [(r["model"], r["noise"], r["runs"]) for r in rows[:3]] == [
        ("fasthyde", "iid 20", 2),
        ("fasthyde", "iid 50", 2),
        ("fasthyde", "mean", 4),
    ]
    assert rows[2]["psnr"] == pytest.approx(np.mean([r["quality"]["psnr"] for r in done.runs[4:8]]))
    curve = done.curves()["fasthyde"]
    np.testing.assert_allclose(curve, np.mean([r["quality"]["psnr_per_band"] for r in done.runs[4:8]], axis=0))
    report = done.report()
    asked = {"clean": [path], "var": None, "restored": [], "restored_var": None}
    asked |= {"drop_bands": [], "published_ergas": False}
    noises = dict.fromkeys(("iid 20", "iid 50"), definition("iid"))
    assert report["protocol"] == {"asked": asked, "noises": noises, "seeds": [0, 3]}
    assert set(rows[0]) - {"model", "noise", "cubes", "runs"} <= set(report["formulas"])
    assert len(said) == 12 and said[4].startswith("fasthyde: a, iid 20, seed 0: ")


def test_files_have_the_figures_of_their_arrays(clean, noisy, write, tmp_path):
    truth, holed = clean * np.float32(7), noisy * np.float32(7)
    holed[:, 2, 2] = np.nan
    given, same = tmp_path / "n.tif", tmp_path / "t.tif"
    write(same, truth)
    write(given, holed)
    done = evaluate_files(same, [same], noisy=given, published_ergas=True)
    assert list(done.about) == ["noisy", "t.tif"]
    top = float(truth.max())
    valid = np.isfinite(holed).all(axis=0)
    expected = quality(truth / top, holed / np.float32(top), valid=valid, published_ergas=True)
    found = done.runs[0]["quality"]
    assert found["pixels"] == 479 and found["ergas_published_code"] == pytest.approx(expected["ergas_published_code"])
    assert done.rows()[0]["ergas_published_code"] == found["ergas_published_code"]
    assert "ergas_published_code" not in evaluate_files(same, [same], noisy=given).rows()[0]
    for name in ("psnr", "ssim", "sam_radians", "ergas"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4)
    assert done.runs[1]["quality"]["identical"] and done.rows()[1]["psnr"] is None
    assert done.about["noisy"]["divided_by"] == pytest.approx(7)
    assert np.isnan(done.curves()["t.tif"]).all()
    asked = {"truth": str(same), "var": None, "restored": [str(same)], "restored_var": None}
    asked |= {"noisy": str(given), "noisy_var": None, "drop_bands": [], "published_ergas": True}
    assert done.report()["protocol"] == {"asked": asked}


def test_files_that_do_not_fit(clean, write, tmp_path):
    write(tmp_path / "a.tif", clean)
    write(tmp_path / "small.tif", clean[:, :20])
    write(tmp_path / "negative.tif", clean - 2)
    write(tmp_path / "complex.tif", clean.astype(np.complex64))
    half = clean.copy()
    half[:, :12] = np.nan
    write(tmp_path / "top.tif", half)
    write(tmp_path / "bottom.tif", np.where(np.isfinite(half), np.float32(np.nan), clean))
    for truth, restored, message in (
        (
            "a",
            "small",
            r"small.tif has \(bands, rows, cols\) \(16, 20, 20\), but its ground truth .*a.tif has \(16, 24,",
        ),
        ("negative", "a", "negative.tif has no value above 0"),
        ("a", "complex", "complex.tif contains complex samples; write their magnitude"),
        ("top", "bottom", "bottom.tif and its ground truth .*top.tif have no valid pixel in common"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_files(tmp_path / f"{truth}.tif", [tmp_path / f"{restored}.tif"])
    with pytest.raises(InputError, match="no value above 0"):
        read_clean(str(tmp_path / "negative.tif"))


def test_noises():
    assert noises("iid", [10.0, 30.0]) == [("iid", 10.0), ("iid", 30.0)]
    assert noises("case5", []) == [("case5", None)]
    for kind, sigmas, message in (
        ("iid", [], "--noise iid needs --sigma"),
        ("iid", [10.0, 20.0, 10.0], "--sigma repeats a value: 10, 20, 10"),
        ("case2", [10.0], "--noise case2 draws its own noise levels; leave out --sigma"),
        ("bandwis", [10.0], "unknown --noise 'bandwis'; did you mean 'bandwise'"),
        ("iid", [10.0, 0.0], "--sigma must be above 0"),
        ("iid", [float("nan")], "--sigma must be above 0"),
    ):
        with pytest.raises(UsageError, match=message):
            noises(kind, sigmas)


def test_curves_keep_the_places_of_bands_that_take_no_part(clean, make, write, tmp_path):
    holed = clean.copy()
    holed[3], holed[5] = 0.5, np.nan
    path = write(tmp_path / "a.tif", holed)
    done = evaluate_models({"a": path}, [("iid", 20.0)], [0], [make()], say=lambda text: None)
    curve = done.curves()["fasthyde"]
    assert len(curve) == len(clean) == done.count
    assert np.flatnonzero(np.isnan(curve)).tolist() == [3, 5]
    assert done.runs[0]["bands"] == [b + 1 for b in range(len(clean)) if b not in (3, 5)]
    files = evaluate_files(tmp_path / "a.tif", [tmp_path / "a.tif"])
    assert files.runs[0]["bands"] == done.runs[0]["bands"]


def test_files_are_compared_on_the_same_pixels(clean, noisy, write, tmp_path):
    failed = noisy.copy()
    failed[:, :, :5] = np.nan
    for name, data in (("truth", clean), ("noisy", noisy), ("restored", failed)):
        write(tmp_path / f"{name}.tif", data)
    done = evaluate_files(tmp_path / "truth.tif", [tmp_path / "restored.tif"], noisy=tmp_path / "noisy.tif")
    assert done.runs[0]["quality"] == done.runs[1]["quality"]
    lost = 5 * clean.shape[1]
    (told,) = done.notes
    assert f"restored.tif has no value at {lost} of the {clean[0].size} valid pixels" in told
    assert done.runs[0]["quality"]["pixels"] == clean[0].size - lost


def test_a_largest_sample_far_from_all_others_is_told(clean, make, write, tmp_path):
    spiked = clean.copy()
    spiked[2, 3, 4] = 3 * clean.max()
    path = write(tmp_path / "a.tif", spiked)
    done = evaluate_models({"a": path}, [("iid", 20.0)], [0], [make()])
    (told,) = done.notes
    assert re.search(r"a\.tif: 99\.9% of its samples lie below 0\.3\d* of the largest, ", told)
    assert done.report()["notes"] == done.notes and done.report()["rsunfold"] == rsunfold.__version__
    assert evaluate_files(tmp_path / "a.tif", [tmp_path / "a.tif"]).notes == done.notes


def test_seconds_are_those_of_the_model(clean, make, write, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "quality", lambda *args, **options: time.sleep(1) or quality(*args, **options))
    path = write(tmp_path / "a.tif", clean)
    done = evaluate_models({"a": path}, [("iid", 20.0)], [0], [make()], say=lambda text: None)
    assert 0 < done.runs[1]["seconds"] < 1


def test_summaries_have_deviations_and_no_mean_without_all_runs(clean, write, tmp_path):
    path = write(tmp_path / "a.tif", clean)
    done = evaluate_models({"a": path}, [("iid", 20.0)], [0, 1, 2], [])
    values = [run["quality"]["psnr"] for run in done.runs]
    (line,) = done.report()["summary"]
    assert line["psnr_deviation"] == pytest.approx(np.std(values)) and line["seconds"] is None
    assert "(ddof 0)" in done.report()["formulas"]["psnr_deviation"] and "psnr_deviation" not in done.rows()[0]
    done.runs[1]["quality"]["psnr"] = None
    (line,) = done.report()["summary"]
    assert line["psnr"] is None and line["psnr_deviation"] is None and line["ssim"] is not None
    told = "noisy: PSNR is undefined in 1 of 3 runs (the first: a, iid 20), so the mean has none"
    assert done.remarks() == done.report()["notes"] == [told]
    alone = evaluate_files(tmp_path / "a.tif", [tmp_path / "a.tif"]).report()["summary"][0]
    assert alone["ssim"] == 1 and alone["ssim_deviation"] is None
