"""``--drop-bands`` of the evaluations of cubes: the figures are those of a cube that never had the bands."""

import json

import numpy as np
import pytest

DENOISING = ("denoise-hsi", "--sigma", 30, "--model", "fasthyde")
ANOMALIES = ("detect-anomaly", "--model", "rx")
FEATURES = ("select-features", "--model", "css", "--bands", 2, "--train-share", 0.3, "--repeats", 2)


@pytest.fixture
def cubes(tmp_path, write_image):
    """Folders ``whole`` and ``cut`` with a cube of 10 bands and the same without its second and last, which are wild,
    and a folder ``truth``."""
    rng = np.random.default_rng(3)
    shares = rng.random((3, 24, 20)) ** 3
    cube = (np.einsum("bk,krc->brc", rng.random((10, 3)), shares) + rng.normal(0, 0.01, (10, 24, 20))).astype("f4")
    cube[[1, 9]] = 40 * rng.random((2, 24, 20))
    for name, data in (("whole", cube), ("cut", np.delete(cube, [1, 9], axis=0)), ("truth", shares.argmax(0) == 0)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "scene.tif", data.astype(np.uint8) if name == "truth" else data)
    write_image(tmp_path / "classes.tif", (1 + shares.argmax(0)).astype(np.uint8))
    return tmp_path


def words_of(command, folder):
    return {
        "denoise-hsi": ("--clean", folder / "scene.tif"),
        "detect-anomaly": ("--scenes", folder, "--masks", folder.parent / "truth"),
        "select-features": ("--image", folder / "scene.tif", "--labels", folder.parent / "classes.tif"),
    }[command]


def figures(run):
    return {key: run[key] for key in ("quality", "figures", "oa", "kappa", "features") if key in run}


@pytest.mark.parametrize("command", [DENOISING, ANOMALIES, FEATURES], ids=lambda words: words[0])
def test_bands_that_are_left_out(command, cubes, call, fails):
    def runs(folder, *more):
        report = folder / "report.json"
        call("evaluate", *command, *words_of(command[0], folder), *more, "--json", report, "--overwrite")
        return [figures(run) for run in json.loads(report.read_text())["runs"]]

    wanted = runs(cubes / "cut")
    assert runs(cubes / "whole", "--drop-bands", "2,10") == wanted != runs(cubes / "whole")
    words = ("evaluate", *command, *words_of(command[0], cubes / "whole"), "--drop-bands", 11)
    assert "--drop-bands 11 is not within the 10 bands of" in fails(2, *words)


def test_a_result_is_compared_without_them(cubes, call, fails, tmp_path):
    whole, report = cubes / "whole" / "scene.tif", tmp_path / "report.json"
    call("evaluate", "denoise-hsi", "--truth", whole, "--restored", whole, "--drop-bands", "2,10", "--json", report)
    run = json.loads(report.read_text())["runs"][0]
    assert run["bands"] == [1, 3, 4, 5, 6, 7, 8, 9] and run["divided_by"] < 10
    words = ("evaluate", "select-features", "--data", "a.csv", "--drop-bands", 2)
    assert "--drop-bands applies to --image" in fails(2, *words)
