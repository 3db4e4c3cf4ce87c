"""How much a learned operator can amplify: the local gain at an image, and an upper bound of it from the layers.

The local gain is the largest singular value of the Jacobian at one image. No Lipschitz constant of the operator is
smaller. The iteration that finds it approaches it from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from rsunfold.unfold.fast import folded
from rsunfold.unfold.operators import Operator

TOLERANCE = 1e-3
MOST_ITERATIONS = 100
OVERSAMPLING = 16
"""Frequencies along each axis at which a convolution is looked at, for each pixel by which its kernel exceeds one."""


@dataclass(frozen=True)
class Gain:
    """value : the estimate after ``iterations``; converged : the last one changed it by less than a thousandth."""

    value: float
    iterations: int
    converged: bool


def local_gain(operator: Callable[[Tensor], Tensor], x: Tensor) -> Gain:
    """The largest singular value of the Jacobian J of ``operator`` at x, by power iteration on J^T J.

    J v and J^T u come by automatic differentiation, v starts at seeded normal numbers. Where ReLU has a kink, the
    slope is 0, as in training.
    """
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    v = v / v.norm()
    # J^T u is linear in u: its derivative along v, at any u, is J v. torch.func would load torch's compiler, and
    # grad_outputs sympy, which takes longer than most images.
    given = x.detach().requires_grad_()
    with torch.enable_grad():
        result = operator(given)
        any_u = torch.zeros_like(result, requires_grad=True)
        (pulled,) = torch.autograd.grad((result * any_u).sum(), given, create_graph=True)
        value = 0.0
        for iteration in range(1, MOST_ITERATIONS + 1):
            (u,) = torch.autograd.grad((pulled * v).sum(), any_u, retain_graph=True)
            last, value = value, float(u.norm())
            if abs(value - last) <= TOLERANCE * value:
                return Gain(value, iteration, True)
            (w,) = torch.autograd.grad((result * u).sum(), given, retain_graph=True)
            v = w / w.norm().clamp_min(torch.finfo(w.dtype).tiny)
    return Gain(value, MOST_ITERATIONS, False)


class UnknownNormError(Exception):
    """A layer whose norm is not known; the text says which."""


def gain_bound(module: nn.Module, x: Tensor) -> float:
    """An upper bound of the local gain of ``module`` at x, float (1, C, H, W): the product of its layers' norms.

    A convolution, with the batch normalisation after it folded in, has at most the norm of its frequency response
    (see :func:`convolution_norm`); ReLU has 1, LeakyReLU its larger slope, sigmoid 1/4. Channel weights s of the means
    of their input f are taken at x: max s, plus the norm of what a change of s does to f. Without channel weights the
    bound holds at every image, and is one of the Lipschitz constant.

    Raises UnknownNormError for a layer of another kind.
    """
    if type(module) is Operator:
        product = gain_bound(module.features, x) * _norm(module.head)
        return product if module.se is None else product * _channel_weights(module, x)
    if type(module) is nn.Sequential:
        return math.prod(_norm(layer) for layer in folded(module))
    return _norm(module)


def _norm(layer: nn.Module) -> float:
    if isinstance(layer, nn.Conv2d):
        return convolution_norm(layer)
    if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
        scale = torch.rsqrt(layer.running_var + layer.eps)
        return float((scale * (layer.weight.detach() if layer.affine else 1)).abs().max())
    if isinstance(layer, nn.ReLU | nn.Identity):
        return 1.0
    if isinstance(layer, nn.LeakyReLU):
        return max(1.0, abs(layer.negative_slope))
    if isinstance(layer, nn.Sigmoid):
        return 0.25
    raise UnknownNormError(f"the norm of a {type(layer).__name__} is not known")


def convolution_norm(conv: nn.Conv2d) -> float:
    """An upper bound of the largest singular value of a convolution with zero padding, on images of any size.

    It is the largest norm of the matrix of frequency responses (out, in) over all frequencies, found on a grid. The
    square of that norm is a supremum of trigonometric polynomials of degree n = kernel - 1, which between the N points
    of the grid exceed their values there by 1 / cos(pi n / N) at most for each axis (Ehlich and Zeller, 1964).
    """
    if conv.padding_mode != "zeros":
        raise UnknownNormError(f"the norm of a convolution with padding {conv.padding_mode!r} is not known")
    weight = conv.weight.detach().cpu().double()  # not on the device: Apple's GPUs have no float64
    degrees = [k - 1 for k in weight.shape[2:]]
    size = [max(1, OVERSAMPLING * n) for n in degrees]
    response = torch.fft.rfft2(weight, s=size)  # a dilated kernel has the same responses, at other frequencies
    groups = response.reshape(conv.groups, -1, *response.shape[1:]).permute(0, 3, 4, 1, 2)
    gram = groups @ groups.mH if groups.shape[-2] <= groups.shape[-1] else groups.mH @ groups
    largest = float(torch.linalg.eigvalsh(gram)[..., -1].max().clamp_min(0))
    return math.sqrt(largest / math.prod(math.cos(math.pi * n / N) for n, N in zip(degrees, size, strict=True)))


def _channel_weights(op: Operator, x: Tensor) -> float:
    """Norm of the differential of f -> f * s(mean f) at f = features(x): max s + |diag(rms f) ds/dm|."""
    se = op.se
    assert se is not None
    f = op.features(x)
    mean = f.mean((2, 3))
    slope: Any = jacobian(lambda m: se(m).flatten(), mean)[:, 0]  # type: ignore[no-untyped-call]
    rms = f.square().mean((2, 3))[0].sqrt()
    change = torch.linalg.matrix_norm((rms[:, None] * slope).cpu().double(), 2)
    return float(se(mean).max()) + float(change)
