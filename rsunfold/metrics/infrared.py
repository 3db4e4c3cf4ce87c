"""Figures of merit for infrared small targets, gathered image by image.

P predicted, G true target pixels (boolean), both without the nodata pixels; components are 8-connected. Sums run over
all images, with and without targets. A pixel is predicted where score > threshold.

- IoU = TP / (TP + FP + FN) and F1 = 2 TP / (2 TP + FP + FN), pooled over pixels; nIoU = mean over images of the
  image's IoU, 1 for an image with neither target nor detection.
- convention ``overlap`` (RPCANet, WACV 2024): a true component is found when a predicted pixel lies on it;
  Pd = found / true components, Fa = FP / background pixels. Published scripts may leave images without targets out.
- convention ``centroid`` (BasicIRSTD): true and predicted components are matched one to one where their centroids are
  closer than 3 pixels, as many as possible, then with the smallest sum of distances;
  Pd = matched / true components, Fa = pixels of unmatched predicted components / all pixels. Published scripts give
  each true component the first predicted one, in the order of rows, that is near.

A ratio whose denominator is zero is None, never 0 or 1.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsunfold.arrays import Mask
from rsunfold.errors import InputError, UsageError
from rsunfold.metrics.components import Components, match
from rsunfold.metrics.counted import counted
from rsunfold.rule import Rule

AUC_FA = 1e-3
"""The area under the ROC is taken over pixel false-alarm rates 0 to this, and divided by it."""
FORMULAS = {
    "iou_pooled": "TP / (TP + FP + FN), pixels of all images together",
    "niou": "mean over images of the image's IoU, 1 for an image with neither target nor detection",
    "f1_pooled": "2 TP / (2 TP + FP + FN), pixels of all images together",
    "roc": "for thresholds of the score alone, without the other tests of the rule. overlap: pd over fa for thresholds "
    "so close (0.02 % of the score, or of 1 - score) that the curve depends on the order of the scores alone, of which "
    f"those where pd changes are listed; auc: the area for fa from 0 to {AUC_FA:g}, divided by {AUC_FA:g}. centroid: "
    "pd over false components, for thresholds around that of the rule",
    "empty_images": "of the images without targets alone. share_with_detection: those with a predicted pixel / all of "
    "them; false_components_per_megapixel: 1e6 predicted components / their pixels",
}
"""What the figures of a report are that have no convention beside them; None where a denominator is zero."""
CONVENTIONS = {
    "overlap": "8-connected true component found by one predicted pixel on it; Fa = FP pixels / background pixels, "
    "images without targets included",
    "centroid": "one-to-one, centroids closer than 3 px, as many pairs as possible (not the first that is near); "
    "Fa = pixels of unmatched predicted components / all pixels, images without targets included; false components are "
    "the unmatched predicted ones",
}


@cache
def _close_thresholds() -> NDArray[np.float32]:
    """Ascending thresholds in [0, 1): 0, numbers of 13 binary digits up to 1/2, and 1 minus these."""
    first, half, step = 0x00800000, 0x3F000000, 1 << 11  # float32 as integers: 2^-126, 1/2, the last of the digits
    low = np.arange(first, half + 1, step, dtype=np.uint32).view(np.float32)
    return np.unique(np.concatenate([np.zeros(1, np.float32), low, (1 - low)[low > 2**-24]]))


def legacy_half_maximum(score: NDArray[Any], valid: Mask | None = None) -> Mask:
    """The cut of published scripts, score / max(score) > 0.5, by each image's own maximum; only to compare with them.

    score : (H, W). valid : bool (H, W), the pixels that the maximum is taken over. Returns bool (H, W), empty where
    the maximum is 0 or less. Every other image gets at least one detection, so an empty scene is never empty. Raises
    InputError for a valid mask that is not boolean and where the score is NaN at a valid pixel.
    """
    valid = _counting(valid, score)
    score = np.ma.getdata(score)
    inside = score[valid]
    if np.isnan(inside).any():
        raise InputError("the score is NaN at valid pixels; mark them as nodata.")
    top = float(inside.max()) if inside.size else 0.0
    return np.asarray(valid & (score > 0.5 * top)) if top > 0 else np.zeros(score.shape, dtype=bool)


def _counting(valid: Mask | None, *arrays: NDArray[Any]) -> Mask:
    """What is :func:`counted`, of all pixels (H, W) where ``valid`` is None; InputError where it is not boolean."""
    valid = np.ones(arrays[0].shape, dtype=bool) if valid is None else valid
    if valid.dtype != np.bool_:
        raise InputError(f"the valid mask must be boolean, got {valid.dtype}.")
    return counted(valid, *arrays)


def roc_thresholds(threshold: float) -> NDArray[np.float64]:
    """Ascending thresholds for the ROC by centroid of scores in [0, 1]: 0, then 97 within +-10 around ``threshold`` in
    log-odds.

    They depend on the stored threshold of a model alone, so curves of several data sets can be compared.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"thresholds can be laid out around a value between 0 and 1 only, got {threshold}.")
    odds = np.log(threshold / (1 - threshold)) + np.linspace(-10, 10, 97)
    return np.concatenate([[0.0], 1 / (1 + np.exp(-odds))])


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None


