"""rsunfold select-features and evaluate select-features: images and tables, and everything that can be got wrong."""

import csv
import json

import numpy as np
import pytest
import rasterio
import scipy.io

import rsunfold
from rsunfold.errors import DeviceError
from rsunfold.infer.features import evaluate
from rsunfold.infer.features.source import ImageBands
from rsunfold.io import open_cube
from rsunfold.simulate.hyperspectral import hyperspectral_scene

FAST = ("--model", "css")
SELECT = "select-features"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def scene_data():
    data = hyperspectral_scene(24, 20, 16, seed=3).data
    return np.rint(data / data.max() * 10000).astype(np.uint16)


@pytest.fixture
def cube(scene_data, write_image, tmp_path):
    path = write_image(tmp_path / "cube.tif", scene_data)
    with rasterio.open(path, "r+") as ds:
        for i in range(16):
            ds.update_tags(i + 1, wavelength=str(400 + 20 * i), wavelength_units="nm")
    return path


@pytest.fixture
def table(tmp_path):
    """40 samples, of two classes, 6 features."""
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    data = rng.normal(size=(40, 6)) + 4 * label[:, None] * np.array([1, 0, 1, 0, 0, 1])
    lines = ["a,b,c,d,e,f,label", *(",".join(map(str, [*row, y])) for row, y in zip(data.round(4), label, strict=True))]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_image(call, cube, scene_data, tmp_path):
    out = tmp_path / "out"
    result = call(SELECT, cube, "-k", 5, "-o", out, *FAST, "-v")
    assert names(out) == ["cube_ranking.csv", "cube_ranking.json", "cube_selected.png", "cube_selected.tif"]
    assert result.stdout == f"1 of 1 input reduced (css); results are in {out}\n"
    told = json.loads((out / "cube_ranking.json").read_text())
    assert f"{cube}: 5 of 16 bands chosen, " in result.stderr and "best first: " in result.stderr
    with open_cube(out / "cube_selected.tif") as reader:
        chosen = told["selected_indices_zero_based"]
        np.testing.assert_array_equal(reader.read().data, scene_data[chosen])
        assert reader.meta.wavelengths == tuple(400.0 + 20 * i for i in chosen)
    with (out / "cube_ranking.csv").open() as file:
        assert sum(int(row["selected"]) for row in csv.DictReader(file)) == 5


def test_share_gap_and_ranges(call, cube, tmp_path):
    out = tmp_path / "out"
    words = ("--variance", 0.9, "--min-gap", 40, "--drop", "440-480,600-620", "--keep", "400-660", "--rank-order")
    call(SELECT, cube, "-o", out, *FAST, *words, "--envi", "--no-picture")
    told = json.loads((out / "cube_ranking.json").read_text())
    w = np.array(told["selected_wavelengths_nm"])
    assert told["explained_variance"] >= 0.9 and (w <= 660).all() and not ((w >= 440) & (w <= 480)).any()
    assert np.diff(np.sort(w)).min(initial=999) >= 40
    assert told["selected_indices_zero_based"] == told["ranking_indices_zero_based"][: len(w)]
    assert told["bands_left_out"]["3"] == "in the range 440-480 nm to drop"
    assert names(out) == [
        "cube_ranking.csv", "cube_ranking.json", "cube_selected.hdr", "cube_selected.img", "cube_selected.img.aux.xml",
    ]  # fmt: skip


def test_a_table(call, table, tmp_path):
    result = call(SELECT, table, "-k", 2, "-o", tmp_path / "out", *FAST)
    assert "2 of 6 features chosen" in result.stderr and "note: the column 'label' was taken as labels" in result.stderr
    assert (tmp_path / "out" / "table_selected.csv").read_text().startswith("label,")
    call(SELECT, table, "-k", 2, "-o", tmp_path / "all", *FAST, "--label", "a", "--ignore", "b")
    told = json.loads((tmp_path / "all" / "table_ranking.json").read_text())
    assert told["columns_kept_aside"] == ["a", "b", "label"] and told["features"] == 4


