"""Wide windows: the same convolution by spectra."""

import pytest
import torch
import torch.nn.functional as F

from rsunfold.unfold.fourier import SIDE, wide_conv


@pytest.mark.parametrize("k", [1, 3, 17, SIDE - 1])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (7, 3), (32, 33), (50, 65)], ids=str)
def test_it_is_that_convolution(k, size):
    draw = torch.Generator().manual_seed(k)
    x = torch.randn(2, 3, *size, generator=draw).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, 3, k, k, generator=draw) / k
    y = wide_conv(x, weight)
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=k // 2), rtol=1e-4, atol=1e-4)


def test_its_gradients_are_those_of_that_convolution():
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, 40, 35, generator=draw), torch.randn(4, 3, 17, 17, generator=draw)
    target = torch.randn(2, 4, 40, 35, generator=draw)
    found = []
    for conv in (wide_conv, lambda x, w: F.conv2d(x, w, padding=8)):
        x.requires_grad_(), weight.requires_grad_()
        found.append(torch.autograd.grad((conv(x, weight) * target).sum(), (x, weight)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


def test_half_precision_goes_in():
    x, weight = torch.rand(1, 2, 20, 20), torch.rand(2, 2, 17, 17)
    with torch.autocast("cpu", torch.bfloat16):
        y = wide_conv(x.bfloat16(), weight)
    torch.testing.assert_close(y.float(), F.conv2d(x, weight, padding=8), rtol=0.02, atol=0.5)
