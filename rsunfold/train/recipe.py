"""Recipes: everything that decides the outcome of a training, as one TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError
from rsunfold.train.data import Augment

SHIPPED = Path(__file__).resolve().parent / "recipes"


@dataclass
class Data:
    """Which images: ``split`` names a file of stems in each set's folder; ``validation`` is the share of each set held
    out, ``validation_of`` overrides it by set; ``weights`` says how often a set is drawn (1 unless named)."""

    split: str | None = None
    validation: float = 0.15
    validation_of: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class Optim:
    """AdamW with a linear warm-up over ``warmup`` steps and a cosine to 1 % of ``lr`` at ``steps``.

    step_size_lr : factor on lr for the learned step sizes (eps, sig). They start at 0.01 and Adam moves each
    parameter by about lr a step, whatever its gradient: with the common lr the logits stay small for thousands of steps.
    ema : decay of the averaged weights, which are the ones kept. clip : largest gradient norm. precision : "float32"
    or "bfloat16" (autocast).
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


@dataclass
class Loss:
    """Weights of the terms beside SoftIoU: hard pixels, fidelity of D^K to the image."""

    pixel: float = 1.0
    fidelity: float = 0.1


@dataclass
class Recipe:
    """A whole recipe; ``validate_every`` counts steps, ``seed`` decides weights, split and crops."""

    name: str
    model: str
    arch: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    validate_every: int = 1000
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    loss: Loss = field(default_factory=Loss)


PARTS: dict[str, type[Any]] = {"data": Data, "augment": Augment, "optim": Optim, "loss": Loss}


def recipe_path(name: str) -> Path:
    """The recipe file: ``name`` itself when it exists, else the shipped recipe of that name or file name."""
    given = Path(name)
    if given.is_file():
        return given
    ours = SHIPPED / f"{given.stem}.toml"
    if ours.is_file():
        return ours
    known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
    raise InputError(f"there is no recipe file {name}; shipped recipes are: {known}.")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises InputError that names an unknown key, a missing one, or a value of the wrong kind."""
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML file: {error}.") from None
    try:
        for key, part in PARTS.items():
            content[key] = _part(part, content.get(key, {}), f"[{key}]")
        recipe: Recipe = _part(Recipe, content, "the top level")
    except TypeError as error:
        raise InputError(f"the recipe {path} cannot be used: {error}.") from None
    if recipe.optim.precision not in ("float32", "bfloat16"):
        raise InputError(f"the recipe {path} asks for precision {recipe.optim.precision!r}: float32 or bfloat16.")
    if min(recipe.optim.steps, recipe.optim.batch, recipe.validate_every, recipe.augment.crop) < 1:
        raise InputError(f"the recipe {path} needs steps, batch, validate_every and crop of at least 1.")
    return recipe


def _part(kind: type[Any], content: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(content.keys() - known.keys())
    if unknown:
        raise TypeError(f"{where} has no key {unknown[0]!r} (known: {', '.join(known)})")
    defaults = kind() if kind is not Recipe else None
    for key, value in content.items():
        example = getattr(defaults, key, None)
        if isinstance(example, (int, float)) and not isinstance(value, (int, float)):
            raise TypeError(f"{key} in {where} must be a number, not {value!r}")
        if isinstance(example, tuple):
            content[key] = tuple(value)
    return kind(**content)
