"""rsunfold detect-ir: one image and many, and everything that a user can get wrong."""

import csv
import json
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from rsunfold.simulate.infrared import infrared_scene

KINDS = ("score.tif", "mask.tif", "targets.geojson", "targets.csv", "quicklook.png", "summary.json")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def outputs(*stems, kinds=KINDS):
    return sorted(f"{s}_{k}" for s in stems for k in kinds)


def test_one_image(call, scene, network, tiny, tmp_path):
    out = tmp_path / "out"
    result = call("detect-ir", scene, "-o", out, *network)
    assert names(out) == outputs("scene")
    summary = json.loads((out / "scene_summary.json").read_text())
    assert summary["targets"] > 0 and summary["threshold"] == tiny.threshold and summary["input"] == str(scene)
    assert result.stdout == f"{summary['targets']} targets in 1 image (l-rpcanet); results are in {out}\n"
    assert result.stderr.startswith(f"{scene}: {summary['targets']} targets, ")
    with (out / "scene_targets.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == summary["targets"]


def test_the_default_weights_are_the_shipped_ones(call, scene, shipped, tmp_path):
    call("detect-ir", scene, "-o", tmp_path / "out", "--device", "cpu", "--no-quicklook")
    summary = json.loads((tmp_path / "out" / "scene_summary.json").read_text())
    assert (summary["model"], summary["weights"]) == ("l-rpcanet", "tiny")


def test_options_reach_the_result(call, scene, network, tmp_path):
    out = tmp_path / "out"
    call(
        *("detect-ir", scene, "-o", out, *network, "--threshold", "0.25", "--scale", "10,240", "--min-area", "3"),
        *("--stages", "--no-quicklook", "--envi", "--band", "1", "--memory", "4GB", "--threads", "1"),
    )
    rasters = [f"{k}.{s}" for k in ("score", "mask", "stages") for s in ("img", "hdr", "img.aux.xml")]
    assert names(out) == outputs("scene", kinds=[*rasters, "targets.geojson", "targets.csv", "summary.json"])
    summary = json.loads((out / "scene_summary.json").read_text())
    assert (summary["threshold"], summary["min_area_px"]) == (0.25, 3)
    assert (summary["scale"]["low"], summary["scale"]["high"]) == (10, 240)
    with (out / "scene_targets.csv").open(newline="") as file:
        assert min(int(line["area_px"]) for line in csv.DictReader(file)) >= 3


def test_a_pattern_a_folder_and_a_file_named_twice(call, scenes, scene, tmp_path):
    images = sorted((scenes / "images").iterdir())
    stems = [p.stem for p in images]
    for inputs in ([str(scenes / "images" / "*.png")], [scenes / "images"], [*images, images[0]]):
        out = tmp_path / f"out{len(inputs)}{inputs[0] == scenes / 'images'}"
        result = call("detect-ir", *inputs, "-o", out, "--model", "top-hat", "--no-quicklook")
        assert names(out) == outputs(*stems, kinds=[k for k in KINDS if k != "quicklook.png"])
        found = [int(line.split(": ")[1].split()[0]) for line in result.stderr.splitlines()]
        some = sum(map(bool, found))
        assert (sum(found), some, len(stems)) == (1, 1, 6) and "1 target in 1 of 6 images (top-hat)" in result.stdout
        assert len(result.stderr.splitlines()) == len(stems)


def test_frames_come_in_their_natural_order(call, scene, tmp_path):
    frames = tmp_path / "frames"
    (frames / "folder.png").mkdir(parents=True)
    for number in (10, 9, 1):
        (frames / f"f{number}.png").write_bytes(scene.read_bytes())
    result = call("detect-ir", frames / "*.png", "-o", tmp_path / "out", "--model", "top-hat", "--no-quicklook")
    order = [line.split(":")[0].rsplit("/", 1)[1] for line in result.stderr.splitlines()]
    assert order == ["f1.png", "f9.png", "f10.png"]


def test_a_stack_of_frames(call, fails, network, write_image, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    frames = np.stack([infrared_scene(64, 72, targets=1, seed=n).image for n in range(3)])
    stack, second = write_image(tmp_path / "v.tif", frames), write_image(tmp_path / "second.tif", frames[1])
    words = (*network, "--scale", "0,1", "--no-quicklook")
    result = call("detect-ir", stack, "-o", out, *words, "--band", "all")
    kinds = [kind for kind in KINDS if "quicklook" not in kind]
    assert names(out) == outputs("v_b001", "v_b002", "v_b003", kinds=kinds)
    assert f"{stack}, band 2 of 3: " in result.stderr and " 3 images (l-rpcanet)" in result.stdout
    call("detect-ir", second, "-o", alone, *words)
    with rasterio.open(out / "v_b002_score.tif") as one, rasterio.open(alone / "second_score.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
    with (out / "v_b002_targets.csv").open(newline="") as file:
        assert {line["image"] for line in csv.DictReader(file)} == {"v_b002"}
    again = call("detect-ir", stack, "-o", out, *words, "--band", "2,3", "--skip-existing")
    assert "nothing was left to do (l-rpcanet), 2 skipped; results are in" in again.stdout
    fails(2, "detect-ir", stack, "-o", out, *words, "--band", "4-", "--overwrite")


def test_existing_results(call, fails, scene, tmp_path):
    words = ("detect-ir", scene, "-o", tmp_path / "out", "--model", "top-hat", "--no-quicklook")
    call(*words)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    message = fails(4, *words)
    assert "scene_score.tif already exists; choose another name or pass --overwrite" in message
    result = call(*words, "--skip-existing")
    assert (
        "skipped, it already has results" in result.stderr
        and "nothing was left to do (top-hat), 1 skipped; results are in" in result.stdout
    )
    other = fails(4, *(w if w != "top-hat" else "mpcm" for w in words), "--skip-existing")
    assert "scene_summary.json was made with top-hat, not mpcm; choose another folder, or pass --overwrite." in other
    more = fails(4, *words[:-1], "--skip-existing")
    assert "scene_summary.json exists but scene_quicklook.png does not: it was made with other options" in more
    envi = fails(4, *words, "--envi", "--skip-existing")
    assert "scene_score.img does not: it was made without --envi; do that again, choose another folder" in envi
    lower = fails(4, *words, "--threshold", 0.1, "--skip-existing")
    assert "scene_summary.json was made with --threshold at the default, not at 0.1; choose another folder" in lower
    summary = tmp_path / "out" / "scene_summary.json"
    summary.rename(tmp_path / "kept")
    assert "scene_score.tif already exists, but is no complete result of this image" in fails(
        4, *words, "--skip-existing"
    )
    (tmp_path / "kept").rename(summary)
    namesake = tmp_path / "elsewhere" / scene.name
    namesake.parent.mkdir()
    namesake.write_bytes(scene.read_bytes())
    assert "1 skipped" in call(*(namesake if w == scene else w for w in words), "--skip-existing").stdout  # a copy
    namesake.write_bytes(scene.read_bytes() + b"0")
    message = fails(4, *(namesake if w == scene else w for w in words), "--skip-existing")
    assert f"scene_summary.json was made from {scene}, not from {namesake}; choose" in message
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    call(*words, "--overwrite")
    assert all(p.stat().st_mtime_ns > before[p] for p in (tmp_path / "out").iterdir())
    assert "contradict each other" in fails(2, *words, "--overwrite", "--skip-existing")


def test_no_input_of_a_batch_is_overwritten(fails, scene, network, tmp_path):
    image, truth = tmp_path / "1.tif", tmp_path / "1_mask.tif"
    for path in (image, truth):
        path.write_bytes(Path(scene).read_bytes())
    before = truth.read_bytes()
    for names in ([str(tmp_path)], [image, truth]):
        text = fails(4, "detect-ir", *names, "-o", tmp_path, "--model", "top-hat", "--overwrite")
        assert f"{truth} would overwrite the input {truth}" in text
    assert truth.read_bytes() == before and not list(tmp_path.glob("1_mask_*"))


def test_what_replacing_would_remove_is_no_input_either(fails, scene, tmp_path):
    for name in ("x.tif", "x_mask.img"):
        (tmp_path / name).write_bytes(Path(scene).read_bytes())
    words = (tmp_path / "x.tif", tmp_path / "x_mask.img", "-o", tmp_path, "--model", "top-hat", "--overwrite")
    assert "x_mask.img would overwrite the input" in fails(4, "detect-ir", *words)
    assert (tmp_path / "x_mask.img").exists()


@pytest.mark.parametrize(("data", "header"), [("s_mask.dat", "s_mask.dat.hdr"), ("s_mask.dat", "s_mask.hdr")])
def test_an_envi_image_in_the_folder_keeps_its_header(data, header, fails, scene, tmp_path):
    (tmp_path / data).write_bytes(bytes(12))
    (tmp_path / header).write_text("ENVI\nsamples = 3\nlines = 4\nbands = 1\ndata type = 1\n")
    image = tmp_path / "s.tif"
    image.write_bytes(Path(scene).read_bytes())
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    text = fails(4, "detect-ir", image, "-o", tmp_path, "--model", "top-hat", "--envi", "--overwrite")
    assert "s_mask.hdr" in text
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_colour_picture_says_what_was_used(call, write_image, tmp_path):
    rgb = write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8))
    result = call("detect-ir", rgb, "-o", tmp_path / "out", "--model", "top-hat", "--no-quicklook")
    assert "luminance of the three colour bands (ITU-R BT.601) was used" in result.stderr


def test_an_image_without_targets_is_a_success(call, write_image, tmp_path):
    flat = write_image(tmp_path / "flat.tif", np.full((40, 40), 9, np.uint8))
    result = call("detect-ir", flat, "-o", tmp_path / "out", "--model", "mpcm")
    assert "flat.tif: 0 targets" in result.stderr
    assert names(tmp_path / "out") == outputs("flat")
    assert json.loads((tmp_path / "out" / "flat_targets.geojson").read_text())["features"] == []
    assert (tmp_path / "out" / "flat_targets.csv").read_text().count("\n") == 1


def test_notes_with_v(call, write_image, tmp_path):
    rgba = write_image(tmp_path / "a.png", np.full((4, 40, 50), 200, np.uint8))
    words = ("detect-ir", rgba, "-o", tmp_path / "out", "--model", "top-hat", "--no-quicklook", "--overwrite")
    assert "alpha band" not in call(*words).stderr
    assert "note: the alpha band became the valid mask" in call(*words, "-v").stderr


# ---------------------------------------------------------------- bad input


@pytest.fixture
def bad(tmp_path, write_image, scene):
    """Files that cannot be used, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.tif").touch()
    (folder / "text.tif").write_text("this is no image\n")
    whole = write_image(folder / "whole.tif", np.random.default_rng(0).integers(0, 999, (90, 90), np.uint16))
    (folder / "truncated.tif").write_bytes(whole.read_bytes()[:9000])
    png = scene.read_bytes()
    (folder / "truncated.png").write_bytes(png[: len(png) // 2])
    write_image(folder / "nodata.tif", np.zeros((20, 20), np.uint8), nodata=0)
    write_image(folder / "many.tif", np.zeros((4, 20, 20), np.uint16))
    write_image(folder / "complex.tif", np.zeros((20, 20), np.complex64))
    write_image(folder / "headless.img", np.zeros((20, 20), np.uint8))
    (folder / "headless.hdr").unlink()
    return folder


BAD = {
    "absent.tif": "does not exist",
    "empty.tif": "is empty",
    "text.tif": "is not an image in a known format",
    "truncated.tif": "truncated",
    "truncated.png": "truncated",
    "nodata.tif": "has no valid pixel: all are nodata",
    "many.tif": "choose one with --band, or make an image of each, as of the frames of a video, with --band all.",
    "complex.tif": "contains complex samples",
    "headless.img": "no ENVI header",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, fails, bad, tmp_path):
    message = fails(3, "detect-ir", bad / name, "-o", tmp_path / "out", "--model", "top-hat")
    assert name in message and BAD[name] in message
    assert not (tmp_path / "out").exists()


def test_a_batch_goes_on_and_ends_with_a_summary(call, bad, scene, tmp_path):
    second = tmp_path / "second.png"
    second.write_bytes(scene.read_bytes())
    wrong = sorted(n for n in BAD if n not in ("truncated.png", "headless.img"))  # same names as others
    inputs = [bad / wrong[0], scene, *(bad / n for n in wrong[1:]), second]
    out = tmp_path / "out"
    result = call("detect-ir", *inputs, "-o", out, "--model", "top-hat", "--no-quicklook", code=7)
    kinds = [k for k in KINDS if k != "quicklook.png"]
    assert names(out) == outputs("scene", "second", kinds=kinds)
    lines = result.stderr.splitlines()
    for name in wrong:
        assert any(f"failed: {bad / name}: " in line and BAD[name] in line for line in lines)
    assert lines[-1] == f"error: {len(wrong)} of {len(inputs)} inputs failed; the results of the others were written."
    assert result.stdout == ""


def test_a_batch_that_fails_altogether(call, bad, tmp_path):
    result = call("detect-ir", bad / "empty.tif", bad / "text.tif", "-o", tmp_path / "out", "--model", "mpcm", code=7)
    assert result.stderr.splitlines()[-1] == "error: 2 of 2 inputs failed."


def test_inputs_that_cannot_be_told_apart(fails, scene, tmp_path):
    out = tmp_path / "out"
    assert "matches no image" in fails(3, "detect-ir", tmp_path / "*.xyz", "-o", out)
    (tmp_path / "nothing").mkdir()
    assert "nothing matches no image" in fails(3, "detect-ir", tmp_path / "nothing", "-o", out)
    twin = tmp_path / "other" / "scene.png"
    twin.parent.mkdir()
    twin.write_bytes(scene.read_bytes())
    assert "would write the same outputs" in fails(2, "detect-ir", scene, twin, "-o", out)
    (twin.parent / "scene.bmp").write_bytes(scene.read_bytes())
    assert "contains both scene.bmp and scene.png" in fails(3, "detect-ir", twin.parent, "-o", out)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "l-rpcnet"), 2, "unknown model 'l-rpcnet' for detect-ir; did you mean 'l-rpcanet'?"),
        (("--model", "tophat"), 2, "did you mean 'top-hat'?"),
        (("--model", "top-hat", "--weights", "x.safetensors"), 2, "takes neither weights nor half precision"),
        (("--model", "top-hat", "--device", "cuda"), 2, "runs only on the CPU, not on cuda"),
        (("--model", "top-hat", "--stages"), 2, "has no stages to show"),
        (("--weights", "absent.safetensors"), 5, "the weights file absent.safetensors does not exist"),
        (("--model", "rpcanet-pp"), 5, "no weights are shipped for rpcanet-pp"),
        (("--threshold", "1.5"), 2, "--threshold must lie between 0 and 1, not 1.5"),
        (("--scale", "7"), 2, "--scale takes two numbers such as 0,1000, not '7'"),
        (("--model", "top-hat", "--scale", "5,5"), 2, "two numbers that differ, not 5,5"),
        (("--model", "top-hat", "--band", "2"), 2, "--band must be 1 to 1, not 2"),
        (("--memory", "lots"), 2, "--memory takes a size such as 500MB or 2GB, not 'lots'"),
        (("--model", "top-hat", "--memory", "1MB"), 6, "--memory leaves 0 MB; increase it"),
    ],
)
def test_wrong_options(words, code, message, fails, scene, tmp_path):
    text = fails(code, "detect-ir", scene, "-o", tmp_path / "out", *words)
    assert message.rstrip(".") in text
    assert not list(tmp_path.glob("out/*"))


def test_unknown_weights_suggest_the_nearest(fails, scene, shipped, tmp_path):
    message = fails(2, "detect-ir", scene, "-o", tmp_path / "out", "--weights", "l-rpcanett")
    assert "did you mean 'l-rpcanet'?" in message


def test_weights_whose_hash_is_wrong(fails, scene, shipped, tmp_path):
    path = shipped / "l-rpcanet.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = fails(5, "detect-ir", scene, "-o", tmp_path / "out")
    assert "is damaged or was modified: its sha256 is" in message
    assert not (tmp_path / "out").exists()


def test_weights_that_are_truncated(fails, scene, tiny, tmp_path):
    part = tmp_path / "part.safetensors"
    part.write_bytes(tiny.path.read_bytes()[:-100])
    assert "damaged" in fails(5, "detect-ir", scene, "-o", tmp_path / "out", "--weights", part)


def test_no_gpu(fails, scene, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ("detect-ir", scene, "-o", tmp_path / "out", "--weights", tiny.path)
    assert "--device cuda is not available: this machine has 0 CUDA device" in fails(6, *words, "--device", "cuda")
    assert "half precision needs a CUDA device" in fails(2, *words, "--device", "cpu", "--half")
    assert "unknown --device 'gpu'" in fails(2, *words, "--device", "gpu")


def test_an_output_folder_that_cannot_be_used(fails, scene):
    for folder, words in (
        (scene, f"{scene} is a file, not a folder"),
        (scene / "below", f"{scene} is a file, not a folder"),
        ("/proc/none", "the folder /proc/none cannot be used"),
    ):
        assert words in fails(4, "detect-ir", scene, "-o", folder, "--model", "top-hat")


def small_files():
    """The disk of this process is full after 20 kB in one file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk(process, write_image, tmp_path):
    image = write_image(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    out = tmp_path / "out"
    running = process("detect-ir", image, "-o", out, "--model", "top-hat", preexec_fn=small_files)
    stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 4, stderr
    message = stderr.splitlines()[-1]  # libtiff has its own word before
    assert stdout == "" and "Traceback" not in stderr and message.startswith(f"error: {out}/a_score.tif cannot be")
    assert message.endswith("make room or choose another folder.")
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "number", "code", "word"),
    [
        ("mpcm", signal.SIGINT, 130, "interrupted"),
        ("l-rpcanet", signal.SIGINT, 130, "interrupted"),
        ("mpcm", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_ctrl_c_and_the_end_of_a_batch_system(model, number, code, word, process, tiny, write_image, tmp_path):
    """Stopped while it works: exit code 130 or 143, and the folder is as clean as before."""
    gray = np.tile(infrared_scene(256, 256, seed=0).image, (8, 8))
    image = write_image(tmp_path / "large.tif", (gray * 255).astype(np.uint8))
    out = tmp_path / "out"
    weights = ("--weights", tiny.path, "--device", "cpu", "--threads", 1) if model == "l-rpcanet" else ()
    # many copies of the large image, so that however fast the machine, there is work left
    copies = [tmp_path / f"copy{i}.tif" for i in range(40)]
    for copy in copies:
        copy.hardlink_to(image)
    running = process("detect-ir", *copies, "-o", out, "--model", model, "--no-quicklook", *weights)
    deadline = time.monotonic() + 60
    while not list(out.glob(".rsunfold-*")):
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.02)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == code, stderr
    assert stdout == "" and stderr.splitlines()[-1] == f"{word}; no partial results were left."
    assert "Traceback" not in stderr
    left = {p.name for p in out.iterdir()} if out.exists() else set()  # it goes when nothing was finished
    done = {n.removesuffix("_summary.json") for n in left if n.endswith("_summary.json")}
    assert left == set(outputs(*done, kinds=[k for k in KINDS if k != "quicklook.png"])) and len(done) < len(copies)


def test_results_lie_where_the_image_lies(call, write_image, network, tiny, tmp_path):
    """A GeoTIFF by the command line: CRS and transform of the input, and a note when there is none."""
    transform = rasterio.transform.from_origin(12.0, 48.0, 1e-3, 1e-3)
    data = np.round(tiny.gray * 255).astype(np.uint8)
    image = write_image(tmp_path / "geo.tif", data, crs="EPSG:4326", transform=transform)
    call("detect-ir", image, "-o", tmp_path / "out", *network, "--no-quicklook")
    with rasterio.open(tmp_path / "out" / "geo_mask.tif") as ds:
        assert ds.crs == "EPSG:4326" and ds.transform == transform
    features = json.loads((tmp_path / "out" / "geo_targets.geojson").read_text())["features"]
    lon, lat = features[0]["geometry"]["coordinates"]
    row, col = features[0]["properties"]["row"], features[0]["properties"]["col"]
    assert (lon, lat) == pytest.approx((12 + (col + 0.5) * 1e-3, 48 - (row + 0.5) * 1e-3), abs=1e-9)
