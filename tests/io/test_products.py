"""Products of sensors in the layout that their providers document."""

import h5py
import numpy as np
import pytest
from rasterio.crs import CRS
from scipy.io import netcdf_file

from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.io import open_cube

ROWS, COLS = 6, 5
VNIR, SWIR = [0.0, 1000.0, 700.0, 450.0], [2400.0, 1500.0, 950.0, 0.0]


@pytest.fixture
def product(tmp_path):
    """A product with the attributes ``more``; returns its path and its cubes (rows, bands, columns)."""

    def write(level="2D", name="p.he5", drop=(), **more):
        rng = np.random.default_rng(0)
        cubes = {kind: rng.integers(1, 65535, (ROWS, 4, COLS), dtype=np.uint16) for kind in ("VNIR", "SWIR")}
        known = {"Epsg_Code": 32633, "Product_ULcorner_easting": 500015.0, "Product_ULcorner_northing": 5e6}
        known["Product_LRcorner_easting"] = 500015.0 + 30 * (COLS - 1)
        known["Product_LRcorner_northing"] = 5e6 - 30 * (ROWS - 1)
        if level != "2D":
            known = {"ScaleFactor_Vnir": 100.0, "Offset_Vnir": 0.5, "ScaleFactor_Swir": 50.0, "Offset_Swir": 0.0}
        for kind, centres in (("Vnir", VNIR), ("Swir", SWIR)):
            known |= {f"List_Cw_{kind}": centres, f"List_Fwhm_{kind}": [10.0, 11.0, 12.0, 13.0]}
            known |= {f"List_Cw_{kind}_Flags": [int(c > 0) for c in centres]}
            if level == "2D":
                known |= {f"L2Scale{kind}Min": 0.1, f"L2Scale{kind}Max": 0.9 if kind == "Vnir" else 0.7}
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in {**known, **more}.items():
                if key not in drop:
                    file.attrs[key] = value
            for kind, cube in cubes.items():
                if f"{kind}_Cube" not in drop:
                    file[f"HDFEOS/SWATHS/PRS_L{level}_HCO/Data Fields/{kind}_Cube"] = cube
        return tmp_path / name, cubes

    return write


def test_bands_of_both_cubes_rise_by_wavelength(product):
    path, cubes = product()
    with open_cube(path) as reader:
        meta, found = reader.meta, reader.read()
        assert reader.shape == (6, ROWS, COLS) and meta.driver == "PRISMA"
        assert meta.wavelengths == (450, 700, 950, 1000, 1500, 2400) and meta.fwhm == (13, 12, 12, 11, 11, 10)
        stored = [cubes["VNIR"][:, 3], cubes["VNIR"][:, 2], cubes["SWIR"][:, 2]]
        stored += [cubes["VNIR"][:, 1], cubes["SWIR"][:, 1], cubes["SWIR"][:, 0]]
        scale = np.array([0.8, 0.8, 0.6, 0.8, 0.6, 0.6])[:, None, None] / 65535
        np.testing.assert_allclose(found.data, 0.1 + scale * np.array(stored), rtol=1e-5)
        part = reader.read(Window(2, 1, 3, 2), [4, 0, 2], scaled=False)
        np.testing.assert_array_equal(part.data, np.array(stored)[[4, 0, 2], 2:5, 1:3])
        assert part.meta.wavelengths == (1500, 450, 950)
    assert meta.crs == CRS.from_epsg(32633) and tuple(meta.transform)[:6] == (30, 0, 500000, 0, -30, 5000015)


@pytest.mark.parametrize(
    ("var", "waves"),
    [
        ("VNIR_Cube", (450, 700, 1000)),
        ("SWIR_Cube", (950, 1500, 2400)),
        ("Data Fields/VNIR_Cube", (450, 700, 1000)),
        ("//HDFEOS/SWATHS/PRS_L2D_HCO/Data_Fields/SWIR_Cube", (950, 1500, 2400)),
    ],
)
def test_one_of_the_cubes(product, var, waves):
    with open_cube(product()[0], var=var) as reader:
        assert reader.meta.wavelengths == waves


def test_corners_may_be_those_of_the_image(product):
    edges = {"Product_ULcorner_easting": 5e5, "Product_LRcorner_easting": 5e5 + 30 * COLS}
    edges |= {"Product_ULcorner_northing": 5e6, "Product_LRcorner_northing": 5e6 - 30 * ROWS}
    with open_cube(product(**edges)[0]) as reader:
        assert tuple(reader.meta.transform)[:6] == (30, 0, 5e5, 0, -30, 5e6)
    with open_cube(product(**{**edges, "Product_LRcorner_easting": 5e5})[0]) as reader:
        assert reader.meta.crs is None and any("do not fit its size" in note for note in reader.meta.notes)


