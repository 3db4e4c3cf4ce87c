"""MATLAB files: v4 and v5 through scipy, v7.3 through h5py."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import h5py
import numpy as np
import scipy.io
import scipy.sparse
from numpy.typing import NDArray
from scipy.io.matlab import MatlabFunction, MatlabOpaque

from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError
from rsunfold.io.bands import spectral_fields
from rsunfold.io.reader import CubeReader

_SIZES = (("nrow", "ncol"), ("nrows", "ncols"), ("lines", "samples"), ("lines", "cols"))
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
        return self.native(self.reversed_[()]).ravel()

    def __str__(self) -> str:
        return f"{self.name} ({' x '.join(str(n) for n in self.shape)})"


def _v5_variables(name: str, value: Any) -> Iterator[Variable]:
    """The numeric arrays in ``value`` as loadmat gives it: matrices, structs (fields) and cells (objects)."""
    if scipy.sparse.issparse(value):
        matrix: Any = value
        if matrix.dtype.kind in "biufc" and 0 not in matrix.shape:
            yield Variable(name, Filled(matrix), matrix.dtype.newbyteorder("="))
        return
    if not isinstance(value, np.ndarray) or isinstance(value, MatlabFunction | MatlabOpaque) or value.size == 0:
        return
    if value.dtype.names:
        for key in value.dtype.names:
            yield from _v5_elements(f"{name}.{key}", value[key])
    elif value.dtype == object:
        yield from _v5_elements(name, value, cell=True)
    elif value.dtype.kind in "biufc":
        yield Variable(name, value.T, value.dtype.newbyteorder("="))


def _v5_elements(name: str, values: NDArray[Any], cell: bool = False) -> Iterator[Variable]:
    for number, element in enumerate(values.ravel(order="F"), start=1):
        yield from _v5_variables(name if values.size == 1 and not cell else f"{name}.{number}", element)


class Filled:
    """A sparse matrix with its axes reversed, whose zeros are filled in when it is read."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.T
        self.shape = self._matrix.shape
        self.size = self.shape[0] * self.shape[1]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The elements that NumPy's ``key`` says; raises MemoryError for a matrix that is far too large."""
        return np.asarray(self._matrix.toarray()[key])


def _v73_sparse(group: h5py.Group) -> Any:
    """The sparse matrix that a group holds by columns."""
    columns = group["jc"][()]
    data = group["data"][()] if "data" in group else np.zeros(0)
    rows = group["ir"][()] if "ir" in group else np.zeros(0, int)
    return scipy.sparse.csc_array((data, rows, columns), shape=(int(group.attrs["MATLAB_sparse"]), len(columns) - 1))


def _v73_variables(name: str, item: h5py.Group | h5py.Dataset) -> Iterator[Variable]:
    """The numeric arrays in a group (a struct) or dataset; references lead to the elements of cells."""
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            yield from _v5_variables(name, _v73_sparse(item))
            return
        for key, member in item.items():
            if not key.startswith("#"):
                yield from _v73_variables(f"{name}.{key}" if name else key, member)
        return
    kind = item.attrs.get("MATLAB_class", b"")
    if item.attrs.get("MATLAB_empty", 0) or item.size in (None, 0) or kind == b"char":
        return
    if h5py.check_ref_dtype(item.dtype) is h5py.Reference:
        for number, reference in enumerate(item[()].ravel(), start=1):
            yield from _v73_variables(f"{name}.{number}", item.file[reference])
    elif kind == b"logical":
        yield Variable(name, item, np.dtype(bool))
    elif item.dtype.names == ("real", "imag"):
        yield Variable(name, item, np.result_type(item.dtype["real"], np.complex64))
    elif item.dtype.kind in "iuf":
        yield Variable(name, item, item.dtype.newbyteorder("="))


def _load_v5(path: str) -> dict[str, Any]:
    """Everything in a v4 or v5 file, in MATLAB's classes: a double stays one even where it was packed as bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            return scipy.io.loadmat(path, mat_dtype=True)
        except np.exceptions.ComplexWarning:  # scipy 1.17 drops imaginary parts under mat_dtype
            return scipy.io.loadmat(path)


class MatFile:
    """An open MAT file of any version; a context manager that closes it.

    variables : the numeric arrays in it. sparse : the sparse matrices, which are no images.

    Raises InputError when the file is damaged or none.
    """

    def __init__(self, path: str) -> None:
        self.hdf5: h5py.File | None = None
        self.variables: list[Variable] = []
        try:
            if h5py.is_hdf5(path):
                self.hdf5 = h5py.File(path, "r")
                found = list(_v73_variables("", self.hdf5))
            else:
                loaded = _load_v5(path)
                names = [name for name in loaded if not name.startswith("__")]
                found = [v for name in names for v in _v5_variables(name, loaded[name])]
        except MemoryError:
            raise
        except Exception as err:  # a damaged file may break either library anywhere
            self.close()
            reason = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
            raise InputError(f"{path} is not a readable MAT file ({reason}).") from err
        self.sparse = [v for v in found if isinstance(v.reversed_, Filled)]
        self.variables = [v for v in found if not isinstance(v.reversed_, Filled)]

    def size_scalars(self) -> list[tuple[int, int]]:
        """(rows, cols) of images, as scalars beside a matrix give them."""
        scalars = {v.leaf: v for v in self.variables if v.reversed_.size == 1 and v.dtype.kind in "iuf"}
        pairs = [(scalars[r], scalars[c]) for r, c in _SIZES if r in scalars and c in scalars]
        return [(int(r.vector()[0]), int(c.vector()[0])) for r, c in pairs]

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
            self._choose(var)
        except BaseException:
            self.close()
            raise

    def _choose(self, var: str | None) -> None:
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

        def values(*names: str) -> list[float]:
            found = (v for v in near if v.leaf in names and max(v.shape) == v.reversed_.size and v.dtype.kind != "c")
            return next((list(v.vector()) for v in found), [])

        return spectral_fields(bands, values(*_WAVELENGTHS), values("fwhm"), values("bbl"))

    def _stored(self, window: Window, bands: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.slices
        # h5py wants increasing indices without repetition
        wanted, order = np.unique(bands, return_inverse=True)
        first, last = int(wanted[0]), int(wanted[-1])
        some: Any = slice(first, last + 1) if last - first + 1 == len(wanted) else wanted.tolist()
        source, variable = self._variable.reversed_, self._variable
        try:
            if len(variable.shape) == 3:
                block = variable.native(source[some, cols, rows])
            elif self._pixels is not None:
                height = self.shape[1]
                inside = slice(cols.start * height, cols.stop * height)
                pixels = variable.native(source[inside, some].T if self._pixels else source[some, inside])
                block = pixels.reshape(len(wanted), window.width, height)[:, :, rows]
            else:
                block = variable.native(source[cols, rows])[None]
        except OSError as err:
            raise InputError(f"{self.path} is truncated or damaged ({err}).") from err
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
