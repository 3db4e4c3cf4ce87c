import gzip
import os

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform
from spectral.io import envi as spectral_envi

from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.io import open_cube
from rsunfold.io.envi import headers_of, resolve

TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
AXES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}


@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("order", [0, 1])
def test_data_types_and_byte_orders(write_envi, cube, code, order):
    stored = cube.astype("<>"[order] + TYPES[code])
    with open_cube(write_envi(data=stored.tobytes(), data_type=code, byte_order=order)) as reader:
        read = reader.read()
    assert read.data.dtype == np.dtype(TYPES[code]) and read.data.dtype.isnative
    assert reader.dtype == read.data.dtype and read.meta.dtype == read.data.dtype.name
    np.testing.assert_array_equal(read.data, cube)


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip", "BIL", "Bip", "BSQ"])
def test_interleaves_header_offset_and_windows(write_envi, cube, interleave):
    data = b"12345" + cube.transpose(AXES[interleave.lower()]).astype("<f4").tobytes()
    path = write_envi(data=data, interleave=interleave, header_offset=5)
    with open_cube(path) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)
        part = reader.read(Window(1, 2, 2, 1), bands=[1, 0])
    np.testing.assert_array_equal(part.data, cube[[1, 0], 1:3, 2:3])
    if interleave.islower():  # spectral agrees
        other = spectral_envi.open(str(path.with_suffix(".hdr")), str(path)).load(dtype=np.float32)
        np.testing.assert_array_equal(np.moveaxis(np.asarray(other), -1, 0), cube)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        *((f"a{suffix}", "a.hdr") for suffix in (".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip", ".cube", "")),
        *((f"a{suffix}", "a.hdr") for suffix in (".envi", ".hyspex", ".rad", ".rdn", ".ref", ".refl", ".rfl")),
        ("a.img", "a.img.hdr"),
        ("a.IMG", "a.HDR"),
        ("scene.v2_img", "scene.v2_img.hdr"),
    ],
)
def test_either_file_of_a_pair_opens(write_envi, cube, tmp_path, data, header):
    write_envi(data, header_name=header)
    for name in (data, header):
        with open_cube(tmp_path / name) as reader:
            assert reader.path == str(tmp_path / name)
            np.testing.assert_array_equal(reader.read().data, cube)


def test_header_that_could_describe_two_files(write_envi, tmp_path):
    write_envi("a.img")
    write_envi("a.dat")
    with pytest.raises(InputError, match=r"a\.hdr could describe a\.dat and a\.img"):
        open_cube(tmp_path / "a.hdr")


def test_data_file_with_two_headers(write_envi, tmp_path):
    path = write_envi(header_name="a.img.hdr")
    write_envi(header_name="a.hdr")
    for name in (path, tmp_path / "a.img.hdr"):
        with pytest.raises(InputError, match=r"two headers, a\.hdr and a\.img\.hdr"):
            open_cube(name)


def test_missing_partner(write_envi, tmp_path):
    path = write_envi()
    path.with_suffix(".hdr").rename(tmp_path / "b.hdr")
    with pytest.raises(InputError, match=r"a\.img has no ENVI header in its folder \(a\.hdr or a\.img\.hdr\)"):
        open_cube(path)
    with pytest.raises(InputError, match=r"b\.hdr has no matching data file in its folder"):
        open_cube(tmp_path / "b.hdr")


def test_header_of_another_kind(tmp_path):
    (tmp_path / "a.hdr").write_text("#?RADIANCE\n")
    with pytest.raises(InputError, match="is not an ENVI header"):
        open_cube(tmp_path / "a.hdr")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_is_no_header(write_envi, cube, tmp_path):
    """Nobody writes to it, so reading would wait for ever."""
    os.mkfifo(tmp_path / "pipe.hdr")
    (tmp_path / "pipe.tif").write_bytes(b"II*\0")
    for name in ("pipe.hdr", "pipe.tif"):
        with pytest.raises(InputError):
            open_cube(tmp_path / name)


