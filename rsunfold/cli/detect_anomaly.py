"""``rsunfold detect-anomaly``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.options import (
    Device,
    Envi,
    Memory,
    Overwrite,
    Quiet,
    SkipExisting,
    Threads,
    Var,
    Verbose,
    counted,
    each_input,
    handled,
    refuse_contradiction,
    say,
    say_notes,
    show,
    use_threads,
)

Priors = Annotated[
    str | None,
    typer.Option(
        help="Steps around the model, comma-separated: attribute-profile, kernel, small-object, edge-preserving; or "
        "none. Default: all of them with lrr-net-plus, none with any other model or with --literal."
    ),
]
ObjectSize = Annotated[
    int | None,
    typer.Option(
        "--object-size",
        min=1,
        help="Of the priors attribute-profile and small-object: pixels of the largest anomaly; default: 100.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of all random choices.")]
Epochs = Annotated[int | None, typer.Option(help="Of lrr-net-plus: steps of training in each scene.")]
Inner = Annotated[int | None, typer.Option(help="Of local-rx and crd: side of the inner window, odd.")]
Outer = Annotated[int | None, typer.Option(help="Of local-rx and crd: side of the outer window, odd.")]
Components = Annotated[int | None, typer.Option(help="Of rx and kernel-rx: principal components.")]
Literal = Annotated[bool, typer.Option("--literal", help="Of lrr-net-plus: the paper's own settings, for comparison.")]
Scene = Annotated[
    int | None,
    typer.Option("--window", help="Side of windows that are scenes of their own, where the background changes."),
]


@handled
def detect_anomaly(
    inputs: Annotated[
        list[str], typer.Argument(help="Cubes, folders of cubes, or quoted patterns such as 'scenes/*.hdr'.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results; made when missing.")],
    model: Annotated[str, typer.Option(help="A network or a classical method: see rsunfold models.")] = "lrr-net-plus",
    var: Var = None,
    pfa: Annotated[
        float | None, typer.Option(help="Wanted share of background pixels in the mask.  [default: 0.01]")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Instead of --pfa: percentile of all scores above which a pixel is anomalous.")
    ] = None,
    priors: Priors = None,
    object_size: ObjectSize = None,
    seed: Seed = 0,
    epochs: Epochs = None,
    inner: Inner = None,
    outer: Outer = None,
    components: Components = None,
    literal: Literal = False,
    window: Scene = None,
    min_area: Annotated[int, typer.Option(min=1, help="Fewest pixels of an anomaly.")] = 1,
    stages: Annotated[
        bool, typer.Option("--stages", help="Write background, residual and S of every stage as raster bands.")
    ] = False,
    picture: Annotated[bool, typer.Option("--quicklook/--no-quicklook", help="Write PNGs of the result.")] = True,
    envi: Envi = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Find what does not belong to the background of hyperspectral scenes.

    Each cube gives, in the output folder: NAME_score and NAME_mask (rasters with the input's georeferencing),
    NAME_anomalies.geojson and .csv, NAME_spectra.csv, two pictures and NAME_summary.json. No truth is needed, and
    nothing is overwritten unasked.
    """
    refuse_contradiction(overwrite, skip_existing)
    from rsunfold.infer.anomaly.detector import AnomalyDetector, refuse_useless_size
    from rsunfold.infer.anomaly.run import Found, Options, detect_file, output_names
    from rsunfold.infer.batch import expand
    from rsunfold.infer.results import is_done, results_folder

    options = Options(
        var=var,
        pfa=pfa,
        percentile=percentile,
        min_area=min_area,
        stages=stages,
        picture=picture,
        suffix=".img" if envi else ".tif",
        overwrite=overwrite,
    )
    folder = results_folder(output)
    files = expand(inputs)
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

    def done(stem: str) -> bool:
        return is_done(folder, output_names(stem, options), detector.spec)

    def run(source: str, stem: str) -> Found:
        return detect_file(source, stem, folder, detector, options)

    def tell(source: str, result: Found) -> None:
        s = result.summary
        found = f"{s['anomaly_pixels']} pixels in {counted(s['anomalies'], 'anomaly', 'anomalies')}"
        say(f"{source}: {found}, {s['seconds']:.1f} s, {s['computed']}")
        say_notes(s["notes"], "spectral axis", "singular")

    results, count = each_input(files, run, tell, done=done if skip_existing else None)
    found = counted(sum(len(r.anomalies) for r in results), "anomaly", "anomalies")
    scenes = f"{len(results)} of {counted(count, 'scene')}"
    show(f"{found} in {scenes} ({detector.spec.name}); results are in {output}")


def model_options(**given: int | bool | None) -> dict[str, int | bool | None]:
    """Those that were given; a switch that is off was not."""
    return {name: value for name, value in given.items() if value is not None and value is not False}


def prior_names(text: str | None) -> list[str] | None:
    """``kernel,small-object`` as names."""
    return None if text is None else [part.strip() for part in text.split(",")]
