"""detect-ir on one image: everything that is written is there, agrees with the rest, and survives odd inputs."""

import csv
import errno
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.warp import transform as to_lonlat
from scipy import ndimage
from scipy.special import expit

import rsunfold
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.infer.infrared import run
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.run import Options, detect_array, detect_file
from rsunfold.infer.outofcore import Canvas, Room
from rsunfold.infer.tiles import Plan, plan
from rsunfold.io import open_cube
from rsunfold.io.memory import ArrayReader
from rsunfold.io.vector import COLUMNS
from rsunfold.report import drawing
from rsunfold.rule import Rule, log_odds
from rsunfold.simulate.infrared import infrared_scene

pytestmark = pytest.mark.filterwarnings(f"ignore::{NotGeoreferencedWarning.__module__}.NotGeoreferencedWarning")

UTM = {"crs": "EPSG:32633", "transform": Affine(30, 0, 500_000, 0, -30, 5_200_000)}
KINDS = ("score.tif", "mask.tif", "targets.geojson", "targets.csv", "quicklook.png", "summary.json")
PLAIN = Options(picture=False)
CLASSICAL = ("top-hat", "max-median", "mpcm")


@pytest.fixture(scope="session")
def detector(tiny) -> Detector:
    return Detector("l-rpcanet", weights=str(tiny.path), device="cpu", memory="8GB")


@pytest.fixture
def by_tiles(monkeypatch):
    """Lets a detector have so little memory that it takes tiles of a wanted size."""

    def limit(detector: Detector, tile: int, rows: int, cols: int) -> None:
        def tile_for(budget: float) -> int:
            try:
                return plan(
                    rows, cols, bytes_per_pixel=detector.bytes_per_pixel, margin=detector.margin, budget=budget
                ).tile
            except DeviceError:
                return 0

        budget = next(b for b in range(2**16, 2**27, 2**15) if tile_for(b) >= tile)
        assert tile_for(budget) == tile
        monkeypatch.setattr(detector, "memory", detector.held + budget)

    return limit


def write(path: Path, data: np.ndarray, driver: str = "GTiff", **profile) -> Path:
    data = data[None] if data.ndim == 2 else data
    size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with rasterio.open(path, "w", driver=driver, **size, **profile) as ds:
        ds.write(data)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as ds:
        return ds.read()


def bits(gray: np.ndarray) -> np.ndarray:
    return np.round(gray * 255).astype(np.uint8)


