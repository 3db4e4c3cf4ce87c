"""Where single precision is needed whatever the caller's autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_single(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in float32 where they are narrower, else as they are."""
    return tuple(x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on the device of x keep their types."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
