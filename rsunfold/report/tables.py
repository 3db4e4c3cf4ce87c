"""Results as a table for a person and as JSON for a program."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rsunfold.io.atomic import atomic_path

if TYPE_CHECKING:
    from rich.table import Table


def write_json(path: Path, obj: Any, *, overwrite: bool = False) -> None:
    """Write ``obj`` as JSON (UTF-8, RFC 8259).

    obj : dictionaries, sequences, dataclasses, numpy arrays and scalars, paths; NaN and infinities become null.
    Raises OutputError when the file exists and ``overwrite`` is False, or cannot be written.
    """
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(obj: Any) -> Any:
    if isinstance(obj, np.ndarray | np.generic):
        obj = obj.tolist()
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: _plain(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {str(k): _plain(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple | set | frozenset):
        return [_plain(v) for v in obj]
    return str(obj) if isinstance(obj, Path) else obj


def table(rows: Sequence[Mapping[str, Any]], *, title: str = "", digits: int = 4) -> Table:
    """A rich table with one line per mapping and one column per key, in the order in which the keys appear.

    Columns that hold a number are flush right, with ``digits`` significant digits for real ones; None, NaN and missing
    entries are a dash.
    """
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = Table(title=title or None)
    for name in names:
        numeric = any(isinstance(row.get(name), int | float | np.number) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        shown.add_row(*(_cell(row.get(name), digits) for name in names))
    return shown


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.{digits}g}" if math.isfinite(value) else "–"
    return "–" if value is None else str(value)
