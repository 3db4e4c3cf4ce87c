"""``rsunfold evaluate detect-anomaly``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsunfold.cli.evaluate.finished import evaluation, kept, write_report
from rsunfold.cli.messages import say, say_notes, show
from rsunfold.cli.options import (
    SHARE,
    ComponentCount,
    Device,
    DropBands,
    Epochs,
    Inner,
    Json,
    LiteralPaper,
    Memory,
    ObjectSize,
    Outer,
    Overwrite,
    Priors,
    Quiet,
    Threads,
    Verbose,
    WindowSide,
    refuse_given,
    refuse_outputs,
    refuse_same,
)
from rsunfold.cli.running import use_threads, watched
from rsunfold.cli.words import model_options, names_of, prior_names, whole_numbers
from rsunfold.registry import DEFAULTS, models_to_compare

if TYPE_CHECKING:
    from rsunfold.infer.anomaly.detector import AnomalyDetector
    from rsunfold.infer.anomaly.evaluate import AnomalyComparison

SEPARABILITY = "separability.png"
OF_MODELS = {"priors", "object_size", "seeds", "epochs", "inner", "outer", "components", "literal", "window"}
OF_MODELS |= {"device", "memory", "threads"}
"""Options without a use for scores from another program alone."""


@evaluation
def detect_anomaly(
    context: typer.Context,
    scenes: Annotated[Path, typer.Option(help="Folder of scenes; the ground truth is a variable of each MAT file.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of ground-truth masks, NAME or NAME_mask, instead of a variable.")
    ] = None,
    truth_var: Annotated[
        str | None, typer.Option(help="Variable with the ground truth; default: map, gt, truth, mask or groundtruth.")
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of scores from another program, NAME_score or NAME, instead of models or, with --model, "
            "beside them; may be repeated."
        ),
    ] = None,
    score_var: Annotated[
        str | None, typer.Option(help="Variable with the score, where MAT files of --predictions hold several.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="One or more models, comma-separated; or all. Options may follow, as in crd:lam=1e-5.",
            show_default=f"{DEFAULTS['detect-anomaly']}; with --predictions, none",
        ),
    ] = None,
    var: Annotated[str | None, typer.Option(help="Variable of MAT files, or GDAL subdataset, with the scene.")] = None,
    drop_bands: DropBands = None,
    priors: Priors = None,
    object_size: ObjectSize = None,
    seeds: Annotated[str, typer.Option(help="Random seeds, comma-separated.")] = "0",
    pfa: Annotated[
        float, SHARE, typer.Option(help="Desired share of background pixels in the mask, between 0 and 0.5.")
    ] = 0.01,
    epochs: Epochs = None,
    inner: Inner = None,
    outer: Outer = None,
    components: ComponentCount = None,
    literal: LiteralPaper = False,
    window: WindowSide = None,
    per_scene: Annotated[bool, typer.Option("--per-scene", help="Also print the results of every scene.")] = False,
    json_file: Json = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for plots of the ROC of each scene and of the separability.")
    ] = None,
    device: Device = "auto",
    memory: Memory = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Compute ROC metrics of models, or of scores from another program, on scenes with ground truth.

    All scenes share one setting, and the ground truth is read only after the scores have been computed. All are
    measured on the same pixels: those that are valid in the scene and whose truth is known. The JSON report defines
    every metric. With several models, each option is passed to the models that have it.
    """
    from rsunfold.infer.anomaly.detector import AnomalyDetector, options_of, refuse_useless_size
    from rsunfold.infer.anomaly.evaluate import evaluate_models, scenes_in
    from rsunfold.infer.anomaly.threshold import check_rule
    from rsunfold.io.work import move_results, work_folder
    from rsunfold.report import roc_picture, separability_picture

    def told(done: AnomalyComparison) -> None:
        _tell(done, per_scene, json_file, overwrite)

    check_rule(pfa)
    refuse_outputs(overwrite, json_file)
    refuse_same("--predictions", predictions or [])
    if not predictions:
        refuse_given(context, {"score_var"}, "applies to --predictions; add it")
    elif model is None:
        refuse_given(context, OF_MODELS, "applies to models; add --model")
    found = scenes_in(scenes, masks, truth_var)
    asked = {"scenes": scenes, "masks": masks, "truth_var": truth_var}
    targets = {s.name: f"{s.name}_roc.png" for s in found}
    if pictures is not None:
        refuse_outputs(overwrite, *(pictures / name for name in [*targets.values(), SEPARABILITY]))
    detectors: list[AnomalyDetector] = []
    if model is not None or not predictions:
        use_threads(threads)
        where = models_to_compare(DEFAULTS["detect-anomaly"] if model is None else model, "detect-anomaly", device)
        given = model_options(epochs=epochs, inner=inner, outer=outer, components=components, literal=literal)
        detectors = [
            AnomalyDetector(
                name,
                options=options_of(name, given, list(where)),
                priors=prior_names(priors),
                object_size=object_size,
                window=window,
                device=its,
                memory=memory,
            )
            for name, its in where.items()
        ]
        refuse_useless_size(object_size, detectors)
    with nullcontext() if pictures is None else work_folder(pictures) as work:
        with kept(told) as keep, watched("evaluating"):
            done = evaluate_models(
                found,
                detectors,
                whole_numbers(seeds, "--seeds", once=True) if detectors else [],
                pfa=pfa,
                predictions=predictions or [],
                score_var=score_var,
                var=var,
                drop_bands=names_of(drop_bands),
                asked=asked,
                say=lambda text: say(text, 1),
                keep=keep,
            )
        told(done)
        if pictures is not None and work is not None:
            for name, file in targets.items():
                roc_picture(work / file, done.curves[name], title=name, fa_label="false alarm rate PF")
            separability_picture(work / SEPARABILITY, done.boxes(), title=f"mean of {len(found)} scenes")
            move_results(work, pictures, overwrite)


def _tell(done: AnomalyComparison, per_scene: bool, json_file: Path | None, overwrite: bool) -> None:
    """Show and write what is done; of models that lack some scenes, those that they have."""
    from rsunfold.report import table

    scenes = [row for row in done.rows(per_scene=True) if per_scene or row["model"] in done.missing]
    for rows in filter(None, (scenes, done.rows())):
        show(table(rows))
    say_notes(done.notes())
    write_report(done, json_file, overwrite)
