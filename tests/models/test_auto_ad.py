"""Auto-AD: its weights, where it stops, what it finds, and what must not matter to it."""

import itertools

import numpy as np
import pytest
import torch

from rsunfold.errors import UsageError
from rsunfold.metrics.anomaly import detection
from rsunfold.models import auto_ad
from rsunfold.models.auto_ad import AutoAD, autoencoder, weights
from rsunfold.registry import get_model
from rsunfold.scene import Floats, scene_of

TINY = {"channels": 4, "scales": 2, "iterations": 3}


def landscape(bands: int = 12, rows: int = 40, cols: int = 44) -> tuple[Floats, np.ndarray]:
    """Two materials that pass smoothly into each other, and three objects of a third; samples in [0, 1]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:rows, :cols]
    share = 0.5 + 0.5 * np.sin(x / 9) * np.cos(y / 8)
    first, second, third = rng.random((3, bands, 1, 1))
    cube = share * first + (1 - share) * second + rng.normal(0, 0.01, (bands, rows, cols))
    truth = np.zeros((rows, cols), bool)
    truth[5:7, 8:10] = truth[20, 30] = truth[33:35, 14] = True
    cube = np.where(truth, third, cube)
    return ((cube - cube.min()) / np.ptp(cube)).astype(np.float32), truth


def score(cube: Floats, valid: np.ndarray | None = None, *, seed: int = 0, **arch) -> Floats:
    detector = get_model("auto-ad", "detect-anomaly").build(**{**TINY, **arch})
    everywhere = np.ones(cube.shape[1:], bool)
    return detector.fit(scene_of(cube, seed=seed))(cube, everywhere if valid is None else valid)


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every step of the optimizer."""
    taken: list[int] = []

    class Counting(torch.optim.Adam):
        def step(self, *args, **options):
            taken.append(1)
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "Adam", Counting)
    return taken


# ---------------------------------------------------------------------- the loss


