"""``rsunfold weights``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import say_notes, show, show_facts
from rsunfold.cli.options import Band, Device, MaxArea, Overwrite, Quiet, Scale, Threads, Var, Verbose
from rsunfold.cli.running import use_threads, watched
from rsunfold.cli.words import pair_of_numbers
from rsunfold.errors import RsunfoldError, UsageError, WeightsError

UNSAID = {"reach": "each group is judged alone", "scale": "none: each image has its own, unless --scale is given"}
"""What None says in a record of weights, where it is not any number."""

app = typer.Typer(help="List, inspect, verify, import and calibrate weights.", no_args_is_help=True)


@app.command("list")
@handled
def list_weights(verbose: Verbose = False, quieter: Quiet = False) -> None:
    """List the shipped weights."""
    from rsunfold.registry import get_model
    from rsunfold.report import table
    from rsunfold.weights import read_record, shipped

    rows = []
    for name, entry in sorted(shipped().items()):
        record = read_record(name)
        rows.append(
            {
                "weights": name,
                "model": record.model,
                "threshold": record.threshold if get_model(record.model).task == "detect-ir" else None,
                "licence": record.licence,
                "sha256": entry["sha256"][:12],
                "origin": record.origin,
            }
        )
    show(table(rows))


@app.command()
@handled
def info(
    name: Annotated[
        str, typer.Argument(help="Shipped weights, a .safetensors file, or a network without shipped weights.")
    ],
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Show the record, parameter count and computing cost of weights, or of the paper's network if none are shipped."""
    from rsunfold.weights import describe

    facts: list[tuple[str, str]] = []
    for key, value in describe(name).items():
        if key == "figures" and value:
            for of, figures in value.items():
                facts.append((f"on {of}", ", ".join(f"{k} {_short(v)}" for k, v in figures.items())))
        else:
            facts.append((key, value if isinstance(value, str) else _said(key, value)))
    show_facts(facts)


def _said(key: str, value: Any) -> str:
    if value is None and key in UNSAID:
        return UNSAID[key]
    if key == "scale":
        return f"{','.join(map(_short, value))}, unless --scale is given"
    return _short(value)


def _short(value: Any) -> str:
    if value is None:
        return "any"
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


@app.command()
@handled
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Weights to verify; default: all shipped weights.")] = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Check that weights match the SHA-256 in the registry and fit their network."""
    from rsunfold.weights import load, shipped
    from rsunfold.weights import verify as check

    known, failed = shipped(), list[RsunfoldError]()
    ours = {entry["sha256"] for entry in known.values()}
    for name in names or sorted(known):
        try:
            sha = check(name) if name in known else load(name)[2]
            show(f"{name}: {sha} {'ok' if sha in ours else 'readable, but not in the registry'}")
        except RsunfoldError as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise WeightsError(" ".join(map(str, failed)))


@app.command("import")
@handled
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Published PyTorch checkpoint; no code in it is executed.")],
    model: Annotated[str, typer.Option("--as", help="Model that the checkpoint belongs to, such as l-rpcanet.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Output file; default: NAME.safetensors in the current folder."),
    ] = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Convert a published checkpoint into a weights file for --weights."""
    from rsunfold.weights import import_published

    target = output or Path(f"{checkpoint.stem}.safetensors")
    if target.suffix != ".safetensors":
        raise UsageError(f"--output must end in .safetensors, so that --weights recognises it as a file; got {target}.")
    record = import_published(checkpoint, model, target, overwrite=overwrite)
    show(f"{target}: {record.model} {json.dumps(record.arch)}; use it with --weights {target}")


@app.command()
@handled
def calibrate(
    name: Annotated[str, typer.Argument(help="Shipped weights, or a .safetensors file, of a detect-ir network.")],
    data: Annotated[
        Path, typer.Option(help="Folder with one set per sub-folder (images/ and masks/, or target-free images only).")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output file, for use with --weights.")],
    only: Annotated[
        Path | None, typer.Option(help="Text file listing the images to use, one NAME or SET/NAME per line.")
    ] = None,
    band: Band = None,
    scale: Scale = None,
    var: Var = None,
    max_area: MaxArea = None,
    reach: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The more groups above the threshold within this many rows and columns, the surer a target must be "
            "(0: judge each alone); default: 0 or 128, whichever is better.",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Recalibrate the temperature and the rule (threshold, confidence, reach) of infrared weights on labelled images
    from your own sensor.

    The network itself is not changed. With --scale, that scale is the default of the new weights. Twenty images with
    targets and some without are a good start. The figures shown are for the images used for calibration, so evaluate
    the result on others.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"--output must end in .safetensors, so that --weights recognises it as a file; got {output}.")
    from rsunfold.infer.device import FREE_GPU, device_failures, pick_device
    from rsunfold.infer.infrared.evaluate import samples_from
    from rsunfold.infer.infrared.gray import Reading
    from rsunfold.io.atomic import refuse_existing
    from rsunfold.train.infrared.recalibrate import recalibrate

    refuse_existing(output, overwrite)
    reading = Reading(band, pair_of_numbers(scale, "--scale"), var)
    use_threads(threads)
    samples = samples_from(None, None, data, only)
    with watched(name), device_failures(FREE_GPU):
        record, lines = recalibrate(
            name,
            samples,
            output,
            reading=reading,
            max_area=max_area,
            reach=reach,
            device=pick_device(device),
            overwrite=overwrite,
            say=lambda text: say_notes([text]),
        )
    for line in lines:
        show(line)
    show(f"{output}: {record.model}; use it with --weights {output}")
