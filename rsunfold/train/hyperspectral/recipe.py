"""The tables of a recipe for hyperspectral denoising."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rsunfold.simulate.noise import KINDS, make_noise
from rsunfold.train.recipe import Recipe, check_values

LEAST_SCENE = 8
"""Fewest pixels on a side of the part whose statistics give the subspace: of fewer, noise cannot be told."""
LEAST_SIGMA = 255 * float(np.finfo(np.float32).eps)
"""Smallest sigma of validation: less is lost in the rounding of float32, and the noisy cube has no PSNR."""


@dataclass
class Data:
    """Which cubes: all in the sub-folders ``folders`` of --data (empty: in --data itself), by file name without ending,
    and the sub-folder before it (``2024-05/scene``) where several have one of that name.

    validation : names of the cubes held out, comma-separated. weights : how often a cube is drawn, 1 unless named.
    least_bands : fewest bands of a training crop's cube.
    """

    folders: str = ""
    validation: str = ""
    weights: dict[str, float] = field(default_factory=dict)
    least_bands: int = 30

    @property
    def places(self) -> list[str]:
        """Sub-folders."""
        return [part.strip() for part in self.folders.split(",") if part.strip()] or ["."]

    @property
    def held_out(self) -> list[str]:
        """Names of the validation cubes."""
        return [part.strip() for part in self.validation.split(",") if part.strip()]


@dataclass
class Augment:
    """How training crops are varied, beside flips, transposes and random subsets of bands.

    scene : sides in pixels between which that of the part is drawn whose statistics give the subspace. crop : side of
    the part of it that the network sees; below about 64 pixels it learns for borders (on crops of 32 pixels the loss
    fell by 0.4 dB, on whole images by nothing). bright : range of the largest value that a cube is scaled to.
    """

    scene: tuple[float, float] = (80, 128)
    crop: int = 72
    bright: tuple[float, float] = (0.3, 1.0)


@dataclass
class Noise:
    """Which noise: how often each of the kinds of :mod:`rsunfold.simulate.noise` is drawn; sigma, on the 0 to 255
    scale, is drawn evenly on a logarithmic scale between the two of ``sigma``. known : share of the crops whose noise
    level is given instead of estimated. ``validate`` : kinds and sigmas of validation, such as "iid:30, case2".
    """

    kinds: dict[str, float] = field(default_factory=lambda: {"iid": 0.5, "bandwise": 0.5})
    sigma: tuple[float, float] = (5.0, 90.0)
    known: float = 0.25
    validate: str = "iid:10, iid:30, iid:50, iid:70"

    @property
    def protocol(self) -> list[tuple[str, float | None]]:
        """(kind, sigma) of each validation; raises ValueError for an entry that is no noise."""
        return [_noise_of(entry) for entry in self.validate.split(",")]


@dataclass
class HyperspectralRecipe(Recipe):
    """A recipe for hyperspectral denoising; ``seed`` decides weights, crops and noise."""

    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    noise: Noise = field(default_factory=Noise)

    def check(self) -> None:
        """Raise ValueError for a value of the right kind that no training can run with."""
        super().check()
        a, n = self.augment, self.noise
        check_values(
            counts={"crop": a.crop, "scene": a.scene[0], "least_bands": self.data.least_bands},
            positive={"bright": a.bright[0], "sigma": n.sigma[0]},
            shares={"known": n.known},
            others={f"kinds.{kind}": share for kind, share in n.kinds.items()}
            | {f"weights.{name}": weight for name, weight in self.data.weights.items()},
        )
        if a.scene[0] < LEAST_SCENE:
            raise ValueError(f"scene must be at least {LEAST_SCENE} pixels, not {a.scene[0]:g}")
        for name, (low, high) in {"scene": a.scene, "bright": a.bright, "sigma": n.sigma}.items():
            if low > high:
                raise ValueError(f"{name} must be an ascending range, not {low} to {high}")
        for kind in n.kinds:
            if kind not in KINDS:
                raise ValueError(f"unknown noise {kind!r}; choose from {', '.join(KINDS)}")
        if not any(n.kinds.values()):
            raise ValueError("every kind of noise has share 0")
        for entry in n.validate.split(","):
            _noise_of(entry)
        if not self.data.held_out:
            raise ValueError("[data] must name cubes for validation")


def _noise_of(entry: str) -> tuple[str, float | None]:
    """(kind, sigma) of an entry of ``Noise.validate``; raises ValueError where :func:`make_noise` would refuse it, or
    float32 lose it."""
    kind, _, text = entry.strip().partition(":")
    try:
        sigma = float(text) if text else None
        if sigma is not None and 0 < sigma < LEAST_SIGMA:
            raise ValueError(f"float32 cannot hold noise of less than {LEAST_SIGMA:.1g}")
        make_noise(np.zeros((3, 1, 1), np.float32), kind, sigma=sigma, seed=0)
    except ValueError as error:
        raise ValueError(
            f"noise.validate needs entries such as iid:30 or case2, not {entry.strip()!r} ({str(error).rstrip('.')})"
        ) from None
    return kind, sigma