@pytest.mark.parametrize("offset", [0, 7])
def test_truncated_data(write_envi, cube, offset):
    whole = b"x" * offset + cube.tobytes()
    with open_cube(write_envi(data=whole, header_offset=offset)) as reader:
        assert reader.read().data[-1, -1, -1] == 23
    with pytest.raises(InputError, match=rf"a\.img is truncated.*{len(whole)} bytes.*{len(whole) - 1}"):
        open_cube(write_envi(data=whole[:-1], header_offset=offset))


@pytest.mark.parametrize(
    ("length", "entries", "told"),
    [
        (2 * 40_000, {}, "the header describes 40000 of 80000 bytes of a.img: check samples, lines"),  # another type
        (40_000 + 10_000, {}, "40000 of 50000 bytes"),  # a band
        (40_000 + 4096, {"header_offset": 0}, "40000 of 44096 bytes"),  # the offset is missing
        (40_000 + 4096, {"header_offset": 4096}, None),
        (40_000 + 4095, {}, None),  # filled up to a whole page
        (2 * 40_000, {"file_compression": 1}, "40000 of 44096 or more bytes"),
    ],
)
def test_data_of_which_the_header_describes_a_part(write_envi, length, entries, told):
    data = bytes(length)
    if "file_compression" in entries:
        data = gzip.compress(data) + b"what is not reached"
    path = write_envi(data=data, samples=100, lines=50, bands=4, data_type=12, **entries)
    with open_cube(path) as reader:
        notes = [note for note in reader.meta.notes if "the header describes" in note]
    assert [told in note for note in notes] == [True] * (told is not None)


def float_cube(kind="f4", units=1.0, digits=None, fill=0.0):
    """Samples as of a sensor in some units, half of them ``fill``; with ``digits`` they are rounded."""
    samples = np.random.default_rng(0).gamma(2, 0.2, (4, 50, 100))
    samples = (samples if digits is None else np.round(samples, digits)) * units
    samples[:, ::2] = fill
    return samples.astype(kind)


LOWEST = float(np.finfo(np.float32).min)
SIZE = {"samples": 100, "lines": 50, "bands": 4}


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize(
    "made", [{}, {"kind": "f8"}, {"units": 1e4, "digits": 4}, {"units": 1e-12}, {"fill": np.nan}, {"fill": -9999}]
)
def test_floats_in_another_byte_order_are_refused(write_envi, made, interleave):
    samples = float_cube(**made)
    entries = SIZE | {"data_type": 4 if samples.dtype == "f4" else 5, "interleave": interleave}
    stored = samples.transpose(AXES[interleave])
    with open_cube(write_envi(data=stored.tobytes(), **entries)) as reader:
        np.testing.assert_array_equal(reader.read().data, samples)
    with pytest.raises(InputError, match=r"a\.img has samples of .* correct 'byte order = 1' in a\.hdr"):
        open_cube(write_envi(data=stored.tobytes(), byte_order=1, **entries))


def test_whole_numbers_as_floats_are_refused(write_envi):
    counts = float_cube(units=1e4, digits=4).astype("<i4")
    with pytest.raises(InputError, match=r"a\.img has samples below 1e-35 nearly .* check 'data type = 4' .* a\.hdr"):
        open_cube(write_envi(data=counts.tobytes(), **SIZE))


@pytest.mark.parametrize(
    "samples",
    [
        *(float_cube(fill=fill) for fill in (np.nan, LOWEST, 9.96921e36, 1e34)),
        *(float_cube(units=units) for units in (1e-12, 1e-30, 1e25)),
        np.full((4, 50, 100), LOWEST, "f4"),
        np.zeros((4, 50, 100), "f4"),
        # Far from a target a Gaussian is below anything that float32 holds.
        np.exp(-np.square(np.indices((50, 100)) - 40).sum(0) / np.full((4, 1, 1), 20)).astype("f4"),
    ],
)
def test_unusual_floats_are_read(write_envi, samples):
    with open_cube(write_envi(data=samples.tobytes(), **SIZE)) as reader:
        np.testing.assert_array_equal(reader.read().data, samples)


@pytest.mark.parametrize("key", ["major frame offsets", "minor frame offsets"])
def test_frame_offsets_are_refused(write_envi, cube, key):
    with open_cube(write_envi(**{key: "{0, 0}"})) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)
    with pytest.raises(InputError, match=f"{key}"):
        open_cube(write_envi(**{key: "{4, 4}"}))


