"""Clean cubes in memory, and noisy crops of them with their subspace, as a denoiser meets them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsunfold.errors import InputError
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.folders import inputs_in, refuse_no_folder
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import Subspace, subspace_of
from rsunfold.train.hyperspectral.recipe import Augment, Data, Noise

WHITE = 99.9
"""Percentile of a cube's values that becomes 1: a few glints would make all the rest dark."""


@dataclass(frozen=True)
class CleanCube:
    """name, and data float32 (bands, rows, cols) whose bright values are near 1."""

    name: str
    data: NDArray[np.float32]


def read_cubes(folder: Path, places: list[str]) -> list[CleanCube]:
    """The cubes of the sub-folders ``places`` of ``folder``, each folder once. A cube is called as its file without
    ending and, where several folders have one of that name, by its place too: ``2024-05/scene``, ``./scene``.

    Raises InputError where a folder is missing or holds none, and for cubes with pixels without data or without values
    above 0.
    """
    refuse_no_folder(folder, "the folders of cubes", "the data folder")
    once: dict[Path, str] = {}
    for place in places:
        once.setdefault((folder / place).resolve(), place)
    found = [(place, path) for place in once.values() for path in _files(folder / place)]
    count = Counter(path.stem for _, path in found)
    return [
        CleanCube(path.stem if count[path.stem] == 1 else f"{Path(place).as_posix()}/{path.stem}", _read(path))
        for place, path in found
    ]


def _files(where: Path) -> list[Path]:
    found = inputs_in(where) if where.is_dir() else None
    if not found:
        wrong = "is a file" if where.is_file() else "does not exist" if found is None else "contains no cubes"
        raise InputError(
            f"the folder {where}, listed in data.folders of the recipe, {wrong}; give the folders with "
            "--set data.folders=NAME,... (. is --data itself)."
        )
    return list(found.values())


def _read(path: Path) -> NDArray[np.float32]:
    with SpectralImage(str(path)) as image:
        data, valid = image.read(image.whole)
    if not valid.all():
        raise InputError(
            f"{path} has {int((~valid).sum())} pixels without data, which no network can be trained on; write "
            "the part of it that is complete to a file of its own."
        )
    white = np.percentile(data, WHITE)
    if white <= 0:
        raise InputError(f"{path} has no values above 0 to speak of, so it cannot be scaled as a clean cube.")
    scaled: NDArray[np.float32] = (data / white).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class Item:
    """One training crop, whitened: noisy and clean float32 (bands, h, w), and A (bands, R)."""

    noisy: Tensor
    clean: Tensor
    A: Tensor


class NoisyCrops:
    """Random noisy crops; item (step, i) depends on the seed, the process and these two alone."""

    def __init__(
        self, cubes: list[CleanCube], augment: Augment, noise: Noise, data: Data, seed: int, robust: bool
    ) -> None:
        self.cubes, self.augment, self.noise = cubes, augment, noise
        self.least_bands, self.seed, self.robust = data.least_bands, seed, robust
        often = np.array([data.weights.get(cube.name, 1.0) for cube in cubes], float)
        if not often.any():
            raise InputError("the recipe draws nothing: every cube has weight 0.")
        self.often = often / often.sum()
        self.kinds = list(noise.kinds)
        share = np.array([noise.kinds[k] for k in self.kinds], float)
        self.share = share / share.sum()

    def item(self, step: int, i: int, rank: int = 0) -> Item:
        """Crop ``i`` of ``step``."""
        rng = np.random.default_rng([self.seed, rank, step, i])
        clean = self._scene(rng)
        kind = self.kinds[rng.choice(len(self.kinds), p=self.share)]
        sigma = float(np.exp(rng.uniform(*np.log(self.noise.sigma)))) if kind in ("iid", "bandwise") else None
        noisy = make_noise(clean, kind, sigma=sigma, seed=int(rng.integers(2**31)))
        known = noisy.sigmas if rng.random() < self.noise.known else None
        subspace = subspace_of(noisy.data, sigma=known, robust=self.robust)
        side = min(self.augment.crop, *clean.shape[1:])
        r, c = (int(rng.integers(n - side + 1)) for n in clean.shape[1:])
        part = np.s_[:, r : r + side, c : c + side]
        return whitened(subspace, noisy.data[part], clean[part], c)

    def _scene(self, rng: np.random.Generator) -> NDArray[np.float32]:
        a = self.augment
        x = self.cubes[rng.choice(len(self.cubes), p=self.often)].data
        side = int(rng.integers(int(a.scene[0]), int(a.scene[1]) + 1))
        height, width = (min(side, n) for n in x.shape[1:])
        r, c = int(rng.integers(x.shape[1] - height + 1)), int(rng.integers(x.shape[2] - width + 1))
        x = x[:, r : r + height, c : c + width]
        if len(x) > 2 * self.least_bands and rng.random() < 0.5:
            count = int(rng.integers(self.least_bands, len(x)))
            x = x[np.sort(rng.choice(len(x), count, replace=False))]
        if rng.random() < 0.5:
            x = x.transpose(0, 2, 1)
        for axis in (1, 2):
            if rng.random() < 0.5:
                x = np.flip(x, axis)
        return np.ascontiguousarray(x * np.float32(rng.uniform(*a.bright)))


def whitened(subspace: Subspace, noisy: NDArray[np.float32], clean: NDArray[np.float32], col: int = 0) -> Item:
    """The item of a noisy and a clean cube (bands, h, w) whose first column is ``col``."""
    y = torch.from_numpy(subspace.whiten(noisy, np.arange(col, col + noisy.shape[2])))
    x = torch.from_numpy(subspace.scaled(clean))
    return Item(y, x, torch.from_numpy(subspace.A.astype(np.float32)))
