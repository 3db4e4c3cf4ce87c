"""The network of a training: where it begins, how its parameters are treated, its average, and its compilation."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from rsunfold.errors import InputError, WeightsError
from rsunfold.registry import get_model
from rsunfold.train.grow import grown
from rsunfold.train.imitate import taken_over
from rsunfold.train.recipe import Optim, Recipe
from rsunfold.unfold.unrolled import Unrolled
from rsunfold.weights import load


def networks(recipe: Recipe, start: str | None = None) -> tuple[Unrolled, Unrolled]:
    """The recipe's network with the weights ``start``, else the random ones of its seed, and the one they came from.

    Both are the same unless the recipe's network is wider than that of ``start`` (:func:`grown`). Raises InputError
    where there is none, WeightsError where ``start`` is of another model or does not fit, UsageError where the network
    lacks what :meth:`Unrolled.check` looks for.
    """
    spec = get_model(recipe.model)
    if spec.kind != "network":
        raise InputError(
            f"the recipe {recipe.name} names {recipe.model!r}, a classical method, which cannot be trained."
        )
    torch.manual_seed(recipe.seed)
    try:
        net: Unrolled = spec.build(**recipe.arch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"[arch] of the recipe {recipe.name} does not fit {recipe.model!r}: {str(error).rstrip('.')}."
        ) from None
    net.check()
    if start is None:
        return net, net
    begun, _, _ = load(start, recipe.begins_with)
    if recipe.begins_with != recipe.model:
        try:
            return taken_over(begun, net), begun
        except ValueError as error:
            raise WeightsError(f"{recipe.model} cannot begin as a pupil of {start}: {error}.") from None
    if begun.arch == net.arch:
        return begun, begun
    try:
        return grown(begun, net), begun
    except ValueError as error:
        same = " ".join(f"--set arch.{k}={json.dumps(v)}" for k, v in begun.arch.items() if net.arch[k] != v)
        raise WeightsError(
            f"the weights {start} have the architecture {begun.arch}, but the recipe asks for {net.arch}; {error}. "
            f"To go on with theirs, add {same}."
        ) from None


def parameter_groups(net: Unrolled, o: Optim) -> list[dict[str, Any]]:
    """Parameters by how they are treated: matrices decay; step sizes have their own lr."""
    steps = net.step_sizes()
    layers = [p for p in net.parameters() if not any(p is q for q in steps)]
    return [
        {"params": [p for p in layers if p.ndim > 1], "weight_decay": o.weight_decay, "factor": 1.0},
        {"params": [p for p in layers if p.ndim <= 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": steps, "weight_decay": 0.0, "factor": o.step_size_lr},
    ]


@torch.no_grad()
def mix(net: Unrolled, other: dict[str, Tensor], share: float) -> None:
    """Move the parameters and statistics of ``net`` by ``share`` of the way to ``other``; counts are taken over."""
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.lerp_(other[name], share)
        else:
            value.copy_(other[name])


def compiled(net: nn.Module, device: torch.device) -> nn.Module:
    """``net`` for torch.compile; raises InputError where that does not work, as on a CPU without a C++ compiler."""
    try:
        torch.compile(torch.relu)(torch.zeros(2, device=device))
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0]
        raise InputError(
            f"the recipe asks for optim.compile, but torch cannot compile here ({why}); on a CPU it needs a C++ "
            "compiler such as g++; install one, or use --set optim.compile=false."
        ) from None
    made: nn.Module = torch.compile(net)  # type: ignore[assignment]
    return made
