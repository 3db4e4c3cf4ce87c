"""The loop trains what it knows nothing of: a network with another input, another loss, another kind of figure."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from rsunfold import registry, weights
from rsunfold.errors import InputError
from rsunfold.registry import ModelSpec
from rsunfold.train import loop, recipefile
from rsunfold.train.folder import LOG
from rsunfold.train.loop import Trainer
from rsunfold.train.recipe import Recipe, check_values
from rsunfold.train.recipefile import load_recipe
from rsunfold.train.task import Forward, TrainingTask, Verdict
from rsunfold.unfold.unrolled import Unrolled


class Gain(Unrolled):
    """y = g (x, scale): a number that belongs to no layer, one without dimensions, a matrix of its own, and a layer."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.arch = {"width": width}
        self.eps = nn.Parameter(torch.ones(1))
        self.log = nn.Parameter(torch.tensor(0.0))
        self.matrix = nn.Parameter(torch.eye(width))
        self.layer = nn.Linear(width, width)
        self.layer.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
        return self.layer(x @ self.matrix) * self.layer.scale * scale * self.eps * self.log.exp()


@dataclass
class Data:
    level: float = 1.0


@dataclass
class GainRecipe(Recipe):
    data: Data = field(default_factory=Data)

    def check(self) -> None:
        super().check()
        check_values(shares={"level": self.data.level})


class GainTask(TrainingTask):
    """Learn y = 3 x."""

    recipe_class: ClassVar[type[Recipe]] = GainRecipe
    columns: ClassVar[tuple[str, ...]] = ("val_psnr", "val_cubes")

    def __init__(self, recipe: GainRecipe, data: Path, device: torch.device) -> None:
        self.recipe, self.data_hash, self.trained_on, self.held_out = recipe, "0" * 64, str(data), ["cubes/one"]
        self.seen: list[tuple[int, int, int]] = []

    def loss(self, forward: Forward, step: int, size: int, rank: int) -> Tensor:
        self.seen.append((step, size, rank))
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(size, 2, generator=draw) * self.recipe.data.level
        y = forward(x, scale=torch.ones(1))
        return (y.float() - 3 * x).square().mean()

    def validate(self, net: nn.Module) -> Verdict:
        assert not net.training and torch.is_inference_mode_enabled()
        error = (net(torch.ones(1, 2), scale=torch.ones(1)) - 3).abs().mean().item()
        return Verdict(
            score=-error,
            log={"val_psnr": 7.0, "val_cubes": {"one": 7.0}},
            message="7.00 dB",
            record={"bands": None, "scaling": "whitened", "figures": {"one": {"psnr": 7.0}}},
            usage=["give it the noise level"],
            results=["| cube | PSNR |", "|---|---|", "| one | 7.00 |"],
        )


TOML = """
name = "gain"
model = "gain"
validate_every = 20
[data]
level = 0.5
[optim]
steps = 60
batch = 4
lr = 0.05
step_size_lr = 2.0
warmup = 1
ema = 0.8
"""


@pytest.fixture
def load(monkeypatch, tmp_path):
    """``load(text)``: the recipe of that text; the model ``gain`` and its task are known."""
    spec = ModelSpec(name="gain", task="denoise-hsi", kind="network", factory=Gain, paper="", bands=(1, None))
    monkeypatch.setitem(registry._MODELS, "gain", spec)
    for module in (loop, recipefile):
        monkeypatch.setattr(module, "task_of", lambda model: GainTask)

    def read(text: str) -> GainRecipe:
        (tmp_path / "gain.toml").write_text(text)
        return load_recipe(tmp_path / "gain.toml")

    return read


def train(content: Recipe, out: Path, **options) -> tuple[Trainer, list[str]]:
    said: list[str] = []
    made = Trainer(content, Path("cubes"), out, device=torch.device("cpu"), say=said.append)
    assert made.run(**options) is (options.get("minutes") != 0)
    return made, said


