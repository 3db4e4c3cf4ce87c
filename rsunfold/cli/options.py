"""What all subcommands share: options, messages, and errors turned into one sentence and an exit code."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import typer.core

from rsunfold.errors import DeviceError, OutputError, RsunfoldError, UsageError
from rsunfold.infer.cgroups import cores_in_groups

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_level = 0  # -1 quiet, 0 normal, 1 verbose


def set_level(verbose: bool, quiet: bool) -> None:
    """Start of a call: what stands before the subcommand; the subcommand's own -v and -q come on top."""
    global _level
    _level = -1 if quiet else int(verbose)


def _louder(on: bool) -> bool:
    global _level
    _level = max(_level, 1) if on else _level
    return on


def _quieter(on: bool) -> bool:
    global _level
    _level = -1 if on else _level
    return on


Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Print more messages, and tracebacks on errors.", callback=_louder, is_eager=True
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", callback=_quieter, is_eager=True)]
Images = Annotated[
    list[str], typer.Argument(help="Images, folders of images, or quoted patterns such as 'frames/*.png'.")
]
Var = Annotated[str | None, typer.Option(help="Variable of a MAT file, or a GDAL subdataset.")]
Band = Annotated[int | None, typer.Option(min=1, help="Band to use, counted from 1, if the image has several.")]
Envi = Annotated[bool, typer.Option("--envi", help="Write ENVI rasters instead of GeoTIFF.")]
Device = Annotated[str, typer.Option(help="auto (cuda if available, else mps, else cpu), cpu, cuda, cuda:1 or mps.")]
Memory = Annotated[
    str | None, typer.Option(help="Memory limit for the whole process, such as 2GB; default: half of the free memory.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads; default: all cores allowed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing outputs.")]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", help="Skip inputs that already have results, and leave to other runs what they are making."
    ),
]
Threshold = Annotated[
    float | None, typer.Option(help="Score above which a pixel belongs to a target; default: set by the model.")
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Keep a target only if the mean log-odds of its pixels exceed those of this score; default: set by the "
        "model, or equal to --threshold if that is given."
    ),
]
MaxArea = Annotated[
    int | None,
    typer.Option(min=0, help="Maximum target area in pixels (0: no limit); default: set by the model."),
]
Reach = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The more groups above the threshold within this many rows and columns, the surer a target must be (0: "
        "judge each alone); default: set by the model, or 0 if --threshold is given without --confidence.",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Shipped weights (see rsunfold weights list) or a .safetensors file.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the full report to this JSON file.")]

Priors = Annotated[
    str | None,
    typer.Option(
        help="Extra steps around the model, comma-separated: attribute-profile, kernel, small-object, edge-preserving; "
        "or none. Default: all of them for lrr-net-plus, none for any other model or with --literal."
    ),
]
ObjectSize = Annotated[
    int | None,
    typer.Option(
        "--object-size",
        min=1,
        help="Area in pixels that anomalies stay below, for the priors attribute-profile, small-object; default: 100.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Epochs = Annotated[int | None, typer.Option(help="Training steps per scene (lrr-net-plus only).")]
Inner = Annotated[int | None, typer.Option(help="Side of the inner window in pixels, odd (local-rx and crd only).")]
Outer = Annotated[int | None, typer.Option(help="Side of the outer window in pixels, odd (local-rx and crd only).")]
ComponentCount = Annotated[int | None, typer.Option(help="Number of principal components (rx and kernel-rx only).")]
LiteralPaper = Annotated[
    bool, typer.Option("--literal", help="Use the paper's own settings, for comparison (lrr-net-plus only).")
]
WindowSide = Annotated[
    int | None,
    typer.Option("--window", help="Process the image in windows of this size, each with its own background model."),
]


PANELS = {
    "Input": "band clean data ignore image images label labels labels_var masks noisy only predictions restored scale "
    "scenes truth truth_var var",
    "Output": "dtype envi json_file out output overwrite picture pictures pixel rank_order report residual roc "
    "skip_existing stages worst",
    "Computing": "device half memory threads",
    "Messages": "quiet quieter verbose",
}
"""Parameters by the panel of the help text that shows them; the others, the task's own, are in the first panel."""


def refuse_contradiction(overwrite: bool, skip_existing: bool) -> None:
    """Raise UsageError when outputs that exist are both to be replaced and to be left."""
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; use only one of them.")


def refuse_given(context: typer.Context, names: Collection[str], why: str) -> None:
    """Raise UsageError, "--model ``why``.", for the first of the parameters ``names`` that the command line gives."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} {why}.")


SIGNALLED = 128
"""Exit codes above it say which signal ended a program."""
EMPTY_OPTION = re.compile(r"--?[\w-]+=")


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UsageError for an argument that is empty: it would be the current folder, or the default."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or EMPTY_OPTION.fullmatch(argument):
            name = argument.removesuffix("=") or (before if before.startswith("-") else "")
            what = f"the value of {name}" if name else "an argument"
            raise UsageError(f"{what} is empty; check that your shell variables are set.")


class Commands(typer.core.TyperGroup):
    """The root command, which looks at all arguments first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See :func:`refuse_empty`; the rest is click's."""
        try:
            refuse_empty([] if ctx.resilient_parsing else args)  # while a line is completed much is missing
        except UsageError as error:
            _report(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        return super().parse_args(ctx, args)


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 target``, ``2 targets``; ``plural`` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


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
    """A result on standard output, nothing with -q: a rich table, or text."""
    if _level < 0 or sys.stdout is None:  # closed
        return
    from rich.console import Console

    class Piped(Console):
        """A console whose reader may have seen enough."""

        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at the end
            raise BrokenPipeError

    # A pipe or a file gets the whole width: a table that is folded at 80 columns cannot be read by a program. Names of
    # files are no markup, whatever brackets and colons they hold.
    width = None if sys.stdout.isatty() else 400
    console = Piped(width=width, markup=False, emoji=False, highlight=False)
    try:
        console.print(table, soft_wrap=isinstance(table, str))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({error.strerror}).") from None


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and what they stand for, a line each."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    show(table)


def refuse_outputs(overwrite: bool, *paths: Path | None, pictures: Mapping[str, Path | None] | None = None) -> None:
    """Raise OutputError for the first of the files asked for that exists, UsageError for two of one name and for
    ``pictures``, by option, that are not called .png: better before the work than after."""
    from rsunfold.io.atomic import refuse_existing

    seen = set[Path]()
    for option, picture in (pictures or {}).items():
        if picture is not None and picture.suffix.lower() != ".png":
            raise UsageError(f"{option} writes PNG pictures: give a name that ends in .png, not {picture}.")
    for path in (*paths, *(pictures or {}).values()):
        if path is not None:
            if str(path) == "-":
                raise UsageError("standard output is for the table; give a file instead of -.")
            refuse_existing(path, overwrite)
            if path.resolve() in seen:
                raise UsageError(f"two outputs have the name {path}; give each its own.")
            seen.add(path.resolve())


def handled(command: F, *, left: str = "no partial results were left") -> F:
    """A subcommand that ends with one sentence on standard error and the documented exit code, never a traceback.

    left : what an interrupted one leaves.

    With -v the traceback is shown as well. Options are shown in PANELS. Each paragraph of the docstring, which is the
    help text, becomes one line, since typer keeps line breaks, wherever the terminal ends.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RsunfoldError as error:
            _report(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _report(f"interrupted; {left}.")
            raise typer.Exit(130) from None
        except SystemExit as error:
            if isinstance(error.code, int) and error.code > SIGNALLED:
                _report(f"terminated; {left}.")
            raise
        except BrokenPipeError:
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, ImportError) and re.search("failed to map segment|allocate memory", str(error)):
                _report("error: there is too little memory to load the libraries; raise the limit of this process.")
                raise typer.Exit(DeviceError.exit_code) from None
            _report(
                f"error: internal error in rsunfold: {type(error).__name__}: {error}; run again with -v and report it."
            )
            raise typer.Exit(1) from None

    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    run.__signature__ = _in_panels(command)  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


def _in_panels(command: Callable[..., Any]) -> inspect.Signature:
    """The signature of a subcommand, whose options name the panel that shows them."""
    panels = {name: panel for panel, names in PANELS.items() for name in names.split()}
    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        for option in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(option, typer.models.OptionInfo):
                option.rich_help_panel = panels.get(parameter.name)
    return signature


def _report(text: str) -> None:
    if _level > 0:
        _to_stderr(traceback.format_exc().rstrip())
    _to_stderr(text)


def _to_stderr(text: str) -> None:
    """A line on standard error; where nobody reads it any more, or its disk is full, the work goes on without."""
    if sys.stderr is None:  # closed; print would take standard output for it
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


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


def numbers(text: str | None, option: str) -> list[float]:
    """``1,2,3`` as numbers, none of None; raises UsageError."""
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} takes numbers such as 10,30,50, not {text!r}.") from None


def whole_numbers(text: str, option: str, *, once: bool = False) -> list[int]:
    """``0,1,2`` as integers from 0, none of them twice where ``once`` says so; raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"{option} takes non-negative integers such as 0,1,2, not {text!r}.")
    found = [int(part) for part in parts]
    twice = next((n for n in found if once and found.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"{option} lists {twice} twice; list each value once.")
    return found


def pair_of_numbers(text: str | None, option: str) -> tuple[float, float] | None:
    """``low,high`` as two numbers; raises UsageError."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes two numbers such as 0,1000, not {text!r}.") from None
    return low, high


def ranges(text: str | None, option: str) -> tuple[tuple[float, float], ...]:
    """``1340-1450,1800-1960`` as pairs of numbers, none of None; raises UsageError."""
    found = []
    for part in (text or "").split(",") if text is not None else []:
        ends = part.strip().split("-")
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            raise UsageError(f"{option} takes ranges such as 1340-1450,1800-1960, not {text!r}.") from None
        found.append((low, high))
    return tuple(found)


def names_of(text: str | None) -> tuple[str, ...]:
    """``a,b`` as names, none of None or of nothing between commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def model_options(**given: int | bool | None) -> dict[str, int | bool | None]:
    """Those that were given; a switch that is off was not."""
    return {name: value for name, value in given.items() if value is not None and value is not False}


def prior_names(text: str | None) -> list[str] | None:
    """``kernel,small-object`` as names."""
    return None if text is None else [part.strip() for part in text.split(",")]


@contextmanager
def watched(name: str = "") -> Iterator[None]:
    """Show how far what happens inside is, on standard error: a bar on a terminal, which goes when all is done, a line
    a minute elsewhere, nothing with -q."""
    from rsunfold.progress import listening

    if _level < 0 or sys.stderr is None:  # closed
        yield
        return
    from rich.console import Console

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


def each_input(
    files: dict[str, str],
    run: Callable[[str, str], T],
    tell: Callable[[str, T], None],
    *,
    done: Callable[[str, str], bool] | None,
) -> tuple[int, int]:
    """(inputs with a new result, inputs) of ``run(source, stem)`` on each of ``files`` (by stem), with a line for each.

    tell : says what came of an input. done : see :func:`rsunfold.infer.batch.run_batch`. Raises what
    :func:`rsunfold.infer.batch.raise_failures` raises, after all inputs had their turn.
    """
    from rsunfold.infer.batch import Outcome, raise_failures, run_batch

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
    raise_failures(outcomes, lambda text: say(text, -1))
    return made, len(outcomes)
