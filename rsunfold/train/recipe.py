"""Recipes: everything that decides the outcome of a training, as one TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError, RsunfoldError, UsageError
from rsunfold.train.task import task_of

SHIPPED = Path(__file__).resolve().parent / "recipes"


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

    Each task has a subclass that adds its tables, such as [data] and [loss], as fields that are dataclasses.
    """

    name: str
    model: str
    licence: str = ""
    arch: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    validate_every: int = 1000
    optim: Optim = field(default_factory=Optim)

    def check(self) -> None:
        """Raise ValueError for a value of the right kind that no training can run with."""
        if not self.name.strip() or Path(self.name).name != self.name or "\\" in self.name:
            raise ValueError(f"name must be the plain name of a file, without folders, not {self.name!r}")
        o = self.optim
        check_values(
            counts={"steps": o.steps, "batch": o.batch, "validate_every": self.validate_every},
            positive={"lr": o.lr, "step_size_lr": o.step_size_lr, "clip": o.clip},
            shares={"ema": o.ema, "start_share": o.start_share},
            others={"weight_decay": o.weight_decay, "seed": self.seed, "warmup": o.warmup},
        )
        if o.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, not {o.precision!r}")


def recipe_path(name: str) -> Path:
    """The recipe file: ``name`` itself when it exists, else the shipped recipe of that name or file name."""
    given = Path(name)
    if given.is_file():
        return given
    ours = SHIPPED / f"{given.stem}.toml"
    if ours.is_file():
        return ours
    known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
    raise InputError(f"the recipe {name} does not exist; shipped recipes are: {known}.")


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe, of the class that belongs to its model's task.

    changes : "TABLE.KEY=VALUE" each, which take the place of what the file says; values as TOML has them, or words.
    Raises InputError that names an unknown key, a missing one, or a value that cannot be used, or says that models of
    this task cannot be trained; UsageError for an unknown model and for a change that is not of that form.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the recipe {path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a valid TOML file: {error}.") from None
    for change in changes:
        _change(content, change)
    try:
        return _recipe(content)
    except RsunfoldError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"the recipe {path} cannot be used: {error}.") from None


def _change(content: dict[str, Any], change: str) -> None:
    """Set in ``content`` the key of a change "TABLE.KEY=VALUE"."""
    place, equals, text = change.partition("=")
    *tables, key = (part.strip() for part in place.split("."))
    if not equals or not all((*tables, key)):
        raise UsageError(f"--set takes a key and a value such as optim.steps=500, not {change!r}.")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise UsageError(f"--set {change}: {table} is not a table of the recipe.")
    try:
        (content[key],) = tomllib.loads(f"value = {text}").values()
    except ValueError:  # no TOML: words
        content[key] = text.strip()


def _recipe(content: dict[str, Any]) -> Recipe:
    head: Recipe = _part(Recipe, {k: content[k] for k in ("name", "model") if k in content}, "the top level")
    kind = task_of(head.model).recipe_class
    for key, part in typing.get_type_hints(kind).items():
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            content[key] = _part(part, content.get(key, {}), f"[{key}]")
    recipe: Recipe = _part(kind, content, "the top level")
    recipe.check()
    return recipe


def check_values(
    *,
    counts: Mapping[str, float] | None = None,
    positive: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    others: Mapping[str, float] | None = None,
) -> None:
    """Raise ValueError, with its name, for the first value that is not finite or not in its range.

    counts : at least 1. positive : above 0. shares : in [0, 1]. others : at least 0.
    """
    limits = (
        ("at least 1", 1, counts),
        ("above 0", math.ulp(0.0), positive),
        ("at least 0", 0, shares),
        ("at least 0", 0, others),
    )
    for words, least, values in limits:
        for name, value in (values or {}).items():
            if not least <= value < math.inf:
                raise ValueError(f"{name} must be {words}, not {value}")
    for name, value in (shares or {}).items():
        if value > 1:
            raise ValueError(f"{name} must be at most 1, not {value}")


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
    if base is bool:
        return None if isinstance(value, bool) else "true or false"
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
    if dataclasses.is_dataclass(base):
        return None if isinstance(value, base) else "a table"  # type: ignore[arg-type]
    return None if isinstance(value, str) else "text"
