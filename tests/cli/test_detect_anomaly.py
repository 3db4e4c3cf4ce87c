"""rsunfold detect-anomaly and evaluate detect-anomaly: one scene and many, and everything a user can get wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
import torch

from rsunfold.errors import WeightsError
from rsunfold.infer.anomaly import evaluate
from rsunfold.infer.anomaly import run as module
from rsunfold.io import open_cube
from rsunfold.metrics.anomaly import detection

FAST = ("--model", "rx")
EVALUATE = ("evaluate", "detect-anomaly")
NET = {"atoms": 12, "stages": 6, "epochs": 40, "literal": False}
"""The default options of lrr-net-plus."""
KINDS = ("anomalies.csv", "anomalies.geojson", "mask.tif", "quicklook.png", "score.tif", "spectra.csv", "spectra.png")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def content(folder):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def read(path):
    with open_cube(path) as reader:
        return reader.read(scaled=False).data[0]


@pytest.fixture(scope="module")
def scenery():
    """(cube float32 (8, 30, 34), truth): smooth mixtures of three spectra, and four objects of a fourth."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:30, :34]
    shares = np.stack([1.2 + np.sin(0.2 * y + 0.1 * k * x + k) for k in range(3)])
    spectra = 0.5 + 0.3 * np.sin(2 * np.pi * (np.linspace(0, 1, 8)[:, None] + np.array([0, 0.3, 0.6])))
    cube = np.tensordot(spectra, shares / shares.sum(0), axes=1) + rng.normal(0, 0.005, (8, 30, 34))
    truth = np.zeros((30, 34), bool)
    truth[4, 5] = truth[12:14, 20:22] = truth[22, 7:10] = truth[25, 28] = True
    return np.where(truth, np.linspace(0.9, 0.15, 8)[:, None, None] ** 2, cube).astype(np.float32), truth


@pytest.fixture
def cube(scenery, write_image, tmp_path):
    return write_image(tmp_path / "cube.tif", scenery[0])


