"""denoise_file and denoise_array: every sample, every entry of the metadata, and nothing left behind."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import rasterio
import scipy.io
import spectral.io.envi
import torch
from scipy.ndimage import gaussian_filter, zoom

import rsunfold
from rsunfold import weights
from rsunfold.cube import Meta
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError, WeightsError
from rsunfold.infer import spectral as image_module
from rsunfold.infer.hsi import denoiser as denoiser_module
from rsunfold.infer.hsi import removed as removed_module
from rsunfold.infer.hsi import run as module
from rsunfold.infer.hsi.run import Options, denoise_array, denoise_file, target_of
from rsunfold.infer.tiles import Plan
from rsunfold.io import RasterWriter, open_cube
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.denoising import residual_structure
from rsunfold.noise import spatial_noise
from rsunfold.registry import get_model
from rsunfold.subspace import published_subspace

from .conftest import SIGMA

MODELS = ("fasthyde", "star-net")
PIECES = {
    "wavelengths": tuple(np.linspace(400.5, 1100, 16).round(3).tolist()),
    "fwhm": (9.5,) * 16,
    "bad_bands": tuple(i == 4 for i in range(16)),
    "band_names": tuple(f"channel {i}" for i in range(16)),
}


def read(path):
    with open_cube(path) as reader:
        return reader.read(scaled=False).data, reader.meta


def denoised(data, denoiser, *, nodata=None, **options):
    return denoise_array(ArrayReader(data, nodata=nodata), denoiser, Options(**options))


# ---------------------------------------------------------------- formats and metadata


@pytest.mark.parametrize("model", MODELS)
def test_one_cube_in_three_formats(model, noisy, make, write, tmp_path):
    counts = np.rint(noisy * 5000).astype(np.int16)
    header = {"lines": 24, "samples": 20, "bands": 16, "data type": 2, "interleave": "bil", "byte order": 0}
    text = "\n".join(f"{k} = {v}" for k, v in {**header, "reflectance scale factor": 5000}.items())
    (tmp_path / "a.hdr").write_text(f"ENVI\n{text}\n")
    (tmp_path / "a.img").write_bytes(counts.transpose(1, 0, 2).astype("<i2").tobytes())
    physical = (counts / 5000).astype(np.float32)
    tif = write(tmp_path / "a.tif", physical)
    scipy.io.savemat(tmp_path / "a.mat", {"data": physical.transpose(1, 2, 0)})
    found = []
    for source in (str(tmp_path / "a.hdr"), tif, str(tmp_path / "a.mat")):
        done = denoise_file(source, tmp_path / "out" / f"{len(found)}.tif", make(model), Options())
        found.append(read(done.files["denoised"])[0])
    assert found[0].dtype == np.float32 and np.abs(found[0] - physical).max() > SIGMA
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4 * SIGMA)


def annotated(path, noisy, dtype):
    """The cube with everything that a file may say, as ``path`` stores it."""
    scaled = dtype == np.int16
    data = np.rint(noisy * 1000).astype(np.int16) if scaled else noisy.astype(dtype)
    data[:, 3, 4] = -999
    extra = {"scales": (0.001,) * 16, "offsets": (0.5,) * 16} if scaled else {}
    meta = Meta(
        **PIECES,
        **extra,
        nodata=(-999,) * 16,
        crs=rasterio.CRS.from_epsg(32632),
        transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6),
    )
    with RasterWriter(path, bands=16, rows=24, cols=20, dtype=data.dtype, meta=meta) as writer:
        writer.write(data)
    if scaled and path.suffix == ".img":  # GDAL writes neither
        lists = [f"data {k} values = {{{', '.join([v] * 16)}}}" for k, v in (("gain", "0.001"), ("offset", "0.5"))]
        header = path.with_suffix(".hdr")
        header.write_text(header.read_text() + "\n".join(lists) + "\n")
    return data


@pytest.mark.parametrize("suffix", [".tif", ".img"])
@pytest.mark.parametrize("dtype", ["same", "float32"])
def test_metadata_is_carried(suffix, dtype, noisy, make, tmp_path):
    data = annotated(tmp_path / f"a{suffix}", noisy, np.int16)
    done = denoise_file(str(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}", make(), Options(dtype=dtype))
    with open_cube(done.files["denoised"]) as reader:
        meta, stored, physical = reader.meta, reader.read(scaled=False), reader.read()
        for name, value in PIECES.items():
            assert getattr(meta, name) == value, name
        assert (meta.scales, meta.offsets) == (((0.001,) * 16, (0.5,) * 16) if dtype == "same" else ((), ()))
        assert reader.dtype == (np.int16 if dtype == "same" else np.float32)
    assert meta.crs.to_epsg() == 32632 and meta.transform == rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)
    assert not stored.valid[3, 4] and stored.valid.sum() == 479
    if dtype == "same":
        assert set(meta.nodata) == {-999}
        np.testing.assert_array_equal(stored.data[:, 3, 4], -999)
    else:
        assert np.isnan(meta.nodata).all() and np.isnan(stored.data[:, 3, 4]).all()
    before = data * np.float32(0.001) + np.float32(0.5)
    change = (physical.data - before)[:, stored.valid]
    assert np.abs(change[4]).max() < 1e-6 and 0.5 * SIGMA < np.delete(change, 4, 0).std() < 1.5 * SIGMA


def test_spectral_reads_what_is_written(noisy, make, tmp_path):
    annotated(tmp_path / "a.tif", noisy, np.float32)
    done = denoise_file(str(tmp_path / "a.tif"), tmp_path / "b.img", make(), Options())
    image = spectral.io.envi.open(done.files["denoised_header"], done.files["denoised"])
    np.testing.assert_allclose(image.bands.centers, PIECES["wavelengths"])
    np.testing.assert_allclose(image.bands.bandwidths, PIECES["fwhm"])
    assert [int(float(b)) for b in image.metadata["bbl"]] == [int(not b) for b in PIECES["bad_bands"]]
    assert image.metadata["band names"] == list(PIECES["band_names"])
    assert float(image.metadata["data ignore value"]) == -999 and "UTM" in image.metadata["map info"][0]
    np.testing.assert_array_equal(np.moveaxis(image.load(), 2, 0), read(done.files["denoised"])[0])


def test_nodata_nan_with_dtype_same(noisy, make, write, tmp_path):
    """A NaN equals no other, so that the bands' would look like several values."""
    data = noisy.copy()
    data[:, 0, 0] = np.nan
    source = write(tmp_path / "a.tif", data, nodata=np.nan)
    done = denoise_file(source, tmp_path / "b.tif", make(), Options(dtype="same"))
    assert np.isnan(read(done.files["denoised"])[0][:, 0, 0]).all()


