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


def middles(labels: NDArray[Any]) -> NDArray[np.float64]:
    """The middles (n, 2), row and col, of the boxes of the components 1 to n of ``labels`` (H, W)."""
    from scipy import ndimage

    boxes = [(rows.start + rows.stop - 1, cols.start + cols.stop - 1) for rows, cols in ndimage.find_objects(labels)]
    return np.array(boxes, np.float64).reshape(-1, 2) / 2


def log_odds(score: NDArray[Any] | float) -> NDArray[np.float64]:
    """log(s / (1 - s)) of scores in [0, 1], within -16 to 16, beyond which float32 has no scores next to 1."""
    s = np.asarray(score, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(s) - np.log1p(-s), -16.0, 16.0))


def around(centre: NDArray[np.float64], reach: int, of: NDArray[np.float64] | None = None) -> NDArray[np.intp]:
    """How many of the places ``of`` (m, 2), None: the same, are within ``reach`` of each place ``centre`` (n, 2) in
    both directions."""
    from scipy.spatial import KDTree

    tree = KDTree(centre if of is None else of)
    return np.asarray(tree.query_ball_point(centre, reach, p=np.inf, return_length=True))


def sure(
    odds: NDArray[np.float64],
    centre: NDArray[np.float64],
    least: float,
    reach: int | None,
    counts: NDArray[np.intp] | None = None,
) -> NDArray[np.bool_]:
    """Which of n candidates are surer than their surroundings demand.

    odds : (n,) mean log odds of each. centre : (n, 2) row, col of the middle of its box. A candidate has to exceed
    ``least`` + log(m), where m counts the candidates that are not sure and whose centres are within ``reach`` pixels
    of its own in both directions, itself included; None: ``least`` alone. counts : what :func:`around` says of all,
    where it is known.

    Where m things look like a target and few of them can be one, each has 1/m of the prior odds. Those found sure drop
    out of the count, as in Holm's step-down procedure (A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6, 1979), here within ``reach``: many true targets do not hide each other.
    """
    if reach is None:
        return np.asarray(odds > least)
    found = np.zeros(len(odds), bool)
    left = np.flatnonzero(odds > least)  # all that can become sure; the others do no more than count
    if not left.size:
        return found
    m = around(centre[left], reach, centre) if counts is None else counts[left]
    while (new := odds[left] > least + np.log(m)).any():
        gone, left, m = left[new], left[~new], m[~new]
        found[gone] = True
        m = m - around(centre[left], reach, centre[gone])
    return found


@dataclass(frozen=True)
class Rule:
    """What is a target among scores: an 8-connected component of pixels with score > threshold, whose mean log odds are
    above those of ``confidence`` and which has ``min_area`` to ``max_area`` pixels.

    Two thresholds as Canny's (PAMI 1986): the lower one says how far a target reaches, the higher one whether there is
    one; not by its best pixel, but by all of them, because large bright clutter has one good pixel easily. confidence :
    anything below ``threshold`` becomes that, and asks nothing more. max_area : None for any size. reach : pixels
    around a component within which others make it less sure, see :func:`sure`; None asks each on its own.
    """

    threshold: float
    confidence: float = 0.0
    max_area: int | None = None
    min_area: int = 1
    reach: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", max(self.threshold, self.confidence))

    def asked(self, threshold: float | None, confidence: float | None, max_area: int | None, reach: int | None) -> Rule:
        """This rule with what is asked for in place of its own: None leaves its own, a threshold given without a
        confidence is a plain one, asked of each component on its own, a ``max_area`` of 0 any number of pixels, and a
        ``reach`` of 0 none."""
        plain = threshold is not None and confidence is None
        if reach is None:
            reach = None if plain else self.reach
        if confidence is None:
            confidence = self.confidence if threshold is None else threshold
        return Rule(
            self.threshold if threshold is None else threshold,
            confidence,
            (self.max_area if max_area is None else max_area) or None,
            self.min_area,
            reach or None,
        )

    @property
    def odds(self) -> float | None:
        """What the mean log odds of a target's pixels must exceed; None where each pixel's exceed it anyway."""
        plain = self.confidence <= self.threshold and self.reach is None
        return None if plain else float(log_odds(self.confidence))

    def keeps(self, area: NDArray[Any], odds: NDArray[Any], centre: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether components (n,), all those of pixels above the threshold in an image, are targets, by their pixels,
        the sums of these pixels' log odds and the middles (n, 2) of their boxes."""
        kept = area >= self.min_area
        kept = kept if self.odds is None else kept & sure(odds / area, centre, self.odds, self.reach)
        return np.asarray(kept if self.max_area is None else kept & (area <= self.max_area))

    def detected(self, score: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Target pixels, bool (H, W), of scores (H, W)."""
        from scipy import ndimage

        mask = np.asarray((score > self.threshold) & valid)
        if self.odds is None and self.max_area is None and self.min_area <= 1:
            return mask
        labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int32))
        of = labels[mask] - 1
        area, odds = np.bincount(of, minlength=count), np.bincount(of, log_odds(score[mask]), count)
        centre = np.empty((count, 2)) if self.reach is None else middles(labels)
        return np.asarray(np.append(False, self.keeps(area, odds, centre))[labels])

    def as_dict(self) -> dict[str, float | int | None]:
        """What there is under the names that reports and summaries have for it; a smallest area where there is one."""
        least = {"min_area_px": self.min_area} if self.min_area > 1 else {}
        main = {"threshold": self.threshold, "confidence": self.confidence}
        return main | {"max_area_px": self.max_area, "reach_px": self.reach} | least


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
