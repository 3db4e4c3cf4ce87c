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
    given_in,
    refuse_given,
    refuse_outputs,
    refuse_same,
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
    restored: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --truth, a result from another program. With --clean, a folder of its results for the cubes "
            "that --save-noisy writes, under their names, instead of models or, with --model or --weights, beside "
            "them. May be repeated."
        ),
    ] = None,
    restored_var: Annotated[str | None, typer.Option(help="Variable of those --restored that are MAT files.")] = None,
    noisy: Annotated[
        Path | None, typer.Option(help="Noisy cube that --restored was made from, for comparison.")
    ] = None,
    noisy_var: Annotated[str | None, typer.Option(help="Variable of the MAT file of --noisy.")] = None,
    save_noisy: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the noisy cubes that models see (NAME_NOISE_seedN.tif) and the clean ones "
            "(NAME_clean.tif), for another program; models run only with --model or --weights."
        ),
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="First adapt star-net to each noisy cube.")] = False,
    var: Annotated[
        str | None, typer.Option(help="Variable of MAT files, or a GDAL subdataset, of --clean or --truth.")
    ] = None,
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
    """Compute PSNR, SSIM, SAM and ERGAS of models on clean cubes with added noise, or of results from other programs.

    Cubes are divided by their largest value, so the data range is 1. The JSON report defines every metric. Cubes of one
    size get the same noise from one seed.
    """
    from rsunfold.infer.batch import expand
    from rsunfold.infer.hsi.denoiser import Denoiser
    from rsunfold.infer.hsi.evaluate import evaluate_files, evaluate_models, noises
    from rsunfold.report import quality_picture
    from rsunfold.weights import compared

    def told(done: DenoisingComparison) -> None:
        _tell(done, json_file, overwrite)

    refuse_outputs(overwrite, json_file, pictures={"--picture": picture})
    _refuse_combinations(context)
    theirs = restored or []
    refuse_same("--restored", theirs)
    if save_noisy is not None and save_noisy.resolve() in (path.resolve() for path in theirs):
        raise UsageError(f"--save-noisy and --restored both name {save_noisy}; give each a folder of its own.")
    if truth is not None:
        with watched("evaluating"):
            done = evaluate_files(
                truth,
                theirs,
                noisy=noisy,
                var=var,
                restored_var=restored_var,
                noisy_var=noisy_var,
                drop_bands=names_of(drop_bands),
                published_ergas=published_ergas,
            )
    else:
        where = {} if model is None else models_to_compare(model, "denoise-hsi", device)
        alone = model is None and not weights and (theirs or save_noisy)
        pairs = [] if alone else compared("denoise-hsi", list(where), weights or [])
        protocol = noises(noise, numbers(sigma, "--sigma"))
        use_threads(threads)
        denoisers = [
            Denoiser(name, weights=its, adapt=adapt, device=where.get(name, device), memory=memory)
            for name, its in pairs
        ]
        with kept(told) as keep, watched("evaluating"):
            done = evaluate_models(
                expand(clean or [], outputs=bool(theirs or save_noisy), say=say),
                protocol,
                whole_numbers(seeds, "--seeds", once=True),
                denoisers,
                var=var,
                drop_bands=names_of(drop_bands),
                published_ergas=published_ergas,
                restored=theirs,
                restored_var=restored_var,
                save_noisy=save_noisy,
                overwrite=overwrite,
                say=lambda text: say(text, 1),
                keep=keep,
            )
    told(done)
    if picture is not None:
        title = f"{done.runs[0]['cube']}, mean over noises"
        quality_picture(picture, done.curves(), wavelengths=done.wavelengths, title=title, overwrite=overwrite)


def _refuse_combinations(context: typer.Context) -> None:
    """Raise UsageError for options that do not go together."""
    given = given_in(context).keys()
    of_models = {"model", "weights", "adapt", "device", "memory", "threads"}
    if ("clean" in given) == ("truth" in given) or ("truth" in given and "restored" not in given):
        raise UsageError("use either --clean, or --truth and --restored.")
    if "truth" in given:
        of_clean = of_models | {"noise", "sigma", "seeds", "save_noisy"}
        refuse_given(context, of_clean, "applies to --clean and cannot be combined with --truth")
    else:
        added = "cannot be combined with --clean, to which noise is added; use it with --truth and --restored"
        refuse_given(context, {"noisy"}, added)
        if given & {"restored", "save_noisy"} and not given & {"model", "weights"}:
            refuse_given(context, of_models, "applies to models; add --model or --weights")
    for name in ("restored", "noisy"):
        if name not in given:
            refuse_given(context, {f"{name}_var"}, f"applies to --{name}, which is not given")


def _tell(done: DenoisingComparison, json_file: Path | None, overwrite: bool) -> None:
    """Show and write what is done."""
    from rsunfold.report import table

    say_notes(done.remarks())
    show(table(done.rows()))
    write_report(done, json_file, overwrite)
