"""Selectors of features: what every one must do, the network included, and what makes each classical one what it is."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from scipy.sparse import csr_array

from rsunfold.classical import sogfs
from rsunfold.classical.css import ColumnSubset
from rsunfold.classical.e_fdpc import EFDPC
from rsunfold.classical.fspca import FSPCA, sparse_subspace
from rsunfold.classical.lap_score import LapScore, neighbour_graph
from rsunfold.classical.max_variance import MaxVariance
from rsunfold.classical.mcfs import MCFS, embedding
from rsunfold.classical.onr import ONR, optimal_neighbours
from rsunfold.classical.random_choice import RandomChoice
from rsunfold.classical.rne import GAMMA, RNE, refined, residuals, selections
from rsunfold.classical.sogfs import SOGFS
from rsunfold.classical.spcafs import SPCAFS, row_sparse
from rsunfold.classical.udfs import UDFS, discrimination
from rsunfold.classical.uniform import Uniform
from rsunfold.errors import UsageError
from rsunfold.ranking import eigenvectors
from rsunfold.registry import all_models
from rsunfold.scene import Scene, scene_of
from rsunfold.spacing import Spacing

MODELS = {spec.name: spec for spec in all_models("select-features")}
SEEING = {name: spec for name, spec in MODELS.items() if not spec.blind}
CLUSTERS = {"e-fdpc", "onr"}
"""Those that look for features which stand for others: a constant one, or one of noise alone, may be the first."""


def scene(x, seed=0):
    """Of samples x (d, n) in [0, 1]."""
    return scene_of(np.asarray(x, np.float32)[:, :, None], seed=seed)


def spectra(d=24, n=120, seed=0):
    """(d, n) in [0, 1] : smooth mixtures of four spectra, and noise."""
    rng = np.random.default_rng(seed)
    position = np.linspace(0, 1, d)[:, None]
    x = np.sin(2 * np.pi * (position * [0.5, 1, 2, 3] + [0, 0.3, 0.6, 0.1])) @ rng.dirichlet(np.ones(4), n).T
    x = x + rng.normal(0, 0.02, x.shape)
    return (x - x.min()) / np.ptp(x)


def build(spec):
    """With few parts where the method has sizes: what is tested here does not depend on them."""
    return spec.build(**spec.sizes.get("tiny", {}))


def check(ranking, d, least):
    order = ranking.order
    assert order.dtype == np.intp
    assert len(set(order.tolist())) == len(order) >= least
    assert set(order.tolist()) <= set(range(d))
    assert ranking.scores.shape == (d,)
    assert ranking.scores.dtype == np.float64
    assert not np.isinf(ranking.scores).any()


def test_the_selectors_are_registered():
    tables = {"spca-net", "css", "lapscore", "mcfs", "udfs", "spcafs", "fspca", "sogfs", "rne", "variance"}
    assert {*tables, *CLUSTERS, "uniform", "random"} <= set(MODELS)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
class TestEverySelector:
    @pytest.mark.parametrize(("d", "n"), [(2, 3), (2, 50), (7, 1), (7, 2), (40, 6), (24, 120)])
    def test_any_size(self, spec, d, n):
        for most in {1, 2, d}:
            check(build(spec).rank(scene(spectra(d, n)), most), d, most)

    def test_constant_features(self, spec):
        check(build(spec).rank(scene(np.full((6, 20), 0.3)), 4), 6, 4)
        x = spectra(6, 50)
        x = np.concatenate([x, x[:2, :1] + np.zeros((2, 50)), np.zeros((1, 50))])
        found = build(spec).rank(scene(x), 9)
        check(found, 9, 9)
        if spec.name in SEEING.keys() - CLUSTERS:
            assert set(found.order[-3:].tolist()) == {6, 7, 8}

    def test_duplicates_and_opposites(self, spec):
        x = spectra(8, 60)
        x = np.concatenate([x, x[:4], 1 - x[2:5]])
        check(build(spec).rank(scene(x), 15), 15, 15)

    def test_twice_the_same_and_the_input_left_alone(self, spec):
        given = scene(spectra())
        kept = given.mean.copy(), given.covariance.copy(), given.sample.copy()
        first, second = (build(spec).rank(given, 10) for _ in range(2))
        np.testing.assert_array_equal(first.order, second.order)
        np.testing.assert_array_equal(first.scores, second.scores)
        assert first.about == second.about
        for before, after in zip(kept, (given.mean, given.covariance, given.sample), strict=True):
            np.testing.assert_array_equal(before, after)

    def test_another_seed_matters_to_a_choice_that_is_drawn_alone(self, spec):
        x = spectra()
        one, two = (build(spec).rank(scene(x, seed), 10).order[:10].tolist() for seed in (0, 1))
        assert (one == two) == (not spec.drawn)

    def test_other_data_matter_unless_it_is_blind(self, spec):
        one, two = (build(spec).rank(scene(x), 6).order[:6].tolist() for x in (spectra(), spectra()[::-1] ** 2))
        assert (one == two) == spec.blind

    def test_the_first_are_the_same_however_many_are_asked_for_where_it_is_nested(self, spec):
        given = scene(spectra())
        orders = {k: build(spec).rank(given, k).order.tolist() for k in range(1, 25)}
        if spec.nested:
            assert [k for k, order in orders.items() if order[:k] != orders[24][:k]] == []

    def test_the_order_is_that_of_the_scores(self, spec):
        found = build(spec).rank(scene(spectra()), 5)
        told = found.scores[found.order[:5]]
        assert np.isnan(found.scores).all() or ((np.diff(told) <= 0).all() and np.nanmin(found.scores) < told[0])

    def test_a_gap_is_kept(self, spec):
        found = build(spec).rank(scene(spectra(24)), 6, Spacing(np.arange(24.0), 3))
        check(found, 24, 4)
        assert np.diff(np.sort(found.order)).min() >= 3

    @pytest.mark.parametrize("places", [range(15), [0, 2, 3, 5, 6, 7, 9, 10, 12, 13, 15, 18, 19, 21, 24]])
    def test_as_many_as_a_gap_leaves_room_for(self, spec, places):
        """Every second of 15 features, which is one choice alone, or one of a few choices."""
        places = np.array(places, float)
        k = Spacing(places, 2).most
        found = build(spec).rank(scene(spectra(15)), k, Spacing(places, 2, k)).order[:k]
        assert len(found) == k and np.diff(np.sort(places[found])).min() >= 2

    @pytest.mark.parametrize("most", [0, 25])
    def test_a_number_that_is_not_there(self, spec, most):
        with pytest.raises(UsageError, match="between 1 and 24"):
            build(spec).rank(scene(spectra(24)), most)

    def test_scale_does_not_matter(self, spec):
        x = spectra()
        half = build(spec).rank(scene(x * 0.5), 6).order[:6]
        np.testing.assert_array_equal(half, build(spec).rank(scene(x), 6).order[:6])

    def test_many_samples_take_no_square_of_them(self, spec, peak):
        """60,000 samples: one float64 matrix of them all by them all would take 29 GB."""
        given = scene(np.random.default_rng(0).random((4, 60_000), dtype=np.float32))
        assert peak(lambda: build(spec).rank(given, 2)) < 200e6

    def test_the_record_is_complete(self, spec, declared):
        declared(spec, bands=(2, None))
        assert spec.per_scene == (spec.kind == "network")


@pytest.mark.parametrize("name", [name for name in SEEING if name != "e-fdpc"])  # features of noise lie densest
def test_features_that_carry_the_groups_come_before_noise(name):
    """Three groups of samples in features 3, 8 and 12, each with a copy that is a little off; the others are noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.02, (16, 300))
    pattern = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])[:, np.repeat(np.arange(3), 100)]
    first, second = [3, 8, 12], [1, 5, 14]
    x[first] += pattern
    x[second] += pattern + rng.normal(0, 0.01, (3, 300))
    x = (x - x.min()) / np.ptp(x)
    assert set(MODELS[name].build().rank(scene(x), 2).order[:2].tolist()) <= {*first, *second}


