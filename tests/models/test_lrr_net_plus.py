"""LRR-Net+: one stage against its equations, what learning does, and what holds for any scene."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsunfold.errors import UsageError
from rsunfold.models import lrr_net_plus as module
from rsunfold.models.lrr_net_plus import NUMBERS, LRRNetPlus, Problem, Rotation, State, Unfolded, background
from rsunfold.registry import get_model
from rsunfold.scene import Floats, scene_of

WAYS = pytest.mark.parametrize("literal", [False, True], ids=["ours", "literal"])


def landscape(bands: int = 8, rows: int = 18, cols: int = 20, seed: int = 0) -> tuple[Floats, np.ndarray]:
    """Three materials that pass into each other, noise, and a few pixels of a fourth; samples in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    shares = np.stack([1.2 + np.sin(0.3 * y + 0.2 * k * x + k) for k in range(3)])
    spectra = rng.random((bands, 4))
    cube = np.tensordot(spectra[:, :3], shares / shares.sum(0), axes=1) + rng.normal(0, 0.01, (bands, rows, cols))
    truth = np.zeros((rows, cols), bool)
    truth[4, 5] = truth[10:12, 14] = True
    cube = np.where(truth, spectra[:, 3, None, None], cube)
    return ((cube - cube.min()) / np.ptp(cube)).astype(np.float32), truth


def everywhere(cube: Floats) -> np.ndarray:
    return np.ones(cube.shape[1:], bool)


def score(cube: Floats, *, seed: int = 0, **arch) -> Floats:
    model = LRRNetPlus(**{"epochs": 2, "stages": 2, "atoms": 4, **arch})
    return model.fit(scene_of(cube, seed=seed))(cube, everywhere(cube))


def pixels(M: int = 90, B: int = 5, K: int = 4) -> tuple[Tensor, Tensor]:
    """Features (M, B) and labels (M, K) as a scene gives them."""
    draw = torch.Generator().manual_seed(3)
    X = torch.randn(M, B, generator=draw, dtype=torch.float64) / B**0.5
    return X, torch.eye(K, dtype=torch.float64)[torch.arange(M) % K]


def shaken(B: int, K: int, stages: int, literal: bool, size: float = 0.1) -> Unfolded:
    """A network off its start."""
    net = Unfolded(B, K, stages, literal)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p += size * torch.randn(p.shape, generator=draw, dtype=p.dtype)
            if literal and name.endswith(("l2", "l3")):
                p += 10  # 1e-5 is no threshold
    return net


def trajectory(net: Unfolded, X: Tensor, L: Tensor) -> list[tuple[State, State, module.Shared]]:
    """(before, after, shared) of every stage."""
    state = State(L, torch.zeros_like(X), torch.zeros_like(L), torch.zeros_like(L))
    found = []
    with torch.no_grad():
        for stage in net.iterations():
            shared = stage.share(X, state)
            after = stage(X, state, shared)
            found.append((state, after, shared))
            state = after
    return found


# ---------------------------------------------------------------------- the iteration


def reference(stage: module.Stage, X: np.ndarray, state: State) -> dict[str, np.ndarray]:
    """The equations of the class's docstring, pixel by pixel and with the SVD itself."""
    L, S, J, d = (v.numpy() for v in state)
    l1, l2, l3, mu = (math.exp(getattr(stage, k).item()) for k in NUMBERS)
    M, K = L.shape
    literal = stage.literal
    D = np.linalg.inv(L.T @ L + l1 * (1 if literal else M / K) * np.eye(K)) @ L.T @ (X - S)
    mu *= 1 if literal else np.trace(D @ D.T) / K
    G = np.linalg.inv(D @ D.T + mu * np.eye(K))
    Gamma, Theta = G @ D + stage.gamma.detach().numpy(), mu * G + stage.theta.detach().numpy()
    L = np.stack([Gamma @ (X[i] - S[i]) + Theta @ (J[i] - d[i]) for i in range(M)])
    R = X - L @ D
    lengths = np.sqrt((R**2).sum(1))
    limit = l3 if literal else l3 * np.quantile(lengths, module.QUANTILE)
    S = np.stack([r * max(0, 1 - limit / n) for r, n in zip(R, lengths, strict=True)])
    U, s, V = np.linalg.svd(L - d if literal else L + d, full_matrices=False)
    J = (U * np.maximum(0, s - l2 * (1 if literal else s.mean()))) @ V
    d = d + L - J
    c = np.ones(K) if literal else np.sqrt((L**2).mean(0))
    return {"D": D * c[:, None], "L": L / c, "S": S, "J": J / c, "d": d / c, "limit": np.array(limit), "mu": mu}


