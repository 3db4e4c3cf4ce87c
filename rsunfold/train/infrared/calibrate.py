"""From logits to scores: a temperature that makes the score a probability, and two thresholds for all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize_scalar
from scipy.special import expit

from rsunfold.io.samples import LabelledImage
from rsunfold.metrics.components import Components
from rsunfold.rule import Rule, around, log_odds, middles, sure

QUIET = 0.9
"""Least share of target-free images that a rule has to leave without any detection."""
REACHES = (None, 128)
"""Pixels around a component within which others make it less sure (:func:`rsunfold.rule.sure`), of which
the better ones are taken."""
Result = tuple[LabelledImage, NDArray[np.float32]]
"""An image and its logits (H, W)."""


@dataclass(frozen=True)
class Calibration:
    """score = sigmoid(logit / temperature), and the rule that says what is a target among scores.

    score : geometric mean over the sets with targets of the pooled IoU by the rule, 0.1 of the share of target-free
    images without detection added; what the best weights are chosen by. silent : that share, None without such images.
    """

    temperature: float
    rule: Rule
    score: float
    silent: float | None

    @property
    def record(self) -> dict[str, Any]:
        """What the record of the weights says of it."""
        return {**self.rule.settings, "temperature": self.temperature}

    def score_of(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of logits."""
        return np.asarray(expit(logits / np.float32(self.temperature)), np.float32)


def temperature_of(results: list[Result]) -> float:
    """The temperature that minimises the mean cross-entropy of sigmoid(logit / temperature) over all pixels that count.

    At least 0.1: on few images, which logits separate without an error, it would go to 0.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    edges = np.sinh(np.linspace(-12, 12, 4001))
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.zeros((2, middle.size))
    for image, logits in results:
        for y in (0, 1):
            chosen = image.counted & (image.truth == bool(y))
            counts[y] += np.histogram(logits[chosen].clip(edges[0], edges[-1]), edges)[0]

    def loss(log_t: float) -> float:
        z = middle / np.exp(log_t)
        return float((counts[1] @ np.logaddexp(0, -z) + counts[0] @ np.logaddexp(0, z)) / counts.sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.3, 7.0), method="bounded").x))


def largest_area(truths: list[NDArray[np.bool_]], share: float = 0.995) -> int | None:
    """The area in pixels that no more than 1 - ``share`` of the targets in masks (H, W) exceed; None where there are
    too few targets for some to exceed it, which say little of the next ones, but for a ``share`` of 1.

    What a detector finds beyond it is hardly a small target: bright clouds and buildings of thousands of pixels weigh
    more in the pooled IoU than all targets of a set.
    """
    areas = np.concatenate([np.empty(0, int), *(Components.of(truth).area for truth in truths)])
    enough = areas.size * (1 - share) >= 1 or (share == 1 and areas.size)
    return int(np.quantile(areas, share, method="higher")) if enough else None


def calibrate(
    results: list[Result],
    max_area: int | None = None,
    quiet: float = QUIET,
    reaches: Sequence[int | None] = REACHES,
) -> Calibration:
    """Temperature, threshold and confidence from validation results: the rule looks at what is valid, of which what is
    known counts.

    Of all pairs threshold <= confidence of a grid with each of ``reaches`` (see :class:`Rule`), the rule with the best
    geometric mean of the pooled IoU over the sets with targets among those that leave at least ``quiet`` of the
    target-free images without any detection; where none does, among those that leave most. Components of more than
    ``max_area`` pixels are no targets.
    """
    t = temperature_of(results)
    grid = np.unique(np.round(expit(np.arange(-2.5, 9.0, 0.1)), 4))
    high = log_odds(grid)
    lows = range(0, int((grid < 0.97).sum()), 5)
    groups = sorted({image.sample.group for image, _ in results if image.targets.any()})
    tp, fp = np.zeros((2, len(reaches), len(lows), len(groups), high.size))
    targets = np.zeros(len(groups))
    silent = []
    for image, logits in results:
        group, counted, truth = image.sample.group, image.counted, image.targets
        quiet_at = np.ones((len(reaches), len(lows), high.size), bool)
        counts = group in groups
        g = groups.index(group) if counts else 0
        if counts:
            targets[g] += truth.sum()
        odds = log_odds(expit(logits / np.float32(t)).astype(np.float32))
        for i, low in enumerate(lows):
            labels, count = ndimage.label((odds > high[low]) & image.valid, np.ones((3, 3)))
            inside, judged = (np.bincount(labels[part], minlength=count + 1)[1:] for part in (truth, counted))
            area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
            total = np.bincount(labels.ravel(), odds.ravel(), count + 1)[1:]
            mean, middle = total / area, middles(labels)
            for r, reach in enumerate(reaches):
                above = np.zeros((count, high.size), bool)  # Rule.keeps, for all confidences of the grid
                near = None if reach is None else around(middle, reach)
                for n in np.flatnonzero(high < mean.max(initial=-np.inf)):
                    above[:, n] = sure(mean, middle, float(high[n]), reach, near)
                if max_area is not None:
                    above &= (area <= max_area)[:, None]
                quiet_at[r, i] = ~above[judged > 0].any(axis=0)
                if counts:
                    tp[r, i, g] += inside @ above
                    fp[r, i, g] += (judged - inside) @ above
        if counted.any() and not truth.any():
            silent.append(quiet_at)
    iou = tp / np.maximum(targets[:, None] + fp, 1)
    shape = (len(reaches), len(lows), high.size)
    iou = np.exp(np.log(np.maximum(iou, 1e-9)).mean(axis=2)) if groups else np.zeros(shape)
    iou[:, np.array(lows)[:, None] > np.arange(high.size)] = -1  # a confidence below the threshold is no pair
    share = np.mean(silent, axis=0) if silent else np.ones(shape)
    allowed = share >= min(quiet, share.max())
    r, i, j = (int(n) for n in np.unravel_index(np.argmax(np.where(allowed, iou, -2)), iou.shape))
    score, silence = float(iou[r, i, j] + 0.1 * share[r, i, j]), float(share[r, i, j])
    rule = Rule(float(grid[lows[i]]), float(grid[j]), max_area, reach=reaches[r])
    return Calibration(t, rule, score, silence if silent else None)