def consistent(folder: Path, stem: str, suffix: str = ".tif") -> dict:
    """The summary, after checking that rasters, vectors and summary tell the same."""
    summary = json.loads((folder / f"{stem}_summary.json").read_text())
    score, mask = read(folder / f"{stem}_score{suffix}")[0], read(folder / f"{stem}_mask{suffix}")[0]
    assert score.dtype == np.float32 and mask.dtype == np.uint8
    valid = np.isfinite(score)
    assert score[valid].min() >= 0 and score[valid].max() <= 1
    np.testing.assert_array_equal(mask == 255, ~valid)
    np.testing.assert_array_equal(mask[valid] == 1, score[valid] > np.float32(summary["threshold"]))
    assert set(np.unique(mask[valid])) <= {0, 1}
    labels, count = ndimage.label(mask == 1, np.ones((3, 3)))
    with (folder / f"{stem}_targets.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        assert tuple(reader.fieldnames) == COLUMNS
    features = json.loads((folder / f"{stem}_targets.geojson").read_text())
    assert features["type"] == "FeatureCollection"
    assert len(lines) == len(features["features"]) == count == summary["targets"]
    assert summary["valid_pixels"] == valid.sum() and summary["target_pixels"] == (mask == 1).sum()
    boxes = ndimage.find_objects(labels)
    for k, (line, feature) in enumerate(zip(lines, features["features"], strict=True), start=1):
        assert int(line["id"]) == feature["id"] == k
        ends = [int(line[name]) for name in ("row_min", "row_max", "col_min", "col_max")]
        assert ends == [end for side in boxes[k - 1] for end in (side.start, side.stop - 1)]
        assert int(line["area_px"]) == feature["properties"]["area_px"] == (labels == k).sum()
        assert float(line["peak"]) == score[labels == k].max()
    return summary


def test_everything_is_written_and_agrees(tmp_path, tiny, detector):
    source = write(tmp_path / "scene.tif", bits(tiny.gray), **UTM)
    out = tmp_path / "deep" / "out"
    found = detect_file(str(source), "scene", out, detector, Options(stages=True))
    assert sorted(p.name for p in out.iterdir()) == sorted(f"scene_{k}" for k in (*KINDS, "stages.tif", "stages.png"))
    assert set(found.files.values()) == set(out.iterdir())
    summary = consistent(out, "scene")
    assert summary == json.loads(json.dumps(found.summary))
    assert summary["targets"] == len(found.targets) > 0
    assert summary["threshold"] == tiny.threshold and summary["weights_sha256"] == detector.sha256
    assert (summary["rows"], summary["cols"], summary["crs"]) == (72, 80, "EPSG:32633")
    assert summary["scale"]["how"] == "8 bit: 0 to 255" and summary["computed"] == "in one piece"
    picture = read(out / "scene_quicklook.png")
    assert picture.shape[2] == 1400 and picture[:3].std() > 10
    np.testing.assert_allclose(read(out / "scene_score.tif")[0], tiny.score(tiny.gray), atol=1e-4)


def test_georeferencing_is_carried_and_the_points_lie_on_the_targets(tmp_path, tiny, detector):
    source = write(tmp_path / "scene.tif", bits(tiny.gray), **UTM)
    found = detect_file(str(source), "s", tmp_path / "out", detector, Options(stages=True))
    for kind in ("score", "mask", "stages"):
        with rasterio.open(found.files[kind]) as ds:
            assert ds.crs == UTM["crs"] and ds.transform == UTM["transform"] and ds.shape == (72, 80)
    with rasterio.open(found.files["mask"]) as ds:
        assert ds.nodata == 255 and ds.descriptions == ("target mask",)
    with rasterio.open(found.files["score"]) as ds:
        assert np.isnan(ds.nodata) and float(ds.tags()["RSUNFOLD_THRESHOLD"]) == tiny.threshold
        assert ds.tags()["RSUNFOLD_MODEL"] == "l-rpcanet"
    features = json.loads(found.files["targets_geojson"].read_text())
    assert "WGS 84" in features["rsunfold"]["coordinates"]
    for target, feature in zip(found.targets, features["features"], strict=True):
        x, y = 500_000 + 30 * (target.col + 0.5), 5_200_000 - 30 * (target.row + 0.5)
        (lon,), (lat,) = to_lonlat(UTM["crs"], "EPSG:4326", [x], [y])
        assert feature["geometry"]["coordinates"] == pytest.approx([lon, lat], abs=1e-9)


def test_an_image_without_a_crs_gives_pixel_coordinates_and_says_so(tmp_path, tiny, detector):
    source = write(tmp_path / "scene.png", bits(tiny.gray), "PNG")
    found = detect_file(str(source), "s", tmp_path / "out", detector, PLAIN)
    summary = consistent(tmp_path / "out", "s")
    assert summary["crs"] is None
    assert not (tmp_path / "out" / "s_quicklook.png").exists()
    features = json.loads(found.files["targets_geojson"].read_text())
    assert features["rsunfold"]["coordinates"].startswith("pixels, because the image has no georeferencing")
    first = features["features"][0]
    assert first["geometry"]["coordinates"] == [found.targets[0].col + 0.5, -(found.targets[0].row + 0.5)]
    with rasterio.open(found.files["score"]) as ds:
        assert ds.crs is None


@pytest.mark.parametrize("model", CLASSICAL)
def test_classical_methods_are_models_too(model, tmp_path, tiny):
    from rsunfold.registry import get_model

    source = write(tmp_path / "scene.tif", bits(tiny.gray), **UTM)
    detector = Detector(model, memory="2GB")
    expected = get_model(model).build().score(tiny.gray)
    cut = float(np.quantile(expected, 0.99))
    found = detect_file(str(source), "s", tmp_path / "out", detector, Options(threshold=cut, picture=False))
    summary = consistent(tmp_path / "out", "s")
    assert summary["targets"] == len(found.targets) > 0 and summary["model"] == model
    assert "weights" not in summary
    np.testing.assert_allclose(read(found.files["score"])[0], expected, atol=1e-6)
    with pytest.raises(UsageError, match=f"{model} is a classical method and has no stages"):
        detect_file(str(source), "t", tmp_path / "out", detector, Options(stages=True))
    assert not list((tmp_path / "out").glob("t_*")) and not list((tmp_path / "out").glob(".*"))


def test_scores_of_classical_methods_end_at_one(tmp_path):
    gray = np.full((40, 40), 100, np.float32)
    gray[:20] = 110
    gray[30, 30] = 5000
    found = rsunfold.detect_ir(gray, model="top-hat", scale=(100, 110))
    assert found.score.max() == 1 and [(t.row, t.col) for t in found.targets] == [(30, 30)]


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("model", ["l-rpcanet", *CLASSICAL])
def test_tiles_give_the_result_of_the_whole_image(model, tile, tmp_path, tiny, by_tiles):
    gray = infrared_scene(150, 171, background="sea", targets=4, seed=5).image.copy()
    gray[40:60, 100:130] = np.nan
    source = write(tmp_path / "scene.tif", gray, **UTM)
    network = model == "l-rpcanet"
    detector = Detector(model, weights=str(tiny.path) if network else None, device="cpu", memory="8GB")
    options = Options(threshold=None if network else 0.02, stages=network, picture=False)
    whole = detect_file(str(source), "whole", tmp_path / "out", detector, options)
    assert whole.summary["computed"] == "in one piece"
    by_tiles(detector, tile, *gray.shape)
    tiled = detect_file(str(source), "tiled", tmp_path / "out", detector, options)
    assert tiled.summary["computed"] == f"in tiles of {tile} pixels"
    assert consistent(tmp_path / "out", "tiled")["targets"] == consistent(tmp_path / "out", "whole")["targets"] > 0
    np.testing.assert_allclose(read(tiled.files["score"]), read(whole.files["score"]), atol=1e-4, equal_nan=True)
    np.testing.assert_array_equal(np.isnan(read(tiled.files["score"])[0]), np.isnan(gray))
    if network:
        ours, theirs = read(tiled.files["stages"]), read(whole.files["stages"])
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.nanmax(np.abs(theirs)), equal_nan=True)


