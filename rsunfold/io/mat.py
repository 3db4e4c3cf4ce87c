"""MATLAB files: v4 and v5 by :mod:`rsunfold.io.matlab`, v7.3 through h5py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from rsunfold.io.hdf5 import Views, foreign, leads_away, whole
from rsunfold.io.matlab import arrays_of, sparse
from rsunfold.io.reader import CubeReader

_SIZES = (("nrow", "ncol"), ("nrows", "ncols"), ("lines", "samples"), ("lines", "cols"))
MOST_ITEMS = 100_000
"""Arrays, structs and cells of a file that are looked at."""
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


class _Walk:
    """The numeric arrays of a file of version 7.3.

    away : names of what lies in another file. A struct, or a cell, that several references lead to is looked at once.
    """

    def __init__(self) -> None:
        self.away: list[str] = []
        self._views = Views()
        self._left, self._seen = MOST_ITEMS, set[int]()

    def variables(self, name: str, item: h5py.Group | h5py.Dataset) -> Iterator[Variable]:
        """Those in a group (a struct) or dataset; references lead to the elements of cells. Raises ValueError where
        there is too much to look through."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_ITEMS:,} arrays, structs and cells")
        if isinstance(item, h5py.Group):
            yield from self._in_group(name, item)
            return
        if self._views.elsewhere(item):
            self.away.append(name)
            return
        kind = item.attrs.get("MATLAB_class", b"")
        if item.attrs.get("MATLAB_empty", 0) or item.size in (None, 0) or kind == b"char":
            return
        if h5py.check_ref_dtype(item.dtype) is h5py.Reference:
            if self._is_new(item):
                for number, reference in enumerate(whole(item).ravel(), start=1):
                    yield from self.variables(f"{name}.{number}", item.file[reference])
        elif kind == b"logical":
            yield Variable(name, item, np.dtype(bool))
        elif item.dtype.names == ("real", "imag"):
            yield Variable(name, item, np.result_type(item.dtype["real"], np.complex64))
        elif item.dtype.kind in "iuf":
            yield Variable(name, item, item.dtype.newbyteorder("="))

    def _in_group(self, name: str, group: h5py.Group) -> Iterator[Variable]:
        if not self._is_new(group):
            return
        names = {key: f"{name}.{key}" if name else key for key in group if not key.startswith("#")}
        found = {key: group.get(key) for key in names if not leads_away(group, key)}
        members = {key: member for key, member in found.items() if isinstance(member, h5py.Group | h5py.Dataset)}
        lost = [own for key, own in names.items() if key not in found]
        if "MATLAB_sparse" in group.attrs:
            if lost or any(map(self._views.elsewhere, members.values())):
                self.away.append(name)
                return
            matrix = _v73_sparse(group)
            if 0 not in matrix.shape and matrix.dtype.kind in "biufc":
                yield _of_array(name, matrix)
            return
        self.away += lost
        for key, member in members.items():
            yield from self.variables(names[key], member)

    def _is_new(self, item: h5py.Group | h5py.Dataset) -> bool:
        place = h5py.h5o.get_info(item.id).addr
        new = place not in self._seen
        self._seen.add(place)
        return new


class MatFile:
    """An open MAT file of any version; a context manager that closes it.

    variables : the numeric arrays in it. sparse : the sparse matrices, which are no images.

    room : bytes that the arrays of versions 4 and 5 may take, which are read at once; what is free where that is less.

    Raises InputError when the file is damaged or none, DeviceError where its arrays take more.
    """

    def __init__(self, path: str, room: float = math.inf) -> None:
        self.path = path
        self.hdf5: h5py.File | None = None
        self.variables: list[Variable] = []
        self._away: list[str] = []
        room = min(room, psutil.virtual_memory().available)
        try:
            with named(path, "is not a readable MAT file"):
                if h5py.is_hdf5(path):
                    self.hdf5 = h5py.File(path, "r")
                    walk = _Walk()
                    found, self._away = list(walk.variables("", self.hdf5)), walk.away
                else:
                    found = [_of_array(name, array) for name, array in arrays_of(path, room).items()]
        except BaseException:
            self.close()
            raise
        self.sparse = [v for v in found if isinstance(v.reversed_, Filled)]
        self.variables = [v for v in found if not isinstance(v.reversed_, Filled)]

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
        self._mat = MatFile(path)
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
