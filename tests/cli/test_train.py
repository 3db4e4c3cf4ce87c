"""rsunfold train, from generated scenes to a weight that detects."""

import csv
import json

import pytest

from rsunfold.weights import read_record, sha256_of

RECIPE = """
name = "smoke"
model = "l-rpcanet"
seed = 3
validate_every = 10
arch = { K = 2, c = 4, C = 8, R = 1 }
[data]
validation = 0.4
[augment]
crop = 32
[optim]
steps = 20
batch = 2
lr = 0.01
warmup = 2
ema = 0.9
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "smoke.toml"
    path.write_text(RECIPE)
    return path


def test_train_resume_and_detect(call, fails, recipe, scenes, tmp_path):
    run = tmp_path / "run"
    recipe.write_text(recipe.read_text().replace("steps = 20", "steps = 30"))
    words = ("train", recipe, "--data", scenes, "--out", run, "--device", "cpu", "--threads", 1)
    words += ("--set", "optim.steps=20")
    first = call(*words, "--max-minutes", 0)
    there = f"checkpoint and log are in {run}, weights and card will be written at step 10"
    assert first.stdout == f"step 0 of 20, not complete: continue with --resume; {there}\n"
    assert {p.name for p in run.iterdir()} == {"checkpoint.pt", "log.csv", "validation.txt"}
    assert "already contains a training run; continue it with --resume" in fails_after_recipe(call, 4, *words)
    done = call(*words, "--resume")
    assert done.stdout == f"step 20 of 20, complete; weights, card and log are in {run}\n"
    written = {"checkpoint.pt", "log.csv", "log.png", "validation.txt", "smoke.md", "smoke.safetensors"}
    assert {p.name for p in run.iterdir()} == written
    with (run / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20"]
    weights = run / "smoke.safetensors"
    out = tmp_path / "out"
    call("detect-ir", scenes / "images", "-o", out, "--weights", weights, "--device", "cpu", "--no-quicklook", "-q")
    summaries = [json.loads(p.read_text()) for p in out.glob("*_summary.json")]
    assert len(summaries) == 6 and {s["weights"] for s in summaries} == {"smoke"}
    assert "rsunfold train smoke, seed 3, step " in call("weights", "info", weights).stdout
    words = ("--data", scenes, "--only", run / "validation.txt", "--weights", weights, "--json", tmp_path / "r.json")
    call("evaluate", "detect-ir", *words, "--device", "cpu")
    (held,) = json.loads((tmp_path / "r.json").read_text())["models"].values()
    assert len(held["per_image"]) == 2
    line = f"| scenes | 2 | {held['sets']['all']['targets']} | {held['sets']['all']['iou_pooled']:.4f} |"
    assert line in (run / "smoke.md").read_text()


def test_train_from_weights(call, recipe, scenes, tmp_path):
    words = ("--data", scenes, "--device", "cpu", "--threads", 1)
    call("train", recipe, "--out", tmp_path / "a", *words)
    start = tmp_path / "a" / "smoke.safetensors"
    call("train", recipe, "--out", tmp_path / "b", "--from", start, "--max-minutes", 0, *words)
    call("train", recipe, "--out", tmp_path / "b", "--resume", *words)
    origin = read_record(str(tmp_path / "b" / "smoke.safetensors")).origin
    assert origin.startswith(f"rsunfold train smoke --from smoke ({sha256_of(start)[:12]}), seed 3, step ")
    recipe.write_text(RECIPE.replace("K = 2", "K = 1"))
    said = fails_after_recipe(call, 5, "train", recipe, "--out", tmp_path / "c", "--from", start, *words)
    assert "have the architecture" in said and "the recipe asks for" in said
    said = fails_after_recipe(call, 2, "train", recipe, "--out", tmp_path / "c", "--from", "absent", *words)
    assert "unknown weights 'absent'" in said and not (tmp_path / "c").exists()


def fails_after_recipe(call, code, *words):
    """The sentence that follows the line which names the recipe."""
    first, *rest = call(*words, code=code).stderr.splitlines()
    assert first.startswith("recipe: ") and len(rest) == 1
    return rest[0]


def test_training_reads_images_as_the_recipe_says(kelvin, recipe, scenes, call, tmp_path):
    words = ("train", recipe, "--device", "cpu", "--threads", 1, "--set", "optim.steps=10")
    folder = kelvin()
    mine = (*words, "--data", folder, "--set", "data.band=2")
    fixed = (*mine, "--set", "data.scale=[280, 320]", "--out", tmp_path / "run")
    call(*fixed, "--max-minutes", 0)
    refused = fails_after_recipe(call, 3, *mine, "--out", tmp_path / "run", "--resume")
    assert "was made with another recipe, with data.scale = [280, 320], not unset; use that one" in refused
    call(*fixed, "--resume")
    call(*words, "--data", scenes, "--out", tmp_path / "eight")
    record, eight = (read_record(tmp_path / run / "smoke.safetensors") for run in ("run", "eight"))
    assert record.scale == (280, 320) and eight.scale is None
    assert record.figures["scenes"]["iou_pooled"] == pytest.approx(eight.figures["scenes"]["iou_pooled"], abs=0.01)
    assert (
        "- input: 1 band, gray in about [0, 1]: 280 to 320 as 0 to 1, band 2\n"
        in (tmp_path / "run" / "smoke.md").read_text()
    )

    start = ("--from", tmp_path / "run" / "smoke.safetensors", "--max-minutes", 0)
    said = call(*mine, "--out", tmp_path / "next", *start).stderr
    assert "note: the weights smoke were made for the scale 280 to 320, not for the default" in said
    refused = fails_after_recipe(call, 3, *words, "--data", folder, "--out", tmp_path / "x")
    assert "has 2 bands, but one is needed: choose one with data.band." in refused
    refused = fails_after_recipe(call, 3, *words, "--data", kelvin(".mat"), "--out", tmp_path / "x")
    assert "choose one with data.var NAME" in refused and not (tmp_path / "x").exists()


def test_what_cannot_be_trained(call, fails, recipe, scenes, tmp_path):
    rest = ("--data", scenes, "--out", tmp_path / "run", "--device", "cpu")
    message = fails(3, "train", "absent", *rest)
    assert "the recipe absent does not exist; shipped recipes are: " in message and "l-rpcanet" in message
    recipe.write_text(RECIPE.replace("steps = 20", "stepps = 20"))
    assert "[optim] has no key 'stepps'" in fails_after_recipe(call, 3, "train", recipe, *rest)
    recipe.write_text(RECIPE)
    wrong = ("--data", tmp_path / "none", *rest[2:])
    assert "none does not exist" in fails_after_recipe(call, 3, "train", recipe, *wrong)
    assert not (tmp_path / "run").exists()
