"""Curves over the bands of a hyperspectral image: noise, quality, and the axis that spectra share with them.

A curve is interrupted at bands without a finite value, where the wavelength falls back (the next spectrometer begins),
and where bands are missing (a step more than four times as long as those beside it, as where water vapour absorbs).
Bands that a file lists in no order are drawn in that of their wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask
from rsunfold.errors import InputError
from rsunfold.report.drawing import COLOURS, DPI, Array, curve_style, finite, save
from rsunfold.report.settings import drawn

PASSED_BAND = "band passed through"
_SHADE = "#F3E6C8"  # no grey: that is the grid
_GAP = 4.0
MOST_NAMES, LONGEST_NAME = 24, 16
"""Most bands, and most characters of a name, with which an axis without wavelengths shows names of bands."""
CROWDED = 80
"""Characters of such names, two between them counted, that do not fit side by side."""
DETECTORS = 3
"""Most places where the wavelengths of a sensor's bands fall back, because the next detector begins."""


@dataclass(frozen=True)
class BandAxis:
    """The horizontal axis: wavelengths (B,) in nanometres, or none of them and the number of the band from 1, which
    shows the ``names`` (B,) of the bands instead where these are few and short."""

    count: int
    wavelengths: Sequence[float] = ()
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.wavelengths) not in (0, self.count):
            raise InputError(f"{len(self.wavelengths)} wavelengths do not fit {self.count} bands; give one per band.")

    @property
    def in_nm(self) -> bool:
        """Whether every band has a wavelength; with less the axis counts bands."""
        known = np.asarray(self.wavelengths, float)
        return bool(known.size and np.all(np.isfinite(known) & (known > 0)))

    @property
    def named(self) -> bool:
        """Whether names of bands stand along the axis."""
        few = len(self.names) == self.count <= MOST_NAMES
        return few and not self.in_nm and all(0 < len(name) <= LONGEST_NAME for name in self.names)

    @property
    def x(self) -> NDArray[np.float64]:
        """(B,): the position of each band."""
        return np.asarray(self.wavelengths, float) if self.in_nm else np.arange(1.0, self.count + 1)

    def name(self, number: int) -> str:
        """How the band ``number``, from 1, is called: 'band 12, 552.4 nm'."""
        return f"band {number}, {self.x[number - 1]:.1f} nm" if self.in_nm else f"band {number}"

    def fitting(self, values: Array) -> NDArray[np.float64]:
        """(B,): the values as float64; raises InputError when there is not one for each band."""
        if np.shape(values) != (self.count,):
            raise InputError(f"values of shape {np.shape(values)} do not fit {self.count} bands; give one per band.")
        return np.asarray(values, np.float64)

    def curve(self, axes: Any, values: Array, **style: Any) -> Any:
        """Plot ``values`` (B,) with gaps where the module says; a band between two gaps is a dot. Returns the line."""
        x, y = self.x, self.fitting(values)
        if np.count_nonzero(np.diff(x) < 0) > (self.count - 1) / 2:  # the file lists its bands backwards
            x, y = x[::-1], y[::-1]
        if np.count_nonzero(np.diff(x) < 0) > min(DETECTORS, max(1, (self.count - 1) / 10)):  # in no order at all
            order = np.argsort(x, kind="stable")
            x, y = x[order], y[order]
        breaks = _breaks(x)
        x, y = np.insert(x, breaks, np.nan), np.insert(np.where(np.isfinite(y), y, np.nan), breaks, np.nan)
        (line,) = axes.plot(x, y, **style)
        known = np.pad(np.isfinite(y), 1)
        alone = known[1:-1] & ~known[:-2] & ~known[2:]
        axes.plot(x[alone], y[alone], ".", color=line.get_color(), alpha=style.get("alpha"))
        return line

    def spread(self, axes: Any, middle: Array, deviation: Array, *, color: str, alpha: float, label: str) -> None:
        """Fill what lies within ``deviation`` (B,) of ``middle`` (B,), between thin curves of both ends."""
        edges = (middle - deviation, middle + deviation)
        low, high = (self.curve(axes, edge, color=color, linewidth=0.6, alpha=0.5) for edge in edges)
        # The curves know where the spectrum is interrupted, and so does what lies between them.
        ends = low.get_xdata(), low.get_ydata(), high.get_ydata()
        axes.fill_between(*ends, color=color, alpha=alpha, linewidth=0, label=label)

    def shade(self, axes: Any, bad: Mask | None, label: str = "") -> None:
        """Shade the width of the bands that are True in ``bad`` (B,), behind the curves."""
        if bad is None or not self.fitting(bad).any():
            return
        order = np.argsort(self.x, kind="stable")
        x, flags = self.x[order], np.pad(np.asarray(bad, bool)[order], 1).astype(int)
        left, right = _edges(x)
        starts, ends = np.nonzero(np.diff(flags) == 1)[0], np.nonzero(np.diff(flags) == -1)[0] - 1
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            axes.axvspan(left[start], right[end], color=_SHADE, linewidth=0, zorder=0, label="" if i else label)

    def finish(self, axes: Any, *, label: bool = True) -> None:
        """Limits, grid and, if wanted, the label of the axis."""
        left, right = _edges(np.sort(self.x))
        axes.set_xlim(left[0], right[-1])
        if self.named:
            crowded = sum(map(len, self.names)) + 2 * self.count > CROWDED
            axes.set_xticks(self.x, self.names, rotation=90 if crowded else 0)
        else:
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.4)
        if label:
            axes.set_xlabel("wavelength (nm)" if self.in_nm else "band")


