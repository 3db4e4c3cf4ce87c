"""What the reports of all evaluations have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rsunfold import __version__


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
