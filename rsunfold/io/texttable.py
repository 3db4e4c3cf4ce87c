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
    """What a file holds before anything is checked: features in columns, except where transposed says otherwise."""

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
    cells, notes = _cells(path)
    if axis == "row":
        cells = [list(column) for column in zip(*cells, strict=True)]
    raw = _from_cells(path, cells, ignore, label, axis)
    raw.notes = (*notes, *raw.notes)
    return raw


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


def _from_cells(path: str, rows: Cells, ignore: Sequence[str], label: str | None, axis: str) -> Raw:
    """A text table whose features are columns; ``axis`` is what they are in the file."""
    body = [list(column) for column in zip(*rows[1:], strict=True)] or [[] for _ in rows[0]]
    text = [_is_text(column) for column in body]
    # A word above numbers is a name; above words it may be one of them.
    header = any(_is_text([top]) and not words for top, words in zip(rows[0], text, strict=True)) or all(text)
    asked = [*ignore, *([] if label is None else [label])]
    header |= any(name in rows[0] and not _is_place(name, len(rows[0])) for name in asked)
    numbered = not header and _are_numbers(rows[0]) and len(rows) > 1
    header |= numbered or _are_wavelengths(rows, text)
    if header:
        names = [top or f"{axis} {i}" for i, top in enumerate(rows[0], start=1)]
    else:
        body = [[top, *column] for top, column in zip(rows[0], body, strict=True)]
        text = [_is_text(column) for column in body]
        names = [f"{axis} {i}" for i in range(1, len(body) + 1)]
    index: list[int] = []
    notes = [f"the first sample numbers the {axis}s, so it was taken as their names"] if numbered else []
    unnamed = header and rows[0][0] in ("", "Unnamed: 0")  # as pandas writes an index, and reads and writes it again
    if unnamed and len(body[0]) > 1 and all(c.isdecimal() for c in body[0]) and len({*body[0]}) == len(body[0]):
        notes.append(f"the first {axis} has no name and numbers the samples, so it is not a feature")
        index = [0]
    aside = [*index, *places(path, names, ignore, axis)]
    place = label_place(path, names, label, axis)
    if place is not None and place not in aside:
        notes += [] if label else [f"the {axis} {names[place]!r} was taken as labels, so it is not a feature"]
    else:
        place = place if label else None
    out = sorted({*aside, *([] if place is None else [place])})
    wrong = [i for i, words in enumerate(text) if words and i not in out]
    if wrong and len(wrong) == len(text):
        raise InputError(f"{path} contains no {axis} of numbers.")
    if wrong:
        first = next(c for c in body[wrong[0]] if _is_text([c]))
        more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        given = shlex.quote(",".join(names[i] if header else str(i + 1) for i in wrong[:8]))
        turn = ""
        if wrong == [0] and axis == "column" and len({*body[0]}) == len(body[0]):
            turn = "; if these are the names of features, use --features rows"
        raise InputError(
            f"{path}: the {axis} {names[wrong[0]]!r} contains text such as {first!r}{more}; leave it out with "
            f"--ignore {given}{turn}."
        )
    inside = [i for i in range(len(body)) if i not in out]
    if not inside:
        raise InputError(f"{path} contains no {axis} that is a feature.")
    numbers = [[cell if _is_number(cell) else "nan" for cell in body[i]] for i in inside]
    values = np.array(numbers, dtype=np.float64).T if body[0] else np.empty((0, len(inside)))
    rises = np.diff(values[0]) > 0 if len(values) and not header else np.zeros(0, bool)
    if rises.size > 6 and rises.all() and not (np.diff(values[1:]) > 0).all(axis=1).any():
        notes.append(
            "the values of the first sample increase from feature to feature; if they are wavelengths, remove it"
        )
    return Raw(
        values,
        "the table",
        [names[i] for i in inside] if header else (),
        None if place is None else np.array(body[place]),
        "" if place is None else f"the {axis} {names[place]!r}",
        tuple((names[i], tuple(body[i])) for i in out),
        tuple(notes),
    )


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
