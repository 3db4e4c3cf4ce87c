"""What a hyperspectral file does not say of itself: bands without data, numbers that stand for none, spikes, and axes
in another order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Real, Samples
from rsunfold.cube import Cube, Window
from rsunfold.io import CubeReader
from rsunfold.moments import Moments

FAR = 1000.0
"""Robust deviations from the median of its band beyond which a sample is a spike."""
RARE, FEW = 1e-3, 3
"""Largest share of the samples of a band, and of few samples the largest number, that are spikes: what is more frequent
is another part of the scene, such as land beside a sea whose band hardly varies."""
LEAST_FILL, OFF, FAR_OFF = 1e-3, 0.5, 3.0
"""Least share of the pixels that hold one number in all bands where it stands for no data, and how far it lies from the
range of the others, in units of the range: below those that are hardly negative, or above all at the end of the type,
which leaves no more room; and below those that are negative."""
RANGE = (0.1, 99.9)
"""Percentiles that are the range of numbers, but for a few at its ends."""
USUAL = (-1, -9, -99, -999, -9999, -99999, -32767, -32768, -273, -273.15)
"""What usually stands for no data, in degrees Celsius too."""
FAR_BELOW, BEYOND = 1.0, 10.0
"""How far such a number lies below all others, in units of their range, and how far any other one that stands for no
data."""
NOTABLE = 1e-2
"""Share of the pixels above which it is told that they hold a number that may stand for no data."""
SATURATED = 1e-2
"""The same share for the largest number of the file's type, which sensors give, too, where there is too much light."""
FEW_BANDS, GAPS, GAP_ROWS = 0.1, 0.1, 64
"""A band takes no part that has no data in more than the share GAPS of the pixels where most others have, all but the
share FEW_BANDS (of 10 bands or more): they keep these pixels. GAP_ROWS rows of an image tell."""
SIDE, LEAST_SIDE, UNLIKE, LEAST_LEFT = 64, 16, 0.2, 5e-3
"""An axis is the spectrum whose components leave UNLIKE times what those of the bands leave, which is LEAST_LEFT of the
variance or more."""
LEAST_BANDS = 8
"""Fewest bands of which one number in all says that it stands for no data."""


def empty_bands(reader: CubeReader, windows: Iterable[Window], bands: Sequence[int]) -> list[int]:
    """Those of ``bands`` without a single valid sample in ``windows``, which together are the image."""
    left = list(bands)
    for window in windows:
        left = [b for b in left if not reader.read(window, [b]).valid.any()]
    return left


def bands_with_gaps(reader: CubeReader, bands: Sequence[int]) -> dict[int, float]:
    """Those of ``bands`` that take pixels from all others (GAPS), each with the share of the pixels."""
    _, rows, cols = reader.shape
    lost, pixels = np.zeros(len(bands)), 0
    for row in np.unique(np.linspace(0, rows - 1, GAP_ROWS).astype(int)).tolist():
        cube = reader.read(Window(row, 0, 1, cols), bands)
        holes = np.zeros(cube.shape, bool) if cube.missing is None else cube.missing
        few = (cube.valid | holes.any(axis=0)) & (holes.mean(axis=0) <= FEW_BANDS)
        lost += holes[:, few].sum(axis=1)
        pixels += int(few.sum())
    shares = lost / max(pixels, 1)
    return {band: float(share) for band, share in zip(bands, shares, strict=True) if share > GAPS}


def largest_number(reader: CubeReader) -> float:
    """The largest number of the file's type in physical units; NaN where 8 bits, fractions or several scales tell
    nothing."""
    kind, scales, offsets = reader.dtype, reader.meta.scales or (1.0,), reader.meta.offsets or (0.0,)
    if kind.kind not in "iu" or kind.itemsize == 1 or len({*scales}) > 1 or len({*offsets}) > 1:
        return math.nan
    return float(np.iinfo(kind).max * scales[0] + offsets[0])


def undeclared_fill(
    moments: Moments, largest: float, sample: Callable[[], Samples], cubes: Callable[[], Iterable[Cube]]
) -> float | None:
    """A number that is an end of the range of every band and stands for no data; None for none.

    Never 0, or a number among the others: a dark or a saturated object is one, too. moments : of the bands that are
    looked at. largest : see :func:`largest_number`. sample : gives spectra (bands, n), which say what the others are.
    cubes : gives the image part by part; asked only where such a number is far from the others.
    """
    if len(moments.low) < LEAST_BANDS:
        return None
    low, high, count = moments.low.astype(np.float32), moments.high.astype(np.float32), moments.count
    if low[0] < 0 and (low == low[0]).all():
        least, most = _others(sample(), low[0], partly=True)  # detectors that are shifted leave some bands filled
        off = OFF if least > -0.05 * (most - least) else FAR_OFF
        if low[0] < least - off * (most - least) and _holding(cubes(), low[0]) > max(FEW, LEAST_FILL * count):
            return float(low[0])
    if math.isclose(high[0], largest, rel_tol=1e-6) and (high == high[0]).all():
        least, most = _others(sample(), high[0], partly=False)
        if high[0] > most + OFF * (most - least) and _holding(cubes(), high[0]) > max(FEW, SATURATED * count):
            return float(high[0])
    return None


def _others(spectra: Samples, value: np.float32, *, partly: bool) -> tuple[float, float]:
    """The range, but for a thousandth at its ends, of the spectra that are not one number in all bands and do not hold
    ``value`` in all bands, or ``partly``, in any; NaN where there is none."""
    holds = spectra == value
    others = spectra[:, (spectra != spectra[:1]).any(axis=0) & ~(holds.any(axis=0) if partly else holds.all(axis=0))]
    if not others.size:
        return math.nan, math.nan
    least, most = np.percentile(others, RANGE)
    return float(least), float(most)


