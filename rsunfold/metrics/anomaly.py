"""Figures of merit for the score map of an anomaly detector on one scene with known anomalies.

A the anomaly pixels and B the background pixels among the valid ones; s the score, larger where more anomalous;
t = (s - min s) / (max s - min s) over A and B, 0 everywhere for a constant score.

The areas under the three-dimensional ROC and what is made of them: Chang, An effective evaluation tool for
hyperspectral target detection: 3D receiver operating characteristic curve analysis, IEEE TGRS 59(6), 2021. The areas
over the threshold, which runs from 0 to 1, are the means of t. :data:`FORMULAS` has them all.

A figure whose denominator is zero is None, never an infinity. Every scene has its figures; nothing is averaged here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask
from rsunfold.errors import InputError
from rsunfold.metrics.counted import counted
from rsunfold.metrics.infrared import partial_auc

LIMITS = (0.01, 0.1)
"""Largest false-alarm rates of the partial areas."""
PERCENTILES = (10, 25, 50, 75, 90)
MOST = 2000
"""Corners of a curve, at least 4."""

FORMULAS = {
    "auc_df": "AUC(D,F) = P(s of A > s of B) + P(equal) / 2 over all pairs of an anomaly and a background pixel",
    "auc_dtau": "AUC(D,tau) = mean of t over A, t = (s - min s) / (max s - min s) over all valid pixels",
    "auc_ftau": "AUC(F,tau) = mean of t over B",
    "auc_td": "AUC_TD = AUC(D,F) + AUC(D,tau)",
    "auc_bs": "AUC_BS = AUC(D,F) - AUC(F,tau)",
    "auc_snpr": "AUC_SNPR = AUC(D,tau) / AUC(F,tau)",
    "auc_tdbs": "AUC_TDBS = AUC(D,tau) - AUC(F,tau)",
    "auc_odp": "AUC_ODP = AUC(D,F) + AUC(D,tau) - AUC(F,tau)",
    **{
        f"auc_pf_{limit:g}": f"area under PD over PF from 0 to {limit:g}, ties joined by a straight line, divided by "
        f"{limit:g}: 1 is perfect, {limit / 2:g} is chance"
        for limit in LIMITS
    },
    "gap": "P10 of t over A - P90 of t over B; percentiles interpolate linearly between the sorted values",
}

Values = NDArray[np.float64]


def detection(score: NDArray[Any], truth: Mask, valid: Mask | None = None) -> dict[str, Any]:
    """The figures of one score map, as a dictionary that ``json`` can write.

    score : (rows, cols), any real numbers. truth : bool (rows, cols), True at anomalies. valid : bool (rows, cols),
    False where a pixel is left out and its score not looked at; None when every pixel counts.

    Of the keys of FORMULAS all but ``gap`` lie at the top, floats: ``auc_df`` and the partial areas in [0, 1], exact
    but for the last rounding, ``auc_snpr`` None where the background scores 0 throughout. ``separability`` holds
    ``anomaly`` and ``background``, each a dictionary from ``p10`` to ``p90`` of t, and the ``gap``.
    ``anomaly_pixels``, ``background_pixels`` and ``left_out_pixels`` add up to the image.
    Raises InputError when shapes differ, a mask is not boolean, no anomaly or no background pixel is valid, or a
    valid score is NaN or infinite.
    """
    s, anomalous = _checked(score, truth, valid)
    found, alarms = _counts(s, anomalous)
    anomalies, background = int(found.sum()), int(alarms.sum())
    # Twice the pairs that are in order, counted in whole numbers: the area is rounded only once.
    below = background - np.cumsum(alarms)
    twice = int(np.sum(found * (2 * below + alarms)))
    df = twice / (2 * anomalies * background)

    low, spread = float(s.min()), float(np.ptp(s))
    t = (s - low) / spread if spread else np.zeros_like(s)
    dt, ft = float(t[anomalous].mean()), float(t[~anomalous].mean())
    quantiles = {
        name: {f"p{p}": float(q) for p, q in zip(PERCENTILES, np.percentile(part, PERCENTILES), strict=True)}
        for name, part in (("anomaly", t[anomalous]), ("background", t[~anomalous]))
    }
    pf, pd = np.cumsum(alarms)[::-1] / background, np.cumsum(found)[::-1] / anomalies
    return {
        "pixels": int(score.size),
        "anomaly_pixels": anomalies,
        "background_pixels": background,
        "left_out_pixels": int(score.size - s.size),
        "auc_df": df,
        "auc_dtau": dt,
        "auc_ftau": ft,
        "auc_td": df + dt,
        "auc_bs": df - ft,
        "auc_snpr": dt / ft if ft else None,
        "auc_tdbs": dt - ft,
        "auc_odp": df + dt - ft,
        **{f"auc_pf_{limit:g}": partial_auc(pf, pd, limit) for limit in LIMITS},
        "separability": {**quantiles, "gap": quantiles["anomaly"]["p10"] - quantiles["background"]["p90"]},
    }


def roc(score: NDArray[Any], truth: Mask, valid: Mask | None = None) -> tuple[Values, Values]:
    """(PF, PD), both (n,) and rising from 0 to 1: the corners of the ROC; arguments and errors as in detection().

    Joined by straight lines they are the ROC itself, unless it has more than MOST corners. Then the half of MOST with
    the smallest PF stay, and of the others as many as may, spread evenly over the logarithm of PF.
    """
    s, anomalous = _checked(score, truth, valid)
    found, alarms = (np.concatenate([[0], np.cumsum(counts)]) for counts in _counts(s, anomalous))
    flat = [np.concatenate([[False], (d[1:] == 0) & (d[:-1] == 0), [False]]) for d in (np.diff(found), np.diff(alarms))]
    corner = np.flatnonzero(~(flat[0] | flat[1]))
    if corner.size > MOST:
        exact = MOST // 2
        rest = np.log(alarms[corner[exact:]])  # the first two corners alone may have PF = 0
        wanted = np.searchsorted(rest, np.linspace(rest[0], rest[-1], MOST - exact - 1))
        corner = corner[np.unique(np.concatenate([np.arange(exact), exact + wanted, [corner.size - 1]]))]
    return alarms[corner] / alarms[-1], found[corner] / found[-1]


def _checked(score: NDArray[Any], truth: Mask, valid: Mask | None) -> tuple[Values, Mask]:
    """(n,) scores of the valid pixels and whether each is an anomaly, both kinds present."""
    valid = np.ones(truth.shape, dtype=bool) if valid is None else valid
    if score.ndim != 2 or not score.shape == truth.shape == valid.shape:
        raise InputError(
            f"a score map needs truth and valid mask of its own (rows, cols), got {score.shape}, {truth.shape} and "
            f"{valid.shape}."
        )
    if truth.dtype != np.bool_ or valid.dtype != np.bool_:
        raise InputError(f"truth and valid mask must be boolean, got {truth.dtype} and {valid.dtype}.")
    valid = counted(valid, score, truth)
    s, anomalous = np.ma.getdata(score)[valid].astype(np.float64), np.ma.getdata(truth)[valid]
    if not anomalous.any():
        raise InputError("no valid pixel is an anomaly in the truth; there is nothing to detect.")
    if anomalous.all():
        raise InputError("no valid pixel is background in the truth; there is nothing to compare anomalies with.")
    if not np.isfinite(s).all():
        raise InputError("the score is NaN or infinite at valid pixels; mark them as nodata.")
    return s, anomalous


def _counts(s: Values, anomalous: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Anomaly and background pixels at each distinct score, from the largest score down."""
    values, place = np.unique(s, return_inverse=True)
    found = np.bincount(place[anomalous], minlength=values.size)[::-1]
    alarms = np.bincount(place[~anomalous], minlength=values.size)[::-1]
    return found.astype(np.int64), alarms.astype(np.int64)