def test_gdal_is_not_asked_for_cubes_whose_axes_it_does_not_know(product):
    path, _ = product()
    for name in (
        f'HDF5:"{path}"://HDFEOS/SWATHS/PRS_L2D_HCO/Data_Fields/VNIR_Cube',
        f"HDF5:{path}://HDFEOS/SWATHS/PRS_L2D_HCO/Data_Fields/SWIR_Cube",
    ):
        with pytest.raises(InputError, match=r"part of a PRISMA product.*give the \.he5 file itself"):
            open_cube(name)


@pytest.mark.parametrize(
    ("told", "acquired"),
    [
        ({}, ""),
        ({"Product_StartTime": "2022-07-24T10:20:30.25"}, "2022-07-24T10:20:30.250000"),
        ({"Product_StartTime": np.bytes_("2022-07-24T10:20:30")}, "2022-07-24T10:20:30"),
    ],
)
def test_when_a_product_was_acquired(product, told, acquired):
    with open_cube(product(**told)[0]) as reader:
        assert reader.meta.acquired == acquired


@pytest.mark.parametrize("level", ["1", "2B", "2C"])
def test_the_first_axis_of_swaths_are_the_detectors_from_right_to_left(product, level):
    path, cubes = product(level)
    with open_cube(path, var="VNIR_Cube") as reader:
        assert reader.shape == (3, COLS, ROWS)
        expected = cubes["VNIR"][:, 3][::-1].T / 100 - 0.5
        np.testing.assert_allclose(reader.read().data[0], expected, rtol=1e-5)
        np.testing.assert_allclose(reader.read(Window(1, 2, 3, 2), [0]).data[0], expected[1:4, 2:4], rtol=1e-5)
        assert reader.meta.crs is None and any("no map" in note for note in reader.meta.notes)


def test_pixels_outside_the_swath_are_not_valid_whatever_bands_are_read(product):
    path, _ = product()
    with h5py.File(path, "r+") as file:
        for kind in ("VNIR", "SWIR"):
            cube = file[f"HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/{kind}_Cube"]
            cube[0, :, 0] = 0
            cube[1, 1, 1] = 0  # one dark band
    for bands in (None, [0], [5, 1]):
        with open_cube(path) as reader:
            found = reader.read(bands=bands, scaled=False)
        assert not found.valid[0, 0] and found.valid.sum() == found.valid.size - 1
        assert found.meta.nodata == (0,) * len(found.data) and (found.data[:, 0, 0] == 0).all()
        np.testing.assert_array_equal((found.data > 0).all(axis=0), found.valid)  # also once it is written


def test_reads_in_any_order_and_of_any_window_agree(product):
    for level in ("1", "2D"):
        with open_cube(product(level)[0]) as reader:
            whole = reader.read(scaled=False).data
            for window in (Window(0, 0, 2, 3), Window(2, 1, 3, 4), Window(3, 2, 1, 1)):
                for bands in ([3, 1, 0], [5], [2, 2, 4]):
                    part = reader.read(window, bands, scaled=False).data
                    np.testing.assert_array_equal(part, whole[bands][:, *window.slices])


@pytest.mark.parametrize(
    "odd",
    [
        {"L2ScaleVnirMax": np.nan},
        {"L2ScaleVnirMax": 0.1},
        {"List_Cw_Vnir_Flags": np.array([b"a", b"b", b"c", b"d"])},
        {"List_Fwhm_Vnir": h5py.Empty("f4")},
        {"L2ScaleSwirMax": np.array([])},
    ],
)
def test_attributes_that_give_no_values(product, odd):
    with pytest.raises(InputError):
        open_cube(product(**odd)[0])


@pytest.mark.parametrize(
    "odd",
    [{"Product_ULcorner_easting": np.nan}, {"Product_LRcorner_northing": np.inf}, {"Epsg_Code": np.array([])}],
)
def test_corners_that_are_no_numbers_leave_no_coordinates(product, odd):
    with open_cube(product(**odd)[0]) as reader:
        assert reader.meta.crs is None and any("coordinates" in note for note in reader.meta.notes)


def test_products_that_are_not_complete(product):
    with pytest.raises(InputError, match=r"is no complete PRISMA product.*List_Fwhm_Vnir"):
        open_cube(product(drop=["List_Fwhm_Vnir"])[0])
    with pytest.raises(InputError, match="has not the bands that the file lists"):
        open_cube(product(List_Cw_Swir=[1.0])[0])
    with pytest.raises(InputError, match=r"contains several images"):  # HDF5 of another kind
        open_cube(product(drop=["List_Cw_Vnir"])[0])


