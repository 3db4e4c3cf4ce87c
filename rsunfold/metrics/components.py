"""Connected components of a mask, and the one-to-one matching of two masks' components by their centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATCH_DISTANCE = 3.0


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask: labels int (H, W) from 1, area (n,) in pixels, centroid (n, 2) row, col."""

    labels: NDArray[np.int32 | np.intp]
    area: NDArray[np.int64]
    centroid: NDArray[np.float64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Components:
        """Components of ``mask``, bool (H, W)."""
        from scipy import ndimage

        labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int32))
        row, col = np.nonzero(labels)
        which = labels[row, col] - 1
        area = np.bincount(which, minlength=count)
        sums = [np.bincount(which, weights=place, minlength=count) for place in (row, col)]
        return cls(labels, area, np.stack(sums, axis=1) / area[:, None])


def log_odds(score: NDArray[Any] | float) -> NDArray[np.float64]:
    """log(s / (1 - s)) of scores in [0, 1], within -16 to 16, beyond which float32 has no scores next to 1."""
    s = np.asarray(score, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(s) - np.log1p(-s), -16.0, 16.0))


@dataclass(frozen=True)
class Rule:
    """What is a target among scores: an 8-connected component of pixels with score > threshold, whose mean log odds are
    above those of ``confidence`` and which has ``min_area`` to ``max_area`` pixels.

    Two thresholds as Canny's (PAMI 1986): the lower one says how far a target reaches, the higher one whether there is
    one; not by its best pixel, but by all of them, because large bright clutter has one good pixel easily. confidence :
    anything below ``threshold`` becomes that, and asks nothing more. max_area : None for any size.
    """

    threshold: float
    confidence: float = 0.0
    max_area: int | None = None
    min_area: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", max(self.threshold, self.confidence))

    def asked(self, threshold: float | None, confidence: float | None, max_area: int | None) -> Rule:
        """This rule with what is asked for in place of its own: None leaves its own, a threshold given alone is a plain
        one, and a ``max_area`` of 0 any number of pixels."""
        if confidence is None:
            confidence = self.confidence if threshold is None else threshold
        return Rule(
            self.threshold if threshold is None else threshold,
            confidence,
            (self.max_area if max_area is None else max_area) or None,
            self.min_area,
        )

    @property
    def odds(self) -> float | None:
        """What the mean log odds of a target's pixels must exceed; None where each pixel's exceed it anyway."""
        return float(log_odds(self.confidence)) if self.confidence > self.threshold else None

    def keeps(self, area: NDArray[Any], odds: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether components (n,) of pixels above the threshold are targets, by their pixels and the sums of these
        pixels' log odds."""
        kept = area >= self.min_area
        kept = kept if self.odds is None else kept & (odds > area * self.odds)
        return kept if self.max_area is None else kept & (area <= self.max_area)

    def detected(self, score: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Target pixels, bool (H, W), of scores (H, W)."""
        from scipy import ndimage

        mask = np.asarray((score > self.threshold) & valid)
        if self.odds is None and self.max_area is None and self.min_area <= 1:
            return mask
        labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int32))
        of = labels[mask]
        area, odds = np.bincount(of, minlength=count + 1), np.bincount(of, log_odds(score[mask]), count + 1)
        return np.asarray(mask & self.keeps(area, odds)[labels])

    def as_dict(self) -> dict[str, float | int | None]:
        """What there is under the names that reports and summaries have for it; a smallest area where there is one."""
        least = {"min_area_px": self.min_area} if self.min_area > 1 else {}
        return {"threshold": self.threshold, "confidence": self.confidence, "max_area_px": self.max_area} | least


def match(truth: Components, predicted: Components) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (n,) and (n,) of the true and the predicted components that belong together, each used once at most.

    As many pairs as possible whose centroids are closer than 3 pixels; among those the smallest sum of distances.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    if not len(truth.area) or not len(predicted.area):
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    nearest, _ = KDTree(truth.centroid).query(predicted.centroid)
    near = np.flatnonzero(nearest < MATCH_DISTANCE)  # a noisy score has a million components: leave the far ones out
    distance = cdist(truth.centroid, predicted.centroid[near])
    forbidden = MATCH_DISTANCE * (1 + min(distance.shape))  # dearer than all allowed pairs together
    i, j = linear_sum_assignment(np.where(distance < MATCH_DISTANCE, distance, forbidden))
    close = distance[i, j] < MATCH_DISTANCE
    return i[close], near[j[close]]
