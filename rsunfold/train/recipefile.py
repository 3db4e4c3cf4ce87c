"""Recipes as TOML files: where they are, and what they hold by the task of their model."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError, RsunfoldError, UsageError
from rsunfold.train.recipe import Recipe
from rsunfold.train.tasks import task_of

SHIPPED = Path(__file__).resolve().parent / "recipes"


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
    except (ValueError, RecursionError):  # no TOML: words
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
    if base is types.UnionType:  # with None, which TOML does not have
        return _unlike(value, inner[0])
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
