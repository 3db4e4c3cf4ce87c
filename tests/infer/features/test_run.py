"""select-features on files and arrays: what is chosen, what is written, what is left out, and within which memory."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import scipy.io

import rsunfold
from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.infer import spectral as image_module
from rsunfold.infer.features import source as source_module
from rsunfold.infer.features.earlier import EarlierChoice
from rsunfold.infer.features.run import Options, select_array, select_file
from rsunfold.infer.features.select import FeatureRanker, Wanted
from rsunfold.infer.features.source import ImageBands
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.run import Options as Denoising
from rsunfold.infer.hsi.run import denoise_file
from rsunfold.io import open_cube
from rsunfold.io.memory import ArrayReader
from rsunfold.registry import all_models
from rsunfold.scene import some_of

from .conftest import BAD, BANDS, CONSTANT, NODATA, WAVELENGTHS

FIVE = Wanted(count=5)


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("name", ["a.tif", "a.img"])
@pytest.mark.parametrize("envi", [False, True])
def test_an_image(name, envi, write, counts, ranker, tmp_path):
    path, out = write(name), tmp_path / "out"
    done = select_file(str(path), out, "a", ranker, FIVE, Options(envi=envi))
    extension = ["hdr", "img", "img.aux.xml"] if envi else ["tif"]
    assert names(out) == sorted(
        ["a_ranking.csv", "a_ranking.json", "a_selected.png", *(f"a_selected.{e}" for e in extension)]
    )
    assert done.indices == sorted(done.ranking[:5]) and len(set(done.indices)) == 5
    with open_cube(path) as before, open_cube(done.files["selected"]) as after:
        cube = after.read(scaled=False)
        np.testing.assert_array_equal(cube.data, counts[done.indices])
        meta, given = after.meta, before.meta
        assert cube.data.dtype == np.int16 and meta.nodata == (NODATA,) * 5
        assert meta.wavelengths == tuple(WAVELENGTHS[done.indices]) and meta.fwhm == (6.5,) * 5
        assert meta.band_names == tuple(given.band_names[i] for i in done.indices)
        assert (meta.crs, meta.transform, meta.scales) == (given.crs, given.transform, given.scales[:5])
        assert meta.tags["RSUNFOLD_MODEL"] == "css"
        assert not any(meta.bad_bands)
        assert after.read().valid.sum() == before.read(bands=[0]).valid.sum() == 40 * 33 - 20


def test_the_ranking_tells_of_every_band(write, counts, ranker, tmp_path):
    done = select_file(str(write("a.tif")), tmp_path, "a", ranker, FIVE, Options(drop=((600, 700),)))
    table = lines(tmp_path / "a_ranking.csv")
    assert sorted(int(row["index"]) for row in table) == list(range(BANDS))
    assert all(int(row["band"]) == int(row["index"]) + 1 for row in table)
    ranked = [row for row in table if row["rank"]]
    assert [int(row["rank"]) for row in ranked] == list(range(1, len(ranked) + 1))
    assert [int(row["index"]) for row in ranked] == done.ranking
    assert [int(row["index"]) for row in table if row["selected"] == "1"] == done.ranking[:5]
    left = {int(row["index"]): row["left_out"] for row in table if not row["rank"]}
    dropped = [i for i, w in enumerate(WAVELENGTHS) if 600 <= w <= 700]
    assert sorted(left) == sorted({BAD, CONSTANT, *dropped})
    assert left[BAD] == "bad in the file's band list" and left[CONSTANT] == "constant"
    assert left[dropped[0]] == "in the range 600-700 nm to drop"
    assert all(float(row["wavelength_nm"]) == WAVELENGTHS[int(row["index"])] for row in table)
    shares = [float(row["explained_variance"]) for row in ranked]
    np.testing.assert_allclose(shares, done.explained, rtol=1e-8)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    # Against the pixels themselves.
    inside = sorted(done.ranking)
    x = counts[:, counts[0] != NODATA].astype(float)
    x -= x.mean(axis=1, keepdims=True)
    part = x[done.ranking[:5]].T
    rest = x[inside].T - part @ np.linalg.lstsq(part, x[inside].T, rcond=None)[0]
    assert shares[4] == pytest.approx(1 - (rest**2).sum() / (x[inside] ** 2).sum(), abs=1e-6)
    row = ranked[2]
    c = np.corrcoef(x[done.ranking[:3]])
    assert float(row["largest_correlation"]) == pytest.approx(np.abs(c[2, :2]).max(), abs=1e-6)


def test_the_report_is_enough_to_do_it_again(write, ranker, tmp_path):
    options = Options(drop=((600, 700),), rank_order=True)
    wanted = Wanted(variance=0.999, min_gap=30)
    path = write("a.tif")
    done = select_file(str(path), tmp_path / "1", "a", ranker, wanted, options)
    told = json.loads((tmp_path / "1" / "a_ranking.json").read_text())
    assert told["selected_indices_zero_based"] == done.indices == done.ranking[: len(done.indices)]
    assert told["selected_bands_one_based"] == [i + 1 for i in done.indices]
    assert told["valid_pixels"] == 1300 and told["bands_left_out"]["5"] == "bad in the file's band list"
    again = rsunfold.select_features(
        told["input"],
        variance=told["wanted"]["variance"],
        min_gap=told["wanted"]["min_gap_nm"],
        drop=told["drop_nm"],
        model=told["model"],
        options=told["options"],
        seed=told["seed"],
        rank_order=told["order_of_output"] == "rank",
    )
    assert again.indices == done.indices and again.ranking == told["ranking_indices_zero_based"]
    assert np.diff(sorted(WAVELENGTHS[done.indices])).min() >= 30
    assert told["explained_variance"] >= 0.999
    near = {row["left_out"] for row in lines(tmp_path / "1" / "a_ranking.csv") if row["left_out"]}
    assert "nearer than 30 nm to a ranked one" in near


@pytest.fixture
def first(write, ranker, tmp_path):
    """The report of five bands of an image."""
    done = select_file(str(write("first.tif")), tmp_path / "first", "first", ranker, FIVE, Options())
    return EarlierChoice.of(done.files["summary"]), done


@pytest.mark.parametrize("shift", [0.0, 8.0])
def test_an_earlier_choice_is_applied_to_another_image(shift, first, write, counts, ranker, tmp_path):
    """Whose bands are listed backwards, of slightly other wavelengths."""
    earlier, before = first
    path = write("b.tif", counts[::-1].copy(), WAVELENGTHS[::-1] + shift)
    with rasterio.open(path, "r+") as ds:
        for i in range(BANDS):
            ds.update_tags(i + 1, bbl="1")
    done = select_file(str(path), tmp_path / "out", "b", ranker, Wanted(like=earlier), Options(rank_order=True))
    assert done.indices == [BANDS - 1 - i for i in before.ranking[:5]] == done.ranking
    assert done.summary["like"] == {"report": earlier.bands.path, "input": before.summary["input"]}
    assert done.summary["asked"]["like"] == [WAVELENGTHS[i] for i in before.ranking[:5]]
    left = {row["left_out"] for row in lines(tmp_path / "out" / "b_ranking.csv") if not row["rank"]}
    assert left == {"not among those chosen before", "constant"}
    again = EarlierChoice.of(done.files["summary"])
    assert again.within(ImageBands(str(path), room=1e9)) == done.indices


def test_a_choice_that_an_image_cannot_follow(first, write, counts, ranker, tmp_path):
    earlier, before = first
    band = before.ranking[0] + 1
    where = rf"band {band} \({WAVELENGTHS[band - 1]:g} nm\), which .*first_ranking.json chose"
    for wavelengths, options, message in (
        (WAVELENGTHS + 5000, Options(), rf"has no band of its own for {where}"),
        (WAVELENGTHS * 4, Options(), r"has no band of its own for band"),
    ):
        path = write("b.tif", counts, wavelengths.round(1))
        with pytest.raises(InputError, match=message):
            select_array(str(path), ranker, Wanted(like=earlier), options)
    data = counts.copy()
    data[band - 1] = 5
    with pytest.raises(InputError, match=rf"band {band} of .*, needed for {where}, is left out: constant"):
        select_array(str(write("c.tif", data)), ranker, Wanted(like=earlier), Options())
    with pytest.raises(InputError, match=r"first_ranking.json has 30 bands, but array 12: without"):
        select_array(counts[10:22], ranker, Wanted(like=earlier), Options())
    with pytest.raises(InputError, match=r"first_ranking.json chose bands, but array has features"):
        select_array(np.random.default_rng(0).random((40, 30)), ranker, Wanted(like=earlier), Options())
    same = select_array(ArrayReader(counts, nodata=NODATA).read().data, ranker, Wanted(like=earlier), Options())
    assert same.indices == before.indices  # by number


@pytest.mark.parametrize(
    "damage",
    [
        {"task": "detect-anomaly"},
        *({key: None} for key in ("bands", "selected_indices_zero_based", "model", "options", "seed")),
        {"selected_indices_zero_based": []},
        {"ranking_indices_zero_based": [29, 28]},
        {"selected_wavelengths_nm": [400]},
        {"selected_names": 3},
        {"bands": math.inf},
    ],
)
def test_an_incomplete_report_is_none(damage, first, tmp_path):
    told = json.loads(first[1].files["summary"].read_text()) | damage
    path = tmp_path / "a.json"
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    with pytest.raises(InputError, match=r"--like takes the .*_ranking.json of an earlier selection, but .* is none"):
        EarlierChoice.of(path)


def test_columns_are_found_by_name_or_number(ranker, tmp_path):
    data = np.random.default_rng(0).random((40, 6)).round(3)

    def table(name, columns):
        rows = [",".join(columns), *(",".join(map(str, row)) for row in data[:, ["abcdef".index(c) for c in columns]])]
        (tmp_path / name).write_text("\n".join(rows))
        return str(tmp_path / name)

    before = select_file(table("a.csv", "abcdef"), tmp_path, "a", ranker, Wanted(count=3), Options())
    wanted = Wanted(like=EarlierChoice.of(before.files["summary"]))
    names = {"abcdef"[i] for i in before.indices}
    again = select_array(table("b.csv", "fedcba"), ranker, wanted, Options())
    assert {"fedcba"[i] for i in again.indices} == names
    assert select_array(data, ranker, wanted, Options()).indices == before.indices
    with pytest.raises(InputError, match=r"a_ranking.json has 6 features, but array 5: there must be as many"):
        select_array(data[:, 1:], ranker, wanted, Options())
    with pytest.raises(InputError, match=r"has no feature of its own for feature \d \([a-f]\), which"):
        select_array(table("c.csv", [c for c in "abcdef" if c not in names]), ranker, wanted, Options())


def test_only_bands_that_are_near_are_called_near(write, tmp_path):
    path = str(write("a.tif", wavelengths=WAVELENGTHS))
    select_file(path, tmp_path, "a", FeatureRanker("uniform"), Wanted(count=2, min_gap=30), Options())
    rows = lines(tmp_path / "a_ranking.csv")
    ranked = [float(row["wavelength_nm"]) for row in rows if row["rank"]]
    for row in rows:
        if not row["rank"] and row["left_out"].startswith(("nearer", "not ranked")):
            near = min(abs(float(row["wavelength_nm"]) - w) for w in ranked) < 30
            assert row["left_out"] == ("nearer than 30 nm to a ranked one" if near else "not ranked by the model")


def test_order_of_the_output(write, counts, ranker, tmp_path):
    shuffled = WAVELENGTHS[::-1]
    path = write("a.tif", wavelengths=shuffled)
    by_wavelength = select_file(str(path), tmp_path / "1", "a", ranker, FIVE, Options())
    best_first = select_file(str(path), tmp_path / "2", "a", ranker, FIVE, Options(rank_order=True))
    assert by_wavelength.indices == sorted(best_first.indices, reverse=True)
    assert best_first.indices == best_first.ranking[:5]
    with open_cube(best_first.files["selected"]) as reader:
        np.testing.assert_array_equal(reader.read(scaled=False).data, counts[best_first.indices])


def test_small_strips_give_the_same(write, ranker, tmp_path, monkeypatch):
    path = str(write("a.img"))
    whole = select_file(path, tmp_path / "1", "a", ranker, FIVE, Options())
    for module in (image_module, source_module):
        monkeypatch.setattr(module, "STRIP_BYTES", 4 * BANDS * 33 * 3)
    strips = select_file(path, tmp_path / "2", "a", ranker, FIVE, Options())
    assert strips.ranking == whole.ranking
    np.testing.assert_allclose(strips.explained, whole.explained, rtol=1e-9)
    with open_cube(whole.files["selected"]) as a, open_cube(strips.files["selected"]) as b:
        np.testing.assert_array_equal(a.read().data, b.read().data)


def test_memory(write, ranker, tmp_path):
    ranker.memory = ranker.held + 10_000
    with pytest.raises(DeviceError, match=r"30 bands of 33 columns need \d+ MB on top of the program.*increase it"):
        select_file(str(write("a.tif")), tmp_path / "out", "a", ranker, FIVE, Options())
    with pytest.raises(DeviceError, match="the covariance of 200 features need"):
        select_array(np.random.default_rng(0).normal(size=(9, 200)), ranker, FIVE, Options())
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(write, ranker, tmp_path):
    path = str(write("a.tif"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_selected.png").write_text("mine")
    with pytest.raises(OutputError, match=r"a_selected.png already exists"):
        select_file(path, tmp_path / "out", "a", ranker, FIVE, Options())
    assert names(tmp_path / "out") == ["a_selected.png"]
    select_file(path, tmp_path / "out", "a", ranker, FIVE, Options(picture=False))
    assert (tmp_path / "out" / "a_selected.png").read_text() == "mine" and len(names(tmp_path / "out")) == 4
    select_file(path, tmp_path / "out", "a", ranker, FIVE, Options(overwrite=True))
    with rasterio.open(tmp_path / "out" / "a_selected.png") as ds:
        assert (ds.width, ds.height) == (1500, 620)


def test_a_mask_that_cannot_be_carried_is_told(counts, ranker, tmp_path):
    path = tmp_path / "a.tif"
    data = counts[:4].clip(0).astype(np.uint16)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", count=4, height=40, width=33, dtype="uint16") as ds,
    ):
        ds.write(data)
        mask = np.full((40, 33), 255, np.uint8)
        mask[:3, :7] = 0
        ds.write_mask(mask)
    done = select_file(str(path), tmp_path / "out", "a", ranker, Wanted(count=2), Options())
    assert (
        "21 pixels are invalid because of a mask in the file, which is not copied to a_selected.tif"
        in done.summary["notes"]
    )


@pytest.mark.parametrize(("kind", "nodata"), [("uint16", 65535), ("float32", -9999), ("float32", None)])
def test_a_mask_is_carried_as_nodata(counts, ranker, tmp_path, kind, nodata):
    path = tmp_path / "a.tif"
    mask = np.full((40, 33), 255, np.uint8)
    mask[:3, :7] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", count=4, height=40, width=33, dtype=kind, nodata=nodata) as ds,
    ):
        ds.write(counts[:4].clip(0).astype(kind))
        ds.write_mask(mask)
    done = select_file(str(path), tmp_path / "out", "a", ranker, Wanted(count=2), Options())
    with open_cube(done.files["selected"]) as reader:
        np.testing.assert_array_equal(reader.read().valid, mask > 0)
        expected = np.nan if nodata is None else nodata
        np.testing.assert_array_equal(reader.meta.nodata, [expected] * 2)
    assert not any("mask" in note for note in done.summary["notes"])


def test_images_that_cannot_be_used(write, counts, ranker, tmp_path):
    plain = str(write("plain.tif", wavelengths=()))
    with pytest.raises(InputError, match="has no wavelengths, so --drop and --min-gap cannot be used"):
        select_file(plain, tmp_path, "a", ranker, Wanted(count=5, min_gap=9), Options(drop=((1, 2),)))
    with pytest.raises(InputError, match="has a single band; there is nothing to choose from"):
        select_array(counts[:1], ranker, FIVE, Options())
    with pytest.raises(InputError, match="has a single usable band"):
        select_array(counts[[0, CONSTANT]], ranker, Wanted(count=1), Options(), nodata=NODATA)
    path = str(write("a.tif"))
    with pytest.raises(InputError, match=r"--keep leaves no band of .*a.tif, which has bands from .* to .* nm"):
        select_file(path, tmp_path, "a", ranker, FIVE, Options(keep=((2000, 2400),)))
    with pytest.raises(UsageError, match="-k 29 is more than the 28 usable bands"):
        select_file(path, tmp_path, "a", ranker, Wanted(count=29), Options())
    with pytest.raises(UsageError, match=r"--label applies to tables, but .*a.tif is an image"):
        select_file(path, tmp_path, "a", ranker, FIVE, Options(label="y"))
    with pytest.raises(UsageError, match="--drop takes ranges in nm with the smaller value first"):
        Options(drop=((900, 800),))
    assert names(tmp_path) == ["a.tif", "plain.tif"]


@pytest.mark.parametrize("model", [spec.name for spec in all_models("select-features")])
def test_every_model_writes_what_it_ranks(model, write, tmp_path):
    """Models that rank but some of the features, too, without and with a gap between them."""
    path = str(write("a.tif"))
    for out, wanted in (("plain", FIVE), ("gap", replace(FIVE, min_gap=45))):
        ranker = FeatureRanker(model, memory="4GB")
        done = select_file(path, tmp_path / out, "a", ranker, wanted, Options(picture=False))
        table = lines(tmp_path / out / "a_ranking.csv")
        assert sorted(int(row["index"]) for row in table) == list(range(BANDS)) and len(done.indices) == 5
        left = [row["left_out"] for row in table[len(done.ranking) :]]
        assert len(left) == BANDS - len(done.ranking) and all(left)
        assert ("nearer than 45 nm to a ranked one" in left) is (out == "gap")


def test_a_table_of_more_features_than_a_model_ranks(tmp_path):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).normal(size=(20, 560)))
    ranker = FeatureRanker("spca-net", memory="4GB")
    done = select_file(str(tmp_path / "t.npy"), tmp_path / "out", "t", ranker, FIVE, Options())
    table = lines(tmp_path / "out" / "t_ranking.csv")
    assert len(table) == 560 and len(done.ranking) < 560
    assert {row["left_out"] for row in table[len(done.ranking) :]} == {"not ranked by the model"}


def test_a_large_constant_does_not_hide_the_others(ranker, tmp_path):
    data = np.random.default_rng(0).normal(size=(40, 6)) * np.arange(1, 7)
    ranks = [select_array(x, ranker, Wanted(count=3), Options()).ranking for x in (data, data.copy())]
    data[:, 0] = 1e29
    found = select_array(data, ranker, Wanted(count=3), Options())
    assert found.ranking == [i for i in ranks[0] if i] and np.isfinite(found.explained).all()


def test_a_table(ranker, tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 9)) + 0.1 * rng.normal(size=(60, 9))
    data[:, 4], data[:, 7] = 5, data[:, 1]
    path = tmp_path / "t.csv"
    header = [f"f{i}" for i in range(9)]
    path.write_text("\n".join([",".join([*header, "class"])] + [",".join(map(str, [*r, "x"])) for r in data]))
    done = select_file(str(path), tmp_path / "out", "t", ranker, Wanted(count=3), Options())
    assert names(tmp_path / "out") == ["t_ranking.csv", "t_ranking.json", "t_selected.csv", "t_selected.png"]
    written = lines(tmp_path / "out" / "t_selected.csv")
    assert list(written[0]) == ["class", *(f"f{i}" for i in done.indices)] and written[0]["class"] == "x"
    assert [float(row[f"f{done.indices[0]}"]) for row in written] == data[:, done.indices[0]].tolist()
    table = lines(tmp_path / "out" / "t_ranking.csv")
    assert [row["name"] for row in table if row["left_out"] == "constant"] == ["f4"]
    assert [int(row["feature"]) for row in table[:3]] == [i + 1 for i in done.ranking[:3]]
    assert any("duplicate features: f7 repeats f1" in note for note in done.summary["notes"])
    assert not {1, 7} <= set(done.indices)
    again = select_array(data, ranker, Wanted(count=3), Options())
    assert again.indices == done.indices and again.data.shape == (60, 3)
    turned = select_array(data.T, ranker, Wanted(count=3), Options(features="rows"))
    assert turned.indices == done.indices


def test_a_table_counts_towards_the_memory(tmp_path):
    data = np.random.default_rng(0).random((5000, 20)).round(3)
    np.savetxt(tmp_path / "t.csv", data, delimiter=",", fmt="%.3f")
    ranker = FeatureRanker("css", memory="4GB")
    for room, message in (
        (0.9, "up to 5001 lines of 20 numbers"),
        (2.9, "5000 samples and the covariance of 20 features"),
    ):
        ranker.memory = ranker.held + int(room * data.nbytes)
        with pytest.raises(DeviceError, match=message):
            select_array(str(tmp_path / "t.csv"), ranker, Wanted(count=1), Options())
    ranker.memory = ranker.held + int(3.1 * data.nbytes)
    assert select_array(str(tmp_path / "t.csv"), ranker, Wanted(count=1), Options()).data.shape == (5000, 1)


def test_numbers_that_usually_stand_for_no_data(tmp_path, ranker):
    data = np.random.default_rng(0).random((30, 4))
    data[[3, 20], 1] = -9999
    rows = ["a,b,c,d", *(",".join(map(str, row)) for row in data)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    for given, name in ((str(tmp_path / "t.csv"), f"{tmp_path / 't.csv'}: b"), (data, "array: feature 2")):
        with pytest.raises(
            InputError, match=f"{name} holds -9999 in 2 samples, far from all others, which stands for no"
        ):
            select_array(given, ranker, Wanted(count=1), Options())
    data[:, 1] = np.where(data[:, 1] < 0, -9, data[:, 1])
    done = select_array(data, ranker, Wanted(count=1), Options())
    two = np.random.default_rng(0).random((40, 3))
    for low, high in ((-99, -98), (-99, 99)):  # of two values one says nothing of the other
        two[:, 1] = np.where(np.arange(40) % 2, low, high)
        select_array(two, FeatureRanker("css", memory="4GB"), Wanted(count=2), Options())
    told = "feature 2 holds -9 in 2 samples, far from all others; if that stands for no data, remove these samples"
    assert done.summary["notes"] == [told]
    for usual in (data.clip(0) - 1, np.sign(data - 0.5), data.clip(0) * 20000 - 9999):  # among the others
        usual[0, 0] = usual.min()
        notes = select_array(usual, ranker, Wanted(count=1), Options()).summary["notes"]
        assert not any("no data" in note for note in notes)


@pytest.mark.parametrize(
    ("others", "marks"),
    [
        (np.ones(1997), [-9999.0] * 3),
        (np.append(np.ones(1996), 2), [-99.0] * 3),
        (np.zeros(0), [-9999.0, -999, -999]),
        (np.linspace(0, 1, 1994), [-9999.0, -32768] * 3),
        (np.linspace(0, 50, 1994), [-999.0, -9999] * 3),
    ],
)
def test_what_the_others_are_does_not_hide_no_data(others, marks, ranker):
    column = np.append(others, marks)
    data = np.column_stack([np.random.default_rng(0).random((len(column), 2)), column])
    with pytest.raises(InputError, match=f"feature 3 holds {min(marks):g} in .*, far from all others, which stands"):
        select_array(data, ranker, Wanted(count=1), Options())


@pytest.mark.parametrize("few", [[-1.0], [-9.0], [-120.0], [-120.0, -99]])
def test_what_may_be_a_value_beside_others_that_are_all_the_same(few, ranker):
    column = np.append(np.ones(1999), few)
    data = np.column_stack([np.random.default_rng(0).random((len(column), 2)), column])
    notes = select_array(data, ranker, Wanted(count=1), Options()).summary["notes"]
    assert not any("no data" in note for note in notes)


def test_the_columns_of_a_data_frame_are_named():
    class Frame:
        columns = ("a", "b", "c")

        def __array__(self, dtype=None, copy=None):
            return np.random.default_rng(0).random((9, 3))

    found = rsunfold.select_features(Frame(), k=2, model="css")
    assert found.summary["selected_names"] == [("a", "b", "c")[i] for i in found.indices]
    for others in ((400, 410, 420), ("a", "b")):
        Frame.columns = others
        assert rsunfold.select_features(Frame(), k=2, model="css").summary["selected_names"] is None
    Frame.columns = ("a", "b", "c")
    turned = rsunfold.select_features(Frame(), k=2, model="css", features="rows")
    assert turned.summary["selected_names"] is None and turned.summary["features"] == 9


class Missing:
    """The missing value of pandas."""

    def __eq__(self, other):
        return self

    __ne__ = __eq__
    __hash__ = object.__hash__

    def __bool__(self):
        raise TypeError("ambiguous")


class Frame:
    """Columns by name, as pandas holds them."""

    def __init__(self, **columns):
        self.columns, self.items = [*columns], lambda: columns.items()

    def __array__(self, dtype=None, copy=None):
        return np.column_stack([np.asarray(column, object) for _, column in self.items()])


def frame(**more):
    data = np.random.default_rng(0).random((8, 3))
    return Frame(a=data[:, 0], b=data[:, 1], c=data[:, 2], **more)


@pytest.mark.parametrize(
    "given", [{}, {"ignore": "site"}, {"ignore": ["site"]}, {"ignore": 5}, {"label": "site"}, {"label": 5}]
)
def test_columns_of_a_data_frame_have_the_roles_of_those_of_text(given):
    more = {} if not given else {"site": [*"vwxyvwxy"]}
    table = frame(label=np.arange(8) % 2, **more, id=np.arange(8))
    found = rsunfold.select_features(table, k=3, model="css", **given)
    assert found.summary["selected_names"] == ["a", "b", "c"]
    assert found.summary["columns_kept_aside"] == ["label", *more, "id"]
    assert sum("so it is not a feature" in note for note in found.summary["notes"]) == 2


def test_the_advice_for_a_table_of_text_is_followed(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,Type,b,place\n" + "\n".join(f"{i * i},x,{i},y" for i in range(6)))
    with pytest.raises(InputError, match="leave it out with ignore Type,place"):
        rsunfold.select_features(path, k=1)
    assert rsunfold.select_features(path, k=1, ignore="Type,place").summary["features"] == 2


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (np.arange(8) % 3 > 0, np.float64),
        (np.array([True, False] * 4, object), np.float64),
        (np.array([3, 1, 4, 1, 5, 9, 2, 6], object), np.float64),
        (np.arange(8, dtype=np.longdouble) ** 2, np.float64),
    ],
)
def test_columns_of_numbers_of_any_kind(column, dtype):
    found = rsunfold.select_features(frame(more=column), k=4, model="css")
    assert found.data.dtype == dtype
    np.testing.assert_array_equal(found.data[:, 3], column.astype(np.float64))


def test_a_data_frame_of_one_type_stays_in_it():
    columns = np.random.default_rng(0).integers(0, 99, (3, 9)).astype(np.int16)
    found = rsunfold.select_features(
        Frame(a=columns[0], b=columns[1], c=columns[2], site=["x"] * 9), k=1, ignore="site"
    )
    assert found.data.dtype == np.int16


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([*range(7), "x"], "the column 'more' contains text such as 'x'; leave it out with ignore more"),
        ([1j] * 8, "the column 'more' contains no numbers but values such as 1j"),
        ([*range(5), Missing(), None, np.nan], r"has no number in 3 .*sample 6, feature 'more'.* with ignore more"),
        (np.arange(8).astype("datetime64[D]"), "the column 'more' contains .* such as 1970-01-01; leave it out"),
    ],
)
def test_the_column_of_a_data_frame_that_is_wrong_is_named(column, message):
    with pytest.raises(InputError, match=message):
        rsunfold.select_features(frame(more=np.asarray(column, None if hasattr(column, "dtype") else object)), k=2)


def test_columns_without_a_number_are_left_out(ranker):
    data = np.random.default_rng(0).random((9, 4))
    data[:, 2] = np.nan
    found = select_array(data, ranker, Wanted(count=3), Options())
    assert found.indices == [0, 1, 3] and found.summary["features_left_out"] == {"3": "empty"}
    assert np.isnan(data[:, 2]).all()
    assert rsunfold.select_features(data, k=2, model="css", ignore=[3], label=1).summary["selected_names"] == [
        "column 2", "column 4",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_tables_of_numbers_stay_in_their_type(suffix, ranker, tmp_path):
    data = np.random.default_rng(1).integers(0, 99, (20, 6)).astype(np.uint8)
    path = tmp_path / f"t{suffix}"
    if suffix == ".npy":
        np.save(path, data)
    elif suffix == ".npz":
        np.savez(path, X=data, Y=np.arange(20))
    else:
        scipy.io.savemat(path, {"X": data, "Y": np.arange(20)})
    done = select_file(str(path), tmp_path / "out", "t", ranker, Wanted(count=2), Options())
    written = np.load(tmp_path / "out" / f"t_selected.np{'y' if suffix == '.npy' else 'z'}")
    if suffix != ".npy":
        assert written["y"].ravel().tolist() == [*range(20)]
        written = written["X"]
    np.testing.assert_array_equal(written, data[:, done.indices])
    assert written.dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 4)), "every feature is constant"),
        (np.arange(10).reshape(5, 2) * [0, 1], "every feature but one is constant"),
        (np.arange(10)[:, None], "array has a single feature"),
        (np.array([[np.nan, 1, 2], [np.nan, 3, 2]]), "every feature but one is constant or empty"),
        (np.ones((1, 4)), "contains 1 sample, but at least two are needed"),
        (np.array([[1.0, 2], [np.nan, 3], [2, 1]]), r"no number in 1 of its cells \(the first: sample 2, feature 1\)"),
        (np.ma.masked_less([[1, 2], [3, 4]], 2), r"no number in 1 of its cells \(the first: sample 1, feature 1\)"),
        (np.ones((3, 3), complex), "contains complex128 values; real numbers are needed"),
    ],
)
def test_arrays_that_are_no_tables(array, message, ranker):
    with pytest.raises(InputError, match=message):
        select_array(array, ranker, Wanted(count=1), Options())


def test_wavelengths_do_not_go_with_tables(ranker):
    data = np.random.default_rng(0).normal(size=(9, 4))
    for wanted, options, name in (
        (Wanted(count=1, min_gap=3), Options(), "--min-gap"),
        (Wanted(count=1), Options(keep=((1, 2),)), "--keep"),
        (Wanted(count=1), Options(envi=True), "--envi"),
    ):
        with pytest.raises(UsageError, match=f"{name} applies to images"):
            select_array(data, ranker, wanted, options)


def test_a_cube_in_memory(counts, write):
    found = rsunfold.select_features(counts, k=4, model="css", nodata=NODATA, seed=3)
    np.testing.assert_array_equal(found.data, counts[found.indices])
    assert found.scores.shape == (BANDS,) and np.isnan(found.scores[CONSTANT]) and CONSTANT not in found.ranking
    assert found.summary["valid_pixels"] == 1300
    from_path = rsunfold.select_features(write("a.tif", wavelengths=()), k=4, model="css")
    assert from_path.ranking == found.ranking and from_path.data.dtype == np.int16
    with pytest.raises(UsageError, match="nodata applies to arrays only"):
        rsunfold.select_features("a.tif", k=4, nodata=0)


def test_wavelengths_of_an_array(write):
    path = str(write("a.tif", wavelengths=WAVELENGTHS))
    with open_cube(path) as reader:
        cube = reader.read()
    data = np.ma.masked_array(cube.data, np.broadcast_to(~cube.valid, cube.data.shape))
    asked = {"k": 4, "min_gap": 30, "drop": [(600, 700)]}
    chosen = WAVELENGTHS[rsunfold.select_features(data, wavelengths=WAVELENGTHS, **asked).indices]
    assert np.diff(np.sort(chosen)).min() >= 30 and not ((chosen >= 600) & (chosen <= 700)).any()
    with pytest.raises(UsageError, match="wavelengths apply to arrays only"):
        rsunfold.select_features(path, k=2, wavelengths=WAVELENGTHS)
    with pytest.raises(UsageError, match="wavelengths apply to cubes"):
        rsunfold.select_features(data[0].filled(0), k=2, wavelengths=WAVELENGTHS)
    notes = rsunfold.select_features(data, k=2).summary["notes"]
    assert any("the input has no wavelengths" in note for note in notes)


def test_the_scene_is_that_of_the_pixels(counts, ranker):
    """Scaled by the smallest and largest sample of all bands, whatever is left out."""
    with source_module.ImageBands(ArrayReader(counts, nodata=NODATA), room=ranker.room) as bands:
        scene = bands.scene(5)
    x = counts[bands.inside][:, counts[0] != NODATA].astype(float)
    x = (x - x.min()) / (x.max() - x.min())
    np.testing.assert_allclose(scene.mean, x.mean(axis=1), atol=1e-7)
    np.testing.assert_allclose(scene.covariance, np.cov(x, bias=True), atol=1e-9)
    np.testing.assert_allclose(scene.sample, x, atol=1e-6)
    assert (scene.seed, scene.count) == (5, 1300)


def test_the_sample_is_spread_evenly(counts, monkeypatch):
    monkeypatch.setattr(image_module, "SAMPLE", 100)
    x = counts[:, counts[0] != NODATA].astype(np.float32)
    some = some_of(x.shape[1], 100)
    for rows in (40, 3):
        monkeypatch.setattr(image_module, "STRIP_BYTES", 4 * BANDS * 33 * rows)
        ranker = FeatureRanker("css", memory="4GB")
        with source_module.ImageBands(ArrayReader(counts, nodata=NODATA), room=ranker.room) as bands:
            sample, (low, span) = bands.image.scene().sample, bands.image.range
        np.testing.assert_array_equal(sample, (x[bands.inside][:, some] - np.float32(low)) / np.float32(span))


@pytest.mark.parametrize(
    ("bands", "gap", "samples", "scale"),
    [(30, 20, 1320, "noise"), (30, 40, 1320, "deviation^0.75"), (12, 20, 1320, "deviation^0.75"), (30, 20, 50, "d")],
)
def test_narrow_bands_are_scaled_by_their_noise(write, counts, bands, gap, samples, scale):
    data = counts[:bands, 5:].copy() if samples > 99 else counts[:bands, 5:10, 4:14].copy()
    path = write("a.tif", data, [400.0 + gap * i for i in range(bands)])
    found = select_array(str(path), FeatureRanker(memory="4GB"), Wanted(count=4), Options())
    assert found.summary["about_the_ranking"]["features_scaled_by"].startswith(scale)


@pytest.mark.parametrize("nodata", [None, NODATA])
def test_the_mask_of_an_array_of_integers_comes_back(counts, nodata):
    given = np.ma.array(counts, mask=np.zeros(counts.shape, bool))
    given[:, 30, 20] = np.ma.masked
    found = select_array(given, FeatureRanker("variance", memory="4GB"), Wanted(count=4), Options(), nodata=nodata)
    hidden = np.ma.getmaskarray(found.data)
    assert hidden[:, 30, 20].all() and hidden.sum() == 4
    found.data[0, 1, 1] = found.data[0, 1, 1]  # it can be written to
    np.testing.assert_array_equal(np.ma.getdata(found.data), counts[found.indices])
    plain = select_array(counts, FeatureRanker("variance", memory="4GB"), Wanted(count=4), Options(), nodata=nodata)
    assert not np.ma.isMaskedArray(plain.data)


@pytest.mark.parametrize("model", ["spca-net", "variance"])
def test_only_what_compares_bands_in_units_of_noise_says_so(counts, model):
    ranker = FeatureRanker(model, memory="4GB")
    found = select_array(counts[:30, 5:].copy(), ranker, Wanted(count=4), Options(), nodata=NODATA)
    notes = found.summary["notes"]
    assert any("no wavelengths" in note for note in notes)
    assert any("in units of their noise" in note for note in notes) == (model == "spca-net")


@pytest.mark.parametrize("suffix", [".tif", ".img"])
def test_what_was_denoised_is_told(suffix, write, ranker, tmp_path):
    """By the tag of denoise-hsi, in whole numbers and of few bands, too; not where an earlier choice is applied."""
    path = str(write("a.tif"))
    measured = select_file(path, tmp_path / "out", "a", ranker, FIVE, Options(picture=False))
    clean = tmp_path / f"clean{suffix}"
    denoise_file(path, clean, Denoiser("fasthyde", memory="4GB"), Denoising(dtype="same", drop_bands=("13-30",)))
    like = Wanted(like=EarlierChoice.of(measured.files["summary"]))
    found = select_array(str(clean), ranker, FIVE, Options(drop_bands=("13-30",)))
    same = select_array(str(clean), ranker, like, Options())
    assert same.indices == measured.indices
    even = select_array(str(clean), FeatureRanker("uniform"), FIVE, Options(drop_bands=("13-30",)))
    told = [any("denoised by fasthyde" in n for n in done.summary["notes"]) for done in (measured, found, same, even)]
    assert told == [False, True, False, False]


@pytest.mark.parametrize(("directions", "noise", "told"), [(3, 0, True), (14, 0, True), (3, 1e-3, False)])
def test_what_has_no_noise_is_told(directions, noise, told):
    rng = np.random.default_rng(0)
    data = np.einsum("bp,prc->brc", rng.random((30, directions)), rng.random((directions, 12, 20)))
    data += noise * rng.normal(size=data.shape)
    found = rsunfold.select_features(data, k=5, wavelengths=WAVELENGTHS)
    assert any("follow from the others without any noise" in n for n in found.summary["notes"]) is told


def test_a_graph_without_its_parts_is_told():
    data = np.repeat(np.random.default_rng(0).random((20, 6)), 8, axis=0)
    note = "sogfs stopped after 30 rounds at 20 instead of 3 parts"
    assert any(note in told for told in rsunfold.select_features(data, k=2, model="sogfs:clusters=3").summary["notes"])


def test_several_nodata_values_are_refused_before_anything_is_ranked(counts):
    reader = ArrayReader(counts)
    reader.meta = replace(reader.meta, nodata=(-1.0, *(-99.0,) * (BANDS - 1)))
    with pytest.raises(InputError, match="array has several nodata values, which the output cannot represent"):
        source_module.ImageBands(reader, room=2**32)


@pytest.mark.parametrize("model", ["uniform", "onr"])
@pytest.mark.parametrize("gap", [None, 45.0])
def test_bands_in_any_order_are_chosen_as_by_wavelength(counts, model, gap):
    """Detectors that overlap, or wavelengths that fall."""
    order = np.random.default_rng(2).permutation(BANDS)
    asked = {"k": 5, "model": model, "min_gap": gap, "nodata": NODATA, "rank_order": True}
    rising = rsunfold.select_features(counts, wavelengths=WAVELENGTHS, **asked)
    mixed = rsunfold.select_features(counts[order], wavelengths=WAVELENGTHS[order], **asked)
    assert order[mixed.indices].tolist() == rising.indices
    np.testing.assert_allclose(mixed.explained[:5], rising.explained[:5])
