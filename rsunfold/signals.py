"""Signals that wait: what they would cut in two is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""What ends a run: Ctrl-C, batch systems and ``timeout``, a terminal that closes, and batch systems ahead of time."""


@contextmanager
def deferred(*names: str, once: bool = False) -> Iterator[list[int]]:
    """The signals ``names`` (those that the system has and a handler is set for) wait for the end of the block, of
    which the first then comes. Yields the numbers of those that wait, in their order.

    once : only the first of each kind waits, the second comes at once; after a block that failed none comes.

    Elsewhere than in the main thread nothing changes.
    """
    here = threading.current_thread() is threading.main_thread()  # which alone gets them
    numbers = [n for name in names if here and (n := getattr(signal, name, None)) is not None]
    before = {n: h for n in numbers if callable(h := signal.getsignal(n))}
    came: list[int] = []
    failed = True

    def later(number: int, frame: object) -> None:
        came.append(number)
        if once:
            signal.signal(number, before[number])

    for number in before:
        signal.signal(number, later)
    try:
        yield came
        failed = False
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came and not (once and failed):
            signal.raise_signal(came[0])