def test_any_task_is_trained_by_the_same_loop(load, tmp_path):
    made, said = train(load(TOML), tmp_path / "out")
    assert made.task.seen == [(step, 4, 0) for step in range(60)]
    assert [line.split(", ")[1] for line in said] == ["7.00 dB"] * 3
    assert (tmp_path / "out" / "validation.txt").read_text() == "cubes/one\n"
    assert (tmp_path / "out" / "log.png").is_file()
    with (tmp_path / "out" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*LOG, "val_psnr", "val_cubes") and [row["step"] for row in rows] == ["20", "40", "60"]
    assert rows[0]["val_psnr"] == "7.0000" and json.loads(rows[0]["val_cubes"]) == {"one": 7.0}
    assert float(rows[2]["train_loss"]) < 0.1 * float(rows[0]["train_loss"])
    assert made.best == pytest.approx(max(float(row["val_score"]) for row in rows), abs=1e-4)


def test_record_and_card_of_any_task(load, tmp_path):
    train(load(TOML), tmp_path)
    net, record, sha = weights.load(str(tmp_path / "gain.safetensors"))
    assert isinstance(net, Gain) and record.arch == {"width": 2} and record.bands is None
    assert record.scaling == "whitened" and record.figures == {"one": {"psnr": 7.0}}
    assert record.trained_on == f"cubes; sha256 of the data {'0' * 16}"
    text = (tmp_path / "gain.md").read_text()
    assert f"sha256 `{sha}`" in text and "- input: any number of bands, whitened\n- give it the noise level\n" in text
    assert "| one | 7.00 |\n\nRecipe:\n" in text and "threshold" not in text


def test_a_run_of_any_task_is_resumed(load, tmp_path):
    content = load(TOML)
    train(content, tmp_path / "parts", minutes=0)
    parts, _ = train(content, tmp_path / "parts", resume=True)
    whole, _ = train(content, tmp_path / "whole")
    assert all(torch.equal(p, parts.net.state_dict()[n]) for n, p in whole.net.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "cpu", "precision"),
    [("float32", "AVX512", "float32"), ("bfloat16", "AVX512", "bfloat16"), ("bfloat16", "AVX2", "float32")],
)
def test_the_network_runs_in_the_precision_of_the_recipe(load, tmp_path, monkeypatch, asked, cpu, precision):
    """Or says that the processor has no such arithmetic."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    made, said = train(load(f'{TOML}precision = "{asked}"\n'), tmp_path, minutes=0)
    assert [text.endswith("training in float32.") for text in said] == [True] * (asked != precision)
    types: list[torch.dtype] = []
    made.net.layer.register_forward_hook(lambda module, given, out: types.append(out.dtype))
    made._one(made.net)
    assert types == [getattr(torch, precision)]


def test_gradients_are_clipped(load, tmp_path):
    made, _ = train(load(f"{TOML}clip = 0.01\n"), tmp_path, minutes=0)
    made._one(made.net)
    found = nn.utils.get_total_norm([p.grad for p in made.net.parameters()])
    assert float(found) == pytest.approx(0.01, rel=1e-3)


def test_each_process_draws_its_own_share(load, tmp_path):
    made, _ = train(load(TOML), tmp_path, minutes=0)
    made.world, made.rank = 2, 1
    made._one(made.net)
    assert made.task.seen == [(0, 2, 1)]


def test_every_parameter_is_trained_as_what_it_is(load, tmp_path):
    made, _ = train(load(TOML), tmp_path, minutes=0)
    names = {id(p): n for n, p in made.net.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in made.optimiser.param_groups]
    assert groups == [["matrix", "layer.weight"], ["layer.bias", "layer.scale"], ["eps", "log"]]
    assert [group["weight_decay"] for group in made.optimiser.param_groups] == [1e-4, 0.0, 0.0]


def test_tables_of_any_task_are_checked(load):
    assert load(TOML).data == Data(0.5)
    for change, message in (
        ("level = 2", "level must be at most 1, not 2"),
        ("level = true", r"level in \[data\] must be a number, not True"),
        ("split = 3", r"\[data\] has no key 'split' \(known: level\)"),
        ("[loss]", r"the top level has no key 'loss' \(known: name, .*, optim, data\)"),
    ):
        with pytest.raises(InputError, match=message):
            load(TOML.replace("level = 0.5", change))
