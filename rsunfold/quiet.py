"""Warnings that are expected, in programs of several threads too.

Threads that enter and leave ``warnings.catch_warnings`` in turn keep its filters for good, or lose their own.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OURS = "(?#rsunfold)"
"""A comment, by which our filters equal none of the caller, who might else find his own already there."""
_lock = threading.Lock()
_inside: list[tuple[list[Any], Any]] = []
"""Our filters, each with the list that it was put into."""


def _begin_anew() -> None:
    """In a process that was forked: other threads that were inside are not there."""
    global _lock
    _lock = threading.Lock()
    for place in _inside:
        _remove(*place)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def silenced(category: type[Warning], message: str = "") -> Iterator[None]:
    """No warnings of ``category`` whose text begins with the pattern ``message``, whatever else is set. What the caller
    sets meanwhile stays."""
    filters: Any = warnings.filters
    own = ("ignore", re.compile(_OURS + message), category, None, 0)
    with _lock:
        _inside.append((filters, own))
        filters.insert(0, own)
    try:
        yield
    finally:
        with _lock:
            _remove(filters, own)


def _remove(filters: list[Any], own: Any) -> None:
    for found in (filters, warnings.filters):  # the caller may have entered a block of his own
        found[:] = [each for each in found if each is not own]  # type: ignore[index]
    _inside[:] = [each for each in _inside if each[1] is not own]
