"""rsunfold sample, info, models and weights."""

import dataclasses
import json
import os
import pickle
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from scipy.io import savemat

from rsunfold.registry import all_models, chosen_model, get_model
from rsunfold.simulate.infrared import infrared_scenes
from rsunfold.weights import WeightRecord, load, save, sha256_of

TASKS = sorted({spec.task for spec in all_models()})


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- sample


def test_a_sample_is_the_same_every_time(call, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        call("sample", "ir", tmp_path / name, "--count", 3, "--seed", seed, "--size", 64)
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(tmp_path / "c")
    assert len(content(tmp_path / "a")) == 3 + 3 + 1


def test_a_sample_is_what_the_generator_gives(call, tmp_path):
    result = call("sample", "ir", tmp_path / "s", "--count", 5, "--seed", 1, "--size", 64)
    assert result.stdout == f"5 scenes in {tmp_path / 's'}: images/, masks/, truth.json\n"
    truth = json.loads((tmp_path / "s" / "truth.json").read_text())
    for scene, name in zip(infrared_scenes(5, 1, rows=64, cols=64), sorted(truth), strict=True):
        with rasterio.open(tmp_path / "s" / "images" / f"{name}.png") as ds:
            np.testing.assert_array_equal(ds.read(1), np.round(scene.image * 255))
        with rasterio.open(tmp_path / "s" / "masks" / f"{name}.png") as ds:
            np.testing.assert_array_equal(ds.read(1), scene.mask * 255)
        assert truth[name]["background"] == scene.background and truth[name]["seed"] == scene.seed
        assert [t["row"] for t in truth[name]["targets"]] == [t.row for t in scene.targets]


def test_a_sample_overwrites_nothing_unasked(call, fails, tmp_path):
    words = ("sample", "ir", tmp_path / "s", "--count", 2, "--size", 64)
    call(*words)
    before = content(tmp_path / "s")
    assert "truth.json already exists" in fails(4, *words, "--seed", 5)
    assert content(tmp_path / "s") == before
    call(*words, "--seed", 5, "--overwrite")
    assert content(tmp_path / "s") != before


# ---------------------------------------------------------------- info


def lines(result):
    """Key and value of each line of a table without header."""
    return {
        key: value.strip() for key, _, value in (line.strip().partition(" ") for line in result.stdout.splitlines())
    }


def test_info_of_a_geotiff(call, tmp_path, write_image):
    where = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 10, 10)}
    path = write_image(tmp_path / "a.tif", np.zeros((2, 30, 40), np.int16), nodata=-99, **where)
    found = lines(call("info", path, "--json", tmp_path / "a.json"))
    assert found["path"] == str(path) and found["driver"] == "GTiff" and found["dtype"] == "int16"
    assert (found["bands"], found["rows"], found["cols"]) == ("2", "30", "40")
    assert found["crs"] == "EPSG:32633" and found["nodata"] == "-99.0"
    assert json.loads((tmp_path / "a.json").read_text())["transform"] == [10, 0, 5e5, 0, -10, 5e6]


def test_info_of_pictures(call, tmp_path, write_image):
    for suffix, driver in ((".png", "PNG"), (".bmp", "BMP"), (".jpg", "JPEG")):
        path = write_image(tmp_path / f"a{suffix}", np.zeros((3, 20, 30), np.uint8))
        found = lines(call("info", path))
        assert found["driver"] == driver and found["bands"] == "3" and found["colour"] == "true"
    path = write_image(tmp_path / "sixteen.png", np.zeros((20, 30), np.uint16))
    assert lines(call("info", path))["dtype"] == "uint16"


def test_info_of_envi(call, tmp_path, write_image):
    path = write_image(tmp_path / "a.img", np.zeros((3, 20, 30), np.float32))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text() + "wavelength units = Nanometers\nwavelength = {450, 550, 650}\n")
    for name in (path, header):
        found = lines(call("info", name))
        assert found["driver"] == "ENVI" and json.loads(found["wavelengths_nm"]) == [450, 550, 650]


