"""Tables of samples and features: every format, labels, directions, and everything that may be wrong with one."""

import builtins
import json
import tracemalloc
import zipfile
from decimal import Decimal
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from rsunfold.arguments import quoted_name, split_names
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.io import mat, matlab, open_cube, textcells
from rsunfold.io.table import is_table, read_table, table_of, write_columns

DATA = np.random.default_rng(0).normal(size=(5, 3)).round(3)
LABELS = np.array([1, 1, 2, 2, 3])


def text(path, rows, delimiter=","):
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in rows) + "\n")
    return path


@pytest.fixture
def csv(tmp_path):
    """Writes rows of cells as a.csv."""
    return lambda *rows: text(tmp_path / "a.csv", rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_a_text_table_with_names(delimiter, tmp_path):
    path = text(tmp_path / "a.csv", [("red", "green", "nir"), *DATA], delimiter)
    table = read_table(path)
    np.testing.assert_array_equal(table.data, DATA)
    assert table.names == ("red", "green", "nir") and table.name(2) == "nir"
    assert table.labels is None and not table.kept and not table.notes


def test_a_text_table_without_names(csv):
    table = read_table(csv(*DATA))
    np.testing.assert_array_equal(table.data, DATA)
    assert table.names == () and table.name(0) == "feature 1"


def test_features_in_rows(csv):
    rows = [[f"f{i}", *row] for i, row in enumerate(DATA.T)]
    for path in (csv(*rows), csv(("", "s1", "s2", "s3", "s4", "s5"), *rows)):
        with pytest.raises(InputError, match="if these are the names of features, use --features rows"):
            read_table(path)
        extra = {"ignore": ["1"]} if "s1" in path.read_text() else {}
        table = read_table(path, features="rows", **extra)
        np.testing.assert_array_equal(table.data, DATA)
        assert table.names == ("f0", "f1", "f2")


@pytest.mark.parametrize("first", [0, 1, 101])
def test_numbers_of_samples_above_features_in_rows_are_no_feature(first, csv):
    header = ("wavelength", *range(first, first + len(DATA)))
    path = csv(header, *([f"{400 + 10 * i}", *row] for i, row in enumerate(DATA.T)))
    table = read_table(path, features="rows", ignore=[])
    assert table.names == ("400", "410", "420") and "counts up and so numbers the samples" in table.notes[0]
    np.testing.assert_array_equal(table.data, DATA)


def test_numbers_in_the_first_of_few_rows_may_be_a_feature(csv):
    assert read_table(csv((5, 6), (1, 8), (1, 1)), features="rows").data.shape == (2, 3)
    table = read_table(csv(("label", *range(5)), ("a", 1, 8, 3, 4, 9), ("b", 1, 1, 2, 5, 7)), features="rows")
    assert table.labels.tolist() == ["0", "1", "2", "3", "4"] and table.names == ("a", "b")


def test_text_columns_are_named_and_can_be_left_out(csv):
    rows = [("site", "a", "soil type", "b", "c"), *([f"s{i}", r[0], "clay", *r[1:]] for i, r in enumerate(DATA))]
    path = csv(*rows)
    with pytest.raises(InputError) as error:
        read_table(path)
    told = "the column 'site' contains text such as 's0' (and 1 more like it)"
    assert str(error.value) == f"{path}: {told}; leave it out with --ignore 'site,soil type'."
    table = read_table(path, ignore=["site", "3"])
    np.testing.assert_array_equal(table.data, DATA)
    assert table.names == ("a", "b", "c")
    assert table.kept == (("site", ("s0", "s1", "s2", "s3", "s4")), ("soil type", ("clay",) * 5))
    with pytest.raises(UsageError, match="has no column 'sites'; it has site, a"):
        read_table(path, ignore=["sites"])


def test_text_columns_without_names_are_counted(csv):
    path = csv(*(["x", *row] for row in DATA))
    with pytest.raises(InputError, match=r"'column 1' contains text such as 'x'; leave it out with --ignore 1\.$"):
        read_table(path)
    assert read_table(path, ignore=["1"]).data.shape == (5, 3)


def test_labels_of_a_text_table(csv):
    path = csv(("a", "b", "c", "Label"), *([*row, label] for row, label in zip(DATA, LABELS, strict=True)))
    table = read_table(path)
    assert table.labels.tolist() == ["1", "1", "2", "2", "3"] and table.names == ("a", "b", "c")
    assert "'Label' was taken as labels" in table.notes[0]
    table = read_table(path, label="b")
    assert table.names == ("a", "c") and table.labels.tolist() == [str(v) for v in DATA[:, 1]]
    assert table.notes == ("the column 'Label' is called as labels are, so it is not a feature",)
    assert read_table(path, ignore=["Label"]).labels is None


@pytest.mark.parametrize("name", ["Labels", "class_id", "Target", "gt"])
def test_every_column_called_as_labels_is_no_feature(name, csv):
    rows = [["barolo" if k < 2 else "barbera", *row, k] for k, row in zip(LABELS, DATA, strict=True)]
    table = read_table(csv(("class", "a", "b", "c", name), *rows))
    assert table.names == ("a", "b", "c") and table.labels[0] == "barolo"
    assert table.kept[1] == (name, ("1", "1", "2", "2", "3"))
    assert any(f"{name!r} is called as labels are, so it is not a feature" in note for note in table.notes)
    assert read_table(csv(("class", "a", "b", "c", name), *rows), ignore=["class"]).labels.tolist()[0] == "1"
    assert "y" in read_table(csv(("y", "a", "b", "c", name), *([k * k, *row[1:]] for k, row in enumerate(rows)))).names


FEW = np.arange(40) % 4
FRACTIONS = np.random.default_rng(3).random((40, 4)).round(3)


def test_it_is_told_of_columns_that_may_hold_labels(csv, tmp_path):
    told = "may hold labels: it has 4 different whole numbers, each in several samples; if so, give --label"
    path = csv(("a", "b", "c", "d", "crop"), *([*row, k] for row, k in zip(FRACTIONS, FEW, strict=True)))
    assert read_table(path).notes == (f"the feature 'crop' {told} crop, or leave it out with --ignore crop",)
    assert not read_table(path, label="crop").notes and not read_table(path, ignore=["crop"]).notes
    np.save(tmp_path / "a.npy", np.column_stack([FRACTIONS, FEW]))
    assert told in read_table(tmp_path / "a.npy").notes[0]
    rows = [["abcd"[k], *row, k, i % 3] for i, (row, k) in enumerate(zip(FRACTIONS, FEW, strict=True))]
    (note,) = read_table(csv(("name", "a", "b", "c", "d", "crop", "flag"), *rows), label="name").notes
    assert note.endswith("each in several samples; if so, leave it out with --ignore crop")


@pytest.mark.parametrize(
    "columns",
    [
        [FRACTIONS[:, 0], FEW, FEW % 3],  # mostly whole numbers
        [FRACTIONS, np.append(FEW[1:], 9)],  # one alone
        [FRACTIONS, FEW * 0.5],
        [FRACTIONS, np.zeros(40)],
        [np.repeat(FRACTIONS, 4, axis=0), np.arange(160) // 2],  # more than classes are
    ],
)
def test_other_whole_numbers_are_features_without_a_note(columns, tmp_path):
    np.save(tmp_path / "a.npy", np.column_stack(columns))
    assert not read_table(tmp_path / "a.npy").notes


def test_a_column_that_counts_the_samples_is_no_feature(csv):
    table = read_table(csv(("", "a", "b", "c"), *([i, *row] for i, row in enumerate(DATA))))
    assert table.names == ("a", "b", "c") and "numbers the samples" in table.notes[0]
    table = read_table(csv(("", "a", "b", "c"), *([2 + i * i, *row] for i, row in enumerate(DATA))))  # some left out
    assert table.names == ("a", "b", "c") and "numbers the samples" in table.notes[0]
    table = read_table(csv(("Unnamed: 0", "a", "b", "c"), *([9 - i, *row] for i, row in enumerate(DATA))))  # shuffled
    assert table.names == ("a", "b", "c") and "numbers the samples" in table.notes[0]
    for cell in (lambda i: i // 2, lambda i: i + 0.5):
        table = read_table(csv(("", "a", "b", "c"), *([cell(i), *row] for i, row in enumerate(DATA))))
        assert table.names == ("column 1", "a", "b", "c") and not table.notes


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("count", [3, 4, 9])
def test_numbers_that_pandas_writes_as_names_are_names(csv, index, count):
    data = np.random.default_rng(0).normal(size=(6, count))
    rows = [[i, *row] if index else [*row] for i, row in enumerate(data)]
    table = read_table(csv([""] * index + [*range(count)], *rows))
    if count == 3 and not index:  # three numbers may be a sample
        assert len(table.data) == 7 and not table.notes
        return
    np.testing.assert_array_equal(table.data, data)
    assert table.names == tuple(map(str, range(count)))
    assert "numbers the columns" in table.notes[0] and len(table.notes) == 1 + index


def test_numbers_that_stand_for_none_are_refused(csv):
    data = np.random.default_rng(0).normal(size=(6, 3))
    data[2, 1] = -3.4028235e38
    with pytest.raises(InputError, match=r"no number in 1 of its cells \(the first: sample 3, feature 2\)"):
        read_table(csv(*data))


def test_no_sample_is_taken_for_names(csv):
    rows = [list(row) for row in DATA.tolist()]
    with pytest.raises(InputError, match=r"no number in 1 of its cells \(the first: sample 1, feature 1\)"):
        read_table(csv(["NA", *rows[0][1:]], *rows[1:]))
    numbers = [[21, 5, 2], [8, 9, 3], [1, 7, 4]]
    table = read_table(csv(*numbers), ignore=["2"])
    np.testing.assert_array_equal(table.data, [[21, 2], [8, 3], [1, 4]])
    assert read_table(csv(*numbers), ignore=["21"]).data.tolist() == [[9, 3], [7, 4]]  # there is no such number


def test_wavelengths_beside_a_word_are_names(csv):
    data = np.random.default_rng(1).normal(size=(4, 5))
    rows = [[f"s{i}", *row] for i, row in enumerate(data)]
    wavelengths = (400, 410, 420, 430, 440)
    table = read_table(csv(("site", *wavelengths), *rows), ignore=["1"])
    assert table.names == tuple(map(str, wavelengths)) and len(table.data) == 4
    with pytest.raises(InputError, match="'site' contains text such as 's0'; leave it out with --ignore site"):
        read_table(csv(("site", *wavelengths), *rows))
    again = csv(("s1", *wavelengths), *rows)  # a word that comes again is hardly a name
    with pytest.raises(
        InputError, match="the first row may hold the names of the columns, such as wavelengths, or a s"
    ):
        read_table(again, ignore=["1"])
    assert read_table(again, ignore=["1"], header=False).data[0].tolist() == list(wavelengths)
    assert read_table(csv(("gnd", 7, 8), ("a", 1, 2), ("b", 2, 1))).names == ("7", "8")  # the name of labels


SPECTRA = np.sort(np.random.default_rng(1).random((12, 8)), axis=1)  # of soils: every one rises
REFLECTANCES = np.random.default_rng(1).random((12, 8))
STEPS = np.arange(400, 480, 10)


@pytest.mark.parametrize("count", [3, 6, 8])
@pytest.mark.parametrize(
    ("names", "data"),
    [
        (STEPS, REFLECTANCES),
        (STEPS, SPECTRA),
        (STEPS[::-1], SPECTRA),
        (4000 - 1.928 * np.arange(8), REFLECTANCES * 3),
        (STEPS, np.rint(REFLECTANCES * 1000)),
        (np.linspace(0.4, 2.5, 8).round(3), np.rint(REFLECTANCES * 1000)),
    ],
    ids=["rising", "soil", "falling", "wavenumbers", "counts", "micrometres"],
)
def test_a_first_row_unlike_all_samples_holds_names(names, data, count, csv):
    path = csv(names[:count], *data[:, :count])
    if count == 3 and not (data is SPECTRA or (data is REFLECTANCES and names is STEPS)):  # three may be in turn
        assert read_table(path, header=True).names == tuple(map(str, names[:3]))
        return
    table = read_table(path)
    assert table.names == tuple(map(str, names[:count])) and len(table.data) == 12
    assert table.notes == (
        "the first sample gives numbers unlike the values of the columns, so it was taken as their names",
    )
    assert len(read_table(path, header=False).data) == 13


@pytest.mark.parametrize(
    ("first", "data"),
    [
        ([f"400.{i}" for i in range(8, 13)], REFLECTANCES[:, :5]),  # which pandas makes of columns of one name
        ([443, 482, 561, 655, 865, 1609, 2201], np.rint(REFLECTANCES[:, :7] * 5000)),
        ((900, 410, 700, 555), REFLECTANCES[:, :4]),  # from best to worst
        (STEPS + 0.5, 400 + SPECTRA * 80),
    ],
)
@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_whether_a_first_row_holds_names_is_asked_where_it_may_be_a_sample(first, data, direction, csv):
    rows = [first, *data.tolist()]
    path = csv(*(rows if direction == "columns" else zip(*rows, strict=True)))
    line = "row" if direction == "columns" else "column"
    with pytest.raises(
        InputError, match=f"the first {line} may hold the names of .*; say with --header whether it holds"
    ):
        read_table(path, features=direction)
    np.testing.assert_array_equal(read_table(path, features=direction, header=True).data, data)
    assert len(read_table(path, features=direction, header=False).data) == len(data) + 1


@pytest.mark.parametrize("first", [(490, 560, 665, 842), (0.842, 0.665, 0.56), (2500, 1500, 900)])
@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_it_is_told_that_what_may_be_wavelengths_is_taken_as_a_sample(first, direction, csv):
    data = np.random.default_rng(0).random((40, len(first)))
    rows = [first, *(data if first[0] < 1 else np.rint(data * 6000))]
    path = csv(*(rows if direction == "columns" else zip(*rows, strict=True)))
    table = read_table(path, features=direction)
    line = "row" if direction == "columns" else "column"
    assert table.data.shape == (41, len(first)) and not table.names
    assert table.notes == (
        f"the first {line} was taken as a sample; if it holds the names of the {direction}, such as "
        "wavelengths, give --header yes",
    )
    assert not read_table(path, features=direction, header=False).notes


def test_it_is_told_of_more_bands_where_some_rows_rise(csv):
    rng = np.random.default_rng(0)
    data = np.rint(rng.random((40, 10)) * 6000)
    data[:4].sort(axis=1)
    table = read_table(csv((443, 490, 560, 665, 705, 740, 783, 842, 1610, 2190), *data))
    assert len(table.data) == 41 and "the first row was taken as a sample" in table.notes[0]
    labelled = read_table(csv(*([*row, "soil"] for row in ((490, 560, 665), *data[:, :3]))), label="4")
    assert len(labelled.data) == 41 and not labelled.notes  # a word that comes again is no name


def test_a_first_sample_in_turn_stays_one(csv):
    rng = np.random.default_rng(0)
    for data in (SPECTRA, rng.normal(size=(9, 4)), np.rint(SPECTRA * 1000), rng.poisson(3, (40, 5)), REFLECTANCES):
        for rows in (np.vstack([np.sort(data[:1]), data[1:]]), data) if data.shape[1] < 6 else (data,):
            table = read_table(csv(*rows))
            assert not table.names and len(table.data) == len(rows) and not table.notes


def test_nothing_above_an_index_makes_the_others_names(csv):
    for index in (range(5), "vwxyz", np.arange(5) + 0.5):
        path = csv(("", 4000, 3500, 3000), *([i, *row] for i, row in zip(index, DATA, strict=True)))
        table = read_table(path, ignore=["1"])
        assert table.names == ("4000", "3500", "3000") and table.kept[0][1] == tuple(map(str, index))
        told = "gives numbers unlike the values of" if isinstance(index, str) else "has no first cell but numbers above"
        assert f"the first sample {told} the columns, so it was taken as their names" in table.notes[0]
    with pytest.raises(InputError, match="say with --header whether it holds names"):  # or a sample without a word
        read_table(csv(("", *DATA[0]), *(["x", *row] for row in DATA)))


@pytest.mark.parametrize("name", ["id", "FID", "Unnamed: 0", "index", "no"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_column_called_so_that_counts_up_is_no_feature(name, place, csv):
    rows = [[*row[:place], 7 + i, *row[place:]] for i, row in enumerate(DATA.tolist())]
    header = ["a", "b", "c"]
    header.insert(place, name)
    table = read_table(csv(header, *rows))
    assert table.names == ("a", "b", "c") and table.kept == ((name, ("7", "8", "9", "10", "11")),)
    assert "numbers the samples, so it is not a feature" in table.notes[0] and len(table.notes) == 1


def test_other_columns_that_may_number_the_samples_are_told(csv):
    told = "has another whole number in every sample; if it numbers them, leave it out with --ignore"
    for header, cell in ((("a", "plot"), lambda i: 3 + i), (("a", "id"), lambda i: 40 - i * i), ((), lambda i: i)):
        table = read_table(csv(*([header] if header else []), *([row[0], cell(i)] for i, row in enumerate(DATA))))
        called = header[1] if header else "2"
        assert table.data.shape == (5, 2) and table.notes == (f"the column '{called}' {told} {called}",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
def test_encodings(encoding, tmp_path):
    (tmp_path / "a.csv").write_bytes("é,b\n1,2\n3,5\n".encode(encoding))
    assert read_table(tmp_path / "a.csv").names == ("é", "b")
    (tmp_path / "a.csv").write_bytes("é,b\n1,2\n3,5\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"is not encoded in UTF-8, as .*; save it as such \(in Excel: CSV UTF-8\)"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("top", ["sep=;", '"sep=;"', "SEP=;\r"])
def test_the_delimiter_that_excel_names(top, tmp_path):
    (tmp_path / "a.csv").write_text(f"{top}\na,1;b\n1,5;2\n3,25;5\n")
    table = read_table(tmp_path / "a.csv")
    assert table.names == ("a,1", "b") and table.data.tolist() == [[1.5, 2], [3.25, 5]]


def test_columns_without_a_number_are_left_out(csv, tmp_path):
    cells = ["", "NA", "nan", "", "-"]
    path = csv(("a", "z", "b", "c"), *([row[0], cell, *row[1:]] for row, cell in zip(DATA, cells, strict=True)))
    table = read_table(path)
    assert table.empty == (1,) and table.names == ("a", "z", "b", "c")
    np.testing.assert_array_equal(table.data[:, [0, 2, 3]], DATA)
    assert table.notes == ("z holds no number at all, so it is left out",)
    np.save(tmp_path / "a.npy", np.insert(DATA, 0, np.nan, axis=1).astype(np.float32))
    assert read_table(tmp_path / "a.npy").empty == (0,)


@pytest.mark.parametrize("header", [True, False])
def test_delimiters_at_the_end_of_every_line_are_no_columns(header, tmp_path):
    rows = [("a", "b", "c")] * header + [*DATA]
    (tmp_path / "a.csv").write_text("".join(",".join(map(str, row)) + ",,\n" for row in rows))
    table = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(table.data, DATA)
    assert not table.kept and not table.empty and not table.notes


def test_few_columns_with_gaps_can_be_left_out(csv):
    path = csv(
        ("a", "my b", "c", "d"), *([row[0], "", *row[1:]] if i == 2 else [*row, 1] for i, row in enumerate(DATA))
    )
    with pytest.raises(InputError, match="remove these samples, or leave these features out with --ignore 'my b'"):
        read_table(path)
    assert read_table(path, ignore=["my b"]).data.shape == (5, 3)


def test_true_and_false_are_numbers(csv):
    table = read_table(csv(("a", "flag"), (1, True), (2, "FALSE"), (4, "true")))
    assert table.data.tolist() == [[1, 1], [2, 0], [4, 1]]
    with pytest.raises(InputError, match="'flag' contains text such as 'maybe'"):
        read_table(csv(("a", "flag"), (1, True), (2, "maybe")))


def test_decimal_commas_between_quotes(csv):
    cell = '"{}"'.format
    path = csv(("a", "b"), (cell("0,28"), cell("1,056")), (cell("1,5"), 2))
    assert read_table(path).data.tolist() == [[0.28, 1.056], [1.5, 2]]
    assert read_table(path).notes == ("decimal commas were read as points",)
    with pytest.raises(InputError, match="'b' contains text such as '1,056'"):  # which may be a thousand
        read_table(csv(("a", "b"), (3, cell("1,056")), (4, cell("2,173"))))


def test_cells_are_read_in_chunks(csv, monkeypatch):
    monkeypatch.setattr(textcells, "CHUNK", 2**10)
    data = np.random.default_rng(0).random((2000, 40)).round(5)
    path = csv([f"b{i}" for i in range(40)], *data)
    tracemalloc.start()
    table = read_table(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(table.data, data)
    assert peak < 3 * data.nbytes  # text takes ten times as much
    site = csv(("site", "a", "b", "c"), *([f"s{i}", *row[:3]] for i, row in enumerate(data)))
    table = read_table(site, ignore=["site"])
    np.testing.assert_array_equal(table.data, data[:, :3])
    assert table.kept[0][1][-1] == "s1999"
    with pytest.raises(InputError, match="row 1500 has 2 cells, but the first has 3"):
        read_table(csv(*([1, 2] if i == 1499 else [1, 2, i] for i in range(2000))))
    with pytest.raises(InputError, match="the column 'c' contains text such as 'x'"):
        read_table(csv(("a", "b", "c"), *((i * i, 2, "x" if i == 1700 else 1) for i in range(2000))))


def test_a_table_that_does_not_fit_in_memory_is_not_read(csv):
    with pytest.raises(
        DeviceError, match=r"has up to 6 lines of 3 numbers, which need 1 MB .* but --memory leaves 0 MB"
    ):
        read_table(csv(*DATA), room=100)
    assert read_table(csv(*DATA), room=200).data.shape == (5, 3)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat"])
def test_a_table_that_memory_cannot_hold_is_not_decompressed(tmp_path, name, monkeypatch):
    large = np.zeros((2000, 1000), np.uint8)
    if name == "a.npy":
        np.save(tmp_path / name, large)
    elif name == "a.npz":
        np.savez_compressed(tmp_path / name, X=large, y=np.arange(2000) % 2, other=np.zeros((3, 2_000_000)))
    else:
        scipy.io.savemat(tmp_path / name, {"X": large}, do_compression=True)
    assert read_table(tmp_path / name, var=None if name == "a.npy" else "X", room=2**25).data.shape == large.shape
    tracemalloc.start()
    with pytest.raises(DeviceError, match=rf"{name} needs? .*memory|the values of .*{name} need 18 MB .* leaves 1 MB"):
        read_table(tmp_path / name, room=2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
    if name == "a.mat":
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3 * 2**20))
        assert open_cube(tmp_path / name).shape == (1, *large.shape)
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**20))
        with pytest.raises(DeviceError, match=r"a\.mat needs more memory than it may take, or than is free"):
            open_cube(tmp_path / name)


@pytest.mark.parametrize("name", ["X", "fea", "data"])
@pytest.mark.parametrize("kind", [".npz", ".mat", "7.3"])
def test_archives(name, kind, tmp_path):
    path = tmp_path / ("a.npz" if kind == ".npz" else "a.mat")
    arrays = {name: DATA.astype(np.float32), "other": np.ones((4, 4)), "gnd": LABELS[:, None]}
    if kind == ".npz":
        np.savez(path, **arrays)
    elif kind == ".mat":
        scipy.io.savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value.T
    table = read_table(path)
    np.testing.assert_array_equal(table.data, DATA.astype(np.float32))
    assert table.stored.dtype == np.float32 and table.labels.tolist() == LABELS.tolist()
    assert is_table(path)


def test_one_array(tmp_path):
    np.save(tmp_path / "a.npy", DATA.astype(np.float32))
    table = read_table(tmp_path / "a.npy")
    assert table.stored.dtype == np.float32 and table.data.dtype == np.float64 and table.data.shape == (5, 3)
    turned = read_table(tmp_path / "a.npy", features="rows")
    np.testing.assert_array_equal(turned.data, table.data.T)


def test_columns_of_arrays_are_given_by_number(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.column_stack([DATA, LABELS]), y=LABELS[::-1])
    table = read_table(tmp_path / "a.npz", label="4", ignore=["1"])
    np.testing.assert_array_equal(table.data, DATA[:, 1:])
    assert table.names == ("column 2", "column 3") and table.labels.tolist() == LABELS.tolist()
    assert table.kept == (("column 1", tuple(DATA[:, 0])),)
    np.save(tmp_path / "a.npy", np.column_stack([DATA, LABELS]).T)
    table = read_table(tmp_path / "a.npy", features="rows", label="4")
    np.testing.assert_array_equal(table.data, DATA)
    with pytest.raises(InputError, match="contains no column that is a feature"):
        read_table(tmp_path / "a.npz", ignore=["1", "2", "3"], label="4")


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_labels_of_archives(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write = np.savez if suffix == ".npz" else lambda path, **arrays: scipy.io.savemat(path, arrays)
    write(path, X=DATA, target=LABELS, crops=LABELS[::-1], wrong=LABELS[:4])
    assert read_table(path).labels.tolist() == LABELS.tolist()
    assert read_table(path, labels_var="crops").labels.tolist() == LABELS[::-1].tolist()
    assert read_table(path, labels_var="wrong").unlabelled == "wrong is not as long as X (5 x 3)"
    with pytest.raises(InputError, match=r"has no array of numbers or texts 'crop'; it has X \(5 x 3\), target"):
        read_table(path, labels_var="crop")
    write(path, X=DATA, Y=np.eye(3)[LABELS - 1])
    assert read_table(path).labels.tolist() == LABELS.tolist()
    write(path, X=DATA, Y=DATA[:, :2])
    table = read_table(path)
    assert table.labels is None and table.notes == ("Y (5 x 2) is no vector, so it was not taken as labels",)


CLASSES = ["maize", "öl", "maize", "wheat", "öl"]


def _save_texts(path, version, **arrays):
    """A file with cells of texts (lists), matrices of characters (tuples of rows of one length) and numbers."""
    if version != "v7.3":
        cells = {
            n: np.array(a, object).reshape(-1, 1) if isinstance(a, list) else np.array(a) for n, a in arrays.items()
        }
        scipy.io.savemat(path, cells, format="4" if version == "v4" else "5", do_compression=version == "v5")
        return

    def characters(texts):
        return np.array([[ord(letter) for letter in text] for text in texts], np.uint16).T

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if isinstance(array, list):
                for i, text in enumerate(array):
                    file[f"#refs#/{name}{i}"] = characters([text]) if isinstance(text, str) else text
                    if isinstance(text, str):
                        file[f"#refs#/{name}{i}"].attrs["MATLAB_class"] = np.bytes_("char")
                references = [file[f"#refs#/{name}{i}"].ref for i in range(len(array))]
                file.create_dataset(name.replace(".", "/"), data=np.array([references], h5py.ref_dtype))
            else:
                file[name] = characters(array) if isinstance(array, tuple) else np.asarray(array).T
                file[name].attrs["MATLAB_class"] = np.bytes_("char" if isinstance(array, tuple) else "double")


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_labels_that_are_texts(version, tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    _save_texts(path, version, meas=DATA, species=CLASSES, name=["x"] * 5)
    assert read_table(path).labels is None
    assert read_table(path, labels_var="species").labels.tolist() == CLASSES
    _save_texts(path, version, meas=DATA.T, Y=CLASSES)
    assert is_table(path)
    table = read_table(path, features=None)
    assert table.labels.tolist() == CLASSES and table.data.shape == DATA.shape
    _save_texts(path, version, meas=DATA, Y=["a" * 2000, "", *CLASSES[2:]])
    assert read_table(path).labels is None  # all different: names
    assert read_table(path, labels_var="Y").labels.tolist() == ["a" * 2000, "", *CLASSES[2:]]
    monkeypatch.setattr(matlab, "MOST_TEXT", 4 * 5 * 5)
    for other in (["a" * 6, *CLASSES[1:]], [7.0, *CLASSES[1:]], ("a" * 5,)):
        _save_texts(path, version, meas=DATA, Y=other)
        assert read_table(path).labels is None
        with pytest.raises(InputError, match=r"no array of numbers or texts 'Y'; it has .*meas"):
            read_table(path, labels_var="Y")


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_names_of_features_are_no_labels(version, tmp_path):
    _save_texts(tmp_path / "a.mat", version, X=DATA.T, labels=CLASSES)
    with pytest.raises(InputError, match="labels labels 5 samples; the table is transposed, so use --features rows"):
        read_table(tmp_path / "a.mat")
    _save_texts(tmp_path / "a.mat", version, X=DATA, labels=["r", "g", "b"])
    table = read_table(tmp_path / "a.mat")
    assert table.labels is None and table.data.tolist() == DATA.tolist() and not table.notes


@pytest.mark.parametrize("version", ["v4", "v5", "v7.3"])
def test_labels_that_are_rows_of_characters(version, tmp_path):
    _save_texts(tmp_path / "a.mat", version, X=DATA, gnd=("oak  ", "beech", "oak  ", "beech", "beech"))
    assert read_table(tmp_path / "a.mat").labels.tolist() == ["oak", "beech", "oak", "beech", "beech"]


def test_texts_within_structs_of_files(tmp_path):
    path = tmp_path / "a.mat"
    _save_texts(path, "v7.3", X=DATA, **{"s.kind": CLASSES})
    assert read_table(path, labels_var="s.kind").labels.tolist() == CLASSES
    scipy.io.savemat(path, {"X": DATA, "s": {"kind": np.array(CLASSES, object)}})
    assert read_table(path, labels_var="s.kind").labels.tolist() == CLASSES


def test_several_matrices(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": DATA, "b": DATA[:, :2]})
    with pytest.raises(InputError, match=r"several matrices: a .5 x 3., b .5 x 2.; choose one with --var"):
        read_table(path)
    assert read_table(path, var="b").data.shape == (5, 2)
    with pytest.raises(InputError, match="has no numeric array 'c'"):
        read_table(path, var="c")


def test_labels_tell_that_a_table_is_transposed(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"X": DATA.T, "gnd": LABELS})
    with pytest.raises(InputError, match="gnd labels 5 samples; the table is transposed, so use --features rows"):
        read_table(path)
    np.testing.assert_array_equal(read_table(path, features="rows").data, DATA)
    table = read_table(path, features=None)
    np.testing.assert_array_equal(table.data, DATA)
    assert "features were taken to be the rows of X" in table.notes[0]
    scipy.io.savemat(path, {"X": DATA, "gnd": LABELS})
    with pytest.raises(InputError, match="transposed, so use --features columns"):
        read_table(path, features="rows")
    scipy.io.savemat(path, {"X": DATA, "gnd": LABELS[:4]})
    table = read_table(path)  # coordinates may be called y, too
    assert table.labels is None and "gnd is not as long as X (5 x 3)" in table.notes[0]


def test_what_is_an_image(tmp_path):
    for name in ("a.csv", "a.npy", "a.npz", "a.parquet", "a.tsv"):
        assert is_table(tmp_path / name)
    assert not is_table("a.tif") and not is_table("/vsizip/a.zip/b.img")
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"cube": np.ones((2, 3, 4)), "X": DATA})
    assert not is_table(path) and is_table(path, "X") and not is_table(path, "cube")
    scipy.io.savemat(path, {"Y": np.ones((4, 6)), "nRow": 2, "nCol": 3})
    assert not is_table(path)
    with pytest.raises(InputError, match="does not exist"):
        is_table(tmp_path / "absent.mat")


@pytest.mark.parametrize("beside", [{"nrow": 2, "ncol": 3}, {"faces": np.ones((2, 3, 5))}])
def test_pictures_as_rows_with_a_label_each_are_a_table(beside, tmp_path):
    pictures = np.arange(30.0).reshape(5, 6)
    scipy.io.savemat(tmp_path / "a.mat", {"fea": pictures, "gnd": LABELS, **beside})
    assert is_table(tmp_path / "a.mat", "fea" if "faces" in beside else None)
    np.testing.assert_array_equal(read_table(tmp_path / "a.mat", var="fea").data, pictures)


def test_an_image_with_a_vector_as_long_as_its_bands_stays_one(tmp_path):
    for name, side in (("V", 20), ("V", 6), ("fea", 6)):
        scipy.io.savemat(tmp_path / "a.mat", {name: np.ones((side, 6)), "nRow": 2, "nCol": 3, "label": np.ones(side)})
        assert not is_table(tmp_path / "a.mat")


def test_names_as_python_objects_in_an_archive_are_passed_over(tmp_path):
    np.savez(tmp_path / "a.npz", X=DATA, names=np.array(["a", "b", "c"], dtype=object))
    np.testing.assert_array_equal(read_table(tmp_path / "a.npz").data, DATA)
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read_table(tmp_path / "a.npz", var="names")
    names = np.array(["a", "b", "c"], dtype=object)
    np.savez(tmp_path / "a.npz", X=DATA, features=names)
    np.testing.assert_array_equal(read_table(tmp_path / "a.npz").data, DATA)
    for given in ({"X": DATA, "y": LABELS.astype(object)}, {"X": DATA.astype(object)}):
        np.savez(tmp_path / "a.npz", **given)
        with pytest.raises(InputError, match="Object arrays cannot be loaded"):
            read_table(tmp_path / "a.npz")


BAD = {
    "nan.csv": ("a,b\n1,2\nnan,3\n", "has no number in 1 of its cells .the first: sample 2, feature 'a'."),
    "hole.csv": ("a,b\n1,2\n,3\n4,\n", "has no number in 2 of its cells .the first: sample 2, feature 'a'."),
    "one.csv": ("a,b,c\n1,2,3\n", "contains 1 sample, but at least two are needed; if the features are its rows"),
    "names.csv": ("a,b,c\n", "contains 0 sample"),
    "labels.csv": ("a,label,b\n", "contains 0 sample"),
    "unnamed.csv": ("a,b,\n1,2,x\n3,5,y\n", "the column 'column 3' contains text such as 'x'"),
    "ragged.csv": ("1,2\n3\n", "row 2 has 1 cells, but the first has 2"),
    "words.csv": ("a,b\nx,y\nz,w\n", "contains no column of numbers"),
    "empty.csv": ("", "is empty"),
    "blank.csv": ("\n\n", "is empty"),
    "text.npy": ("this is no array", "cannot be read as a NumPy array"),
    "text.npz": ("this is no archive", "cannot be read as an archive"),
    "text.mat": ("this is no archive", "is not a readable MAT file"),
    "a.xlsx": ("x", "does not have the extension of a table"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(name, tmp_path):
    content, message = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_table(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(("old", "new"), [(b"(5, 3)", b"(5, 3"), (b"(5, 3)", b"(5 +3)"), (b"(5, 3)", b"(9**9,9**9)")])
def test_damaged_arrays(suffix, old, new, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 3)))
    content = (tmp_path / "a.npy").read_bytes().replace(old + b", }", (new + b", }").ljust(len(old) + 3))
    assert new in content
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    with pytest.raises(InputError, match=rf"a\{suffix} cannot be read as"):
        read_table(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("place", [30, 60, 90, -60])
def test_damaged_archives(place, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", X=DATA)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[place : place + 8] = b"\xff" * 8
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz"):
        read_table(tmp_path / "a.npz")


def test_tables_larger_than_the_memory(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10**4)})
    with pytest.raises(InputError, match=r"a\.npy cannot be read as a NumPy array"):
        read_table(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "X.npy")
    with pytest.raises(DeviceError, match=r"a\.npz needs more memory"):
        read_table(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("X", (10**6, 10**6), "f8", chunks=(1000, 1000), compression="gzip")
    with pytest.raises(InputError, match=r"a\.mat is truncated or damaged .X is declared to have 10+ elements"):
        read_table(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.ones((2, 3, 4)),
            "shape .2, 3, 4.; a table has two dimensions; a cube can be passed to rsunfold.select_feat",
        ),
        (np.ones((2, 3), complex), "contains complex128 values"),
        (np.array([["a", "b"], ["c", "d"]]), "contains <U1 values"),
        (np.array([[1, np.inf], [2, 3]]), "sample 1, feature 2"),
    ],
)
def test_bad_arrays(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.npy")


def test_options_that_do_not_fit(csv, tmp_path):
    np.save(tmp_path / "a.npy", DATA)
    for option in ({"ignore": ["4"]}, {"label": "y"}):
        with pytest.raises(UsageError, match=r"has no column '[4y]'; it has column 1, column 2, column 3"):
            read_table(tmp_path / "a.npy", **option)
    for path in (tmp_path / "a.npy", csv(*DATA)):
        with pytest.raises(
            UsageError, match=r"--labels-var names a vector of a MAT or NPZ file, but .* --label COLUMN"
        ):
            read_table(path, labels_var="y")
    with pytest.raises(UsageError, match="--features must be columns or rows, not 'lines'"):
        read_table(csv(*DATA), features="lines")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    columns = {"site": list("abcde"), "red": DATA[:, 0], "n": LABELS, "class": LABELS}
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(
        InputError, match=r"the column 'site' contains text such as 'a'; leave it out with --ignore site.$"
    ):
        read_table(path)
    table = read_table(path, ignore=["site"])
    np.testing.assert_array_equal(table.data, np.column_stack([DATA[:, 0], LABELS]))
    assert table.names == ("red", "n") and table.labels.tolist() == LABELS.tolist()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_table(path)


def test_a_column_of_parquet_that_counts_up_is_no_feature(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"a": DATA[:, 0], "ID": range(5), "flag": [True, False, True, True, False], "n": [8, 9, 10, 11, 12]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.names == ("a", "flag", "n") and table.kept == (("ID", ("0", "1", "2", "3", "4")),)
    assert table.data[:, 1].tolist() == [1, 0, 1, 1, 0]
    assert "the column 'ID' numbers the samples" in table.notes[0] and "leave it out with --ignore n" in table.notes[1]


def test_the_index_of_a_pandas_table_is_no_feature(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = pyarrow.table({"a": [1.0, 2.5, 3.0], "b": [0.5, 4.0, 1.0], "__index_level_0__": [3, 7, 9]})
    about = json.dumps({"index_columns": ["__index_level_0__"], "columns": []})
    parquet.write_table(columns.replace_schema_metadata({"pandas": about}), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.names == ("a", "b") and table.kept == (("__index_level_0__", ("3", "7", "9")),)
    assert table.notes == ("the column '__index_level_0__' is the index of the data frame, so it is not a feature",)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="Parquet files need pyarrow, which is not installed; run pip install pyarrow"):
        read_table(tmp_path / "a.parquet")


def test_writing(csv, tmp_path):
    path = csv(("id", "a", "b", "c"), *([f"s{i}", *row] for i, row in enumerate(DATA)))
    table = read_table(path, ignore=["id"])
    write_columns(tmp_path / "out.csv", table, [2, 0])
    again = read_table(tmp_path / "out.csv", ignore=["id"])
    np.testing.assert_array_equal(again.data, DATA[:, [2, 0]])
    assert again.names == ("c", "a") and again.kept == table.kept
    with pytest.raises(OutputError, match="already exists"):
        write_columns(tmp_path / "out.csv", table, [1])
    np.save(tmp_path / "a.npy", DATA.astype(np.float32))
    write_columns(tmp_path / "out.npy", read_table(tmp_path / "a.npy"), [1])
    written = np.load(tmp_path / "out.npy")
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, DATA[:, [1]].astype(np.float32))
    np.savez(tmp_path / "a.npz", X=np.column_stack([DATA, LABELS]).astype(np.float32), y=list("vwxyz"))
    write_columns(tmp_path / "out.npz", read_table(tmp_path / "a.npz", ignore=["4"]), [2, 0])
    again = read_table(tmp_path / "out.npz")
    assert again.labels.tolist() == list("vwxyz") and again.stored.dtype == np.float32
    np.testing.assert_array_equal(again.stored, DATA[:, [2, 0]].astype(np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["ignored"], LABELS[:, None])
    with pytest.raises(OutputError, match="has an unsupported extension; tables are written as"):
        write_columns(tmp_path / "out.xlsx", table, [1])
    assert not (tmp_path / "out.xlsx").exists()


def test_labels_of_a_table_without_names_are_found_again(csv, tmp_path):
    path = csv(*([*row, label] for row, label in zip(DATA, LABELS, strict=True)))
    write_columns(tmp_path / "out.csv", read_table(path, label="4"), [1])
    again = read_table(tmp_path / "out.csv")
    assert again.names == ("column 2",) and again.labels.tolist() == ["1", "1", "2", "2", "3"]


@pytest.mark.parametrize("features", ["columns", "rows"])
def test_cells_are_written_as_they_stand(features, csv, tmp_path):
    rows = [
        ("", "n", "big", "flag", "x"),
        *((i, 3 + i * i, 311042903955578226 + i, i > 2, f"{i}.50") for i in range(5)),
    ]
    table = read_table(csv(*(rows if features == "columns" else zip(*rows, strict=True))), features=features)
    write_columns(tmp_path / "out.csv", table, [1, 2, 0, 3])
    first, *_, last = (tmp_path / "out.csv").read_text().splitlines()
    assert first == ",big,flag,n,x" and last == "4,311042903955578230,True,19,4.50"
    again = read_table(tmp_path / "out.csv")
    assert again.names == ("big", "flag", "n", "x") and "numbers the samples" in again.notes[0]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a;b;c\n1,5;2,5;3,5\n2,5;3,5;4,1\n", ("a", "b", "c")),
        ("1,5;2,5;3,5\n2,5;3,5;4,1\n", ()),
        ("a b c\n1,5 2,5 3,5\n2,5 3,5 4,1\n", ("a", "b", "c")),
        ("4,5\t5,5\t10,5\n1,5\t2,5\t3,5\n2,5\t3,5\t4,1\n", None),
    ],
)
def test_decimal_commas(tmp_path, content, names):
    (tmp_path / "a.csv").write_text(content)
    table = read_table(tmp_path / "a.csv")
    if names is None:
        assert table.data[0].tolist() == [4.5, 5.5, 10.5]
    else:
        assert table.names == names
    assert table.data[-2:].tolist() == [[1.5, 2.5, 3.5], [2.5, 3.5, 4.1]]
    assert table.notes == ("decimal commas were read as points",)


@pytest.mark.parametrize("features", ["columns", "rows"])
def test_decimal_commas_of_other_columns_stay(features, tmp_path):
    """A feature is written with points: between the commas of a CSV, 1,056 may be a thousand."""
    rows = [("site", "a", "label"), ("1,5", "1,056", "0,5"), (" 7,5", "2,173", "NA")]
    text(tmp_path / "a.csv", rows if features == "columns" else zip(*rows, strict=True), ";")
    table = read_table(tmp_path / "a.csv", ignore=["site"], features=features)
    assert table.labels.tolist() == ["0.5", "NA"]  # a number, beside which NA is no class
    write_columns(tmp_path / "out.csv", table, [0])
    assert (tmp_path / "out.csv").read_text() == 'site,label,a\n"1,5","0,5",1.056\n" 7,5",NA,2.173\n'
    assert read_table(tmp_path / "out.csv", ignore=["site"]).data.tolist() == [[1.056], [2.173]]


def test_commas_that_separate_are_no_decimal_ones(tmp_path):
    for content in ("1,5\n2,5\n", "1,5\n2;7,5\n", '"B 1, nm","B; 2"\n1,5\n2,5\n'):
        (tmp_path / "a.csv").write_text(content)
        if ";7" in content:
            with pytest.raises(InputError, match="text such as '2;7'"):
                read_table(tmp_path / "a.csv")
        else:
            assert read_table(tmp_path / "a.csv").data.tolist() == [[1, 5], [2, 5]]
    (tmp_path / "a.csv").write_text('"B 1, nm";"B 2, nm"\n1;5\n2;5\n')
    assert read_table(tmp_path / "a.csv").names == ("B 1, nm", "B 2, nm")


@pytest.mark.parametrize(
    ("top", "names"),
    [
        ("# a b", ("a", "b")),
        ("#a b", ("a", "b")),
        ("# made by a program\n# a b", ("a", "b")),
        ("# made by a program\na b", ("a", "b")),
        ("# made by a program", ()),
    ],
)
def test_comments_at_the_top(tmp_path, top, names):
    (tmp_path / "a.txt").write_text(f"{top}\n1 2\n3 5\n")
    table = read_table(tmp_path / "a.txt")
    assert table.names == names and table.data.tolist() == [[1, 2], [3, 5]]


def test_what_python_alone_reads_as_a_number_is_a_word(csv):
    with pytest.raises(InputError, match="the column 'plot' contains text such as '1_1'; leave it out with"):
        read_table(csv(["plot", "b1"], ["1_1", 0.1], ["1_2", 0.2]))
    assert read_table(csv(["443_1", "490_2"], [0.1, 0.3], [0.2, 0.1])).names == ("443_1", "490_2")


def test_the_labels_that_are_asked_for_are_found_where_there_are_too_many_names(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["a/X"], file["b/crops"], file["c/other"] = np.ones((4, 9)), np.arange(9.0), np.ones((4, 9))
    monkeypatch.setattr(mat, "MOST_NAMES", 2)
    table = read_table(tmp_path / "a.mat", var="a.X", labels_var="b.crops")
    assert table.data.shape == (9, 4) and [*map(float, table.labels)] == list(range(9))
    with pytest.raises(InputError, match=r"too many structs and cells to look through; choose an array with --var"):
        read_table(tmp_path / "a.mat", labels_var="b.crops")


def test_arrays_that_lie_in_another_file(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file["X"], file["raw"] = np.ones((3, 9)), h5py.ExternalLink("nowhere.mat", "raw")
        file.create_dataset("s/ir", (2,), "i8", external=[("gone.bin", 0, 16)])
        file["s/jc"], file["s/data"], file["s"].attrs["MATLAB_sparse"] = [0, 2], [1.0, 2], np.uint64(4)
    for var in (None, "raw", "s"):
        with pytest.raises(InputError, match=rf"a.mat has {var or 'raw'} not in itself but in another file"):
            read_table(path, var=var)
    assert read_table(path, var="X").data.shape == (9, 3)


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_sparse_matrices(tmp_path, version):
    dense = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0], [0, 3, 0.5]])
    sparse, path = scipy.sparse.csc_array(dense), tmp_path / "a.mat"
    if version == "v5":
        scipy.io.savemat(path, {"fea": sparse, "gnd": [1, 1, 2, 2]})
    else:
        with h5py.File(path, "w") as file:
            group = file.create_group("fea")
            group.attrs["MATLAB_sparse"], group.attrs["MATLAB_class"] = np.uint64(4), b"double"
            group["data"], group["ir"], group["jc"] = sparse.data, sparse.indices, sparse.indptr
            file["gnd"] = np.array([[1.0, 1, 2, 2]])
    assert is_table(path)
    table = read_table(path)
    assert table.data.tolist() == dense.tolist() and table.labels.tolist() == [1, 1, 2, 2]


def test_a_sparse_graph_beside_the_table_is_left_alone(tmp_path):
    graph = scipy.sparse.csc_array((10**6, 10**6))  # far too large to be filled
    scipy.io.savemat(tmp_path / "a.mat", {"genes": DATA, "W": graph})
    np.testing.assert_array_equal(read_table(tmp_path / "a.mat").data, DATA)


@pytest.mark.parametrize(("name", "var"), [("fea", None), ("docs", "docs")])
def test_a_sparse_table_beside_another_matrix(name, var, tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {name: scipy.sparse.csc_array(DATA), "places": np.ones((5, 2))})
    np.testing.assert_array_equal(read_table(tmp_path / "a.mat", var=var).data, DATA)


@pytest.mark.parametrize(("dense", "graph"), [("M", "X"), ("X", "data")])
def test_a_sparse_graph_called_as_data_are_is_left_alone_with_a_note(dense, graph, tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {dense: DATA, graph: scipy.sparse.eye_array(5, format="csc"), "y": LABELS})
    table = read_table(tmp_path / "a.mat")
    np.testing.assert_array_equal(table.data, DATA)
    assert table.notes == (f"the sparse matrix {graph} was taken for a graph of the samples; --var {graph} reads it",)


def test_of_a_sparse_and_a_dense_table_one_has_to_be_chosen(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"X": scipy.sparse.csc_array(np.eye(5, 9)), "features": DATA})
    with pytest.raises(InputError, match="several matrices"):
        read_table(tmp_path / "a.mat")


@pytest.mark.parametrize("word", ["target", "gt", "class_id"])
def test_a_class_that_is_called_as_columns_of_labels_is_no_header(csv, word):
    lines = [(i * i % 7 + 0.5, i % 5 + 0.25, "background" if i % 2 else word) for i in range(8)]
    table = read_table(csv(*lines), label="3")
    assert table.data.shape == (8, 2) and table.labels.tolist() == [word, "background"] * 4
    named = read_table(csv((400, 410, word), *((a, b, c.replace(word, "water")) for a, b, c in lines)))
    assert named.names == ("400", "410") and named.labels.tolist() == ["water", "background"] * 4


def test_names_with_commas_are_told_as_they_can_be_given(csv):
    path = csv(('"a, b"', *"cdef"), (1.5, 2, 3, 4, 5), ("", 3, 4, 5, 7), (3.5, 1, 9, 2, 1))
    with pytest.raises(InputError, match=r"""--ignore '"a, b"'\.$"""):
        read_table(path)
    assert read_table(path, ignore=split_names('"a, b"')).names == ("c", "d", "e", "f")


def test_labels_that_are_named_twice(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"fea": np.eye(6, 3), "gnd": [1, 2, 1, 2, 1, 2]})
    with pytest.raises(UsageError, match="--label and --labels-var both say what the labels"):
        read_table(tmp_path / "a.mat", label="2", labels_var="gnd")


@pytest.mark.parametrize("features", ["columns", "rows"])
def test_arrays_are_left_as_they_are(features):
    array = np.random.default_rng(0).normal(size=(6, 8))
    array[2 if features == "rows" else slice(None), slice(None) if features == "rows" else 2] = np.nan
    before = array.copy()
    assert table_of(array, features=features).empty == (2,)
    np.testing.assert_array_equal(array, before)


def test_parquet_columns_without_numbers_or_of_decimals(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=9), "b": rng.normal(size=9), "note": pyarrow.nulls(9)}
    columns |= {"text": pyarrow.array([None] * 9, pyarrow.string()), "d": [Decimal(i) / 4 for i in range(9)]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.names == ("a", "b", "note", "text", "d") and table.empty == (2, 3)
    assert table.data[:, 4].tolist() == [i / 4 for i in range(9)]


@pytest.mark.parametrize("top", [(1, 2, 3, 4, "target"), (0, 1, 2, 3, "target")])
def test_numbers_of_columns_stay_names_beside_a_class_called_as_labels(csv, top):
    rows = [
        (*row, "x" if i % 2 else "target") for i, row in enumerate(np.random.default_rng(0).random((8, 4)).round(3))
    ]
    table = read_table(csv(top, *rows))
    assert table.data.shape == (8, 4) and table.labels.tolist() == ["target", "x"] * 4
    with pytest.raises(InputError, match="may hold the names of the columns, such as wavelengths, or a sample"):
        read_table(csv((450.1, 460.2, 471.9, 480, "target"), *rows))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a, b,,c", ("a", "b", "c")),
        ('"a, b",c', ("a, b", "c")),
        ('a,"b', ("a", '"b')),
        ('"q""r", x"y', ('q"r', 'x"y')),
        ("site\nname,b", ("site\nname", "b")),
        ("", ()),
    ],
)
def test_names_between_commas(text, names):
    assert split_names(text) == names and split_names(",".join(map(quoted_name, names))) == names
