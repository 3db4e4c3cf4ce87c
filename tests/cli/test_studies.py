"""rsunfold evaluate detect-ir with noise, by stages, and of all models."""

import json

import numpy as np
import pytest
import rasterio

from rsunfold import weights
from rsunfold.infer.infrared import evaluate
from rsunfold.registry import all_models, get_model
from rsunfold.simulate.corruption import Corruption

from .conftest import of_one_model

EVALUATE = ("evaluate", "detect-ir")
TOP_HAT = ("--model", "top-hat", "--threshold", "0.1")


@pytest.fixture
def report(call, tmp_path):
    """The JSON report of an evaluation of the scenes."""

    def run(*words):
        path = tmp_path / "report.json"
        result = call(*EVALUATE, *words, "--json", path, "--overwrite")
        return of_one_model(json.loads(path.read_text())), result

    return run


def counts(run):
    return [(row["image"], row["tp"], row["fp"], row["fn"]) for row in run["per_image"]]


def test_noise_is_added_to_the_image_that_is_scored(report, scenes, network, tiny):
    words = ("--corrupt", "gaussian:0.05", "--corrupt", "salt-pepper:0.02,0.01", "--corrupt", "gaussian:0,0.02")
    found, result = report("--data", scenes, *network, *words, "--seed", "3")
    assert found["study"] == "robustness to noise" and found["seed"] == 3
    assert {"rsunfold", "protocol", "formulas", "notes"} < found.keys() and "formulas" not in found["runs"][0]
    assert found["levels"] == {"gaussian": [0, 0.02, 0.05], "salt-pepper": [0, 0.01, 0.02]}
    assert found["corruptions"].keys() == found["levels"].keys()
    runs = {(run["corruption"], run["level"]): run for run in found["runs"]}
    assert list(runs) == [(None, 0), ("gaussian", 0.02), ("gaussian", 0.05), ("salt-pepper", 0.01),
                          ("salt-pepper", 0.02)]  # fmt: skip
    clean, _ = report("--data", scenes, *network)
    assert counts(runs[None, 0]) == counts(clean) and "roc" not in runs[None, 0]["sets"]["all"]

    name, tp, fp, fn = counts(runs["gaussian", 0.05])[0]
    stem = name.split("/")[1]
    with (
        rasterio.open(scenes / "images" / f"{stem}.png") as image,
        rasterio.open(scenes / "masks" / f"{stem}.png") as m,
    ):
        gray, truth = image.read(1).astype(np.float32) / 255, m.read(1) > 0
    noisy = Corruption("gaussian", 0.05, 3).apply(gray, np.ones_like(truth), stem)
    predicted = tiny.score(noisy) > np.float32(tiny.threshold)
    assert (tp, fp, fn) == ((predicted & truth).sum(), (predicted & ~truth).sum(), (~predicted & truth).sum())

    lines = [line for line in result.stdout.splitlines() if "l-rpcanet" in line]
    assert len(lines) == 6 and sum("salt-pepper" in line for line in lines) == 3
    alone, _ = report("--data", scenes, *network, "--corrupt", "gaussian:0.05", "--seed", "3")
    assert counts(alone["runs"][1]) == counts(runs["gaussian", 0.05])
    other, _ = report("--data", scenes, *network, "--corrupt", "gaussian:0.05")
    assert other["seed"] == 0 and counts(other["runs"][1]) != counts(alone["runs"][1])


def test_noise_does_not_depend_on_the_other_images(report, scenes, tmp_path):
    stem = sorted(p.stem for p in (scenes / "images").iterdir())[3]
    (tmp_path / "list.txt").write_text(stem)
    words = ("--data", scenes, *TOP_HAT, "--corrupt", "salt-pepper:0.05")
    every, _ = report(*words)
    one, _ = report(*words, "--only", tmp_path / "list.txt")
    assert counts(one["runs"][1]) == [c for c in counts(every["runs"][1]) if c[0].endswith(stem)]


def test_noise_with_the_conventions_of_papers(report, scenes):
    words = ("--data", scenes, "--model", "top-hat", "--corrupt", "gaussian:0.3", "--resize", "36", "--half-maximum")
    found, _ = report(*words)
    assert {run["size"] for run in found["runs"]} == {"resized to 36x36"}
    assert {run["rule"] for run in found["runs"]} == {"score > half of each image's maximum"}
    assert counts(found["runs"][0]) != counts(found["runs"][1])


def test_every_stage_is_evaluated_at_the_same_threshold(report, scenes, network, tiny):
    found, result = report("--data", scenes, *network, "--ablate", "stages")
    assert [run["model"] for run in found["runs"]] == ["l-rpcanet stage 1", "l-rpcanet stage 2"]
    assert [run["stage"] for run in found["runs"]] == [1, 2] and "loss.stages" in found["note"]
    assert {run["threshold"] for run in found["runs"]} == {tiny.threshold}
    whole, _ = report("--data", scenes, *network)
    assert counts(found["runs"][1]) == counts(whole) != counts(found["runs"][0])
    assert found["runs"][1]["parameters"] == whole["parameters"] == tiny.net.parameters_count
    assert found["runs"][0]["parameters"] == tiny.net.parameters_count / 2
    assert found["runs"][0]["gflop"] == pytest.approx(whole["gflop"] / 2)
    assert all(run["ms_per_image"] > 0 for run in found["runs"])
    assert "l-rpcanet (tiny) stage 1" in result.stdout and f"{tiny.net.parameters_count}" in result.stdout


