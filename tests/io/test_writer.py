import os
import resource
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.warp import transform
from spectral.io import envi as spectral_envi

from rsunfold.cube import Meta, Window
from rsunfold.errors import OutputError, UsageError
from rsunfold.io import RasterWriter, open_cube
from rsunfold.io.reader import select_bands
from rsunfold.io.writer import refuse_in_envi

FULL = Meta(
    wavelengths=(400.5, 2250.123),
    fwhm=(9.5, 10.25),
    bad_bands=(False, True),
    band_names=("first", "second"),
    nodata=(-9999.0, -9999.0),
    scales=(0.5, 0.25),
    offsets=(1.0, 2.0),
    units=("K", "K"),
    crs=CRS.from_epsg(32633),
    transform=Affine(30, 0, 5e5, 0, -30, 4e6),
    tags={"sensor": "made up"},
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def write(path, data, meta=None, **options):
    bands, rows, cols = data.shape
    size = {"bands": bands, "rows": rows, "cols": cols, "dtype": data.dtype}
    with RasterWriter(path, **(size | options), meta=meta or Meta()) as writer:
        writer.write(data)
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.TIF", "a.img", "a.dat", "a.bsq"])
def test_everything_is_carried(tmp_path, cube, name):
    write(tmp_path / name, cube, FULL)
    with open_cube(tmp_path / name) as reader:
        meta, stored = reader.meta, reader.read(scaled=False)
    np.testing.assert_array_equal(stored.data, cube)
    for field in ("wavelengths", "fwhm", "bad_bands", "band_names", "nodata", "scales", "offsets", "crs", "transform"):
        assert getattr(meta, field) == getattr(FULL, field), field
    assert meta.tags["sensor"] == "made up"
    with rasterio.open(tmp_path / name) as ds:  # what other programs see
        np.testing.assert_array_equal(ds.read(), cube)
        assert ds.nodata == -9999 and ds.scales == FULL.scales and ds.offsets == FULL.offsets
        assert ds.units == FULL.units and ds.crs == FULL.crs and ds.transform == FULL.transform
        assert float(ds.tags(1, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(0.4005, abs=6e-4)
    if name.startswith("a.tif"):
        with rasterio.open(tmp_path / name) as ds:
            assert ds.tags(2, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "2.250123", "FWHM_UM": "0.01025"}
            assert ds.tags(2)["wavelength"] == "2250.123" and ds.tags(2)["bbl"] == "0"


HEADER = {
    "reflectance_scale_factor": "10000",
    "sensor_type": "Foo",
    "acquisition_time": "2020-01-01T00:00:00Z",
}


def test_entries_of_a_header_come_back(tmp_path, write_envi):
    with open_cube(write_envi("in.img", header_name="in.hdr", **HEADER)) as reader:
        meta, stored = reader.meta, reader.read(scaled=False).data
        one = reader.read(bands=[1], scaled=False)
    assert meta.scales == (1e-4, 1e-4)
    for name in ("a.img", "b.tif"):
        write(tmp_path / name, stored, meta)
        with open_cube(tmp_path / name) as reader:
            assert reader.meta.tags.items() >= HEADER.items() and reader.meta.scales == meta.scales
    text = (tmp_path / "a.hdr").read_text()
    assert "reflectance scale factor = 10000" in text and "data gain" not in text
    # What is in physical units has no factor.
    write(tmp_path / "c.img", stored, replace(meta, scales=(), offsets=()))
    assert "factor" not in (tmp_path / "c.hdr").read_text()
    write(tmp_path / "d.img", one.data, one.meta)
    text = (tmp_path / "d.hdr").read_text()
    assert "sensor type = Foo" in text
    write(tmp_path / "e.img", stored, replace(meta, scales=(0.5, 0.25)))
    assert "factor" not in (tmp_path / "e.hdr").read_text()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shown", [(4, 2, 1), (0, 1, 2), (2, 1, 0), (3,), (1, 0, 0), (0,)])
def test_bands_shown_in_colour_are_those_of_the_input(tmp_path, dtype, shown):
    """Of ENVI and of TIFF, where GDAL and QGIS read them; a band of a TIFF has one colour."""
    data = np.random.default_rng(0).integers(0, 256, (5, 6, 7)).astype(dtype)
    write(tmp_path / "in.img", data, Meta(default_bands=shown))
    listed = ", ".join(str(band + 1) for band in shown)
    assert f"default bands = {{{listed}}}\n" in (tmp_path / "in.hdr").read_text()
    with open_cube(tmp_path / "in.img") as reader:
        meta = reader.meta
    assert meta.default_bands == shown
    with open_cube(write(tmp_path / "a.tif", data, meta)) as reader:
        found = reader.meta.default_bands
        np.testing.assert_array_equal(reader.read().data, data)
        assert reader.read().valid.all()
    assert found == (shown if len(set(shown)) == 3 else ())
    if found:
        with rasterio.open(tmp_path / "in.img") as before, rasterio.open(tmp_path / "a.tif") as after:
            assert after.colorinterp == before.colorinterp
    chosen = select_bands(meta, [0, *shown])
    with open_cube(write(tmp_path / "b.tif", data[[0, *shown]], chosen)) as reader:
        assert [[0, *shown][band] for band in reader.meta.default_bands] == list(found)


def test_envi_is_read_by_spectral(tmp_path, cube):
    write(tmp_path / "a.img", cube, FULL)
    image = spectral_envi.open(str(tmp_path / "a.hdr"))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(image.open_memmap()), -1, 0), cube)
    assert image.bands.centers == [400.5, 2250.123] and image.bands.bandwidths == [9.5, 10.25]
    assert image.bands.band_unit == "Nanometers" and image.metadata["bbl"] == [1, 0]
    assert image.metadata["band names"] == ["first", "second"] and image.metadata["data ignore value"] == "-9999"
    assert image.metadata["data gain values"] == ["0.5", "0.25"]
    text = (tmp_path / "a.hdr").read_text()
    assert ".rsunfold" not in text and "a.img" in text


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "uint16", "uint32", "int64", "uint64", "float32", "float64", "complex64"]
)
def test_types(tmp_path, cube, name, dtype):
    write(tmp_path / name, cube.astype(dtype))
    with rasterio.open(tmp_path / name) as ds:
        assert set(ds.dtypes) == {dtype}
        np.testing.assert_array_equal(ds.read(), cube)


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_bool_becomes_bytes(tmp_path, cube, name):
    write(tmp_path / name, cube > 5)
    with rasterio.open(tmp_path / name) as ds:
        assert ds.dtypes[0] == "uint8"
        np.testing.assert_array_equal(ds.read(), cube > 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bands=st.integers(1, 3),
    rows=st.integers(1, 300),
    cols=st.integers(1, 300),
    name=st.sampled_from(["a.tif", "a.img"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_any_size_in_strips(tmp_path, bands, rows, cols, name, dtype):
    data = np.random.default_rng(rows * 301 + cols).integers(0, 256, (bands, rows, cols)).astype(dtype)
    path = tmp_path / name
    with RasterWriter(path, bands=bands, rows=rows, cols=cols, dtype=dtype, meta=Meta(), overwrite=True) as writer:
        step = writer.block_shape[0]
        for row in range(0, rows, step):
            height = min(step, rows - row)
            writer.write(data[:, row : row + height], Window(row, 0, height, cols))
    with rasterio.open(path) as ds:
        np.testing.assert_array_equal(ds.read(), data)
    if name == "a.img":
        loaded = spectral_envi.open(str(path.with_suffix(".hdr"))).open_memmap()
        np.testing.assert_array_equal(np.moveaxis(np.asarray(loaded), -1, 0), data)


@pytest.mark.parametrize(
    ("rows", "cols", "block"),
    [(255, 900, None), (256, 256, (256, 256)), (600, 900, (256, 256)), (600, 4097, (512, 512))],
)
def test_layout_of_geotiff(tmp_path, rows, cols, block):
    data = np.zeros((1, rows, cols), np.float32)
    with RasterWriter(tmp_path / "a.tif", bands=1, rows=rows, cols=cols, dtype="float32", meta=Meta()) as writer:
        writer.write(data)
        shape = writer.block_shape
    with rasterio.open(tmp_path / "a.tif") as ds:
        assert ds.block_shapes[0] == shape
        assert shape == (block or (min(rows, 65536 // cols), cols))
        assert ds.compression.value == "DEFLATE" and ds.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"


@pytest.mark.parametrize(("rows", "magic"), [(1000, b"II*\0"), (50000, b"II+\0")])
def test_large_files_are_bigtiff(tmp_path, rows, magic):
    size = {"bands": 1, "rows": rows, "cols": 50000, "dtype": "uint8"}
    with pytest.raises(StopIteration), RasterWriter(tmp_path / "a.tif", **size, meta=Meta()) as writer:
        writer.write(np.zeros((1, 512, 512), np.uint8), Window(0, 0, 512, 512))
        (temporary,) = tmp_path.glob("*.tif")
        assert temporary.read_bytes()[:4] == magic
        raise StopIteration


@pytest.mark.parametrize("bands", [2, 3, 4])
def test_no_band_becomes_alpha_or_colour(tmp_path, bands):
    data = np.zeros((bands, 5, 6), np.uint8)
    with open_cube(write(tmp_path / "a.tif", data)) as reader:
        assert reader.shape == data.shape and reader.read().valid.all() and not reader.colour


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_gcps(tmp_path, name):
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 3), (3, 0), (3, 3))]
    write(tmp_path / name, np.zeros((1, 4, 4), np.uint8), Meta(gcps=(points, CRS.from_epsg(4326))))
    with open_cube(tmp_path / name) as reader:
        got, crs = reader.meta.gcps
    assert crs.to_epsg() == 4326
    assert [(p.row, p.col, p.x, p.y) for p in got] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("crs", [None, CRS()])
def test_gcps_without_a_crs(tmp_path, crs):
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 3), (3, 0), (3, 3))]
    write(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8), Meta(gcps=(points, crs)))
    with open_cube(tmp_path / "a.tif") as reader:
        got, kept = reader.meta.gcps
    assert not kept and [(p.row, p.col, p.x, p.y) for p in got] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize(
    ("count", "crs", "said"),
    [
        (5, CRS.from_epsg(4326), "only four of the 5 ground control points"),
        (4, CRS.from_epsg(32633), "WGS 84 longitude and latitude only"),
        (4, None, "WGS 84 longitude and latitude only"),
    ],
)
def test_gcps_that_an_envi_header_cannot_hold(tmp_path, count, crs, said):
    places = ((0, 0), (0, 3), (3, 0), (3, 3), (1, 2))[:count]
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in places]
    with pytest.raises(UsageError, match=f"{said}; write GeoTIFF instead"):
        write(tmp_path / "a.img", np.zeros((1, 4, 4), np.uint8), Meta(gcps=(points, crs)))
    assert list(tmp_path.iterdir()) == []