def test_a_method_of_moments_needs_no_samples():
    """Large images are ranked from their mean and covariance; the sample may be as small as one likes."""
    given = scene(spectra())
    bare = Scene(given.mean, given.covariance, given.count, given.sample[:, :1])
    for name in ("css", "spca-net", "variance", "spcafs", "fspca", "e-fdpc", "onr"):
        model = build(MODELS[name])
        np.testing.assert_array_equal(model.rank(bare, 5).order, model.rank(given, 5).order)


class TestRandomAndUniform:
    def test_uniform_lies_in_the_middle_of_equal_parts(self):
        given = scene(spectra(20))
        assert Uniform().rank(given, 4).order.tolist() == [2, 7, 12, 17]
        assert Uniform().rank(given, 20).order.tolist() == list(range(20))
        assert Uniform().rank(given, 1).order.tolist() == [10]

    def test_random_draws_every_feature_alike(self):
        first = [RandomChoice().rank(scene(np.eye(4), seed), 1).order[0] for seed in range(400)]
        assert np.bincount(first, minlength=4).min() > 60


def test_variance_is_the_variance():
    x = spectra()
    found = MaxVariance().rank(scene(x), 3)
    np.testing.assert_allclose(found.scores, x.var(axis=1), rtol=1e-4)
    assert found.order[0] == x.var(axis=1).argmax()


