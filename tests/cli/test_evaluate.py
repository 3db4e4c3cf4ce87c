"""rsunfold evaluate detect-ir: of a model, and of somebody else's results."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from scipy import ndimage
from scipy.io import loadmat, savemat
from skimage.io import imread

import rsunfold
from rsunfold.errors import DeviceError
from rsunfold.infer.infrared import evaluate
from rsunfold.infer.infrared.evaluate import WORST, Evaluation, _resized, evaluate_files
from rsunfold.io.samples import find_samples
from rsunfold.simulate.infrared import infrared_scenes
from rsunfold.simulate.write import save_png

from .conftest import of_one_model

EVALUATE = ("evaluate", "detect-ir")
TOP_HAT = ("--model", "top-hat", "--threshold", "0.1")


def folders(scenes):
    return "--images", scenes / "images", "--masks", scenes / "masks"


@pytest.fixture
def report(call, tmp_path):
    """The JSON report of an evaluation, of one model its own."""

    def run(*words):
        path = tmp_path / "report.json"
        result = call(*EVALUATE, *words, "--json", path, "--overwrite")
        return of_one_model(json.loads(path.read_text())), result

    return run


def test_a_model(report, scenes, network, tiny):
    found, result = report(*folders(scenes), *network)
    figures = found["sets"]["all"]
    truth = list(infrared_scenes(6, 2, rows=72, cols=72))
    tp = fp = fn = 0
    for scene, row in zip(truth, found["per_image"], strict=True):
        predicted = tiny.score(np.round(scene.image * 255).astype(np.float32) / 255) > np.float32(tiny.threshold)
        counts = (predicted & scene.mask).sum(), (predicted & ~scene.mask).sum(), (~predicted & scene.mask).sum()
        assert (row["tp"], row["fp"], row["fn"]) == counts
        tp, fp, fn = tp + counts[0], fp + counts[1], fn + counts[2]
    assert figures["iou_pooled"] == pytest.approx(tp / (tp + fp + fn))
    assert figures["targets"] == sum(ndimage.label(s.mask, np.ones((3, 3)))[1] for s in truth)
    assert found["threshold"] == tiny.threshold and found["weights"] == "tiny" and found["size"] == "native"
    assert figures["empty_images"]["images"] == 1
    assert {"overlap", "centroid", "roc", "niou", "f1_pooled"} <= figures.keys()
    line = next(line for line in result.stdout.splitlines() if "l-rpcanet" in line)
    assert f"{figures['iou_pooled']:.4g}" in line and f"{figures['overlap']['pd']:.4g}" in line


def test_several_models_and_pictures(call, scenes, tmp_path):
    paths = {name: tmp_path / f"{name}.png" for name in ("roc", "worst")}
    json_file = tmp_path / "a.json"
    words = ("--model", "top-hat,mpcm", "--json", json_file, "--roc", paths["roc"], "--worst", paths["worst"])
    result = call(*EVALUATE, *folders(scenes), *words, "--pfa", "1e-2")
    assert list(json.loads(json_file.read_text())["models"]) == ["top-hat", "mpcm"]
    for path in paths.values():
        with rasterio.open(path) as ds:
            assert ds.read().std() > 10
    for name in ("top-hat", "mpcm"):
        assert f"{name}: Fa <= 0.01 on these images from threshold" in result.stdout


def test_several_weights_and_a_model_without(report, call, scenes, network, shipped, tmp_path):
    words = (*network, "--weights", "l-rpcanet", "--model", "l-rpcanet,top-hat", "--roc", tmp_path / "roc.png")
    found, result = report(*folders(scenes), *words)
    labels = ["l-rpcanet (tiny)", "l-rpcanet (l-rpcanet)", "top-hat"]
    assert list(found["models"]) == labels and all(label in result.stdout for label in labels)
    first, second, third = found["models"].values()
    assert [m.get("weights") for m in (first, second, third)] == ["tiny", "tiny", None]
    assert first["per_image"] == second["per_image"] != third["per_image"]
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / "tiny.safetensors"
    copy.write_bytes((shipped / "l-rpcanet.safetensors").read_bytes())
    message = call(*EVALUATE, *folders(scenes), *network, "--weights", copy, code=2).stderr
    assert "two weights would both be called l-rpcanet (tiny); give one of the files another name" in message


def test_pfa_names_a_threshold_that_keeps_it(report, scenes):
    _, result = report(*folders(scenes), *TOP_HAT, "--pfa", "0.003")
    cut = float(result.stdout.split("from threshold ")[1].split(";")[0])
    figures, _ = report(*folders(scenes), "--model", "top-hat", "--threshold", cut)
    assert figures["sets"]["all"]["overlap"]["fa"] <= 0.003
    higher, _ = report(*folders(scenes), "--model", "top-hat", "--threshold", cut / 2)
    assert higher["sets"]["all"]["overlap"]["fa"] > 0.003


def test_sets_below_one_folder(report, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data / "one")
    shutil.copytree(scenes / "images", data / "skies")
    found, result = report("--data", data, *TOP_HAT)
    assert list(found["sets"]) == ["one", "skies", "all"]
    assert [found["sets"][k]["images"] for k in found["sets"]] == [6, 6, 12]
    assert found["sets"]["skies"]["targets"] == 0 and found["sets"]["skies"]["overlap"]["pd"] is None
    assert found["sets"]["all"]["targets"] == found["sets"]["one"]["targets"]
    assert sum(" top-hat " in line for line in result.stdout.splitlines()) == 3
    alone, _ = report(*folders(scenes), *TOP_HAT)
    assert found["sets"]["one"] == alone["sets"]["all"]


def test_a_set_that_is_called_all_is_counted_once(report, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "data" / "all")
    found, _ = report("--data", tmp_path / "data", *TOP_HAT)
    assert found["sets"]["all"]["images"] == len(found["per_image"]) == 6


def test_only_some_images(report, fails, scenes, tmp_path):
    names = sorted(p.stem for p in (scenes / "images").iterdir())
    listing = tmp_path / "list.txt"
    listing.write_text(f"{names[1]}\nscenes/{names[3]}\n")
    found, _ = report("--data", scenes, *TOP_HAT, "--only", listing)
    assert [row["image"] for row in found["per_image"]] == [f"scenes/{names[1]}", f"scenes/{names[3]}"]
    listing.write_text("absent\n")
    assert "lists 'absent', which is not among the images" in fails(
        3, *EVALUATE, "--data", scenes, *TOP_HAT, "--only", listing
    )


def test_resizing_to_the_papers_convention(report, scenes, tiny):
    found, _ = report(*folders(scenes), *TOP_HAT, "--resize", "36")
    assert found["size"] == "resized to 36x36"
    assert {row["pixels"] for row in found["per_image"]} == {36 * 36}
    assert 0 < found["sets"]["all"]["targets"] <= 15
    native, _ = report(*folders(scenes), *TOP_HAT)
    same_size, _ = report(*folders(scenes), *TOP_HAT, "--resize", "72")
    assert same_size["sets"]["all"] == native["sets"]["all"] != found["sets"]["all"]


def test_image_and_mask_are_resized_each_from_its_own_size(report, scenes, tmp_path, write_image):
    """As the published loaders do; what they make of the same mask at twice the size is the same."""
    shutil.copytree(scenes, tmp_path / "data")
    for path in (tmp_path / "data" / "masks").iterdir():
        write_image(path, np.kron(imread(path), np.ones((2, 2), np.uint8)))
    words = (*TOP_HAT, "--resize", "36")
    found, result = report("--data", tmp_path / "data", *words)
    same, _ = report("--data", scenes, *words)
    assert found["per_image"] == [{**r, "image": r["image"].replace("scenes/", "data/")} for r in same["per_image"]]
    assert "is (72, 72) but its mask (144, 144) (rows, columns); each is resized from its own size" in result.stderr
    assert "its mask (144, 144)" in found["notes"][0] and not same["notes"]


def test_images_are_resized_as_the_published_code_does():
    """By OpenCV: means of 2 x 2 pixels for half of the size, and every second pixel of a mask."""
    rng = np.random.default_rng(0)
    gray, mask = rng.random((36, 40)).astype(np.float32), rng.random((36, 40)) > 0.5
    halves = [gray[i::2, :36][:, j::2] for i in (0, 1) for j in (0, 1)]
    np.testing.assert_allclose(_resized(gray[:, :36], 18), np.mean(halves, axis=0), rtol=1e-5)
    assert (_resized(mask[:, :36], 18) == mask[::2, :36:2]).all()
    assert (
        _resized(mask, 27) == mask[np.floor(np.arange(27) * 36 / 27).astype(int)][:, np.arange(27) * 40 // 27]
    ).all()


def test_scores_in_double_precision_are_compared_as_they_are(report, scenes, tmp_path, write_image):
    folder = tmp_path / "scores"
    folder.mkdir()
    for mask in (scenes / "masks").iterdir():
        with rasterio.open(mask) as ds:
            score = np.where(ds.read(1) > 0, 0.5 + 1e-9, 0.1)
        score[0, :3] = -1e-60, 1 + 2.3e-16 if score[0, 1] > 0.5 else 0.1, -np.inf  # rounding, and what is declared
        write_image(folder / f"{mask.stem}.tif", score, nodata=-np.inf)
    found, _ = report("--predictions", folder, "--masks", scenes / "masks")
    assert found["sets"]["all"]["iou_pooled"] == 1


def test_half_of_the_maximum_is_never_silent(report, fails, scenes):
    found, _ = report(*folders(scenes), "--model", "top-hat", "--half-maximum")
    assert (found["threshold"], found["rule"]) == (None, "score > half of each image's maximum")
    assert all(row["detections"] > 0 for row in found["per_image"])
    assert found["sets"]["all"]["empty_images"]["share_with_detection"] == 1 and "roc" not in found["sets"]["all"]
    for extra in (("--threshold", "0.5"), ("--confidence", "0.9"), ("--pfa", "1e-3"), ("--roc", "roc.png")):
        message = fails(2, *EVALUATE, *folders(scenes), "--model", "top-hat", "--half-maximum", *extra)
        assert "--half-maximum replaces the threshold" in message


@pytest.fixture
def results(call, scenes, network, tmp_path):
    """What detect-ir wrote for the scenes."""
    call("detect-ir", scenes / "images", "-o", tmp_path / "out", *network, "--no-quicklook", "-q")
    return tmp_path / "out"


def some(folder, target, pattern, cut=""):
    """A copy of the files of ``folder`` that match, ``cut`` taken from their names."""
    target.mkdir()
    for path in folder.glob(pattern):
        shutil.copy(path, target / path.name.replace(cut, ""))
    return target


def test_our_own_results_give_the_figures_of_the_model(report, scenes, network, tiny, results, tmp_path):
    model, _ = report(*folders(scenes), *network)
    truth = ("--masks", scenes / "masks")
    scores, _ = report("--predictions", results, *truth)
    assert scores["sets"] == model["sets"] and scores["per_image"] == model["per_image"]
    assert (scores["model"], scores["threshold"]) == (str(results), tiny.threshold)
    data, _ = report("--predictions", results, "--data", scenes, "--threshold", repr(tiny.threshold))
    assert data["sets"] == model["sets"]
    other, _ = report("--predictions", results, *truth, "--threshold", "0.1")
    assert other["threshold"] == 0.1 and other["sets"] != model["sets"]

    masks, result = report("--predictions", some(results, tmp_path / "masks", "*_mask.tif"), *truth)
    assert (masks["threshold"], masks["rule"]) == (None, "boolean masks") and "roc" not in masks["sets"]["all"]
    drop = ("roc", "rule", "threshold", "confidence")
    figures = {k: v for k, v in model["sets"]["all"].items() if k not in drop}
    assert {k: v for k, v in masks["sets"]["all"].items() if k not in drop} == figures
    assert masks["per_image"] == model["per_image"]
    assert str(tmp_path / "masks") in result.stdout

    renamed, _ = report("--predictions", some(results, tmp_path / "plain", "*_score.tif", "_score"), *truth)
    assert renamed["sets"] == model["sets"]


def test_several_predictions_beside_models(report, call, scenes, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores, masks = (some(results, tmp_path / n, f"*_{end}.tif") for n, end in (("mpcm", "score"), ("masks", "mask")))
    theirs = ("--predictions", scores.name, "--predictions", masks.name)
    found, result = report(*folders(scenes), *theirs, "--model", "mpcm", "--roc", tmp_path / "roc.png")
    assert list(found["models"]) == ["mpcm/", "masks/", "mpcm"]  # a folder is no model of its name
    assert all(f" {label} " in result.stdout for label in ("mpcm/", "masks/", "mpcm")) and "GFLOP" not in result.stdout
    for words, model in zip((theirs[:2], theirs[2:], ("--model", "mpcm")), found["models"].values(), strict=True):
        alone, _ = report(*folders(scenes), *words)
        assert alone["sets"] == model["sets"] and alone["per_image"] == model["per_image"]
    without, _ = report("--masks", scenes / "masks", *theirs)
    assert list(without["models"]) == ["mpcm/", "masks/"]
    message = call(*EVALUATE, "--masks", scenes / "masks", *theirs, "--predictions", tmp_path / "masks", code=2).stderr
    assert f"--predictions names {tmp_path / 'masks'} twice" in message


def test_somebody_elses_scores_are_cut_at_a_half(report, scenes, tmp_path, write_image):
    """Scores of 0.6 on the truth and 0.4 elsewhere, in files that name no threshold."""
    (tmp_path / "theirs").mkdir()
    for path in (scenes / "masks").iterdir():
        with rasterio.open(path) as ds:
            truth = ds.read(1) > 0
        write_image(tmp_path / "theirs" / f"{path.stem}.tif", np.where(truth, 0.6, 0.4).astype(np.float32))
    found, _ = report("--predictions", tmp_path / "theirs", "--masks", scenes / "masks")
    assert found["threshold"] == 0.5 and found["sets"]["all"]["iou_pooled"] == 1


def test_predictions_without_a_mask_are_told(report, scenes, tmp_path):
    shutil.copytree(scenes / "masks", tmp_path / "masks")
    names = sorted(path.stem for path in (tmp_path / "masks").iterdir())
    for name in names[2:4]:
        (tmp_path / "masks" / f"{name}.png").unlink()
    truth, theirs = ("--masks", tmp_path / "masks"), ("--predictions", scenes / "masks")
    found, _ = report(*theirs, *truth)
    assert found["without_mask"] == names[2:4] and found["sets"]["all"]["images"] == 4
    assert f"without a mask are left out, with all their false alarms (2: {', '.join(names[2:4])})" in found["notes"][0]
    assert report(*theirs, "--masks", scenes / "masks")[0]["without_mask"] == []
    shutil.copytree(scenes / "images", tmp_path / "images")
    for name in names[2:4]:
        (tmp_path / "images" / f"{name}.png").unlink()
    found, _ = report(*theirs, *truth, "--images", tmp_path / "images")  # which say what is evaluated
    assert found["without_mask"] == found["notes"] == []


def test_perfect_predictions_and_masks_by_another_name(report, scenes, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    for path in (scenes / "masks").iterdir():
        shutil.copy(path, truth / f"{path.stem}_pixels0.png")
    found, _ = report("--predictions", scenes / "masks", "--masks", truth)
    assert found["sets"]["all"]["iou_pooled"] == found["sets"]["all"]["niou"] == 1
    assert found["sets"]["all"]["overlap"]["pd"] == found["sets"]["all"]["centroid"]["pd"] == 1
    with_images, _ = report("--predictions", scenes / "masks", "--masks", truth, "--images", scenes / "images")
    assert with_images["per_image"] == found["per_image"]


def test_the_rule_that_is_asked_for_is_the_one_of_detect_ir(call, report, scenes, network, tiny, results, tmp_path):
    low, high = 0.98 * tiny.threshold, 0.985 * tiny.threshold
    rule = ("--threshold", repr(low), "--confidence", repr(high), "--max-area", "100")
    model, _ = report(*folders(scenes), *network, *rule)
    plain, _ = report(*folders(scenes), *network, *rule[:2])
    assert [model[k] for k in ("threshold", "confidence", "max_area_px")] == [low, high, 100]
    assert [plain[k] for k in ("threshold", "confidence", "max_area_px")] == [low, low, None]
    figures = model["sets"]["all"]
    assert 0 < figures["tp"] + figures["fp"] < plain["sets"]["all"]["tp"] + plain["sets"]["all"]["fp"]

    truth = ("--masks", scenes / "masks")
    call("detect-ir", scenes / "images", "-o", tmp_path / "ruled", *network, *rule, "--no-quicklook", "-q")
    named, _ = report("--predictions", tmp_path / "ruled", *truth)  # our own files name their rule
    given, _ = report("--predictions", results, *truth, *rule)
    assert named["sets"]["all"] == given["sets"]["all"] == figures


def test_the_reach_of_our_own_files_counts(call, report, scenes, network, tiny, tmp_path):
    rule = ("--threshold", repr(0.9 * tiny.threshold), "--confidence", repr(0.98 * tiny.threshold))
    truth = ("--masks", scenes / "masks")
    call("detect-ir", scenes / "images", "-o", tmp_path / "out", *network, *rule, "--reach", 80, "--no-quicklook", "-q")
    scores, _ = report("--predictions", tmp_path / "out", *truth)
    masks, _ = report("--predictions", some(tmp_path / "out", tmp_path / "masks", "*_mask.tif"), *truth)
    model, _ = report(*folders(scenes), *network, *rule, "--reach", 80)
    alone, _ = report("--predictions", tmp_path / "out", *truth, "--reach", 0)
    assert scores["per_image"] == masks["per_image"] == model["per_image"] != alone["per_image"]
    assert (scores["reach_px"], model["reach_px"], alone["reach_px"]) == (80, 80, None)
    assert "+ log(number of unsure ones within reach_px)" in scores["sets"]["all"]["rule"]
    assert alone["sets"]["all"]["fp"] > scores["sets"]["all"]["fp"]


def test_the_rule_looks_at_what_nobody_has_labelled(fails, report, scenes, network, tmp_path):
    score, truth = np.full((40, 60), 0.01, np.float32), np.zeros((40, 60), np.uint8)
    score[5:7, 5:7], truth[5:7, 5:7] = 0.93, 255
    score[30, 5:55:6] = 0.7
    tags = {"RSUNFOLD_THRESHOLD": "0.5", "RSUNFOLD_CONFIDENCE": "0.9", "RSUNFOLD_REACH": "128"}
    for folder, data, nodata in (("scores", score, None), ("masks", truth, 7), ("known", truth, None)):
        (tmp_path / folder).mkdir()
        if nodata is not None:
            data = np.where(np.arange(40)[:, None] < 20, data, np.uint8(nodata))
        kind = {"driver": "GTiff", "height": 40, "width": 60, "count": 1, "dtype": data.dtype, "nodata": nodata}
        with rasterio.open(tmp_path / folder / "a.tif", "w", **kind) as ds:
            ds.write(data, 1)
            ds.update_tags(**tags if folder == "scores" else {})
    found = {m: report("--predictions", tmp_path / "scores", "--masks", tmp_path / m)[0] for m in ("masks", "known")}
    assert [f["sets"]["all"]["tp"] for f in found.values()] == [0, 0]  # 0.93 is one of ten, whoever has labelled them
    alone, _ = report("--predictions", tmp_path / "scores", "--masks", tmp_path / "masks", "--reach", 0)
    assert (alone["sets"]["all"]["tp"], alone["sets"]["all"]["fp"], alone["sets"]["all"]["nodata_pixels"]) == (
        4,
        0,
        1200,
    )
    for words in (("--reach", 5), ("--max-area", 5)):
        assert "--ablate cannot be combined" in fails(
            2, *EVALUATE, *folders(scenes), *network, "--ablate", "stages", *words
        )


def test_the_smallest_area_of_our_own_files_counts(call, report, scenes, network, tmp_path):
    truth = ("--masks", scenes / "masks")
    call("detect-ir", scenes / "images", "-o", tmp_path / "out", *network, "--min-area", "6", "--no-quicklook", "-q")
    scores, _ = report("--predictions", tmp_path / "out", *truth)
    masks, _ = report("--predictions", some(tmp_path / "out", tmp_path / "masks", "*_mask.tif"), *truth)
    every, _ = report(*folders(scenes), *network)
    assert scores["per_image"] == masks["per_image"] != every["per_image"]
    assert scores["min_area_px"] == 6 and "of at least min_area_px" in scores["sets"]["all"]["rule"]


def test_the_worst_cases_show_the_image_and_what_is_evaluated(scenes, results, tmp_path):
    samples = find_samples(scenes)
    for sample in samples[:1]:
        with rasterio.open(sample.image) as ds:
            gray = ds.read(1)
    cases = {c.name.partition("/")[2]: c for c in evaluate_files(results, samples).worst}
    shown = cases[samples[0].name]
    assert shown.shown == "image" and np.allclose(shown.image, gray / 255)
    own = [replace(sample, image=sample.mask) for sample in samples]  # as where no image is given
    assert evaluate_files(results, own).worst[0].shown == "prediction, no image given"


def test_the_worst_cases_are_those_of_the_lowest_iou_whatever_the_order(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks", "predictions"):
        (tmp_path / folder).mkdir()
    truth = np.zeros((20, 20), np.uint8)
    truth[5:10, 5:10] = 255
    found = {f"i{n}": int(rows) for n, rows in enumerate(rng.permutation(2 * WORST) % (WORST + 2))}  # with ties
    for name, rows in found.items():
        mask = np.where(np.arange(20)[:, None] < 5 + rows, truth, 0).astype(np.uint8)
        for folder, data in (("images", truth), ("masks", truth), ("predictions", mask)):
            save_png(tmp_path / folder / f"{name}.png", data)
    worst = evaluate_files(tmp_path / "predictions", find_samples(tmp_path)).worst
    ious = sorted(min(rows, 5) / 5 for rows in found.values())
    assert [case.iou for case in worst] == pytest.approx(ious[:WORST])


def test_predictions_whose_files_name_different_rules(call, fails, scenes, results, tmp_path):
    theirs = some(results, tmp_path / "theirs", "*_score.tif")
    with rasterio.open(max(theirs.iterdir()), "r+") as ds:
        ds.update_tags(RSUNFOLD_THRESHOLD="0.25")
    words = (*EVALUATE, "--predictions", theirs, "--masks", scenes / "masks")
    message = fails(3, *words)
    assert f"{max(theirs.iterdir())} was written with the rule threshold 0.25" in message
    assert "give --threshold and --confidence for all" in message
    call(*words, "--threshold", "0.5")
    with rasterio.open(max(theirs.iterdir()), "r+") as ds, rasterio.open(min(theirs.iterdir())) as other:
        ds.update_tags(**{k: v for k, v in other.tags().items() if k.startswith("RSUNFOLD_")}, RSUNFOLD_REACH="7")
    message = fails(3, *words)
    assert "reach 7, the first of the predictions with" in message and "give --reach for all" in message
    fails(3, *words, "--threshold", "0.5", "--confidence", "0.6")  # which leaves the reach as it is
    call(*words, "--reach", "7")


def test_predictions_that_do_not_fit(call, fails, scenes, results, tmp_path, write_image):
    truth = ("--masks", scenes / "masks")
    scores = some(results, tmp_path / "scores", "*_score.tif")
    masks = some(results, tmp_path / "masks", "*_mask.tif")
    first = min(scores.iterdir())
    stem = first.stem.removesuffix("_score")

    def message(folder, *words, code=3):
        return fails(code, *EVALUATE, "--predictions", folder, *(words or truth))

    assert "absent does not exist" in message(tmp_path / "absent")
    for option in (("--threshold", "0.5"), ("--confidence", "0.5"), ("--half-maximum",)):
        assert f"to which {option[0]} does not apply" in message(masks, *truth, *option, code=2)
    for extra in (("--corrupt", "gaussian:0.1"), ("--ablate", "stages")):
        assert "applies to models and cannot be combined with --predictions" in message(scores, *truth, *extra, code=2)
    roc = tmp_path / "roc.png"
    result = call(*EVALUATE, "--predictions", masks, *truth, "--roc", roc, "--json", tmp_path / "r.json", code=2)
    assert "no ROC can be drawn" in result.stderr
    assert not roc.exists() and (tmp_path / "r.json").exists()  # the figures are there nevertheless
    first.unlink()
    assert f"scores contains no prediction for {stem}." in message(scores)
    first.with_suffix(".npy").touch()
    unread = f"{first.stem}.npy is not read: folders are searched for .bmp"
    assert f"scores contains no prediction for {stem}; {unread}" in message(scores)
    write_image(first, np.zeros((72, 71), np.float32))
    assert re.search(rf"masks.{stem}.png is \(72, 72\) but .*{first.name} is \(72, 71\)", message(scores))
    write_image(first, np.where(np.eye(72), np.inf, 0.1).astype(np.float32))
    assert f"{first.name} contains infinite scores; they must lie between 0 and 1" in message(scores)
    write_image(first, np.full((72, 72), 200, np.float32))
    assert "contains scores from 200 to 200; they must lie between 0 and 1" in message(scores)
    write_image(first, np.full((72, 72), -200, np.float32))
    assert "they must be finite, and not negative" in message(scores, *truth, "--half-maximum")
    two = tmp_path / "data"
    shutil.copytree(scenes, two / "a")
    shutil.copytree(scenes, two / "b")
    assert f"a and b both contain {stem}; evaluate them separately" in message(masks, "--data", two, code=2)


def test_predictions_of_integers_share_their_range(report, scenes, tmp_path):
    """As published scripts write them: scores times 255, in some images no more than 1."""
    (tmp_path / "theirs").mkdir()
    paths = sorted((scenes / "masks").iterdir())
    for n, path in enumerate(paths):
        with rasterio.open(path) as ds:
            truth = ds.read(1) > 0
        save_png(tmp_path / "theirs" / path.name, np.where(truth, 200 if n else 2, 1).astype(np.uint8))
    found, _ = report("--predictions", tmp_path / "theirs", "--masks", scenes / "masks")
    first, *others = found["per_image"]
    assert first["tp"] == first["fp"] == 0 and all(row["fp"] == row["fn"] == 0 for row in others)


def theirs(folder, scenes, make):
    """Scores of somebody else, about 0.8 on the truth and 0.1 elsewhere, written by ``make(path, score)``."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for path in sorted((scenes / "masks").iterdir()):
        with rasterio.open(path) as ds:
            truth = ds.read(1) > 0
        make(folder / path.stem, np.where(truth, 0.8, 0.1) + 0.1 * rng.random(truth.shape))
    return "--predictions", folder, "--masks", scenes / "masks"


