"""What the evaluations have finished is kept where they fail or are interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rsunfold.cli.command import handled
from rsunfold.cli.messages import say

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def evaluation(command: F) -> F:
    """A subcommand, see :func:`handled`, that leaves what it has finished where it is interrupted."""
    return handled(command, left="what was finished, if anything, is in the table and the report")


@contextmanager
def kept(write: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """Yield a function that is given what is finished, each time that this has grown; ``write`` it where the block
    fails or is interrupted."""
    grown: list[T] = []
    try:
        yield grown.append
    except BaseException:
        if grown:
            write(grown[-1])
        raise


def tell_missing(names: Sequence[str]) -> None:
    """Say what is missing in what is shown and written, if anything."""
    if names:
        say(f"not finished: {', '.join(names)}")
