"""CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.io.atomic import atomic_path


def write_rows(
    path: Path,
    header: Iterable[str],
    rows: Iterable[Sequence[Any]],
    *,
    digits: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a header and rows of cells (UTF-8, each line ends with a line feed); None and NaN are empty.

    digits : significant ones of a float; None for as many as it takes to read the same value again. Raises OutputError
    when the file exists (unless ``overwrite``) or cannot be written.
    """
    with atomic_path(path, overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value, digits) for value in row] for row in rows)


def _cell(value: Any, digits: int | None) -> str:
    real = isinstance(value, float | np.floating)
    if value is None or (real and math.isnan(value)):
        return ""
    return f"{value:.{digits}g}" if real and digits is not None else str(value)