@pytest.mark.parametrize("option", [("--threshold", "0.85"), ("--pfa", "0.001"), ("--max-area", "5"), "half"])
def test_integers_of_many_values_are_scores_where_these_are_asked_for(report, scenes, tmp_path, write_image, option):
    option = ("--half-maximum",) if option == "half" else option
    stored = theirs(tmp_path / "png", scenes, lambda p, s: save_png(p.with_suffix(".png"), (255 * s).astype(np.uint8)))
    floats = theirs(
        tmp_path / "tif", scenes, lambda p, s: write_image(p.with_suffix(".tif"), (255 * s).astype(np.uint8) / 255)
    )
    found, result = report(*stored, *option)
    wanted, _ = report(*floats, *option)
    assert found["sets"] == wanted["sets"] and found["threshold"] == wanted["threshold"]
    assert f"{stored[1]}: integers are read as scores, divided by 255" in " ".join(result.stderr.split())
    mask, result = report(*stored)
    assert mask["threshold"] is None and not mask["notes"] and mask["sets"]["all"]["iou_pooled"] == 1


def test_integers_of_a_small_scale(fails, report, scenes, tmp_path):
    percent = theirs(tmp_path / "p", scenes, lambda p, s: save_png(p.with_suffix(".png"), (100 * s).astype(np.uint8)))
    for option in ((), ("--max-area", "9")):
        assert "none above half of 255" in fails(3, *EVALUATE, *percent, *option)
    assert report(*percent, "--threshold", "0.3")[0]["sets"]["all"]["iou_pooled"] == 1
    for option in (("--pfa", "0.001"), ("--roc", tmp_path / "roc.png")):
        found, _ = report(*percent, *option)
        assert found["sets"]["all"]["roc"]["overlap"]["auc"] == pytest.approx(1)
        assert found["notes"][-1].endswith("no score is above the threshold 0.5: the largest is 0.349")


