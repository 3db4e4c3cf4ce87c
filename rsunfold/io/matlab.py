"""The numeric arrays of MATLAB files of versions 4 and 5, and the texts in them that are asked for.

Sizes and types are checked before they are used: scipy's reader of version 5 looks types up in a C table without a
check, so that a wrong byte ends the whole program.

Source: MathWorks, MAT-File Format, R2024b.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Arrays = dict[str, Any]
"""NumPy arrays and sparse ones of scipy by their dotted names."""
Wanted = Callable[[str], bool]
"""Whether the texts of this dotted name are asked for."""

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of the numbers in a data element of version 5."""
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_WITHOUT_NUMBERS = {16, 17, 18}
"""Classes of matrices: functions, and objects whose content is not documented."""
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""Of the types of a data element of version 5 that hold characters."""
MOST_TEXT = 2**28
"""Bytes of an array of texts, each of which takes as many as the longest."""
_LOGICAL, _COMPLEX = 0x200, 0x800
_NUMBERS_V4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_BROKEN_OFF = "it breaks off, or its sizes contradict each other"
MOST = 1032
"""Deflate makes no byte into more than this many."""


def arrays_of(path: str, room: float = math.inf, wanted: Wanted = lambda name: False) -> Arrays:
    """The numeric and logical arrays of a file, also those in structs and cells.

    wanted : of which names the texts are read as well: a cell that has nothing else but what is empty, or a matrix of
    characters, whose rows are texts. Arrays of more than MOST_TEXT bytes are left out.

    The type is that of MATLAB's class, however the numbers were packed; complex ones are complex64 of singles, else
    complex128. Elements of cells and of arrays of structs have numbers from 1 in their names. Empty arrays are left
    out. Raises ValueError, OSError or zlib.error for a file that is damaged or none, MemoryError where the arrays are
    declared to take more than ``room`` bytes, before these are decompressed.
    """
    with Path(path).open("rb") as file:
        start = file.read(128)
        stream = _Stored(file, _Room(room))
        if len(start) >= 4 and 0 in start[:4]:
            return _arrays_v4(stream, wanted)
        stream.skip(128)
        order, version = {b"IM": ("<", start[125:126]), b"MI": (">", start[124:125])}.get(start[126:], ("", b""))
        if version != b"\1":
            raise ValueError("it is of an unknown version")
        return _arrays_v5(stream, order, wanted)


def joined(texts: Sequence[str | None], shape: Sequence[int]) -> Any:
    """Texts, by columns, as an array of this shape; None where one of them is none (None), all are empty, or they are
    too large."""
    known = [text for text in texts if text is not None]
    if len(known) < len(texts) or not any(known) or 4 * len(known) * max(map(len, known)) > MOST_TEXT:
        return None
    return np.array(known).reshape(shape, order="F")


def only_text(array: Any) -> str | None:
    """The text that is all of an array; None of numbers or several texts."""
    return str(array.item()) if array.dtype.kind == "U" and array.size == 1 else None


def rows_of(text: str, shape: Sequence[int]) -> NDArray[Any] | None:
    """The rows, without blanks at their ends, of a matrix of characters, here by columns; None where they are not of
    this shape."""
    rows, length = shape if len(shape) == 2 else (0, 0)
    if rows == 1 or not text:
        return np.array([[text.rstrip()]])
    if rows * length != len(text):
        return None
    return np.array([[text[row::rows].rstrip()] for row in range(rows)])


# ---------------------------------------------------------------- bytes


class _Room:
    """Bytes of memory that the arrays of a file may take."""

    def __init__(self, left: float) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """``count`` bytes are used from now on; raises MemoryError where there are not as many."""
        self.ask(count)
        self._left -= count

    def ask(self, count: int) -> None:
        """Raises MemoryError where there are not ``count`` bytes."""
        if count > self._left:
            raise MemoryError


class _Stream(ABC):
    """Bytes one after the other, of which no more than ``left`` are still to come; ``room`` is what may be held."""

    left: int
    room: _Room

    def take(self, count: int) -> bytearray:
        """The next bytes; raises ValueError where there are not as many, before memory is asked for them."""
        if not 0 <= count <= self.left:
            raise ValueError(_BROKEN_OFF)
        self.room.ask(count)
        self.left -= count
        return self._taken(count)

    def skip(self, count: int) -> None:
        """Leave out the next bytes."""
        while count > 0:
            count -= len(self.take(min(count, 2**20)))

    @abstractmethod
    def _taken(self, count: int) -> bytearray:
        """``count`` bytes, which are there."""


class _Stored(_Stream):
    """The bytes of a file."""

    def __init__(self, file: BinaryIO, room: _Room) -> None:
        self.room = room
        self._file, self.left = file, file.seek(0, os.SEEK_END)
        file.seek(0)

    def _taken(self, count: int) -> bytearray:
        data = bytearray(count)
        if self._file.readinto(data) != count:  # type: ignore[attr-defined]
            raise ValueError(_BROKEN_OFF)
        return data

    def skip(self, count: int) -> None:
        """Leave out the next bytes without reading them."""
        if count > self.left:
            raise ValueError(_BROKEN_OFF)
        self._file.seek(count, os.SEEK_CUR)
        self.left -= count


class _Inflated(_Stream):
    """What the next ``size`` bytes of another stream are the compressed form of."""

    def __init__(self, stream: _Stream, size: int) -> None:
        self._stream, self._size, self.room = stream, size, stream.room
        self._zlib, self._fed = zlib.decompressobj(), b""
        self.left = min(size, stream.left) * MOST

    def _taken(self, count: int) -> bytearray:
        data, at = bytearray(count), 0
        while at < count:
            piece = self._piece(count - at)
            data[at : at + len(piece)] = piece
            at += len(piece)
        return data

    def _piece(self, most: int) -> bytes:
        """The next bytes, which may be none as yet."""
        if not self._fed:
            self._fed = bytes(self._stream.take(min(self._size, 2**18)))
            self._size -= len(self._fed)
        if self._zlib.eof or not self._fed:
            raise ValueError("its compressed data break off")
        piece = self._zlib.decompress(self._fed, most)
        self._fed = self._zlib.unconsumed_tail
        return piece

    def finish(self) -> None:
        """Go to the end, where the sum of the data is checked; raises ValueError where there are more of them."""
        padding = 0
        while not self._zlib.eof:
            padding += len(self._piece(8))
            if padding > 7:
                raise ValueError("its compressed data are longer than the array in them")
        self._stream.skip(self._size)


# ---------------------------------------------------------------- version 5


def _arrays_v5(stream: _Stream, order: str, wanted: Wanted) -> Arrays:
    out: Arrays = {}
    while stream.left:
        reader = _Reader(stream, order, wanted)
        kind, size, _ = reader.tag()
        if kind == _COMPRESSED:
            inflated = _Inflated(stream, size)
            out |= _Reader(inflated, order, wanted).matrix()
            inflated.finish()
        else:
            out |= reader.content(kind, size)
    out.pop("", None)  # where MATLAB keeps what functions and objects refer to
    return out


class _Reader:
    """Reads data elements of version 5, whose numbers are in the byte order ``order``, and the texts ``wanted``."""

    def __init__(self, stream: _Stream, order: str, wanted: Wanted) -> None:
        self._stream, self._order, self._wanted = stream, order, wanted

    def tag(self) -> tuple[int, int, bytes]:
        """(type, number of bytes, these where they are so few that they lie in the tag)."""
        raw = bytes(self._stream.take(8))
        kind, size = struct.unpack(f"{self._order}II", raw)
        if kind < 2**16:
            return kind, size, b""
        kind, size = kind % 2**16, kind >> 16
        if size > 4:
            raise ValueError("a small data element has more than 4 bytes")
        return kind, size, raw[4 : 4 + size]

    def _element(self) -> tuple[int, bytearray]:
        kind, size, small = self.tag()
        if small:
            return kind, bytearray(small)
        data = self._stream.take(size)
        self._stream.skip(min(-size % 8, self._stream.left))
        return kind, data

    def _numbers(self, kinds: str = "iuf", logical: int | None = None) -> NDArray[Any]:
        """The numbers of a data element; as many ``logical`` ones are bytes, whatever type it says."""
        kind, data = self._element()
        dtype = np.dtype("u1" if len(data) == logical else self._order + _NUMBERS.get(kind, "V1"))
        if dtype.kind not in kinds or len(data) % dtype.itemsize:
            raise ValueError(f"{len(data)} bytes of type {kind} lie where numbers are expected")
        return np.frombuffer(data, dtype)

    def _counts(self) -> list[int]:
        numbers: list[int] = self._numbers("iu").tolist()
        return numbers

    def _text(self) -> str:
        return self._element()[1].decode("latin-1")

    def matrix(self, within: str = "") -> Arrays:
        """The arrays in the matrix that is the next element; ``within`` is its name inside of another."""
        return self.content(*self.tag()[:2], within)

    def content(self, kind: int, size: int, within: str = "") -> Arrays:
        """The arrays in an element of this type and number of bytes."""
        if kind != _MATRIX:
            raise ValueError(f"data of type {kind} lie where a matrix is expected")
        end, out = self._stream.left - size, Arrays()
        if size:
            flags, nonzero = self._counts()
            if flags % 256 not in _WITHOUT_NUMBERS:
                shape = tuple(self._counts())
                if len(shape) < 2 or min(shape) < 0:
                    raise ValueError(f"a matrix has the shape {shape}")
                name = self._text()
                out = self._arrays(within or name, flags, nonzero, shape)
        if not 0 <= end <= self._stream.left:
            raise ValueError(_BROKEN_OFF)
        self._stream.skip(self._stream.left - end)
        return out

    def _arrays(self, name: str, flags: int, nonzero: int, shape: tuple[int, ...]) -> Arrays:
        """The arrays in what comes after the name of a matrix."""
        kind = flags % 256
        if kind == _CHAR:
            return self._texts(name, shape)
        if kind == _CELL:
            return self._cell(name, shape)
        if kind in (_STRUCT, _OBJECT):
            if kind == _OBJECT:
                self._text()  # the name of its class
            (width,), names = self._counts(), self._text()
            fields = _unique(names[at : at + width].partition("\0")[0] for at in range(0, len(names), width))
            return self._elements(shape, [f"{name}.{field}" for field in fields], numbered=math.prod(shape) > 1)
        if kind == _SPARSE:
            rows, columns = self._numbers("iu"), self._numbers("iu")
            data = self._numbers(logical=nonzero if flags & _LOGICAL else None)
            if flags & _COMPLEX:
                data = data + 1j * self._numbers()
            elif flags & _LOGICAL:
                data = data.astype(bool)
            return {name: sparse(data, rows, columns, shape)} if 0 not in shape else {}
        if kind not in _NUMERIC:
            raise ValueError(f"{name} is of the unknown class {kind}")
        if math.prod(shape) > self._stream.left:
            raise ValueError(_BROKEN_OFF)
        held = "u1" if flags & _LOGICAL else _NUMERIC[kind]
        needed = math.prod(shape) * np.dtype(held).itemsize * (2 if flags & _COMPLEX else 1)
        self._stream.room.ask(needed)
        data = self._numbers()
        if data.size != math.prod(shape):
            raise ValueError(f"{name} has {data.size} numbers instead of {' x '.join(map(str, shape))}")
        if flags & _COMPLEX:
            data = data.astype(np.complex64 if _NUMERIC[kind] == "f4" else np.complex128)
            data.imag = self._numbers()
        else:
            data = data.astype(bool if flags & _LOGICAL else _NUMERIC[kind], copy=False)
        self._stream.room.take(needed)
        return {name: data.reshape(shape, order="F")} if data.size else {}

    def _texts(self, name: str, shape: tuple[int, ...]) -> Arrays:
        """The rows of a matrix of characters, where its name or that of the cell it is in is asked for."""
        if not (self._wanted(name) or self._wanted(name.rpartition(".")[0])):
            return {}
        kind, data = self._element()
        self._stream.room.take(4 * len(data))
        encoding = _ENCODINGS.get(kind, "latin-1")
        ends = {"<": "-le", ">": "-be"}[self._order] if encoding in ("utf-16", "utf-32") else ""
        rows = rows_of(data.decode(encoding + ends, "replace"), shape)
        return {} if rows is None else {name: rows}

    def _cell(self, name: str, shape: tuple[int, ...]) -> Arrays:
        found = self._elements(shape, [name], numbered=True)
        if not self._wanted(name):
            return found
        texts = [found.get(f"{name}.{number}") for number in range(1, math.prod(shape) + 1)]
        taken = joined(["" if text is None else only_text(text) for text in texts], shape)
        arrays = {key: array for key, array in found.items() if array.dtype.kind != "U"}
        return arrays if taken is None else {**arrays, name: taken}

    def _elements(self, shape: tuple[int, ...], names: list[str], numbered: bool) -> Arrays:
        """The arrays in the elements of a cell or struct array, which have a matrix for each of these names."""
        count = math.prod(shape)
        if 8 * count * len(names) > self._stream.left:  # each has a tag
            raise ValueError(_BROKEN_OFF)
        found: list[Arrays] = [{} for _ in names]
        for number in range(1, count + 1) if names else ():
            for name, arrays in zip(names, found, strict=True):
                arrays |= self.matrix(f"{name}.{number}" if numbered else name)
        return {name: array for arrays in found for name, array in arrays.items()}


def _unique(names: Iterable[str]) -> list[str]:
    """Names of fields, where those that come again are called as scipy does: x, _1_x, _2_x."""
    found: dict[str, None] = {}
    times: Counter[str] = Counter()
    for name in names:
        own = name
        while own in found:
            times[name] += 1
            own = f"_{times[name]}_{name}"
        found[own] = None
    return list(found)


def sparse(data: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, ...]) -> Any:
    """The matrix that has data[columns[k]:columns[k + 1]] in these rows of its column k.

    Raises ValueError for places outside of it, to which scipy would write unchecked.
    """
    columns, rows = columns.astype(np.int64), rows.astype(np.int64)
    if len(shape) != 2 or len(columns) != shape[1] + 1:
        raise ValueError(f"a sparse matrix of shape {shape} has {len(columns)} beginnings of columns")
    rows, data = rows[: columns[-1]], data[: columns[-1]]  # there may be room for more
    rising = columns[0] == 0 and bool((columns[1:] >= columns[:-1]).all())
    inside = not len(rows) or (rows.min() >= 0 and rows.max() < shape[0])
    if not (rising and inside and len(rows) == len(data) == columns[-1]):
        raise ValueError("a sparse matrix has elements outside of it")
    return scipy.sparse.csc_array((data.astype(data.dtype.newbyteorder("="), copy=False), rows, columns), shape=shape)


# ---------------------------------------------------------------- version 4


def _arrays_v4(stream: _Stream, wanted: Wanted) -> Arrays:
    out: Arrays = {}
    while stream.left:
        raw = bytes(stream.take(20))
        order = "<" if struct.unpack("<I", raw[:4])[0] < 1000 else ">"
        code, height, width, is_complex, length = struct.unpack(f"{order}5i", raw)
        number, kind = divmod(code % 1000, 10)
        if code // 1000 != (order == ">") or number >= len(_NUMBERS_V4) or kind > 2 or min(height, width) < 0:
            raise ValueError(f"{code} is no type of a matrix of version 4")
        name = stream.take(length).partition(b"\0")[0].decode("latin-1")
        dtype = np.dtype(order + _NUMBERS_V4[number])
        parts = [stream.take(height * width * dtype.itemsize) for _ in range(2 if is_complex else 1)]
        values = [np.frombuffer(part, dtype).astype(dtype.newbyteorder("="), copy=False) for part in parts]
        data = values[0] + 1j * values[1] if is_complex else values[0]
        data = data.reshape((height, width), order="F")
        if kind == 2:
            out |= _sparse_v4(name, data)
        elif kind == 1 and wanted(name):
            rows = rows_of("".join(map(chr, data.ravel(order="F").astype(np.uint8))), data.shape)
            out |= {} if rows is None else {name: rows}
        elif kind == 0 and data.size:
            out[name] = data
    return out


def _sparse_v4(name: str, listed: NDArray[Any]) -> Arrays:
    """A matrix of which are listed: row and column from 1, value, of complex ones two; in the last line its size."""
    if not (len(listed) and listed.shape[1] in (3, 4) and (np.abs(listed[:, :2]) < 2**31).all()):
        raise ValueError(f"{name} is no sparse matrix")
    places, shape = listed[:-1, :2].astype(int) - 1, listed[-1, :2].astype(int).tolist()
    data = listed[:-1, 2] if listed.shape[1] == 3 else listed[:-1, 2] + 1j * listed[:-1, 3]
    return {name: scipy.sparse.coo_array((data, (places[:, 0], places[:, 1])), shape=tuple(shape))}