def test_finished_models_are_kept(call, scenes, tmp_path, monkeypatch):
    score = evaluate.score_of

    def stop(detector, gray):
        if detector.name == "mpcm" and gray.min() == 0:  # clipped: with noise
            raise KeyboardInterrupt
        return score(detector, gray)

    monkeypatch.setattr(evaluate, "score_of", stop)
    paths = ("--json", tmp_path / "report.json", "--picture", tmp_path / "noise.png")
    words = ("--model", "top-hat,mpcm", "--corrupt", "gaussian:0.5", *paths)
    result = call(*EVALUATE, "--data", scenes, *words, code=130)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["missing"] == ["mpcm"] and not (tmp_path / "noise.png").exists()
    assert [(run["model"], run["level"]) for run in found["runs"]] == [("top-hat", 0), ("top-hat", 0.5), ("mpcm", 0)]
    assert "not finished: mpcm" in result.stderr and result.stdout.count("mpcm") == 1


def test_all_models_with_stages_are_those_that_are_networks(report, scenes, shipped):
    found, result = report("--data", scenes, "--model", "all", "--device", "cpu", "--ablate", "stages")
    weighted = [m for m in all_models("detect-ir", "network") if m.weights]
    stages = {m.name: range(1, 1 + len(weights.load(m.weights)[0].stages)) for m in weighted}
    assert [run["model"] for run in found["runs"]] == [f"{name} stage {k}" for name, ks in stages.items() for k in ks]
    assert len(stages["l-rpcanet"]) == 2
    assert "classical methods have no stages: " in result.stderr and "top-hat" in result.stderr


def test_pictures(call, scenes, network, tmp_path):
    for name, words in {"a": ("--corrupt", "gaussian:0.1"), "b": ("--ablate", "stages")}.items():
        call(*EVALUATE, "--data", scenes, *network, *words, "--picture", tmp_path / f"{name}.png", "-q")
    with rasterio.open(tmp_path / "a.png") as with_images, rasterio.open(tmp_path / "b.png") as without:
        assert (with_images.width, with_images.height) == (1400, 670)
        assert (without.width, without.height) == (1400, 380)


def test_all_models_that_can_run(report, scenes, shipped):
    found, result = report("--data", scenes, "--model", "all", "--resize", "36")
    known = all_models("detect-ir")
    absent = [m.name for m in known if m.kind == "network" and m.weights is None]
    names = [m.name for m in known if m.name not in absent]
    assert found["formulas"].keys() >= {"iou_pooled", "niou", "f1_pooled", "roc", "gflop", "ms_per_image"}
    assert list(found["models"]) == names and len(names) > 3
    assert f"skipped, because no weights for all images are shipped: {', '.join(absent)}" in result.stderr
    for model in found["models"].values():
        spec = get_model(model["model"])
        network = spec.kind == "network"
        assert model["parameters"] == (spec.build(**spec.sizes["tiny"]).parameters_count if network else None)
        assert (model["gflop"] is not None) == network and model["ms_per_image"] > 0
    table = result.stdout[result.stdout.rindex("┏") :]
    assert "GFLOP at 256x256" in table and all(name in table for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--corrupt", "gausian:0.1"), "unknown corruption 'gausian'; did you mean 'gaussian'?"),
        (("--corrupt", "gaussian"), "--corrupt takes a kind and levels such as gaussian:0.02,0.05, not 'gaussian'"),
        (("--corrupt", "gaussian:"), "--corrupt takes numbers"),
        (("--corrupt", "gaussian:a"), "--corrupt takes numbers"),
        (("--corrupt", "gaussian:0"), "--corrupt gaussian takes levels above 0"),
        (("--corrupt", "gaussian:-0.1"), "must lie between 0 and 1, not -0.1"),
        (("--corrupt", "salt-pepper:0.1,1.5"), "must lie between 0 and 1, not 1.5"),
        (("--corrupt", "gaussian:0.1", "--seed", "-1"), "seed of a noise must be at least 0"),
        (("--seed", "1"), "--seed sets the noise of --corrupt; add --corrupt"),
        (("--corrupt", "gaussian:0.1", "--roc", "r.png"), "--roc and --worst cannot be combined with --corrupt"),
        (("--corrupt", "gaussian:0.1", "--pfa", "0.1"), "--roc and --worst cannot be combined with --corrupt"),
        (("--corrupt", "gaussian:0.1", "--ablate", "stages"), "--ablate cannot be combined with --corrupt"),
        (("--ablate", "layers"), "--ablate accepts only stages, not 'layers'"),
        (("--ablate", "stages"), "top-hat is a classical method and has no stages to show"),
        (("--ablate", "stages", "--threshold", "0.4"), "--ablate cannot be combined with --corrupt, --threshold"),
        (("--picture", "p.png"), "--picture requires --corrupt or --ablate"),
        (
            ("--predictions", "P", "--corrupt", "gaussian:0.1"),
            "applies to models and cannot be combined with --predictions",
        ),
        (("--predictions", "P", "--ablate", "stages"), "applies to models and cannot be combined with --predictions"),
    ],
)
def test_wrong_options(words, message, fails, scenes):
    assert message in fails(2, *EVALUATE, "--data", scenes, "--model", "top-hat", *words)