def test_info_of_mat(call, fails, tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"data": np.zeros((20, 30, 4)), "other": np.zeros((20, 30, 5)), "map": np.zeros((20, 30))})
    message = fails(3, "info", path)
    assert "data" in message and "other" in message and "--var" in message
    found = lines(call("info", path, "--var", "other"))
    assert (found["bands"], found["rows"], found["cols"]) == ("5", "20", "30")


def test_info_of_no_image(call, fails, tmp_path):
    assert "absent.tif does not exist" in fails(3, "info", tmp_path / "absent.tif")
    assert "is a folder, not an image" in fails(3, "info", tmp_path)
    (tmp_path / "a.txt").write_text("text")
    assert "is not an image in a known format" in fails(3, "info", tmp_path / "a.txt")


def test_info_on_standard_output_is_ascii(call, tmp_path, write_image):
    """A pipe may have any encoding, as on Windows."""
    path = write_image(tmp_path / "é.png", np.zeros((20, 30), np.uint8))
    text = call("info", path, "--json", "-").stdout
    assert text.isascii() and json.loads(text)["path"] == str(path)


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes")
def test_info_of_a_name_that_is_not_utf8(fails, tmp_path, write_image):
    path = write_image(tmp_path / "a.png", np.zeros((20, 30), np.uint8)).rename(tmp_path / "a\udce9.png")
    assert "is not valid UTF-8; rename the file" in fails(3, "info", path)


# ---------------------------------------------------------------- models


def test_models_lists_the_registry(call, shipped, tiny):
    text = call("models").stdout
    for task, part in zip(TASKS, re.split("rsunfold (?:denoise|detect|select)-[a-z]+", text)[1:], strict=True):
        for spec in all_models(task):
            line = next(line for line in part.splitlines() if f" {spec.name} " in line)
            assert spec.kind in line and spec.needs in line
    first = next(line for line in text.splitlines() if " l-rpcanet " in line)
    assert f" {tiny.net.parameters_count} " in first
    assert "none needed" in next(line for line in text.splitlines() if " mpcm " in line)
    assert "star-net (cannot be read)" in next(line for line in text.splitlines() if " star-net " in line)
    one = call("models", "--task", "detect-ir").stdout
    assert " l-rpcanet " in one and " mpcm " in one and "denoise-hsi" not in one


@pytest.mark.parametrize("name", [spec.name for spec in all_models()])
def test_a_model_is_described_as_it_can_be_typed(call, name):
    text, spec = call("models", name).stdout, get_model(name)
    assert all(part in text for part in (spec.task, spec.kind, spec.needs, spec.paper, spec.url))
    assert "``" not in text and ":class:" not in text and "Raises" not in text
    typed = re.search(rf"--model ({name}\S*) \(the defaults\)", text)
    assert (typed is None) == (spec.weighted or not spec.options)
    if typed is not None:
        assert chosen_model(typed[1], spec.task) == (spec, spec.options)


def test_a_model_that_is_not_known_or_named_beside_a_task(fails):
    assert "unknown model 'top-hut'; did you mean 'top-hat'?" in fails(2, "models", "top-hut")
    assert "the name of a model or --task" in fails(2, "models", "top-hat", "--task", "detect-ir")


@pytest.mark.parametrize(
    ("typed", "name"), [("STAR-Net", "star-net"), ("LRR-Net+", "lrr-net-plus"), ("RPCANet++", "rpcanet-pp")]
)
def test_models_are_found_as_papers_write_them(typed, name, call):
    assert call("models", typed).stdout == call("models", name).stdout


def test_models_of_an_unknown_task(fails):
    text = fails(2, "models", "--task", "detect-cats")
    assert f"unknown task 'detect-cats'; choose from {', '.join(TASKS)}" in text


