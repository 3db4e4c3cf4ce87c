"""Pictures of what a denoiser did to a hyperspectral image: its bands and its spectra before and after.

Cubes may be larger than memory, so these functions take single bands and single spectra. A band before and after
shares one grey scale, from the 0.5th to the 99.5th percentile of what it is after: on that of the noise its content
would be lost. What was removed, before - after, runs from blue (negative) over white (0) to red, both ends at the
99.5th percentile of its absolute values, so that a few impulses do not fade the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.arrays import Mask
from rsunfold.errors import InputError
from rsunfold.report.drawing import DPI, Array, curve_style, finite, save, show, show_difference, stretch
from rsunfold.report.settings import drawn
from rsunfold.report.spectral import PASSED_BAND, BandAxis, say_if_empty

_WIDE, _TALL = 0.1, 1.4  # rows / columns beyond which a panel no longer follows the shape of the image


@drawn
def denoising_picture(
    path: Path,
    band_before: Array,
    band_after: Array,
    spectra_before: Array,
    spectra_after: Array,
    *,
    band: int,
    pixels: Sequence[tuple[int, int]],
    wavelengths: Sequence[float] = (),
    bad: Mask | None = None,
    units: str = "",
    title: str = "",
    shape: tuple[int, int] | None = None,
) -> None:
    """One band before and after and what was removed from it; below, the spectra of some pixels before and after.

    band_before, band_after : (h, w), NaN where there is no data; of a large image a decimated copy. band : its number,
        from 1. shape : (rows, cols) of the image, (h, w) unless it was decimated.
    spectra_before, spectra_after : (n, B), the spectra of ``pixels``, n pairs (row, col) of the image.
    wavelengths : (B,) in nanometres, or nothing: then the axis is the number of the band. bad : (B,), True for bands
        that were passed through; they are shaded, have no curve after, and do not stretch the axis. units : of the
        values.

    The picture is 1400 pixels wide; its height follows the image. Raises InputError when the sizes do not belong
    together, OutputError when the file exists.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows, cols = shape or band_before.shape
    axis = _checked(path, spectra_before, spectra_after, len(pixels), band, wavelengths)
    panel = 4.5 * min(_TALL, max(_WIDE, rows / cols))
    heights = [panel + 1.4, 4.0] if len(pixels) else [panel + 1.4]
    fig = Figure(figsize=(14, round(sum(heights) + 0.4, 2)), dpi=DPI, layout="constrained")
    fig.suptitle(title, fontsize=13)
    top, *below = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]

    line = top.subplots(1, 3)
    grey, colour = _triple(line, band_before, band_after, (rows, cols))
    line[0].set(title=f"{axis.name(band)}: before", ylabel="row")
    line[1].set_title("after")
    line[2].set_title(f"removed: before − after{_rms(band_before, band_after)}")
    unit = f" ({units})" if units else ""
    top.colorbar(grey, ax=list(line[:2]), location="bottom", shrink=0.5, aspect=40, extend="both", label=f"value{unit}")
    ticks = MaxNLocator(5)  # more would overlap
    label = f"difference{unit}"
    top.colorbar(colour, ax=line[2], location="bottom", shrink=0.9, aspect=36, extend="both", ticks=ticks, label=label)
    for axes in line:
        axes.set_xlabel("column")
    for axes in line[:2]:
        _mark(axes, pixels, (rows, cols))
    if below:
        axes = below[0].subplots()
        _spectra(axes, axis, spectra_before, spectra_after, pixels, bad)
        axes.axvline(axis.x[band - 1], color="black", linewidth=1, linestyle=":", label="band shown above")
        axes.set_ylabel(f"value{unit}")
        below[0].legend(loc="outside right upper", fontsize=9, title="thin: before, strong: after")
    save(fig, path)


def _checked(path: Path, before: Array, after: Array, pixels: int, band: int, wavelengths: Sequence[float]) -> BandAxis:
    if before.ndim != 2 or before.shape != after.shape or len(before) != pixels:
        raise InputError(f"{path.name}: spectra {before.shape} and {after.shape} are not those of {pixels} pixels.")
    if not 1 <= band <= before.shape[1]:
        raise InputError(f"{path.name}: there is no band {band}; choose one from 1 to {before.shape[1]}.")
    return BandAxis(before.shape[1], wavelengths)


