"""Tables of samples and features: CSV, NumPy, MAT and Parquet files."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import measured
from rsunfold.errors import InputError, OutputError, UsageError
from rsunfold.io.atomic import atomic_path

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, ".npy", ".npz", ".parquet")
"""Extensions of files that are tables; a MAT file is one or an image, see :func:`is_table`."""
DATA_NAMES = ("x", "fea", "data", "features")
LABEL_NAMES = ("y", "gnd", "label", "labels", "gt")
LABEL_COLUMNS = ("label", "labels", "class", "gnd")
"""Columns of a text table that are taken as labels unasked, in lower case; a column ``y`` may be a coordinate."""
DIRECTIONS = ("columns", "rows")

Cells = list[list[str]]


@dataclass(frozen=True)
class Table:
    """Samples and their features.

    data : float64 (samples, features), finite. stored : (samples, features), the same in the type of the file. names :
    of the features, empty where the file gives none. labels : (samples,) or None. kept : the columns that are no
    features, name and cells, in the order of the file. notes : sentences on what was assumed.
    """

    path: str
    data: NDArray[np.float64]
    stored: NDArray[Any]
    names: tuple[str, ...] = ()
    labels: NDArray[Any] | None = None
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        """How the feature ``index`` (from 0) is called: by its name, else by its number from 1."""
        return self.names[index] if self.names else f"feature {index + 1}"


@dataclass
class _Raw:
    """What a file holds before anything is checked: features in columns, except where transposed says otherwise."""

    values: NDArray[Any]
    what: str
    names: Sequence[str] = ()
    labels: NDArray[Any] | None = None
    labels_name: str = ""
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()


def is_table(path: str | Path, var: str | None = None) -> bool:
    """Whether a file is a table, not an image: by its extension; a MAT file is an image where it holds a cube.

    A cube is an array of three dimensions, or a matrix of bands x pixels with the size of the image beside it. Raises
    InputError when a MAT file cannot be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix != ".mat":
        return suffix in SUFFIXES
    _require(path)
    from rsunfold.io.mat import MatFile

    with MatFile(str(path)) as file:
        shown = [v for v in (*file.variables, *file.sparse) if var in (None, v.name)]
        return bool(shown) and not any(len(v.shape) == 3 or file.image_size(v) is not None for v in shown)


def read_table(
    path: str | Path,
    *,
    var: str | None = None,
    features: str | None = "columns",
    ignore: Sequence[str] = (),
    label: str | None = None,
) -> Table:
    """Read a table, samples in rows and features in columns, or the other way with ``features`` "rows".

    None as ``features`` asks the labels: where they are as many as the columns and not as the rows, features are rows.
    var : array of a MAT or NPZ file; None takes the one called X, fea or data, else the only matrix. ignore : columns
    that are no features, by name or number from 1. label : the column of labels of a text or Parquet table; None takes
    one called label, class or gnd. Labels of MAT and NPZ files are the vector called Y, gnd or label.

    Raises InputError when the file is missing or unreadable, holds text, NaN or fewer than two samples, or when its
    labels say that it is transposed; UsageError for a column or direction that is not known.
    """
    name = str(path)
    if features not in (None, *DIRECTIONS):
        raise UsageError(f"--features must be columns or rows, not {features!r}.")
    _require(path)
    suffix = Path(path).suffix.lower()
    if suffix in TEXT_SUFFIXES:
        cells, notes = _cells(name)
        if features == "rows":
            cells = [list(column) for column in zip(*cells, strict=True)]
        raw = _from_cells(name, cells, ignore, label, "row" if features == "rows" else "column")
        raw.notes = (*notes, *raw.notes)
    elif suffix == ".parquet":
        raw = _from_parquet(name, ignore, label)
    else:
        for option, given in (("--ignore", ignore), ("--label", label)):
            if given:
                raise UsageError(
                    f"{option} names a column of a text or Parquet table, but {name} has no named columns."
                )
        if suffix == ".npy":
            raw = _from_npy(name)
        elif suffix == ".npz":
            raw = _from_arrays(name, var, _npz(name))
        elif suffix == ".mat":
            raw = _from_mat(name, var)
        else:
            known = " ".join((*SUFFIXES, ".mat"))
            raise InputError(f"{name} does not have the extension of a table; use one of {known}.")
    return _checked(name, raw, features, turned=suffix in TEXT_SUFFIXES)


