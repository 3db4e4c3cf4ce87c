"""Tables of text: what separates cells, which line is the header, and which columns are features."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError, UsageError

LABEL_COLUMNS = ("label", "labels", "class", "gnd")
"""Columns of a text or Parquet table that are taken as labels unasked, in lower case; a column ``y`` may be a
coordinate."""

Cells = list[list[str]]


@dataclass
class Raw:
    """What a file holds before anything is checked: the features of text are its columns, arrays are as they are."""

    values: NDArray[Any]
    what: str
    names: Sequence[str] = ()
    labels: NDArray[Any] | None = None
    labels_name: str = ""
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()


_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+(?:[eE][-+]?\d+)?)")
_SEPARATING_COMMA = re.compile(r"(?<!\d),|,(?!\d)")


def read_text(path: str, ignore: Sequence[str], label: str | None, *, axis: str) -> Raw:
    """A text table whose features are its columns or rows, as ``axis`` ("column" or "row") says; see
    :func:`rsunfold.io.table.read_table`."""
    rows, notes = _cells(path)
    if axis == "row":
        rows = [list(column) for column in zip(*rows, strict=True)]
    table, of_header = _headed(rows, [*ignore, *([] if label is None else [label])], axis)
    aside, place, of_roles = _roles(path, table, ignore, label)
    inside = [i for i in range(len(table.cells)) if i not in aside]
    values, of_numbers = _numbers(path, table, inside)
    return Raw(
        values,
        "the table",
        [table.names[i] for i in inside] if table.top else (),
        None if place is None else np.array(table.cells[place]),
        "" if place is None else f"the {axis} {table.names[place]!r}",
        tuple((table.names[i], tuple(table.cells[i])) for i in aside),
        (*notes, *of_header, *of_roles, *of_numbers),
    )


def _cells(path: str) -> tuple[Cells, list[str]]:
    """Rows of equally many cells, with decimal points, and notes; raises InputError.

    Of lines at the top that begin with #, as NumPy writes them, the last one is the header where it has as many cells
    as the rows; the others are comments.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            start = file.read(2**16)
            file.seek(0)
            lines = [line for line in start.splitlines() if line.strip()]
            first = next((line for line in lines if not line.startswith("#")), *lines[:1] or [""])
            first = re.sub('"[^"]*"', '""', first)
            # The one that the first line has most of; a table of one column has none. Where others separate numbers,
            # commas may stand for decimal points.
            decimal = re.search("[;\t]", first) and not _SEPARATING_COMMA.search(first)
            delimiter = max(";\t" if decimal else ",;\t", key=first.count)
            if not first.count(delimiter) and len(first.split()) > 1:
                rows = [line.split() for line in file]
            else:
                rows = list(csv.reader(file, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of text ({error}).") from None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    rows = _without_comments(rows)
    if not rows:
        raise InputError(f"{path} is empty.")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise InputError(f"{path}: row {number} has {len(row)} cells, but the first has {len(rows[0])}.")
    pointed = [[_DECIMAL_COMMA.sub(r"\1.\2", c) if _DECIMAL_COMMA.fullmatch(c) else c for c in row] for row in rows]
    if (delimiter == "," and "," in first) or pointed == rows:
        return rows, []
    return pointed, ["decimal commas were read as points"]


def _without_comments(rows: Cells) -> Cells:
    """Rows whose first lines are no comments, see :func:`_cells`."""
    body = next((i for i, row in enumerate(rows) if not row[0].startswith("#")), 0)
    if not body:
        return rows
    for header in (rows[body - 1], rows[body - 1][1:]):  # "# a" and "#", "a"
        named = [header[0].removeprefix("#").strip(), *header[1:]] if header else []
        if len(named) == len(rows[body]):
            return [named, *rows[body:]]
    return rows[body:]


def _is_number(cell: str) -> bool:
    if "_" in cell:  # Python reads plot 1_2 as 12
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_text(cells: Sequence[str]) -> bool:
    """Whether a column is one of words: some cell is neither a number nor a sign for none."""
    return any(not _is_number(c) and c.lower() not in _NO_NUMBER for c in cells)


_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none", "-", "?")


def missing_labels(labels: Iterable[Any]) -> list[bool]:
    """Which labels are none: None, NaN, the text of an empty cell, and beside numbers the words for none; beside other
    words, ``none`` may be a class."""
    given = list(labels)
    numbers = any(isinstance(label, str) and _is_number(label) and label.lower() != "nan" for label in given)
    words = _NO_NUMBER if numbers else ("", "nan")
    return [
        label is None or label != label or (isinstance(label, str) and label.strip().lower() in words)
        for label in given
    ]


@dataclass(frozen=True)
class _Columns:
    """A text table whose features are columns, which the file calls ``axis``.

    top : its header; empty without one. cells : what stands below it, by column. words : which columns are no numbers.
    """

    axis: str
    top: list[str]
    cells: Cells
    words: list[bool]

    @property
    def names(self) -> list[str]:
        """Of all columns: those of the header, else their numbers from 1."""
        return [name or f"{self.axis} {i}" for i, name in enumerate(self.top or [""] * len(self.cells), start=1)]


def _headed(rows: Cells, asked: Sequence[str], axis: str) -> tuple[_Columns, list[str]]:
    """The table by columns, its first row as the header where it is one, and notes; asked : columns, some by name."""
    top = rows[0]
    body = [list(column) for column in zip(*rows[1:], strict=True)] or [[] for _ in top]
    words = [_is_text(column) for column in body]
    # A word above numbers is a name; above words it may be one of them.
    header = any(_is_text([name]) and not below for name, below in zip(top, words, strict=True)) or all(words)
    header |= any(name in top and not _is_place(name, len(top)) for name in asked)
    numbered = not header and _are_numbers(top) and len(rows) > 1
    notes = [f"the first sample numbers the {axis}s, so it was taken as their names"] if numbered else []
    if header or numbered or _are_wavelengths(rows, words):
        return _Columns(axis, top, body, words), notes
    body = [[first, *column] for first, column in zip(top, body, strict=True)]
    return _Columns(axis, [], body, [_is_text(column) for column in body]), notes


def _roles(
    path: str, table: _Columns, ignore: Sequence[str], label: str | None
) -> tuple[list[int], int | None, list[str]]:
    """The columns that are no features, that of the labels or None, and notes; UsageError as :func:`places` raises."""
    names, axis, first = table.names, table.axis, table.cells[0]
    index: list[int] = []
    notes: list[str] = []
    unnamed = table.top[:1] in ([""], ["Unnamed: 0"])  # as pandas writes an index, and reads and writes it again
    numbers = [int(cell) for cell in first if cell.isdecimal()]
    counts = len(numbers) == len(first) > 1 and len({*numbers}) == len(numbers)
    # The first line of a file whose features are rows is its header, which no sample stands in.
    in_turn = axis == "row" and len(numbers) > 3 and all(b == a + 1 for a, b in pairwise(numbers))
    in_turn &= len(names) > 1 and label_place(path, names, label, axis) != 0
    if counts and (unnamed or in_turn):
        why = "has no name and" if unnamed else "counts up and so"
        notes.append(f"the first {axis} {why} numbers the samples, so it is not a feature")
        index = [0]
    aside = [*index, *places(path, names, ignore, axis)]
    place = label_place(path, names, label, axis)
    if label is None and place in aside:
        place = None
    if label is None and place is not None:
        notes.append(f"the {axis} {names[place]!r} was taken as labels, so it is not a feature")
    return sorted({*aside, *([] if place is None else [place])}), place, notes


def _numbers(path: str, table: _Columns, inside: Sequence[int]) -> tuple[NDArray[np.float64], list[str]]:
    """Values (samples, features) of the columns ``inside``, NaN where a cell has none, and notes; InputError where one
    of them holds words."""
    names, axis, cells = table.names, table.axis, table.cells
    wrong = [i for i in inside if table.words[i]]
    if wrong and len(wrong) == len(cells):
        raise InputError(f"{path} contains no {axis} of numbers.")
    if wrong:
        first = next(cell for cell in cells[wrong[0]] if _is_text([cell]))
        more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        given = shlex.quote(",".join(names[i] if table.top else str(i + 1) for i in wrong[:8]))
        turn = ""
        if wrong == [0] and axis == "column" and len({*cells[0]}) == len(cells[0]):
            turn = "; if these are the names of features, use --features rows"
        raise InputError(
            f"{path}: the {axis} {names[wrong[0]]!r} contains text such as {first!r}{more}; leave it out with "
            f"--ignore {given}{turn}."
        )
    if not inside:
        raise InputError(f"{path} contains no {axis} that is a feature.")
    numbers = [[cell if _is_number(cell) else "nan" for cell in cells[i]] for i in inside]
    values = np.array(numbers, dtype=np.float64).T if cells[0] else np.empty((0, len(inside)))
    rises = np.diff(values[0]) > 0 if len(values) and not table.top else np.zeros(0, bool)
    if rises.size > 6 and rises.all() and not (np.diff(values[1:]) > 0).all(axis=1).any():
        told = "the values of the first sample increase from feature to feature; if they are wavelengths, remove it"
        return values, [told]
    return values, []


def _rises(cells: Sequence[str]) -> bool:
    return all(float(low) < float(high) for low, high in pairwise(cells))


def _are_wavelengths(rows: Cells, text: Sequence[bool]) -> bool:
    """Whether the first row, a word and numbers, names a column of words and gives the wavelengths of the others."""
    numbers = [[cell for cell, words in zip(row, text, strict=True) if not words] for row in rows]
    if all(text) or not any(text) or len(numbers[0]) < 5 or not all(map(_is_number, numbers[0])):
        return False
    recurs = any(row[i] == rows[0][i] for row in rows[1:] for i, words in enumerate(text) if words)
    others = [_rises(row) for row in numbers[1:] if all(map(_is_number, row))]
    return not recurs and _rises(numbers[0]) and 2 * sum(others) < len(others)


def _are_numbers(top: Sequence[str]) -> bool:
    """Whether the first row numbers the columns from 0 or 1, as pandas does; above an index it begins with nothing."""
    cells = top if top[0] else top[1:]
    least = 4 if top[0] else 1  # a sample may be 0, 1, 2
    return len(cells) >= least and any(list(cells) == [str(i + k) for i in range(len(cells))] for k in (0, 1))


def _is_place(name: str, count: int) -> bool:
    """Whether a column is given by its number from 1."""
    return name.isdecimal() and 1 <= int(name) <= count


def places(path: str, names: Sequence[str], wanted: Sequence[str], axis: str) -> list[int]:
    """Indices of columns given by name or number from 1; UsageError for one that is not there."""
    found = []
    for name in wanted:
        if name in names:
            found += [i for i, n in enumerate(names) if n == name]
        elif _is_place(name, len(names)):
            found.append(int(name) - 1)
        else:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise UsageError(f"{path} has no {axis} {name!r}; it has {shown}.")
    return found


def label_place(path: str, names: Sequence[str], label: str | None, axis: str) -> int | None:
    """Index of the column of labels: the one asked for, else the first of LABEL_COLUMNS."""
    if label is not None:
        return places(path, names, [label], axis)[0]
    return next((i for i, name in enumerate(names) if name.lower() in LABEL_COLUMNS), None)
