"""Figures of merit of selected features."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import cohen_kappa_score, normalized_mutual_info_score, recall_score

from rsunfold.errors import InputError, UsageError
from rsunfold.metrics.features import (
    FORMULAS,
    _predict,
    _split,
    _tile_split,
    agreement,
    classification,
    clustering,
    clustering_accuracy,
    plain_centres,
)


def groups(n=30, classes=4, spread=0.1, seed=0):
    """Samples (n classes, 2) around corners of a square, and labels that are words."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[:classes]
    y = np.repeat(np.arange(classes), n)
    return centres[y] + rng.normal(0, spread, (len(y), 2)), np.array(["water", "soil", "road", "tree"])[y]


class TestClustering:
    def test_separate_groups_are_found_by_any_start(self):
        X, y = groups(spread=0.01)
        found = clustering(X, y, range(20))
        assert max(found["acc"]) == max(found["nmi"]) == pytest.approx(1)
        assert len(found["acc"]) == 20

    def test_features_without_the_classes_score_low(self):
        X, y = groups(spread=5)
        found = clustering(X, y, range(3))
        assert np.mean(found["acc"]) < 0.5
        assert np.mean(found["nmi"]) < 0.2

    @pytest.mark.parametrize("plain", [True, False])
    def test_the_seed_decides(self, plain):
        X, y = groups(spread=0.5)
        assert clustering(X, y, [3, 4], plain) == clustering(X, y, [3, 4], plain)
        runs = clustering(X, y, range(8), plain)["acc"]
        assert len(set(runs)) > 1

    def test_the_greedy_start_is_better_on_average(self):
        """Twenty-five groups, many of which one draw for each centre misses."""
        rng = np.random.default_rng(0)
        y = np.repeat(np.arange(25), 12)
        X = np.stack([y % 5, y // 5], axis=1) + rng.normal(0, 0.05, (len(y), 2))
        plain, greedy = (np.mean(clustering(X, y, range(15), plain=p)["acc"]) for p in (True, False))
        assert plain < greedy - 0.02

    def test_a_seed_is_one_greedy_start(self):
        X, y = groups(spread=0.5)
        one = [clustering_accuracy(y, KMeans(4, n_init=1, random_state=s).fit(X).labels_) for s in range(8)]
        assert clustering(X, y, range(8), plain=False)["acc"] == pytest.approx(one)

    def test_fewer_distinct_samples_than_classes(self):
        X = np.repeat([[0.0], [1.0]], 6, axis=0)
        found = clustering(X, np.arange(12) % 3, [0])
        assert found["acc"] == pytest.approx([1 / 3]) and found["nmi"] == pytest.approx([0], abs=1e-9)

    def test_bad_input(self):
        X, y = groups()
        with pytest.raises(InputError, match="NaN"):
            clustering(np.where(X > 1, np.nan, X), y, [0])
        with pytest.raises(InputError, match="do not go with"):
            clustering(X, y[:-1], [0])
        with pytest.raises(InputError, match="two classes or more; all labels are the same"):
            clustering(X, np.ones_like(y), [0])
        with pytest.raises(InputError, match="no labelled"):
            clustering(X[:0], y[:0], [0])


def test_centres_are_drawn_by_squared_distance():
    """Three points: from 0, the one at distance 3 is nine times as likely as that at distance 1."""
    X = np.array([[0.0], [1], [3]])
    second = [c[1, 0] for c in (plain_centres(X, 2, s) for s in range(3000)) if c[0, 0] == 0]
    assert np.mean(np.array(second) == 3) == pytest.approx(0.9, abs=0.03)
    assert 0 not in second


def test_centres_are_those_of_the_same_points_far_from_the_origin():
    X, _ = groups()
    X = np.round(X * 8) / 8  # what is added changes no digit
    for seed in range(20):
        np.testing.assert_array_equal(plain_centres(X + 2.0**40, 4, seed) - 2.0**40, plain_centres(X, 4, seed))


def test_accuracy_is_that_of_the_best_map():
    y = np.array([0, 0, 0, 1, 1, 2])
    assert clustering_accuracy(y, np.array([7, 7, 5, 5, 5, 1])) == pytest.approx(5 / 6)
    assert clustering_accuracy(y, np.zeros(6)) == pytest.approx(3 / 6)
    assert clustering_accuracy(y, np.arange(6)) == pytest.approx(3 / 6)


def test_nmi_is_divided_by_the_mean_entropy():
    X, y = np.array([[0.0], [0], [1], [1]]), np.array([0, 0, 0, 1])
    (found,) = clustering(X, y, [0])["nmi"]
    assert found == pytest.approx(normalized_mutual_info_score(y, [0, 0, 1, 1]))
    h = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    shared = h + np.log(2) + sum(p * np.log(p) for p in (0.5, 0.25, 0.25))
    assert found == pytest.approx(shared / ((h + np.log(2)) / 2))


def test_agreement_equals_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 200)
    p = np.where(rng.random(200) < 0.6, y, rng.integers(0, 5, 200))
    found = agreement(y, p)
    assert found["oa"] == pytest.approx(np.mean(y == p))
    assert found["aa"] == pytest.approx(recall_score(y, p, labels=range(4), average="macro"))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(y, p))
    assert agreement(np.ones(3), np.ones(3)) == {"oa": 1.0, "aa": 1.0, "kappa": 0.0}