@pytest.fixture
def mats(scenery, tmp_path):
    """A folder of two scenes with their truth."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name, part in (("one", np.s_[:, :]), ("two", np.s_[::-1, :20])):
        data = {"data": scenery[0][:, *part].transpose(1, 2, 0), "map": scenery[1][part] * 1}
        scipy.io.savemat(folder / f"{name}.mat", data)
    return folder


# ---------------------------------------------------------------- detect-anomaly


@pytest.mark.parametrize("suffix", [".mat", ".tif", ".img", ".hdr"])
def test_one_scene(suffix, call, scenery, mats, write_image, tmp_path):
    if suffix == ".mat":
        source = mats / "one.mat"
    else:
        source = write_image(tmp_path / f"one{suffix.replace('hdr', 'img')}", scenery[0]).with_suffix(suffix)
    out = tmp_path / "out"
    result = call("detect-anomaly", source, "-o", out, *FAST, "--threads", 1)
    assert names(out) == sorted([*(f"one_{k}" for k in KINDS), "one_summary.json"])
    summary = json.loads((out / "one_summary.json").read_text())
    assert result.stdout == f"{summary['anomalies']} anomalies in 1 scene (rx); results are in {out}\n"
    assert result.stderr.startswith(f"{source}: {summary['anomaly_pixels']} pixels in {summary['anomalies']} anomalies")
    assert (summary["model"], summary["input"], summary["bands"]) == ("rx", str(source), 8)
    assert detection(read(out / "one_score.tif"), scenery[1])["auc_df"] > 0.99
    assert (read(out / "one_mask.tif") == 1).sum() == summary["anomaly_pixels"]


def test_the_default_model(call, cube, scenery, tmp_path):
    words = ("--epochs", 2, "--object-size", 20, "--seed", 3, "--pfa", 0.02, "--stages", "--envi", "--no-quicklook")
    call("detect-anomaly", cube, "-o", tmp_path / "out", *words, "--device", "cpu")
    rasters = [f"cube_{k}.{e}" for k in ("score", "mask", "stages") for e in ("img", "hdr", "img.aux.xml")]
    found = {n for n in names(tmp_path / "out") if not n.endswith(".aux.xml")}
    assert {n for n in rasters if not n.endswith(".aux.xml")} < found and not any(n.endswith("png") for n in found)
    summary = json.loads((tmp_path / "out" / "cube_summary.json").read_text())
    assert (summary["model"], summary["options"], summary["seed"]) == ("lrr-net-plus", NET | {"epochs": 2}, 3)
    assert summary["priors"] == ["attribute-profile", "kernel", "small-object", "edge-preserving"]
    assert (summary["object_size_px"], summary["threshold_rule"]["pfa"]) == (20, 0.02)
    assert detection(read(tmp_path / "out" / "cube_score.img"), scenery[1])["auc_df"] > 0.97


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((*FAST, "--priors", "small-object, kernel"), {"priors": ["kernel", "small-object"]}),
        (("--priors", "none", "--epochs", 1), {"priors": [], "model": "lrr-net-plus"}),
        (("--literal", "--epochs", 1), {"priors": [], "options": NET | {"epochs": 1, "literal": True}}),
        (("--model", "local-rx", "--inner", 3, "--outer", 9), {"options": {"inner": 3, "outer": 9}}),
        (("--model", "crd", "--inner", 3, "--outer", 7), {"options": {"inner": 3, "outer": 7, "lam": 1e-6}}),
        ((*FAST, "--components", 3), {"options": {"components": 3}}),
        (("--model", "kernel-rx", "--components", 3), {"options": {"components": 3, "landmarks": 500}}),
        (("--model", "rpca"), {"model": "rpca", "learned": None}),
        (
            (*FAST, "--window", 16),
            {"computed": "windows of 16 pixels, each with its own background model", "window": 16},
        ),
        ((*FAST, "--percentile", 95, "--min-area", 2), {"min_area_px": 2}),
        ((*FAST, "--drop-bands", "2-4,8"), {"bands_used": [1, 5, 6, 7]}),
        ((*FAST, "--threshold", 12), {"threshold": 12.0, "threshold_rule": {"rule": "given"}}),
    ],
)
def test_options_arrive(words, expected, call, cube, tmp_path):
    call("detect-anomaly", cube, "-o", tmp_path / "out", *words, "--no-quicklook", "--device", "cpu")
    summary = json.loads((tmp_path / "out" / "cube_summary.json").read_text())
    assert expected.items() <= summary.items()


def test_several_scenes(call, fails, mats, cube, tmp_path):
    out = tmp_path / "out"
    result = call("detect-anomaly", mats, cube, "-o", out, *FAST, "--no-quicklook")
    assert len([n for n in names(out) if n.endswith("_summary.json")]) == 3 and "in 3 scenes" in result.stdout
    before = content(out)
    assert "already exists; choose another name or pass --overwrite" in fails(
        4, "detect-anomaly", cube, "-o", out, *FAST
    )
    result = call("detect-anomaly", str(mats / "*.mat"), "-o", out, *FAST, "--no-quicklook", "--skip-existing")
    assert (
        result.stderr.count("skipped, it already has results") == 2
        and "nothing was left to do (rx), 2 skipped; results are in" in result.stdout
    )
    assert content(out) == before
    call("detect-anomaly", cube, "-o", out, *FAST, "--overwrite", "--no-quicklook")
    assert (out / "cube_score.tif").stat().st_mtime_ns > before[out / "cube_score.tif"][1]
    message = fails(2, "detect-anomaly", cube, "-o", out, *FAST, "--overwrite", "--skip-existing")
    assert "contradict each other" in message


def test_overlapping_tiles_with_one_threshold(call, fails, scenery, write_image, tmp_path):
    tiles = [
        write_image(tmp_path / f"{i}.tif", scenery[0][:, :, part]) for i, part in enumerate((np.s_[:20], np.s_[8:]))
    ]
    words = ("detect-anomaly", *tiles, "-o", tmp_path / "out", *FAST, "--no-quicklook")
    call(*words, "--threshold", 15)
    told = [json.loads((tmp_path / "out" / f"{i}_summary.json").read_text()) for i in (0, 1)]
    assert [(t["threshold"], t["asked"]["pfa"], t["asked"]["threshold"]) for t in told] == [(15, None, 15)] * 2
    for i in (0, 1):
        score, mask = (read(tmp_path / "out" / f"{i}_{kind}.tif") for kind in ("score", "mask"))
        np.testing.assert_array_equal(mask == 1, score > 15)
    assert "skipped, it already has results" in call(*words, "--threshold", 15, "--skip-existing").stderr
    assert "with --threshold at 15, not at 14" in call(*words, "--threshold", 14, "--skip-existing", code=7).stderr
    for other in ("--pfa", "--percentile"):
        message = fails(2, *words, "--threshold", 15, other, 0.1, "--overwrite")
        assert "use one of --pfa, --percentile and --threshold" in message


def test_results_of_another_command_are_not_mixed_with(fails, cube, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "cube_summary.json").write_text('{"task": "detect-ir", "model": "top-hat"}', encoding="utf-8")
    for also in ((), ("--overwrite",), ("--skip-existing",)):
        message = fails(4, "detect-anomaly", cube, "-o", out, *FAST, *also)
        assert "cube_summary.json was " in message and "choose another folder" in message
    assert names(out) == ["cube_summary.json"]


def test_notes_are_told(call, scenery, tmp_path):
    short = np.random.default_rng(0).random((5, 8, 30))
    scipy.io.savemat(tmp_path / "short.mat", {"data": short})
    result = call("detect-anomaly", tmp_path / "short.mat", "-o", tmp_path / "out", *FAST)
    assert "note: rx has fewer than 2 pixels per dimension of their spectra" in result.stderr
    aside = "note: variable data (5 x 8 x 30) was read as rows x cols x bands"
    assert aside not in result.stderr
    result = call("detect-anomaly", tmp_path / "short.mat", "-o", tmp_path / "verbose", *FAST, "-v")
    assert aside in result.stderr
    from rsunfold.simulate.hyperspectral import hyperspectral_scene

    scipy.io.savemat(tmp_path / "swapped.mat", {"data": hyperspectral_scene(24, 20, 16, seed=3).data})
    result = call("detect-anomaly", tmp_path / "swapped.mat", "-o", tmp_path / "out", *FAST, "--no-quicklook")
    assert "note: the rows look like the spectral axis" in result.stderr


@pytest.fixture
def bad(tmp_path, scenery, write_image):
    """Files that cannot be used, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.tif").touch()
    (folder / "text.tif").write_text("this is no image\n")
    whole = write_image(folder / "truncated.tif", np.tile(scenery[0], (1, 3, 3)))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    write_image(folder / "nodata.tif", np.zeros((4, 20, 20), np.uint16), nodata=0)
    write_image(folder / "nan.tif", np.full((4, 20, 20), np.nan, np.float32))
    write_image(folder / "constant.tif", np.full((4, 20, 20), 7, np.uint16))
    write_image(folder / "complex.tif", np.zeros((4, 20, 20), np.complex64))
    write_image(folder / "pixel.tif", np.arange(9, dtype=np.float32).reshape(9, 1, 1))
    return folder


