"""Arguments of the public functions, checked at the door: a wrong type would fail far inside, without its name."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from rsunfold.errors import RsunfoldError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = Sequence[float] | NDArray[Any]
    SomeNumbers = Sequence[float | None] | NDArray[Any]
else:
    Numbers = Sequence[float]
    SomeNumbers = Sequence[float | None]
"""Several numbers, None in place of some. For type checkers an array is no sequence; for :func:`checked` it is."""
Function = TypeVar("Function", bound=Callable[..., Any])

_FLAG = re.compile(r"(?<![\w/.-])-(?:-|(?=k\b))([a-z][a-z-]*[a-z]|k\b)(?!\w|[/.-]\w)")
"""A flag, not a part of a file's name."""
_NAME = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|\Z)|([^,]*)(?:,|\Z)')
"""A name between commas: what stands in double quotes, or else what there is."""
_WORDS = {float: "a number", int: "a whole number", bool: "True or False", str: "text", NoneType: "None"}


def checked(function: Function) -> Function:
    """``function``, which raises UsageError for arguments that do not have the types that it is annotated with.

    Numbers of NumPy are numbers, and are made those of Python, with which arrays compute in their own type; True and
    False are none. Lists and arrays are sequences, text is none. What is annotated with Any is not looked at. Messages
    name arguments, not the flags of the command line.
    """
    signature = inspect.signature(function)
    of_models = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())  # options, which another checks
    kinds = {p.name: p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
    hints = {name: eval(p.annotation, function.__globals__) for name, p in kinds.items()}  # our own source

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in signature.parameters]
            close = get_close_matches(unknown[0], kinds, 1) if unknown else []
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{function.__name__}() {error}{meant}") from None
        for name in kwargs.keys() - kinds.keys() if of_models else ():
            if close := get_close_matches(name, kinds, 1, cutoff=0.8):
                raise TypeError(
                    f"{function.__name__}() got an unexpected keyword argument {name!r}; did you mean {close[0]!r}?"
                )
        for name, value in given.arguments.items():
            if name in hints and not _fits(value, hints[name]):
                shown = " ".join(repr(value).split())[:60]
                raise UsageError(f"{name} must be {_words(hints[name])}, not {shown}.")
            if hints.get(name, Any) is not Any and isinstance(value, Real) and hasattr(value, "item"):  # NumPy's
                given.arguments[name] = value.item()
        with arguments_named():
            return function(*given.args, **given.kwargs)

    return call  # type: ignore[return-value]


@contextmanager
def arguments_named(**others: str) -> Iterator[None]:
    """Messages of the errors raised inside name arguments, not flags; ``others`` by flag where they are called
    differently."""
    try:
        yield
    except RsunfoldError as error:
        error.args = (_FLAG.sub(lambda flag: others.get(flag[1], flag[1].replace("-", "_")), str(error)),)
        raise


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_fits(value, h) for h in inside)
    if kind in (float, int):
        return isinstance(value, Real if kind is float else Integral) and not isinstance(value, bool)
    if kind in (tuple, Sequence):
        several = hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)
        parts = list(value) if several else []
        each = inside if kind is tuple else inside * len(parts)
        return several and len(parts) == len(each) and all(map(_fits, parts, each))
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's
    return isinstance(value, Mapping if kind is dict else kind)


def _words(hint: Any) -> str:
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return " or ".join(dict.fromkeys(_words(h) for h in inside))
    if kind is tuple:
        return "(" + ", ".join(_words(h) for h in inside) + ")"
    if kind is Sequence:
        return f"a sequence of {_words(inside[0])}"
    return _WORDS.get(kind, "a path" if kind is os.PathLike else "a dictionary")


def split_names(text: str) -> tuple[str, ...]:
    """``a,b`` as names, none of nothing between commas; one that holds a comma, or begins with a double quote, stands
    in double quotes, as in CSV."""
    names = (quoted.replace('""', '"') or plain.strip() for quoted, plain in _NAME.findall(text))
    return tuple(name for name in names if name)


def quoted_name(name: str) -> str:
    """A name as :func:`split_names` takes it."""
    inner = name.replace('"', '""')
    return f'"{inner}"' if "," in name or name.startswith('"') else name
