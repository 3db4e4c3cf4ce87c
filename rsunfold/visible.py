"""Names that others have given, as they can be shown."""

from __future__ import annotations

_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))}


def visible(text: str, keep: str = "") -> str:
    """``text`` with its control characters written out, as ``\\x1b``, but for those in ``keep``: names of files,
    variables and bands could give orders to a terminal, or begin a line of a log that looks like another."""
    return text.translate({number: shown for number, shown in _CONTROLS.items() if chr(number) not in keep})
