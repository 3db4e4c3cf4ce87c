"""``rsunfold explain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, say, say_notes
from rsunfold.cli.options import (
    OF_WEIGHTS,
    Band,
    Device,
    Images,
    OutputFolder,
    Overwrite,
    Quiet,
    Scale,
    Threads,
    Var,
    Verbose,
    Weights,
)
from rsunfold.cli.running import each_input, input_files, tell_end, use_threads
from rsunfold.cli.words import pair_of_numbers, whole_numbers
from rsunfold.errors import UsageError


class Explained(typer.core.TyperGroup):
    """The tasks whose networks are explained; another one tells what shows its stages."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises UsageError for a task whose own command shows the stages; the rest is click's."""
        if args[0] == "detect-anomaly":
            raise UsageError(
                "explain shows networks of detect-ir; for stages of anomalies use detect-anomaly --stages."
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Explained, help="Inspect what a network does to an image, stage by stage.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Inspect what a network does to an image, stage by stage."""


@app.command("detect-ir")
@handled
def detect_ir(
    inputs: Images,
    output: OutputFolder,
    model: Annotated[
        str | None,
        typer.Option(help="Unrolled network (see rsunfold models).", show_default=OF_WEIGHTS["detect-ir"]),
    ] = None,
    weights: Weights = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COL,SIZE",
            help="Square part of the image: zero-based upper-left pixel and side; required above 512 pixels a side.",
        ),
    ] = None,
    band: Band = None,
    scale: Scale = None,
    var: Var = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Show background, target, noise and reconstruction of every stage, with step sizes, residuals and gains.

    Each image yields NAME_explain.png and NAME_explain.json, which defines every number. The gain of a learned operator
    is how much it can amplify a small change in this image, estimated from below and bounded from above.
    """
    from rsunfold.infer.infrared.explain import Explainer, Options, explain_file, output_names
    from rsunfold.infer.results import results_folder

    part = None if window is None else whole_numbers(window, "--window")
    if part is not None and len(part) != 3:
        raise UsageError(f"--window takes three numbers, ROW,COL,SIZE, not {window!r}.")
    options = Options(
        band=band,
        scale=pair_of_numbers(scale, "--scale"),
        var=var,
        window=None if part is None else (part[0], part[1], part[2]),
        overwrite=overwrite,
    )
    folder = results_folder(output)
    files = input_files(inputs, overwrite, lambda stem: (folder / name for name in output_names(stem).values()))
    use_threads(threads)
    explainer = Explainer(model, weights=weights, device=device)
    record = explainer.detector.record
    say_notes(options.reading.for_weights(record).remarks(record))

    def run(source: str, stem: str) -> dict[str, Any]:
        return explain_file(source, stem, folder, explainer, options)

    def tell(source: str, report: dict[str, Any]) -> None:
        say(f"{source}: {counted(len(report['stages']), 'stage')}, {report['seconds']:.1f} s")
        say_notes(report["notes"])

    made, count = each_input(files, run, tell, done=None)
    tell_end(f"{made} of {counted(count, 'image')} explained", explainer.detector.spec.name, made, count, output)
