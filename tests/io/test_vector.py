import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.warp import transform

from rsunfold.cube import Meta
from rsunfold.errors import OutputError
from rsunfold.io.vector import COLUMNS, write_csv, write_geojson
from rsunfold.targets import Target

TARGET = Target(
    id=1, row=10.25, col=20.5, row_min=9, row_max=11, col_min=20, col_max=21, area=5, peak=0.9, mean=0.7, scr=4.5
)
UTM = Meta(crs=CRS.from_epsg(32633), transform=Affine(10, 0, 500_000, 0, -10, 5_300_000))


def written(path, targets, meta, **options):
    write_geojson(path, targets, meta, image="d1/a.tif", rows=64, cols=80, **options)
    return json.loads(path.read_text())


def test_projected_image_gives_wgs84_points_that_lead_back_to_the_pixel(tmp_path):
    doc = written(tmp_path / "t.geojson", [TARGET], UTM)
    (feature,) = doc["features"]
    lon, lat = feature["geometry"]["coordinates"]
    assert 14.9 < lon < 15.1 and 47.8 < lat < 47.9  # central meridian of zone 33, 5300 km north of the equator
    (x,), (y,) = transform("EPSG:4326", UTM.crs, [lon], [lat])
    row, col = (5_300_000 - y) / 10 - 0.5, (x - 500_000) / 10 - 0.5
    assert (row, col) == pytest.approx((TARGET.row, TARGET.col), abs=1e-4)
    properties = feature["properties"]
    assert (properties["x"], properties["y"]) == pytest.approx((500_210, 5_299_892.5))
    (expected_lon,), (expected_lat,) = transform(UTM.crs, "EPSG:4326", [500_210], [5_299_892.5])
    assert (lon, lat) == pytest.approx((expected_lon, expected_lat), abs=1e-6)
    assert properties["area_m2"] == pytest.approx(500)
    assert doc["rsunfold"]["crs"] == "EPSG:32633" and "WGS 84" in doc["rsunfold"]["coordinates"]


def test_structure_is_that_of_rfc_7946(tmp_path):
    second = replace(TARGET, id=2, scr=math.nan)
    doc = written(tmp_path / "t.geojson", [TARGET, second], UTM, properties={"model": "top-hat", "threshold": 0.5})
    assert doc["type"] == "FeatureCollection" and "crs" not in doc
    assert [f["type"] for f in doc["features"]] == ["Feature", "Feature"]
    assert [f["id"] for f in doc["features"]] == [1, 2]
    assert {f["geometry"]["type"] for f in doc["features"]} == {"Point"}
    assert tuple(doc["features"][0]["properties"]) == (*COLUMNS[:-4], "image", "acquired")
    assert doc["features"][0]["properties"]["scr"] == 4.5
    assert doc["features"][1]["properties"]["scr"] is None
    about = doc["rsunfold"]
    assert (about["rows"], about["cols"], about["model"], about["threshold"]) == (64, 80, "top-hat", 0.5)


@pytest.mark.parametrize(
    "meta",
    [
        Meta(),
        Meta(transform=Affine.identity()),
        Meta(crs=CRS.from_epsg(32633)),
        Meta(crs=CRS.from_epsg(32633), transform=Affine.identity()),
    ],
    ids=["nothing", "identity", "crs-without-transform", "crs-and-identity"],
)
def test_without_a_usable_crs_the_points_lie_where_qgis_draws_the_pixels(tmp_path, meta):
    doc = written(tmp_path / "t.geojson", [TARGET], meta)
    assert doc["features"][0]["geometry"]["coordinates"] == [21.0, -10.75]
    assert doc["rsunfold"]["coordinates"].startswith("pixels")
    assert doc["features"][0]["properties"]["area_m2"] is None
    write_csv(tmp_path / "t.csv", [TARGET], meta, image="d1/a.tif")
    (line,) = csv.DictReader((tmp_path / "t.csv").open())
    assert line["lon_deg"] == line["lat_deg"] == ""


@pytest.mark.parametrize("crs", [None, CRS.from_wkt('LOCAL_CS["Arbitrary",UNIT["metre",1]]')])
def test_a_transform_without_a_usable_crs_gives_x_and_y(tmp_path, crs):
    doc = written(tmp_path / "t.geojson", [TARGET], Meta(crs=crs, transform=UTM.transform))
    assert doc["features"][0]["geometry"]["coordinates"] == pytest.approx([500_210, 5_299_892.5])
    assert doc["rsunfold"]["coordinates"].startswith("x and y")
    assert doc["features"][0]["properties"]["x"] == pytest.approx(500_210)
    assert doc["features"][0]["properties"]["area_m2"] is None


