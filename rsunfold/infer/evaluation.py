"""What the reports of all evaluations have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold import __version__
from rsunfold.io.folders import SUFFIXES
from rsunfold.io.mat import MatFile
from rsunfold.io.writer import ENVI_SUFFIXES

SINGLE = {*SUFFIXES, *ENVI_SUFFIXES} - {".mat", ".he5"}
"""Extensions of files that hold one image, of which no variable is asked for: other results may be in MAT files."""


def variable_of(path: Path, wanted: str | None) -> str | None:
    """The variable ``wanted`` of somebody else's results, or None where ``path`` holds a single one."""
    if wanted is None or path.suffix.lower() in SINGLE:
        return None
    if path.suffix.lower() == ".mat":
        with MatFile(str(path), (wanted,)) as mat:
            return None if len(mat.variables) == 1 else wanted
    return wanted


def mean_of(values: Iterable[float | None]) -> float | None:
    """None where a value is: over the others, the means of two models would be over other images."""
    given = list(values)
    return None if None in given else float(np.mean(given))  # type: ignore[arg-type]


def report_of(
    missing: Sequence[str],
    *,
    protocol: Mapping[str, Any],
    formulas: Mapping[str, str],
    notes: Sequence[str],
    **results: Any,
) -> dict[str, Any]:
    """A report as plain types: the same keys at the top for every task, and its ``results`` between them.

    missing : the names of what was asked for, but not finished; the report has the key only where there are some.
    protocol : how the figures were made, with what was asked for, ``asked``. formulas : by key, what the figures are.
    notes : sentences on what was assumed or left out.
    """
    return {
        "rsunfold": __version__,
        **({"missing": list(missing)} if missing else {}),
        "protocol": dict(protocol),
        "formulas": dict(formulas),
        **results,
        "notes": list(notes),
    }
