"""Images in folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path, PureWindowsPath
from typing import Any

from rsunfold.errors import InputError
from rsunfold.io.envi import DATA_SUFFIXES, TIFF_SUFFIXES, of_tiff
from rsunfold.io.jsonfile import told_by
from rsunfold.io.names import folded
from rsunfold.io.table import TABLE_SUFFIXES
from rsunfold.io.writer import ENVI_SUFFIXES

SUFFIXES = {".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".mat", ".hdr", ".he5"}
"""Extensions of what a folder is looked through for. Others are read where they are named: data files of ENVI stand
behind their headers, containers such as NetCDF hold several images (.he5 are the products of PRISMA), and a VRT is made
of others."""

_OF_IMAGES = {*SUFFIXES, *DATA_SUFFIXES, *TABLE_SUFFIXES}
LAST = ("_summary.json", "_ranking.json", "_explain.json")
"""How the file ends that is written after all others of a result."""
_RASTER = "score|mask|stages|residual|denoised|selected"
_TABLE = "summary|targets|anomalies|spectra|ranking|explain|selected"
_KINDS = dict.fromkeys(TIFF_SUFFIXES + ENVI_SUFFIXES, _RASTER)
_KINDS |= {".png": "quicklook|spectra|stages|explain|report|bands|noise|selected"}
_KINDS |= dict.fromkeys((".csv", ".npy", ".npz", ".json", ".geojson"), _TABLE)
"""What the names of results say behind that of the image, by extension."""
BESIDE = {".tfw", ".pgw", ".jgw", ".j2w", ".bpw", ".gfw", ".wld", ".prj"}
BESIDE |= {f".{kind}w" for kind in ("tif", "tiff", "png", "jpg", "jpeg", "jp2", "bmp", "gif")}
"""Extensions of what a GIS keeps beside an image to say where it lies."""


def is_result(path: Path) -> bool:
    """Whether a file is what an earlier run has written and no image to work on.

    Its summary lies beside it. What was denoised, or has fewer bands, is an image to work on all the same where the
    image that it was made of is not there too.
    """
    found = re.fullmatch(rf"(?P<image>.+)_(?P<kind>{_KINDS.get(path.suffix.lower(), '')})", path.stem)
    if found is None or not found["kind"]:
        return False
    image, kind = found["image"], found["kind"]
    stems = (image, path.stem) if kind == "denoised" else (image,)
    last = [there for stem in stems for end in LAST if (there := path.with_name(stem + end)).exists()]
    if not last or kind not in ("denoised", "selected") or path.suffix.lower() == ".png":
        return bool(last)
    named = told_by(last[0]).get("input")
    made_of = named if isinstance(named, str) else ""  # no summary of ours
    # Of a name such as NETCDF:"a.nc":b, too, the file; the summary may come from Windows.
    files = {PureWindowsPath(part).name for part in re.split(r'[:"]', made_of)} - {"", ".", ".."}
    files |= {image + suffix for suffix in _OF_IMAGES}
    return any(path.with_name(name).exists() for name in files)


def refuse_no_folder(folder: Path, holds: str, called: str = "the folder") -> None:
    """Raise InputError unless ``folder`` is one; ``holds`` says what is expected in it."""
    if folder.is_dir():
        return
    if folder.exists():
        raise InputError(f"{folder} is a file; give the folder that contains {holds}.")
    raise InputError(f"{called} {folder} does not exist.")


def inputs_in(folder: Path) -> dict[str, Path]:
    """:func:`images_in`, without the results of earlier runs."""
    return images_in(folder, lambda path: not is_result(path))


def folder_below(folder: Path) -> Path | None:
    """The first sub-folder, in natural order, with images to work on; None where there is none, or none can be read."""
    try:
        inside = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_by_name)
    except OSError:
        return None
    return next((p for p in inside if _holds_inputs(p)), None)


def _by_name(path: Path) -> list[Any]:
    return natural(path.name)


def _holds_inputs(folder: Path) -> bool:
    try:
        some = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        return any(p.is_file() and not is_result(p) for p in some)
    except OSError:
        return False


def natural(name: str) -> list[Any]:
    """Sorting key under which XDU9 comes before XDU10."""
    return [(0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", name) if t]


def images_in(folder: Path, wanted: Callable[[Path], bool] | None = None) -> dict[str, Path]:
    """Image files of a folder by stem, in natural order of their names; hidden files are left out.

    wanted : whether a file is to be looked at; None for all. Raises InputError when the folder cannot be read, or when
    two of the files differ in their extension alone.
    """
    images: dict[str, Path] = {}
    for path in files_in(folder, wanted):
        twin = images.setdefault(folded(path.stem), path)
        if twin is not path:
            raise InputError(f"{folder} contains both {twin.name} and {path.name}; give one of them.")
    return {path.stem: path for path in images.values()}


def files_in(folder: Path, wanted: Callable[[Path], bool] | None = None) -> list[Path]:
    """The files of :func:`images_in`, also where two of them differ in their extension alone."""
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        found = [p for p in found if p.is_file() or not p.exists()]  # a link to nothing fails when it is read
        found = [p for p in found if wanted is None or wanted(p)]
        tiffs = {name for p in found if p.suffix.lower() in TIFF_SUFFIXES for name in (p.stem, p.name)}
        found = [p for p in found if p.suffix.lower() != ".hdr" or p.stem not in tiffs or not of_tiff(p)]
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror}).") from None
    return sorted(found, key=lambda p: (natural(p.stem), p.name))


def not_looked_for(folder: Path, stems: Collection[str]) -> str:
    """The end of a sentence on an image that is missing in a folder: which file of one of these ``stems`` is there in a
    format that folders are not looked through for; nothing where there is none."""
    try:
        there = sorted(p.name for p in folder.iterdir() if p.stem in stems and p.suffix.lower() not in SUFFIXES)
    except OSError:
        return ""
    return f"; {there[0]} is not read: folders are searched for {', '.join(sorted(SUFFIXES))}" if there else ""
