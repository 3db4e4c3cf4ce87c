"""The model card that lies beside a weight file, and the figures on it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.io.samples import Sample
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.train.calibrate import Calibration
from rsunfold.train.recipe import Recipe
from rsunfold.weights import WeightRecord


def figures_of(
    results: list[tuple[Sample, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]], found: Calibration
) -> dict[str, Any]:
    """Figures of merit of each set at the calibrated threshold, by the set's name."""
    metrics: dict[str, InfraredMetrics] = {}
    for sample, logits, truth, valid in results:
        m = metrics.setdefault(sample.group, InfraredMetrics(found.threshold, peak=found.peak))
        m.update(sample.name, found.score_of(logits), truth, valid)
    return {group: m.result() for group, m in metrics.items()}


def card(
    record: WeightRecord, sha: str, recipe: Recipe, figures: dict[str, Any], found: Calibration, seconds: float
) -> str:
    """The model card that lies beside a weight file."""
    lines = [
        f"# {record.name}",
        "",
        f"Model `{record.model}`, architecture `{json.dumps(record.arch, sort_keys=True)}`, "
        f"licence: {record.licence or 'not stated'}.",
        "",
        f"- file: `{record.name}.safetensors`, sha256 `{sha}`",
        f"- origin: `{record.origin}`, {seconds / 3600:.2f} hours of training",
        f"- trained on: {record.trained_on}",
        f"- input: {record.bands} band, {record.scaling}",
        f"- score = sigmoid(logit / {record.temperature:.4g}); a target is where it exceeds {record.threshold:.3f}"
        f" around a pixel that exceeds {record.peak:.4g}; all three were chosen on the validation images"
        " below, so the figures are slightly optimistic",
        "",
        "Validation images (never trained on; one threshold and one peak for all sets, native resolution):",
        "",
        "| set | images | targets | IoU | nIoU | F1 | Pd < 3 px | Fa pixels | false components per megapixel |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for group, f in sorted(figures.items()):
        cells = [f["iou_pooled"], f["niou"], f["f1_pooled"], f["centroid"]["pd"]] if f["targets"] else [None] * 4
        shown = [f"{c:.4f}" if c is not None else "-" for c in cells]
        fa = f"{f['overlap']['fa']:.2e}" if f["overlap"]["fa"] is not None else "-"
        per = f"{f['centroid']['false_components_per_megapixel']:.2f}"
        lines.append(f"| {group} | {f['images']} | {f['targets']} | {' | '.join(shown)} | {fa} | {per} |")
    lines += [
        "",
        f"Target-free validation images without any detection: {found.silent:.0%}.",
        "",
        "Recipe:",
        "",
        "```json",
    ]
    lines += [json.dumps(dataclasses.asdict(recipe), indent=1), "```", ""]
    return "\n".join(lines)