def test_a_mask_that_is_not_carried_is_told(noisy, make, write, tmp_path):
    counts = np.rint(np.clip(noisy, 0, 1) * 200).astype(np.uint8)
    source = write(tmp_path / "a.tif", counts)
    mask = np.full(counts.shape[1:], 255, np.uint8)
    mask[2, 3:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as ds:
        ds.write_mask(mask)
    same = denoise_file(source, tmp_path / "same.tif", make(), Options(dtype="same"))
    assert any(
        note.startswith("4 pixels are invalid, or lack some bands, because of a mask in the file")
        for note in same.summary["notes"]
    )
    floats = denoise_file(source, tmp_path / "floats.tif", make(), Options())
    assert np.isnan(read(floats.files["denoised"])[0][:, 2, 3:7]).all()
    assert not any("mask" in note for note in floats.summary["notes"])


@pytest.mark.parametrize("dtype", ["float32", "same"])
@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_a_mask_beside_a_nodata_value_is_carried_as_nodata(noisy, make, write, tmp_path, kind, dtype):
    counts = np.rint(np.clip(noisy, 0, 1) * 200).astype(kind)
    source = write(tmp_path / "a.tif", counts, nodata=-9999)
    mask = np.full(counts.shape[1:], 255, np.uint8)
    mask[2, 3:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as ds:
        ds.write_mask(mask)
    done = denoise_file(source, tmp_path / "b.tif", make(), Options(dtype=dtype))
    with open_cube(done.files["denoised"]) as reader:
        assert set(reader.meta.nodata) == {-9999}
        np.testing.assert_array_equal(reader.read().valid, mask > 0)
    assert not any("mask" in note for note in done.summary["notes"])


def test_an_envi_header_that_cannot_place_the_pixels_is_refused_before_the_noise_is_estimated(
    noisy, make, write, tmp_path, monkeypatch
):
    mirrored = rasterio.Affine(-30, 0, 5e5, 0, -30, 4e6)
    source = write(tmp_path / "a.tif", noisy, transform=mirrored)
    monkeypatch.setattr(denoiser_module.Denoiser, "denoised", lambda *_: pytest.fail("too late"))
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"out/b\.img: an ENVI header cannot say"):
        denoise_file(source, out / "b.img", make(), Options())
    assert not out.exists()


@pytest.mark.filterwarnings("error")
def test_nodata_that_float32_has_not(noisy, make, write, tmp_path):
    data = noisy.astype(np.float64)
    data[:, 0, 0] = -1.797e308
    done = denoise_file(write(tmp_path / "a.tif", data, nodata=-1.797e308), tmp_path / "b.tif", make(), Options())
    assert np.isnan(read(done.files["denoised"])[0][:, 0, 0]).all()


def test_nodata_that_cannot_occur(noisy, make):
    counts = np.rint(np.clip(noisy, 0, 1) * 200).astype(np.uint8)
    assert denoised(counts, make(), nodata=-9999, dtype="same").data.dtype == np.uint8


# ---------------------------------------------------------------- what is passed through


@pytest.mark.parametrize("model", MODELS)
def test_pixels_without_data(model, noisy, make):
    data = noisy.copy()
    data[2:, 10, 12] = np.nan
    data[:, 4, 5] = -9999
    found = denoised(data, make(model), nodata=-9999)
    assert not found.valid[10, 12] and not found.valid[4, 5] and found.valid.sum() == 478
    np.testing.assert_array_equal(found.data[:, 10, 12], data[:, 10, 12])
    np.testing.assert_array_equal(found.data[:, 4, 5], -9999)
    assert found.summary["invalid_pixels_passed_through"] == 2
    # Neighbours are as good as ever.
    plain = denoised(noisy, make(model)).data
    change = np.abs(found.data - plain)[:, found.valid]
    assert change.max() < 2 * SIGMA and change.mean() < 0.12 * SIGMA


def test_a_hole_reaches_no_farther_than_the_margin(large, make):
    """Beyond the statistics, which are the whole image's: with the noise and the subspace kept, nothing changes."""
    denoiser, holed = make(), large.copy()
    holed[:, 70:75, 60:66] = np.nan
    with image_module.SpectralImage(ArrayReader(large), near=True) as image:
        subspace = denoiser.subspace(image)
    denoiser.subspace = lambda image: subspace
    a, b = denoised(large, denoiser), denoised(holed, denoiser)
    far = np.ones(b.valid.shape, bool)
    margin = denoiser.method.radius
    far[70 - margin : 75 + margin, 60 - margin : 66 + margin] = False
    change = np.abs(a.data - b.data)
    assert change[:, far].max() < 1e-4 * SIGMA < change[:, ~far & b.valid].max()


@pytest.mark.parametrize("model", MODELS)
def test_bands_that_take_no_part(model, noisy, make, tmp_path):
    data = noisy.copy()
    data[1], data[2, 1:] = np.nan, 4.25
    data[2, 0] = 4.25
    data[7] *= 100
    bad = tuple(i == 7 for i in range(16))
    with RasterWriter(tmp_path / "a.tif", bands=16, rows=24, cols=20, dtype="f4", meta=Meta(bad_bands=bad)) as writer:
        writer.write(data)
    done = denoise_file(str(tmp_path / "a.tif"), tmp_path / "b.tif", make(model), Options(residual=True))
    found = read(done.files["denoised"])[0]
    np.testing.assert_array_equal(found[[1, 2, 7]], data[[1, 2, 7]])
    reasons = {"2": "no valid sample", "3": "constant", "8": "bad in the file's band list"}
    assert done.summary["bands_passed_through"] == reasons
    assert done.summary["bands_denoised"] == [b + 1 for b in range(16) if b not in (1, 2, 7)]
    assert [row["band"] for row in done.summary["per_band"]] == done.summary["bands_denoised"]
    assert np.isnan(read(done.files["residual"])[0][[1, 2, 7]]).all()
    assert np.abs(found[0] - data[0]).max() > SIGMA


def test_a_file_s_own_mask(noisy, make):
    mask = np.zeros(noisy.shape, bool)
    mask[:, 5, 6] = True
    found = denoised(np.ma.array(noisy, mask=mask), make())
    assert np.isnan(found.data[:, 5, 6]).all() and not found.valid[5, 6] and np.isfinite(found.data[:, 5, 7]).all()


# ---------------------------------------------------------------- types and units


def test_integers_with_negative_values(noisy, make):
    counts = np.rint((noisy - 0.4) * 300).astype(np.int16)
    counts[:, 0, 0] = -300
    same, floats = (denoised(counts, make(), nodata=-300, dtype=d) for d in ("same", "float32"))
    assert same.data.dtype == np.int16 and floats.data.dtype == np.float32
    assert counts.min() < 0 and same.data[:, same.valid].min() < 0
    np.testing.assert_array_equal(same.data[:, same.valid], np.rint(floats.data[:, same.valid]))
    assert (same.data[:, 0, 0] == -300).all() and (floats.data[:, 0, 0] == -300).all()
    assert same.summary["samples_clipped"] == 0 and floats.summary["samples_clipped"] is None
    # never rescaled
    np.testing.assert_allclose(floats.data[:, floats.valid].mean(1), counts[:, floats.valid].mean(1), atol=2)


def test_clipping_is_counted(make):
    rng = np.random.default_rng(0)
    counts = np.clip(rng.normal(251, 6, (12, 30, 30)), 0, 255).round().astype(np.uint8)
    counts[:, :, 10:] = np.clip(rng.normal(3, 6, (12, 30, 20)), 0, 255).round()
    floats = denoised(counts, make(sigma=2)).data
    same = denoised(counts, make(sigma=2), dtype="same")
    beyond = (np.rint(floats) < 0) | (np.rint(floats) > 255)
    assert same.summary["samples_clipped"] == beyond.sum() > 0
    np.testing.assert_array_equal(same.data, np.clip(np.rint(floats), 0, 255))


def test_a_denoised_sample_never_becomes_nodata(noisy, make):
    counts = np.rint(noisy * 20).astype(np.uint8 if noisy.min() >= 0 else np.int16)
    plain = denoised(counts, make(), dtype="same").data
    value = int(np.median(plain))
    counts = np.where(counts == value, value + 1, counts)
    counts[:, 0, 0] = value
    found = denoised(counts, make(), nodata=value, dtype="same")
    assert (found.data[:, 0, 0] == value).all() and found.valid.sum() == 479
    assert not (found.data[:, found.valid] == value).any() and found.summary["samples_clipped"] > 0


def test_floats_that_would_be_nodata():
    passage = object.__new__(module._Passage)
    passage.nodata = 0.0
    found = passage._apart(np.array([0, 1, -1], np.float32))
    assert found[0] != 0 and abs(found[0]) < 1e-37 and found[1:].tolist() == [1, -1]


def test_64_bit_integers_are_clipped_inside_their_limits():
    passage = object.__new__(module._Passage)
    passage.nodata, passage.clipped, passage.dtype = None, 0, np.dtype(np.int64)
    found = passage._quantised(np.array([1e19, -1e19, 5.4]))
    assert found[0] > 9e18 and found[1] < -9e18 and found[2] == 5 and passage.clipped == 2


def test_several_nodata_values(noisy, make):
    reader = ArrayReader(noisy)
    reader.meta = Meta(driver="array", nodata=(-1,) * 8 + (-2,) * 8)
    with pytest.raises(UsageError, match=r"has several nodata values, but --dtype same needs a single one"):
        denoise_array(reader, make(), Options(dtype="same"))
    with pytest.raises(UsageError, match="must be auto, float32 or same"):
        Options(dtype="float64")


# ---------------------------------------------------------------- odd sizes


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bands", [1, 2, 5, 8])
def test_few_bands(model, bands, clean, noisy, make):
    found = denoised(noisy[:bands], make(model))
    assert found.summary["noise"] == (
        "estimated from the finest wavelets of each band: the other bands or pixels are too few"
    )
    error = ((found.data - clean[:bands]) ** 2).mean() / ((noisy - clean)[:bands] ** 2).mean()
    assert error < 0.8


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (2, 2), (3, 50)])
def test_thin_images(model, shape, noisy, make):
    rows, cols = shape
    data = noisy[:, :rows, :cols] if max(shape) < 20 else np.tile(noisy, (1, 3, 3))[:, :rows, :cols]
    found = denoised(data, make(model))
    assert found.data.shape == (16, *shape) and np.isfinite(found.data).all()