def test_cubes_that_are_none(product):
    path, _ = product()
    name = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_group(name)
    with open_cube(path) as reader:
        assert reader.shape[0] == 3
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.ones((ROWS, 4, COLS))
    with pytest.raises(InputError, match="samples of type float64, not counts"):
        open_cube(path)
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, (ROWS, 4, COLS), "u2", external=[("gone.bin", 0, ROWS * 4 * COLS * 2)])
    with pytest.raises(InputError, match=r"has HDFEOS/.*/VNIR_Cube not in itself but in another file"):
        open_cube(path)
    with open_cube(path, var="SWIR_Cube") as reader:
        assert reader.shape[0] == 3


@pytest.mark.parametrize("left", [0.05, 0.5, 0.98])
def test_a_truncated_product(product, left):
    path, _ = product()
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(InputError, match=r"truncated or damaged|contains"), open_cube(path) as reader:
        reader.read()


ENMAP = """<level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><base><temporalCoverage>
<startTime>2022-07-24T10:20:30Z</startTime></temporalCoverage></base><specific>
<backgroundValue>-32768</backgroundValue><bandCharacterisation>{bands}</bandCharacterisation></specific>
<other><bandID number="1">dead pixels</bandID></other></level_X>"""
BAND = (
    '<bandID number="{n}"><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><FWHMOfBand>8.5</FWHMOfBand>'
    "<GainOfBand>0.0001</GainOfBand><OffsetOfBand>0.5</OffsetOfBand></bandID>"
)


@pytest.mark.parametrize("listed", [2, 3])
@pytest.mark.parametrize("name", ["ENMAP01-x-SPECTRAL_IMAGE.TIF", "ENMAP01-x-SPECTRAL_IMAGE_COG.tiff"])
def test_the_metadata_of_enmap(tmp_path, write_tif, cube, listed, name):
    bands = "".join(BAND.format(n=n + 1, w=420.5 + n) for n in range(listed))
    (tmp_path / "ENMAP01-x-METADATA.XML").write_text(ENMAP.format(bands=bands))
    with open_cube(write_tif(cube.astype(np.int16), name=name)) as reader:
        meta = reader.meta
        if listed != len(cube):
            assert not meta.wavelengths and not meta.scales
            return
        assert meta.wavelengths == (420.5, 421.5) and meta.fwhm == (8.5, 8.5) and meta.nodata == (-32768,) * 2
        assert meta.acquired == "2022-07-24T10:20:30Z"
        np.testing.assert_allclose(reader.read().data, 0.5 + 1e-4 * cube, rtol=1e-6)


DESIS = """<hsi_doc><specific><bandCharacterisation>{bands}</bandCharacterisation>
<interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation></specific></hsi_doc>"""
BAND_OF_DESIS = (
    "<band><bandNumber>{n}</bandNumber><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><wavelengthWidthOfBand>3.5"
    "</wavelengthWidthOfBand><gainOfBand>0.0001</gainOfBand><offsetOfBand>0.5</offsetOfBand></band>"
)


def test_the_metadata_of_desis(tmp_path, write_tif, cube):
    bands = "".join(BAND_OF_DESIS.format(n=n + 1, w=420.5 + n) for n in range(len(cube)))
    (tmp_path / "DESIS-x-METADATA.xml").write_text(DESIS.format(bands=bands))
    with open_cube(write_tif(cube.astype(np.int16), name="DESIS-x-SPECTRAL_IMAGE.tif")) as reader:
        assert reader.meta.wavelengths == (420.5, 421.5) and reader.meta.fwhm == (3.5, 3.5)
        np.testing.assert_allclose(reader.read().data, 0.5 + 1e-4 * cube, rtol=1e-6)


@pytest.mark.parametrize("text", ["", "<level_X><specific>", "<level_X/>"])
def test_damaged_metadata_of_enmap_say_nothing(tmp_path, write_tif, cube, text):
    (tmp_path / "a-METADATA.XML").write_text(text)
    with open_cube(write_tif(cube, name="a-SPECTRAL_IMAGE.TIF")) as reader:
        assert not reader.meta.wavelengths


@pytest.fixture
def emit(tmp_path):
    """A file as those of EMIT, (rows, columns, bands) with what is known of the bands in a group; returns it open."""
    file = h5py.File(tmp_path / "emit.nc", "w")
    file.attrs["Conventions"] = "CF-1.6"
    for name, size in (("downtrack", ROWS), ("crosstrack", COLS), ("bands", 4)):
        file[name] = np.zeros(size, np.float32)
        file[name].make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
    file["reflectance"] = np.arange(ROWS * COLS * 4, dtype=np.float32).reshape(ROWS, COLS, 4)
    for axis, name in enumerate(("downtrack", "crosstrack", "bands")):
        file["reflectance"].dims[axis].attach_scale(file[name])
    known = {"wavelengths": [0.4, 0.9, 1.4, 2.4], "fwhm": [0.01, 0.01, 0.02, 0.02], "good_wavelengths": [1, 1, 0, 1]}
    for name, values in known.items():
        file[f"sensor_band_parameters/{name}"] = np.array(values, np.float32)
        file[f"sensor_band_parameters/{name}"].dims[0].attach_scale(file["bands"])
    file["sensor_band_parameters/wavelengths"].attrs["units"] = "um"
    with file:
        yield file


