"""--table: what a batch has found, in two tables."""

import csv

import numpy as np
import pytest

TASKS = {"detect-ir": ("top-hat", "targets"), "detect-anomaly": ("rx", "anomalies")}


@pytest.fixture(params=TASKS)
def batch(request, write_image, tmp_path):
    """(command with its inputs, noun of what is found): frames 2 and 10 with bright spots, 11 broken."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in (2, 10):
        image = rng.integers(90, 110, (1 if request.param == "detect-ir" else 4, 40, 40), np.uint8)
        for spot in range(number // 2):
            image[:, 4 + 6 * spot, 20] = 250 - 40 * np.arange(len(image))
        write_image(tmp_path / f"in/f_{number}.tif", image)
    (tmp_path / "in/f_11.tif").write_bytes(b"II*\0")
    model, noun = TASKS[request.param]
    return (request.param, tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--no-quicklook"), noun


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_what_every_image_has(batch, call, tmp_path):
    (command, noun), table = batch, tmp_path / "all.csv"
    assert "1 of 3 inputs failed" in call(*command, "--table", table, code=7).stderr
    every = [row for n in (2, 10) for row in read(tmp_path / f"out/f_{n}_{noun}.csv")]
    assert [{k: v for k, v in row.items() if k != "input"} for row in read(table)] == every != []
    images = read(tmp_path / "all_images.csv")
    assert [row["image"] for row in images] == ["f_2.tif", "f_10.tif", "f_11.tif"]
    for row in images[:2]:
        mine = [target for target in read(table) if target["input"] == row["input"]]
        assert int(row[noun]) == len(mine) and row["error"] == ""
    assert images[2][noun] == "" and "f_11.tif" in images[2]["error"]


def test_a_continued_batch_makes_its_tables_anew_but_no_others(batch, call, fails, tmp_path):
    command, table = batch[0], tmp_path / "all.csv"
    call(*command, "--table", table, code=7)
    before = table.read_bytes()
    table.write_bytes(before.splitlines(keepends=True)[0])
    call(*command, "--skip-existing", "--table", table, code=7)
    assert table.read_bytes() == before
    assert "all.csv already exists" in fails(4, *command, "--table", table)
    table.write_text("mine,too\n")
    assert "all.csv already exists" in fails(4, *command, "--skip-existing", "--table", table)
    assert table.read_text() == "mine,too\n"


def test_a_table_is_a_csv_file_and_found_before_the_work(batch, fails, tmp_path):
    assert "ends in .csv" in fails(2, *batch[0], "--table", tmp_path / "all.xlsx")
    (tmp_path / "all_images.csv").write_text("mine\n")
    assert "all_images.csv already exists" in fails(4, *batch[0], "--table", tmp_path / "all.csv")
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in fails(4, *batch[0], "--table", tmp_path / "file/all.csv")
    assert not (tmp_path / "out").exists()


def test_a_batch_that_fails_altogether_has_its_reasons_in_the_table(batch, call, tmp_path):
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"II*\0")
    call(*batch[0], "--table", tmp_path / "all.csv", code=7)
    assert read(tmp_path / "all.csv") == []
    assert all(row["image"] in row["error"] for row in read(tmp_path / "all_images.csv"))


def test_a_table_is_no_result_of_its_own_batch(batch, fails, tmp_path):
    command, noun = batch
    table = tmp_path / f"out/f_2_{noun}.csv"
    assert "which is a result of one of the images" in fails(2, *command, "--overwrite", "--table", table)
    assert not table.exists()


def test_results_of_the_first_release_have_a_table_too(batch, call, tmp_path):
    command = batch[0]
    call(*command, code=7)
    for path in (tmp_path / "out").glob("*.csv"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        keep = [n for n, name in enumerate(rows[0]) if name not in ("image", "acquired")]
        path.write_text("".join(",".join(row[n] for n in keep) + "\n" for row in rows))
    call(*command, "--skip-existing", "--table", tmp_path / "all.csv", code=7)
    assert {row["image"] for row in read(tmp_path / "all.csv")} == {"f_2.tif", "f_10.tif"}
