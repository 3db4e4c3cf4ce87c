"""What explain detect-ir writes, against the stages computed here."""

import json
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold import weights
from rsunfold.errors import OutputError, UsageError
from rsunfold.infer.infrared.explain import DEFINITIONS, Explainer, Options, explain_file
from rsunfold.registry import all_models
from rsunfold.unfold.unrolled import Record, Unrolled


@pytest.fixture
def explainer(tiny) -> Explainer:
    return Explainer("l-rpcanet", weights=str(tiny.path), device="cpu")


@pytest.fixture
def picture(tmp_path, tiny):
    from skimage.io import imsave

    path = tmp_path / "scene.png"
    imsave(path, np.round(tiny.gray * 255).astype(np.uint8), check_contrast=False)
    return str(path)


def test_the_numbers_of_each_stage(explainer, tiny):
    gray = tiny.gray[:32, :28].copy()
    numbers, variables = explainer.explain(gray)
    record, x = Record(), torch.from_numpy(gray)[None, None]
    with torch.no_grad():
        tiny.net(x, keep=record, reconstruct=True)
    first, second = record.stages
    assert [n["stage"] for n in numbers] == [1, 2]
    for stage, kept, shown in zip(numbers, record.stages, variables, strict=True):
        assert stage["step_sizes"] == {"eps": 0.5, "sig": 0.5}
        left = x - kept["B"] - kept["T"] - kept["N"]
        assert stage["data_residual"] == pytest.approx(float(left.norm() / x.norm()), rel=1e-4)
        assert any(g["local_gain"] > 0 for g in stage["operators"].values()) and list(shown) == list("BTND")
        np.testing.assert_allclose(shown["T"], kept["T"][0, 0].numpy(), rtol=1e-5)
        assert list(stage["operators"]) == ["FB", "FT", "FN", "FD"]
        for gain in stage["operators"].values():
            assert 0 <= gain["local_gain"] <= gain["gain_bound"] and gain["iterations"] <= 100
    assert numbers[0]["fixed_point_residual"] == {
        **dict.fromkeys("BTN"),
        "D": pytest.approx(float((first["D"] - x).norm() / x.norm()), rel=1e-4),
    }
    assert numbers[1]["fixed_point_residual"] == {
        n: pytest.approx(float((second[n] - first[n]).norm() / first[n].norm()), rel=1e-4) for n in "BTND"
    }
    assert explainer.explain(gray)[0] == numbers


@pytest.mark.parametrize("name", [m.name for m in all_models("detect-ir", "network")])
def test_every_network_can_be_explained(name, tmp_path, random_network):
    net, path = random_network(name), tmp_path / "own.safetensors"
    weights.save(path, net, weights.WeightRecord(name="own", model=name, arch=net.arch))
    gray = np.random.default_rng(0).random((19, 22), np.float32)
    numbers, variables = Explainer(name, weights=str(path), device="cpu").explain(gray)
    assert [n["stage"] for n in numbers] == list(range(1, len(net.stages) + 1))
    for stage, shown in zip(numbers, variables, strict=True):
        assert stage["step_sizes"] and all(map(np.isfinite, stage["step_sizes"].values()))
        assert {head.partition(".")[0] for head in net.heads.values()} <= stage["operators"].keys()
        assert list(shown) == list(net.letters)
        for gain in stage["operators"].values():
            assert gain["local_gain"] >= 0 and (gain["gain_bound"] is None or gain["gain_bound"] >= gain["local_gain"])


class Softened(nn.Module):
    """A part whose layers nobody knows."""

    def forward(self, x):
        return 0.5 * x.tanh()


