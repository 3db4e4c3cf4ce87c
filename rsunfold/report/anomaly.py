"""Pictures of what a detector of anomalies finds: the scene with its score, how well scores separate, and spectra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.arrays import Mask
from rsunfold.errors import InputError
from rsunfold.metrics.components import Components
from rsunfold.report.drawing import (
    COLOURS,
    DPI,
    NO_DATA,
    PREDICTION,
    Array,
    curve_style,
    draw_outline,
    finite,
    save,
    show,
    show_difference,
    stretch,
)
from rsunfold.report.settings import drawn
from rsunfold.report.spectral import BandAxis, say_if_empty

MOST_SPECTRA = 8
_QUANTILES = ("p10", "p25", "p50", "p75", "p90")
_KINDS = {"anomaly": COLOURS[1], "background": COLOURS[0]}
_BACKGROUND = "#606060"
_GREY = ("background", "reconstruction")
_WIDE = 2.5  # columns / rows beyond which panels lie below, not beside one another
_DECADES = 4.0  # of the score below its maximum, at most
_SEEN = 5  # dots of the picture below which an object needs a ring to be seen
_RING = 14  # dots
_MOST_RINGS = 300  # more of them hide the picture


@drawn
def separability_picture(path: Path, boxes: Mapping[str, Mapping[str, Any]], *, title: str = "") -> None:
    """Scores of anomalies and of background, one pair of boxes per model: P25 to P75, median, whiskers P10 and P90.

    boxes : name -> ``separability`` of :func:`rsunfold.metrics.anomaly.detection`, or the mean of several, percentiles
        of scores scaled to [0, 1]. Beside each pair stands its gap, P10 of the anomalies - P90 of the background.

    The picture is 1000 pixels wide and 60 pixels high for each model, plus 130. Raises InputError for no model or a
    model without the percentiles, OutputError when the file exists.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not boxes:
        raise InputError(f"there is no score to show in {path.name}; give at least one model.")
    missing = [n for n, b in boxes.items() if any(q not in b.get(k, {}) for k in _KINDS for q in _QUANTILES)]
    if missing:
        raise InputError(f"{missing[0]} lacks percentiles P10 to P90 of anomaly and background scores.")
    fig = Figure(figsize=(10, 0.6 * len(boxes) + 1.3), dpi=DPI, layout="constrained")
    axes = fig.subplots()
    fig.suptitle(title)
    for kind, colour, offset in zip(_KINDS, _KINDS.values(), (-0.19, 0.19), strict=True):
        y = np.arange(len(boxes)) + offset
        ends = np.array([[box[kind][q] for q in _QUANTILES] for box in boxes.values()], float).T
        low, left, middle, right, high = ends
        axes.barh(y, right - left, 0.3, left, facecolor=(colour, 0.35), edgecolor=colour, linewidth=1.6)
        axes.hlines(np.tile(y, 2), np.append(low, right), np.append(left, high), color=colour, linewidth=1.6)
        axes.vlines(np.append(low, high), np.tile(y, 2) - 0.08, np.tile(y, 2) + 0.08, color=colour, linewidth=1.6)
        axes.vlines(middle, y - 0.15, y + 0.15, color=colour, linewidth=3)
    for i, box in enumerate(boxes.values()):
        gap = f"{box['anomaly']['p10'] - box['background']['p90']:+.3f}".replace("-", "−")
        axes.text(1.01, i, gap, transform=axes.get_yaxis_transform(), va="center")
    axes.text(1.01, -0.72, "gap", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    # RX and its like leave all scores but a few near 0
    end = max(box[kind]["p90"] for box in boxes.values() for kind in _KINDS) or 1.0
    axes.set(xlim=(-0.02 * end, 1.04 * end), ylim=(len(boxes) - 0.5, -0.5), xlabel="score, scaled to [0, 1]")
    axes.set_yticks(range(len(boxes)), list(boxes))
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)
    handles = [Patch(facecolor=(c, 0.35), edgecolor=c, label=kind) for kind, c in _KINDS.items()]
    fig.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    save(fig, path)


