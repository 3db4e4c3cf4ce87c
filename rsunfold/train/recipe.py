"""Recipes: everything that decides the outcome of a training, as one TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
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

    step_size_lr : factor on lr for the learned step sizes (eps, sig). They start at 0.01 and Adam moves each parameter
    by about lr a step, whatever its gradient: with the common lr the logits stay small for thousands of steps.
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
    """Weights of the terms beside SoftIoU of T^K: hard pixels, fidelity of D^K to the image, SoftIoU of earlier T^k.

    pixel : at the first and at the last step, linear between. Much of it from the start keeps targets from being
    found at all; little of it to the end leaves the strongest clutter above the faint targets.
    """

    pixel: tuple[float, float] = (0.1, 1.0)
    fidelity: float = 0.1
    stages: float = 0.0


@dataclass
class Recipe:
    """A whole recipe; ``validate_every`` counts steps, ``seed`` decides weights, split and crops."""

    name: str
    model: str
    licence: str = ""
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
    """Read a recipe; raises InputError that names an unknown key, a missing one, or a value that cannot be used."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the recipe {path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML file: {error}.") from None
    try:
        for key, part in PARTS.items():
            content[key] = _part(part, content.get(key, {}), f"[{key}]")
        recipe: Recipe = _part(Recipe, content, "the top level")
        _check(recipe)
    except (TypeError, ValueError) as error:
        raise InputError(f"the recipe {path} cannot be used: {error}.") from None
    return recipe


def _check(recipe: Recipe) -> None:
    """Raise ValueError for a value of the right kind that no training can run with."""
    d, a, o, loss = recipe.data, recipe.augment, recipe.optim, recipe.loss
    counts = {"steps": o.steps, "batch": o.batch, "validate_every": recipe.validate_every, "crop": a.crop}
    shares = {"validation": d.validation, "on_target": a.on_target, "salt": a.salt, "paste": a.paste, "ema": o.ema}
    shares |= {f"validation_of.{name}": share for name, share in d.validation_of.items()}
    others = {"contrast": a.contrast, "brightness": a.brightness, "gauss": a.gauss, "weight_decay": o.weight_decay}
    others |= {"seed": recipe.seed, "warmup": o.warmup, "fidelity": loss.fidelity, "stages": loss.stages}
    others |= {"pixel at first": loss.pixel[0], "pixel at last": loss.pixel[1]}
    others |= {f"weights.{name}": weight for name, weight in d.weights.items()}
    limits: list[tuple[str, float, dict[str, Any]]] = [
        ("at least 1", 1, counts),
        ("above 0", math.ulp(0.0), {"lr": o.lr, "step_size_lr": o.step_size_lr, "clip": o.clip, "scale": a.scale[0]}),
        ("at least 0", 0, shares | others),
    ]
    for words, least, values in limits:
        for name, value in values.items():
            if not least <= value < math.inf:
                raise ValueError(f"{name} must be {words}, not {value}")
    for name, value in shares.items():
        if value > 1:
            raise ValueError(f"{name} must be at most 1, not {value}")
    if not a.scale[0] <= a.scale[1] < math.inf:
        raise ValueError(f"scale must rise, not fall from {a.scale[0]} to {a.scale[1]}")
    if o.precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be float32 or bfloat16, not {o.precision!r}")


def _part(kind: type[Any], content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise TypeError(f"{where} must be a table, not {content!r}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(content.keys() - known.keys())
    if unknown:
        raise TypeError(f"{where} has no key {unknown[0]!r} (known: {', '.join(known)})")
    required = [n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING]
    for name in required:
        if name not in content:
            raise TypeError(f"{where} lacks the key {name!r}")
    types = typing.get_type_hints(kind)
    for key, value in content.items():
        words = _unlike(value, types[key])
        if words:
            raise TypeError(f"{key} in {where} must be {words}, not {value!r}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


def _unlike(value: Any, kind: Any) -> str | None:
    """What ``value`` should be when it is not of the annotated type ``kind``, else None."""
    base, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if base is int:
        return None if number and isinstance(value, int) else "a whole number"
    if base is float:
        return None if number else "a number"
    if base is tuple:
        fits = isinstance(value, list) and len(value) == len(inner) and not any(map(_unlike, value, inner))
        return None if fits else f"a list of {len(inner)} numbers"
    if base is dict:
        fits = isinstance(value, dict) and (inner[1] is Any or not any(_unlike(v, inner[1]) for v in value.values()))
        return None if fits else "a table" if inner[1] is Any else "a table of numbers"
    if base in PARTS.values():
        return None if isinstance(value, base) else "a table"
    return None if isinstance(value, str) else "text"
