import json
import re
import struct
import subprocess
import sys
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.drivers import raster_driver_extensions
from scipy.io import netcdf_file

from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.io import envi as envi_module
from rsunfold.io import full_range, open_cube, orientation
from rsunfold.io.raster import _REFERRING, _WHOLE, _drivers_for

RNG = np.random.default_rng(7)
GRAY = RNG.integers(0, 256, (9, 11), dtype=np.uint8)
RGB = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif", ".jp2"])
def test_8_bit_gray(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".jp2":
        with rasterio.open(
            path, "w", driver="JP2OpenJPEG", width=11, height=9, count=1, dtype="uint8", quality=100, reversible="YES"
        ) as ds:
            ds.write(GRAY, 1)
    else:
        save(path, GRAY)
    with open_cube(path) as reader:
        read = reader.read()
        part = reader.read(Window(3, 4, 5, 6))
        assert full_range(reader) == 255 and not reader.colour and reader.shape == (1, 9, 11)
    assert read.data.dtype == np.uint8 and read.valid.all()
    np.testing.assert_array_equal(read.data[0], GRAY)
    np.testing.assert_array_equal(part.data[0], GRAY[3:8, 4:10])


def test_jpeg_is_close(tmp_path):
    smooth = np.linspace(0, 255, 99).reshape(9, 11).astype(np.uint8)
    with open_cube(save(tmp_path / "a.jpg", smooth, quality=98)) as reader:
        assert np.abs(reader.read().data[0].astype(int) - smooth).max() < 12


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray(tmp_path, suffix):
    deep = GRAY.astype(np.uint16) * 257
    with open_cube(save(tmp_path / f"a{suffix}", deep)) as reader:
        read = reader.read()
        assert full_range(reader) == 65535
    assert read.data.dtype == np.uint16
    np.testing.assert_array_equal(read.data[0], deep)


def test_float_tiff_masks_what_is_not_finite(tmp_path):
    data = GRAY.astype(np.float32)
    data[0, 0], data[1, 1] = np.nan, np.inf
    with open_cube(save(tmp_path / "a.tif", data)) as reader:
        read = reader.read()
        assert full_range(reader) == 1
    np.testing.assert_array_equal(read.data[0], data)
    np.testing.assert_array_equal(read.valid, np.isfinite(data))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit_masks_fill_their_range(tmp_path, suffix):
    mask = GRAY > 127
    with open_cube(save(tmp_path / f"a{suffix}", mask)) as reader:
        read = reader.read()
        assert full_range(reader) in (1, 255)
        np.testing.assert_array_equal(read.data[0], mask * int(full_range(reader)))


@pytest.mark.parametrize(("nbits", "dtype"), [(4, "uint8"), (12, "uint16")])
def test_declared_bits_give_the_range(write_tif, nbits, dtype):
    data = (GRAY[None] % 2).astype(dtype)
    with open_cube(write_tif(data, nbits=nbits)) as reader:
        assert full_range(reader) == 2**nbits - 1
        np.testing.assert_array_equal(reader.read().data, data)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_colour(tmp_path, suffix):
    with open_cube(save(tmp_path / f"a{suffix}", RGB)) as reader:
        assert reader.colour
        np.testing.assert_array_equal(reader.read().data, np.moveaxis(RGB, -1, 0))
        assert reader.read(bands=[0]).meta.default_bands == ()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_becomes_the_mask(tmp_path, suffix, channels):
    pixels = np.dstack([RGB[..., : channels - 1], np.where(GRAY < 100, 0, GRAY)])
    with open_cube(save(tmp_path / f"a{suffix}", pixels)) as reader:
        read = reader.read()
        assert reader.shape[0] == channels - 1 and reader.colour == (channels == 4)
        assert any("alpha" in note for note in reader.meta.notes)
    np.testing.assert_array_equal(read.data, np.moveaxis(pixels[..., :-1], -1, 0))
    np.testing.assert_array_equal(read.valid, GRAY >= 100)


def save_palette(path, table, **options):
    image = Image.fromarray(GRAY % 4, mode="P")
    image.putpalette(np.asarray(table, np.uint8).ravel().tolist())
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_colour_palette_is_expanded(tmp_path, suffix):
    table = [[0, 0, 0], [255, 0, 0], [0, 250, 0], [7, 8, 9]]
    with open_cube(save_palette(tmp_path / f"a{suffix}", table)) as reader:
        assert reader.shape == (3, 9, 11) and reader.colour and full_range(reader) == 255
        assert any("palette was expanded to red" in note for note in reader.meta.notes)
        expected = np.moveaxis(np.asarray(table)[GRAY % 4], -1, 0)
        np.testing.assert_array_equal(reader.read().data, expected)
        np.testing.assert_array_equal(reader.read(Window(2, 3, 4, 5), bands=[2, 0]).data, expected[[2, 0], 2:6, 3:8])


def test_palettes_of_masks_and_class_maps(tmp_path):
    colours = save_palette(tmp_path / "a.png", [[0, 0, 0], [255, 0, 0], [0, 250, 0], [7, 8, 9]])
    grays = save_palette(tmp_path / "b.png", [[0] * 3, [80] * 3, [160] * 3, [255] * 3])
    for path, palette, gray in (
        (colours, "grays", 1),
        (colours, "indices", 1),
        (grays, "indices", 1),
        (grays, "grays", 85),
    ):
        with open_cube(path, palette=palette) as reader:
            assert reader.shape == (1, 9, 11)
            assert reader.read().data[0].max() == 3 * gray


def test_gray_palette_is_expanded_to_gray(tmp_path):
    with open_cube(save_palette(tmp_path / "a.png", [[0] * 3, [80] * 3, [160] * 3, [255] * 3])) as reader:
        assert reader.shape == (1, 9, 11) and not reader.colour
        np.testing.assert_array_equal(reader.read().data[0], np.array([0, 80, 160, 255])[GRAY % 4])
        assert any("gray palette" in note for note in reader.meta.notes)


@pytest.mark.parametrize(("transparency", "clear"), [(1, [1]), (bytes([0, 255, 0, 9]), [0, 2])])
def test_transparent_palette_entries_are_invalid(tmp_path, transparency, clear):
    table = [[0] * 3, [255, 0, 0], [0, 9, 0], [1, 2, 3]]
    with open_cube(save_palette(tmp_path / "a.png", table, transparency=transparency)) as reader:
        np.testing.assert_array_equal(reader.read().valid, ~np.isin(GRAY % 4, clear))
        assert reader.meta.nodata == ()


def bands(*arrays, dtype="float32"):
    return np.stack(arrays).astype(dtype)


def test_nodata_of_any_band_that_is_read_masks(write_tif):
    data = bands(np.arange(6).reshape(2, 3), np.arange(6)[::-1].reshape(2, 3), dtype="int16")
    with open_cube(write_tif(data, nodata=5)) as reader:
        np.testing.assert_array_equal(reader.read().valid, [[False, True, True], [True, True, False]])
        np.testing.assert_array_equal(reader.read(bands=[1]).valid, data[1] != 5)
        np.testing.assert_array_equal(reader.read(Window(1, 1, 1, 2)).valid, [[True, False]])
        assert reader.meta.nodata == (5, 5)


@pytest.mark.parametrize("nodata", [0.1, -3.4028234663852886e38, np.nan])
def test_float_nodata(write_tif, nodata):
    data = bands([[nodata, 1, np.nan]])
    with open_cube(write_tif(data, nodata=nodata)) as reader:
        np.testing.assert_array_equal(reader.read().valid, [[False, True, False]])
        json.dumps(reader.describe(), allow_nan=False)


def test_nan_is_masked_without_nodata(write_tif):
    with open_cube(write_tif(bands([[1, np.nan]], [[1, 1]]))) as reader:
        np.testing.assert_array_equal(reader.read().valid, [[True, False]])
        np.testing.assert_array_equal(reader.read(bands=[1]).valid, [[True, True]])


@pytest.mark.parametrize("internal", [True, False])
def test_mask_band(write_tif, internal):
    mask = np.array([[0, 255, 255]], np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = write_tif(bands([[1, 2, 3]], [[4, 5, 6]]), then=lambda ds: ds.write_mask(mask))
    with open_cube(path) as reader:
        assert reader.shape[0] == 2
        np.testing.assert_array_equal(reader.read().valid, mask > 0)


def test_the_mask_of_a_band_hides_its_samples_alone(write_tif, tmp_path):
    path, mask = write_tif(np.full((2, 1, 3), 7, np.uint8)), write_tif(np.uint8([[[255, 0, 255]]]), name="mask.tif")
    source = "<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>{}</SourceBand></SimpleSource>"
    hidden = f'<MaskBand><VRTRasterBand dataType="Byte">{source.format(mask, 1)}</VRTRasterBand></MaskBand>'
    lines = [
        f'<VRTRasterBand dataType="Byte" band="{k}">{hidden * (k == 2)}{source.format(path, k)}</VRTRasterBand>'
        for k in (1, 2)
    ]
    (tmp_path / "a.vrt").write_text(f'<VRTDataset rasterXSize="3" rasterYSize="1">{"".join(lines)}</VRTDataset>')
    with open_cube(tmp_path / "a.vrt") as reader:
        cube = reader.read()
        np.testing.assert_array_equal(cube.valid, [[True, False, True]])
        np.testing.assert_array_equal(np.argwhere(cube.missing), [[1, 0, 1]])
        assert reader.read(bands=[0]).valid.all()


def test_nodata_values_of_several_bands(write_tif):
    data = np.ones((3, 2, 3), np.uint8)
    data[:, 0, 0] = 7, 8, 9
    data[0, 1, 1] = 7  # one band alone is data
    path = write_tif(data, photometric="rgb", then=lambda ds: ds.update_tags(NODATA_VALUES="7 8 9"))
    with open_cube(path) as reader:
        np.testing.assert_array_equal(reader.read().valid, [[False, True, True], [True, True, True]])


def test_the_largest_uint64_as_nodata(write_tif):
    data = np.array([[[2**64 - 1, 1, 2**64 - 2]]], np.uint64)
    path = write_tif(data, nodata=10**15)
    written = path.read_bytes()
    written += b"\0" * (len(written) % 2)
    entry = written.index(struct.pack("<HH", 42113, 2))  # GDAL_NODATA, text; rasterio has no such number
    text = b"18446744073709551615\0"
    place = struct.pack("<II", len(text), len(written))
    path.write_bytes(written[: entry + 4] + place + written[entry + 12 :] + text)
    with open_cube(path) as reader:
        np.testing.assert_array_equal(reader.read().valid, [[False, True, True]])


def test_four_8_bit_bands_without_alpha_stay_four(write_tif):
    data = RNG.integers(0, 3, (4, 5, 6), dtype=np.uint8)
    with open_cube(write_tif(data, photometric="MINISBLACK")) as reader:
        assert reader.shape[0] == 4 and reader.read().valid.all()


def test_alpha_between_other_bands(write_tif):
    data = np.array([[[1, 2]], [[0, 255]], [[5, 6]]], np.uint8)
    with open_cube(write_tif(data, photometric="MINISBLACK", alpha="YES")) as reader:
        assert reader.shape[0] == 2
        np.testing.assert_array_equal(reader.read().data, data[[0, 2]])
        np.testing.assert_array_equal(reader.read(bands=[1]).data, data[[2]])
        np.testing.assert_array_equal(reader.read(bands=[1]).valid, [[False, True]])


def test_scale_and_offset_come_after_the_mask(write_tif):
    def scale(ds):
        ds.scales, ds.offsets, ds.units = (0.5, 2.0), (1.0, 0.0), ("K", "K")

    data = bands([[1, -1]], [[3, 4]], dtype="int16")
    with open_cube(write_tif(data, then=scale, nodata=-1)) as reader:
        read, stored = reader.read(), reader.read(scaled=False)
        second = reader.read(bands=[1])
        assert reader.dtype == np.int16 and reader.meta.units == ("K", "K")
    assert read.data.dtype == np.float32 and read.meta.dtype == "float32"
    np.testing.assert_array_equal(read.data, [[[1.5, 0.5]], [[6, 8]]])
    np.testing.assert_array_equal(read.valid, [[True, False]])
    assert (read.meta.scales, read.meta.offsets, read.meta.nodata) == ((), (), ())
    np.testing.assert_array_equal(stored.data, data)
    assert stored.meta.scales == (0.5, 2.0) and stored.meta.nodata == (-1, -1)
    np.testing.assert_array_equal(second.data, [[[6, 8]]])


@pytest.mark.parametrize(
    ("dtype", "physical"), [("uint8", "f4"), ("int32", "f8"), ("float64", "f8"), ("float32", "f4")]
)
def test_scaled_type(write_tif, dtype, physical):
    path = write_tif(bands([[1, 2]], dtype=dtype), then=lambda ds: setattr(ds, "scales", (0.5,)))
    with open_cube(path) as reader:
        assert reader.read().data.dtype == physical


def test_band_tags_of_wavelengths(write_tif):
    def tag(ds):
        for i, (wavelength, fwhm, bbl) in enumerate([("418.24", "6.99561", "1"), ("2445.5", "10", "0")], start=1):
            ds.update_tags(i, Wavelength=wavelength, FWHM=fwhm, bbl=bbl, wavelength_units="Nanometers")
        ds.descriptions = ("one", "two, 2")

    with open_cube(write_tif(bands([[1]], [[2]]), then=tag)) as reader:
        meta = reader.meta
        assert reader.describe()["bad_bands"] == [2] and reader.describe()["wavelengths_nm"] == [418.24, 2445.5]
    assert (meta.wavelengths, meta.fwhm) == ((418.24, 2445.5), (6.99561, 10))
    assert meta.bad_bands == (False, True) and meta.band_names == ("one", "two, 2")


def test_imagery_domain_and_envi_namespace(write_tif):
    def imagery(ds):
        ds.update_tags(1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.4005", FWHM_UM="0.0095")

    with open_cube(write_tif(bands([[1]]), "i.tif", imagery)) as reader:
        assert (reader.meta.wavelengths, reader.meta.fwhm) == ((400.5,), (9.5,))

    def both(ds):
        imagery(ds)
        ds.update_tags(ns="ENVI", Wavelength="{0.5}", wavelength_units="um")

    with open_cube(write_tif(bands([[1]]), "e.tif", both)) as reader:
        assert reader.meta.wavelengths == (500,)


def test_georeference_and_tags(write_tif):
    transform = Affine(30, 0, 5e5, 0, -30, 4e6)
    path = write_tif(bands([[1]]), then=lambda ds: ds.update_tags(sensor="x"), crs="EPSG:32633", transform=transform)
    with open_cube(path) as reader:
        assert reader.meta.crs.to_epsg() == 32633 and reader.meta.transform == transform
        assert reader.meta.tags["sensor"] == "x" and reader.describe()["crs"] == "EPSG:32633"
    with open_cube(write_tif(bands([[1]]), "plain.tif")) as reader:
        assert reader.meta.crs is None and reader.meta.transform is None
        reader.read()
        assert {"crs", "transform", "wavelengths_nm", "nodata"}.isdisjoint(reader.describe())


def test_reading_is_quiet(tmp_path):
    path = save(tmp_path / "a.png", GRAY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_cube(path) as reader:
            reader.read()


def test_samples_of_16_bits_with_white_at_0_are_inverted_not_reduced(tmp_path):
    data = (np.arange(30 * 40).reshape(30, 40) + 7000).astype(np.uint16)
    data[3, 4] = 65535
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=40, height=30, count=1, dtype="uint16", photometric="MINISWHITE",
        nodata=65535,
    ) as ds:  # fmt: skip
        ds.write(data, 1)
    with open_cube(tmp_path / "a.tif") as reader:
        cube = reader.read()
        assert reader.dtype == np.uint16 and reader.meta.nodata == (0.0,)
    np.testing.assert_array_equal(cube.data[0], 65535 - data)
    assert (~cube.valid).sum() == 1 and not cube.valid[3, 4]
    with open_cube(tmp_path / "a.tif", palette="indices") as reader:  # classes
        np.testing.assert_array_equal(reader.read().data[0], data)


@pytest.mark.parametrize("name", ["cube", "a/cube"])
def test_the_only_variable_of_a_container_may_be_named(tmp_path, name):
    data = np.random.default_rng(0).random((3, 4, 5), np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name] = data
    for var in (None, name):
        with open_cube(tmp_path / "a.h5", var=var) as reader:
            np.testing.assert_array_equal(reader.read().data, data)
    with pytest.raises(InputError, match=r"a\.h5 has no variable 'other'; it has a single one"):
        open_cube(tmp_path / "a.h5", var="other")


def test_gcps(write_tif):
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in ((0, 0), (0, 5), (5, 0), (5, 5))]
    with open_cube(write_tif(bands(np.zeros((6, 6))), gcps=points, crs="EPSG:4326")) as reader:
        got, crs = reader.meta.gcps
        assert [(p.row, p.col, p.x, p.y) for p in got] == [(p.row, p.col, p.x, p.y) for p in points]
        assert crs.to_epsg() == 4326 and reader.describe()["gcps"] == 4
        assert reader.meta.transform is None


VRT = """<VRTDataset rasterXSize="6" rasterYSize="6">{place}
  <GCPList Projection="{points}">
    <GCP Id="a" Pixel="0" Line="0" X="10" Y="50"/><GCP Id="b" Pixel="6" Line="0" X="16" Y="50"/>
    <GCP Id="c" Pixel="0" Line="6" X="10" Y="44"/><GCP Id="d" Pixel="6" Line="6" X="16" Y="44"/>
  </GCPList>
  <VRTRasterBand dataType="Byte" band="1"/>
</VRTDataset>"""


def test_one_of_geotransform_and_control_points_places_the_image(tmp_path):
    transform = "<GeoTransform>500000,30,0,5000000,0,-30</GeoTransform>"
    path = tmp_path / "a.vrt"
    path.write_text(VRT.format(place=f"<SRS>EPSG:32633</SRS>{transform}", points="EPSG:4326"))
    with open_cube(path) as reader:
        meta = reader.meta
    assert meta.gcps is None and meta.transform.a == 30 and meta.crs.to_epsg() == 32633
    assert "its ground control points were ignored" in meta.notes[0]
    path.write_text(VRT.format(place=transform, points="EPSG:4326"))
    with open_cube(path) as reader:
        meta = reader.meta
    assert len(meta.gcps[0]) == 4 and meta.transform is None and "its geotransform was ignored" in meta.notes[0]


def test_geolocation_arrays_are_told_but_not_read(tmp_path):
    arrays = {"X_DATASET": "x.tif", "X_BAND": 1, "Y_DATASET": "y.tif", "Y_BAND": 1, "PIXEL_STEP": 1, "LINE_STEP": 1}
    items = "".join(f'<MDI key="{key}">{value}</MDI>' for key, value in arrays.items())
    text = VRT.format(place=f'<Metadata domain="GEOLOCATION">{items}</Metadata>', points="")
    (tmp_path / "a.vrt").write_text(re.sub(r"<GCPList.*</GCPList>", "", text, flags=re.DOTALL))
    with open_cube(tmp_path / "a.vrt") as reader:
        meta = reader.meta
        assert reader.describe()["geolocation_arrays"] is True
    assert meta.geolocated and meta.spatial().geolocated and meta.transform is None
    assert "arrays of coordinates (geolocation), which are not used" in meta.notes[0]


def test_bands_of_different_types_get_the_type_that_holds_all(tmp_path, write_tif):
    kinds = {"uint16": np.uint16([[[3, 0], [65535, 7]]]), "float32": np.float32([[[0.5, -1], [2, 4]]])}
    lines = [
        f'<VRTRasterBand dataType="{"UInt16" if kind == "uint16" else "Float32"}" band="{i}"><SimpleSource>'
        f"<SourceFilename>{write_tif(data, name=f'{kind}.tif')}</SourceFilename>"
        f"<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (kind, data) in enumerate(kinds.items(), 1)
    ]
    (tmp_path / "a.vrt").write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{"".join(lines)}</VRTDataset>')
    with open_cube(tmp_path / "a.vrt") as reader:
        whole, part = reader.read(), reader.read(bands=[1])
    assert whole.data.dtype == part.data.dtype == reader.dtype == np.float32
    np.testing.assert_array_equal(whole.data, np.concatenate(list(kinds.values())))
    np.testing.assert_array_equal(part.data, kinds["float32"])


def test_geo_points_of_an_envi_header_are_in_wgs84(write_tif, tmp_path):
    points = "{1, 1, 50, 10, 7, 1, 50, 16, 1, 7, 44, 10, 7, 7, 44, 16}"
    header = f"ENVI\nsamples = 6\nlines = 6\nbands = 1\ndata type = 1\ninterleave = bsq\ngeo points = {points}\n"
    (tmp_path / "a.hdr").write_text(header)
    (tmp_path / "a.img").write_bytes(bytes(36))
    with open_cube(tmp_path / "a.img") as reader:
        got, crs = reader.meta.gcps
    assert crs.to_epsg() == 4326
    assert [(p.row, p.col, p.x, p.y) for p in got][1:3] == [(0, 6, 16, 50), (6, 0, 10, 44)]


def test_bands_behind_an_alpha_band_are_numbered_without_it(tmp_path):
    kinds = ("Gray", "Alpha", "Undefined")
    lines = (
        f'<VRTRasterBand dataType="Byte" band="{i}"><ColorInterp>{kind}</ColorInterp></VRTRasterBand>'
        for i, kind in enumerate(kinds, 1)
    )
    (tmp_path / "a.vrt").write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{"".join(lines)}</VRTDataset>')
    with open_cube(tmp_path / "a.vrt") as reader:
        assert reader.shape[0] == 2 and reader.meta.notes[0].endswith("; the bands are numbered without it")


def test_gcps_that_do_not_place_the_image(write_tif):
    points = [GroundControlPoint(i, i, 10.0 + i, 50.0 - i) for i in range(4)]
    path = write_tif(np.zeros((1, 4, 4), np.uint8), gcps=points, crs="EPSG:4326")
    with open_cube(path) as reader:
        assert len(reader.meta.gcps[0]) == 4
        assert "do not place the image" in reader.meta.notes[0]


def test_cloud_optimised_geotiff_reads_in_blocks(tmp_path):
    data = RNG.integers(0, 1000, (2, 600, 300), dtype=np.uint16)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="COG", width=300, height=600, count=2, dtype="uint16", blocksize=256
    ) as ds:
        ds.write(data)
    with open_cube(tmp_path / "a.tif") as reader:
        assert reader.block_shape == (256, 256)
        np.testing.assert_array_equal(reader.read(Window(250, 200, 300, 90), [1]).data, data[1:, 250:550, 200:290])


def test_pages(tmp_path):
    images = [Image.fromarray(GRAY), Image.fromarray(GRAY // 2)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    with open_cube(tmp_path / "a.tif") as reader:
        told = next(note for note in reader.meta.notes if "first of 2 pages" in note)
        assert "--var 2 reads the second" in told and "detect-ir --band all makes an image of each" in told
        np.testing.assert_array_equal(reader.read().data[0], GRAY)


def test_a_page_is_chosen_by_its_number(tmp_path):
    images = [Image.fromarray(GRAY // k) for k in (1, 2, 3)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    for var in ("2", f"GTIFF_DIR:2:{tmp_path}/a.tif"):
        with open_cube(tmp_path / "a.tif", var=var) as reader:
            np.testing.assert_array_equal(reader.read().data[0], GRAY // 2)
    with pytest.raises(InputError, match=r"a\.tif has no variable '4'; its variables: 1, 2, 3\."):
        open_cube(tmp_path / "a.tif", var="4")


@pytest.mark.parametrize("suffix", [".jpg", ".tif", "_big.tif", "_big_endian.tif"])
def test_pictures_that_viewers_turn(tmp_path, suffix):
    path, said = tmp_path / f"a{suffix}", []
    for value in (1, 6):
        exif = Image.Exif()
        exif[0x112] = value
        if suffix == "_big_endian.tif":
            entries = [
                (256, 4, 1, 11),
                (257, 4, 1, 9),
                (258, 3, 1, 8 << 16),
                (259, 3, 1, 1 << 16),
                (262, 3, 1, 1 << 16),
            ]
            entries += [(273, 4, 1, 200), (274, 3, 1, value << 16), (278, 4, 1, 9), (279, 4, 1, 99)]
            table = b"".join(struct.pack(">HHII", *entry) for entry in entries)
            start = b"MM" + struct.pack(">HIH", 42, 8, len(entries)) + table + bytes(4)
            path.write_bytes(start.ljust(200, b"\0") + GRAY.tobytes())
        else:
            Image.fromarray(GRAY).save(path, exif=exif, **({"big_tiff": True} if "big" in suffix else {}))
        with open_cube(path) as reader:
            assert reader.shape == (1, 9, 11)
            said.append([note for note in reader.meta.notes if "viewers show this picture turned by 90" in note])
    assert not said[0] and len(said[1]) == 1 and "the ones that are stored" in said[1][0]


def test_a_damaged_directory_takes_no_memory(tmp_path):
    entries = struct.pack("<Q", 2**46)  # of a BigTIFF
    (tmp_path / "a.tif").write_bytes(b"II" + struct.pack("<HHHQ", 43, 8, 0, 16) + entries)
    assert orientation.of_tiff(tmp_path / "a.tif") == 1


def test_the_page_that_is_read_says_how_it_is_turned(tmp_path):
    images = [Image.fromarray(GRAY), Image.fromarray(GRAY // 2)]
    exif = Image.Exif()
    exif[0x112] = 3
    images[1].encoderinfo = {"exif": exif}
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    for var, turned in ((None, False), ("2", True)):
        with open_cube(tmp_path / "a.tif", var=var) as reader:
            assert any("turned by 180 degrees" in note for note in reader.meta.notes) == turned


def test_placed_images_are_shown_by_their_place(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 3
    Image.fromarray(GRAY).save(tmp_path / "a.tif", exif=exif)
    with rasterio.open(tmp_path / "a.tif", "r+") as ds:
        ds.transform = Affine(10, 0, 5000, 0, -10, 9000)
    with open_cube(tmp_path / "a.tif") as reader:
        assert not any("viewers" in note for note in reader.meta.notes)


def test_a_file_that_another_program_holds_is_read(tmp_path, cube):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"], file["wavelength"] = cube, np.linspace(500, 600, len(cube))
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "a.h5").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with open_cube(tmp_path / "a.h5") as reader:
            np.testing.assert_array_equal(reader.read().data, cube)
            assert len(reader.meta.wavelengths) == len(cube)


def test_what_follows_a_name_on_a_server_is_no_extension():
    for name, follows in (
        ("https://a.b/s.vrt?sig=x.tif", True),
        ("https://a.b/s.tif?x=.vrt", False),
        ("/vsicurl/https://a.b/s.vrt?x", True),
        ("folder/what?.vrt", True),
        ("a.tif#.png", False),
    ):
        assert ("VRT" in _drivers_for(name)) is follows


def test_variables_of_one_name_in_several_groups(tmp_path, cube):
    names = ("Cube", "SWIR/Cube", "VNIR/Cube", "VNIR/Noise", "L2/VNIR/Cube")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k, name in enumerate(names):
            file[name] = cube + k
    with pytest.raises(InputError, match="several images") as error:
        open_cube(tmp_path / "a.h5")
    assert all(f"{name}," in f"{error.value}".replace(")", ",") for name in ("SWIR/Cube", " Noise", "L2/VNIR/Cube"))
    for var, k in (("SWIR/Cube", 1), ("//VNIR/Cube", 2), ("Noise", 3), ("VNIR/Noise", 3), ("L2/VNIR/Cube", 4)):
        with open_cube(tmp_path / "a.h5", var=var) as reader:
            np.testing.assert_array_equal(reader.read().data, cube + k)
    with pytest.raises(InputError, match="several images"):
        open_cube(tmp_path / "a.h5", var="Cube")


@pytest.fixture
def netcdf(tmp_path, cube):
    def write(name, variables):
        with h5py.File(tmp_path / name, "w") as file:
            for axis, values in {"wavelength": [0.4, 0.5], "y": range(3), "x": range(4)}.items():
                file[axis] = np.array(values, dtype=float)
                file[axis].make_scale(axis)
            for variable in variables:
                file[variable] = cube
                file[variable].attrs["scale_factor"] = 0.5
                file[variable].attrs["_FillValue"] = np.float32(3)
                for i, axis in enumerate(("wavelength", "y", "x")):
                    file[variable].dims[i].attach_scale(file[axis])
        return tmp_path / name

    return write


def test_netcdf_variables(netcdf, cube):
    with open_cube(netcdf("one.nc", ["rad"])) as reader:
        read = reader.read()
    np.testing.assert_array_equal(np.sort(read.data.ravel()), cube.ravel() / 2)
    assert (~read.valid).sum() == 1 and read.meta.wavelengths == (400, 500)
    path = netcdf("two.nc", ["rad", "ref"])
    with pytest.raises(InputError, match=r"several images \((rad, ref|ref, rad)\); choose one with --var"):
        open_cube(path)
    with open_cube(path, var="ref") as reader:
        assert reader.shape == cube.shape
    with open_cube(f"NETCDF:{path}:rad") as reader:
        assert reader.shape == cube.shape
    with pytest.raises(InputError, match=r"no variable 'nope'; its variables: (rad, ref|ref, rad)"):
        open_cube(path, var="nope")


@pytest.mark.parametrize(("units", "nm"), [("m", 4e11), ("Angstrom", 40), ("nm", 400), ("um", 4e5), ("", 400)])
def test_the_unit_of_a_netcdf_axis(tmp_path, units, nm):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, length in (("wavelength", 3), ("y", 4), ("x", 5)):
            file.createDimension(name, length)
        axis = file.createVariable("wavelength", "f8", ("wavelength",))
        axis[:] = [400, 500, 600]
        if units:
            axis.units = units
        file.createVariable("rad", "f4", ("wavelength", "y", "x"))[:] = np.ones((3, 4, 5))
    with open_cube(tmp_path / "a.nc") as reader:
        assert reader.meta.wavelengths[0] == pytest.approx(nm)
        assert any("have no unit" in note for note in reader.meta.notes) == (not units)


@pytest.mark.parametrize("axes", [("y", "band", "x"), ("lat", "band", "lon"), ("Line", "Sample", "wavelength")])
def test_netcdf_whose_first_axis_is_no_band(tmp_path, axes):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, length in zip(axes, (5, 6, 7), strict=True):
            file.createDimension(name, length)
        file.createVariable("rad", "f4", axes)[:] = np.ones((5, 6, 7))
    with pytest.raises(InputError, match=rf"a\.nc has {axes[0]} as its first axis, where the bands have to be"):
        open_cube(tmp_path / "a.nc")


def test_var_of_a_plain_image(tmp_path):
    with pytest.raises(InputError, match=r"no variable 'x'"):
        open_cube(save(tmp_path / "a.png", GRAY), var="x")


def test_vsizip(tmp_path, write_envi, cube):
    save(tmp_path / "a.png", GRAY)
    envi = write_envi(name="b.img", header_name="b.hdr", wavelength="{0.4, 0.5}", data_ignore_value="none")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("a.png", "b.img", "b.hdr"):
            archive.write(tmp_path / name, name)
    with open_cube(f"/vsizip/{tmp_path}/z.zip/a.png") as reader:
        np.testing.assert_array_equal(reader.read().data[0], GRAY)
    with open_cube(f"/vsizip/{tmp_path}/z.zip/{envi.name}") as reader:
        assert reader.meta.wavelengths == (400, 500) and reader.read().valid.all()
        np.testing.assert_array_equal(reader.read().data, cube)
    with pytest.raises(InputError, match=r"nothing\.png"):
        open_cube(f"/vsizip/{tmp_path}/z.zip/nothing.png")


@pytest.mark.parametrize("left", [95, 30])
def test_truncated_envi_in_vsizip(tmp_path, write_envi, cube, left):
    write_envi(data=cube.tobytes()[:left])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("a.img", "a.hdr"):
            archive.write(tmp_path / name, name)
    for archive in (f"{tmp_path}/z.zip", f"{{{tmp_path}/z.zip}}"):
        with pytest.raises(
            InputError, match=rf"a\.img is truncated: its header requires 96 bytes, but the file has {left}"
        ):
            open_cube(f"/vsizip/{archive}/a.img")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "z.zip", "z.zip")
    if left < 48:
        with pytest.raises(InputError, match=r"a\.img is truncated: its header requires more bytes than the file has"):
            open_cube(f"/vsizip/{{/vsizip/{{{tmp_path}/outer.zip}}/z.zip}}/a.img")


def test_vsicurl(tmp_path, write_tif):
    data = bands(GRAY)
    write_tif(data)
    # a process of its own: GDAL holds the interpreter's lock while it waits for the answer
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            with open_cube(f"/vsicurl/http://127.0.0.1:{port}/a.tif") as reader:
                np.testing.assert_array_equal(reader.read().data, data)
            with pytest.raises(InputError, match=r"b\.tif"):
                open_cube(f"/vsicurl/http://127.0.0.1:{port}/b.tif")
        finally:
            server.terminate()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".gif"])
@pytest.mark.parametrize("share", [0.4, 0.95])
def test_truncated_images_are_errors(tmp_path, suffix, share):
    path = save(tmp_path / f"a{suffix}", RNG.integers(0, 256, (150, 160), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=rf"a\{suffix}"), open_cube(path) as reader:
        reader.read()


def test_damaged_png(tmp_path):
    path = save(tmp_path / "a.png", RNG.integers(0, 256, (50, 50), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with open_cube(path) as reader, pytest.raises(InputError, match=r"a\.png is truncated or damaged"):
        reader.read()


@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_truncated_geotiff(write_tif, options):
    path = write_tif(RNG.integers(0, 256, (2, 150, 160), dtype=np.uint8), **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(InputError, match=r"a\.tif"), open_cube(path) as reader:
        reader.read()


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.csv", "a"])
def test_text_is_not_an_image(tmp_path, name):
    (tmp_path / name).write_text("some,text\n" * 20)
    with pytest.raises(InputError, match=f"{name} is not an image"):
        open_cube(tmp_path / name)


TIFF_HEADER = {
    "file_type": "TIFF",
    "wavelength": "{0.45, 0.9}",
    "wavelength_units": "Micrometers",
    "fwhm": "{0.01, 0.02}",
    "data_ignore_value": "5",
    "data_gain_values": "{0.5, 0.25}",
    "band_names": "{blue, near infrared}",
}


@pytest.mark.parametrize("header_name", ["a.hdr", "a.tif.hdr"])
def test_the_envi_header_of_a_tiff_completes_it(write_envi, write_tif, cube, header_name):
    write_envi(name="unused", header_name=header_name, **TIFF_HEADER)
    path = write_tif(cube.astype(np.int16), name="a.tif")
    for name in (path, path.with_name(header_name)):
        with open_cube(name) as reader:
            meta, found = reader.meta, reader.read()
        assert meta.wavelengths == (450, 900) and meta.fwhm == (10, 20) and meta.driver == "GTiff"
        assert meta.band_names == ("blue", "near infrared") and meta.nodata == (5, 5)
        np.testing.assert_array_equal(found.data, cube * np.array([0.5, 0.25], np.float32)[:, None, None])
        np.testing.assert_array_equal(found.valid, cube[0] != 5)
        assert any("an ENVI header" in note for note in meta.notes)


def test_what_a_tiff_says_itself_comes_first(write_envi, write_tif, cube):
    write_envi(name="unused", **TIFF_HEADER)

    def own(ds):
        ds.scales, ds.descriptions = (2, 2), ("x", "y")
        ds.update_tags(1, wavelength="500", wavelength_units="nm")
        ds.update_tags(2, wavelength="600", wavelength_units="nm")

    with open_cube(write_tif(cube.astype(np.int16), name="a.tif", then=own, nodata=7)) as reader:
        assert reader.meta.scales == (2, 2) and reader.meta.band_names == ("x", "y")
        assert reader.meta.nodata == (7, 7) and reader.meta.wavelengths == (500, 600)


@pytest.mark.parametrize("listed", [{}, {"bbl": "{1, 0}"}, {"fwhm": "{3, 4}", "bbl": "{1, 0}"}])
def test_a_header_of_a_tiff_without_wavelengths_leaves_those_of_the_tiff(write_envi, write_tif, cube, listed):
    write_envi(name="unused", file_type="TIFF", band_names="{x, y}", **listed)

    def own(ds):
        for band, wavelength in ((1, "0.5"), (2, "0.6")):
            ds.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=wavelength)

    with open_cube(write_tif(cube, name="a.tif", then=own)) as reader:
        assert reader.meta.wavelengths == (500, 600) and reader.meta.band_names == ("x", "y")
        assert reader.meta.bad_bands == ((False, True) if listed else ())
        assert not any("wavelengths were taken" in note for note in reader.meta.notes)


@pytest.mark.parametrize("other", [{"file_type": "ENVI Standard"}, {"samples": 5}])
def test_a_header_of_another_image_is_none_of_a_tiff(write_envi, write_tif, cube, other):
    write_envi(name="unused", **{**TIFF_HEADER, **other})
    with open_cube(write_tif(cube, name="a.tif")) as reader:
        assert not reader.meta.wavelengths and not reader.meta.nodata
        assert any("of another size" in note for note in reader.meta.notes) == ("samples" in other)


def test_a_header_of_a_tiff_that_nobody_may_read_is_none(write_envi, write_tif, cube, monkeypatch):
    write_envi(name="unused", **TIFF_HEADER)
    path = write_tif(cube, name="a.tif")

    def refuse(header):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(envi_module, "_is_envi", refuse)
    with open_cube(path) as reader:
        assert not reader.meta.wavelengths


def test_gains_of_zero_are_ignored(write_envi, write_tif, cube):
    write_envi(name="unused", **{**TIFF_HEADER, "data_gain_values": "{0, 0}"})
    with open_cube(write_tif(cube, name="a.tif")) as reader:
        np.testing.assert_array_equal(reader.read().data, cube)
        assert any("contains 0" in note for note in reader.meta.notes)


def test_archives_are_told_how_to_be_read(tmp_path, write_envi, write_tif, cube):
    envi, tif = write_envi(name="b.img", header_name="b.hdr"), write_tif(cube)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in (envi, envi.with_suffix(".hdr"), tif):
            archive.write(path, path.name)
    for name in (tmp_path / "z.zip", f"/vsizip/{tmp_path}/z.zip"):
        with pytest.raises(InputError, match=rf"is an archive; .*: /vsizip/{tmp_path}/z\.zip/NAME"):
            open_cube(name)
    with pytest.raises(InputError, match=r"b\.hdr is a header; inside archives, give the data file"):
        open_cube(f"/vsizip/{tmp_path}/z.zip/b.hdr")


REFERRING = {
    "VRT": """<VRTDataset rasterXSize="11" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
        <SourceFilename>{0}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>""",
    "raw VRT": """<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"
        subClass="VRTRawRasterBand"><SourceFilename>{0}</SourceFilename></VRTRasterBand></VRTDataset>""",
    "WMS": """<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/t</ServerUrl></Service><DataWindow>
        <UpperLeftX>0</UpperLeftX><UpperLeftY>40</UpperLeftY><LowerRightX>40</LowerRightX><LowerRightY>0</LowerRightY>
        <SizeX>40</SizeX><SizeY>40</SizeY></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>""",
}


@pytest.mark.parametrize("kind", REFERRING)
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ""])
def test_what_refers_to_other_files_is_known_by_its_extension(tmp_path, kind, suffix):
    text = REFERRING[kind].format(save(tmp_path / "secret.png", GRAY))
    (tmp_path / f"a{suffix}").write_text(text)
    with pytest.raises(InputError, match=rf"a{suffix} is text, not an image"):
        open_cube(tmp_path / f"a{suffix}")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(f"a{suffix}", text)
        archive.writestr("a.vrt", text)
    for name in (f"/vsizip/{tmp_path}/z.zip/a{suffix}", f"zip://{tmp_path}/z.zip!a{suffix}"):
        with pytest.raises(InputError, match=rf"a{suffix} is not an image in a known format"):
            open_cube(name)
    if kind == "VRT":
        with open_cube(f"/vsizip/{tmp_path}/z.zip/a.vrt") as reader:
            np.testing.assert_array_equal(reader.read().data[0], GRAY)
        (tmp_path / "a.VRT").write_text(text)
        with open_cube(tmp_path / "a.VRT") as reader:
            np.testing.assert_array_equal(reader.read().data[0], GRAY)


NAMING = {
    "a.h1": """NDF_REVISION=2;\nDATA_SET_TYPE=EDC_NLAPS;\nNUMBER_OF_BANDS_IN_VOLUME=1;\nPIXELS_PER_LINE=11;
LINES_PER_DATA_FILE=9;\nDATA_ORGANIZATION=BSQ;\nPIXEL_FORMAT=BYTE;\nBITS_PER_PIXEL=8;\nBAND1_FILENAME={};
BAND1_NAME=x;\n""".ljust(2000),
    "a.raw": """IMAGINE_RAW_FILE\nWIDTH 11\nHEIGHT 9\nNUM_LAYERS 1\nPIXEL_FILES {}\nFORMAT BSQ\nDATATYPE U8
BYTE_ORDER LSB\nDATA_OFFSET 0\nEND_RAW_FILE\n""".ljust(800),
    "a.lbl": """PDS_VERSION_ID = PDS3\nRECORD_TYPE = FIXED_LENGTH\nRECORD_BYTES = 11\nFILE_RECORDS = 9\n^IMAGE = "{}"
OBJECT = IMAGE\nLINES = 9\nLINE_SAMPLES = 11\nSAMPLE_TYPE = UNSIGNED_INTEGER\nSAMPLE_BITS = 8\nBANDS = 1
END_OBJECT = IMAGE\nEND\n""",
}
"""Formats of text that name the file of the samples."""


def naming(kind, path, data):
    """Write a file of a format that takes its samples from the file ``data``."""
    if kind != "a.pix":
        path.write_text(NAMING[kind].format(data))
        return
    with rasterio.open(
        path.with_suffix(".pix"), "w", driver="PCIDSK", INTERLEAVING="FILE", width=11, height=9, count=1, dtype="uint8"
    ) as ds:
        ds.write(GRAY, 1)
    content = path.with_suffix(".pix").read_bytes()
    path.write_bytes(content.replace(b"a.001".ljust(64), str(data).encode().ljust(64), 1))


@pytest.mark.parametrize("kind", ["a.pix", *NAMING])
def test_samples_that_a_file_names_are_beside_it(tmp_path, kind):
    folder = tmp_path / "up"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "s.bin").write_bytes(GRAY.tobytes())
    naming(kind, folder / "a.png", "s.bin")
    with pytest.raises(InputError, match=r"a\.png is not an image in a known format"):
        open_cube(folder / "a.png")
    naming(kind, folder / kind, "s.bin")
    (tmp_path / "linked").symlink_to(folder)
    for place in (folder, tmp_path / "linked"):
        with open_cube(place / kind) as reader:
            np.testing.assert_array_equal(reader.read().data[0], GRAY)
    naming(kind, folder / kind, "../s.bin")
    with pytest.raises(InputError, match=rf"{kind} refers to .*s\.bin, which is outside of its folder"):
        open_cube(folder / kind)


def test_a_link_in_the_folder_is_its_owners(tmp_path, write_envi):
    path = write_envi(name="b.img", header_name="b.hdr")
    (tmp_path / "links").mkdir()
    for name in ("b.img", "b.hdr"):
        (tmp_path / "links" / name).symlink_to(path.with_name(name))
    with open_cube(tmp_path / "links" / "b.img") as reader, open_cube(path) as own:
        np.testing.assert_array_equal(reader.read().data, own.read().data)


def test_drivers_of_images_refer_to_others_or_not():
    assert not _WHOLE & _REFERRING.keys()
    assert not set(raster_driver_extensions().values()) - _WHOLE - _REFERRING.keys()


def test_tags_of_a_tiff_name_no_other_file(write_tif, tmp_path):
    other = save(tmp_path / "secret.png", GRAY)
    tags = {"SUBDATASET_1_NAME": str(other), "SUBDATASET_1_DESC": "x"}
    path = write_tif(bands(GRAY), then=lambda ds: ds.update_tags(ns="SUBDATASETS", **tags))
    with pytest.raises(InputError, match="no variable"):
        open_cube(path, var=str(other))


@pytest.mark.parametrize(("offset", "damaged"), [(0, False), (9, True), (2**31, True)])
def test_damaged_directories_of_a_tiff(tmp_path, offset, damaged):
    path = tmp_path / "a.tif"
    Image.fromarray(GRAY).save(path, tiffinfo={65000: "of another program"})
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, offset)  # where the next directory is
    path.write_bytes(content)
    if damaged:
        with pytest.raises(InputError, match=r"a\.tif is truncated or damaged"):
            open_cube(path).read()
    else:
        np.testing.assert_array_equal(open_cube(path).read().data[0], GRAY)


def test_blocks_of_all_bands_are_read_one_after_the_other(tmp_path):
    """Without a cache GDAL decompresses all of them for each band."""
    path, cube = tmp_path / "a.tif", np.arange(3 * 32 * 70, dtype=np.uint16).reshape(3, 32, 70)
    profile = {"width": 70, "height": 32, "count": 3, "dtype": "uint16", "interleave": "pixel"}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=16, blockysize=16, **profile) as ds:
        ds.write(cube)
    with open_cube(path) as reader:
        spans, inner = [], reader._ds

        def read(*args, window, **options):
            spans.append((window.col_off, window.width))
            return inner.read(*args, window=window, **options)

        reader._ds = Spy(inner, read)
        found = reader.read(Window(3, 10, 20, 41), [2, 0])
        reader._ds = inner
    np.testing.assert_array_equal(found.data, cube[[2, 0], 3:23, 10:51])
    assert spans == [(10, 6), (16, 16), (32, 16), (48, 3)]


class Spy:
    """A dataset with another ``read``."""

    def __init__(self, ds, read):
        self._ds, self.read = ds, read

    def __getattr__(self, name):
        return getattr(self._ds, name)


def test_a_grid_of_esri_is_its_folder(tmp_path):
    """GDAL lists the folder itself, and what lies beside it, as files of the grid."""
    rows, cols = 8, 16
    data = np.arange(rows * cols, dtype=">f4").tobytes()
    header = bytearray(308)
    header[:8], header[16:24] = b"GRID1.2\0", struct.pack(">2i", 2, 1)
    header[256:272], header[288:308] = struct.pack(">2d", 10, 10), struct.pack(">5i", 1, 1, cols, 1, rows)
    tile = struct.pack(">h", len(data) // 2) + data

    def block(size):
        return bytes([0, 0, 0x27, 0x0A, *[255] * 4]) + bytes(16) + struct.pack(">i", size // 2) + bytes(72)

    files = {
        "hdr.adf": bytes(header),
        "dblbnd.adf": struct.pack(">4d", 0, 0, 10 * cols, 10 * rows),
        "w001001.adf": block(100 + len(tile)) + tile,
        "w001001x.adf": block(108) + struct.pack(">2i", 50, len(data) // 2),
        "sta.adf": struct.pack(">4d", 0, rows * cols - 1, 5, 3),
    }
    (tmp_path / "dem").mkdir()
    for name, content in files.items():
        (tmp_path / "dem" / name).write_bytes(content)
    (tmp_path / "dem.aux.xml").write_text("<PAMDataset/>")
    for name in ("dem", "dem/hdr.adf", "dem/w001001.adf"):
        with open_cube(tmp_path / name) as reader:
            assert reader.shape == (1, rows, cols) and reader.read().data.ravel()[:3].tolist() == [0, 1, 2]
