"""Images in folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError

SUFFIXES = {".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".mat", ".hdr"}
"""Extensions of what a folder is looked through for. Others are read where they are named: data files of ENVI stand
behind their headers, containers such as NetCDF hold several images, and a VRT is made of others."""


LAST = ("_summary.json", "_ranking.json", "_explain.json")
"""How the file ends that is written after all others of a result."""
_RESULT = re.compile(
    r"(?P<image>.+)_(score|mask|stages|quicklook|spectra|selected|explain|residual|report|bands|noise|denoised)"
)


def is_result(path: Path) -> bool:
    """Whether a file is what an earlier run has made of an image beside it."""
    found = _RESULT.fullmatch(path.stem)
    if found is None:
        return False
    stems = (found["image"], path.stem) if path.stem.endswith("_denoised") else (found["image"],)
    return any(path.with_name(stem + last).exists() for stem in stems for last in LAST)


def inputs_in(folder: Path) -> dict[str, Path]:
    """:func:`images_in`, without the results of earlier runs."""
    return images_in(folder, lambda path: not is_result(path))


def natural(name: str) -> list[Any]:
    """Sorting key under which XDU9 comes before XDU10."""
    return [(0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", name) if t]


def images_in(folder: Path, wanted: Callable[[Path], bool] | None = None) -> dict[str, Path]:
    """Image files of a folder by stem, in natural order of their names; hidden files are left out.

    wanted : whether a file is to be looked at; None for all. Raises InputError when the folder cannot be read, or when
    two of the files differ in their extension alone.
    """
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        found = [p for p in found if p.is_file()]
        found = [p for p in found if wanted is None or wanted(p)]
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror}).") from None
    images: dict[str, Path] = {}
    for path in sorted(found, key=lambda p: (natural(p.stem), p.name)):
        if path.stem in images:
            raise InputError(f"{folder} contains both {images[path.stem].name} and {path.name}; give one of them.")
        images[path.stem] = path
    return images
