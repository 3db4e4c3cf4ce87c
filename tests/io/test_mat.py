import contextlib
import itertools
import json
import re
import struct
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.io import full_range, mat, open_cube
from rsunfold.io.mat import MatFile

CUBE = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)  # rows, cols, bands
CHUNKS = (1, 2, 3)  # bands, cols, rows
BANDS_FIRST = np.moveaxis(CUBE, -1, 0)


def write_v73(path, variables):
    """A file as MATLAB writes it: axes reversed, the class in an attribute, structs as groups."""
    with h5py.File(path, "w", userblock_size=512) as file:
        _fill(file, variables)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes(4))
    return path


def _fill(group, variables):
    for name, value in variables.items():
        if isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif isinstance(value, list):
            refs = group.file.require_group("#refs#")
            for i, element in enumerate(value):
                refs[f"{name}{i}"] = np.asarray(element).T
            data = np.array([refs[f"{name}{i}"].ref for i in range(len(value))], dtype=h5py.ref_dtype)
            group.create_dataset(name, data=data.reshape(-1, 1))
        elif isinstance(value, str):
            group[name] = np.array([[ord(c)] for c in value], dtype=np.uint16)
            group[name].attrs["MATLAB_class"] = np.bytes_("char")
        elif value.dtype == bool:
            group[name] = value.T.astype(np.uint8)
            group[name].attrs["MATLAB_class"] = np.bytes_("logical")
        elif value.dtype.kind == "c":
            parts = np.empty(value.T.shape, dtype=[("real", "f8"), ("imag", "f8")])
            parts["real"], parts["imag"] = value.T.real, value.T.imag
            group[name] = parts
        else:
            group.create_dataset(name, data=value.T, chunks=CHUNKS if value.shape == CUBE.shape else None)


def write_v5(path, variables):
    def plain(value):
        if isinstance(value, list):
            cell = np.empty((1, len(value)), dtype=object)
            cell[0, :] = [None] * len(value)
            for i, element in enumerate(value):
                cell[0, i] = element
            return cell
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    scipy.io.savemat(path, {name: plain(value) for name, value in variables.items()})
    return path


@pytest.fixture(params=[write_v5, write_v73], ids=["v5", "v7.3"])
def save(request, tmp_path):
    return lambda **variables: request.param(tmp_path / "a.mat", variables)


def test_one_cube_is_taken(save):
    with open_cube(save(data=CUBE, map=CUBE[..., 0] > 3, title="scene")) as reader:
        assert reader.shape == (5, 3, 4) and reader.dtype == np.uint16 and full_range(reader) == 65535
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)
        part = reader.read(Window(1, 2, 2, 1), bands=[4, 0, 4])
        told = reader.describe()
    np.testing.assert_array_equal(part.data, BANDS_FIRST[[4, 0, 4], 1:3, 2:3])
    assert "data (3 x 4 x 5)" in reader.meta.notes[0]
    assert told["variable"] == "data" and {v["name"] for v in told["variables"]} == {"data", "map"}
    assert [3, 4] in [v["shape"] for v in told["variables"]]
    json.dumps(told, allow_nan=False)


def test_v4(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"image": CUBE[..., 0].astype(float)}, format="4")
    with open_cube(tmp_path / "a.mat") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST[:1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64", "complex128"])
def test_types(save, dtype):
    with open_cube(save(data=CUBE.astype(dtype))) as reader:
        read = reader.read()
    assert read.data.dtype == dtype == read.meta.dtype
    np.testing.assert_array_equal(read.data, BANDS_FIRST)


def test_class_double_stays_double_however_it_is_packed(tmp_path):
    # MATLAB packs whole doubles in small integers; scipy writes the class it is given, so take a file apart
    scipy.io.savemat(tmp_path / "a.mat", {"data": CUBE.astype(np.uint8)})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    flags = content.index(bytes([6, 0, 0, 0, 8, 0, 0, 0, 9]))
    content[flags + 8] = 6  # mxUINT8_CLASS becomes mxDOUBLE_CLASS over the same bytes
    (tmp_path / "a.mat").write_bytes(content)
    with open_cube(tmp_path / "a.mat") as reader:
        assert reader.dtype == np.float64
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)


