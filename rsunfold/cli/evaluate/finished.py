"""What the evaluations have finished is kept where they fail or are interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rsunfold.cli.command import handled
from rsunfold.cli.messages import say

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Reported(Protocol):
    """Figures of several models; ``missing`` are the names of what was asked for, but not finished."""

    missing: list[str]

    def report(self) -> dict[str, Any]:
        """Everything as plain types."""


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


def write_report(done: Reported, json_file: Path | None, overwrite: bool) -> None:
    """Write the report where it is wanted, and say what is missing in it and in the table."""
    from rsunfold.io.jsonfile import write_json

    if json_file is not None:
        write_json(json_file, done.report(), overwrite=overwrite)
    if done.missing:
        say(f"not finished: {', '.join(done.missing)}")
