"""Synthetic hyperspectral cubes of any size, on disk, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rsunfold.cube import Meta, Window
from rsunfold.io import RasterWriter
from rsunfold.simulate.hyperspectral import hyperspectral_scene

TILE = 256


def write_cube(path: Path, rows: int, cols: int, bands: int) -> None:
    """An ENVI cube of float32 reflectance."""
    scene = hyperspectral_scene(TILE, TILE, bands, endmembers=7, seed=0)
    rng = np.random.default_rng(0)
    sigma = rng.uniform(5, 55, bands).astype(np.float32)[:, None, None] / 255
    mirrored = np.concatenate([scene.data, scene.data[:, :, ::-1]], axis=2)
    wide = np.tile(mirrored, (1, 1, -(-cols // (2 * TILE))))[:, :, :cols]
    meta = Meta(wavelengths=tuple(float(w) for w in scene.wavelengths))
    with RasterWriter(path, bands=bands, rows=rows, cols=cols, dtype=np.float32, meta=meta) as writer:
        for number, row in enumerate(range(0, rows, TILE)):
            height = min(TILE, rows - row)
            strip = (wide if number % 2 == 0 else wide[:, ::-1])[:, :height]
            for top in range(0, height, 32):
                part = strip[:, top : top + 32]
                noisy = part + sigma * rng.standard_normal(part.shape, np.float32)
                writer.write(noisy, Window(row + top, 0, part.shape[1], cols))