@pytest.mark.parametrize("model", ["ipi", "pstnn"])
def test_tiles_of_methods_that_look_at_the_whole_image_are_blended(model, tmp_path, by_tiles):
    """Not with the result of the whole image, and the summary says so; what stands out does so in both."""
    gray = 0.2 + 0.5 * infrared_scene(192, 171, background="clouds", targets=0, seed=0).image
    row, col = np.mgrid[:192, :171]
    places = [(40, 50), (98, 90), (150, 130)]
    for r, c in places:
        gray += 0.5 * np.exp(-((row - r) ** 2 + (col - c) ** 2) / 4)
    source = write(tmp_path / "scene.tif", gray.astype(np.float32), **UTM)
    options = Options(threshold=0.15, scale=(0, 1), picture=False)
    detector = Detector(model, memory="8GB")
    whole = detect_file(str(source), "whole", tmp_path / "out", detector, options)
    assert whole.summary["computed"] == "in one piece"
    by_tiles(detector, 128, 192, 171)
    tiled = detect_file(str(source), "tiled", tmp_path / "out", detector, options)
    overlap = detector.method.overlap
    assert tiled.summary["computed"].startswith(f"in tiles of {-(-(192 - overlap) // 2) + overlap} pixels, each on its")
    assert "unlike the result of the whole image" in tiled.summary["computed"]
    for name, found in (("whole", whole), ("tiled", tiled)):
        consistent(tmp_path / "out", name)
        assert [(round(t.row), round(t.col)) for t in found.targets] == places
    change = np.abs(read(tiled.files["score"]) - read(whole.files["score"]))
    assert 0 < change.max() < 0.25 and np.mean(change > 0.05) < 0.001


def test_ipi_solves_large_images_in_pieces(monkeypatch, tmp_path):
    """Whatever memory there is, its ``tile`` is a limit; the pieces are of one size, and those of all ways to score."""
    seen = []
    monkeypatch.setattr("rsunfold.classical.ipi.IPI.score", lambda self, x: seen.append(x.shape) or np.abs(x - 0.5))
    gray = np.random.default_rng(0).random((300, 520), np.float32)
    detector = Detector("ipi", memory="8GB")
    np.testing.assert_allclose(detector.score(gray), np.abs(gray - 0.5), atol=1e-6)
    assert seen == [(207, 207)] * 2 + [(207, 206)] + [(143, 207)] * 2 + [(143, 206)]
    found = detect_array(ArrayReader(gray), detector, Options(scale=(0, 1)))
    assert found.summary["computed"].startswith("in tiles of 207 pixels, each on its own, blended over 50 pixels")
    np.testing.assert_array_equal(found.score, detector.score(gray))
    seen.clear()
    detector.score(gray[:256, :200])
    assert seen == [(256, 200)]


def test_tiles_without_stages_write_no_more_than_they_need(tmp_path, tiny, by_tiles):
    source = write(tmp_path / "scene.tif", infrared_scene(150, 171, seed=5).image)
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu")
    by_tiles(detector, 64, 150, 171)
    detect_file(str(source), "s", tmp_path / "out", detector, PLAIN)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"s_{k}" for k in KINDS if k != "quicklook.png"
    )


@settings(max_examples=12)
@given(rows=st.integers(1, 300), cols=st.integers(1, 300), tile=st.sampled_from([32, 64, 128]))
def test_any_size_in_memory_and_by_tiles(rows, cols, tile, tiny, detector):
    gray = np.random.default_rng(rows * 1000 + cols).random((rows, cols), np.float32)
    expected = tiny.score(gray)
    options = Options(scale=(0, 1))
    np.testing.assert_allclose(detect_array(ArrayReader(gray), detector, options).score, expected, atol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rsunfold.infer.infrared.detector.plan", lambda *args, **kwargs: Plan(False, tile))
        found = detect_array(ArrayReader(gray), detector, options)
    assert found.summary["computed"] == f"in tiles of {tile} pixels"
    np.testing.assert_allclose(found.score, expected, atol=1e-4)
    np.testing.assert_array_equal(found.mask, found.score > np.float32(tiny.threshold))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("scale", "same"), [((1000, 3000), True), (None, False)])
