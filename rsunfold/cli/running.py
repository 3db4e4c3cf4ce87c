"""How commands run: with how many threads, over many inputs, and showing how far they are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rsunfold.cli.messages import is_quiet, say, show
from rsunfold.errors import UsageError
from rsunfold.infer.cgroups import cores_in_groups
from rsunfold.visible import visible

if TYPE_CHECKING:
    from rsunfold.infer.batch import Outcome

T = TypeVar("T")
MOST_WORDS = 10
"""Words of a path that a person may have forgotten to quote."""
THREADS_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(count: int | None) -> None:
    """Let linear algebra and torch use ``count`` threads.

    None leaves it to the environment and, where that says nothing, to the libraries, which take all cores that this
    process may run on; where a container or a batch system allows less time than these have, it is as many as that is
    worth.
    """
    if count is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = cores_in_groups()
        if any(name in os.environ for name in THREADS_OF_LIBRARIES) or count >= cores:
            return
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    for name in THREADS_OF_LIBRARIES:  # for what is loaded later
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


@contextmanager
def watched(name: str = "") -> Iterator[None]:
    """Show how far what happens inside is, on standard error: a bar on a terminal, which goes when all is done, a line
    a minute elsewhere, nothing with -q."""
    from rsunfold.progress import listening

    if is_quiet() or sys.stderr is None:  # closed
        yield
        return
    from rich.console import Console

    name = visible(name)
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        with listening(_Minutely(name)):
            yield
        return
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
    from rich.text import Text

    class Times(ProgressColumn):
        """Time that is gone, and that is left where steps tell."""

        def render(self, task: Task) -> Text:
            known = {"gone": task.elapsed or 0.0, "left": task.time_remaining}
            return Text(", ".join(f"{timedelta(seconds=int(s))} {w}" for w, s in known.items() if s is not None))

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), Times()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(name, total=None)

        def tell(what: str, count: int, total: int | None) -> None:
            nonlocal task
            if count:
                bar.update(task, completed=count)
                return
            # Anew, as a number of steps cannot become unknown. A single step says nothing of the time that is left: the
            # bar shows that something happens.
            bar.remove_task(task)
            task = bar.add_task(_joined(name, what), total=total if total is None or total > 1 else None)

        with listening(tell):
            yield


class _Minutely:
    """A line a minute in place of a bar."""

    def __init__(self, name: str) -> None:
        self.name, self.said = name, time.monotonic()

    def __call__(self, what: str, count: int, total: int | None) -> None:
        if what and time.monotonic() - self.said >= 60:
            self.said = time.monotonic()
            of = "" if total is None else f" of {total}"
            say(_joined(self.name, f"{what}, {count}{of}"))


def _joined(*parts: str) -> str:
    return ": ".join(filter(None, parts))


def input_files(
    inputs: Sequence[str],
    overwrite: bool,
    written: Callable[[str], Iterable[Path]],
    apart: Callable[[dict[str, str]], dict[str, str]] = lambda files: files,
) -> dict[str, str]:
    """Files by stem, see :func:`rsunfold.infer.batch.expand`.

    written : files that the results of a stem replace with ``overwrite``; raises OutputError where one is an input.
    apart : takes stacks of frames apart. Raises UsageError for a path with spaces that was not quoted.
    """
    from rsunfold.infer.batch import expand
    from rsunfold.io.inputs import refuse_inputs

    refuse_unquoted(inputs)
    files = apart(expand(inputs, mirror=True, say=say))
    if overwrite:
        refuse_inputs((path for stem in files for path in written(stem)), files.values())
    return files


def refuse_unquoted(inputs: Sequence[str]) -> None:
    """Raise UsageError where inputs in a row do not exist, but joined by spaces are a path that does."""
    from rsunfold.io.names import exists

    for first in range(len(inputs)):
        words = list(takewhile(lambda word: not exists(word), inputs[first : first + MOST_WORDS]))
        for count in range(2, len(words) + 1):
            path = " ".join(words[:count])
            if exists(path):
                raise UsageError(f"the spaces in {path!r} make {count} inputs of it; put the path in quotes.")


def each_input(
    files: dict[str, str],
    run: Callable[[str, str], T],
    tell: Callable[[str, T], None],
    *,
    done: Callable[[str, str], bool] | None,
    finish: Callable[[Sequence[Outcome[T]]], None] | None = None,
) -> tuple[int, int]:
    """(inputs with a new result, inputs) of ``run(source, stem)`` on each of ``files`` (by stem), with a line for each.

    tell : says what came of an input. done : see :func:`rsunfold.infer.batch.run_batch`. finish : is given what became
    of the inputs, in the order of ``files``, but not of one alone that failed. Raises what
    :func:`rsunfold.infer.batch.raise_failures` raises, after all inputs had their turn.
    """
    from rsunfold.infer.batch import raise_failures, run_batch

    def seen(source: str, stem: str) -> T:
        with watched(Path(source).name):
            return run(source, stem)

    outcomes: list[Outcome[T]] = []
    made = 0
    for outcome in run_batch(files, seen, done=done, say=say):
        outcomes.append(outcome)
        if outcome.result is not None:
            tell(outcome.source, outcome.result)
            made, outcome.result = made + 1, None  # thousands of results would add up
        elif outcome.error is None:
            say(f"{outcome.source}: skipped, {outcome.skipped}")
        elif len(files) > 1:
            say(f"{outcome.source}: failed")
    if finish is not None and (len(outcomes) > 1 or outcomes[0].error is None):
        place = {stem: n for n, stem in enumerate(files)}
        finish(sorted(outcomes, key=lambda outcome: place[outcome.stem]))
    raise_failures(outcomes, lambda text: say(text, -1))
    return made, len(outcomes)


def tell_end(what: str, model: str, made: int, count: int, where: str | Path) -> None:
    """The last line: ``what`` came of ``made`` of ``count`` inputs; the others were skipped, as failures are raised."""
    skipped = f", {count - made} skipped" if made < count else ""
    show(f"{what if made else 'nothing was left to do'} ({model}){skipped}; results are in {where}")