class InfraredMetrics:
    """Accumulates images and answers with a dictionary that ``json`` can write.

    rule : what is a target among the scores, or None when the predictions are boolean masks (which have no ROC).
    thresholds_for_roc : ascending cuts of the ROC by centroid, see :func:`roc_thresholds`; None for no ROC. That by
    overlap has its own, close to each other. cut : how the report calls the rule of boolean masks.
    """

    def __init__(
        self, rule: Rule | None, thresholds_for_roc: ArrayLike | None = None, *, cut: str = "boolean masks"
    ) -> None:
        self.rule, self.cut = rule, cut
        self.rows: list[dict[str, Any]] = []
        self.roc: _Roc | None = None
        if thresholds_for_roc is not None:
            if rule is None:
                raise UsageError("boolean predictions have no ROC; leave out the thresholds for it.")
            self.roc = _Roc(np.asarray(thresholds_for_roc, dtype=np.float64))

    def update(
        self, name: str, score: NDArray[Any], truth: Mask, valid: Mask | None = None, known: Mask | None = None
    ) -> dict[str, Any]:
        """Adds one image and returns its row of the per-image table, which is also kept in ``rows``.

        score : (H, W), float, from 0 to 1 with a ROC, or bool when ``rule`` is None; values outside ``valid`` are not
        looked at.
        truth : bool (H, W). valid : bool (H, W), False at nodata, or None when every pixel counts. known : bool (H, W),
        False where nobody knows the truth: the rule looks at these pixels, but they count for nothing.
        What a masked ``score`` or ``truth`` masks is not valid. Raises InputError when shapes differ, a mask is not
        boolean or a valid score is NaN, or with a ROC not in [0, 1], UsageError when ``score`` has the wrong type.
        """
        others = {"truth": truth, "mask of valid pixels": valid, "mask of known pixels": known}
        shapes = {what: a.shape for what, a in others.items() if a is not None}
        if {*shapes.values()} != {score.shape} or score.ndim != 2:
            told = ", ".join(f"its {what} {shape}" for what, shape in shapes.items())
            raise InputError(
                f"the prediction of {name} has shape {score.shape}, {told}; give (rows, cols) of one size."
            )
        if any(a is not None and a.dtype != np.bool_ for a in (truth, known)):
            raise InputError(f"the truth of {name} and its mask of known pixels must be boolean.")
        valid = _counting(valid, score, truth)
        score, truth = np.ma.getdata(score), np.ma.getdata(truth)
        predicted = self._predicted(name, score, valid)
        if self.roc is not None and ((score < 0) | (score > 1))[valid].any():
            raise InputError(f"the score of {name} lies outside [0, 1], where its ROC has no thresholds.")
        valid = valid if known is None else valid & counted(known)
        truth, predicted = truth & valid, predicted & valid
        g, p = Components.of(truth), Components.of(predicted)
        _, matched = match(g, p)
        tp, fp, fn = (int(np.sum(m)) for m in (truth & predicted, predicted & ~truth, truth & ~predicted))
        row = {
            "image": name,
            "pixels": int(valid.sum()),
            "nodata_pixels": int(valid.size - valid.sum()),
            "targets": len(g.area),
            "detections": len(p.area),
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "iou": (tp / (tp + fp + fn) if tp + fp + fn else 1.0) if valid.any() else None,
            "found_overlap": len(np.unique(g.labels[truth & predicted])),
            "matched_centroid": len(matched),
            "unmatched_pixels_centroid": int(p.area.sum() - p.area[matched].sum()),
        }
        if self.roc is not None:
            self.roc.update(score, truth, valid, g)
        self.rows.append(row)
        return row

    def add(self, other: InfraredMetrics) -> None:
        """Takes over all images of another set, gathered with the same thresholds."""
        self.rows += other.rows
        if self.roc is not None and other.roc is not None:
            self.roc.add(other.roc)

    def _predicted(self, name: str, score: NDArray[Any], valid: Mask) -> Mask:
        if (score.dtype == np.bool_) != (self.rule is None):
            raise UsageError(
                f"the prediction of {name} is of type {score.dtype}; scores need a threshold, boolean masks take none."
            )
        if self.rule is None:
            return np.asarray(score & valid)
        if np.isnan(score[valid]).any():
            raise InputError(f"the score of {name} is NaN at valid pixels; mark them as nodata.")
        return self.rule.detected(score, valid)

    def _rule(self) -> str:
        if self.rule is None:
            return self.cut
        asked = [
            "whose mean log odds are > those of confidence" if self.rule.odds is not None else "",
            "+ log(number of unsure ones within reach_px)" if self.rule.reach is not None else "",
            "of at least min_area_px pixels" if self.rule.min_area > 1 else "",
            "of at most max_area_px pixels" if self.rule.max_area is not None else "",
        ]
        where = " ".join(text for text in asked if text)
        return "score > threshold" + (f" in components {where}" if where else "")

    def result(self) -> dict[str, Any]:
        """Pooled figures with the names of their conventions; see the module's text for the definitions.

        Images without a valid pixel are counted apart and enter no figure. ``empty_images`` are those without targets.
        """
        used = [row for row in self.rows if row["pixels"]]
        empty = [row for row in used if not row["targets"]]

        def total(key: str, rows: list[dict[str, Any]] = used) -> int:
            return sum(row[key] for row in rows)

        tp, fp, fn, pixels, targets = (total(key) for key in ("tp", "fp", "fn", "pixels", "targets"))
        false_components = total("detections") - total("matched_centroid")
        background = pixels - tp - fn
        answer: dict[str, Any] = {
            "rule": self._rule(),
            **(dict.fromkeys(Rule(0.5).as_dict()) if self.rule is None else self.rule.as_dict()),
            "images": len(used),
            "images_all_nodata": len(self.rows) - len(used),
            "pixels": pixels,
            "nodata_pixels": sum(row["nodata_pixels"] for row in self.rows),
            "targets": targets,
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "iou_pooled": _ratio(tp, tp + fp + fn),
            "niou": _ratio(sum(row["iou"] for row in used), len(used)),
            "f1_pooled": _ratio(2 * tp, 2 * tp + fp + fn),
            "overlap": {
                "convention": CONVENTIONS["overlap"],
                "found": total("found_overlap"),
                "background_pixels": background,
                "pd": _ratio(total("found_overlap"), targets),
                "fa": _ratio(fp, background),
            },
            "centroid": {
                "convention": CONVENTIONS["centroid"],
                "matched": total("matched_centroid"),
                "false_components": false_components,
                "pd": _ratio(total("matched_centroid"), targets),
                "fa": _ratio(total("unmatched_pixels_centroid"), pixels),
                "false_components_per_megapixel": _ratio(1e6 * false_components, pixels),
            },
            "empty_images": {
                "images": len(empty),
                "pixels": total("pixels", empty),
                "share_with_detection": _ratio(sum(row["detections"] > 0 for row in empty), len(empty)),
                "false_components_per_megapixel": _ratio(1e6 * total("detections", empty), total("pixels", empty)),
            },
        }
        if self.roc is not None:
            answer["roc"] = self.roc.result(pixels)
        return answer

    def threshold_for_pfa(self, pfa: float) -> float:
        """The smallest threshold of the ROC by overlap at which FP pixels / background pixels is at most ``pfa``.

        Raises UsageError without a ROC, without a background pixel, or when no threshold below 1 is high enough.
        """
        if self.roc is None:
            raise UsageError("a threshold for a given false-alarm rate needs scores and thresholds for the ROC.")
        background, cuts = self.roc.pixels.background, _close_thresholds()
        if not background.total:
            raise UsageError("a threshold for a given false-alarm rate needs background pixels, but there are none.")
        low_enough = np.flatnonzero(background.above(np.arange(cuts.size)) <= pfa * background.total)
        if not low_enough.size:
            raise UsageError(f"no threshold below 1 keeps false alarms at {pfa:g} or below.")
        return float(cuts[low_enough[0]])