def test_ground_control_points_place_the_targets(tmp_path):
    corners = [(0, 0), (0, 100), (100, 0), (100, 100)]
    points = [GroundControlPoint(row=r, col=c, x=10 + 0.01 * c, y=50 - 0.02 * r) for r, c in corners]
    doc = written(tmp_path / "t.geojson", [TARGET], Meta(gcps=(points, CRS.from_epsg(4326))))
    assert doc["features"][0]["geometry"]["coordinates"] == pytest.approx([10.21, 50 - 0.02 * 10.75], abs=1e-9)
    assert doc["rsunfold"]["crs"] == "EPSG:4326"
    assert doc["features"][0]["properties"]["area_m2"] is None


@pytest.mark.parametrize("west", [179.9, -180.1, 100])
def test_ground_control_points_on_both_sides_of_the_antimeridian(tmp_path, west):
    def lon(col):
        return (west + 0.01 * col + 180) % 360 - 180

    corners = [(r, c) for r in (0, 20, 40) for c in (0, 20, 40)]
    points = [GroundControlPoint(row=r, col=c, x=lon(c), y=50 - 0.01 * r) for r, c in corners]
    (feature,) = written(tmp_path / "t.geojson", [TARGET], Meta(gcps=(points, CRS.from_epsg(4326))))["features"]
    assert feature["geometry"]["coordinates"] == pytest.approx([lon(21), 50 - 0.01 * 10.75], abs=1e-7)
    assert feature["properties"]["x"] == pytest.approx(lon(21), abs=1e-7)


def test_ground_control_points_around_the_globe_stay(tmp_path):
    points = [
        GroundControlPoint(row=r, col=c, x=4.5 * c - 180, y=90 - r) for r in (0, 32, 64) for c in range(0, 81, 10)
    ]
    doc = written(tmp_path / "t.geojson", [TARGET], Meta(gcps=(points, CRS.from_epsg(4326))))
    assert doc["features"][0]["geometry"]["coordinates"] == pytest.approx([4.5 * 21 - 180, 90 - 10.75], abs=1e-6)


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3995", 1), ("EPSG:3031", -1)])
def test_ground_control_points_around_a_pole(tmp_path, crs, sign):
    def lonlat(row, col):
        (lon,), (lat,) = transform(crs, "EPSG:4326", [2000.0 * (col - 25)], [2000.0 * (12 - row)])
        return lon, lat

    points = [GroundControlPoint(r, c, *lonlat(r, c)) for r in (0, 10, 20, 30, 40) for c in (0, 10, 20, 30, 40)]
    (feature,) = written(tmp_path / "t.geojson", [TARGET], Meta(gcps=(points, CRS.from_epsg(4326))))["features"]
    assert feature["geometry"]["coordinates"] == pytest.approx(lonlat(10.75, 21), abs=1e-6)
    assert feature["geometry"]["coordinates"][1] * sign > 89


def test_an_image_with_rpcs_alone_is_told_apart(tmp_path):
    one = {f"{axis}_{part}": 1.5 for axis in ("height", "lat", "line", "long", "samp") for part in ("off", "scale")}
    polynomials = {f"{axis}_{part}_coeff": [2.0] * 20 for axis in ("line", "samp") for part in ("num", "den")}
    doc = written(tmp_path / "a.geojson", [TARGET], Meta(geolocated=True))
    assert "no georeferencing but arrays of coordinates" in doc["rsunfold"]["coordinates"]
    doc = written(tmp_path / "t.geojson", [TARGET], Meta(rpcs=RPC(**one, **polynomials)))
    assert doc["rsunfold"]["coordinates"].startswith("pixels, because the image has no georeferencing but rational")
    assert doc["features"][0]["geometry"]["coordinates"] == [21.0, -10.75]


@pytest.mark.parametrize(
    "points",
    [[(0, 0)], [(0, 0), (10, 20)], [(i, 2 * i) for i in range(5)]],
    ids=["one", "two", "on one line"],
)
def test_ground_control_points_that_place_nothing(tmp_path, points, capfd):
    gcps = [GroundControlPoint(row=r, col=c, x=10 + c, y=50 - r) for r, c in points]
    doc = written(tmp_path / "t.geojson", [TARGET], Meta(gcps=(gcps, CRS.from_epsg(4326))))
    assert doc["rsunfold"]["coordinates"].startswith("pixels") and doc["features"][0]["properties"]["x"] is None
    write_csv(tmp_path / "t.csv", [TARGET], Meta(gcps=(gcps, CRS.from_epsg(4326))), image="d1/a.tif")
    (line,) = csv.DictReader((tmp_path / "t.csv").open())
    assert line["x"] == line["y"] == line["lon_deg"] == line["lat_deg"] == ""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("proj", ["+proj=longlat +R=1737400", "+proj=eqc +R=3396190 +units=m"], ids=["Moon", "Mars"])
def test_another_body_has_x_and_y_of_its_own(tmp_path, proj):
    meta = Meta(crs=CRS.from_proj4(proj), transform=Affine(0.01, 0, 10, 0, -0.01, 10))
    doc = written(tmp_path / "t.geojson", [TARGET], meta)
    assert doc["features"][0]["geometry"]["coordinates"] == pytest.approx([10.21, 10 - 0.1075])
    assert doc["rsunfold"]["coordinates"].startswith("x and y")


