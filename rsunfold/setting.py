"""Settings that a process has once, in programs of several threads too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Setting(Generic[T]):
    """A setting of the whole process, which calls need to have a value of their own while they run.

    get, put : read and write it. One object stands for a setting for as long as the program runs.
    """

    def __init__(self, get: Callable[[], T], put: Callable[[T], object]) -> None:
        self._get, self._put = get, put
        self._lock, self._inside = threading.Lock(), 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """In a process that was forked: threads that were inside are not there."""
        inside, self._lock, self._inside = self._inside, threading.Lock(), 0
        if inside:
            self._change(self._callers)

    def _change(self, value: T) -> None:
        if self._get() != value:
            self._put(value)

    @contextmanager
    def set_to(self, value: T) -> Iterator[None]:
        """``value``, the same in all calls, inside. What the caller had, or has set meanwhile, is set again in the end,
        of several threads by the last."""
        with self._lock:
            found = self._get()
            if not self._inside or found != value:
                self._callers = found
                self._change(value)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside = max(0, self._inside - 1)  # a process may have been forked inside
                if not self._inside and self._get() == value:
                    self._change(self._callers)
