"""Images in folders, in the order in which a person would count them."""

import os

import pytest

from rsunfold.errors import InputError, UsageError
from rsunfold.io import open_cube
from rsunfold.io.folders import images_in, inputs_in, natural


def test_numbers_count():
    names = ["x10", "x9", "x", "x9b", "1", "x1", "x²", "10", "2"]
    assert sorted(names, key=natural) == ["1", "2", "10", "x", "x1", "x9", "x9b", "x10", "x²"]


def test_images_by_stem(tmp_path):
    for name in ("b10.PNG", "b9.tif", "a.hdr", "a.img", ".hidden.png", "notes.txt", "b9.tif.aux.xml"):
        (tmp_path / name).touch()
    assert list(images_in(tmp_path).items()) == [
        ("a", tmp_path / "a.hdr"),
        ("b9", tmp_path / "b9.tif"),
        ("b10", tmp_path / "b10.PNG"),
    ]


def test_two_images_of_one_name(tmp_path):
    for name in ("a.png", "a.tif"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"contains both a\.png and a\.tif; give one of them"):
        images_in(tmp_path)


def test_two_images_of_one_name_where_case_does_not_count(tmp_path, monkeypatch):
    for name in ("a.png", "A.tif"):
        (tmp_path / name).touch()
    monkeypatch.setattr("rsunfold.io.names.FOLDS", False)
    assert set(images_in(tmp_path)) == {"a", "A"}
    monkeypatch.setattr("rsunfold.io.names.FOLDS", True)
    with pytest.raises(InputError, match=r"contains both A\.tif and a\.png; give one of them"):
        images_in(tmp_path)


def test_what_is_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"the folder .*absent cannot be read"):
        images_in(tmp_path / "absent")


def test_folders_and_pipes_are_no_images(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.tif").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "c.tif")
        with pytest.raises(InputError, match=r"c\.tif is not a regular file; pipes and devices"):
            open_cube(tmp_path / "c.tif")
    assert list(images_in(tmp_path)) == ["a"]
    with pytest.raises(InputError, match="the name of the image is empty"):
        open_cube("")
    with pytest.raises(UsageError, match="standard input cannot be read"):
        open_cube("-")


def test_a_summary_that_is_nested_without_end_is_none(tmp_path):
    (tmp_path / "a_denoised.tif").touch()
    (tmp_path / "a_summary.json").write_text("[" * 10_000)
    assert list(inputs_in(tmp_path)) == ["a_denoised"]


def test_results_are_no_inputs(tmp_path):
    """They are images all the same: where masks are asked for, a mask that was found is one."""
    for name in ("a.png", "a_mask.tif", "a_score.tif", "a_summary.json", "b_mask.tif"):
        (tmp_path / name).touch()
    assert list(inputs_in(tmp_path)) == ["a", "b_mask"]
    assert list(images_in(tmp_path)) == ["a", "a_mask", "a_score", "b_mask"]
