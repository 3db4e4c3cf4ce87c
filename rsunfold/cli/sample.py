"""``rsunfold sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.options import Overwrite, Quiet, Verbose, counted, handled, show

app = typer.Typer(help="Write synthetic scenes with their truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write synthetic scenes with their truth."""


@app.command("ir")
@handled
def infrared(
    output: Annotated[Path, typer.Argument(help="Folder; gets images/, masks/ and truth.json.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns of each scene.")] = 256,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Infrared scenes: clouds, sea, ground and sky with point-spread targets of known signal-to-noise ratio."""
    from rsunfold.simulate.infrared import infrared_scenes
    from rsunfold.simulate.write import write_infrared

    scenes = infrared_scenes(count, seed, rows=size, cols=size)
    written = write_infrared(output, scenes, overwrite=overwrite)
    show(f"{counted(written, 'scene')} in {output}: images/, masks/, truth.json")