class _PixelRoc:
    """Background pixels, and targets by their highest score, by the number of close thresholds that they exceed."""

    def __init__(self) -> None:
        self.background, self.targets = _Exceeded(), _Exceeded()

    def update(self, score: NDArray[Any], truth: Mask, valid: Mask, g: Components) -> None:
        best = np.zeros(len(g.area), dtype=score.dtype)
        np.maximum.at(best, g.labels[truth] - 1, score[truth])
        self.background.count(score[valid & ~truth])
        self.targets.count(best)

    def add(self, other: _PixelRoc) -> None:
        self.background.add(other.background)
        self.targets.add(other.targets)

    def result(self) -> dict[str, Any]:
        """The curve at the cuts next to each of which Pd changes, and the first and last: between them it is level."""
        cuts, background, targets = _close_thresholds(), self.background.total, self.targets.total
        at = np.unique(np.concatenate([[0], self.targets.places - 1, self.targets.places, [cuts.size - 1]]))
        at = at[(at >= 0) & (at < cuts.size)]
        pd = (self.targets.above(at) / targets).tolist() if targets else None
        fa = (self.background.above(at) / background).tolist() if background else None
        return {
            "thresholds": cuts[at].tolist(),
            "pd": pd,
            "fa": fa,
            "auc": partial_auc(fa, pd, AUC_FA) if fa is not None and pd is not None else None,
            "auc_fa_range": [0.0, AUC_FA],
        }


