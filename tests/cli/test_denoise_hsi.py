"""rsunfold denoise-hsi and evaluate denoise-hsi: one cube and many, and everything that a user can get wrong."""

import json

import numpy as np
import pytest
import rasterio
import scipy.io
import torch

import rsunfold
from rsunfold import weights
from rsunfold.errors import DeviceError
from rsunfold.infer.hsi import adapt, evaluate
from rsunfold.infer.hsi import run as module
from rsunfold.io import open_cube
from rsunfold.metrics.denoising import quality
from rsunfold.registry import get_model
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.noise import make_noise

FAST = ("--model", "fasthyde")
EVALUATE = ("evaluate", "denoise-hsi")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def content(folder):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def read(path):
    with open_cube(path) as reader:
        return reader.read(scaled=False).data


@pytest.fixture(scope="module")
def clean():
    data = hyperspectral_scene(24, 20, 16, seed=3).data
    return (data / data.max()).astype(np.float32)


@pytest.fixture(scope="module")
def noisy(clean):
    return make_noise(clean, "iid", sigma=20, seed=1).data


@pytest.fixture
def cube(noisy, write_image, tmp_path):
    return write_image(tmp_path / "cube.tif", noisy)


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    """Options that choose an untrained, tiny STAR-Net on the CPU."""
    spec = get_model("star-net")
    net = spec.build(**spec.sizes["tiny"])
    path = tmp_path_factory.mktemp("star") / "star.safetensors"
    record = weights.WeightRecord(name="star", model="star-net", arch=net.arch, bands=None, scaling="whitened spectra")
    weights.save(path, net, record)
    return "--weights", str(path), "--device", "cpu"


def test_a_folder(call, cube, star, noisy, tmp_path):
    out = tmp_path / "out"
    result = call("denoise-hsi", cube, "-o", out, *star, "--threads", 1)
    assert names(out) == ["cube_denoised.tif", "cube_denoised_summary.json"]
    assert result.stdout == f"1 of 1 cube denoised (star-net); results are in {out}\n"
    assert result.stderr.startswith(f"{cube}: 16 bands denoised, ") and "in one piece" in result.stderr
    summary = json.loads((out / "cube_denoised_summary.json").read_text())
    assert (summary["model"], summary["weights"], summary["input"]) == ("star-net", "star", str(cube))
    assert summary["bands_denoised"] == list(range(1, 17)) and summary["dtype"] == "float32"
    assert "the input has no wavelengths" in summary["notes"]
    found = read(out / "cube_denoised.tif")
    assert found.dtype == np.float32 and 0.01 < np.abs(found - noisy).std() < 0.2


@pytest.mark.parametrize(
    ("output", "files"),
    [
        ("a.tif", ["a.tif", "a_summary.json"]),
        ("a.hdr", ["a.hdr", "a.img", "a.img.aux.xml", "a_summary.json"]),
        ("a.dat", ["a.dat", "a.dat.aux.xml", "a.hdr", "a_summary.json"]),
    ],
)
def test_a_file(output, files, call, cube, tmp_path):
    call("denoise-hsi", cube, "-o", tmp_path / "sub" / output, *FAST)
    assert names(tmp_path / "sub") == files
    call("denoise-hsi", cube, "-o", tmp_path / "whole", *FAST)
    expected = read(tmp_path / "whole" / "cube_denoised.tif")
    np.testing.assert_array_equal(read(tmp_path / "sub" / output), expected)


def test_pixels_that_lack_bands_are_told(call, noisy, write_image, tmp_path):
    data = noisy.copy()
    data[:4, 2:4, :5] = data[:12, 7, :2] = np.nan
    result = call("denoise-hsi", write_image(tmp_path / "a.tif", data), "-o", tmp_path / "b.tif", *FAST)
    assert "16 bands denoised, 2 pixels that lack some bands left as they are, " in result.stderr
    assert "lack some bands, most of them band(s) 1, 2, 3, 4, 5, ...: dead detectors, perhaps; 10 were" in result.stderr


