"""What a command line names, and what becomes of each."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from rsunfold.errors import BatchError, ClaimedError, DeviceError, ExistsError, InputError, OutputError, UsageError
from rsunfold.infer.anomaly import run as anomaly
from rsunfold.infer.batch import Outcome, expand, raise_failures, run_batch
from rsunfold.infer.features import run as features
from rsunfold.infer.hsi import run as hsi
from rsunfold.infer.infrared import explain
from rsunfold.infer.infrared import run as infrared
from rsunfold.infer.results import all_names
from rsunfold.io.envi import TIFF_SUFFIXES
from rsunfold.io.folders import LAST, is_result
from rsunfold.io.names import shown_as
from rsunfold.io.writer import ENVI_SUFFIXES
from rsunfold.registry import all_models

SURROGATE = UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")


@pytest.fixture
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f10.png", "f9.png", "g.tif", "sub/h.png", "notes.txt"):
        path = tmp_path / "frames" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "frames"


def test_names_folders_and_patterns(frames):
    assert expand(["frames/g.tif"]) == {"g": "frames/g.tif"}
    assert expand(["frames"]) == {"f9": "frames/f9.png", "f10": "frames/f10.png", "g": "frames/g.tif"}
    assert list(expand(["frames/f*.png"]).values()) == ["frames/f9.png", "frames/f10.png"]
    assert list(expand([str(frames / "**" / "*.png")])) == ["f9", "f10", "h"]
    assert list(expand(["frames/g.tif", "frames"])) == ["g", "f9", "f10"]
    assert "sub" not in expand(["frames/*"])  # a folder is no image


@pytest.mark.parametrize(
    ("pattern", "stems"),
    [
        ("in/*/cam.png", ["d1/cam", "d2/cam"]),
        ("in/**/*.png", ["cam", "d1/cam", "d1/raw/c1", "d2/cam"]),
        ("in/**", ["cam", "d1/cam", "d1/raw/c1", "d2/cam"]),
        ("./in/d[2-9]/../*/cam.png", ["d1/cam", "d2/cam"]),
        ("**/c1.png", ["in/d1/raw/c1"]),
        ("in/d1/raw/*.png", ["c1"]),
        ("in/../in/d1/c*.png", ["cam"]),
        ("./in/d1/r*/t.*", ["raw/t"]),
    ],
)
def test_results_keep_the_folders_below_those_that_a_pattern_names(tmp_path, monkeypatch, pattern, stems):
    """Also where no stem repeats: results must not move when a folder is added."""
    monkeypatch.chdir(tmp_path)
    for path in map(Path, ("in/cam.png", "in/d1/cam.png", "in/d2/cam.png", "in/d1/raw/c1.png")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if pattern.endswith("t.*"):
        Path("in/d1/raw/t.tif").touch()
        Path("in/d1/raw/t.hdr").write_text("ENVI\nfile type = TIFF\n")
    found = expand([pattern], mirror=True)
    assert sorted(found) == stems and all(Path(name).stem == Path(stem).name for stem, name in found.items())
    with pytest.raises(UsageError, match=r"or name them by one quoted pattern .* such as '\*/cam\.png', which keeps"):
        expand(["in/d1/cam.png", "in/d2/cam.png"], mirror=True)


def test_images_in_sub_folders_are_told(frames):
    said = []
    expand(["frames", "frames/*.png", "frames/sub"], say=said.append)
    assert said == ["frames: sub-folders are not searched; name frames/sub too if you want its images"]
    (frames / "sub/h_summary.json").touch()
    (frames / "sub/h.png").rename(frames / "sub/h_quicklook.png")
    (frames / ".hidden").mkdir()
    (frames / ".hidden/h.png").touch()
    expand(["frames"], say=said.append)  # results are none
    assert len(said) == 1


def test_a_folder_of_folders_names_one_with_images(frames):
    for name in ("a", "s10", "s9"):
        (frames.parent / name).mkdir()
    with pytest.raises(InputError, match=r"^\. contains no image, but its sub-folder frames does; name that one\.$"):
        expand(["."])
    with pytest.raises(InputError, match=r"^a matches no image \(folders are searched for \.bmp"):
        expand(["a"])
    for name in ("s10", "s9"):
        (frames / "sub" / name).mkdir()
        (frames / "sub" / name / "h.png").touch()
    (frames / "sub/h.png").unlink()
    with pytest.raises(InputError, match=r"its sub-folder frames/sub/s9 does"):
        expand(["frames/sub"])


def test_a_file_may_look_like_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a[1].png").touch()
    assert expand(["a[1].png"]) == {"a[1]": "a[1].png"}


def test_files_of_one_name_where_nothing_is_named_after_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a/x.mat", "b/x.mat", "y.hdr", "y.img"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    found = expand(["a/x.mat", "y.hdr", "b/x.mat", "y.img", "a/x.mat"], outputs=False)
    assert {name: path for name, path in found.items() if "x" in name} == {"a/x.mat": "a/x.mat", "b/x.mat": "b/x.mat"}
    assert len(found) == 3 and "y" in found
    with pytest.raises(UsageError, match=r"a/x\.mat and b/x\.mat would write the same outputs"):
        expand(["a/x.mat", "b/x.mat"])


@pytest.mark.parametrize("folds", [False, True])
def test_names_that_differ_in_their_case(tmp_path, monkeypatch, folds):
    """On disks of Windows and macOS their results would be one file."""
    monkeypatch.setattr("rsunfold.io.names.FOLDS", folds)
    monkeypatch.chdir(tmp_path)
    files = ["a/Scene.png", "b/scene.png"]
    for path in files:
        Path(path).parent.mkdir()
        Path(path).touch()
    with pytest.raises(UsageError, match="would write the same outputs") if folds else nullcontext():
        assert expand(files) == {"Scene": files[0], "scene": files[1]}
    assert len(expand(files, outputs=False)) == 2
    assert expand(files[:1]) == {"Scene": files[0]}
    assert expand(["a"]) == {"Scene": files[0]}


def test_results_are_no_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "a_score.tif", "a_mask.tif", "a_summary.json", "b_mask.tif", "c.tif", "c_denoised.tif"):
        (tmp_path / name).touch()
    (tmp_path / "c_denoised_summary.json").touch()
    (tmp_path / "c_denoised_residual.tif").touch()
    assert list(expand(["."])) == list(expand(["*.tif"])) == ["a", "b_mask", "c"]
    assert list(expand(["a_score.tif"])) == ["a_score"]  # asked for by its name


def test_results_in_a_folder_of_their_own_are_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a_denoised.tif", "a_denoised_residual.tif", "a_denoised_report.png", "a_denoised_summary.json"):
        (tmp_path / name).touch()
    for name in ("b_selected.tif", "b_selected.png", "b_ranking.csv", "b_ranking.json"):
        (tmp_path / name).touch()
    assert list(expand(["."])) == list(expand(["*"])) == ["a_denoised", "b_selected"]
    assert list(expand(["*_denoised.tif"])) == ["a_denoised"]
    (tmp_path / "a.hdr").touch()
    assert list(expand(["."])) == ["a", "b_selected"]


@pytest.mark.parametrize(
    ("original", "told", "stem"),
    [
        ("A.TIF", "./A.TIF", "A"),
        ("a.nc", 'NETCDF:"/data/a.nc":rad', "a_rad"),
        ("t.tsv", "../x/t.tsv", "t"),
        ("b.TIF", "C:\\\\data\\\\b.TIF", "b"),
    ],
)
def test_the_original_beside_is_known_by_the_summary(original, told, stem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()  # called like a folder of the original
    for name in (original, f"{stem}_denoised.tif"):
        (tmp_path / name).touch()
    (tmp_path / f"{stem}_denoised_summary.json").write_text(json.dumps({"input": told}))
    assert f"{stem}_denoised" not in expand(["*"])
    (tmp_path / original).unlink()
    assert list(expand(["*"])) == [f"{stem}_denoised"]


def test_images_that_are_called_like_a_picture_of_a_report_are_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("site.tif", "site_bands.tif", "site_noise.tif", "site_bands.png", "site_summary.json"):
        (tmp_path / name).touch()
    assert list(expand(["."])) == ["site", "site_bands", "site_noise"]


def test_patterns_leave_out_what_lies_beside_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("f.tif", "f.tfw", "f.tif.aux.xml", "f.tif.ovr", "f.prj", "f_targets.csv", "f_targets.geojson")
    for name in (*names, "f_summary.json", "f_score.tif", "g_targets.csv"):
        (tmp_path / name).touch()
    assert list(expand(["*"])) == ["f", "g_targets"]
    with pytest.raises(InputError, match=r"f_\* matches only results of earlier runs"):
        expand(["f_*"])


TARGETS = [hsi.target_of(Path(f"a_denoised{suffix}"), "a") for suffix in TIFF_SUFFIXES + ENVI_SUFFIXES]
RESULTS = {
    "detect-ir": all_names(infrared.output_names, "a", options=infrared.Options()),
    "explain": set(explain.output_names("a").values()),
    "detect-anomaly": all_names(anomaly.output_names, "a", options=anomaly.Options()),
    "denoise-hsi": set().union(*(hsi.replaced_names(target, hsi.Options(), kept="a") for target in TARGETS)),
    "select-features": features.replaced_names("a", features.Options()),
}
"""Names of what each command makes of the image ``a`` with any options."""


def test_results_of_all_tasks_are_looked_at():
    assert RESULTS.keys() == {spec.task for spec in all_models()} | {"explain"}


@pytest.mark.parametrize("task", RESULTS)
def test_every_name_of_a_result_is_known(task, tmp_path):
    for name in ("a.tif", *RESULTS[task]):
        (tmp_path / name).touch()
    assert expand([str(tmp_path)]) == expand([str(tmp_path / "*")]) == {"a": str(tmp_path / "a.tif")}


@pytest.mark.parametrize("task", RESULTS)
def test_a_result_is_known_by_its_summary_alone(task, tmp_path):
    """One that is an image itself needs the image that it was made of, too."""
    results = {tmp_path / name for name in RESULTS[task]}
    images = {p for p in results if p.stem in ("a_denoised", "a_selected") and p.suffix != ".png"}
    assert bool(images) == (task in ("denoise-hsi", "select-features"))
    (last,) = (path for path in results if path.name.endswith(LAST))
    assert not any(map(is_result, results))
    last.touch()
    assert {path for path in results if not is_result(path)} == images
    (tmp_path / "a.mat").touch()
    assert all(map(is_result, results))


def test_both_files_of_an_envi_image_are_one_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.img", "a.hdr", "b", "b.hdr"):
        (tmp_path / name).touch()
    assert expand(["*"]) == {"a": "a.hdr", "b": "b.hdr"}
    assert expand(["a.img", "a.hdr", "./a.img"]) == {"a": "a.hdr"}
    assert expand(["a.hdr", "./a.hdr"]) == {"a": "a.hdr"}
    for name in ("c.img", "c.img.hdr", "d.v2.hdr", "d.v2"):
        (tmp_path / name).touch()
    assert expand(["c*"]) == {"c": "c.img.hdr"}
    assert expand(["d.v2.hdr"]) == {"d.v2": "d.v2.hdr"}


def test_names_of_envi_images_may_have_dots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f.v1", "f.v2"):
        Path(name).touch()
        Path(f"{name}.hdr").write_text("ENVI\n")
    both = {"f.v1": "f.v1.hdr", "f.v2": "f.v2.hdr"}
    assert expand(["f*"]) == expand(["."]) == both
    assert expand(["f.v1", "f.v2"]) == {"f.v1": "f.v1", "f.v2": "f.v2"}


@pytest.mark.parametrize("header", ["t.hdr", "t.tif.hdr"])
def test_a_tiff_and_its_envi_header_are_one_input(tmp_path, monkeypatch, header):
    monkeypatch.chdir(tmp_path)
    Path("t.tif").touch()
    Path(header).write_text("ENVI\nfile type = TIFF\n")
    assert expand(["*"]) == expand([header, "t.tif"]) == expand(["t.tif", header]) == {"t": "t.tif"}
    assert expand(["."]) == {"t": "t.tif"} and expand([header]) == {"t": header}
    Path("t.png").touch()
    for both in (["t.png", header], ["*"]):
        with pytest.raises(UsageError, match="would write the same outputs"):
            expand(both)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("NETCDF:n.nc:rad", "n_rad"),
        ('NETCDF:"data/n.nc":/group/rad', "n_group_rad"),
        ('HDF5:"p.h5"://SWIR/Data Fields/Cube', "p_SWIR_Data_Fields_Cube"),
        ("HDF5:p.h5://SWIR/Cube", "p_SWIR_Cube"),
        ("GTIFF_DIR:2:some/x.tif", "x_2"),
        ('HDF4_EOS:EOS_SWATH:"a:b.hdf":swath:band 1', "a_b_EOS_SWATH_swath_band_1"),
        ("https://host/some/x.tif", "x"),
        ("/vsizip/a.zip/some/x.tif", "x"),
    ],
)
def test_names_of_gdal_give_names_of_files(name, stem):
    assert expand([name]) == {stem: name}


@pytest.mark.parametrize(
    ("source", "stem", "shown"),
    [
        ("in/2022-07-24/cam.tif", "cam", "cam.tif"),
        ("in/2022-07-24/cam.tif", "2022-07-24/cam", "2022-07-24/cam.tif"),
        ('NETCDF:"data/n.nc":/group/rad', "n_group_rad", "n_group_rad"),
        ("/vsizip/a.zip/some/x.tif", "x", "x.tif"),
    ],
)
def test_what_tables_call_an_image(source, stem, shown):
    assert shown_as(source, stem) == shown


def test_two_variables_of_a_file_are_two_inputs():
    assert list(expand(["NETCDF:n.nc:a", "NETCDF:n.nc:b", "NETCDF:n.nc:a"])) == ["n_a", "n_b"]


def test_what_does_not_exist_is_left_to_the_reader(tmp_path):
    assert expand(["/vsizip/a.zip/b.tif", "absent.png"]) == {"b": "/vsizip/a.zip/b.tif", "absent": "absent.png"}
    for name in ("/vsizip/a.zip/b[1].tif", "/vsicurl/http://host/x.tif?sig=1", 'HDF5:"a[1].h5"://data'):
        assert list(expand([name]).values()) == [name]


def test_what_matches_nothing_or_too_much(frames):
    with pytest.raises(InputError, match=r"frames/\*\.jpg matches no image"):
        expand(["frames/*.jpg"])
    (frames / "g.png").touch()
    with pytest.raises(UsageError, match=r"frames/g\.png and frames/g\.tif would write the same outputs"):
        expand(["frames/g.*"])
    with pytest.raises(InputError, match=r"contains both g\.png and g\.tif"):
        expand(["frames"])


def test_a_link_to_nothing_is_an_input_that_fails(frames):
    (frames / "z.png").symlink_to("nowhere")
    assert str(frames / "z.png") in expand([str(frames)]).values()


def test_names_that_cannot_be_looked_at_are_left_to_the_reader():
    name = "x" * 300 + ".tif"
    assert list(expand([name]).values()) == [name]


def test_failures():
    said = []
    raise_failures([], said.append)
    raise_failures([Outcome("a", "a"), Outcome("b", "b")], said.append)
    with pytest.raises(OutputError, match="full"):
        raise_failures([Outcome("a", "a", error=OutputError("full"))], said.append)
    assert said == []
    with pytest.raises(BatchError, match=r"1 of 2 inputs failed; the results of the others were written\."):
        raise_failures([Outcome("a", "a"), Outcome("b", "b", error=InputError("b is empty."))], said.append)
    assert said == ["failed: b: b is empty."]
    with pytest.raises(BatchError, match=r"2 of 2 inputs failed\.$"):
        raise_failures([Outcome(n, n, error=InputError("x")) for n in "ab"], said.append)


def test_names_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.img").touch()
    with pytest.raises(UsageError, match="the name of an input is empty"):
        expand([""])
    with pytest.raises(UsageError, match="standard input cannot be read"):
        expand(["a.png", "-"])
    with pytest.raises(InputError, match=r"only matches no image \(folders are searched for \.bmp, "):
        expand(["only"])


def test_runs_that_skip_what_is_there_share_the_inputs(monkeypatch):
    """What another run is making is left for the end: then it is done, or is made after all."""
    waited, said, tries = [], [], {}
    monkeypatch.setattr("time.sleep", waited.append)
    made = {"theirs": 3, "dropped": 2}  # by the time of how many looks the other run has ended

    def run(source, stem):
        tries[stem] = tries.get(stem, 0) + 1
        if tries[stem] <= made.get(stem, 0):
            raise ClaimedError(f"{stem} is being written.")
        if stem == "moved":
            raise ExistsError("m exists.")
        if stem == "old":
            raise ExistsError("o exists.")
        return stem

    def done(source, stem):
        return tries.get(stem, 0) >= {"theirs": 3, "moved": 1}.get(stem, 99)

    files = {stem: f"{stem}.tif" for stem in ("theirs", "mine", "dropped", "moved", "old")}
    found = {o.source: o for o in run_batch(files, run, done=done, say=said.append)}
    assert list(found) == ["mine.tif", "moved.tif", "old.tif", "dropped.tif", "theirs.tif"]
    assert [o.result for o in found.values()] == ["mine", None, None, "dropped", None]
    assert [o.skipped for o in found.values()] == ["", "it already has results", "", "", "it already has results"]
    assert [type(o.error) for o in found.values()] == [type(None), type(None), ExistsError, type(None), type(None)]
    assert said == [
        f"{n}.tif: another run is making its results; looking again at the end" for n in ("theirs", "dropped")
    ]
    assert waited == [1.0]  # once for all that are left
    tries.clear()
    alone = [type(o.error) for o in run_batch(files, run)]
    assert alone == [ClaimedError, type(None), ClaimedError, ExistsError, ExistsError]


def test_an_error_of_rsunfold_ends_its_own_input():
    def run(source, stem):
        return 1 / len(source)

    outcomes = list(run_batch({"a": "", "b": "b"}, run))
    assert outcomes[1].result == 1 and outcomes[0].error.exit_code == 1
    assert "internal error in rsunfold: ZeroDivisionError" in str(outcomes[0].error)
    with pytest.raises(ZeroDivisionError):
        list(run_batch({"a": ""}, run))


@pytest.mark.parametrize(
    ("name", "error", "kind", "words"),
    [
        ("b", OSError(36, "File name too long"), OutputError, r"results of b cannot be written \(File name too long\)"),
        ("b\udce9", None, InputError, "name of b\udce9 is not valid UTF-8"),
        ("b", SURROGATE, OutputError, "name of the output is not valid UTF-8"),
        ("b", MemoryError(), DeviceError, "b needs more memory than is free; give a lower --memory"),
    ],
)
def test_errors_of_the_system_end_their_own_input(name, error, kind, words):
    def run(source, stem):
        if source == name and error is not None:
            raise error
        return source

    outcomes = list(run_batch({"a": "a", "b": name, "c": "c"}, run))
    assert [o.result for o in outcomes] == ["a", None, "c"]
    assert isinstance(outcomes[1].error, kind)
    with pytest.raises(kind, match=words):
        raise_failures(outcomes[1:2], print)


def test_a_pipe_that_nobody_reads_ends_the_batch():
    def run(source, stem):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        next(run_batch({"a": "a", "b": "b"}, run))