def test_area_is_in_square_metres_also_where_the_projection_counts_in_feet(tmp_path):
    meta = Meta(crs=CRS.from_epsg(2263), transform=Affine(10, 0, 980_000, 0, -10, 200_000))
    area = written(tmp_path / "t.geojson", [TARGET], meta)["features"][0]["properties"]["area_m2"]
    assert area == pytest.approx(5 * 100 * (1200 / 3937) ** 2)


def test_degrees_east_up_to_360_become_west(tmp_path):
    meta = Meta(crs=CRS.from_epsg(4326), transform=Affine(1, 0, 250, 0, -1, 40))
    lon, lat = written(tmp_path / "t.geojson", [TARGET], meta)["features"][0]["geometry"]["coordinates"]
    assert (lon, lat) == pytest.approx((271 - 360, 29.25))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("more", ["+ellps=WGS84", "+ellps=GRS80 +sweep=x"])
def test_a_target_beside_the_earths_disk_has_no_geometry_and_harms_no_other(tmp_path, more):
    disk = Meta(
        crs=CRS.from_proj4(f"+proj=geos +h=35785831 +lon_0=0 +units=m {more}"),
        transform=Affine(500_000, 0, -5_500_000, 0, -500_000, 5_500_000),
    )
    inside = replace(TARGET, id=2, row=10.5, col=10.5)
    outside = replace(TARGET, id=1, row=0, col=0)
    features = written(tmp_path / "t.geojson", [outside, inside], disk)["features"]
    assert features[0]["geometry"] is None
    assert features[1]["geometry"]["coordinates"] == pytest.approx([0, 0], abs=1e-6)
    write_csv(tmp_path / "t.csv", [outside, inside], disk, image="d1/a.tif")
    lines = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert lines[0]["lon_deg"] == "" and float(lines[1]["lon_deg"]) == pytest.approx(0, abs=1e-6)


def test_csv_has_the_numbers_under_their_names(tmp_path):
    write_csv(tmp_path / "t.csv", [TARGET, replace(TARGET, id=2, scr=math.nan)], UTM, image="d1/a.tif")
    first, second = csv.DictReader((tmp_path / "t.csv").open())
    assert tuple(first) == COLUMNS
    assert {k: float(first[k]) for k in COLUMNS[:8]} == {
        "id": 1, "row": 10.25, "col": 20.5, "row_min": 9, "row_max": 11, "col_min": 20, "col_max": 21, "area_px": 5
    }  # fmt: skip
    assert [float(first[k]) for k in ("area_m2", "peak", "mean", "scr")] == pytest.approx([500, 0.9, 0.7, 4.5])
    assert float(first["lon_deg"]) == pytest.approx(15.0028, abs=1e-3)
    assert second["scr"] == ""


@pytest.mark.parametrize("meta", [Meta(), UTM])
def test_no_target_gives_valid_empty_files(tmp_path, meta):
    assert written(tmp_path / "t.geojson", [], meta)["features"] == []
    write_csv(tmp_path / "t.csv", [], meta, image="d1/a.tif")
    assert (tmp_path / "t.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_an_existing_file_stays(tmp_path):
    for name in ("t.geojson", "t.csv"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError):
        written(tmp_path / "t.geojson", [], UTM)
    with pytest.raises(OutputError):
        write_csv(tmp_path / "t.csv", [], UTM, image="d1/a.tif")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"t.geojson": "mine", "t.csv": "mine"}


def test_values_of_numpy_types_are_written(tmp_path):
    numpy_target = replace(TARGET, row=np.float32(10.25), peak=np.float32(0.5), area=np.int64(5))
    doc = written(tmp_path / "t.geojson", [numpy_target], Meta(), properties={"threshold": np.float32(0.5)})
    assert doc["features"][0]["properties"]["peak"] == 0.5 and doc["rsunfold"]["threshold"] == 0.5


def test_rows_say_of_which_image_and_time_they_are_behind_all_other_columns(tmp_path):
    """So that those of a batch can be put together, and readers that count columns find the others."""
    meta = replace(UTM, acquired="2022-07-24T10:20:30Z")
    doc = written(tmp_path / "t.geojson", [TARGET], meta, more=[{"bands": "3"}])
    write_csv(tmp_path / "t.csv", [TARGET], meta, image="d1/a.tif", more=[{"bands": "3"}], names=["bands"])
    (line,) = csv.DictReader((tmp_path / "t.csv").open())
    for found in (line, doc["features"][0]["properties"]):
        assert list(found.items())[-3:] == [("bands", "3"), ("image", "d1/a.tif"), ("acquired", meta.acquired)]
    assert doc["rsunfold"]["acquired"] == meta.acquired
