"""Tables of samples and features: CSV, NumPy, MAT and Parquet files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import measured
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.io.atomic import atomic_path
from rsunfold.io.csvfile import write_rows
from rsunfold.io.damage import named
from rsunfold.io.frame import columns_of, is_word, numbers_of
from rsunfold.io.memory import as_array
from rsunfold.io.texttable import (
    LABEL_COLUMNS,
    LOOKED_AT,
    Cells,
    Columns,
    Raw,
    of_columns,
    option_of,
    places,
    read_text,
)

if TYPE_CHECKING:
    from rsunfold.io.mat import MatFile, Variable

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, ".npy", ".npz", ".parquet")
"""Extensions of files that are tables; a MAT file is one or an image, see :func:`is_table`."""
DATA_NAMES = ("x", "fea", "data", "features")
LABEL_NAMES = (*LABEL_COLUMNS, "y")
"""Names of the vectors of labels of MAT and NPZ files, in lower case."""
MOST_CLASSES = 50
"""Most different whole numbers of a column of which it is told that they may be labels."""
FEW_GAPS = 8
"""Most columns with cells without numbers that are named, so that they can be left out."""
DIRECTIONS = ("columns", "rows")


@dataclass(frozen=True)
class Table:
    """Samples and their features.

    data : float64 (samples, features), finite; 0 in those that are ``empty``, which hold no number at all. stored :
    (samples, features), the same in the type of the file. names : of the features, empty where the file gives none and
    all of its columns are features. labels : (samples,) or None. unlabelled : why what is called as labels are was not
    taken as such, or empty. kept : the columns that are no features, name and cells as they stand, in the order of the
    file. cells : gives some features as they stand in the file, but with decimal points, sample by sample; None where
    ``stored`` is the same. notes : sentences on what was assumed.
    """

    path: str
    data: NDArray[np.float64]
    stored: NDArray[Any]
    names: tuple[str, ...] = ()
    labels: NDArray[Any] | None = None
    unlabelled: str = ""
    kept: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    empty: tuple[int, ...] = ()
    cells: Cells | None = None
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
    from rsunfold.io.mat import MatFile

    with MatFile(str(path), () if var is None else (var,)) as file, named(str(path)):
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
    labels_var: str | None = None,
    header: bool | None = None,
    room: int | None = None,
) -> Table:
    """Read a table, samples in rows and features in columns, or the other way with ``features`` "rows".

    None as ``features`` asks the labels: where they are as many as the columns and not as the rows, features are rows.
    var : array of a MAT or NPZ file; None takes the one called X, fea or data, else the only matrix. ignore : columns
    that are no features, by name or number from 1; of arrays by number. label : the column of labels, by the same; None
    takes the first that is called as LABEL_COLUMNS, all of which are no features. labels_var : the vector of labels of
    a MAT or NPZ file, or matrix with a 1 for the class of each sample; None takes the one called as LABEL_NAMES that
    fits, of texts if they are as many as the samples and not all different. header : whether a text table has one; None
    looks. room : bytes that a table of text, NumPy or MATLAB may take, None for any number.

    Raises InputError when the file is missing or unreadable, holds text, NaN (but for features without a single number)
    or fewer than two samples, when its labels say that it is transposed, or its first row may be a header or a sample;
    UsageError for a column or direction that is not known; DeviceError when such a table needs more than ``room``.
    """
    name = str(path)
    if features not in (None, *DIRECTIONS):
        raise UsageError(f"--features must be columns or rows, not {features!r}.")
    _require(path)
    suffix, most = Path(path).suffix.lower(), math.inf if room is None else room
    if header is not None and suffix not in TEXT_SUFFIXES:
        raise UsageError(f"--header applies to tables of text, but {name} is none.")
    if labels_var is not None and label is not None:
        raise UsageError(f"--label and --labels-var both say what the labels of {name} are; give one of them.")
    if labels_var is not None and suffix not in (".mat", ".npz"):
        raise UsageError(f"--labels-var names a vector of a MAT or NPZ file, but {name} is none; use --label COLUMN.")
    if suffix in TEXT_SUFFIXES:
        axis = "row" if features == "rows" else "column"
        raw = read_text(name, ignore, label, axis=axis, header=header, room=room)
        return _checked(name, raw, "columns")
    if suffix == ".parquet":
        return _checked(name, _from_parquet(name, ignore, label), features)
    if suffix == ".npy":
        raw = _from_npy(name, most)
    elif suffix == ".npz":
        raw = _from_npz(name, var, labels_var, most)
    elif suffix == ".mat":
        raw = _from_mat(name, var, labels_var, most)
    else:
        known = " ".join((*TABLE_SUFFIXES, ".mat"))
        raise InputError(f"{name} does not have the extension of a table; use one of {known}.")
    return _checked(name, raw, features, ignore, label)


def table_of(given: Any, *, features: str = "columns", ignore: Sequence[str] = (), label: str | None = None) -> Table:
    """An array (samples, features), masked or not, or a data frame as a table; ``features``, ``ignore`` and ``label``
    as for :func:`read_table`.

    The columns of a data frame are named as it names them, where one of its names is text, and what they are is told
    from their names, as for tables of text. They hold numbers of any kind, also as objects, categories or with a mask
    of missing ones, which become float64. Raises the errors of :func:`read_table`.
    """
    columns = columns_of(given)
    if columns is None:
        array = as_array(given)
        if array.ndim != 2:
            raise InputError(f"an array of shape {array.shape} is no table; (samples, features) is needed.")
        hidden = np.ma.is_masked(array)
        values = np.ma.filled(array.astype(np.float64), np.nan) if hidden else np.asarray(array)
        if values.dtype.kind == "f" and not all(measured(values).any(axis=k).all() for k in (0, 1)):
            values = values.copy()  # features without a number are filled
        return _checked("array", Raw(values, "it"), features, ignore, label)
    read = [numbers_of(cells) for _, cells in columns]
    words = np.array([wordy for _, wordy in read], bool)
    values = np.column_stack([numbers.astype(np.float64) for numbers, _ in read]) if read else np.empty((0, 0))
    if features == "rows":
        values = as_array(given) if words.any() else values
        return _checked("data frame", Raw(values, "it"), features, ignore, label)
    names = [name for name, _ in columns]
    top = [str(name) for name in names] if any(isinstance(name, str) for name in names) else []

    def held(chosen: Sequence[int]) -> Iterable[Sequence[Any]]:
        return zip(*(chain(top[i : i + 1], columns[i][1]) for i in chosen), strict=True)

    raw = of_columns("data frame", Columns("column", top, values, words, held, is_word), ignore, label)
    native = [read[i][0] for i in raw.inside]
    kind = np.result_type(*native)
    if kind != np.float64:
        raw.values = np.column_stack(native).astype(kind, copy=False)
    return _checked("data frame", raw, features)


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


def _checked(path: str, raw: Raw, features: str | None, ignore: Sequence[str] = (), label: str | None = None) -> Table:
    """The table, with its samples in rows, after everything that may be wrong with it. ignore, label : of arrays, whose
    columns have numbers alone."""
    if raw.values.dtype.kind not in "buif":
        raise InputError(f"{path}: {raw.what} contains {raw.values.dtype} values; real numbers are needed.")
    if label is not None:
        raw.labels, raw.unlabelled = None, ""
    _turn(path, raw, features)
    if ignore or label is not None:
        _set_aside(path, raw, ignore, label, "row" if features == "rows" else "column")
    values, notes = raw.values, list(raw.notes)
    rows, cols = values.shape
    if raw.labels is not None and raw.labels.size != rows:
        raw.unlabelled = f"{raw.labels_name} is not as long as {raw.what} ({rows} x {cols})"
        raw.labels = None
    if raw.unlabelled:
        notes.append(f"{raw.unlabelled}, so it was not taken as labels")
    if rows < 2:
        raise InputError(
            f"{path} contains {rows} sample{'' if rows == 1 else 's'}, but at least two are needed; if the features "
            "are its rows, use --features rows."
        )
    table = Table(
        path,
        np.asarray(values, np.float64),
        values,
        tuple(raw.names) if len(raw.names) == cols else (),
        None if raw.labels is None else raw.labels.ravel(),
        raw.unlabelled,
        raw.kept,
        cells=raw.cells,
    )
    empty = _fill_empty(table)
    notes += _of_empty(table, empty)
    notes += _likely_labels(table)
    return replace(table, empty=empty, notes=tuple(notes))


def _turn(path: str, raw: Raw, features: str | None) -> None:
    """Turn the values so that samples are in rows, as ``features`` or the labels say, see :func:`read_table`."""
    if features == "rows":
        raw.values, raw.names, raw.kept, raw.cells = raw.values.T, (), (), None
    rows, cols = raw.values.shape
    if raw.labels is None or raw.labels.size == rows or raw.labels.size != cols:
        return
    count = raw.labels.size
    if features is not None:
        other = "rows" if features == "columns" else "columns"
        raise InputError(
            f"{path}: {raw.what} has {rows} samples and {cols} features, but {raw.labels_name} labels {count} "
            f"samples; the table is transposed, so use --features {other}."
        )
    raw.values = raw.values.T
    told = f"features were taken to be the rows of {raw.what}, because {raw.labels_name} has {count} labels"
    raw.notes = (*raw.notes, told)


def _set_aside(path: str, raw: Raw, ignore: Sequence[str], label: str | None, axis: str) -> None:
    """Take columns, by number from 1, out of an array (samples, features); names tell which ones are left."""
    cols = raw.values.shape[1]
    names = [f"{axis} {i + 1}" for i in range(cols)]
    aside = places(path, names, ignore, axis)
    place = None if label is None else places(path, names, [label], axis)[0]
    if place is not None:
        raw.labels, raw.labels_name = raw.values[:, place].copy(), f"the {names[place]}"
    raw.kept = tuple((names[i], tuple(raw.values[:, i].tolist())) for i in sorted({*aside} - {place}))
    inside = np.setdiff1d(np.arange(cols), [*aside, *([] if place is None else [place])])
    if not inside.size:
        raise InputError(f"{path} contains no {axis} that is a feature.")
    raw.values, raw.names = raw.values[:, inside], [names[i] for i in inside]


def _fill_empty(table: Table) -> tuple[int, ...]:
    """Which features hold no number at all, after these were filled with 0; InputError where others lack some."""
    holes = ~measured(table.data)
    if not holes.any():
        return ()
    empty = holes.all(axis=0)
    table.data[:, empty] = 0
    holes[:, empty] = False
    if holes.any():
        row, col = (int(i[0]) for i in np.nonzero(holes))
        cols = np.flatnonzero(holes.any(axis=0)).tolist()
        instead = ""
        if len(cols) <= FEW_GAPS and 2 * len(cols) < holes.shape[1]:
            instead = f", or leave these features out with --ignore {option_of([_given(table, i) for i in cols])}"
        where = repr(table.names[col]) if table.names else str(col + 1)
        raise InputError(
            f"{table.path} has no number in {int(holes.sum())} of its cells (the first: sample {row + 1}, feature "
            f"{where}); fill them or remove these samples{instead}."
        )
    return tuple(np.flatnonzero(empty).tolist())


def _given(table: Table, index: int) -> str:
    """How options name the feature ``index`` (from 0)."""
    return table.names[index] if table.names else str(index + 1)


def _of_empty(table: Table, empty: Sequence[int]) -> list[str]:
    """A sentence on features without a number."""
    more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
    return [f"{table.name(empty[0])}{more} holds no number at all, so it is left out"] if empty else []


def _likely_labels(table: Table) -> list[str]:
    """A sentence on features of few whole numbers, each in several samples, among features with fractions; where there
    are labels, on those of whose numbers each has one label."""
    some = table.data[: max(20, LOOKED_AT // table.data.shape[1])]
    whole = (some == np.rint(some)).all(axis=0)
    if 2 * whole.sum() > len(whole):
        return []
    found = [i for i in np.flatnonzero(whole).tolist() if _may_label(table, i)]
    if not found:
        return []
    name, given = table.names[found[0]] if table.names else str(found[0] + 1), [_given(table, i) for i in found]
    more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    instead = f"give --label {option_of(given[:1])}, or " if table.labels is None else ""
    count = len(np.unique(table.data[:, found[0]]))
    return [
        f"the feature {name!r}{more} may hold labels: it has {count} different whole numbers, each in several samples; "
        f"if so, {instead}leave it out with --ignore {option_of(given)}"
    ]


def _may_label(table: Table, index: int) -> bool:
    column = table.data[:, index]
    if (column != np.rint(column)).any():
        return False
    values, counts = np.unique(column, return_counts=True)
    if not (2 <= len(values) <= MOST_CLASSES and counts.min() > 1):
        return False
    return table.labels is None or len({*zip(table.labels.tolist(), column.tolist(), strict=True)}) == len(values)


# ---------------------------------------------------------------- arrays


def _refuse_larger(path: str, size: int, dtype: np.dtype[Any], room: float) -> None:
    """Raise DeviceError where ``size`` elements of a type take more than ``room`` bytes, also as float64."""
    needed = size * (dtype.itemsize + (0 if dtype == np.float64 else 8))
    if needed > room:
        raise DeviceError.no_room(f"the values of {path} need", needed, room)


def _from_npy(path: str, room: float) -> Raw:
    with named(path, "cannot be read as a NumPy array"):
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # compares the sizes before memory is asked for
        if isinstance(values, np.ndarray):
            _refuse_larger(path, values.size, values.dtype, room)
            values = np.array(values)
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; give it the extension .npz.")
    if values.ndim != 2:
        cube = "; a cube can be passed to rsunfold.select_features in Python, or be saved as MAT, TIFF or ENVI"
        raise InputError(
            f"{path} contains an array of shape {values.shape}; a table has two dimensions"
            f"{cube if values.ndim == 3 else ''}."
        )
    return Raw(values, "the array")


def _from_npz(path: str, var: str | None, labels_var: str | None, room: float) -> Raw:
    """The table of an archive and its labels, which alone are decompressed; arrays of Python objects, such as names,
    are left out unless ``var`` asks for one."""
    with named(path, "cannot be read as an archive of NumPy arrays"), np.load(path, allow_pickle=False) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path} is a single array, not an archive; give it the extension .npy.")
        kinds = {name: _declared(archive, name) for name in archive.files}
        objects = [name for name, (_, dtype) in kinds.items() if dtype.hasobject]
        found = {name: kind for name, kind in kinds.items() if name not in objects}
        read, left = ({name.lower() for name in some} for some in (found, objects))
        if var in objects or (var is None and (left & {*LABEL_NAMES} or (left and not read & {*DATA_NAMES}))):
            archive[objects[0]]  # raises ValueError
        shapes = {name: shape for name, (shape, _) in found.items()}
        chosen = _chosen(path, var, shapes)
        _refuse_absent(path, labels_var, shapes)
        wanted = [n for n in shapes if n in (chosen, labels_var) or _may_be_labels(n, shapes[n], shapes[chosen])]
        for name in wanted:
            _refuse_larger(path, math.prod(shapes[name]), found[name][1], room)
        return _from_arrays(path, chosen, {name: archive[name] for name in wanted}, labels_var)


def _declared(archive: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array of an archive."""
    inside = {*archive.zip.namelist()}
    with archive.zip.open(f"{name}.npy" if f"{name}.npy" in inside else name) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype


