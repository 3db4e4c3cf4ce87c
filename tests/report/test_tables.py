import io
import math
import subprocess
import sys

import pytest
from rich.console import Console

from rsunfold import report


def test_table_has_every_column_and_dashes_for_what_is_missing():
    rows = [
        {"model": "l-rpcanet", "IoU": 0.712345678, "images": 12},
        {"model": "top-hat", "IoU": math.nan, "note": 1e-6},
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(report.table(rows, title="validation"))
    text = out.getvalue()
    assert "validation" in text and "0.7123" in text and "0.71235" not in text and "1e-06" in text
    cells = [[c.strip() for c in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    assert cells == [["l-rpcanet", "0.7123", "12", "–"], ["top-hat", "–", "–", "1e-06"]]


def printed(rows, width):
    out = io.StringIO()
    Console(file=out, width=width).print(report.table(rows))
    return out.getvalue()


@pytest.mark.parametrize("width", range(45, 130, 7))
def test_a_narrow_terminal_gets_every_number_whole_and_its_line_named(width):
    figures = {"IoU": 0.123456, "false/Mpx": 1234.5, "pixels": 987654, "missed": None}
    rows = [
        {"model": name, "set": "all", **figures, "needs": "bands that share a subspace"} for name in ("rx", "top-hat")
    ]
    text = printed(rows, width)
    assert "…" not in text and "missed" not in text and max(map(len, text.splitlines())) <= width
    for value in ("0.1235", "1234", "987654", "subspace"):  # what text is folded at is a space
        lines = [line for line in text.splitlines() if value in line]
        assert len(lines) == 2
    parts = text.count("┏")
    assert text.count("│ rx      │ all") == text.count("│ top-hat │ all") == parts
    assert (parts == 1) == (width >= 74)


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_names_that_are_longer_than_the_terminal_leave_room_for_every_number(width):
    name = "/archive/a-rather-long-folder-name-as-on-clusters/experiment-2024-05-01/predictions"
    text = printed([{"model": name, "set": "all", **{f"n{k}": 1000.5 + k for k in range(9)}}], width)
    assert all(f"{1000 + k} │" in text or f"{1001 + k} │" in text for k in range(9)) and "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert printed([{"": 1}], width)


def test_importing_report_loads_neither_matplotlib_nor_torch():
    code = "import sys, rsunfold.report; print(sorted({'matplotlib', 'torch', 'rich.table'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
