"""``rsunfold evaluate``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.detect_anomaly import (
    Components,
    Epochs,
    Inner,
    Literal,
    ObjectSize,
    Outer,
    Priors,
    Scene,
    model_options,
    prior_names,
)
from rsunfold.cli.options import (
    Confidence,
    Device,
    Json,
    MaxArea,
    Memory,
    Overwrite,
    Quiet,
    Threads,
    Threshold,
    Verbose,
    Weights,
    handled,
    names_of,
    numbers,
    refuse_given,
    say,
    show,
    use_threads,
    whole_numbers,
)
from rsunfold.errors import UsageError
from rsunfold.registry import model_names

SEPARABILITY = "separability.png"
app = typer.Typer(help="Compare results with ground truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Compare results with ground truth."""


@app.command("detect-ir")
@handled
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
        Path | None, typer.Option(help="Folder of masks or scores from another program, instead of a model.")
    ] = None,
    only: Annotated[
        Path | None, typer.Option(help="Text file listing the images to use, one NAME or SET/NAME per line.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="One or more models, comma-separated; or all, for every model that can run. Options may follow, as in "
            "top-hat:disk=3,top-hat:disk=5."
        ),
    ] = "l-rpcanet",
    weights: Weights = None,
    threshold: Threshold = None,
    confidence: Confidence = None,
    max_area: MaxArea = None,
    pfa: Annotated[
        float | None,
        typer.Option(help="Also report the threshold that gives this pixel false-alarm rate on these images."),
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=8, help="Resample images to N x N first, as papers do for IRSTD-1k (256).")
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
        Path | None, typer.Option(help="Write a PNG of the images with the lowest IoU (first model).")
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
        Evaluation,
        Protocol,
        detectors_of,
        evaluate_detector,
        evaluate_files,
        samples_from,
    )
    from rsunfold.infer.infrared.studies import ablation, corruptions, robustness
    from rsunfold.io.atomic import refuse_existing
    from rsunfold.report import roc_picture, study_picture, table, worst_images, write_json

    for path in (json_file, roc, worst, picture):
        if path is not None:
            refuse_existing(path, overwrite)
    if predictions is not None:
        of_models = {"model", "weights", "resize", "legacy", "corrupt", "ablate", "device", "memory", "threads"}
        refuse_given(context, of_models, "applies to models and cannot be combined with --predictions")
    if legacy and any(option is not None for option in (threshold, confidence, max_area, pfa, roc)):
        raise UsageError(
            "--half-maximum replaces the threshold and cannot be combined with --threshold, --confidence, --max-area, "
            "--pfa or --roc."
        )
    noises = corruptions(_levels(corrupt), seed or 0) if corrupt else {}
    if seed is not None and not noises:
        raise UsageError("--seed sets the noise of --corrupt; add --corrupt.")
    if ablate not in (None, "stages"):
        raise UsageError(f"--ablate accepts only stages, not {ablate!r}.")
    if ablate is not None and (noises or legacy or threshold is not None or confidence is not None):
        raise UsageError("--ablate cannot be combined with --corrupt, --threshold, --confidence or --half-maximum.")
    if (noises or ablate is not None) and any(option is not None for option in (pfa, roc, worst)):
        raise UsageError("--pfa, --roc and --worst cannot be combined with --corrupt or --ablate.")
    if pfa is not None and not 0 < pfa < 1:
        raise UsageError(f"--pfa must lie between 0 and 1, not {pfa:g}.")
    if picture is not None and not noises and ablate is None:
        raise UsageError("--picture requires --corrupt or --ablate.")
    use_threads(threads)
    samples = samples_from(images, masks, data, predictions, only)
    if predictions is not None:
        done: list[Evaluation] = [
            evaluate_files(predictions, samples, threshold=threshold, confidence=confidence, max_area=max_area)
        ]
    else:
        protocol = Protocol(threshold, confidence, max_area, resize, legacy, say)
        detectors = detectors_of(model, weights=weights, device=device, memory=memory, say=say)
        if noises or ablate is not None:
            if ablate is not None and model == "all":
                say(
                    "skipped, because classical methods have no stages: "
                    + ", ".join(d.name for d in detectors if not d.net)
                )
                detectors = [d for d in detectors if d.net]
            study = (
                robustness(detectors, samples, noises, protocol) if noises else ablation(detectors, samples, protocol)
            )
            show(table(study.rows()))
            if json_file is not None:
                write_json(json_file, study.report(), overwrite=overwrite)
            if picture is not None:
                study_picture(
                    picture, study.courses(), study.strips, title=study.title, example=study.example,
                    overwrite=overwrite,
                )  # fmt: skip
            return
        done = [evaluate_detector(d, samples, protocol) for d in detectors]
    show(table([row for e in done for row in e.rows()]))
    if len(done) > 1:
        show(table([e.comparison() for e in done]))
    # What cannot be drawn or told of these images comes last: the figures have been computed.
    if json_file is not None:
        reports = [e.report() for e in done]
        write_json(json_file, reports[0] if len(reports) == 1 else {"models": reports}, overwrite=overwrite)
    if worst is not None:
        worst_images(worst, done[0].worst, title=f"lowest IoU, {done[0].about['model']}", overwrite=overwrite)
    if roc is not None:
        curves = {str(e.about["model"]): e.curve() for e in done}
        roc_picture(roc, curves, points={str(e.about["model"]): e.point() for e in done}, overwrite=overwrite)
    for e in done:
        if pfa is not None:
            cut = e.sets["all"].threshold_for_pfa(pfa)
            show(f"{e.about['model']}: Fa <= {pfa:g} on these images from threshold {cut:.6g}; use it on other images.")