def test_an_envi_header_holds_rpcs(tmp_path):
    rng = np.random.default_rng(0)
    axes = ("height", "lat", "line", "long", "samp")
    one = {f"{axis}_{part}": float(rng.uniform(1, 9)) for axis in axes for part in ("off", "scale")}
    polynomials = {f"{axis}_{part}_coeff": list(rng.normal(size=20)) for axis in axes[2::2] for part in ("num", "den")}
    rpcs = RPC(**one, **polynomials)
    write(tmp_path / "a.img", np.zeros((1, 4, 4), np.uint8), Meta(rpcs=rpcs))
    (tmp_path / "a.img.aux.xml").unlink()  # which only GDAL reads
    with open_cube(tmp_path / "a.img") as reader:
        got = reader.meta.rpcs
    for name in (*one, *polynomials):
        np.testing.assert_allclose(getattr(got, name), getattr(rpcs, name), rtol=1e-12)


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_rpcs(tmp_path, name):
    one = {f"{axis}_{part}": 1.5 for axis in ("height", "lat", "line", "long", "samp") for part in ("off", "scale")}
    polynomials = {f"{axis}_{part}_coeff": [2.0] * 20 for axis in ("line", "samp") for part in ("num", "den")}
    rpcs = RPC(**one, **polynomials, err_bias=0.5, err_rand=0.25)
    write(tmp_path / name, np.zeros((1, 4, 4), np.uint8), Meta(rpcs=rpcs))
    with open_cube(tmp_path / name) as reader:
        assert reader.meta.rpcs == rpcs


