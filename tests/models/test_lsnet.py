"""LSNet: its published size, what its parts compute, and that far pixels matter."""

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold.infer import outofcore
from rsunfold.models.lsnet import Background, LSNet, Transform
from rsunfold.registry import get_model
from rsunfold.unfold import scan
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.proximal import soft_threshold
from rsunfold.unfold.unrolled import Record


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def tiny(**arch) -> LSNet:
    torch.manual_seed(0)
    return LSNet(**{**get_model("lsnet").sizes["tiny"], **arch}).eval().requires_grad_(False)


def test_size_of_the_abstract_within_ten_percent():
    net = LSNet(**get_model("lsnet").sizes["paper"])
    assert net.arch == LSNet().arch
    assert net.parameters_count == pytest.approx(2.18e6, rel=0.1)
    assert 2 * net.macs(256, 256) == pytest.approx(24.46e9, rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (13, 18), (40, 24)], ids=str)
def test_arithmetic_is_what_runs(size, flops):
    """PyTorch's own counter sees every convolution, projection and product of the scan."""
    net = tiny()
    assert flops(net, image(1, 1, *size), reconstruct=True) == 2 * net.macs(*size)


def test_stage_equations():
    net, D, record = tiny(), image(1, 1, 14, 11), Record()
    net(D, keep=record, reconstruct=True)
    T = torch.zeros_like(D)
    for stage, kept in zip(net.stages, record.stages, strict=True):
        x = D - T
        B = x + stage.SSM(x)
        x = T + D - B
        T = x - stage.eps * stage.H(x)
        D = stage.FD(B + T)
        for letter, value in zip("BTD", (B, T, D), strict=True):
            torch.testing.assert_close(kept[letter], value)


# ---------------------------------------------------------------------- sparse transform


def test_with_tied_weights_the_second_half_is_the_adjoint_of_the_first():
    torch.manual_seed(1)
    op = Transform(5).double()
    linear = [nn.Sequential(*(m for m in half if isinstance(m, nn.Conv2d))) for half in (op.W, op.W_t)]
    with torch.no_grad():
        for there, back in zip(linear[0], reversed(linear[1]), strict=True):
            assert back.weight.transpose(0, 1).shape == there.weight.shape
            back.weight.copy_(there.weight.transpose(0, 1).flip(2, 3))
            there.bias.zero_()
            back.bias.zero_()
        x, y = torch.randn(2, 1, 9, 12, dtype=torch.float64), torch.randn(2, 5, 9, 12, dtype=torch.float64)
        torch.testing.assert_close((linear[0](x) * y).sum((1, 2, 3)), (x * linear[1](y)).sum((1, 2, 3)))


def test_threshold_is_that_of_the_channel_times_the_attention_of_the_pixel():
    torch.manual_seed(1)
    op, w = Transform(5), torch.randn(2, 5, 9, 12)
    with torch.no_grad():
        op.theta.copy_(torch.arange(5.0)[:, None, None] - 2)
        a = op.a(w)
        assert a.shape == (2, 1, 9, 12) and 0 < a.min() < a.max() < 1
        expected = soft_threshold(w, torch.log1p(op.theta.exp()) * a)
        torch.testing.assert_close(op.shrink(w), expected)
        op.theta.fill_(30.0)
        op.a[-2].bias.fill_(20.0)
        assert not op.shrink(w).any()  # nothing is above so high a threshold


def test_radius_of_the_transform_is_how_far_a_pixel_reaches():
    torch.manual_seed(1)
    op = Transform(5).double().requires_grad_(False)
    for p in op.parameters():
        if p is not op.theta:
            p.abs_().mul_(0.2)  # no ReLU hides anything, and the attention is not saturated
    size = 2 * op.radius + 7
    x, middle = 0.1 * image(1, 1, size, size).double(), op.radius + 3
    moved = x.clone()
    moved[..., middle, middle] += 0.1
    changed = (op(moved) != op(x))[0, 0]
    assert changed[3:-3, 3:-3].all()
    changed[3:-3, 3:-3] = False
    assert not changed.any()


# ---------------------------------------------------------------------- background


def test_far_pixels_matter_to_the_background():
    """A bright corner is felt in the opposite one, and in the two others, far beyond what the convolutions reach."""
    net, record, moved_record = tiny().double(), Record(), Record()
    x = image(1, 1, 90, 70).double()
    moved = x.clone()
    moved[..., :4, :4] += 1
    net(x, keep=record)
    net(moved, keep=moved_record)
    felt = (moved_record.stages[0]["B"] - record.stages[0]["B"]).abs()[0, 0]
    for corner in (felt[-30:, -30:], felt[-30:, :30], felt[:30, -30:]):
        assert corner.min() > 0 and corner.max() > 1e-8


def interpolated(z: torch.Tensor, s: int, rows: int, cols: int) -> torch.Tensor:
    """Bilinear between the centres of the cells, written out for one channel (h, w)."""

    def weights(n: int, cells: int) -> torch.Tensor:
        at = ((torch.arange(n) + 0.5) / s - 0.5).clamp(0, cells - 1)
        return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp_min(0)

    return weights(rows, z.shape[0]) @ z @ weights(cols, z.shape[1]).T


def test_cells_are_interpolated_between_their_centres_wherever_the_window_lies():
    from rsunfold.cube import Window
    from rsunfold.unfold.operators import Place

    torch.manual_seed(0)
    op = Background(3, 4, 8, 2, 4)
    rows, cols = 30, 41
    z = torch.randn(1, 3, 8, 11)
    exact = torch.stack([interpolated(c, 4, rows, cols) for c in z[0]])[None]
    for window in (Window(0, 0, 30, 41), Window(0, 0, 8, 8), Window(4, 12, 12, 16), Window(24, 36, 6, 5)):
        inner = (slice(0, window.height), slice(0, window.width))
        found = op._up(z, Place(window, inner, rows, cols))
        torch.testing.assert_close(found, exact[:, :, *window.slices])


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (61, 47)], ids=str)
def test_windows_agree_with_the_whole_though_the_scan_is_in_strips(size, tmp_path, random_network, monkeypatch):
    """Also cells that are not complete, and memory that does not hold all of the scan at once."""
    x = image(1, 1, *size)
    net = random_network("lsnet", s=8)
    with torch.inference_mode():
        expected = net(x)[0][0, 0].numpy()
        monkeypatch.setattr(scan, "CELLS", 10)
        canvas = outofcore.Canvas(*size, 20, tmp_path / "maps", torch.device("cpu"), 1)
        D = canvas.load(lambda w: x[0, 0].numpy()[w.slices])
        T = for_inference(net)(D, keep=canvas.keep)[0]
        found = T.read(outofcore.Window(0, 0, *size))[0, 0].numpy()
        canvas.close()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1e-2, float(np.ptp(expected))))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_gives_nearly_the_same(kind):
    net, x = tiny(), image(1, 1, 40, 33)
    with torch.inference_mode():
        expected = net(x)[0]
        with torch.autocast("cpu", kind):
            found = net(x)[0]
    assert found.isfinite().all()
    assert float((found.float() - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_a_step_of_training_in_bfloat16_gives_finite_gradients():
    torch.manual_seed(0)
    net = LSNet(**get_model("lsnet").sizes["tiny"]).train()
    with torch.autocast("cpu", torch.bfloat16):
        T, D = net(image(2, 1, 21, 26), reconstruct=True)
    (T.float().square().mean() + D.float().square().mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