def test_everything_at_once(call, cube, noisy, tmp_path):
    out = tmp_path / "out"
    words = ("--residual", "--report", "--pixel", "0,0", "--pixel", "23,19", "--envi", "--sigma", 0.08)
    call("denoise-hsi", cube, "-o", out, *FAST, *words)
    stem = "cube_denoised"
    rasters = [f"{s}.{e}" for s in (stem, f"{stem}_residual") for e in ("img", "hdr", "img.aux.xml")]
    pictures = [f"{stem}_{k}.png" for k in ("report", "bands", "noise")]
    assert names(out) == sorted([*rasters, *pictures, f"{stem}_summary.json"])
    residual = read(out / f"{stem}_residual.hdr")
    np.testing.assert_allclose(residual, noisy - read(out / f"{stem}.hdr"), atol=1e-6)
    for name in pictures:
        with rasterio.open(out / name) as ds:
            assert ds.read().std() > 10
    assert json.loads((out / f"{stem}_summary.json").read_text())["noise"] == "given"


def test_bands_and_clipping_are_told(call, noisy, write_image, tmp_path):
    counts = np.clip(np.rint(noisy * 255), 0, 255).astype(np.uint8)
    counts[2] = 9
    source = write_image(tmp_path / "a.tif", counts, photometric="MINISBLACK")
    result = call("denoise-hsi", source, "-o", tmp_path / "out", *FAST, "--dtype", "same")
    found = read(tmp_path / "out" / "a_denoised.tif")
    assert found.dtype == np.uint8 and (found[2] == 9).all()
    summary = json.loads((tmp_path / "out" / "a_denoised_summary.json").read_text())
    assert summary["bands_passed_through"] == {"3": "constant"}
    assert "15 bands denoised, 1 band passed through" in result.stderr
    clipped = summary["samples_clipped"]
    assert (f"{clipped} sample" in result.stderr) == (clipped > 0)


def test_what_is_ignored_is_told(call, noisy, tmp_path):
    (tmp_path / "a.img").write_bytes(noisy.astype("<f4").tobytes())
    size = "samples = 20\nlines = 24\nbands = 16\ndata type = 4\ninterleave = bsq\nbyte order = 0\n"
    lists = (
        "bbl = {1, 1, 0}\nwavelength units = nm\nwavelength = {" + "".join(f"{400 + i}, " for i in range(16)) + "}\n"
    )
    (tmp_path / "a.hdr").write_text(f"ENVI\n{size}{lists}")
    result = call("denoise-hsi", tmp_path / "a.hdr", "-o", tmp_path / "out", *FAST)
    assert "note: bbl lists 3 values for 16 bands and was ignored" in result.stderr
    assert "wavelength" not in result.stderr


def test_swapped_axes_are_told(call, noisy, clean, tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"data": 0.2 * noisy + 0.8 * clean, "other": np.ones((2, 3, 4))})
    result = call("denoise-hsi", tmp_path / "a.mat", "--var", "data", "-o", tmp_path / "out", *FAST)
    assert "note: the rows look like the spectral axis" in result.stderr


def test_existing_results(call, fails, cube, tmp_path):
    out = tmp_path / "out"
    words = ("denoise-hsi", cube, "-o", out / "a.hdr", *FAST)
    call(*words)
    before = content(out)
    assert "already exists; choose another name or pass --overwrite" in fails(4, *words)
    (out / "a_summary.json").rename(out / "kept")
    assert "a.img already exists" in fails(4, *words)
    (out / "kept").rename(out / "a_summary.json")
    result = call(*words, "--skip-existing")
    assert "skipped, it already has results" in result.stderr and "nothing was left to do" in result.stdout
    assert content(out) == before
    call(*words, "--overwrite")
    assert names(out) == sorted(p.name for p in before)
    assert all(p.stat().st_mtime_ns > before[p][1] for p in before)
    assert "contradict each other" in fails(2, *words, "--overwrite", "--skip-existing")


