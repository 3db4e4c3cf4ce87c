"""Training: it learns, stops, goes on as if it had not stopped, and says what it wrote."""

import csv
import dataclasses
import errno
import json
import math
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.io import imsave

from rsunfold import weights
from rsunfold.errors import ClaimedError, DeviceError, InputError, OutputError, UsageError, WeightsError
from rsunfold.io.samples import find_samples, keep_only
from rsunfold.io.work import claimed
from rsunfold.progress import listening
from rsunfold.train.folder import LOG, RunFolder
from rsunfold.train.infrared.loss import soft_iou_loss
from rsunfold.train.infrared.recipe import Augment, Data, InfraredRecipe, Loss, Teacher
from rsunfold.train.infrared.task import InfraredTask
from rsunfold.train.loop import Trainer, training_device
from rsunfold.train.recipe import Optim, Recipe
from rsunfold.unfold.unrolled import Record

CPU = torch.device("cpu")
SIDE = 32


def make_data(root: Path, seed: int = 0) -> Path:
    """Eight noisy images with a bright Gaussian blob and four without, 32 x 32, 8 bit."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    for folder in ("blobs/images", "blobs/masks", "sky"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        noise = rng.normal(0.3, 0.04, (SIDE, SIDE))
        r, c = rng.uniform(6, SIDE - 7, 2)
        blob = 0.6 * np.exp(-((rows - r) ** 2 + (cols - c) ** 2) / 4)
        image = noise + blob if i < 8 else noise
        place = root / ("blobs/images" if i < 8 else "sky") / f"{chr(97 + i)}.png"
        imsave(place, np.uint8(255 * image.clip(0, 1)), check_contrast=False)
        if i < 8:
            imsave(root / "blobs/masks" / place.name, np.uint8(255 * (blob > 0.2)), check_contrast=False)
    return root


def tiny_recipe(steps: int, validate_every: int, **changes) -> InfraredRecipe:
    settings = {"steps": steps, "batch": 4, "lr": 1e-2, "step_size_lr": 40, "warmup": 3, "ema": 0.8}
    settings |= changes.pop("optim", {})
    return InfraredRecipe(
        name="tiny",
        model=changes.pop("model", "l-rpcanet"),
        arch=changes.pop("arch", {"K": 2, "c": 8, "C": 8, "R": 1}),
        seed=changes.pop("seed", 1),
        continued=changes.pop("continued", False),
        validate_every=validate_every,
        data=Data(validation=0.25, **changes.pop("data", {})),
        augment=Augment(crop=24, salt=0.0, **changes.pop("augment", {})),
        optim=Optim(**settings),
        teacher=changes.pop("teacher", Teacher()),
        loss=Loss(pixel=(0.1, 0.1), fidelity=0.1, **changes),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Of the runs that single tests make: to draw them would take longer than to train. ``learned`` has one."""
    monkeypatch.setattr("rsunfold.train.folder.training_picture", lambda *_, **__: None)


def trainer(recipe, data: Path, out: Path, said: list[str] | None = None, start: Path | None = None) -> Trainer:
    name = None if start is None else str(start)
    return Trainer(recipe, data, out, device=CPU, start=name, say=(said if said is not None else []).append)


def stop_after(made: Trainer, step: int) -> Trainer:
    made._agreed = lambda go_on: go_on and made.step < step
    return made


def checkpoint(out: Path) -> dict:
    return torch.load(out / "checkpoint.pt", weights_only=True)


def log(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def assert_same(a, b, path: str = "") -> None:
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def learned(data, tmp_path_factory):
    """A run of 80 steps: (trainer, out, what it said)."""
    torch.set_num_threads(1)
    out, said = tmp_path_factory.mktemp("learned") / "deep" / "out", []
    made = trainer(tiny_recipe(80, 20), data, out, said)
    assert made.run() is True
    return made, out, said


def test_every_step_is_told_those_after_resuming_too(data, tmp_path):
    told = []
    with listening(lambda *step: told.append(step)):
        stop_after(trainer(tiny_recipe(5, 5), data, tmp_path), 2).run()
        assert told == [*(("training", n, 5) for n in range(3)), ("", 0, None)]
        told.clear()
        trainer(tiny_recipe(5, 5), data, tmp_path).run(resume=True)
    assert told == [*(("training", n, 3) for n in range(4)), ("", 0, None)]


@pytest.mark.parametrize("stages", [0.0, 0.3])
def test_resuming_continues_bit_for_bit(data, tmp_path, stages):
    recipe = tiny_recipe(4, 2, stages=stages)
    assert trainer(recipe, data, tmp_path / "whole").run() is True
    assert stop_after(trainer(recipe, data, tmp_path / "parts"), 2).run() is False
    assert checkpoint(tmp_path / "parts")["step"] == 2
    torch.manual_seed(99)  # nothing may hang on the state of the global generator
    assert trainer(recipe, data, tmp_path / "parts").run(resume=True) is True
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    for key in ("net", "ema", "optimiser", "step", "best", "recipe", "data", "begun"):
        assert_same(whole[key], parts[key], key)
    names = ("tiny.safetensors", "validation.txt")
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "parts" / n).read_bytes() for n in names)
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in log(tmp_path / "whole")]
    assert same == [{k: v for k, v in row.items() if k != "seconds"} for row in log(tmp_path / "parts")]


def test_stopping_in_between_validations_continues_too_in_the_log_as_well(data, tmp_path):
    """The loss of a row is the mean of all steps since the last one, before and after the stop."""
    recipe = tiny_recipe(3, 3)
    trainer(recipe, data, tmp_path / "whole").run()
    stop_after(trainer(recipe, data, tmp_path / "parts"), 1).run()
    trainer(recipe, data, tmp_path / "parts").run(resume=True)
    assert_same(checkpoint(tmp_path / "whole")["ema"], checkpoint(tmp_path / "parts")["ema"])
    assert log(tmp_path / "parts")[-1]["train_loss"] == log(tmp_path / "whole")[-1]["train_loss"]


def test_training_learns(learned):
    _, out, _ = learned
    rows = log(out)
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[1] < 0.6 * losses[0] and losses[3] < 0.5 * losses[0]
    assert json.loads(rows[-1]["val_sets"])["blobs"] > 0.5 and float(rows[-1]["val_silent"]) == 1