def test_logical_mask(save):
    mask = CUBE[..., 0] > 20
    with open_cube(save(mask=mask)) as reader:
        assert reader.dtype == bool and full_range(reader) == 1
        np.testing.assert_array_equal(reader.read().data, mask[None])


def test_nan_is_invalid(save):
    data = CUBE.astype(float)
    data[1, 2, 3] = np.nan
    with open_cube(save(data=data)) as reader:
        np.testing.assert_array_equal(np.argwhere(~reader.read().valid), [[1, 2]])
        assert reader.read(bands=[0, 1]).valid.all()


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 1, 5), (1, 1, 5), (1, 4), (3, 1)])
def test_axes_of_length_one_stay(save, shape):
    data = np.arange(np.prod(shape), dtype=float).reshape(shape)
    with open_cube(save(data=data)) as reader:
        assert reader.shape == ((*shape, 1)[2], *shape[:2])
        np.testing.assert_array_equal(reader.read().data, data.reshape(*shape[:2], -1).transpose(2, 0, 1))


def test_several_cubes_need_a_name(save):
    path = save(a=CUBE, b=CUBE[:2] + 1)
    with pytest.raises(InputError, match=r"a \(3 x 4 x 5\), b \(2 x 4 x 5\); choose one with --var"):
        open_cube(path)
    with open_cube(path, var="b") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST[:, :2] + 1)
    with pytest.raises(InputError, match=r"no numeric array 'c'; it has a \(3 x 4 x 5\), b"):
        open_cube(path, var="c")


def test_wavelengths_beside_the_cube(save):
    path = save(data=CUBE, Wavelength=np.linspace(0.4, 0.8, 5)[None], FWHM=np.full((5, 1), 0.01), bbl=np.eye(5)[:1])
    with open_cube(path) as reader:
        meta = reader.meta
    assert meta.wavelengths == (400, 500, 600, 700, 800) and meta.fwhm == (10,) * 5
    assert meta.bad_bands == (False, True, True, True, True)
    assert any("micrometres" in note for note in meta.notes)


def test_wavelengths_of_another_count_are_ignored_and_said(save):
    with open_cube(save(data=CUBE, wavelength=np.arange(400.0, 404)[None])) as reader:
        assert reader.meta.wavelengths == () and any("4 values for 5 bands" in note for note in reader.meta.notes)


def test_structs_by_dotted_path(save):
    scene = {"radiance": CUBE, "inner": {"second": CUBE + 1}, "wavelength": np.arange(400.0, 405)[None]}
    path = save(wavelength=np.arange(900.0, 905)[None], scene=scene)
    with pytest.raises(
        InputError, match=r"scene\.radiance.*scene\.inner\.second|scene\.inner\.second.*scene\.radiance"
    ):
        open_cube(path)
    with open_cube(path, var="scene.inner.second") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST + 1)
    with open_cube(path, var="scene.radiance") as reader:
        assert reader.meta.wavelengths[0] == 400  # the struct's own, not the file's


def test_cells_by_number(save):
    path = save(frames=[CUBE, CUBE + 1])
    with pytest.raises(InputError, match=r"frames\.1 \(3 x 4 x 5\), frames\.2"):
        open_cube(path)
    with open_cube(path, var="frames.2") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST + 1)


def test_fields_of_one_name_are_all_read(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"s": {f"x{i}": np.full((2, 3), i) for i in range(4)}})
    path.write_bytes(re.sub(rb"x[123]\0", b"x0\0", path.read_bytes()))
    for name, i in (("s.x0", 0), ("s._1_x0", 1), ("s._2_x0", 2), ("s._3_x0", 3)):
        with open_cube(path, var=name) as reader:
            assert (reader.read().data == i).all()
            assert len(reader.describe()["variables"]) == 4


def test_struct_array(tmp_path):
    array = np.empty((1, 2), dtype=[("data", object)])
    array["data"][0, 0], array["data"][0, 1] = CUBE, CUBE + 1
    scipy.io.savemat(tmp_path / "a.mat", {"s": array})
    with open_cube(tmp_path / "a.mat", var="s.data.2") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST + 1)


MATRIX = CUBE.reshape(12, 5, order="F").T  # bands x pixels, pixels down the columns