@pytest.mark.parametrize("bands", [1, 4])
def test_thin_images_of_few_bands_need_a_sigma(bands, noisy, make):
    data = noisy[:bands, :, :1]
    with pytest.raises(InputError, match="too small to estimate its noise"):
        denoised(data, make())
    assert np.abs(denoised(data, make(sigma=SIGMA)).data - data).max() > 0.1 * SIGMA


@pytest.mark.parametrize("model", MODELS)
def test_nodata_does_not_hide_the_noise_of_few_bands(model, make):
    rng = np.random.default_rng(0)
    row, col = np.mgrid[:40, :40] / 40
    clean = np.stack([np.sin(2 * row + k * col) for k in range(1, 6)]).astype(np.float32)
    noisy = clean + rng.normal(0, 0.1, clean.shape).astype(np.float32)
    noisy[:, :, :24] = np.nan
    done = denoised(noisy, make(model))
    inside = np.s_[:, :, 24:]
    before, after = (np.sqrt(np.mean((x[inside] - clean[inside]) ** 2)) for x in (noisy, done.data))
    assert after < 0.7 * before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wild", [1e4, -1e9])
def test_one_wild_sample_changes_nothing_elsewhere(model, wild, noisy, make):
    spiked = noisy.copy()
    spiked[5, 12, 9] = wild
    holed = noisy.copy()
    holed[:, 12, 9] = np.nan
    plain, done = denoised(holed, make(model)), denoised(spiked, make(model))
    assert done.data[5, 12, 9] == np.float32(wild) and not done.valid[12, 9] and done.valid.sum() == 24 * 20 - 1
    assert "samples of 1 band(s) (6) lie more than 1000 robust deviations" in str(done.summary["notes"])
    np.testing.assert_array_equal(done.data[:, 12, 9], spiked[:, 12, 9])
    np.testing.assert_allclose(done.data[:, plain.valid], plain.data[:, plain.valid], atol=1e-6)


@pytest.mark.parametrize("model", ["star-net-s", "lrtdtv"])
@pytest.mark.parametrize("wild", [1e4, -1e9])
def test_one_wild_sample_is_an_outlier_like_others(model, wild, noisy, make, write, tmp_path):
    spiked = noisy.astype(np.float64)
    spiked[5, 12, 9] = wild
    plain, done = denoised(noisy, make(model)), denoised(spiked, make(model))
    assert done.valid.all() and np.abs(done.data - plain.data).max() < SIGMA
    assert "denoised as outliers" in str(done.summary["notes"]) and "removed" not in str(done.summary["notes"])
    options = Options(residual=True)
    files = denoise_file(write(tmp_path / "a.tif", spiked), tmp_path / "b.tif", make(model), options).files
    parts = [read(files[kind])[0][5, 12, 9] for kind in ("denoised", "residual")]
    assert sum(parts) == pytest.approx(wild)


@pytest.mark.parametrize("model", ["star-net-s", "lrtdtv"])
def test_a_pixel_that_is_wild_in_most_bands_stays_as_it_is(model, noisy, make):
    spiked, holed = noisy.copy(), noisy.copy()
    spiked[:, 12, 9], holed[:, 12, 9] = -9999, np.nan
    plain, done = denoised(holed, make(model)), denoised(spiked, make(model))
    assert (done.data[:, 12, 9] == -9999).all() and done.valid.sum() == 24 * 20 - 1
    np.testing.assert_allclose(done.data[:, plain.valid], plain.data[:, plain.valid], atol=1e-6)


@pytest.mark.parametrize("model", ["star-net-s", "lrtdtv"])
@pytest.mark.parametrize(("wild", "repaired"), [(1, True), (2, True), (4, False)])
def test_wild_samples_tell_nothing_of_those_that_their_pixel_lacks(model, wild, repaired, noisy, make):
    """It is repaired where the bands that are neither are half of all at least."""
    spiked = noisy.copy()
    spiked[:6, 12, 9], spiked[6 : 6 + wild, 12, 9] = np.nan, 1e4
    plain, done = denoised(noisy, make(model)), denoised(spiked, make(model))
    assert done.valid[12, 9] == repaired and done.valid.sum() == 24 * 20 - (not repaired)
    assert f"samples of {wild} band(s) (7" in str(done.summary["notes"])
    assert repaired or (done.data[6 : 6 + wild, 12, 9] == 1e4).all()
    off = np.delete((done.data - plain.data).reshape(16, -1), 12 * 20 + 9, axis=1)
    assert np.abs(off).max() < SIGMA and np.sqrt(np.mean(off**2)) < SIGMA / 20


def test_a_bad_column_of_a_wide_image_is_still_repaired(make):
    """Its samples are few and far enough for spikes."""
    rng = np.random.default_rng(1)
    gain = np.linspace(1, 1.2, 10)[:, None, None]
    level = 20000 + 50 * np.sin(np.arange(1100) / 40) * np.ones((16, 1))
    cube = (level * gain + rng.normal(0, 8, (10, 16, 1100))).astype(np.uint32)
    cube[7, :, 600] = 10**7
    done = denoised(cube, make("star-net-s"))
    assert "(8) lie more" in str(done.summary["notes"])
    assert done.valid.all() and np.abs(done.data[7, :, 600] - level[:, 600] * gain[7, 0, 0]).max() < 60


