"""Tables of samples and features: CSV, NumPy, MAT and Parquet files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import measured
from rsunfold.errors import InputError, OutputError, UsageError
from rsunfold.io.atomic import atomic_path
from rsunfold.io.csvfile import write_rows
from rsunfold.io.damage import named
from rsunfold.io.texttable import Raw, label_place, numbering, places, read_text

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, ".npy", ".npz", ".parquet")
"""Extensions of files that are tables; a MAT file is one or an image, see :func:`is_table`."""
DATA_NAMES = ("x", "fea", "data", "features")
LABEL_NAMES = ("y", "gnd", "label", "labels", "gt")
DIRECTIONS = ("columns", "rows")


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

    @property
    def held(self) -> int:
        """Bytes of the values in memory."""
        return self.data.nbytes + (0 if np.shares_memory(self.data, self.stored) else self.stored.nbytes)

    def name(self, index: int) -> str:
        """How the feature ``index`` (from 0) is called: by its name, else by its number from 1."""
        return self.names[index] if self.names else f"feature {index + 1}"


def is_table(path: str | Path, var: str | None = None) -> bool:
    """Whether a file is a table, not an image: by its extension; a MAT file is an image where it holds a cube.

    A cube is an array of three dimensions, or a matrix of bands x pixels with the size of the image beside it. One that
    is called as data are, or asked for, with a vector of labels as long as its other axis alone, holds samples whose
    features are the pixels of a picture. Raises InputError when a MAT file cannot be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix != ".mat":
        return suffix in TABLE_SUFFIXES
    _require(path)
    from rsunfold.io.mat import MatFile, Variable

    with MatFile(str(path)) as file, named(str(path)):
        shown = [v for v in (*file.variables, *file.sparse) if var in (None, v.name)]
        labels = {max(v.shape) for v in file.variables if v.leaf in LABEL_NAMES and _is_vector(v.shape)}

        def cube(v: Variable) -> bool:
            size = file.image_size(v)
            if size is None:
                return len(v.shape) == 3
            pixels, others = v.shape[size[0]], v.shape[1 - size[0]]
            called = v.leaf in DATA_NAMES or v.name == var
            return not (called and others in labels and pixels not in labels)

        return bool(shown) and not any(cube(v) for v in shown)


def read_table(
    path: str | Path,
    *,
    var: str | None = None,
    features: str | None = "columns",
    ignore: Sequence[str] = (),
    label: str | None = None,
    header: bool | None = None,
    room: int | None = None,
) -> Table:
    """Read a table, samples in rows and features in columns, or the other way with ``features`` "rows".

    None as ``features`` asks the labels: where they are as many as the columns and not as the rows, features are rows.
    var : array of a MAT or NPZ file; None takes the one called X, fea or data, else the only matrix. ignore : columns
    that are no features, by name or number from 1. label : the column of labels of a text or Parquet table; None takes
    one called label, class or gnd. Labels of MAT and NPZ files are the vector called Y, gnd or label. header : whether
    a text table has one; None looks. room : bytes that a text table may take, None for any number.

    Raises InputError when the file is missing or unreadable, holds text, NaN or fewer than two samples, when its labels
    say that it is transposed, or its first row may be a header or a sample; UsageError for a column or direction that
    is not known; DeviceError when a text table needs more than ``room``.
    """
    name = str(path)
    if features not in (None, *DIRECTIONS):
        raise UsageError(f"--features must be columns or rows, not {features!r}.")
    _require(path)
    suffix = Path(path).suffix.lower()
    if suffix in TEXT_SUFFIXES:
        axis = "row" if features == "rows" else "column"
        raw = read_text(name, ignore, label, axis=axis, header=header, room=room)
    elif header is not None:
        raise UsageError(f"--header applies to tables of text, but {name} is none.")
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
            raw = _from_arrays(name, var, _npz(name, var))
        elif suffix == ".mat":
            raw = _from_mat(name, var)
        else:
            known = " ".join((*TABLE_SUFFIXES, ".mat"))
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


def _checked(path: str, raw: Raw, features: str | None, *, turned: bool) -> Table:
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


# ---------------------------------------------------------------- arrays


def _from_npy(path: str) -> Raw:
    with named(path, "cannot be read as a NumPy array"):
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # compares the sizes before memory is asked for
        if isinstance(values, np.ndarray):
            values = np.array(values)
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; give it the extension .npz.")
    if values.ndim != 2:
        raise InputError(f"{path} contains an array of shape {values.shape}; a table has two dimensions.")
    return Raw(values, "the array")