def test_pixel_is_point(tmp_path):
    meta = Meta(crs=FULL.crs, transform=FULL.transform, tags={"AREA_OR_POINT": "Point"})
    with open_cube(write(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8), meta)) as reader:
        assert reader.meta.transform == FULL.transform and reader.meta.tags["AREA_OR_POINT"] == "Point"


@pytest.mark.parametrize("name", ["b.tif", "b.img"])
def test_gcps_of_a_pixel_is_point_image_stay(tmp_path, write_tif, name):
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 3), (3, 0), (3, 3))]
    source = write_tif(
        np.zeros((1, 4, 4), np.uint8), gcps=points, crs="EPSG:4326", then=lambda d: d.update_tags(AREA_OR_POINT="Point")
    )
    with open_cube(source) as reader:
        meta = reader.meta
    assert meta.tags["AREA_OR_POINT"] == "Point"
    with open_cube(write(tmp_path / name, np.zeros((1, 4, 4), np.uint8), meta)) as reader:
        got = reader.meta.gcps[0]
    assert [(p.row, p.col, p.x, p.y) for p in got] == [(p.row, p.col, p.x, p.y) for p in meta.gcps[0]]


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize("value", [-9007199254740992, -(10**15), 99999999999999984])
def test_long_nodata_is_exact(tmp_path, name, value):
    data = np.array([[[value, 1]]], np.int64)
    with open_cube(write(tmp_path / name, data, Meta(nodata=(float(value),)))) as reader:
        assert reader.meta.nodata == (value,)
        np.testing.assert_array_equal(reader.read().valid, [[False, True]])