def test_gzip_compressed_data(write_envi, cube):
    path = write_envi(data=gzip.compress(cube.tobytes()), file_compression=1)
    with open_cube(path) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)


@pytest.mark.parametrize("text", ["0", "{0}", "0.0", " 0 "])
def test_data_ignore_value_masks(write_envi, cube, text):
    with open_cube(write_envi(data_ignore_value=text)) as reader:
        read = reader.read()
        assert read.meta.nodata == (0.0, 0.0)
        np.testing.assert_array_equal(read.valid, cube[0] != 0)
        assert reader.read(bands=[1]).valid.all()


@pytest.mark.parametrize("text", ["none", "None", "{}"])
def test_data_ignore_value_none_masks_nothing(write_envi, text):
    with open_cube(write_envi(data_ignore_value=text)) as reader:
        assert reader.meta.nodata == () and reader.read().valid.all()


def test_data_ignore_value_that_cannot_occur(write_envi, cube):
    path = write_envi(data=cube.astype("u1").tobytes(), data_type=1, data_ignore_value="-9999")
    with open_cube(path) as reader:
        assert reader.meta.nodata == () and reader.read().valid.all()
        assert any("-9999 cannot occur in uint8" in note for note in reader.meta.notes)


def test_reflectance_scale_factor_comes_after_the_mask(write_envi, cube):
    path = write_envi(
        data=cube.astype("<i2").tobytes(), data_type=2, data_ignore_value=5, reflectance_scale_factor=10000
    )
    with open_cube(path) as reader:
        read, stored = reader.read(), reader.read(scaled=False)
    assert reader.meta.scales == (1e-4, 1e-4) and reader.meta.offsets == (0.0, 0.0)
    assert read.data.dtype == np.float32 and read.meta.scales == () == read.meta.nodata
    np.testing.assert_allclose(read.data, cube / 10000, rtol=1e-6)
    np.testing.assert_array_equal(read.valid, cube[0] != 5)
    assert stored.data.dtype == np.int16 and stored.meta.scales == (1e-4, 1e-4) and stored.meta.nodata == (5, 5)
    np.testing.assert_array_equal(stored.data, cube)


def test_gains_and_offsets(write_envi, cube):
    lists = {"data gain values": "{0.5, 2}", "data offset values": "{1, -1}", "reflectance scale factor": 100}
    with open_cube(write_envi(**lists)) as reader:
        read = reader.read()
    np.testing.assert_allclose(read.data, cube * np.reshape([0.5, 2], (2, 1, 1)) + np.reshape([1, -1], (2, 1, 1)))
    assert any("reflectance scale factor was ignored" in note for note in reader.meta.notes)


def test_spectral_entries_keep_their_precision(write_envi):
    entries = {"Wavelength": "{\n 0.4005,\n 2.25}", "FWHM": "{0.0095, 0.01}", "BBL": "{1, 0}", "Band Names": "{a, b}"}
    with open_cube(write_envi(**entries, **{"wavelength Units": "Micrometers"})) as reader:
        meta = reader.meta
        assert reader.read(bands=[1]).meta.wavelengths == (2250.0,)
    assert meta.wavelengths == (400.5, 2250.0) and meta.fwhm == (9.5, 10.0)
    assert meta.bad_bands == (False, True) and meta.band_names == ("a", "b")


def test_missing_units_wrong_counts_and_duplicates_are_said(write_envi):
    with open_cube(write_envi(wavelength="{0.4, 0.4}", fwhm="{1, 2, 3}", band_names="{a}")) as reader:
        notes = " / ".join(reader.meta.notes)
        assert reader.meta.wavelengths == (400.0, 400.0) and reader.meta.fwhm == () == reader.meta.band_names
    for part in (
        "no unit and were taken to be in micro",
        "share the wavelength",
        "fwhm lists 3 values",
        "1 names for 2",
    ):
        assert part in notes


def test_latin_1_header_and_missing_byte_order(write_envi, cube):
    path = write_envi(encoding="latin-1", byte_order=None, description="{été}", band_names="{µ, é}")
    with open_cube(path) as reader:
        assert reader.meta.band_names == ("µ", "é")
        np.testing.assert_array_equal(reader.read().data, cube)


