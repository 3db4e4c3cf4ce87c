"""Warnings that are expected, in programs of several threads too.

Threads that enter and leave ``warnings.catch_warnings`` in turn keep its filters for good, or lose their own.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def silenced(category: type[Warning]) -> Iterator[None]:
    """No warnings of ``category``, whatever else is set; of what others set meanwhile nothing is lost or kept."""
    own = ("ignore", None, category, None, 0)
    changed = warnings.filters
    with _lock:
        changed.insert(0, own)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            for filters in (changed, warnings.filters):  # the caller may have entered a block of its own
                filters[:] = [each for each in filters if each is not own]  # type: ignore[index]
