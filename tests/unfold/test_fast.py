"""The form for inference computes the same as the network as trained."""

import pytest
import torch
from torch import nn

from rsunfold.models.l_rpcanet import LRPCANet, bottleneck
from rsunfold.models.rpcanet import RPCANet
from rsunfold.unfold.fast import FastOperator, for_inference
from rsunfold.unfold.operators import Operator, SqueezeExcite, conv, plain

OPERATORS = {
    "normalised": lambda: bottleneck(1, 3, 4, 8, norm=True),
    "not normalised": lambda: bottleneck(3, 2, 4, 8, norm=False),
    "activation last": lambda: Operator(conv(1, 5, 3, norm=True), nn.Conv2d(5, 1, 3, padding=1), SqueezeExcite(5, 3)),
    "no channel weights": lambda: plain(2, 6, norm=True),
}


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


@pytest.fixture(params=OPERATORS)
def op(request) -> Operator:
    torch.manual_seed(0)
    made = randomise(OPERATORS[request.param]()).requires_grad_(False)
    for name, p in made.named_parameters():
        if "se." in name:
            p.normal_(0, 2)  # channel weights far from equal
    return made


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (12, 17)])
def test_operator_on_images_of_any_size(op, shape):
    fast = FastOperator(op)
    x = torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(1))
    assert close(fast(x), op(x))


def test_operator_with_the_mean_of_a_larger_image(op):
    fast = FastOperator(op)
    x = torch.randn(2, 1, 12, 17, generator=torch.Generator().manual_seed(1))
    mean = torch.rand(2, op.head.in_channels) - 0.5
    assert close(fast(x, mean), op(x, mean))
    assert op.se is None or not close(fast(x, mean), fast(x))


@pytest.mark.parametrize(
    "inner",
    [
        (slice(0, 12), slice(0, 17)),
        (slice(0, 4), slice(5, 17)),
        (slice(7, 12), slice(0, 1)),
        (slice(3, 9), slice(4, 8)),
    ],
)
def test_totals_of_windows(op, inner):
    x = torch.randn(2, 1, 12, 17, generator=torch.Generator().manual_seed(1))
    total = FastOperator(op).total(x, inner)
    assert total.dtype == torch.float64 and close(total, op.total(x, inner))


def test_reach_and_width_are_those_of_the_operator_as_trained(op):
    assert FastOperator(op).radius == op.radius and FastOperator(op).width == op.width


def test_images_kept_elsewhere_pass_themselves_through(op):
    class Elsewhere:
        def through(self, operator):
            return operator

    fast = FastOperator(op)
    assert fast(Elsewhere()) is fast


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