def test_the_finest_wavelets_are_those_of_valid_pixels(noisy, make, tmp_path, write):
    holed = noisy.copy()
    holed[:, :, :12] = np.nan
    found = []
    for name, data in (("whole", noisy[:, :, 12:]), ("holed", holed)):
        path = write(tmp_path / f"{name}.tif", data)
        done = denoise_file(path, tmp_path / f"{name}_clean.tif", make(), Options(report=True))
        found.append([band["finest_wavelets_before"] for band in done.summary["per_band"]])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_single_pixel(noisy, make):
    with pytest.raises(InputError, match="a single valid pixel"):
        denoised(noisy[:, :1, :1], make())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("units", "kind"), [(1e-12, "f4"), (1e-34, "f4"), (1e-34, "f8")])
def test_small_units_change_nothing(model, units, kind, noisy, make):
    found = denoised((noisy.astype(float) * units).astype(kind), make(model), report=True)
    usual = denoised(noisy, make(model))
    np.testing.assert_allclose(found.data / units, usual.data, atol=1e-3)
    rms = [[band["removed_rms"] for band in result.summary["per_band"]] for result in (found, usual)]
    np.testing.assert_allclose(np.divide(rms[0], units), rms[1], rtol=1e-3)


@pytest.mark.parametrize("model", [*MODELS, "star-net-s", "smds-net"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_units_that_float32_cannot_hold_are_refused(model, kind, noisy, make):
    faint = (noisy * 1e-40).astype(kind)
    with pytest.raises(InputError, match=r"noise of .*e-4\d, which is too small for float32: multiply its samples"):
        denoised(faint, make(model))


@pytest.mark.parametrize("dtype", ["auto", "same"])
def test_float64_holds_smaller_units_where_it_is_kept(dtype, noisy, make):
    found = denoised(noisy * np.float64(1e-60), make(), dtype=dtype)
    np.testing.assert_allclose(found.data * 1e60, denoised(noisy, make()).data, atol=1e-5)
    with pytest.raises(InputError, match="too small for float32"):
        denoised(noisy * np.float64(1e-60), make(), dtype="float32")


@pytest.mark.parametrize("model", MODELS)
def test_large_values_are_written_in_a_type_that_holds_the_result(model, noisy, make, write, tmp_path):
    usual, large = denoised(noisy, make(model)), noisy.astype(np.float64) + 1e7
    path = write(tmp_path / "a.tif", large)
    done = denoise_file(path, tmp_path / "b.tif", make(model), Options())
    data, meta = read(done.files["denoised"])
    assert data.dtype == np.float64 and meta.dtype == done.summary["dtype"] == "float64"
    np.testing.assert_allclose(data - 1e7, usual.data, atol=1e-3)
    assert "rounding" not in str(done.summary["notes"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("offset", "dtype"), [(0, "float32"), (1e10, "float64")])
def test_a_type_is_too_coarse_if_it_is_for_the_values_of_a_band(model, offset, dtype, noisy, make):
    """float32 holds small values beside large ones of another band, and no small differences of large values."""
    units = np.geomspace(1e-40, 1e3, 16)[:, None, None]
    data = noisy * units
    data[15] += offset
    exact, found = (denoised(data, make(model), dtype=dtype) for dtype in ("same", "auto"))
    assert found.data.dtype == found.summary["dtype"] == dtype
    np.testing.assert_allclose(found.data / units, exact.data / units, atol=1e-4 * SIGMA)
    assert ("so the result is float64" in str(found.summary["notes"])) == (dtype == "float64")
    assert "rounding" not in str(found.summary["notes"])


@pytest.mark.parametrize(("dtype", "kind", "instead"), [("float32", "f8", "float64"), ("same", "u1", "float32")])
def test_rounding_is_told_and_not_blamed_on_the_model(dtype, kind, instead, noisy, make):
    data = (noisy.astype(np.float64) + 1e7) if kind == "f8" else np.rint(3 * noisy + 9)
    sigma = None if kind == "f8" else 0.2
    found = denoised(data.astype(kind), make(sigma=sigma), dtype=dtype)
    assert found.data.dtype == (np.float32 if kind == "f8" else kind)
    notes = [str(note) for note in found.summary["notes"] if "axes" not in note]
    assert any(note.endswith(f"without --dtype {dtype} the result is {instead}") for note in notes)
    assert not any("times the noise" in note for note in notes)


def test_what_is_no_number_is_never_written(noisy, make, write, tmp_path, monkeypatch):
    denoiser = make()
    monkeypatch.setattr(denoiser.method, "denoise", lambda y, subspace: np.where(y == y.max(), np.nan, y))
    path = write(tmp_path / "a.tif", noisy)
    with pytest.raises(InputError, match=r"fasthyde makes no numbers of .*a\.tif, whose samples are -?0\.\d+ to 1"):
        denoise_file(path, tmp_path / "out.tif", denoiser, Options())
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("sigma", [None, SIGMA])
@pytest.mark.parametrize("model", [*MODELS, "star-net-s"])
def test_bands_that_repeat_others(model, sigma, large, make):
    """Interpolated and rounded, as processors of sensors do; each made its neighbours look free of noise."""
    counts = np.rint(large[:, :64, :60] * 5000)
    some = [4, 8, 9]
    counts[4] = np.rint((counts[3] + counts[5]) / 2)
    counts[8], counts[9] = (np.rint((1 - t) * counts[7] + t * counts[10]) for t in (1 / 3, 2 / 3))
    given = None if sigma is None else 5000 * sigma
    found = denoised(counts.astype(np.int16), make(model, sigma=given), report=True)
    alone = denoised(np.delete(counts, some, axis=0).astype(np.int16), make(model, sigma=given))
    assert found.summary["bands_that_repeat_others"] == [b + 1 for b in some]
    assert alone.summary["bands_that_repeat_others"] == []
    np.testing.assert_allclose(np.delete(found.data, some, axis=0), alone.data, atol=0.1)
    np.testing.assert_allclose(found.data[4], (found.data[3] + found.data[5]) / 2, atol=0.5)
    assert len(found.summary["per_band"]) == len(counts)


@pytest.mark.parametrize("model", MODELS)
def test_sigma_overrides(model, noisy, make):
    little, much = (denoised(noisy, make(model, sigma=s)) for s in (SIGMA / 50, SIGMA * 1.5))
    assert little.summary["noise"] == "given"
    assert [row["noise_sigma"] for row in little.summary["per_band"]] == pytest.approx([SIGMA / 50] * 16)
    assert np.abs(little.data - noisy).std() < 0.1 * np.abs(much.data - noisy).std()
    with pytest.raises(UsageError, match="--sigma must be above 0, not -1"):
        make(model, sigma=-1)


def test_a_sigma_in_counts_of_a_scaled_file_is_refused(noisy, make, write, tmp_path):
    counts = np.rint(noisy * 5000).astype(np.int16)
    source = write(tmp_path / "a.tif", counts, scales=[2e-4] * 16, offsets=[0.0] * 16)
    message = r"--sigma 400 is more .* of .*a\.tif: give it in physical units, .* and below 0\.[12]\d*\.$"
    with pytest.raises(UsageError, match=message):
        denoise_file(source, tmp_path / "b.tif", make(sigma=400), Options())


@pytest.mark.parametrize("model", ["fasthyde", "lrtdtv"])
@pytest.mark.parametrize(("times", "words"), [(1 / 12, "is 1/1"), (1 / 3, None), (1, None)])
def test_a_sigma_far_from_the_estimate_is_noted(model, times, words, noisy, make):
    notes = denoised(noisy, make(model, sigma=SIGMA * times)).summary["notes"]
    told = [note for note in notes if note.startswith("--sigma")]
    assert len(told) == (words is not None) and all(words in note for note in told)
    assert not words or not any("times the noise of the band" in note for note in notes)


@pytest.mark.parametrize("given", [list, np.float32, tuple])
def test_a_sigma_for_each_band(given, noisy, make):
    each = np.linspace(0.5, 1.5, 16) * SIGMA
    found = denoised(noisy, make(sigma=given(each)))
    assert [row["noise_sigma"] for row in found.summary["per_band"]] == pytest.approx(each.tolist())
    assert found.summary["noise"] == "given for each band"
    assert found.summary["asked"]["sigma"] == pytest.approx(each.tolist())
    with pytest.raises(UsageError, match="--sigma has 15 numbers, but array has 16 bands; give one for each"):
        denoised(noisy, make(sigma=given(each[1:])))
    with pytest.raises(UsageError, match="--sigma must be above 0, not 0"):
        make(sigma=given(each * 0))
    with pytest.raises(UsageError, match=r"--sigma is more than the whole standard deviation .* scale.$"):
        denoised(noisy, make(sigma=given(each * 5000)))


@pytest.mark.parametrize("unknown", [np.nan, None, 0])
def test_only_bands_that_take_part_need_a_number(unknown, noisy, make):
    each = [SIGMA] * 16
    each[4] = unknown
    dropped = Options(drop_bands=("5",))
    found = denoise_array(ArrayReader(noisy), make(sigma=each), dropped).summary["asked"]["sigma"]
    assert found == [*each[:4], None, *each[5:]]
    assert denoise_array(ArrayReader(noisy), make(sigma=found), dropped).summary["asked"]["sigma"] == found
    with pytest.raises(UsageError, match="--sigma tells no noise of band 5 of array; give a number above 0 for each"):
        denoised(noisy, make(sigma=each))
    for numbers in ([-1, *each[1:]], [unknown] * 16):
        with pytest.raises(UsageError, match=r"--sigma must be above 0, not (-1|0|nan)"):
            make(sigma=numbers)


def test_numbers_of_single_bands_far_from_the_estimate_are_noted(noisy, make):
    each = np.full(16, SIGMA)
    each[[2, 9]] = SIGMA / 30, SIGMA / 8
    notes = denoised(noisy, make(sigma=each)).summary["notes"]
    assert any("by more than a factor of 5 from the noise that 2 band(s) (3, 10) seem to have" in n for n in notes)
    notes = denoised(noisy, make(sigma=each / 50)).summary["notes"]
    assert any(note.startswith("--sigma is 1/5") for note in notes)


def test_the_noise_of_an_earlier_result_is_used_again(noisy, make, tmp_path):
    """The second image lists its bands backwards, and other bands are bad there."""

    def written(name, data, **changes):
        meta = Meta(**{**PIECES, **changes})
        with RasterWriter(tmp_path / name, bands=len(data), rows=24, cols=20, dtype=np.float32, meta=meta) as raster:
            raster.write(data)
        return tmp_path / name

    waves = PIECES["wavelengths"]
    first = denoise_file(written("a.tif", noisy), tmp_path / "out" / "a.tif", make(), Options())
    summary = first.files["summary"]
    back = {"wavelengths": tuple(w + 3 for w in waves[::-1]), "bad_bands": tuple(i in (2, 11) for i in range(16))}
    again = denoise_file(
        written("b.tif", noisy[::-1], **back), tmp_path / "out" / "b.tif", make(sigma=summary), Options()
    )
    known = {row["wavelength_nm"] + 3: row["noise_sigma"] for row in first.summary["per_band"]}
    assert {row["wavelength_nm"]: row["noise_sigma"] for row in again.summary["per_band"]} == pytest.approx(
        {w: known[w] for w in known if w not in (back["wavelengths"][2], back["wavelengths"][11])}
    )
    assert again.summary["noise"] == f"given by {summary}" and again.summary["asked"]["sigma"][4] is None
    for name, changes, words in (
        (
            "c.tif",
            {"bad_bands": ()},
            rf"--sigma {summary} tells no noise of band 5 \(587.033 nm\) of .*c.tif; use .* --drop-bands 5\.$",
        ),
        (
            "d.tif",
            {"wavelengths": tuple(w + 900 for w in waves)},
            r"no noise of bands 1 \(1300.5 nm\), .* and 10 more of .*; use one with the same bands\.$",
        ),
    ):
        with pytest.raises(InputError, match=words):
            denoise_file(written(name, noisy, **changes), tmp_path / "x.tif", make(sigma=summary), Options())
    with pytest.raises(InputError, match=r"e.tif has 15 bands, but .*_summary.json 16: without wavelengths in both"):
        plain = written("e.tif", noisy[1:], **dict.fromkeys(PIECES, ()))
        denoise_file(plain, tmp_path / "x.tif", make(sigma=summary), Options())


@pytest.mark.parametrize("told", [True, False])
def test_no_band_is_given_the_noise_of_its_neighbour(told, noisy, make, tmp_path):
    """One was left out of the earlier image, whose summary may tell the wavelengths of the denoised bands alone."""
    waves = (*PIECES["wavelengths"][:4], PIECES["wavelengths"][5] - 3, *PIECES["wavelengths"][5:])

    def written(name, left_out):
        meta = Meta(wavelengths=waves, bad_bands=tuple(i == left_out for i in range(16)))
        with RasterWriter(tmp_path / name, bands=16, rows=24, cols=20, dtype=np.float32, meta=meta) as raster:
            raster.write(noisy)
        return str(tmp_path / name)

    first = written("first.tif", 4)
    summary = denoise_file(first, tmp_path / "out.tif", make(), Options()).files["summary"]
    if not told:
        summary.write_text(summary.read_text().replace('"wavelengths_nm"', '"unknown"'), encoding="utf-8")
    model = make(sigma=summary)
    assert len(denoise_array(first, model, Options()).summary["bands_denoised"]) == 15
    for name, left_out in (("second.tif", None), ("third.tif", 5)):
        with pytest.raises(InputError, match=rf"tells no noise of band 5 \({waves[4]:g} nm\) of .*{name}; use one"):
            denoise_array(written(name, left_out), model, Options())


NO_SUMMARY = "is no summary of denoise-hsi that tells the noise of bands"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ('{"task": "detect-anomaly", "per_band": []}', NO_SUMMARY),
        ('{"task": "denoise-hsi"}', NO_SUMMARY),
        ('{"task": "denoise-hsi", "bands": 1, "per_band": [3]}', NO_SUMMARY),
        ('{"task": "denoise-hsi", "bands": 1, "per_band": [{"noise_sigma": 1}]}', NO_SUMMARY),
        ('{"task": "denoise-hsi", "bands": 1, "per_band": [{"band": 1, "noise_sigma": -1}]}', NO_SUMMARY),
        ('{"task": "denoise-hsi", "bands": 1e999, "per_band": [{"band": 1, "noise_sigma": 1}]}', NO_SUMMARY),
        ("[" * 10_000, NO_SUMMARY),
        ('{"task": "denoise-hsi", "bands": null, "per_band": [{"band": 1, "noise_sigma": 1}]}', NO_SUMMARY),
    ],
)
def test_a_file_that_tells_no_noise(text, words, make, tmp_path):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"--sigma takes a number, or the ..._summary.json .*a.json {words}"):
        make(sigma=path)


