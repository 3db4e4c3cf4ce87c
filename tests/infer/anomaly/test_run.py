"""detect_file and detect_array: every file, its georeferencing and content, and nothing left behind."""

import csv
import json
from dataclasses import fields

import numpy as np
import pytest
import rasterio
import scipy.io
import spectral.io.envi
from rasterio.warp import transform

import rsunfold
from rsunfold import __version__
from rsunfold.cube import Meta
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.infer.anomaly import run as module
from rsunfold.infer.anomaly.run import Found, Options, detect_array, detect_file, output_names
from rsunfold.io import RasterWriter, open_cube
from rsunfold.io.memory import ArrayReader

NAMES = {
    *("a_score.tif", "a_mask.tif", "a_anomalies.geojson", "a_anomalies.csv", "a_spectra.csv"),
    *("a_quicklook.png", "a_spectra.png", "a_summary.json"),
}


def detected(data, detector, *, nodata=None, **options):
    return detect_array(ArrayReader(data, nodata=nodata), detector, Options(**options))


@pytest.fixture
def source(scene, write, tmp_path):
    """a.tif with a pixel without data."""
    cube = scene.cube.copy()
    cube[:, 9, 30] = -1
    return write(tmp_path / "a.tif", cube, nodata=-1)


# ---------------------------------------------------------------- files


def test_every_file(source, scene, make, tmp_path):
    found = detect_file(source, "a", tmp_path / "out", make("rx"), Options())
    assert {p.name for p in (tmp_path / "out").iterdir()} == NAMES
    assert {p.name for p in found.files.values()} == NAMES
    with rasterio.open(found.files["score"]) as ds:
        score = ds.read(1)
        assert ds.dtypes == ("float32",) and ds.descriptions == ("anomaly score",) and np.isnan(ds.nodata)
        assert ds.tags()["RSUNFOLD_MODEL"] == "rx" and float(ds.tags()["RSUNFOLD_THRESHOLD"]) == found.threshold
    np.testing.assert_array_equal(score, found.score)
    assert np.isnan(score[9, 30]) and np.isfinite(score).sum() == 30 * 34 - 1
    with rasterio.open(found.files["mask"]) as ds:
        mask = ds.read(1)
        assert ds.dtypes == ("uint8",) and ds.nodata == 255 and mask[9, 30] == 255
    valid = np.isfinite(score)
    np.testing.assert_array_equal(mask[valid] == 1, score[valid] > found.threshold)
    np.testing.assert_array_equal(mask == 1, found.mask)
    assert set(np.unique(mask)) == {0, 1, 255}
    for kind in ("quicklook", "spectra_picture"):
        with rasterio.open(found.files[kind]) as ds:
            assert ds.read().std() > 10
    rows = list(csv.DictReader(found.files["anomalies_csv"].open()))
    features = json.loads(found.files["anomalies_geojson"].read_text())["features"]
    assert len(rows) == len(features) == len(found.anomalies) > 0
    assert "scr" not in rows[0] and "bands_differing" in rows[0]
    for row, feature, t in zip(rows, features, found.anomalies, strict=True):
        assert (int(row["id"]), int(row["area_px"]), float(row["area_m2"])) == (t.id, t.area, t.area * 900)
        assert feature["properties"]["peak"] == pytest.approx(t.peak) and feature["id"] == t.id
        assert row["bands_differing"] == feature["properties"]["bands_differing"] != ""
        assert row["names_differing"] == "" and feature["properties"]["names_differing"] is None
    spectra = list(csv.DictReader(found.files["spectra"].open()))
    assert len(spectra) == 8 and f"anomaly_{len(rows)}" in spectra[0]