class _Exceeded:
    """How many scores exceed the first k close thresholds and no more: ``counts`` of those k where there are any, the
    ascending ``places``."""

    def __init__(self) -> None:
        self.places = np.zeros(0, dtype=np.int64)
        self.counts = np.zeros(0, dtype=np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def count(self, scores: NDArray[Any]) -> None:
        cuts = _close_thresholds()
        exceeded = np.searchsorted(cuts.astype(np.result_type(scores.dtype, np.float32), copy=False), scores)
        self._take(*np.unique(exceeded, return_counts=True))

    def add(self, other: _Exceeded) -> None:
        self._take(other.places, other.counts)

    def _take(self, places: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.places, where = np.unique(np.concatenate([self.places, places]), return_inverse=True)
        self.counts = np.bincount(where, np.concatenate([self.counts, counts])).astype(np.int64)

    def above(self, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many exceed the thresholds of these numbers."""
        below = np.concatenate([[0], self.counts.cumsum()])
        return np.asarray(self.total - below[np.searchsorted(self.places, cuts, side="right")])


class _ComponentRoc:
    """Pairs of components and false ones at each of a few thresholds."""

    def __init__(self, thresholds: NDArray[np.float64]) -> None:
        if thresholds.ndim != 1 or not thresholds.size or not (np.diff(thresholds) > 0).all():
            raise UsageError("the thresholds of a ROC must be a list of ascending numbers.")
        self.thresholds = thresholds
        self.targets = 0
        self.matched = np.zeros(thresholds.size, dtype=np.int64)
        self.false_components = np.zeros(thresholds.size, dtype=np.int64)

    def update(self, score: NDArray[Any], valid: Mask, g: Components) -> None:
        cuts = self.thresholds.astype(np.result_type(score.dtype, np.float32))  # rounded as in score > threshold
        exceeded = np.where(valid, np.searchsorted(cuts, score), 0)
        self.targets += len(g.area)
        levels = np.unique(exceeded)  # between two of them the prediction stays the same, and so do its components
        for low, high in zip(np.concatenate([[0], levels[:-1]]), levels, strict=True):
            if high > low:
                p = Components.of(exceeded > low)
                pairs = len(match(g, p)[0])
                self.matched[low:high] += pairs
                self.false_components[low:high] += len(p.area) - pairs

    def add(self, other: _ComponentRoc) -> None:
        self.targets += other.targets
        self.matched += other.matched
        self.false_components += other.false_components

    def result(self, pixels: int) -> dict[str, Any]:
        return {
            "thresholds": self.thresholds.tolist(),
            "pd": (self.matched / self.targets).tolist() if self.targets else None,
            "false_components_per_megapixel": (1e6 * self.false_components / pixels).tolist() if pixels else None,
        }


class _Roc:
    """The curves of both conventions."""

    def __init__(self, thresholds: NDArray[np.float64]) -> None:
        self.pixels, self.components = _PixelRoc(), _ComponentRoc(thresholds)

    def update(self, score: NDArray[Any], truth: Mask, valid: Mask, g: Components) -> None:
        self.pixels.update(score, truth, valid, g)
        self.components.update(score, valid, g)

    def add(self, other: _Roc) -> None:
        self.pixels.add(other.pixels)
        self.components.add(other.components)

    def result(self, pixels: int) -> dict[str, Any]:
        return {"overlap": self.pixels.result(), "centroid": self.components.result(pixels)}


def partial_auc(fa: ArrayLike, pd: ArrayLike, fa_max: float) -> float:
    """Area under Pd over Fa from 0 to ``fa_max`` (in (0, 1]) divided by ``fa_max``: 1 is perfect.

    fa, pd : points of the curve in the order of ascending thresholds, both falling. The points (0, 0) and (1, 1) of a
    threshold above and below all scores are added, and neighbours are joined by straight lines.
    """
    if not 0 < fa_max <= 1:
        raise UsageError(f"the ROC's area needs a range of false alarm rates in (0, 1], got {fa_max}.")
    x = np.concatenate([[0.0], np.asarray(fa, dtype=np.float64)[::-1], [1.0]])
    y = np.concatenate([[0.0], np.asarray(pd, dtype=np.float64)[::-1], [1.0]])
    inside = int(np.searchsorted(x, fa_max, side="right"))
    x_cut = np.append(x[:inside], fa_max)
    y_cut = np.append(y[:inside], np.interp(fa_max, x[inside - 1 :], y[inside - 1 :]))
    return float(np.sum(np.diff(x_cut) * (y_cut[1:] + y_cut[:-1]) / 2) / fa_max)
