"""MATLAB files: v4 and v5 by :mod:`rsunfold.io.matlab`, v7.3 through h5py."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import h5py
import numpy as np
import psutil
import scipy.sparse
from numpy.typing import NDArray

from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.bands import spectral_fields
from rsunfold.io.damage import named
from rsunfold.io.hdf5 import Views, at, foreign, leads_away, whole
from rsunfold.io.matlab import Arrays, Wanted, arrays_of, joined, only_text, rows_of, sparse
from rsunfold.io.reader import CubeReader

_SIZES = (("nrow", "ncol"), ("nrows", "ncols"), ("lines", "samples"), ("lines", "cols"))
MOST_NAMES, MOST_LEVELS = 500_000, 200
"""Names that arrays, structs and cells of a file of version 7.3 may have, and parts of one, where none is asked for."""
_WAVELENGTHS = ("wavelength", "wavelengths", "wl", "lambda")


@dataclass(frozen=True)
class Variable:
    """A numeric array of a MAT file: its dotted name, and the array with its axes reversed.

    MATLAB's own order is column-major, so ``reversed_`` is the array as it lies in the file: a cube of (rows, cols,
    bands) has shape (bands, cols, rows).
    """

    name: str
    reversed_: Any  # numpy array or h5py dataset
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as MATLAB shows it."""
        return tuple(int(n) for n in self.reversed_.shape[::-1])

    @property
    def leaf(self) -> str:
        """The last part of the name, in lower case."""
        return self.name.rsplit(".", 1)[-1].lower()

    def native(self, block: Any) -> NDArray[Any]:
        """A block of the stored array as a fresh array of ``dtype``."""
        if block.dtype.names:  # how MATLAB writes complex numbers to HDF5
            block = block["real"] + 1j * block["imag"]
        return np.array(block, dtype=self.dtype, order="C")

    def vector(self) -> NDArray[Any]:
        """All elements in MATLAB's order."""
        return self.values().ravel()

    def values(self) -> NDArray[Any]:
        """All elements, with the axes reversed."""
        return self.native(whole(self.reversed_))

    def __str__(self) -> str:
        return f"{self.name} ({' x '.join(str(n) for n in self.shape)})"


class Filled:
    """A sparse matrix with its axes reversed, whose zeros are filled in when it is read."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.T
        self.shape = self._matrix.shape
        self.size = self.shape[0] * self.shape[1]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The elements that NumPy's ``key`` says; raises MemoryError for a matrix that is far too large."""
        return np.asarray(self._matrix.toarray()[key])


def _of_array(name: str, array: Any) -> Variable:
    held = Filled(array) if scipy.sparse.issparse(array) else array.T
    return Variable(name, held, array.dtype.newbyteorder("="))


def _v73_sparse(group: h5py.Group) -> Any:
    """The sparse matrix that a group holds by columns."""
    columns, rows, data = (whole(group[key]) if key in group else np.zeros(0, int) for key in ("jc", "ir", "data"))
    return sparse(data, rows, columns, (int(group.attrs["MATLAB_sparse"]), len(columns) - 1))


class _TooManyError(Exception):
    """Arrays have more names than are looked at."""


@dataclass(slots=True)
class _Node:
    """An object of a file of version 7.3: a numeric array; what lies in another file; or a struct or cell, with the
    places in the file of its members. One of none of them holds no numbers."""

    array: Variable | None = None
    away: bool = False
    members: dict[str, int] = field(default_factory=dict)


_NOTHING = _Node()
_ELSEWHERE = -1
"""The place of what is behind a link to another file."""