def test_windows_line_ends_and_comments(write_envi, cube):
    path = write_envi(wavelength="{400, 500}")
    header = path.with_suffix(".hdr")
    header.write_bytes(header.read_bytes().replace(b"\n", b"\r\n") + b"; fwhm = {1, 2}\r\n")
    with open_cube(path) as reader:
        assert reader.meta.wavelengths == (400, 500) and reader.meta.fwhm == ()
        np.testing.assert_array_equal(reader.read().data, cube)


def test_rotated_map_info(write_envi, cube):
    info = "{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84, units=Meters, rotation=30}"
    with open_cube(write_envi(map_info=info)) as reader:
        assert reader.meta.crs.to_epsg() == 32633
        assert abs(reader.meta.transform.b) == pytest.approx(15) and reader.meta.transform.c == 500000
        np.testing.assert_array_equal(reader.read().data, cube)


@pytest.mark.parametrize(("pixel", "size"), [((1, 1), (30, 10)), ((3, 2), (30, 30)), ((2.5, 1.5), (30, 10))])
def test_rotated_map_info_turns_rectangles_about_the_reference_pixel(write_envi, pixel, size):
    (col, row), (width, height) = pixel, size
    info = f"{{UTM, {col}, {row}, 500000, 4000000, {width}, {height}, 33, North, WGS-84, units=Meters, rotation=30}}"
    with open_cube(write_envi(map_info=info)) as reader:
        t = reader.meta.transform
    assert (np.hypot(t.a, t.d), np.hypot(t.b, t.e)) == pytest.approx(size)
    assert t.a * t.b + t.d * t.e == pytest.approx(0, abs=1e-9)
    assert np.degrees(np.arctan2(t.d, t.a)) == pytest.approx(30)
    x, y = t.a * (col - 1) + t.b * (row - 1) + t.c, t.d * (col - 1) + t.e * (row - 1) + t.f
    assert (x, y) == pytest.approx((500000, 4000000))


def test_arbitrary_map_info(write_envi, cube):
    with open_cube(write_envi(map_info="{Arbitrary, 1, 1, 0, 0, 1, 1, 0, North}")) as reader:
        assert reader.meta.crs is None and "crs" not in reader.describe()
        np.testing.assert_array_equal(reader.read().data, cube)


NONSENSE = [
    *[("data_type", value) for value in (99, None, "4x")],
    *[(key, value) for key in ("samples", "lines", "bands") for value in (None, "1e3", "2 3", "1.5", -1)],
    *[("interleave", value) for value in ("foo", "bsqx", 0)],
    *[("byte_order", value) for value in ("2", "-1", "x", "1e3")],
    *[("header_offset", value) for value in ("x", "1e1", "-8")],
]


@pytest.mark.parametrize(("key", "value"), NONSENSE)
def test_nonsense_in_the_header(write_envi, key, value):
    with pytest.raises(InputError, match=r"a\.img"):
        open_cube(write_envi(**{key: value}))


SENSE = [("samples", "4.0"), ("bands", "02"), ("interleave", None), ("interleave", "Bsq ; by band"), ("byte_order", ""),
         ("header_offset", "0.0")]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), SENSE)
def test_what_may_be_written_otherwise_in_the_header(write_envi, cube, key, value):
    with open_cube(write_envi(**{key: value})) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)