@pytest.mark.parametrize("units", ["um", b"um", np.array([b"um"]), np.array(["um"], h5py.string_dtype())])
def test_bands_that_a_group_of_the_file_describes(emit, units):
    path = emit.filename
    emit["sensor_band_parameters/wavelengths"].attrs["units"] = units
    emit.close()
    for name, var in ((path, "reflectance"), (f'NETCDF:"{path}":reflectance', None)):
        with open_cube(name, var=var) as reader:
            assert reader.shape == (4, ROWS, COLS)
            np.testing.assert_allclose(reader.meta.wavelengths, [400, 900, 1400, 2400], rtol=1e-6)
            np.testing.assert_allclose(reader.meta.fwhm, [10, 10, 20, 20], rtol=1e-6)
            assert reader.meta.bad_bands == (False, False, True, False)


def test_rows_of_a_swath_are_in_the_order_of_the_file(emit):
    path, stored = emit.filename, emit["reflectance"][()]
    emit.close()
    with open_cube(path, var="reflectance") as reader:
        np.testing.assert_array_equal(reader.read().data, np.moveaxis(stored, -1, 0))
        assert any("in the order of the file" in note for note in reader.meta.notes)


@pytest.mark.parametrize("gdal", [False, True])
def test_an_image_that_gdal_wrote_to_netcdf_begins_with_the_last_row(tmp_path, cube, gdal):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        if gdal:
            file.GDAL = "GDAL 3.10.0, released 2024/11/01"
        for name, length in (("y", 3), ("x", 4)):
            file.createDimension(name, length)
        file.createVariable("Band1", "f4", ("y", "x"))[:] = cube[0, ::-1] if gdal else cube[0]
    with open_cube(tmp_path / "a.nc") as reader:
        np.testing.assert_array_equal(reader.read().data, cube[:1])


@pytest.mark.parametrize("listed", [4, 3])
@pytest.mark.parametrize("name", ["wavelengths", "wavelength"])
def test_lists_of_all_bands_in_the_attributes_of_a_variable(emit, listed, name):
    emit["reflectance"].attrs[name] = np.array([400.0, 900, 1400, 2400][:listed])
    emit["reflectance"].attrs["fwhm"] = np.full(listed, 5.0)
    path = emit.filename
    emit.close()
    with open_cube(path, var="reflectance") as reader:
        # where they do not fit, the arrays of the file say it
        np.testing.assert_allclose(reader.meta.wavelengths, [400, 900, 1400, 2400], rtol=1e-6)
        np.testing.assert_allclose(reader.meta.fwhm, [5] * 4 if listed == 4 else [10, 10, 20, 20], rtol=1e-6)


@pytest.mark.parametrize("other", [False, True])
def test_what_lies_beside_the_wavelengths_of_an_axis(tmp_path, other):
    wavelengths = [400.0, 500.0, 600.0]
    with h5py.File(tmp_path / "a.nc", "w") as file:
        group = file.create_group("reflectance")
        for place, name, values in ((group, "wavelength", wavelengths), (file, "y", range(4)), (file, "x", range(5))):
            place[name] = np.array(values, float)
            place[name].make_scale(name)
        group["wavelength"].attrs["units"] = np.bytes_("nm")
        there = file.create_group("other") if other else group
        if other:
            there["wavelength"] = np.array(wavelengths) + 1
        there["fwhm"], there["good_wavelengths"] = np.full(3, 7.0), np.array([1, 0, 1])
        group["reflectance"] = np.ones((3, 4, 5), np.float32)
        for axis, scale in enumerate((group["wavelength"], file["y"], file["x"])):
            group["reflectance"].dims[axis].attach_scale(scale)
    with open_cube(tmp_path / "a.nc") as reader:
        meta = reader.meta
    assert meta.wavelengths == tuple(wavelengths) and not any("no unit" in note for note in meta.notes)
    assert meta.fwhm == (() if other else (7.0,) * 3) and meta.bad_bands == (() if other else (False, True, False))


@pytest.mark.parametrize("change", ["length", "twice"])
def test_lists_that_may_belong_to_others_are_not_taken(emit, change):
    if change == "length":
        del emit["sensor_band_parameters/wavelengths"]
        emit["sensor_band_parameters/wavelengths"] = [1.0, 2.0, 3.0]
    else:
        emit["other/wavelengths"] = [1.0, 2.0, 3.0, 4.0]
    path = emit.filename
    emit.close()
    with open_cube(path, var="reflectance") as reader:
        assert not reader.meta.wavelengths