def _levels(words: list[str]) -> dict[str, list[float]]:
    """``gaussian:0.02,0.05`` as levels by kind; raises UsageError."""
    found: dict[str, list[float]] = {}
    for word in words:
        kind, colon, levels = word.partition(":")
        if not colon:
            raise UsageError(f"--corrupt takes a kind and levels such as gaussian:0.02,0.05, not {word!r}.")
        found.setdefault(kind.strip(), []).extend(numbers(levels, "--corrupt"))
    return found


@app.command("denoise-hsi")
@handled
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
    model: Annotated[str, typer.Option(help="One or more models, comma-separated.")] = "star-net",
    weights: Weights = None,
    truth: Annotated[Path | None, typer.Option(help="Clean cube to compare --restored (and --noisy) with.")] = None,
    restored: Annotated[Path | None, typer.Option(help="Result from another program, instead of a model.")] = None,
    noisy: Annotated[
        Path | None, typer.Option(help="Noisy cube that --restored was made from, for comparison.")
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="First adapt star-net to each noisy cube.")] = False,
    var: Annotated[str | None, typer.Option(help="Variable of MAT files, or a GDAL subdataset.")] = None,
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
    from rsunfold.io.atomic import refuse_existing
    from rsunfold.report import quality_picture, table, write_json

    for path in (json_file, picture):
        if path is not None:
            refuse_existing(path, overwrite)
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
        done = evaluate_files(truth, {**files, "restored": restored}, var=var, published_ergas=published_ergas)
    else:
        names = model_names(model)
        if weights is not None and len(names) != 1:
            raise UsageError("--weights can be used with a single --model only.")
        protocol = noises(noise, numbers(sigma, "--sigma"))
        use_threads(threads)
        denoisers = [Denoiser(name, weights=weights, adapt=adapt, device=device, memory=memory) for name in names]
        done = evaluate_models(
            expand(clean or []),
            protocol,
            whole_numbers(seeds, "--seeds", once=True),
            denoisers,
            var=var,
            published_ergas=published_ergas,
            say=lambda text: say(text, 1),
        )
    show(table(done.rows()))
    if json_file is not None:
        write_json(json_file, done.report(), overwrite=overwrite)
    if picture is not None:
        quality_picture(picture, done.curves(), title=f"{done.runs[0]['cube']}, mean over noises", overwrite=overwrite)


