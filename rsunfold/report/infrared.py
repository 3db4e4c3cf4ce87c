"""Pictures of small targets in infrared images, and of the stages of the network that found them.

Images are shown on a grey scale from the 0.5th to the 99.9th percentile of their finite values, unless one is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rsunfold.arrays import Mask
from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.report.curves import Courses, draw_courses
from rsunfold.report.drawing import (
    DPI,
    INSET,
    PREDICTION,
    TRUTH,
    Array,
    crowding,
    draw_boxes,
    draw_outline,
    finite,
    inset_window,
    save,
    show,
    show_difference,
    show_image,
    square,
    stretch,
)
from rsunfold.report.settings import drawn

if TYPE_CHECKING:
    from rsunfold.targets import Target

STAGE_LETTERS = {"B": "B background", "T": "T target", "N": "N noise", "D": "D reconstruction"}
_MOST_INSETS = 4
_WIDE = 4  # times longer than high or the other way round
STRIP = 80  # pixels of the image that a strip of images shows along each side


@drawn
def quicklook(
    path: Path,
    image: Array,
    score: Array,
    mask: Mask,
    targets: Sequence[Target],
    *,
    shape: tuple[int, int],
    read: Callable[[Window], Array],
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> None:
    """The image with its targets boxed and numbered, the score map beside it, the strongest targets enlarged below.

    image, score, mask : (h, w) grey values, score and target mask, NaN where there is no data; of a large image a
        decimated copy. shape : (rows, cols) of the image that the targets' pixels refer to, (h, w) unless it was
        decimated.
    read : gives the (height, width) grey values of a Window of the full image, for the four targets of highest peak.
    limits : the grey values shown as black and white, so that pictures of a series compare; None for those of this
        image. Enlarged targets keep their own, or a faint one would not be seen.

    The picture is 1400 pixels wide; its height follows the image. Raises OutputError when the file exists.
    """
    from matplotlib.figure import Figure

    rows, cols = shape
    strongest = sorted(targets, key=lambda t: -t.peak)[:_MOST_INSETS]
    wide = cols > _WIDE * rows  # panels below each other, so that there is something to see of a strip
    panel = 2 * max(0.8, 12.5 * rows / cols) + 1.4 if wide else 6.4 * min(1.4, max(0.25, rows / cols))
    inset = 4.0 if strongest else 0.0
    fig = Figure(figsize=(14, round(panel + 1.1 + inset, 2)), dpi=DPI, layout="constrained")
    heights = [panel + 0.8, inset] if strongest else [1.0]
    top, *below = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    fig.suptitle(title, fontsize=13)

    left, right = top.subplots(2, 1) if wide else top.subplots(1, 2)
    show_image(left, image, shape, limits=limits)
    count = f"{len(targets)} target{'' if len(targets) == 1 else 's'}"
    left.set_title(f"image, {rows} × {cols} pixels: {count}")
    draw_boxes(left, targets, min(0.025 * max(rows, cols), 0.5 * min(rows, cols)))
    shown = show(right, score, "magma", (0.0, 1.0), shape)
    right.set_title("score, target mask" if rows > _WIDE * cols else "score, outlines of the target mask")
    draw_outline(right, mask, TRUTH, shape, width=1.5 * crowding(len(targets)))
    top.colorbar(shown, ax=right, shrink=0.9, pad=0.02)
    for axes in (right,) if wide else (left, right):
        axes.set_xlabel("column")
    for axes in (left, right) if wide else (left,):
        axes.set_ylabel("row")
    if below:
        _insets(below[0], strongest, read, shape)
    save(fig, path)


def _insets(figure: Any, targets: Sequence[Target], read: Callable[[Window], Array], shape: tuple[int, int]) -> None:
    for axes, target in zip_longest(figure.subplots(1, _MOST_INSETS), targets):
        if target is None:
            axes.set_axis_off()
            continue
        window = inset_window(target, *shape)
        show_image(axes, read(window), (window.height, window.width), (window.row, window.col))
        draw_boxes(axes, [target], 7, label=False)
        contrast = f", SCR {target.scr:.3g}" if math.isfinite(target.scr) else ""
        axes.set_title(f"target {target.id}: peak {target.peak:.3g}{contrast}", fontsize=10)


@dataclass(frozen=True)
class Case:
    """One image of a test set for :func:`worst_images`: image (h, w) grey, truth and prediction (h, w) bool; shown :
    what the image is."""

    name: str
    image: Array
    truth: Mask
    prediction: Mask
    iou: float
    shown: str = "image"


@drawn
def worst_images(path: Path, cases: Sequence[Case], *, title: str = "", overwrite: bool = False) -> None:
    """One row per case: the image, then enlarged the truth's and the prediction's outline; IoU beside it.

    The enlarged part holds every pixel of truth and prediction; it is the whole image when there is none. The picture
    is 1000 pixels wide and 330 pixels high for each case, plus 60. Raises InputError for no case, OutputError when
    the file exists and ``overwrite`` is False.
    """
    from matplotlib.figure import Figure

    if not cases:
        raise InputError(f"there is no image to show in {path.name}; evaluate at least one.")
    fig = Figure(figsize=(10, 3.3 * len(cases) + 0.6), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    for case, line in zip(cases, fig.subplots(len(cases), 3, squeeze=False), strict=True):
        zoom = _zoom(case)
        corner, size = (zoom.row, zoom.col), (zoom.height, zoom.width)
        show_image(line[0], case.image, case.image.shape)
        draw_outline(line[0], case.truth, TRUTH, case.image.shape)
        draw_outline(line[0], case.prediction, PREDICTION, case.image.shape)
        line[0].set(title=f"{case.shown}, both outlines", ylabel=f"{case.name}\nIoU {case.iou:.3f}")
        for axes, name, mask, colour in (
            (line[1], "truth", case.truth, TRUTH),
            (line[2], "prediction", case.prediction, PREDICTION),
        ):
            show_image(axes, case.image[zoom.slices], size, corner)
            draw_outline(axes, mask[zoom.slices], colour, size, corner)
            axes.set_title(f"{name}: {int(mask.sum())} pixels")
    save(fig, path, overwrite)


@drawn
def study_picture(
    path: Path,
    studies: Mapping[str, Courses],
    strips: Mapping[str, Sequence[Case]] | None = None,
    *,
    title: str = "",
    example: str = "",
    overwrite: bool = False,
) -> None:
    """How figures change with what is varied: one row of panels for each thing varied, a curve for each model.

    studies : label of the axis -> model -> :class:`Course`. strips : under the panels of that label, one image at each
    level, by the names of the cases, with the outlines of truth and prediction; the part around a target. example : the
    name of that image.

    The picture is 1400 pixels wide; 330 high for each row of panels, about 290 more for a row of images, and 50. Raises
    InputError for no study, OutputError when the file exists and ``overwrite`` is False.
    """
    from matplotlib.figure import Figure

    if not studies:
        raise InputError(f"there is nothing to show in {path.name}; give at least one case.")
    strips = strips or {}
    heights = [h for label in studies for h in (3.3, 2.9) if h == 3.3 or label in strips]
    fig = Figure(figsize=(14, sum(heights) + 0.5), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    parts = iter(fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    for number, (label, courses) in enumerate(studies.items()):
        count = len(dict.fromkeys(name for course in courses.values() for name in course.figures))
        draw_courses(next(parts).subplots(1, count, squeeze=False)[0], courses, label, legend=number == 0)
        if label in strips:
            _strip(next(parts), strips[label], example)
    save(fig, path, overwrite)


def _strip(figure: Any, cases: Sequence[Case], example: str) -> None:
    """The same part of an image at each level: around a target that is found in the first, or else any."""
    first = cases[0]
    rows, cols = first.image.shape
    found = np.argwhere(first.truth & first.prediction)
    pixels = found if len(found) else np.argwhere(first.truth)
    centre = pixels[len(pixels) // 2] if len(pixels) else (rows // 2, cols // 2)
    part = square((int(centre[0]), int(centre[1])), STRIP, rows, cols)
    corner, size = (part.row, part.col), (part.height, part.width)
    limits = stretch(first.image[part.slices])
    figure.suptitle(f"{example}: outlines of truth (green) and prediction (orange)", fontsize=9)
    for case, axes in zip_longest(cases, figure.subplots(1, max(4, len(cases)), squeeze=False)[0]):
        if case is None:
            axes.set_axis_off()
            continue
        show(axes, case.image[part.slices], "gray", limits, size, corner)
        draw_outline(axes, case.truth[part.slices], TRUTH, size, corner)
        draw_outline(axes, case.prediction[part.slices], PREDICTION, size, corner)
        axes.set_title(f"{case.name}: IoU {case.iou:.2f}", fontsize=10)
        axes.set(xticks=[], yticks=[])


def _zoom(case: Case) -> Window:
    rows, cols = case.image.shape
    r, c = np.nonzero(case.truth | case.prediction)
    if not r.size:
        return Window(0, 0, rows, cols)
    height, width = int(np.ptp(r)) + 1, int(np.ptp(c)) + 1
    size = max(INSET, height + 12, width + 12)
    return square((int(r.min()) + height // 2, int(c.min()) + width // 2), size, rows, cols)


@drawn
def stages_picture(
    path: Path,
    stages: Sequence[Mapping[str, Array]],
    *,
    notes: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """What an unrolled network computes: one row per stage, columns B, T, N, D as far as the network has them.

    stages : per stage a mapping from letter to (h, w) array; letters that a stage did not compute stay blank. B and D
    are grey, T and N run from blue (negative) over white (0) to red, each on its own scale, stated below it with the
    least and largest value. notes :
    text that stands to the right of each stage, or None.

    The picture is 250 pixels wide for each column, plus 60, and 220 more for notes, and 250 pixels high for each stage,
    plus 60. Raises InputError when no stage holds any of the letters, OutputError when the file exists.
    """
    from matplotlib.figure import Figure

    letters = [letter for letter in STAGE_LETTERS if any(letter in stage for stage in stages)]
    if not letters:
        raise InputError(f"no stage was recorded for {path.name}; choose an unrolled network.")
    columns = [2.5] * len(letters) + [2.2] * (notes is not None)
    fig = Figure(figsize=(sum(columns) + 0.6, 2.5 * len(stages) + 0.6), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    grid = fig.subplots(len(stages), len(columns), squeeze=False, width_ratios=columns)
    for axes, note in zip(grid[:, -1], notes or (), strict=notes is not None):
        axes.set_axis_off()
        axes.text(0, 1, note, va="top", fontsize=9, linespacing=1.15, transform=axes.transAxes)
    for k, (stage, line) in enumerate(zip(stages, grid, strict=True), start=1):
        for letter, axes in zip(letters, line, strict=notes is None):
            if k == 1:
                axes.set_title(STAGE_LETTERS[letter], fontsize=11)
            if letter not in stage:
                axes.set(xticks=[], yticks=[], frame_on=False)
                continue
            data = stage[letter]
            if letter in "BD":
                show_image(axes, data, data.shape)
            else:
                largest = float(np.abs(finite(data)).max()) or 1.0
                show_difference(axes, data, largest, data.shape)
            axes.set(xticks=[], yticks=[])
            low, high = axes.images[-1].get_clim()
            values, scale = f"{finite(data).min():.3g} to {finite(data).max():.3g}", f"{low:.3g} to {high:.3g}"
            axes.set_xlabel(f"{values}\n(colours: {scale})".replace("-", "−"), fontsize=8)
        line[0].set_ylabel(f"stage {k}")
    save(fig, path)
