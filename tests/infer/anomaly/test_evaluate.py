"""Figures of detectors on scenes with truth, and of somebody else's scores."""

import json

import numpy as np
import pytest
import scipy.io

from rsunfold.cube import Aside
from rsunfold.errors import BatchError, DeviceError, InputError, UsageError
from rsunfold.infer.anomaly import evaluate as module
from rsunfold.infer.anomaly.evaluate import BESIDE, evaluate_models, scenes_in
from rsunfold.infer.anomaly.run import Options, detect_array
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.anomaly import FORMULAS, detection, roc

from .conftest import scenery


@pytest.fixture(scope="module")
def two():
    """Two scenes by name."""
    return {"a": scenery(seed=0), "b": scenery(seed=1)}


@pytest.fixture
def mats(two, tmp_path):
    """The scenes as MAT files with their truth."""
    folder = tmp_path / "mats"
    folder.mkdir()
    for name, scene in two.items():
        scipy.io.savemat(folder / f"{name}.mat", {"data": scene.cube.transpose(1, 2, 0), "map": scene.truth * 1})
    return folder


def silent(text):
    pass


def evaluate_files(scenes, *folders, pfa, **given):
    return evaluate_models(scenes, pfa=pfa, predictions=folders, **given)


def test_models_have_the_figures_of_their_arrays(two, mats, make):
    said = []
    done = evaluate_models(scenes_in(mats), [make("rx"), make("rpca")], [0], pfa=0.02, say=said.append)
    assert [(r["model"], r["scene"], r["seed"]) for r in done.runs] == [
        (m, s, 0) for m in ("rx", "rpca") for s in ("a", "b")
    ]
    assert len(said) == 4 and said[0].startswith("rx: a, seed 0: AUC(D,F) ")
    for run in done.runs:
        scene = two[run["scene"]]
        found = detect_array(ArrayReader(scene.cube), make(run["model"]), Options(pfa=0.02))
        assert run["figures"] == detection(found.score, scene.truth)
        assert run["mask"]["pd"] == pytest.approx(found.mask[scene.truth].mean())
        assert run["mask"]["pfa"] == pytest.approx(found.mask[~scene.truth].mean())
        assert run["mask"]["pfa_wanted"] == 0.02
        for one, other in zip(done.curves[run["scene"]][run["model"]], roc(found.score, scene.truth), strict=True):
            np.testing.assert_array_equal(one, other)


def test_truth_is_looked_at_before_anything_is_computed(two, mats, make, monkeypatch):
    monkeypatch.setattr("rsunfold.infer.anomaly.evaluate.detect_array", None)
    none = two["b"].truth * 0
    for truth, says in (
        (none, "is an anomaly"),
        (none + 1, "is background"),
        (np.eye(9), "is "),
    ):
        scipy.io.savemat(mats / "b.mat", {"data": two["b"].cube.transpose(1, 2, 0), "map": truth})
        with pytest.raises(InputError, match=f"truth in .*b.mat {says}"):
            evaluate_models(scenes_in(mats), [make("rx")], [0], pfa=0.02, say=silent)


def test_bands_and_seeds_are_looked_at_before_anything_is_computed(two, mats, make, monkeypatch):
    monkeypatch.setattr("rsunfold.infer.anomaly.evaluate.detect_array", None)
    cube = two["b"].cube.transpose(1, 2, 0)
    scipy.io.savemat(mats / "b.mat", {"data": cube[:, :, :-1], "map": two["b"].truth * 1})
    for seed, words, says in (
        (0, (str(cube.shape[2]),), f"is not within the {cube.shape[2] - 1} bands of .*b.mat"),
        (2**32, (), "the seed must lie between 0 and"),
    ):
        with pytest.raises(UsageError, match=says):
            evaluate_models(scenes_in(mats), [make("rx")], [1, seed], pfa=0.02, drop_bands=words, say=silent)