@drawn
def anomaly_quicklook(
    path: Path,
    image: Array,
    score: Array,
    mask: Mask,
    *,
    shape: tuple[int, int],
    pixels: int,
    objects: int,
    title: str = "",
) -> None:
    """The image with the mask outlined, and the score.

    image : (h, w) grey or (h, w, 3) red, green, blue, stretched to [0, 1]; score (h, w); NaN where there is no data.
        mask : (h, w). All of a large image may be decimated copies. shape : (rows, cols) of the image, (h, w)
        unless it was decimated. pixels, objects : of the whole mask, for its title.

    The score is on a logarithmic scale up to its maximum, over four decades at most; on a linear one where it is
    negative somewhere. Objects too small for their outline to be seen have a ring. Panels stand side by side, or one
    below the other for wide images. The picture is 1400 pixels wide; its height follows the image. Raises InputError
    when the sizes do not belong together, OutputError when the file exists.
    """
    from matplotlib.figure import Figure

    size = score.shape
    if len(size) != 2 or mask.shape != size or image.shape not in (size, (*size, 3)):
        raise InputError(
            f"{path.name}: image {image.shape}, score {size} and mask {mask.shape} do not have the same rows and "
            "columns."
        )
    rows, cols = shape
    wide = cols > _WIDE * rows
    width = 12.8 if wide else 5.8
    panel = width * min(1.6, max(0.03, rows / cols))
    height = 2 * (panel + 0.75) + 1.3 if wide else panel + 1.6
    fig = Figure(figsize=(14, round(height, 2)), dpi=DPI, layout="constrained")
    fig.suptitle(title, fontsize=13)
    panels = scene, scores = fig.subplots(*((2, 1) if wide else (1, 2)))

    _show_scene(scene, image, shape)
    draw_outline(scene, mask, PREDICTION, shape)
    _draw_rings(scene, Components.of(mask), shape, DPI * min(width / cols, panel / rows))
    scene.set_title(_counted(pixels, objects))
    shown = _show_score(scores, score, shape)
    # Below or beside both panels, so that it takes as much room of each.
    where = {"location": "bottom", "shrink": 0.5, "aspect": 50} if wide else {"shrink": 0.9, "pad": 0.015}
    fig.colorbar(shown, ax=list(panels), label="score" if wide else "", **where)
    scene.set(xlabel="" if wide else "column", ylabel="row")
    scores.set(xlabel="column", ylabel="row" if wide else "")
    save(fig, path)


def _counted(pixels: int, objects: int) -> str:
    """The title of a mask."""
    return f"mask: {pixels} pixels in {objects} object{'' if objects == 1 else 's'}" if pixels else "mask: no pixel"


def _show_scene(axes: Any, image: Array, shape: tuple[int, int]) -> None:
    """Grey from 0 to 1, or colours; pixels with a value that is not finite have the colour of no data."""
    from matplotlib.colors import to_rgb

    if image.ndim == 3:
        known = np.isfinite(image).all(axis=2, keepdims=True)
        image = np.where(known, np.clip(image, 0, 1), to_rgb(NO_DATA))
    show(axes, image, "gray", (0, 1), shape)


def _show_score(axes: Any, score: Array, shape: tuple[int, int]) -> Any:
    from matplotlib.colors import LogNorm

    known = finite(np.asarray(score, float))
    high = float(known.max())
    if known.min() < 0 or high <= 0:
        axes.set_title("score")
        return show(axes, score, "magma", (float(known.min()), high if high > known.min() else high + 1), shape)
    # Zeros have no logarithm; a few of the lowest must not take most of the scale.
    low = max(float(np.percentile(known[known > 0], 1)), high / 10**_DECADES)
    low = low if low < high else high / 10
    shown = show(axes, np.clip(score, low, high), "magma", (low, high), shape)
    shown.set_norm(LogNorm(low, high))
    axes.set_title("score, logarithmic")
    return shown


def _draw_rings(axes: Any, objects: Components, shape: tuple[int, int], dots: float) -> None:
    """Rings about objects of fewer than _SEEN dots on the picture, where a pixel of the image has ``dots`` of them."""
    from scipy import ndimage

    labels = objects.labels
    scale = np.array([shape[0] / labels.shape[0], shape[1] / labels.shape[1]])
    centres = []
    for rows, cols in ndimage.find_objects(labels):
        extent = np.array([rows.stop - rows.start, cols.stop - cols.start])
        if (extent * scale * dots).max() < _SEEN:
            centres.append((np.array([rows.start, cols.start]) + extent / 2) * scale - 0.5)
    if 0 < len(centres) <= _MOST_RINGS:
        y, x = np.array(centres).T
        size = (_RING * 72 / DPI) ** 2
        axes.scatter(x, y, s=size, facecolors="none", edgecolors=PREDICTION, linewidths=1.2, clip_on=False)