def _triple(line: Any, before: Array, after: Array, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Before, after and removed on three axes; returns what the colour bars of grey and of difference refer to."""
    if before.shape != after.shape:
        raise InputError(f"a band of {before.shape} pixels before and {after.shape} after cannot be compared.")
    known = finite(after)
    limits = stretch(after if np.ptp(known) > 0 else before, 0.5, 99.5)
    show(line[0], before, "gray", limits, shape)
    grey = show(line[1], after, "gray", limits, shape)
    removed = np.subtract(before, after, dtype=float)
    largest = float(np.percentile(np.abs(finite(removed)), 99.5)) or float(np.abs(finite(removed)).max()) or 1.0
    return grey, show_difference(line[2], removed, largest, shape)


def _rms(before: Array, after: Array) -> str:
    """How much was removed, for a title; nothing where no pixel has a finite value."""
    removed = np.subtract(before, after, dtype=float)
    known = removed[np.isfinite(removed)]
    return f", rms {_number(float(np.sqrt(np.mean(known**2))))}" if known.size else ""


def _number(value: float) -> str:
    """Three or four digits without an exponent for what samples of an image hold, reflectances as well as counts."""
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "−")


def _mark(axes: Any, pixels: Sequence[tuple[int, int]], shape: tuple[int, int]) -> None:
    """Ring and number each pixel in the colour of its spectrum; the number stays inside the image."""
    from matplotlib.patheffects import withStroke

    for i, (row, col) in enumerate(pixels):
        colour = curve_style(i)[0]
        halo = [withStroke(linewidth=4, foreground="white")]
        (ring,) = axes.plot(col, row, "o", color=colour, markersize=9, fillstyle="none", markeredgewidth=2)
        ring.set(path_effects=halo, clip_on=False)
        offset = (-14 if col > 0.9 * shape[1] else 7, -14 if row < 0.1 * shape[0] else 4)
        number = axes.annotate(str(i + 1), (col, row), xytext=offset, textcoords="offset points", color=colour)
        number.set(fontweight="bold", path_effects=halo)


def _spectra(
    axes: Any, axis: BandAxis, before: Array, after: Array, pixels: Sequence[tuple[int, int]], bad: Mask | None
) -> None:
    axis.shade(axes, bad, PASSED_BAND)
    good = np.ones(axis.count, bool) if bad is None else ~np.asarray(bad, bool)
    for i, (row, col) in enumerate(pixels):
        colour, dash = curve_style(i)
        axis.curve(axes, before[i], color=colour, linewidth=0.7, alpha=0.55)
        new = np.where(good, after[i], np.nan)
        axis.curve(axes, new, color=colour, linewidth=2, linestyle=dash, label=f"{i + 1}: row {row}, column {col}")
    ruling = good if good.any() else ~good
    strong, thin = finite(after[:, ruling]), np.percentile(finite(before[:, ruling]), (1, 99))
    low, high = min(strong.min(), thin[0]), max(strong.max(), thin[1])
    margin = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axis.finish(axes)
    say_if_empty(axes, before, after)


@dataclass(frozen=True)
class NoisyBand:
    """One band for :func:`worst_bands_picture`: number from 1, before and after (h, w), the standard
    deviations of the finest detail of both, and the wavelength (nm)."""

    number: int
    before: Array
    after: Array
    sigma_before: float = nan
    sigma_after: float = nan
    wavelength: float = nan


@drawn
def worst_bands_picture(
    path: Path,
    bands: Sequence[NoisyBand],
    *,
    units: str = "",
    title: str = "",
    shape: tuple[int, int] | None = None,
) -> None:
    """One row per band, in the order given: before, after and what was removed, the ends of each scale below it.

    shape : (rows, cols) of the image that the bands are decimated copies of; their own size when None. The picture is
    1000 pixels wide; its height follows the image. Raises InputError for no band or one of two sizes, OutputError
    when the file exists.
    """
    from matplotlib.figure import Figure

    if not bands:
        raise InputError(f"there is no band to show in {path.name}; give at least one.")
    rows, cols = shape or bands[0].before.shape
    panel = max(1.6, 3.0 * min(_TALL, max(_WIDE, rows / cols)) + 0.7)  # for the name of the band beside it
    fig = Figure(figsize=(10, round(panel * len(bands) + 0.5, 2)), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    for case, line in zip(bands, fig.subplots(len(bands), 3, squeeze=False), strict=True):
        shown = _triple(line, case.before, case.after, (rows, cols))
        wavelength = f", {case.wavelength:.1f} nm" if isfinite(case.wavelength) else ""
        line[0].set(title=f"before{_sigma(case.sigma_before)}", ylabel=f"band {case.number}{wavelength}")
        line[1].set_title(f"after{_sigma(case.sigma_after)}")
        line[2].set_title(f"before − after{_rms(case.before, case.after)}")
        for axes, scale in zip(line, (shown[0], shown[0], shown[1]), strict=True):
            low, high = scale.get_clim()
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{_number(low)} to {_number(high)} {units}", fontsize=8)
    save(fig, path)


def _sigma(value: float) -> str:
    return f": finest detail σ {_number(value)}" if isfinite(value) else ""