def test_whether_a_table_has_a_header_is_asked_where_it_is_not_clear(call, fails, tmp_path):
    data = np.random.default_rng(0).random((9, 4)).round(3)
    rows = ["900,410,700,label", *(",".join(map(str, [*row[:3], i % 2])) for i, row in enumerate(data))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    (tmp_path / "b.csv").write_text("\n".join([rows[0].replace("label", "555"), *rows[1:]]))
    call(SELECT, tmp_path / "a.csv", "-k", 2, "-o", tmp_path / "out", *FAST)
    message = fails(3, SELECT, tmp_path / "b.csv", "-k", 2, "-o", tmp_path / "out", *FAST)
    assert "say with --header whether it holds names" in message
    call(SELECT, tmp_path / "b.csv", "-k", 2, "-o", tmp_path / "out", *FAST, "--header", "yes")
    told = json.loads((tmp_path / "out" / "b_ranking.json").read_text())
    assert (
        told["samples"] == 9 and told["header"] is True and set(told["selected_names"]) <= {"900", "410", "700", "555"}
    )
    assert rsunfold.select_features(tmp_path / "b.csv", k=2, header=False).summary["samples"] == 10
    words = ("--features", 2, "--repeats", 1, "--model", "css", "--json", tmp_path / "r.json")
    call(*EVALUATE, "--data", tmp_path / "b.csv", "--label", "555", "--header", "yes", *words)


def test_a_mat_file_is_an_image_or_a_table(call, fails, scene_data, tmp_path):
    path = tmp_path / "a.mat"
    cube = scene_data.transpose(1, 2, 0)
    scipy.io.savemat(path, {"data": cube, "map": np.ones((24, 20))})
    assert "3 of 16 bands chosen" in call(SELECT, path, "-k", 3, "-o", tmp_path / "1", *FAST).stderr
    x = cube.reshape(-1, 16)[:50]
    scipy.io.savemat(path, {"X": x, "Y": np.arange(50) % 5})
    assert "3 of 16 features chosen" in call(SELECT, path, "-k", 3, "-o", tmp_path / "2", *FAST).stderr
    scipy.io.savemat(path, {"fea": x.T, "gnd": np.arange(50)})
    words = (SELECT, path, "-k", 3, "-o", tmp_path / "3", *FAST)
    assert "the table is transposed, so use --features rows" in fails(3, *words)
    call(*words, "--features", "rows")
    np.testing.assert_array_equal(
        np.load(tmp_path / "2" / "a_selected.npz")["X"], np.load(tmp_path / "3" / "a_selected.npz")["X"]
    )
    assert "already" in call(*words, "--features", "rows", "--skip-existing").stderr
    words = ("--features", 2, "--repeats", 1, "--model", "css")
    call(*EVALUATE, "--data", tmp_path / "2" / "a_selected.npz", *words, "--labels-var", "y")
    message = fails(3, *EVALUATE, "--data", tmp_path / "3" / "a_selected.npz", *words)
    assert "has another label for every sample, so they are no classes" in message


def test_two_runs_and_two_seeds_give_one_list(call, cube, tmp_path):
    found = []
    for name, words in (("1", ()), ("2", ()), ("3", ("--seed", 9))):
        call(SELECT, cube, "-k", 5, "-o", tmp_path / name, *FAST, *words)
        found.append((tmp_path / name / "cube_ranking.csv").read_text())
    assert found[0] == found[1] == found[2]


def test_existing_results(call, fails, cube, tmp_path):
    out = tmp_path / "out"
    words = (SELECT, cube, "-k", 3, "-o", out, *FAST)
    call(*words)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.iterdir()}
    assert "already exists; choose another name or pass --overwrite" in fails(4, *words)
    result = call(*words, "--skip-existing")
    assert "skipped, it already has results" in result.stderr and "nothing was left to do" in result.stdout
    assert "was made with --count at 3, not at 4" in fails(4, SELECT, cube, "-k", 4, *words[4:], "--skip-existing")
    assert "cube_selected.img does not: it was made without --envi" in fails(4, *words, "--envi", "--skip-existing")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.iterdir()} == before
    call(*words, "--overwrite")
    assert all(p.stat().st_mtime_ns > before[p][1] for p in out.iterdir())
    assert "contradict each other" in fails(2, *words, "--overwrite", "--skip-existing")