def _from_mat(path: str, var: str | None, labels_var: str | None, room: float) -> Raw:
    from rsunfold.io.mat import MatFile

    asked = () if var is None else tuple(name for name in (var, labels_var) if name is not None)
    texts = LABEL_NAMES if labels_var is None else (*LABEL_NAMES, labels_var)
    with MatFile(path, asked, room, texts) as file, named(path):
        file.refuse_foreign(var)
        tables = file.sparse if var is not None else _sparse_tables(file)
        held = [*file.variables, *tables]
        left = [v.name for v in file.sparse if v not in tables and v.leaf in DATA_NAMES]
        arrays = {}
        shapes = {v.name: v.shape for v in held}
        chosen = _chosen(path, var, shapes)
        _refuse_absent(path, labels_var, shapes | {v.name: v.shape for v in file.texts})
        texts_taken = [v for v in file.texts if v.name == labels_var or _are_classes(v, shapes[chosen])]
        for v in (*held, *texts_taken):
            of_labels = v.name == labels_var or _may_be_labels(v.name, v.shape, shapes[chosen])
            if v.name == chosen or of_labels or _is_vector(v.shape):
                arrays[v.name] = v.values().T
    raw = _from_arrays(path, chosen, arrays, labels_var)
    notes = [f"the sparse matrix {name} was taken for a graph of the samples; --var {name} reads it" for name in left]
    return replace(raw, notes=(*raw.notes, *notes))


