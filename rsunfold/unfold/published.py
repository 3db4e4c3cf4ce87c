"""Names of the tensors in the published checkpoints of the RPCANet family, turned into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


def rename_operators(state: Mapping[str, Tensor], operators: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of the published RPCANet family under the names used here; ``operators`` maps theirs to ours."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        _, k, operator, rest = name.split(".", 3)
        if rest in ("epsilon", "sigma"):
            out[f"stages.{k}.{'eps' if rest == 'epsilon' else 'sig'}"] = tensor
            continue
        rest = re.sub(r"^(convs|mapping)\.", "features.", rest)
        rest = rest.replace("channel_attention.", "se.").replace("final_conv.", "head.")
        out[f"stages.{k}.{operators[operator]}.{rest}"] = tensor
    return out


def rename_stages(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Tensors ``decos.K.NAME`` of a published checkpoint as ``stages.K.OURS``.

    ``names`` are pairs (pattern of the beginning of NAME, what takes its place), the first that fits counts. A name
    that none fits raises ValueError.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = re.fullmatch(r"decos\.(\d+)\.(.+)", name)
        fits = [(pattern, ours) for pattern, ours in names if parts and re.match(pattern, parts[2])]
        if parts is None or not fits:
            raise ValueError(f"the tensor {name} does not belong to the published network")
        out[f"stages.{parts[1]}." + re.sub(f"^{fits[0][0]}", fits[0][1], parts[2])] = tensor
    return out


def stages_of(renamed: Mapping[str, Tensor]) -> int:
    """The number of stages that tensors ``stages.K.NAME`` are of."""
    return 1 + max(int(name.split(".")[1]) for name in renamed)
