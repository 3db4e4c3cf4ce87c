"""The command line: one thin module per subcommand, no mathematics."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from rsunfold import __version__
from rsunfold.allocator import reuse_memory
from rsunfold.cli import (
    denoise_hsi,
    detect_anomaly,
    detect_ir,
    evaluate,
    explain,
    info,
    models,
    sample,
    select_features,
    train,
    weights,
)
from rsunfold.cli.command import Commands, handled
from rsunfold.cli.messages import put, refuse_unshown, set_level
from rsunfold.cli.options import Quiet, Verbose
from rsunfold.signals import ENDING

EXIT_CODES = (
    "Exit codes: 0 success (even if nothing is detected), 1 internal error, 2 usage error, 3 unreadable input, "
    "4 output exists or cannot be written, 5 weights missing or damaged, 6 device unavailable or out of memory, "
    "7 some inputs of a batch failed, 129 hung up, 130 interrupted, 143 terminated, 138 (macOS: 158) SIGUSR1."
)

SPINS = "1000"
"""Turns for which a thread of GNU OpenMP that waits for another keeps its core busy before it sleeps. By default it
waits for milliseconds, in which another process would do the work that it waits for: on a machine whose cores are busy
networks run six times slower. On an idle one 1000 turns cost some percent at most."""

app = typer.Typer(
    name="rsunfold",
    cls=Commands,
    help="Remote-sensing image processing with deep unfolding networks.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("denoise-hsi")(denoise_hsi.denoise_hsi)
app.command("detect-anomaly")(detect_anomaly.detect_anomaly)
app.command("detect-ir")(detect_ir.detect_ir)
app.command("select-features")(select_features.select_features)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(explain.app, name="explain")
app.command("train")(train.train)
app.add_typer(weights.app, name="weights")
app.command("models")(models.models)
app.command("info")(info.info)
app.add_typer(sample.app, name="sample")


@handled
def _version(on: bool) -> None:
    if on:
        put(f"rsunfold {__version__}")
        refuse_unshown()
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Remote-sensing image processing with deep unfolding networks."""
    set_level(verbose, quiet)


def main() -> None:
    """Entry point of the console script."""
    if os.environ.keys().isdisjoint({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}):  # read when torch is loaded, which is later
        os.environ["GOMP_SPINCOUNT"] = SPINS
    # Names of files are bytes, and terminals may know ASCII alone: what cannot be shown is shown as a question mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # What batch systems and ``timeout`` send ends a program as Ctrl-C does: unfinished results are removed then, too.
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _stop)
    sys.unraisablehook = _swallowed
    reuse_memory()
    # Patterns are this program's own (rsunfold.infer.batch.expand); variables and ~ are the shell's, as everywhere.
    app(windows_expand_args=False)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the program; in the midst of an import a little later, as extension modules swallow exceptions there."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") and hasattr(signal, "setitimer"):
            _stop_later(number)
            return
        frame = frame.f_back
    sys.exit(128 + number)


def _stop_later(number: int) -> None:
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, 0.1)


def _swallowed(lost: sys.UnraisableHookArgs) -> None:
    """The end of the program that came where nothing can be raised, as when h5py closes an object, comes again."""
    end, number = lost.exc_value, 0
    if isinstance(end, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(end, SystemExit) and isinstance(end.code, int):
        number = end.code - 128
    if number in signal.valid_signals() and hasattr(signal, "setitimer"):
        _stop_later(number)
    else:
        sys.__unraisablehook__(lost)