@WAYS
def test_a_stage_is_its_equations(literal):
    X, L = pixels()
    net = shaken(5, 4, 3, literal)
    for stage, (before, after, shared) in zip(net.iterations(), trajectory(net, X, L), strict=True):
        expected = reference(stage, X.numpy(), before)
        found = {**after._asdict(), "D": shared.D * shared.c[:, None], "limit": shared.l3}
        for letter, value in found.items():
            np.testing.assert_allclose(value, expected[letter], rtol=1e-8, atol=1e-10, err_msg=letter)
        np.testing.assert_allclose(background(after, shared), expected["J"] @ expected["D"], rtol=1e-8, atol=1e-10)
        assert (after.S == 0).all(1).any() and (after.S != 0).all(1).any()


def test_no_block_of_a_stage_raises_the_augmented_lagrangian():
    """With the numbers of that stage and the corrections at their start, 0; D, L, S and J are minimisers."""
    X, L = pixels(200, 6, 5)
    net = Unfolded(6, 5, 5, literal=False)
    draw = torch.Generator().manual_seed(0)
    fell = {}
    for stage, (before, after, shared) in zip(net.iterations(), trajectory(net, X, L), strict=True):
        l1, l2, _, mu = (float(v.detach()) for v in stage.numbers())
        l1, mu = l1 * len(X) / 5, mu * float((shared.D**2).sum()) / 5
        new = {"D": shared.D, "L": after.L * shared.c, "S": after.S, "J": after.J * shared.c}
        d = before.d
        nuclear = mu * l2 * float(torch.linalg.svdvals(new["L"] + d).mean())

        def lagrangian(now, l1=l1, mu=mu, l2=nuclear, l3=float(shared.l3), d=d) -> float:
            value = (X - now["L"] @ now["D"] - now["S"]).square().sum() / 2 + l1 / 2 * now["D"].square().sum()
            value += l2 * torch.linalg.svdvals(now["J"]).sum() + l3 * torch.linalg.vector_norm(now["S"], dim=1).sum()
            return float(value + mu / 2 * ((now["L"] - now["J"] + d).square().sum() - d.square().sum()))

        start = torch.zeros(5, 6, dtype=torch.float64)
        now = {"D": start, "L": before.L, "S": before.S, "J": before.J}
        value = lagrangian(now)
        for letter in "DLSJ":
            now[letter] = new[letter]
            lower = lagrangian(now)
            assert lower <= value + 1e-9 * abs(value), letter
            fell[letter] = fell.get(letter, 0) + value - lower
            value = lower
            for size in (1e-3, 0.1):
                away = torch.randn(new[letter].shape, generator=draw, dtype=torch.float64)
                assert lagrangian({**now, letter: new[letter] + size * away}) > lower, letter
        torch.testing.assert_close(after.d * shared.c, d + new["L"] - new["J"])
    assert all(fall > 1e-6 for fall in fell.values()), fell


def test_codes_and_their_low_rank_copies_come_together():
    X, L = pixels(200, 6, 5)
    apart = [float((after.L - after.J).norm()) for _, after, _ in trajectory(Unfolded(6, 5, 60, False), X, L)]
    assert apart[-1] < 0.1 * max(apart)


