"""``rsunfold detect-ir``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, found_in, say, say_notes
from rsunfold.cli.options import (
    OF_WEIGHTS,
    Bands,
    Confidence,
    Device,
    Envi,
    Images,
    MaxArea,
    Memory,
    OutputFolder,
    Overwrite,
    Quiet,
    Reach,
    Scale,
    SkipExisting,
    Table,
    Threads,
    Threshold,
    Var,
    Verbose,
    Weights,
    refuse_contradiction,
)
from rsunfold.cli.running import each_input, input_files, tell_end, use_threads
from rsunfold.cli.words import pair_of_numbers


@handled
def detect_ir(
    inputs: Images,
    output: OutputFolder,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network or classical method (see rsunfold models); options may follow, as in top-hat:disk=7.",
            show_default=OF_WEIGHTS["detect-ir"],
        ),
    ] = None,
    weights: Weights = None,
    threshold: Threshold = None,
    confidence: Confidence = None,
    band: Bands = None,
    scale: Scale = None,
    var: Var = None,
    min_area: Annotated[int, typer.Option(min=1, help="Minimum target area in pixels.")] = 1,
    max_area: MaxArea = None,
    reach: Reach = None,
    stages: Annotated[
        bool, typer.Option("--stages", help="Write the variables of every stage as raster bands.")
    ] = False,
    picture: Annotated[
        bool, typer.Option("--quicklook/--no-quicklook", help="Write a PNG picture of the result.")
    ] = True,
    envi: Envi = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    table: Table = None,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    half: Annotated[
        bool, typer.Option("--half", help="Use float16 on a CUDA device, checked against float32.")
    ] = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Find small targets in infrared images.

    For each image, the output folder receives NAME_score and NAME_mask (rasters with the input's georeferencing),
    NAME_targets.geojson and .csv, NAME_quicklook.png and NAME_summary.json. Existing files are replaced only
    with --overwrite.
    """
    refuse_contradiction(overwrite, skip_existing)
    from rsunfold.infer.earlier import is_done
    from rsunfold.infer.infrared.detector import Detector
    from rsunfold.infer.infrared.frames import Frame, Frames
    from rsunfold.infer.infrared.gray import BandNeeded
    from rsunfold.infer.infrared.run import DetectionFiles, Options, detect_file, listing, output_names
    from rsunfold.infer.results import about, all_names, results_folder

    options = Options(
        threshold=threshold,
        confidence=confidence,
        band=int(band) if band is not None and band.strip().isdecimal() else None,
        scale=pair_of_numbers(scale, "--scale"),
        var=var,
        min_area=min_area,
        max_area=max_area,
        reach=reach,
        stages=stages,
        picture=picture,
        suffix=".img" if envi else ".tif",
        overwrite=overwrite,
    )
    folder = results_folder(output)
    wanted = None if band is None or options.band is not None else Frames.parse(band)
    frames: dict[str, Frame] = {}

    def apart(files: dict[str, str]) -> dict[str, str]:
        if wanted is None:
            return files
        frames.update(wanted.of(files, var))
        return {stem: frame.source for stem, frame in frames.items()}

    files = input_files(
        inputs, overwrite, lambda stem: (folder / n for n in all_names(output_names, stem, options=options)), apart
    )
    tables = None if table is None else listing(table, folder, options).ready(files, resumed=skip_existing)
    use_threads(threads)
    detector = Detector(model, weights=weights, device=device, memory=memory, half=half)
    if stages:
        detector.require_stages()
    say_notes(options.reading.for_weights(detector.record).remarks(detector.record))

    def of(stem: str) -> Options:
        return replace(options, band=frames[stem].band) if stem in frames else options

    def done(source: str, stem: str) -> bool:
        return is_done(folder, output_names(stem, options), source, about(detector, of(stem)))

    def run(source: str, stem: str) -> DetectionFiles:
        try:
            return detect_file(source, stem, folder, detector, of(stem))
        except BandNeeded as error:
            instead = ", or make an image of each, as of the frames of a video, with --band all."
            raise BandNeeded(str(error).removesuffix(".") + instead) from None

    numbers: list[int] = []

    def tell(source: str, result: DetectionFiles) -> None:
        summary = result.summary
        numbers.append(len(result.targets))
        found = counted(summary["targets"], "target")
        which = f", {summary['band']}" if frames else ""
        say(f"{source}{which}: {found}, {summary['seconds']:.2f} s, {summary['computed']}")
        say_notes(summary["notes"])
        if "colour" in summary["band"]:
            say(f"  {summary['band']} was used")

    finish = None if tables is None else tables.write
    made, count = each_input(files, run, tell, done=done if skip_existing else None, finish=finish)
    tell_end(found_in(numbers, "target", "targets", "image"), detector.spec.name, made, count, output)
