"""``rsunfold evaluate denoise-hsi``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsunfold.cli.evaluate.finished import evaluation, kept, write_report
from rsunfold.cli.messages import say, say_notes, show
from rsunfold.cli.options import (
    OF_WEIGHTS,
    ComparedWeights,
    Device,
    DropBands,
    Json,
    Memory,
    Overwrite,
    Quiet,
    Threads,
    Verbose,
    refuse_given,
    refuse_outputs,
)
from rsunfold.cli.running import use_threads, watched
from rsunfold.cli.words import names_of, numbers, whole_numbers
from rsunfold.errors import UsageError
from rsunfold.registry import models_to_compare

if TYPE_CHECKING:
    from rsunfold.infer.hsi.evaluate import DenoisingComparison


@evaluation
def denoise_hsi(
    context: typer.Context,
    clean: Annotated[
        list[str] | None,
        typer.Option(help="Clean cube, folder or quoted pattern, to which noise is added; may be repeated."),
    ] = None,
    noise: Annotated[str, typer.Option(help="iid, bandwise, or case1 to case5 (the mixed noise of QRNN3D).")] = "iid",
    sigma: Annotated[
        str | None, typer.Option(help="Noise levels on the 0 to 255 scale, comma-separated, such as 10,30,50,70.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Random seeds for the noise, comma-separated.")] = "0",
    model: Annotated[
        str | None,
        typer.Option(help="One or more models, comma-separated; or all.", show_default=OF_WEIGHTS["denoise-hsi"]),
    ] = None,
    weights: ComparedWeights = None,
    truth: Annotated[Path | None, typer.Option(help="Clean cube to compare --restored (and --noisy) with.")] = None,
    restored: Annotated[Path | None, typer.Option(help="Result from another program, instead of a model.")] = None,
    noisy: Annotated[
        Path | None, typer.Option(help="Noisy cube that --restored was made from, for comparison.")
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="First adapt star-net to each noisy cube.")] = False,
    var: Annotated[str | None, typer.Option(help="Variable of MAT files, or a GDAL subdataset.")] = None,
    drop_bands: DropBands = None,
    published_ergas: Annotated[
        bool, typer.Option("--published-ergas", help="Also report ERGAS as published scripts compute it.")
    ] = False,
    json_file: Json = None,
    picture: Annotated[Path | None, typer.Option(help="Plot PSNR per band of the first cube to a PNG.")] = None,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Compute PSNR, SSIM, SAM and ERGAS of models on clean cubes with added noise, or of a result from another program.

    Cubes are divided by their largest value, so the data range is 1. The JSON report defines every metric.
    """
    from rsunfold.infer.batch import expand
    from rsunfold.infer.hsi.denoiser import Denoiser
    from rsunfold.infer.hsi.evaluate import evaluate_files, evaluate_models, noises
    from rsunfold.report import quality_picture
    from rsunfold.weights import compared

    def told(done: DenoisingComparison) -> None:
        _tell(done, json_file, overwrite)

    refuse_outputs(overwrite, json_file, pictures={"--picture": picture})
    if (clean is None) == (truth is None) or (truth is None) != (restored is None):
        raise UsageError("use either --clean, or --truth and --restored.")
    if clean is not None and noisy is not None:
        raise UsageError(
            "--noisy cannot be combined with --clean, to which noise is added; use it with --truth and --restored."
        )
    if truth is not None:
        of_models = {"noise", "sigma", "seeds", "model", "weights", "adapt", "device", "memory", "threads"}
        refuse_given(context, of_models, "applies to --clean and cannot be combined with --restored")
    if truth is not None and restored is not None:
        files = {"noisy": noisy} if noisy is not None else {}
        with watched("evaluating"):
            done = evaluate_files(
                truth,
                {**files, "restored": restored},
                var=var,
                drop_bands=names_of(drop_bands),
                published_ergas=published_ergas,
            )
    else:
        where = {} if model is None else models_to_compare(model, "denoise-hsi", device)
        pairs = compared("denoise-hsi", list(where), weights or [])
        protocol = noises(noise, numbers(sigma, "--sigma"))
        use_threads(threads)
        denoisers = [
            Denoiser(name, weights=its, adapt=adapt, device=where.get(name, device), memory=memory)
            for name, its in pairs
        ]
        with kept(told) as keep, watched("evaluating"):
            done = evaluate_models(
                expand(clean or [], outputs=False, say=say),
                protocol,
                whole_numbers(seeds, "--seeds", once=True),
                denoisers,
                var=var,
                drop_bands=names_of(drop_bands),
                published_ergas=published_ergas,
                say=lambda text: say(text, 1),
                keep=keep,
            )
    told(done)
    if picture is not None:
        title = f"{done.runs[0]['cube']}, mean over noises"
        quality_picture(picture, done.curves(), wavelengths=done.wavelengths, title=title, overwrite=overwrite)


def _tell(done: DenoisingComparison, json_file: Path | None, overwrite: bool) -> None:
    """Show and write what is done."""
    from rsunfold.report import table

    say_notes(done.notes)
    show(table(done.rows()))
    write_report(done, json_file, overwrite)
