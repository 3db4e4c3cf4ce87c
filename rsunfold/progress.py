"""How far a long computation is, for whoever wants to know: the command line shows it as a bar, others hear nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str, int, int | None], None]
"""(what is done, how many of its steps are, of how many, None where that is not known); ("", 0, None) at its end."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """``items``, each a step of ``what``; ``total`` is their number where they cannot tell it.

    Nobody hears of steps within a step: the outermost tells how long it will take.
    """
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    total = len(items) if total is None and isinstance(items, Sized) else total
    listener(what, 0, total)
    outermost = _listener.set(None)
    try:
        for count, item in enumerate(items, start=1):
            yield item
            listener(what, count, total)
    finally:
        _listener.reset(outermost)
        listener("", 0, None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """``listener`` hears of what happens inside."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