def _require(path: str | Path) -> None:
    """Raise InputError unless ``path`` is a file with something in it."""
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(f"{path} is a folder, not a table.")
        if file.stat().st_size == 0:
            raise InputError(f"{path} is empty.")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}).") from None


def _checked(path: str, raw: _Raw, features: str | None, *, turned: bool) -> Table:
    """The table, with its samples in rows, after everything that may be wrong with it."""
    values, notes = raw.values, list(raw.notes)
    if values.dtype.kind not in "buif":
        raise InputError(f"{path}: {raw.what} contains {values.dtype} values; real numbers are needed.")
    if features == "rows" and not turned:
        values = values.T
    rows, cols = values.shape
    if raw.labels is not None and raw.labels.size not in (rows, cols):
        notes.append(f"{raw.labels_name} is not as long as {raw.what} ({rows} x {cols}), so it was not taken as labels")
        raw.labels = None
    if raw.labels is not None and raw.labels.size != rows:
        count = raw.labels.size
        if features is not None:
            other = "rows" if features == "columns" else "columns"
            raise InputError(
                f"{path}: {raw.what} has {rows} samples and {cols} features, but {raw.labels_name} labels {count} "
                f"samples; the table is transposed, so use --features {other}."
            )
        values = values.T
        rows, cols = values.shape
        notes.append(f"features were taken to be the rows of {raw.what}, because {raw.labels_name} has {count} labels")
    if rows < 2:
        raise InputError(
            f"{path} contains {rows} sample{'' if rows == 1 else 's'}, but at least two are needed; if the features "
            "are its rows, use --features rows."
        )
    names = tuple(raw.names) if len(raw.names) == cols else ()
    data = np.asarray(values, np.float64)
    holes = ~measured(data)
    if holes.any():
        row, col = (int(i[0]) for i in np.nonzero(holes))
        where = repr(names[col]) if names else str(col + 1)
        raise InputError(
            f"{path} has no number in {int(holes.sum())} of its cells (the first: sample {row + 1}, feature {where}); "
            "fill them or remove these samples."
        )
    labels = None if raw.labels is None else raw.labels.ravel()
    return Table(path, data, values, names, labels, raw.kept, tuple(notes))


# ---------------------------------------------------------------- text


_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+(?:[eE][-+]?\d+)?)")
_SEPARATING_COMMA = re.compile(r"(?<!\d),|,(?!\d)")


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


def _from_cells(path: str, rows: Cells, ignore: Sequence[str], label: str | None, axis: str) -> _Raw:
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
    aside = [*index, *_places(path, names, ignore, axis)]
    place = _label_place(path, names, label, axis)
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
    return _Raw(
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


def _places(path: str, names: Sequence[str], wanted: Sequence[str], axis: str) -> list[int]:
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


def _label_place(path: str, names: Sequence[str], label: str | None, axis: str) -> int | None:
    if label is not None:
        return _places(path, names, [label], axis)[0]
    return next((i for i, name in enumerate(names) if name.lower() in LABEL_COLUMNS), None)


# ---------------------------------------------------------------- arrays


def _from_npy(path: str) -> _Raw:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a NumPy array ({error}).") from None
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; give it the extension .npz.")
    if values.ndim != 2:
        raise InputError(f"{path} contains an array of shape {values.shape}; a table has two dimensions.")
    return _Raw(values, "the array")


def _npz(path: str) -> dict[str, NDArray[Any]]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path} is a single array, not an archive; give it the extension .npy.")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as an archive of NumPy arrays ({error}).") from None


def _from_mat(path: str, var: str | None) -> _Raw:
    from rsunfold.io.mat import MatFile

    with MatFile(path) as file:
        # A sparse matrix may be the table; beside another matrix it is the graph of its samples.
        flat = any(len(v.shape) == 2 and min(v.shape) > 1 for v in file.variables)
        held = file.variables if flat and var is None else [*file.variables, *file.sparse]
        arrays = {}
        chosen = _chosen(path, var, {v.name: v.shape for v in held})
        for v in held:
            if v.name == chosen or _is_vector(v.shape):
                arrays[v.name] = v.native(v.reversed_[()]).T
    return _from_arrays(path, chosen, arrays)


def _is_vector(shape: Sequence[int]) -> bool:
    return len(shape) in (1, 2) and max(shape) > 1 and int(np.prod(shape)) == max(shape)


