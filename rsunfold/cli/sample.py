"""``rsunfold sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, show
from rsunfold.cli.options import Overwrite, Quiet, Verbose

app = typer.Typer(help="Write synthetic scenes with ground truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write synthetic scenes with ground truth."""


@app.command("ir")
@handled
def infrared(
    output: Annotated[Path, typer.Argument(help="Output folder for images/, masks/ and truth.json.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same scenes.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns of each scene.")] = 256,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Write infrared scenes: clouds, sea, ground and sky, with point-like targets of known signal-to-noise ratio."""
    from rsunfold.simulate.infrared import infrared_scenes
    from rsunfold.simulate.write import write_infrared

    scenes = infrared_scenes(count, seed, rows=size, cols=size)
    written = write_infrared(output, scenes, overwrite=overwrite)
    show(f"{counted(written, 'scene')} in {output}: images/, masks/, truth.json")


@app.command("hsi")
@handled
def hyperspectral(
    output: Annotated[Path, typer.Argument(help="Output folder for clean.tif, noisy.tif and truth.json.")],
    rows: Annotated[int, typer.Option(min=16, help="Number of rows.")] = 128,
    cols: Annotated[int, typer.Option(min=16, help="Number of columns.")] = 128,
    bands: Annotated[int, typer.Option(min=3, help="Number of bands, evenly spaced from 400 to 2500 nm.")] = 64,
    noise: Annotated[
        str,
        typer.Option(
            help="iid, bandwise, or case1 to case5: noise that differs from band to band (1), plus stripes (2), dead "
            "lines (3), impulses (4), or all of these (5)."
        ),
    ] = "case5",
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Noise level for iid, or the largest for bandwise, on the 0 to 255 scale; not used by case1 to case5."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same scene and noise.")] = 0,
    envi: Annotated[bool, typer.Option("--envi", help="Write ENVI files instead of GeoTIFF.")] = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Write a hyperspectral scene of mixed materials, clean and with noise of known strength."""
    from rsunfold.simulate.hyperspectral import hyperspectral_scene
    from rsunfold.simulate.noise import make_noise
    from rsunfold.simulate.write import write_hyperspectral

    scene = hyperspectral_scene(rows, cols, bands, seed=seed)
    noisy = make_noise(scene.data, noise, sigma=sigma, seed=seed)
    written = write_hyperspectral(output, scene, noisy, envi=envi, overwrite=overwrite)
    show(f"1 scene in {output}: {', '.join(written)}")
