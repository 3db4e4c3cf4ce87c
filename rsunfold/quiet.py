"""Warnings that are expected, in programs of several threads too.

Threads that enter and leave ``warnings.catch_warnings`` in turn keep its filters for good, or lose their own.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_inside: dict[type[Warning], int] = {}
_kept: Any = None


def _begin_anew() -> None:
    """In a process that was forked while other threads were inside: they are not there."""
    global _lock, _kept
    _lock = threading.Lock()
    _inside.clear()
    if _kept is not None:
        _kept.__exit__(None, None, None)
        _kept = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def silenced(category: type[Warning]) -> Iterator[None]:
    """No warnings of ``category``. The caller's filters are as they were when the last thread has left, whatever the
    category."""
    global _kept
    with _lock:
        if _kept is None:
            _kept = warnings.catch_warnings()
            _kept.__enter__()
        if not _inside.get(category):
            warnings.simplefilter("ignore", category)
        _inside[category] = _inside.get(category, 0) + 1
    try:
        yield
    finally:
        with _lock:
            left = _inside.get(category, 0) - 1
            if left > 0:
                _inside[category] = left
            else:
                _inside.pop(category, None)
            if not _inside and _kept is not None:
                _kept.__exit__(None, None, None)
                _kept = None