def _chosen(path: str, var: str | None, shapes: dict[str, tuple[int, ...]]) -> str:
    """Name of the array that is the table; raises InputError."""
    listed = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in shapes.items()) or "none"
    if var is not None:
        if var not in shapes:
            raise InputError(f"{path} has no numeric array {var!r}; it has {listed}.")
        if len(shapes[var]) != 2:
            raise InputError(f"{path}: {var} has {len(shapes[var])} dimensions; a table has two.")
        return var
    flat = [name for name, shape in shapes.items() if len(shape) == 2 and min(shape) > 1]
    named = [name for name in flat if name.rsplit(".", 1)[-1].lower() in DATA_NAMES]
    flat = named if len(named) == 1 else flat
    if not flat:
        raise InputError(f"{path} contains no matrix; its arrays: {listed}.")
    if len(flat) > 1:
        raise InputError(f"{path} contains several matrices: {listed}; choose one with --var NAME.")
    return flat[0]


def _from_arrays(path: str, var: str | None, arrays: dict[str, NDArray[Any]]) -> _Raw:
    chosen = _chosen(path, var, {name: a.shape for name, a in arrays.items()})
    labels = [n for n, a in arrays.items() if n.rsplit(".", 1)[-1].lower() in LABEL_NAMES and _is_vector(a.shape)]
    labels = [n for n in labels if n != chosen]
    lengths = arrays[chosen].shape
    # Of several vectors with such names the one that fits.
    labels.sort(key=lambda n: arrays[n].size not in lengths)
    taken = arrays[labels[0]].ravel() if labels else None
    return _Raw(arrays[chosen], chosen, (), taken, labels[0] if labels else "")


# ---------------------------------------------------------------- Parquet


def _from_parquet(path: str, ignore: Sequence[str], label: str | None) -> _Raw:
    pyarrow = _pyarrow(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from None
    names, columns = list(table.column_names), table.columns
    index = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if name in names]
    aside = _places(path, names, [*ignore, *index], "column")
    place = _label_place(path, names, label, "column")
    notes = (
        [] if place is None or label else [f"the column {names[place]!r} was taken as labels, so it is not a feature"]
    )
    notes += [f"the column {i!r} is the index of the data frame, so it is not a feature" for i in index]
    out = sorted({*aside, *([] if place is None else [place])})
    inside = [i for i in range(len(names)) if i not in out]
    kinds = pyarrow.types
    numeric = (kinds.is_integer, kinds.is_floating, kinds.is_boolean)
    wrong = [i for i in inside if not any(is_kind(columns[i].type) for is_kind in numeric)]
    if wrong:
        what = "text" if kinds.is_string(columns[wrong[0]].type) else f"values of type {columns[wrong[0]].type}"
        raise InputError(
            f"{path}: the column {names[wrong[0]]!r} contains {what}; leave it out with "
            f"--ignore {shlex.quote(','.join(names[i] for i in wrong[:8]))}."
        )
    if not inside:
        raise InputError(f"{path} contains no column that is a feature.")
    values = np.column_stack([columns[i].to_numpy(zero_copy_only=False).astype(np.float64) for i in inside])
    labels = None if place is None else np.asarray(columns[place].to_pylist())
    kept = tuple((names[i], tuple("" if v is None else str(v) for v in columns[i].to_pylist())) for i in out)
    where = "" if place is None else f"the column {names[place]!r}"
    return _Raw(values, "the table", [names[i] for i in inside], labels, where, kept, tuple(notes))


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
        import pyarrow.types
    except ImportError:
        raise InputError(
            f"{path}: Parquet files need pyarrow, which is not installed; run pip install pyarrow, or use CSV."
        ) from None
    return pyarrow


# ---------------------------------------------------------------- writing


def write_columns(path: Path, table: Table, chosen: Sequence[int], *, overwrite: bool = False) -> None:
    """Write some features (by index) of a table, in the order given: ``.csv`` with names, ``.npy`` in the type of the
    file, samples in rows.

    The columns that are no features stand before the features in a CSV. Raises OutputError when the file exists and
    ``overwrite`` is False, or cannot be written.
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(table.stored[:, chosen]))
        elif path.suffix.lower() == ".csv":
            with temporary.open("w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow([name for name, _ in table.kept] + [table.name(i) for i in chosen])
                values = [[repr(v) for v in row] for row in table.stored[:, chosen].tolist()]
                aside = zip_longest(*(cells for _, cells in table.kept)) if table.kept else ((),) * len(values)
                writer.writerows([*before, *row] for before, row in zip(aside, values, strict=True))
        else:
            raise OutputError(f"{path} has an unsupported extension; tables are written as .csv or .npy.")
