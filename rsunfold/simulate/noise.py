"""Seeded noise for hyperspectral cubes, by the protocols that denoising papers report on, ``KINDS``.

The cases are those of Wei, Fu and Huang, "3-D Quasi-Recurrent Neural Network for Hyperspectral Image Denoising", TNNLS
2021, and follow its published code where the paper leaves room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError, UsageError, unknown

KINDS = {
    "iid": "Gaussian, the same sigma in all bands",
    "bandwise": "Gaussian, the sigma of each band drawn from U(0, sigma)",
    "case1": "Gaussian, the sigma of each band drawn from {10, 30, 50, 70}",
    "case2": "case1, and stripes on a third of the bands: 5 to 15 % of the columns, each offset by U(-0.25, 0.25)",
    "case3": "case1, and dead lines on a third of the bands: 5 to 15 % of the columns are 0",
    "case4": "case1, and impulses on a third of the bands: a share of 0.1, 0.3, 0.5 or 0.7 of the pixels is 0 or 1",
    "case5": "case1, and stripes on a third of the bands, dead lines on another, impulses on the last",
}
"""What each kind adds to a cube whose data range is 1; see :func:`definition`."""
GAUSSIAN = ("iid", "bandwise")
STRUCTURES = {
    "case1": (),
    "case2": ("stripes",),
    "case3": ("dead",),
    "case4": ("impulse",),
    "case5": ("stripes", "dead", "impulse"),
}

SIGMAS = (10, 30, 50, 70)  # of the cases, on the 0 to 255 scale
OFFSET = 0.25  # largest offset of a stripe
RATIOS = (0.1, 0.3, 0.5, 0.7)  # share of a band's pixels that impulses replace
COLUMNS_PERCENT = (5, 15)  # fewest and most columns with a stripe or dead line
STREAM = 1  # beside the seed: a scene made from the same seed shares no random number with its noise


def definition(kind: str) -> str:
    """What one of ``KINDS`` adds, in full."""
    thirds = f"; case1: {KINDS['case1']}; thirds are rounded down, and have no band in common"
    common = "sigmas are on the 0 to 255 scale, so the standard deviation is sigma / 255; nothing is clipped"
    return f"{KINDS[kind]}{thirds if STRUCTURES.get(kind) else ''}; {common}"


@dataclass(frozen=True)
class NoisyCube:
    """A noisy cube and what was done to it.

    data : float32 (bands, rows, cols). sigmas : (bands,), standard deviation of the Gaussian part in data units.
    stripes, dead : bool (bands, cols), columns with an offset and columns set to 0. impulse : bool (bands, rows, cols),
    pixels set to 0 or 1. None where the kind has no such noise.
    """

    data: NDArray[np.float32]
    sigmas: NDArray[np.float64]
    kind: str
    seed: int
    stripes: NDArray[np.bool_] | None = None
    dead: NDArray[np.bool_] | None = None
    impulse: NDArray[np.bool_] | None = None

    def realised(self) -> dict[str, Any]:
        """What was drawn, band by band: the standard deviations, and the shares of the pixels with a stripe, in a dead
        line and hit by an impulse, each (bands,), None where the kind has no such noise."""
        return {
            "sigmas": self.sigmas,
            "stripe_share": _share(self.stripes),
            "dead_share": _share(self.dead),
            "impulse_share": _share(self.impulse),
        }


def make_noise(cube: NDArray[Any], kind: str, *, sigma: float | None = None, seed: int) -> NoisyCube:
    """``cube`` with noise of one of ``KINDS``; the same arguments give the same noise.

    cube : float (bands, rows, cols), finite, scaled so that its data range is 1; it is left as it is.
    sigma : on the 0 to 255 scale; the deviation of ``iid``, the largest one of ``bandwise``; the cases draw their own.

    Cubes of one size get the same standard normal field from one seed, whatever the kind: case2 to case5 differ from
    case1 by their stripes, dead lines and impulses alone, case5 has those of case2, case3 and case4, and ``iid``
    noise of two sigmas differs by a factor.
    Raises UsageError for an unknown kind, a sigma missing, superfluous or not above 0, or a negative seed, InputError
    for a cube of another shape or type, with NaN or infinities, or with fewer than 3 bands where thirds are corrupted.
    """
    _check(cube, kind, seed)
    levels, field, places, *streams = np.random.default_rng([seed, STREAM]).spawn(6)
    bands = len(cube)
    sigmas = _sigmas(levels, kind, sigma, bands)
    data = field.standard_normal(cube.shape, dtype=np.float32)
    data *= sigmas.astype(np.float32)[:, None, None]
    data += cube

    thirds = places.permutation(bands)[: bands // 3 * 3].reshape(3, -1)
    masks = {
        name: add(rng, data, third)
        for (name, add), rng, third in zip(_ADD.items(), streams, thirds, strict=True)
        if name in STRUCTURES.get(kind, ())
    }
    return NoisyCube(data, sigmas, kind, seed, **masks)


def _check(cube: NDArray[Any], kind: str, seed: int) -> None:
    if kind not in KINDS:
        raise unknown("noise", kind, KINDS)
    if seed < 0:
        raise UsageError(f"the seed of a noise must be at least 0, got {seed}.")
    if cube.ndim != 3 or cube.dtype.kind != "f":
        raise InputError(
            "noise is added to floating-point cubes (bands, rows, cols) with a data range of 1, "
            f"not to {cube.dtype} of shape {cube.shape}."
        )
    if not np.isfinite(cube).all():
        raise InputError("the cube contains NaN or infinities; fill pixels without data before adding noise.")
    if STRUCTURES.get(kind) and len(cube) < 3:
        raise InputError(f"{kind} corrupts thirds of the bands and needs at least 3 of them, got {len(cube)}.")


def _sigmas(rng: np.random.Generator, kind: str, sigma: float | None, bands: int) -> NDArray[np.float64]:
    """Standard deviation of each band's Gaussian noise in data units, (bands,)."""
    if kind not in GAUSSIAN:
        if sigma is not None:
            raise UsageError(f"{kind} draws its sigmas from {', '.join(map(str, SIGMAS))}; leave sigma out.")
        return rng.choice(SIGMAS, bands) / 255
    if sigma is None or not 0 < sigma < math.inf:
        given = "none" if sigma is None else f"{sigma:g}"
        raise UsageError(f"{kind} noise needs a sigma above 0, on the 0 to 255 scale, got {given}.")
    return (np.full(bands, float(sigma)) if kind == "iid" else rng.uniform(0, sigma, bands)) / 255


