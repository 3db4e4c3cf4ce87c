"""One band, scale and variable for all that reads infrared images: detect-ir, evaluate and calibrate."""

import json

import numpy as np
import pytest
import rasterio

import rsunfold
from rsunfold.weights import read_record

from .conftest import of_one_model

EVALUATE = ("evaluate", "detect-ir")
KELVIN = ("--scale", "280,320")


@pytest.fixture
def report(call, tmp_path):
    """The JSON report of an evaluation."""

    def run(*words):
        call(*EVALUATE, *words, "--json", tmp_path / "report.json", "--overwrite")
        return of_one_model(json.loads((tmp_path / "report.json").read_text()))

    return run


def counts(run):
    return [(row["image"], row["tp"], row["fp"], row["fn"]) for row in run["per_image"]]


@pytest.mark.parametrize("more", [(), ("--resize", 64), ("--corrupt", "gaussian:0.02"), ("--ablate", "stages")])
def test_figures_are_those_of_the_same_gray(kelvin, scenes, report, network, more):
    reading = ("--band", 2, *KELVIN)
    found, wanted = report("--data", kelvin(), *network, *reading, *more), report("--data", scenes, *network, *more)
    found, wanted = found.get("runs", [found]), wanted.get("runs", [wanted])
    assert [counts(run) for run in found] == [counts(run) for run in wanted]
    assert found[0]["reading"] == {"band": 2, "scale": [280, 320], "var": None, "scale_of_weights": False}
    assert wanted[0]["reading"] == {"band": None, "scale": None, "var": None, "scale_of_weights": False}


def test_what_has_to_be_chosen_can_be(kelvin, scenes, fails, report, network):
    assert "choose one with --band." in fails(3, *EVALUATE, "--data", kelvin(), *network)
    folder = kelvin(".mat")
    assert "choose one with --var NAME" in fails(3, *EVALUATE, "--data", folder, *network)
    found = report("--data", folder, *network, "--var", "tir", *KELVIN)
    assert counts(found) == counts(report("--data", scenes, *network))
    assert "must be 1 to 2, not 3" in fails(2, *EVALUATE, "--data", kelvin(".img"), *network, "--band", 3)
    assert "two numbers that differ" in fails(2, *EVALUATE, "--data", folder, *network, "--scale", "5,5")


def test_which_pixels_of_predictions_count_is_up_to_the_band(kelvin, fails, report, scenes, tmp_path, write_image):
    for path in (scenes / "images").iterdir():
        alarm = np.zeros((72, 72), np.uint8)
        alarm[:10] = 255
        write_image(tmp_path / f"{path.stem}.png", alarm)
    words = ("--predictions", tmp_path, "--masks", scenes / "masks")
    images = ("--images", kelvin() / "images")
    assert sum(row["tp"] + row["fp"] for row in report(*words, *images)["per_image"]) == 0
    found = report(*words, *images, "--band", 2)
    assert sum(row["tp"] + row["fp"] for row in found["per_image"]) == 6 * 720 and found["reading"]["band"] == 2
    assert report(*words)["reading"] is None
    assert "--band applies to images; add --images" in fails(2, *EVALUATE, *words, "--band", 2)


def test_calibrated_weights_bring_their_scale(kelvin, scenes, call, report, tiny, tmp_path):
    folder, mine, plain = kelvin(), tmp_path / "mine.safetensors", tmp_path / "plain.safetensors"
    words = ("weights", "calibrate", tiny.path, "--device", "cpu")
    call(*words, "--data", scenes, "-o", plain)
    said = call(*words, "--data", folder, "-o", mine, "--band", 2, *KELVIN).stdout
    read_as = "gray in about [0, 1]: 280 to 320 as 0 to 1, band 2"
    assert f"images read as {read_as}" in said
    record = read_record(mine)
    assert record.scale == (280, 320) and record.scaling == read_as
    assert record.rule == read_record(plain).rule and read_record(plain).scale is None
    assert "280,320, unless --scale is given" in " ".join(call("weights", "info", mine).stdout.split())
    assert "none: each image has its own" in " ".join(call("weights", "info", plain).stdout.split())

    use = ("--band", 2, "--weights", mine, "--device", "cpu")
    default, given = report("--data", folder, *use), report("--data", folder, *use, *KELVIN)
    other = report("--data", folder, *use, "--scale", "270,330")
    assert counts(default) == counts(given) != counts(other)
    assert default["reading"]["scale_of_weights"] and default["reading"]["scale"] == [280, 320]
    assert default["notes"] == ["the scale 280 to 320 is that of the weights mine; --scale takes another"]
    assert given["notes"] == []
    told = "the weights mine were made for the scale 280 to 320, not for 270 to 330"
    assert other["notes"] == [told]

    again = call("weights", "calibrate", mine, "--data", folder, "--band", 2, "-o", tmp_path / "b.safetensors")
    assert "is that of the weights mine" in again.stderr
    assert read_record(tmp_path / "b.safetensors").scale == (280, 320)

    image = sorted((folder / "images").iterdir())[0]
    call("detect-ir", image, "-o", tmp_path / "given", *use, *KELVIN, "--no-quicklook")
    loud = call("detect-ir", image, "-o", tmp_path / "other", *use, "--scale", "270,330", "--no-quicklook")
    assert loud.stderr.count(told) == 1
    for command in (("detect-ir", "--no-quicklook"), ("explain", "detect-ir")):
        assert "is that of the weights mine" in call(*command, image, "-o", tmp_path / "own", *use).stderr
    names = ("own/*_explain", "own/*_summary", "given/*_summary", "other/*_summary")
    explained, own, given, other = (json.loads(next(tmp_path.glob(f"{name}.json")).read_text()) for name in names)
    assert {**own["scale"], "how": "given"} == given["scale"] and own["scale"]["how"] == "of the weights"
    assert explained["scale"] == own["scale"] and other["notes"] == [told] and given["notes"] == []
    with rasterio.open(image) as ds:
        found = rsunfold.detect_ir(ds.read(2), detector=rsunfold.load_detector(weights=mine, device="cpu"))
        again = rsunfold.detect_ir(ds.read(2), weights=mine, device="cpu", scale=[280, 320])
    assert found.summary["scale"] == own["scale"] and again.summary["notes"] == []
    with rasterio.open(tmp_path / "own" / f"{image.stem}_score.tif") as ds:
        np.testing.assert_array_equal(found.score, ds.read(1))