def _holding(cubes: Iterable[Cube], value: np.float32) -> int:
    """Valid pixels that hold a number in every band."""
    return sum(int((cube.valid & (cube.data.astype(np.float32) == value).all(axis=0)).sum()) for cube in cubes)


def apart(sample: NDArray[Any]) -> dict[float, tuple[float, float]]:
    """Numbers at the ends of the range of a sample (n,) that are far from all others, each with its share of the sample
    and its distance in units of the range of the others.

    Those that stand for no data are among them, but so are cold skies and saturated sensors; of few pixels they may be
    defects, and are none of them.
    """
    few = max(FEW, LEAST_FILL * sample.size)
    found: dict[float, tuple[float, float]] = {}
    for value in (sample.min(), sample.max()) if sample.size else ():
        others = sample[sample != value]
        held = sample.size - others.size
        if held <= few or not others.size:
            continue
        off = distance(value, others)
        if OFF < off < math.inf:
            found[float(value)] = held / sample.size, off
    return found


def distance(value: float, others: NDArray[Any]) -> float:
    """How far a number is from the range of others (n,), in units of that range; infinite where that is a point."""
    least, most = np.percentile(others, RANGE)
    return float(max(least - value, value - most) / (most - least)) if most > least else math.inf


def is_usual(value: float) -> bool:
    """Whether a number is one of those in USUAL."""
    return any(math.isclose(value, mark, rel_tol=1e-6) for mark in USUAL)


def spike_limits(
    moments: Moments, data: Samples, valid: NDArray[np.bool_], cubes: Iterable[Cube]
) -> dict[int, tuple[float, float]]:
    """By index of each band that has spikes (FAR, RARE) the smallest and the largest of its other samples.

    moments : of the bands that are looked at. data (bands, h, w), valid (h, w) : the part of the image that says what
    is far. cubes : the image part by part, which says how many are; asked only where some are far.
    """
    if not valid.any():
        return {}
    low, high = np.full((2, len(data)), np.inf) * [[-1], [1]]
    for k, band in enumerate(data):
        samples = band[valid].astype(np.float64)
        middle = np.median(samples)
        reach = FAR * 1.4826 * np.median(np.abs(samples - middle))
        if reach:  # else most samples are the same, and nothing is known of the others
            low[k], high[k] = middle - reach, middle + reach
    if (moments.low >= low).all() and (moments.high <= high).all():
        return {}
    beyond, least, most = _inside(cubes, low, high)
    spiked = (beyond > 0) & (beyond <= max(FEW, RARE * moments.count))
    return {k: (float(least[k]), float(most[k])) for k in np.flatnonzero(spiked).tolist()}


def _inside(cubes: Iterable[Cube], low: Real, high: Real) -> tuple[Real, Real, Real]:
    """(how many samples of valid pixels that the file has lie outside ``low`` and ``high``, smallest inside, largest
    inside), by band."""
    beyond, least, most = np.zeros(len(low)), np.full(len(low), np.inf), np.full(len(low), -np.inf)
    for cube in cubes:
        for k, band in enumerate(cube.data):
            # What was missing tells nothing: beside spikes it was filled with anything.
            samples = band[cube.valid if cube.missing is None else cube.valid & ~cube.missing[k]]
            inside = samples[(samples >= low[k]) & (samples <= high[k])]
            beyond[k] += samples.size - inside.size
            if inside.size:
                least[k], most[k] = min(least[k], inside.min()), max(most[k], inside.max())
    return beyond, least, most


def spectral_axis(data: Samples) -> str | None:
    """Which axis of (bands, rows, columns), "rows" or "columns", behaves like a spectrum while the band axis does not;
    None for neither, and where an axis is short.

    The spectra of a scene are mixtures of few, its rows and columns are not: the leading principal components of the
    spectra leave a smaller share of the variance than as many of the rows. Asked twice: without what is common along
    each axis, and without what is common to each pair of axes, such as stripes. At most SIDE evenly spaced samples of
    each axis are compared.
    """
    side = min(SIDE, *data.shape)
    if side < LEAST_SIDE:
        return None
    places = np.ix_(*(np.linspace(0, n - 1, side).round().astype(int) for n in data.shape))
    x = data[places].astype(np.float64)
    flat = (data[:, places[1][0], places[2][0]] == data[:1, places[1][0], places[2][0]]).all(axis=0)
    if flat.all():
        return None
    x[:, flat] = x[:, ~flat].mean(axis=1, keepdims=True)  # one number in all bands fills an image and is no spectrum
    for axis in range(3):
        x -= x.mean(axis=tuple({0, 1, 2} - {axis}), keepdims=True)
    apart = x.copy()
    for axis in range(3):
        apart -= apart.mean(axis=axis, keepdims=True)
    left = [_unexplained(x), _unexplained(apart)]
    if left[0][0] < LEAST_LEFT or any(min(shares[1:]) > UNLIKE * shares[0] for shares in left):
        return None
    return "rows" if left[0][1] < left[0][2] else "columns"


def _unexplained(x: Real) -> list[float]:
    """For each axis of x (n, n, n) the share of the variance that an eighth of its principal components leaves."""
    shares = []
    for axis in range(3):
        unfolded = np.moveaxis(x, axis, 0).reshape(len(x), -1)
        values = np.linalg.eigvalsh(unfolded @ unfolded.T)
        shares.append(float(values[: -(len(x) // 8)].sum() / max(values.sum(), np.finfo(float).tiny)))
    return shares
