"""Data frames in memory, column by column, as pandas and polars hand them out."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.io.memory import as_array


def columns_of(given: Any) -> list[tuple[Any, Any]] | None:
    """Name and cells of every column of a data frame; None of anything else."""
    names = getattr(given, "columns", None)
    if names is None or callable(names):
        return None
    if callable(getattr(given, "items", None)):  # pandas, whose names may come twice
        return list(given.items())
    if callable(getattr(given, "iter_columns", None)):  # polars
        return list(zip(names, given.iter_columns(), strict=True))
    array = as_array(given)
    return list(zip(names, array.T, strict=True)) if array.ndim == 2 and len(names) == array.shape[1] else None


def numbers_of(column: Any) -> tuple[NDArray[Any], bool]:
    """(the numbers of a column of a data frame, whether it holds anything else).

    Booleans, integers and floats stay in their type; objects become float64, NaN where there is no number.
    """
    array = as_array(column)
    if array.dtype.kind in "buif":
        return array, False
    cells = array.tolist() if array.dtype.kind == "O" else array.astype(str).tolist()
    read = [_number(cell) for cell in cells]
    return np.array([math.nan if value is None else value for value in read]), None in read


def is_word(cell: Any) -> bool:
    """Whether a cell holds something that is no number."""
    return _number(cell) is None


def _number(cell: Any) -> float | None:
    """What a cell says: NaN for a missing value, None for no number."""
    try:
        if cell is None or cell != cell:
            return math.nan
    except TypeError:  # the missing value of pandas is neither equal to itself nor not
        return math.nan
    except ValueError:  # an array
        return None
    try:
        return float(cell) if isinstance(cell, Number) else None  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return None
