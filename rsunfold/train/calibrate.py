"""From logits to scores: a temperature that makes the score a probability, and one threshold for all images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

Result = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], str]


@dataclass(frozen=True)
class Calibration:
    """score = sigmoid(logit / temperature), target where score > threshold.

    score : mean over the sets with targets of the pooled IoU at that threshold, 0.1 of the share of target-free images
    without detection added; what the best weights are chosen by. silent : that share.
    """

    temperature: float
    threshold: float
    score: float
    silent: float

    def score_of(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of logits."""
        return np.asarray(expit(logits / np.float32(self.temperature)), np.float32)


def temperature_of(results: list[Result]) -> float:
    """The temperature that minimises the mean cross-entropy of sigmoid(logit / temperature) over all valid pixels.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    edges = np.sinh(np.linspace(-12, 12, 4001))
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.zeros((2, middle.size))
    for logits, truth, valid, _ in results:
        for y in (0, 1):
            counts[y] += np.histogram(logits[valid & (truth == bool(y))].clip(edges[0], edges[-1]), edges)[0]

    def loss(log_t: float) -> float:
        z = middle / np.exp(log_t)
        return float((counts[1] @ np.logaddexp(0, -z) + counts[0] @ np.logaddexp(0, z)) / counts.sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-5.0, 7.0), method="bounded").x))


def calibrate(results: list[Result], quiet: float = 0.9) -> Calibration:
    """Temperature and threshold from validation results (logits, truth, valid, set), all (H, W).

    The threshold is the one with the best mean pooled IoU over the sets with targets among those that leave at least
    ``quiet`` of the target-free images without any detection; where none does, the one that leaves most.
    """
    t = temperature_of(results)
    scores = np.concatenate([np.linspace(0.02, 0.98, 49), [0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999]])
    cuts = t * np.log(scores / (1 - scores))
    groups = sorted({g for _, truth, _, g in results if truth.any()})
    tp, fp, fn = (np.zeros((len(groups), cuts.size)) for _ in range(3))
    silent = [logits[valid].max(initial=-np.inf) <= cuts for logits, truth, valid, _ in results if not truth.any()]
    for logits, truth, valid, group in results:
        if group in groups:
            g = groups.index(group)
            above = [np.sort(logits[valid & (truth == y)]) for y in (False, True)]
            found = [a.size - np.searchsorted(a, cuts, side="right") for a in above]
            tp[g] += found[1]
            fp[g] += found[0]
            fn[g] += above[1].size - found[1]
    iou = (tp / np.maximum(tp + fp + fn, 1)).mean(axis=0) if groups else np.zeros(cuts.size)
    share = np.mean(silent, axis=0) if silent else np.ones(cuts.size)
    allowed = share >= min(quiet, share.max())
    best = int(np.flatnonzero(allowed)[np.argmax(iou[allowed])])
    return Calibration(t, float(scores[best]), float(iou[best] + 0.1 * share[best]), float(share[best]))