def _columns(rng: np.random.Generator, cols: int) -> NDArray[np.intp]:
    """5 to 15 % of the columns, at least one, without repetition."""
    low, high = (percent * cols for percent in COLUMNS_PERCENT)
    fewest = -(-low // 100)  # rounded up
    count = rng.integers(fewest, max(fewest, high // 100), endpoint=True)
    return rng.permutation(cols)[:count]


def _stripes(rng: np.random.Generator, data: NDArray[np.float32], bands: NDArray[Any]) -> NDArray[np.bool_]:
    """Offset columns of ``data`` (bands, rows, cols) in place; returns which, (bands, cols)."""
    mask = np.zeros((data.shape[0], data.shape[2]), dtype=bool)
    for band in bands:
        columns = _columns(rng, data.shape[2])
        data[band][:, columns] += rng.uniform(-OFFSET, OFFSET, columns.size).astype(np.float32)
        mask[band, columns] = True
    return mask


def _dead(rng: np.random.Generator, data: NDArray[np.float32], bands: NDArray[Any]) -> NDArray[np.bool_]:
    """Set columns of ``data`` (bands, rows, cols) to 0 in place; returns which, (bands, cols)."""
    mask = np.zeros((data.shape[0], data.shape[2]), dtype=bool)
    for band in bands:
        columns = _columns(rng, data.shape[2])
        data[band][:, columns] = 0
        mask[band, columns] = True
    return mask


def _impulse(rng: np.random.Generator, data: NDArray[np.float32], bands: NDArray[Any]) -> NDArray[np.bool_]:
    """Set pixels of ``data`` (bands, rows, cols) to 0 or 1, each as often, in place; returns which, same shape."""
    mask = np.zeros(data.shape, dtype=bool)
    for band in bands:
        hit = rng.random(data.shape[1:]) < rng.choice(RATIOS)
        salt = rng.random(data.shape[1:]) < 0.5
        data[band][hit] = salt[hit]
        mask[band] = hit
    return mask


def _share(mask: NDArray[np.bool_] | None) -> NDArray[np.float64] | None:
    """Share of each band that a mask (bands, cols) or (bands, rows, cols) covers, (bands,)."""
    return None if mask is None else mask.reshape(len(mask), -1).mean(axis=1)


_ADD = {"stripes": _stripes, "dead": _dead, "impulse": _impulse}
