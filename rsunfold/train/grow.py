"""Networks that begin as what another has learned: larger ones, and ones whose dead operators live again."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from rsunfold.unfold.operators import Operator
from rsunfold.unfold.unrolled import TargetNetwork, Unrolled


@torch.no_grad()
def grown(small: Unrolled, large: Unrolled) -> Unrolled:
    """``large``, whose weights are random, with those of ``small`` in it, so that it computes the same.

    Each layer keeps its channels in the first places; they do not see the added ones (weights of zero), which keep
    their random weights, and so differ from each other from the first step on. Stages are added at the end, where the
    model says how one leaves T as it is (:meth:`TargetNetwork.add_stage`). After Chen, Goodfellow and Shlens, Net2Net,
    ICLR 2016, where added channels are copies.

    Raises ValueError where a layer is missing, is narrower than it was, or the two networks do not compute the same.
    """
    if not isinstance(large, TargetNetwork) or not isinstance(small, TargetNetwork):
        raise ValueError("only networks for infrared targets can grow")
    deep = copy.deepcopy(small)
    for _ in range(large.arch.get("K", 0) - small.arch.get("K", 0)):
        deep.add_stage()
    learned, state = deep.state_dict(), large.state_dict()  # whose tensors are those of large
    if learned.keys() != state.keys():
        raise ValueError("only channels and stages can be added, not layers")
    for name, value in state.items():
        old = learned[name]
        if old.ndim != value.ndim or any(n < m for n, m in zip(value.shape, old.shape, strict=True)):
            raise ValueError(f"{name} would shrink from {tuple(old.shape)} to {tuple(value.shape)}")
        if value.ndim > 1:
            value[: len(old)] = 0
        value[tuple(slice(n) for n in old.shape)] = old
    image = torch.rand(1, 1, 48, 40, generator=torch.Generator().manual_seed(0))
    (before, _), (after, _) = (copy.deepcopy(net).cpu().eval()(image) for net in (small, large))
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise ValueError("with these weights in it, the one would not compute what the other does")
    return large


@torch.no_grad()
def revived(net: Unrolled, dead: Mapping[str, float], fresh: Unrolled) -> Unrolled:
    """``net``, some of whose operators give one number for all pixels, with those of ``fresh`` in their place.

    dead : the operators and their numbers, as :func:`~rsunfold.unfold.operators.dead_operators` finds them. fresh : a
    random network of the same architecture.

    Each gives its number still, since its projection is zero but for the bias, so that ``net`` computes the same but
    for what the border of the image adds; but its layers have a gradient again. Raises ValueError for an operator of
    another kind than :class:`Operator`, whose projection is a convolution.
    """
    for name, number in dead.items():
        old, new = net.get_submodule(name), fresh.get_submodule(name)
        if not (isinstance(old, Operator) and isinstance(new, Operator)) or new.head.bias is None:
            raise ValueError(f"{name} is no operator that can begin anew")
        nn.init.zeros_(new.head.weight)
        nn.init.constant_(new.head.bias, number)
        old.load_state_dict(new.state_dict())
    return net