def test_the_normalisation_keeps_the_background_and_gives_codes_of_unit_size():
    X, L = pixels()
    for before, after, shared in trajectory(shaken(5, 4, 4, False), X, L):
        torch.testing.assert_close(after.L.square().mean(0), torch.ones(4, dtype=torch.float64))
        plain = module._codes(X, before, shared.Gamma, shared.Theta)
        torch.testing.assert_close((after.L * shared.c) @ shared.D, plain @ shared.D)


@WAYS
def test_shared_values_of_the_scene_make_every_pixel_its_own(literal):
    X, L = pixels()
    net = shaken(5, 4, 3, literal)
    with torch.no_grad():
        whole, shared = net(X, L)
        some, same = net(X[17:40], L[17:40], shared)
    assert all(a is b for a, b in zip(shared, same, strict=True))
    for a, b in zip(whole, some, strict=True):
        torch.testing.assert_close(a[17:40], b)


# ---------------------------------------------------------------------- learning


@WAYS
def test_every_learned_parameter_gets_a_gradient(literal):
    X, L = pixels()
    net = shaken(5, 4, 3, literal)
    state, shared = net(X, L)
    if literal:
        loss = (X - background(state, shared[-1]) - state.S).square().mean()
    else:
        loss = Problem.at(state, shared[-1], net.iterations()[-1]).value(
            X, background(state, shared[-1]), state.J, shared[-1]
        )
    loss.backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # J and d begin with 0, so that the first Theta has nothing to act on. The objective has S at its minimum, so that
    # the last S, and with it its limit, takes no part.
    assert idle == {"stages.0.theta"} | (set() if literal else {"stages.2.l3"})
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_learning_lowers_the_objective():
    cube, _ = landscape()
    fitted = LRRNetPlus(epochs=15, stages=3, atoms=5).learned(scene_of(cube))
    assert len(fitted.losses) == 16 and fitted.losses[-1] < 0.999 * fitted.losses[0]
    assert fitted.losses[-1] == min(fitted.losses)
    about = fitted.describe()
    assert (about["loss_before"], about["loss_after"]) == ([fitted.losses[0]], [fitted.losses[-1]])
    assert len(about["stages"]) == 3 and all(v > 0 for stage in about["stages"] for v in stage.values())
    start = LRRNetPlus(epochs=0, stages=3, atoms=5).learned(scene_of(cube))
    assert start.losses == [fitted.losses[0]]
    assert any(abs(a["mu"] - b["mu"]) > 1e-3 for a, b in zip(about["stages"], start.describe()["stages"], strict=True))


def test_the_objective_is_the_problem_with_S_at_its_minimum():
    X, L = pixels()
    net = shaken(5, 4, 2, False)
    _, after, shared = trajectory(net, X, L)[-1]
    problem = Problem(0.3, 0.2, 0.4)
    fit, D = background(after, shared), shared.D * shared.c[:, None]
    R = X - fit
    S = R * torch.relu(1 - 0.4 / torch.linalg.vector_norm(R, dim=1, keepdim=True))

    def full(S: Tensor) -> float:
        value = (R - S).square().sum() / 2 + 0.4 * torch.linalg.vector_norm(S, dim=1).sum()
        return float(value + 0.2 * torch.linalg.svdvals(after.J).sum() + 0.15 * D.square().sum()) / len(X)

    assert float(problem.value(X, fit, after.J, shared)) == pytest.approx(full(S), rel=1e-9)
    assert full(1.05 * S) > full(S) < full(0.95 * S)


# ---------------------------------------------------------------------- scores


@WAYS
def test_deterministic_and_the_seed_matters(literal):
    cube, _ = landscape(12, 30, 30)
    kept = cube.copy()
    first = score(cube, seed=4, literal=literal)
    np.testing.assert_array_equal(first, score(cube, seed=4, literal=literal))
    torch.rand(5)  # no random number of anybody else
    np.testing.assert_array_equal(first, score(cube, seed=4, literal=literal))
    assert any(not np.array_equal(first, score(cube, seed=seed, literal=literal)) for seed in (5, 6, 7))
    np.testing.assert_array_equal(cube, kept)