BAD = {
    "absent.tif": "does not exist",
    "empty.tif": "is empty",
    "text.tif": "is not an image in a known format",
    "truncated.tif": "truncated",
    "nodata.tif": "has no valid pixel",
    "nan.tif": "has no valid pixel",
    "constant.tif": "is constant in every band; there is nothing to process",
    "complex.tif": "contains complex samples",
    "pixel.tif": "has a single valid pixel",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, fails, bad, tmp_path):
    message = fails(3, "detect-anomaly", bad / name, "-o", tmp_path / "out", *FAST)
    assert name in message and BAD[name] in message
    assert not list(tmp_path.glob("out/*"))


def test_a_batch_goes_on(call, bad, cube, tmp_path):
    wrong = [bad / "empty.tif", bad / "constant.tif"]
    result = call("detect-anomaly", wrong[0], cube, wrong[1], "-o", tmp_path / "out", *FAST, code=7)
    assert names(tmp_path / "out") == sorted([*(f"cube_{k}" for k in KINDS), "cube_summary.json"])
    lines = result.stderr.splitlines()
    for path in wrong:
        assert any(line.startswith(f"failed: {path}: ") and BAD[path.name] in line for line in lines)
    assert lines[-1] == "error: 2 of 3 inputs failed; the results of the others were written." and result.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "local-rxx"), 2, "unknown model 'local-rxx' for detect-anomaly; did you mean 'local-rx'?"),
        (("--model", "fasthyde"), 2, "fasthyde"),
        ((*FAST, "--device", "cuda"), 2, "runs only on the CPU, not on cuda"),
        ((*FAST, "--epochs", 3), 2, "rx has no option 'epochs'; its options are"),
        ((*FAST, "--literal"), 2, "rx has no option 'literal'"),
        ((*FAST, "--components", 0), 2, "at least one principal component, got 0"),
        ((*FAST, "--stages"), 2, "rx has no stages; leave out --stages"),
        (("--stages", "--window", 16), 2, "--stages shows a single scene and cannot be combined with --window"),
        ((*FAST, "--window", 8), 2, "--window must be at least 16 pixels, not 8"),
        ((*FAST, "--pfa", 0), 2, "--pfa must lie between 0 and 0.5, not 0"),
        ((*FAST, "--pfa", "nan"), 2, "--pfa must lie between 0 and 0.5, not nan"),
        ((*FAST, "--percentile", 100), 2, "--percentile must lie above 1 and below 100"),
        ((*FAST, "--percentile", 0.99), 2, "not 0.99; for a share of 0.99 write 99"),
        ((*FAST, "--pfa", 0.1, "--percentile", 9), 2, "use one of --pfa, --percentile and --threshold"),
        ((*FAST, "--priors", "kernle"), 2, "unknown prior 'kernle'; did you mean 'kernel'?"),
        ((*FAST, "--priors", "kernel,,"), 2, "unknown prior ''"),
        ((*FAST, "--priors", "all"), 2, "unknown prior 'all'; choose from attribute-profile, kernel"),
        ((*FAST, "--seed", 2**32), 2, "the seed must lie between 0 and 4294967295"),
        (("--epochs", -1), 2, "epochs of lrr-net-plus must be at least 0, not -1"),
        (("--model", "local-rx", "--inner", 4), 2, "must be odd"),
        (("--model", "crd", "--inner", 9, "--outer", 7), 2, "the inner one smaller"),
        ((*FAST, "--memory", "1MB"), 6, "--memory leaves 0 MB; increase it"),
        (("--model", "rpca", "--memory", "1MB"), 6, "increase it"),
        ((*FAST, "--memory", "lots"), 2, "--memory takes a size"),
        ((*FAST, "--var", "absent"), 3, "has no variable 'absent'"),
    ],
)
def test_wrong_options(words, code, message, fails, cube, tmp_path):
    assert message in fails(code, "detect-anomaly", cube, "-o", tmp_path / "out", *words)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(fails, cube, tmp_path):
    assert "cuda" in fails(6, "detect-anomaly", cube, "-o", tmp_path / "out", "--device", "cuda")


