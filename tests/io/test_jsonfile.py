"""What results are made of as JSON, whole or not at all."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from rsunfold.errors import OutputError
from rsunfold.io.jsonfile import told_by, write_json


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    value: float


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "[" * 10_000, '{"a":' * 10_000, "9" * 10_000, None])
def test_what_is_no_object_tells_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    assert told_by(tmp_path / "a.json") == {}


def test_json_takes_what_results_are_made_of(tmp_path):
    obj = {
        "nan": math.nan, "inf": np.float32(np.inf), "n": np.int64(3), "flag": np.bool_(True), 4: (1, 2.5),
        "array": np.array([[1.0, np.nan]]), "record": Record("ä", math.nan), "path": Path("a/b"), "none": None,
    }  # fmt: skip
    write_json(tmp_path / "r.json", obj)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "nan": None, "inf": None, "n": 3, "flag": True, "4": [1, 2.5],
        "array": [[1.0, None]], "record": {"name": "ä", "value": None}, "path": "a/b", "none": None,
    }  # fmt: skip


def test_json_leaves_no_file_for_an_object_it_cannot_write(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "r.json", {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(OutputError):
        write_json(path, {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
    write_json(path, {}, overwrite=True)
    assert path.read_text() == "{}\n"