@pytest.mark.parametrize(("bands", "sigma", "told"), [(8, None, True), (8, SIGMA, False), (16, None, False)])
def test_noise_that_is_guessed_from_texture_is_told(bands, sigma, told, noisy, make):
    notes = denoised(noisy[:bands], make(sigma=sigma)).summary["notes"]
    assert any("give --sigma if you know the noise" in note for note in notes) == told


def test_bands_to_drop_are_passed_through(noisy, make, write, tmp_path):
    data = noisy.copy()
    data[4] = np.random.default_rng(0).normal(0, 1, data[4].shape)
    options = Options(drop_bands=("5",))
    done = denoise_file(write(tmp_path / "a.tif", data), tmp_path / "b.tif", make(), options)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0][4], data[4])
    assert done.summary["bands_passed_through"] == {"5": "among the bands to drop"}
    np.testing.assert_array_equal(rsunfold.denoise_hsi(data, model="fasthyde", drop_bands=[5]).data[4], data[4])


def test_swapped_axes_are_noted(clean, noisy, make, tmp_path):
    scipy.io.savemat(
        tmp_path / "a.mat", {"data": 0.2 * noisy + 0.8 * clean}
    )  # bands, rows, cols, where rows, cols, bands are expected
    done = denoise_file(str(tmp_path / "a.mat"), tmp_path / "b.tif", make(), Options())
    assert any("look like the spectral axis" in note for note in done.summary["notes"])


# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize(("model", "side"), [("fasthyde", 256), ("fasthyde", 32), ("star-net", 256), ("star-net", 32)])
def test_tiles_give_the_whole_image(model, side, large, make, monkeypatch):
    for each in (image_module, denoiser_module):
        monkeypatch.setattr(each, "MOSAIC_SIDE", side)
    monkeypatch.setattr(image_module, "MOSAIC_TILE", 16)
    data = large[:, :64, :24].copy()  # more pixels than 32 x 32
    data[:, 20:26, 13:20] = np.nan
    whole = denoised(data, make(model))
    assert whole.summary["computed"] == "in one piece"
    # Tiles begin, and windows with them, at no multiple of the network's stride, which is 3.
    monkeypatch.setattr(denoiser_module, "plan", lambda *args, **kwargs: Plan(False, 25))
    tiles = denoised(data, make(model))
    assert tiles.summary["computed"] == "in tiles of 25 pixels"
    np.testing.assert_allclose(tiles.data, whole.data, atol=1e-4 * SIGMA)
    np.testing.assert_array_equal(tiles.valid, whole.valid)


def test_halves_of_a_window_give_the_whole(large, make, monkeypatch):
    """Where a GPU has too little memory for it."""
    for each in (image_module, denoiser_module):
        monkeypatch.setattr(each, "MOSAIC_SIDE", 32)
    data, denoiser = large[:, :, :10], make("star-net")
    whole = denoised(data, denoiser)
    forward, sides = denoiser.net.forward, []

    def little(y, *rest):
        sides.append(y.shape[1])
        if y.shape[1] == 150:
            raise torch.OutOfMemoryError
        return forward(y, *rest)

    monkeypatch.setattr(denoiser.net, "forward", little)
    halves = denoised(data, denoiser)
    assert len(sides) == 4 and 150 in sides  # the mosaic, the whole and its halves
    np.testing.assert_allclose(halves.data, whole.data, atol=1e-4 * SIGMA)


def test_a_small_budget_makes_tiles(large, make):
    denoiser = make()
    whole = denoised(large, denoiser)
    denoiser.memory = denoiser.held + 8 * 2**20
    tiles = denoised(large, denoiser)
    assert tiles.summary["computed"].startswith("in tiles of ")
    np.testing.assert_allclose(tiles.data, whole.data, atol=1e-4 * SIGMA)


@pytest.mark.parametrize("model", MODELS)
def test_a_budget_that_cannot_be_met(model, noisy, make, write, tmp_path):
    source = write(tmp_path / "a.tif", noisy)
    with pytest.raises(DeviceError, match=r"MB on top of the program itself, but --memory leaves 0 MB; increase it"):
        denoise_file(source, tmp_path / "out" / "b.tif", make(model, memory="1MB"), Options())
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- outputs


def test_targets(tmp_path):
    assert target_of(tmp_path / "a.hdr", "x") == tmp_path / "a.img"
    assert target_of(tmp_path / "a.v2.hdr", "x") == tmp_path / "a.v2.img"
    assert target_of(tmp_path / "a.TIF", "x") == tmp_path / "a.TIF"
    assert target_of(tmp_path / "out.v2", "x") == tmp_path / "out.v2" / "x_denoised.tif"
    assert target_of(tmp_path / "out", "x", envi=True) == tmp_path / "out" / "x_denoised.img"
    for name in ("a.img.hdr", "a.BSQ.hdr", "a.tif.hdr"):
        with pytest.raises(UsageError, match=r"without the extension; use \S+a\.hdr"):
            target_of(tmp_path / name, "x")
    with pytest.raises(UsageError, match=r"a.mat has an unsupported extension; use one of .tif"):
        target_of(tmp_path / "a.mat", "x")
    with pytest.raises(UsageError, match="--envi cannot be combined with"):
        target_of(tmp_path / "a.tif", "x", envi=True)


def test_the_residual_is_what_was_removed(noisy, make, write, tmp_path):
    data = noisy.copy()
    data[:, 3, 3] = np.nan
    source = write(tmp_path / "a.tif", data)
    done = denoise_file(source, tmp_path / "b.tif", make(), Options(residual=True))
    after, residual = read(done.files["denoised"])[0], read(done.files["residual"])[0]
    np.testing.assert_allclose(residual, data - after, atol=1e-6)
    assert np.isnan(residual[:, 3, 3]).all() and np.isfinite(residual).sum() == 479 * 16
    rms = np.sqrt(np.nanmean(residual**2, axis=(1, 2)))
    np.testing.assert_allclose([row["removed_rms"] for row in done.summary["per_band"]], rms, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "same"])
@pytest.mark.parametrize("model", MODELS)
def test_samples_that_are_missing_stay_so_and_the_others_are_denoised(model, dtype, large, make, write, tmp_path):
    """No pixel has all bands."""
    counts = np.rint(large[:, :60, :64] * 5000).astype(np.int16)
    rng = np.random.default_rng(0)
    dead = np.zeros(counts.shape, bool)
    dead[rng.permutation(np.resize(np.arange(12), 64)), :, np.arange(64)] = True
    counts[dead] = -9999
    source = write(tmp_path / "a.tif", counts, nodata=-9999)
    done = denoise_file(source, tmp_path / "b.tif", make(model), Options(dtype=dtype, residual=True))
    after, residual = read(done.files["denoised"])[0], read(done.files["residual"])[0]
    assert (after[dead] == -9999).all() and np.isnan(residual[dead]).all()
    np.testing.assert_allclose(after[~dead] + residual[~dead], counts[~dead], atol=0.01)
    assert (residual[~dead].std() > 0.5 * 5000 * SIGMA) and np.abs(residual[~dead]).max() < 9999
    s = done.summary
    assert s["pixels_that_lack_some_bands"] == s["of_these_denoised"] == s["valid_pixels"] == 60 * 64
    rms = np.sqrt(np.nanmean(residual**2, axis=(1, 2)))
    np.testing.assert_allclose([row["removed_rms"] for row in s["per_band"]], rms, rtol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_gaps_are_mended_in_tiles_as_in_the_whole(model, large, make, monkeypatch):
    data = large.copy()
    data[np.arange(140) % 12, :, np.arange(140)] = np.nan
    data[3:, 70:90, 50:70] = np.nan
    whole = denoised(data, make(model)).data
    monkeypatch.setattr(denoiser_module, "plan", lambda *args, **kwargs: Plan(False, 64))
    np.testing.assert_allclose(denoised(data, make(model)).data, whole, atol=1e-5)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.25, -40.0)])