def test_nan_nodata(tmp_path):
    data = np.array([[[np.nan, 1]]], np.float32)
    with open_cube(write(tmp_path / "a.tif", data, Meta(nodata=(float("nan"),)))) as reader:
        assert np.isnan(reader.meta.nodata[0])
        np.testing.assert_array_equal(reader.read().valid, [[False, True]])


def test_no_band_names_are_invented(tmp_path, cube):
    for name in ("a.tif", "a.img"):
        with open_cube(write(tmp_path / name, cube, Meta())) as reader:
            assert reader.meta.band_names == ()
    assert "band names" not in (tmp_path / "a.hdr").read_text()


def test_band_names_with_commas_stay_one_name_each(tmp_path, cube):
    for name, expected in (("a.tif", ("a, {b}", "c")), ("a.img", ("a; (b)", "c"))):
        with open_cube(write(tmp_path / name, cube, Meta(band_names=("a, {b}", "c")))) as reader:
            assert reader.meta.band_names == expected


def test_header_name_writes_the_pair(tmp_path, cube):
    write(tmp_path / "a.hdr", cube)
    assert {"a.hdr", "a.img"} <= set(names(tmp_path))
    with open_cube(tmp_path / "a.hdr") as reader:
        np.testing.assert_array_equal(reader.read().data, cube)


@pytest.mark.parametrize(("first", "second"), [("a.img", "a.dat"), ("a.bsq", "a.hdr"), ("a", "a.img")])
def test_header_is_not_shared(tmp_path, cube, write_envi, first, second):
    write_envi(first)
    before = (tmp_path / "a.hdr").read_bytes()
    with pytest.raises(OutputError, match=rf"would share a\.hdr with {first}"):
        write(tmp_path / second, cube, overwrite=True)
    assert (tmp_path / "a.hdr").read_bytes() == before and names(tmp_path) == sorted([first, "a.hdr"])