@drawn
def anomaly_stages_picture(
    path: Path,
    stages: Sequence[Mapping[str, Array]],
    *,
    title: str = "",
) -> None:
    """What an unrolled detector computes: one row per stage, one column per name, in the order in which they appear.

    stages : per stage a mapping from name to (h, w) map; what a stage did not compute stays blank. Background and
    reconstruction are grey; others run from blue (negative) over white (0) to red, or from black (0) over red to pale
    yellow where no value of any stage is negative. A column has one scale, up to the 99.9th percentile of its last map,
    so that stages can be compared. Below each map stand its own smallest and largest value.

    The picture is 250 pixels wide for each column, plus 60. Raises InputError when no stage holds a map, OutputError
    when the file exists.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for stage in stages for name in stage))
    if not names:
        raise InputError(f"no stage was recorded for {path.name}; choose an unrolled network.")
    shapes = [data.shape for stage in stages for data in stage.values()]
    tall = 2.1 * min(2.0, max(0.15, *(h / w for h, w in shapes))) + 0.4
    size = (2.5 * len(names) + 0.6, round(tall * len(stages) + 0.8, 2))
    fig = Figure(figsize=size, dpi=DPI, layout="constrained")
    fig.suptitle(title)
    grid = fig.subplots(len(stages), len(names), squeeze=False)
    for column, name in enumerate(names):
        maps = [stage.get(name) for stage in stages]
        draw = _painter([data for data in maps if data is not None], grey=name in _GREY)
        grid[0, column].set_title(name, fontsize=11)
        for axes, data in zip(grid[:, column], maps, strict=True):
            if data is None:
                axes.set(xticks=[], yticks=[], frame_on=False)
                continue
            draw(axes, data)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{finite(data).min():.3g} to {finite(data).max():.3g}".replace("-", "−"), fontsize=8)
    for k, line in enumerate(grid, start=1):
        line[0].set_ylabel(f"stage {k}")
    save(fig, path)


def _painter(maps: Sequence[Array], *, grey: bool) -> Callable[[Any, Array], Any]:
    """How the maps of one column are drawn, all on the scale that the last of them asks for."""
    known = np.concatenate([finite(np.asarray(data, float)).ravel() for data in maps])
    last = finite(np.asarray(maps[-1], float))
    if grey:
        return lambda axes, data: show(axes, data, "gray", stretch(last), data.shape)
    largest = float(np.percentile(np.abs(last), 99.9)) or float(np.abs(known).max()) or 1.0
    if known.min() < 0:
        return lambda axes, data: show_difference(axes, data, largest, data.shape)
    return lambda axes, data: show(axes, data, "magma", (0, largest), data.shape)


@drawn
def spectra_picture(
    path: Path,
    background_mean: Array,
    background_std: Array,
    spectra: Mapping[str, Array],
    wavelengths: Sequence[float] = (),
    *,
    names: Sequence[str] = (),
    units: str = "",
    title: str = "",
) -> None:
    """Mean spectra of anomalies over the mean of the background and the band of one standard deviation about it.

    background_mean, background_std : (B,). spectra : name -> (B,), strongest first, of which the first eight are
        drawn; values that are not finite are gaps. wavelengths : (B,) in nanometres, or nothing: then the axis is the
        number of the band, from 1, or its name of ``names`` (B,), see :class:`BandAxis`. units : of the values.

    The picture is 1000 x 600 pixels. Raises InputError when there is not one value for each band, OutputError when
    the file exists.
    """
    from matplotlib.figure import Figure

    axis = BandAxis(len(background_mean), wavelengths, names)
    mean, deviation = axis.fitting(background_mean), axis.fitting(background_std)
    fig = Figure(figsize=(10, 6), dpi=DPI, layout="constrained")
    axes = fig.subplots()
    fig.suptitle(title)
    axis.spread(axes, mean, deviation, color=_BACKGROUND, alpha=0.25, label="background, mean ± std")
    axis.curve(axes, mean, color=_BACKGROUND, linewidth=3, label="background, mean")
    shown = dict(list(spectra.items())[:MOST_SPECTRA])
    for i, (name, values) in enumerate(shown.items()):
        colour, dash = curve_style(i)
        axis.curve(axes, values, color=colour, linestyle=dash, linewidth=1.5, label=name)
    axes.set_ylabel(f"value ({units})" if units else "value")
    axis.finish(axes)
    say_if_empty(axes, mean, *shown.values())
    fig.legend(loc="outside lower center", ncols=min(4, len(shown) + 2), fontsize=8)
    save(fig, path)