@app.command("detect-anomaly")
@handled
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
        Path | None, typer.Option(help="Folder of scores from another program, NAME or NAME_score, instead of a model.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="One or more models, comma-separated; options may follow, as in crd:lam=1e-5.")
    ] = "lrr-net-plus",
    var: Annotated[str | None, typer.Option(help="Variable of MAT files, or GDAL subdataset, with the scene.")] = None,
    priors: Priors = None,
    object_size: ObjectSize = None,
    seeds: Annotated[str, typer.Option(help="Random seeds, comma-separated.")] = "0",
    pfa: Annotated[float, typer.Option(help="Desired share of background pixels in the mask.")] = 0.01,
    epochs: Epochs = None,
    inner: Inner = None,
    outer: Outer = None,
    components: Components = None,
    literal: Literal = False,
    window: Scene = None,
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
    """Compute ROC metrics of models on scenes with ground truth, or of scores from another program.

    All scenes share one setting, and the ground truth is read only after the scores have been computed. The JSON report
    defines every metric. With several models, each option is passed to the models that have it.
    """
    from rsunfold.infer.anomaly.detector import AnomalyDetector, options_of, refuse_useless_size
    from rsunfold.infer.anomaly.evaluate import evaluate_files, evaluate_models, scenes_in
    from rsunfold.infer.anomaly.threshold import check_rule
    from rsunfold.infer.results import move_results, work_folder
    from rsunfold.io.atomic import refuse_existing
    from rsunfold.report import roc_picture, separability_picture, table, write_json

    check_rule(pfa, None)
    if json_file is not None:
        refuse_existing(json_file, overwrite)
    found = scenes_in(scenes, masks, truth_var)
    targets = {s.name: f"{s.name}_roc.png" for s in found}
    if pictures is not None:
        for name in [*targets.values(), SEPARABILITY]:
            refuse_existing(pictures / name, overwrite)
    with nullcontext() if pictures is None else work_folder(pictures) as work:
        if predictions is not None:
            of_models = {"model", "var", "priors", "object_size", "seeds", "epochs", "inner", "outer", "components"}
            of_models |= {"literal", "window", "device", "memory", "threads"}
            refuse_given(context, of_models, "applies to models and cannot be combined with --predictions")
            done = evaluate_files(found, predictions, pfa=pfa)
        else:
            use_threads(threads)
            names = model_names(model)
            given = model_options(epochs=epochs, inner=inner, outer=outer, components=components, literal=literal)
            detectors = [
                AnomalyDetector(
                    name,
                    options=options_of(name, given, names),
                    priors=prior_names(priors),
                    object_size=object_size,
                    window=window,
                    device=device,
                    memory=memory,
                )
                for name in names
            ]
            refuse_useless_size(object_size, detectors)
            done = evaluate_models(
                found,
                detectors,
                whole_numbers(seeds, "--seeds", once=True),
                pfa=pfa,
                var=var,
                say=lambda text: say(text, 1),
            )
        if per_scene:
            show(table(done.rows(per_scene=True)))
        show(table(done.rows()))
        if json_file is not None:
            write_json(json_file, done.report(), overwrite=overwrite)
        if pictures is not None and work is not None:
            for name, file in targets.items():
                roc_picture(work / file, done.curves[name], title=name, fa_label="false alarm rate PF")
            separability_picture(work / SEPARABILITY, done.boxes(), title=f"mean of {len(found)} scenes")
            move_results(work, pictures, overwrite)