def test_a_header_that_contradicts_itself(write_envi, cube):
    path = write_envi()
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text() + "Interleave = BSQ ; by band\nbands = 2\nbands = 02 ; all\nbands = 2.0\n")
    with open_cube(path) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)
    header.write_text(header.read_text() + "bands = 1\n")
    with pytest.raises(InputError, match=r"a\.hdr says both 'bands = 2' and '1'"):
        open_cube(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_headers_of_other_encodings_are_named(write_envi, encoding):
    with pytest.raises(InputError, match=r"a\.hdr is not an ENVI header"):
        open_cube(write_envi(encoding=encoding))


@pytest.mark.parametrize("key", ["data gain values", "data offset values", "reflectance scale factor", "wavelength"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
def test_values_that_are_no_numbers(write_envi, cube, key, value):
    listed = value if "factor" in key else f"{{1, {value}}}"
    with open_cube(write_envi(**{key: listed})) as reader:
        assert f"{key} contains something that is not a number and was ignored" in reader.meta.notes
        np.testing.assert_array_equal(reader.read().data, cube)


@pytest.mark.parametrize(
    "entries",
    [
        {"map_info": "{UTM, 1, 1, 0, 0, 1, 1, 33, North, WGS-84, rotation=1e400}"},
        {"file_type": "ENVI Classification", "classes": 3, "class_lookup": "{1, 2}", "data_type": 1, "bands": 1},
    ],
)
def test_damaged_entries_beside_the_samples(write_envi, entries):
    with open_cube(write_envi(**entries)) as reader:
        assert reader.read().data.shape == reader.shape


def test_truncated_gzip(write_envi, cube):
    packed = gzip.compress(cube.tobytes())
    for data, why in (
        (packed[:-20], "truncated or damaged"),
        (gzip.compress(cube.tobytes()[:-1]), "requires 96 bytes"),
    ):
        with pytest.raises(InputError, match=rf"a\.img is truncated.*{why}|a\.img is {why}"):
            open_cube(write_envi(data=data, file_compression=1))


def test_feet_are_those_of_the_coordinate_system_string(write_envi):
    """GDAL makes international feet of "units=Feet"."""
    colorado = CRS.from_epsg(2231)
    entries = {
        "map_info": "{State Plane (NAD 83), 1, 1, 3100000, 1700000, 3, 3, 501, North America 1983, units=Feet}",
        "coordinate_system_string": "{" + colorado.to_wkt(version="WKT1_ESRI") + "}",
    }
    with open_cube(write_envi(**entries)) as reader:
        assert reader.meta.crs.linear_units_factor[1] == pytest.approx(1200 / 3937, rel=1e-9)
        x, y = transform(reader.meta.crs, colorado, [3100000.0], [1700000.0])
    assert (x[0], y[0]) == pytest.approx((3100000, 1700000), abs=0.01)


@pytest.mark.parametrize("header", ["a.hdr", "a.img.hdr", "a.HDR", "a.img.hDr"])
@pytest.mark.parametrize("data", ["a.img", "a.IMG", "a.Img", "a"])
def test_pairs_are_found_whatever_their_letters(tmp_path, header, data):
    header = header.replace("a.img", data)
    (tmp_path / header).write_text("ENVI\nbands = 1\n")
    (tmp_path / data).touch()
    for name in ("ab.img", "A.img", "a.hdr.txt"):
        (tmp_path / name).touch()
    pair = (tmp_path / data, tmp_path / header)
    assert resolve(tmp_path / data) == resolve(tmp_path / header) == pair


def test_pairs_that_are_ambiguous_whatever_their_letters(tmp_path):
    for name in ("x.hdr", "y.hdr", "y.img.Hdr"):
        (tmp_path / name).write_text("ENVI\nbands = 1\n")
    for name in ("x.dat", "x.Img", "y.img"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"x\.hdr could describe x\.Img and x\.dat; give the data file"):
        resolve(tmp_path / "x.hdr")
    with pytest.raises(InputError, match=r"y\.img has two headers, y\.hdr and y\.img\.Hdr"):
        resolve(tmp_path / "y.img")


def test_no_folder_is_listed_for_usual_names(tmp_path, monkeypatch):
    """In a folder of thousands of images it took minutes before the first; some folders are not for all to list."""
    for name in ("a.hdr", "b.HDR", "a.img", "b.Img"):
        (tmp_path / name).write_text("ENVI\nbands = 1\n")
    (tmp_path / "a.HDR").symlink_to("a.hdr")
    monkeypatch.setattr("os.listdir", lambda folder: pytest.fail("was listed"))
    assert resolve(tmp_path / "a.img") == resolve(tmp_path / "a.hdr") == (tmp_path / "a.img", tmp_path / "a.hdr")
    assert resolve(tmp_path / "b.Img") == resolve(tmp_path / "b.HDR") == (tmp_path / "b.Img", tmp_path / "b.HDR")

    def denied(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", denied)
    assert headers_of(tmp_path / "c.img") == headers_of(tmp_path / "none" / "c.img") == []
