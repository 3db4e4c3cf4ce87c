"""Adapting a network to one noisy image: Stein's estimate is right, it falls, and so does the true error."""

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold.errors import InputError, UsageError
from rsunfold.infer.hsi import adapt
from rsunfold.infer.hsi.adapt import Look, adapted
from rsunfold.infer.hsi.run import Options, denoise_array, denoise_file
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.denoising import quality
from rsunfold.models.star_net import Context, STARNet

EYE = torch.eye(8)


class Shrink(nn.Module):
    """f(y) = e^s y: of white x with variance v in unit noise the best e^s is v / (v + 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(1))
        self.stages = [self]

    def step_sizes(self) -> list[nn.Parameter]:
        return [self.s]

    stride = 1

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


def reader(y, valid=None):
    """Windows of an array, as a file gives them."""
    inside = np.ones(y.shape[1:], bool) if valid is None else valid

    def read(w):
        part = np.s_[w.row : w.row + w.height, w.col : w.col + w.width]
        return np.ascontiguousarray(y[:, *part]), inside[part]

    return read, *y.shape[1:]


def noise(scale, side=60, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal((8, side, side))).astype(np.float32)


def test_the_best_shrinkage_is_found_and_the_given_network_untouched():
    y = noise(2) + noise(1, seed=1)
    net = Shrink()
    with torch.inference_mode():  # whatever the caller's
        made, about = adapted(net, *reader(y), EYE, None)
    assert about.kept and about.risk_before == pytest.approx(1, abs=0.05) and about.side == adapt.SIDE
    assert about.risk_after == pytest.approx(0.8, abs=0.05)
    assert made.s.exp().item() == pytest.approx(0.8, abs=0.04) and net.s.item() == 0
    assert not any(p.requires_grad for p in made.parameters())
    again, _ = adapted(net, *reader(y), EYE, None)
    assert torch.equal(again.s, made.s)


def test_numbers_that_do_no_better_are_not_kept(monkeypatch):
    monkeypatch.setattr(adapt, "RATE", 5.0)  # too far, and no time to return
    monkeypatch.setattr(adapt, "STEPS", 2)
    net = Shrink()
    made, about = adapted(net, *reader(noise(2)), EYE, None)
    assert made is net and not about.kept and about.risk_after > about.risk_before


def test_windows_shrink_with_the_memory_and_the_message_says_what_is_needed():
    net = STARNet(K=2)

    def needed(rows, cols):
        return 4 * (rows + 8) * (cols + 8) * (adapt.CODES * 2 * 729 + 10 * 9)

    assert adapt.side_for(net, 9, 9, 100, 100, needed(48, 48)) == 48
    assert adapt.side_for(net, 9, 9, 100, 100, needed(48, 48) - 1) == 40
    assert adapt.side_for(net, 9, 9, 100, 5, needed(48, 5)) == 48  # the image is narrower
    with pytest.raises(UsageError, match=r"--adapt needs 0.2 GB .* --memory"):
        adapt.side_for(net, 9, 9, 100, 100, needed(16, 16) - 1)


def test_windows_lie_where_the_image_is_valid_and_begin_at_multiples_of_the_stride():
    valid = np.zeros((100, 100), bool)
    valid[55:, 45:] = True
    y = np.zeros((1, 100, 100), np.float32)
    y[0] = np.arange(100)[:, None] + 100 * np.arange(100)
    rng = np.random.default_rng(0)
    found = [adapt._window(*(read := reader(y, valid))[:1], rng, *read[1:], 16, 3) for _ in range(40)]
    assert all(part.shape == (1, 16, 16) and inside.any() for part, inside in found)
    corners = np.array([divmod(int(part[0, 0, 0]), 100) for part, _ in found])
    assert (corners % 3 == 0).all() and len(np.unique(corners, axis=0)) > 10
    for shape in ((1, 9, 100), (1, 1, 1)):
        assert adapt._window(reader(np.zeros(shape, np.float32))[0], rng, *shape[1:], 16, 1)[0].shape[1:] == (
            min(shape[1], 16),
            min(shape[2], 16),
        )


def test_an_image_with_hardly_a_valid_pixel_is_refused():
    valid = np.zeros((60, 60), bool)
    valid[:3, :3] = True
    with pytest.raises(InputError, match=r"few\.tif has too few valid pixels to adapt .* leave out --adapt"):
        adapted(Shrink(), *reader(noise(1), valid), EYE, None, name="few.tif")


def test_the_error_falls_on_an_image(make, clean, noisy):
    plain = denoise_array(ArrayReader(noisy), make("star-net"), Options())
    result = denoise_array(ArrayReader(noisy), make("star-net", adapt=True), Options())
    about = result.summary["adapted"]
    assert plain.summary["adapted"] is None
    assert about["kept"] and about["risk_after"] < about["risk_before"]
    assert quality(clean, result.data)["psnr"] > quality(clean, plain.data)["psnr"] + 0.05


def test_an_image_that_is_more_than_its_mosaic(make, large, monkeypatch):
    """More than 128 x 128 pixels, with holes; by tiles with the result of one piece."""
    monkeypatch.setattr(adapt, "STEPS", 2)
    monkeypatch.setattr(adapt, "SIDE", 16)
    data = np.ma.array(large, mask=np.zeros(large.shape, bool))
    data[:, :20, :30] = np.ma.masked
    denoiser = make("star-net", adapt=True)
    whole = denoise_array(ArrayReader(data), denoiser, Options())
    assert whole.summary["adapted"]["steps"] == 2 and whole.summary["computed"] == "in one piece"
    denoiser.memory = denoiser.held + 4.5e7
    parts = denoise_array(ArrayReader(data), denoiser, Options())
    assert parts.summary["computed"].startswith("in tiles")
    assert parts.summary["adapted"]["risk_after"] == whole.summary["adapted"]["risk_after"]
    np.testing.assert_allclose(parts.data, whole.data, atol=1e-4)


def test_each_image_of_a_batch_begins_anew(make, noisy, large, monkeypatch):
    monkeypatch.setattr(adapt, "STEPS", 2)
    monkeypatch.setattr(adapt, "SIDE", 16)
    denoiser = make("star-net", adapt=True)
    alone = denoise_array(ArrayReader(noisy), denoiser, Options())
    denoise_array(ArrayReader(large[:, :40, :40].copy()), denoiser, Options())
    again = denoise_array(ArrayReader(noisy), denoiser, Options())
    assert np.array_equal(alone.data, again.data)


def test_models_that_cannot_be_adapted_say_so(make):
    for model in ("star-net-s", "smds-net", "fasthyde"):
        with pytest.raises(UsageError, match=f"--adapt works only with star-net, not with {model}"):
            make(model, adapt=True)


def test_too_little_memory_writes_nothing(make, write, noisy, tmp_path):
    source = write(tmp_path / "noisy.tif", noisy)
    denoiser = make("star-net", adapt=True)
    denoiser.memory = denoiser.held + 4e6
    with pytest.raises(UsageError, match="--adapt needs"):
        denoise_file(source, tmp_path / "out" / "clean.tif", denoiser, Options())
    assert not (tmp_path / "out" / "clean.tif").exists()