def test_integers_that_number_targets_are_no_scores(fails, report, scenes, tmp_path):
    numbered = theirs(
        tmp_path / "n", scenes, lambda p, s: save_png(p.with_suffix(".png"), ndimage.label(s > 0.7)[0].astype(np.uint8))
    )
    for option in (("--pfa", "0.001"), ("--roc", tmp_path / "roc.png")):
        assert "numbers its targets from 1 to" in fails(3, *EVALUATE, *numbered, *option)
    assert report(*numbered, "--threshold", "0.001")[0]["sets"]["all"]["iou_pooled"] == 1  # scores of few levels


def test_maps_of_another_size_and_scale_by_the_published_rule(report, fails, scenes, tmp_path):
    """As published scripts write T, in MAT files smaller than the masks, and compare it: both resized, half-maximum."""
    words = theirs(tmp_path / "T", scenes, lambda p, s: savemat(f"{p}.mat", {"T": 37 * s[::2, ::2].astype(np.float32)}))
    assert "they must lie between 0 and 1" in fails(3, *EVALUATE, *words, "--resize", "48")
    assert re.search(r"is \(72, 72\) but .* is \(36, 36\)", fails(3, *EVALUATE, *words, "--half-maximum"))
    found, _ = report(*words, "--half-maximum", "--resize", "48")
    assert (found["size"], found["threshold"]) == ("resized to 48x48", None)
    for row, path in zip(found["per_image"], sorted((scenes / "masks").iterdir()), strict=True):
        score = _resized(loadmat(tmp_path / "T" / f"{path.stem}.mat")["T"], 48)
        with rasterio.open(path) as ds:
            truth = _resized(ds.read(1) > 0, 48)
        assert row["tp"] == (truth & (score > score.max() / 2)).sum() and row["fn"] == truth.sum() - row["tp"]
    with_images, _ = report(*words, "--half-maximum", "--resize", "48", "--images", scenes / "images")
    assert with_images["per_image"] == found["per_image"]


