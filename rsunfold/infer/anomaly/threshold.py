"""From scores to a mask: a threshold for a wanted false-alarm rate, a percentile, or one that is given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import UsageError
from rsunfold.scene import some_of

TAIL, CENSORED = 0.9, 0.99
"""Quantiles of the score between which the tail is fitted; above the second one anomalies may lie."""
MOST = 200_000
"""Most scores that a fit looks at."""
SHAPES = (-0.9, 0.5)
"""Least and largest xi: below -1 likelihood has no maximum, and a logarithm has no heavier tail than an exponential."""


@dataclass(frozen=True)
class Tail:
    """P(score > t) = share (1 + xi log(t / u) / sigma)^(-1 / xi) for t >= u, of the background.

    u in units of the score; share : of the scores that exceed u.
    """

    u: float
    share: float
    xi: float
    sigma: float

    def threshold(self, pfa: float) -> float:
        """The score that the background exceeds with probability ``pfa`` < share."""
        ratio = self.share / pfa
        excess = np.log(ratio) if abs(self.xi) < 1e-9 else (ratio**self.xi - 1) / self.xi
        return self.u * float(np.exp(self.sigma * excess))

    def as_dict(self) -> dict[str, Any]:
        """For the summary."""
        return {"model": "generalised Pareto distribution of log(score / u) above u", **asdict(self)}


def fit_tail(scores: NDArray[Any]) -> Tail | None:
    """The tail of the background's scores (n,), or None where they have none: nearly all are equal.

    Excesses over a high quantile follow a generalised Pareto distribution, whatever the distribution (Pickands, Annals
    of Statistics 3(1), 1975). Taken of the logarithm of the scores, for which 9 in 10 is high enough: scores after a
    top-hat are near 0 nearly everywhere, and those of RX have heavy tails. The fit is by maximum likelihood. Scores
    above the CENSORED quantile count as no more than that, for anomalies may be among them; anomalies below it make
    the tail heavier, the threshold higher and false alarms fewer than wanted.
    """
    from scipy.optimize import minimize

    s = np.asarray(scores, np.float64).ravel()
    s = s[some_of(s.size, MOST)]
    u, top = (float(q) for q in np.quantile(s, [TAIL, CENSORED]))
    share = float((s > u).mean())
    if u <= 0:  # a map that is 0 nearly everywhere: its tail begins with what is not
        u = float(s[s > 0].min(initial=np.inf))
        share = float((s > u).mean())
    if not top > u:
        return None
    unit = np.log(top / u)
    y = np.log(s[(s > u) & (s <= top)] / u) / unit
    beyond = int((s > top).sum())
    if y.size < 10:
        return None

    def cost(p: NDArray[np.float64]) -> float:
        xi, sigma = float(p[0]), float(np.exp(p[1]))
        if not SHAPES[0] <= xi <= SHAPES[1] or 1 + xi / sigma <= 0:
            return np.inf
        if abs(xi) < 1e-6:
            return float(y.size * p[1] + y.sum() / sigma + beyond / sigma)
        logs = np.log1p(xi * y / sigma)
        return float(y.size * p[1] + (1 + 1 / xi) * logs.sum() + beyond * np.log1p(xi / sigma) / xi)

    best = minimize(cost, np.array([0.1, np.log(y.mean())]), method="Nelder-Mead")
    return Tail(u, share, float(best.x[0]), float(np.exp(best.x[1]) * unit))


def choose_threshold(
    score: NDArray[Any], *, pfa: float | None = None, percentile: float | None = None, threshold: float | None = None
) -> tuple[float, dict[str, Any]]:
    """(threshold, how it was found) of a score map (rows, cols), NaN where not valid; a pixel is anomalous above it.

    pfa : wanted share of background pixels above the threshold, in (0, 0.5). percentile : of all valid scores, in
    (1, 100). threshold : itself, of 0 or more. Exactly one is given. Raises UsageError otherwise. For the first two,
    scores below 0 are counted from the smallest.
    """
    check_rule(pfa, percentile, threshold)
    if threshold is not None:
        return float(threshold), {"rule": "given"}
    known = score[np.isfinite(score)]
    if known.min() < 0:
        # The model of the tail is one of scores from 0; where those of another program begin is of no meaning.
        low = float(known.min())
        found, how = choose_threshold(known - low, pfa=pfa, percentile=percentile)
        return found + low, how | {"zero_point": low}
    if percentile is not None:
        return float(np.percentile(known, percentile)), {"rule": "percentile of all scores", "percentile": percentile}
    assert pfa is not None
    tail = fit_tail(known)
    about: dict[str, Any] = {"rule": "false-alarm rate of the background", "pfa": pfa}
    if tail is None or pfa >= tail.share:
        # A rate so high, or scores without a tail, need no model: the scores themselves say it.
        return float(np.quantile(known, 1 - pfa)), about | {"tail": None}
    return tail.threshold(pfa), about | {"tail": tail.as_dict()}


def check_rule(pfa: float | None, percentile: float | None = None, threshold: float | None = None) -> None:
    """Raise UsageError unless exactly one of the three is given and makes sense."""
    if [pfa, percentile, threshold].count(None) != 2:
        raise UsageError("use one of --pfa, --percentile and --threshold.")
    if pfa is not None and not 0 < pfa < 0.5:
        raise UsageError(f"--pfa must lie between 0 and 0.5, not {pfa}.")
    if percentile is not None and not 1 < percentile < 100:
        # Up to 1 nearly all of the image would be anomalous: a share was meant.
        meant = f"; for a share of {percentile:.12g} write {100 * percentile:.12g}" if 0.01 < percentile < 1 else ""
        raise UsageError(
            "--percentile must lie above 1 and below 100, such as 99 for the 1 % highest scores, "
            f"not {percentile:.12g}{meant}."
        )
    if threshold is not None and not 0 <= threshold < np.inf:
        raise UsageError(f"--threshold must be a score of 0 or more, not {threshold}.")