@pytest.mark.parametrize("names", [("nRow", "nCol"), ("lines", "samples"), ("lines", "cols")])
def test_unmixing_matrix(save, names):
    path = save(Y=MATRIX, **{names[0]: np.array([[3.0]]), names[1]: np.array([[4.0]])})
    with open_cube(path) as reader:
        assert reader.shape == (5, 3, 4) and reader.dtype == np.uint16
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)
        part = reader.read(Window(1, 1, 2, 2), bands=[3, 1])
        assert "bands x pixels of 3 rows x 4 columns" in reader.meta.notes[0]
    np.testing.assert_array_equal(part.data, BANDS_FIRST[[3, 1], 1:3, 1:3])


def test_transposed_unmixing_matrix(save):
    with open_cube(save(Y=MATRIX.T, nRow=np.array([[3.0]]), nCol=np.array([[4.0]]))) as reader:
        assert reader.shape == (5, 3, 4) and "pixels x bands of 3 rows x 4 columns" in reader.meta.notes[0]
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)
        part = reader.read(Window(1, 1, 2, 2), bands=[3, 1])
    np.testing.assert_array_equal(part.data, BANDS_FIRST[[3, 1], 1:3, 1:3])


def test_unmixing_matrix_beside_abundances_of_the_same_size(save):
    size = {"lines": np.array([[44]], np.uint8), "cols": np.array([[4]], np.uint8)}  # 300 rows do not fit in 8 bits
    path = save(Y=MATRIX, S_GT=CUBE[..., :2], **size)
    with pytest.raises(InputError, match=r"S_GT \(3 x 4 x 2\).*Y \(5 x 12\)"):
        open_cube(path)
    with open_cube(path, var="Y") as reader:
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)


def test_two_images_need_a_name(save):
    path = save(first=CUBE[..., 0], second=CUBE[..., 1], number=np.array([[7.0]]))
    with pytest.raises(InputError, match=r"first \(3 x 4\), second \(3 x 4\); choose"):
        open_cube(path)


def test_no_image(save):
    with pytest.raises(InputError, match=r"a\.mat contains no numeric array of two or three dimensions"):
        open_cube(save(title="nothing here", number=np.array([[7.0]])))


def test_four_dimensions(save):
    path = save(video=np.zeros((2, 2, 2, 2)), frame=np.zeros((2, 2)))
    with open_cube(path) as reader:
        assert "frame" in reader.meta.notes[0]
    with pytest.raises(InputError, match="4 dimensions"):
        open_cube(path, var="video")


def test_sparse_and_text_are_not_images(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"s": scipy.sparse.eye(4).tocsc(), "t": "text"})
    with pytest.raises(InputError, match="no numeric array"):
        open_cube(tmp_path / "a.mat")


def test_v73_reads_the_chunks_of_a_window(tmp_path):
    with open_cube(write_v73(tmp_path / "a.mat", {"data": CUBE})) as reader:
        assert reader.block_shape == (3, 2) and reader.meta.driver == "MAT 7.3"


@pytest.mark.parametrize("content", [b"not a MAT file at all" * 20, b"MATLAB 5.0 MAT-file".ljust(200)])
def test_not_a_mat_file(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat"):
        open_cube(tmp_path / "a.mat")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated(save, share):
    path = save(data=np.random.default_rng(0).random((20, 20, 20)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"a\.mat is not a readable MAT file"):
        open_cube(path)


def test_found_by_content(tmp_path):
    write_v5(tmp_path / "a.mat", {"data": CUBE}).rename(tmp_path / "scene.data")
    with open_cube(tmp_path / "scene.data") as reader:
        assert reader.shape == (5, 3, 4)


def matrix_of(order, kind, shape, *elements, flags=0):
    """A matrix of version 5: its class, its shape, the name a, and (type, bytes) of what follows."""

    def element(kind, data):
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    dims = np.array(shape, f"{order}i4").tobytes()
    parts = [element(6, struct.pack(f"{order}II", flags | kind, 0)), element(5, dims), element(1, b"a")]
    return element(14, b"".join(parts + [element(*each) for each in elements]))


def write_elements(path, order, *matrices):
    mark = struct.pack(f"{order}HH", 0x0100, 0x4D49)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(matrices))
    return path


@pytest.mark.parametrize("order", "<>")
def test_byte_orders(tmp_path, order):
    numbers = CUBE.ravel(order="F").astype(f"{order}u2").tobytes()
    path = write_elements(tmp_path / "a.mat", order, matrix_of(order, 6, CUBE.shape, (4, numbers)))
    with open_cube(path) as reader:
        assert reader.dtype == np.float64
        np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)


