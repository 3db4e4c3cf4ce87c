from dataclasses import replace

import numpy as np
import pytest

from rsunfold.errors import UsageError
from rsunfold.ranking import (
    by_score,
    deviations,
    feature_samples,
    greedy_columns,
    noise_scaled,
    spaced,
    standardised,
)
from rsunfold.scene import scene_of
from rsunfold.spacing import Spacing


def gram(d=8, n=30, seed=0):
    Z = np.random.default_rng(seed).normal(size=(d, n))
    return Z, Z @ Z.T


def left_over(Z, rows):
    """||Z - P Z||_F^2, P the projection on the span of the rows."""
    coefficients = np.linalg.lstsq(Z[rows].T, Z.T, rcond=None)[0]
    return np.sum((Z.T - Z[rows].T @ coefficients) ** 2)


def test_samples_of_graphs_come_from_every_column():
    """Also where the width of the image is a multiple of the pixels between them."""
    rows, cols = 40, 10
    cube = np.broadcast_to(np.arange(cols, dtype=np.float32), (2, rows, cols))
    assert set(feature_samples(scene_of(cube), 100)[0]) == set(range(cols))


class TestGreedyColumns:
    def test_every_step_takes_the_row_that_explains_most(self):
        Z, K = gram()
        chosen = []
        for j in greedy_columns(K, 6)[0]:
            rest = [left_over(Z, [*chosen, i]) if i not in chosen else np.inf for i in range(len(Z))]
            assert j == np.argmin(rest)
            chosen.append(j)

    def test_gains_add_up_to_what_is_explained(self):
        Z, K = gram()
        order, gains = greedy_columns(K, 4)
        assert np.nansum(gains) == pytest.approx(1 - left_over(Z, order) / np.trace(K))
        assert np.isnan(np.delete(gains, order)).all()
        assert greedy_columns(K, 8)[1].sum() == pytest.approx(1)

    def test_a_smaller_choice_begins_a_larger_one(self):
        _, K = gram(20)
        np.testing.assert_array_equal(greedy_columns(K, 5)[0], greedy_columns(K, 20)[0][:5])
        assert sorted(greedy_columns(K, 20)[0]) == list(range(20))

    def test_duplicates_wait_for_all_others(self):
        Z, _ = gram(5)
        Z = np.concatenate([Z, 3 * Z, -Z[:2], np.zeros((2, 30)), Z[:1] + Z[1:2]])
        order = greedy_columns(Z @ Z.T, len(Z))[0]
        assert sorted(order) == list(range(len(Z)))
        assert np.linalg.matrix_rank(Z[order[:5]]) == 5
        assert np.linalg.matrix_rank(Z[order[5:10]]) == 5
        assert set(order[-2:]) == {12, 13}

    @pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
    def test_scale_does_not_matter(self, scale):
        _, K = gram(12)
        np.testing.assert_array_equal(greedy_columns(K * scale, 12)[0], greedy_columns(K, 12)[0])

    def test_ties_go_to_the_lower_index(self):
        assert greedy_columns(np.eye(4), 4)[0].tolist() == [0, 1, 2, 3]

    def test_nothing_to_explain(self):
        order, gains = greedy_columns(np.zeros((3, 3)), 2)
        assert order.tolist() == [0, 1]
        assert gains[:2].tolist() == [0, 0]

    def test_no_two_nearer_than_a_gap(self):
        _, K = gram(30)
        spacing = Spacing(np.arange(30.0), 4)
        order = greedy_columns(K, 30, spacing)[0]
        assert np.diff(np.sort(order)).min() >= 4
        assert order[0] == greedy_columns(K, 1)[0][0]
        # No further feature would fit in.
        assert spacing.near[order].any(axis=0).all()

    def test_a_gap_among_what_is_left_over_or_zero(self):
        K = np.diag([1.0, 1, 0, 0, 0])
        K[0, 1] = K[1, 0] = 1
        assert greedy_columns(K, 5, Spacing(np.array([0.0, 1, 5, 6, 9]), 2))[0].tolist() == [0, 2, 4]

    @pytest.mark.parametrize("wanted", range(1, 8))
    def test_the_order_changes_only_where_too_few_would_find_room(self, wanted):
        """Feature 7 is feature 2 again, and 3 and 8 are 0: a choice begins anew, and ends with what is 0."""
        Z, _ = gram(13)
        Z[7], Z[3], Z[8] = Z[2], 0, 0
        K, places = Z @ Z.T, np.random.default_rng(2).permutation(13) * 1.0
        before = greedy_columns(K, 13, Spacing(places, 2))[0]
        order = greedy_columns(K, 13, Spacing(places, 2, wanted))[0]
        assert len(order) >= wanted
        assert (order.tolist() == before.tolist()) == (wanted <= len(before))

    def test_with_targets_every_step_explains_most_of_them(self):
        Z, K = gram()
        A = np.random.default_rng(1).normal(size=(3, 8))
        T = A @ Z

        def left(rows):
            coefficients = np.linalg.lstsq(Z[rows].T, T.T, rcond=None)[0]
            return np.sum((T.T - Z[rows].T @ coefficients) ** 2)

        order, gains = greedy_columns(K, 6, targets=A)
        chosen = []
        for j in order:
            assert j == np.argmin([left([*chosen, i]) if i not in chosen else np.inf for i in range(len(Z))])
            chosen.append(j)
        assert np.nansum(gains) == pytest.approx(1 - left(chosen) / np.sum(T**2))

    def test_once_the_targets_are_represented_the_rows_are(self):
        _, K = gram()
        order, gains = greedy_columns(K, 8, targets=np.eye(8)[[5]])
        assert order[0] == 5
        rest = K - np.outer(K[5], K[5]) / K[5, 5]
        rest[5] = rest[:, 5] = 0
        np.testing.assert_array_equal(order[1:], greedy_columns(rest, 7)[0])
        assert gains[5] == pytest.approx(1)
        assert np.delete(gains, 5).max() < 1e-20

    @pytest.mark.parametrize("most", [0, 9])
    def test_too_few_and_too_many(self, most):
        with pytest.raises(UsageError, match="between 1 and 8"):
            greedy_columns(gram()[1], most)[0]


