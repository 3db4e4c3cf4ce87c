"""What makes a function a subcommand: errors turned into one sentence and an exit code, help in panels."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar, get_args

import typer
import typer.core

from rsunfold.cli.messages import refuse_unshown, report
from rsunfold.cli.options import PANELS, SHARE
from rsunfold.errors import DeviceError, RsunfoldError, UsageError, decimal_hint

F = TypeVar("F", bound=Callable[..., Any])
SIGNALLED = 128
"""Exit codes above it say which signal ended a program."""
EMPTY_OPTION = re.compile(r"--?[\w-]+=")
NUMBERS: dict[type, str] = {float: "a number", int: "a whole number"}


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UsageError for an argument that is empty: it would be the current folder, or the default."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or EMPTY_OPTION.fullmatch(argument):
            name = argument.removesuffix("=") or (before if before.startswith("-") else "")
            what = f"the value of {name}" if name else "an argument"
            raise UsageError(f"{what} is empty; check that your shell variables are set.")


def refuse_no_number(error: typer.BadParameter, arguments: Sequence[str]) -> None:
    """Raise UsageError, with the value, where ``error`` is about an option that takes a number and was given something
    else; click's own message has no value."""
    parameter: Any = error.param
    options, command = getattr(parameter, "opts", ()), getattr(error.ctx, "command", None)
    words = [*pairwise(arguments), *(text.split("=", 1) for text in arguments if "=" in text)]
    given = [(option, value) for option, value in words if option in options]
    if command is None or not given:
        return
    option, value = given[-1]
    annotation = inspect.signature(command.callback).parameters[parameter.name].annotation
    first, *marks = get_args(annotation) or (annotation,)  # of Annotated[float | None, ...]
    for kind in (kind for kind in NUMBERS if kind in (get_args(first) or (first,))):
        try:
            kind(value)
        except ValueError:
            hint = decimal_hint(value, kind, share=SHARE in marks)
            raise UsageError(f"{option} takes {NUMBERS[kind]}, not {value!r}{hint}.") from None


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What is wrong with the arguments is said on standard error, and ends the program with its exit code."""
    try:
        yield
    except UsageError as error:
        report(f"error: {error}")
        raise typer.Exit(error.exit_code) from None


class Commands(typer.core.TyperGroup):
    """The root command, which looks at all arguments first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See :func:`refuse_empty`; the rest is click's."""
        self.arguments = list(args)
        with _in_one_sentence():
            refuse_empty([] if ctx.resilient_parsing else args)  # while a line is completed much is missing
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """See :func:`refuse_no_number`; the rest is click's."""
        with _in_one_sentence():
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:
                refuse_no_number(error, self.arguments)
                raise


def handled(command: F, *, left: str = "no partial results were left") -> F:
    """A subcommand that ends with one sentence on standard error and the documented exit code, never a traceback.

    left : what an interrupted one leaves.

    With -v the traceback is shown as well. Options are shown in PANELS. Each paragraph of the docstring, which is the
    help text, becomes one line, since typer keeps line breaks, wherever the terminal ends.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            result = command(*args, **kwargs)
            refuse_unshown()
            return result
        except RsunfoldError as error:
            report(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            report(f"interrupted; {left}.")
            raise typer.Exit(130) from None
        except SystemExit as error:
            if isinstance(error.code, int) and error.code > SIGNALLED:
                report(f"terminated; {left}.")
            raise
        except BrokenPipeError:
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, ImportError) and re.search("failed to map segment|allocate memory", str(error)):
                report("error: there is too little memory to load the libraries; raise the limit of this process.")
                raise typer.Exit(DeviceError.exit_code) from None
            report(
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
