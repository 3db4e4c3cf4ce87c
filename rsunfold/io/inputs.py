"""What an input is on disk: its files, which no result may replace, and what tells their content from any other."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from rsunfold.errors import InputError, OutputError
from rsunfold.io.dlr import metadata_of
from rsunfold.io.envi import DATA_SUFFIXES, TIFF_SUFFIXES, header_of_tiff, resolve
from rsunfold.io.names import of_gdal

PIECE, PIECES = 2**16, 256
"""Bytes of a piece of an input, and how many are read to know it again: 16 MiB, a moment even on a network disk."""
SAMPLED = "sha256-sampled:"
"""How the digest of an input begins that was not read to its end."""
FileStates = Mapping[Path, tuple[int, int]]
"""Size and time of change in nanoseconds by file."""


def refuse_inputs(paths: Iterable[Path], sources: Iterable[str]) -> None:
    """Raise OutputError where one of ``paths``, which are to be written, is a file of one of the inputs ``sources``."""
    there = {place: path for path in paths if (place := _on_disk(path))}
    for source in sources if there else ():
        for part in _files_of(source):
            path = there.get(_on_disk(part) or (-1, -1))
            if path is not None:
                raise OutputError(f"{path} would overwrite the input {source}; choose another output.")


def _files_of(source: str) -> Iterator[Path]:
    """The file of an input, that in a name of GDAL's, the data and the header of an ENVI image, what says beside a TIFF
    what it holds, or what a VRT is made of."""
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


def states_of(source: str) -> FileStates:
    """The states of the files of an input, others after it was written to; nothing of arrays."""
    found = {}
    for path in _on_disk_of(source):
        with suppress(OSError):  # just removed
            found[path] = _state(path)
    return found


def refuse_changed(source: str, before: FileStates) -> None:
    """Raise InputError where a file of an input is not what it was ``before``. One that was removed is: it was open."""
    for path, state in before.items():
        with suppress(OSError):
            if _state(path) != state:
                raise InputError(f"{source} was changed while it was being processed; run again when it is complete.")


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