def _sparse_tables(file: MatFile) -> list[Variable]:
    """The sparse matrices that may be the table: beside another matrix one is the graph of its samples, but by its
    name."""
    flat = [v for v in file.variables if len(v.shape) == 2 and min(v.shape) > 1]
    sides = {n for v in flat for n in v.shape}

    def graph(v: Variable) -> bool:
        return v.leaf not in DATA_NAMES or (v.shape[0] == v.shape[1] and v.shape[0] in sides)

    return [v for v in file.sparse if not (flat and graph(v))]


def _are_classes(texts: Variable, lengths: tuple[int, ...]) -> bool:
    """Whether texts beside a matrix of this shape may be classes: as many as it has samples, whichever axis that is,
    and not all different, as names of features are."""
    found = texts.vector().tolist()
    return len(found) in lengths and len(set(found)) < len(found)


def _refuse_absent(path: str, labels_var: str | None, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise InputError where the labels that are asked for are not there."""
    if labels_var is not None and labels_var not in shapes:
        raise InputError(f"{path} has no array of numbers or texts {labels_var!r}; it has {_listed(shapes)}.")


def _is_vector(shape: Sequence[int]) -> bool:
    return len(shape) in (1, 2) and max(shape) > 1 and int(np.prod(shape)) == max(shape)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in shapes.items()) or "none"


def _chosen(path: str, var: str | None, shapes: dict[str, tuple[int, ...]]) -> str:
    """Name of the array that is the table; raises InputError."""
    listed = _listed(shapes)
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


def _from_arrays(path: str, var: str | None, arrays: dict[str, NDArray[Any]], labels_var: str | None) -> Raw:
    shapes = {name: a.shape for name, a in arrays.items()}
    chosen = _chosen(path, var, shapes)
    raw, lengths = Raw(arrays[chosen], chosen), shapes[chosen]
    called = [n for n, shape in shapes.items() if _may_be_labels(n, shape, lengths)]
    called = called if labels_var is None else [labels_var]
    # Of several vectors with such names the one that fits.
    found = {n: _labels_in(arrays[n], lengths) for n in called if n != chosen}
    taken = sorted((n for n, held in found.items() if held is not None), key=lambda n: arrays[n].size not in lengths)
    if taken:
        raw.labels, raw.labels_name = found[taken[0]], taken[0]
    elif found:
        raw.unlabelled = f"{_listed({n: shapes[n] for n in found})} is no vector"
    return raw


def _may_be_labels(name: str, shape: Sequence[int], lengths: Sequence[int]) -> bool:
    """Whether an array beside one of the shape ``lengths`` is called as labels are, and a vector or as long."""
    return name.rsplit(".", 1)[-1].lower() in LABEL_NAMES and (_is_vector(shape) or not {*shape}.isdisjoint(lengths))


def _labels_in(array: NDArray[Any], lengths: Sequence[int]) -> NDArray[Any] | None:
    """The labels that an array holds: a vector, or a matrix (samples, classes) of 0, and 1 for the class of each, which
    are numbered from 1; None where it is neither. lengths : one of which the number of samples is."""
    if _is_vector(array.shape):
        return array.ravel()
    if array.ndim != 2 or array.dtype.kind not in "buif" or not np.isin(array, (0, 1)).all():
        return None
    marks = array if array.shape[0] in lengths else array.T
    alone = marks.shape[0] in lengths and bool((marks.sum(axis=1) == 1).all())
    return marks.argmax(axis=1) + 1 if alone else None


# ---------------------------------------------------------------- Parquet


def _from_parquet(path: str, ignore: Sequence[str], label: str | None) -> Raw:
    pyarrow = _pyarrow(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from None
    names, columns = list(table.column_names), table.columns
    index = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if name in names]
    kinds = pyarrow.types
    numeric = (kinds.is_integer, kinds.is_floating, kinds.is_boolean)
    words = np.array([not any(is_kind(column.type) for is_kind in numeric) for column in columns], bool)
    values = np.full((table.num_rows, len(names)), np.nan)
    for i, column in enumerate(columns):
        if words[i]:  # or decimals, or nothing at all
            values[:, i], words[i] = numbers_of(np.array(column.to_pylist(), object))
        else:
            values[:, i] = column.to_numpy(zero_copy_only=False).astype(np.float64)

    def held(chosen: Sequence[int]) -> Iterable[Sequence[Any]]:
        return zip(*([names[i], *columns[i].to_pylist()] for i in chosen), strict=True)

    raw = of_columns(path, Columns("column", names, values, words, held, is_word), ignore, label, index)
    raw.kept = tuple((name, tuple("" if v is None else str(v) for v in cells)) for name, cells in raw.kept)
    return raw


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
    """Write some features (by index) of a table, in the order given, samples in rows: ``.csv`` with names, cells as
    they stand in the file, but features with decimal points; ``.npy`` in its type, or ``.npz`` as X, with the labels as
    y and the columns that are neither as ``ignored``, where there are some.

    The columns that are no features stand before the features in a CSV. Raises OutputError when the file exists or
    cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".csv":
        header = [name for name, _ in table.kept] + [table.name(i) for i in chosen]
        aside = zip(*(cells for _, cells in table.kept), strict=True) if table.kept else repeat((), len(table.data))
        cells = table.stored[:, chosen].tolist() if table.cells is None else table.cells(chosen)
        write_rows(path, header, ([*before, *row] for before, row in zip(aside, cells, strict=True)))
        return
    values = np.ascontiguousarray(table.stored[:, chosen])
    if kind not in (".npy", ".npz"):
        raise OutputError(f"{path} has an unsupported extension; tables are written as .csv, .npy or .npz.")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if kind == ".npy":
            np.save(file, values)
            return
        beside: dict[str, Any] = {} if table.labels is None else {"y": table.labels}
        if table.kept:
            beside["ignored"] = np.column_stack([cells for _, cells in table.kept])
        np.savez(file, X=values, **beside)