def test_ctrl_c(call, cube, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "find_anomalies", stop)
    result = call("detect-anomaly", cube, "-o", tmp_path / "out", *FAST, code=130)
    assert "interrupted; no partial results were left" in result.stderr
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- evaluate detect-anomaly


def test_evaluate_models(call, scenery, mats, tmp_path):
    report, pictures = tmp_path / "r.json", tmp_path / "sub" / "pictures"
    words = ("--model", "rx,local-rx", "--inner", 3, "--outer", 9, "--json", report, "--pictures", pictures)
    result = call(*EVALUATE, "--scenes", mats, *words, "--per-scene")
    found = json.loads(report.read_text())
    assert list(found["models"]) == ["rx", "local-rx"] and len(found["runs"]) == 4
    asked = {"scenes": str(mats), "masks": None, "truth_var": None, "var": None, "drop_bands": [], "score_var": None}
    assert found["protocol"] == {"asked": asked, "pfa": 0.01, "seeds": [0]}
    options = [about["options"] for about in found["models"].values()]
    assert options == [{"components": None}, {"inner": 3, "outer": 9}]
    call("detect-anomaly", mats / "one.mat", "-o", tmp_path / "out", *FAST, "--no-quicklook")
    run = found["runs"][0]
    assert (run["model"], run["scene"], run["seed"]) == ("rx", "one", 0)
    assert run["figures"] == detection(read(tmp_path / "out" / "one_score.tif"), scenery[1])
    assert names(pictures) == ["one_roc.png", "separability.png", "two_roc.png"]
    for path in pictures.iterdir():
        with rasterio.open(path) as ds:
            assert ds.read().std() > 10
    assert sum("local-rx" in line for line in result.stdout.splitlines()) == 3
    assert f"{found['summary'][0]['auc_df']:.4g}" in result.stdout


