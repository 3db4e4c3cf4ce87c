"""What the runs of all tasks share: what their results are called, what they may replace, and their surroundings."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import reprlib
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold import __version__
from rsunfold.errors import InputError, OutputError, UsageError
from rsunfold.infer.device import Budgeted, device_failures
from rsunfold.infer.source import Source
from rsunfold.io.atomic import refuse_existing
from rsunfold.io.dlr import metadata_of
from rsunfold.io.envi import DATA_SUFFIXES, TIFF_SUFFIXES, header_of_tiff, resolve
from rsunfold.io.folders import SUFFIXES
from rsunfold.io.jsonfile import plain
from rsunfold.io.names import of_gdal
from rsunfold.io.table import TABLE_SUFFIXES
from rsunfold.io.work import claimed
from rsunfold.io.writer import (
    ENVI_SUFFIXES,
    refuse_header_of_tiff,
    refuse_in_envi,
    refuse_shared_header,
)
from rsunfold.registry import ModelSpec
from rsunfold.setting import Setting
from rsunfold.torchstate import usual_torch

NOT_WRITTEN = {".nc", ".h5", ".hdf", ".he5", ".vrt", ".jp2", ".xyz", ".zarr"}
FILES = {*SUFFIXES, *ENVI_SUFFIXES, *DATA_SUFFIXES, *TABLE_SUFFIXES, *NOT_WRITTEN}
FILES |= {".json", ".geojson", ".gpkg", ".shp"}
FILES -= {""}
"""Extensions that nobody gives to a folder."""
OF_FILES = "of files"
PIECE, PIECES = 2**16, 256
"""Bytes of a piece of an input, and how many are read to know it again: 16 MiB, a moment even on a network disk."""
SAMPLED = "sha256-sampled:"
"""How the digest of an input begins that was not read to its end."""
CACHE_BYTES = 2**22
"""Size of GDAL's cache: a line of all bands of most sensors. Where it does not fit, GDAL takes raw lines that hold the
bands pixel by pixel apart anew for each band, 30 times slower. In a larger cache blocks that wait to be written leave
too little room for those that are read, of which GDAL takes those with all bands apart anew for each, too."""


class Result:
    """A dataclass of results, which shows what it holds, not millions of samples: notebooks print what a cell gives.

    summary : what the JSON summary holds, of the types that JSON has, whatever kinds of numbers were asked with.
    """

    summary: dict[str, Any]

    def __post_init__(self) -> None:
        self.summary = plain(self.summary)

    def __repr__(self) -> str:
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        lines = (f"  {name}: {_short(value)}" for name, value in held.items() if value is not None)
        return "\n".join([type(self).__name__, *lines])


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, dict):
        entries = f"{len(value)} entries: {', '.join(map(str, value))}" if value else "no entries"
        return textwrap.shorten(entries, 100, placeholder=" ...")
    if isinstance(value, list):
        kinds = {type(item).__name__ for item in value}
        return f"{len(value)} of {kinds.pop()}" if len(kinds) == 1 and kinds != {"int"} else reprlib.repr(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def results_folder(output: Path) -> Path:
    """``output``, after a look at whether it can be meant as a folder; raises UsageError."""
    if output.suffix.lower() in FILES and not output.exists():  # what is there and no folder is refused when it is used
        raise UsageError(f"-o expects a folder for the results, but {output} looks like a file.")
    return output


def results_of(output: str | os.PathLike[str], stem: str) -> tuple[Path, str]:
    """(folder, stem) of the results of one input in the folder ``output``, of a stem with folders of its own before it,
    see :func:`rsunfold.infer.batch.expand`."""
    path = Path(output, stem)
    return path.parent, path.name


def asked_for(*options: Any, **more: Any) -> dict[str, Any]:
    """What a result depends on beside the image and the model, for the summary: fields of the dataclasses ``options``,
    but for those that are :func:`of_files`, and ``more``."""
    fields = ((given, f) for given in options for f in dataclasses.fields(given))
    return {f.name: getattr(given, f.name) for given, f in fields if OF_FILES not in f.metadata} | more


def about(model: Budgeted, *options: Any, **more: Any) -> dict[str, Any]:
    """What the summary says of the model and of what was asked for, see :func:`asked_for`."""
    return {**model.describe(), "asked": asked_for(*options, **more)}


def of_files(default: Any, *others: Any) -> Any:
    """A field of options that no sample depends on. Where it decides which files there are, ``others`` are the other
    values that it may have."""
    return dataclasses.field(default=default, metadata={OF_FILES: (default, *others) if others else ()})


def refuse_inputs(paths: Iterable[Path], sources: Iterable[str]) -> None:
    """Raise OutputError where one of ``paths``, which are to be written, is a file of one of the inputs ``sources``."""
    there = {place: path for path in paths if (place := _on_disk(path))}
    for source in sources if there else ():
        for part in _files_of(source):
            path = there.get(_on_disk(part) or (-1, -1))
            if path is not None:
                raise OutputError(f"{path} would overwrite the input {source}; choose another output.")


def _files_of(source: str) -> Iterator[Path]:
    """The file of an input, that in a name of GDAL's, the data and the header of an ENVI image or a TIFF, or what a VRT
    is made of."""
    path = Path(source)
    yield path
    if of_gdal(source):
        yield from (Path(part) for part in re.findall(r'[^:"]+', source))
    elif path.suffix.lower() == ".vrt":
        import rasterio

        with suppress(rasterio.errors.RasterioError, OSError), rasterio.open(path) as made:
            yield from map(Path, made.files)
    elif path.suffix.lower() in {".hdr", *DATA_SUFFIXES}:
        with suppress(InputError, OSError):
            yield from resolve(path)
    elif path.suffix.lower() in TIFF_SUFFIXES:
        yield from (beside for beside in (header_of_tiff(path), metadata_of(path)) if beside is not None)


def input_bytes(source: str) -> int | None:
    """Size of the files of an input, for the summary; None where there is none, as of arrays."""
    return sum(path.stat().st_size for path in _on_disk_of(source)) or None


def input_digest(source: str) -> str | None:
    """What tells the content of an input from any other, wherever it lies and whenever it was copied there.

    ``sha256:`` and the SHA-256 of its file; of several files, that of theirs (64 hexadecimal digits each, sorted, one
    after the other). No more than PIECES pieces of PIECE bytes are read: of a longer file, its size as decimal digits
    and evenly spread pieces, the first and the last among them, take the place of its content, and the digest begins
    with ``sha256-sampled:``. None where there is no file, or one cannot be read.
    """
    files = _on_disk_of(source)
    most = max(2, PIECES // max(1, len(files)))
    try:
        states = {path.absolute(): path.stat() for path in files}
        found = sorted(
            _digest(path, s.st_size, most, PIECE, (s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns))
            for path, s in states.items()
        )
    except OSError:
        return None
    if not found:
        return None
    sampled = any(s.st_size > most * PIECE for s in states.values())
    whole = found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
    return f"{SAMPLED if sampled else 'sha256:'}{whole}"


@functools.lru_cache(maxsize=16)  # a stack is the input of every one of its frames
def _digest(path: Path, size: int, most: int, piece: int, state: tuple[int, ...]) -> str:
    """SHA-256 of a file of ``size`` bytes, or of its size and ``most`` pieces of it where it has more.

    state : what the system tells of the file, other after every change.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= most * piece:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(str(size).encode())
        for number in range(most):
            file.seek(number * (size - piece) // (most - 1))
            digest.update(file.read(piece))
    return digest.hexdigest()


def _on_disk_of(source: str) -> list[Path]:
    """The files of an input that are there, each once."""
    files = {place: path for path in _files_of(source) if (place := _on_disk(path))}
    return [path for path in files.values() if path.is_file()]


def _on_disk(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever its names; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_results(folder: Path, names: Collection[str], spec: ModelSpec, source: str, *, overwrite: bool) -> None:
    """Raise OutputError when a file of ``names`` is there and may not be overwritten, or an ENVI raster among them
    would share its header.

    The image ``source`` never may, nor what another task has written: the results of two commands would be mixed.
    """
    refuse_inputs([folder / name for name in names], [source])
    for name in names:
        if Path(name).suffix.lower() in ENVI_SUFFIXES and Path(name).suffix != ".hdr":
            refuse_shared_header(folder / name)
        if Path(name).suffix.lower() in TIFF_SUFFIXES:
            refuse_header_of_tiff(folder / name)
        path = folder / name
        task = told_by(path).get("task") if path.suffix == ".json" else None
        if task not in (None, spec.task):
            raise OutputError(f"{path} was written by {task}, whose files have the same names; choose another folder.")
        refuse_existing(path, overwrite)


@contextmanager
def reserved(
    folder: Path, names: Mapping[str, str], spec: ModelSpec, source: str, *, overwrite: bool
) -> Iterator[None]:
    """The results ``names``, by kind, are made by this run alone; raises what :func:`refuse_results` raises, and
    ClaimedError when another run is making them."""
    with claimed(folder, names["summary"]):  # first: what is there may just be moved there by another run
        refuse_results(folder, names.values(), spec, source, overwrite=overwrite)
        yield


def made_of(source: str) -> dict[str, Any]:
    """What every summary says first: of the program and of the input that its results were made of."""
    return {
        "rsunfold": __version__,
        "input": source,
        "input_bytes": input_bytes(source),
        "input_digest": input_digest(source),
    }


def head_of(image: Source) -> dict[str, Any]:
    """:func:`made_of` and what is known of the image before anything is computed."""
    return {
        **made_of(image.path),
        "rows": image.rows,
        "cols": image.cols,
        "bands": image.count,
        "crs": str(image.meta.placed_in) if image.meta.placed_in else None,
        "acquired": image.meta.acquired or None,
    }


def with_headers(names: Mapping[str, str]) -> dict[str, str]:
    """``names``, file names by kind, with the headers of the ENVI rasters among them."""
    rasters = {kind: Path(name) for kind, name in names.items() if Path(name).suffix.lower() in ENVI_SUFFIXES}
    return {**names, **{f"{kind}_header": path.with_suffix(".hdr").as_posix() for kind, path in rasters.items()}}


def refuse_place(folder: Path, names: Iterable[str], image: Source) -> None:
    """Raise UsageError where an ENVI raster among ``names`` could not say where the pixels of ``image`` lie: better
    before the image is computed than after."""
    path = next((folder / name for name in names if Path(name).suffix.lower() in ENVI_SUFFIXES), None)
    if path is not None:
        refuse_in_envi(path, image.meta, image.rows, image.cols)


def told_by(summary: Path) -> dict[str, Any]:
    """What a summary holds; nothing where it is none, or cannot be read."""
    try:
        found = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def all_names(names_of: Callable[..., dict[str, str]], *given: Any, options: Any) -> set[str]:
    """Names that one input gives with any options that decide which files there are: a new result replaces them all.

    names_of : called with ``given`` and options.
    """
    fields = dataclasses.fields(options)
    values = {f.name: found for f in fields if (found := f.metadata.get(OF_FILES))}
    names: set[str] = set()
    for chosen in itertools.product(*values.values()):
        other = dataclasses.replace(options, **dict(zip(values, chosen, strict=True)))
        names |= set(names_of(*given, other).values())
    return names


def _cache_size() -> int:
    from rasterio._env import get_gdal_config

    return int(get_gdal_config("GDAL_CACHEMAX"))


def _resize_cache(size: int) -> None:
    from rasterio._env import set_gdal_config

    set_gdal_config("GDAL_CACHEMAX", size)


_cache = Setting(_cache_size, _resize_cache)
"""GDAL has one cache for all threads, but rasterio keeps its size for each."""


@contextmanager
def environment() -> Iterator[None]:
    """GDAL with a small cache of blocks, which does not count towards --memory, torch with its usual settings, and
    running out of memory or a GPU that fails as one sentence."""
    import rasterio

    # Env: within one of the caller's, rasterio would set the size of that again.
    with device_failures(), _cache.set_to(CACHE_BYTES), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), usual_torch():
        yield