@pytest.mark.parametrize("words", [("ir", "--count", 60, "--size", 128), ("hsi", "--rows", 400, "--cols", 400)])
@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_sample_that_is_ended_changes_nothing(call, process, words, tmp_path):
    before = {}
    for more in ((), ("--overwrite", "--seed", 1)):
        running = process("sample", words[0], tmp_path / "s", *words[1:], *more)
        while running.poll() is None and not any((tmp_path / "s").glob(".rsunfold-run-*/*")):
            time.sleep(0.02)
        running.terminate()
        assert "no partial results were left" in running.communicate(timeout=60)[1]
        assert running.returncode == 143
        assert content(tmp_path / "s") == before
        if not more:
            small = ("--count", 2, "--size", 64) if words[0] == "ir" else ()
            call("sample", words[0], tmp_path / "s", *small)
            before = content(tmp_path / "s")


def test_a_sample_shares_no_header_with_a_cube_of_the_user(fails, tmp_path):
    (tmp_path / "clean.dat").write_bytes(b"mine")
    (tmp_path / "clean.hdr").write_text("ENVI\n")
    before = content(tmp_path)
    words = ("sample", "hsi", tmp_path, "--rows", 16, "--cols", 16, "--bands", 5, "--envi", "--overwrite")
    assert "clean.img would share clean.hdr with clean.dat" in fails(4, *words)
    assert content(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_sample_into_a_folder_on_another_disk(call, tmp_path):
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "images").symlink_to(other)
        for seed in (0, 1):
            call("sample", "ir", tmp_path, "--count", 2, "--size", 64, "--seed", seed, "--overwrite")
        assert len(list(Path(other).iterdir())) == 2


def test_fewer_scenes_leave_none_of_the_earlier_ones(call, tmp_path):
    call("sample", "ir", tmp_path, "--count", "4", "--size", "64")
    (tmp_path / "images" / "mine.png").touch()
    call("sample", "ir", tmp_path, "--count", "2", "--size", "64", "--seed", "1", "--overwrite")
    truth = set(json.loads((tmp_path / "truth.json").read_text()))
    assert {p.stem for p in (tmp_path / "masks").iterdir()} == truth and len(truth) == 2
    assert {p.stem for p in (tmp_path / "images").iterdir()} == truth | {"mine"}


# ---------------------------------------------------------------- weights


def test_shipped_weights_are_listed_shown_and_verified(call, shipped):
    told = {path.stem: f"{path.stem}: {sha256_of(path)} ok\n" for path in shipped.glob("*.safetensors")}
    sha = sha256_of(shipped / "l-rpcanet.safetensors")
    assert sha[:12] in call("weights", "list").stdout
    assert call("weights", "verify").stdout == "".join(told[name] for name in sorted(told))
    assert call("weights", "verify", "l-rpcanet").stdout == told["l-rpcanet"] == f"l-rpcanet: {sha} ok\n"
    text = call("weights", "info", "l-rpcanet").stdout
    assert sha in text and "multiply-accumulates per pixel" in text


def test_info_of_a_weight_file(call, tiny):
    text = call("weights", "info", tiny.path).stdout
    assert f"{tiny.net.parameters_count:,}" in text and f"{tiny.threshold:.6g}" in text and "carry_noise" in text


def test_info_shows_the_figures_of_each_set(call):
    lines = call("weights", "info", "l-rpcanet").stdout.splitlines()
    rows = {line.split()[1]: line for line in lines if line.startswith(" on ")}
    assert set(rows) == {"backgrounds", "irstd-1k", "nudt-sirst", "sirst"}
    assert "images 120" in rows["irstd-1k"] and "{" not in "".join(rows.values())


def test_only_detectors_have_a_threshold(call):
    keys = [
        {line.split()[0] for line in call("weights", "info", w).stdout.splitlines()} for w in ("l-rpcanet", "star-net")
    ]
    assert keys[0] - keys[1] >= {"threshold", "confidence", "max_area", "temperature"} and "bands" in keys[1]
    rows = {
        line.split()[1]: line.split("│")[3].strip()
        for line in call("weights", "list").stdout.splitlines()
        if "│" in line
    }
    assert 0 < float(rows["l-rpcanet"]) < 1 and rows["star-net"] == "–"


