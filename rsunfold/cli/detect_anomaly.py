"""``rsunfold detect-anomaly``."""

from __future__ import annotations

from typing import Annotated

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, found_in, say, say_notes
from rsunfold.cli.options import (
    SHARE,
    ComponentCount,
    Cubes,
    Device,
    DropBands,
    Envi,
    Epochs,
    Inner,
    LiteralPaper,
    Memory,
    ObjectSize,
    Outer,
    OutputFolder,
    Overwrite,
    Priors,
    Quiet,
    Seed,
    SkipExisting,
    Table,
    Threads,
    Var,
    Verbose,
    WindowSide,
    refuse_contradiction,
)
from rsunfold.cli.running import each_input, input_files, tell_end, use_threads
from rsunfold.cli.words import model_options, names_of, prior_names
from rsunfold.registry import DEFAULTS


@handled
def detect_anomaly(
    inputs: Cubes,
    output: OutputFolder,
    model: Annotated[
        str,
        typer.Option(help="Network or classical method (see rsunfold models); options may follow, as in crd:lam=1e-5."),
    ] = DEFAULTS["detect-anomaly"],
    var: Var = None,
    drop_bands: DropBands = None,
    pfa: Annotated[
        float | None,
        SHARE,
        typer.Option(help="Desired share of background pixels in the mask, between 0 and 0.5; default: 0.01."),
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option(
            help="Percentile (above 1 and below 100) of all scores used as the threshold, such as 99: the 1 % highest "
            "scores are anomalies; instead of --pfa."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Score (0 or more) above which a pixel is anomalous, instead of --pfa; for series, with models whose "
            "scores of several images are comparable, such as rx."
        ),
    ] = None,
    priors: Priors = None,
    object_size: ObjectSize = None,
    seed: Seed = 0,
    epochs: Epochs = None,
    inner: Inner = None,
    outer: Outer = None,
    components: ComponentCount = None,
    literal: LiteralPaper = False,
    window: WindowSide = None,
    min_area: Annotated[int, typer.Option(min=1, help="Minimum anomaly area in pixels.")] = 1,
    stages: Annotated[
        bool, typer.Option("--stages", help="Write the background, residual and S of every stage as raster bands.")
    ] = False,
    picture: Annotated[
        bool, typer.Option("--quicklook/--no-quicklook", help="Write PNG pictures of the result.")
    ] = True,
    envi: Envi = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    table: Table = None,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Detect anomalies: pixels that do not belong to the background of a hyperspectral scene.

    For each cube, the output folder receives NAME_score and NAME_mask (rasters with the input's georeferencing),
    NAME_anomalies.geojson and .csv, NAME_spectra.csv, two pictures and NAME_summary.json. No ground truth is needed.
    Existing files are replaced only with --overwrite.
    """
    refuse_contradiction(overwrite, skip_existing)
    from rsunfold.infer.anomaly.detector import AnomalyDetector, refuse_useless_size
    from rsunfold.infer.anomaly.run import Found, Options, detect_file, listing, output_names
    from rsunfold.infer.earlier import is_done
    from rsunfold.infer.results import about, all_names, results_folder

    options = Options(
        var=var,
        drop_bands=names_of(drop_bands),
        pfa=pfa,
        percentile=percentile,
        threshold=threshold,
        min_area=min_area,
        stages=stages,
        picture=picture,
        suffix=".img" if envi else ".tif",
        overwrite=overwrite,
    )
    folder = results_folder(output)
    files = input_files(
        inputs, overwrite, lambda stem: (folder / n for n in all_names(output_names, stem, options=options))
    )
    tables = None if table is None else listing(table, folder, options).ready(files, resumed=skip_existing)
    use_threads(threads)
    detector = AnomalyDetector(
        model,
        options=model_options(epochs=epochs, inner=inner, outer=outer, components=components, literal=literal),
        priors=prior_names(priors),
        object_size=object_size,
        seed=seed,
        window=window,
        device=device,
        memory=memory,
    )
    refuse_useless_size(object_size, [detector])
    if stages:
        detector.require_stages()

    def done(source: str, stem: str) -> bool:
        return is_done(folder, output_names(stem, options), source, about(detector, options))

    def run(source: str, stem: str) -> Found:
        return detect_file(source, stem, folder, detector, options)

    numbers: list[int] = []

    def tell(source: str, result: Found) -> None:
        s = result.summary
        numbers.append(len(result.anomalies))
        found = f"{s['anomaly_pixels']} pixels in {counted(s['anomalies'], 'anomaly', 'anomalies')}"
        say(f"{source}: {found}, {s['seconds']:.1f} s, {s['computed']}")
        say_notes(s["notes"])

    finish = None if tables is None else tables.write
    made, count = each_input(files, run, tell, done=done if skip_existing else None, finish=finish)
    tell_end(found_in(numbers, "anomaly", "anomalies", "scene"), detector.spec.name, made, count, output)