def test_log_and_messages(learned):
    made, out, said = learned
    rows = log(out)
    assert tuple(rows[0]) == (*LOG, "val_iou", "val_silent", "val_sets")
    assert [row["step"] for row in rows] == ["20", "40", "60", "80"]
    assert made.best == pytest.approx(max(float(row["val_score"]) for row in rows), abs=1e-4)
    for row in rows:
        assert json.loads(row["val_sets"]).keys() == {"blobs"} and 0 <= float(row["val_silent"]) <= 1
        assert float(row["lr"]) == pytest.approx(made.lr_at(int(row["step"])), rel=1e-2)
    assert said[0].startswith("blobs: ") and said[0].endswith(" to validate on")
    assert said[1].startswith("sky: ") and said[1].endswith(", without masks and so taken to be free of targets")
    assert len(said) == 2 + 4 and said[-1].startswith(
        f"step 80: validation {float(rows[-1]['val_score']):.4f}, threshold"
    )


def test_validation_images_are_listed_and_never_trained_on(learned, data):
    made, out, _ = learned
    held = keep_only(find_samples(data), out / "validation.txt")
    assert held == [image.sample for image in made.task.validation]
    assert [s.group for s in held] == ["blobs", "blobs", "sky"] and len(made.task.crops.images) == 9
    pictures = [x.float() for x in made.task.crops.images]
    for image in made.task.validation:
        assert not any(torch.allclose(torch.from_numpy(image.gray), p, atol=1e-3) for p in pictures)


def test_weight_file_holds_the_averaged_network_and_a_true_record(learned):
    made, out, _ = learned
    net, record, _ = weights.load(str(out / "tiny.safetensors"), "l-rpcanet")
    best = max(log(out), key=lambda row: float(row["val_score"]))
    assert record.origin == f"rsunfold train tiny, seed 1, step {best['step']} of 80"
    assert record.arch == made.net.arch and 0 < record.threshold < 1 and record.temperature > 0
    assert record.trained_on.startswith("9 images of blobs, sky; sha256 of the data " + made.task.data_hash[:16])
    assert record.figures["blobs"]["images"] == 2
    assert record.figures["blobs"]["iou_pooled"] == pytest.approx(json.loads(best["val_sets"])["blobs"])
    assert best["step"] == "80"
    assert_same(dict(net.state_dict()), {k: v.contiguous() for k, v in made.ema.state_dict().items()})


def test_card_says_what_the_record_says(learned):
    _, out, _ = learned
    text = (out / "tiny.md").read_text()
    record = weights.read_record(str(out / "tiny.safetensors"))
    figures = record.figures["blobs"]
    assert text.startswith("# tiny\n") and weights.sha256_of(out / "tiny.safetensors") in text
    rule = f"with scores above {record.threshold:.3f} whose mean log-odds exceed those of {record.confidence:.4g};"
    assert rule in text and record.trained_on in text and record.origin in text
    assert f"| blobs | 2 | 2 | {figures['iou_pooled']:.4f} | {figures['niou']:.4f} |" in text
    assert "| sky | 1 | 0 | - | - | - | - |" in text and "began with" not in text
    recipe = json.loads(text.split("```json\n")[1].split("```")[0])
    assert recipe["optim"]["steps"] == 80 and recipe["arch"].items() <= record.arch.items()


@pytest.mark.parametrize(("step", "decay"), [(0, 2 / 11), (1000, 0.8)])
def test_the_average_follows_the_network(data, tmp_path, step, decay):
    """(1 + step) / (10 + step), at most as the recipe says: short runs forget their start."""
    made = trainer(tiny_recipe(2000, 1000), data, tmp_path)
    made.step = step
    start = {k: v.clone() for k, v in made.net.state_dict().items()}
    made._one(made.net)
    for name, value in made.ema.state_dict().items():
        now = made.net.state_dict()[name]
        expected = decay * start[name] + (1 - decay) * now if now.is_floating_point() else now
        torch.testing.assert_close(value, expected)


def test_earlier_stages_are_supervised_where_the_recipe_says(data, tmp_path):
    def loss(stages: float) -> float:
        made = trainer(tiny_recipe(2, 100, stages=stages), data, tmp_path)
        return made._one(made.net)

    fresh, record = trainer(tiny_recipe(2, 100), data, tmp_path), Record()
    image, truth, _ = fresh.task.crops.batch(0, 4)
    fresh.net(image, keep=record, reconstruct=True)
    first = soft_iou_loss(record.stages[0]["T"], truth).item()
    assert loss(0.5) - loss(0.0) == pytest.approx(0.5 * first, rel=1e-4)


def test_hard_pixels_weigh_as_the_recipe_says_from_the_first_to_the_last_step(data, monkeypatch):
    seen = []
    monkeypatch.setattr("rsunfold.train.infrared.task.infrared_loss", lambda *_, pixel, **__: seen.append(pixel))
    recipe = dataclasses.replace(tiny_recipe(100, 100), loss=Loss(pixel=(0.1, 0.5)))
    task = InfraredTask(recipe, data, CPU)
    for step in (0, 50, 100):
        task.loss(lambda image, **_: (image, image), step, 1, 0)
    assert seen == pytest.approx([0.1, 0.3, 0.5])


def test_a_scale_that_misses_the_images_is_told(data):
    """Rather than that they are alike."""
    recipe = tiny_recipe(1, 1)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, scale=(1000.0, 1100.0)))
    with pytest.raises(InputError, match=r"data.scale = \[1000.0, 1100.0\] misses \d+ of the \d+ images .* physical"):
        InfraredTask(recipe, data, CPU)


def test_weights_are_kept_only_when_validation_improves(data, tmp_path):
    made = trainer(tiny_recipe(1, 1), data, tmp_path)
    made.best = 9.0
    made.run()
    assert len(log(tmp_path)) == 1 and not (tmp_path / "tiny.safetensors").exists()
    assert checkpoint(tmp_path)["best"] == 9.0


def test_learning_rates(data, tmp_path):
    made = trainer(tiny_recipe(103, 1000, optim={"step_size_lr": 7.0}), data, tmp_path)
    assert [made.lr_at(s) for s in range(4)] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2])
    assert made.lr_at(53) == pytest.approx(1e-2 * 0.505) and made.lr_at(103) == pytest.approx(1e-4)
    made._one(made.net)
    sizes = {id(p) for stage in made.net.stages for p in (stage.eps, stage.sig)}
    seen = 0
    for group in made.optimiser.param_groups:
        special = {id(p) for p in group["params"]} & sizes
        assert not special or len(special) == len(group["params"])
        assert group["lr"] == pytest.approx(1e-2 / 3 * (7 if special else 1))
        assert (group["weight_decay"] > 0) == (group["params"][0].ndim > 1)
        seen += len(group["params"])
    assert seen == len(list(made.net.parameters()))


