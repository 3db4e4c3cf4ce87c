"""The words of options as numbers, ranges and names."""

from __future__ import annotations

from pathlib import Path

from rsunfold.arguments import split_names
from rsunfold.errors import UsageError, decimal_hint


def numbers(text: str | None, option: str) -> list[float]:
    """``1,2,3`` as numbers, none of None; raises UsageError."""
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} takes numbers such as 10,30,50, not {text!r}.") from None


def number_or_path(text: str | None, option: str) -> float | str | None:
    """``0.5`` as a number, anything else as the path that it is; raises UsageError for ``0,5``, unless that exists."""
    try:
        return None if text is None else float(text)
    except ValueError:
        hint = decimal_hint(str(text), float)
        if hint and not Path(str(text)).exists():
            raise UsageError(f"{option} takes a number or a file, not {text!r}{hint}.") from None
        return text


def whole_numbers(
    text: str, option: str, takes: str = "non-negative integers such as 0,1,2", *, once: bool = False
) -> list[int]:
    """``0,1,2`` as integers from 0, none of them twice where ``once`` says so; raises UsageError, which says what the
    option ``takes``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"{option} takes {takes}, not {text!r}.")
    found = [int(part) for part in parts]
    twice = next((n for n in found if once and found.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"{option} lists {twice} twice; list each value once.")
    return found


def pair_of_numbers(text: str | None, option: str) -> tuple[float, float] | None:
    """``low,high`` as two numbers; raises UsageError."""
    if text is None:
        return None
    try:
        return _pair(text, ",")
    except ValueError:
        hint = decimal_hint(text, lambda pointed: _pair(pointed, ","))
        raise UsageError(f"{option} takes two numbers such as 0,1000, not {text!r}{hint}.") from None


def _pair(text: str, between: str) -> tuple[float, float]:
    """Raises ValueError unless ``text`` is two numbers."""
    low, high = (float(part) for part in text.split(between))
    return low, high


def _ranges(text: str) -> tuple[tuple[float, float], ...]:
    return tuple(_pair(part.strip(), "-") for part in text.split(","))


def ranges(text: str | None, option: str) -> tuple[tuple[float, float], ...]:
    """``1340-1450,1800-1960``, wavelengths in nm, as pairs of numbers, none of None; raises UsageError."""
    if text is None:
        return ()
    try:
        return _ranges(text)
    except ValueError:
        hint = decimal_hint(text, _ranges)
        raise UsageError(
            f"{option} takes ranges of wavelengths in nm such as 1340-1450,1800-1960, not {text!r}{hint}."
        ) from None


def names_of(text: str | None) -> tuple[str, ...]:
    """``a,b`` as names, see :func:`rsunfold.arguments.split_names`; none of None."""
    return split_names(text or "")


def yes_or_no(text: str | None, option: str) -> bool | None:
    """``yes`` or ``no`` as True or False, None as it is; raises UsageError."""
    if text not in (None, "yes", "no"):
        raise UsageError(f"{option} takes yes or no, not {text!r}.")
    return None if text is None else text == "yes"


def model_options(**given: int | bool | None) -> dict[str, int | bool | None]:
    """Those that were given; a switch that is off was not."""
    return {name: value for name, value in given.items() if value is not None and value is not False}


def prior_names(text: str | None) -> list[str] | None:
    """``kernel,small-object`` as names."""
    return None if text is None else [part.strip() for part in text.split(",")]