def test_a_series_shares_the_noise_of_its_first_image(call, cube, noisy, write_image, tmp_path):
    call("denoise-hsi", cube, "-o", tmp_path / "first", *FAST)
    summary, out = tmp_path / "first" / "cube_denoised_summary.json", tmp_path / "out"
    second = write_image(tmp_path / "second.tif", noisy[:, ::-1] * 2)
    words = ("denoise-hsi", second, "-o", out, *FAST)
    call(*words, "--sigma", summary)
    first, told = (json.loads(path.read_text()) for path in (summary, out / "second_denoised_summary.json"))
    assert [[row["noise_sigma"] for row in t["per_band"]] for t in (first, told)] == [told["asked"]["sigma"]] * 2
    assert "skipped, it already has results" in call(*words, "--sigma", summary, "--skip-existing").stderr
    first["per_band"][3]["noise_sigma"] *= 1.1
    summary.write_text(json.dumps(first))
    assert (
        "_summary.json was made with --sigma at " in call(*words, "--sigma", summary, "--skip-existing", code=4).stderr
    )


def test_the_image_is_not_replaced(call, fails, noisy, write_image, tmp_path):
    for name in ("a.tif", "b.img"):
        cube = write_image(tmp_path / name, noisy)
        before = content(tmp_path)
        assert "would overwrite the input " in fails(4, "denoise-hsi", cube, "-o", cube, *FAST, "--overwrite")
        assert content(tmp_path) == before


def test_what_replaces_a_result_replaces_all_of_it(call, noisy, write_image, tmp_path):
    cube, out = write_image(tmp_path / "a.tif", noisy), tmp_path / "out"
    call("denoise-hsi", cube, "-o", out, *FAST, "--residual")
    call("denoise-hsi", cube, "-o", out, *FAST, "--envi", "--overwrite")
    assert [n for n in names(out) if not n.endswith(".xml")] == [
        "a_denoised.hdr",
        "a_denoised.img",
        "a_denoised_summary.json",
    ]
    # An image that is called like a result in another format is not one.
    call("denoise-hsi", cube, "-o", tmp_path / "a.hdr", *FAST)  # beside a.tif, of which it is no header
    call("denoise-hsi", cube, "-o", tmp_path / "a.hdr", *FAST, "--overwrite")
    mine = write_image(out / "b_denoised.img", noisy)
    for options in ((), ("--overwrite",)):
        call("denoise-hsi", mine, "-o", out / "b_denoised.tif", *FAST, *options)
        assert {"b_denoised.img", "b_denoised.hdr", "b_denoised.tif"} < set(names(out))


def test_a_header_that_belongs_to_another_file(fails, cube, noisy, write_image, tmp_path):
    write_image(tmp_path / "b.img", noisy).rename(tmp_path / "b.dat")
    before = content(tmp_path)
    message = fails(4, "denoise-hsi", cube, "-o", tmp_path / "b.hdr", *FAST, "--overwrite")
    assert "b.img would share b.hdr with b.dat; choose another name" in message
    assert content(tmp_path) == before


