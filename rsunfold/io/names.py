"""What names of inputs say: which only GDAL understands, what results are called after, whether two are one image."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from rsunfold.errors import InputError
from rsunfold.io.envi import DATA_SUFFIXES, TIFF_SUFFIXES, data_files_of, type_of

_OF_GDAL = re.compile(r"/vsi|[A-Za-z]\w+:")
_SUBDATASET = re.compile(r"[A-Za-z]\w+:(?!//)(.*[^:].*)")


FOLDS = os.name == "nt" or sys.platform == "darwin"
"""Whether names that differ in their case alone usually are one file on the disks of this system."""


def folded(name: str) -> str:
    """What is equal for names that are one file, see FOLDS."""
    return name.casefold() if FOLDS else name


def refuse_undecodable(name: str) -> None:
    """Raise InputError for a name whose bytes are not UTF-8, for which neither GDAL nor JSON has a place, or which no
    file can have."""
    if "\0" in name:
        raise InputError(f"{name!r} has a null character, which no name of a file can have.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {name} is not valid UTF-8; rename the file.") from None


def of_gdal(name: str) -> bool:
    """Whether only GDAL understands a name: ``/vsizip/a.zip/b.tif``, ``NETCDF:a.nc:b``."""
    return bool(_OF_GDAL.match(name)) and not exists(name)


def exists(name: str) -> bool:
    """Whether there is a file or folder of a name; False where nobody may look, or the name is too long."""
    return os.path.exists(name)  # noqa: PTH110 (pathlib raises)


def stem_of(name: str) -> str:
    """What the results of an input are called after: its file, with the variable where one of GDAL's names has one,
    such as ``NETCDF:"a.nc":b``, ``HDF5:a.h5://b/c`` or ``GTIFF_DIR:2:a.tif``."""
    inner = _SUBDATASET.match(name)
    if inner is None or exists(name):
        file = Path(name)
        usual = (*DATA_SUFFIXES, *TIFF_SUFFIXES)
        if file.suffix.lower() not in (*usual, ".hdr") and type_of(Path(f"{name}.hdr")) is not None:
            return file.name  # scene.v2 of scene.v2.hdr
        inner_suffix = Path(file.stem).suffix.lower()
        doubled = file.suffix.lower() == ".hdr" and inner_suffix and inner_suffix in usual  # x.img.hdr
        return Path(file.stem).stem if doubled else file.stem
    parts = [part.strip('"') for part in re.findall(r'"[^"]*"|[^:]+', inner[1])]
    file = next((part for part in parts if Path(part).suffix), parts[0])
    parts.remove(file)
    return re.sub(r"[^\w.-]+", "_", "_".join([Path(file).stem, *(part.strip("/") for part in parts)]))


def shown_as(source: str, stem: str) -> str:
    """What tables call an image: its file with the folders that its ``stem`` has, such as ``2022-07-24/cam.tif``; one
    of GDAL's names with a variable, and a frame of a stack, as its results are called (``stem``)."""
    folders, _, called = stem.rpartition("/")
    variable = _SUBDATASET.match(source) and not exists(source)
    name = called if variable or called != stem_of(source) else Path(source).name
    return f"{folders}/{name}" if folders else name


def same_image(one: str, other: str) -> str | None:
    """The name to read, where two are of one file, or the header and the data of one ENVI image; else None."""
    a, b = Path(one), Path(other)
    try:
        if a.samefile(b):
            return one
    except OSError:
        return None
    if a.parent.resolve() == b.parent.resolve() and (a.suffix.lower() == ".hdr") != (b.suffix.lower() == ".hdr"):
        header, data = (one, b) if a.suffix.lower() == ".hdr" else (other, a)
        if data.name in (found.name for found in data_files_of(Path(header))):
            return str(data) if data.suffix.lower() in TIFF_SUFFIXES else header
    return None