def test_pixels_without_a_prediction_are_told_and_count_as_not_detected(report, fails, scenes, tmp_path, write_image):
    def half(path, score):
        score[:36] = np.nan
        write_image(path.with_suffix(".tif"), score)

    words = theirs(tmp_path / "half", scenes, half)
    found, _ = report(*words)
    rows, figures = found["per_image"], found["sets"]["all"]
    assert {row["unpredicted_pixels"] for row in rows} == {36 * 72} and figures["nodata_pixels"] == 0
    missed = sum(row["unpredicted_target_pixels"] for row in rows)
    assert missed == figures["fn"] > 0
    assert found["notes"] == [
        f"{words[1]}: {36 * 72 * len(rows)} pixels, {missed} of them of targets, in {len(rows)} of {len(rows)} images "
        "have no prediction (nodata, NaN) and count as not detected"
    ]
    write_image(tmp_path / "half" / f"{min((scenes / 'masks').iterdir()).stem}.tif", np.full((72, 72), np.nan))
    assert "has no prediction where the truth is known: all pixels are nodata or NaN" in fails(3, *EVALUATE, *words)


def test_results_beside_the_images_are_the_predictions(call, fails, report, scenes, network, tmp_path):
    same = tmp_path / "same"
    shutil.copytree(scenes / "images", same)
    truth = ("--images", scenes / "images", "--masks", scenes / "masks")
    message = fails(3, *EVALUATE, "--predictions", scenes / "images", *truth)
    assert "is the image itself, and" in message and "contains no prediction for it" in message
    call("detect-ir", same, "-o", same, *network)
    found, _ = report("--predictions", same, *truth)
    model, _ = report(*truth, *network)
    assert found["sets"] == model["sets"]


