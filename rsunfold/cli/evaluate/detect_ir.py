"""``rsunfold evaluate detect-ir``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsunfold.cli.evaluate.finished import evaluation, kept, write_report
from rsunfold.cli.messages import say, say_notes, show
from rsunfold.cli.options import (
    OF_WEIGHTS,
    SHARE,
    Band,
    ComparedWeights,
    Confidence,
    Device,
    Json,
    MaxArea,
    Memory,
    Overwrite,
    Quiet,
    Reach,
    Scale,
    Threads,
    Threshold,
    Var,
    Verbose,
    given_in,
    refuse_given,
    refuse_outputs,
    refuse_same,
)
from rsunfold.cli.running import use_threads, watched
from rsunfold.cli.words import numbers, pair_of_numbers
from rsunfold.errors import UsageError

if TYPE_CHECKING:
    from rsunfold.infer.infrared.detector import Detector
    from rsunfold.infer.infrared.evaluate import Evaluation, InfraredComparison
    from rsunfold.infer.infrared.studies import Study


@evaluation
def detect_ir(
    context: typer.Context,
    images: Annotated[Path | None, typer.Option(help="Folder of images.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of masks with the same names as the images.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one set per sub-folder (images/ and masks/, or target-free images only), "
            "instead of --images and --masks."
        ),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of masks or scores from another program, instead of models or, with --model or --weights, "
            "beside them; may be repeated."
        ),
    ] = None,
    only: Annotated[
        Path | None, typer.Option(help="Text file listing the images to use, one NAME or SET/NAME per line.")
    ] = None,
    band: Band = None,
    scale: Scale = None,
    var: Var = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="One or more models, comma-separated; or all, for every model that can run. Options may follow, as in "
            "top-hat:disk=3,top-hat:disk=5.",
            show_default=OF_WEIGHTS["detect-ir"],
        ),
    ] = None,
    weights: ComparedWeights = None,
    threshold: Threshold = None,
    confidence: Confidence = None,
    max_area: MaxArea = None,
    reach: Reach = None,
    pfa: Annotated[
        float | None,
        SHARE,
        typer.Option(help="Also report the threshold that gives this pixel false-alarm rate (0 to 1) on these images."),
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=8, help="Resample all to N x N first, as papers do for IRSTD-1k (256).")
    ] = None,
    legacy: Annotated[
        bool,
        typer.Option(
            "--half-maximum", help="Threshold each image at half of its own maximum, as published scripts do."
        ),
    ] = False,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:LEVEL,...",
            help="Test robustness by adding noise: gaussian:0.02,0.05 (standard deviation, gray levels from 0 to 1) "
            "or salt-pepper:0.01,0.05 (share of pixels set to 0 or 1). May be repeated.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed for --corrupt; default: 0.")] = None,
    ablate: Annotated[
        str | None,
        typer.Option(
            metavar="stages",
            help="Evaluate the target map T of every stage, at the threshold and confidence of the weights. Earlier "
            "stages were trained to give a result only if loss.stages of the recipe is above 0.",
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Plot the curves of --corrupt or --ablate to a PNG.")] = None,
    json_file: Json = None,
    roc: Annotated[Path | None, typer.Option(help="Plot the ROC curves to a PNG.")] = None,
    worst: Annotated[
        Path | None, typer.Option(help="Write a PNG of the images with the lowest IoU (first row of the table).")
    ] = None,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Compute IoU, nIoU, F1, Pd and Fa (two conventions) and ROC of models, or of results from another program.

    One fixed threshold is used for all images. The JSON report defines every metric.
    """
    from rsunfold.infer.infrared.evaluate import (
        EvaluationProtocol,
        InfraredComparison,
        detectors_of,
        evaluate_detector,
        evaluate_files,
        readable,
        refuse_other_sizes,
        samples_from,
    )
    from rsunfold.infer.infrared.gray import Reading
    from rsunfold.infer.infrared.studies import Ablation, Robustness, corruptions
    from rsunfold.infer.results import label_of_files
    from rsunfold.rule import Asked

    refuse_outputs(overwrite, json_file, pictures={"--roc": roc, "--worst": worst, "--picture": picture})
    _refuse_combinations(context, ablate, pfa)
    refuse_same("--predictions", predictions or [])
    noises = corruptions(_levels(corrupt), seed or 0) if corrupt else {}
    asked = Asked(threshold, confidence, max_area, reach)
    reading = Reading(band, pair_of_numbers(scale, "--scale"), var)
    use_threads(threads)
    with_models = not predictions or model is not None or bool(weights)
    samples = samples_from(images, masks, data, only, with_models=with_models)
    also = {"only": only, "pfa": pfa}
    protocol = EvaluationProtocol(asked, resize, legacy, reading, say, also)
    detectors: list[Detector] = []
    if with_models:
        detectors = detectors_of(model, weights=weights or [], device=device, memory=memory, say=say)
    if ablate is not None and (model or "").strip() == "all":
        classical = [d.name for d in detectors if not d.net]
        say(f"skipped, because classical methods have no stages: {', '.join(classical)}")
        detectors = [d for d in detectors if d.net]
    with watched("reading"):
        samples, unread = readable(samples, protocol, with_models=with_models)
        if with_models:
            refuse_other_sizes(samples, protocol)
    if noises or ablate is not None:
        study: Study = Robustness(noises) if noises else Ablation()
        study.unread = unread
        incomplete_study = partial(_study, json_file=json_file, picture=None, overwrite=overwrite)
        with kept(incomplete_study) as keep_study, watched("evaluating"):
            study.evaluate(detectors, samples, protocol, keep_study)
        _study(study, json_file, picture, overwrite)
        unread.raise_any()
        return
    graded = pfa is not None or roc is not None
    runs: dict[str, Callable[[], Evaluation]] = {
        **{label_of_files(p): partial(evaluate_files, p, samples, protocol, graded=graded) for p in predictions or []},
        **{d.label: partial(evaluate_detector, d, samples, protocol) for d in detectors},
    }
    done = InfraredComparison(protocol, list(runs), unread)

    def incomplete(some: InfraredComparison) -> None:
        _figures(some, json_file, None, None, None, overwrite)

    with kept(incomplete) as keep, watched("evaluating"):
        for run in runs.values():
            done.add(run())
            keep(done)
            if done.missing:
                say(f"{done.runs[-1].label}: {done.runs[-1].summary()}")
    _figures(done, json_file, worst, roc, pfa, overwrite)
    unread.raise_any()