def test_pictures_of_a_series_have_its_scale_where_one_is_given(scale, same, tmp_path, tiny, detector, monkeypatch):
    ends = []

    def keep(figure: Figure, path: Path) -> None:
        ends.append(figure.axes[0].images[0].get_clim())
        path.touch()

    monkeypatch.setattr(drawing, "render", keep)
    gray = np.round(1000 + 1000 * tiny.gray).astype(np.uint16)
    for name, frame in (("a", gray), ("b", gray + np.linspace(0, 900, gray.shape[1], dtype=np.uint16))):
        source = write(tmp_path / f"{name}.tif", frame)
        detect_file(str(source), name, tmp_path / "out", detector, Options(scale=scale))
    assert (ends == [(0.0, 1.0)] * 2) == same and (ends[0] == ends[1]) == same


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (1500, 3)], ids=str)
def test_thin_images_with_pictures(size, tmp_path, detector):
    data = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    source = tmp_path / "thin.tif"
    with pytest.warns(NotGeoreferencedWarning):
        write(source, data)
    detect_file(str(source), "thin", tmp_path / "out", detector, Options(stages=True))
    assert len(list((tmp_path / "out").iterdir())) == 8
    with pytest.warns(NotGeoreferencedWarning):
        consistent(tmp_path / "out", "thin")


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 255), (np.uint16, 9000), (np.int16, 9000), (np.float32, 40)])
def test_types_of_samples(dtype, factor, tmp_path, tiny, detector):
    stored = (tiny.gray.astype(np.float64) * factor).round().astype(dtype)
    if dtype == np.float32:
        stored = tiny.gray * np.float32(factor)
    source = write(tmp_path / "a.tif", stored)
    scale = (0.0, float(factor))
    found = detect_file(str(source), "a", tmp_path / "out", detector, Options(scale=scale, picture=False))
    summary = consistent(tmp_path / "out", "a")
    assert summary["scale"]["how"] == "given" and summary["scale"]["high"] == factor
    np.testing.assert_allclose(read(found.files["score"])[0], tiny.score(stored / np.float32(factor)), atol=1e-4)


def test_16_bits_are_scaled_by_percentiles_and_the_summary_says_so(tmp_path, tiny, detector):
    stored = (tiny.gray * 20_000).astype(np.uint16) + 1000
    low, high = np.percentile(stored, (0.1, 99.9))
    source = write(tmp_path / "a.tif", stored)
    found = detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    scale = consistent(tmp_path / "out", "a")["scale"]
    assert scale["how"] == f"percentiles 0.1 and 99.9 of {stored.size} valid pixels"
    assert (scale["low"], scale["high"]) == pytest.approx((low, high))
    expected = tiny.score(((stored - low) / (high - low)).astype(np.float32))
    np.testing.assert_allclose(read(found.files["score"])[0], expected, atol=1e-4)


@pytest.mark.parametrize("rise", [80, 2000, 30_000])
def test_contrast_is_that_of_the_image_however_it_is_scaled(rise):
    """The target is far beyond the limits that the gray values of networks have."""
    stored = np.random.default_rng(0).normal(1000, 10, (60, 70)).round().astype(np.uint16)
    stored[30:33, 40:43] += rise
    box = np.zeros(stored.shape, bool)
    box[30:33, 40:43] = True
    around = np.zeros_like(box)
    around[20:43, 30:53] = True
    ring = stored[around & ~box].astype(float)
    scr = abs(stored[box].mean() - ring.mean()) / ring.std()
    model = Detector("top-hat", memory="4GB")
    for scale, width in ((None, 60), ((950.0, 1040.0), 90), ((0.0, 65535.0), 65535)):
        above = 0.6 * min(1, rise / width)
        found = detect_array(ArrayReader(stored[None]), model, Options(scale=scale, threshold=above, min_area=4))
        (target,) = found.targets
        assert (target.window.row, target.window.col, target.area) == (30, 40, 9)
        assert target.scr == pytest.approx(scr, rel=0.01)


def holed(gray: np.ndarray) -> np.ndarray:
    """True where data are to be missing: a block, a line, and one pixel in the middle of the strongest spot."""
    hole = np.zeros(gray.shape, bool)
    hole[10:30, 5:25] = hole[50] = True
    hole[np.unravel_index(gray.argmax(), gray.shape)] = True
    return hole


@pytest.mark.parametrize("kind", ["nodata", "nan"])
def test_nodata_is_masked_in_every_output(kind, tmp_path, tiny, detector):
    hole = holed(tiny.score(tiny.gray))
    if kind == "nodata":
        source = write(tmp_path / "a.tif", np.where(hole, 0, np.maximum(bits(tiny.gray), 1)), nodata=0)
    else:
        source = write(tmp_path / "a.tif", np.where(hole, np.nan, tiny.gray).astype(np.float32))
    found = detect_file(str(source), "a", tmp_path / "out", detector, Options(stages=True, scale=None))
    summary = consistent(tmp_path / "out", "a")
    assert summary["valid_pixels"] == (~hole).sum() and summary["targets"] > 0
    np.testing.assert_array_equal(np.isnan(read(found.files["score"])[0]), hole)
    for band in read(found.files["stages"]):
        np.testing.assert_array_equal(np.isnan(band), hole)


