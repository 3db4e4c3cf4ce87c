"""The parts of ENVI that GDAL leaves out or gets wrong: finding the pair of files, and the header's own words.

GDAL 3.10 reads the samples of every data type, interleave and byte order correctly. It fills a truncated file with
zeros, misreads frame offsets, takes ``data ignore value = none`` for 0, and does not apply the reflectance scale
factor, each without a word.
"""

from __future__ import annotations

import gzip
import math
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from zipfile import BadZipFile, ZipFile

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rsunfold.cube import FILL, Meta
from rsunfold.errors import InputError
from rsunfold.io.bands import split_list
from rsunfold.io.damage import named

FACTOR = "reflectance_scale_factor"
CARRIED = ("sensor_type", "acquisition_time", FACTOR)
"""Entries of a header that are carried as tags, and come back in the header of an ENVI output."""
DATA_SUFFIXES = (
    *[
        ".img",
        ".dat",
        ".raw",
        ".bin",
        ".bsq",
        ".bil",
        ".bip",
        ".cube",
        ".envi",
        ".hyspex",
        ".rad",
        ".rdn",
        ".ref",
        ".refl",
        ".rfl",
    ],
    "",
)
LAYOUT = {"bands", "lines", "samples", "header_offset", "data_type", "interleave", "byte_order"}
"""Entries that say how the samples are stored."""
TIFF_SUFFIXES = (".tif", ".tiff")
PADDING = 4096
"""Bytes that may follow the samples without a word: files are filled up to whole sectors or pages."""
TINY = 1e-35
"""Nothing measures as little: whole numbers that are taken for floats give such samples, as do floats with few
digits whose bytes are exchanged."""
ENOUGH, SOME, FEW, NEARLY_ALL = 100, 0.02, 0.01, 0.99
"""Samples that say whether others are plausible, and shares of them: those of floats whose bytes are exchanged spread
evenly over all exponents, and 4 % are below TINY."""
_ENTRY = re.compile(r"^[ \t]*([^;=\n{}][^=\n{}]*)=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)


def headers_of(data: Path) -> list[Path]:
    """The ENVI headers that lie beside a data file: ``x.hdr`` and ``x.img.hdr`` for ``x.img``."""
    found = _there(data, (data.stem, data.name), (".hdr",))
    return sorted(p for p in found if p != data and _is_envi(p))


def _there(beside: Path, stems: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """The files in the folder of ``beside`` whose names are one of the ``stems`` and one of the ``suffixes``, these in
    letters of any size; each once where letters make no difference.

    Usual names are asked for one by one, as a folder may hold thousands of images; it is listed where none is there.
    """
    spelt = dict.fromkeys(each for end in suffixes for each in (end, end.upper(), end[:1] + end[1:].capitalize()))
    found = _once(beside, (stem + end for stem in stems for end in spelt if stem + end))
    if found:
        return found
    try:
        names = os.listdir(beside.parent)  # noqa: PTH208 (names are all that is needed)
    except OSError:  # not for everybody to list
        return []
    ends = {*suffixes}
    return _once(
        beside, (n for n in names if any(n.startswith(stem) and n[len(stem) :].lower() in ends for stem in stems))
    )


def _once(beside: Path, names: Iterable[str]) -> list[Path]:
    found: dict[tuple[int, int], Path] = {}
    for path in map(beside.with_name, names):
        with suppress(OSError, ValueError):
            state = path.stat()
            if S_ISREG(state.st_mode):
                found.setdefault((state.st_dev, state.st_ino), path)
    return list(found.values())


def _is_envi(header: Path) -> bool:
    if not header.is_file():  # a pipe would be waited for
        return False
    with header.open("rb") as stream:
        return stream.read(4) == b"ENVI"


def type_of(header: Path) -> str | None:
    """The ``file type`` of a header in lower case, empty where it has none; None for what is no ENVI header."""
    try:
        return read_header(header).get("file_type", "").lower() if _is_envi(header) else None
    except OSError:  # none there, or not to be read
        return None


def of_tiff(header: Path) -> bool:
    """Whether a header describes a TIFF, which ENVI writes beside one for what a TIFF has no place for."""
    return "tiff" in (type_of(header) or "")


def data_files_of(header: Path) -> list[Path]:
    """The data files that a header may describe: its own name without ``.hdr``, bare or with a usual suffix, or with
    that of a TIFF where it says so."""
    stem = header.name[: -len(".hdr")]
    usual = (*TIFF_SUFFIXES, "") if of_tiff(header) else DATA_SUFFIXES
    return sorted(path for path in _there(header, (stem,), usual) if path != header)


def header_of_tiff(tiff: Path) -> Path | None:
    """The header that says that it describes the TIFF beside it."""
    names = (name + end for name in (tiff.stem, tiff.name) for end in (".hdr", ".HDR"))
    return next((path for path in map(tiff.with_name, names) if of_tiff(path)), None)


def beside_tiff(tiff: Path, bands: int, rows: int, cols: int) -> tuple[dict[str, str] | None, list[str]]:
    """The entries of the header of a TIFF of this size, None where none lies beside it; and notes."""
    path = header_of_tiff(tiff)
    if path is None:
        return None, []
    header = read_header(path)
    if [header.get(key) for key in ("bands", "lines", "samples")] != [str(n) for n in (bands, rows, cols)]:
        return None, [f"{path.name} beside it is of an image of another size and was ignored"]
    return header, []


def resolve(path: Path) -> tuple[Path, Path]:
    """The data file and the header of a pair, from either one; raises InputError unless there is exactly one pair."""
    if path.suffix.lower() == ".hdr":
        if not _is_envi(path):
            raise _no_envi(path)
        found = data_files_of(path)
        if not found:
            raise InputError(
                f"{path} has no matching data file in its folder ({path.stem} with .img, .dat, .bsq or similar)."
            )
        if len(found) > 1:
            raise InputError(f"{path} could describe {_names(found)}; give the data file instead.")
        data = found[0]
    else:
        data = path
    headers = headers_of(data)
    if not headers:
        raise no_header(data)
    if len(headers) > 1:
        raise InputError(
            f"{data} has two headers, {_names(headers)}; remove or rename the one that does not belong to it."
        )
    return data, headers[0]


def no_header(data: Path) -> InputError:
    """The error for a data file without an ENVI header."""
    names = (data.with_suffix(".hdr"), data.with_name(f"{data.name}.hdr"))
    other = next((path for path in names if path.is_file()), None)
    if other is not None:
        return _no_envi(other)
    return InputError(f"{data} has no ENVI header in its folder ({names[0].name} or {names[1].name}).")


def _no_envi(header: Path) -> InputError:
    return InputError(f"{header} is not an ENVI header: its first bytes are not 'ENVI'.")


def _names(paths: list[Path]) -> str:
    return " and ".join(p.name for p in paths)


def read_header(path: Path) -> dict[str, str]:
    """The entries of an ENVI header; keys in lower case with underscores for spaces, lists still in their braces."""
    return dict(_entries(path))


def _entries(path: Path) -> list[tuple[str, str]]:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [entry for m in _ENTRY.finditer(text) for entry in normalised({m[1]: m[2]}).items()]


def refuse_contradictions(path: Path) -> None:
    """Raise InputError for a header that says twice, and differently, how the samples are stored."""
    said: dict[str, str] = {}
    for key, value in _entries(path):
        first = said.setdefault(key, value)
        if key in LAYOUT and _meant(first) != _meant(value):
            raise InputError(
                f"{path} says both '{key.replace('_', ' ')} = {first}' and '{value}'; remove the one that is wrong."
            )


def _meant(value: str) -> float | str:
    """What an entry says, without a remark behind it: a number, else words in lower case."""
    words = value.partition(";")[0].strip().lower()
    return float(words) if re.fullmatch(r"\d+(\.0*)?", words) else words


def normalised(entries: dict[str, str]) -> dict[str, str]:
    """Header entries with keys in lower case, underscores for spaces, and values stripped."""
    return {re.sub(r"\s+", "_", key.strip().lower()): value.strip() for key, value in entries.items()}


def is_arbitrary(header: dict[str, str]) -> bool:
    """Whether the map info is that of an image without a CRS, to which GDAL gives a local one."""
    return bool(re.match(r"\{?\s*arbitrary\b", header.get("map_info", ""), re.IGNORECASE))


def rotated(header: dict[str, str]) -> Affine | None:
    """The transform of a ``map info`` with a rotation; None where there is none, or GDAL reads it as it is meant.

    GDAL turns the pixels about their corner instead of the reference pixel, and skews them where they are not square.
    A rotation of 180 degrees is its own way to write that rows run north.
    """
    entries = split_list(header.get("map_info"))
    texts = [entry.partition("=")[2] for entry in entries if re.match(r"rotation\s*=", entry, re.IGNORECASE)]
    try:
        col, row, x, y, width, height = (float(entry) for entry in entries[1:7])
        degrees = float(texts[0]) if texts else 0.0
    except ValueError:
        return None
    if degrees in (0, 180, -180) or not math.isfinite(degrees):
        return None
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b, d, e = width * cos, height * sin, width * sin, -height * cos
    return Affine(a, b, x - a * (col - 1) - b * (row - 1), d, e, y - d * (col - 1) - e * (row - 1))


def carried(tags: dict[str, str], meta: Meta, bands: int) -> dict[str, str]:
    """Those of the CARRIED entries among ``tags`` that are true of a file of ``bands`` bands with the scales of
    ``meta``."""
    out = {key: tags[key] for key in CARRIED if key in tags}
    if FACTOR in out and not (
        meta.scales and set(meta.offsets) <= {0} and scaling({FACTOR: out[FACTOR]}, bands)[0] == tuple(meta.scales)
    ):
        del out[FACTOR]
    return out


def default_bands(header: dict[str, str], bands: int) -> tuple[int, ...]:
    """The zero-based bands that ``default bands`` names, three or one; empty where it names others or not these."""
    entries = split_list(header.get("default_bands"))
    shown = tuple(int(entry) - 1 for entry in entries if entry.isdecimal() and 1 <= int(entry) <= bands)
    return shown if len(shown) == len(entries) in (1, 3) else ()


def check_layout(path: str, header: dict[str, str], shape: tuple[int, int, int]) -> None:
    """Raise InputError where GDAL would hand over wrong samples: it takes "1e3" for 1 and "foo" for the usual, and
    misreads frame offsets.

    ``shape`` is the (bands, rows, cols) that GDAL read.
    """
    for key in ("major_frame_offsets", "minor_frame_offsets"):
        if any(entry.strip("0.+-") for entry in split_list(header.get(key))):
            raise InputError(f"{path} has {key.replace('_', ' ')}, which cannot be read; write it without them.")
    if not header.get("data_type"):
        raise InputError(f"{path} has no data type in its header.")
    sizes = dict(zip(("bands", "lines", "samples"), shape, strict=True))
    rules = {key: (rf"0*{size}(\.0*)?", f"the number of {key}") for key, size in sizes.items()}
    rules["data_type"] = (r"\d+(\.0*)?", "a number of a type")
    rules["interleave"] = ("(?i:bsq|bil|bip|)", "bsq, bil or bip")
    rules["byte_order"] = (r"([01](\.0*)?)?", "0 or 1")
    rules["header_offset"] = (r"\d*(\.0*)?", "a number of bytes")
    for key, (pattern, what) in rules.items():
        text = header.get(key, "")
        if not re.fullmatch(rf"({pattern})(\s*;.*)?", text):
            raise InputError(f"{path} has '{key.replace('_', ' ')} = {text}' in its header, which is not {what}.")


def check_size(
    path: str, header: dict[str, str], shape: tuple[int, int, int], itemsize: int, data: str | Path
) -> list[str]:
    """Notes on a data file that is longer than its header says; raises InputError for one that is too short, which
    GDAL fills up with zeros.

    ``shape`` is (bands, rows, cols). A few bytes may follow the samples, less than PADDING or than a line, a column or
    a band of the image: most other errors of a header leave more.
    """
    samples = math.prod(shape) * itemsize
    required = samples + int(float(header.get("header_offset", "").partition(";")[0] or 0))
    size, room = size_of(data), max(PADDING, samples // max(shape))
    more = ""
    if header.get("file_compression", "0") == "1":
        enough = required + room
        size = _decompressed(path, Path(data), enough) if Path(data).is_file() else None
        more = "or more " if size == enough else ""
    if size is None:
        return []
    if size < required:
        raise InputError(f"{path} is truncated: its header requires {required} bytes, but the file has {size}.")
    if size - required < room:
        return []
    return [
        f"the header describes {required} of {size} {more}bytes of {Path(data).name}: check samples, lines, bands, "
        "data type and header offset"
    ]


def _decompressed(path: str, data: Path, enough: int) -> int:
    """How many bytes a gzipped file has, ``enough`` of them at most: what follows is not decompressed."""
    count = 0
    with named(path), gzip.open(data) as stream:
        while block := stream.read(min(2**20, enough - count)):
            count += len(block)
    return count


def refuse_implausible(path: str, header: dict[str, str], name: str, samples: NDArray[np.floating]) -> None:
    """Raise InputError for floating-point ``samples``, as GDAL read them, that only a wrong byte order or data type
    gives.

    name : of the header. Some are below TINY, and with their bytes exchanged hardly any is below it or beyond FILL; or
    nearly all are below TINY. 0, NaN and infinity say nothing, nor does what may stand for no data.
    """
    found, swapped = _magnitudes(samples), _magnitudes(samples.byteswap())
    if min(found.size, swapped.size) < ENOUGH:
        return
    tiny = float((found < TINY).mean())
    if tiny > SOME and float(((swapped < TINY) | (swapped >= FILL)).mean()) < FEW:
        order = int(header.get("byte_order", "")[:1] or 0)
        raise InputError(
            f"{path} has samples of {found.min():.2g} to {found.max():.2g} in magnitude, but of {swapped.min():.2g} to "
            f"{swapped.max():.2g} if its bytes are in the other order: correct 'byte order = {order}' in {name}."
        )
    if tiny > NEARLY_ALL:
        kind = header["data_type"].partition(";")[0].strip()
        raise InputError(
            f"{path} has samples below {TINY:g} nearly everywhere, which are no measurements: check 'data type = "
            f"{kind}' and the byte order in {name}."
        )


def _magnitudes(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of the finite samples that are not 0."""
    return np.asarray(np.abs(samples[np.isfinite(samples) & (samples != 0)]))


def size_of(data: str | Path) -> int | None:
    """Bytes of a data file, on the disk or in a zip archive (``/vsizip/a.zip/b.img``); None where it is elsewhere."""
    zipped = re.fullmatch(r"/vsizip/\{?(.+?\.zip)\}?/(.+)", str(data), re.IGNORECASE)
    try:
        if zipped is None:
            return Path(data).stat().st_size
        with ZipFile(zipped[1]) as archive:
            return archive.getinfo(zipped[2]).file_size
    except (OSError, KeyError, BadZipFile):
        return None


def ignore_value(header: dict[str, str], dtype: np.dtype) -> tuple[float | None, list[str]]:
    """The ``data ignore value``, or None where there is none or no sample can equal it; and notes."""
    text = header.get("data_ignore_value", "").strip("{} ")
    if text.lower() in ("", "none"):
        return None, []
    try:
        value = float(text)
    except ValueError:
        return None, [f"data ignore value = {text} is not a number and was ignored"]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not (value.is_integer() and limits.min <= value <= limits.max):
            return None, [f"data ignore value = {text} cannot occur in {dtype} samples and was ignored"]
    return value, []


def scaling(header: dict[str, str], bands: int) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Scales and offsets, one per band or none: ``data gain values`` and ``data offset values`` in the first place,
    else one over the ``reflectance scale factor``; and notes.
    """
    notes: list[str] = []
    lists: dict[str, tuple[float, ...]] = {}
    for key in ("data_gain_values", "data_offset_values", "reflectance_scale_factor"):
        try:
            values = tuple(float(entry) for entry in split_list(header.get(key)))
            if not all(map(math.isfinite, values)):
                raise ValueError
        except ValueError:
            values = ()
            notes.append(f"{key.replace('_', ' ')} contains something that is not a number and was ignored")
        lists[key] = values
    if 0 in lists["data_gain_values"]:
        notes.append("data gain values contains 0 and was ignored")
        lists["data_gain_values"] = ()
    for key in ("data_gain_values", "data_offset_values"):
        if lists[key] and len(lists[key]) != bands:
            notes.append(f"{key.replace('_', ' ')} lists {len(lists[key])} values for {bands} bands and was ignored")
            lists[key] = ()
    gains, offsets, factor = lists.values()
    if gains or offsets:
        if factor:
            notes.append("the reflectance scale factor was ignored, since there are data gain or offset values")
        return gains or (1.0,) * bands, offsets or (0.0,) * bands, notes
    if factor and factor[0] not in (0.0, 1.0) and math.isfinite(1 / factor[0]):
        return (1 / factor[0],) * bands, (0.0,) * bands, notes
    return (), (), notes
