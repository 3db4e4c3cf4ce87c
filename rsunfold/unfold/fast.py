"""The same operators with less arithmetic, for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rsunfold.unfold.operators import Operator, exact


class FastOperator(Operator):
    """An :class:`Operator` in evaluation mode, rearranged; results agree to float rounding.

    - Batch normalisation is folded into the convolution before it.
    - The channel weights s are multiplied into the projection, 3x3 C->1, not into the features.
    - The projection is nine products of a pixel's features with one weight vector each, added up at nine shifts: as a
      convolution it would waste the width of the vector unit on its single output channel.
    - Where the last convolution, 3x3 c->C, has no activation, it and the projection are linear: their product, 3x3
      c->9, is formed for the weights at hand, and the means of its C channels follow from sums of the c before it.
    """

    def __init__(self, op: Operator) -> None:
        layers = folded(op.features)
        nn.Module.__init__(self)
        last = layers.pop() if isinstance(layers[-1], nn.Conv2d) else None
        self.features = nn.Sequential(*layers)
        self.last: Any = last
        self.se, self.head = op.se, op.head
        self._radius, self._width = op.radius, op.width

    @property
    def radius(self) -> int:
        """Receptive-field radius in pixels, that of the operator as trained."""
        return self._radius

    @property
    def width(self) -> int:
        """The largest number of channels of the operator as trained."""
        return self._width

    def forward(self, x: Any, mean: Tensor | None = None) -> Any:
        """F(x); see :meth:`Operator.forward`."""
        if not isinstance(x, Tensor):
            return x.through(self)
        g = self.features(x)
        if self.se is not None and mean is None:
            whole = slice(0, g.shape[2]), slice(0, g.shape[3])
            mean = self._total(g, whole).to(g.dtype) / (g.shape[2] * g.shape[3])
        parts = [self._project(g[b : b + 1], None if mean is None else mean[b : b + 1]) for b in range(len(g))]
        return torch.cat(parts)

    def total(self, x: Tensor, inner: tuple[slice, slice]) -> Tensor:
        """Sums of the features over ``inner``; see :meth:`Operator.total`."""
        return exact(self._total(self.features(x), inner))

    def _total(self, g: Tensor, inner: tuple[slice, slice]) -> Tensor:
        if self.last is None:
            return g[:, :, inner[0], inner[1]].sum((2, 3))
        shifts = _shifted_sums(g, *inner)
        pixels = (inner[0].stop - inner[0].start) * (inner[1].stop - inner[1].start)
        total: Tensor = torch.einsum("Ccij,bcij->bC", self.last.weight, shifts) + pixels * self.last.bias
        return total

    def _project(self, g: Tensor, mean: Tensor | None) -> Tensor:
        """(1, 1, H, W) of features g (1, c, H, W) and their image-wide means (1, C)."""
        weight = self.head.weight[0]  # (C, 3, 3)
        if self.se is not None and mean is not None:
            weight = weight * self.se(mean)[0]
        weight = weight.flatten(1).T  # (9, C)
        if self.last is None:
            h = (weight @ g[0].permute(1, 2, 0).flatten(0, 1).T).reshape(9, *g.shape[2:])
        else:
            joint = torch.einsum("kC,Ccij->kcij", weight, self.last.weight)
            joint = joint.contiguous(memory_format=torch.channels_last)
            h = F.conv2d(g, joint, weight @ self.last.bias, padding=1)[0].contiguous()
        bias: Any = self.head.bias
        projected: Tensor = _add_shifted(h)[None, None] + bias
        return projected


def folded(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Layers with each batch normalisation folded into the convolution before it."""
    out: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and out and isinstance(out[-1], nn.Conv2d):
            out[-1] = fuse_conv_bn_eval(out[-1], layer)
        else:
            out.append(layer)
    return out


def _shifted_sums(g: Tensor, rows: slice, cols: slice) -> Tensor:
    """sum over p in rows x cols of g(p + d), for the nine d of a 3x3 window, 0 outside g: (B, c, 3, 3)."""

    def along(total: Tensor, line: Any, size: int, inner: slice, d: int) -> Tensor:
        """The sum over ``inner`` shifted by d, from that over ``inner``: one line leaves, one may come."""
        if d == 0:
            return total
        leaves, comes = (inner.start, inner.stop) if d == 1 else (inner.stop - 1, inner.start - 1)
        total = total - line(leaves)
        return total + line(comes) if 0 <= comes < size else total

    height, width = g.shape[2:]
    base = g[:, :, rows].sum(2)
    out = []
    for di in (-1, 0, 1):
        row = along(base, lambda i: g[:, :, i], height, rows, di)  # (B, c, W)
        inner = row[:, :, cols].sum(2)
        out += [along(inner, lambda j, row=row: row[:, :, j], width, cols, dj) for dj in (-1, 0, 1)]
    return torch.stack(out, 2).reshape(*g.shape[:2], 3, 3)


def _add_shifted(h: Tensor) -> Tensor:
    """out(y, x) = sum over i, j of h[3 i + j](y + i - 1, x + j - 1), 0 outside: (H, W) of h (9, H, W)."""
    out = h[4].clone()
    height, width = out.shape
    for k in (0, 1, 2, 3, 5, 6, 7, 8):
        di, dj = k // 3 - 1, k % 3 - 1
        to = slice(max(0, -di), height - max(0, di)), slice(max(0, -dj), width - max(0, dj))
        source = slice(max(0, di), height - max(0, -di)), slice(max(0, dj), width - max(0, -dj))
        out[to] += h[k][source]
    return out


def for_inference(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in evaluation mode that computes the same faster; weights are stored channels-last."""
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child) is Operator:
                setattr(parent, name, FastOperator(child))
            elif type(child) is nn.Sequential:
                setattr(parent, name, nn.Sequential(*folded(child)))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
