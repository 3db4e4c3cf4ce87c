"""Recipes: everything that decides the outcome of a training."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rsunfold.registry import as_registered

NOT_IN_NAMES = '/\\<>:"|?*'
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
"""What files of Windows cannot be called."""
LONGEST = 200
"""Bytes of a name, to which extensions are added: file systems take 255."""


@dataclass
class Optim:
    """AdamW with a linear warm-up over ``warmup`` steps and a cosine to 1 % of ``lr`` at ``steps``.

    step_size_lr : factor on lr for the learned step sizes, single numbers that a stage holds beside its layers. Those
    of the infrared networks (eps, sig) start at 0.01 and Adam moves each parameter by about lr a step, whatever its
    gradient: with the common lr the logits stay small for thousands of steps.
    ema : decay of the averaged weights, which are the ones kept. clip : largest gradient norm. precision : "float32"
    or "bfloat16" (autocast). fixed_norm : batch normalisation keeps the means and variances that it begins with, for
    crops that are no fair sample of whole images. start_share : share of the weights begun with in the mean that is
    validated and kept (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022); 0 keeps what was trained.
    revive : operators of the starting weights that give one number for all pixels, and so have no gradient, begin anew
    from random weights (:func:`rsunfold.train.grow.revived`). compile : with torch.compile, which takes a minute to
    begin with and a C++ compiler on CPUs.
    """

    steps: int = 10_000
    batch: int = 8
    lr: float = 1e-3
    step_size_lr: float = 10.0
    weight_decay: float = 1e-4
    warmup: int = 200
    ema: float = 0.999
    clip: float = 1.0
    precision: str = "float32"
    fixed_norm: bool = False
    start_share: float = 0.0
    revive: bool = False
    compile: bool = False


@dataclass
class Recipe:
    """What the recipes of all tasks have; ``validate_every`` counts steps, ``seed`` decides all that is random.

    continued : the recipe goes on with weights, and is none for random ones.

    Each task has a subclass that adds its tables, such as [data] and [loss], as fields that are dataclasses.
    """

    name: str
    model: str
    licence: str = ""
    arch: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    continued: bool = False
    validate_every: int = 1000
    optim: Optim = field(default_factory=Optim)

    def __post_init__(self) -> None:
        self.model = as_registered(self.model)

    @property
    def begins_with(self) -> str:
        """The model of the weights that training begins with, if it begins with any."""
        return self.model

    @property
    def needs_weights(self) -> list[str]:
        """Keys that ask for something of the weights that training begins with."""
        o = self.optim
        asked = {"fixed_norm": o.fixed_norm, "start_share": o.start_share, "revive": o.revive}
        return [name for name, value in asked.items() if value]

    def check(self) -> None:
        """Raise ValueError for a value of the right kind that no training can run with."""
        plain = self.name.strip() and self.name.isprintable() and not set(self.name) & set(NOT_IN_NAMES)
        if not plain or self.name.endswith((".", " ")) or self.name.split(".")[0].upper() in DEVICES:
            raise ValueError(f"name must be the plain name of a file, without folders, not {self.name[:40]!r}")
        if len(self.name.encode()) > LONGEST:
            raise ValueError(f"name must have at most {LONGEST} bytes, not {len(self.name.encode())}")
        o = self.optim
        check_values(
            counts={"steps": o.steps, "batch": o.batch, "validate_every": self.validate_every},
            positive={"lr": o.lr, "step_size_lr": o.step_size_lr, "clip": o.clip},
            shares={"ema": o.ema, "start_share": o.start_share},
            others={"weight_decay": o.weight_decay, "seed": self.seed, "warmup": o.warmup},
        )
        if o.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, not {o.precision!r}")


def check_values(
    *,
    counts: Mapping[str, float] | None = None,
    positive: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    others: Mapping[str, float] | None = None,
) -> None:
    """Raise ValueError, with its name, for the first value that is not finite, not in its range, or a whole number of
    2^63 or more.

    counts : at least 1. positive : above 0. shares : in [0, 1]. others : at least 0.
    """
    limits = (
        ("at least 1", 1, counts),
        ("above 0", sys.float_info.min, positive),
        ("at least 0", 0, shares),
        ("at least 0", 0, others),
    )
    for words, least, values in limits:
        for name, value in (values or {}).items():
            if not least <= value < math.inf:
                tiny = f" by {least:.2g} or more" if 0 < value < least < 1 else ""
                raise ValueError(f"{name} must be {words}{tiny}, not {value}")
            if isinstance(value, int) and value >= 2**63:
                raise ValueError(f"{name} must be below 2^63")
    for name, value in (shares or {}).items():
        if value > 1:
            raise ValueError(f"{name} must be at most 1, not {value}")