INSIDE = [(9, np.zeros(4).tobytes())]
NONSENSE = {
    "type of numbers": matrix_of("<", 6, (2, 2), (0x7F09, INSIDE[0][1])),
    "text as numbers": matrix_of("<", 6, (2, 2), (16, INSIDE[0][1])),
    "small element": matrix_of("<", 6, (2, 2), (0x7F0009, b"")),
    "class": matrix_of("<", 99, (2, 2), *INSIDE),
    "shape": matrix_of("<", 6, (2, 3), *INSIDE),
    "negative shape": matrix_of("<", 6, (-2, -2), *INSIDE),
    "cells": matrix_of("<", 1, (2**31 - 1, 2**31 - 1), (14, b"")),
    "fields": matrix_of("<", 2, (1, 1), (5, bytes(4)), (1, b"name"), (14, b"")),
    "size": matrix_of("<", 6, (2, 2), *INSIDE)[:4] + b"\xff\xff\xff\xff" + matrix_of("<", 6, (2, 2), *INSIDE)[8:],
    "element within": matrix_of("<", 1, (1, 1), (14, bytes(48))),
    "compressed": struct.pack("<II", 15, 9) + zlib.compress(bytes(8)),
    "rows": matrix_of("<", 5, (2, 1), (5, struct.pack("<i", 2**30)), (5, struct.pack("<ii", 0, 1)), (9, bytes(8))),
    "columns": matrix_of("<", 5, (2, 1), (5, struct.pack("<i", 0)), (5, struct.pack("<ii", 5, 0)), (9, bytes(8))),
    "type": struct.pack("<II", 0x7F, 8) + bytes(8),
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_in_a_file_of_version_5(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.mat is not a readable MAT file"):
        MatFile(str(write_elements(tmp_path / "a.mat", "<", content)))


@pytest.mark.parametrize("compressed", [False, True])
def test_no_byte_of_a_file_ends_the_program(tmp_path, compressed):
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.ones((2, 3)), "text"
    held = {"s": {"x": CUBE[0], "c": cell}, "p": scipy.sparse.csc_array(np.eye(3)), "z": np.ones((2, 2)) * 1j}
    scipy.io.savemat(tmp_path / "a.mat", held, do_compression=compressed)
    content = (tmp_path / "a.mat").read_bytes()
    opened, places = 0, range(100, len(content), 3)
    for place in places:
        (tmp_path / "a.mat").write_bytes(content[:place] + bytes([content[place] ^ 0x7F]) + content[place + 1 :])
        with contextlib.suppress(InputError), MatFile(str(tmp_path / "a.mat")) as file:
            some = [v for v in (*file.variables, *file.sparse) if v.reversed_.size < 10**6]
            opened += all(v.values().shape == v.reversed_.shape for v in some)
    assert 0 < opened < len(places)


def test_version_4(tmp_path):
    held = {"z": np.arange(6).reshape(2, 3) * 1j, "p": scipy.sparse.csc_array(np.eye(3)), "t": "text"}
    scipy.io.savemat(tmp_path / "a.mat", held, format="4")
    with MatFile(str(tmp_path / "a.mat")) as file:
        (z,), (p,) = file.variables, file.sparse
        np.testing.assert_array_equal(z.values().T, held["z"])
        np.testing.assert_array_equal(p.values().T, np.eye(3))


@pytest.mark.parametrize("code", [1000, 0])
def test_version_4_of_another_size(tmp_path, code):
    order = ">" if code else "<"
    header, numbers = (code, 2, 3, 0, 2), np.arange(6, dtype=f"{order}f8").tobytes()
    (tmp_path / "a.mat").write_bytes(struct.pack(f"{order}5i", *header) + b"a\0" + numbers)
    with open_cube(tmp_path / "a.mat") as reader:
        assert reader.read().data.tolist() == [[[0, 2, 4], [1, 3, 5]]]
    (tmp_path / "a.mat").write_bytes(struct.pack(f"{order}5i", code, 2**31 - 1, 2**31 - 1, 0, 2) + b"a\0" + numbers)
    with pytest.raises(InputError, match=r"a\.mat is not a readable MAT file"):
        open_cube(tmp_path / "a.mat")


@pytest.mark.parametrize("name", ["wavelength", "nRow", "ir", "nested"])
def test_more_elements_than_are_stored(tmp_path, name):
    path = write_v73(tmp_path / "a.mat", {"data": CUBE, "nCol": np.ones((1, 1))})
    with h5py.File(path, "r+") as file:
        huge = {"shape": (10**10,), "chunks": (10**6,), "dtype": h5py.ref_dtype if name == "nested" else "f8"}
        if name == "ir":
            group = file.create_group("p")
            group.attrs["MATLAB_sparse"], group["jc"] = np.uint64(2), [0, 1]
            group.create_dataset("ir", **huge)
        elif name == "nRow":
            file["nRow"] = np.array([[np.nan]])
        else:
            file.create_dataset(name, **huge)
    if name in ("ir", "nested"):
        with pytest.raises(InputError, match=r"a\.mat .*10000000000 elements"):
            open_cube(path)
    else:
        with open_cube(path, var="data") as reader:
            assert reader.shape == (5, 3, 4)
            assert name == "nRow" or "wavelength lists 10000000000 values" in " ".join(reader.meta.notes)


def foreign(path, kind):
    """A dataset called x whose samples lie in another file."""
    (path.parent / "other.bin").write_bytes(np.arange(60.0).tobytes())
    with h5py.File(path.parent / "other.h5", "w") as file:
        file["y"] = np.ones((3, 4, 5))
    with h5py.File(path, "r+" if path.exists() else "w") as file:
        if kind == "external":
            file.create_dataset("x", (3, 4, 5), "f8", external=[(str(path.parent / "other.bin"), 0, 480)])
        elif kind == "link":
            file["x"] = h5py.ExternalLink("other.h5", "y")
        else:
            layout = h5py.VirtualLayout((3, 4, 5), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "y", (3, 4, 5))
            file.create_virtual_dataset("x", layout)
    return path


@pytest.mark.parametrize("kind", ["external", "link", "virtual"])
@pytest.mark.parametrize("name", ["a.mat", "a.h5", "a.nc"])
def test_samples_in_another_file_are_not_read(tmp_path, name, kind):
    with pytest.raises(InputError, match=rf"{name} has x not in itself but in another file"):
        open_cube(foreign(tmp_path / name, kind))


@pytest.mark.parametrize("kind", ["external", "link", "virtual", "own view", "loose link"])
@pytest.mark.parametrize("name", ["a.mat", "a.h5", "a.nc"])
def test_what_is_in_another_file_does_not_keep_from_reading_the_rest(tmp_path, name, kind):
    with h5py.File(tmp_path / name, "w") as file:
        file["cube"] = np.arange(60.0).reshape(3, 4, 5)
        file["wavelength"] = [500.0, 600, 700]
        layout = h5py.VirtualLayout((3, 4, 5), "f8")
        layout[:] = h5py.VirtualSource(file["cube"])
        if kind == "own view":
            file.create_virtual_dataset("x", layout)
        elif kind == "loose link":
            file["x"] = h5py.ExternalLink("nowhere.h5", "y")
    if kind in ("external", "link", "virtual"):
        foreign(tmp_path / name, kind)
    for var in ("cube", "x") if kind == "own view" else ("cube",):
        with open_cube(tmp_path / name, var=var) as reader:
            read = reader.read().data
            assert np.array_equal(read if name != "a.mat" else read.transpose(0, 2, 1), np.arange(60).reshape(3, 4, 5))
            assert reader.meta.wavelengths == (500, 600, 700)
    if kind == "own view":
        return
    with pytest.raises(InputError, match=f"{name} has x not in itself but in another file"):
        open_cube(tmp_path / name, var="x")
    with pytest.raises(InputError, match=r"x not in .*, or choose another with --var|images \((cube, x|x, cube)"):
        open_cube(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mat", "a.h5"])
def test_views_of_what_is_in_another_file_and_its_wavelengths_are_not_read(tmp_path, name):
    with h5py.File(foreign(tmp_path / name, "virtual"), "r+") as file:
        file["data cube"] = np.ones((3, 4, 5))
        layout, listed = h5py.VirtualLayout((3, 4, 5), "f8"), h5py.VirtualLayout((3,), "f8")
        layout[:], listed[:] = h5py.VirtualSource(file["x"]), h5py.VirtualSource("other.h5", "w", (3,))
        file.create_virtual_dataset("a b", layout)
        file.create_virtual_dataset("wavelength", listed)
    with open_cube(tmp_path / name, var="data cube" if name == "a.mat" else "data_cube") as reader:
        assert not reader.meta.wavelengths
    view = "a b" if name == "a.mat" else "a_b"
    with pytest.raises(InputError, match=f"{name} has {view} not in itself but in another file"):
        open_cube(tmp_path / name, var=view)


@pytest.mark.parametrize("kind", ["gone", "one another"])
@pytest.mark.parametrize("name", ["a.mat", "a.h5"])
def test_views_of_nothing_are_not_read_as_zeros(tmp_path, name, kind):
    with h5py.File(tmp_path / name, "w") as file:
        for view, source in (("v", "gone" if kind == "gone" else "w"), ("w", "v")):
            layout = h5py.VirtualLayout((3, 4, 5), "f8")
            layout[:] = h5py.VirtualSource(".", source, (3, 4, 5))
            file.create_virtual_dataset(view, layout)
    with pytest.raises(InputError, match=f"{name} has v not in itself"):
        open_cube(tmp_path / name, var="v")


@pytest.mark.parametrize("levels", [4, 30])
@pytest.mark.parametrize("name", ["a.mat", "a.h5"])
def test_views_of_views_are_counted(tmp_path, name, levels):
    samples = np.arange(60.0).reshape(3, 4, 5)
    with h5py.File(tmp_path / name, "w") as file:
        file["v0"] = samples
        for level in range(1, levels):
            layout, source = h5py.VirtualLayout((3, 4, 5), "f8"), h5py.VirtualSource(".", f"v{level - 1}", (3, 4, 5))
            layout[:, :2], layout[:, 2:] = source[:, :2], source[:, 2:]
            file.create_virtual_dataset(f"v{level}", layout)
    if levels < 30:
        with open_cube(tmp_path / name, var="v3") as reader:
            assert np.array_equal(np.sort(reader.read().data, axis=None), samples.ravel())
        return
    with pytest.raises(InputError, match=rf"{name} has v1\d as a view of too many views: copy its samples"):
        open_cube(tmp_path / name, var="v29")


@pytest.mark.parametrize("name", ["a.mat", "a.h5"])
@pytest.mark.parametrize("order", [1, -1])  # in which the views are looked at
def test_views_of_views_are_not_followed_without_end(tmp_path, name, order):
    names = [f"v{number:03}" for number in range(400)][::order]
    with h5py.File(tmp_path / name, "w") as file:
        file[names[0]] = np.ones((3, 4, 5))
        for before, view in itertools.pairwise(names):
            layout = h5py.VirtualLayout((3, 4, 5), "f8")
            layout[:] = h5py.VirtualSource(".", before, (3, 4, 5))
            file.create_virtual_dataset(view, layout)
    with pytest.raises(InputError, match=rf"{name} has v\d+ as a view of too many views"):
        open_cube(tmp_path / name, var=names[-1])


@pytest.fixture
def fan(tmp_path):
    """2^30 names of one array, and what leads back to itself."""
    with h5py.File(tmp_path / "a.mat", "w") as file:
        last = file.create_dataset("x", data=np.ones((3, 4, 5)))
        for level in range(30):
            refs = np.array([last.ref] * 2, dtype=h5py.ref_dtype)
            last = file.create_dataset(f"r{level:02}", data=refs, dtype=h5py.ref_dtype)
        group = file.create_group("g")
        group["itself"], group["all"], group["last"] = group, file["/"], last
        group["wavelength"], group["y"] = np.array([500.0, 600, 700]), np.ones((3, 4, 5))
    return tmp_path / "a.mat"


def test_what_many_references_lead_to_is_read_by_its_name(fan, monkeypatch):
    monkeypatch.setattr(mat, "MOST_NAMES", 5000)
    with pytest.raises(
        InputError, match=r"a\.mat has too many structs and cells to look through; choose .* --var NAME"
    ):
        open_cube(fan)
    for name in ("x", "r29" + ".2.1" * 15, "g.last" + ".1" * 30):
        with open_cube(fan, var=name) as reader:
            assert reader.read().data.shape == (3, 5, 4) and not reader.meta.wavelengths
            assert f"too many structs and cells to look through; only those with {name}" in reader.meta.notes[-1]
    with open_cube(fan, var="g.y") as reader:
        assert reader.meta.wavelengths == (500, 600, 700)
    with pytest.raises(InputError, match=r"no numeric array 'r29\.3'; it has x \(5 x 4 x 3\)\."):
        open_cube(fan, var="r29.3")


def test_what_leads_back_to_itself_has_no_more_names(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["g/x"] = CUBE.T
        file["g/itself"], file["g/all"] = file["g"], file["/"]
        cell = file.create_dataset("c", (3,), dtype=h5py.ref_dtype)
        cell[:] = [cell.ref, file["g"].ref, file["g/x"].ref]
    with MatFile(str(tmp_path / "a.mat")) as file:
        assert [v.name for v in file.variables] == ["c.2.x", "c.3", "g.x"] and not file.part


def test_an_array_is_found_by_each_of_its_names(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["scene/data"] = CUBE.T
        file["alias"] = h5py.SoftLink("/scene")
        file.create_dataset("c", data=np.array([file["scene"].ref] * 2, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    names = ["alias.data", "c.1.data", "c.2.data", "scene.data"]
    with pytest.raises(InputError, match=r" \(3 x 4 x 5\), ".join(map(re.escape, names))):
        open_cube(tmp_path / "a.mat")
    for name in names:
        with open_cube(tmp_path / "a.mat", var=name) as reader:
            np.testing.assert_array_equal(reader.read().data, BANDS_FIRST)


def test_texts_do_not_count_among_what_is_looked_through(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        _fill(file, {"data": CUBE, "#refs#": {f"t{i}": "grass" for i in range(20)}})
        held = file["#refs#"]
        refs = np.array([held[name].ref for name in held] + [held["t0"].ref] * 20, dtype=h5py.ref_dtype)
        file.create_dataset("names", data=refs, dtype=h5py.ref_dtype)
        file.create_dataset("more", data=np.array([file["names"].ref] * 9, h5py.ref_dtype), dtype=h5py.ref_dtype)
    monkeypatch.setattr(mat, "MOST_NAMES", 1)
    with open_cube(tmp_path / "a.mat") as reader:
        assert reader.shape == (5, 3, 4) and len(reader.describe()["variables"]) == 1


@pytest.mark.parametrize("name", ["a.mat", "a.h5"])
def test_links_to_nothing_keep_nothing_from_being_read(tmp_path, name):
    with h5py.File(tmp_path / name, "w") as file:
        file["cube"], file["wavelength"] = np.ones((3, 4, 5)), [500.0, 600, 700]
        file["x"] = h5py.SoftLink("/gone")
    with open_cube(tmp_path / name, var="cube") as reader:
        assert reader.meta.wavelengths == (500, 600, 700)


def test_elements_that_were_never_set_and_classes_as_other_programs_write_them(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cube"] = np.zeros((4, 3, 2))
        cell = file.create_dataset("info", (1, 2), dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[0, 0] = file.create_dataset("#refs#/a", data=np.zeros((1, 2))).ref
        file["flag"], file["text"] = np.ones((3, 2), np.uint8), np.ones((4, 1), np.uint16)
        for name, kind in (("flag", b"logical"), ("text", b"char")):
            file[name].attrs["MATLAB_class"] = np.array([kind])
    with MatFile(str(tmp_path / "a.mat")) as file:
        assert {v.name: v.dtype.name for v in file.variables} == {
            "cube": "float64",
            "info.1": "float64",
            "flag": "bool",
        }
    with open_cube(tmp_path / "a.mat") as reader:
        assert reader.shape == (4, 2, 3)