def test_stages_are_named_bands_with_the_networks_variables(tmp_path, tiny, detector):
    import torch

    from rsunfold.unfold.unrolled import Record

    source = write(tmp_path / "a.tif", bits(tiny.gray))
    found = detect_file(str(source), "a", tmp_path / "out", detector, Options(stages=True))
    record = Record()
    with torch.inference_mode():
        tiny.net(torch.from_numpy(tiny.gray)[None, None], keep=record, reconstruct=True)
    names = [f"stage {k} {letter}" for k in (1, 2) for letter in "BTND"]
    with rasterio.open(found.files["stages"]) as ds:
        assert list(ds.descriptions) == names and set(ds.dtypes) == {"float32"}
        bands = ds.read()
    for name, band in zip(names, bands, strict=True):
        _, k, letter = name.split()
        expected = record.stages[int(k) - 1][letter][0, 0].numpy()
        np.testing.assert_allclose(band, expected, rtol=0, atol=1e-4 * np.ptp(expected), err_msg=name)
    logits = bands[names.index("stage 2 T")]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits / tiny.temperature)), read(found.files["score"])[0], atol=1e-5)


def test_envi_outputs_are_read_back_by_rasterio_and_spectral(tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray), **UTM)
    options = Options(stages=True, picture=False, suffix=".img")
    found = detect_file(str(source), "a", tmp_path / "out", detector, options)
    kinds = ("score", "mask", "stages")
    assert {f"a_{k}{s}" for k in kinds for s in (".img", ".hdr")} <= {p.name for p in (tmp_path / "out").iterdir()}
    consistent(tmp_path / "out", "a", ".img")
    tif = detect_file(str(source), "t", tmp_path / "out", detector, Options(stages=True, picture=False))
    for kind in kinds:
        with rasterio.open(found.files[kind]) as ds:
            assert ds.driver == "ENVI" and ds.transform == UTM["transform"] and ds.crs.to_epsg() == 32633
            ours = ds.read()
        np.testing.assert_array_equal(ours, read(tif.files[kind]))
        cube = spectral.open_image(str(found.files[kind].with_suffix(".hdr"))).load(dtype=ours.dtype)
        np.testing.assert_array_equal(np.moveaxis(np.asarray(cube), 2, 0), ours)


def test_constant_image(tmp_path, detector):
    source = write(tmp_path / "a.tif", np.full((40, 50), 7, np.uint16))
    detect_file(str(source), "a", tmp_path / "out", detector, Options())
    assert consistent(tmp_path / "out", "a")["scale"]["how"] == "constant image"


def test_an_empty_result_is_valid(tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray), **UTM)
    found = detect_file(str(source), "a", tmp_path / "out", detector, Options(threshold=1.0))
    assert found.targets == [] and consistent(tmp_path / "out", "a")["targets"] == 0
    assert found.files["targets_csv"].read_text() == ",".join(COLUMNS) + "\n"
    assert json.loads(found.files["targets_geojson"].read_text())["features"] == []
    with rasterio.open(found.files["mask"]) as ds:
        assert not ds.read().any()


def test_no_valid_pixel(tmp_path, detector):
    source = write(tmp_path / "a.tif", np.zeros((30, 30), np.uint8), nodata=0)
    with pytest.raises(InputError, match=r"a\.tif has no valid pixel: all are nodata"):
        detect_file(str(source), "a", tmp_path / "out", detector, Options())
    assert not (tmp_path / "out").exists()