class TestColumnSubset:
    def test_units_matter_only_where_features_are_not_standardised(self):
        x = spectra()
        factor = np.linspace(0.1, 1, len(x))[::-1, None]
        for standardised in (True, False):
            model = ColumnSubset(standardised=standardised)
            same = model.rank(scene(x), 6).order.tolist() == model.rank(scene(x * factor), 6).order.tolist()
            assert same == standardised

    def test_scores_add_up_to_what_is_explained(self):
        found = ColumnSubset().rank(scene(spectra()), 24)
        assert found.scores.sum() == pytest.approx(1)
        assert found.scores[found.order[:4]].sum() > 0.9


class TestLapScore:
    def test_it_equals_its_definition(self):
        x = np.float32(spectra(6, 30)).astype(np.float64)
        W = neighbour_graph(x, 5).toarray()
        np.testing.assert_array_equal(W, W.T)
        assert (np.count_nonzero(W, axis=1) >= 5).all()
        D = np.diag(W.sum(axis=1))
        one = np.ones(30)
        for f, score in zip(x, LapScore().rank(scene(x), 1).scores, strict=True):
            g = f - (f @ D @ one) / (one @ D @ one)
            assert score == pytest.approx(1 - g @ (D - W) @ g / (g @ D @ g), abs=1e-5)

    def test_only_evenly_spread_landmarks_are_looked_at(self):
        x = np.random.default_rng(0).random((3, 10_000))
        assert LapScore().rank(scene(x), 1).about["landmarks"] == 2000