def test_overwriting_leaves_nothing_of_another_run(call, cube, tmp_path):
    out = tmp_path / "out"
    call(SELECT, cube, "-k", 3, "-o", out, "--envi", "--model", "css")
    (out / "cube_notes.txt").touch()
    assert {"cube_selected.img", "cube_selected.hdr", "cube_selected.png"} < set(names(out))
    call(SELECT, cube, "-k", 2, "-o", out, *FAST, "--no-picture", "--overwrite")
    assert set(names(out)) == {"cube_ranking.csv", "cube_ranking.json", "cube_selected.tif", "cube_notes.txt"}


def test_an_input_called_like_a_result_of_another_is_not_removed(call, fails, cube, tmp_path):
    """What a new run would not write but an old one has written is removed."""
    call(SELECT, cube, "-k", 3, "-o", tmp_path, *FAST)
    before = (tmp_path / "cube_selected.png").read_bytes()
    words = (SELECT, cube, tmp_path / "cube_selected.png", "-k", 2, "-o", tmp_path, *FAST, "--no-picture")
    assert "would overwrite the input" in fails(4, *words, "--overwrite")
    assert (tmp_path / "cube_selected.png").read_bytes() == before


@pytest.mark.parametrize("words", [(), ("--envi",)])
def test_bands_without_names_keep_their_number(call, cube, tmp_path, words):
    call(SELECT, cube, "-k", 3, "-o", tmp_path / "out", *FAST, *words)
    numbers = json.loads((tmp_path / "out" / "cube_ranking.json").read_text())["selected_bands_one_based"]
    with open_cube(tmp_path / "out" / f"cube_selected{'.img' if words else '.tif'}") as reader:
        assert reader.meta.band_names == tuple(f"Band {n}" for n in numbers)


def test_a_range_without_a_band_is_told(call, cube, tmp_path):
    result = call(SELECT, cube, "-k", 3, "-o", tmp_path / "out", *FAST, "--drop", "1340-1500", "--min-gap", 0.04)
    assert "note: no band lies in the range 1340-1500 nm" in result.stderr
    assert "note: --min-gap 0.04 has no effect: all bands lie 20 nm or more apart" in result.stderr
    result = call(SELECT, cube, "-k", 3, "-o", tmp_path / "gap", *FAST, "--min-gap", 40)
    assert "no effect" not in result.stderr


