"""Tables of columns: which line of text is the header, and which columns are features."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arguments import quoted_name
from rsunfold.arrays import Mask, Real
from rsunfold.errors import InputError, UsageError
from rsunfold.io.textcells import Numbers, TextCells, is_missing, is_word

Cells = Callable[[Sequence[int]], Iterable[Sequence[Any]]]
"""The cells of some columns, row by row."""

LABEL_COLUMNS = ("label", "labels", "class", "class_id", "target", "gnd", "gt")
"""Names of columns that hold labels and are no features, in lower case; a column ``y`` may be a coordinate."""
UNNAMED = ("", "unnamed: 0")
"""The name of an index as pandas writes it, and as it reads and writes it again."""
INDEX_COLUMNS = (*UNNAMED, "id", "fid", "gid", "oid", "objectid", "index", "row", "nr", "no", "no.")
"""Columns that are taken to number the samples where they count up, in lower case."""
COUNTED = 4
"""Fewest samples whose numbers tell that they count up."""
FEW_NAMES, ALIKE = 5, 0.05
"""Fewest numbers in a row, and largest share of the other rows that rise or fall from column to column, too, for a
row that does so to be no sample."""
BEYOND = 2.0
"""How far names lie beyond all values of their columns, in units of the largest of these."""
EVEN = 0.01
"""Share of their step by which the steps of evenly spaced names may differ: wavelengths are rounded."""
LOOKED_AT = 2**20
"""Cells below the first row that are compared with it."""
WAVELENGTHS, SELDOM = ((300, 15000), (0.3, 15)), 0.5
"""What wavelengths in nanometres, or wavenumbers, and wavelengths in micrometres lie between; and share of the other
rows below which it is told that a first row of such numbers in turn is taken as a sample."""
UNCLEAR, LIKELY = "unclear", "likely a sample"


@dataclass
class Raw:
    """What a file holds before anything is checked: the features of text are its columns, arrays are as they are.

    kept : the columns that are no features, name and cells as they stand. inside : places of the features among the
    columns. cells : gives some features (by index) as they are stored, but with decimal points, row by row; None where
    ``values`` are as stored.
    unlabelled : why what is called as labels are was not taken as such, or empty.
    """

    values: NDArray[Any]
    what: str
    names: Sequence[str] = ()
    labels: NDArray[Any] | None = None
    labels_name: str = ""
    kept: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    inside: Sequence[int] = ()
    cells: Cells | None = None
    unlabelled: str = ""


def read_text(
    path: str,
    ignore: Sequence[str],
    label: str | None,
    *,
    axis: str,
    header: bool | None = None,
    room: int | None = None,
) -> Raw:
    """A text table whose features are its columns or rows, as ``axis`` ("column" or "row") says; see
    :func:`rsunfold.io.table.read_table`."""
    cells = TextCells(path)
    found = cells.numbers(room)
    top = [*map(cells.text, cells.first)]
    width = _filled_width(top, found)
    if axis == "row":
        table = Columns(
            axis,
            [cells.text(cell) for (cell,) in cells.columns([0])],
            found.values[:, :width].T,
            found.words_beside,
            lambda places: zip(*(row[:width] for row in cells.rows(places)), strict=True),
            text=cells.text,
        )
    else:
        values, words = found.values[:, :width], found.words_below[:width]
        table = Columns(axis, top[:width], values, words, cells.columns, text=cells.text)
    asked = [*ignore, *([] if label is None else [label])]
    table, of_header = _headed(path, table, asked, header)
    raw = of_columns(path, table, ignore, label)
    notes = (*(["decimal commas were read as points"] if found.commas else []), *of_header, *raw.notes)
    return replace(raw, notes=notes)


def of_columns(path: str, table: Columns, ignore: Sequence[str], label: str | None, index: Sequence[str] = ()) -> Raw:
    """The features of a table of columns, and what the others are. index : names of columns that are known to number
    the samples.

    ``table.values`` are overwritten. Raises UsageError for a column that is not there, InputError where a feature holds
    words, or there is none.
    """
    names, axis = table.names, table.axis
    roles = _roles(path, table, ignore, label, index)
    inside = np.setdiff1d(np.arange(len(names)), roles.aside).tolist()
    _refuse_words(path, table, inside)
    place = roles.labels
    rows = [*table.stored(roles.aside)] if roles.aside else []
    kept = {i: [row[k] for row in rows] for k, i in enumerate(roles.aside)}
    # What has no name gets one by which its role is known when the file is read again.
    known = dict.fromkeys(roles.index, "") | ({} if place is None else {place: "label"})
    called = {i: table.top[i] if table.top else known.get(i, names[i]) for i in kept}
    return Raw(
        _only(table.values, inside),
        "the table",
        [names[i] for i in inside] if table.top or kept else (),
        None if place is None else np.array([*map(table.text, kept[place])]),
        "" if place is None else f"the {axis} {names[place]!r}",
        tuple((called[i], tuple(some)) for i, some in kept.items()),
        tuple(roles.notes),
        inside,
        lambda chosen: table.cells([inside[i] for i in chosen]),
    )


def _filled_width(top: Sequence[str], found: Numbers) -> int:
    """How many columns there are without the empty ones after a delimiter at the end of every line."""
    width = len(top)
    blank = ~found.words_below & np.isnan(found.values).all(axis=0)
    while width > 1 and not top[width - 1] and blank[width - 1]:
        width -= 1
    return width


def missing_labels(labels: Iterable[Any]) -> list[bool]:
    """Which labels are none: None, NaN, the text of an empty cell, and beside numbers the words for none; beside other
    words, ``none`` may be a class."""
    given = list(labels)
    numbers = any(isinstance(x, str) and not is_word(x) and not is_missing(x, beside_numbers=True) for x in given)
    return [
        label is None or label != label or (isinstance(label, str) and is_missing(label, beside_numbers=numbers))
        for label in given
    ]


@dataclass(frozen=True)
class Columns:
    """A table whose features are columns, which the file calls ``axis``.

    top : its header; empty without one. values float64 (samples, columns), NaN where there is no number. words : which
    columns hold words. held : gives the cells of some columns as they stand, with the header where ``values`` had it.
    is_word : whether a cell is one. text : what a cell says, see :meth:`rsunfold.io.textcells.TextCells.text`.
    """

    axis: str
    top: list[str]
    values: NDArray[np.float64]
    words: Mask
    held: Cells
    is_word: Callable[[Any], bool] = is_word
    text: Callable[[Any], Any] = lambda cell: cell

    @property
    def names(self) -> list[str]:
        """Of all columns: those of the header, else their numbers from 1."""
        return [name or f"{self.axis} {i}" for i, name in enumerate(self.top or [""] * len(self.words), start=1)]

    def stored(self, places: Sequence[int]) -> Iterator[Sequence[Any]]:
        """What stands in some columns, sample by sample, without the header."""
        return islice(iter(self.held(places)), 1 if self.top else 0, None)

    def cells(self, places: Sequence[int]) -> Iterator[Sequence[Any]]:
        """The same, each cell as ``text`` reads it."""
        return ([*map(self.text, row)] for row in self.stored(places))


def _headed(path: str, given: Columns, asked: Sequence[str], header: bool | None) -> tuple[Columns, list[str]]:
    """The table, its first row as the header where it is one, and notes; InputError where it may as well be a sample.

    given : with the first row both as the header and among the values, ``words`` below it. asked : columns, some by
    name. header : whether there is one, where the user says so.
    """
    top, axis = given.top, given.axis
    plain = replace(given, top=[], words=given.words | np.array([is_word(c) for c in top]))
    headed = replace(given, values=given.values[1:])
    if header is not None:
        return headed if header else plain, []
    if _has_names(headed) or any(name in top and not _is_place(name, len(top)) for name in asked):
        return headed, []
    why = _why_names(headed, given.values[0])
    line = "row" if axis == "column" else "column"
    if why == LIKELY:
        told = f"the first {line} was taken as a sample"
        return plain, [f"{told}; if it holds the names of the {axis}s, such as wavelengths, give --header yes"]
    if why == UNCLEAR:
        raise InputError(
            f"{path}: the first {line} may hold the names of the {axis}s, such as wavelengths, or a sample; say with "
            "--header whether it holds names."
        )
    return (headed, [f"the first sample {why}, so it was taken as their names"]) if why else (plain, [])


def _has_names(table: Columns) -> bool:
    """Whether the first row holds words that are names: a word above numbers is one, above words it may be one of
    them, even where labels are called so, as ``target`` is a class, too."""
    below = table.words
    if below.all() or any(is_word(name) and not words for name, words in zip(table.top, below, strict=True)):
        return True
    known = [i for i, name in enumerate(table.top) if _is_known(name)]
    return any(not below[i] or not _recurs(table, [i]) for i in known)


def _is_known(name: str) -> bool:
    return name.lower() in (*LABEL_COLUMNS, "id")


def _recurs(table: Columns, columns: Sequence[int]) -> bool:
    """Whether a cell above one of the ``columns`` comes again below: then it is hardly a name."""
    cells = table.cells(columns) if columns else ()
    return any(cell == table.top[i] for row in cells for i, cell in zip(columns, row, strict=True))


def _why_names(table: Columns, first: Real) -> str:
    """What says that a first row of numbers holds the names of the columns below; UNCLEAR where it may be a sample,
    LIKELY where it may yet be names, empty where it is a sample."""
    axis, below = table.axis, table.values
    if not len(below):
        return ""
    used, told = np.flatnonzero(~table.words), np.flatnonzero(table.words).tolist()
    labels = [i for i in told if _is_known(table.top[i])]  # or a class of that name, in the first sample
    if _are_numbers([cell for i, cell in enumerate(table.top) if i not in labels]):
        return f"numbers the {axis}s"
    nameless = table.top[0] == "" and len(first) > 1 and not np.isnan(first[1:]).any()
    if nameless and not np.isnan(below[:, 0]).any():
        return f"has no first cell but numbers above the {axis}s"
    rows = below[: max(20, LOOKED_AT // max(1, len(used)))][:, used]
    rows = rows[~np.isnan(rows).any(axis=1)]
    if len(used) < 2 or not len(rows) or np.isnan(first[used]).any():
        return ""
    if labels and len(used) > 2 and (np.diff(first[used]) > 0).all():
        return UNCLEAR
    found = _unlike_samples(first[used], rows, len({table.top[i] for i in used}) == len(used))
    if found in (LIKELY, "") and nameless and table.words[0]:
        return UNCLEAR
    if not found:
        return ""
    recurs = _recurs(table, told)
    if found == LIKELY:
        return "" if recurs else LIKELY
    return UNCLEAR if recurs or found == UNCLEAR else f"gives numbers unlike the values of the {axis}s"


def _unlike_samples(first: Real, rows: Real, distinct: bool) -> str:
    """Whether the numbers ``first`` (d,) are no sample like the ``rows`` (n, d) below: UNCLEAR, LIKELY or empty where
    not. distinct : whether no two of them are written alike.

    Names such as wavelengths rise or fall, where samples do not; are evenly spaced; lie beyond all values of their
    columns; are whole above fractions, or fractions above whole numbers. Two of these signs tell, one is unclear. What
    rises or falls as few of the rows do, and may be wavelengths, is likely a sample.
    """
    d = len(first)
    step = np.diff(first)
    in_turn = bool((step > 0).all() or (step < 0).all())
    steps = np.diff(rows, axis=1)
    alike = ((steps > 0).all(axis=1) | (steps < 0).all(axis=1)).mean()
    away = np.maximum(rows.min(axis=0) - first, first - rows.max(axis=0))
    beyond = bool((away > BEYOND * np.abs(rows).max(axis=0)).all())
    whole, fractions = first == np.rint(first), (rows != np.rint(rows)).any(axis=0)
    kind = bool((whole.all() and fractions.all()) or not (whole.any() or fractions.any()))
    many = d >= FEW_NAMES
    even = many and bool((np.abs(step - step.mean()) <= EVEN * abs(step.mean())).all())
    alone = many and alike <= ALIKE
    if in_turn and (beyond + kind + even + alone >= 2 if many else beyond and kind and d > 2):
        return "names"
    if in_turn:
        unclear = beyond or (many and (kind or even)) or (alone and d > FEW_NAMES)
    else:
        unclear = (d > 2 and beyond) or (kind and many and distinct)
    if unclear:
        return UNCLEAR
    between = any(low <= first.min() and first.max() <= high for low, high in WAVELENGTHS)
    return LIKELY if in_turn and d > 2 and between and alike < SELDOM else ""


@dataclass(frozen=True)
class _Roles:
    """The columns that are no features, rising; of these that of the labels, and those that number the samples."""

    aside: list[int]
    labels: int | None
    index: list[int]
    notes: list[str]


def _roles(path: str, table: Columns, ignore: Sequence[str], label: str | None, index: Sequence[str]) -> _Roles:
    """See :func:`of_columns`; UsageError as :func:`places` raises."""
    names, axis = table.names, table.axis
    ignored = places(path, names, ignore, axis)
    called = [i for i, name in enumerate(names) if name.strip().lower() in LABEL_COLUMNS and i not in ignored]
    place = places(path, names, [label], axis)[0] if label is not None else next(iter(called), None)
    notes = []
    for i in called:
        if i != place:
            notes.append(f"the {axis} {names[i]!r} is called as labels are, so it is not a feature")
        elif label is None:
            notes.append(f"the {axis} {names[i]!r} was taken as labels, so it is not a feature")
    known = places(path, names, index, axis)
    notes += [f"the {axis} {names[i]!r} is the index of the data frame, so it is not a feature" for i in known]
    aside = {*ignored, *called, *known, *([] if place is None else [place])}
    found, of_index = _numbering(table.values, table.top, aside, axis)
    return _Roles(sorted({*aside, *found}), place, [*known, *found], [*of_index, *notes])


def _numbering(
    values: NDArray[np.float64], names: Sequence[str], aside: Iterable[int], axis: str
) -> tuple[list[int], list[str]]:
    """The columns of a table (samples, columns) that number the samples, so that they are no features, and notes.

    Those called as such are, where they count up; the first one without a name, where its whole numbers differ; of
    features in rows the first, too. Of others that count up, and of those called so whose whole numbers differ, a note
    tells. names : as the file gives them, empty for none. aside : columns that are none anyway.
    """
    found, notes, told = [], [], []
    for i in sorted({*_candidates(values, names)} - {*aside}):
        name = names[i] if names else None
        turn = len(values) >= COUNTED and bool((np.diff(values[:, i]) == 1).all())
        if i == 0 and name is not None and name.lower() in UNNAMED:
            why = f"first {axis} has no name and"
        elif turn and name is not None and name.lower() in INDEX_COLUMNS:
            why = f"{axis} {name!r}"
        elif turn and i == 0 and axis == "row":
            why = "first row counts up and so"
        else:
            told.append(name or str(i + 1))
            continue
        notes.append(f"the {why} numbers the samples, so it is not a feature")
        found.append(i)
    if told:
        more = f" (and {len(told) - 1} more like it)" if len(told) > 1 else ""
        notes.append(
            f"the {axis} {told[0]!r}{more} has another whole number in every sample; if it numbers them, leave it out "
            f"with --ignore {option_of(told)}"
        )
    return found, notes


def _candidates(values: NDArray[np.float64], names: Sequence[str]) -> Iterable[int]:
    """Columns of whole numbers from 0 on, none twice, that count up or are called as those that number samples."""
    if len(values) < 2 or values.shape[1] < 2:
        return
    turn = (np.diff(values[:COUNTED], axis=0) == 1).all(axis=0) & (len(values) >= COUNTED)
    called = np.array([name.lower() in INDEX_COLUMNS for name in names] or [False] * len(turn))
    for i in np.flatnonzero(turn | called).tolist():
        column = values[:, i]
        if not (column >= 0).all() or (column != np.rint(column)).any() or len(np.unique(column)) < len(column):
            continue
        if called[i] or (np.diff(column) == 1).all():
            yield i


def _refuse_words(path: str, table: Columns, inside: Sequence[int]) -> None:
    """Raise InputError where one of the columns ``inside`` holds words, or there is none."""
    names, axis = table.names, table.axis
    wrong = [i for i in inside if table.words[i]]
    if wrong and len(wrong) == len(table.words):
        raise InputError(f"{path} contains no {axis} of numbers.")
    if wrong:
        cells = [cell for (cell,) in table.cells(wrong[:1])]
        first = next(cell for cell in cells if table.is_word(cell))
        what = f"text such as {first!r}" if isinstance(first, str) else f"no numbers but values such as {first}"
        more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        given = option_of([names[i] if table.top else str(i + 1) for i in wrong])
        turn = ""
        of_text = table.is_word is is_word  # which alone can have features in rows that begin with their names
        if of_text and wrong == [0] and axis == "column" and len({*cells}) == len(cells):
            turn = "; if these are the names of features, use --features rows"
        raise InputError(
            f"{path}: the {axis} {names[wrong[0]]!r} contains {what}{more}; leave it out with --ignore {given}{turn}."
        )
    if not inside:
        raise InputError(f"{path} contains no {axis} that is a feature.")


def _only(values: NDArray[np.float64], inside: Sequence[int]) -> NDArray[np.float64]:
    """The columns ``inside``, rising, of an array, which they take the place of: a copy might not fit in memory."""
    if len(inside) < values.shape[1]:
        step = max(1, LOOKED_AT // values.shape[1])
        for start in range(0, len(values), step):
            part = values[start : start + step]
            part[:, : len(inside)] = part[:, inside]
    return values[:, : len(inside)]


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


def option_of(names: Sequence[str]) -> str:
    """Names or numbers of a few columns as an option takes them."""
    return shlex.quote(",".join(map(quoted_name, names[:8])))