def test_colour_is_read_as_luminance_and_the_summary_says_so(tmp_path, tiny, detector):
    rgb = np.stack([bits(tiny.gray), bits(tiny.gray) // 2, np.zeros_like(bits(tiny.gray))])
    source = write(tmp_path / "a.tif", rgb, photometric="RGB")
    detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    summary = consistent(tmp_path / "out", "a")
    assert summary["band"] == "luminance of the three colour bands (ITU-R BT.601)"
    gray = np.tensordot([0.299, 0.587, 0.114], rgb, axes=1) / 255
    np.testing.assert_allclose(
        read(tmp_path / "out" / "a_score.tif")[0], tiny.score(gray.astype(np.float32)), atol=1e-4
    )
    second = detect_file(str(source), "b", tmp_path / "out", detector, Options(band=2, picture=False))
    assert second.summary["band"] == "band 2 of 3"


def test_small_targets_may_be_left_out(tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    every = detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    areas = [t.area for t in every.targets]
    some = detect_file(str(source), "b", tmp_path / "out", detector, Options(min_area=max(areas), picture=False))
    assert [t.area for t in some.targets] == [max(areas)] * areas.count(max(areas))
    assert len(some.targets) < len(areas)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten_unasked(kind, tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    out = tmp_path / "out"
    out.mkdir()
    (out / f"a_{kind}").write_text("precious")
    with pytest.raises(OutputError, match=f"a_{kind} already exists; choose another name or pass --overwrite"):
        detect_file(str(source), "a", out, detector, Options())
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [(f"a_{kind}", "precious")]
    with pytest.raises(OutputError, match="already exists"):  # known before the image is even opened
        detect_file(str(tmp_path / "absent.tif"), "a", out, detector, Options())


def test_overwriting_replaces_everything(tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    out = tmp_path / "out"
    first = detect_file(str(source), "a", out, detector, PLAIN)
    for name in ("a_score.tif.aux.xml", "a_score.tif.ovr", "a_mask.tif.msk"):  # what a GIS left
        (out / name).write_text("<PAMDataset/>")
    again = detect_file(str(source), "a", out, detector, Options(threshold=1.0, overwrite=True, picture=False))
    assert consistent(out, "a")["targets"] == 0 < len(first.targets)
    assert set(out.iterdir()) == set(again.files.values())


def break_writer(monkeypatch, where: str, error: BaseException) -> None:
    def broken(*args, **kwargs):
        raise error

    if where == "RasterWriter.write":
        original, calls = run.RasterWriter.write, []

        def third(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise error
            return original(self, *args, **kwargs)

        monkeypatch.setattr(run.RasterWriter, "write", third)
    elif where == "Canvas.keep":
        original_keep, kept = Canvas.keep, []

        def fourth(self, *args, **kwargs):
            kept.append(1)
            if len(kept) == 4:
                raise error
            return original_keep(self, *args, **kwargs)

        monkeypatch.setattr(Canvas, "keep", fourth)
    else:
        monkeypatch.setattr(run, where, broken)


WRITERS = ("RasterWriter.write", "Canvas.keep", "write_geojson", "write_csv", "quicklook", "write_json")


@pytest.mark.parametrize("where", WRITERS)
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.ENOSPC, "No space left on device"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["disk full", "Ctrl-C"],
)
def test_what_breaks_midway_leaves_nothing(where, error, raised, tmp_path, tiny, monkeypatch):
    source = write(tmp_path / "a.tif", infrared_scene(100, 90, seed=1).image)
    out = tmp_path / "out"
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu")
    monkeypatch.setattr("rsunfold.infer.infrared.detector.plan", lambda *args, **kwargs: Plan(False, 32))
    break_writer(monkeypatch, where, error)
    with pytest.raises(raised) as caught:
        detect_file(str(source), "a", out, detector, Options())
    assert not out.exists()
    if raised is OutputError:
        assert "No space left on device" in str(caught.value) and str(out) in str(caught.value)


def test_a_full_scratch_disk(tmp_path, tiny, monkeypatch):
    source = write(tmp_path / "a.tif", infrared_scene(100, 90, seed=1).image)
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu")
    monkeypatch.setattr("rsunfold.infer.infrared.detector.plan", lambda *args, **kwargs: Plan(False, 32))
    full = lambda self, channels=1: Room(Path("/dev/full"), channels, self.rows, self.cols)  # noqa: E731
    monkeypatch.setattr(Canvas, "take", full)
    with pytest.raises(OutputError, match=r"cannot be written to .*No space left on device.*make room"):
        detect_file(str(source), "a", tmp_path / "out", detector, Options())
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="make room"):
        rsunfold.detect_ir(source, weights=tiny.path)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't allocate memory: you tried"), RuntimeError("CUDA out of memory.")]
)
def test_exhausted_memory_is_one_sentence(error, tmp_path, tiny, detector, monkeypatch):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    monkeypatch.setattr(run, "write_csv", lambda *args, **more: (_ for _ in ()).throw(error))
    with pytest.raises(DeviceError, match="out of memory; lower --memory"):
        detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    assert not (tmp_path / "out").exists()


def test_a_budget_that_cannot_be_met(tmp_path, tiny):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu", memory="1MB")
    with pytest.raises(
        DeviceError, match=r"72 x 80 pixels needs \d+ MB on top of the program itself, but --memory leaves 0 MB"
    ):
        detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("error", "refused"), [(0.0, False), (4.0, True), (np.nan, True)])
def test_half_precision_that_changes_the_score_is_refused(error, refused, tiny, monkeypatch):
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu", memory="8GB")
    detector.half = True
    wrong = {True: error * tiny.temperature, False: 0.0}
    monkeypatch.setattr(detector, "net", lambda x: (x + wrong[torch.is_autocast_enabled("cpu")], None))
    with pytest.raises(DeviceError, match="half precision changes the score by") if refused else nullcontext():
        detector._logits(torch.zeros(1, 1, 4, 4))


def test_the_budget_does_not_shrink_from_image_to_image(tiny, monkeypatch):
    """The C library keeps what an image has freed: the process looks larger, but the memory is there."""
    monkeypatch.setattr("rsunfold.infer.device.resident", lambda: 300 * 2**20)
    detector = Detector("l-rpcanet", weights=str(tiny.path), device="cpu", memory="500MiB")
    monkeypatch.setattr("rsunfold.infer.device.resident", lambda: 480 * 2**20)
    assert detect_array(ArrayReader(tiny.gray), detector, PLAIN).summary["computed"] == "in one piece"


def test_pictures_keep_no_strips(tmp_path, detector, monkeypatch):
    """What a picture needs of a large image is copied; a view would keep all of the image in memory."""
    kept, original = [], run._Passage.picture

    def picture(self):
        kept.extend(array for part in self.small for array in part)
        kept.extend(self.small_stages)
        kept.extend(self.small_masks)
        return original(self)

    monkeypatch.setattr(run._Passage, "picture", picture)
    source = write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (8, 2500), np.uint8))
    detect_file(str(source), "a", tmp_path / "out", detector, Options(stages=True))
    assert len(kept) == 4 and {array.shape[-2:] for array in kept} == {(3, 834)}
    assert all(array.base is None for array in kept)