def test_bands_without_wavelengths_are_dropped_by_number_or_name(call, fails, scene_data, table, tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": scene_data.transpose(1, 2, 0)})
    words = (SELECT, path, "-k", 5, "-o", tmp_path / "out", *FAST)
    message = fails(3, *words, "--drop", "1-7")
    assert "no wavelengths, so --drop cannot be used; exclude bands by number or name with --drop-bands" in message
    call(*words, "--drop-bands", "1-7, 12,16")
    told = json.loads((tmp_path / "out" / "a_ranking.json").read_text())
    assert set(told["bands_left_out"]) == {*map(str, range(1, 8)), "12", "16"}
    assert set(told["bands_left_out"].values()) == {"among the bands to drop"}
    again = rsunfold.select_features(path, k=5, model="css", drop_bands=["1-7", 12, np.int64(16)])
    assert again.indices == told["selected_indices_zero_based"] and min(again.indices) > 6
    assert "with --drop-bands at 1-7,12,16, not at 1-6" in fails(4, *words, "--drop-bands", "1-6", "--skip-existing")
    assert "--drop-bands applies to images" in fails(2, SELECT, table, *words[2:], "--drop-bands", "1")


def test_one_choice_for_a_series(call, fails, cube, scene_data, write_image, tmp_path):
    other = write_image(tmp_path / "other.tif", scene_data[:, ::-1, :5] + 9)
    call(SELECT, cube, "-k", 4, "-o", tmp_path / "first", "--model", "spca-net:rank=3", "--seed", 4)
    report = tmp_path / "first" / "cube_ranking.json"
    words = (SELECT, other, "-o", tmp_path / "out", "--like", report)
    call(*words)
    first, told = (json.loads(path.read_text()) for path in (report, tmp_path / "out" / "other_ranking.json"))
    for key in ("selected_indices_zero_based", "model", "options", "seed"):
        assert told[key] == first[key]
    assert told["like"] == {"report": str(report), "input": str(cube)}
    found = rsunfold.select_features(other, like=report)
    assert found.indices == told["selected_indices_zero_based"]
    with pytest.raises(ValueError, match="leave out model, options and seed"):
        rsunfold.select_features(other, like=report, seed=1)
    assert "skipped, it already has results" in call(*words, "--skip-existing").stderr
    call(SELECT, cube, "-k", 3, "-o", tmp_path / "first", "--model", "spca-net:rank=3", "--seed", 4, "--overwrite")
    assert "other_ranking.json was made with --like at" in fails(4, *words, "--skip-existing")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-k", 3), 2, "use one of -k, "),
        (("--variance", 0.9), 2, "use one of -k, "),
        (("--min-gap", 30), 2, "--min-gap cannot be combined with --like"),
        (("--drop", "400-450"), 2, "--drop cannot be combined with --like"),
        (("--drop-bands", "2"), 2, "--drop-bands cannot be combined with --like"),
        (FAST, 2, "--model cannot be combined with --like, which applies an earlier choice as it is"),
        (("--seed", 3), 2, "--seed cannot be combined with --like"),
        (
            ("--like", "absent.json"),
            3,
            "--like takes the ..._ranking.json of an earlier selection, but absent",
        ),
        (("--like", "cube.tif"), 3, "cube.tif is none"),
    ],
)
def test_what_an_earlier_choice_excludes(words, code, message, call, fails, cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(SELECT, cube, "-k", 2, "-o", "first", *FAST)
    assert message in fails(code, SELECT, cube, "-o", "out", "--like", "first/cube_ranking.json", *words)


def test_a_batch_goes_on(call, cube, table, tmp_path):
    (tmp_path / "empty.tif").touch()
    result = call(SELECT, tmp_path / "empty.tif", cube, table, "-k", 3, "-o", tmp_path / "out", *FAST, code=7)
    assert f"failed: {tmp_path / 'empty.tif'}: " in result.stderr
    assert "1 of 3 inputs failed; the results of the others were written" in result.stderr
    assert len(names(tmp_path / "out")) == 8


def test_ctrl_c(call, cube, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageBands, "write", stop)
    call(SELECT, cube, "-k", 3, "-o", tmp_path / "out", *FAST, code=130)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (FAST, 2, "use one of -k, the number to choose, --variance"),
        (("-k", 3, "--variance", 0.9, *FAST), 2, "use one of -k"),
        (("-k", 17, *FAST), 2, "-k 17 is more than the 16 usable bands"),
        (
            ("-k", 9, "--min-gap", 100, *FAST),
            2,
            "more than the 4 bands of the 16 usable ones that can be at least 100 nm apart",
        ),
        (("--variance", 99, *FAST), 2, "--variance must be a share above 0 and at most 1"),
        (("-k", 3, "--drop", "all", *FAST), 2, "--drop takes ranges of wavelengths in nm such as 1340-1450,1800-1960"),
        (("-k", 3, "--drop-bands", "3,17", *FAST), 2, "--drop-bands 17 is not within the 16 bands"),
        (("-k", 3, "--drop", "500-400", *FAST), 2, "the smaller value first"),
        (("-k", 3, "--keep", "2000-2400", *FAST), 3, "--keep leaves no band of"),
        (("-k", 3, "--drop", "100-2400", *FAST), 3, "--drop leaves no band of"),
        (("-k", 3, "--drop", "100-500", "--keep", "400-500", *FAST), 3, "--drop and --keep leave no band of"),
        (("-k", 3, "--drop", "0.44-0.48,0.6-0.62", *FAST), 2, "looks like micrometres: write 440-480,600-620 ("),
        (("-k", 3, "--keep", "400-600,0.6-0.62", *FAST), 2, "--keep is in nm, but 0.6-0.62 looks like micrometres"),
        (("-k", 3, "--keep", "0.3-0.8", *FAST), 3, "--keep leaves no band of"),
        (("-k", 3, "--ignore", "a", *FAST), 2, "--ignore applies to tables"),
        (("-k", 3, "--features", "rows", *FAST), 2, "--features rows applies to tables"),
        (("-k", 3, "--header", "no", *FAST), 2, "--header applies to tables"),
        (("-k", 3, "--header", "maybe", *FAST), 2, "--header takes yes or no, not 'maybe'"),
        (("-k", 3, "--features", "lines", *FAST), 2, "features must be columns or rows, not 'lines'"),
        (("-k", 3, "--model", "cs"), 2, "unknown model 'cs' for select-features; did you mean 'css'?"),
        (("-k", 3, "--published", *FAST), 2, "css has no option 'published'"),
        (("-k", 3, "--memory", "1MB", *FAST), 6, "but --memory leaves 0 MB; increase it"),
        (("-k", 3, "--var", "x", *FAST), 3, "has no variable 'x'"),
    ],
)
def test_wrong_options(words, code, message, fails, cube, tmp_path):
    assert message in fails(code, SELECT, cube, "-o", tmp_path / "out", *words)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("drop", ["0-10", "0-0.5", "0.3-0.8", "1.34-1.45", "5-15"])