class TestMCFS:
    @pytest.mark.parametrize("gap", [0.0, 50.0], ids=["one part", "three parts"])
    def test_the_embedding_solves_the_problem(self, gap):
        x = np.random.default_rng(0).normal(size=(2, 60))
        x[0] += gap * (np.arange(60) // 20)
        W = neighbour_graph(x, 5).toarray()
        D = np.diag(W.sum(axis=1))
        Y = embedding(x, 3, 5)
        assert Y.shape == (60, 3)
        smallest = np.sort(np.linalg.eigvals(np.linalg.solve(D, D - W)).real)[1:4]
        found = [y @ (D - W) @ y / (y @ D @ y) for y in Y.T]
        np.testing.assert_allclose(sorted(found), smallest, atol=1e-6)
        np.testing.assert_allclose(np.ones(60) @ D @ Y, 0, atol=1e-6)

    @pytest.mark.parametrize("bridge", [0.0, 1e-13], ids=["parts", "parts but for rounding"])
    def test_parts_of_the_graph_decide_whatever_the_order_of_the_samples(self, bridge, monkeypatch):
        def graph(x, neighbours):
            W = np.exp(-(((x[:, :, None] - x[:, None]) ** 2).sum(0)))
            W[np.abs(x[0][:, None] - x[0]) > 25] = bridge
            np.fill_diagonal(W, 0)
            return csr_array(W)

        monkeypatch.setattr("rsunfold.classical.mcfs.neighbour_graph", graph)
        x = 0.3 * np.random.default_rng(0).normal(size=(8, 60))
        x[0] += 50 * (np.arange(60) // 15)
        order = np.random.default_rng(1).permutation(60)
        a, b = embedding(x, 3, 5), embedding(x[:, order], 3, 5)
        np.testing.assert_allclose(np.sort(np.abs(a), axis=0), np.sort(np.abs(b), axis=0), atol=1e-9)
        assert all(len(np.unique(y.round(9))) == 2 for y in a.T)

    def test_it_needs_no_more_features_than_wanted_for_each_cluster(self):
        scores = MCFS(clusters=1).rank(scene(spectra()), 3).scores
        assert 1 <= np.count_nonzero(scores) <= 3


def test_udfs_scatter_between_neighbours():
    """M is positive semidefinite, and grows like a scatter matrix, as the ridge is relative."""
    x = spectra(6, 40) - 0.5
    M = discrimination(x, 5)
    assert np.linalg.eigvalsh(M)[0] > -1e-9
    np.testing.assert_allclose(discrimination(10 * x, 5), 100 * M, rtol=1e-6, atol=1e-9)
    # The sum over samples as it is written.
    gathered = np.zeros_like(M)
    for i in range(x.shape[1]):
        nearest = np.argsort(((x - x[:, [i]]) ** 2).sum(0))[:6]  # the sample itself and five neighbours
        H = np.eye(6) - 1 / 6
        gram = H @ x[:, nearest].T @ x[:, nearest] @ H
        r = 1e-3 * np.trace(gram) / 6
        B = r * np.linalg.inv(gram + r * np.eye(6))
        gathered += x[:, nearest] @ H @ B @ H @ x[:, nearest].T
    np.testing.assert_allclose(M, gathered, rtol=1e-6, atol=1e-9)
    assert UDFS(gamma=0).rank(scene(spectra()), 2).scores.max() <= 1 + 1e-9


class TestSPCAFS:
    @pytest.mark.parametrize("power", [0.5, 1.0])
    def test_the_rows_become_shorter_and_the_objective_falls(self, power):
        S = np.cov(spectra(20, 200))
        S /= np.linalg.eigvalsh(S)[-1]

        def penalty(W):
            return np.sum(np.linalg.norm(W, axis=1) ** power)

        plain, sparse = row_sparse(S, 3, 0.0, power), row_sparse(S, 3, 0.2, power)
        np.testing.assert_allclose(sparse.T @ sparse, np.eye(3), atol=1e-9)
        assert penalty(sparse) < 0.97 * penalty(plain)
        lost = np.trace(plain.T @ S @ plain) - np.trace(sparse.T @ S @ sparse)
        assert 0 < lost < 0.2 * (penalty(plain) - penalty(sparse))

    def test_fewer_samples_than_features_give_one_answer(self):
        """Of a multiple eigenvalue any basis is as good: the start must not depend on which one comes."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(30, 12))
        M = x @ x.T / 30  # 18 eigenvalues 0, 5 of them wanted
        first = np.linalg.norm(row_sparse(-M, 5, 0.1, 1.0), axis=1)
        mirror = np.diag(rng.choice([-1.0, 1.0], 30))
        order = rng.permutation(30)
        other = np.linalg.norm(row_sparse(-(mirror @ M @ mirror)[np.ix_(order, order)], 5, 0.1, 1.0), axis=1)
        np.testing.assert_allclose(other, first[order], atol=1e-6)

    def test_features_of_equal_norm_come_by_their_variance(self):
        """Ten features of nearly all the variance have norms of 1, whose rounding says nothing."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(16, 60)) * np.where(np.arange(16) % 3 > 0, np.linspace(2, 1, 16), 1e-4)[:, None]
        x = (x - x.min()) / np.ptp(x)
        expected = np.argsort(-x.var(axis=1))
        for given in (x, x[:, rng.permutation(60)], x.astype(np.float32), x / 3 + 0.1):
            found = SPCAFS().rank(scene_of(np.asarray(given)[:, :, None]), 5)
            np.testing.assert_array_equal(found.scores[found.order[:10]], 1)
            assert found.order[:10].tolist() == expected[:10].tolist()

    def test_options(self):
        for wrong in ({"components": 0}, {"power": 2}, {"weight": -1}):
            with pytest.raises(UsageError, match="spcafs needs"):
                SPCAFS(**wrong)


class TestFSPCA:
    @staticmethod
    def best(A, m, k):
        """The largest tr W' A W by looking at every choice of k rows."""
        blocks = (A[np.ix_(c, c)] for c in itertools.combinations(range(len(A)), k))
        return max(np.linalg.eigvalsh(block)[-m:].sum() for block in blocks)

    @staticmethod
    def matrix(d, rank, seed):
        Z = np.random.default_rng(seed).normal(size=(d, rank)) * np.linspace(1, 3, rank)
        return Z @ Z.T

    @pytest.mark.parametrize(("rank", "m", "k"), [(2, 3, 4), (3, 3, 5), (9, 4, 4), (9, 1, 1)])
    def test_the_global_optimum_where_one_is_known(self, rank, m, k):
        """A of low rank, or as many components as features."""
        for seed in range(5):
            A = self.matrix(9, rank, seed)
            objective, proxy = sparse_subspace(A, m, k)
            assert objective[-1] == pytest.approx(self.best(A, m, k))
            assert set(np.argsort(-proxy)[:k]) == set(np.argsort(-np.diagonal(A))[:k])

    def test_otherwise_the_objective_rises_to_nearly_the_best(self):
        steps, share = [], []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            Z = rng.normal(size=(14, 6)) @ rng.normal(size=(6, 100)) + rng.normal(size=(14, 100))
            A = np.cov(Z * rng.uniform(0.5, 2, (14, 1)))
            objective, proxy = sparse_subspace(A, 2, 5)
            assert (np.diff(objective) >= -1e-9).all()
            assert (proxy <= np.diagonal(A) + 1e-9).all()
            chosen = np.argsort(-proxy)[:5]
            assert np.linalg.eigvalsh(A[np.ix_(chosen, chosen)])[-2:].sum() == pytest.approx(objective[-1])
            steps.append(len(objective))
            share.append(objective[-1] / self.best(A, 2, 5))
        assert max(steps) > 1
        assert min(share) > 0.85 and np.mean(share) > 0.97

    def test_features_that_vary_together_come_before_some_that_vary_more(self):
        rng = np.random.default_rng(0)
        x = rng.normal(0, 1.3, (16, 2000))
        planted = [2, 5, 7, 11]
        x[planted] = rng.normal(size=2000) + rng.normal(0, 0.1, (4, 2000))
        x = (x - x.min()) / np.ptp(x)
        assert set(FSPCA(components=1).rank(scene(x), 4).order[:4].tolist()) == set(planted)
        assert not set(MaxVariance().rank(scene(x), 4).order[:4].tolist()) & set(planted)

    def test_options(self):
        with pytest.raises(UsageError, match="fspca needs"):
            FSPCA(components=0)


class TestSOGFS:
    @staticmethod
    def simplex(v):
        """The same by bisection: sum max(v - t, 0) falls with t."""
        t = scipy.optimize.brentq(lambda t: np.maximum(v - t, 0).sum() - 1, v.max() - 1, v.max(), xtol=1e-15)
        return np.maximum(v - t, 0)

    @staticmethod
    def objective(X, round_, S, F, W, gamma):
        """Term by term, as in the docstring."""
        apart = [((M.T[:, None] - M.T) ** 2).sum(axis=2) for M in (W.T @ X, F.T)]
        learned = np.sum(apart[0] * S + round_.alpha * S**2) + 2 * gamma * np.linalg.norm(W, axis=1).sum()
        return learned + round_.lam * np.sum(apart[1] * S)

    @staticmethod
    def data(n=60, d=12, seed=0):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(d, n)) + 2 * (np.arange(n) % 3 == np.arange(d)[:, None] % 5)
        X -= X.mean(axis=1, keepdims=True)
        return X / np.sqrt(np.trace(sogfs.scatter(X, sogfs.graph(sogfs.squares(X), 5)[0])) / d)

    def test_the_projection_on_the_simplex(self):
        rng = np.random.default_rng(0)
        V = np.concatenate([rng.normal(0, s, (30, 7)) for s in (0.01, 1, 1000)] + [np.zeros((1, 7)), np.ones((1, 7))])
        S = sogfs.simplex_rows(V)
        np.testing.assert_allclose(S.sum(axis=1), 1, atol=1e-12)
        assert (S >= 0).all()
        np.testing.assert_allclose(S, [self.simplex(v) for v in V], atol=1e-9)
        np.testing.assert_array_equal(sogfs.simplex_rows(np.array([[-np.inf, 0.0, 0.0]])), [[0, 0.5, 0.5]])

    def test_the_graph_is_the_minimum_with_k_neighbours_in_the_mean(self):
        D = sogfs.squares(self.data())
        S, alpha = sogfs.graph(D, 5)
        for i, row in enumerate(S):
            others = np.arange(60) != i
            assert row[i] == 0
            np.testing.assert_allclose(row[others], self.simplex(-D[i, others] / (2 * alpha)), atol=1e-9)
        ordered = np.sort(D, axis=1)[:, 1:]
        assert alpha == pytest.approx(np.mean(5 * ordered[:, 5] - ordered[:, :5].sum(axis=1)) / 2)
        assert 3 < np.count_nonzero(S, axis=1).mean() < 10

    @pytest.mark.parametrize("gamma", [0.0, 0.05])
    def test_no_step_raises_the_objective(self, gamma):
        X = self.data()
        rounds = list(sogfs.structured_graph(X, 4, 3, 5, gamma))
        assert len(rounds) > 2
        for old, new in itertools.pairwise(rounds):
            steps = [(old.S, old.F, old.W), (new.S, old.F, old.W), (new.S, new.F, old.W), (new.S, new.F, new.W)]
            values = [self.objective(X, new, *variables, gamma) for variables in steps]
            assert (np.diff(values) <= 1e-4 * abs(values[0])).all(), values
            assert values[1] < values[0]
            for M in (new.F, new.W):
                np.testing.assert_allclose(M.T @ M, np.eye(M.shape[1]), atol=1e-9)
            np.testing.assert_allclose(new.S.sum(axis=1), 1, atol=1e-12)

    def test_the_graph_falls_into_as_many_parts_as_wanted(self):
        for clusters in (2, 3, 6):
            found = SOGFS(clusters=clusters).rank(scene(spectra(20, 200)), 5)
            assert found.about["parts"] == clusters and not found.notes

    def test_samples_that_repeat(self):
        x = np.repeat(np.random.default_rng(0).random((6, 3)), 40, axis=1)
        found = SOGFS(clusters=3).rank(scene(x), 3)
        assert np.isfinite(found.scores).all() and found.scores.max() > 0

    def test_features_with_clusters_come_first_whatever_their_unit(self):
        """Five groups in features 3, 8 and 12; the others are noise of the same and of much larger deviation."""
        rng = np.random.default_rng(1)
        x = rng.normal(0, 1, (20, 400)) * np.linspace(0.1, 3, 20)[:, None]
        x[[3, 8, 12]] = rng.normal(size=(3, 5))[:, np.arange(400) % 5] + rng.normal(0, 0.02, (3, 400))
        x = (x - x.min()) / np.ptp(x)
        assert set(SOGFS(clusters=5, components=3).rank(scene(x), 3).order[:3].tolist()) == {3, 8, 12}

    def test_options(self):
        for wrong in ({"components": 0}, {"clusters": 0}, {"gamma": -1}, {"gamma": np.nan}, {"neighbours": 0}):
            with pytest.raises(UsageError, match="sogfs needs"):
                SOGFS(**wrong)


class TestRNE:
    def test_the_weights_are_those_of_the_best_mixture(self):
        X = np.random.default_rng(0).normal(size=(40, 12))
        A = residuals(X, 3)
        np.testing.assert_allclose(residuals(2 * X + 5, 3), 2 * A, atol=1e-9)
        for x, a in zip(X, A, strict=True):
            near = np.argsort(((X - x) ** 2).sum(axis=1))[1:4]
            Z = X[near] - x
            ridge = 1e-3 * np.trace(Z @ Z.T)
            # Minimum of |sum_j w_j z_j|^2 + ridge |w|^2 with sum w = 1, by its Karush-Kuhn-Tucker system.
            K = np.block([[2 * (Z @ Z.T + ridge * np.eye(3)), np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]])
            w = np.linalg.solve(K, [0, 0, 0, 1])[:3]
            np.testing.assert_allclose(a, x - w @ X[near], atol=1e-9)

    def test_a_step_of_h_lowers_the_lagrangian(self):
        rng = np.random.default_rng(0)
        A, H = rng.normal(size=(30, 8)), rng.random((8, 3))
        M, Y = A @ H + rng.normal(size=(30, 3)), rng.normal(size=(30, 3))

        def lagrangian(H):
            R = M - A @ H
            lost = np.sum(Y * R) + GAMMA / 2 * np.sum(R**2)
            return lost + 1000 / 4 * np.sum((H.T @ H - np.eye(3)) ** 2)

        new = refined(H, A.T @ A, A.T @ M, A.T @ Y, GAMMA, 1000.0)
        assert lagrangian(new) < lagrangian(H / np.linalg.norm(H, axis=0))

    def test_it_ends_with_rows_of_a_selection_and_a_smaller_error(self):
        x = spectra(12, 80)
        A = residuals(((x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)).T / np.sqrt(12), 5)
        first, *_, H = selections(A, 3, 1000.0)
        assert (H >= 0).all()
        np.testing.assert_allclose(H.T @ H, np.eye(3), atol=0.02)
        assert np.abs(A @ H).sum() < np.abs(A @ first).sum()

    def test_options(self):
        for wrong in ({"alpha": 0}, {"alpha": np.inf}, {"neighbours": 0}):
            with pytest.raises(UsageError, match="rne needs"):
                RNE(**wrong)


class TestEFDPC:
    def test_it_equals_its_definition(self):
        x = np.float32(spectra(10, 40)).astype(np.float64)
        k, d = 3, 10
        D = np.sqrt(((x[:, None] - x[None]) ** 2).mean(axis=2))
        cut = np.quantile(D[np.triu_indices(d, 1)], 0.02) / np.exp(k / d)
        rho = np.array([sum(np.exp(-((D[i, j] / cut) ** 2)) for j in range(d) if j != i) for i in range(d)])
        delta = np.array([min([D[i, j] for j in range(d) if rho[j] > rho[i]], default=D[i].max()) for i in range(d)])
        rho, delta = (rho - rho.min()) / np.ptp(rho), (delta - delta.min()) / np.ptp(delta)
        np.testing.assert_allclose(EFDPC().rank(scene(x), k).scores, rho * delta**2, rtol=1e-3, atol=1e-4)

    def test_of_duplicates_one_is_taken(self):
        x = spectra(6, 60)
        found = EFDPC().rank(scene(np.concatenate([x, x])), 3)
        assert len({j % 6 for j in found.order[:3].tolist()}) == 3


class TestONR:
    @staticmethod
    def error(C, chosen):
        total = 0.0
        for b in set(range(len(C))) - set(chosen):
            side = [max((i for i in chosen if i < b), default=None), min((i for i in chosen if i > b), default=None)]
            use = [i for i in side if i is not None]
            total += C[b, b] - C[b, use] @ np.linalg.pinv(C[np.ix_(use, use)]) @ C[use, b]
        return total

    @pytest.mark.parametrize("k", [1, 2, 4])
    def test_no_other_choice_is_better(self, k):
        C = np.cov(spectra(9, 60))
        chosen, error = optimal_neighbours(C, k)
        assert error == pytest.approx(self.error(C, chosen.tolist()))
        assert error <= min(self.error(C, c) for c in itertools.combinations(range(9), k)) + 1e-12

    def test_with_a_gap_it_is_the_best_that_keeps_it(self):
        C = np.cov(spectra(9, 60))
        near = Spacing(np.arange(9.0), 3)
        allowed = [c for c in itertools.combinations(range(9), 3) if min(np.diff(c)) >= 3]
        assert optimal_neighbours(C, 3, near)[1] == pytest.approx(min(self.error(C, c) for c in allowed))
        assert len(optimal_neighbours(C, 9, near)[0]) == 3

    def test_nothing_left_with_all(self):
        assert ONR().rank(scene(spectra(8)), 8).about["unexplained"] == pytest.approx(0, abs=1e-12)


def test_eigenvectors_where_the_method_for_some_of_them_gives_up(monkeypatch):
    """LAPACK does so on some processors, for matrices with many equal eigenvalues."""
    A = np.random.default_rng(0).normal(size=(9, 9))
    A += A.T
    expected = eigenvectors(A, 2, 5)
    assert expected.shape == (9, 3)

    def fails(*args, **options):
        raise np.linalg.LinAlgError("Internal Error.")

    monkeypatch.setattr(scipy.linalg, "eigh", fails)
    found = eigenvectors(A, 2, 5)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1)