def test_second_header_is_refused(tmp_path, cube, write_envi):
    write_envi(header_name="a.img.hdr")
    with pytest.raises(OutputError, match=r"second header, a\.img\.hdr"):
        write(tmp_path / "a.img", cube, overwrite=True)


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_overwriting_only_when_asked(tmp_path, cube, name):
    write(tmp_path / name, cube, FULL)
    with pytest.raises(OutputError, match=rf"{name} already exists.*--overwrite|a\.hdr already exists.*--overwrite"):
        write(tmp_path / name, cube)
    (tmp_path / f"{name}.aux.xml").write_text("<PAMDataset><Metadata><MDI key='stale'>1</MDI></Metadata></PAMDataset>")
    (tmp_path / f"{name}.ovr").write_text("stale")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / name, "r+") as ds:
        ds.write_mask(np.zeros((3, 4), np.uint8))
    assert (tmp_path / f"{name}.msk").exists()
    write(tmp_path / name, cube[:1], overwrite=True)
    assert not [p for p in names(tmp_path) if p.endswith((".ovr", ".msk"))]
    with open_cube(tmp_path / name) as reader:
        assert reader.shape == (1, 3, 4) and reader.meta.wavelengths == () and "stale" not in reader.meta.tags


def test_header_alone_is_not_overwritten(tmp_path, cube):
    (tmp_path / "a.hdr").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.hdr already exists"):
        write(tmp_path / "a.img", cube)


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [False, True])
def test_exception_leaves_things_as_they_were(tmp_path, cube, name, error, exists):
    if exists:
        write(tmp_path / name, cube, FULL)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    size = {"bands": 2, "rows": 3, "cols": 4, "dtype": "float32"}
    with pytest.raises(error), RasterWriter(tmp_path / name, **size, meta=FULL, overwrite=True) as writer:
        writer.write(cube + 1)
        raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize("limit", [100, 2000, 60000, 120000, 179000])