def test_ranges_below_the_bands_that_are_no_micrometres_of_some_are_noted(drop, call, cube, tmp_path):
    result = call(SELECT, cube, "-k", 3, "-o", tmp_path / "out", "--drop", drop, *FAST)
    assert f"no band lies in the range {drop} nm" in result.stderr


BAD = {
    "text.csv": ("site,b\nx,1\ny,2\n", "the column 'site' contains text such as 'x'"),
    "nan.csv": ("a,b\n1,2\nnan,3\n", "has no number in 1 of its cells"),
    "one.csv": ("a,b\n1,2\n", "contains 1 sample"),
    "constant.csv": ("a,b\n1,2\n1,2\n", "every feature is constant"),
    "text.tif": ("no image", "is not an image in a known format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, fails, tmp_path):
    (tmp_path / name).write_text(BAD[name][0])
    message = fails(3, SELECT, tmp_path / name, "-k", 1, "-o", tmp_path / "out", *FAST)
    assert name in message and BAD[name][1] in message and not (tmp_path / "out").exists()


def test_the_output_is_a_folder(fails, cube, tmp_path):
    message = fails(2, SELECT, cube, "-k", 3, "-o", tmp_path / "a.tif", *FAST)
    assert "-o expects a folder for the results" in message


# ---------------------------------------------------------------- evaluate select-features

EVALUATE = ("evaluate", "select-features")


def test_evaluate_a_table(call, fails, table, tmp_path):
    report, picture = tmp_path / "r.json", tmp_path / "p.png"
    words = ("--model", "css,variance", "--repeats", 3, "--features", "1,3", "--json", report, "--picture", picture)
    result = call(*EVALUATE, "--data", table, *words)
    told = json.loads(report.read_text())
    assert list(told["models"]) == ["css", "variance"] and len(told["runs"]) == 5
    assert "Hungarian" in told["formulas"]["acc"] and "plain k-means++" in told["protocol"]["start"]
    assert told["runs"][1]["repeats"] == len(told["runs"][1]["acc"]["values"]) == 3
    assert f"{100 * told['runs'][0]['acc']['mean']:.2f}" in result.stdout and "table" in result.stdout
    with rasterio.open(picture) as ds:
        assert (ds.width, ds.height) == (1400, 560)
    assert "already exists" in fails(4, *EVALUATE, "--data", table, *words)
    call(*EVALUATE, "--data", table, *words, "--overwrite", "--kmeans", "greedy", "-q")
    assert "greedy" in json.loads(report.read_text())["protocol"]["start"]


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished, if anything, is in the table and the report."),
        (SystemExit(143), 143, "terminated; what was finished, if anything, is in the table and the report."),
        (DeviceError("too little memory."), 6, "error: too little memory."),
    ],
)
def test_what_is_finished_is_kept(ending, code, words, call, table, stop, tmp_path):
    """A model counts on a table when it has all numbers of features."""
    other, paths = tmp_path / "other.csv", ("--json", tmp_path / "r.json", "--picture", tmp_path / "p.png")
    other.write_text(table.read_text())
    stop(evaluate, "clustering", 10, ending)  # all features, twice css, twice variance, and on the other table
    models = ("--model", "css,variance", "--repeats", 2, "--features", "1,3")
    result = call(*EVALUATE, "--data", table, "--data", other, *models, *paths, code=code)
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["missing"] == ["variance on other"] and not (tmp_path / "p.png").exists()
    pairs = [(data, model) for data in ("table", "other") for model in ("all", "css", "variance")]
    assert [(row["data"], row["model"]) for row in told["summary"]] == pairs[:-1]
    assert [(run["data"], run["model"], run["features"]) for run in told["runs"]][-2:] == [
        ("other", "css", 3),
        ("other", "variance", 1),
    ]
    missing, last = result.stderr.splitlines()[-2:]
    assert missing == "not finished: variance on other" and last == words and result.stdout.count("variance") == 1