@app.command("select-features")
@handled
def select_features(
    context: typer.Context,
    data: Annotated[
        list[str] | None, typer.Option(help="Table with labels, whose samples are clustered; may be repeated.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="Tables: numbers of features to test, comma-separated.")
    ] = "10,20,30,40,50,60,70,80,90,100",
    image: Annotated[
        list[str] | None,
        typer.Option(help="Image, folder or quoted pattern, whose pixels are classified; may be repeated."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Class maps with the same names (0: no class), or abundances, the largest of which is the class."
        ),
    ] = None,
    bands: Annotated[str, typer.Option(help="Images: numbers of bands to test, comma-separated.")] = "3,5,10,20,40",
    train_share: Annotated[
        float, typer.Option(help="Share of the labelled pixels, or of the tiles, to train on.")
    ] = 0.05,
    split: Annotated[
        str,
        typer.Option(help="random (pixels) or tiles (whole images, or blocks of 16 x 16 pixels of a single image)."),
    ] = "random",
    model: Annotated[
        str, typer.Option(help="One or more models, comma-separated; options may follow, as in spca-net:published.")
    ] = "spca-net",
    repeats: Annotated[
        int | None,
        typer.Option(help="Number of k-means starts (default: 20) or of random training sets (default: 10)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Random seed of the first repeat.")] = 0,
    kmeans: Annotated[
        str, typer.Option(help="k-means++ initialisation: plain, as in the literature, or greedy, as in scikit-learn.")
    ] = "plain",
    label: Annotated[str | None, typer.Option(help="Text tables: column with the labels.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Text tables: columns to exclude.")] = None,
    var: Annotated[str | None, typer.Option(help="Variable of MAT or NPZ files, or a GDAL subdataset.")] = None,
    labels_var: Annotated[str | None, typer.Option(help="Images: variable with the labels.")] = None,
    json_file: Json = None,
    picture: Annotated[Path | None, typer.Option(help="Plot the curves of the first data set to a PNG.")] = None,
    memory: Memory = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Compute ACC and NMI of k-means on tables, or OA, AA and kappa of an SVM on images, for the chosen features.

    Features are ranked without the labels, with the same settings for all data. The JSON report defines every metric
    and holds the complete curves.
    """
    from rsunfold.infer.batch import expand
    from rsunfold.infer.features.evaluate import evaluate_images, evaluate_tables
    from rsunfold.infer.features.select import FeatureRanker
    from rsunfold.io.atomic import refuse_existing
    from rsunfold.report import feature_curves_picture, table, write_json

    for path in (json_file, picture):
        if path is not None:
            refuse_existing(path, overwrite)
    if (data is None) == (image is None) or (image is None) != (labels is None):
        raise UsageError("use either --data, or --image and --labels.")
    if kmeans not in ("plain", "greedy"):
        raise UsageError(f"--kmeans must be plain or greedy, not {kmeans!r}.")
    of_tables, of_images = {"features", "kmeans", "label", "ignore"}, {"bands", "train_share", "split", "labels_var"}
    if image is not None:
        refuse_given(context, of_tables, "applies to --data and cannot be combined with --image")
    else:
        refuse_given(context, of_images, "applies to --image and cannot be combined with --data")
    use_threads(threads)
    rankers = [FeatureRanker(name, memory=memory) for name in model_names(model)]

    def told(text: str) -> None:
        say(text, 1)

    if data is not None:
        done = evaluate_tables(
            expand(data),
            rankers,
            whole_numbers(features, "--features"),
            repeats=20 if repeats is None else repeats,
            seed=seed,
            plain=kmeans == "plain",
            var=var,
            label=label,
            ignore=names_of(ignore),
            say=told,
        )
    else:
        images, truth = expand(image or []), expand(labels or [])
        if len(images) == len(truth) == 1:
            truth = dict.fromkeys(images, next(iter(truth.values())))
        done = evaluate_images(
            images,
            truth,
            rankers,
            whole_numbers(bands, "--bands"),
            share=train_share,
            split=split,
            repeats=10 if repeats is None else repeats,
            seed=seed,
            var=var,
            labels_var=labels_var,
            say=told,
        )
    show(table(done.rows()))
    if json_file is not None:
        write_json(json_file, done.report(), overwrite=overwrite)
    if picture is not None:
        panels, whole = done.panels(done.data[0])
        title = f"{done.data[0]}: mean ± std"
        feature_curves_picture(picture, panels, baselines=whole, noun=done.noun, title=title, overwrite=overwrite)
