"""What torch keeps for the whole process, and a caller may have set: types, devices, random numbers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rsunfold.setting import Setting

_numbers = threading.RLock()
_used = False


def _begin_anew() -> None:
    """In a process that was forked: threads that were drawing are not there, nor are those of OpenMP, for which torch
    would wait for ever once they had been used."""
    global _numbers
    if _used and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    _numbers = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _torch() -> Any:
    return sys.modules["torch"]


def _products() -> str | tuple[str, ...]:
    """How products of float32 matrices may be rounded. torch does not tell it in one word once a caller has set it for
    one backend alone."""
    try:
        return str(_torch().get_float32_matmul_precision())
    except RuntimeError:
        return tuple(backend.matmul.fp32_precision for backend in _backends())


def _round_products(how: str | tuple[str, ...]) -> None:
    if isinstance(how, str):
        _torch().set_float32_matmul_precision(how)
        return
    for backend, each in zip(_backends(), how, strict=True):
        backend.matmul.fp32_precision = each


def _backends() -> tuple[Any, Any]:
    return _torch().backends.cuda, _torch().backends.mkldnn


_kind = Setting[Any](lambda: _torch().get_default_dtype(), lambda kind: _torch().set_default_dtype(kind))
_precision = Setting(_products, _round_products)


@contextmanager
def usual_torch() -> Iterator[None]:
    """torch, where it is loaded, as it is when a program begins: float32, also in products of matrices, tensors on the
    CPU, and no autocast there. What the caller has set is set again in the end, of several threads by the last."""
    if sys.modules.get("torch") is None:
        yield
        return
    import torch  # waits where another thread is still importing it

    with ExitStack() as stack:
        stack.enter_context(_kind.set_to(torch.float32))
        stack.enter_context(_precision.set_to("highest"))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


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