def test_what_is_finished_of_images_is_kept(call, cube, write_image, stop, tmp_path):
    classes = (1 + np.add.outer(np.arange(24), np.arange(20)) // 22).astype(np.uint8)
    labels, report = write_image(tmp_path / "truth.tif", classes), tmp_path / "r.json"
    stop(evaluate, "classification", 3, KeyboardInterrupt())
    words = ("--bands", 2, "--train-share", 0.2, "--repeats", 1, "--model", "css,variance", "--json", report)
    call(*EVALUATE, "--image", cube, "--labels", labels, *words, code=130)
    told = json.loads(report.read_text())
    assert told["missing"] == ["variance on cube"] and [run["model"] for run in told["runs"]] == ["all", "css"]


def test_nothing_is_written_where_no_model_has_finished_any(call, table, stop, tmp_path):
    stop(evaluate, "clustering", 2, KeyboardInterrupt())
    words = ("--repeats", 1, "--features", 2, "--json", tmp_path / "r.json")
    result = call(*EVALUATE, "--data", table, *words, *FAST, code=130)
    assert result.stdout == "" and not (tmp_path / "r.json").exists()


def test_evaluate_an_image(call, cube, scene_data, write_image, tmp_path):
    level = scene_data[3].astype(int) - scene_data[12]
    truth = (1 + np.digitize(level, np.quantile(level, [0.3, 0.7]))).astype(np.uint8)
    report = tmp_path / "r.json"
    words = ("--bands", "2,4", "--train-share", 0.2, "--repeats", 2, "--json", report)
    labels = write_image(tmp_path / "truth.tif", truth)
    result = call(*EVALUATE, "--image", cube, "--labels", labels, *words, *FAST, "-v")
    told = json.loads(report.read_text())
    assert [r["features"] for r in told["runs"]] == [16, 2, 4] and told["protocol"]["split"] == "random"
    assert told["runs"][2]["oa"]["mean"] > 0.6 and "cube: css, 4 bands: OA " in result.stderr
    call(*EVALUATE, "--image", cube, "--labels", labels, *words, *FAST, "--split", "tiles", "--overwrite")
    assert json.loads(report.read_text())["protocol"]["tiles"] == 4


def test_rankings_of_other_programs_stand_beside_models(call, table, tmp_path):
    mine, theirs, report = tmp_path / "mine.txt", tmp_path / "theirs.txt", tmp_path / "r.json"
    mine.write_text("6 1 3"), theirs.write_text("2\n4\n5\n")
    words = ("--repeats", 2, "--features", "1,3", "--json", report, "--picture", tmp_path / "p.png")
    result = call(*EVALUATE, "--data", table, "--ranking", mine, "--ranking", theirs, *FAST, *words)
    told = json.loads(report.read_text())
    assert list(told["models"]) == ["css", str(mine), str(theirs)] and told["models"][str(mine)]["ranked"] == 3
    runs = {(run["model"], run["features"]): run for run in told["runs"]}
    assert runs[str(mine), 3]["indices_zero_based"] == [5, 0, 2] and runs[str(theirs), 1]["indices_zero_based"] == [1]
    assert runs[str(mine), 3]["acc"]["mean"] > runs[str(theirs), 3]["acc"]["mean"] and "mine.txt" in result.stdout
    call(*EVALUATE, "--data", table, "--ranking", mine, *words, "--overwrite")
    assert list(json.loads(report.read_text())["models"]) == [str(mine)]


def test_a_ranking_of_bands(call, cube, write_image, tmp_path):
    classes = (1 + np.add.outer(np.arange(24), np.arange(20)) // 22).astype(np.uint8)
    labels, report = write_image(tmp_path / "truth.tif", classes), tmp_path / "r.json"
    (tmp_path / "mine.txt").write_text("16 1")
    words = ("--bands", "1,2", "--train-share", 0.2, "--repeats", 1, "--json", report)
    call(*EVALUATE, "--image", cube, "--labels", labels, "--ranking", tmp_path / "mine.txt", *words)
    assert json.loads(report.read_text())["runs"][2]["indices_zero_based"] == [15, 0]


def test_rankings_that_cannot_be_used(fails, table, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "clustering", lambda *args: pytest.fail("clustered"))
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text(table.read_text())
    for name in ("css", "all", "mine.txt"):
        (tmp_path / name).write_text("1 2 3")
    given, few = ("--data", table, "--ranking", "mine.txt"), ("--features", 3)
    for code, words, message in (
        (2, ("--ranking", "./mine.txt", *few), "--ranking names mine.txt twice"),
        (
            2,
            ("--ranking", "css", *FAST, *few),
            "--ranking css would be called like another row of the table",
        ),
        (2, ("--ranking", "all", *few), "--ranking all would be called like another row"),
        (2, ("--data", other, *few), "--ranking is that of one table, but there are 2"),
        (2, ("--features", 4), "mine.txt ranks 3 of the 4 features that --features asks for"),
        (3, ("--ranking", "none.txt"), "the ranking none.txt cannot be read (No such file or directory)"),
    ):
        assert message in fails(code, *EVALUATE, *given, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "use either --data, or --image and --labels"),
        (("--data", "a.mat", "--image", "b.tif", "--labels", "c.tif"), "use either --data"),
        (("--image", "b.tif"), "use either --data"),
        (("--data", "a.mat", "--kmeans", "best"), "--kmeans must be plain or greedy, not 'best'"),
        (("--data", "a.mat", "--features", "1.5"), "--features takes numbers of features such as 10,20,30, not '1.5'"),
        (("--data", "a.mat", "--features", "0"), "--features takes numbers of at least 1"),
        (
            ("--image", "b.tif", "--labels", "c.tif", "--label", "x"),
            "--label applies to --data and cannot be combined with --image",
        ),
        (
            ("--image", "b.tif", "--labels", "c.tif", "--kmeans", "greedy"),
            "--kmeans applies to --data and cannot be combined with",
        ),
        (
            ("--data", "a.mat", "--train-share", "7"),
            "--train-share applies to --image and cannot be combined with --data",
        ),
        (("--data", "a.mat", "--split", "banana"), "--split applies to --image and cannot be combined with --data"),
        (("--image", "b.tif", "--labels", "c.tif", "--split", "x"), "--split must be random or tiles"),
    ],
)
def test_wrong_evaluations(words, message, fails):
    assert message in fails(2, *EVALUATE, *words, *FAST)
