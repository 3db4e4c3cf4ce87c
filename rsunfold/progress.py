"""How far a long computation is, for whoever wants to know: the command line shows it as a bar, others hear nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str, int, int | None], None]
"""(what is done, how many of its steps are, of how many, None where that is not known); ("", 0, None) at its end."""


class _Ear:
    """A listener, for as long as it listens; ``busy`` while it hears of steps, within which no others count."""

    def __init__(self, listener: Listener) -> None:
        self.listener, self.busy, self.open = listener, False, True
        self.failure: BaseException | None = None

    def hear(self, what: str, count: int, total: int | None) -> None:
        if self.open:
            try:
                self.listener(what, count, total)
            except BaseException as error:
                self.failure = error
                raise


_ear: ContextVar[_Ear | None] = ContextVar("ear", default=None)


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Generator[T, None, None]:
    """``items``, each a step of ``what``; ``total`` is their number where they cannot tell it.

    Nobody hears of steps within a step: the outermost tells how long it will take. To be closed where it may end before
    its last item.
    """
    ear = _ear.get()
    if ear is None or ear.busy:
        yield from items
        return
    total = len(items) if total is None and isinstance(items, Sized) else total
    ear.busy = True
    try:
        ear.hear(what, 0, total)
        for count, item in enumerate(items, start=1):
            yield item
            ear.hear(what, count, total)
    finally:
        ear.busy = False
        ear.hear("", 0, None)


def from_listener(error: BaseException) -> bool:
    """Whether ``error`` is what the listener raised."""
    ear = _ear.get()
    return ear is not None and ear.failure is error


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """``listener`` hears of what happens inside."""
    ear = _Ear(listener)
    before = _ear.set(ear)
    try:
        yield
    finally:
        ear.open = False
        _ear.reset(before)