def test_output_and_residual_of_whole_numbers_are_the_input(scale, offset, noisy, make, write, tmp_path):
    """Rounding and clipping are part of what was removed."""
    counts = np.clip(np.rint(noisy * 300), 0, 255).astype(np.uint8)
    assert (counts == 255).any()
    source = write(tmp_path / "a.tif", counts, scales=[scale] * 16, offsets=[offset] * 16)
    done = denoise_file(source, tmp_path / "b.tif", make(), Options(residual=True, dtype="same"))
    after, residual = read(done.files["denoised"])[0], read(done.files["residual"])[0]
    np.testing.assert_array_equal(residual, (counts - after.astype(np.float32)) * np.float32(scale))
    rms = np.sqrt((residual**2).mean(axis=(1, 2)))
    np.testing.assert_allclose([row["removed_rms"] for row in done.summary["per_band"]], rms, rtol=1e-4)


def test_the_report(noisy, make, write, tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser_module, "plan", lambda *args, **kwargs: Plan(False, 7))  # several strips
    source = write(tmp_path / "a.tif", noisy)
    options = Options(report=True, pixels=((0, 0), (23, 19)))
    done = denoise_file(source, tmp_path / "b.tif", make(), options)
    for kind in ("report", "bands", "noise"):
        with rasterio.open(done.files[kind]) as ds:
            assert ds.read().std() > 10
    row = json.loads(done.files["summary"].read_text())["per_band"][0]
    assert row["finest_wavelets_after"] < row["finest_wavelets_before"] and abs(row["residual_autocorrelation"]) < 0.3
    assert row["noise_sigma"] == pytest.approx(SIGMA, rel=0.3)


def test_figures_of_strips_count_by_their_size(noisy, make, monkeypatch):
    monkeypatch.setattr(denoiser_module, "plan", lambda *args, **kwargs: Plan(False, 7))  # the last has 3 rows
    data = noisy.copy()
    data[:, :7, :15] = np.nan
    done = denoised(data, make(), report=True)
    strips = [np.s_[:, row : row + 7, 15 if row == 0 else 0 :] for row in (0, 7, 14, 21)]
    squares, pixels = (6 * 4, 6 * 19, 6 * 19, 2 * 19), (7 * 5, 7 * 20, 7 * 20, 3 * 20)
    expected = {
        "finest_wavelets_before": ([spatial_noise(data[s]) for s in strips], squares),
        "finest_wavelets_after": ([spatial_noise(done.data[s]) for s in strips], squares),
        "residual_autocorrelation": ([residual_structure((data - done.data)[s]).mean(axis=0) for s in strips], pixels),
    }
    for name, (values, sizes) in expected.items():
        found = [row[name] for row in done.summary["per_band"]]
        np.testing.assert_allclose(found, np.average(values, axis=0, weights=sizes), rtol=1e-4)


def test_a_report_shows_spectra_of_pixels_that_have_data(noisy, make, write, tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser_module, "plan", lambda *args, **kwargs: Plan(False, 7))  # several strips
    data, shown, draw = noisy.copy(), [], removed_module.denoising_picture

    def picture(path, *panels, **options):
        shown.append((options["pixels"], panels[2:]))
        draw(path, *panels, **options)

    monkeypatch.setattr(removed_module, "denoising_picture", picture)
    data[:, :, :10] = data[:, 8:16] = np.nan  # all places at which spectra are looked for first
    denoise_file(write(tmp_path / "a.tif", data), tmp_path / "b.tif", make(), Options(report=True))
    ((pixels, (before, after)),) = shown
    assert 2 <= len(pixels) == len(before) == len(set(pixels))
    for (row, col), old, new in zip(pixels, before, after, strict=True):
        np.testing.assert_allclose(old, data[:, row, col], rtol=1e-5)
        assert np.isfinite(new).all()


def test_a_report_of_an_image_with_hardly_a_valid_pixel(noisy, make):
    data = noisy.copy()
    data[:, 6:] = np.nan
    found = denoised(data, make(), report=True)
    assert found.summary["valid_pixels"] == 120


def test_a_pixel_outside_the_image(noisy, make):
    with pytest.raises(UsageError, match="pixel 24,0 is outside the image, which has 24 x 20 pixels"):
        denoised(noisy, make(), pixels=((24, 0),))


def test_a_header_that_belongs_to_another_file(noisy, make, write, tmp_path):
    source = write(tmp_path / "a.tif", noisy)
    write(tmp_path / "b.img", noisy, crs=None)
    (tmp_path / "b.img").rename(tmp_path / "b.dat")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for options in (Options(), Options(overwrite=True)):
        with pytest.raises(OutputError, match=r"already exists|would share b.hdr with b.dat"):
            denoise_file(source, tmp_path / "b.img", make(), options)
    (tmp_path / "c.img.hdr").write_bytes((tmp_path / "b.hdr").read_bytes())
    with pytest.raises(OutputError, match=r"would have a second header, c.img.hdr"):
        denoise_file(source, tmp_path / "c.img", make(), Options())
    (tmp_path / "c.img.hdr").unlink()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_no_cube_is_replaced_by_its_result(noisy, make, write, tmp_path):
    source = write(tmp_path / "a.tif", noisy)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="would overwrite the input "):
            denoise_file(source, tmp_path / "a.tif", make(), Options(overwrite=overwrite))
    np.testing.assert_array_equal(read(source)[0], noisy)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("place", ["_assembled", "of_all_bands"])
def test_an_interrupted_run_leaves_nothing(error, place, noisy, make, write, tmp_path, monkeypatch):
    source = write(tmp_path / "a.tif", noisy)

    def stop(*args):
        raise error

    monkeypatch.setattr(module._Passage, place, stop)
    with pytest.raises(error):
        denoise_file(source, tmp_path / "out" / "b.img", make(), Options(residual=True))
    assert not (tmp_path / "out").exists()


