"""How many of the ranked features are taken, and what is told of them, against least squares."""

from dataclasses import replace

import numpy as np
import pytest

from rsunfold.errors import UsageError
from rsunfold.infer.features import select as module
from rsunfold.infer.features.select import (
    FeatureRanker,
    Wanted,
    correlations,
    explained_variance,
    largest_correlation,
    outside,
)
from rsunfold.scene import scene_of
from rsunfold.spacing import Spacing

D = 12


@pytest.fixture(scope="module")
def samples():
    """(12, 400) in [0, 1]: five sources mixed, and noise; feature 7 is feature 2 again."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(D, 5)) @ rng.normal(size=(5, 400)) + 0.05 * rng.normal(size=(D, 400))
    x[7] = x[2]
    return (x - x.min()) / (x.max() - x.min())


@pytest.fixture(scope="module")
def scene(samples):
    return scene_of(samples[:, None])


def test_explained_variance_is_that_of_least_squares(samples, scene):
    order = [3, 2, 7, 0, 11]
    x = samples - samples.mean(axis=1, keepdims=True)
    expected = []
    for k in range(1, len(order) + 1):
        part = x[order[:k]].T
        rest = x.T - part @ np.linalg.lstsq(part, x.T, rcond=None)[0]
        expected.append(1 - (rest**2).sum() / (x**2).sum())
    found = explained_variance(scene.covariance, order)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found[2] == found[1]  # a copy explains nothing more
    assert explained_variance(scene.covariance, np.arange(D))[-1] == pytest.approx(1, abs=1e-12)


def test_correlations(samples, scene):
    np.testing.assert_allclose(correlations(scene.covariance), np.corrcoef(samples), atol=1e-9)
    c = np.abs(np.corrcoef(samples))
    found = largest_correlation(scene.covariance, [3, 2, 7])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [c[2, 3], 1], atol=1e-9)
    assert correlations(np.diag([0.0, 4.0])).tolist() == [[1, 0], [0, 1]]


def test_a_number_is_asked_for(scene):
    found = FeatureRanker("css").select(scene, Wanted(count=4))
    assert found.count == 4 and len(found.chosen) == 4 and len(found.ranking.order) == D
    np.testing.assert_array_equal(found.chosen, found.ranking.order[:4])


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("whole", [512, 3])
def test_a_share_is_asked_for(scene, share, whole, monkeypatch):
    monkeypatch.setattr(module, "RANKED_WHOLE", whole)
    monkeypatch.setattr(module, "FIRST_GUESS", 2)
    found = FeatureRanker("css").select(scene, Wanted(variance=share))
    reached = explained_variance(scene.covariance, found.chosen)
    assert reached[-1] >= share - 1e-9 and (found.count == 1 or reached[-2] < share)
    # Of many features only as many are ranked as it takes.
    if whole == 3 and share == 0.5:
        assert len(found.ranking.order) < D


@pytest.mark.parametrize("tried", [64, 2])
@pytest.mark.parametrize("model", ["uniform", "onr", "fspca"])
def test_a_share_where_more_need_not_explain_more(model, tried, monkeypatch):
    monkeypatch.setattr(module, "TRIED", tried)
    x = np.random.default_rng(0).random((30, 25)) @ np.random.default_rng(1).random((25, 60)) / 25
    given, ranker = scene_of(x[:, None]), FeatureRanker(model)
    alone = [explained_variance(given.covariance, ranker.rank(given, k).order[:k])[-1] for k in range(1, 31)]
    for share in np.arange(0.5, 1, 0.03):
        found = ranker.select(given, Wanted(variance=share))
        reached = found.explained[: found.count]
        assert reached[-1] >= share - 1e-9 and (reached[:-1] < share).all()
        assert tried == 2 or found.count <= 1 + np.argmax(np.array(alone) >= share)


def test_more_than_there_are(scene):
    with pytest.raises(UsageError, match="-k 13 is more than the 12 usable bands"):
        FeatureRanker("css").select(scene, Wanted(count=13), noun="band")


def test_a_gap(scene):
    w = np.arange(400, 400 + 10 * D, 10) + 0.1
    found = FeatureRanker("css").select(scene, Wanted(count=4, min_gap=20), Spacing(w, 20, 4))
    assert np.diff(np.sort(w[found.chosen])).min() >= 20 - 1e-9
    with pytest.raises(UsageError, match="-k 7 is more than the 6 features of the 12 usable ones that can be at least"):
        FeatureRanker("css").select(scene, Wanted(count=7, min_gap=20), Spacing(w, 20, 7))
    with pytest.raises(UsageError, match=r"--variance 1 cannot be reached: the 2 features .* explain only 0."):
        FeatureRanker("css").select(scene, Wanted(variance=1, min_gap=60), Spacing(w, 60))


@pytest.mark.parametrize("model", ["css", "onr", "uniform", "variance"])
def test_a_gap_between_bands_in_any_order(model, scene):
    """Every second band, the one choice of six, though others score as high."""
    w = np.random.default_rng(0).permutation(np.arange(400.0, 510, 10))
    given = replace(scene.arranged(np.arange(11)), wavelengths=w)
    found = FeatureRanker(model).select(given, Wanted(count=6, min_gap=20), Spacing(w, 20, 6))
    assert sorted(w[found.chosen]) == list(range(400, 510, 20))
    share = float(found.explained[5])
    assert FeatureRanker(model).select(given, Wanted(variance=share, min_gap=20), Spacing(w, 20)).count == 6


def test_ranges():
    w = [400, 500, 600, 700]
    assert outside(w, [], []) == {}
    assert outside(w, [(500, 600)], []) == dict.fromkeys((1, 2), "in the range 500-600 nm to drop")
    assert outside(w, [], [(390, 410), (690, 800)]) == dict.fromkeys((1, 2), "in none of the ranges to keep")
    assert sorted(outside(w, [(400, 400)], [(400, 600)])) == [0, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "use one of -k"),
        ({"count": 3, "variance": 0.9}, "use one of -k"),
        ({"count": 0}, "-k must be a whole number of at least 1, not 0"),
        ({"count": 2.0}, "-k must be a whole number of at least 1, not 2.0"),
        ({"variance": 0.0}, "--variance must be a share above 0 and at most 1"),
        ({"variance": 99.9}, "not 99.9"),
        ({"variance": float("nan")}, "not nan"),
        ({"count": 2, "min_gap": 0.0}, "--min-gap must be above 0 nm"),
    ],
)
def test_wrong_wishes(values, message):
    with pytest.raises(UsageError, match=message):
        Wanted(**values)


def test_unknown_models_and_options():
    with pytest.raises(UsageError, match="unknown model 'cs' for select-features; did you mean 'css'"):
        FeatureRanker("cs")
    with pytest.raises(UsageError, match="fasthyde"):
        FeatureRanker("fasthyde")
    with pytest.raises(UsageError, match="css has no option 'nothing'; its options are"):
        FeatureRanker("css", options={"nothing": 3})
    about = FeatureRanker("css", options={"nothing": None}, seed=4).describe()
    assert (about["model"], about["options"], about["seed"]) == ("css", {"standardised": True}, 4)


def test_what_is_said_of_the_choice_is_that_of_its_own_ranking(scene):
    """The bands behind the chosen ones come from a ranking of all, of which nothing is left unexplained."""
    found = FeatureRanker("onr").select(scene, Wanted(count=1))
    assert found.ranking.about["unexplained"] > 0.01