def test_weights_fall_from_1_to_0_with_the_residual_of_valid_pixels():
    residual = torch.tensor([[1.0, 3.0], [2.0, 50.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert weights(residual, valid).tolist() == [[1, 0], [0.5, 0]]
    assert weights(torch.full((2, 2), 7.0), valid).tolist() == [[1, 1], [1, 0]]


def test_pixels_that_reconstruct_badly_lose_weight(monkeypatch):
    """After the first weighting the learning goes another way than without."""
    cube, _ = landscape()
    plain = score(cube, iterations=5)
    monkeypatch.setattr(auto_ad, "PERIOD", 2)
    assert not np.array_equal(score(cube, iterations=5), plain)


# ---------------------------------------------------------------------- where it stops


def test_learning_stops_when_the_loss_settles_and_not_before(monkeypatch):
    cube, _ = landscape()
    taken = steps_taken(monkeypatch)
    monkeypatch.setattr(auto_ad, "SETTLING", 4)
    score(cube, iterations=10, tolerance=0)
    assert len(taken) == 10
    taken.clear()
    score(cube, iterations=10, tolerance=1e6)  # asked after 4 changes, that is after 5 iterations
    assert len(taken) == 5


def test_the_tolerance_is_in_units_of_the_variance(monkeypatch):
    """Loss and variance of a scene are compared, so the same scene with less contrast stops no sooner."""
    cube, _ = landscape()
    taken = steps_taken(monkeypatch)
    monkeypatch.setattr(auto_ad, "SETTLING", 5)
    counts = []
    for contrast in (1, 0.1):
        score((0.5 + contrast * (cube - 0.5)).astype(np.float32), iterations=60, tolerance=0.03, channels=8)
        counts.append(len(taken))
        taken.clear()
    assert counts[1] >= counts[0] and counts[0] < 60


# ---------------------------------------------------------------------- what it finds


def test_it_finds_what_is_rare():
    cube, truth = landscape()
    found = score(cube, channels=8, scales=3, iterations=150)
    assert found.dtype == np.float32 and found.shape == truth.shape and found.min() >= 0
    assert detection(found, truth)["auc_df"] > 0.98
    assert detection(score(cube, channels=8, scales=3, iterations=1), truth)["auc_df"] < 0.98


def test_a_seed_gives_the_same_scores_and_another_one_others():
    cube, _ = landscape()
    state = torch.random.get_rng_state()
    first, again, other = score(cube, seed=1), score(cube, seed=1), score(cube, seed=2)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    jittered = [score(cube, seed=1, jitter=0.1) for _ in range(2)]
    assert np.array_equal(*jittered) and not np.array_equal(jittered[0], first)


# ---------------------------------------------------------------------- what must not matter


@pytest.mark.parametrize("junk", [0.0, 1e6, np.nan])
def test_what_stands_at_invalid_pixels_changes_no_score(junk, monkeypatch):
    cube, _ = landscape()
    monkeypatch.setattr(auto_ad, "PERIOD", 2)  # the weights too
    valid = np.ones(cube.shape[1:], bool)
    valid[10:15, 20:] = valid[0, 0] = False
    found = score(np.where(valid, cube, np.float32(0.5)), valid)
    spoilt = np.where(valid, cube, np.float32(junk))
    detector = AutoAD(**TINY)
    assert np.array_equal(found[valid], detector.fit(scene_of(cube))(spoilt, valid)[valid])
    assert not np.array_equal(found[valid], score(cube)[valid])


@pytest.mark.parametrize(
    ("rows", "cols", "bands"), [(1, 2, 3), (1, 40, 1), (37, 1, 2), (4, 4, 5), (5, 6, 1), (9, 70, 4)]
)
def test_any_size_and_any_number_of_bands(rows, cols, bands):
    cube = np.random.default_rng(0).random((bands, rows, cols), np.float32)
    found = score(cube)
    assert found.shape == (rows, cols) and found.dtype == np.float32
    assert np.isfinite(found).all() and (found > 0).all()
    assert np.isfinite(score(cube, scales=5)).all()


def test_holes_have_no_weight_from_the_first_iteration_on():
    cube, _ = landscape()
    valid = torch.ones(cube.shape[1:], dtype=torch.bool)
    valid[10:15, 20:] = False
    learned = []
    for fill in (0.0, 1.0):
        detector = AutoAD(**TINY)
        x = torch.where(valid, torch.from_numpy(cube), fill)[None]
        net, z = detector._start(len(cube), x.shape[2:], 0)
        detector._learn(net, z, x, valid, 1.0, torch.Generator())
        learned.append([p.detach() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


def test_without_contrast_nothing_is_anomalous():
    for shape in ((3, 1, 1), (3, 8, 9)):
        cube = np.full(shape, 0.25, np.float32)
        assert np.array_equal(score(cube), np.zeros(shape[1:], np.float32))
        one = np.zeros(shape[1:], bool)
        assert not AutoAD(**TINY).fit(scene_of(cube))(cube, one).any()


@pytest.mark.parametrize("scales", [1, 3, 5])
def test_the_smallest_image_that_every_scale_can_mirror(scales):
    least = 2**scales + 1
    net = autoencoder(2, 3, scales)
    assert net(torch.rand(1, 3, least, least)).shape == (1, 2, least, least)
    with pytest.raises((RuntimeError, ValueError)):
        net(torch.rand(1, 3, least - 1, least - 1))


def test_every_parameter_but_a_bias_before_a_normalisation_learns():
    torch.manual_seed(0)
    net = autoencoder(3, 4, 2)
    net(torch.rand(1, 4, 20, 20)).square().sum().backward()
    assert all(p.grad is not None and (name.endswith("bias") or p.grad.any()) for name, p in net.named_parameters())


# ---------------------------------------------------------------------- declared


def test_declaration():
    spec = get_model("auto-ad", "detect-anomaly")
    assert spec.kind == "network" and spec.factory is AutoAD and spec.bands == (1, None) and spec.weights is None
    assert {"tiny", "paper"} <= spec.sizes.keys() and all(spec.build(**arch) for arch in spec.sizes.values())
    assert AutoAD.radius is None
    assert [b > a for a, b in itertools.pairwise(AutoAD().bytes_per_pixel(n) for n in (1, 10, 200))] == [True, True]


@pytest.mark.parametrize(
    ("option", "value"),
    [("iterations", 0), ("channels", 0), ("scales", 0), ("scales", 1.5), ("tolerance", -1), ("tolerance", np.nan),
     ("rate", 0), ("rate", np.inf), ("jitter", -0.1)],
)  # fmt: skip
def test_impossible_options_are_refused(option, value):
    with pytest.raises(UsageError, match=r"^Auto-AD needs .* got .*\.$"):
        AutoAD(**{option: value})
