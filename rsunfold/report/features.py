"""Pictures of chosen features: where they lie on the mean spectrum, how redundant they are, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.errors import InputError
from rsunfold.report.drawing import COLOURS, DPI, Array, curve_style, save, show
from rsunfold.report.settings import drawn
from rsunfold.report.spectral import BandAxis, say_if_empty

_SPECTRUM, _CHOSEN = "#404040", COLOURS[1]
_MOST_TICKS = 24


@drawn
def selection_picture(
    path: Path,
    mean: Array,
    deviation: Array,
    chosen: Sequence[int],
    correlation: Array,
    *,
    wavelengths: Sequence[float] = (),
    names: Sequence[str] = (),
    noun: str = "band",
    title: str = "",
) -> None:
    """The mean spectrum and one standard deviation about it with the chosen bands marked, and their correlations.

    mean, deviation : (B,), NaN where a band took no part. chosen : (k,) zero-based, in the order in which the matrix
    shows them. correlation : (k, k) of the chosen, of which the absolute value is shown from 0 to 1. wavelengths :
    (B,) in nanometres, or nothing: then the axis is the number of the band, from 1, or its name of ``names`` (B,), see
    :class:`BandAxis`. noun : what a feature is called.

    The picture is 1500 x 620 pixels. Raises InputError when the sizes do not belong together, OutputError when the
    file exists.
    """
    from matplotlib.figure import Figure

    axis = BandAxis(len(mean), wavelengths, names)
    middle, deviation = axis.fitting(mean), axis.fitting(deviation)
    k = len(chosen)
    if not k or np.shape(correlation) != (k, k) or not all(0 <= i < axis.count for i in chosen):
        raise InputError(
            f"{path.name}: {k} chosen {noun}s of {axis.count} and correlations of shape {np.shape(correlation)} do not "
            "belong together."
        )
    fig = Figure(figsize=(15, 6.2), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    left, right = fig.subplots(1, 2, width_ratios=(1.75, 1))
    axis.spread(left, middle, deviation, color=_SPECTRUM, alpha=0.2, label="± std")
    axis.curve(left, middle, color=_SPECTRUM, linewidth=1.6, label="mean")
    x = axis.x[list(chosen)]
    for position in x:
        left.axvline(position, color=_CHOSEN, linewidth=0.9, alpha=0.55, zorder=1)
    left.plot(x, middle[list(chosen)], "o", color=_CHOSEN, markersize=5, label=f"{k} chosen")
    left.set_ylabel("value")
    axis.finish(left)
    if not axis.in_nm:
        left.set_xlabel(noun)
    say_if_empty(left, middle)
    left.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=9, frameon=False, borderaxespad=0.1)

    shown = show(right, np.abs(correlation), "magma", (0, 1), (k, k))
    _name_ticks(right, axis, chosen, noun)
    others = np.abs(correlation)[~np.eye(k, dtype=bool)]
    mean_of = f": mean {others.mean():.2f} between two of them" if k > 1 else ""
    right.set_title(f"|correlation|{mean_of}", fontsize=11)
    fig.colorbar(shown, ax=right, shrink=0.9, pad=0.015)
    save(fig, path)


def _name_ticks(axes: Any, axis: BandAxis, chosen: Sequence[int], noun: str) -> None:
    """Wavelengths, names or numbers of the chosen bands along both sides of their matrix, as many as fit."""
    step = -(-len(chosen) // _MOST_TICKS)
    places = list(range(0, len(chosen), step))
    names = [axis.names[chosen[p]] if axis.named else f"{axis.x[chosen[p]]:.0f}" for p in places]
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("wavelength (nm)" if axis.in_nm else noun)


@dataclass(frozen=True)
class Curve:
    """A figure over the number of features.

    numbers (n,), mean (n,), deviation (n,) of the repeats, 0 or NaN for a single one.
    """

    numbers: Sequence[int]
    mean: Sequence[float]
    deviation: Sequence[float]


@drawn
def feature_curves_picture(
    path: Path,
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    baselines: Mapping[str, float] | None = None,
    noun: str = "feature",
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Figures such as ACC over the number of chosen features: a panel for each figure, a curve for each model.

    panels : figure -> model -> Curve, in per cent. baselines : figure -> its value with all features, a dashed line.
    The bands are one standard deviation about the mean.

    The picture is 700 pixels wide for each panel and 560 high. Raises InputError for no curve, OutputError when the
    file exists and ``overwrite`` is False.
    """
    from matplotlib.figure import Figure

    if not panels or not all(panels.values()):
        raise InputError(f"there is no curve to show in {path.name}; give at least one model.")
    fig = Figure(figsize=(7 * len(panels), 5.6), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    for axes, (figure, curves) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for i, (model, curve) in enumerate(curves.items()):
            colour, dash = curve_style(i)
            y, spread = np.asarray(curve.mean, float), np.nan_to_num(np.asarray(curve.deviation, float))
            axes.fill_between(curve.numbers, y - spread, y + spread, color=colour, alpha=0.12, linewidth=0)
            label = model if axes.get_subplotspec().is_first_col() else ""
            axes.plot(curve.numbers, y, dash, color=colour, marker=".", linewidth=1.7, label=label)
        if baselines is not None and np.isfinite(baselines.get(figure, np.nan)):
            axes.axhline(baselines[figure], color="black", linewidth=1.2, linestyle=(0, (5, 3)))
            axes.text(
                1, baselines[figure], f"all {noun}s", transform=axes.get_yaxis_transform(), ha="right", va="bottom",
                fontsize=9,
            )  # fmt: skip
        axes.set(xlabel=f"number of {noun}s", ylabel=f"{figure} (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.4)
    fig.legend(loc="outside lower center", ncols=6, fontsize=9)
    save(fig, path, overwrite)
