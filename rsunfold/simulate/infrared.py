"""Seeded infrared scenes with known small targets, for the demo, the documentation and the tests.

A scene is a background seen through the optics, point-spread targets, and the sensor's noise. Backgrounds are random
fields with the power spectra that are usual for them (1/f^beta); no measured image enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import UsageError

Background = Literal["clouds", "sea", "ground", "sky"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)

OPTICS_SIGMA = 0.7  # pixels, blur of the background
COLUMN_SHARE = 0.4  # standard deviation of the column offsets relative to the noise
LOCAL = 10  # half width in pixels of the window that the SNR's standard deviation is taken over
EDGE = 4  # pixels between the border and a target's centre, at least
APART = 12  # pixels between two targets' centres, at least
TRIES = 500  # random places per target
MINIMUM = 64  # rows and columns of the smallest scene

Field = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedTarget:
    """One target: centre in pixels (0-based, 0.0 is the middle of the first pixel), Gaussian sigma in pixels.

    peak : gray levels that the target adds to its brightest pixel. snr : peak / local standard deviation of the image
    without targets.
    """

    row: float
    col: float
    sigma: float
    peak: float
    snr: float


@dataclass(frozen=True)
class InfraredScene:
    """image : float32 (H, W) in [0, 1]. mask : bool (H, W), pixels where a target adds more than half of its peak."""

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    targets: tuple[SimulatedTarget, ...]
    background: Background
    seed: int


def infrared_scene(
    rows: int = 256,
    cols: int = 256,
    *,
    background: Background = "clouds",
    targets: int = 3,
    snr: float = 8.0,
    noise: float = 0.006,
    seed: int,
) -> InfraredScene:
    """One scene of rows x cols pixels (64 or more each); the same arguments give the same scene.

    A target is a Gaussian with sigma drawn from 0.7 to 1.8 pixels at a sub-pixel position, integrated over pixels.
    ``snr`` is its peak divided by the standard deviation of clutter and noise, that is of the image without targets
    in the 21 x 21 pixels around it. ``noise`` is the standard deviation of the sensor's Gaussian noise in gray levels
    on the 0 to 1 scale; every column has an offset besides, with 0.4 times that deviation.
    Raises UsageError for impossible arguments, and when no place is left where a target of this SNR stays below 1.
    """
    if background not in BACKGROUNDS:
        raise UsageError(f"unknown background {background!r}; choose from {', '.join(BACKGROUNDS)}.")
    if min(rows, cols) < MINIMUM:
        raise UsageError(f"a scene needs at least {MINIMUM} x {MINIMUM} pixels, got {rows} x {cols}.")
    if min(targets, seed) < 0 or min(snr, noise) <= 0:
        raise UsageError(
            "a scene needs targets and seed of at least 0 and snr and noise above 0, "
            f"got {targets}, {seed}, {snr} and {noise}."
        )
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    clean = ndimage.gaussian_filter(_BACKGROUNDS[background](rng, rows, cols), OPTICS_SIGMA, mode="reflect")
    columns = rng.normal(0, COLUMN_SHARE * noise, (1, cols))
    empty = np.clip(clean + columns + rng.normal(0, noise, (rows, cols)), 0, 1)

    image, mask, placed = empty.copy(), np.zeros((rows, cols), dtype=bool), list[SimulatedTarget]()
    for _ in range(targets):
        target, signal = _place(rng, empty, placed, snr)
        image += signal
        mask |= signal > target.peak / 2
        placed.append(target)
    return InfraredScene(np.clip(image, 0, 1).astype(np.float32), mask, tuple(placed), background, seed)


def infrared_scenes(n: int, seed: int, *, rows: int = 256, cols: int = 256) -> Iterator[InfraredScene]:
    """``n`` scenes: the four backgrounds in turn, 1 to 3 targets with SNR 5 to 10, every fifth scene empty.

    Each scene's own ``seed`` is drawn from ``seed``; the first k of n scenes are those of any larger n.
    """
    if min(n, seed) < 0:
        raise UsageError(f"the number of scenes and the seed must be at least 0, got {n} and {seed}.")
    rng = np.random.default_rng(seed)
    for i in range(n):
        own, count, snr = int(rng.integers(2**31)), int(rng.integers(1, 4)), float(rng.uniform(5, 10))
        background = BACKGROUNDS[i % len(BACKGROUNDS)]
        yield infrared_scene(rows, cols, background=background, targets=0 if i % 5 == 4 else count, snr=snr, seed=own)


def point_spread(rows: int, cols: int, row: float, col: float, sigma: float) -> Field:
    """A Gaussian centred on (row, col) integrated over each pixel, scaled to 1 at its largest pixel; (rows, cols)."""
    from scipy.special import ndtr

    def profile(size: int, centre: float) -> Field:
        return np.diff(ndtr((np.arange(size + 1) - 0.5 - centre) / sigma))

    spread = np.outer(profile(rows, row), profile(cols, col))
    return np.asarray(spread / spread.max())


def _place(
    rng: np.random.Generator, empty: Field, placed: list[SimulatedTarget], snr: float
) -> tuple[SimulatedTarget, Field]:
    """A target at a random place that is free and dark enough, and what it adds to the image (H, W)."""
    rows, cols = empty.shape
    sigma = float(rng.uniform(0.7, 1.8))
    for _ in range(TRIES):
        row, col = float(rng.uniform(EDGE, rows - 1 - EDGE)), float(rng.uniform(EDGE, cols - 1 - EDGE))
        if any(np.hypot(row - other.row, col - other.col) < APART for other in placed):
            continue
        r, c = round(row), round(col)
        window = slice(max(0, r - LOCAL), r + LOCAL + 1), slice(max(0, c - LOCAL), c + LOCAL + 1)
        around = empty[window]
        peak = snr * float(around.std())
        signal = peak * point_spread(rows, cols, row, col, sigma)
        if (around + signal[window]).max() <= 1:
            return SimulatedTarget(row, col, sigma, peak, snr), signal
    raise UsageError(
        f"no room is left for target {len(placed) + 1} with SNR {snr:g} in {rows} x {cols} pixels; "
        "ask for fewer targets, a smaller SNR or a larger scene."
    )


def power_law(
    rng: np.random.Generator, rows: int, cols: int, beta: float, stretch: float = 1.0, longest: float = np.inf
) -> Field:
    """Gaussian random field (rows, cols), mean 0, deviation 1, power spectrum 1 / f^beta.

    stretch : structures are that many times longer along the columns' axis than down the rows.
    longest : wavelengths beyond this many pixels are damped, for textures without large-scale structure.
    """
    from scipy import fft

    # Twice the size, cropped: a periodic field would repeat its left edge at the right.
    size = fft.next_fast_len(2 * rows, real=True), fft.next_fast_len(2 * cols, real=True)
    f2 = fft.fftfreq(size[0])[:, None] ** 2 + (stretch * fft.rfftfreq(size[1])) ** 2
    f2[0, 0] = np.inf  # no constant part
    amplitude = f2 ** (-beta / 4) * (1 - np.exp(-f2 * longest**2))
    field = fft.irfft2(amplitude * fft.rfft2(rng.standard_normal(size)), s=size)[:rows, :cols]
    return np.asarray((field - field.mean()) / field.std())


def _down(rows: int) -> Field:
    """0 at the top row to 1 at the bottom row, as a column."""
    return np.linspace(0, 1, rows)[:, None]


def _sky(rng: np.random.Generator, rows: int, cols: int) -> Field:
    """Clear sky, warmer towards the horizon below, with thin haze."""
    tilt = rng.uniform(-0.04, 0.04) * np.linspace(-1, 1, cols)
    return 0.18 + rng.uniform(0.1, 0.2) * _down(rows) ** 1.5 + tilt + 0.02 * power_law(rng, rows, cols, 3.5, 2.0)


def _clouds(rng: np.random.Generator, rows: int, cols: int) -> Field:
    """Cumulus before sky: a power-law field is cut at a level, softly, and shaded by another."""
    shape, shade = power_law(rng, rows, cols, 3.4, 1.6), power_law(rng, rows, cols, 3.0, 1.4)
    cover = 1 / (1 + np.exp(-5 * (shape - rng.uniform(-0.2, 0.7))))
    body = 0.3 + 0.07 * shade + 0.05 * np.maximum(shape, 0)
    return _sky(rng, rows, cols) + cover * (body - 0.1 * _down(rows))


def _sea(rng: np.random.Generator, rows: int, cols: int) -> Field:
    """Sea to a horizon near the top: waves grow towards the viewer, and glint breaks out where crests add up."""
    from scipy import ndimage

    horizon = rng.uniform(0.08, 0.3)
    depth = np.clip((_down(rows) - horizon) / (1 - horizon), 0, None)
    # Perspective: a step on the picture spans a longer stretch of water the nearer the horizon.
    zoom = 0.25 / (0.25 + depth)
    where_row = np.broadcast_to(rows * (1 - zoom), (rows, cols))
    where_col = cols / 2 + (np.arange(cols) - cols / 2) * zoom

    def look(field: Field) -> Field:
        return np.asarray(ndimage.map_coordinates(field, [where_row, where_col], order=1, mode="mirror"))

    swell = look(power_law(rng, rows, cols, 3.0, 3.5, longest=10))
    ripple = look(power_law(rng, rows, cols, 2.0, 2.0, longest=4))
    glint = np.clip(swell + ripple - 3.4, 0, None)
    sea = 0.3 + 0.1 * (1 - depth) ** 3 + 0.035 * swell + 0.02 * ripple + 0.15 * np.minimum(glint, 1.5)
    sky = 0.5 * _sky(rng, rows, cols) + 0.3
    return np.asarray(np.where(depth > 0, sea, sky))


def _ground(rng: np.random.Generator, rows: int, cols: int) -> Field:
    """Fields and woods as patches of one temperature each, relief on top, and a warm road across."""
    from scipy import ndimage

    patches = power_law(rng, rows, cols, 3.8)
    levels = rng.permutation(np.linspace(0.26, 0.42, 5))
    surface = ndimage.gaussian_filter(levels[np.digitize(patches, [-1.0, -0.2, 0.4, 1.2])], 1.0)
    relief = 0.05 * power_law(rng, rows, cols, 2.8) + 0.012 * power_law(rng, rows, cols, 1.2)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * min(rows, cols)
    y, x = _down(rows) * rows - rows / 2, np.arange(cols) - cols / 2
    bend = 0.02 * cols * power_law(rng, rows, cols, 5.0)
    road = np.abs(y * np.cos(angle) + x * np.sin(angle) - offset + bend) < 1.5
    return np.asarray(surface + relief + 0.1 * road)


_BACKGROUNDS: dict[str, Callable[[np.random.Generator, int, int], Field]] = {
    "clouds": _clouds,
    "sea": _sea,
    "ground": _ground,
    "sky": _sky,
}