class Step(nn.Module):
    """A stage with a step size that a small network predicts, and an operator without known layers in a list."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Linear(1, 1)
        self.pairs = nn.ModuleList([Softened()])
        self.hidden = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, D, k, keep):
        gamma = self.gamma(D.mean((2, 3)))
        keep(k, "", self.hidden(D))
        return keep(k, "T", gamma[..., None, None] * self.pairs[0](D))


class Other(Unrolled):
    letters = ("T",)

    def __init__(self):
        super().__init__()
        self.arch, self.stages = {}, nn.ModuleList([Step(), Step()])

    def forward(self, D, *, keep, reconstruct=False):
        for k, stage in enumerate(self.stages):
            D = stage(D, k, keep)
        return D, None


def test_predicted_step_sizes_hidden_maps_and_unknown_layers(explainer):
    torch.manual_seed(0)
    explainer.net = net = Other().requires_grad_(False)
    gray = np.random.default_rng(0).random((12, 10), np.float32)
    numbers, variables = explainer.explain(gray)
    stage = net.stages[0]
    gamma = float(stage.gamma(torch.tensor([[gray.mean()]])))
    assert numbers[0]["step_sizes"] == {"gamma": pytest.approx(gamma, rel=1e-4)}
    assert list(variables[0]) == ["T"] and list(numbers[0]["operators"]) == ["hidden", "pairs.0"]
    soft = numbers[0]["operators"]["pairs.0"]
    slope = 0.5 * (1 - np.tanh(gray) ** 2).max()
    assert soft["local_gain"] == pytest.approx(slope, rel=0.02)
    assert soft["gain_bound"] is None and soft["reason"] == "the norm of a Softened is not known"
    assert numbers[0]["operators"]["hidden"]["gain_bound"] > 0
    assert numbers[0]["fixed_point_residual"] == {"T": None}


def test_what_is_written(explainer, picture, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rsunfold.infer.infrared.explain._gains", lambda call: {"local_gain": 1.0, "gain_bound": 2.0})
    report = explain_file(picture, "scene", tmp_path / "out", explainer, Options())
    written = json.loads((tmp_path / "out" / "scene_explain.json").read_text())
    assert written["stages"] == report["stages"] == explainer.explain(np.float32(tiny.gray))[0]
    assert written["definitions"].keys() == DEFINITIONS.keys() and written["weights"] == "tiny"
    assert written["window"] == {"row": 0, "col": 0, "rows": 72, "cols": 80}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["scene_explain.json", "scene_explain.png"]
    (tmp_path / "out" / "scene_explain.png").unlink()
    with pytest.raises(OutputError, match="already exists"):
        explain_file(picture, "scene", tmp_path / "out", explainer, Options())
    assert not (tmp_path / "out" / "scene_explain.png").exists()
    explain_file(picture, "scene", tmp_path / "out", explainer, Options(overwrite=True))


def test_a_part_of_an_image(explainer, picture, tmp_path):
    report = explain_file(picture, "scene", tmp_path / "out", explainer, Options(window=(30, 40, 24)))
    assert report["window"] == {"row": 30, "col": 40, "rows": 24, "cols": 24}
    with pytest.raises(UsageError, match=r"--window 60,40,24 is not inside .* 72 x 80 pixels"):
        explain_file(picture, "scene", tmp_path / "b", explainer, Options(window=(60, 40, 24)))


def test_each_stage_of_the_picture_has_its_own_numbers_beside_it(explainer, picture, tmp_path, monkeypatch):
    module = "rsunfold.infer.infrared.explain"
    gains = map(float, range(1, 9))
    monkeypatch.setattr(f"{module}._gains", lambda call: {"local_gain": next(gains), "gain_bound": 10.0})
    with mock.patch(f"{module}.stages_picture") as draw:
        report = explain_file(picture, "scene", tmp_path / "out", explainer, Options(window=(30, 40, 24)))
    first, second = ({line.strip() for line in note.splitlines()} for note in draw.call_args.kwargs["notes"])
    assert {"eps = 0.5", "B –", "FB 1, 10", "FD 4, 10"} <= first and {"eps = 0.5", "FB 5, 10", "FD 8, 10"} <= second
    for lines, stage in zip((first, second), report["stages"], strict=True):
        assert f"left of the image: {stage['data_residual']:.3g}" in lines
        assert f"D {stage['fixed_point_residual']['D']:.3g}" in lines
    assert "rows 30 to 53, columns 40 to 63" in draw.call_args.kwargs["title"]


@pytest.mark.parametrize("window", [(0, 0, 0), (-1, 0, 8), (0, 0, 513)])
def test_impossible_windows(window):
    with pytest.raises(UsageError, match="--window takes a row and a column from 0 and a size from 1 to 512"):
        Options(window=window)


def test_an_image_that_is_too_large_names_the_way_out(explainer, tmp_path):
    from skimage.io import imsave

    imsave(tmp_path / "wide.png", np.zeros((8, 600), np.uint8), check_contrast=False)
    with pytest.raises(UsageError, match=r"8 x 600 pixels, but at most 512 x 512 can be explained; .* --window"):
        explain_file(str(tmp_path / "wide.png"), "wide", tmp_path / "out", explainer, Options())


def test_an_image_of_zeros_has_no_ratios(explainer):
    numbers, _ = explainer.explain(np.zeros((16, 16), np.float32))
    assert numbers[0]["data_residual"] is None and numbers[0]["fixed_point_residual"]["D"] is None