class _Objects:
    """The objects of a file of version 7.3, each looked at once, however many links and references lead to it."""

    def __init__(self, file: h5py.File) -> None:
        self._file, self._views = file, Views()
        self._nodes = {_ELSEWHERE: _Node(away=True)}
        self._ahead: list[tuple[_Node, Iterator[tuple[str, Any]]]] = []
        self._root = self._place(h5py.h5g.open(file.id, b"/"))
        while self._ahead:
            node, members = self._ahead.pop()
            node.members = {name: self._place(item) for name, item in members}
        leading = self._leading()
        for node in self._nodes.values():
            node.members = {name: place for name, place in node.members.items() if place in leading}

    def _place(self, item: Any) -> int:
        """The address of an object by its identifier; None stands for one in another file."""
        if item is None:
            return _ELSEWHERE
        place = int(h5py.h5o.get_info(item).addr)
        if place not in self._nodes:
            self._nodes[place] = self._node(item)
        return place

    def _node(self, item: Any) -> _Node:
        if isinstance(item, h5py.h5g.GroupID):
            return self._of_group(h5py.Group(item))
        # asked first, and without h5py's attrs: cells of a hundred thousand texts are in real files
        if not isinstance(item, h5py.h5d.DatasetID) or _class(item) == b"char":
            return _NOTHING
        return self._of_dataset(h5py.Dataset(item))

    def _of_dataset(self, item: h5py.Dataset) -> _Node:
        if self._views.elsewhere(item):
            return _Node(away=True)
        empty = "MATLAB_empty" in item.attrs and item.attrs["MATLAB_empty"]
        if empty or item.size in (None, 0):
            return _NOTHING
        if h5py.check_ref_dtype(item.dtype) is h5py.Reference:
            return self._holding(self._elements(whole(item).ravel()))
        if _class(item.id) == b"logical":
            return _Node(Variable("", item, np.dtype(bool)))
        if item.dtype.names == ("real", "imag"):
            return _Node(Variable("", item, np.result_type(item.dtype["real"], np.complex64)))
        return _Node(Variable("", item, item.dtype.newbyteorder("="))) if item.dtype.kind in "iuf" else _NOTHING

    def _of_group(self, group: h5py.Group) -> _Node:
        names = [key for key in group if not key.startswith("#")]
        found = {key: group.get(key) for key in names if not leads_away(group, key)}
        members = {key: member for key, member in found.items() if isinstance(member, h5py.Group | h5py.Dataset)}
        lost = [key for key in names if key not in found]
        if "MATLAB_sparse" not in group.attrs:
            return self._holding((key, None if key in lost else members[key].id) for key in [*lost, *members])
        datasets = [member for member in members.values() if isinstance(member, h5py.Dataset)]
        if lost or any(map(self._views.elsewhere, datasets)):
            return _Node(away=True)
        matrix = _v73_sparse(group)
        return _Node(_of_array("", matrix)) if 0 not in matrix.shape and matrix.dtype.kind in "biufc" else _NOTHING

    def _holding(self, members: Iterator[tuple[str, Any]]) -> _Node:
        node = _Node()
        self._ahead.append((node, members))
        return node

    def _elements(self, references: NDArray[Any]) -> Iterator[tuple[str, Any]]:
        for number, reference in enumerate(references, start=1):
            if reference:  # or nothing was ever put there
                yield str(number), h5py.h5r.dereference(reference, self._file.id)

    def _leading(self) -> set[int]:
        """The places of all that is an array, or leads to one."""
        above = defaultdict(list)
        for place, node in self._nodes.items():
            for member in node.members.values():
                above[member].append(place)
        ahead = [place for place, node in self._nodes.items() if node.array is not None or node.away]
        leading = set(ahead)
        while ahead:
            new = set(above[ahead.pop()]) - leading
            leading |= new
            ahead += new
        return leading

    def names(self, near: Sequence[str] | None = None) -> tuple[list[Variable], list[str]]:
        """The numeric arrays by all their names, and the names of what lies in another file.

        near : names; only what they lead through is looked into. Raises _TooManyError where there are too many without.
        """
        found: list[Variable] = []
        away: list[str] = []
        path: set[int] = set()  # what leads back to itself has no end
        left = MOST_NAMES

        def look(name: str, place: int) -> None:
            nonlocal left
            node = self._nodes[place]
            if node.array is not None:
                found.append(Variable(name, node.array.reversed_, node.array.dtype))
            elif node.away:
                away.append(name)
            if near is not None and name and not any(asked.startswith(f"{name}.") for asked in near):
                return
            left -= len(node.members)
            if near is None and (left < 0 or len(path) > MOST_LEVELS):
                raise _TooManyError
            path.add(place)
            for key, member in node.members.items():
                if member not in path:
                    look(f"{name}.{key}" if name else key, member)
            path.discard(place)

        look("", self._root)
        return found, away