@pytest.fixture
def bad(tmp_path, noisy, write_image):
    """Files that cannot be used, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.tif").touch()
    (folder / "text.tif").write_text("this is no image\n")
    whole = write_image(folder / "truncated.tif", np.tile(noisy, (1, 3, 3)))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    short = write_image(folder / "short.img", noisy)
    short.write_bytes(short.read_bytes()[:-100])
    write_image(folder / "nodata.tif", np.zeros((4, 20, 20), np.uint16), nodata=0)
    write_image(folder / "nan.tif", np.full((4, 20, 20), np.nan, np.float32))
    write_image(folder / "constant.tif", np.full((4, 20, 20), 7, np.uint16))
    write_image(folder / "complex.tif", np.zeros((4, 20, 20), np.complex64))
    write_image(folder / "pixel.tif", np.arange(9, dtype=np.float32).reshape(9, 1, 1))
    write_image(folder / "thin.tif", np.arange(20, dtype=np.float32).reshape(2, 10, 1) ** 2)
    return folder


BAD = {
    "absent.tif": "does not exist",
    "empty.tif": "is empty",
    "text.tif": "is not an image in a known format",
    "truncated.tif": "truncated",
    "short.img": "is truncated",
    "nodata.tif": "has no valid pixel",
    "nan.tif": "has no valid pixel",
    "constant.tif": "is constant in every band; there is nothing to process",
    "complex.tif": "contains complex samples",
    "pixel.tif": "has a single valid pixel",
    "thin.tif": "is too small to estimate its noise",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, fails, bad, tmp_path):
    message = fails(3, "denoise-hsi", bad / name, "-o", tmp_path / "out", *FAST)
    assert name in message and BAD[name] in message
    assert not list(tmp_path.glob("out/*"))


def test_a_batch_goes_on(call, bad, cube, tmp_path):
    wrong = [bad / "empty.tif", bad / "thin.tif", bad / "truncated.tif"]
    result = call("denoise-hsi", wrong[0], cube, *wrong[1:], "-o", tmp_path / "out", *FAST, code=7)
    assert names(tmp_path / "out") == ["cube_denoised.tif", "cube_denoised_summary.json"]
    lines = result.stderr.splitlines()
    for path in wrong:
        assert any(line.startswith(f"failed: {path}: ") and BAD[path.name] in line for line in lines)
    assert lines[-1] == "error: 3 of 4 inputs failed; the results of the others were written." and result.stdout == ""


def test_several_inputs_and_one_output(call, fails, cube, tmp_path):
    second = tmp_path / "second.tif"
    second.write_bytes(cube.read_bytes())
    for name in ("a.tif", "a.hdr"):
        message = fails(2, "denoise-hsi", cube, second, "-o", tmp_path / "out" / name, *FAST)
        assert f"2 inputs cannot share one output: pass a folder with -o, not {tmp_path / 'out' / name}" in message
    assert not (tmp_path / "out").exists()
    call("denoise-hsi", str(tmp_path / "*.tif"), "-o", tmp_path / "out", *FAST)
    assert names(tmp_path / "out")[::2] == ["cube_denoised.tif", "second_denoised.tif"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "fasthide"), 2, "unknown model 'fasthide' for denoise-hsi; did you mean 'fasthyde'?"),
        (("--model", "l-rpcanet"), 2, "l-rpcanet"),
        ((*FAST, "--weights", "x.safetensors"), 2, "fasthyde is a classical method and takes no weights"),
        ((*FAST, "--device", "cuda"), 2, "runs only on the CPU, not on cuda"),
        (("--weights", "absent.safetensors"), 5, "the weights file absent.safetensors does not exist"),
        ((*FAST, "--sigma", "0"), 2, "--sigma must be above 0, not 0"),
        ((*FAST, "--sigma", "nan"), 2, "--sigma must be above 0, not nan"),
        ((*FAST, "--sigma", "5 %"), 2, "--sigma takes a number or a file, not '5 %'; it takes no percentage."),
        ((*FAST, "--dtype", "int8"), 2, "--dtype must be auto, float32 or same, not 'int8'"),
        ((*FAST, "--report", "--pixel", "24,0"), 2, "pixel 24,0 is outside the image, which has 24 x 20 pixels"),
        ((*FAST, "--report", "--pixel", "3"), 2, "--pixel needs a row and a column such as 10,20, not '3'"),
        ((*FAST, "--report", "--pixel", "nan,0"), 2, "--pixel takes non-negative integers"),
        ((*FAST, "--report", "--pixel", "1.7,0"), 2, "--pixel takes non-negative integers"),
        ((*FAST, "--pixel", "1,1"), 2, "add --report"),
        ((*FAST, "--memory", "1MB"), 6, "--memory leaves 0 MB; increase it"),
        ((*FAST, "--memory", "lots"), 2, "--memory takes a size"),
    ],
)
def test_wrong_options(words, code, message, fails, cube, tmp_path):
    assert message in fails(code, "denoise-hsi", cube, "-o", tmp_path / "out", *words)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("name", ["a.png", "a.mat"])
def test_an_extension_that_is_not_written(name, fails, cube, tmp_path):
    message = fails(2, "denoise-hsi", cube, "-o", tmp_path / name, *FAST)
    assert f"{name} has an unsupported extension" in message and not (tmp_path / name).exists()


def test_weights_of_another_model(fails, cube, star, tiny, tmp_path):
    words = ("denoise-hsi", cube, "-o", tmp_path / "out")
    message = fails(5, *words, "--weights", tiny.path)
    assert "belong to the model 'l-rpcanet', which is of detect-ir, not of denoise-hsi" in message
    assert "not to 'star-net-s'" in fails(5, *words, "--model", "star-net-s", *star)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(fails, cube, star, tmp_path):
    message = fails(6, "denoise-hsi", cube, "-o", tmp_path / "out", *star[:2], "--device", "cuda")
    assert "cuda" in message and not (tmp_path / "out").exists()


def test_ctrl_c(call, cube, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Passage, "_assembled", stop)
    result = call("denoise-hsi", cube, "-o", tmp_path / "out", *FAST, "--residual", code=130)
    assert "interrupted; no partial results were left" in result.stderr
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- evaluate denoise-hsi


def test_evaluate_models(call, clean, star, write_image, tmp_path):
    path = write_image(tmp_path / "clean.tif", clean)
    report, picture = tmp_path / "r.json", tmp_path / "p.png"
    words = ("--sigma", "10,30", "--seeds", "0,1", "--json", report, "--picture", picture)
    result = call(*EVALUATE, "--clean", path, *words, "--model", "fasthyde,lrtdtv")
    found = json.loads(report.read_text())
    assert list(found["models"]) == ["noisy", "fasthyde", "lrtdtv"] and len(found["runs"]) == 12
    restored = tmp_path / "restored.tif"
    write_image(restored, make_noise(clean, "iid", sigma=30, seed=1).data)
    call("denoise-hsi", restored, "-o", tmp_path / "d.tif", *FAST)
    run = found["runs"][7]
    assert (run["model"], run["noise"], run["seed"], run["cube"]) == ("fasthyde", "iid 30", 1, "clean")
    expected = quality(clean, read(tmp_path / "d.tif"))
    for name in ("psnr", "psnr_global", "ssim", "sam_degrees", "ergas"):
        assert run["quality"][name] == pytest.approx(expected[name], rel=1e-6)
    lines = [line for line in result.stdout.splitlines() if "fasthyde" in line]
    assert len(lines) == 3 and "mean" in lines[2] and f"{found['summary'][5]['psnr']:.4g}" in lines[2]
    with rasterio.open(picture) as ds:
        assert ds.read().std() > 10
    call(*EVALUATE, "--clean", path, "--noise", "case2", *star, "--published-ergas", "--json", report, "--overwrite")
    assert "ergas_published_code" in json.loads(report.read_text())["runs"][0]["quality"]


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished, if anything, is in the table and the report."),
        (SystemExit(143), 143, "terminated; what was finished, if anything, is in the table and the report."),
        (DeviceError("too little memory."), 6, "error: too little memory."),
    ],
)
def test_what_is_finished_is_kept(ending, code, words, call, clean, write_image, stop, tmp_path):
    """A row is over all cubes and seeds, as in the complete table, or is not there."""
    paths = [word for name in "ab" for word in ("--clean", write_image(tmp_path / f"{name}.tif", clean))]
    models = (*paths, "--sigma", "10,30", "--model", "fasthyde,lrtdtv", "--json")
    call(*EVALUATE, *models, tmp_path / "whole.json")
    stop(evaluate, "denoise_array", 8, ending)
    result = call(*EVALUATE, *models, tmp_path / "part.json", "--picture", tmp_path / "p.png", code=code)
    whole, part = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "part"))
    assert part["missing"] == ["lrtdtv"] and "missing" not in whole
    assert without_seconds(part["summary"]) == without_seconds(whole["summary"])[:7]
    assert (whole["summary"][6]["noise"], whole["summary"][6]["cubes"]) == ("iid 10", 2) and len(whole["summary"]) == 9
    assert without_seconds(part["runs"]) == without_seconds(whole["runs"])[:-1]
    missing, last = result.stderr.splitlines()[-2:]
    assert missing == "not finished: lrtdtv" and last == words
    assert result.stdout.count("lrtdtv") == 1 and not (tmp_path / "p.png").exists()


def test_nothing_is_written_where_no_model_has_finished_any(call, clean, write_image, stop, tmp_path):
    stop(evaluate, "denoise_array", 1, KeyboardInterrupt())
    path, report = write_image(tmp_path / "a.tif", clean), tmp_path / "r.json"
    result = call(*EVALUATE, "--clean", path, "--sigma", 10, *FAST, "--json", report, code=130)
    assert result.stdout == "" and not report.exists()


def test_files_are_looked_at_before_anything_is_computed(fails, clean, write_image, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "make_noise", None)
    first, second = write_image(tmp_path / "a.tif", clean), write_image(tmp_path / "b.tif", clean[:8])
    words = ("--clean", first, "--clean", second, "--sigma", 10, *FAST)
    assert f"is not within the 8 bands of {second}" in fails(2, *EVALUATE, *words, "--drop-bands", 16)


def test_adapt(call, fails, clean, cube, star, write_image, monkeypatch, tmp_path):
    monkeypatch.setattr(adapt, "STEPS", 3)
    result = call("denoise-hsi", cube, "-o", tmp_path / "d.tif", *star, "--adapt")
    about = json.loads((tmp_path / "d_summary.json").read_text())
    assert about["adapted"]["kept"] and about["adapted_to_each_image"]
    assert f"estimated error {about['adapted']['risk_before']:.4f} -> " in result.stderr
    call("denoise-hsi", cube, "-o", tmp_path / "plain.tif", *star)
    assert not np.array_equal(read(tmp_path / "plain.tif"), read(tmp_path / "d.tif"))
    cleaned = rsunfold.denoise_hsi(cube, weights=star[1], device="cpu", adapt=True)
    np.testing.assert_array_equal(cleaned.data, read(tmp_path / "d.tif"))
    monkeypatch.setattr(adapt, "RATE", 5.0)
    result = call("denoise-hsi", cube, "-o", tmp_path / "far.tif", *star, "--adapt", "--sigma", "0.08")
    assert "it did not decrease, so the network was left unchanged" in result.stderr
    report, path = tmp_path / "r.json", write_image(tmp_path / "clean.tif", clean)
    call(*EVALUATE, "--clean", path, "--sigma", "20", *star, "--adapt", "--json", report)
    found = json.loads(report.read_text())
    assert found["models"]["star-net (star)"]["adapted_to_each_image"] and found["runs"][1]["adapted"]["steps"] == 3
    assert "--adapt works only with star-net" in fails(
        2, "denoise-hsi", cube, "-o", tmp_path / "x.tif", *FAST, "--adapt"
    )


def test_evaluate_files(call, fails, clean, noisy, write_image, tmp_path):
    truth, given = write_image(tmp_path / "t.tif", clean * 9), write_image(tmp_path / "n.tif", noisy * 9)
    report = tmp_path / "r.json"
    words = (*EVALUATE, "--truth", truth, "--restored", given, "--noisy", given, "--json", report)
    result = call(*words, "--published-ergas")
    found = json.loads(report.read_text())
    assert [run["model"] for run in found["runs"]] == ["noisy", "n.tif"]
    assert found["runs"][1]["quality"]["psnr"] == pytest.approx(quality(clean, noisy)["psnr"], abs=1e-3)
    assert "ergas_published_code" in found["runs"][1]["quality"] and "n.tif" in result.stdout
    assert "already exists" in fails(4, *words)


def test_results_of_another_program_for_the_same_noise(call, clean, write_image, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.tif", clean)
    words = (*EVALUATE, "--clean", "a.tif", "--sigma", "20,30", "--json")
    call(*words, "saved.json", "--save-noisy", "noisy")
    assert list(json.loads((tmp_path / "saved.json").read_text())["models"]) == ["noisy"]
    call("denoise-hsi", "noisy/a_iid20_seed0.tif", "noisy/a_iid30_seed0.tif", "-o", "theirs", *FAST)
    result = call(*words, "alone.json", "--restored", "theirs")
    assert "theirs/" in result.stdout and "star-net" not in result.stdout
    call(*words, "beside.json", "--restored", "theirs", "--restored", "noisy/../theirs/../noisy", *FAST)
    found = json.loads((tmp_path / "beside.json").read_text())
    assert list(found["models"]) == ["noisy", "theirs/", "noisy/../theirs/../noisy/", "fasthyde"]
    psnr = {name: [r["quality"]["psnr"] for r in found["runs"] if r["model"] == name] for name in found["models"]}
    assert psnr["theirs/"] == psnr["fasthyde"] > psnr["noisy"] == psnr["noisy/../theirs/../noisy/"]


def test_variables_of_results(call, fails, clean, noisy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"t": {"c": clean}, "n": {"x": noisy, "y": clean}, "r": {"y": noisy, "z": clean}, "s": {"z": clean}}
    for name, cubes in files.items():
        scipy.io.savemat(f"{name}.mat", {key: np.moveaxis(cube, 0, 2) for key, cube in cubes.items()})
    words = (*EVALUATE, "--truth", "t.mat", "--restored", "r.mat")
    told = fails(3, *words)
    assert "r.mat contains several arrays: y (24 x 20 x 16)" in told and told.endswith("with --restored-var NAME.")
    words += ("--restored-var", "z", "--noisy", "n.mat")
    assert "n.mat contains several arrays" in (told := fails(3, *words)) and "--noisy-var NAME" in told
    call(*words, "--noisy-var", "x", "--restored", "s.mat", "--json", "r.json")
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert {run["model"]: run["quality"]["identical"] for run in runs} == {"noisy": False, "r.mat": True, "s.mat": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--clean", "x.tif", *FAST), "--noise iid needs --sigma"),
        (("--restored", "y"), "use either --clean, or --truth and --restored"),
        (("--clean", "x.tif", "--restored", "y", "--restored", "./y"), "--restored names y twice"),
        (("--clean", "x.tif", "--restored", "y", "--save-noisy", "y"), "--save-noisy and --restored both name y"),
        (("--clean", "x.tif", "--restored", "y", "--adapt"), "--adapt applies to models; add --model or --weights"),
        (("--clean", "x.tif", "--save-noisy", "y", "--threads", "1"), "--threads applies to models; add --model"),
        (("--clean", "x.tif", "--restored-var", "y"), "--restored-var applies to --restored, which is not given"),
        (("--truth", "x.tif", "--restored", "y", "--noisy-var", "y"), "--noisy-var applies to --noisy, which is not"),
        (("--truth", "x.tif", "--restored", "y", "--save-noisy", "z"), "--save-noisy applies to --clean and cannot"),
        (("--clean", "x.tif", *FAST, "--noise", "case2", "--sigma", "10"), "draws its own noise levels"),
        (("--clean", "x.tif", *FAST, "--noise", "case9"), "unknown --noise 'case9'"),
        (("--clean", "x.tif", *FAST, "--sigma", "a"), "--sigma takes numbers"),
        (("--clean", "x.tif", *FAST, "--sigma", "10", "--seeds", "0.5"), "--seeds takes non-negative integers"),
        (
            ("--clean", "x.tif", "--sigma", "10", "--model", "star-net,fasthyde", "--weights", "star-net-s"),
            "the weights star-net-s belong to star-net-s; add it to --model, or leave --model out",
        ),
        (("--clean", "x.tif", "--sigma", "10", "--noisy", "n.tif"), "--noisy cannot be combined with --clean"),
        (
            ("--truth", "x.tif", "--restored", "y.tif", "--sigma", "10"),
            "--sigma applies to --clean and cannot be combined with --truth",
        ),
        (
            ("--truth", "x.tif", "--restored", "y.tif", "--model", "a"),
            "--model applies to --clean and cannot be combined with --truth",
        ),
        ((), "use either --clean, or --truth and --restored"),
        (("--truth", "x.tif"), "use either --clean, or --truth and --restored"),
        (("--clean", "x.tif", "--truth", "x.tif", "--restored", "y.tif"), "use either --clean"),
    ],
)
def test_wrong_evaluations(words, message, fails, tmp_path):
    assert message in fails(2, *EVALUATE, *words)
