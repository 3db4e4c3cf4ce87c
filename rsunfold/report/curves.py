"""Curves of an evaluation and of a training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError
from rsunfold.report.drawing import COLOURS, DPI, Array, curve_style, save
from rsunfold.report.settings import drawn


@drawn
def roc_picture(
    path: Path,
    curves: Mapping[str, tuple[Array, Array]],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
    fa_label: str = "false alarm rate Fa",
    overwrite: bool = False,
) -> None:
    """Receiver operating characteristics, 900 x 700 pixels, with a logarithmic axis of false alarms.

    curves : name -> (Fa, Pd), both in [0, 1] and of one length, in any order, joined by straight lines (bent here by
        the logarithm), as the area under them is; what is detected without any false alarm stands at the left edge.
    points : name -> (Fa, Pd) of the rule in use, marked. It lies beside the curve of its scores where the rule is more
        than a threshold, and alone where masks have no curve.
    Raises OutputError when the file exists and ``overwrite`` is False.
    """
    from matplotlib.figure import Figure

    points = points or {}
    rates = [*(fa for fa, _ in curves.values()), np.array([fa for fa, _ in points.values()])]
    positive = [float(f) for fa in rates for f in np.ravel(fa) if f > 0]
    floor = min([1e-3, *positive]) / 2  # of a perfect detector only 1 is above 0
    fig = Figure(figsize=(9, 7), dpi=DPI, layout="constrained")
    axes = fig.subplots()
    for i, (name, (fa, pd)) in enumerate(curves.items()):
        order = np.lexsort((pd, fa))
        colour, style = curve_style(i)
        x, y = _joined(np.asarray(fa, float)[order], np.asarray(pd, float)[order], floor)
        axes.plot(x, y, style, color=colour, label=name, linewidth=1.8)
        if name in points:
            axes.plot(max(points[name][0], floor), points[name][1], "o", color=colour, markersize=7)
    for i, name in enumerate((name for name in points if name not in curves), start=len(curves)):
        axes.plot(max(points[name][0], floor), points[name][1], "D", color=curve_style(i)[0], label=name)
    axes.set(
        xscale="log",
        xlim=(floor, max(positive, default=1.0)),
        ylim=(0, 1.02),
        xlabel=fa_label,
        ylabel="probability of detection Pd",
    )
    axes.set_title(title)
    axes.grid(which="major", alpha=0.4)
    if points:
        axes.plot([], [], "o", color="0.3", markersize=7, label="rule in use")
    if curves:
        axes.legend(loc="lower right")
    save(fig, path, overwrite)


def _joined(fa: Array, pd: Array, floor: float) -> tuple[Array, Array]:
    """Corners of rising fa, and points between on the straight lines, close enough for a logarithmic axis from floor.

    Corners one above the other, such as those without any false alarm, are no function, and stay as they are.
    """
    between = np.setdiff1d(np.geomspace(floor, max(floor, fa[-1]), 500), fa)
    x = np.concatenate([np.maximum(fa, floor), between])
    y = np.concatenate([pd, np.interp(between, fa, pd)])
    order = np.lexsort((y, x))
    return x[order], y[order]


@dataclass(frozen=True)
class Course:
    """How figures of one model change with what is varied: over (n,); figures (n,) by name, None where undefined."""

    over: Sequence[float]
    figures: Mapping[str, Sequence[float | None]]


Courses = dict[str, Course]
"""By model."""


def draw_courses(line: Sequence[Any], courses: Courses, label: str, *, legend: bool) -> None:
    """One panel per figure with a curve for each model; rates of false alarms, ``Fa``, on a logarithmic axis.

    line : as many axes as there are figures. A rate of 0 is an open triangle at the lower edge, larger for each model,
    so that none hides another.
    """
    names = list(dict.fromkeys(name for course in courses.values() for name in course.figures))
    for axes, name in zip(line, names, strict=True):
        rate, title = name == "Fa", name
        for i, (model, course) in enumerate(courses.items()):
            x = np.asarray(course.over, float)
            y = np.array([np.nan if v is None else v for v in course.figures.get(name, ())], float)
            colour, dash = curve_style(i)
            axes.plot(
                x, np.where(y > 0, y, np.nan) if rate else y, dash,
                color=colour, marker="o", markersize=4, linewidth=1.7, label=model,
            )  # fmt: skip
            if rate:
                none = x[y == 0]
                title = f"{name} (▼ 0)" if none.size else title
                low = np.full(none.size, 0.03)
                axes.plot(
                    none, low, "v", color=colour, markersize=7 + 4 * i, transform=axes.get_xaxis_transform(),
                    markerfacecolor="none", markeredgewidth=1.5,
                )  # fmt: skip
        if rate:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.02)
        axes.set(title=title, xlabel=label)
        if all(float(v).is_integer() for course in courses.values() for v in course.over):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.4)
    if legend and len(line):
        line[0].legend(loc="best", fontsize=9)


VALIDATION = {"val_iou": "validation IoU", "val_psnr": "validation PSNR (dB)"}
"""Columns of logs that are drawn, the score of other tasks beside them, and what their axes are called."""


@drawn
def training_picture(
    path: Path, log: Path, *, figure: str = "val_iou", title: str = "", overwrite: bool = False
) -> None:
    """The course of a training, 900 x 700 pixels: training loss and a figure of the validation against the step.

    log : CSV with the columns ``step`` and ``train_loss`` or ``figure`` or both; empty cells are left out. The weights
    kept are those of the highest ``val_score``, or figure in a log without it.
    Raises InputError when the log cannot be read or holds none of the two, OutputError when
    the file exists and ``overwrite`` is False.
    """
    from matplotlib.figure import Figure

    series = {
        "train_loss": ("training loss", _read_series(log, "train_loss")),
        figure: (VALIDATION.get(figure, "validation score"), _read_series(log, figure)),
    }
    present = {name: s for name, s in series.items() if s[1].size}
    if not present:
        raise InputError(f"{log} has no column 'train_loss' or '{figure}' with a 'step'; give a training log.")
    fig = Figure(figsize=(9, 7), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    for axes, (name, (label, xy)) in zip(
        fig.subplots(len(present), 1, sharex=True, squeeze=False)[:, 0], present.items(), strict=True
    ):
        axes.plot(*xy, color=COLOURS[0 if name == "train_loss" else 1], marker="." if xy.shape[1] < 60 else "")
        axes.set_ylabel(label)
        axes.grid(alpha=0.4)
        if name == "train_loss" and (xy[1] > 0).all():
            axes.set_yscale("log")
        if name == figure:
            score = dict(_read_series(log, "val_score").T.tolist())
            step, value = max(xy.T.tolist(), key=lambda point: score.get(point[0], point[1]))
            axes.plot(step, value, "o", color=COLOURS[1], label=f"weights kept: {value:.4f} at step {step:g}")
            axes.legend(loc="lower right")
    axes.set_xlabel("step")
    save(fig, path, overwrite)


def _read_series(log: Path, column: str) -> NDArray[np.float64]:
    """(2, n): steps and the values of a column, without the rows in which either is empty or NaN."""
    try:
        with log.open(newline="", encoding="utf-8") as file:
            cells = [(row.get("step"), row.get(column)) for row in csv.DictReader(file)]
        pairs = np.array([(float(e), float(v)) for e, v in cells if e and v]).reshape(-1, 2)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{log} cannot be read as the CSV log of a training: {error}.") from error
    known: NDArray[np.float64] = pairs[np.isfinite(pairs).all(axis=1)].T
    return known
