"""Training for hyperspectral denoising: whitened noisy crops, the mean over bands of the logarithmic error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rsunfold.errors import InputError
from rsunfold.metrics.denoising import WINDOW, quality
from rsunfold.registry import get_model
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import subspace_of
from rsunfold.train.hyperspectral.data import CleanCube, NoisyCrops, read_cubes, whitened
from rsunfold.train.hyperspectral.recipe import HyperspectralRecipe
from rsunfold.train.recipe import Recipe
from rsunfold.train.task import NOT_FINITE, Forward, TrainingTask, Verdict
from rsunfold.unfold.unrolled import Unrolled
from rsunfold.weights import WeightRecord

TINY = 1e-8
SCALING = "whitened: each band less its mean and divided by its noise"


class HyperspectralTask(TrainingTask):
    """Clean cubes of any sensor, with noise added.

    validation : the cubes held out. crops : noisy crops of all others.
    """

    recipe_class: ClassVar[type[Recipe]] = HyperspectralRecipe
    columns: ClassVar[tuple[str, ...]] = ("val_psnr", "val_sets")

    def __init__(self, recipe: HyperspectralRecipe, data: Path, device: torch.device) -> None:
        self.device, self.protocol = device, recipe.noise.protocol
        self.robust = bool(get_model(recipe.model).factory.outliers)
        cubes = read_cubes(data, recipe.data.places)
        names = {cube.name for cube in cubes}
        _refuse_ambiguous([*recipe.data.held_out, *recipe.data.weights], names)
        missing = [name for name in recipe.data.held_out if name not in names]
        if missing:
            raise InputError(
                f"{data} contains no cube {missing[0]}, which the recipe holds out for validation; name the cubes to "
                "hold out, without file extensions, with --set data.validation=NAME,..."
            )
        self.validation = [cube for cube in cubes if cube.name in recipe.data.held_out]
        train = [cube for cube in cubes if cube.name not in recipe.data.held_out]
        if not train:
            raise InputError(f"{data} contains no cubes other than those for validation.")
        for cube in self.validation:
            _refuse_small(cube)
        self.absent = sorted(recipe.data.weights.keys() - {cube.name for cube in train})
        self.data_hash = _hash(cubes)
        self.trained_on = f"{len(train)} cube{'s' * (len(train) != 1)}: {', '.join(cube.name for cube in train)}"
        self.held_out = [cube.name for cube in self.validation]
        self.crops = NoisyCrops(train, recipe.augment, recipe.noise, recipe.data, recipe.seed, self.robust)

    def begin(self, record: WeightRecord | None, net: Unrolled, say: Callable[[str], None]) -> None:
        """Say which names of the recipe have no effect."""
        if self.absent:
            say(f"cubes that the recipe gives weights and that are not trained on: {', '.join(self.absent)}")

    def loss(self, forward: Forward, step: int, size: int, rank: int) -> Tensor:
        """Mean over crops and bands of the logarithm of the mean squared error: PSNR without its factor and sign."""
        total = torch.zeros((), device=self.device)
        for i in range(size):
            item = self.crops.item(step, i, rank)
            clean = item.clean.to(self.device)
            found = forward(item.noisy.to(self.device), item.A.to(self.device))[0]
            total = total + ((found - clean).square().mean((1, 2)) + TINY).log().mean()
        return total / size

    def validate(self, net: Unrolled) -> Verdict:
        """PSNR, SSIM and SAM of whole cubes under each noise of the recipe's protocol, seed 0."""
        rows: dict[str, dict[str, float]] = {}
        for kind, sigma in self.protocol:
            results = [self._measure(net, cube, kind, sigma) for cube in self.validation]
            name = kind if sigma is None else f"{kind} {sigma:g}"
            rows[name] = {key: float(np.mean([r[key] for r in results])) for key in results[0]}
        psnr = float(np.mean([row["psnr"] for row in rows.values()]))
        lines = [
            f"Validation cubes ({', '.join(self.held_out)}; not used for training), "
            "means over the cubes, noise level estimated:",
            "",
            "| noise | PSNR of the noisy cube | PSNR | SSIM | SAM (rad) | ERGAS |",
            "|---|---|---|---|---|---|",
        ]
        for name, r in rows.items():
            lines.append(
                f"| {name} | {r['noisy']:.2f} | {r['psnr']:.2f} | {r['ssim']:.4f} | {r['sam']:.4f} | {r['ergas']:.2f} |"
            )
        return Verdict(
            score=psnr,
            log={"val_psnr": psnr, "val_sets": {name: round(row["psnr"], 3) for name, row in rows.items()}},
            message=f"PSNR {psnr:.3f} dB",
            record={"bands": None, "scaling": SCALING, "figures": rows},
            usage=["noise level: estimated for each band of each image; the same weights for any level and band count"],
            results=lines,
        )

    def _measure(self, net: Unrolled, cube: CleanCube, kind: str, sigma: float | None) -> dict[str, float]:
        noisy = make_noise(cube.data, kind, sigma=sigma, seed=0).data
        subspace = subspace_of(noisy, robust=self.robust)
        item = whitened(subspace, noisy, cube.data)
        found = net(item.noisy.to(self.device), item.A.to(self.device))[0]
        if not bool(found.isfinite().all()):
            raise FloatingPointError(NOT_FINITE)
        q = quality(cube.data, subspace.colour(found.cpu().numpy()))
        return {
            "noisy": quality(cube.data, noisy)["psnr"],
            "psnr": q["psnr"],
            "ssim": q["ssim"],
            "sam": q["sam_radians"],
            "ergas": q["ergas"],
        }


def _refuse_ambiguous(asked: list[str], names: set[str]) -> None:
    for name in asked:
        if name not in names and (meant := sorted(full for full in names if full.endswith(f"/{name}"))):
            raise InputError(
                f"the recipe names the cube {name} (data.validation, data.weights), which may be "
                f"{' or '.join(meant)}; name it with its folder."
            )


def _refuse_small(cube: CleanCube) -> None:
    rows, cols = cube.data.shape[1:]
    if min(rows, cols) < WINDOW:
        raise InputError(
            f"the cube {cube.name}, held out for validation, has {rows} x {cols} pixels, but the SSIM takes {WINDOW} x "
            f"{WINDOW}; hold out larger ones with --set data.validation=NAME,..."
        )


def _hash(cubes: list[CleanCube]) -> str:
    digest = hashlib.sha256()
    for cube in cubes:
        digest.update(cube.name.rpartition("/")[2].encode())
        digest.update(cube.data.tobytes())
    return digest.hexdigest()
