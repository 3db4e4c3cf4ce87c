"""Synthetic hyperspectral cubes of any size, on disk, for the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta, Window
from rsunfold.io import RasterWriter
from rsunfold.simulate.hyperspectral import hyperspectral_scene

TILE = 256


def strips(scene: NDArray[Any], rows: int, cols: int, lines: int) -> Iterator[tuple[Window, NDArray[Any]]]:
    """Windows of ``lines`` rows, and what a square scene (bands, side, side), repeated and mirrored, has there."""
    side = scene.shape[1]
    wide = np.tile(np.concatenate([scene, scene[:, :, ::-1]], axis=2), -(-cols // (2 * side)))[:, :, :cols]
    for number, row in enumerate(range(0, rows, side)):
        strip = (wide if number % 2 == 0 else wide[:, ::-1])[:, : rows - row]
        for top in range(0, strip.shape[1], lines):
            part = strip[:, top : top + lines]
            yield Window(row + top, 0, part.shape[1], cols), part


def write_cube(path: Path, rows: int, cols: int, bands: int) -> None:
    """An ENVI cube of float32 reflectance."""
    scene = hyperspectral_scene(TILE, TILE, bands, endmembers=7, seed=0)
    rng = np.random.default_rng(0)
    sigma = rng.uniform(5, 55, bands).astype(np.float32)[:, None, None] / 255
    meta = Meta(wavelengths=tuple(float(w) for w in scene.wavelengths))
    with RasterWriter(path, bands=bands, rows=rows, cols=cols, dtype=np.float32, meta=meta) as writer:
        for window, part in strips(scene.data, rows, cols, 32):
            writer.write(part + sigma * rng.standard_normal(part.shape, np.float32), window)
