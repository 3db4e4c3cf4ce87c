"""Training of denoisers by the loop that trains everything."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from rsunfold import weights
from rsunfold.errors import InputError
from rsunfold.registry import get_model
from rsunfold.train.hyperspectral.recipe import Augment, Data, HyperspectralRecipe, Noise
from rsunfold.train.hyperspectral.task import HyperspectralTask
from rsunfold.train.loop import Trainer
from rsunfold.train.recipe import Optim

CPU = torch.device("cpu")
MODELS = {
    "star-net": {"K": 1, "stride": 3},
    "star-net-s": {"K": 1, "stride": 3},
    "smds-net": {"K": 1},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two cubes of 12 bands, 24 x 22 pixels, ``one`` brighter towards the right and ``two`` towards the bottom."""
    folder = tmp_path_factory.mktemp("cubes")
    rng = np.random.default_rng(0)
    for name, axis in (("one", 1), ("two", 0)):
        slope = np.linspace(0.2, 1, 24 if axis == 0 else 22)
        maps = np.stack([np.broadcast_to(slope[:, None] if axis == 0 else slope, (24, 22)) ** p for p in (1, 2, 3)])
        savemat(folder / f"{name}.mat", {"cube": np.einsum("br,rij->ijb", rng.random((12, 3)), maps)})
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, and numbers next to 0 as they were for the tests that follow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


def recipe(model: str = "star-net", steps: int = 2, validation: str = "two", **optim) -> HyperspectralRecipe:
    kind = "case2" if model == "star-net-s" else "iid"
    return HyperspectralRecipe(
        "tiny",
        model,
        arch=MODELS[model],
        validate_every=steps,
        data=Data(validation=validation, least_bands=4),
        augment=Augment(scene=(16, 20), crop=14),
        noise=Noise(kinds={kind: 1.0}, validate="iid:30, case2"),
        optim=Optim(**{"steps": steps, "batch": 1, "lr": 5e-3, "step_size_lr": 4.0, "warmup": 1, "ema": 0.5, **optim}),
    )


def trainer(content: HyperspectralRecipe, data: Path, out: Path) -> Trainer:
    return Trainer(content, data, out, device=CPU, say=lambda text: None)


def test_held_out_cubes_are_never_drawn(data):
    task = HyperspectralTask(recipe(), data, CPU)
    assert [c.name for c in task.validation] == task.held_out == ["two"]
    assert [c.name for c in task.crops.cubes] == ["one"] and task.trained_on == "1 cube: one"
    assert task.robust is False and HyperspectralTask(recipe("star-net-s"), data, CPU).robust is True


def test_weights_of_cubes_that_are_not_trained_on_are_said(data):
    said: list[str] = []
    content = recipe()
    content.data.weights = {"one": 2.0, "two": 3.0, "oen": 5.0}
    task = HyperspectralTask(content, data, CPU)
    task.begin(None, get_model("star-net").build(K=1), said.append)
    assert said == ["cubes that the recipe gives weights and that are not trained on: oen, two"]
    said.clear()
    HyperspectralTask(recipe(), data, CPU).begin(None, get_model("star-net").build(K=1), said.append)
    assert not said


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("two, three", r"contains no cube three, which the recipe holds out .* --set data\.validation="),
        ("one, two", "contains no cubes other than those for validation"),
    ],
)
def test_cubes_that_are_missing(data, validation, message):
    with pytest.raises(InputError, match=message):
        HyperspectralTask(recipe(validation=validation), data, CPU)


@pytest.mark.parametrize("other", [".", "june"])
def test_of_cubes_of_one_name_one_can_be_held_out(data, tmp_path, other):
    for folder in ("may", other):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "one.mat").write_bytes((data / "one.mat").read_bytes())
    content = recipe(validation="may/one")
    content.data.folders = f"may, {other}"
    task = HyperspectralTask(content, tmp_path, CPU)
    assert task.held_out == ["may/one"] and task.trained_on == f"1 cube: {other}/one"
    content.data.weights = {"one": 2.0}
    which = rf"the cube one .*, which may be {re.escape(other)}/one or may/one; name it with its folder"
    with pytest.raises(InputError, match=which):
        HyperspectralTask(content, tmp_path, CPU)