def _breaks(x: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices before which a curve through the positions x (B,) is interrupted."""
    step = np.diff(x)
    beside = np.pad(step, 1, constant_values=-np.inf)
    largest = np.maximum(beside[:-2], beside[2:])
    return np.nonzero((step <= 0) | ((largest > 0) & (step > _GAP * largest)))[0] + 1


def _edges(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right edge of each band at the rising positions x (B,): half way to the next, not far into a gap."""
    step = np.diff(x)
    most = float(np.median(step)) if step.size and np.median(step) > 0 else 1.0
    half = np.minimum(step / 2, most)
    ends = [most / 2]
    return x - np.concatenate([ends, half]), x + np.concatenate([half, ends])


def say_if_empty(axes: Any, *curves: Array) -> None:
    """Say so in the middle of the axes, and leave out its numbers, when no curve has a finite value."""
    if not any(np.isfinite(values).any() for values in curves):
        note = axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
        note.set_backgroundcolor("white")
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)


@drawn
def noise_picture(
    path: Path,
    sigma_before: Array,
    sigma_after: Array,
    autocorrelation: Array,
    *,
    noise: Array,
    wavelengths: Sequence[float] = (),
    bad: Mask | None = None,
    units: str = "",
    title: str = "",
) -> None:
    """The finest detail of each band before and after, the share that was removed, and whether it was noise.

    sigma_before, sigma_after : (B,) standard deviations of the finest detail, noise and texture, by the same estimate,
        in ``units``, on a logarithmic axis; NaN and 0 are gaps. noise : (B,) estimate of the noise alone, before.
        autocorrelation : (B,) in [-1, 1], of the residual with itself one pixel further; where it is near 0,
        noise alone was removed. wavelengths, bad : as :func:`denoising_picture`.

    The picture is 1000 x 820 pixels. Raises InputError when the sizes do not belong together, OutputError when the file
    exists.
    """
    from matplotlib.figure import Figure

    axis = BandAxis(len(sigma_before), wavelengths)
    fig = Figure(figsize=(10, 8.2), dpi=DPI, layout="constrained")
    fig.suptitle(title)
    panels = detail, removed, correlation = fig.subplots(3, 1, sharex=True, height_ratios=[3.8, 2.2, 2.2])
    for axes in panels:
        axis.shade(axes, bad, PASSED_BAND)
        axis.finish(axes, label=axes is correlation)

    before, estimate, after = (_positive(sigma) for sigma in (sigma_before, noise, sigma_after))
    detail.set(yscale="log", ylabel=f"σ ({units})" if units else "σ")
    axis.curve(detail, before, color=COLOURS[1], linewidth=1.4, label="finest detail before")
    axis.curve(detail, estimate, color="black", linewidth=1, linestyle=":", label="noise, as estimated")
    axis.curve(detail, after, color=COLOURS[0], linewidth=1.8, label="finest detail after")
    say_if_empty(detail, before, estimate, after)
    # above the curves, where it cannot hide one
    detail.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=9, frameon=False, borderaxespad=0.1)

    share = 100 * (1 - np.asarray(sigma_after, float) / before)
    axis.curve(removed, share, color=COLOURS[2], linewidth=1.6)
    # a band made much worse must not flatten the others
    removed.set(ylabel="detail removed (%)", ylim=(max(-100.0, min(0.0, 1.1 * finite(share).min())), 104))
    say_if_empty(removed, share)

    known = finite(np.asarray(autocorrelation, float))
    correlation.axhline(0, color="black", linewidth=1)
    axis.curve(correlation, autocorrelation, color=COLOURS[3], linewidth=1.6)
    correlation.set_ylim(min(-0.3, known.min() - 0.1), max(0.6, known.max() + 0.1))
    correlation.set_ylabel("lag-1 autocorrelation\nof the residual")
    correlation.set_title("near 0: only noise was removed", fontsize=9, loc="right")
    say_if_empty(correlation, autocorrelation)
    save(fig, path)


def _positive(sigma: Array) -> Array:
    values = np.asarray(sigma, float)
    return np.where(values > 0, values, np.nan)


@drawn
def quality_picture(
    path: Path,
    curves: Mapping[str, Array],
    *,
    wavelengths: Sequence[float] = (),
    title: str = "",
    overwrite: bool = False,
) -> None:
    """The PSNR band by band, one curve per method, 1000 x 600 pixels.

    curves : name -> (B,) in dB; values that are not finite (a band without error) are gaps and do not count in the mean
        that the legend gives. wavelengths : as :func:`denoising_picture`.

    Raises InputError for no curve or curves of different lengths, OutputError when the file exists and ``overwrite``
    is False.
    """
    from matplotlib.figure import Figure

    if not curves:
        raise InputError(f"there is no curve to show in {path.name}; give at least one method.")
    axis = BandAxis(len(next(iter(curves.values()))), wavelengths)
    fig = Figure(figsize=(10, 6), dpi=DPI, layout="constrained")
    axes = fig.subplots()
    axes.set_title(title)
    for i, (name, values) in enumerate(curves.items()):
        colour, dash = curve_style(i)
        used = axis.fitting(values)[np.isfinite(values)]
        mean = f"mean {used.mean():.4g} dB" if used.size else "no finite value"
        axis.curve(axes, values, color=colour, linestyle=dash, linewidth=1.8, label=f"{name}: {mean}")
    axes.set_ylabel("PSNR (dB)")
    axis.finish(axes)
    say_if_empty(axes, *curves.values())
    fig.legend(loc="outside lower center", ncols=2, fontsize=9)
    save(fig, path, overwrite)