def test_images_whose_names_end_like_results(report, scenes, tmp_path):
    for folder in ("images", "masks", "theirs"):
        (tmp_path / folder).mkdir()
    for path, name in zip(sorted((scenes / "masks").iterdir()), ("a", "a_mask", "a_score"), strict=False):
        shutil.copy(scenes / "images" / path.name, tmp_path / "images" / f"{name}.png")
        for folder in ("masks", "theirs"):
            shutil.copy(path, tmp_path / folder / f"{name}.png")
    found, _ = report("--predictions", tmp_path / "theirs", *folders(tmp_path))
    assert found["sets"]["all"]["iou_pooled"] == 1


def test_a_report_says_what_was_evaluated(report, scenes, network, tmp_path):
    found, result = report(*folders(scenes), *network, "--pfa", "0.01")
    assert found["pfa"]["wanted"] == 0.01
    (where,) = found["data"].values()
    assert where == {"images": str(scenes / "images"), "masks": str(scenes / "masks")}
    told = float(re.search(r"from threshold (\S+);", result.stdout)[1])
    assert np.float32(told) == np.float32(found["pfa"]["threshold"])  # near 1, too, where 6 digits would be 1
    assert "l-rpcanet (tiny)" in result.stdout and found["model"] == "l-rpcanet"