def test_the_summary(source, make, tmp_path):
    detector = make(priors=["small-object"], seed=4)
    found = detect_file(source, "a", tmp_path, detector, Options(pfa=0.02, min_area=2, picture=False))
    summary = json.loads(found.files["summary"].read_text())
    assert summary == found.summary
    assert (summary["rsunfold"], summary["input"]) == (__version__, source)
    assert (summary["rows"], summary["cols"], summary["bands"], summary["crs"]) == (30, 34, 8, "EPSG:32632")
    assert detector.describe().items() <= summary.items()
    assert (summary["priors"], summary["seed"], summary["object_size_px"]) == (["small-object"], 4, 20)
    assert summary["options"] == {"epochs": 2, "stages": 2, "atoms": 5, "literal": False} and summary["device"] == "cpu"
    assert (summary["valid_pixels"], summary["invalid_pixels"], summary["pixels_without_score"]) == (1019, 1, 0)
    assert summary["bands_used"] == list(range(1, 9)) and summary["bands_left_out"] == {}
    assert summary["threshold"] == found.threshold and summary["threshold_rule"]["pfa"] == 0.02
    assert summary["min_area_px"] == 2 and all(t.area >= 2 for t in found.anomalies)
    assert (summary["anomalies"], summary["anomaly_pixels"]) == (len(found.anomalies), int(found.mask.sum()))
    assert len(summary["learned"]["stages"]) == 2 and summary["computed"] == "in one piece"
    assert summary["seconds"] >= 0 and summary["notes"] == []


def test_stages_and_no_pictures(source, make, tmp_path):
    found = detect_file(source, "a", tmp_path / "out", make(priors=[]), Options(stages=True))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*NAMES, "a_stages.tif", "a_stages.png"}
    with rasterio.open(found.files["stages"]) as ds:
        names = [f"stage {k} norm of {letter}" for k in (1, 2) for letter in ("background", "residual", "S")]
        assert list(ds.descriptions) == names
        np.testing.assert_array_equal(ds.read(5), found.score)
    with rasterio.open(found.files["stages_picture"]) as ds:
        assert ds.read().std() > 10
    options = Options(stages=True, picture=False)
    detect_file(source, "a", tmp_path / "plain", make(priors=[]), options)
    assert {p.suffix for p in (tmp_path / "plain").iterdir()} == {".tif", ".geojson", ".csv", ".json"}


def test_georeferencing_is_carried(source, make, tmp_path):
    found = detect_file(source, "a", tmp_path, make("rx"), Options(picture=False))
    for kind in ("score", "mask"):
        with rasterio.open(found.files[kind]) as ds:
            assert ds.crs.to_epsg() == 32632 and ds.transform == rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)
    whole = json.loads(found.files["anomalies_geojson"].read_text())
    about = whole["rsunfold"]
    assert (about["model"], about["threshold"], about["rows"], about["crs"]) == (
        "rx",
        found.threshold,
        30,
        "EPSG:32632",
    )
    t, point = found.anomalies[0], whole["features"][0]["geometry"]["coordinates"]
    x, y = 5e5 + 30 * (t.col + 0.5), 4e6 - 30 * (t.row + 0.5)
    lon, lat = transform("EPSG:32632", "EPSG:4326", [x], [y])
    np.testing.assert_allclose(point, [lon[0], lat[0]], atol=1e-9)


def test_envi(scene, make, tmp_path):
    waves = tuple(450.0 + 100 * i for i in range(8))
    meta = Meta(
        wavelengths=waves,
        bad_bands=tuple(i == 1 for i in range(8)),
        crs=rasterio.CRS.from_epsg(32632),
        transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6),
    )
    with RasterWriter(tmp_path / "a.img", bands=8, rows=30, cols=34, dtype=np.dtype("f4"), meta=meta) as writer:
        writer.write(scene.cube)
    out = tmp_path / "out"
    found = detect_file(str(tmp_path / "a.hdr"), "a", out, make("rx"), Options(suffix=".img", picture=False))
    assert {"a_score.img", "a_score.hdr", "a_mask.img", "a_mask.hdr"} <= {p.name for p in out.iterdir()}
    image = spectral.io.envi.open(out / "a_score.hdr", out / "a_score.img")
    np.testing.assert_array_equal(np.asarray(image.load())[:, :, 0], found.score)
    assert "UTM" in image.metadata["map info"][0]
    assert found.summary["bands_left_out"] == {"2": "bad in the file's band list"}
    row = next(csv.DictReader(found.files["anomalies_csv"].open()))
    named = [float(v) for v in row["wavelengths_nm_differing"].split(";")]
    assert named == [waves[int(b) - 1] for b in row["bands_differing"].split(";")] and len(named) == 3