def _npz(path: str, var: str | None) -> dict[str, NDArray[Any]]:
    """The arrays of an archive; those of Python objects, such as names, are left out unless ``var`` asks for one."""
    found: dict[str, NDArray[Any]] = {}
    objects: dict[str, ValueError] = {}
    with named(path, "cannot be read as an archive of NumPy arrays"), np.load(path, allow_pickle=False) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path} is a single array, not an archive; give it the extension .npy.")
        for name in archive.files:
            try:
                found[name] = archive[name]
            except ValueError as error:
                if "Object arrays" not in str(error):
                    raise
                objects[name] = error
        read, left = ({name.lower() for name in some} for some in (found, objects))
        if var in objects or (var is None and (left & {*LABEL_NAMES} or (left and not read & {*DATA_NAMES}))):
            raise next(iter(objects.values()))
    return found


def _from_mat(path: str, var: str | None) -> Raw:
    from rsunfold.io.mat import MatFile, Variable

    with MatFile(path) as file, named(path):
        file.refuse_foreign(var)
        # A sparse matrix may be the table; beside another matrix it is the graph of its samples, but by its name.
        flat = [v for v in file.variables if len(v.shape) == 2 and min(v.shape) > 1]
        sides = {n for v in flat for n in v.shape}

        def table(v: Variable) -> bool:
            graph = v.shape[0] == v.shape[1] and v.shape[0] in sides
            return not flat or var is not None or (v.leaf in DATA_NAMES and not graph)

        held = [*file.variables, *(v for v in file.sparse if table(v))]
        left = [v.name for v in file.sparse if not table(v) and v.leaf in DATA_NAMES]
        arrays = {}
        chosen = _chosen(path, var, {v.name: v.shape for v in held})
        for v in held:
            if v.name == chosen or _is_vector(v.shape):
                arrays[v.name] = v.values().T
    raw = _from_arrays(path, chosen, arrays)
    notes = [f"the sparse matrix {name} was taken for a graph of the samples; --var {name} reads it" for name in left]
    return replace(raw, notes=(*raw.notes, *notes))


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


def _from_arrays(path: str, var: str | None, arrays: dict[str, NDArray[Any]]) -> Raw:
    chosen = _chosen(path, var, {name: a.shape for name, a in arrays.items()})
    labels = [n for n, a in arrays.items() if n.rsplit(".", 1)[-1].lower() in LABEL_NAMES and _is_vector(a.shape)]
    labels = [n for n in labels if n != chosen]
    lengths = arrays[chosen].shape
    # Of several vectors with such names the one that fits.
    labels.sort(key=lambda n: arrays[n].size not in lengths)
    taken = arrays[labels[0]].ravel() if labels else None
    return Raw(arrays[chosen], chosen, (), taken, labels[0] if labels else "")


# ---------------------------------------------------------------- Parquet


def _from_parquet(path: str, ignore: Sequence[str], label: str | None) -> Raw:
    pyarrow = _pyarrow(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from None
    names, columns = list(table.column_names), table.columns
    index = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if name in names]
    aside = places(path, names, [*ignore, *index], "column")
    place = label_place(path, names, label, "column")
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
    found, of_numbers = numbering(values, [names[i] for i in inside], (), "column")
    values = np.delete(values, found, axis=1)
    out = sorted({*out, *(inside[i] for i in found)})
    inside = [i for i in inside if i not in out]
    labels = None if place is None else np.asarray(columns[place].to_pylist())
    kept = tuple((names[i], tuple("" if v is None else str(v) for v in columns[i].to_pylist())) for i in out)
    where = "" if place is None else f"the column {names[place]!r}"
    return Raw(values, "the table", [names[i] for i in inside], labels, where, kept, (*notes, *of_numbers))


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


def write_columns(path: Path, table: Table, chosen: Sequence[int]) -> None:
    """Write some features (by index) of a table, in the order given: ``.csv`` with names, ``.npy`` in the type of the
    file, samples in rows.

    The columns that are no features stand before the features in a CSV. Raises OutputError when the file exists or
    cannot be written.
    """
    values = np.ascontiguousarray(table.stored[:, chosen])
    if path.suffix.lower() == ".npy":
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    elif path.suffix.lower() == ".csv":
        header = [name for name, _ in table.kept] + [table.name(i) for i in chosen]
        aside = zip_longest(*(cells for _, cells in table.kept)) if table.kept else ((),) * len(values)
        rows = ([*before, *row] for before, row in zip(aside, values.tolist(), strict=True))
        write_rows(path, header, rows)
    else:
        raise OutputError(f"{path} has an unsupported extension; tables are written as .csv or .npy.")