def test_evaluate_seeds(call, mats, tmp_path):
    words = ("--seeds", "0,5", "--epochs", 1, "--priors", "none", "--device", "cpu", "--json", tmp_path / "r.json")
    result = call(*EVALUATE, "--scenes", mats, *words)
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(r["scene"], r["seed"]) for r in found["runs"]] == [("one", 0), ("one", 5), ("two", 0), ("two", 5)]
    assert found["summary"][0]["auc_df_deviation"] >= 0 and "std over seeds" in result.stdout


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished, if anything, is in the table and the report."),
        (SystemExit(143), 143, "terminated; what was finished, if anything, is in the table and the report."),
        (WeightsError("they are gone."), 5, "error: they are gone."),
    ],
)
def test_what_is_finished_is_kept(ending, code, words, call, mats, stop, tmp_path):
    """A model counts when it has all scenes, and a scene when it has all seeds."""
    stop(evaluate, "detect_array", 8, ending)
    paths = ("--json", tmp_path / "r.json", "--pictures", tmp_path / "pictures")
    models = ("--model", "rx,rpca,kernel-rx", "--seeds", "0,1")
    result = call(*EVALUATE, "--scenes", mats, *models, *paths, code=code)
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["missing"] == ["rpca", "kernel-rx"] and [r["model"] for r in found["summary"]] == ["rx"]
    assert [(r["model"], r["scene"]) for r in found["per_scene"]] == [("rx", "one"), ("rx", "two"), ("rpca", "one")]
    assert [(r["scene"], r["seed"]) for r in found["runs"][4:]] == [("one", 0), ("one", 1), ("two", 0)]
    missing, last = result.stderr.splitlines()[-2:]
    assert missing == "not finished: rpca, kernel-rx" and last == words
    shown = [line.split()[1:4:2] for line in result.stdout.splitlines() if "│ r" in line]
    assert shown == [["rpca", "one"], ["rx", "2"]] and not (tmp_path / "pictures").exists()


@pytest.fixture
def small(mats):
    """A scene of fewer pixels than bands beside the others."""
    rng = np.random.default_rng(0)
    scipy.io.savemat(mats / "small.mat", {"data": rng.random((2, 3, 8)), "map": np.eye(2, 3)})
    return mats


