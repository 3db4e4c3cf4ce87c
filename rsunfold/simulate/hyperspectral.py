"""Seeded hyperspectral scenes whose composition is known, for the demo, the documentation and the tests.

A scene is a landscape of parcels, woods, a river, a road and a village seen by a sensor: every pixel is a linear
mixture of a few materials under its own illumination. Spectra are parametrised by what gives them their shape
(pigments and red edge, liquid water, clay, iron, cellulose); no measured spectrum or image enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import UsageError
from rsunfold.simulate.infrared import power_law

FIRST, LAST = 400.0, 2500.0  # nm, centres of the first and the last band
MINIMUM = 16  # rows and columns of the smallest scene
PARCEL = 1200  # pixels of a parcel, about
BANK = 0.012  # width of a river's bank relative to the scene
OPTICS_SIGMA = 0.6  # pixels, blur that mixes materials across borders

Field = NDArray[np.float64]


@dataclass(frozen=True)
class HyperspectralScene:
    """A scene and its composition: data = illumination * sum over materials of abundance * spectrum.

    data : float32 (bands, rows, cols), reflectance in [0, 1]. wavelengths : (bands,), nm.
    materials : names of the endmembers. abundances : float32 (endmembers, rows, cols), 0 to 1, sum 1 in each pixel.
    spectra : float32 (endmembers, bands), reflectance. illumination : float32 (rows, cols), about 1.
    """

    data: NDArray[np.float32]
    wavelengths: Field
    materials: tuple[str, ...]
    abundances: NDArray[np.float32]
    spectra: NDArray[np.float32]
    illumination: NDArray[np.float32]
    seed: int


def hyperspectral_scene(
    rows: int = 128, cols: int = 128, bands: int = 64, *, endmembers: int = 5, seed: int
) -> HyperspectralScene:
    """One scene of rows x cols pixels (16 or more each) in bands evenly spaced from 400 to 2500 nm.

    endmembers : how many of the materials crop, soil, water, roof, asphalt, dry grass and trees occur, the first ones,
    2 to 7; it is also the rank of the scene. The same arguments give the same scene, and another number of bands the
    same landscape.
    Raises UsageError for impossible arguments.
    """
    if min(rows, cols) < MINIMUM:
        raise UsageError(f"a scene needs at least {MINIMUM} x {MINIMUM} pixels, got {rows} x {cols}.")
    if bands < 2 or seed < 0:
        raise UsageError(f"a scene needs at least 2 bands and a seed of at least 0, got {bands} and {seed}.")
    if not 2 <= endmembers <= len(_SPECTRA):
        raise UsageError(f"a scene has 2 to {len(_SPECTRA)} endmembers, got {endmembers}.")

    rng = np.random.default_rng(seed)
    materials = tuple(_SPECTRA)[:endmembers]
    wavelengths = np.linspace(FIRST, LAST, bands)
    spectra = np.stack([_SPECTRA[name](rng, wavelengths) for name in materials]).astype(np.float32)
    abundances, illumination = _landscape(rng, rows, cols, materials)
    data = (spectra.T @ abundances.reshape(endmembers, -1)).reshape(bands, rows, cols) * illumination
    return HyperspectralScene(data, wavelengths, materials, abundances, spectra, illumination, seed)


# ---------------------------------------------------------------- spectra: (rng, wavelengths in nm) to reflectance


def _bump(w: Field, centre: float, width: float) -> Field:
    """Gaussian of height 1; width is its standard deviation in nm."""
    return np.asarray(np.exp(-(((w - centre) / width) ** 2) / 2))


def _rise(w: Field, centre: float, width: float) -> Field:
    """From 0 below ``centre`` to 1 above it, over some four times ``width`` nm."""
    return np.asarray(1 / (1 + np.exp((centre - w) / width)))


def _absorb(w: Field, *features: tuple[float, float, float]) -> Field:
    """The factor that absorption features (centre, width, depth) leave over."""
    return np.asarray(np.prod([1 - depth * _bump(w, centre, width) for centre, width, depth in features], axis=0))


def _leaf(rng: np.random.Generator, w: Field, plateau: float, moisture: float) -> Field:
    """Chlorophyll with its green peak and red edge, then the bands of liquid water."""
    chlorophyll = rng.uniform(2.2, 2.9) * (1 - 0.4 * _bump(w, 552, 32)) * (1 - _rise(w, rng.uniform(703, 715), 11))
    liquid = ((970, 25, 0.08), (1190, 40, 0.2), (1450, 60, 1.2), (1940, 75, 1.8), (2500, 220, 1.7))
    water = moisture * sum(depth * _bump(w, centre, width) for centre, width, depth in liquid)
    return np.asarray(plateau * np.exp(-chlorophyll - water - 0.3 * moisture * _rise(w, 1400, 60)))


def _crop(rng: np.random.Generator, w: Field) -> Field:
    return _leaf(rng, w, rng.uniform(0.45, 0.58), rng.uniform(0.6, 0.9))


def _trees(rng: np.random.Generator, w: Field) -> Field:
    return _leaf(rng, w, rng.uniform(0.26, 0.34), rng.uniform(1.0, 1.4))


def _soil(rng: np.random.Generator, w: Field) -> Field:
    """Convex rise; iron oxides in the visible, hydroxyl, and clay at 2205 nm."""
    rise = rng.uniform(0.4, 0.55) * (1 - np.exp(-(w - 250) / rng.uniform(500, 750)))
    clay = rng.uniform(0.05, 0.12)
    return rise * _absorb(w, (500, 60, 0.15), (880, 90, 0.08), (1410, 30, clay), (1915, 40, 2 * clay), (2205, 20, clay))


def _water(rng: np.random.Generator, w: Field) -> Field:
    """Turbid: a peak in the green, hardly anything beyond 750 nm."""
    return (
        0.004 + rng.uniform(0.05, 0.09) * _bump(w, 560, 85) * (1 - _rise(w, 720, 15)) + 0.02 * np.exp(-(w - 400) / 90)
    )


def _roof(rng: np.random.Generator, w: Field) -> Field:
    """Fired clay: dark in the blue, a step at 590 nm, iron at 870 nm."""
    step = 0.06 + rng.uniform(0.28, 0.4) * _rise(w, rng.uniform(580, 600), 22) * (
        0.9 + 0.2 * (w - FIRST) / (LAST - FIRST)
    )
    return step * _absorb(w, (870, 90, 0.12), (1410, 30, 0.03), (1920, 45, 0.08), (2205, 25, 0.03))


def _asphalt(rng: np.random.Generator, w: Field) -> Field:
    """Gray, a little brighter towards long waves, with carbonate of its gravel."""
    return rng.uniform(0.13, 0.19) * (1 + 0.5 * (w - FIRST) / (LAST - FIRST)) * _absorb(w, (2320, 35, 0.07))


def _dry_grass(rng: np.random.Generator, w: Field) -> Field:
    """Without chlorophyll; cellulose and lignin at 1730, 2100 and 2310 nm."""
    rise = rng.uniform(0.42, 0.52) * (1 - np.exp(-(w - 330) / rng.uniform(280, 380)))
    cellulose = rng.uniform(0.12, 0.2)
    return rise * _absorb(
        w, (1460, 45, 0.2), (1730, 25, 0.06), (1935, 50, 0.3), (2100, 55, cellulose), (2310, 40, cellulose)
    )


_SPECTRA: dict[str, Callable[[np.random.Generator, Field], Field]] = {
    "crop": _crop,
    "soil": _soil,
    "water": _water,
    "roof": _roof,
    "asphalt": _asphalt,
    "dry grass": _dry_grass,
    "trees": _trees,
}


# ---------------------------------------------------------------- landscape


def _landscape(
    rng: np.random.Generator, rows: int, cols: int, materials: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Abundances (materials, rows, cols) and illumination (rows, cols)."""
    from scipy import ndimage

    index = {name: i for i, name in enumerate(materials)}
    ground = [index[name] for name in ("crop", "soil", "dry grass", "trees") if name in index]
    u, v = _axes(rng, rows, cols)

    # Parcels: a mixture of their own each, dominated by one material, patchy within.
    labels = _parcels(rng, u, v)
    mixtures = np.zeros((labels.max() + 1, len(materials)))
    mixtures[:, ground] = rng.dirichlet(np.full(len(ground), 0.3), len(mixtures)) + 0.02
    shares = np.moveaxis(mixtures[labels], -1, 0)
    for i in ground:
        shares[i] *= np.exp(0.5 * power_law(rng, rows, cols, 2.6))
    shares /= shares.sum(axis=0)

    def cover(where: NDArray[np.bool_], name: str, instead: str, share: float) -> None:
        """Let ``name`` (or what stands in for it in a scene without it) take that share of some pixels."""
        shares[:, where] *= 1 - share
        shares[index.get(name, index[instead]), where] += share

    wood = power_law(rng, rows, cols, 3.2) > rng.uniform(0.5, 1.0)
    cover(wood, "trees", "crop", 0.85)
    size = np.sqrt(rows * cols)
    across = (u - rng.uniform(-0.25, 0.25) * size) / size + 0.12 * power_law(rng, rows, cols, 4.5)
    width = rng.uniform(0.03, 0.07)
    river = (np.abs(across) < width + BANK) & ("water" in index)
    if "water" in index:
        cover(river, "soil", "soil", 0.7)
        cover(np.abs(across) < width, "water", "water", 1.0)
    if "roof" in index:
        village = (power_law(rng, rows, cols, 4.0) > 0.9) & ~river
        cover(village, "asphalt", "soil", 0.3)
        cover(village & _houses(rng, u, v), "roof", "roof", 1.0)
    bend = 0.03 * size * power_law(rng, rows, cols, 5.0)
    road = np.abs(v - rng.uniform(-0.3, 0.3) * size + bend) < 1.3
    cover(road & ~river, "asphalt", "soil", 0.95)

    abundances = np.stack([ndimage.gaussian_filter(share, OPTICS_SIGMA, mode="reflect") for share in shares])
    abundances /= abundances.sum(axis=0)

    # Slopes towards the sun are brighter, crowns of trees shade each other; water is level.
    slope = np.gradient(power_law(rng, rows, cols, 3.6), axis=1)
    shade = 0.06 * slope / slope.std() + (0.03 + 0.12 * wood) * power_law(rng, rows, cols, 1.4)
    level = 1 - abundances[index["water"]] if "water" in index else 1.0
    illumination = np.clip(1 + shade * level, 0.5, 1.4)
    return abundances.astype(np.float32), illumination.astype(np.float32)


