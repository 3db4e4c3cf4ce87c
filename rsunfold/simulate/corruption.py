"""Noise of gray images at a wanted level, for training and for the study of robustness.

``gaussian``     a normal number with the standard deviation ``level`` is added to each pixel
``salt-pepper``  the share ``level`` of the pixels is replaced, one half by 1, the other by 0

Gray is on the 0 to 1 scale. The two formulas take numpy arrays and torch tensors alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import UsageError, unknown

KINDS = {
    "gaussian": "added to each valid pixel: a normal number with the level as its standard deviation, in gray levels "
    "of the 0 to 1 scale; then cut at 0 and 1, where a sensor saturates, or at the image's own least and largest gray "
    "where these lie beyond",
    "salt-pepper": "the level is the share of the valid pixels that are replaced, one half by gray 1, the other by 0",
}


def with_gaussian(x: Any, sigma: float, normal: Any) -> Any:
    """x + sigma * normal, ``normal`` standard normal numbers of the shape of x."""
    return x + sigma * normal


def with_salt_pepper(x: Any, share: float, uniform: Any) -> Any:
    """x with 1 where ``uniform`` < share / 2 and 0 where ``uniform`` > 1 - share / 2.

    uniform : numbers in [0, 1) of the shape of x; with the same ones a larger share replaces the same pixels and more.
    """
    salt, pepper = uniform < share / 2, uniform > 1 - share / 2
    return x * ~(salt | pepper) + salt


def ends(x: Any) -> tuple[float, float]:
    """Where gray is cut: 0 and 1 as of a saturating sensor, or what ``x`` has beyond, as images scaled by percentiles
    do, whose targets are what exceeds them; x may be empty."""
    return (min(0.0, float(x.min())), max(1.0, float(x.max()))) if len(x) else (0.0, 1.0)


@dataclass(frozen=True)
class Corruption:
    """A kind of noise (see ``KINDS``) at a level in [0, 1], drawn from ``seed`` and the name of the image.

    The numbers depend on seed, kind and name alone: not on the order of the images, and not on the level, so that two
    levels differ by the strength of one and the same noise. Raises UsageError for an unknown kind, a level outside
    [0, 1] and a negative seed.
    """

    kind: str
    level: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("corruption", self.kind, KINDS)
        if not 0 <= self.level <= 1:
            raise UsageError(f"a level of {self.kind} must lie between 0 and 1, not {self.level:g}.")
        if self.seed < 0:
            raise UsageError(f"the seed of a noise must be at least 0, not {self.seed}.")

    def apply(self, gray: NDArray[np.float32], valid: NDArray[np.bool_], name: str) -> NDArray[np.float32]:
        """The noisy image float32 (H, W) of ``gray`` (H, W); pixels that are not ``valid`` stay as they are.

        Gray beyond [0, 1], which images scaled by percentiles have, is kept: the cut of Gaussian noise is at the
        image's own ends there.
        """
        digest = hashlib.sha256(name.encode()).digest()[:8]
        rng = np.random.default_rng([self.seed, list(KINDS).index(self.kind), int.from_bytes(digest)])
        if self.kind == "gaussian":
            noisy = np.clip(
                with_gaussian(gray, self.level, rng.standard_normal(gray.shape, np.float32)), *ends(gray[valid])
            )
        else:
            noisy = with_salt_pepper(gray, self.level, rng.random(gray.shape, np.float32))
        return np.asarray(np.where(valid, noisy, gray), np.float32)