def _refuse_combinations(context: typer.Context, ablate: str | None, pfa: float | None) -> None:
    """Raise UsageError for options that do not go together."""
    given = given_in(context).keys()
    rule = given & {"threshold", "confidence", "max_area", "reach"}
    if "predictions" in given:
        of_models = {"corrupt", "ablate"}
        refuse_given(context, of_models, "applies to models and cannot be combined with --predictions")
        if not given & {"model", "weights"}:
            refuse_given(context, {"device", "memory", "threads"}, "applies to models; add --model or --weights")
        if not given & {"images", "data"}:
            refuse_given(context, {"band", "scale", "var"}, "applies to images; add --images")
    if "legacy" in given and (rule or given & {"pfa", "roc"}):
        raise UsageError(
            "--half-maximum replaces the threshold and cannot be combined with --threshold, --confidence, --max-area, "
            "--reach, --pfa or --roc."
        )
    if "seed" in given and "corrupt" not in given:
        raise UsageError("--seed sets the noise of --corrupt; add --corrupt.")
    if ablate not in (None, "stages"):
        raise UsageError(f"--ablate accepts only stages, not {ablate!r}.")
    if "ablate" in given and (rule or given & {"corrupt", "legacy"}):
        raise UsageError(
            "--ablate cannot be combined with --corrupt, --threshold, --confidence, --max-area, --reach or "
            "--half-maximum."
        )
    study = given & {"corrupt", "ablate"}
    if study and given & {"pfa", "roc", "worst"}:
        raise UsageError("--pfa, --roc and --worst cannot be combined with --corrupt or --ablate.")
    if pfa is not None and not 0 < pfa < 1:
        raise UsageError(f"--pfa must lie between 0 and 1, not {pfa:g}.")
    if "picture" in given and not study:
        raise UsageError("--picture requires --corrupt or --ablate.")


def _study(study: Study, json_file: Path | None, picture: Path | None, overwrite: bool) -> None:
    """Show and write a study."""
    from rsunfold.report import study_picture, table

    say_notes(study.notes())
    show(table(study.rows()))
    write_report(study, json_file, overwrite)
    if picture is not None:
        courses = study.courses()
        study_picture(picture, courses, study.strips, title=study.title, example=study.example, overwrite=overwrite)


def _figures(
    done: InfraredComparison,
    json_file: Path | None,
    worst: Path | None,
    roc: Path | None,
    pfa: float | None,
    overwrite: bool,
) -> None:
    """Show and write evaluations."""
    from rsunfold.report import table, worst_images

    runs = done.runs
    say_notes(done.notes())
    show(table(done.table_rows()))
    if len(runs) > 1:
        show(table([e.comparison() for e in runs]))
    # What cannot be drawn or told of these images comes last: the figures have been computed.
    failed = [] if pfa is None else _keeping(runs, pfa)
    write_report(done, json_file, overwrite)
    if worst is not None:
        worst_images(worst, runs[0].worst, title=f"lowest IoU, {runs[0].label}", overwrite=overwrite)
    if roc is not None:
        failed += _draw_curves(roc, runs, overwrite)
    for e in runs:
        if cut := e.about.get("pfa"):
            show(
                f"{e.label}: Fa <= {pfa:g} on these images from threshold {cut['threshold']:.9g}; use it on other "
                "images."
            )
    if failed:
        raise failed[0]


def _keeping(done: list[Evaluation], pfa: float) -> list[UsageError]:
    """Enter the thresholds that keep the false alarms at ``pfa``; returns why some have none."""
    failed = []
    for e in done:
        try:
            e.about["pfa"] = {"wanted": pfa, "threshold": e.sets["all"].threshold_for_pfa(pfa)}
        except UsageError as error:
            failed.append(error)
    return failed


def _draw_curves(path: Path, done: list[Evaluation], overwrite: bool) -> list[UsageError]:
    """Draw the ROC of those that have one, and the points of all; returns why there is nothing to draw."""
    from rsunfold.report import roc_picture

    curves = {e.label: curve for e in done if (curve := e.curve()) is not None}
    if not curves:
        return [UsageError("no ROC can be drawn without scores, targets and background.")]
    points = {e.label: point for e in done if (point := e.point()) is not None}
    roc_picture(path, curves, points=points, overwrite=overwrite)
    return []


def _levels(words: list[str]) -> dict[str, list[float]]:
    """``gaussian:0.02,0.05`` as levels by kind; raises UsageError."""
    found: dict[str, list[float]] = {}
    for word in words:
        kind, colon, levels = word.partition(":")
        if not colon:
            raise UsageError(f"--corrupt takes a kind and levels such as gaussian:0.02,0.05, not {word!r}.")
        found.setdefault(kind.strip(), []).extend(numbers(levels, "--corrupt"))
    return found
