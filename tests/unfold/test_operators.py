"""Learned operators: how far a pixel reaches, and what is image-wide."""

import pytest
import torch
from torch import nn

from rsunfold.models.l_rpcanet import bottleneck
from rsunfold.models.rpcanet import RPCANet
from rsunfold.unfold.operators import Operator, SqueezeExcite, conv, dead_operators, plain

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


def test_total_sums_the_features_of_some_pixels():
    op = bottleneck(1, 3, 4, 8, norm=True).eval()
    x = torch.rand(2, 1, 20, 23)
    inner = slice(3, 11), slice(0, 23)
    total = op.total(x, inner)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, op.features(x)[:, :, 3:11].sum((2, 3)).double())


def test_operators_that_pass_nothing_are_found():
    torch.manual_seed(0)
    net = RPCANet(K=2, C=4).eval()
    images = [torch.rand(1, 1, 48, 50) for _ in range(2)]
    assert dead_operators(net, images) == {}
    with torch.no_grad():
        net.stages[0].FT.features[4].bias.fill_(-100)
    assert list(dead_operators(net, images)) == ["stages.0.FT"]
    assert not any(m._forward_hooks for m in net.modules())