@pytest.mark.parametrize(
    ("words", "threshold", "rule"),
    [
        (("--model", "top-hat", "--threshold", 0.25), 0.25, "score > threshold"),
        (("--model", "top-hat", "--half-maximum"), None, "score > half of each image's maximum"),
        (("--model", "top-hat,mpcm", "--threshold", 0.25), 0.25, "score > threshold"),
    ],
)
def test_every_report_has_the_same_keys(call, scenes, tmp_path, words, threshold, rule):
    """Of one model and of several; a threshold is a number or null in all of them."""
    call(*EVALUATE, *folders(scenes), *words, "--json", tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    assert list(found) == ["rsunfold", "protocol", "formulas", "models", "summary", "notes"]
    assert found["rsunfold"] == rsunfold.__version__ and found["formulas"].keys() >= {"overlap", "seconds"}
    asked = {"threshold": threshold, "half_maximum": threshold is None, "band": None, "scale": None}
    assert found["protocol"]["asked"].items() >= asked.items()
    assert list(found["models"]) == words[1].split(",") == [line["model"] for line in found["summary"]]
    for model, line in zip(found["models"].values(), found["summary"], strict=True):
        assert model["threshold"] == line["threshold"] == threshold and model["rule"] == line["rule"] == rule
        assert line["overlap.pd"] == model["sets"]["all"]["overlap"]["pd"] and not {"formulas", "rsunfold"} & set(model)


def test_notes_on_the_images_are_told(call, report, network, tmp_path, write_image):
    for folder in ("images", "masks"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    for n in range(5):
        data = np.random.default_rng(n).integers(9000, 9100, (64, 64)).astype(np.int16)
        data[:9] = -9999
        truth = np.zeros((64, 64), np.uint8)
        truth[30:33, 30:33] = 255
        data[30:33, 30:33] += 300
        write_image(tmp_path / "mine" / "images" / f"{n}.tif", data)
        write_image(tmp_path / "mine" / "masks" / f"{n}.tif", truth)
    found, result = report("--data", tmp_path / "mine", *network)
    told = "0.tif: many pixels hold -9999, far from all others, and were taken to have no data"
    assert told in result.stderr and "there are notes on 2 more files" in result.stderr
    assert len(found["notes"]) == 4
    words = ("weights", "calibrate", network[1], "--data", tmp_path / "mine", "-o", tmp_path / "mine.safetensors")
    assert told in call(*words).stderr


def test_the_first_image_counts_for_no_time_where_there_are_others():
    evaluation = Evaluation({}, {"all": None}, scoring=[9.0, 1.0, 2.0])
    assert evaluation.ms_per_image == 1500
    evaluation.scoring = [9.0]
    assert evaluation.ms_per_image == 9000


def test_scores_and_masks_are_not_mixed(fails, scenes, results, tmp_path):
    mixed = some(results, tmp_path / "mixed", "*_score.tif", "_score")
    last = max(mixed.iterdir())
    shutil.copy(results / f"{last.stem}_mask.tif", last)
    message = fails(3, *EVALUATE, "--predictions", mixed, "--masks", scenes / "masks")
    assert f"{last} contains a mask where the other predictions are scores" in message
    first = min(mixed.iterdir())
    shutil.copy(results / f"{last.stem}_score.tif", last)
    shutil.copy(results / f"{first.stem}_mask.tif", first)
    message = fails(3, *EVALUATE, "--predictions", mixed, "--masks", scenes / "masks")
    assert "contains scores where the other predictions are masks" in message


def test_scores_of_several_bands(fails, scenes, results, tmp_path, write_image):
    scores = some(results, tmp_path / "scores", "*_score.tif")
    for path in scores.iterdir():
        write_image(path, np.zeros((2, 72, 72), np.float32))
    message = fails(3, *EVALUATE, "--predictions", scores, "--masks", scenes / "masks")
    assert "has 2 bands, but a score has one" in message


def test_pictures_beside_scores_are_no_predictions(call, scenes, results, tmp_path, write_image):
    scores = some(results, tmp_path / "scores", "*_score.tif")
    for kind in (".png", ".tif"):
        write_image(scores / f"scene_stages{kind}", np.zeros((9, 9), np.uint8))
    call(*EVALUATE, "--predictions", scores, "--masks", scenes / "masks")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "--masks is missing; use --images and --masks, or --data with a folder in which the images without"),
        (("--masks", "M"), 2, "--images is missing; use it, or --predictions"),
        (("--masks", "M", "--data", "D"), 2, "--data replaces --images and --masks"),
        (("--masks", "M", "--images", "M"), 2, "--images and --masks are the same folder"),
        (("--data", "absent"), 3, "the data folder absent does not exist"),
        (("--images", "absent", "--masks", "M"), 3, "the folder absent does not exist"),
        (("--data", "D", "--model", "top-hat", "--threshold", "7"), 2, "--threshold must lie between 0 and 1"),
        (("--data", "D", "--model", "top-hut"), 2, "did you mean 'top-hat'?"),
        (("--data", "D", "--model", "top-hat,"), 2, "unknown model ''"),
        (("--data", "D", "--model", "top-hat,mpcm,top-hat"), 2, "--model names top-hat twice"),
        (("--data", "D", "--model", "all,top-hat"), 2, "--model all stands alone"),
        (("--data", "D", "--model", "all:disk=3"), 2, "--model all stands alone"),
        (("--predictions", "P", "--masks", "M", "--threads", "3"), 2, "--threads applies to models; add --model or"),
        (("--predictions", "P", "--masks", "M", "--model", "mpcm"), 2, "--images is missing; use it, or --predictions"),
        (("--predictions", "P", "--masks", "M", "--ablate", "stages"), 2, "--ablate applies to models and cannot be"),
        (
            ("--data", "D", "--model", "top-hat,mpcm", "--weights", "l-rpcanet"),
            2,
            "the weights l-rpcanet belong to l-rpcanet; add it to --model, or leave --model out",
        ),
        (("--data", "D", "--model", "top-hat", "--weights", "w"), 2, "unknown weights 'w'"),
        (("--data", "D", "--model", "top-hat", "--pfa", "-1"), 2, "--pfa must lie between 0 and 1"),
        (("--data", "D", "--model", "top-hat", "--pfa", "nan"), 2, "--pfa must lie between 0 and 1"),
    ],
)
def test_wrong_options(words, code, message, call, scenes):
    places = {"M": str(scenes / "masks"), "D": str(scenes)}
    result = call(*EVALUATE, *(places.get(w, w) for w in words), code=code)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_reports_are_not_overwritten_unasked(fails, scenes, tmp_path):
    for option in ("--json", "--roc", "--worst"):
        path = tmp_path / "precious.png"
        path.write_text("precious")
        message = fails(4, *EVALUATE, *folders(scenes), *TOP_HAT, option, path)
        assert "already exists" in message and path.read_text() == "precious"