def test_a_scene_that_one_model_cannot_score(call, small, tmp_path):
    words = ("--model", "rx,kernel-rx", "--seeds", "0,1", "--json", tmp_path / "r.json")
    result = call(*EVALUATE, "--scenes", small, *words, code=7)
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["missing"] == ["rx"] and [r["model"] for r in found["summary"]] == ["kernel-rx"]
    assert [(r["model"], r["scene"], r["seed"]) for r in found["failed"]] == [("rx", "small", 0), ("rx", "small", 1)]
    scored = [("rx", "one"), ("rx", "two"), ("kernel-rx", "one"), ("kernel-rx", "small"), ("kernel-rx", "two")]
    assert [(r["model"], r["scene"]) for r in found["per_scene"]] == scored
    (note,) = [line for line in result.stderr.splitlines() if "note: rx on small: " in line]
    assert f"{small / 'small.mat'} has no pixel with a score, as rx finds too few" in note
    assert result.stderr.splitlines()[-2:] == ["not finished: rx", "error: 2 of 12 runs failed."]


def test_anomalies_that_one_model_cannot_score(call, scenery, mats, tmp_path):
    """An island in a lake of nodata, smaller than the inner window: it counts, as not detected."""
    cube, truth = scenery[0].copy(), np.zeros((30, 34))
    cube[:, 4:26, 4:26] = np.nan
    cube[:, 15, 15], truth[15, 15] = 1, 1
    scipy.io.savemat(mats / "lake.mat", {"data": cube.transpose(1, 2, 0), "map": truth})
    words = ("--model", "crd:inner=5:outer=9,rx", "--json", tmp_path / "r.json")
    result = call(*EVALUATE, "--scenes", mats, *words)
    found = json.loads((tmp_path / "r.json").read_text())
    crd, rx = (run for run in found["runs"] if run["scene"] == "lake")
    assert (crd["without_score"], rx["without_score"]["pixels"]) == ({"pixels": 1, "anomalous": 1}, 0)
    assert crd["figures"]["anomaly_pixels"] == rx["figures"]["anomaly_pixels"] == 1
    assert crd["mask"]["pd"] == crd["figures"]["auc_dtau"] == 0
    assert "9 on lake: 1 pixels, 1 of them anomalous, have no score and count as not detected" in result.stderr


def test_the_only_run_that_fails(fails, small, tmp_path):
    for name in ("one", "two"):
        (small / f"{name}.mat").unlink()
    words = ("--scenes", small, *FAST, "--json", tmp_path / "r.json")
    assert "has no pixel with a score, as rx" in fails(3, *EVALUATE, *words) and not (tmp_path / "r.json").exists()


def test_nothing_is_written_where_no_scene_is_finished(call, mats, stop, tmp_path):
    stop(evaluate, "detect_array", 1, KeyboardInterrupt())
    result = call(*EVALUATE, "--scenes", mats, *FAST, "--json", tmp_path / "r.json", code=130)
    assert result.stdout == "" and not (tmp_path / "r.json").exists()


def test_evaluate_our_own_scores(call, mats, tmp_path):
    call("detect-anomaly", mats, "-o", tmp_path / "out", *FAST, "--no-quicklook")
    call(*EVALUATE, "--scenes", mats, *FAST, "--json", tmp_path / "model.json")
    call(*EVALUATE, "--scenes", mats, "--predictions", tmp_path / "out", "--json", tmp_path / "files.json")
    model, files = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("model", "files"))
    assert [r["figures"] for r in files["runs"]] == [r["figures"] for r in model["runs"]]
    assert [r["mask"] for r in files["runs"]] == [r["mask"] for r in model["runs"]]
    assert list(files["models"]) == [f"{tmp_path / 'out'}/"]


