"""What the runs of all tasks share: GDAL's memory, a hidden folder for unfinished results, the move at the end."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsunfold.errors import DeviceError, OutputError, UsageError
from rsunfold.io.atomic import refuse_existing
from rsunfold.io.envi import DATA_SUFFIXES
from rsunfold.io.folders import SUFFIXES
from rsunfold.io.table import SUFFIXES as TABLE_SUFFIXES
from rsunfold.io.writer import ENVI_SUFFIXES

FILES = {*SUFFIXES, *ENVI_SUFFIXES, *DATA_SUFFIXES, *TABLE_SUFFIXES, ".json", ".geojson", ".gpkg", ".shp"} - {""}
"""Extensions that nobody gives to a folder."""


def results_folder(output: Path) -> Path:
    """``output``, after a look at whether it can be meant as a folder; raises UsageError."""
    if output.suffix.lower() in FILES and not output.exists():  # what is there and no folder is refused when it is used
        raise UsageError(f"-o names a folder for the results, and {output} looks like a file.")
    return output


@contextmanager
def environment() -> Iterator[None]:
    """GDAL with a small block cache, which counts towards --memory, and running out of memory as one sentence."""
    import rasterio

    try:
        with rasterio.Env(GDAL_CACHEMAX=64):
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", str(error)):
            raise DeviceError("memory is exhausted: lower --memory, so that smaller tiles are used.") from None
        raise


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder`` that is removed in the end, whatever happens.

    Raises OutputError when ``folder`` cannot be made or written to, or its disk is full.
    """
    # Named before it is made, so that an interrupt just after finds it inside the try.
    work = folder / f".rsunfold-{secrets.token_hex(8)}"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            work.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f"the folder {folder} cannot be used ({error.strerror}); choose another.") from None
        yield work
    except OutputError as error:  # nobody knows the hidden folder
        raise OutputError(str(error).replace(str(work), str(folder))) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OutputError(
            f"the results cannot be written to {folder} ({error.strerror}); make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def move_results(work: Path, folder: Path, overwrite: bool) -> None:
    """Move every file of ``work`` to ``folder``, the summary last; OutputError before the first when one exists."""
    files = [p for p in work.iterdir() if p.is_file()]
    for path in files:
        refuse_existing(folder / path.name, overwrite)
    for path in files:  # statistics that a GIS has kept of what is replaced
        (folder / f"{path.name}.aux.xml").unlink(missing_ok=True)
    for path in sorted(files, key=lambda p: p.name.endswith(("_summary.json", "_ranking.json", "_explain.json"))):
        path.replace(folder / path.name)