def test_targets_are_no_larger_than_the_weights_say_or_the_option(tmp_path, detector, monkeypatch):
    source = write(tmp_path / "a.tif", np.random.default_rng(3).integers(0, 255, (40, 50), np.uint8))
    monkeypatch.setattr(detector, "own", Rule(detector.own.threshold, max_area=2))
    found = {}
    for name, asked in (("weights", None), ("option", 4), ("any", 0)):
        done = detect_file(str(source), "a", tmp_path / name, detector, Options(threshold=0.5, max_area=asked))
        found[name] = [t.area for t in done.targets]
        score, mask = read(tmp_path / name / "a_score.tif")[0], read(tmp_path / name / "a_mask.tif")[0]
        most = done.summary["max_area_px"]
        np.testing.assert_array_equal(mask == 1, Rule(0.5, max_area=most).detected(score, np.isfinite(score)))
        with open_cube(tmp_path / name / "a_score.tif") as reader:
            assert reader.meta.tags.get("RSUNFOLD_MAX_AREA") == (None if most is None else str(most))
        assert most == {"weights": 2, "option": 4, "any": None}[name]
    assert max(found["any"]) > 4 and len(found["weights"]) > 0
    assert found["weights"] == [a for a in found["any"] if a <= 2]
    assert found["option"] == [a for a in found["any"] if a <= 4]
    with pytest.raises(UsageError, match="--min-area 3 is more than the 2 pixels that the weights allow a target"):
        detect_file(str(source), "a", tmp_path / "none", detector, Options(min_area=3))
    with pytest.raises(UsageError, match=r"--max-area must be 0 \(no limit\) or at least 5"):
        Options(min_area=5, max_area=4)


def test_confidence_keeps_whole_targets_and_drops_unsure_ones(tmp_path, detector):
    source = write(tmp_path / "a.tif", np.random.default_rng(3).integers(0, 255, (40, 50), np.uint8))
    plain = detect_file(str(source), "a", tmp_path / "plain", detector, Options(threshold=0.5))
    score = read(tmp_path / "plain" / "a_score.tif")[0]
    labels, count = ndimage.label(score > 0.5, np.ones((3, 3)))
    means = sorted(ndimage.mean(log_odds(score), labels, np.arange(1, count + 1)))
    assert len(means) >= 2 and plain.summary["confidence"] == 0.5
    confidence = float(expit((means[0] + means[-1]) / 2))
    found = detect_file(str(source), "a", tmp_path / "out", detector, Options(threshold=0.5, confidence=confidence))
    assert 0 < len(found.targets) == sum(m > log_odds(confidence) for m in means) < len(plain.targets)
    mask = read(tmp_path / "out" / "a_mask.tif")[0]
    np.testing.assert_array_equal(mask == 1, Rule(0.5, confidence).detected(score, np.isfinite(score)))
    assert found.summary["target_pixels"] == (mask == 1).sum() == sum(t.area for t in found.targets)


def test_others_around_are_counted_and_the_files_say_so(tmp_path, detector, monkeypatch):
    source = write(tmp_path / "a.tif", np.random.default_rng(3).integers(0, 255, (40, 50), np.uint8))
    monkeypatch.setattr(detector, "own", Rule(0.5, 0.51, reach=6))
    found = {}
    for name, options in {"own": {}, "alone": {"reach": 0}, "far": {"reach": 60}, "plain": {"threshold": 0.5}}.items():
        done = detect_file(str(source), "a", tmp_path / name, detector, Options(**options))
        reach = {"own": 6, "far": 60}.get(name)
        score, mask = read(tmp_path / name / "a_score.tif")[0], read(tmp_path / name / "a_mask.tif")[0]
        rule = Rule(0.5, 0.5 if name == "plain" else 0.51, reach=reach)
        np.testing.assert_array_equal(mask == 1, rule.detected(score, np.isfinite(score)))
        assert done.summary["reach_px"] == reach
        for kind in ("score", "mask"):
            with open_cube(tmp_path / name / f"a_{kind}.tif") as reader:
                assert reader.meta.tags.get("RSUNFOLD_REACH") == (None if reach is None else str(reach))
        found[name] = {(t.row, t.col) for t in done.targets}
    assert found["far"] < found["own"] < found["alone"] <= found["plain"]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_impossible_options(threshold):
    with pytest.raises(UsageError, match="--threshold must lie between 0 and 1"):
        Options(threshold=threshold)
    with pytest.raises(UsageError, match="--min-area must be at least 1"):
        Options(min_area=0)
    with pytest.raises(UsageError, match=r"--reach must be 0 \(each group is judged alone\) or more, not -1"):
        Options(reach=-1)


