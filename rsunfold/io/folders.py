"""Images in folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".mat", ".hdr"}


def natural(name: str) -> list[Any]:
    """Sorting key under which XDU9 comes before XDU10."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", name) if t]


def images_in(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, in natural order of their names; hidden files are left out."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return {p.stem: p for p in sorted(found, key=lambda p: natural(p.stem))}