def test_info_of_a_network_without_weights(call):
    text = call("weights", "info", "rpcanet-pp").stdout
    assert "rpcanet-nudt-sirst, not for all images" in call("weights", "info", "rpcanet").stdout
    assert "none shipped" in text and "1,434,551" in text and "1,432,320 multiply-accumulates per pixel" in text
    assert "not counted for this network" in call("weights", "info", "auto-ad").stdout


def test_a_file_of_weights_is_read_to_verify_it(call, fails, shipped, tiny, tmp_path):
    net, record, _ = load(str(tiny.path))
    save(tmp_path / "own.safetensors", net, dataclasses.replace(record, name="own"))
    text = call("weights", "verify", tmp_path / "own.safetensors").stdout
    assert text.endswith(" readable, but not in the registry\n")
    assert call("weights", "verify", shipped / "l-rpcanet.safetensors").stdout.endswith(" ok\n")
    cut = tmp_path / "cut.safetensors"
    content = tiny.path.read_bytes()
    for damaged in (b"", content[:-100]):
        cut.write_bytes(damaged)
        fails(5, "weights", "verify", cut)


def test_what_is_no_weights_file(fails, tiny, scene, tmp_path):
    content = tiny.path.read_bytes()
    for name, data, words in (
        ("cut", content[:1000], "is truncated"),
        ("empty", b"", "is not an rsunfold weights file; convert published checkpoints"),
        ("picture", scene.read_bytes(), "is not an rsunfold weights file; convert published checkpoints"),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        assert words in fails(5, "detect-ir", scene, "-o", tmp_path / "out", "--weights", path)
    assert "are a folder; give the file" in fails(5, "weights", "info", f"{tmp_path}/")
    assert "is a folder; give the file" in fails(3, "weights", "import", tmp_path, "--as", "l-rpcanet")
    result = fails(5, "weights", "verify", tmp_path / "cut.safetensors", "nope", tmp_path / "empty.safetensors")
    assert "cut.safetensors is truncated" in result and "nope" in result and "empty.safetensors is not" in result


def test_damaged_weights(call, fails, shipped):
    path = shipped / "l-rpcanet.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    for command in ("verify", "info"):
        assert "is damaged or was modified" in fails(5, "weights", command, "l-rpcanet")
    others = call("weights", "verify", code=5)  # which are verified all the same
    assert "is damaged or was modified" in others.stderr and "l-rpcanet: " not in others.stdout
    path.unlink()
    assert "is missing; reinstall rsunfold" in call("weights", "verify", code=5).stderr


def test_unknown_weights(fails, shipped, tmp_path):
    assert "did you mean 'l-rpcanet'?" in fails(2, "weights", "info", "l-rpcnet")
    verified = "weights", "verify"
    assert "no weights are shipped for lsnet; give a .safetensors file" in fails(2, *verified, "LSNet")
    assert "top-hat is a classical method and has no weights" in fails(2, *verified, "top-hat")
    assert "auto-ad learns in each scene and takes no weights" in fails(2, *verified, "auto-ad")
    assert "does not exist" in fails(5, "weights", "info", tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    assert "is not an rsunfold weights file" in fails(5, "weights", "info", tmp_path / "b.safetensors")


def published(net):
    """The tensors of an RPCANet by the names of its authors' code."""
    operators = {"FB": ("lowrank", "convs", 12), "FT": ("sparse", "convs", 14), "FD": ("merge", "mapping", 12)}
    state = {}
    for name, tensor in net.state_dict().items():
        _, k, rest = name.split(".", 2)
        if rest == "eps":
            state[f"decos.{k}.sparse.epsilon"] = tensor
            continue
        operator, part, rest = rest.split(".", 2)
        theirs, sequence, last = operators[operator]
        state[f"decos.{k}.{theirs}.{sequence}.{f'{last}.{rest}' if part == 'head' else rest}"] = tensor
    return state


def test_a_published_checkpoint_becomes_weights_that_detect(call, fails, random_network, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = random_network("rpcanet")
    torch.save(published(net), "RPCA.Net_74.56.pkl")
    target = "RPCA.Net_74.56.safetensors"
    result = call("weights", "import", "RPCA.Net_74.56.pkl", "--as", "rpcanet")
    assert result.stdout == f'{target}: rpcanet {{"K": 2, "C": 8}}; use it with --weights {target}\n'
    imported = load(target)[0].state_dict()
    assert all(torch.equal(tensor, imported[name]) for name, tensor in net.state_dict().items())
    call("detect-ir", scene, "-o", "out", "--weights", target, "--device", "cpu")
    assert "already exists" in fails(4, "weights", "import", "RPCA.Net_74.56.pkl", "--as", "rpcanet")
    call("weights", "import", "RPCA.Net_74.56.pkl", "--as", "rpcanet", "--overwrite")
    other = "belong to the model 'rpcanet', not to 'l-rpcanet'; choose that model, or other weights"
    assert other in fails(5, "detect-ir", scene, "-o", "out", "--model", "l-rpcanet", "--weights", target)


class Payload:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("absent.pkl", "--as", "rpcanet"), 3, "the checkpoint absent.pkl does not exist"),
        (("evil.pkl", "--as", "rpcanet"), 3, "is not a PyTorch checkpoint of plain tensors"),
        (("other.pkl", "--as", "rpcanet"), 5, "does not contain published weights of rpcanet"),
        (("other.pkl", "--as", "rpcanett"), 2, "did you mean 'rpcanet'?"),
        (("other.pkl", "--as", "mpcm"), 2, "is a classical method and has no weights"),
        (("other.pkl", "--as", "lrr-net-plus"), 2, "learns in each scene and takes no weights"),
        (("other.pkl", "--as", "rpcanet", "-o", "a.pt"), 2, "--output must end in .safetensors"),
    ],
)
def test_checkpoints_that_cannot_be_imported(words, code, message, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": torch.zeros(3)}, "other.pkl")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"decos.0.lowrank.convs.0.weight": Payload()}, 2))
    before = content(tmp_path)
    assert message in fails(code, "weights", "import", *words)
    assert content(tmp_path) == before and not (tmp_path / "executed").exists()


# ---------------------------------------------------------------- calibrating


def test_a_weight_is_calibrated_on_other_images(call, tiny, scenes, tmp_path):
    data, target = tmp_path / "data", tmp_path / "mine.safetensors"
    data.mkdir()
    (data / "own").symlink_to(scenes)
    words = ("weights", "calibrate", tiny.path, "--data", data, "-o", target, "--device", "cpu")
    result = call(*words, "--max-area", 40)
    before, old, _ = load(str(tiny.path))
    after, new, _ = load(str(target))
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert new.reach in (None, 128)
    assert new.max_area == 40 and new.figures["own"]["images"] == 6 and new.arch == old.arch
    assert f"scores above {new.threshold:.3f}" in result.stdout and "at most 40 connected pixels" in result.stdout
    assert "recalibrated" in new.origin and new.name == "mine"
    assert "Images on which the rule was chosen" in result.stdout and "training" not in result.stdout
    assert "cannot be found" not in result.stdout
    reach = call(*words[:-4], "-o", tmp_path / "reach.safetensors", "--device", "cpu", "--reach", 7)
    assert (
        "plus the natural logarithm of the number of groups above the threshold within 7 rows and columns"
        in reach.stdout
    )
    assert load(str(tmp_path / "reach.safetensors"))[1].reach == 7
    small = call(*words[:-4], "-o", tmp_path / "small.safetensors", "--device", "cpu", "--max-area", 1)
    assert re.search(
        r"\d+ of the \d+ targets have more than 1 pixels and cannot be found; see --max-area", small.stdout
    )
    report = tmp_path / "report.json"
    call("evaluate", "detect-ir", "--data", data, "--weights", target, "--device", "cpu", "--json", report)
    (found,) = json.loads(report.read_text())["models"].values()
    assert found["max_area_px"] == 40 and found["threshold"] == new.threshold
    assert next(iter(found["sets"].values()))["iou_pooled"] == pytest.approx(new.figures["own"]["iou_pooled"], abs=1e-9)


def test_what_cannot_be_calibrated_is_refused(fails, tiny, scenes, tmp_path):
    sky, spec = tmp_path / "data" / "sky", get_model("star-net")
    sky.mkdir(parents=True)
    (sky / "a.png").write_bytes(next((scenes / "images").iterdir()).read_bytes())
    net, star = spec.build(**spec.sizes["tiny"]), tmp_path / "star.safetensors"
    save(star, net, WeightRecord(name="star", model="star-net", arch=net.arch, bands=None))
    words = ("--data", tmp_path / "data", "-o", tmp_path / "x.safetensors")
    message = fails(3, "weights", "calibrate", tiny.path, *words)
    assert "none of the 1 images contains a target" in message and f"--weights {tiny.path} --pfa 1e-5' names" in message
    assert "not for detect-ir" in fails(2, "weights", "calibrate", star, *words)
    assert "must end in .safetensors" in fails(
        2, "weights", "calibrate", tiny.path, "--data", tmp_path, "-o", tmp_path / "x.pt"
    )
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("command", ["detect-ir", "detect-anomaly", "explain"])
def test_a_name_of_a_file_is_no_folder_for_results(command, fails, scene, tmp_path):
    words = (command, "detect-ir") if command == "explain" else (command,)
    for name in ("out.tif", "out.hdr", "out.geojson"):
        message = fails(2, *words, scene, "-o", tmp_path / name)
        assert f"-o expects a folder for the results, but {tmp_path / name} looks like a file" in message
        assert not (tmp_path / name).exists()
    (tmp_path / "dotted.tif").mkdir()  # a folder that is there is one, whatever its name
    if command == "detect-ir":
        message = fails(2, *words, scene, "-o", tmp_path / "dotted.tif", "--model", "absent")
        assert "unknown model 'absent'" in message


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("detect-ir", "--model", "top-hat", "--band", 1, "--no-quicklook", "--envi"), "score.img"),
        (("denoise-hsi", "--model", "fasthyde", "--envi"), "denoised.img"),
        (("detect-anomaly", "--model", "rx", "--no-quicklook", "--envi"), "score.img"),
        (("select-features", "--model", "variance", "-k", 2, "--no-picture", "--envi"), "selected.img"),
    ],
)
def test_series_in_folders_by_date_keep_their_folders(words, end, call, write_image, tmp_path, monkeypatch):
    """A pattern with a wildcard for folders gives the same places when a date is added, and when it is run again."""
    monkeypatch.chdir(tmp_path)
    command, *options = words
    rng = np.random.default_rng(0)
    for count, day in enumerate(("2022-07-24", "2022-08-01")):
        (tmp_path / "in" / day).mkdir(parents=True)
        write_image(tmp_path / "in" / day / "cam.tif", rng.normal(100, 5, (9, 24, 20)).astype(np.float32))
        ended = call(command, "in/**/*.tif", "-o", "out", *options, "--skip-existing")
        assert (f"{count} skipped" in ended.stdout) == bool(count)
        assert Path("out", day, f"cam_{end}").exists() and Path("out", day, f"cam_{end}").with_suffix(".hdr").exists()
    call(command, "in/*/*.tif", "-o", "out", *options, "--overwrite")
    assert sorted(p.name for p in Path("out").iterdir()) == ["2022-07-24", "2022-08-01"]