def test_disk_full(tmp_path, name, limit, capfd):
    data = np.random.default_rng(0).integers(0, 256, (2, 300, 300), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match=rf"{name} cannot be written .*make room"):
            write(tmp_path / name, data, replace(FULL, nodata=(9, 9)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
def test_unwritable_folder(plain_user, cube, name):
    plain_user.chmod(0o500)
    with pytest.raises(OutputError, match=rf"{name} cannot be written: no permission for the folder"):
        write(plain_user / name, cube)


def test_folder_is_made_and_mode_follows_umask(tmp_path, cube):
    old = os.umask(0o027)
    try:
        for name in ("x.tif", "x.img"):
            write(tmp_path / "new" / name, cube)
    finally:
        os.umask(old)
    modes = {p.suffix: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()}
    assert modes[".tif"] == modes[".img"] == modes[".hdr"] == 0o640


@pytest.mark.parametrize("name", ["a.png", "a", "a.mat"])
def test_unknown_extension(tmp_path, cube, name):
    with pytest.raises(UsageError, match=rf"{name} has an unsupported extension; use one of \.tif"):
        write(tmp_path / name, cube)


@pytest.mark.parametrize(
    ("name", "dtype", "meta", "words"),
    [
        ("a.img", "int8", Meta(), "ENVI has no samples of type int8"),
        ("a.tif", "float16", Meta(), "GeoTIFF has no samples of type float16"),
        ("a.tif", "uint8", Meta(wavelengths=(1.0,)), "1 wavelengths were given for 2 bands"),
        ("a.tif", "uint8", Meta(nodata=(1.0, 2.0)), "a single nodata value"),
        ("a.tif", "uint8", Meta(nodata=(-1.0, -1.0)), "nodata -1 is not a uint8"),
        ("a.tif", "int64", Meta(nodata=(-(2.0**63),) * 2), "nodata -9223372036854775808 has more digits than can be"),
        ("a.img", "uint64", Meta(nodata=(1e18,) * 2), "nodata 1000000000000000000 has more digits"),
        ("a.img", "uint8", Meta(transform=Affine(30, 4, 5e5, 2, -20, 4e6)), "pixels are sheared"),
    ],
)
def test_what_cannot_be_written(tmp_path, cube, name, dtype, meta, words):
    with pytest.raises(UsageError, match=words):
        write(tmp_path / name, cube.astype(dtype), meta)
    assert names(tmp_path) == []


def turned(width, height):
    """Pixels of that size turned by 33 degrees."""
    cos, sin = np.cos(np.radians(33)), np.sin(np.radians(33))
    return Affine(width * cos, -height * sin, 5e5, width * sin, height * cos, 5e6)


ORTHOGONAL = {
    "turned": (turned(30, -30), True),
    "south-up": (Affine(30, 0, 5e5, 0, 10, 4e6), True),
    "quarter turn": (Affine(0, -30, 5e5, -30, 0, 4e6), True),
    "turned south-up": (turned(30, 30), False),
    "turned, not square": (turned(30, -10), False),
    "mirrored": (Affine(-30, 0, 5e5, 0, -30, 4e6), False),
    "upside down": (Affine(-30, 0, 5e5, 0, 30, 4e6), False),
}


@pytest.mark.parametrize("name", ORTHOGONAL)
def test_envi_places_pixels_rightly_or_is_refused(tmp_path, cube, name):
    where, fits = ORTHOGONAL[name]
    meta = Meta(crs=FULL.crs, transform=where)
    if fits:
        with open_cube(write(tmp_path / "a.img", cube, meta)) as reader:
            assert reader.meta.transform.almost_equals(where, 1e-6) and reader.meta.crs == FULL.crs
    else:
        with pytest.raises(UsageError, match=r"a\.img: an ENVI header cannot say .*write GeoTIFF instead"):
            write(tmp_path / "a.img", cube, meta)
    with open_cube(write(tmp_path / "a.tif", cube, meta)) as reader:
        assert reader.meta.transform.almost_equals(where, 1e-6)


@pytest.mark.parametrize("code", [2225, 2914])
def test_feet_of_an_envi_header_are_those_of_the_crs_also_for_gdal_alone(tmp_path, cube, code):
    """2225 counts in US survey feet, 2914 in international ones."""
    crs = CRS.from_epsg(code)
    place = Affine(3, 0, 6_500_000, 0, -3, 2_200_000)
    write(tmp_path / "a.img", cube, Meta(crs=crs, transform=place))
    with rasterio.open(tmp_path / "a.img") as ds:
        assert ds.crs.linear_units_factor[1] == pytest.approx(crs.linear_units_factor[1], rel=1e-9)
        there = [transform(c, CRS.from_epsg(4326), [6_500_000], [2_200_000]) for c in (ds.crs, crs)]
    np.testing.assert_allclose(*there, atol=1e-8)


def test_envi_refuses_a_crs_whose_datum_shift_it_would_lose(tmp_path, cube):
    bessel = "+proj=tmerc +lon_0=9 +k=0.9996 +x_0=500000 +ellps=bessel"
    shift = " +towgs84=598.1,73.7,418.2,0.202,0.045,-2.455,6.7"
    where = Affine(30, 0, 500000, 0, -30, 5000000)
    with pytest.raises(UsageError, match="cannot hold this CRS; write GeoTIFF instead"):
        write(tmp_path / "a.img", cube, Meta(crs=CRS.from_proj4(bessel + shift), transform=where))
    write(tmp_path / "a.img", cube, Meta(crs=CRS.from_proj4(bessel), transform=where))


GEOS = "+proj=geos +h=35786023 +lon_0=-75 +ellps=GRS80 +units=m"
SECTORS = {
    "full disk": (2712, 2712, Affine(4000, 0, -5424000, 0, -4000, 5424000)),
    "conterminous US": (1500, 2500, Affine(2004, 0, -3627271, 0, -2004, 4589200)),
    "space alone": (9, 9, Affine(1000, 0, -5424000, 0, -1000, 5424000)),
}


@pytest.mark.parametrize(("proj", "fits"), [(f"{GEOS} +sweep=x", False), (GEOS, True)])
@pytest.mark.parametrize("sector", SECTORS)
def test_envi_refuses_images_of_goes_also_with_corners_in_space(tmp_path, proj, fits, sector):
    rows, cols, where = SECTORS[sector]
    place = (tmp_path / "a.img", Meta(crs=CRS.from_proj4(proj), transform=where), rows, cols)
    if fits:
        refuse_in_envi(*place)
    else:
        with pytest.raises(UsageError, match="cannot hold this CRS; write GeoTIFF instead"):
            refuse_in_envi(*place)


def test_envi_refuses_a_datum_of_a_globe_beside_which_the_corners_lie(tmp_path):
    proj = "+proj=ortho +lat_0=48 +lon_0=10 +ellps=bessel +towgs84=598.1,73.7,418.2,0.202,0.045,-2.455,6.7"
    meta = Meta(crs=CRS.from_proj4(proj), transform=Affine(64, 0, -6.4e6, 0, -64, 6.4e6))
    with pytest.raises(UsageError, match="cannot hold this CRS; write GeoTIFF instead"):
        refuse_in_envi(tmp_path / "a.img", meta, 200_000, 200_000)


@pytest.mark.parametrize("code", ["IAU_2015:30130", "IAU_2015:49930"], ids=["Moon", "Mars"])
def test_envi_holds_poles_of_other_bodies(tmp_path, cube, code):
    crs = CRS.from_user_input(code)
    write(tmp_path / "a.img", cube, Meta(crs=crs, transform=Affine(100, 0, 10_000, 0, -100, 20_000)))
    with open_cube(tmp_path / "a.img") as reader:
        there = transform(reader.meta.crs, crs, [10_000], [20_000])
    np.testing.assert_allclose(there, [[10_000], [20_000]], atol=1e-3)


def test_envi_refuses_a_crs_that_would_become_a_local_one(tmp_path, cube):
    pole = "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18 +to_meter=0.0174532925199433"
    meta = Meta(crs=CRS.from_proj4(pole), transform=Affine(0.01, 0, -3, 0, -0.01, 3))
    with pytest.raises(UsageError, match="cannot hold this CRS; write GeoTIFF instead"):
        write(tmp_path / "a.img", cube, meta)
    write(tmp_path / "a.tif", cube, meta)


@pytest.mark.parametrize(
    ("data", "window"),
    [
        (np.zeros((1, 3, 4), np.float32), None),
        (np.zeros((2, 3, 3), np.float32), None),
        (np.zeros((2, 2, 4), np.float32), Window(2, 0, 2, 4)),
        (np.zeros((2, 3, 4), np.float64), None),
    ],
)
def test_data_that_do_not_fit(tmp_path, data, window):
    size = {"bands": 2, "rows": 3, "cols": 4, "dtype": "float32"}
    words = r"fill 2 bands|not inside|do not fit a file of float32"
    with pytest.raises(ValueError, match=words), RasterWriter(tmp_path / "a.tif", **size, meta=Meta()) as writer:
        writer.write(data, window)
    assert names(tmp_path) == []


def test_real_cube_survives_a_round_trip(shared, tmp_path):
    source = min((shared / "data/fs/enmap-potsdam/images").glob("*.tif"))
    with open_cube(source) as reader:
        stored, meta = reader.read(scaled=False), reader.meta
    for name in ("a.tif", "a.img"):
        with open_cube(write(tmp_path / name, stored.data, meta)) as reader:
            again = reader.read(scaled=False)
        np.testing.assert_array_equal(again.data, stored.data)
        for field in ("wavelengths", "fwhm", "bad_bands", "nodata", "scales", "crs", "transform"):
            assert getattr(again.meta, field) == getattr(meta, field), (name, field)


@pytest.mark.parametrize("size", [(3000, 8), (2001, 30), (9000, 20)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_long_and_narrow_images(tmp_path, size, dtype):
    data = np.arange(np.prod(size)).reshape(1, *size).astype(dtype)
    with open_cube(write(tmp_path / "a.tif", data, Meta())) as reader:
        np.testing.assert_array_equal(reader.read().data, data)


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize("dtype", [">u2", ">f4"])
def test_types_of_the_other_byte_order(tmp_path, name, dtype):
    data = np.arange(24).reshape(2, 3, 4).astype(dtype)
    with RasterWriter(tmp_path / name, bands=2, rows=3, cols=4, dtype=data.dtype, meta=Meta()) as writer:
        writer.write(data)
    with open_cube(tmp_path / name) as reader:
        assert reader.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(reader.read().data, data)


def test_tags_on_the_axes_of_a_container_stay_behind(tmp_path):
    tags = {"NETCDF_DIM_wavelength_VALUES": "{1,2}", "refl#scale_factor": "1e-4", "refl#_FillValue": "-1", "title": "x"}
    write(tmp_path / "a.tif", np.ones((1, 2, 3), np.float32), Meta(tags=tags))
    with rasterio.open(tmp_path / "a.tif") as ds:
        assert ds.tags()["title"] == "x" and not {*tags} - {"title"} & ds.tags().keys()