def test_scenes_and_masks_in_one_folder(two, write, tmp_path):
    for name, scene in two.items():
        write(tmp_path / f"{name}.tif", scene.cube)
        write(tmp_path / f"{name}_mask.tif", scene.truth[None].astype(np.uint8))
    found = scenes_in(tmp_path, tmp_path)
    assert [(s.name, s.path.name, s.truth_path.name) for s in found] == [(n, f"{n}.tif", f"{n}_mask.tif") for n in two]


def test_several_seeds(mats, make):
    detector = make(options={"epochs": 1})
    done = evaluate_models(scenes_in(mats), [detector], [0, 7], pfa=0.01, say=silent)
    assert [(r["scene"], r["seed"]) for r in done.runs] == [("a", 0), ("a", 7), ("b", 0), ("b", 7)]
    assert done.about["lrr-net-plus"]["seed"] == [0, 7]
    areas = {(r["scene"], r["seed"]): r["figures"]["auc_df"] for r in done.runs}
    (line,) = done.rows()
    assert line["scenes"] == 2 and line["auc_df"] == pytest.approx(np.mean(list(areas.values())))
    assert line["auc_df_least"] == min(areas.values())
    means = [np.mean([areas[s, seed] for s in "ab"]) for seed in (0, 7)]
    assert line["auc_df_deviation"] == pytest.approx(np.std(means))
    again = evaluate_models(scenes_in(mats), [make(options={"epochs": 1}, seed=3)], [7], pfa=0.01, say=silent)
    assert [r["figures"] for r in again.runs] == [r["figures"] for r in done.runs if r["seed"] == 7]
    with pytest.raises(UsageError, match="the seed must lie between 0 and 4294967295, not 4294967296"):
        evaluate_models(scenes_in(mats), [detector], [2**32], pfa=0.01, say=silent)


def test_the_report_defines_every_figure(mats, make):
    done = evaluate_models(scenes_in(mats), [make("rx")], [0], pfa=0.01, say=silent)
    report = json.loads(json.dumps(done.report(), allow_nan=False))
    assert report["formulas"] == FORMULAS | BESIDE
    (line,) = report["summary"]
    assert set(line) - {"model", "scenes"} <= set(report["formulas"])
    for run in report["runs"]:
        named = {f"{key}.{name}" for key in ("mask", "without_score") for name in run[key]}
        assert named | {"seconds", "pixels", "left_out_pixels"} <= set(report["formulas"])
        assert set(FORMULAS) - {"gap"} <= set(run["figures"]) and "gap" in run["figures"]["separability"]
    assert [r["scene"] for r in report["per_scene"]] == ["a", "b"] and len(report["summary"]) == 1
    assert report["models"]["rx"]["priors"] == [] and "auc_df_deviation" not in line
    for key in set(FORMULAS) - {"gap"}:
        assert line[key] == pytest.approx(np.mean([r["figures"][key] for r in done.runs]))
    assert line["gap"] == pytest.approx(np.mean([r["figures"]["separability"]["gap"] for r in done.runs]))
    assert line["mask.pd"] == pytest.approx(np.mean([r["mask"]["pd"] for r in done.runs]))
    boxes = done.boxes()["rx"]
    assert boxes["anomaly"]["p50"] == pytest.approx(
        np.mean([r["figures"]["separability"]["anomaly"]["p50"] for r in done.runs])
    )


def test_notes_of_runs_are_told_once(two, mats, make, monkeypatch):
    """On the scene where all models have them, else on the model, too."""
    cube = two["a"].cube.transpose(1, 2, 0).copy()
    cube[3, 4, 2] = 1e7
    scipy.io.savemat(mats / "a.mat", {"data": cube, "map": two["a"].truth * 1})
    monkeypatch.setattr(
        module, "detect_array", lambda path, detector, options: with_note(detect_array(path, detector, options))
    )

    def with_note(found):
        if found.summary["model"] == "rpca":
            found.summary["notes"] += ["of the model", Aside("of no weight")]
        return found

    report = evaluate_models(scenes_in(mats), [make("rx"), make("rpca")], [0, 1], pfa=0.01, say=silent).report()
    spikes, *others = report["notes"]
    assert spikes.startswith("a: some samples of 1 band(s) (3) lie more than")
    assert others == ["rpca on a: of the model", "rpca on b: of the model"]
    assert [len(run["notes"]) for run in report["runs"]] == [1, 1, 0, 0, 2, 2, 1, 1]