def _v73_texts(file: h5py.File, names: Sequence[str], wanted: Wanted) -> Arrays:
    """The texts by these dotted names, and by those of the file that are ``wanted``, see :func:`arrays_of`."""
    views, known = Views(), dict[int, NDArray[Any] | None]()

    def text(item: Any) -> NDArray[Any] | None:
        """The rows of a matrix of characters, by its identifier; an empty one is a text, of whatever class."""
        if not isinstance(item, h5py.h5d.DatasetID):
            return None
        place = int(h5py.h5o.get_info(item).addr)
        if place not in known:
            known[place] = characters(item)
        return known[place]

    def characters(identifier: Any) -> NDArray[Any] | None:
        item = h5py.Dataset(identifier)
        if h5py.h5a.exists(identifier, b"MATLAB_empty") and item.attrs["MATLAB_empty"]:
            return rows_of("", item.shape)
        if _class(identifier) != b"char" or item.dtype.kind not in "iu" or views.elsewhere(item):
            return None
        codes = whole(item).astype(np.uint16)
        return rows_of(codes.tobytes().decode("utf-16-le", "replace"), item.shape[::-1])

    def members(item: h5py.Dataset) -> Iterator[str | None]:
        for reference in whole(item).ravel():
            held = text(h5py.h5r.dereference(reference, file.id)) if reference else rows_of("", ())
            yield None if held is None else only_text(held)
            if held is None:
                return

    def read(item: Any) -> NDArray[Any] | None:
        if not isinstance(item, h5py.Dataset) or views.elsewhere(item):
            return None
        if h5py.check_ref_dtype(item.dtype) is not h5py.Reference:
            return text(item.id)
        found: NDArray[Any] | None = joined(list(members(item)), item.shape[::-1])
        return found

    paths = {key: key for key in file if wanted(key)} | {n: n.replace(".", "/") for n in names if "." in n}
    found = {name: read(at(file, path)) for name, path in paths.items()}
    return {name: texts for name, texts in found.items() if texts is not None}


def _class(item: Any) -> bytes:
    """The class that MATLAB gives an object, by its identifier."""
    if not h5py.h5a.exists(item, b"MATLAB_class"):
        return b""
    attribute = h5py.h5a.open(item, b"MATLAB_class")
    if attribute.dtype.kind != "S" or math.prod(attribute.shape) != 1:  # other programs write it as an array
        return b""
    text = np.empty(attribute.shape, attribute.dtype)
    attribute.read(text)
    return bytes(text.ravel()[0])