def test_an_image_and_its_mask_of_different_size(fails, report, scenes, tmp_path, write_image):
    shutil.copytree(scenes, tmp_path / "data")
    first = min((tmp_path / "data" / "masks").iterdir())
    write_image(first, np.zeros((70, 72), np.uint8))
    message = fails(3, *EVALUATE, "--data", tmp_path / "data", *TOP_HAT)
    assert str(first) in message and "(70, 72)" in message and "(72, 72)" in message
    found, _ = report("--data", tmp_path / "data", *TOP_HAT, "--resize", "36")
    note = f"{first.parents[1] / 'images' / first.name}: is (72, 72) but its mask (70, 72) (rows, columns); each is"
    assert len(found["notes"]) == 1 and found["notes"][0].startswith(note)
    files = ("--data", tmp_path / "data", "--predictions", scenes / "masks")
    words = ("--images", scenes / "images", "--masks", tmp_path / "data" / "masks", "--predictions", tmp_path / "p")
    shutil.copytree(tmp_path / "data" / "masks", tmp_path / "p")
    assert f"{tmp_path / 'p' / first.name} is (70, 72) but {scenes}" in fails(3, *EVALUATE, *words)
    assert report(*files, "--resize", "36")[0]["notes"] == found["notes"]


@pytest.mark.parametrize("study", [(), ("--corrupt", "gaussian:0.1")])
def test_a_mask_of_another_size_is_found_first(study, fails, scenes, tmp_path, write_image, monkeypatch):
    """Whichever it is, it is found before any image is scored."""
    monkeypatch.setattr(evaluate, "score_of", None)
    shutil.copytree(scenes, tmp_path / "data")
    last = max((tmp_path / "data" / "masks").iterdir())
    write_image(last, np.zeros((70, 72), np.uint8))
    message = fails(3, *EVALUATE, "--data", tmp_path / "data", *TOP_HAT, *study)
    assert str(last) in message and "(70, 72)" in message and "(72, 72)" in message


