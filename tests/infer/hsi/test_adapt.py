"""Adapting a network to one noisy image: Stein's estimate is right, it falls, and so does the true error."""

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold.errors import UsageError
from rsunfold.infer.hsi import adapt
from rsunfold.infer.hsi.adapt import Look, adapted
from rsunfold.infer.hsi.run import Options, denoise_array, denoise_file
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.denoising import quality
from rsunfold.models.star_net import Context, STARNet


class Shrink(nn.Module):
    """f(y) = e^s y: of white x with variance v in unit noise the best e^s is v / (v + 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(1))
        self.stages = [self]

    def step_sizes(self) -> list[nn.Parameter]:
        return [self.s]

    def codes_per_pixel(self, rank: int) -> float:
        return 1.0

    def forward(self, y, A, context=None):
        return self.s.exp() * y, Context([A])


def test_the_estimate_is_that_of_the_true_error():
    draw = torch.Generator().manual_seed(0)
    x, n, z = (torch.randn(8, 100, 100, generator=draw) for _ in range(3))
    valid = torch.ones(100, 100, dtype=torch.bool)
    valid[:40] = False
    x[:, ~valid] = 1e3  # what is not valid does not count
    net, look, A = Shrink(), Look(x + n, valid, z), torch.eye(8)
    with torch.no_grad():
        for s in (-1.0, 0.0, 0.3):
            net.s.fill_(s)
            error = (net(look.y, A)[0] - x)[:, valid].square().mean()
            assert adapt._risk(net, [look], A, None) == pytest.approx(float(error), abs=0.05)


def test_the_best_shrinkage_is_found_and_the_given_network_untouched():
    rng = np.random.default_rng(0)
    y = (2 * rng.standard_normal((8, 60, 60)) + rng.standard_normal((8, 60, 60))).astype(np.float32)
    net = Shrink()
    made, about = adapted(net, y, np.ones((60, 60), bool), torch.eye(8), free=1e9)
    assert about.kept and about.risk_before == pytest.approx(1, abs=0.05) and about.side == adapt.SIDE
    assert about.risk_after == pytest.approx(0.8, abs=0.05)
    assert made.s.exp().item() == pytest.approx(0.8, abs=0.04) and net.s.item() == 0
    assert not any(p.requires_grad for p in made.parameters())
    again, _ = adapted(net, y, np.ones((60, 60), bool), torch.eye(8), free=1e9)
    assert torch.equal(again.s, made.s)


def test_numbers_that_do_no_better_are_not_kept(monkeypatch):
    y = np.random.default_rng(0).standard_normal((8, 60, 60)).astype(np.float32) * 2
    monkeypatch.setattr(adapt, "RATE", 5.0)  # too far, and no time to return
    monkeypatch.setattr(adapt, "STEPS", 2)
    net = Shrink()
    made, about = adapted(net, y, np.ones((60, 60), bool), torch.eye(8), free=1e9)
    assert made is net and not about.kept and about.risk_after > about.risk_before


def test_windows_shrink_with_the_memory_and_the_message_says_what_is_needed():
    net, A = STARNet(K=2), torch.eye(9)
    per_pixel = 4 * (adapt.CODES * 2 * 729 + 8 * 9)
    assert adapt._side(net, A, (9, 100, 100), per_pixel * 48**2) == 48
    assert adapt._side(net, A, (9, 100, 100), per_pixel * 48**2 - 1) == 40
    assert adapt._side(net, A, (9, 100, 5), per_pixel * 48 * 5) == 48  # the image is narrower
    with pytest.raises(UsageError, match=r"--adapt needs 0.1 GB .* --memory"):
        adapt._side(net, A, (9, 100, 100), per_pixel * 16**2 - 1)


def test_windows_lie_where_the_image_is_valid():
    valid = torch.zeros(100, 100, dtype=torch.bool)
    valid[60:, 50:] = True
    rng = np.random.default_rng(0)
    for _ in range(40):
        row, col = adapt._window(rng, valid, 16)
        assert valid[row, col].any() and row.stop - row.start == col.stop - col.start == 16
        assert min(row.start, col.start) >= 0 and max(row.stop, col.stop) <= 100
    assert adapt._window(rng, torch.zeros(9, 100, dtype=torch.bool), 16)[0] == slice(0, 9)  # nothing is


def test_the_error_falls_on_an_image(make, clean, noisy):
    plain = denoise_array(ArrayReader(noisy), make("star-net"), Options())
    result = denoise_array(ArrayReader(noisy), make("star-net", adapt=True), Options())
    about = result.summary["adapted"]
    assert plain.summary["adapted"] is None
    assert about["kept"] and about["risk_after"] < about["risk_before"]
    assert quality(clean, result.data)["psnr"] > quality(clean, plain.data)["psnr"] + 0.05


def test_each_image_of_a_batch_begins_anew(make, noisy, large, monkeypatch):
    monkeypatch.setattr(adapt, "STEPS", 3)
    denoiser = make("star-net", adapt=True)
    alone = denoise_array(ArrayReader(noisy), denoiser, Options())
    denoise_array(ArrayReader(large[:, :40, :40].copy()), denoiser, Options())
    again = denoise_array(ArrayReader(noisy), denoiser, Options())
    assert np.array_equal(alone.data, again.data)


def test_models_that_cannot_be_adapted_say_so(make):
    for model in ("star-net-s", "smds-net", "fasthyde"):
        with pytest.raises(UsageError, match=f"--adapt goes with star-net, not with {model}"):
            make(model, adapt=True)


def test_too_little_memory_writes_nothing(make, write, noisy, tmp_path):
    source = write(tmp_path / "noisy.tif", noisy)
    denoiser = make("star-net", adapt=True)
    denoiser.memory = denoiser.held + 4e6
    with pytest.raises(UsageError, match="--adapt needs"):
        denoise_file(source, tmp_path / "out" / "clean.tif", denoiser, Options())
    assert not (tmp_path / "out" / "clean.tif").exists()
