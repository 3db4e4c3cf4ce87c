"""Learned operators: how far they reach, and that the form for inference computes the same."""

import pytest
import torch
from torch import nn

from rsunfold.models.l_rpcanet import LRPCANet, bottleneck
from rsunfold.models.rpcanet import RPCANet, plain
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.operators import Operator, SqueezeExcite, conv

OPERATORS = {
    "FB": (lambda: bottleneck(1, 3, 4, 8, norm=True), 5),
    "FN": (lambda: bottleneck(3, 2, 4, 8, norm=False), 5),
    "plain": (lambda: plain(6, 8, norm=False), 8),
    "5x5": (lambda: Operator(conv(1, 3, 5), nn.Conv2d(3, 1, 3, padding=1), SqueezeExcite(3, 2)), 3),
}


def positive(op: nn.Module) -> nn.Module:
    """All weights and biases positive, so that no ReLU hides how far a change of one pixel goes."""
    with torch.no_grad():
        for p in op.parameters():
            p.abs_().add_(0.05)
    return op.double().eval()


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics and affine parameters of the batch normalisations."""
    draw = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value, low, high in (
                (m.running_mean, -0.3, 0.3),
                (m.running_var, 0.3, 3.0),
                (m.weight, 0.5, 1.5),
                (m.bias, -0.2, 0.2),
            ):
                value.data.uniform_(low, high, generator=draw)
    return net.eval()


@pytest.mark.parametrize("name", OPERATORS)
def test_radius_is_exactly_how_far_a_pixel_reaches(name):
    make, radius = OPERATORS[name]
    torch.manual_seed(1)
    op = positive(make())
    assert op.radius == radius
    size = 2 * radius + 7
    middle = size // 2
    x = torch.rand(1, 1, size, size, dtype=torch.float64)
    moved = x.clone()
    moved[..., middle, middle] += 1
    mean = op.features(x).mean((2, 3))
    changed = (op(moved, mean) != op(x, mean))[0, 0]
    expected = torch.zeros(size, size, dtype=torch.bool)
    expected[middle - radius : middle + radius + 1, middle - radius : middle + radius + 1] = True
    assert torch.equal(changed, expected)


def test_without_the_mean_a_pixel_reaches_the_whole_image():
    torch.manual_seed(2)
    op = bottleneck(1, 3, 4, 8, norm=True).double().eval()
    x = torch.rand(1, 1, 31, 31, dtype=torch.float64)
    moved = x.clone()
    moved[..., 15, 15] += 1
    assert (op(moved) != op(x)).float().mean() > 0.9
    torch.testing.assert_close(op(x), op(x, op.features(x).mean((2, 3))))


def test_width_is_the_widest_layer():
    assert bottleneck(1, 3, 4, 8, norm=True).width == 8 and bottleneck(1, 3, 16, 8, norm=True).width == 16


def test_other_images_pass_themselves_through():
    class Elsewhere:
        def through(self, op):
            return ("through", op)

    op = plain(1, 2, norm=False)
    assert op(Elsewhere()) == ("through", op)


@pytest.mark.parametrize("net", [LRPCANet(K=2, c=4, C=8, R=1), RPCANet(K=2, C=8)], ids=lambda n: type(n).__name__)
def test_for_inference_equals_the_plain_network(net):
    randomise(net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fast = for_inference(net)
    x = torch.rand(2, 1, 33, 40, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        for ours, plainly in zip(fast(x, reconstruct=True), net(x, reconstruct=True), strict=True):
            assert (ours - plainly).abs().max() <= 1e-5 * plainly.abs().max()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters()) and not fast.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # the given network is left as it was
    assert all(p.requires_grad for p in net.parameters())


def test_for_inference_uses_running_statistics_of_a_training_network():
    net = randomise(RPCANet(K=1, C=4))
    x = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        expected = net(x)[0]
        torch.testing.assert_close(for_inference(net.train())(x)[0], expected)