def test_a_picture_of_spectra_tells_bands_by_their_number_and_name(scene, make, tmp_path, monkeypatch):
    shown, draw = [], module.spectra_picture
    monkeypatch.setattr(
        module, "spectra_picture", lambda *args, **more: (shown.append((args, more)), draw(*args, **more))
    )
    names = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A")
    meta = Meta(bad_bands=tuple(i == 1 for i in range(8)), band_names=names)
    with RasterWriter(tmp_path / "a.tif", bands=8, rows=30, cols=34, dtype=np.dtype("f4"), meta=meta) as writer:
        writer.write(scene.cube)
    found = detect_file(str(tmp_path / "a.tif"), "a", tmp_path, make("rx"), Options())
    (((_, *curves), more),) = shown
    for values in (*curves[:2], *curves[2].values()):
        np.testing.assert_array_equal(np.isnan(values), [i == 1 for i in range(8)])
    assert more["names"] == names
    rows = csv.DictReader(found.files["anomalies_csv"].open())
    pairs = {
        (b, n) for r in rows for b, n in zip(*(r[f"{k}_differing"].split(";") for k in ("bands", "names")), strict=True)
    }
    assert pairs <= {(str(i + 1), name) for i, name in enumerate(names)} and ("8", "B8A") in pairs


def test_one_scene_in_three_formats(scene, make, write, tmp_path):
    tif, img = write(tmp_path / "a.tif", scene.cube), write(tmp_path / "b.img", scene.cube)
    scipy.io.savemat(tmp_path / "c.mat", {"data": scene.cube.transpose(1, 2, 0), "map": scene.truth})
    scores = [
        detect_file(s, "x", tmp_path / str(i), make("rx"), Options(picture=False)).score
        for i, s in enumerate((tif, img, str(tmp_path / "c.mat")))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_existing_files_stay(source, make, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in sorted(NAMES):
        (out / name).write_text("precious")
        with pytest.raises(OutputError, match="already exists"):
            detect_file(source, "a", out, make("rx"), Options())
        assert [p.name for p in out.iterdir()] == [name] and (out / name).read_text() == "precious"
        (out / name).unlink()
    detect_file(source, "a", out, make("rx"), Options(picture=False))
    detect_file(source, "a", out, make("rx"), Options(pfa=0.1, overwrite=True, picture=False))
    assert json.loads((out / "a_summary.json").read_text())["threshold_rule"]["pfa"] == 0.1
    assert len(list(out.iterdir())) == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("place", ["find_anomalies", "write_spectra", "anomaly_quicklook", "write_json"])
def test_an_interrupted_run_leaves_nothing(error, place, source, make, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise error

    monkeypatch.setattr(module, place, stop)
    with pytest.raises(error):
        detect_file(source, "a", tmp_path / "out", make("rx"), Options())
    assert not (tmp_path / "out").exists()


def test_exhausted_memory_is_one_sentence(scene, make, monkeypatch):
    monkeypatch.setattr(module, "find_anomalies", lambda *args: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(DeviceError, match="out of memory; lower --memory"):
        detected(scene.cube, make("rx"))


def test_names_of_outputs():
    assert output_names("x", Options(picture=False, suffix=".img")) == {
        "score": "x_score.img", "mask": "x_mask.img", "score_header": "x_score.hdr", "mask_header": "x_mask.hdr",
        "anomalies_geojson": "x_anomalies.geojson", "anomalies_csv": "x_anomalies.csv",
        "spectra": "x_spectra.csv", "summary": "x_summary.json",
    }  # fmt: skip
    assert list(output_names("x", Options(stages=True)))[-1] == "summary"


# ---------------------------------------------------------------- rules


def test_percentile_and_pfa(scene, make):
    found = detected(scene.cube, make("rx"), percentile=97)
    assert found.threshold == pytest.approx(np.percentile(found.score, 97))
    assert found.mask.sum() == pytest.approx(0.03 * 30 * 34, abs=1)
    assert detected(scene.cube, make("rx")).summary["threshold_rule"]["pfa"] == 0.01
    assert Options(percentile=3).pfa is None
    with pytest.raises(UsageError, match="use one of --pfa, --percentile and --threshold"):
        Options(pfa=0.1, percentile=3)
    with pytest.raises(UsageError, match="--min-area must be at least 1 pixel, not 0"):
        Options(min_area=0)


def test_a_given_threshold_that_is_none_of_the_scores_is_told(scene, make):
    most = detected(scene.cube, make("rx")).score.max()
    for threshold, told in ((most * 1.01, True), (most * 0.99, False)):
        notes = detected(scene.cube, make("rx"), threshold=threshold).summary["notes"]
        assert any("is not exceeded: the largest score is" in note for note in notes) == told
    notes = detected(scene.cube, make("rx", window=20), threshold=2).summary["notes"]
    assert any("multiples of each window's median" in note for note in notes)


@pytest.mark.parametrize("model", ["rx", "lrr-net-plus"])
def test_the_mask_of_the_default_threshold_holds_the_objects(model, scene, make):
    found = detected(scene.cube, make(model))
    assert found.mask[scene.truth].mean() > 0.7 and found.mask[~scene.truth].mean() < 0.03


def test_notes(scene, make):
    assert detected(scene.cube, make("rx")).summary["notes"] == []
    assert detected(scene.cube, make("rx:components=8")).summary["notes"] == []
    assert detected(scene.cube, make("kernel-rx:components=9")).summary["notes"] == [
        "components 9 is more than the 8 usable bands, so all components are used"
    ]


def test_too_few_pixels_for_a_covariance(make):
    """Of no more pixels than bands all would lie equally far from their mean; with less than twice as many, nearly."""
    noise = np.random.default_rng(0).random((50, 9, 11), np.float32)
    for model in ("rx", "rx:components=30"):
        with pytest.raises(InputError, match=r"has no pixel with a score, as rx .* use --model kernel-rx or few comp"):
            detected(noise[:, :4, :6], make(model))
    few = "rx has fewer than 2 pixels per dimension of their spectra"
    assert [note.startswith(few) for note in detected(noise, make("rx")).summary["notes"]] == [True]
    for model in ("rx:components=10", "kernel-rx", "local-rx", "rpca"):
        assert detected(noise[:, :, :5], make(model)).summary["notes"] == []


@pytest.mark.parametrize(
    ("model", "instead"),
    [("rx", r"components \(rx:components=10\)"), ("crd:inner=31:outer=33", r"smaller \(inner, outer\)")],
)
def test_too_few_pixels_in_a_window(model, instead):
    """An image that has enough as a whole."""
    noise = np.random.default_rng(0).random((300, 20, 20), np.float32)
    words = f"finds too few others in a window of 16 pixels to compare .*{instead}, or give a larger window"
    with pytest.raises(InputError, match=words):
        rsunfold.detect_anomaly(noise, model=model, window=16)


def test_notes_of_windows(make):
    noise = np.random.default_rng(0).random((200, 20, 20), np.float32)
    (note,) = detected(noise, make("rx", window=16)).summary["notes"]
    assert note.startswith("in a window of 16 pixels, rx has fewer than 2 pixels per dimension")
    assert note.endswith(", or give a larger --window")
    (note,) = detected(noise[:5], make("rx:components=9", window=16)).summary["notes"]
    assert note == "components 9 is more than the 5 usable bands, so all components are used"


def test_swapped_axes_are_noted(make, tmp_path):
    from rsunfold.simulate.hyperspectral import hyperspectral_scene

    cube = hyperspectral_scene(24, 20, 16, seed=3).data
    scipy.io.savemat(tmp_path / "a.mat", {"data": cube})  # bands, rows, cols, where rows, cols, bands are expected
    found = detect_file(str(tmp_path / "a.mat"), "a", tmp_path / "out", make("rx"), Options(picture=False))
    assert any("look like the spectral axis" in note for note in found.summary["notes"])


def test_an_object_far_brighter_than_the_scene_has_its_own_spectrum(make):
    """For its score it is limited to the range of the others, as a spike would be."""
    rng = np.random.default_rng(0)
    data = (100 + rng.normal(0, 1, (12, 80, 80))).astype(np.float32)
    boat = np.linspace(5000, 9000, 12)
    data[:, 40, 40:43] = boat[:, None]
    found = detected(data, make("rx"), percentile=99.9)
    (strongest,) = [t for t in found.anomalies if (t.row_min, t.col_min) == (40, 40)]
    np.testing.assert_allclose(found.spectra[strongest.id], boat, rtol=0.01)
    assert len(found.differing) == len(found.anomalies)


def test_the_strongest_have_spectra_and_the_rest_a_note(scene, make, monkeypatch):
    from rsunfold.infer.anomaly import objects

    monkeypatch.setattr(objects, "MOST", 1)
    found = detected(scene.cube, make("rx"), percentile=90)
    assert len(found.anomalies) > 1 and len(found.spectra) == 1
    assert "mean spectra are given only for the 1 strongest anomalies" in found.summary["notes"]


@pytest.mark.parametrize(
    ("window", "words"), [(16, "windows of 16 pixels, each with its own background model"), (None, "in one piece")]
)
def test_how_it_was_computed(window, words, scene, make):
    assert detected(scene.cube, make("rx", window=window)).summary["computed"] == words


@pytest.mark.parametrize("shape", [(1, 1, 9), (2, 5, 1), (1, 20, 20)])
def test_small_and_thin_images_have_every_file(shape, make, write, tmp_path):
    cube = np.random.default_rng(0).random(shape, np.float32)
    source = write(tmp_path / "a.tif", cube)
    detect_file(source, "a", tmp_path / "out", make(), Options())
    assert {p.name for p in (tmp_path / "out").iterdir()} == NAMES


def test_a_large_image_is_drawn_smaller_and_no_pixel_is_lost(scene, make, write, tmp_path, monkeypatch):
    from rsunfold.infer.anomaly import objects

    monkeypatch.setattr(objects, "PICTURE_SIDE", 10)
    drawn = {}
    monkeypatch.setattr(module, "anomaly_quicklook", lambda path, *args, **kwargs: drawn.update(args=args, **kwargs))
    found = detect_file(write(tmp_path / "a.tif", scene.cube), "a", tmp_path, make("rx"), Options())
    image, score, mask = drawn["args"]
    assert image.shape[:2] == score.shape == mask.shape == (8, 9) and drawn["shape"] == (30, 34)
    np.testing.assert_array_equal(score, found.score[::4, ::4])
    expected = [[found.mask[r : r + 4, c : c + 4].any() for c in range(0, 34, 4)] for r in range(0, 30, 4)]
    np.testing.assert_array_equal(mask, expected)
    assert (drawn["pixels"], drawn["objects"]) == (found.mask.sum(), len(found.anomalies))


# ---------------------------------------------------------------- the Python API


def test_arrays(scene, make):
    before = scene.cube.copy()
    found = rsunfold.detect_anomaly(scene.cube, model="rx", pfa=0.02, min_area=2)
    assert isinstance(found, Found) and found.files == {} and found.stages == []
    np.testing.assert_array_equal(found.score, detected(before, make("rx")).score)
    np.testing.assert_array_equal(scene.cube, before)
    assert set(found.spectra) == {t.id for t in found.anomalies}
    assert {f.name for f in fields(found)} == {
        "anomalies", "threshold", "summary", "score", "mask", "spectra", "differing", "stages", "files",
    }  # fmt: skip
    default = rsunfold.detect_anomaly(scene.cube, device="cpu", object_size=20, epochs=1, stages=True)
    assert len(default.stages) == 6 and default.summary["options"]["epochs"] == 1
    counts = np.ma.masked_less(np.rint(scene.cube).astype(np.int16), -10000)
    counts[:, 2, 2] = np.ma.masked
    assert np.isnan(rsunfold.detect_anomaly(counts, model="rx", outer=None).score[2, 2])


def test_what_the_api_refuses(source, scene):
    with pytest.raises(UsageError, match="nodata applies to arrays only"):
        rsunfold.detect_anomaly(source, model="rx", nodata=0)
    with pytest.raises(UsageError, match="rx has no stages"):
        rsunfold.detect_anomaly(scene.cube, model="rx", stages=True)
    with pytest.raises(UsageError, match="rx has no option 'epoch'"):
        rsunfold.detect_anomaly(scene.cube, model="rx", epoch=3)
    with pytest.raises(InputError, match="is not an image"):
        rsunfold.detect_anomaly(np.zeros((3, 4, 5), complex), model="rx")
    with pytest.raises(InputError, match="does not exist"):
        rsunfold.detect_anomaly("absent.tif", model="rx")


def test_a_path_is_read_as_its_array(source, make):
    with open_cube(source) as reader:
        assert not reader.read().valid[9, 30]
    found = rsunfold.detect_anomaly(source, model="rx")
    assert found.summary["input"] == source and np.isnan(found.score[9, 30])