def test_scores_rank_from_the_largest_and_nan_last():
    scores = np.array([1.0, np.nan, 3, 1, -np.inf])
    assert by_score(scores).tolist() == [2, 0, 3, 1, 4]
    spacing = Spacing(np.array([0.0, 5, 1, 9, 7]), 2)
    assert by_score(scores, spacing).tolist() == [2, 3, 1, 4]
    assert spaced(np.array([0, 2, 4]), spacing).tolist() == [0, 4]


def test_standardised_between_covariance_and_correlation():
    rng = np.random.default_rng(0)
    x = rng.random((4, 50, 1), dtype=np.float32) * np.array([1, 0.5, 0.1, 0], np.float32)[:, None, None]
    x[3] = 0.3
    scene = scene_of(x)
    s = deviations(scene)
    assert s[3] == 0
    np.testing.assert_allclose(s[:3], x[:3, :, 0].std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(standardised(scene, 1)[:3, :3], np.corrcoef(x[:3, :, 0]), atol=1e-6)
    np.testing.assert_allclose(standardised(scene, 0)[:3, :3], scene.covariance[:3, :3])
    np.testing.assert_allclose(np.diag(standardised(scene, 0.5))[:3], s[:3])
    assert not standardised(scene, 0.5)[3].any()


class TestNoise:
    def scene(self, noise):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 500)).repeat(3, axis=0) * [[1], [2], [30], [1], [2], [0]]
        return replace(scene_of(x[:, None]), noise=np.asarray(noise))

    def test_variances_are_signal_to_noise_ratios(self):
        noise = np.array([0.5, 0.5, 3.0, 0.2, 1.0, 0.0])
        scene = self.scene(noise)
        K = noise_scaled(scene)
        np.testing.assert_allclose(K[:5, :5], scene.covariance[:5, :5] / noise[:5, None] / noise[:5])
        assert (K[5] == 0).all() and (K[:, 5] == 0).all()

    def test_units_do_not_matter(self):
        scene = self.scene([0.5, 0.5, 3.0, 0.2, 1.0, 0.0])
        units = np.array([1, 10, 0.1, 3, 1e6, 1.0])
        other = replace(scene, covariance=scene.covariance * units[:, None] * units, noise=scene.noise * units)
        np.testing.assert_allclose(noise_scaled(other), noise_scaled(scene))

    def test_bands_that_others_explain_whole_do_not_outweigh_all(self):
        scene = self.scene([0.1, 0.4, 3.0, 0.1, 0.0, 0.0])
        K = noise_scaled(scene)
        s = deviations(scene)
        least = np.median(scene.noise[:5] / s[:5]) / 4
        assert np.diagonal(K)[4] == pytest.approx(1 / least**2)
