"""detect-ir on one file: read, scale, score, threshold, find targets, write."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold import __version__
from rsunfold.cube import Aside, Window
from rsunfold.errors import UsageError
from rsunfold.infer.infrared.detector import Detector, LazyScores
from rsunfold.infer.infrared.gray import GrayImage, Reading
from rsunfold.infer.listing import Listing
from rsunfold.infer.results import (
    Result,
    about,
    all_names,
    environment,
    head_of,
    of_files,
    refuse_place,
    reserved,
    results_of,
    with_headers,
)
from rsunfold.io import CubeReader, RasterWriter
from rsunfold.io.jsonfile import write_json
from rsunfold.io.names import shown_as
from rsunfold.io.vector import COLUMNS, write_csv, write_geojson
from rsunfold.io.work import move_results, work_folder
from rsunfold.report import quicklook, stages_picture
from rsunfold.rule import Asked
from rsunfold.targets import Target, TargetCollector

PICTURE_SIDE = 1200
MASK_NODATA = 255
LISTED = ("band", "acquired", "rows", "cols", "valid_pixels", "targets", "target_pixels", "threshold", "seconds")
"""What the table of the images of a batch takes from their summaries."""


@dataclass(frozen=True)
class Options:
    """How files are treated; see ``rsunfold detect-ir --help``. None takes what the weights say."""

    threshold: float | None = None
    confidence: float | None = None
    band: int | None = None
    scale: tuple[float, float] | None = None
    var: str | None = None
    min_area: int = 1
    max_area: int | None = None
    reach: int | None = None
    stages: bool = of_files(False, True)
    picture: bool = of_files(True, False)
    suffix: str = of_files(".tif", ".img")
    overwrite: bool = of_files(False)

    def __post_init__(self) -> None:
        if self.min_area < 1:
            raise UsageError(f"--min-area must be at least 1 pixel, not {self.min_area}.")
        if self.max_area and self.max_area < self.min_area:
            raise UsageError(f"--max-area must be 0 (no limit) or at least {self.min_area}, not {self.max_area}.")
        _ = self.asked, self.reading

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.band, self.scale, self.var)

    @property
    def asked(self) -> Asked:
        """What is wanted instead of the rule of the weights."""
        return Asked(self.threshold, self.confidence, self.max_area, self.reach)


@dataclass(repr=False, eq=False)
class DetectionFiles(Result):
    """What ``detect_ir`` found in one image and wrote.

    targets : in scan order. threshold : the one used. summary : what the JSON summary holds. files : what was written,
    by kind.
    """

    targets: list[Target]
    threshold: float
    summary: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict, kw_only=True)


@dataclass(repr=False, eq=False)
class Detection(DetectionFiles):
    """The same of an image in memory, without files.

    score float32 (H, W) in [0, 1], NaN where invalid; mask bool (H, W); stages by (stage from 1, letter), float32
    (H, W), NaN where invalid.
    """

    score: NDArray[np.float32]
    mask: NDArray[np.bool_]
    stages: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict)


def output_names(stem: str, options: Options) -> dict[str, str]:
    """File names by kind that one image gives; the summary is written last."""
    names = {"score": f"{stem}_score{options.suffix}", "mask": f"{stem}_mask{options.suffix}"}
    if options.stages:
        names["stages"] = f"{stem}_stages{options.suffix}"
    names = with_headers(names)
    names |= {"targets_geojson": f"{stem}_targets.geojson", "targets_csv": f"{stem}_targets.csv"}
    if options.picture:
        names["quicklook"] = f"{stem}_quicklook.png"
        if options.stages:
            names["stages_picture"] = f"{stem}_stages.png"
    return names | {"summary": f"{stem}_summary.json"}


def listing(path: Path, folder: Path, options: Options) -> Listing:
    """The tables over a batch whose results are written to ``folder``."""

    def files(stem: str) -> dict[str, Path]:
        return {kind: folder / name for kind, name in output_names(stem, options).items()}

    return Listing(path, files, "targets_csv", COLUMNS, LISTED, options.overwrite)


def detect_array(source: CubeReader | str, detector: Detector, options: Options) -> Detection:
    """Detect targets in an image that fits in memory, and keep everything in memory."""
    started = time.monotonic()
    with (
        environment(),
        GrayImage(source, options.reading.for_weights(detector.record)) as image,
        detector.scored(image, stages=options.stages) as scored,
    ):
        passage = _Passage(image, detector, options)
        score = np.concatenate([strip for _, strip in passage.strips(scored)])
        targets = passage.targets()
        mask = np.concatenate([strip for _, strip in passage.masks()])
        stages = {key: np.where(np.isnan(score), score, read(image.whole)) for key, read in scored.stages.items()}
        return Detection(
            targets,
            passage.rule.threshold,
            _summary(image, detector, options, passage, scored, targets, started),
            score=score,
            mask=mask,
            stages=stages,
        )


def detect_file(
    source: str | os.PathLike[str], stem: str, folder: str | os.PathLike[str], detector: Detector, options: Options
) -> DetectionFiles:
    """Detect targets in a file of any size and write ``STEM_score``, ``_mask``, ``_targets``, ... to ``folder``.

    Everything is written to a hidden folder inside ``folder`` first and moved when it is complete, so that an
    interrupted run leaves nothing. Raises OutputError when an output exists and ``options.overwrite`` is False.
    """
    started = time.monotonic()
    source = os.fspath(source)
    called = shown_as(source, stem)
    folder, stem = results_of(folder, stem)
    names = output_names(stem, options)
    with (
        reserved(folder, names, detector.spec, source, overwrite=options.overwrite),
        environment(),
        GrayImage(source, options.reading.for_weights(detector.record)) as image,
        work_folder(folder) as work,
    ):
        refuse_place(folder, names.values(), image)
        with detector.scored(image, work, stages=options.stages) as scored:
            passage = _Passage(image, detector, options)
            targets = _write_rasters(image, passage, scored, {k: work / n for k, n in names.items()})
            summary = _summary(image, detector, options, passage, scored, targets, started)
            paths = {k: work / n for k, n in names.items()}
            _write_reports(called, image, passage, scored, targets, summary, options, paths)
            summary["seconds"] = round(time.monotonic() - started, 3)
            write_json(paths["summary"], summary)
        move_results(work, folder, options.overwrite, all_names(output_names, stem, options=options))
    files = {kind: folder / name for kind, name in names.items()}
    return DetectionFiles(targets, passage.rule.threshold, summary, files=files)


class _Passage:
    """One pass over the scores of an image from top to bottom, and what has to be remembered of it."""

    def __init__(self, image: GrayImage, detector: Detector, options: Options) -> None:
        self.image, self.model, self.label = image, detector.spec.name, detector.label
        self.rule = replace(detector.own.asked(options.asked), min_area=options.min_area)
        if self.rule.max_area is not None and self.rule.max_area < options.min_area:
            raise UsageError(
                f"--min-area {options.min_area} is more than the {self.rule.max_area} pixels that the weights allow a "
                "target; also give --max-area (0: no limit)."
            )
        self.collector = TargetCollector(image.rows, image.cols, rule=self.rule)
        self.step = math.ceil(max(image.rows, image.cols) / PICTURE_SIDE)
        self.small: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.small_masks: list[NDArray[Any]] = []
        self.small_stages: list[NDArray[Any]] = []
        self.packed: dict[int, NDArray[np.uint8]] = {}
        self.valid_pixels = self.target_pixels = 0

    def strips(self, scored: LazyScores) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, score, NaN where invalid) of each strip; only after the last one is the rest known."""
        for row, score in scored.strips():
            window = Window(row, 0, *score.shape)
            gray, valid = self.image.read(window)
            mask = (score > self.rule.threshold) & valid
            self.collector.add(row, score, mask, self.image.unlimited(window)[0] if mask.any() else gray, valid)
            self.packed[row] = np.packbits(mask, axis=1)
            self.valid_pixels += int(valid.sum())
            some = self.seen(row)
            seen = valid[some]  # copies, not views: a view would keep its whole strip in memory
            self.small.append((np.where(seen, gray[some], np.nan), np.where(seen, score[some], np.nan)))
            yield row, np.where(valid, score, np.float32(np.nan))

    def seen(self, row: int) -> tuple[slice, slice]:
        """The pixels that pictures show, of a strip whose first row is ``row``."""
        return slice(-row % self.step, None, self.step), slice(None, None, self.step)

    def targets(self) -> list[Target]:
        """The targets, with the contrast to their surroundings."""
        packed = np.concatenate(list(self.packed.values()))

        def read(w: Window) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
            gray, valid = self.image.unlimited(w)
            first = w.col // 8 * 8
            rows = packed[w.row : w.row + w.height, first // 8 : (w.col + w.width + 7) // 8]
            bits = np.unpackbits(rows, axis=1)[:, w.col - first : w.col - first + w.width]
            return gray, valid, bits.astype(bool)

        return self.collector.finish(read)

    def masks(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(first row, pixels of the targets) of each strip; after :meth:`targets`."""
        self.target_pixels = 0
        self.small_masks.clear()
        for row, packed in self.packed.items():
            above = np.unpackbits(packed, axis=1, count=self.image.cols).astype(bool)
            mask = self.collector.ids(row, above) > 0
            self.target_pixels += int(mask.sum())
            self.small_masks.append(mask[self.seen(row)].copy())
            yield row, mask

    def picture(self) -> list[NDArray[Any]]:
        """Gray, score and mask of every ``step``-th pixel."""
        return [*(np.concatenate(parts) for parts in zip(*self.small, strict=True)), np.concatenate(self.small_masks)]


def _write_rasters(image: GrayImage, passage: _Passage, scored: LazyScores, paths: dict[str, Path]) -> list[Target]:
    """Write the rasters, and return the targets, which have to be known before their mask can be written."""
    size: dict[str, Any] = {"rows": image.rows, "cols": image.cols}
    note = {"RSUNFOLD_VERSION": __version__, "RSUNFOLD_MODEL": passage.model, **passage.rule.tags}
    score_meta = image.meta.spatial(band_names=("target score",), nodata=(math.nan,), tags=note)
    mask_meta = image.meta.spatial(band_names=("target mask",), nodata=(float(MASK_NODATA),), tags=note)
    with ExitStack() as stack:
        score_file = stack.enter_context(
            RasterWriter(paths["score"], bands=1, dtype=np.float32, meta=score_meta, **size)
        )
        mask_file = stack.enter_context(RasterWriter(paths["mask"], bands=1, dtype=np.uint8, meta=mask_meta, **size))
        for row, score in passage.strips(scored):
            score_file.write(score[None], Window(row, 0, *score.shape))
        targets = passage.targets()
        for row, mask in passage.masks():
            window = Window(row, 0, *mask.shape)
            _, valid = image.read(window)
            mask_file.write(np.where(valid, mask, np.uint8(MASK_NODATA)).astype(np.uint8)[None], window)
        if "stages" in paths:
            names = tuple(f"stage {k} {letter}" for k, letter in scored.stages)
            meta = replace(score_meta, band_names=names, nodata=(math.nan,) * len(names))
            stages_file = stack.enter_context(
                RasterWriter(paths["stages"], bands=len(names), dtype=np.float32, meta=meta, **size)
            )
            height = max(1, min(512, 2**24 // (4 * len(names) * image.cols)))
            for window in image.whole.parts(height):
                _, valid = image.read(window)
                maps = np.stack([read(window) for read in scored.stages.values()])
                maps = np.where(valid, maps, np.float32(np.nan))
                stages_file.write(maps, window)
                passage.small_stages.append(maps[:, *passage.seen(window.row)].copy())
    return targets


def _write_reports(
    called: str,
    image: GrayImage,
    passage: _Passage,
    scored: LazyScores,
    targets: list[Target],
    summary: dict[str, Any],
    options: Options,
    paths: dict[str, Path],
) -> None:
    about: dict[str, Any] = {
        k: summary[k] for k in ("input", "model", "weights", *passage.rule.as_dict()) if k in summary
    }
    meta, (rows, cols) = image.meta, (image.rows, image.cols)
    write_geojson(paths["targets_geojson"], targets, meta, image=called, rows=rows, cols=cols, properties=about)
    write_csv(paths["targets_csv"], targets, meta, image=called)
    if options.picture:
        gray, score, mask = passage.picture()
        quicklook(
            paths["quicklook"],
            gray,
            score,
            mask,
            targets,
            title=f"{Path(called).name}: {passage.label}, "
            f"threshold {passage.rule.threshold:.3g}, confidence {passage.rule.confidence:.3g}"
            + (f", reach {passage.rule.reach}" if passage.rule.reach else ""),
            shape=(image.rows, image.cols),
            read=lambda w: image.read(w)[0],
            limits=None if image.reading.scale is None else (0.0, 1.0),
        )
    if "stages_picture" in paths:
        shown: list[dict[str, NDArray[Any]]] = [{} for _ in range(max(k for k, _ in scored.stages))]
        for (k, letter), data in zip(scored.stages, np.concatenate(passage.small_stages, axis=1), strict=True):
            shown[k - 1][letter] = data
        stages_picture(paths["stages_picture"], shown, title=f"{Path(called).name}: stages of {passage.label}")


def _summary(
    image: GrayImage,
    detector: Detector,
    options: Options,
    passage: _Passage,
    scored: LazyScores,
    targets: list[Target],
    started: float,
) -> dict[str, Any]:
    return {
        **head_of(image),
        "band": image.band_used,
        "scale": image.scale.as_dict(),
        **about(detector, options),
        **passage.rule.as_dict(),
        "min_area_px": options.min_area,
        "computed": scored.computed,
        "valid_pixels": passage.valid_pixels,
        "target_pixels": passage.target_pixels,
        "targets": len(targets),
        "seconds": round(time.monotonic() - started, 3),
        "notes": [*map(Aside, image.reading.remarks(detector.record)), *image.notes],
    }