@pytest.mark.parametrize(
    "words", [("--model", "top-hat,mpcm"), ("--predictions",), (*TOP_HAT, "--corrupt", "gaussian:0.1")]
)
def test_images_that_cannot_be_read_are_left_out_for_all_models(words, call, fails, scenes, tmp_path, monkeypatch):
    shutil.copytree(scenes, tmp_path / "data")
    for path in sorted((tmp_path / "data" / "images").iterdir())[2:4]:
        path.write_bytes(path.read_bytes()[:-1000])
    words += (scenes / "masks",) * (words[-1] == "--predictions")
    result = call(*EVALUATE, "--data", tmp_path / "data", *words, "--json", tmp_path / "r.json", code=7)
    assert "2 of 6 images cannot be read; the figures are those of the others." in result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    names = [f"data/{path.stem}" for path in sorted((scenes / "images").iterdir())]
    assert [one["image"] for one in found["failed"]] == names[2:4]
    assert [note.partition(" is left out: ")[0] for note in found["notes"][:2]] == names[2:4]
    for run in found.get("runs") or found["models"].values():
        assert [row["image"] for row in run["per_image"]] == names[:2] + names[4:]
    for path in (tmp_path / "data" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    assert f"{names[0].replace('data', 'images')}.png is truncated" in fails(
        3, *EVALUATE, "--data", tmp_path / "data", *words
    )


def stopped_at(monkeypatch, name, ending):
    """The model ``name`` ends with ``ending`` instead of a score."""
    score = evaluate.score_of

    def stop(detector, gray):
        if detector.name == name:
            raise ending
        return score(detector, gray)

    monkeypatch.setattr(evaluate, "score_of", stop)


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished, if anything, is in the table and the report."),
        (SystemExit(143), 143, "terminated; what was finished, if anything, is in the table and the report."),
        (DeviceError("too little memory."), 6, "error: too little memory."),
    ],
)
def test_finished_models_are_kept(ending, code, words, call, scenes, tmp_path, monkeypatch):
    report, roc = tmp_path / "report.json", tmp_path / "roc.png"
    stopped_at(monkeypatch, "mpcm", ending)
    models = ("--model", "top-hat,mpcm,max-median", "--json", report, "--roc", roc)
    result = call(*EVALUATE, *folders(scenes), *models, code=code)
    done = json.loads(report.read_text())
    assert done["missing"] == ["mpcm", "max-median"] and list(done["models"]) == ["top-hat"]
    figure = f"{done['models']['top-hat']['sets']['all']['iou_pooled']:.4g}"
    first, *_, missing, last = result.stderr.splitlines()
    assert first.startswith(f"top-hat: IoU {figure}, nIoU") and f" {figure} " in result.stdout
    assert missing == "not finished: mpcm, max-median" and last.startswith(words) and not roc.exists()


def test_nothing_is_written_where_no_model_is_finished(call, scenes, tmp_path, monkeypatch):
    stopped_at(monkeypatch, "top-hat", KeyboardInterrupt())
    words = ("--model", "top-hat,mpcm", "--json", tmp_path / "report.json")
    result = call(*EVALUATE, *folders(scenes), *words, code=130)
    assert result.stdout == "" and not (tmp_path / "report.json").exists()


def test_what_image_or_mask_does_not_know_counts_for_nothing(report, call, tmp_path, write_image):
    rng, data = np.random.default_rng(0), tmp_path / "d"
    image = rng.normal(100, 3, (1, 48, 48)).astype(np.float32)
    image[:, 10:13, 10:13] += 150  # a target
    image[:, 30:33, 20:23] += 150  # nobody knows what
    image[:, :, 40:] = np.nan
    mask = np.zeros((1, 48, 48), np.uint8)
    mask[:, 10:13, 10:13], mask[:, 28:35, 18:25] = 1, 255
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    write_image(data / "images" / "a.tif", image)
    write_image(data / "masks" / "a.tif", mask, nodata=255)
    found, _ = report(*folders(data), *TOP_HAT)
    figures = found["sets"]["all"]
    assert (figures["nodata_pixels"], figures["targets"]) == (8 * 48 + 49, 1)
    assert figures["centroid"]["false_components_per_megapixel"] == 0 == found["per_image"][0]["fp"]
    call("detect-ir", data / "images", "-o", tmp_path / "out", *TOP_HAT)
    theirs, _ = report(*folders(data), "--predictions", tmp_path / "out")
    for key in ("nodata_pixels", "pixels", "iou_pooled", "overlap", "centroid"):
        assert theirs["sets"]["all"][key] == figures[key]
