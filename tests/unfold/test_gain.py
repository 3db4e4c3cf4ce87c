"""Gains of operators, against the singular values of explicit matrices."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold.unfold import gain
from rsunfold.unfold.gain import UnknownNormError, convolution_norm, gain_bound, local_gain
from rsunfold.unfold.operators import Operator, SqueezeExcite, conv


def matrix_of(operator, shape) -> np.ndarray:
    """The Jacobian at an image of ones."""
    x = torch.ones(1, *shape)
    out = operator(x).numel()
    return torch.autograd.functional.jacobian(operator, x).reshape(out, -1).detach().numpy()


def largest(matrix) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3, padding=1).requires_grad_(False)


def test_nothing_is_in_double_precision_on_the_device(monkeypatch):
    """Apple's GPUs have none; what has not been copied from the device stands for what lies there."""
    on_cpu, double = torch.Tensor.cpu, torch.Tensor.double
    copied = []

    def cpu(self):
        copied.append(on_cpu(self))
        return copied[-1]

    def only_of_copies(self):
        assert any(self is x for x in copied)
        return double(self)

    x, op = torch.randn(1, 1, 9, 8), Operator(conv(1, 4, 3), nn.Conv2d(4, 1, 3), SqueezeExcite(4, 4))
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(torch.Tensor, "double", only_of_copies)
    with torch.no_grad():
        assert gain_bound(op, x) > 0 and copied


def test_gains_are_found_without_the_compiler_of_torch():
    """Which takes seconds to load."""
    program = (
        "import sys, torch\n"
        "from rsunfold.unfold.gain import gain_bound, local_gain\n"
        "from rsunfold.unfold.operators import Operator, SqueezeExcite, conv\n"
        "op = Operator(conv(1, 4, 3, norm=True), torch.nn.Conv2d(4, 1, 3, padding=1), SqueezeExcite(4, 4)).eval()\n"
        "x = torch.ones(1, 1, 9, 8)\n"
        "assert local_gain(op, x).value > 0 and gain_bound(op, x) > 0\n"
        "print({'torch._dynamo', 'sympy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_gain_of_a_linear_operator_is_its_largest_singular_value(layer, monkeypatch):
    true = largest(matrix_of(layer, (3, 9, 8)))
    found = local_gain(layer, torch.randn(1, 3, 9, 8))
    assert found.converged and found.iterations < 100
    assert 0.98 * true < found.value <= true * (1 + 1e-5)
    again = local_gain(layer, torch.zeros(1, 3, 9, 8))
    assert again.value == pytest.approx(found.value, rel=1e-5)
    monkeypatch.setattr(gain, "MOST_ITERATIONS", 2)
    short = local_gain(layer, torch.zeros(1, 3, 9, 8))
    assert not short.converged and short.iterations == 2 and short.value <= true


def test_the_gain_of_a_rectifier_is_that_of_the_pixels_that_pass():
    x = torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]])
    scale = torch.tensor([[[[2.0, 9.0], [3.0, 9.0]]]])
    assert local_gain(lambda v: scale * torch.relu(v), x).value == pytest.approx(3, rel=0.01)
    assert local_gain(torch.relu, -x.abs()).value == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"groups": 2}, {"dilation": 2, "padding": 2}, {"stride": 2}, {"kernel_size": 1, "padding": 0},
     {"kernel_size": (3, 5), "padding": (1, 2)}],
    ids=str,
)  # fmt: skip
def test_the_norm_of_a_convolution_is_an_upper_bound_and_near_for_large_images(options):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 6, **{"kernel_size": 3, "padding": 1, **options}).requires_grad_(False)
    bound = convolution_norm(layer)
    small, large = (largest(matrix_of(layer, (4, n, n))) for n in (4, 14))
    assert small <= large * (1 + 1e-6) <= bound * (1 + 1e-6)
    if options != {"stride": 2}:
        assert large > 0.85 * bound


def test_other_paddings_are_not_known():
    with pytest.raises(UnknownNormError, match="padding 'circular'"):
        convolution_norm(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))


def test_batch_normalisation_counts():
    torch.manual_seed(2)
    layers = nn.Sequential(*conv(2, 3, 3, norm=True)).eval().requires_grad_(False)
    plain = gain_bound(layers, torch.zeros(1, 2, 5, 5))
    layers[1].weight.mul_(4)
    assert gain_bound(layers, torch.zeros(1, 2, 5, 5)) == pytest.approx(4 * plain)
    layers[1].bias.fill_(50)  # nothing is cut
    true = largest(matrix_of(lambda v: layers(v), (2, 8, 8)))
    assert 0.8 * 4 * plain < true <= 4 * plain


def test_layers_between():
    x = torch.zeros(1, 1, 4, 4)
    assert gain_bound(nn.Sequential(nn.Sigmoid(), nn.ReLU(), nn.LeakyReLU(0.2), nn.Identity()), x) == 0.25
    assert gain_bound(nn.LeakyReLU(3.0), x) == 3
    norm = nn.BatchNorm2d(1).eval()
    norm.running_var.fill_(4)
    assert gain_bound(norm, x) == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(UnknownNormError, match="norm of a Softmax is not known"):
        gain_bound(nn.Sequential(nn.ReLU(), nn.Softmax(1)), x)


@pytest.mark.parametrize("strong", [False, True])
def test_channel_weights_count_with_what_a_change_of_them_does(strong):
    """Weights near 0 that react strongly: their value alone would bound the gain by far too little."""
    torch.manual_seed(3)
    op = Operator(conv(1, 4, 1), nn.Conv2d(4, 1, 1), SqueezeExcite(4, 4)).requires_grad_(False)
    if strong:
        for layer in op.se.excitation:
            if isinstance(layer, nn.Conv2d):
                layer.weight.normal_(0, 8)
    for size in (1, 6):
        x = torch.rand(1, 1, size, size)
        jacobian = torch.autograd.functional.jacobian(lambda v: op(v), x).reshape(size * size, -1)
        assert largest(jacobian.numpy()) <= gain_bound(op, x) * (1 + 1e-5)


@pytest.mark.parametrize("model", ["l-rpcanet", "rpcanet"])
def test_bounds_are_not_below_gains(model, random_network):
    net = random_network(model)
    x = torch.rand(1, 1, 20, 24)
    for stage in net.stages:
        for op in stage.children():
            with torch.no_grad():
                assert 0 <= local_gain(op, x).value <= gain_bound(op, x) * (1 + 1e-5)