@WAYS
def test_a_window_equals_the_whole_image(literal, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 100)
    cube, _ = landscape(12, 25, 33)
    scorer = LRRNetPlus(epochs=2, literal=literal).fit(scene_of(cube))
    whole = scorer(cube, everywhere(cube))
    part = np.ascontiguousarray(cube[:, 3:17, 11:30])
    np.testing.assert_allclose(scorer(part, everywhere(part)), whole[3:17, 11:30], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("limit", ["TRAINED_ON", "CLUSTERED"])
def test_every_column_of_the_scene_is_learned_from(limit, monkeypatch):
    """Also where the width is a multiple of the pixels between those that are looked at."""
    monkeypatch.setattr(module, limit, 100)
    rows, cols = 40, 10
    cube = np.broadcast_to(np.arange(cols, dtype=np.float32), (1, rows, cols))
    seen = []
    monkeypatch.setattr(LRRNetPlus, "_train", lambda self, net, X, clusters: seen.extend((X, clusters.centres)) or [])
    LRRNetPlus(literal=True, atoms=cols).fit(scene_of(cube))
    learned_from = seen[0] if limit == "TRAINED_ON" else seen[1]
    assert set(learned_from[:, 0].round().long().tolist()) == set(range(cols))


def test_anomalies_score_highest():
    cube, truth = landscape()
    found = score(cube, epochs=20, stages=4, atoms=6)
    assert found[truth].min() > np.quantile(found[~truth], 0.98)


def test_no_direction_of_the_dictionary_begins_as_rounding():
    """The centres of all pixels, of mean 0, depend on one another; those that have atoms do not."""
    X = pixels(200, 12, 5)[0]
    clusters = module.Clusters.of(X - X.mean(0), 5, 0, centred=True)
    assert len(clusters.centres) == 6 and clusters.atoms == 5
    for centres, least in ((clusters.centres, 0), (clusters.centres[1:], 1e-3)):
        singular = torch.linalg.svdvals(centres)
        assert (singular[-1] > 1e-9 * singular[0]) == (least > 0) and singular[-1] >= least * singular[0]


def test_scale_and_offset_of_the_scene_do_not_matter():
    cube, _ = landscape()
    plain = score(cube)
    for gain, offset in ((0.25, 0.5), (4.0, -1.0)):
        np.testing.assert_allclose(score(cube * np.float32(gain) + np.float32(offset)), plain, rtol=2e-3, atol=1e-4)


def test_literal_is_another_iteration_and_scores_S():
    cube, _ = landscape()
    scene = scene_of(cube)
    fitted = LRRNetPlus(epochs=2, stages=2, literal=True).learned(scene)
    last = fitted.stages(cube)[-1]
    np.testing.assert_array_equal(fitted.score(cube, everywhere(cube)), last["S"])
    assert not np.allclose(last["S"], last["residual"], rtol=1e-6)
    ours = LRRNetPlus(epochs=2, stages=2).learned(scene)
    np.testing.assert_array_equal(ours.score(cube, everywhere(cube)), ours.stages(cube)[-1]["residual"])
    numbers = LRRNetPlus(epochs=0, literal=True).learned(scene).describe()["stages"][0]
    assert {k: numbers[k] for k in NUMBERS} == pytest.approx({"l1": 1e-5, "l2": 1e-5, "l3": 1e-5, "mu": 1e-2})
    assert fitted.rotation.V.shape == (8, 8) and np.array_equal(fitted.rotation.V, np.eye(8))


@WAYS
def test_stages_are_norms_of_what_the_last_score_is(literal):
    cube, _ = landscape()
    fitted = LRRNetPlus(epochs=1, stages=3, literal=literal).learned(scene_of(cube))
    stages = fitted.stages(cube)
    assert [tuple(s) for s in stages] == [("background", "residual", "S")] * 3
    X = fitted.rotation(torch.from_numpy(cube.reshape(8, -1).T.copy()), "cpu")
    with torch.no_grad():
        state, shared = fitted.net(X, fitted.clusters.labels(X), fitted.shared)
    expected = torch.linalg.vector_norm(X - background(state, shared[-1]), dim=1).numpy()
    np.testing.assert_allclose(stages[-1]["residual"].ravel(), expected, rtol=1e-5)
    assert all(maps[k].dtype == np.float32 and (maps[k] >= 0).all() for maps in stages for k in maps)


def test_features_are_centred_components_between_spectra_and_whitened_ones():
    cube, _ = landscape()
    scene = scene_of(cube)
    X = Rotation.of(scene)(torch.from_numpy(cube.reshape(8, -1).T.copy()), "cpu").numpy()
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-6)
    deviations = np.sqrt(np.linalg.eigvalsh(scene.covariance)[::-1])
    np.testing.assert_allclose(X.T @ X / len(X), np.diag(deviations / deviations.sum()), atol=1e-6)