def test_held_out_cubes_that_the_ssim_cannot_judge_are_refused_before_training(data, tmp_path):
    for name, side in (("one", 12), ("two", 10)):
        savemat(tmp_path / f"{name}.mat", {"cube": np.random.default_rng(0).random((side, 30, 12))})
    with pytest.raises(InputError, match=r"cube two, held out .*, has 10 x 30 pixels, but the SSIM takes 11 x 11;"):
        HyperspectralTask(recipe(), tmp_path, CPU)
    assert HyperspectralTask(recipe(validation="one"), tmp_path, CPU).held_out == ["one"]


def test_the_hash_tells_other_cubes(data, tmp_path):
    before = HyperspectralTask(recipe(), data, CPU).data_hash
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert HyperspectralTask(recipe(), tmp_path, CPU).data_hash == before
    savemat(tmp_path / "one.mat", {"cube": np.random.default_rng(1).random((24, 22, 12))})
    assert HyperspectralTask(recipe(), tmp_path, CPU).data_hash != before


def test_the_loss_is_minus_psnr_but_for_a_constant(data):
    """10 log10(1 / mse) = -(10 / ln 10) ln mse, of the whitened crop; mean over crops and bands."""
    task = HyperspectralTask(recipe(), data, CPU)
    loss = float(task.loss(lambda Y, A: (Y, None), 3, 2, 0))
    items = [task.crops.item(3, i) for i in range(2)]
    mse = [(item.noisy - item.clean).square().mean((1, 2)) for item in items]
    psnr = float(torch.stack([-10 * m.log10().mean() for m in mse]).mean())
    assert loss == pytest.approx(-psnr * np.log(10) / 10, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_two_steps_lower_the_loss_and_leave_a_weight(model, data, tmp_path):
    made = trainer(recipe(model), data, tmp_path)
    item = made.task.crops.item
    made.task.crops.item = lambda step, i, rank=0: item(0, i, rank)  # the same crop at each step
    before = float(made.task.loss(made.net, 0, 1, 0).detach())
    assert made.run() is True
    assert float(made.task.loss(made.net, 0, 1, 0).detach()) < before
    net, record, _ = weights.load(str(tmp_path / "tiny.safetensors"), model)
    assert record.bands is None and record.scaling.startswith("whitened") and record.arch == net.arch
    assert record.figures.keys() == {"iid 30", "case2"}
    assert all(figures["psnr"] > figures["noisy"] for figures in record.figures.values())
    assert (tmp_path / "validation.txt").read_text() == "two\n"
    card = (tmp_path / "tiny.md").read_text()
    assert "any number of bands, whitened" in card and "Validation cubes (two; not used for training)" in card


def test_a_network_whose_output_is_not_finite_is_not_judged(data):
    task = HyperspectralTask(recipe(), data, CPU)
    with pytest.raises(FloatingPointError, match="output for a validation image is not finite"):
        task.validate(lambda Y, A: (Y / 0, None))


def test_a_run_is_resumed_bit_for_bit(data, tmp_path):
    whole = trainer(recipe(steps=3), data, tmp_path / "whole")
    assert whole.run() is True
    first = trainer(recipe(steps=3), data, tmp_path / "parts")
    first._agreed = lambda go_on: go_on and first.step < 1
    assert first.run() is False
    parts = trainer(recipe(steps=3), data, tmp_path / "parts")
    assert parts.run(resume=True) is True
    assert all(torch.equal(p, parts.net.state_dict()[n]) for n, p in whole.net.state_dict().items())
    assert parts.best == whole.best
