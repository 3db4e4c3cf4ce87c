"""What the public functions say of a result is what its JSON holds, whatever kinds of numbers they were given."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

import rsunfold
from rsunfold.cube import Meta
from rsunfold.infer.anomaly import run as anomaly
from rsunfold.infer.anomaly.detector import AnomalyDetector
from rsunfold.infer.features.run import Options as SelectOptions
from rsunfold.infer.features.run import select_file
from rsunfold.infer.features.select import FeatureRanker, Wanted
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.run import Options as DenoiseOptions
from rsunfold.infer.hsi.run import denoise_file
from rsunfold.infer.infrared import run as infrared
from rsunfold.infer.infrared.detector import Detector
from rsunfold.io.writer import RasterWriter

CUBE = np.random.default_rng(0).normal(100, 10, (12, 30, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("call", "key", "value"),
    [
        (lambda: rsunfold.detect_ir(CUBE[0], model="top-hat", threshold=np.float32(0.5)), "threshold", 0.5),
        (lambda: rsunfold.detect_ir(CUBE[0], model="top-hat", min_area=np.int64(2)), "min_area_px", 2),
        (lambda: rsunfold.detect_ir(CUBE[0], model="top-hat", scale=np.array([0, 200])), "targets", 0),
        (lambda: rsunfold.detect_ir(CUBE[0], model="mpcm:dark"), "options", {"scales": [3, 5, 7, 9], "dark": True}),
        (lambda: rsunfold.denoise_hsi(CUBE, model="fasthyde"), "options", {}),
        (lambda: rsunfold.select_features(CUBE, model="css", k=3), "options", {"standardised": True}),
        (lambda: rsunfold.denoise_hsi(CUBE, model="fasthyde", sigma=np.float32(10)), "noise", "given"),
        (
            lambda: rsunfold.detect_anomaly(CUBE, model="rx", min_area=np.int64(2)),
            "min_area_px",
            2,
        ),
        (lambda: rsunfold.select_features(CUBE, model="variance", k=np.int64(3)), "selected", 3),
    ],
)
def test_summaries_hold_what_json_holds(call, key, value):
    summary = call().summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary[key] == value


def test_files_may_be_paths(tmp_path):
    source = tmp_path / "a.tif"
    with RasterWriter(source, bands=12, rows=30, cols=32, dtype=np.float32, meta=Meta()) as raster:
        raster.write(CUBE)
    done = denoise_file(source, tmp_path / "b.tif", Denoiser("fasthyde", memory="4GB"), DenoiseOptions())
    assert done.summary["input"] == str(source) and done.files["denoised"] == Path(tmp_path / "b.tif")
    chosen = select_file(source, tmp_path, "a", FeatureRanker("variance"), Wanted(count=2), SelectOptions())
    assert chosen.summary["input"] == str(source) and len(chosen.indices) == 2


def test_the_crs_is_that_of_ground_control_points_where_these_place_the_image(tmp_path):
    points = [GroundControlPoint(r, c, 5e5 + 10 * c, 5e6 - 10 * r) for r, c in ((0, 0), (0, 32), (30, 0))]
    meta = Meta(gcps=(points, CRS.from_epsg(32633)))
    with RasterWriter(tmp_path / "a.tif", bands=12, rows=30, cols=32, dtype=np.float32, meta=meta) as raster:
        raster.write(CUBE)
    for found in (
        rsunfold.detect_anomaly(tmp_path / "a.tif", model="rx"),
        rsunfold.select_features(tmp_path / "a.tif", model="variance", k=2),
    ):
        assert found.summary["crs"] == "EPSG:32633"


@pytest.mark.parametrize("scales", [(), (1e-4,) * 12])
@pytest.mark.parametrize(("spread", "told"), [(0.2, True), (3.0, False)])
def test_rounding_that_adds_what_was_removed_is_told(tmp_path, spread, told, scales):
    source, rng = tmp_path / "a.tif", np.random.default_rng(0)
    row, col = np.mgrid[:30, :32]
    cube = 100 + 20 * np.sin(np.arange(12)[:, None, None] / 4 + row / 9) + 10 * np.cos(col / 7)
    cube = np.round(cube + rng.normal(0, spread, cube.shape)).astype(np.uint8)
    with RasterWriter(source, bands=12, rows=30, cols=32, dtype=np.uint8, meta=Meta(scales=scales)) as raster:
        raster.write(cube)
    for dtype in ("same", "float32"):
        options = DenoiseOptions(dtype=dtype)
        done = denoise_file(source, tmp_path / f"{dtype}.tif", Denoiser("fasthyde", memory="4GB"), options)
        found = any("the noise is below the steps of uint8" in note for note in done.summary["notes"])
        assert found == (told and dtype == "same")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("name", "tags", "acquired"),
    [
        ("a.tif", {"TIFFTAG_DATETIME": "2022:07:24 10:20:30"}, "2022-07-24T10:20:30"),
        ("a.img", {"acquisition_time": "2022-07-24T10:20:30Z"}, "2022-07-24T10:20:30Z"),
        ("a.tif", {"start_time": "day 205"}, "day 205"),
        ("a.tif", {}, None),
    ],
)
def test_the_time_of_acquisition_reaches_all_results(tmp_path, name, tags, acquired):
    source, out = str(tmp_path / name), tmp_path / "out"
    with RasterWriter(source, bands=12, rows=30, cols=32, dtype=np.float32, meta=Meta(tags=tags)) as raster:
        raster.write(CUBE)
    targets = infrared.detect_file(
        source, "d1/a", out, Detector("top-hat", memory="4GB"), infrared.Options(band=1, picture=False)
    )
    anomalies = anomaly.detect_file(
        source, "d2/a", out, AnomalyDetector("rx"), anomaly.Options(percentile=90, picture=False)
    )
    cleaned = denoise_file(source, out / "b.tif", Denoiser("fasthyde", memory="4GB"), DenoiseOptions())
    chosen = select_file(source, out, "a", FeatureRanker("variance"), Wanted(count=2), SelectOptions(picture=False))
    rasters = [found.files[kind] for found in (targets, anomalies) for kind in ("score", "mask")]
    for path in (*rasters, cleaned.files["denoised"], chosen.files["selected"]):
        with rasterio.open(path) as ds:
            time = "2022:07:24 10:20:30" if acquired and acquired.startswith("2022") else None
            found = {key: ds.tags().get(key) for key in ("acquisition_time", "TIFFTAG_DATETIME")}
            assert found == {"acquisition_time": acquired, "TIFFTAG_DATETIME": time}
    assert {found.summary["acquired"] for found in (targets, anomalies, cleaned, chosen)} == {acquired}
    for folder, path in (("d1", targets.files["targets_csv"]), ("d2", anomalies.files["anomalies_csv"])):
        assert path.parent == out / folder
        lines = list(csv.DictReader(path.open()))
        assert {(line["image"], line["acquired"]) for line in lines} == {(f"{folder}/{name}", acquired or "")}
        assert list(lines[0])[-2:] == ["image", "acquired"]