class MatFile:
    """An open MAT file of any version; a context manager that closes it.

    variables : the numeric arrays in it. sparse : the sparse matrices, which are no images. texts : vectors of texts,
    such as names of classes. part : whether these are some of them.

    asked : names of the arrays that are wanted. Where those of a file of version 7.3 have more than MOST_NAMES, as many
    references may lead to the same, only these and what is beside them, and beside what they are in, are listed.
    texts : names of the texts that are read, whole or, in lower case, the last part (in files of version 7.3, of what
    lies in no struct).
    room : bytes that the arrays of versions 4 and 5 may take, which are read at once; what is free where that is less.

    Raises InputError when the file is damaged or none, or has too many names and none is asked for, DeviceError where
    its arrays take more.
    """

    def __init__(self, path: str, asked: Sequence[str] = (), room: float = math.inf, texts: Sequence[str] = ()) -> None:
        def wanted(name: str) -> bool:
            return name in texts or name.rpartition(".")[2].lower() in texts

        self.path = path
        self.hdf5: h5py.File | None = None
        self.variables: list[Variable] = []
        self._away: list[str] = []
        self.part = False
        room = min(room, psutil.virtual_memory().available)
        try:
            with named(path, "is not a readable MAT file"):
                if h5py.is_hdf5(path):
                    self.hdf5 = h5py.File(path, "r")
                    found, self._away = self._of_v73(self.hdf5, asked)
                    words = _v73_texts(self.hdf5, texts, wanted)
                else:
                    arrays = arrays_of(path, room, wanted)
                    words = {name: array for name, array in arrays.items() if array.dtype.kind == "U"}
                    found = [_of_array(name, array) for name, array in arrays.items() if name not in words]
        except BaseException:
            self.close()
            raise
        self.texts = [_of_array(name, array) for name, array in words.items() if wanted(name) and array.size > 1]
        self.sparse = [v for v in found if isinstance(v.reversed_, Filled)]
        self.variables = [v for v in found if not isinstance(v.reversed_, Filled)]

    def _of_v73(self, file: h5py.File, asked: Sequence[str]) -> tuple[list[Variable], list[str]]:
        objects = _Objects(file)
        try:
            return objects.names()
        except _TooManyError:
            if not asked:
                raise InputError(
                    f"{self.path} has too many structs and cells to look through; choose an array with --var NAME."
                ) from None
        self.part = True
        return objects.names(asked)

    def refuse_foreign(self, var: str | None) -> None:
        """Raise InputError where an array lies in another file: ``var``, or any where none is asked for, as another
        would be taken in its place."""
        found = next((name for name in self._away if var is None or f"{var}.".startswith(f"{name}.")), None)
        if found is not None:
            raise foreign(self.path, found, others=var is None and bool(self.variables))

    def size_scalars(self) -> list[tuple[int, int]]:
        """(rows, cols) of images, as scalars beside a matrix give them."""
        scalars = {v.leaf: v for v in self.variables if v.reversed_.size == 1 and v.dtype.kind in "iuf"}
        pairs = [(scalars[r], scalars[c]) for r, c in _SIZES if r in scalars and c in scalars]
        sizes = [(float(r.vector()[0]), float(c.vector()[0])) for r, c in pairs]
        return [(int(r), int(c)) for r, c in sizes if r.is_integer() and c.is_integer()]

    def image_size(self, variable: Variable) -> tuple[int, int, int] | None:
        """(axis of the pixels, rows, cols) when ``variable`` is a matrix of bands x pixels or its transpose."""
        if len(variable.shape) != 2 or min(variable.shape) < 2:
            return None
        sizes = self.size_scalars()
        # 8-bit counts overflow in real files; the 3-D array of abundances beside the matrix has the true size
        sizes += [v.shape[:2] for v in self.variables if len(v.shape) == 3]
        found = ((axis, *size) for axis in (1, 0) for size in sizes if size[0] * size[1] == variable.shape[axis])
        return next(found, None)

    def close(self) -> None:
        """Close the file (v7.3) and drop the arrays (v4, v5)."""
        if self.hdf5 is not None:
            self.hdf5.close()
        self.variables = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MatReader(CubeReader):
    """One array of a MAT file.

    A 3-D array is (rows, cols, bands). A 2-D array is one band, unless it is a matrix of bands x pixels (or pixels x
    bands) whose pixels make up an image of the size that the file gives in ``nRow`` and ``nCol`` (or ``lines`` and
    ``samples`` or ``cols``), else of the rows and columns of its 3-D array; pixels run down the columns, as MATLAB's
    do.
    """

    def __init__(self, path: str, var: str | None = None) -> None:
        self.path = path
        self._mat = MatFile(path, () if var is None else (var,))
        self.variables = self._mat.variables
        try:
            with named(path):
                self._choose(var)
        except BaseException:
            self.close()
            raise

    def _choose(self, var: str | None) -> None:
        self._mat.refuse_foreign(var)
        chosen = self._named(var) if var is not None else self._only_candidate()
        self._variable, size = chosen, self._mat.image_size(chosen)
        if len(chosen.shape) == 3:
            rows, cols, bands = chosen.shape
            note = f"variable {chosen} was read as rows x cols x bands"
        elif size is not None:
            axis, rows, cols = size
            bands, order = chosen.shape[1 - axis], "bands x pixels" if axis else "pixels x bands"
            note = f"variable {chosen} was read as {order} of {rows} rows x {cols} columns, column by column"
        else:
            (rows, cols), bands = chosen.shape, 1
            note = f"variable {chosen} was read as one band"
        self._pixels = None if size is None else size[0]
        self.shape, self.dtype = (bands, rows, cols), chosen.dtype
        chunks = getattr(chosen.reversed_, "chunks", None)
        self.block_shape = (rows, cols) if chunks is None or size is not None else (chunks[-1], chunks[-2])
        spectral, notes = self._spectral(bands)
        if self._mat.part:
            notes.append(f"there are too many structs and cells to look through; only those with {chosen.name} were")
        version = "7.3" if self._mat.hdf5 is not None else "4/5"
        self.meta = Meta(driver=f"MAT {version}", dtype=self.dtype.name, notes=(Aside(note), *notes), **spectral)

    def _named(self, var: str) -> Variable:
        found = next((v for v in self.variables if v.name == var), None)
        if found is None:
            raise InputError(f"{self.path} has no numeric array {var!r}; it has {self._listed(self.variables)}.")
        if len(found.shape) not in (2, 3):
            raise InputError(f"{self.path}: {found} has {len(found.shape)} dimensions; an image has 2 or 3.")
        return found

    def _only_candidate(self) -> Variable:
        images = [v for v in self.variables if len(v.shape) == 3]
        if self._mat.size_scalars():
            images += [v for v in self.variables if len(v.shape) == 2 and self._mat.image_size(v) is not None]
        flat = [v for v in self.variables if len(v.shape) == 2 and max(v.shape) > 1]
        images = images or [v for v in flat if min(v.shape) > 1] or flat
        if not images:
            raise InputError(f"{self.path} contains no numeric array of two or three dimensions.")
        if len(images) > 1:
            raise InputError(
                f"{self.path} contains several arrays: {self._listed(images)}; choose one with --var NAME."
            )
        return images[0]

    @staticmethod
    def _listed(variables: list[Variable]) -> str:
        return ", ".join(str(v) for v in variables) or "none"

    def _spectral(self, bands: int) -> tuple[dict[str, Any], list[str]]:
        parent = self._variable.name.rpartition(".")[0]
        near = [v for v in self.variables if v.name.rpartition(".")[0] in ("", parent) and v is not self._variable]
        near.sort(key=lambda v: v.name.rpartition(".")[0] != parent)

        def values(*names: str) -> Sequence[Any]:
            found = (v for v in near if v.leaf in names and max(v.shape) == v.reversed_.size and v.dtype.kind != "c")
            # of another number only the number is told
            return next(
                (v.vector().tolist() if v.reversed_.size == bands else range(v.reversed_.size) for v in found), ()
            )

        return spectral_fields(bands, values(*_WAVELENGTHS), values("fwhm"), values("bbl"))

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.slices
        # h5py wants increasing indices without repetition
        wanted, order = np.unique(bands, return_inverse=True)
        first, last = int(wanted[0]), int(wanted[-1])
        some: Any = slice(first, last + 1) if last - first + 1 == len(wanted) else wanted.tolist()
        source, variable = self._variable.reversed_, self._variable
        with named(self.path):
            if len(variable.shape) == 3:
                block = variable.native(source[some, cols, rows])
            elif self._pixels is not None:
                height = self.shape[1]
                inside = slice(cols.start * height, cols.stop * height)
                pixels = variable.native(source[inside, some].T if self._pixels else source[some, inside])
                block = pixels.reshape(len(wanted), window.width, height)[:, :, rows]
            else:
                block = variable.native(source[cols, rows])[None]
        data = np.ascontiguousarray(block[order].transpose(0, 2, 1))
        return data, np.ones(data.shape[1:], dtype=bool)

    def describe(self) -> dict[str, Any]:
        """As for every reader, with ``variables`` (name, shape, dtype of each) and ``variable``, the one taken."""
        variables = [{"name": v.name, "shape": list(v.shape), "dtype": v.dtype.name} for v in self.variables]
        return {**super().describe(), "variable": self._variable.name, "variables": variables}

    def close(self) -> None:
        """Close the file (v7.3) and drop the arrays (v4, v5)."""
        self._mat.close()
        self.variables = []