def test_evaluate_scores_of_others_beside_models(call, mats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("detect-anomaly", mats, "-o", "a", *FAST, "--no-quicklook", "--drop-bands", 8)
    call("detect-anomaly", mats, "-o", "b", "--model", "kernel-rx", "--no-quicklook")
    theirs, outputs = ("--predictions", "a", "--predictions", "b"), ("--json", "r.json", "--pictures", "p")
    result = call(*EVALUATE, "--scenes", mats, *theirs, *FAST, "--var", "data", "--drop-bands", 8, *outputs)
    found = json.loads(Path("r.json").read_text())
    assert list(found["models"]) == ["a/", "b/", "rx"] and [r["model"] for r in found["summary"]] == ["a/", "b/", "rx"]
    a, _, rx = ([r["figures"] for r in found["runs"] if r["model"] == m] for m in found["models"])
    assert a == rx and all(f" {m} " in result.stdout for m in found["models"])
    assert names(Path("p")) == ["one_roc.png", "separability.png", "two_roc.png"]


def test_evaluate_leaves_files_alone(fails, call, mats, tmp_path):
    report, pictures = tmp_path / "r.json", tmp_path / "p"
    pictures.mkdir()
    for path in (report, pictures / "two_roc.png", pictures / "separability.png"):
        path.write_text("precious")
        words = ("--scenes", mats, *FAST, "--json", report, "--pictures", pictures)
        assert "already exists" in fails(4, *EVALUATE, *words) and path.read_text() == "precious"
        path.unlink()
    pictures.rmdir()
    assert "no score for one" in fails(
        3, *EVALUATE, "--scenes", mats, "--predictions", tmp_path, "--pictures", pictures
    )
    assert not pictures.exists()
    pictures.write_text("no folder")
    assert str(pictures) in fails(4, *EVALUATE, "--scenes", mats, *FAST, "--pictures", pictures, "-q")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--scenes", "absent"), 3, "the folder absent does not exist"),
        (("--scenes", __file__), 3, "test_detect_anomaly.py is a file; give the folder that contains the scenes."),
        (("--scenes", "S", "--masks", __file__), 3, "is a file; give the folder that contains the masks."),
        (("--scenes", "S", "--truth-var", "labels"), 3, "contains no ground truth (labels)"),
        (("--scenes", "S", "--masks", "absent"), 3, "the folder absent does not exist"),
        (("--scenes", "S", "--predictions", "absent"), 3, "the folder absent does not exist"),
        (("--scenes", "S", "--predictions", "S", "--score-var", "data"), 3, "bands, but a score has one"),
        (("--scenes", "S", "--predictions", "S"), 3, "bands, but a score has one"),
        (("--scenes", "S", "--predictions", "S", "--predictions", "S"), 2, "twice."),
        (("--scenes", "S", "--predictions", "S", "--seeds", "1"), 2, "--seeds applies to models; add --model."),
        (("--scenes", "S", "--score-var", "x"), 2, "--score-var applies to --predictions; add it."),
        (("--scenes", "S", "--pfa", "1"), 2, "--pfa must lie between 0 and 0.5"),
        (("--scenes", "S", "--seeds", "a"), 2, "--seeds takes non-negative integers"),
        (("--scenes", "S", "--model", "rx,"), 2, "unknown model ''"),
        (("--scenes", "S", "--model", "rx,lrasr", "--epochs", "3"), 2, "rx has no option 'epochs'"),
        (("--scenes", "S", *FAST, "--seeds", "4294967296"), 2, "the seed must lie between 0 and 4294967295"),
    ],
)
def test_wrong_evaluations(words, code, message, fails, mats):
    assert message in fails(code, *EVALUATE, *(str(mats) if w == "S" else w for w in words))


# ---------------------------------------------------------------- a real scene


def test_the_default_on_a_real_scene(call, shared, tmp_path):
    source = shared / "data" / "had" / "abu-urban-1.mat"
    call("detect-anomaly", source, "-o", tmp_path, "--no-quicklook", "--device", "cpu")
    with open_cube(source, var="map") as reader:
        truth = reader.read().data[0] > 0
    figures = detection(read(tmp_path / "abu-urban-1_score.tif"), truth)
    assert figures["auc_df"] > 0.97
    summary = json.loads((tmp_path / "abu-urban-1_summary.json").read_text())
    mask = read(tmp_path / "abu-urban-1_mask.tif") == 1
    assert summary["anomaly_pixels"] == mask.sum() and mask[~truth].mean() < 0.03
