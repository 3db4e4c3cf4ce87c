"""What the runs of all tasks share: what their results are called, what they may replace, and their surroundings."""

from __future__ import annotations

import dataclasses
import itertools
import os
import reprlib
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold import __version__
from rsunfold.errors import OutputError, UsageError
from rsunfold.infer.device import Budgeted, device_failures
from rsunfold.infer.source import Source
from rsunfold.io.atomic import refuse_existing
from rsunfold.io.envi import DATA_SUFFIXES, TIFF_SUFFIXES
from rsunfold.io.folders import SUFFIXES
from rsunfold.io.inputs import FileStates, input_bytes, input_digest, refuse_changed, refuse_inputs
from rsunfold.io.jsonfile import plain, told_by
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


def label_of_files(folder: Path) -> str:
    """What tables and pictures call a folder of somebody's results; no model is called so."""
    return f"{folder}/"


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


def made_of(source: str, before: FileStates) -> dict[str, Any]:
    """What every summary says first: of the program and of the input that its results were made of.

    before : of the files of the input when they were opened, see :func:`rsunfold.io.inputs.states_of`. Raises
    InputError where they are others now: the digest would be of what nobody has read.
    """
    refuse_changed(source, before)
    return {
        "rsunfold": __version__,
        "input": source,
        "input_bytes": input_bytes(source),
        "input_digest": input_digest(source),
    }


def head_of(image: Source) -> dict[str, Any]:
    """:func:`made_of` and what is known of the image before anything is computed; raises what that does."""
    return {
        **made_of(image.path, image.states),
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
