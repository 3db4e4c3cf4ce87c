"""detect-anomaly on one file: statistics, model, priors, threshold, connected anomalies, write."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold import __version__
from rsunfold.cube import Aside
from rsunfold.errors import UsageError
from rsunfold.infer.anomaly.detector import AnomalyDetector, Scored
from rsunfold.infer.anomaly.objects import NAMES, Anomalies, differences, find_anomalies, write_spectra
from rsunfold.infer.anomaly.threshold import check_rule, choose_threshold
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
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io import CubeReader, RasterWriter
from rsunfold.io.jsonfile import write_json
from rsunfold.io.names import shown_as
from rsunfold.io.vector import columns_with, write_csv, write_geojson
from rsunfold.io.work import move_results, work_folder
from rsunfold.report import anomaly_quicklook, anomaly_stages_picture, spectra_picture
from rsunfold.targets import Target

PFA = 1e-2
"""Wanted share of false alarms among background pixels, unless the user says otherwise."""
MASK_NODATA = 255
LISTED = ("acquired", "rows", "cols", "valid_pixels", "anomalies", "anomaly_pixels", "threshold", "seconds")
"""What the table of the images of a batch takes from their summaries."""
ROWS = 512


@dataclass(frozen=True)
class Options:
    """How files are treated; see ``rsunfold detect-anomaly --help``. Without pfa, percentile and threshold, pfa is
    PFA."""

    var: str | None = None
    drop_bands: tuple[str, ...] = ()
    pfa: float | None = None
    percentile: float | None = None
    threshold: float | None = None
    min_area: int = 1
    stages: bool = of_files(False, True)
    picture: bool = of_files(True, False)
    suffix: str = of_files(".tif", ".img")
    overwrite: bool = of_files(False)

    def __post_init__(self) -> None:
        if self.pfa is None and self.percentile is None and self.threshold is None:
            object.__setattr__(self, "pfa", PFA)
        check_rule(self.pfa, self.percentile, self.threshold)
        if self.min_area < 1:
            raise UsageError(f"--min-area must be at least 1 pixel, not {self.min_area}.")


@dataclass(repr=False, eq=False)
class Found(Result):
    """What ``detect_anomaly`` found in one image.

    anomalies : connected groups in scan order. threshold : the one used. summary : what the JSON summary holds. files :
    what was written, by kind. score float32 (rows, cols) >= 0, NaN where invalid; mask bool (rows, cols); stages : per
    stage the norms of background, residual and S, float32 (rows, cols); spectra : by id of an anomaly, of the 1000
    strongest, its mean spectrum (bands that take part,), in units of the image; differing : for each anomaly, as text
    or None, the bands and wavelengths that set it apart (:data:`rsunfold.infer.anomaly.objects.NAMES`).
    """

    anomalies: list[Target]
    threshold: float
    summary: dict[str, Any]
    score: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spectra: dict[int, NDArray[np.float64]]
    differing: list[dict[str, Any]]
    stages: list[dict[str, NDArray[np.float32]]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)


def output_names(stem: str, options: Options) -> dict[str, str]:
    """File names by kind that one image gives; the summary is written last."""
    names = {"score": f"{stem}_score{options.suffix}", "mask": f"{stem}_mask{options.suffix}"}
    if options.stages:
        names["stages"] = f"{stem}_stages{options.suffix}"
    names = with_headers(names)
    names |= {"anomalies_geojson": f"{stem}_anomalies.geojson", "anomalies_csv": f"{stem}_anomalies.csv"}
    names["spectra"] = f"{stem}_spectra.csv"
    if options.picture:
        names |= {"quicklook": f"{stem}_quicklook.png", "spectra_picture": f"{stem}_spectra.png"}
        if options.stages:
            names["stages_picture"] = f"{stem}_stages.png"
    return names | {"summary": f"{stem}_summary.json"}


def listing(path: Path, folder: Path, options: Options) -> Listing:
    """The tables over a batch whose results are written to ``folder``."""

    def files(stem: str) -> dict[str, Path]:
        return {kind: folder / name for kind, name in output_names(stem, options).items()}

    return Listing(path, files, "anomalies_csv", columns_with(NAMES), LISTED, options.overwrite)


def detect_array(source: CubeReader | str, detector: AnomalyDetector, options: Options) -> Found:
    """Detect anomalies in an image and keep everything in memory."""
    started = time.monotonic()
    with environment(), detector.open(source, options.var, options.drop_bands) as image:
        return _detect(image, detector, options, started)[0]


def detect_file(
    source: str, stem: str, folder: str | os.PathLike[str], detector: AnomalyDetector, options: Options
) -> Found:
    """Detect anomalies in a file and write ``STEM_score``, ``_mask``, ``_anomalies``, ... to ``folder``.

    Everything is written to a hidden folder inside ``folder`` first and moved when it is complete, so that an
    interrupted run leaves nothing. Raises OutputError when an output exists and ``options.overwrite`` is False.
    """
    started = time.monotonic()
    called = shown_as(source, stem)
    folder, stem = results_of(folder, stem)
    names = output_names(stem, options)
    with (
        reserved(folder, names, detector.spec, source, overwrite=options.overwrite),
        environment(),
        detector.open(source, options.var, options.drop_bands) as image,
        work_folder(folder) as work,
    ):
        refuse_place(folder, names.values(), image)
        found, anomalies, scored = _detect(image, detector, options, started)
        paths = {kind: work / name for kind, name in names.items()}
        _write_rasters(image, found, scored, paths)
        _write_reports(called, image, found, anomalies, paths, options)
        found.summary["seconds"] = round(time.monotonic() - started, 3)
        write_json(paths["summary"], found.summary)
        move_results(work, folder, options.overwrite, all_names(output_names, stem, options=options))
    found.files = {kind: folder / name for kind, name in names.items()}
    return found


def _detect(
    image: SpectralImage, detector: AnomalyDetector, options: Options, started: float
) -> tuple[Found, Anomalies, Scored]:
    scored = detector.scored(image, stages=options.stages)
    threshold, rule = choose_threshold(
        scored.score, pfa=options.pfa, percentile=options.percentile, threshold=options.threshold
    )
    anomalies = find_anomalies(image, scored.score, threshold, options.min_area)
    summary = _summary(image, detector, options, scored, anomalies, threshold, rule)
    summary["seconds"] = round(time.monotonic() - started, 3)
    found = Found(
        anomalies.targets,
        threshold,
        summary,
        scored.score,
        anomalies.mask,
        anomalies.spectra,
        differences(image, anomalies),
        scored.stages,
    )
    return found, anomalies, scored


def _write_rasters(image: SpectralImage, found: Found, scored: Scored, paths: Mapping[str, Path]) -> None:
    size: dict[str, Any] = {"rows": image.rows, "cols": image.cols}
    tags = {
        "RSUNFOLD_VERSION": __version__,
        "RSUNFOLD_MODEL": found.summary["model"],
        "RSUNFOLD_THRESHOLD": str(found.threshold),
    }
    meta = image.meta.spatial(band_names=("anomaly score",), nodata=(math.nan,), tags=tags)
    layers: dict[str, tuple[Any, NDArray[Any]]] = {
        "score": (meta, found.score[None]),
        "mask": (
            replace(meta, band_names=("anomaly mask",), nodata=(float(MASK_NODATA),)),
            np.where(scored.valid, found.mask, MASK_NODATA).astype(np.uint8)[None],
        ),
    }
    if "stages" in paths:
        names = tuple(f"stage {k} norm of {letter}" for k, maps in enumerate(scored.stages, 1) for letter in maps)
        stack = np.stack([values for maps in scored.stages for values in maps.values()])
        layers["stages"] = (replace(meta, band_names=names, nodata=(math.nan,) * len(names)), stack)
    for kind, (placed, data) in layers.items():
        with RasterWriter(paths[kind], bands=len(data), dtype=data.dtype, meta=placed, **size) as file:
            for window in image.whole.parts(ROWS):
                file.write(data[:, *window.slices], window)


def _write_reports(
    called: str,
    image: SpectralImage,
    found: Found,
    anomalies: Anomalies,
    paths: Mapping[str, Path],
    options: Options,
) -> None:
    summary, more = found.summary, found.differing
    about: dict[str, Any] = {k: summary[k] for k in ("input", "model", "priors", "threshold")}
    write_geojson(
        paths["anomalies_geojson"],
        found.anomalies, image.meta, image=called, rows=image.rows, cols=image.cols, properties=about, more=more,
    )  # fmt: skip
    write_csv(paths["anomalies_csv"], found.anomalies, image.meta, image=called, more=more, names=NAMES)
    write_spectra(paths["spectra"], image, anomalies)
    if options.picture:
        name = Path(image.path).name
        some = np.s_[:: anomalies.step, :: anomalies.step]
        # Of a decimated mask a small anomaly would be lost: any of the pixels counts.
        anomaly_quicklook(
            paths["quicklook"],
            anomalies.composite,
            found.score[some],
            _decimated(found.mask, anomalies.step),
            title=f"{name}: {summary['model']}, threshold {found.threshold:.3g}",
            shape=(image.rows, image.cols),
            pixels=int(found.mask.sum()),
            objects=len(found.anomalies),
        )
        strongest = sorted(found.anomalies, key=lambda t: -t.peak)
        spectra_picture(
            paths["spectra_picture"],
            image.among_all(anomalies.background),
            image.among_all(anomalies.deviation),
            {
                f"anomaly {t.id}, peak {t.peak:.3g}": image.among_all(found.spectra[t.id])
                for t in strongest
                if t.id in found.spectra
            },
            image.meta.wavelengths,
            names=image.meta.band_names,
            units=image.meta.units[0] if image.meta.units else "",
            title=f"{name}: the strongest anomalies",
        )
    if "stages_picture" in paths:
        some = np.s_[:: anomalies.step, :: anomalies.step]
        shown = [{letter: values[some] for letter, values in maps.items()} for maps in found.stages]
        title = f"{Path(image.path).name}: stages of {summary['model']} (norms)"
        anomaly_stages_picture(paths["stages_picture"], shown, title=title)


def _decimated(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """True where any of the ``step`` x ``step`` pixels is."""
    rows, cols = mask.shape
    padded = np.pad(mask, ((0, -rows % step), (0, -cols % step)))
    blocks = padded.reshape(-(-rows // step), step, -(-cols // step), step)
    return np.asarray(blocks.any(axis=(1, 3)))


def _on_threshold(threshold: float, scored: Scored) -> list[str]:
    """Sentences on a threshold that is given and is none of this image or this kind of scores."""
    most, found = float(np.nanmax(scored.score)), []
    if most <= threshold:
        found.append(f"--threshold {threshold:g} is not exceeded: the largest score is {most:.4g}")
    if scored.windowed:
        found.append("with --window, scores are multiples of each window's median, and so is --threshold")
    return found


def _summary(
    image: SpectralImage,
    detector: AnomalyDetector,
    options: Options,
    scored: Scored,
    anomalies: Anomalies,
    threshold: float,
    rule: dict[str, Any],
) -> dict[str, Any]:
    s, notes = image.statistics, image.notes
    if len(anomalies.spectra) < len(anomalies.targets):
        notes.append(Aside(f"mean spectra are given only for the {len(anomalies.spectra)} strongest anomalies"))
    if scored.alone:
        notes.append(f"{scored.alone} valid pixels have no score, as {detector.why_alone(scored.windowed)}")
    notes += scored.notes
    if options.threshold is not None:
        notes += _on_threshold(options.threshold, scored)
    plan = scored.plan
    apart = f"windows of {plan.tile} pixels, each with its own background model"
    return {
        **head_of(image),
        **about(detector, options),
        "bands_used": [b + 1 for b in s.bands],
        "bands_left_out": {str(b + 1): why for b, why in s.passed.items()},
        "valid_pixels": s.valid_pixels,
        "invalid_pixels": s.invalid_pixels,
        "pixels_without_score": scored.alone,
        "threshold": threshold,
        "threshold_rule": rule,
        "min_area_px": options.min_area,
        "anomalies": len(anomalies.targets),
        "anomaly_pixels": int(anomalies.mask.sum()),
        "learned": scored.learned,
        "computed": apart if scored.windowed else plan.words,
        "notes": notes,
    }
