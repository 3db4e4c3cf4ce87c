"""What commands say: messages for a person on standard error, results on standard output, and how much of both."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from rsunfold.errors import OutputError
from rsunfold.visible import visible

_level = 0  # -1 quiet, 0 normal, 1 verbose
_unshown = ""  # why standard output could not be written


def set_level(verbose: bool, quiet: bool) -> None:
    """Start of a call: what stands before the subcommand; the subcommand's own -v and -q come on top."""
    global _level, _unshown
    _level, _unshown = -1 if quiet else int(verbose), ""


def louder(on: bool) -> bool:
    """Callback of -v."""
    global _level
    _level = max(_level, 1) if on else _level
    return on


def quieter(on: bool) -> bool:
    """Callback of -q."""
    global _level
    _level = -1 if on else _level
    return on


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 target``, ``2 targets``; ``plural`` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def found_in(numbers: Sequence[int], what: str, whats: str, where: str) -> str:
    """``9 targets in 2 of 4 images`` of what was found in each image, ``0 targets in 4 images``."""
    some = sum(map(bool, numbers))
    share = f"{some} of " if 0 < some < len(numbers) else ""
    return f"{counted(sum(numbers), what, whats)} in {share}{counted(len(numbers), where)}"


def is_quiet() -> bool:
    """Whether -q asks for errors only."""
    return _level < 0


def say(text: str, level: int = 0) -> None:
    """A message for a person, on standard error; level 1 only with -v."""
    if _level >= level:
        _to_stderr(text)


def say_notes(notes: Iterable[str]) -> None:
    """The notes of a summary, a line each; an Aside with -v only."""
    from rsunfold.cube import Aside

    for note in notes:
        say(f"  note: {note}", 1 if isinstance(note, Aside) else 0)


def show(table: Any) -> None:
    """A result on standard output, nothing with -q: a rich table, or a line of text.

    Where it cannot be written, or its reader has seen enough, the work goes on, for the sake of its files;
    :func:`refuse_unshown` says the former in the end.
    """
    if is_quiet() or sys.stdout is None:  # closed
        return
    from rich.console import Console

    class Piped(Console):
        """A console whose reader may have seen enough."""

        def on_broken_pipe(self) -> None:
            _to_nowhere(sys.stdout.fileno())  # Python flushes at the end

    # A pipe or a file gets the whole width: a table that is folded at 80 columns cannot be read by a program. Names of
    # files are no markup, whatever brackets and colons they hold.
    width = None if sys.stdout.isatty() else 400
    console = Piped(width=width, markup=False, emoji=False, highlight=False)
    try:
        is_text = isinstance(table, str)
        console.print(visible(table) if is_text else table, soft_wrap=is_text)
    except OSError as error:
        _give_up(error)


def put(text: str) -> None:
    """Text that standard output was asked for, with -q too; see :func:`show` for what cannot be written."""
    try:
        print(text, flush=True)
    except OSError as error:
        _give_up(error)


def _give_up(error: OSError) -> None:
    """Nothing more is written to standard output."""
    global _unshown
    _unshown = "" if isinstance(error, BrokenPipeError) else str(error.strerror)
    _to_nowhere(sys.stdout.fileno())


def refuse_unshown() -> None:
    """Raise OutputError where standard output could not be written."""
    if _unshown:
        raise OutputError(f"standard output cannot be written ({_unshown}).")


def _to_nowhere(stream: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and what they stand for, a line each."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(visible(name), visible(value))
    show(table)


def report(text: str) -> None:
    """The last sentence of a command that failed; with -v the traceback before it."""
    if _level > 0:
        _to_stderr(traceback.format_exc().rstrip(), keep="\n")
    _to_stderr(text)


def _to_stderr(text: str, keep: str = "") -> None:
    """A line on standard error, as :func:`visible` with ``keep`` gives it; where nobody reads it any more, or its disk
    is full, the work goes on without."""
    if sys.stderr is None:  # closed; print would take standard output for it
        return
    try:
        print(visible(text, keep), file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(2)
