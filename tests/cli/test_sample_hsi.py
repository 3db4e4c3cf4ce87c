"""rsunfold sample hsi."""

import json

import numpy as np
import pytest

from rsunfold.io import open_cube
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.noise import make_noise

SIZE = ("--rows", 20, "--cols", 24, "--bands", 6)


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def read(path):
    with open_cube(path) as reader:
        return reader.read().data, reader.meta


def test_a_sample_is_what_the_generators_give(call, tmp_path):
    result = call("sample", "hsi", tmp_path / "s", *SIZE, "--noise", "iid", "--sigma", 30, "--seed", 4)
    assert result.stdout == f"1 scene in {tmp_path / 's'}: clean.tif, noisy.tif, truth.json\n"
    scene = hyperspectral_scene(20, 24, 6, seed=4)
    clean, meta = read(tmp_path / "s" / "clean.tif")
    np.testing.assert_array_equal(clean, scene.data)
    assert meta.wavelengths == (400, 820, 1240, 1660, 2080, 2500)
    noisy, _ = read(tmp_path / "s" / "noisy.tif")
    np.testing.assert_array_equal(noisy, make_noise(clean, "iid", sigma=30, seed=4).data)
    truth = json.loads((tmp_path / "s" / "truth.json").read_text())
    assert truth["seed"] == truth["noise"]["seed"] == 4
    assert truth["noise"]["kind"] == "iid" and truth["noise"]["sigmas"] == pytest.approx([30 / 255] * 6)


def test_a_sample_is_the_same_every_time(call, tmp_path):
    for name, words in (("a", ()), ("b", ("--seed", 0, "--noise", "case5")), ("c", ("--seed", 1))):
        call("sample", "hsi", tmp_path / name, *SIZE, *words)
    assert content(tmp_path / "a") == content(tmp_path / "b") != content(tmp_path / "c")
    noise = json.loads((tmp_path / "a" / "truth.json").read_text())["noise"]
    assert noise["kind"] == "case5" and {round(255 * sigma) for sigma in noise["sigmas"]} <= {10, 30, 50, 70}
    shares = np.array([noise[name] for name in ("stripe_share", "dead_share", "impulse_share")])
    assert ((shares > 0).sum(axis=0) == 1).all()  # six bands, two with each


def test_envi_files(call, tmp_path):
    call("sample", "hsi", tmp_path / "e", *SIZE, "--envi")
    call("sample", "hsi", tmp_path / "t", *SIZE)
    for name in ("clean", "noisy"):
        (envi, meta), (tif, _) = read(tmp_path / "e" / f"{name}.hdr"), read(tmp_path / "t" / f"{name}.tif")
        np.testing.assert_array_equal(envi, tif)
        assert meta.driver == "ENVI" and meta.wavelengths[0] == 400


@pytest.mark.parametrize("format", [(), ("--envi",)])
def test_nothing_is_overwritten_unasked(call, fails, tmp_path, format):
    words = ("sample", "hsi", tmp_path / "s", *SIZE, *format)
    call(*words)
    before = content(tmp_path / "s")
    assert "already exists" in fails(4, *words, "--seed", 5)
    assert content(tmp_path / "s") == before
    call(*words, "--seed", 5, "--overwrite")
    after = content(tmp_path / "s")
    assert after.keys() == before.keys() and after["truth.json"] != before["truth.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--noise", "case6"), "unknown noise 'case6'; did you mean 'case5'?"),
        (("--noise", "iid"), "iid noise needs a sigma above 0"),
        (("--noise", "bandwise", "--sigma", 0), "bandwise noise needs a sigma above 0"),
        (("--sigma", 30), "case5 draws its sigmas"),
    ],
)
def test_wrong_noise_is_named(fails, tmp_path, words, message):
    assert message in fails(2, "sample", "hsi", tmp_path / "s", *SIZE, *words)
    assert not (tmp_path / "s").exists()


def test_an_output_that_is_a_file_is_refused(fails, tmp_path):
    (tmp_path / "s").write_text("mine")
    assert "s is a file, not a folder; choose another" in fails(4, "sample", "hsi", tmp_path / "s", *SIZE)
    assert (tmp_path / "s").read_text() == "mine"
