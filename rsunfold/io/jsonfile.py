"""JSON files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.io.atomic import atomic_path


def write_json(path: Path, obj: Any, *, overwrite: bool = False) -> None:
    """Write ``obj`` as JSON (UTF-8, RFC 8259).

    obj : dictionaries, sequences, dataclasses, numpy arrays and scalars, paths; NaN and infinities become null.
    Raises OutputError when the file exists and ``overwrite`` is False, or cannot be written.
    """
    text = json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def told_by(file: Path) -> dict[str, Any]:
    """What the object in a JSON file says; nothing where it holds none, or cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the last where lists in lists have no end
        return {}
    return found if isinstance(found, dict) else {}


def plain(obj: Any) -> Any:
    """``obj`` of the types that :mod:`json` writes; see :func:`write_json`."""
    if isinstance(obj, np.ndarray | np.generic):
        obj = obj.tolist()
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: plain(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {str(k): plain(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple | set | frozenset):
        return [plain(v) for v in obj]
    return str(obj) if isinstance(obj, Path) else obj