class TestClassification:
    def test_the_better_feature_classifies_better(self):
        X, y = groups(60, spread=0.2)
        both = classification(X, y, 0.2, range(3))
        one = classification(X[:, :1], y, 0.2, range(3))
        assert np.mean(both["oa"]) > 0.9
        assert np.mean(one["oa"]) < 0.7
        assert np.mean(both["kappa"]) == pytest.approx((np.mean(both["oa"]) - 0.25) / 0.75, abs=0.02)

    def test_units_do_not_matter(self):
        X, y = groups(spread=0.3)
        assert classification(X, y, 0.3, [0, 1]) == classification(X * [1e4, 1e-3] - 7e4, y, 0.3, [0, 1])

    def test_test_samples_have_no_part_in_the_units(self):
        X, y = groups(60, spread=0.3)
        y = np.unique(y, return_inverse=True)[1]
        train = _split(y, 0.2, 0)
        far = X.copy()
        far[np.flatnonzero(~train)[:40]] += [300, 0]
        np.testing.assert_array_equal(_predict(far, y, train, 0)[40:], _predict(X, y, train, 0)[40:])

    def test_copies_of_features_change_nothing(self):
        X, y = groups(60, spread=0.3)
        assert classification(np.tile(X, (1, 64)), y, 0.2, [0]) == classification(X, y, 0.2, [0])

    def test_every_seed_draws_its_own_samples(self):
        y = np.arange(120) // 30
        assert (_split(y, 0.2, 0) != _split(y, 0.2, 1)).any()
        assert (_tile_split(y, np.arange(120) // 5, 0.5, 0) != _tile_split(y, np.arange(120) // 5, 0.5, 1)).any()

    def test_each_class_has_two_samples_to_learn_from_and_one_to_test_on_where_it_can(self):
        y = np.repeat(range(4), [20, 3, 2, 1])
        assert np.bincount(y[_split(y, 0.05, 0)]).tolist() == [2, 2, 1, 1]

    def test_by_tile_a_feature_that_names_the_tile_is_no_use(self):
        rng = np.random.default_rng(0)
        tiles = np.repeat(np.arange(12), 20)
        y = rng.permutation(np.arange(12) % 2)[tiles]
        X = rng.permutation(12)[tiles][:, None] + rng.normal(0, 0.05, (240, 1))
        assert np.mean(classification(X, y, 0.5, range(3))["oa"]) > 0.95
        assert np.mean(classification(X, y, 0.5, range(3), tiles)["oa"]) < 0.8

    def test_training_tiles_hold_every_class_where_they_can(self):
        X, y = groups(20, spread=0.02)
        tiles = np.repeat(np.arange(8), 10)
        assert np.mean(classification(X, y, 0.5, range(5), tiles)["oa"]) == pytest.approx(1)

    def test_a_tile_is_left_to_test_on(self):
        X, y = groups(20, spread=0.02)
        assert classification(X, y, 0.9, [0], np.arange(80) % 2)["oa"] == [1]

    def test_a_class_of_one_sample_is_learned_from_and_not_tested(self):
        X, y = groups(10, spread=0.01)
        X, y = np.append(X, [[9, 9]], axis=0), np.append(y, "rare")
        found = classification(X, y, 0.2, [0])
        assert found["oa"] == found["aa"] == [1]

    def test_bad_input(self):
        X, y = groups()
        with pytest.raises(UsageError, match="between 0 and 1"):
            classification(X, y, 1.0, [0])
        with pytest.raises(InputError, match="two classes"):
            classification(X, np.ones(len(X)), 0.1, [0])
        with pytest.raises(InputError, match="two tiles"):
            classification(X, y, 0.1, [0], np.ones(len(X)))


def test_every_figure_has_its_formula():
    X, y = groups()
    assert set(clustering(X, y, [0])) | set(classification(X, y, 0.3, [0])) == set(FORMULAS)