def _axes(rng: np.random.Generator, rows: int, cols: int) -> tuple[Field, Field]:
    """Coordinates (rows, cols) in pixels from the centre along two perpendicular directions, slightly bent."""
    angle = rng.uniform(0, np.pi)
    y = np.arange(rows)[:, None] - rows / 2 + 2 * power_law(rng, rows, cols, 5.0)
    x = np.arange(cols) - cols / 2 + 2 * power_law(rng, rows, cols, 5.0)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _parcels(rng: np.random.Generator, u: Field, v: Field) -> NDArray[np.intp]:
    """Number of the parcel that each pixel lies in, from 0: the longer side is cut until parcels are small enough."""
    labels = np.zeros(u.size, dtype=np.intp)
    waiting, done = [np.arange(u.size)], 0
    flat = np.stack([u.ravel(), v.ravel()])
    while waiting:
        inside = waiting.pop()
        if inside.size <= PARCEL * rng.uniform(0.5, 1.5):
            labels[inside] = done
            done += 1
            continue
        place = flat[:, inside]
        low, high = place.min(axis=1), place.max(axis=1)
        side = int(np.argmax(high - low))
        first = place[side] < low[side] + rng.uniform(0.3, 0.7) * (high - low)[side]
        waiting += [inside[first], inside[~first]]
    return labels.reshape(u.shape)


def _houses(rng: np.random.Generator, u: Field, v: Field) -> NDArray[np.bool_]:
    """Rectangles on a grid of 8 x 10 pixels along the axes, three quarters of the places taken; (rows, cols)."""
    i, j = (((axis - axis.min()) / step) for axis, step in ((u, 8), (v, 10)))
    place = i.astype(np.intp), j.astype(np.intp)
    taken = rng.random((place[0].max() + 1, place[1].max() + 1)) < 0.75
    return np.asarray(taken[place] & (i % 1 < 0.55) & (j % 1 < 0.6))
