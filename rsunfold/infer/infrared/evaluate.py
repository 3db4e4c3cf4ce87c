"""Infrared detections against ground truth: of a model, or of files that somebody else made."""

from __future__ import annotations

import copy
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import BatchError, InputError, UsageError
from rsunfold.infer.evaluation import report_of
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.gray import DEFAULT_READING, GrayImage, Reading
from rsunfold.infer.results import environment, label_of_files
from rsunfold.io import open_cube
from rsunfold.io.folders import files_in, images_in, is_result, not_looked_for, refuse_no_folder
from rsunfold.io.memory import ArrayReader
from rsunfold.io.samples import (
    MASK_ENDS,
    LabelledImage,
    Sample,
    find_samples,
    keep_only,
    mask_values,
    notes_on,
    pair,
    read_graded,
    read_mask,
    read_score,
)
from rsunfold.metrics.infrared import CONVENTIONS, FORMULAS, InfraredMetrics, legacy_half_maximum, roc_thresholds
from rsunfold.progress import tracked
from rsunfold.registry import models_to_compare
from rsunfold.report import Case, heading
from rsunfold.rule import ITS_OWN, SETTINGS, Asked, Rule
from rsunfold.simulate.corruption import Corruption
from rsunfold.weights import COST_SIDE, compared, model_for

if TYPE_CHECKING:
    from rsunfold.unfold.unrolled import TargetNetwork

Score = NDArray[Any]
Result = tuple[LabelledImage, Score, str, "NDArray[np.bool_] | None"]
"""An image, its score (H, W), what its gray shows, and where there is a score; None: everywhere."""