def test_the_report_says_what_was_evaluated(mats, make):
    words = {"var": "data", "drop_bands": ("2",), "asked": {"truth_var": None}}
    report = evaluate_models(scenes_in(mats), [make("rx")], [0, 3], pfa=0.02, **words, say=silent).report()
    asked = {"var": "data", "drop_bands": ["2"], "score_var": None, "truth_var": None}
    assert report["protocol"] == {"asked": asked, "pfa": 0.02, "seeds": [0, 3]}
    assert {(run["truth"], run["truth_var"]) for run in report["runs"]} == {
        (str(mats / f"{name}.mat"), "map") for name in "ab"
    }


def test_masks_in_a_folder(two, mats, make, write, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name, scene in two.items():
        write(images / f"{name}.tif", scene.cube)
    write(masks / "a.tif", two["a"].truth[None].astype(np.uint8))
    write(masks / "b_mask.tif", two["b"].truth[None].astype(np.uint8) * 255)
    found = evaluate_models(scenes_in(images, masks), [make("rx")], [0], pfa=0.01, say=silent)
    expected = evaluate_models(scenes_in(mats), [make("rx")], [0], pfa=0.01, say=silent)
    assert [r["figures"] for r in found.runs] == [r["figures"] for r in expected.runs]
    (masks / "b_mask.tif").unlink()
    with pytest.raises(InputError, match=r"no ground truth found for .*b.tif in .*masks; expected b or b_mask"):
        scenes_in(images, masks)
    write(masks / "b.tif", np.eye(30, 33, dtype=np.uint8)[None])
    with pytest.raises(InputError, match=r"the truth in .*b.tif is \(30, 33\), but .*b.tif is \(30, 34\)"):
        evaluate_models(scenes_in(images, masks), [make("rx")], [0], pfa=0.01, say=silent)


def test_where_a_mat_file_has_its_truth(two, mats, tmp_path):
    assert {s.truth_var for s in scenes_in(mats)} == {"map"}
    with pytest.raises(InputError, match=r"a.mat contains no ground truth \(labels\); its maps are called map; use"):
        scenes_in(mats, truth_var="labels")
    scene = two["a"]
    scipy.io.savemat(mats / "b.mat", {"data": scene.cube.transpose(1, 2, 0), "labels": scene.truth * 1})
    with pytest.raises(InputError, match=r"b.mat contains no ground truth \(map, gt, truth, mask, groundtruth\)"):
        scenes_in(mats)
    (mats / "a.mat").unlink()
    (found,) = scenes_in(mats, truth_var="labels")
    truth, known = found.truth((30, 34), found.path)
    np.testing.assert_array_equal(truth, scene.truth)
    assert known.all()
    data = scene.cube.transpose(1, 2, 0)
    scipy.io.savemat(mats / "b.mat", {"data": data, "other": scene.truth * 0, "groundTruth": scene.truth * 1})
    assert [s.truth_var for s in scenes_in(mats)] == ["groundTruth"]
    scipy.io.savemat(mats / "b.mat", {"data": data, "map": scene.truth[..., None] * 1, "x": np.eye(3)})
    (found,) = scenes_in(mats)
    np.testing.assert_array_equal(found.truth((30, 34), found.path)[0], scene.truth)
    many = {f"a{k}": scene.truth * 1 for k in range(20)}
    scipy.io.savemat(mats / "b.mat", {"data": data, "x": np.eye(3), **many})
    with pytest.raises(InputError, match=r"its maps are called (a\d+, ){9}a\d+; use"):
        scenes_in(mats)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty contains no image"):
        scenes_in(tmp_path / "empty")


@pytest.fixture
def scores(two, write, tmp_path):
    """Writes score maps by scene into a folder of that name."""

    def run(folder, maps, suffix="_score"):
        (tmp_path / folder).mkdir()
        for name, score in maps.items():
            write(tmp_path / folder / f"{name}{suffix}.tif", score[None])
        return tmp_path / folder

    return run


@pytest.mark.parametrize("suffix", ["_score", ""])
def test_somebody_elses_scores(suffix, two, mats, scores):
    rng = np.random.default_rng(0)
    maps = {name: (rng.random((30, 34)) + s.truth).astype(np.float32) for name, s in two.items()}
    maps["b"][3, 4] = np.nan
    folder = scores("theirs", maps, suffix)
    done, label = evaluate_files(scenes_in(mats), folder, pfa=0.05), f"{folder}/"
    for run in done.runs:
        score, truth = maps[run["scene"]], two[run["scene"]].truth
        assert run["figures"] == detection(np.where(np.isfinite(score), score, np.nanmin(score)), truth)
        assert (run["model"], run["seed"], run["seconds"]) == (label, None, None)
    assert done.runs[1]["figures"]["left_out_pixels"] == 0
    assert done.notes() == [f"{label} on b: 1 pixels, 0 of them anomalous, have no score and count as not detected"]
    assert done.about[label]["model"] == label and len(done.rows()) == 1 and not done.missing


def test_pixels_of_unknown_truth_count_for_nothing(two, scores, write, tmp_path):
    scene, known = two["a"], np.ones((30, 34), bool)
    known[20:] = False
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    write(images / "a.tif", scene.cube)
    write(masks / "a.tif", np.where(known, scene.truth, 9)[None].astype(np.uint8), nodata=9)
    score = np.where(known, 0, 5) + np.random.default_rng(0).random(known.shape) + scene.truth
    (run,) = evaluate_files(scenes_in(images, masks), scores("theirs", {"a": score}), pfa=0.05).runs
    assert run["figures"] == detection(score, scene.truth, known) and run["figures"]["left_out_pixels"] == 10 * 34


def test_scores_in_double_precision_stay_apart(two, mats, scores):
    """Differences that float32 does not have decide as they should, and none is too large."""
    for scale in (1e-9, 1e20):
        maps = {name: 1e9 * scale + scale * s.truth for name, s in two.items()}
        done = evaluate_files(scenes_in(mats), scores(f"d{scale}", maps), pfa=0.05)
        assert [r["figures"]["auc_df"] for r in done.runs] == [1, 1]


def test_anomalies_without_a_score_are_told(two, mats, scores):
    maps = {name: s.truth.astype(np.float64) for name, s in two.items()}
    maps["a"][np.unravel_index(two["a"].truth.argmax(), two["a"].truth.shape)] = np.nan
    folder = scores("holed", maps)
    done = evaluate_files(scenes_in(mats), folder, pfa=0.05)
    note = f"{folder}/ on a: 1 pixels, 1 of them anomalous, have no score and count as not detected"
    assert note in done.notes()
    run, count = done.runs[0], two["a"].truth.sum()
    assert run["without_score"] == {"pixels": 1, "anomalous": 1} and run["figures"]["anomaly_pixels"] == count
    assert run["mask"]["pd"] == run["figures"]["auc_dtau"] == (count - 1) / count
    maps["a"][0, 0] = np.inf
    with pytest.raises(InputError, match=r"a_score\.tif has infinite scores"):
        evaluate_files(scenes_in(mats), scores("infinite", maps), pfa=0.05)


def test_a_score_at_the_threshold_is_in_no_mask(two, mats, scores):
    """That of maps which are 0 nearly everywhere is 0."""
    maps = {name: s.truth.astype(np.float32) for name, s in two.items()}
    for run in evaluate_files(scenes_in(mats), scores("theirs", maps), pfa=0.3).runs:
        assert run["mask"] == {"pfa_wanted": 0.3, "pfa": 0, "pd": 1}


def test_a_score_that_is_absent_is_missed_before_any_is_read(two, mats, scores):
    folder = scores("part", {"a": np.full_like(two["a"].truth, np.inf, np.float32)})
    with pytest.raises(InputError, match="part contains no score for b"):
        evaluate_files(scenes_in(mats), folder, pfa=0.01)


def test_polarity_is_never_flipped(two, mats, scores, make):
    found = {n: detect_array(ArrayReader(s.cube), make("rx"), Options()).score for n, s in two.items()}
    done = evaluate_files(scenes_in(mats), scores("upright", found), pfa=0.01)
    turned = evaluate_files(scenes_in(mats), scores("inverted", {n: -s for n, s in found.items()}), pfa=0.01)
    for one, other in zip(done.runs, turned.runs, strict=True):
        assert one["figures"]["auc_df"] > 0.9
        assert other["figures"]["auc_df"] == pytest.approx(1 - one["figures"]["auc_df"])


def test_scores_that_do_not_fit(two, mats, scores, write, tmp_path):
    folder = scores("part", {"a": two["a"].truth.astype(np.float32)})
    with pytest.raises(InputError, match=r"part contains no score for b \(b_score or b\)"):
        evaluate_files(scenes_in(mats), folder, pfa=0.01)
    write(folder / "b_score.tif", np.ones((2, 30, 34), np.float32))
    with pytest.raises(InputError, match=r"b_score.tif has 2 bands, but a score has one"):
        evaluate_files(scenes_in(mats), folder, pfa=0.01)
    write(folder / "b_score.tif", np.ones((1, 30, 33), np.float32))
    with pytest.raises(InputError, match=r"b_score.tif is \(30, 33\) but .*b.mat is \(30, 34\) \(rows, columns\)"):
        evaluate_files(scenes_in(mats), folder, pfa=0.01)
    (folder / "b_score.tif").rename(folder / "b_score.npy")
    with pytest.raises(InputError, match=r"\(b_score or b\); b_score.npy is not read: folders are searched for .bmp"):
        evaluate_files(scenes_in(mats), folder, pfa=0.01)


@pytest.mark.parametrize("drop_bands", [(), ("8",)])
def test_all_are_measured_on_the_pixels_that_are_valid_in_the_scene(drop_bands, two, mats, scores, make):
    """Whatever other programs give to pixels without data; nodata in a band that takes no part is none."""
    cube, truth = two["a"].cube.transpose(1, 2, 0).copy(), two["a"].truth
    cube[:, :8, 7] = np.nan
    cube[:2, 20:] = np.nan
    (mats / "b.mat").unlink()
    scipy.io.savemat(mats / "a.mat", {"data": cube, "map": truth * 1})
    score = np.random.default_rng(0).random(truth.shape) + truth
    folder = scores("theirs", {"a": score})
    given = {"pfa": 0.05, "predictions": [folder], "drop_bands": drop_bands}
    theirs, ours = evaluate_models(scenes_in(mats), [make("rx")], [0], **given).runs
    valid = ~np.isnan(cube[:, :, [b for b in range(8) if f"{b + 1}" not in drop_bands]]).any(axis=2)
    assert theirs["figures"] == detection(score, truth, valid)
    for key in ("anomaly_pixels", "background_pixels", "left_out_pixels"):
        assert theirs["figures"][key] == ours["figures"][key]
    (alone,) = evaluate_files(scenes_in(mats), scores("holed", {"a": np.where(valid, score, np.nan)}), pfa=0.05,
                              drop_bands=drop_bands).runs  # fmt: skip
    assert (alone["figures"], alone["mask"]) == (theirs["figures"], theirs["mask"])


def test_several_of_others_beside_models(two, mats, scores, make):
    """A row each; what is wrong with any file is found before anything is computed."""
    folders = [scores(n, {k: s.truth * 1.0 + place for k, s in two.items()}) for place, n in enumerate(("one", "two"))]
    names = [f"{folder}/" for folder in folders]
    kept = []
    given = {"pfa": 0.05, "predictions": folders, "keep": lambda done: kept.append(list(done.missing))}
    done = evaluate_models(scenes_in(mats), [make("rx"), make(options={"epochs": 1})], [0, 3], **given)
    assert kept[0] == [*names, "rx", "lrr-net-plus"] and not done.missing
    assert [row["model"] for row in done.rows()] == list(done.about) == [*names, "rx", "lrr-net-plus"]
    assert [row["model"] for row in done.rows(per_scene=True)] == [m for m in done.about for _ in two]
    assert all(list(curves) == list(done.about) for curves in done.curves.values())
    assert [row["seconds"] is None for row in done.rows()] == [True, True, False, False]


def test_the_mean_of_a_figure_that_a_scene_lacks_is_none(two, mats, scores):
    """Over the other scenes alone, it could not be compared with that of others."""
    maps = {"a": two["a"].truth * 1.0, "b": two["b"].truth + np.eye(30, 34)}
    folder = scores("theirs", maps)
    done = evaluate_files(scenes_in(mats), folder, pfa=0.05)
    assert [r["figures"]["auc_snpr"] is None for r in done.runs] == [True, False]
    (line,) = done.rows()
    assert line["auc_snpr"] is None and line["auc_df"] is not None
    assert done.notes() == [f"{folder}/: AUC_SNPR is undefined on 1 of 2 scenes (the first: a), so the mean has none"]


def test_a_scene_that_cannot_be_read_ends_only_its_own_runs(two, mats, scores, make, write, tmp_path):
    write(mats / "b.tif", np.ones((8, 30, 34), np.float32))  # constant
    (mats / "b.mat").unlink()
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, scene in two.items():
        write(masks / f"{name}.tif", scene.truth[None].astype(np.uint8))
    folder = scores("theirs", {name: scene.truth.astype(np.float32) for name, scene in two.items()})
    kept = []
    with pytest.raises(BatchError, match="2 of 4 runs failed"):
        evaluate_models(scenes_in(mats, masks), [make("rx")], [0], pfa=0.05, predictions=[folder], keep=kept.append)
    done = kept[-1]
    assert [(run["model"], run["scene"]) for run in done.failed] == [(f"{folder}/", "b"), ("rx", "b")]
    assert [(run["model"], run["scene"]) for run in done.runs] == [(f"{folder}/", "a"), ("rx", "a")]
    assert done.missing == [f"{folder}/", "rx"]


def test_a_scene_that_needs_too_much_memory_ends_only_its_own_run(mats, make, monkeypatch):
    def short(source, detector, options):
        if source.endswith("b.mat"):
            raise DeviceError("too little memory.")
        return detect_array(source, detector, options)

    monkeypatch.setattr(module, "detect_array", short)
    with pytest.raises(BatchError, match="1 of 2 runs failed"):
        evaluate_models(scenes_in(mats), [make("rx")], [0], pfa=0.05)


def test_scores_in_a_file_of_several_variables(two, mats, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, scene in two.items():
        scipy.io.savemat(folder / f"{name}.mat", {"score": scene.truth * 1.0, "map": scene.truth * 0})
    with pytest.raises(InputError, match=r"a\.mat contains several arrays: .*; choose one with --score-var NAME"):
        evaluate_files(scenes_in(mats), folder, pfa=0.05)
    scipy.io.savemat(folder / "b.mat", {"single": two["b"].truth * 1.0})
    done = evaluate_files(scenes_in(mats), folder, pfa=0.05, score_var="score")
    assert done.report()["protocol"]["asked"]["score_var"] == "score"
    assert [r["figures"]["auc_df"] for r in done.runs] == [1, 1]
