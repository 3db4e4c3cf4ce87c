"""SPCA-Net: the iteration, its learning, and what is made of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rsunfold.errors import UsageError
from rsunfold.models.spca_net import NUMBERS, START, SPCANet, State, Unfolded, problem
from rsunfold.noise import regression_noise
from rsunfold.ranking import standardised
from rsunfold.scene import scene_of
from rsunfold.unfold.unrolled import Record


def lagrangian(S, state, numbers):
    """The augmented Lagrangian of the problem with Y and Z in its norms, W = Y and W = Z."""
    W, Y, Z, Lam, Pi = state
    left = (S.diagonal().sum() - (W * (S @ W)).sum()) / 2
    left = left + numbers["lam"] * torch.linalg.vector_norm(Y, dim=1).sum() + numbers["mu"] * Z.abs().sum()
    for V, multiplier, penalty in ((Y, Lam, numbers["alpha"]), (Z, Pi, numbers["beta"])):
        left = left + (multiplier * (W - V)).sum() + penalty / 2 * (W - V).square().sum()
    return left


def scene(x, seed=0):
    return scene_of(np.asarray(x, np.float32)[:, :, None], seed=seed)


def spectra(d=20, n=100, seed=0):
    """(d, n) in [0, 1] : smooth mixtures of four spectra, and noise."""
    rng = np.random.default_rng(seed)
    position = np.linspace(0, 1, d)[:, None]
    x = np.sin(2 * np.pi * (position * [0.5, 1, 2, 3] + [0, 0.3, 0.6, 0.1])) @ rng.dirichlet(np.ones(4), n).T
    x = x + rng.normal(0, 0.02, x.shape)
    return (x - x.min()) / np.ptp(x)


def start(d=20, p=4, lam=0.02):
    """(S, W) : a scaled matrix and its leading eigenvectors; and a network whose penalties bite."""
    K = standardised(scene(spectra(d)), 1.0)
    values, vectors = np.linalg.eigh(K)
    net = Unfolded(8)
    with torch.no_grad():
        for stage in net.stages:
            stage.lam.fill_(np.log(np.expm1(lam)))
            stage.mu.fill_(np.log(np.expm1(lam / 10)))
    return torch.from_numpy(K / values[-1]), torch.from_numpy(vectors[:, : -1 - p : -1].copy()), net


class TestIteration:
    def test_stages_begin_with_what_the_start_says(self):
        for numbers in Unfolded(3).learned():
            assert numbers == pytest.approx(START)
        assert START["eta"] <= 1 / (START["alpha"] + START["beta"] + 1) + 0.04

    def test_no_step_of_w_y_or_z_raises_the_lagrangian(self):
        S, W, net = start()
        record = Record()
        with torch.no_grad():
            net(S, W, keep=record)
            before = State.at(W)
            fell = 0.0
            for stage, letters in zip(net.stages, record.stages, strict=True):
                after, numbers = State(**letters), stage.numbers()
                halfway = before._replace(Y=after.Y, Z=after.Z)
                copies = lagrangian(S, before, numbers) - lagrangian(S, halfway, numbers)
                dual = halfway._replace(Lam=after.Lam, Pi=after.Pi)
                turned = lagrangian(S, dual, numbers) - lagrangian(S, after, numbers)
                assert copies >= -1e-12
                assert turned >= -1e-12
                fell += float(copies + turned)
                before = after
            assert fell > 1e-4

    def test_the_problem_falls_below_that_of_principal_components(self):
        S, W, net = start()
        with torch.no_grad():
            after = net(S, W)[0].W
        torch.testing.assert_close(after.T @ after, torch.eye(4, dtype=torch.float64))
        assert problem(S, after, 0.02, 0.002) < problem(S, W, 0.02, 0.002) - 5e-4

    def test_the_problem_is_the_error_of_reconstruction_and_the_norms(self):
        X = torch.randn(6, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        W = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
        expected = (X - W @ W.T @ X).square().sum() / 2 + 3 * W.norm(dim=1).sum() + 2 * W.abs().sum()
        torch.testing.assert_close(problem(X @ X.T, W, 3, 2), expected)

    def test_every_number_has_a_gradient(self):
        """Once some rows and elements vanish: what only shortens them does not depend on alpha and beta at first."""
        S, W, net = start(lam=0.05)
        problem(S, net(S, W)[0].W, 0.02, 0.002).backward()
        for stage in net.stages:
            for name in NUMBERS:
                gradient = getattr(stage, name).grad
                assert torch.isfinite(gradient)
                assert gradient != 0, name

    def test_components_that_coincide_have_finite_gradients(self):
        _, _, net = start()
        S = torch.diag(torch.tensor([1.0, 1, 1, 0.5], dtype=torch.float64))
        problem(S, net(S, torch.eye(4, dtype=torch.float64)[:, :2])[0].W, 0.02, 0.002).backward()
        assert all(torch.isfinite(p.grad) for p in net.parameters())


class TestLearning:
    def test_learning_lowers_the_loss_and_epochs_add_to_it(self):
        K = standardised(scene(spectra()), 0.75)
        none, some, more = (SPCANet(epochs=e).fit(K).about for e in (0, 5, 25))
        assert more["loss_after"] < some["loss_after"] < none["loss_after"] == none["loss_before"]
        assert all(v > 0 for stage in more["stages"] for v in stage.values())
        assert none["stages"][0] == pytest.approx(START)
        assert more["stages"][0] != pytest.approx(START)

    def test_learned_stages_equal_many_more_that_did_not_learn(self):
        K = standardised(scene(spectra(40)), 0.75)
        assert (
            SPCANet(stages=6, epochs=30).fit(K).about["loss_after"]
            < SPCANet(stages=24, epochs=0).fit(K).about["loss_after"]
        )

    def test_two_runs_are_equal_and_the_seed_does_not_matter(self):
        x = spectra()
        first, second = (SPCANet(epochs=5).rank(scene(x, seed), 8) for seed in (0, 1))
        np.testing.assert_array_equal(first.order, second.order)
        np.testing.assert_array_equal(first.scores, second.scores)
        assert first.about == second.about

    @pytest.mark.parametrize("norms", [False, True])
    def test_sign_shift_and_scale_of_the_data_do_not_matter(self, norms):
        x = spectra()
        expected = SPCANet(epochs=5, norms=norms).rank(scene(x), 6)
        for other in (1 - x, 0.25 * x + 0.5):
            found = SPCANet(epochs=5, norms=norms).rank(scene(other), 6)
            np.testing.assert_array_equal(found.order[:4], expected.order[:4])
            np.testing.assert_allclose(found.scores, expected.scores, atol=2e-3)

    def test_the_components(self):
        K = standardised(scene(spectra()), 0.75)
        assert SPCANet(epochs=0).fit(K).about["components"] == 3
        assert SPCANet(epochs=0, rank=7).fit(K).about["components"] == 7
        assert SPCANet(epochs=0, rank=99).fit(K).about["components"] == 20
        assert SPCANet(epochs=0).fit(np.eye(50)).about["components"] == 30
        about = SPCANet(epochs=3).fit(K).about
        assert 0.9 < about["explained"] <= about["explained_by_principal"] <= 1


class TestRanking:
    def test_the_first_features_predict_the_components(self):
        """As many features as components: what they leave of them is little, where row norms leave more."""
        x = spectra(40)
        K = standardised(scene(x), 0.75)
        V = np.linalg.eigh(K)[1][:, -3:]

        def unexplained(order):
            s = order[:3]
            E = K - K[:, s] @ np.linalg.solve(K[np.ix_(s, s)], K[s])
            return np.trace(V.T @ E @ V) / np.trace(V.T @ K @ V)

        ours, norms = (unexplained(SPCANet(norms=n).rank(scene(x), 3).order) for n in (False, True))
        assert ours < 0.05
        assert ours < norms / 2

    def test_scores_are_shares_of_the_components(self):
        found = SPCANet(epochs=3).rank(scene(spectra()), 20)
        assert found.scores.sum() == pytest.approx(1)
        assert found.scores[found.order[:4]].sum() > 0.9
        few = SPCANet(epochs=3).rank(scene(spectra()), 3)
        np.testing.assert_array_equal(few.order, found.order[:3])
        assert np.isnan(few.scores).sum() == 17

    def test_norms_rank_every_feature(self):
        found = SPCANet(epochs=3, norms=True).rank(scene(spectra()), 3)
        assert len(found.order) == 20
        assert (np.diff(found.scores[found.order]) <= 0).all()
        assert np.sum(found.scores**2) == pytest.approx(found.about["components"])

    def test_options(self):
        for wrong in ({"rank": 0}, {"stages": 0}, {"epochs": -1}):
            with pytest.raises(UsageError, match="must be at least"):
                SPCANet(**wrong)
        assert SPCANet(stages=4).parameters_count == 20


class TestPublished:
    def test_its_weights_fall_below_zero_and_its_start_is_random(self):
        given = scene(spectra(12, 40))
        found = SPCANet(published=True, stages=3).rank(given, 4)
        last = found.about["stages"][-1]
        assert last["lam"] < 0
        assert last["mu"] < 0
        other = SPCANet(published=True, stages=3).rank(scene(spectra(12, 40), seed=1), 4)
        assert not np.array_equal(found.scores, other.scores)
        again = SPCANet(published=True, stages=3).rank(given, 4)
        np.testing.assert_array_equal(found.scores, again.scores)

    def test_it_ranks_neighbours(self):
        """Row norms over the dominant components: its first features are more alike than ours."""
        x = spectra(40)
        R = np.abs(np.corrcoef(x))

        def alike(order):
            return R[np.ix_(order[:5], order[:5])].mean()

        published = alike(SPCANet(published=True, stages=3).rank(scene(x), 5).order)
        assert published > alike(SPCANet().rank(scene(x), 5).order)


def test_noisy_features_come_late_where_the_noise_is_known():
    """A feature of noise alone is like no other, and among the first by its deviation."""
    rng = np.random.default_rng(1)
    x = spectra(24, 3000)
    sigma = np.full(24, 0.005)
    sigma[[3, 11, 19]] = x.std()
    noisy = x + rng.normal(size=x.shape) * sigma[:, None]
    noisy[[3, 11, 19]] -= x[[3, 11, 19]]
    unknown = scene_of(noisy[:, None])
    known = replace(unknown, noise=regression_noise(unknown.covariance))
    first = SPCANet().rank(known, 12)
    assert not {3, 11, 19} & set(first.order[:8].tolist())
    assert {3, 11, 19} & set(SPCANet().rank(unknown, 12).order[:8].tolist())
    assert first.about["features_scaled_by"] == "noise"
