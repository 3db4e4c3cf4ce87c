"""``rsunfold denoise-hsi``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, say, say_notes
from rsunfold.cli.options import (
    MIRRORED,
    OF_WEIGHTS,
    Cubes,
    Device,
    DropBands,
    Memory,
    Overwrite,
    Quiet,
    SkipExisting,
    Threads,
    Var,
    Verbose,
    Weights,
    refuse_contradiction,
)
from rsunfold.cli.running import each_input, input_files, tell_end, use_threads
from rsunfold.cli.words import names_of, number_or_path, whole_numbers


@handled
def denoise_hsi(
    inputs: Cubes,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help=f"Output raster (.tif, .hdr, .img, ...), or a folder for the results. {MIRRORED}"
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Network or classical method (see rsunfold models).", show_default=OF_WEIGHTS["denoise-hsi"]),
    ] = None,
    weights: Weights = None,
    var: Var = None,
    drop_bands: DropBands = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            metavar="NOISE",
            help="Noise standard deviation in physical units, after the file's scale, or the ..._summary.json of an "
            "earlier result, whose noise of each band is used again; default: estimated for each band.",
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="First fit star-net to each cube; needs no ground truth, but assumes independent noise."
        ),
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="Data type of the result: float32 (in physical units), same (the input's type and scale), or auto: "
            "float32, but float64 where the steps of float32 are coarse for the values of a band."
        ),
    ] = "auto",
    residual: Annotated[bool, typer.Option("--residual", help="Also write what was removed as a raster.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also plot bands and spectra before and after, and the noise per band.")
    ] = False,
    pixel: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW,COL", help="Zero-based pixel whose spectrum --report plots; may be repeated."),
    ] = None,
    envi: Annotated[bool, typer.Option("--envi", help="With an output folder, write ENVI instead of GeoTIFF.")] = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Remove noise from hyperspectral cubes.

    For each cube, writes a raster with the same bands, wavelengths, nodata and georeferencing, and a summary
    (..._summary.json) that lists the bands denoised and how much was removed from each. Bad bands, constant bands and
    pixels without data are passed through unchanged. Existing files are replaced only with --overwrite.
    """
    refuse_contradiction(overwrite, skip_existing)
    from rsunfold.errors import UsageError
    from rsunfold.infer.earlier import is_done
    from rsunfold.infer.hsi.denoiser import Denoiser
    from rsunfold.infer.hsi.run import (
        CleanedFiles,
        Options,
        about,
        denoise_file,
        output_names,
        replaced_names,
        target_of,
    )

    pixels = []
    for text in pixel or []:
        place = whole_numbers(text, "--pixel")
        if len(place) != 2:
            raise UsageError(f"--pixel needs a row and a column such as 10,20, not {text!r}.")
        pixels.append((place[0], place[1]))
    if pixels and not report:
        raise UsageError("--pixel selects spectra for the report; add --report.")
    options = Options(
        var=var,
        drop_bands=names_of(drop_bands),
        dtype=dtype,
        residual=residual,
        report=report,
        pixels=tuple(pixels),
        overwrite=overwrite,
    )

    def written(stem: str) -> Iterator[Path]:
        target = target_of(output, stem, envi)
        return (target.parent / name for name in replaced_names(target, options, kept=Path(stem).name))

    files = input_files(inputs, overwrite, written)
    if len(files) > 1 and target_of(output, "x") == target_of(output, "y"):
        raise UsageError(f"{len(files)} inputs cannot share one output: pass a folder with -o, not {output}.")
    use_threads(threads)
    denoiser = Denoiser(
        model, weights=weights, sigma=number_or_path(sigma, "--sigma"), adapt=adapt, device=device, memory=memory
    )

    def done(source: str, stem: str) -> bool:
        target = target_of(output, stem, envi)
        return is_done(target.parent, output_names(target, options), source, about(denoiser, options))

    def run(source: str, stem: str) -> CleanedFiles:
        return denoise_file(source, target_of(output, stem, envi), denoiser, options)

    def tell(source: str, result: CleanedFiles) -> None:
        s = result.summary
        passed = len(s["bands_passed_through"])
        beside = f", {counted(passed, 'band')} passed through" if passed else ""
        left = s["pixels_that_lack_some_bands"] - s["of_these_denoised"]
        beside += f", {counted(left, 'pixel')} that lack some bands left as they are" if left else ""
        clipped = f", {counted(s['samples_clipped'], 'sample')} clipped" if s["samples_clipped"] else ""
        bands = counted(len(s["bands_denoised"]), "band")
        say(f"{source}: {bands} denoised{beside}{clipped}, {s['seconds']:.1f} s, {s['computed']}")
        if s["adapted"]:
            risks = f"estimated error {s['adapted']['risk_before']:.4f} -> {s['adapted']['risk_after']:.4f}"
            kept = "" if s["adapted"]["kept"] else "; it did not decrease, so the network was left unchanged"
            say(f"  adapted in {s['adapted']['seconds']:.0f} s: {risks} of the noise variance{kept}")
        say_notes(s["notes"])

    made, count = each_input(files, run, tell, done=done if skip_existing else None)
    tell_end(f"{made} of {counted(count, 'cube')} denoised", denoiser.spec.name, made, count, output)
