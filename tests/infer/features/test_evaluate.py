"""Figures of chosen features: against the metrics called by hand, pooled images, tiles, labels of every kind."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

import rsunfold
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.features import evaluate as module
from rsunfold.infer.features.evaluate import ALL, evaluate_images, evaluate_tables, read_classes, read_pixels
from rsunfold.infer.features.select import FeatureRanker
from rsunfold.metrics.features import CLASSIFIER, classification, clustering, training_samples
from rsunfold.ranking import Ranking

from .conftest import BAD, CONSTANT, NODATA

SEEDS = range(4)


@pytest.fixture
def rankers():
    return [FeatureRanker("css", memory="4GB"), FeatureRanker("variance", memory="4GB")]


@pytest.fixture
def labelled(tmp_path):
    """(path of a MAT table, X (60, 8), y (60,)): three classes, told by features 1, 4 and 6."""
    rng = np.random.default_rng(0)
    y = np.repeat([2, 5, 9], 20)
    X = rng.normal(size=(60, 8))
    X[:, [1, 4, 6]] += rng.normal(size=(3, 3)).repeat(20, axis=0) * 6
    scipy.io.savemat(tmp_path / "t.mat", {"X": X, "Y": y})
    return str(tmp_path / "t.mat"), X, y


def test_tables(labelled, rankers, tmp_path):
    path, X, y = labelled
    told = []
    done = evaluate_tables({"t": path}, rankers, [2, 4, 99], repeats=4, say=told.append)
    assert [(r["model"], r["features"]) for r in done.runs] == [
        (ALL, 8), ("css", 2), ("css", 4), ("variance", 2), ("variance", 4),
    ]  # fmt: skip
    order = done.runs[2]["indices_zero_based"]
    expected = clustering(X[:, order[:2]], y, SEEDS)
    for name in ("acc", "nmi"):
        run = done.runs[1][name]
        np.testing.assert_allclose(run["values"], expected[name])
        assert run["mean"] == pytest.approx(np.mean(expected[name]))
        assert run["deviation"] == pytest.approx(np.std(expected[name]))
    by_variance = np.argsort(-X.var(axis=0))[:4].tolist()
    assert [r["indices_zero_based"].tolist() for r in done.runs[3:]] == [by_variance[:2], by_variance]
    assert done.runs[0]["indices_zero_based"].tolist() == [*range(8)]
    assert done.runs[0]["acc"]["mean"] == pytest.approx(np.mean(clustering(X, y, SEEDS)["acc"]))
    assert any(line.startswith("t: css, 2 features: ACC ") for line in told)
    row = done.rows()[1]
    best = max(done.runs[1:3], key=lambda r: r["acc"]["mean"])
    mean, deviation = best["acc"]["mean"], best["acc"]["deviation"]
    over_numbers = np.mean([r["acc"]["mean"] for r in done.runs[1:3]])
    assert (row["acc_best"], row["acc_best_deviation"], row["acc_best_features"]) == (mean, deviation, best["features"])
    assert row["acc_mean"] == pytest.approx(over_numbers)
    shown = {"ACC best": f"{100 * mean:.2f} ± {100 * deviation:.2f}", "ACC mean": f"{100 * over_numbers:.2f}"}
    assert done.table_rows()[1].items() >= {**shown, "at ACC": best["features"]}.items()
    panels, whole = done.panels("t")
    assert list(panels) == ["ACC", "NMI"] and list(panels["ACC"]) == ["css", "variance"]
    assert panels["NMI"]["css"].numbers == [2, 4] and whole["ACC"] == 100 * done.runs[0]["acc"]["mean"]
    report = done.report()
    assert {"acc", "nmi"} | set(row) - {"data", "model"} < set(report["formulas"])
    assert report["protocol"]["seeds"] == [0, 1, 2, 3] and report["rsunfold"] == rsunfold.__version__
    size = (tmp_path / "t.mat").stat().st_size
    assert report["protocol"]["data"] == {"t": {"path": path, "input_bytes": size, "samples": 60, "classes": 3}}
    assert report["protocol"]["asked"] == {
        "var": None, "label": None, "labels_var": None, "ignore": [], "header": None,
    }  # fmt: skip


def test_greedy_starts_are_another_protocol(labelled, rankers):
    path, X, y = labelled
    done = evaluate_tables({"t": path}, rankers[:1], [8], repeats=2, plain=False)
    np.testing.assert_allclose(done.runs[0]["acc"]["values"], clustering(X, y, [0, 1], False)["acc"])
    assert "greedy" in done.protocol["start"] and "not standardised" in done.protocol["method"]


def test_a_transposed_table_is_turned(labelled, rankers, tmp_path):
    path, X, y = labelled
    scipy.io.savemat(tmp_path / "turned.mat", {"fea": X.T, "gnd": y})
    turned = evaluate_tables({"t": str(tmp_path / "turned.mat")}, rankers[:1], [3], repeats=2)
    straight = evaluate_tables({"t": path}, rankers[:1], [3], repeats=2)
    assert turned.runs[1]["acc"]["values"].tolist() == straight.runs[1]["acc"]["values"].tolist()
    assert "features were taken to be the rows" in turned.report()["notes"][0] and len(turned.notes) == 1


def test_a_random_choice_is_drawn_for_each_repeat(labelled, monkeypatch):
    path, X, y = labelled
    ranker = FeatureRanker("random")
    orders = {s: np.random.default_rng(s).permutation(8) for s in SEEDS}
    monkeypatch.setattr(ranker, "rank", lambda scene, most, spacing=None: Ranking(orders[scene.seed], X[0], {}))
    done = evaluate_tables({"t": path}, [ranker], [3], repeats=4)
    expected = [clustering(X[:, orders[s][:3]], y, [s])["acc"][0] for s in SEEDS]
    np.testing.assert_allclose(done.runs[1]["acc"]["values"], expected)
    assert [drawn.tolist() for drawn in done.runs[1]["indices_zero_based"]] == [orders[s][:3].tolist() for s in SEEDS]


def test_the_report_has_the_features_of_every_number(labelled):
    """Of a method that is not nested, each number has a choice of its own."""
    done = evaluate_tables({"t": labelled[0]}, [FeatureRanker("uniform"), FeatureRanker("fspca")], [2, 4], repeats=1)
    assert [r["indices_zero_based"].tolist() for r in done.runs[1:3]] == [[2, 6], [1, 3, 5, 7]]
    assert [r["about_the_ranking"]["components"] for r in done.runs[3:]] == [2, 4]


@pytest.mark.parametrize(("model", "asked"), [("css", [4]), ("fspca", [2, 3, 4])])
def test_one_ranking_serves_all_numbers_where_the_first_are_the_same(labelled, monkeypatch, model, asked):
    ranker, done = FeatureRanker(model), []
    monkeypatch.setattr(ranker, "rank", lambda scene, most: done.append(most) or FeatureRanker(model).rank(scene, most))
    evaluate_tables({"t": labelled[0]}, [ranker], [2, 3, 4], repeats=1)
    assert done == asked


def test_notes_of_a_ranking_name_the_table(labelled, monkeypatch):
    path, X, _ = labelled
    ranker = FeatureRanker("variance")
    monkeypatch.setattr(ranker, "rank", lambda scene, *rest: Ranking(np.arange(8), X[0], {}, ["told"]))
    assert "t: told" in evaluate_tables({"t": path}, [ranker], [3], repeats=1).notes


def test_all_tables_are_checked_before_any_is_clustered(labelled, rankers, tmp_path, monkeypatch):
    path, X, _ = labelled
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(module, "clustering", lambda *args: pytest.fail("clustered"))
    with pytest.raises(InputError, match=r"x.npy has no labels"):
        evaluate_tables({"t": path, "x": str(tmp_path / "x.npy")}, rankers, [2])


def test_numbers_are_checked_for_all_tables_before_any_is_clustered(labelled, rankers, tmp_path, monkeypatch):
    path, X, y = labelled
    np.savez(tmp_path / "few.npz", X=X[:, :2], y=y)
    monkeypatch.setattr(module, "clustering", lambda *args: pytest.fail("clustered"))
    with pytest.raises(UsageError, match="few has only 2 usable features; ask for fewer"):
        evaluate_tables({"t": path, "few": str(tmp_path / "few.npz")}, rankers, [3])


def test_labels_of_any_name(labelled, rankers, tmp_path):
    path, X, y = labelled
    np.savez(tmp_path / "v.npz", X=X, crops=y)
    np.save(tmp_path / "c.npy", np.column_stack([X, y]))
    expected = evaluate_tables({"t": path}, rankers[:1], [2], repeats=2).runs[1]["acc"]
    for name, option in (("v.npz", {"labels_var": "crops"}), ("c.npy", {"label": "9"})):
        done = evaluate_tables({"t": str(tmp_path / name)}, rankers[:1], [2], repeats=2, **option)
        np.testing.assert_array_equal(done.runs[1]["acc"]["values"], expected["values"])


def test_tables_that_cannot_be_used(labelled, rankers, tmp_path):
    path, X, _ = labelled
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"x.npy has no labels; give --label COLUMN\."):
        evaluate_tables({"x": str(tmp_path / "x.npy")}, rankers, [2])
    np.savez(tmp_path / "x.npz", X=X, y=X[:, :2])
    with pytest.raises(
        InputError, match=r"has no labels \(y \(60 x 2\) is no vector\); it needs a vector .* --labels-v"
    ):
        evaluate_tables({"x": str(tmp_path / "x.npz")}, rankers, [2])
    for numbers, message in (([0], "at least 1"), ([], "at least 1"), ([50], "ask for fewer")):
        with pytest.raises(UsageError, match=message):
            evaluate_tables({"t": path}, rankers, numbers)
    with pytest.raises(UsageError, match="--repeats must be at least 1, not 0"):
        evaluate_tables({"t": path}, rankers, [2], repeats=0)


@pytest.fixture
def truth(counts):
    """(40, 33): three classes by the brightness of two bands, 0 where unlabelled."""
    level = counts[12].astype(int) - counts[25]
    y = 1 + np.digitize(level, np.quantile(level[5:], [0.3, 0.7]))
    y[:, 30:] = 0
    return y


def test_images(write, counts, truth, rankers, tmp_path):
    path = str(write("a.tif"))
    np.save(tmp_path / "x.npy", truth)
    scipy.io.savemat(tmp_path / "y.mat", {"y": truth})
    done = evaluate_images({"a": path}, {"a": str(tmp_path / "y.mat")}, rankers, [2, 5], share=0.1, repeats=2)
    assert [r["features"] for r in done.runs] == [28, 2, 5, 2, 5]
    order = done.runs[2]["indices_zero_based"]
    assert not {BAD, CONSTANT} & set(order.tolist())
    known = (truth > 0) & (counts[0] != NODATA)
    X = counts[order[:2]][:, known].T * np.float32(1e-4)
    expected = classification(X, truth[known], 0.1, [0, 1])
    for name in ("oa", "aa", "kappa"):
        np.testing.assert_allclose(done.runs[1][name]["values"], expected[name])
    assert done.protocol["labelled_pixels"] == known.sum() and done.protocol["classes"] == 3
    train = training_samples(truth[known], 0.1, 1)
    by_class = {str(c): np.count_nonzero(truth[known][train] == c) for c in (1, 2, 3)}
    assert done.protocol["training_samples"][1] == {"seed": 1, "all": train.sum(), "by_class": by_class}
    assert done.protocol["classifier"] == CLASSIFIER and "at least 2" in done.protocol["trained_on"]
    row, shown, mean = done.rows()[1], done.table_rows()[1], np.mean([r["aa"]["mean"] for r in done.runs[1:3]])
    assert shown["OA 2"] == f"{100 * done.runs[1]['oa']['mean']:.2f} ± {100 * done.runs[1]['oa']['deviation']:.2f}"
    assert shown["mean AA"] == f"{100 * mean:.2f}" and row["aa_mean"] == pytest.approx(mean)
    assert set(row) - {"data", "model"} == {"oa_mean", "aa_mean", "kappa_mean"} < set(done.report()["formulas"])
    tiles = evaluate_images(
        {"a": path}, {"a": str(tmp_path / "y.mat")}, rankers[:1], [2], share=0.3, split="tiles", repeats=2
    )
    assert tiles.protocol["tiles"] == 6  # of nine, those with labels
    blocks = (np.arange(40)[:, None] // 16 * 3 + np.arange(33) // 16)[known]
    expected = classification(X, truth[known], 0.3, [0, 1], blocks)
    np.testing.assert_allclose(tiles.runs[1]["oa"]["values"], expected["oa"])
    counts = [np.count_nonzero(training_samples(truth[known], 0.3, seed, blocks)) for seed in (0, 1)]
    assert [draw["all"] for draw in tiles.protocol["training_samples"]] == counts


def test_every_block_of_an_image_is_a_tile_of_its_own(write, counts, truth, tmp_path):
    """The last column of them is one pixel wide."""
    scipy.io.savemat(tmp_path / "y.mat", {"y": truth})
    _, _, tiles = read_pixels({"a": str(write("a.tif"))}, {"a": str(tmp_path / "y.mat")})
    blocks = np.arange(40)[:, None] // 16 * 3 + np.arange(33) // 16
    np.testing.assert_array_equal(tiles, blocks[counts[0] != NODATA])


def test_several_images_are_pooled(write, counts, truth, tmp_path):
    other = counts.copy()
    other[20, 0, 10] = NODATA
    other[3] = 5
    images = {"a": str(write("a.tif")), "b": str(write("b.img", data=other))}
    scipy.io.savemat(tmp_path / "a.mat", {"y": truth})
    scipy.io.savemat(tmp_path / "b.mat", {"y": truth})
    reader, y, tiles = read_pixels(images, {stem: str(tmp_path / f"{stem}.mat") for stem in images})
    assert reader.shape == (30, 1, 1300 + 1299) and len(y) == len(tiles) == 2599
    assert [i for i, bad in enumerate(reader.meta.bad_bands) if bad] == [3, BAD, CONSTANT]
    assert (tiles == np.repeat([0, 1], [1300, 1299])).all()
    valid = counts[0] != NODATA
    assert (y[:1300] == truth[valid]).all()
    np.testing.assert_array_equal(reader.read(bands=[20]).data[0, 0, 1300:], other[20][valid & (other[20] != NODATA)])
    with pytest.raises(InputError, match=r"no labels found for .*b.img .missing for 1 of 2 images"):
        read_pixels(images, {"a": str(tmp_path / "a.mat")})
    with pytest.raises(InputError, match="has 29 bands, but the others have 30"):
        read_pixels(
            {"a": images["a"], "c": str(write("c.img", data=counts[:29], wavelengths=()))}, dict.fromkeys("ac", "")
        )


def test_sizes_are_compared_before_any_image_is_read(write, truth, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SpectralImage", None)
    images = {"a": str(write("a.tif")), "b": str(write("b.img"))}
    scipy.io.savemat(tmp_path / "a.mat", {"y": truth})
    scipy.io.savemat(tmp_path / "b.mat", {"y": truth[:20]})
    with pytest.raises(InputError, match=r"b.mat is .20, 33. but .*b.img is .40, 33. .rows, columns."):
        read_pixels(images, {stem: str(tmp_path / f"{stem}.mat") for stem in images})


def test_an_image_is_not_its_own_labels(counts, truth, tmp_path, rankers):
    path = str(tmp_path / "x.mat")
    scipy.io.savemat(path, {"cube": counts.transpose(1, 2, 0), "gt": truth})
    with pytest.raises(UsageError, match=r"the labels are the image .*x.mat itself; .*--labels-var"):
        read_pixels({"a": path}, {"a": path})
    assert set(np.unique(read_pixels({"a": path}, {"a": path}, var="cube", labels_var="gt")[1])) == {0, 1, 2, 3}


@pytest.mark.parametrize("word", ["NA", "nan", "?", "null"])
def test_words_for_none_are_no_class(word, rankers, tmp_path):
    for classes in ("12", "ab"):
        rows = [f"{classes[i % 2] if i else word},{i},{i * i % 7}" for i in range(9)]
        (tmp_path / "t.csv").write_text("\n".join(["label,x,y", *rows]))
        if classes == "ab" and word != "nan":  # beside other words it may be one of them
            assert evaluate_tables({"t": str(tmp_path / "t.csv")}, rankers, [2], repeats=1).runs
            continue
        with pytest.raises(InputError, match="has no label for 1 of its samples"):
            evaluate_tables({"t": str(tmp_path / "t.csv")}, rankers, [2], repeats=1)


@pytest.mark.parametrize("missing", ["", "nan"])
def test_samples_without_a_label_are_told(rankers, tmp_path, missing):
    rows = [f"{'ab'[i % 2] if i else missing},{i},{i * i % 7}" for i in range(9)]
    (tmp_path / "t.csv").write_text("\n".join(["label,x,y", *rows]))
    if missing:
        X = np.arange(18.0).reshape(9, 2)
        scipy.io.savemat(tmp_path / "t.mat", {"X": X, "Y": np.array([np.nan, *[1, 2] * 4])})
    path = tmp_path / ("t.mat" if missing else "t.csv")
    with pytest.raises(InputError, match="has no label for 1 of its samples; remove them, or label them"):
        evaluate_tables({"t": str(path)}, rankers, [2], repeats=1)


def test_the_classes_of_a_palette_are_its_indices(tmp_path, truth):
    image = Image.fromarray(truth.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 140, 67, 46, 0, 0, 255, 255, 100, 0])
    image.save(tmp_path / "y.png")
    np.testing.assert_array_equal(read_classes(tmp_path / "y.png"), truth)


def test_classes(truth, tmp_path, counts, write):
    path = tmp_path / "y.mat"
    abundance = np.stack([truth == c for c in (1, 2, 3)], axis=-1) * 0.7 + 0.1
    abundance[0, 0] = [0.1, 0.2, 0.9]
    scipy.io.savemat(path, {"A": abundance})
    assert read_classes(path)[0, 0] == 3
    abundance[1, 1] = 0  # of no class
    scipy.io.savemat(path, {"A": abundance})
    assert read_classes(path)[1, 1] == 0
    abundance[1, 1, truth[1, 1] - 1] = 0.5
    scipy.io.savemat(path, {"A": abundance})
    np.testing.assert_array_equal(read_classes(path)[1:, :30], truth[1:, :30])
    scipy.io.savemat(path, {"y": truth + 0.5})
    with pytest.raises(InputError, match="contains values that are not classes"):
        read_classes(path)
    scipy.io.savemat(path, {"y": truth[:20]})
    with pytest.raises(InputError, match=r"y.mat is .20, 33. but .* is .40, 33. .rows, columns."):
        read_pixels({"a": str(write("a.tif"))}, {"a": str(path)})
    scipy.io.savemat(path, {"y": truth * 0})
    with pytest.raises(InputError, match="no valid pixel has a label above 0"):
        read_pixels({"a": str(write("a.tif"))}, {"a": str(path)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "half"}, "--split must be random or tiles"),
        ({"share": 1.0}, "--train-share must lie between 0 and 1"),
    ],
)
def test_wrong_protocols(options, message, rankers):
    with pytest.raises(UsageError, match=message):
        evaluate_images({"a": "a.tif"}, {"a": "b.tif"}, rankers, [3], **options)
