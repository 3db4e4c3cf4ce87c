"""``rsunfold train``."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import say, show
from rsunfold.cli.options import Device, Quiet, Threads, Verbose
from rsunfold.cli.running import use_threads, watched


@partial(handled, left="continue with --resume where --out contains a checkpoint")
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file (TOML) or name of a shipped recipe.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Infrared: folder with images/ and masks/, or with one such folder (or folder of target-free images) "
            "per set. Denoising: folder with clean cubes in the sub-folders listed in data.folders of the recipe."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--output", "--out", help="Output folder for checkpoint, log, weights and card.")
    ],
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start from these weights (a shipped name or a file) instead of random ones."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a recipe value, such as optim.steps=500; may be repeated."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Stop after this many minutes; continue later with --resume.")
    ] = math.inf,
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Train a network from a recipe; use torchrun for several GPUs."""
    from rsunfold.infer.device import device_failures
    from rsunfold.train.loop import Trainer, training_device
    from rsunfold.train.recipefile import load_recipe, recipe_path

    path = recipe_path(recipe)
    say(f"recipe: {path}")
    content = load_recipe(path, changes or ())
    use_threads(threads)
    with device_failures("lower optim.batch in the recipe"):
        trainer = Trainer(content, data, out, device=training_device(device, content.model), start=start, say=say)
        with watched(content.name) if trainer.rank == 0 else nullcontext():
            complete = trainer.run(minutes=max_minutes, resume=resume)
    state = "complete" if complete else "not complete: continue with --resume"
    there = f"weights, card and log are in {out}"
    if not (complete or trainer.folder.weights.is_file()):
        there = f"checkpoint and log are in {out}, weights and card will be written at step {trainer.next_validation}"
    show(f"step {trainer.step} of {content.optim.steps}, {state}; {there}")
