"""What is a target among scores: thresholds, size, and how many other candidates there are around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import UsageError

TAGS = tuple(f"RSUNFOLD_{name}" for name in ("THRESHOLD", "CONFIDENCE", "MAX_AREA", "MIN_AREA", "REACH"))
"""Tags of a raster that hold a rule, in this order."""


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
class Asked:
    """What a user wants instead of a model's own :class:`Rule`.

    None leaves its own. A threshold given without a confidence is a plain one, asked of each component on its own. A
    ``max_area`` of 0 is any number of pixels, a ``reach`` of 0 none. Raises UsageError for numbers that no score or
    target can have.
    """

    threshold: float | None = None
    confidence: float | None = None
    max_area: int | None = None
    reach: int | None = None

    def __post_init__(self) -> None:
        for option, value in (("--threshold", self.threshold), ("--confidence", self.confidence)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{option} must lie between 0 and 1, not {value}.")
        if self.max_area is not None and self.max_area < 0:
            raise UsageError(f"--max-area must be 0 (no limit) or at least 1, not {self.max_area}.")
        if self.reach is not None and self.reach < 0:
            raise UsageError(f"--reach must be 0 (each group is judged alone) or more, not {self.reach}.")


ITS_OWN = Asked()
"""Nothing: the rule is the model's own."""
SETTINGS = tuple(f.name for f in fields(Asked))
"""What is chosen of a rule, by users and by calibration."""


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
        # Scores of float32 are compared with a number of Python as float32, with a double of NumPy as float64.
        object.__setattr__(self, "threshold", float(self.threshold))
        object.__setattr__(self, "confidence", max(self.threshold, float(self.confidence)))

    def asked(self, given: Asked) -> Rule:
        """This rule with what is asked for in place of its own; see :class:`Asked`."""
        plain = given.threshold is not None and given.confidence is None
        threshold = self.threshold if given.threshold is None else given.threshold
        confidence = self.confidence if given.threshold is None else threshold
        reach = None if plain else self.reach
        return Rule(
            threshold,
            confidence if given.confidence is None else given.confidence,
            (self.max_area if given.max_area is None else given.max_area) or None,
            self.min_area,
            (reach if given.reach is None else given.reach) or None,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The SETTINGS of the rule, as users give them and as the records of weights keep them."""
        return {name: getattr(self, name) for name in SETTINGS}

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

    @property
    def tags(self) -> dict[str, str]:
        """The rule as tags of a raster; see :meth:`of_tags`."""
        least = self.min_area if self.min_area > 1 else None
        values = (self.threshold, self.confidence, self.max_area, least, self.reach)
        return {tag: str(value) for tag, value in zip(TAGS, values, strict=True) if value is not None}

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Rule:
        """The rule that the tags of a raster name, a threshold of 0.5 where they name none."""
        threshold, confidence, most, least, reach = (
            float(tags.get(tag, other)) for tag, other in zip(TAGS, (0.5, 0, 0, 1, 0), strict=True)
        )
        return cls(threshold, confidence, int(most) or None, int(least), int(reach) or None)

    def as_dict(self) -> dict[str, float | int | None]:
        """What there is under the names that reports and summaries have for it; a smallest area where there is one."""
        least = {"min_area_px": self.min_area} if self.min_area > 1 else {}
        main = {"threshold": self.threshold, "confidence": self.confidence}
        return main | {"max_area_px": self.max_area, "reach_px": self.reach} | least
