"""rsunfold explain detect-ir."""

import json
import shutil

import numpy as np
import pytest
import rasterio

EXPLAIN = ("explain", "detect-ir")


def test_several_images(call, scene, network, tmp_path):
    shutil.copy(scene, tmp_path / "other.png")
    result = call(*EXPLAIN, scene, tmp_path / "other.png", "-o", tmp_path / "out", *network, "--window", "8,8,40")
    assert "2 of 2 images explained (l-rpcanet)" in result.stdout and f"{scene}: 2 stages" in result.stderr
    for name in ("scene", "other"):
        assert len(json.loads((tmp_path / "out" / f"{name}_explain.json").read_text())["stages"]) == 2
        with rasterio.open(tmp_path / "out" / f"{name}_explain.png") as ds:
            assert (ds.width, ds.height) == (1280, 560) and ds.read().std() > 10


@pytest.mark.parametrize("command", ["explain", "detect"])
def test_what_the_file_does_not_say_of_itself_is_told(call, network, write_image, tmp_path, command):
    data = np.random.default_rng(0).normal(20, 1, (40, 40)).astype(np.float32)
    data[:5] = -9999
    scene = write_image(tmp_path / "warm.tif", data)
    words = EXPLAIN if command == "explain" else ("detect-ir",)
    result = call(*words, scene, "-o", tmp_path / "out", *network)
    assert "many pixels hold -9999, far from all others, and were taken to have no data" in result.stderr
    name = "warm_explain.json" if command == "explain" else "warm_summary.json"
    assert "-9999" in json.loads((tmp_path / "out" / name).read_text())["notes"][0]


def test_one_broken_image_does_not_stop_the_others(call, scene, network, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = call(
        *EXPLAIN, tmp_path / "broken.png", scene, "-o", tmp_path / "out", *network, "--window", "0,0,16", code=7
    )
    assert "1 of 2 inputs failed; the results of the others were written" in result.stderr
    assert (tmp_path / "out" / "scene_explain.json").exists()


def test_nothing_is_overwritten_unasked(fails, scene, network, tmp_path):
    (tmp_path / "scene_explain.json").write_text("precious")
    assert "already exists" in fails(4, *EXPLAIN, scene, "-o", tmp_path, *network)
    assert (tmp_path / "scene_explain.json").read_text() == "precious"
    assert not (tmp_path / "scene_explain.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "top-hat"), 2, "top-hat is a classical method and has no stages to show"),
        (("--model", "rpcanet-pp"), 5, "no weights are shipped for rpcanet-pp"),
        (("--window", "1,2"), 2, "--window takes three numbers, ROW,COL,SIZE, not '1,2'"),
        (("--window", "1,2,-3"), 2, "--window takes non-negative integers"),
        (("--window", "1,2,0"), 2, "a size from 1 to 512"),
        (("--window", "60,0,20"), 2, "is not inside"),
        (("--scale", "1"), 2, "--scale takes two numbers"),
    ],
)
def test_wrong_options(words, code, message, fails, scene, network, tmp_path):
    options = () if "--model" in words else network
    assert message in fails(code, *EXPLAIN, scene, "-o", tmp_path / "out", *options, *words)


def test_the_stages_of_anomalies_are_shown_by_another_command(fails, scene, tmp_path):
    assert "use detect-anomaly --stages" in fails(2, "explain", "detect-anomaly", scene, "-o", tmp_path / "out")
