"""How pictures are drawn: images, boxes and outlines on axes whose units are pixels of the image.

Whole numbers are pixel centres, so the image of r rows and c columns runs from -0.5 to c - 0.5 and r - 0.5. What
covers the image with fewer samples, a decimated copy, is stretched over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask
from rsunfold.cube import Window
from rsunfold.io.atomic import atomic_path
from rsunfold.quiet import silenced

if TYPE_CHECKING:
    from rsunfold.targets import Target

Array = NDArray[Any]

DPI = 100
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito, 2008
BOX, TRUTH, PREDICTION = "#FFB000", "#2EE66B", "#FF6A3D"
NO_DATA, NO_DIFFERENCE = "#CFE3F2", "#9E9E9E"  # beside blue, white and red the former would be a value
MOST_LABELS = 60  # more numbers than this hide the picture
MOST_BOXES = 200  # and more boxes than this, unless they are made smaller
INSET = 40  # pixels of the image that an inset shows at least, along each side


def curve_style(number: int) -> tuple[str, str]:
    """Colour and dash of the curve ``number``, from 0; no two of the first 21 look the same."""
    return COLOURS[number % len(COLOURS)], ("-", "--", ":")[number // len(COLOURS) % 3]


def boxes(targets: Sequence[Target], least: float = 0.0) -> NDArray[np.float64]:
    """(n, 4): x, y of the upper left corner, width and height of each box, in pixels of the image.

    A box runs along the outer edges of its pixels (the pixel of column 0 from -0.5 to 0.5) and is widened evenly to
    ``least`` pixels where it is smaller, so that it can be seen.
    """
    box = np.array([(t.col_min, t.row_min, t.col_max, t.row_max) for t in targets], float).reshape(-1, 4)
    size = box[:, 2:] - box[:, :2] + 1
    grown = np.maximum(size, least)
    return np.concatenate([box[:, :2] - 0.5 - (grown - size) / 2, grown], axis=1)


def outline(mask: Mask) -> NDArray[np.float64]:
    """(n, 2, 2): the pixel edges between True and False, each from (x, y) to (x, y); closed at the image's border."""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]) - np.array([[0.0], [0.5]])
    upright = np.stack([x, y - 0.5, x, y + 0.5], axis=1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]) - np.array([[0.5], [0.0]])
    level = np.stack([x - 0.5, y, x + 0.5, y], axis=1)
    return np.concatenate([upright, level]).reshape(-1, 2, 2)


def inset_window(target: Target, rows: int, cols: int) -> Window:
    """The surroundings of a target that an inset shows: square where the image allows, at least ``INSET`` pixels."""
    size = max(INSET, 2 * max(target.window.height, target.window.width))
    return square((round(target.row), round(target.col)), size, rows, cols)


def square(centre: tuple[int, int], size: int, rows: int, cols: int) -> Window:
    """A square of ``size`` pixels about ``centre``, moved into the image and cut where that is smaller."""
    height, width = min(size, rows), min(size, cols)
    row = min(max(0, centre[0] - height // 2), rows - height)
    col = min(max(0, centre[1] - width // 2), cols - width)
    return Window(row, col, height, width)


def finite(data: Array) -> Array:
    """The finite values, or a single 0 when there is none."""
    values = data[np.isfinite(data)]
    return values if values.size else np.zeros(1)


def show(
    axes: Any,
    data: Array,
    name: str,
    limits: tuple[float, float],
    shape: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
    no_data: str = NO_DATA,
) -> Any:
    """Data that cover ``shape`` pixels from the pixel ``corner`` (row, col) on, in the colour map called ``name``."""
    from matplotlib import colormaps

    row, col = corner
    shown = axes.imshow(
        data,
        cmap=colormaps[name].with_extremes(bad=no_data),
        vmin=limits[0],
        vmax=limits[1],
        extent=(col - 0.5, col + shape[1] - 0.5, row + shape[0] - 0.5, row - 0.5),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return shown


def stretch(data: Array, low: float = 0.5, high: float = 99.9) -> tuple[float, float]:
    """Two percentiles of the finite values as the ends of a grey scale; one apart where both are the same."""
    black, white = np.percentile(finite(data), (low, high))
    return float(black), float(white if white > black else black + 1)


def show_image(
    axes: Any,
    image: Array,
    shape: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
    limits: tuple[float, float] | None = None,
) -> None:
    """:func:`show` in grey, within ``limits`` or from the 0.5th to the 99.9th percentile of the finite values."""
    show(axes, image, "gray", limits or stretch(image), shape, corner)


def show_difference(axes: Any, data: Array, largest: float, shape: tuple[int, int]) -> Any:
    """:func:`show` from blue (-largest) over white (0) to red (largest); what is not finite is grey."""
    return show(axes, data, "RdBu_r", (-largest, largest), shape, no_data=NO_DIFFERENCE)


def crowding(count: int) -> float:
    """By what boxes and lines are made smaller where there are ``count`` of them, 1 up to MOST_BOXES."""
    return min(1.0, math.sqrt(MOST_BOXES / max(count, 1)))


def draw_boxes(axes: Any, targets: Sequence[Target], least: float, *, label: bool = True) -> None:
    """Boxes of the targets, at least ``least`` pixels wide and high, with their ids unless these are too many; smaller
    and thinner ones where more than MOST_BOXES would hide the picture."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    crowd = crowding(len(targets))
    found = boxes(targets, least * crowd)
    patches = [Rectangle((x, y), width, height) for x, y, width, height in found]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=BOX, linewidth=1.5 * crowd), autolim=False)
    if not label or len(targets) > MOST_LABELS:
        return
    for target, (x, y, width, _) in zip(targets, found, strict=True):
        number = axes.annotate(
            str(target.id), (x + width, y), xytext=(1, 1), textcoords="offset points", color=BOX, fontsize=9
        )
        number.set_path_effects([withStroke(linewidth=2, foreground="black")])


_EDGES = 1000


def draw_outline(
    axes: Any, mask: Mask, colour: str, shape: tuple[int, int], corner: tuple[int, int] = (0, 0), width: float = 1.5
) -> None:
    """Outline of a mask that covers ``shape`` pixels from the pixel ``corner`` (row, col) on; ``width`` in points."""
    from matplotlib.collections import LineCollection

    scale = np.array([shape[1] / mask.shape[1], shape[0] / mask.shape[0]])
    edges = (outline(mask) + 0.5) * scale - 0.5 + np.array(corner[::-1])
    broken = np.concatenate([edges, np.full((len(edges), 1, 2), np.nan)], axis=1)  # of many edges a few paths are made
    paths = [broken[i : i + _EDGES].reshape(-1, 2) for i in range(0, len(broken), _EDGES)]
    axes.add_collection(LineCollection(paths, colors=colour, linewidths=width, capstyle="round"), autolim=False)


_COMPRESSION = 4  # 6, which is usual, takes twice as long for files that are a tenth smaller


def save(figure: Any, path: Path, overwrite: bool = False) -> None:
    """Write a figure as PNG; raises OutputError when the file exists and ``overwrite`` is False."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text() and not text.get_text().startswith("$\\mathdefault"):  # but for numbers of an axis
            text.set_parse_math(False)  # names of files are no formulas
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        silenced(UserWarning, "Glyph .* missing from font"),  # boxes in their place say it
    ):
        render(figure, temporary)


def render(figure: Any, path: Path) -> None:
    """Draw a figure once into a PNG file; ``savefig`` would draw it twice, once for the layout alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(path, pil_kwargs={"compress_level": _COMPRESSION})
