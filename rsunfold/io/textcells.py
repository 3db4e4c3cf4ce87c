"""Cells of a text file: its encoding, what separates them, decimal commas and comments; numbers are read in chunks."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import DeviceError, InputError

Row = list[str]

START = 2**16
"""Characters of the file that say how it is written."""
CHUNK = 2**16
"""Cells that are text in memory at a time."""
BYTES = 2**20
"""Bytes in which lines are counted at a time."""

_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+(?:[eE][-+]?\d+)?)")
_SEPARATING_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
_QUOTED_COMMA = re.compile(r'"\s*[-+]?(\d+),(\d+)(?:[eE][-+]?\d+)?\s*"')
_EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)

_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none", "-", "?")
_TRUTH = {"true": 1.0, "false": 0.0}


def number(cell: str) -> float | None:
    """What a cell says: NaN for nothing (empty, ``NA``), 1 and 0 for True and False; None for a word."""
    cell = cell.strip()
    if "_" not in cell:  # Python reads plot 1_2 as 12
        try:
            return float(cell)
        except ValueError:
            pass
    word = cell.lower()
    return math.nan if word in _NO_NUMBER else _TRUTH.get(word)


def is_word(cell: str) -> bool:
    """Whether a cell is neither a number nor a sign for none."""
    return number(cell) is None


def is_missing(cell: str, *, beside_numbers: bool) -> bool:
    """Whether a label is none; beside words, ``none`` may be a class."""
    return cell.strip().lower() in (_NO_NUMBER if beside_numbers else ("", "nan"))


@dataclass(frozen=True)
class Numbers:
    """The numbers of a table of text.

    values float64 (lines, cells) : NaN where a cell holds none. words_below bool (cells,), words_beside bool (lines,) :
    which columns hold words below the first line, which lines beside the first cell. commas : whether decimal commas
    were read as points.
    """

    values: NDArray[np.float64]
    words_below: NDArray[np.bool_]
    words_beside: NDArray[np.bool_]
    commas: bool


class TextCells:
    """A table of text on disk. Raises InputError when it is empty or cannot be read.

    Its lines have equally many cells. Of lines at the top that begin with #, as NumPy writes them, the last one is the
    first of the table where it has as many cells as the others; they are comments else. A first line ``sep=;``, as
    Excel writes it, names the delimiter.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with Path(path).open("rb") as file:
            marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        self._encoding = "utf-16" if marked else "utf-8-sig"
        self._skipped, self._delimiter, self._commas = self._layout(self._start())
        self.first = next(self.lines(), [])
        if not self.first:
            raise InputError(f"{path} is empty.")

    def _refused(self, error: Exception) -> InputError:
        if isinstance(error, UnicodeDecodeError):
            return InputError(
                f"{self.path} is not encoded in UTF-8, as tables of text have to be; save it as such (in Excel: "
                "CSV UTF-8)."
            )
        return InputError(f"{self.path} cannot be read as a table of text ({error}).")

    def _start(self) -> str:
        try:
            with Path(self.path).open(newline="", encoding=self._encoding) as file:
                return file.read(START)
        except (OSError, UnicodeError) as error:
            raise self._refused(error) from None

    @staticmethod
    def _layout(start: str) -> tuple[int, str | None, bool]:
        """(lines before the table, the delimiter or None for white space, whether commas may be decimal ones)."""
        lines = [line for line in start.splitlines() if line.strip()]
        given = _EXCEL.fullmatch(lines[0].strip()) if lines else None
        first = next((line for line in lines[given is not None :] if not line.startswith("#")), *lines[:1] or [""])
        first = re.sub('"[^"]*"', '""', first)
        # The one that the first line has most of; a table of one column has none. Where others separate numbers,
        # commas may stand for decimal points.
        decimal = re.search("[;\t]", first) and not _SEPARATING_COMMA.search(first)
        delimiter = given[1] if given else max(";\t" if decimal else ",;\t", key=first.count)
        if not given and not first.count(delimiter) and len(first.split()) > 1:
            return 0, None, True
        # Between quotes "0,28" has a decimal comma; "1,056" alone may be a thousand.
        quoted = any(whole.startswith("0") or len(part) != 3 for whole, part in _QUOTED_COMMA.findall(start))
        return int(given is not None), delimiter, delimiter != "," or not first.count(",") or quoted

    def lines(self) -> Iterator[Row]:
        """The cells of every line that is not blank, as they are; raises InputError."""
        width = 0
        for place, row in enumerate(self._without_comments(), start=1):
            width = width or len(row)
            if len(row) != width:
                raise InputError(f"{self.path}: row {place} has {len(row)} cells, but the first has {width}.")
            yield row

    def _filled(self) -> Iterator[Row]:
        try:
            with Path(self.path).open(newline="", encoding=self._encoding) as file:
                body = islice(file, self._skipped, None)
                split = map(str.split, body) if self._delimiter is None else csv.reader(body, delimiter=self._delimiter)
                for row in split:
                    if any(map(str.strip, row)):
                        yield row
        except (OSError, UnicodeError, csv.Error) as error:
            raise self._refused(error) from None

    def _without_comments(self) -> Iterator[Row]:
        top: list[Row] = []
        rows = self._filled()
        for row in rows:
            if not row[0].lstrip().startswith("#"):
                yield from _header_in(top, len(row))
                yield row
                yield from rows
                return
            top.append(row)
        yield from top

    def text(self, cell: str) -> str:
        """A cell without blanks around it, a decimal comma as a point."""
        cell = cell.strip()
        return _DECIMAL_COMMA.sub(r"\1.\2", cell) if self._commas and _DECIMAL_COMMA.fullmatch(cell) else cell

    def columns(self, places: Sequence[int]) -> Iterator[Row]:
        """The cells of some columns, line by line, as they are."""
        return ([row[i] for i in places] for row in self.lines())

    def rows(self, places: Sequence[int]) -> list[Row]:
        """The cells of some lines, as they are."""
        held = {i: row for i, row in enumerate(self.lines()) if i in places}
        return [held[i] for i in places]

    def numbers(self, room: int | None = None) -> Numbers:
        """The numbers in the cells; DeviceError where they need more than ``room`` bytes."""
        width, most = len(self.first), self._most_lines()
        if room is not None and 8 * most * width > room:
            numbers = f"{self.path} has up to {most} lines of {width} numbers, which need"
            raise DeviceError.no_room(numbers, 8 * most * width, room)
        values = np.empty((most, width))
        below, beside = np.zeros(width, bool), np.zeros(most, bool)
        lines, done, commas = self.lines(), 0, False
        while chunk := list(islice(lines, max(1, CHUNK // width) if done else 1)):
            part = slice(done, done + len(chunk))
            words, of_commas = self._fill(values[part], chunk)
            if words is not None:
                below |= words.any(axis=0) if done else False
                beside[part] = words[:, 1:].any(axis=1)
            commas |= of_commas
            done += len(chunk)
        return Numbers(values[:done], below, beside[:done], commas)

    def _most_lines(self) -> int:
        """At least as many as there are lines, however they end."""
        count = 1
        with Path(self.path).open("rb") as file:
            while data := file.read(BYTES):
                count += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
        return count

    def _fill(self, into: NDArray[np.float64], chunk: list[Row]) -> tuple[NDArray[np.bool_] | None, bool]:
        """Write the numbers of some lines; (which cells are words, None for none of them; whether commas were read)."""
        found = _plain(list(chain.from_iterable(chunk)))
        if found is not None:
            into[:] = found.reshape(into.shape)
            return None, False
        words, commas = np.zeros(into.shape, bool), False
        parts: list[Any]
        if into.shape[0] > into.shape[1]:
            parts = list(zip(zip(*chunk, strict=True), into.T, words.T, strict=True))
        else:  # words stand in the first cell of a line, if anywhere
            heads = [([row[0]], into[i, :1], words[i, :1]) for i, row in enumerate(chunk)]
            parts = heads + [(row[1:], into[i, 1:], words[i, 1:]) for i, row in enumerate(chunk)]
        for cells, numbers, wordy in parts:
            plain = _plain(cells)
            if plain is not None:
                numbers[:] = plain
                continue
            texts = [self.text(cell) for cell in cells]
            commas |= any("," in cell and "," not in text for cell, text in zip(cells, texts, strict=True))
            read = [number(text) for text in texts]
            wordy[:] = [value is None for value in read]
            numbers[:] = [math.nan if value is None else value for value in read]
        return words, commas


def _header_in(comments: Sequence[Row], width: int) -> Iterator[Row]:
    """The last of some lines that begin with # where it names ``width`` columns, see :class:`TextCells`."""
    last = comments[-1] if comments else []
    for header in (last, last[1:]):  # "# a" and "#", "a"
        named = [header[0].strip().removeprefix("#").strip(), *header[1:]] if header else []
        if named and len(named) == width:
            yield named
            return


def _plain(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The cells as numbers where all are such with decimal points."""
    if "_" in "".join(cells):  # see number
        return None
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