# ---------------------------------------------------------------- the Python API


def same(found, folder: Path, stem: str) -> None:
    """A result in memory is the one that was written."""
    np.testing.assert_array_equal(found.score, read(folder / f"{stem}_score.tif")[0])
    mask = read(folder / f"{stem}_mask.tif")[0]
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, mask == 1)
    np.testing.assert_array_equal(np.isnan(found.score), mask == 255)
    with (folder / f"{stem}_targets.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(found.targets) > 0
    for target, line in zip(found.targets, lines, strict=True):
        assert [target.row, target.col, target.peak] == [float(line[k]) for k in ("row", "col", "peak")]


def api_cases(gray: np.ndarray) -> dict:
    hole = holed(gray)
    eight, floats = np.maximum(bits(gray), 1), gray * 3 + 1
    return {
        "uint8": (bits(gray), {}, bits(gray), {}),
        "uint16": ((gray * 9000).astype(np.uint16), {}, (gray * 9000).astype(np.uint16), {}),
        "float with NaN": (np.where(hole, np.nan, floats), {}, np.where(hole, np.nan, floats).astype(np.float32), {}),
        "nodata": (np.where(hole, 0, eight), {"nodata": 0}, np.where(hole, 0, eight), {"nodata": 0}),
        "masked": (np.ma.masked_array(eight, hole), {}, np.where(hole, 0, eight), {"nodata": 0}),
        "big-endian": ((gray * 9000).astype(">u2"), {}, (gray * 9000).astype(np.uint16), {}),
    }


@pytest.mark.parametrize("case", api_cases(np.zeros((72, 80), np.float32)))
def test_arrays_give_the_result_of_a_file(case, tmp_path, tiny, detector):
    array, extra, stored, profile = api_cases(tiny.gray)[case]
    source = write(tmp_path / "a.tif", stored, **profile)
    detect_file(str(source), "a", tmp_path / "out", detector, Options(stages=True, picture=False))
    before = array.copy()
    found = rsunfold.detect_ir(array, weights=str(tiny.path), device="cpu", stages=True, **extra)
    same(found, tmp_path / "out", "a")
    with rasterio.open(tmp_path / "out" / "a_stages.tif") as ds:
        assert [f"stage {k} {letter}" for k, letter in found.stages] == list(ds.descriptions)
        np.testing.assert_array_equal(np.stack(list(found.stages.values())), ds.read())
    np.testing.assert_array_equal(array, before)
    assert found.files == {} and found.summary["input"] == "array" and found.threshold == tiny.threshold


def test_paths_give_the_result_of_a_file(tmp_path, tiny, detector):
    source = write(tmp_path / "a.tif", bits(tiny.gray))
    detect_file(str(source), "a", tmp_path / "out", detector, PLAIN)
    for given_path in (source, str(source)):
        same(rsunfold.detect_ir(given_path, weights=tiny.path, device="cpu"), tmp_path / "out", "a")
    with pytest.raises(UsageError, match="nodata applies to arrays only"):
        rsunfold.detect_ir(source, weights=tiny.path, nodata=0)


@pytest.mark.parametrize("array", [np.zeros((2, 3), complex), np.zeros(5), np.zeros((0, 4)), np.array([["a"]])])
def test_arrays_that_are_no_images(array, tiny):
    with pytest.raises(InputError, match="is not an image"):
        rsunfold.detect_ir(array, weights=str(tiny.path))


def test_boolean_arrays_are_gray_0_and_1(tiny):
    gray = tiny.gray > 0.5
    found = rsunfold.detect_ir(gray, weights=str(tiny.path), device="cpu")
    np.testing.assert_allclose(found.score, tiny.score(gray.astype(np.float32)), atol=1e-4)


def test_several_bands_need_a_choice(tiny):
    bands = np.stack([bits(tiny.gray), 255 - bits(tiny.gray)])
    with pytest.raises(InputError, match="has 2 bands, but one is needed"):
        rsunfold.detect_ir(bands, weights=str(tiny.path))
    found = rsunfold.detect_ir(bands, weights=str(tiny.path), band=1, device="cpu")
    np.testing.assert_allclose(found.score, tiny.score(tiny.gray), atol=1e-4)