def test_exhausted_memory_is_one_sentence(noisy, make, monkeypatch):
    monkeypatch.setattr(module._Passage, "_assembled", lambda *args: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(DeviceError, match="out of memory; lower --memory"):
        denoised(noisy, make())


# ---------------------------------------------------------------- the Python API


def test_arrays(noisy, star, make):
    before = noisy.copy()
    found = rsunfold.denoise_hsi(noisy, weights=star, device="cpu")
    assert found.data.dtype == np.float32 and found.valid.all() and found.files == {}
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(found.data, denoised(noisy, make("star-net")).data)
    counts = np.rint(noisy * 500).astype(np.int16)
    masked = np.ma.masked_less(counts, -10000)
    masked[:, 2, 2] = np.ma.masked
    found = rsunfold.denoise_hsi(masked, model="fasthyde", dtype="same")
    assert found.data.dtype == np.int16 and not found.valid[2, 2]
    np.testing.assert_array_equal(found.data[:, 2, 2], counts[:, 2, 2])
    with pytest.raises(InputError, match="is not an image"):
        rsunfold.denoise_hsi(np.zeros((3, 4, 5), complex), model="fasthyde")


def test_wavelengths_of_an_array(noisy, write, tmp_path):
    nm = PIECES["wavelengths"]
    found = rsunfold.denoise_hsi(noisy, model="fasthyde", wavelengths=nm)
    assert found.summary["wavelengths_nm"] == list(nm) and found.summary["notes"] == []
    assert rsunfold.denoise_hsi(noisy, model="fasthyde").summary["notes"] == ["the input has no wavelengths"]
    with pytest.raises(InputError, match="needs 16 wavelengths above 0"):
        rsunfold.denoise_hsi(noisy, model="fasthyde", wavelengths=nm[:-1])
    with pytest.raises(UsageError, match="wavelengths apply to arrays only"):
        rsunfold.denoise_hsi(write(tmp_path / "a.tif", noisy), wavelengths=nm)


@pytest.mark.parametrize(
    "call",
    [
        partial(rsunfold.denoise_hsi, model="fasthyde"),
        partial(rsunfold.detect_anomaly, model="rx"),
        partial(rsunfold.select_features, k=3),
    ],
)
def test_python_warns_of_swapped_axes(call, clean):
    with pytest.warns(UserWarning, match=r"columns look like the spectral axis.*moveaxis\(array, -1, 0\)") as told:
        call(np.moveaxis(clean, 0, -1))
    assert [(each.category, each.filename) for each in told] == [(UserWarning, __file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(clean)


@pytest.mark.parametrize("nodata", [None, -9999])
def test_masked_samples_of_whole_numbers_are_as_those_of_fractions(nodata, noisy):
    counts, mask = np.rint(noisy * 500).astype(np.int16), np.zeros(noisy.shape, bool)
    mask[np.arange(16), :, np.arange(16)] = mask[:, 5, 6] = mask[:12, 9, 9] = True
    of_counts, of_floats, same = (
        rsunfold.denoise_hsi(np.ma.masked_array(kind, mask), model="fasthyde", nodata=nodata, **options)
        for kind, options in ((counts, {}), (counts.astype(np.float32), {}), (counts, {"dtype": "same"}))
    )
    lacking = mask.any(axis=0) & (mask.mean(axis=0) <= 0.5)
    assert of_counts.valid.sum() == mask[0].size - 2 and of_counts.summary["of_these_denoised"] == lacking.sum()
    np.testing.assert_array_equal(of_counts.valid, of_floats.valid)
    np.testing.assert_array_equal(of_counts.data[~mask], of_floats.data[~mask])
    if nodata is None:
        assert np.isnan(of_counts.data[mask]).all()
        np.testing.assert_array_equal(same.data[mask], counts[mask])
        (note,) = (note for note in same.summary["notes"] if "mask" in note)
        assert note.startswith(f"{mask.any(axis=0).sum()} pixels are invalid, or lack some bands, because of a mask")
    else:
        assert (of_counts.data[mask] == nodata).all() and (same.data[mask] == nodata).all()
    np.testing.assert_allclose(same.data[~mask], of_counts.data[~mask], atol=0.6)


def test_paths(noisy, write, make, tmp_path):
    source = write(tmp_path / "a.tif", noisy)
    found = rsunfold.denoise_hsi(source, model="fasthyde", memory="4GB")
    np.testing.assert_array_equal(found.data, denoised(noisy, make()).data)
    with pytest.raises(UsageError, match="nodata applies to arrays only"):
        rsunfold.denoise_hsi(source, model="fasthyde", nodata=0)


def test_published_weights_denoise_as_their_scripts_do(noisy, make, tmp_path):
    """What their authors trained is given the cube divided by its maximum, not whitened spectra."""
    spec = get_model("smds-net")
    net = spec.build(**spec.sizes["tiny"]).eval()
    path = tmp_path / "a.safetensors"
    weights.save(path, net, weights.WeightRecord(name="a", model="smds-net", arch=net.arch, bands=None, published=True))
    done = denoised(noisy, make("smds-net", weights=str(path), device="cpu"))
    A = published_subspace(noisy, np.ones(noisy.shape[1:], bool)).A.astype(np.float32)
    with torch.inference_mode():
        found = net(torch.from_numpy(noisy / noisy.max()), torch.from_numpy(A))[0].numpy()
    np.testing.assert_allclose(done.data, found * noisy.max(), atol=1e-3 * SIGMA)
    assert done.summary["noise"] == "as in the published scripts"


def test_weights_that_do_not_belong(tiny, star):
    with pytest.raises(
        WeightsError, match="belong to the model 'l-rpcanet', which is of detect-ir, not of denoise-hsi"
    ):
        rsunfold.denoise_hsi(np.zeros((3, 4, 5)), weights=tiny.path)
    with pytest.raises(UsageError, match="takes no weights"):
        rsunfold.denoise_hsi(np.zeros((3, 4, 5)), model="fasthyde", weights=star)


def test_signal_in_more_directions_than_the_network_keeps_is_told(make, monkeypatch):
    """As many patterns of equal strength as bands can tell apart: those that a network leaves out are lost."""
    monkeypatch.setattr("rsunfold.subspace.MOST", 12)
    draw = np.random.default_rng(0)
    rich = np.tensordot(draw.standard_normal((60, 30)), draw.standard_normal((30, 48, 48)), axes=1)
    data = (rich + 0.1 * draw.standard_normal(rich.shape)).astype(np.float32)

    def told(model):
        return [n for n in denoised(data, make(model)).summary["notes"] if "directions of signal" in n]

    assert told("fasthyde") == []  # keeps them all
    (note,) = told("star-net")
    assert "30 directions of signal, of which star-net keeps 12 and removes the others as noise" in note


@pytest.mark.parametrize(("model", "level", "told"), [("lrtdtv", 5e-4, True), ("lrtdtv", 0.08, False)])
def test_signal_that_was_removed_with_little_noise_is_told(model, level, told, clean, make):
    data = clean + np.random.default_rng(0).normal(0, level, clean.shape).astype(np.float32)
    notes = {m: denoised(data, make(m)).summary["notes"] for m in (model, "fasthyde")}
    assert any(f"what {model} removed is" in note and "stripes or impulses" in note for note in notes[model]) == told
    assert not any("removed is" in note for note in notes["fasthyde"])


def test_patterns_that_were_removed_of_single_bands_are_told(make):
    """Stripes are none: they are alike along one direction only."""
    draw = np.random.default_rng(0)
    data = np.tensordot(draw.random((40, 2)), gaussian_filter(draw.standard_normal((2, 48, 48)), (0, 2, 2)), axes=1)
    data = (data + draw.normal(0, 0.01, data.shape)).astype(np.float32)
    data[7] += 0.1 * (np.arange(48) % 9 == 4)

    def told(model):
        return [n for n in denoised(data, make(model)).summary["notes"] if "pattern" in n]

    assert told("lrtdtv") == []
    data[20, 8:32, 8:32] -= 0.06
    (note,) = told("lrtdtv")
    assert note.startswith("what lrtdtv removed of 1 band(s) (21) is a pattern rather than noise: wide stripes, if")
    assert told("fasthyde") == []


def test_noise_that_is_smooth_in_all_bands_is_no_pattern(make):
    draw = np.random.default_rng(0)
    data = np.tensordot(draw.random((40, 2)), gaussian_filter(draw.standard_normal((2, 24, 24)), (0, 2, 2)), axes=1)
    resampled = zoom(data + draw.normal(0, 0.01, data.shape), (1, 2, 2), order=3).astype(np.float32)
    found = denoised(resampled, make("fasthyde"))
    assert np.median(residual_structure(resampled - found.data)) > module.PATTERN
    assert not any("pattern" in note for note in found.summary["notes"])