# ---------------------------------------------------------------------- any scene


@settings(max_examples=25)
@given(bands=st.integers(1, 70), rows=st.integers(1, 12), cols=st.integers(1, 12), literal=st.booleans())
@example(bands=1, rows=1, cols=1, literal=False)
@example(bands=1, rows=1, cols=1, literal=True)
@example(bands=1, rows=9, cols=8, literal=False)
@example(bands=70, rows=2, cols=3, literal=False)
@example(bands=3, rows=1, cols=5, literal=True)
def test_any_size_scores_are_finite(bands, rows, cols, literal):
    """Fewer pixels than atoms and fewer pixels than bands included."""
    cube = np.random.default_rng(bands).random((bands, rows, cols), np.float32)
    found = score(cube, literal=literal, atoms=12)
    assert found.shape == (rows, cols) and found.dtype == np.float32
    assert np.isfinite(found).all() and (found >= 0).all()


@WAYS
@pytest.mark.parametrize("kinds", [1, 2, 3, 7])
def test_scenes_of_few_different_pixels(kinds, literal):
    """As many atoms as there are kinds of pixels, and no complaint about it."""
    rng = np.random.default_rng(1)
    spectra = rng.random((30, kinds), np.float32)
    which = rng.integers(0, kinds, (14, 15))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(spectra[:, which], literal=literal, atoms=12, epochs=3)
    assert np.isfinite(found).all() and (found >= 0).all()
    for kind in range(kinds):
        np.testing.assert_allclose(found[which == kind], found[which == kind][0], rtol=1e-4, atol=1e-6)


@WAYS
@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_a_constant_scene_is_no_anomaly(level, literal):
    found = score(np.full((3, 6, 7), level, np.float32), literal=literal)
    assert np.isfinite(found).all() and (found == found[0, 0]).all() and found[0, 0] >= 0


def test_constant_and_duplicate_bands_do_not_matter():
    cube, _ = landscape()
    more = np.concatenate([cube, np.full_like(cube[:2], 0.4)])
    np.testing.assert_allclose(score(more), score(cube), rtol=1e-3, atol=1e-5)
    twice = score(np.concatenate([cube, cube]))
    np.testing.assert_allclose(twice, score(cube), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------- declared


def test_declaration():
    spec = get_model("lrr-net-plus", "detect-anomaly")
    assert spec.kind == "network" and spec.factory is LRRNetPlus and spec.bands == (1, None) and spec.weights is None
    assert spec.per_scene and spec.needs and "LRR-Net" in spec.paper and spec.url
    assert LRRNetPlus.radius == 0
    model = LRRNetPlus(atoms=5, stages=3)
    net = Unfolded(module.COMPONENTS, 5, 3, False)
    assert model.parameters_count == sum(p.numel() for p in net.parameters())
    assert model.bytes_per_pixel(200) >= model.bytes_per_pixel(10) > 0


@pytest.mark.parametrize(("option", "value"), [("atoms", 0), ("stages", 0), ("epochs", -1)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(UsageError, match=rf"^{option} of lrr-net-plus must be at least {value + 1}, not {value}\.$"):
        LRRNetPlus(**{option: value})
