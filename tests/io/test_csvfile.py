"""CSV files, to the byte: what reads them is not ours."""

import math

import numpy as np
import pytest

from rsunfold.errors import ExistsError
from rsunfold.io.csvfile import write_rows

CELLS = [
    ("grün, rot", "'say \"no\"'", "nan"),
    (None, math.nan, np.float32("nan")),
    (7, True, np.int64(-3)),
    (1 / 3, 1e22, -0.0),
    (np.float64(2 / 3), np.float32(0.1), math.inf),
    (123456789012.0, 1e-7, 5.0),
]


@pytest.mark.parametrize(
    ("digits", "reals"),
    [
        (None, ["0.3333333333333333,1e+22,-0.0", "0.6666666666666666,0.1,inf", "123456789012.0,1e-07,5.0"]),
        (9, ["0.333333333,1e+22,-0", "0.666666667,0.100000001,inf", "1.23456789e+11,1e-07,5"]),
        (7, ["0.3333333,1e+22,-0", "0.6666667,0.1,inf", "1.234568e+11,1e-07,5"]),
    ],
)
def test_every_byte(digits, reals, tmp_path):
    write_rows(tmp_path / "a.csv", ["a", "b c", "d,e"], iter(CELLS), digits=digits)
    lines = ['a,b c,"d,e"', '"grün, rot","\'say ""no""\'",nan', ",,", "7,True,-3", *reals]
    assert (tmp_path / "a.csv").read_bytes() == ("\n".join(lines) + "\n").encode()


def test_a_file_that_exists_is_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(ExistsError, match="already exists"):
        write_rows(path, ["a"], [])
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"] and path.read_text() == "mine"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_rows(tmp_path / "a.csv", ["a"], ([1 / n] for n in (1, 0)))
    assert not any(tmp_path.iterdir())
