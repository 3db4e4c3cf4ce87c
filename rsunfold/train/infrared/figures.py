"""Figures of merit on the validation images, as numbers and as the lines of a model card."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from rsunfold.io.samples import LabelledImage
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.train.infrared.calibrate import Calibration, Result
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.unrolled import Unrolled


def results_of(
    net: Unrolled, images: Iterable[LabelledImage], device: torch.device, *, bfloat16: bool = False
) -> Iterator[Result]:
    """Images with their logits (H, W), each computed whole; in ``bfloat16`` several times faster where there is AMX,
    and not exactly."""
    # In bfloat16 the joint convolutions save nothing: 0.44 s plain and 0.71 s joint for 512 x 512 pixels, c = 32.
    fast = (copy.deepcopy(net).eval() if bfloat16 else for_inference(net)).to(device)
    for image in images:
        x = torch.from_numpy(image.gray)[None, None].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = fast(x)[0][0, 0]
        yield image, logits.float().cpu().numpy()


def figures_of(results: list[Result], found: Calibration) -> dict[str, Any]:
    """Figures of merit of each set under the calibrated rule, by name of the set."""
    metrics: dict[str, InfraredMetrics] = {}
    for image, logits in results:
        m = metrics.setdefault(image.sample.group, InfraredMetrics(found.rule))
        m.update(image.sample.name, found.score_of(logits), image.truth, image.valid, image.known)
    return {group: m.result() for group, m in metrics.items()}


def kept_of(figures: dict[str, Any]) -> dict[str, Any]:
    """The subset of :func:`figures_of` that is stored in a weight file."""
    kept = {}
    for group, f in figures.items():
        kept[group] = {k: f[k] for k in ("images", "targets", "iou_pooled", "niou", "f1_pooled")}
        kept[group] |= {k: f["centroid"][k] for k in ("pd", "false_components_per_megapixel")}
        if not f["targets"]:
            kept[group] = {k: v for k, v in kept[group].items() if k.startswith(("images", "targets", "false"))}
    return kept


def usage_of(found: Calibration, *, trained: bool = True, cut: bool = False) -> str:
    """How logits become scores, and what counts as a target; ``trained``: by training, not by later calibration;
    ``cut``: the largest area is one that 1 in 200 of the training targets exceeds."""
    rule = found.rule
    size = f"at most {rule.max_area} " if rule.max_area else ""
    more = "; 1 in 200 of the training targets is larger" if rule.max_area and cut else ""
    images = "validation images" if trained else "images"
    crowd = (
        f", plus the natural logarithm of the number of groups above the threshold within {rule.reach} rows and"
        " columns (from middle to middle), itself included, that do not pass this test"
        if rule.reach
        else ""
    )
    chosen = "temperature, threshold, reach and confidence" if rule.reach else "temperature, threshold and confidence"
    return (
        f"score = sigmoid(logit / {found.temperature:.4g}); a target is a group of {size}connected pixels with scores"
        f" above {rule.threshold:.3f} whose mean log-odds exceed those of {rule.confidence:.4g}{crowd}; {chosen} were"
        f" chosen on the {images} below, so the figures are slightly optimistic{more}"
    )


def table_of(figures: dict[str, Any], found: Calibration, *, trained: bool = True) -> list[str]:
    """The table of :func:`figures_of` as lines of Markdown, with the text before and after it."""
    images = "Validation images (not used for training; " if trained else "Images on which the rule was chosen ("
    lines = [
        f"{images}one threshold and one confidence for all sets, native resolution):",
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
    if any(f["empty_images"]["images"] for f in figures.values()):
        lines += ["", f"Target-free {'validation ' * trained}images without any detection: {found.silent:.0%}."]
    return lines