# ------------------------------------------------------------------ beginning with given weights


def origin(out: Path) -> str:
    return weights.read_record(str(out / "tiny.safetensors")).origin


def test_training_begins_with_the_given_weights(learned, data, tmp_path):
    _, before, _ = learned
    file = before / "tiny.safetensors"
    made = trainer(tiny_recipe(1, 1), data, tmp_path, start=file)
    net, _, sha = weights.load(str(file))
    assert_same(dict(made.net.state_dict()), dict(net.state_dict()))
    assert_same(dict(made.ema.state_dict()), dict(net.state_dict()))
    assert made.net.training and all(p.requires_grad for p in made.net.parameters())
    made.run()
    assert origin(tmp_path) == f"rsunfold train tiny --from tiny ({sha[:12]}), seed 1, step 1 of 1"
    assert "; the weights that it began with: see their card" in (tmp_path / "tiny.md").read_text()
    assert f"`{origin(tmp_path)}`" in (tmp_path / "tiny.md").read_text()
    first = float(log(tmp_path)[0]["train_loss"])
    assert first < 0.6 * float(log(before)[0]["train_loss"])  # it does not begin anew


def test_a_wider_network_begins_as_the_given_one_and_its_errors_are_looked_for(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    errors = {"augment": {"on_error": 0.5}, "optim": {"fixed_norm": True, "start_share": 0.5}}
    same = trainer(tiny_recipe(1, 1, **errors), data, tmp_path / "same", start=file)
    larger = tiny_recipe(1, 1, arch={"K": 2, "c": 12, "C": 16, "R": 1}, **errors)
    wide = trainer(larger, data, tmp_path / "w", start=file)
    for made in (same, wide):
        made.run()
    for a, b in zip(same.task.crops.errors, wide.task.crops.errors, strict=True):
        assert (a == b).all()
    first = [float(log(tmp_path / out)[0]["train_loss"]) for out in ("same", "w")]
    assert first[0] == pytest.approx(first[1], rel=1e-3)
    net, _, _ = weights.load(str(tmp_path / "w" / "tiny.safetensors"))
    assert net.arch["c"] == 12 and net.arch["C"] == 16
    narrow, _, _ = weights.load(str(file))
    kept = dict(narrow.state_dict())
    for name, value in net.state_dict().items():
        moved = value[tuple(slice(n) for n in kept[name].shape)] - kept[name]
        assert float(moved.abs().max()) < 0.1  # one small step


def test_weights_of_another_architecture_or_model_are_no_beginning(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    for changes, message in (
        (
            {"arch": {"K": 1, "c": 8, "C": 8, "R": 1}},
            r"have the architecture .*'K': 2.*, but the recipe asks for .*'K': 1.* add --set arch\.K=2\.",
        ),
        ({"model": "rpcanet", "arch": {}}, "belong to the model 'l-rpcanet', not to 'rpcanet'"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            trainer(tiny_recipe(1, 1, **changes), data, tmp_path, start=file)
        assert caught.value.exit_code == 5
    with pytest.raises(WeightsError, match="does not exist"):
        trainer(tiny_recipe(1, 1), data, tmp_path, start=tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match="unknown weights 'absent'"):
        trainer(tiny_recipe(1, 1), data, tmp_path, start="absent")


def pupil_recipe(steps: int, every: int, **changes):
    changes = {"teacher": Teacher("l-rpcanet"), "optim": {"fixed_norm": True}, **changes}
    return tiny_recipe(steps, every, model="rpcanet", arch={"K": 2, "C": 8}, **changes)


def test_a_network_begins_as_a_pupil_of_another_model(learned, data, tmp_path):
    file, said = learned[1] / "tiny.safetensors", []
    made = trainer(pupil_recipe(2, 2, augment={"on_error": 0.5}), data, tmp_path / "pupil", said, start=file)
    made.run()
    assert "fitting the operators of rpcanet to those of l-rpcanet" in said
    sha = weights.verify(str(file))
    assert origin(tmp_path / "pupil") == f"rsunfold train tiny --from tiny ({sha[:12]}), seed 1, step 2 of 2"
    trainer(pupil_recipe(2, 2, teacher=Teacher(), optim={}), data, tmp_path / "random").run()
    again = trainer(tiny_recipe(2, 2, augment={"on_error": 0.5}), data, tmp_path / "again", start=file)
    again.run()
    first = {out: float(log(tmp_path / out)[-1]["train_loss"]) for out in ("pupil", "random", "again")}
    assert first["pupil"] < 0.5 * first["random"] and first["pupil"] < 2 * first["again"]
    for a, b in zip(made.task.crops.errors, again.task.crops.errors, strict=True):
        assert (a == b).all()  # of the teacher


def test_the_first_steps_are_of_imitation_alone_and_resuming_goes_on_with_them(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    optim = {"fixed_norm": True, "lr": 1e-4}
    recipe = pupil_recipe(3, 3, teacher=Teacher("l-rpcanet", steps=2), optim=optim)
    whole, losses = trainer(recipe, data, tmp_path / "whole", start=file), []
    loss = whole.task.loss
    whole.task.loss = lambda *batch: losses.append(loss(*batch)) or losses[-1]
    whole.run()
    assert len(losses) == 3 and max(losses[:2]) < losses[2]
    stop_after(trainer(recipe, data, tmp_path / "parts", start=file), 1).run()
    resumed = trainer(recipe, data, tmp_path / "parts")
    resumed.run(resume=True)
    assert_same(dict(resumed.net.state_dict()), dict(whole.net.state_dict()))


def test_a_run_of_before_recipes_said_that_they_are_continued_goes_on(learned, data, tmp_path):
    recipe, file = tiny_recipe(2, 2), learned[1] / "tiny.safetensors"
    stop_after(trainer(recipe, data, tmp_path, start=file), 1).run()
    recipe.continued = True
    made = trainer(recipe, data, tmp_path)
    made.run(resume=True)
    assert made.step == 2


def test_a_list_of_images_that_is_not_used_is_told(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    folder = next(path.parent for path in (tmp_path / "data").rglob("images"))
    (folder / "train.txt").write_text("".join(f"{p.stem}\n" for p in sorted((folder / "images").iterdir())))
    told = []
    made = Trainer(tiny_recipe(1, 1), tmp_path / "data", tmp_path / "out", device=torch.device("cpu"), say=told.append)
    made.run()
    assert f"{folder / 'train.txt'} is not used, as the recipe names no split; --set data.split=train.txt does" in told


def test_recipes_that_go_on_with_weights_refuse_random_ones(data, tmp_path):
    for changes, message in (
        ({"continued": True}, "the recipe tiny goes on with weights that are trained; give them with --from"),
        ({"optim": {"fixed_norm": True}}, "needs weights to begin with .* give them with --from"),
    ):
        with pytest.raises(InputError, match=message):
            trainer(tiny_recipe(1, 1, **changes), data, tmp_path / "out").run()
        assert not (tmp_path / "out").exists()


def test_a_pupil_needs_a_teacher_of_the_model_that_the_recipe_names(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    with pytest.raises(InputError, match="rpcanet begins as a pupil of l-rpcanet; give its weights with --from"):
        trainer(pupil_recipe(1, 1, optim={}), data, tmp_path).run()
    with pytest.raises(WeightsError, match="belong to the model 'l-rpcanet', not to 'lsnet'"):
        trainer(pupil_recipe(1, 1, teacher=Teacher("lsnet")), data, tmp_path, start=file)
    deep = pupil_recipe(1, 1)
    deep.arch["K"] = 3
    with pytest.raises(WeightsError, match=r"cannot begin as a pupil of .*: it has 3 stages, and the teacher 2"):
        trainer(deep, data, tmp_path, start=file)


def test_a_resumed_run_keeps_its_own_beginning(learned, data, tmp_path):
    file, recipe = learned[1] / "tiny.safetensors", tiny_recipe(2, 2)
    begun = f"rsunfold train tiny --from tiny ({weights.sha256_of(file)[:12]}), seed 1, step "
    trainer(recipe, data, tmp_path / "whole", start=file).run()
    stop_after(trainer(recipe, data, tmp_path / "parts", start=file), 1).run()
    assert not (tmp_path / "parts" / "tiny.safetensors").exists()
    trainer(recipe, data, tmp_path / "parts").run(resume=True)
    assert origin(tmp_path / "parts").startswith(begun)
    names = ("tiny.safetensors", "validation.txt")
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "parts" / n).read_bytes() for n in names)


def test_a_resumed_run_does_not_change_what_it_was_begun_with(learned, data, tmp_path):
    recipe, file = tiny_recipe(2, 2), learned[1] / "tiny.safetensors"
    stop_after(trainer(recipe, data, tmp_path / "random"), 1).run()
    with pytest.raises(InputError, match=r"was started without weights, not from tiny \(\w+\); leave out --from"):
        trainer(recipe, data, tmp_path / "random", start=file).run(resume=True)
    stop_after(trainer(recipe, data, tmp_path / "learned", start=file), 1).run()
    trainer(recipe, data, tmp_path / "learned", start=file).run(resume=True)
    assert " --from tiny (" in origin(tmp_path / "learned")


@pytest.mark.parametrize("named", [False, True])
def test_checkpoints_of_earlier_versions_do_not_say_what_they_were_begun_with(learned, data, tmp_path, named):
    file, recipe = learned[1] / "tiny.safetensors", tiny_recipe(2, 2)
    trainer(recipe, data, tmp_path, start=file).run(minutes=0)
    state = checkpoint(tmp_path)
    del state["begun"], state["task"]
    old = json.loads(state["recipe"])
    del old["optim"]["fixed_norm"], old["optim"]["start_share"], old["augment"]["on_error"]
    state["recipe"] = json.dumps(old, sort_keys=True)
    torch.save(state, tmp_path / "checkpoint.pt")
    trainer(recipe, data, tmp_path, start=file if named else None).run(resume=True)
    assert ("--from tiny (" in origin(tmp_path)) is named


# ------------------------------------------------------------------ stopping, and what is refused


def test_no_time_at_all_stops_at_once_and_can_be_resumed(data, tmp_path):
    recipe = tiny_recipe(1, 1)
    assert trainer(recipe, data, tmp_path).run(minutes=0) is False
    assert checkpoint(tmp_path)["step"] == 0 and log(tmp_path) == []
    assert trainer(recipe, data, tmp_path).run(resume=True) is True
    assert checkpoint(tmp_path)["step"] == 1 and len(log(tmp_path)) == 1


def test_the_next_validation(data, tmp_path):
    made = trainer(tiny_recipe(7, 3), data, tmp_path)
    due = []
    for made.step in range(7):
        due.append(made.next_validation)
    assert due == [3, 3, 3, 6, 6, 6, 7]


def test_rows_that_a_killed_run_logged_after_its_checkpoint_are_dropped(data, tmp_path):
    recipe = tiny_recipe(4, 2)
    stop_after(trainer(recipe, data, tmp_path), 3).run()
    with (tmp_path / "log.csv").open("a") as f:
        f.write('4,1,0.1,0.1,0.5,"{""blobs"": 0.1}",1.0\n')
    trainer(recipe, data, tmp_path).run(resume=True)
    assert [row["step"] for row in log(tmp_path)] == ["2", "4"]
    assert float(log(tmp_path)[1]["lr"]) != 0.1


def test_a_log_that_was_changed_does_not_end_a_run_in_an_internal_error(data, tmp_path):
    recipe = tiny_recipe(4, 2)
    stop_after(trainer(recipe, data, tmp_path), 3).run()
    kept = (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").write_bytes(kept.replace(b",", b";"))
    with pytest.raises(InputError, match=r"the log .*log\.csv was changed, perhaps by a spreadsheet; move it away"):
        trainer(recipe, data, tmp_path).run(resume=True)
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbf" + kept + b"\x00\xff,,,\n3,1,1,1,1,1,1,1,1,1\n")
    trainer(recipe, data, tmp_path).run(resume=True)
    assert [row["step"] for row in log(tmp_path)] == ["2", "3", "4"]


@pytest.fixture
def begun(data, tmp_path):
    """A folder that holds a run of the returned recipe."""
    recipe = tiny_recipe(2, 2)
    trainer(recipe, data, tmp_path / "out").run(minutes=0)
    return recipe, tmp_path / "out"


def test_a_folder_in_use_is_refused(begun, data):
    recipe, out = begun
    before = (out / "checkpoint.pt").read_bytes()
    with pytest.raises(OutputError, match="already contains a training run; continue it with --resume"):
        trainer(recipe, data, out).run()
    assert (out / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("waits", [(0,), ()])
def test_a_log_that_a_spreadsheet_has_open_on_windows(tmp_path, monkeypatch, waits):
    folder = RunFolder(tmp_path, tiny_recipe(2, 2), SimpleNamespace(columns=()), "")
    opening = Path.open

    def refuse(self, *mode, **options):
        monkeypatch.setattr(Path, "open", opening)
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("rsunfold.io.atomic.WAITS", waits)
    monkeypatch.setattr(Path, "open", refuse)
    words = r"log\.csv cannot be written \(Permission denied\); check its permissions and whether another program has"
    with nullcontext() if waits else pytest.raises(OutputError, match=words):
        folder.log_row(100, 1.0, 1e-3, 0.5)
    assert folder.log.exists() == bool(waits)


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.md", "log.csv"])
def test_results_without_their_checkpoint_are_not_replaced(data, tmp_path, name):
    (tmp_path / name).write_text("step\n1000\n")
    with pytest.raises(
        OutputError, match=rf"{name} already exists, and training would replace it; choose another --out"
    ):
        trainer(tiny_recipe(1, 1), data, tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "step\n1000\n"


def test_a_run_that_ended_before_its_first_step_is_no_hindrance(data, tmp_path):
    (tmp_path / "log.csv").write_text("step\n")
    (tmp_path / "validation.txt").touch()
    trainer(tiny_recipe(1, 1), data, tmp_path).run()
    assert log(tmp_path)[0]["step"] == "1"


def test_another_recipe_or_other_images_are_refused(begun, data, tmp_path):
    recipe, out = begun
    steps = recipe.optim.steps
    given = {"sets": "blobs", "band": 1, "validation_of": {"sky": 0.5}}
    changes = {
        rf"optim\.steps = {steps}, not 9; use that one": tiny_recipe(9, recipe.validate_every),
        r'seed = 1, not 4, data\.validation_of\.sky = unset, not 0\.5, data\.sets = "", not "blobs" and 1 more;': (
            tiny_recipe(steps, recipe.validate_every, seed=4, data=given)
        ),
    }
    for words, other in changes.items():
        with pytest.raises(InputError, match=rf"checkpoint\.pt was made with another recipe, with .*{words}"):
            trainer(other, data, out).run(resume=True)
    with pytest.raises(InputError, match=r"checkpoint\.pt was made with other images"):
        trainer(recipe, make_data(tmp_path / "other", seed=5), out).run(resume=True)


def test_a_damaged_checkpoint(begun, data):
    recipe, out = begun
    content = (out / "checkpoint.pt").read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"no checkpoint"):
        (out / "checkpoint.pt").write_bytes(wrong)
        with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
            trainer(recipe, data, out).run(resume=True)
    torch.save({"step": 1}, out / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        trainer(recipe, data, out).run(resume=True)


def test_nothing_to_resume_and_no_folder_to_write_to(data, tmp_path):
    with pytest.raises(InputError, match=r"contains no checkpoint\.pt to resume from"):
        trainer(tiny_recipe(1, 1), data, tmp_path / "new").run(resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file is a file, not a folder; choose another"):
        trainer(tiny_recipe(1, 1), data, tmp_path / "file").run()


def test_two_runs_do_not_train_into_one_folder(data, tmp_path):
    with claimed(tmp_path, "checkpoint.pt"):
        for resume in (False, True):
            with pytest.raises(ClaimedError, match="is being written by another run; wait for its end"):
                trainer(tiny_recipe(1, 1), data, tmp_path).run(resume=resume)
    assert trainer(tiny_recipe(1, 1), data, tmp_path).run(minutes=0) is False
    assert not list(tmp_path.glob(".rsunfold*"))


def test_recipes_that_no_network_fits(data, tmp_path):
    for changes, error, message in (
        ({"arch": {"width": 3}}, InputError, r"\[arch\] of the recipe tiny does not fit 'l-rpcanet': .*width"),
        ({"arch": {"K": "two"}}, InputError, r"\[arch\] of the recipe tiny does not fit"),
        ({"arch": {"c": -1}}, InputError, r"\[arch\] of the recipe tiny does not fit"),
        ({"arch": {"K": 0}}, InputError, r"does not fit 'l-rpcanet': K of l-rpcanet must be at least 1, not 0\.$"),
        ({"model": "top-hat", "arch": {}}, InputError, "names 'top-hat', a classical method"),
        ({"model": "rpcanett", "arch": {}}, UsageError, "did you mean 'rpcanet'"),
    ):
        with pytest.raises(error, match=message):
            trainer(tiny_recipe(1, 1, **changes), data, tmp_path)


def test_a_recipe_of_another_task(data, tmp_path):
    with pytest.raises(UsageError, match="for l-rpcanet is of the class InfraredRecipe, not Recipe"):
        trainer(Recipe("tiny", "l-rpcanet"), data, tmp_path)


def test_too_few_images(data, tmp_path):
    recipe = tiny_recipe(1, 1, data={"validation_of": {"blobs": 0, "sky": 0}})
    asks = r"none of the 12 images of .* can be held out for validation: .* or their share \(data\.validation, "
    with pytest.raises(InputError, match=asks):
        trainer(recipe, data, tmp_path)


def no_loss(made: Trainer) -> None:
    made.task.loss = lambda *args: torch.tensor(math.nan)


def no_gradient(made: Trainer) -> None:
    next(made.net.parameters()).register_hook(lambda gradient: gradient * math.inf)


def no_decomposition(made: Trainer) -> None:
    made.task.loss = lambda *args: torch.linalg.eigvalsh(torch.full((3, 3), math.nan)).sum()


def no_weights(made: Trainer) -> None:
    step = made.optimiser.step

    def spoil() -> None:
        step()
        next(made.net.parameters()).data.fill_(math.inf)

    made.optimiser.step = spoil


def no_output(made: Trainer) -> None:
    step = made.optimiser.step

    def spoil() -> None:
        step()
        for p in made.net.parameters():
            p.data.fill_(1e30)

    made.optimiser.step = spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_loss, "the loss is nan"),
        (no_gradient, "the norm of the gradient is (nan|inf)"),
        (no_decomposition, "a matrix of the network cannot be decomposed"),
        (no_weights, "the weights are not finite"),
        (no_output, "the network's output for a validation image is not finite"),
    ],
)
def test_a_training_that_diverges_says_so_and_keeps_a_checkpoint_of_finite_weights(spoil, words, data, tmp_path):
    made = trainer(tiny_recipe(5, 1), data, tmp_path)
    spoil(made)
    with pytest.raises(InputError, match=f"^{words} at step 1; lower lr in the recipe, or check the images.$"):
        made.run()
    kept = checkpoint(tmp_path)
    assert kept["step"] == int(spoil is no_output)
    assert all(value.isfinite().all() for part in ("net", "ema") for value in kept[part].values())
    assert not (tmp_path / "tiny.safetensors").exists()


def test_a_batch_that_processes_cannot_share(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="a batch of 4 cannot be divided among 3 processes"):
        trainer(tiny_recipe(1, 1), data, tmp_path)


def test_training_device(monkeypatch):
    assert training_device("cpu", "l-rpcanet") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError):
        training_device("cuda", "l-rpcanet")
    with pytest.raises(UsageError):
        training_device("abacus", "l-rpcanet")
    monkeypatch.setattr("rsunfold.infer.device._try", lambda device: None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert training_device("auto", "l-rpcanet").type == "mps"
    assert training_device("auto", "star-net") == CPU  # whose eigenvalues Apple's GPUs lack
    with pytest.raises(DeviceError):
        training_device("mps", "star-net")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_touches_its_own_gpu_alone(monkeypatch, name):
    touched = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", touched.append)
    monkeypatch.setattr("rsunfold.infer.device._try", touched.append)
    assert training_device(name, "l-rpcanet") == torch.device("cuda:1") and touched == [torch.device("cuda:1")] * 2


# ------------------------------------------------------------------ several processes

RECIPE = """
name = "tiny"
model = "l-rpcanet"
validate_every = 1
arch = {K = 2, c = 8, C = 8, R = 1}
data = {validation = 0.25}
augment = {crop = 24, on_error = 0.5}
optim = {steps = 2, batch = 4, warmup = 1}
loss = {stages = 0.3}
"""
WORKER = """
import sys, torch
from pathlib import Path
from rsunfold.train.loop import Trainer
from rsunfold.train.recipefile import load_recipe

torch.set_num_threads(1)
recipe, data, out, start = map(Path, sys.argv[1:])
made = Trainer(load_recipe(recipe), data, out, device=torch.device("cpu"), start=str(start), say=lambda text: None)
seen = made.task.crops.batch(0, 2, made.rank)[0]
complete = made.run(minutes=10 if made.rank == 0 else 0)  # process 0 decides
state = {"net": dict(made.net.named_parameters()), "seen": seen, "complete": complete, "step": made.step}
state["errors"] = made.task.state()["errors"]
torch.save(state, out / f"rank{made.rank}.pt")
assert not torch.distributed.is_initialized()
"""


def test_two_processes_end_with_the_same_weights(learned, data, tmp_path):
    start = learned[1] / "tiny.safetensors"
    script, recipe, out = tmp_path / "worker.py", tmp_path / "tiny.toml", tmp_path / "out"
    script.write_text(WORKER)
    recipe.write_text(RECIPE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, *map(str, (script, recipe, data, out, start))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    a, b = (torch.load(out / f"rank{rank}.pt") for rank in (0, 1))
    assert not torch.equal(a["seen"], b["seen"])  # each its own crops, so that only averaged gradients agree
    assert_same({k: p.data for k, p in a["net"].items()}, {k: p.data for k, p in b["net"].items()})
    assert a["complete"] is b["complete"] is True and a["step"] == b["step"] == 2
    assert sum(len(places) for places in a["errors"]) > 0  # found by process 0
    assert all(torch.equal(x, y) for x, y in zip(a["errors"], b["errors"], strict=True))
    initial = weights.load(str(start))[0].stages[0].FB.head.weight
    assert not torch.equal(a["net"]["stages.0.FB.head.weight"], initial)
    assert [row["step"] for row in log(out)] == ["1", "2"] and checkpoint(out)["step"] == 2
    assert weights.read_record(str(out / "tiny.safetensors")).name == "tiny"


def test_targets_may_be_as_large_as_those_that_the_first_weights_were_trained_on(learned, data, tmp_path):
    net, record, _ = weights.load(str(learned[1] / "tiny.safetensors"))
    file = tmp_path / "first.safetensors"
    weights.save(file, net, dataclasses.replace(record, max_area=77))
    assert record.max_area is None  # too few targets to say how large they get
    stop_after(trainer(tiny_recipe(2, 2), data, tmp_path / "out", start=file), 1).run()
    trainer(tiny_recipe(2, 2), data, tmp_path / "out").run(resume=True)
    assert weights.read_record(str(tmp_path / "out" / "tiny.safetensors")).max_area == 77


def test_errors_of_the_first_weights_are_found_and_kept(learned, data, tmp_path):
    file, recipe = learned[1] / "tiny.safetensors", tiny_recipe(2, 2, augment={"on_error": 0.9})
    whole = trainer(recipe, data, tmp_path / "whole", start=file)
    whole.run()
    places = whole.task.crops.errors
    assert len(places) == len(whole.task.train) and sum(len(p) for p in places) > 0
    stop_after(trainer(recipe, data, tmp_path / "parts", start=file), 1).run()
    trainer(recipe, data, tmp_path / "parts").run(resume=True)  # which is not told what it was begun with
    assert_same(checkpoint(tmp_path / "whole")["net"], checkpoint(tmp_path / "parts")["net"])
    elsewhere = trainer(tiny_recipe(2, 2), data, tmp_path / "elsewhere", start=file)
    elsewhere.run()
    assert elsewhere.task.crops.errors == []
    first = "stages.0.FB.features.0.weight"
    assert not torch.equal(whole.net.state_dict()[first], elsewhere.net.state_dict()[first])


def test_errors_are_found_once_and_kept_before_the_first_step(learned, data, tmp_path, monkeypatch):
    file, recipe, said = learned[1] / "tiny.safetensors", tiny_recipe(2, 2, augment={"on_error": 0.9}), []
    assert not trainer(recipe, data, tmp_path, said, file).run(minutes=0)
    assert said[2:] == [f"looking for errors of tiny in {len(trainer(recipe, data, tmp_path).task.train)} images"]
    assert checkpoint(tmp_path)["step"] == 0 and checkpoint(tmp_path)["seconds"] > 0
    monkeypatch.setattr(InfraredTask, "begin", lambda *_: pytest.fail("looked for again"))
    resumed = trainer(recipe, data, tmp_path)
    assert resumed.run(resume=True)
    assert len(resumed.task.crops.errors) == len(resumed.task.train)


def test_errors_need_weights_to_begin_with(data, tmp_path):
    with pytest.raises(InputError, match=r"on_error.*--from"):
        trainer(tiny_recipe(1, 1, augment={"on_error": 0.5}), data, tmp_path / "out").run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fixed", [False, True])
def test_fixed_normalisation_keeps_its_statistics_and_learns_its_gains(learned, data, tmp_path, fixed):
    file = learned[1] / "tiny.safetensors"
    made = trainer(tiny_recipe(2, 2, optim={"fixed_norm": fixed}), data, tmp_path, start=file)
    before = {k: v.clone() for k, v in made.net.state_dict().items()}
    made.run()
    after = made.net.state_dict()
    norm = "stages.0.FB.features.1."
    assert torch.equal(after[norm + "running_var"], before[norm + "running_var"]) is fixed
    assert not torch.equal(after[norm + "weight"], before[norm + "weight"])


def test_what_earlier_recipes_did_not_have_must_be_as_if_absent(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    recipe = tiny_recipe(2, 2, optim={"fixed_norm": True})
    stop_after(trainer(recipe, data, tmp_path, start=file), 1).run()
    state = checkpoint(tmp_path)
    old = json.loads(state["recipe"])
    del old["optim"]["fixed_norm"]
    torch.save(state | {"recipe": json.dumps(old)}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another recipe"):
        trainer(recipe, data, tmp_path).run(resume=True)


def test_places_of_errors_must_be_in_the_checkpoint(learned, data, tmp_path):
    recipe = tiny_recipe(2, 2, augment={"on_error": 0.5})
    stop_after(trainer(recipe, data, tmp_path, start=learned[1] / "tiny.safetensors"), 1).run()
    state = checkpoint(tmp_path)
    torch.save(state | {"task": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="contains no places for on_error"):
        trainer(recipe, data, tmp_path).run(resume=True)


def test_fixed_normalisation_needs_weights_to_begin_with(data, tmp_path):
    for asked in ({"fixed_norm": True}, {"start_share": 0.5}, {"revive": True}):
        with pytest.raises(InputError, match=rf"\({next(iter(asked))}\); give them with --from"):
            trainer(tiny_recipe(1, 1, optim=asked), data, tmp_path).run()


def test_what_is_kept_may_hold_a_share_of_the_first_weights(learned, data, tmp_path):
    file = learned[1] / "tiny.safetensors"
    recipe = tiny_recipe(4, 4, optim={"start_share": 0.25})
    stop_after(trainer(recipe, data, tmp_path, start=file), 2).run()
    made = trainer(recipe, data, tmp_path)  # resumed without being told where it began
    made.run(resume=True)
    first, kept = (
        weights.load(str(file))[0].state_dict(),
        weights.load(str(tmp_path / "tiny.safetensors"))[0].state_dict(),
    )
    for name, value in made.ema.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(kept[name], value + 0.25 * (first[name] - value))
    assert not torch.equal(kept["stages.0.FB.head.weight"], made.ema.state_dict()["stages.0.FB.head.weight"])


def dead_weights(file, out):
    """The weights of ``file`` with an F_T that gives one number: its last rectifier passes nothing."""
    net, record, _ = weights.load(str(file))
    with torch.no_grad():
        last = [m for m in net.stages[0].FT.features if isinstance(m, torch.nn.Conv2d)][-2]
        last.weight.zero_()
        last.bias.fill_(-1.0)
    weights.save(out, net, record)
    return net


@pytest.mark.parametrize("revive", [False, True])
def test_operators_without_effect_begin_anew_where_the_recipe_asks(learned, data, tmp_path, revive, monkeypatch):
    shown = torch.rand(1, 1, 90, 80, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(InfraredTask, "_shown", lambda self: iter([shown]))
    start = tmp_path / "dead.safetensors"
    before = dead_weights(learned[1] / "tiny.safetensors", start)
    said = []
    recipe = tiny_recipe(3, 3, optim={"revive": revive})
    made = stop_after(trainer(recipe, data, tmp_path / "out", said, start), 0)
    made.run()
    image = torch.rand(1, 1, 60, 70, generator=torch.Generator().manual_seed(1))
    inner = (..., slice(20, -20), slice(20, -20))
    for a, b in zip(made.ema(image, reconstruct=True), before.eval()(image, reconstruct=True), strict=True):
        # Not equal: the border changes the image-wide means that later stages weigh their channels by.
        torch.testing.assert_close(a[inner], b[inner], rtol=0, atol=5e-3 * float(b.detach().abs().max()))
    assert any(line.startswith("operators that begin anew: stages.0.FT") for line in said) is revive
    begun = made.net.stages[0].FT.features[0].weight.detach().clone()
    made = trainer(recipe, data, tmp_path / "out", again := [])
    made.run(resume=True)
    assert not any("begin anew" in line for line in again)
    assert ("stages.0.FT" in made.task.dead(made.net.eval())) is not revive
    assert torch.allclose(made.net.stages[0].FT.features[0].weight, begun, atol=1e-6) is not revive


def test_operators_of_added_stages_do_not_begin_anew(data, tmp_path, random_network, monkeypatch):
    """The F_B of an added stage has no effect yet, but the layers of the stage before it."""
    shown = torch.rand(1, 1, 90, 80, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(InfraredTask, "_shown", lambda self: iter([shown]))
    small, start, said = random_network("l-rpcanet", carry_noise=False), tmp_path / "a.safetensors", []
    weights.save(start, small, weights.WeightRecord("a", "l-rpcanet", small.arch))
    recipe = tiny_recipe(1, 1, arch=small.arch | {"K": 3}, optim={"revive": True})
    made = stop_after(trainer(recipe, data, tmp_path / "out", said, start), 0)
    made.run()
    assert not any("stages.2" in line for line in said if line.startswith("operators that begin anew"))
    last, before = made.ema.stages[2].FB, made.ema.stages[1].FB
    assert torch.equal(last.features[0].weight, before.features[0].weight)


def test_revival_needs_to_know_what_is_dead(learned, data, tmp_path):
    """The images of these tests are too small to tell."""
    recipe = tiny_recipe(1, 1, optim={"revive": True})
    with pytest.raises(InputError, match="cannot be told of denoising networks and of images of 64 pixels"):
        trainer(recipe, data, tmp_path, start=learned[1] / "tiny.safetensors").run()


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """What the checkpoint of ``tiny_recipe(3, 3)`` holds in the end."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("uninterrupted")
    trainer(tiny_recipe(3, 3), data, out).run()
    return checkpoint(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_waits_for_the_end_of_a_step_and_leaves_a_checkpoint(number, times, data, tmp_path, uninterrupted):
    """A second one does not wait: the step may hang."""

    class Stopped(Exception):
        pass

    def stop(number, frame):
        raise Stopped

    before = signal.signal(number, stop)
    try:
        made = trainer(tiny_recipe(3, 3), data, tmp_path)
        step = made._one

        def interrupted(net):
            if made.step == 1:
                for _ in range(times):
                    signal.raise_signal(number)
            return step(net)

        made._one = interrupted
        with pytest.raises(Stopped):
            made.run()
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert made.step == (2 if times == 1 else 1)
    assert times == 2 or checkpoint(tmp_path)["step"] == 2
    trainer(tiny_recipe(3, 3), data, tmp_path).run(resume=True)
    assert_same(checkpoint(tmp_path)["net"], uninterrupted["net"])


@pytest.mark.parametrize("step", [2, 4])
def test_a_signal_in_a_step_before_a_validation_does_not_lose_it(step, data, tmp_path):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    made = trainer(tiny_recipe(4, 2), data, tmp_path)
    one = made._one

    def interrupted(net):
        if made.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return one(net)

    made._one = interrupted
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert checkpoint(tmp_path)["step"] == step
    assert trainer(tiny_recipe(4, 2), data, tmp_path).run(resume=True)
    assert [int(row["step"]) for row in log(tmp_path) if row["val_score"]] == [2, 4]


def test_sets_that_are_not_there_are_told(data, tmp_path):
    said = []
    trainer(tiny_recipe(1, 1, data={"weights": {"blobs": 1.0, "bolbs": 2.0}}), data, tmp_path, said).run()
    assert "sets that the recipe names and the data do not contain: bolbs" in said


def test_a_set_without_validation_images_is_told(data, tmp_path):
    recipe = tiny_recipe(1, 1, data={"sets": "blobs", "validation_of": {"blobs": 0.01}})
    with pytest.raises(InputError, match=r"none of the 8 images of .* \(blobs\) can be held out"):
        trainer(recipe, data, tmp_path)


def test_a_set_without_targets_to_train_on_is_told(data, tmp_path):
    recipe = tiny_recipe(1, 1, data={"sets": "sky"})
    with pytest.raises(InputError, match=r"none of the \d+ images of .* \(sky\) to train on contains a target; check"):
        trainer(recipe, data, tmp_path)


def test_compiled_training_is_that_of_the_same_network(data, tmp_path, monkeypatch):
    seen = []

    def compiled(made):
        seen.append(made)
        return made

    monkeypatch.setattr(torch, "compile", compiled)
    made = trainer(tiny_recipe(1, 1, optim={"compile": True}), data, tmp_path)
    made.run()
    assert seen == [torch.relu, made.net]


def test_compiling_needs_a_compiler(data, tmp_path, monkeypatch):
    def compiled(made):
        raise RuntimeError("no compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(InputError, match=r"cannot compile here \(no compiler found\); .*optim.compile=false"):
        trainer(tiny_recipe(1, 1, optim={"compile": True}), data, tmp_path).run()


def test_only_the_named_sets_are_used_and_the_split_stays(data, tmp_path):
    every = trainer(tiny_recipe(1, 1), data, tmp_path / "all")
    assert {line.partition("/")[0] for line in every.task.held_out} == {"blobs", "sky"}
    one = trainer(tiny_recipe(1, 1, data={"sets": "blobs"}), data, tmp_path / "one")
    assert one.task.held_out == [line for line in every.task.held_out if line.startswith("blobs/")]
    assert {image.sample.group for image in one.task.train} == {"blobs"}
    with pytest.raises(InputError, match=r"names the set 'other', but .* contains blobs, sky; "):
        trainer(tiny_recipe(1, 1, data={"sets": "blobs, other"}), data, tmp_path / "none")


def test_targets_larger_than_those_of_the_first_weights_are_targets(learned, data, tmp_path):
    net, record, _ = weights.load(str(learned[1] / "tiny.safetensors"))
    file = tmp_path / "first.safetensors"
    weights.save(file, net, dataclasses.replace(record, max_area=2))
    made = trainer(tiny_recipe(1, 1), data, tmp_path / "out", start=file)
    made.run()
    largest = max(int(image.targets.sum()) for image in made.task.train)
    assert weights.read_record(str(tmp_path / "out" / "tiny.safetensors")).max_area == largest > 2
    assert "1 in 200" not in (tmp_path / "out" / "tiny.md").read_text()


def test_frames_of_one_scene_cannot_be_validated_on(tmp_path):
    make_data(tmp_path / "d")
    first = next((tmp_path / "d" / "blobs" / "images").iterdir())
    for folder in ("images", "masks"):
        inside = tmp_path / "one" / folder
        inside.mkdir(parents=True)
        content = (tmp_path / "d" / "blobs" / folder / first.name).read_bytes()
        for i in range(8):
            (inside / f"f{i}.png").write_bytes(content)
    with pytest.raises(InputError, match=r"none of the 8 images of .*one can be held out for validation: they"):
        trainer(tiny_recipe(1, 1), tmp_path / "one", tmp_path / "out")


def test_nodata_is_no_background(data, tmp_path):
    """What the loss sees of pixels that are not valid: nothing."""
    made = trainer(tiny_recipe(1, 1, optim={"lr": 0.0}), data, tmp_path)
    crops, seen = made.task.crops, []
    image, truth, valid = crops.batch(0, 4)
    valid[:, :, :, :8] = 0
    for level in (0.0, 9.0):
        made.task.crops.batch = lambda *args, level=level: (image, truth * valid, valid)

        def forward(x, level=level, **options):
            T, D = made.net(x, **options)
            for stage in options["keep"].stages:
                stage["T"] = stage["T"] + level * (1 - valid)
            return T + level * (1 - valid), D

        seen.append(float(made.task.loss(forward, 0, 4, 0).detach()))
    assert seen[0] == pytest.approx(seen[1], rel=1e-6)