WORST, NAMED = 6, 5
"""Images that are shown, and names that notes give, at most."""
HALF, MASKS = "score > half of each image's maximum", "boolean masks"
"""What reports call the rule where there is no threshold for all images."""
IN_TABLES = {HALF: HALF.removeprefix("score > "), MASKS: "masks"}
"""What stands for it in the column of thresholds."""


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a model, or files of results, are evaluated on images.

    asked : what is wanted instead of the rule of the weights or files. resize : images and scores of files are
    resampled (bilinear) and masks (nearest), each from its own size, to resize x resize pixels first, the convention of
    the papers for IRSTD-1k; None keeps the native size. legacy : each image is cut at half of its own maximum instead,
    as published scripts do. reading : how images are read. also : what else was asked for, for reports. say : is told
    how far it is.
    """

    asked: Asked = ITS_OWN
    resize: int | None = None
    legacy: bool = False
    reading: Reading = DEFAULT_READING
    say: Callable[[str], None] = lambda text: None
    also: Mapping[str, Any] = field(default_factory=dict)

    def rule(self, detector: Detector) -> Rule | None:
        """What is a target among the scores of ``detector``; None where each image has its own cut."""
        return None if self.legacy else detector.own.asked(self.asked)

    def report(self) -> dict[str, Any]:
        """What was asked for, for reports."""
        reading = {"band": self.reading.band, "scale": self.reading.scale, "var": self.reading.var}
        how = {"resize": self.resize, "half_maximum": self.legacy}
        return {"asked": {**asdict(self.asked), **reading, **how, **self.also}}

    @property
    def size(self) -> str:
        """The size of images in reports."""
        return f"resized to {self.resize}x{self.resize}" if self.resize else "native"

    def read(self, detector: Detector, sample: Sample, corruption: Corruption | None = None) -> LabelledImage:
        """A sample as ``detector`` gets it; raises what :func:`read_sample` raises."""
        return read_sample(sample, self.reading.for_weights(detector.record), self.resize, corruption)


COST = {
    "gflop": f"2e-9 times the multiply-accumulates for {COST_SIDE} x {COST_SIDE} pixels, every branch counted",
    "ms_per_image": "time of the scores alone, without reading and comparing, mean over images; not of the first of "
    "several, with which a model also loads what it needs",
    "seconds": "time of reading, scoring and comparing all images",
}
"""What the figures of a report are that have no formula."""
UNPREDICTED = {
    "unpredicted_pixels": "pixels that count, but for which a file has no prediction (nodata, NaN); not detected",
    "unpredicted_target_pixels": "those of them that are targets",
}
"""What each image of a report has beside its figures."""
WITHOUT_MASK = {
    "without_mask": "predictions that no mask belongs to, which count for nothing, nor do their false alarms; only of "
    "predictions without images, as images say themselves what is evaluated",
}
DEFINED = FORMULAS | CONVENTIONS | COST | UNPREDICTED | WITHOUT_MASK
"""What the figures of a report are."""


@dataclass
class Evaluation:
    """Figures of one model (or set of files) over sets of images.

    about : model, weights, threshold, protocol, cost. sets : the metrics by set, ``all`` over all of them. worst : the
    images with the lowest IoU. scoring : seconds that the scores of each image alone took, without reading and
    comparing; of files None. folders : of the images and the masks of each set. notes : what is to be told of images.
    """

    about: dict[str, Any]
    sets: dict[str, InfraredMetrics] = field(default_factory=dict)
    worst: list[Case] = field(default_factory=list)
    seconds: float = 0.0
    scoring: list[float] | None = None
    folders: dict[str, dict[str, str | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Everything as plain types, the per-image table included."""
        results = {name: metrics.result() for name, metrics in self.sets.items()}
        timing = {"seconds": round(self.seconds, 3), "ms_per_image": self.ms_per_image}
        data = {"rule": results["all"]["rule"], "data": self.folders, "notes": self.notes}
        return {**self.about, **data, **timing, "sets": results, "per_image": self.sets["all"].rows}

    @property
    def label(self) -> str:
        """What tables and pictures call the model."""
        return str(self.about.get("label", self.about["model"]))

    @property
    def ms_per_image(self) -> float | None:
        """Milliseconds that an image's scores took in the mean, on this machine; see COST."""
        return None if self.scoring is None else 1e3 * float(np.mean(self.scoring[1:] or self.scoring))

    def figures(self) -> dict[str, float | None]:
        """IoU, nIoU, F1, Pd and Fa over all images, the latter two by overlap."""
        return _main_figures(self.sets["all"].result())

    def summary(self) -> str:
        """The figures over all images in a line, without those that these images do not have."""
        return ", ".join(f"{heading(key)} {value:.4g}" for key, value in self.figures().items() if value is not None)

    def comparison(self) -> dict[str, Any]:
        """One line of a table of several models: figures over all images, and what a model costs, None of files."""
        return {
            "model": self.label,
            **self.figures(),
            "parameters": self.about.get("parameters"),
            f"GFLOP at {COST_SIDE}x{COST_SIDE}": self.about.get("gflop"),
            "ms_per_image": self.ms_per_image,
        }

    def curve(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """(Fa per pixel, Pd by overlap) at the thresholds of the ROC; None where the results are masks, or the images
        hold no target or no background."""
        roc = self.sets["all"].result().get("roc")
        if roc is None or roc["overlap"]["pd"] is None or roc["overlap"]["fa"] is None:
            return None
        return np.array(roc["overlap"]["fa"]), np.array(roc["overlap"]["pd"])

    def point(self) -> tuple[float, float] | None:
        """(Fa per pixel, Pd by overlap) by the rule in use, or of masks; None without a target or background."""
        overlap = self.sets["all"].result()["overlap"]
        return None if overlap["fa"] is None or overlap["pd"] is None else (overlap["fa"], overlap["pd"])

    def rows(self) -> list[dict[str, Any]]:
        """One line per set, by the keys of its report; those with a dot are the path to a figure."""
        lines = []
        for name, metrics in self.sets.items():
            r = metrics.result()
            lines.append(
                {
                    "model": self.label,
                    "set": name,
                    "images": r["images"],
                    "targets": r["targets"],
                    "rule": r["rule"],
                    **{key: self.about[key] for key in ("threshold", "confidence", "max_area_px", "reach_px")},
                    **_main_figures(r),
                    **{f"centroid.{key}": r["centroid"][key] for key in ("pd", "fa", "false_components_per_megapixel")},
                    **{f"empty_images.{key}": r["empty_images"][key] for key in ("share_with_detection", "images")},
                }
            )
        return lines


def _main_figures(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that are shown first, of :meth:`InfraredMetrics.result`."""
    overlap = {f"overlap.{key}": result["overlap"][key] for key in ("pd", "fa")}
    return {key: result[key] for key in ("iou_pooled", "niou", "f1_pooled")} | overlap


@dataclass
class Unread:
    """Images that cannot be read, and are left out for all models alike.

    images : of each its name, its file and the ``error``. of : the number of all images.
    """

    images: list[dict[str, str]] = field(default_factory=list)
    of: int = 0

    def notes(self) -> list[str]:
        """A sentence for each."""
        return [f"{image['image']} is left out: {image['error'].rstrip('.')}" for image in self.images]

    def report(self) -> dict[str, Any]:
        """``failed`` of a report, where there are any."""
        return {"failed": self.images} if self.images else {}

    def raise_any(self) -> None:
        """Raise BatchError where there are any."""
        if self.images:
            raise BatchError(
                f"{len(self.images)} of {self.of} images cannot be read; the figures are those of the others."
            )


@dataclass
class InfraredComparison:
    """Evaluations of several models and folders of files, in the order of the table, by one protocol.

    missing : labels of those that are not finished. unread : the images that none of them has.
    """

    protocol: EvaluationProtocol
    missing: list[str]
    unread: Unread = field(default_factory=Unread)
    runs: list[Evaluation] = field(default_factory=list)

    def add(self, run: Evaluation) -> None:
        """Take one that is finished."""
        self.runs.append(run)
        self.missing.remove(run.label)

    def rows(self) -> list[dict[str, Any]]:
        """One line per model and set, by the keys of their reports; those with a dot are the path to a figure."""
        return [row for run in self.runs for row in run.rows()]

    def table_rows(self) -> list[dict[str, Any]]:
        """The lines as a table shows them: of the rule, only what stands for a threshold."""
        lines = self.rows()
        for line in lines:
            line["threshold"] = IN_TABLES.get(line.pop("rule"), line["threshold"])
        return lines

    def notes(self) -> list[str]:
        """The notes of all, each once."""
        return self.unread.notes() + notes_of(self.runs)

    def report(self) -> dict[str, Any]:
        """Everything as plain types; where models are missing, also which."""
        return report_of(
            self.missing,
            protocol=self.protocol.report(),
            formulas=DEFINED,
            **self.unread.report(),
            models={run.label: run.report() for run in self.runs},
            summary=self.rows(),
            notes=self.notes(),
        )


def notes_of(runs: Iterable[Evaluation]) -> list[str]:
    """The notes of all ``runs``, each once."""
    return list(dict.fromkeys(note for run in runs for note in run.notes))


def samples_from(
    images: Path | None, masks: Path | None, data: Path | None, only: Path | None, *, with_models: bool = True
) -> list[Sample]:
    """The samples that the options of ``evaluate detect-ir`` name; UsageError for a combination without sense.

    with_models : models are evaluated, which need the images; predictions alone do not.
    """
    if data is not None:
        if images is not None or masks is not None:
            raise UsageError("--data replaces --images and --masks; use one or the other.")
        samples = find_samples(data)
    elif masks is None:
        raise UsageError(
            "--masks is missing; use --images and --masks, or --data with a folder in which the images without any "
            "target, which need no masks, lie in a sub-folder."
        )
    else:
        if images is None and with_models:
            raise UsageError("--images is missing; use it, or --predictions without --model and --weights.")
        if images is not None and with_models and images.resolve() == masks.resolve():
            raise UsageError(f"--images and --masks are the same folder, {images}; put the masks into another.")
        samples = pair(masks.resolve().parent.name, images or masks, masks)
        if images is None:  # a mask is then its own image, and may say in its name that it is a mask
            samples = [replace(s, name=_without(MASK_ENDS, s.name)) for s in samples]
    return samples if only is None else keep_only(samples, only)


def detectors_of(
    model: str | None, *, weights: Sequence[str], device: str, memory: str | int | None, say: Callable[[str], None]
) -> list[Detector]:
    """The models that ``model`` names, see :func:`rsunfold.registry.models_to_compare`, or where it is None those of
    ``weights``, or the default; see :func:`rsunfold.weights.compared`.

    Raises UsageError for ``weights`` of other models.
    """
    given = {model_for("detect-ir", None, name) for name in weights}
    where = {} if model is None else models_to_compare(model, "detect-ir", device, given, say)
    pairs = compared("detect-ir", list(where), weights)
    return [Detector(name, weights=its, device=where.get(name, device), memory=memory) for name, its in pairs]


def cost_of(detector: Detector) -> dict[str, Any]:
    """``parameters`` and ``gflop`` (2 per multiply-accumulate) of a network as trained, for an image of 256 x 256.

    All branches count, as papers do, also those of the last stage that are left out. Both are None for a classical
    method, which has no parameters that were learned, and ``gflop`` where the arithmetic is not known.
    """
    if detector.net is None or detector.record is None:
        return {"parameters": None, "gflop": None}
    net = first_stages(detector.spec.build(**detector.record.arch), len(detector.net.stages))
    return {"parameters": net.parameters_count, "gflop": 2e-9 * net.macs(COST_SIDE, COST_SIDE) or None}


def first_stages(net: TargetNetwork, count: int) -> TargetNetwork:
    """The network of the first ``count`` stages of ``net``, which shares its weights: its T^K is T^count of ``net``."""
    short = copy.copy(net)
    short._modules = {**net._modules, "stages": net.stages[:count]}
    return short


def evaluate_detector(
    detector: Detector,
    samples: list[Sample],
    protocol: EvaluationProtocol = EvaluationProtocol(),
    *,
    corruption: Corruption | None = None,
    roc: bool = True,
) -> Evaluation:
    """Score every sample with a model, by one rule for all.

    corruption : noise that the image gets before it is scored, after it was resampled. roc : also gather the ROC.
    Raises InputError when an image and its mask differ in size and are not resampled.
    """
    rule = protocol.rule(detector)
    reading = protocol.reading.for_weights(detector.record)
    about = {
        **detector.describe(),
        "model": detector.name,
        "label": detector.label,
        **cost_of(detector),
        **_shown(rule),
        "size": protocol.size,
        "reading": asdict(reading),
    }
    scoring: list[float] = []

    def scores() -> Iterable[Result]:
        for sample in tracked(samples, detector.name):
            image = protocol.read(detector, sample, corruption)
            score, seconds = score_of(detector, image.gray)
            scoring.append(seconds)
            yield image, legacy_half_maximum(score, image.valid) if rule is None else score, "image", None

    evaluation = _evaluate(scores(), about, rule, HALF, roc=roc)
    evaluation.scoring = scoring
    evaluation.notes[:0] = reading.remarks(detector.record)
    return evaluation


def read_sample(
    sample: Sample,
    reading: Reading = DEFAULT_READING,
    resize: int | None = None,
    corruption: Corruption | None = None,
) -> LabelledImage:
    """The image and the mask of a sample, each resampled to ``resize`` pixels a side from its own size, with noise.

    Raises InputError when image and mask differ in size and are not resampled, and what :class:`GrayImage` raises.
    """
    with environment():
        gray, valid, notes = _gray_of(sample, reading)
    truth, known = sample.truth(gray.shape, any_size=resize is not None)
    notes += _on_sizes(sample, gray, truth)
    if resize:
        gray, truth, valid, known = (_resized(a, resize) for a in (gray, truth, valid, known))
    if corruption is not None:
        gray = corruption.apply(gray, valid, sample.name)
    return LabelledImage(sample, gray, truth, valid, known, notes)


def readable(
    samples: list[Sample], protocol: EvaluationProtocol, *, with_models: bool = True
) -> tuple[list[Sample], Unread]:
    """The samples whose images can be read, and the others: all are read once before the work, as a model that fails in
    its midst would leave figures of other images than the rest.

    with_models : models are evaluated, which need to know the band; see :func:`samples_from`. Raises the InputError of
    the first image where none is left.
    """
    left, unread, first = [], Unread(of=len(samples)), None
    for sample in tracked(samples, "reading"):
        try:
            if sample.image != sample.mask:
                with environment():
                    _gray_of(sample, protocol.reading) if with_models else _image_of(sample, protocol.reading)
            left.append(sample)
        except InputError as error:
            first = first or error
            unread.images.append({"image": label_of(sample), "file": str(sample.image), "error": str(error)})
    if first is not None and not left:
        raise first
    return left, unread


def refuse_other_sizes(samples: list[Sample], protocol: EvaluationProtocol) -> None:
    """Raise InputError for the first image whose mask has another size, unless they are resampled: of many, better
    before all the work than in its midst."""
    if protocol.resize is None:
        for sample in tracked(samples, "comparing sizes"):
            sample.refuse_other_size(protocol.reading.var)


def _on_sizes(sample: Sample, gray: NDArray[Any], truth: NDArray[Any]) -> tuple[str, ...]:
    """What is to be told of an image whose mask has another size."""
    if sample.mask is None or gray.shape == truth.shape:
        return ()
    sizes = f"is {gray.shape} but its mask {truth.shape} (rows, columns)"
    return (f"{sizes}; each is resized from its own size, and must show the same scene",)


def label_of(sample: Sample) -> str:
    """The name of a sample in reports."""
    return f"{sample.group}/{sample.name}"


def score_of(detector: Detector, gray: NDArray[np.float32]) -> tuple[Score, float]:
    """(score (H, W), seconds) of a gray image in memory, by tiles where the memory budget asks for them."""
    image = GrayImage(ArrayReader(gray), Reading(scale=(0.0, 1.0)), undeclared=False)
    with environment(), image:
        started = time.perf_counter()
        with detector.scored(image) as scored:
            return np.concatenate([part for _, part in scored.strips()]), time.perf_counter() - started


def evaluate_files(
    predictions: Path,
    samples: list[Sample],
    protocol: EvaluationProtocol = EvaluationProtocol(),
    *,
    graded: bool = False,
) -> Evaluation:
    """Score somebody else's results: a folder with one file per image, named like it with ``_score``, ``_mask`` or
    nothing, the first of these that is there.

    Files of floating-point samples are scores in [0, 1], in which the rule that our own files name, else a threshold of
    0.5, finds targets, with what is asked in its place; with ``protocol.legacy``, scores of any scale from 0. Files of
    integers are masks, target above half of the range that all of them share. Where a part of the rule or
    ``protocol.legacy`` is asked for, or ``graded`` (as for a ROC), integers of more than two values are scores times
    that range instead. All files must be of one kind.

    Pixels that the mask or, where it is given, the image marks as nodata count for nothing. Others without a prediction
    (nodata, NaN) count as not detected, as they would where NaN is compared with a threshold, so that all results are
    measured on the same pixels and targets; a note counts them. Where no images are given, another one tells of
    predictions without a mask, ``without_mask`` in the report. ``protocol.reading`` is of the images, where they are
    given.

    Raises InputError for a missing file, one without any prediction where something counts, another size, or scores
    outside [0, 1]; UsageError for what is asked of masks, and for two images of one name.
    """
    paths = _prediction_files(predictions, samples)
    files = _Predictions.of(predictions, list(paths.values()), protocol, graded)
    results = (_result(files, sample, path, protocol) for sample, path in tracked(paths.items(), "comparing"))
    about = {
        "model": str(predictions),
        "label": label_of_files(predictions),
        **_shown(files.rule),
        "size": protocol.size,
        "reading": asdict(protocol.reading) if any(s.image != s.mask for s in samples) else None,
        "without_mask": _without_mask(predictions, samples),
    }
    evaluation = _evaluate(results, about, files.rule, HALF if protocol.legacy else MASKS)
    told = [f"integers are read as scores, divided by {full:g}" for full in sorted(files.ranges)]
    if files.rule is not None and files.largest <= files.rule.threshold:
        told.append(f"no score is above the threshold {files.rule.threshold:g}: the largest is {files.largest:.4g}")
    if lacking := about["without_mask"]:
        named = ", ".join(lacking[:NAMED]) + (f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else "")
        told.append(
            f"predictions without a mask are left out, with all their false alarms ({len(lacking)}: {named}); an image "
            "without targets needs an empty mask"
        )
    rows = [row for row in evaluation.sets["all"].rows if row["unpredicted_pixels"]]
    if rows:
        pixels, targets = (sum(row[key] for row in rows) for key in UNPREDICTED)
        told.append(
            f"{pixels} pixels, {targets} of them of targets, in {len(rows)} of {len(samples)} images have no "
            "prediction (nodata, NaN) and count as not detected"
        )
    evaluation.notes += [f"{predictions}: {text}" for text in told]
    return evaluation


def _result(files: _Predictions, sample: Sample, path: Path, protocol: EvaluationProtocol) -> Result:
    """The prediction in a file as :func:`evaluate_files` compares it, with what it says of errors."""
    prediction, given = files.read(path)
    truth, known = sample.truth(prediction.shape, path, any_size=protocol.resize is not None)
    valid, gray = np.ones(prediction.shape, bool), np.asarray(prediction, np.float32)
    shown = "prediction, no image given"
    notes: tuple[str, ...] = ()
    if sample.image != sample.mask:
        (gray, valid), shown = _image_of(sample, protocol.reading), "image"
        notes = _on_sizes(sample, gray, truth)
    if protocol.resize:
        prediction, given, gray, truth, valid, known = (
            _resized(a, protocol.resize) for a in (prediction, given, gray, truth, valid, known)
        )
    elif gray.shape != prediction.shape:
        raise InputError(f"{path} is {prediction.shape} but {sample.image} is {gray.shape} (rows, columns).")
    image = LabelledImage(sample, gray, truth, valid, known, notes)
    if image.counted.any() and not (image.counted & given).any():
        raise InputError(f"{path} has no prediction where the truth is known: all pixels are nodata or NaN.")
    return image, legacy_half_maximum(prediction, valid) if protocol.legacy else prediction, shown, given


def _prediction_files(predictions: Path, samples: list[Sample]) -> dict[Sample, Path]:
    """The prediction for each sample; raises as :func:`evaluate_files` says."""
    others = {sample.name for sample in samples}
    tails = ("_score", "_mask", "")
    names = {s: [n for tail in tails if (n := s.name + tail) == s.name or n not in others] for s in samples}
    looked_for = {name for several in names.values() for name in several}
    refuse_no_folder(predictions, "the predictions")
    found = images_in(predictions, lambda p: p.stem in looked_for)
    if not found:
        raise InputError(f"{predictions} contains no predictions{not_looked_for(predictions, looked_for)}.")
    paths: dict[Sample, Path] = {}
    for sample in samples:
        twin = next((s for s in paths if s.name == sample.name), None)
        if twin is not None:
            raise UsageError(f"{twin.group} and {sample.group} both contain {sample.name}; evaluate them separately.")
        path = next((found[n] for n in names[sample] if n in found), None)
        if path is None:
            unread = not_looked_for(predictions, names[sample])
            raise InputError(f"{predictions} contains no prediction for {sample.name}{unread}.")
        if sample.image != sample.mask and path.resolve() == sample.image.resolve():
            raise InputError(f"{path} is the image itself, and {predictions} contains no prediction for it.")
        paths[sample] = path
    return paths


def _gray_of(sample: Sample, reading: Reading) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    """(gray, valid, notes) of the image."""
    with GrayImage(str(sample.image), reading) as image:
        return *image.read(), tuple(image.notes)


def _without_mask(predictions: Path, samples: list[Sample]) -> list[str]:
    """Names of the predictions that no mask belongs to, in natural order, where the masks alone say what there is."""
    if any(sample.image != sample.mask for sample in samples):
        return []
    folders = {sample.mask.parent for sample in samples if sample.mask is not None}
    known = {_without(MASK_ENDS, path.stem) for folder in folders for path in files_in(folder)}
    tails = ("_score", "_mask")
    files = files_in(predictions, lambda p: p.stem.endswith(tails) or not is_result(p))
    names = {_without(tails, path.stem): path.stem for path in files}
    return [name for name, stem in names.items() if not known & {name, stem}]


def _without(ends: Sequence[str], name: str) -> str:
    """``name`` without the first of the ``ends`` that it has."""
    return next((name.removesuffix(end) for end in ends if name.endswith(end)), name)


def _image_of(sample: Sample, reading: Reading) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(gray, valid) of the image, also of one of which no model here could say which band it would take."""
    try:
        return _gray_of(sample, reading)[:2]
    except InputError:
        with open_cube(sample.image, var=reading.var) as reader:
            cube = reader.read(scaled=False)
        return np.abs(cube.data).mean(axis=0, dtype=np.float32), cube.valid


def _in_words(rule: Rule) -> str:
    return ", ".join(f"{name.removesuffix('_px')} {value}" for name, value in rule.as_dict().items())


def _shown(rule: Rule | None) -> dict[str, Any]:
    """The numbers of the rule in reports, None without one."""
    return dict.fromkeys(Rule(0.5).as_dict()) if rule is None else rule.as_dict()


def _mask_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The same paths; raises InputError for one of scores."""
    for path in paths:
        with open_cube(path) as reader:
            if reader.dtype.kind == "f":
                raise InputError(
                    f"{path} contains scores where the other predictions are masks; evaluate them separately."
                )
        yield path


@dataclass
class _Predictions:
    """How somebody else's files are read, which are all of one kind.

    rule : what is a target among scores; None for masks, and where each image has its own cut. asked : what of the rule
    takes the place of what a file names. among : the values of all files of integers, see :func:`mask_values`; None for
    floating-point scores. graded : the integers are scores, which is certain where ``sure``, and may be of any scale
    where that or a ``curve`` is asked for. ranges : what those read so far were divided by. largest : of the scores so
    far.
    """

    rule: Rule | None
    asked: Asked
    among: Mapping[str, NDArray[Any]] | None
    graded: bool
    sure: bool
    curve: bool
    ranges: set[float] = field(default_factory=set)
    largest: float = 0

    @classmethod
    def of(cls, folder: Path, paths: Sequence[Path], protocol: EvaluationProtocol, curve: bool) -> _Predictions:
        """The kind of the first file; UsageError for what is asked of masks, and InputError for other kinds."""
        with open_cube(paths[0]) as first:
            floating = first.dtype.kind == "f"
            rule = Rule.of_tags(first.meta.tags).asked(protocol.asked)
        among = None if floating else mask_values(_mask_files(paths))
        wanted = [name.replace("_", "-") for name, value in vars(protocol.asked).items() if value is not None]
        wanted += ["half-maximum"] if protocol.legacy else []
        several = among is not None and any(values.size > 2 for values in among.values())
        if wanted and not (floating or several):
            raise UsageError(f"{folder} contains masks, to which --{wanted[0]} does not apply.")
        graded = several and (curve or bool(wanted))
        sure = protocol.asked.threshold is not None or protocol.legacy
        with_rule = (floating or graded) and not protocol.legacy
        return cls(rule if with_rule else None, protocol.asked, among, graded, sure, curve)

    def read(self, path: Path) -> tuple[Score, NDArray[np.bool_]]:
        """The scores or the mask of a file, and where it has any, both (rows, cols)."""
        if self.among is not None and not self.graded:
            return read_mask(path, among=self.among)
        if self.among is None:
            score, valid = _read_scores(path, self.rule, self.asked)
        else:
            score, valid, full = read_graded(path, self.among, faint=self.sure or self.curve, numbered=self.sure)
            self.ranges.add(full)
            score = _within(path, score, 1)
        self.largest = max(self.largest, float(score.max(initial=0)))
        return score, valid


def _read_scores(path: Path, rule: Rule | None, asked: Asked) -> tuple[Score, NDArray[np.bool_]]:
    """Scores of a file, 0 where it has none, and where it has; its own rule, with what is ``asked`` in its place, must
    be ``rule``, unless that is None: then scores may be of any scale."""
    cube = read_score(path)
    if cube.data.dtype.kind != "f":
        raise InputError(f"{path} contains a mask where the other predictions are scores; evaluate them separately.")
    if rule is not None:
        _refuse_other_rule(path, Rule.of_tags(cube.meta.tags).asked(asked), rule)
    most = 1 if rule is not None else np.inf
    if (np.isinf(cube.data) & ~np.isin(cube.data, list(cube.meta.nodata_values.values()))).any():
        raise InputError(f"{path} contains infinite scores; they must {_wanted(most)}.")
    return _within(path, np.where(cube.valid, cube.data[0], 0), most), cube.valid


def _refuse_other_rule(path: Path, named: Rule, rule: Rule) -> None:
    """Raise InputError where the rule ``named`` by a file is not that of the first."""
    if named == rule:
        return
    differ = {n for n, value in named.settings.items() if value != rule.settings[n]}
    if "threshold" in differ:  # which alone would set the others too
        differ |= {"confidence"} | ({"reach"} if named.reach or rule.reach else set())
    options = " and ".join(f"--{n.replace('_', '-')}" for n in SETTINGS if n in differ)
    what = "evaluate them separately" if named.min_area != rule.min_area else f"give {options} for all"
    raise InputError(
        f"{path} was written with the rule {_in_words(named)}, the first of the predictions with "
        f"{_in_words(rule)}; {what}."
    )


def _within(path: Path, score: Score, most: float) -> Score:
    """The same scores, from 0 to ``most`` but for rounding; InputError for others."""
    with np.errstate(over="ignore"):  # 1 + 1e-16 is rounding, no other scale
        low, high = (float(np.float32(end)) for end in (score.min(), score.max()))
    if low < 0 or high > most:
        raise InputError(f"{path} contains scores from {low:.4g} to {high:.4g}; they must {_wanted(most)}.")
    return score.clip(0, most)


def _wanted(most: float) -> str:
    return f"lie between 0 and {most:g}" if np.isfinite(most) else "be finite, and not negative"


def _evaluate(
    results: Iterable[Result], about: dict[str, Any], rule: Rule | None, instead: str, *, roc: bool = True
) -> Evaluation:
    """The figures of all ``results``; ``instead`` is what the report calls the rule where there is none."""
    evaluation = Evaluation(about)
    grid = None if rule is None or not roc else roc_thresholds(min(max(rule.threshold, 1e-4), 1 - 1e-4))
    started = time.monotonic()
    worst: list[tuple[float, int, Case]] = []
    noted: list[tuple[Path, tuple[str, ...]]] = []
    for number, (image, score, shown, given) in enumerate(results):
        sample = image.sample
        metrics = evaluation.sets.setdefault(sample.group, InfraredMetrics(rule, grid, cut=instead))
        masks = None if sample.mask is None else str(sample.mask.parent)
        evaluation.folders.setdefault(sample.group, {"images": str(sample.image.parent), "masks": masks})
        noted.append((sample.image, image.notes))
        row = metrics.update(label_of(image.sample), score, image.truth, image.valid, image.known)
        for key, pixels in zip(UNPREDICTED, (image.counted, image.targets), strict=True):
            row[key] = 0 if given is None else int((pixels & ~given).sum())
        if row["iou"] is None or (len(worst) == WORST and (-row["iou"], -number) < worst[0][:2]):
            continue
        predicted = score if rule is None else rule.detected(score, image.valid)
        case = Case(row["image"], image.gray, image.targets, predicted & image.counted, row["iou"], shown)
        heapq.heappush(worst, (-row["iou"], -number, case))
        if len(worst) > WORST:
            heapq.heappop(worst)
    total = InfraredMetrics(rule, grid, cut=instead)
    for metrics in evaluation.sets.values():
        total.add(metrics)
    if len(evaluation.sets) == 1:
        evaluation.sets.clear()
    evaluation.sets.pop("all", None)  # a set of that name is in the total, which comes last in tables
    evaluation.sets["all"] = total
    evaluation.worst = [case for _, _, case in sorted(worst, reverse=True, key=lambda entry: entry[:2])]
    evaluation.notes = notes_on(noted)
    evaluation.seconds = time.monotonic() - started
    return evaluation


def _resized(array: NDArray[Any], side: int) -> NDArray[Any]:
    """An image (H, W) by bilinear interpolation without smoothing, or a mask by the nearest pixel, (side, side).

    As OpenCV's INTER_LINEAR and INTER_NEAREST, by which the published code (RPCANet, WACV 2024) resizes them: row i of
    a mask is row floor(i H / side), and an image of twice the size becomes the means of 2 x 2 pixels.
    """
    from skimage.transform import resize

    if array.dtype == np.bool_:
        rows, cols = (np.arange(side) * n // side for n in array.shape)
        return np.asarray(array[np.ix_(rows, cols)])
    out = resize(  # type: ignore[no-untyped-call]
        array, (side, side), order=1, anti_aliasing=False, preserve_range=True, mode="edge"
    )
    return np.asarray(out, array.dtype)
