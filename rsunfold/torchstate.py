"""What torch keeps for the whole process, and a caller may have set: types, devices, random numbers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_lock, _numbers = threading.Lock(), threading.RLock()
_inside = 0
_used = False
_callers: torch.dtype


def _begin_anew() -> None:
    """In a process that was forked: threads that were inside are not there, nor are those of OpenMP, for which torch
    would wait for ever once they had been used."""
    global _lock, _numbers, _inside
    if _inside:
        sys.modules["torch"].set_default_dtype(_callers)
    if _used and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    _lock, _numbers, _inside = threading.Lock(), threading.RLock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def usual_torch() -> Iterator[None]:
    """torch, where it is loaded, as it is when a program begins: float32, tensors on the CPU, and no autocast there.
    What the caller has set is set again in the end, of several threads by the last."""
    if sys.modules.get("torch") is None:
        yield
        return
    import torch  # waits where another thread is still importing it

    with ExitStack() as stack:
        stack.enter_context(_float32(torch))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _float32(torch: Any) -> Iterator[None]:
    global _inside, _callers
    with _lock:
        kind = torch.get_default_dtype()
        if not _inside or kind != torch.float32:
            _callers = kind
            torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside = max(0, _inside - 1)  # a process may have been forked inside
            if not _inside and torch.get_default_dtype() == torch.float32:
                torch.set_default_dtype(_callers)


@contextmanager
def drawing(seed: int | None = None) -> Iterator[None]:
    """One thread at a time draws from torch's generator, from which layers take their first weights; with ``seed`` from
    there on. The generator is then as it was."""
    import torch

    global _used
    _used = True  # soon a network computes

    with _numbers, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too, and for good
        yield
