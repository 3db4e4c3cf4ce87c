"""Rankings in files: what can be read, and which features of an input they are."""

import json

import numpy as np
import pytest

from rsunfold.errors import InputError, UsageError
from rsunfold.infer.features.given import GivenRanking
from rsunfold.infer.features.run import Options, select_file
from rsunfold.infer.features.select import Wanted
from rsunfold.infer.features.source import ImageBands, TableColumns
from rsunfold.io.table import table_of

GIB = 2**30


def report(**entries):
    """Of select-features, as far as a ranking is read from it."""
    return json.dumps({"ranking_indices_zero_based": [0, 2], **entries})


@pytest.fixture
def source():
    """Eight features, of which the second is constant."""
    X = np.random.default_rng(0).normal(size=(20, 8))
    X[:, 1] = 3
    return TableColumns(table_of(X), GIB)


@pytest.mark.parametrize(
    "text", ["8\n1\n3\n", " 8, 1; 3,\n2", "\ufeff8 1\r\n3", "8.000000000000000000e+00\n1.0\n3.0\n"]
)
def test_numbers_are_read_as_they_are_written(text, source, tmp_path):
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8", newline="")
    order = GivenRanking(tmp_path / "mine.txt").within(source, 3).order
    assert np.array(source.inside)[order].tolist() == [7, 0, 2]


def test_rankings_of_select_features_are_read(write, ranker, tmp_path):
    path = write("a.tif")
    done = select_file(str(path), tmp_path, "a", ranker, Wanted(count=4), Options(picture=False))
    with ImageBands(str(path), room=GIB) as bands:
        for name in ("a_ranking.json", "a_ranking.csv"):
            order = GivenRanking(tmp_path / name).within(bands, 6).order
            assert np.array(bands.inside)[order].tolist() == done.ranking[:6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.txt is empty; --ranking takes "),
        ("band\n3\n", "mine.txt holds 'band', which is no number from 1; --ranking takes "),
        ("2 0 1", "holds '0', which is no number from 1"),
        ("2 1.5", "holds '1.5', which is no number from 1"),
        ("2 inf", "holds 'inf', which is no number from 1"),
        ("2 1 2", "mine.txt ranks number 2 twice"),
        ("{}", "is no ranking of select-features, or is damaged; --ranking takes "),
        ("rank,index,band\n", "is no ranking of select-features, or is damaged"),
        (report(bands=5, ranking_indices_zero_based=[0, -1]), "is no ranking of select-features"),
    ],
)
def test_what_is_no_ranking_is_refused(text, message, tmp_path):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        GivenRanking(tmp_path / "mine.txt")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "mine.npy").write_bytes(b"\x93NUMPY")
    for name, why in (("mine.npy", "not UTF-8"), ("none.txt", "No such file")):
        with pytest.raises(InputError, match=f"the ranking .*{name} cannot be read .{why}"):
            GivenRanking(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("3 9", InputError, "ranks feature 9, but .* has only 8"),
        ("3 2", InputError, r"ranks feature 2 of .*, which takes no part .constant.; remove it from the ranking"),
        ("3", UsageError, "ranks 1 of the 2 features that --features asks for; ask for fewer"),
        (
            json.dumps({"bands": 8, "ranking_indices_zero_based": [0, 2]}),
            InputError,
            "ranks bands, but .* has features",
        ),
        (
            json.dumps({"features": 9, "ranking_indices_zero_based": [0, 2]}),
            InputError,
            "ranks 9 features, but .* has 8",
        ),
    ],
)
def test_rankings_that_do_not_fit_are_refused(text, error, message, source, tmp_path):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(error, match=message):
        GivenRanking(tmp_path / "mine.txt").within(source, 2)


def test_features_that_are_not_asked_for_may_take_no_part(source, tmp_path):
    (tmp_path / "mine.txt").write_text("3 1 2")
    assert GivenRanking(tmp_path / "mine.txt").within(source, 2).order.tolist() == [1, 0]
