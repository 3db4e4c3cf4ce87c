"""STAR-Net and STAR-Net-S: the iteration descends, and what holds for any image."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsunfold import weights
from rsunfold.metrics.denoising import quality
from rsunfold.models import star_net
from rsunfold.models.star_net import Shrinkage, STARNet
from rsunfold.registry import get_model
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import subspace_of
from rsunfold.train.hyperspectral.data import whitened
from rsunfold.unfold.patches import SIDE, PatchGrid, synthesis
from rsunfold.unfold.unrolled import Record

NAMES = ("star-net", "star-net-s")
WAYS = pytest.mark.parametrize("literal", [True, False], ids=["literal", "ours"])


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def build(name: str, **arch) -> STARNet:
    return get_model(name, "denoise-hsi").build(**{"K": 2, "stride": 3, **arch})


def shaken(name: str, **arch) -> STARNet:
    """A network off its start, where stages and dictionaries differ."""
    net = build(name, **arch)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.02 * torch.randn(p.shape, generator=draw)
    return net


def scene(rows: int, cols: int, bands: int, rank: int, *, spikes: bool = False) -> tuple[Tensor, Tensor]:
    """A whitened low-rank image (bands, rows, cols) with noise, and a basis (bands, rank) near its own."""
    draw = torch.Generator().manual_seed(rows * 97 + cols * 13 + bands)
    truth = torch.linalg.qr(torch.randn(bands, rank, generator=draw))[0]
    slopes = torch.linspace(0, 3, rows)[:, None] * torch.linspace(-1, 1, cols)
    G = torch.randn(rank, 1, 1, generator=draw) * (5 + 3 * slopes)
    Y = (truth @ G.flatten(1)).view(bands, rows, cols) + torch.randn(bands, rows, cols, generator=draw)
    if spikes:
        Y[torch.rand(Y.shape, generator=draw) < 0.03] += 20
    A = torch.linalg.qr(truth + 0.1 * torch.randn(bands, rank, generator=draw))[0]
    return Y, A


# ---------------------------------------------------------------------- the iteration


class Lagrangian:
    """The objective of Stage's docstring, its terms written out patch by patch, w_i = 1."""

    def __init__(self, net: STARNet, Y: Tensor, rank: int) -> None:
        self.rank = rank
        self.grid = PatchGrid(*Y.shape[1:], max(rank, SIDE), stride=net.arch["stride"], step=net.step)
        self.y = self.grid.pad(Y).flatten(1)
        self.D = net.dictionaries[0]()
        stage = net.stages[0]
        self.lam, self.beta, self.gamma2 = (p.exp() for p in (stage.lam, stage.beta, stage.gamma2))
        self.gamma1 = stage.shrink.gamma1.exp()
        self.mu = None if stage.mu is None else stage.mu.exp()

    def codes(self, v: Tensor | list[Tensor]) -> Tensor:
        """(patches, 9, 81)."""
        return torch.cat(v, dim=3).permute(0, 3, 1, 2).flatten(0, 1)

    def __call__(self, S, G, B, L, A, P) -> float:
        fit = self.y - A @ G[: self.rank].flatten(1) - S
        value = fit.square().sum() / 2
        if self.mu is not None:
            value = value + self.mu * S.abs().sum()
        (part,) = self.grid.parts(None)
        cubes = self.codes([self.grid.cut(G, part)])
        made = self.codes([synthesis(torch.cat(B, dim=3), *self.D)])
        b, copy, p = (self.codes(v) for v in (B, L, P))
        value = value + self.lam * (cubes - made).square().sum() / 2
        value = value + self.lam * (self.gamma1[0, :, 0] * b.abs()).sum()
        value = value + self.lam * self.gamma2 * torch.linalg.matrix_norm(copy, "nuc").sum()
        return float(value + (p * (b - copy)).sum() + self.beta / 2 * (b - copy).square().sum())


def iterated(name: str, K: int, stride: int, rank: int) -> tuple[STARNet, Lagrangian, list[dict]]:
    net = build(name, K=K, stride=stride, literal=True).double()
    Y, A = (x.double() for x in scene(9, 11, 14, rank, spikes=name == "star-net-s"))
    record = Record()
    with torch.no_grad():
        net(Y, A, keep=record)
        lagrangian = Lagrangian(net, Y, rank)
    return net, lagrangian, [{"S": torch.zeros(()), **stage} for stage in record.stages]


@pytest.mark.parametrize(("stride", "rank"), [(1, 9), (2, 11), (3, 5)])
def test_no_block_of_the_literal_stage_raises_the_lagrangian(name, stride, rank):
    net, lagrangian, states = iterated(name, 4, stride, rank)
    fell: dict[str, float] = {}
    with torch.no_grad():
        for before, after in itertools.pairwise(states[:-1]):  # the last stage has no L and P
            now = dict(before)
            value = lagrangian(**now)
            for letter in net.letters[:-1]:
                now[letter] = after[letter]
                new = lagrangian(**now)
                assert new <= value + 1e-9 * abs(value), letter
                fell[letter] = fell.get(letter, 0) + value - new
                value = new
    assert all(fall > 1e-6 for fall in fell.values()), fell  # every block moves


def test_blocks_are_minimisers(name):
    """A step to either side of the new S, G, L or A raises the Lagrangian."""
    net, lagrangian, states = iterated(name, 4, 3, 10)
    now, draw = dict(states[0]), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for letter in net.letters[:-1]:
            now[letter] = states[1][letter]
            if letter == "B":
                continue
            least = lagrangian(**now)
            for size in (1e-3, 0.1):
                value = now[letter]
                for _ in range(5):
                    if letter == "L":
                        other = [v + size * torch.randn(v.shape, generator=draw).double() for v in value]
                    else:
                        other = value + size * torch.randn(value.shape, generator=draw).double()
                    if letter == "A":
                        other = star_net.procrustes(other)
                    assert lagrangian(**{**now, letter: other}) > least, letter


def test_multipliers_agree_with_the_steps_of_the_codes(name):
    """P grows by beta (B - L), and is a subgradient of the nuclear norm at L: this fixes its sign."""
    _, lagrangian, states = iterated(name, 6, 3, 9)
    for before, after in itertools.pairwise(states[:-1]):
        B, L, P, old = (lagrangian.codes(v) for v in (after["B"], after["L"], after["P"], before["P"]))
        torch.testing.assert_close(P, old + lagrangian.beta * (B - L))
        bound = lagrangian.lam * lagrangian.gamma2
        assert float(torch.linalg.matrix_norm(P, 2).max()) <= float(bound) * (1 + 1e-9)
        nuclear = torch.linalg.matrix_norm(L, "nuc").sum()
        assert float((P * L).sum()) == pytest.approx(float(bound * nuclear), rel=1e-8)


def test_codes_and_their_copies_come_together(name):
    _, lagrangian, states = iterated(name, 25, 3, 9)
    apart = [float((lagrangian.codes(s["B"]) - lagrangian.codes(s["L"])).norm()) for s in states[:-1]]
    assert apart[-1] < 0.1 * apart[0]


@WAYS
def test_bases_stay_orthonormal_and_turn(name, literal):
    Y, A = scene(15, 14, 16, 10)
    record = Record()
    with torch.no_grad():
        _, context = shaken(name, K=3, literal=literal)(Y, A, keep=record)
    assert len(context.bases) == 4 and context.bases[0] is A
    for before, after, stage in zip(context.bases[:-1], context.bases[1:], record.stages, strict=True):
        torch.testing.assert_close(after.mT @ after, torch.eye(10), atol=1e-5, rtol=0)
        assert torch.equal(stage["A"], after) and not torch.equal(before, after)


@WAYS
def test_every_stage_can_be_kept_and_goes_on_with_what_comes_back(name, literal):
    net = shaken(name, K=3, literal=literal)
    Y, A = scene(12, 13, 12, 10, spikes=True)
    record = Record()
    with torch.no_grad():
        found = net(Y, A)[0]
        assert torch.equal(net(Y, A, keep=record)[0], found)
        assert [tuple(stage) for stage in record.stages] == [net.letters] * 3
        codes = [torch.cat(stage["B"], dim=3) for stage in record.stages]
        assert not torch.equal(codes[0], codes[1]) and not torch.equal(codes[1], codes[2])
        per_pixel = net.codes_per_pixel(10)
        assert per_pixel == pytest.approx(2 * 729 / 9) and codes[0].shape[:3] == (2, 9, 81)
        for letter in net.letters:

            def change(k: int, name: str, value, letter=letter):
                if (k, name) != (0, letter):
                    return value
                return [v + 0.5 for v in value] if isinstance(value, list) else value * 0.9

            assert not torch.equal(net(Y, A, keep=change)[0], found), letter


# ---------------------------------------------------------------------- training and files


@WAYS
@pytest.mark.parametrize("rank", [11, 5])
def test_gradients_reach_every_parameter(name, literal, rank):
    net = shaken(name, K=2, literal=literal).train()
    Y, A = scene(20, 17, 14, rank, spikes=True)
    net(Y, A)[0].square().mean().backward()
    grads = {n: p.grad for n, p in net.named_parameters()}
    idle = {n for n, g in grads.items() if g is None or not float(g.abs().max())}
    assert not idle
    assert all(g.isfinite().all() for g in grads.values())
    steps = {id(p) for p in net.step_sizes()}
    assert steps == {id(p) for n, p in net.named_parameters() if not n.startswith("dictionaries.")}


@WAYS
def test_arch_rebuilds_the_network_and_weights_survive_a_file(name, literal, tmp_path):
    net = shaken(name, literal=literal).eval()
    again = get_model(name).build(**net.arch)
    assert again.arch == net.arch == {"K": 2, "stride": 3, "literal": literal}
    again.load_state_dict(net.state_dict())
    path = tmp_path / "own.safetensors"
    weights.save(path, net, weights.WeightRecord(name="own", model=name, arch=net.arch, bands=None))
    loaded, _, _ = weights.load(str(path), name)
    Y, A = scene(11, 12, 10, 9)
    with torch.inference_mode():
        assert torch.equal(loaded(Y, A)[0], net(Y, A)[0]) and torch.equal(again(Y, A)[0], net(Y, A)[0])


def test_parameters():
    literal, ours = (build("star-net", K=6, literal=way).parameters_count for way in (True, False))
    # Thresholds of 81 coefficients for the start and each stage, D1 to D3 once, lam, beta, gamma2, and the last lam.
    assert literal == 7 * 81 + 3 * 81 + 6 * 2 + 5 + 1
    # Per stage D1, D23, rho and kappa in addition, e with each threshold, and the last kappa.
    assert ours == 7 * 82 + 6 * (81 + 81**2) + 6 * 4 + 5 + 2
    for way, count in ((True, literal), (False, ours)):
        assert build("star-net-s", K=6, literal=way).parameters_count == count + 6


# ---------------------------------------------------------------------- any image


@settings(max_examples=8)
@given(
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from([2, 3, 5]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(1, 12),
)
@example("star-net", False, 1, 1, 1, 1, 1)
@example("star-net-s", True, 1, 1, 3, 2, 1)
@example("star-net-s", False, 3, 1, 40, 60, 20)
@example("star-net", True, 3, 40, 8, 5, 4)
def test_any_size_and_any_number_of_bands(name, literal, stride, rows, cols, bands, rank):
    net = build(name, K=1, stride=stride, literal=literal)
    Y, A = scene(rows, cols, bands, min(rank, bands))
    with torch.inference_mode():
        found, context = net(Y, A)
    assert found.shape == Y.shape and found.isfinite().all()
    assert [a.shape for a in context.bases] == [A.shape] * 2


@WAYS
def test_the_result_does_not_depend_on_the_parts(name, literal, monkeypatch):
    net = shaken(name, stride=2, literal=literal)
    Y, A = scene(23, 12, 14, 11)
    found = []
    for part in (1, 24, 10_000):
        monkeypatch.setattr(star_net, "PART", part)
        with torch.inference_mode():
            found.append(net(Y, A)[0])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


@WAYS
@pytest.mark.parametrize("stride", [3])
def test_a_window_with_the_context_gives_the_result_of_the_image(name, literal, stride):
    net = shaken(name, K=1, stride=stride, literal=literal)
    m = net.radius
    assert m % stride == 0 and 8 * 2 + 7 <= m < 8 * 2 + 7 + stride
    rows, cols = 2 * m + 15, 2 * m + 10
    Y, A = scene(rows, cols, 9, 9)
    top, left = 2 * stride, stride
    bottom, right = top + 2 * m + 7, left + 2 * m + 5
    with torch.inference_mode():
        whole, context = net(Y, A)
        part, same = net(Y[:, top:bottom, left:right], A, context)
    inner, expected = part[:, m:-m, m:-m], whole[:, top + m : bottom - m, left + m : right - m]
    assert inner.shape == (9, 7, 5)
    assert float((inner - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert all(torch.equal(a, b) for a, b in zip(same.bases, context.bases, strict=True))


# ---------------------------------------------------------------------- what it does, before any training


@WAYS
def test_a_step_of_training_in_bfloat16_gives_finite_gradients(name, literal):
    net = build(name, literal=literal).train()
    Y = torch.randn(20, 24, 24, generator=torch.Generator().manual_seed(0))
    A = torch.linalg.qr(torch.randn(20, 9, generator=torch.Generator().manual_seed(1)))[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = net(Y, A)[0]
    found.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    return hyperspectral_scene(40, 40, 40, seed=2).data


def restored(name: str, noisy: np.ndarray, *, robust: bool) -> np.ndarray:
    """By the untrained network."""
    subspace = subspace_of(noisy, robust=robust)
    item = whitened(subspace, noisy, noisy)
    with torch.inference_mode():
        return subspace.colour(build(name)(item.noisy, item.A)[0].numpy())


def test_star_net_s_removes_the_stripes_that_star_net_leaves(cube):
    noise = make_noise(cube, "case2", seed=0)
    hit = np.broadcast_to(noise.stripes[:, None, :], cube.shape)
    star, star_s = (restored(name, noise.data, robust=name == "star-net-s") for name in NAMES)
    left, left_s, before = (float(np.sqrt(np.mean((x - cube)[hit] ** 2))) for x in (star, star_s, noise.data))
    assert left_s < 0.8 * left and left_s < 0.25 * before
    assert quality(cube, star_s)["psnr"] > quality(cube, noise.data)["psnr"] + 12


def test_star_net_s_removes_the_impulses_that_star_net_leaves(cube):
    """With the noise levels of what is no outlier; from levels that count impulses as noise, nothing is an outlier.

    Bands with impulses in most pixels count as noisy for both, and little of them is left to tell the two apart.
    """
    noise = make_noise(cube, "case4", seed=0)
    star, star_s = (restored(name, noise.data, robust=True) for name in NAMES)
    assert quality(cube, star_s)["psnr"] > quality(cube, star)["psnr"] + 2.5
    few = np.flatnonzero((noise.impulse.mean((1, 2)) > 0) & (noise.impulse.mean((1, 2)) < 0.35))
    left, left_s = (float(np.square(x - cube)[few].mean()) for x in (star, star_s))
    assert left_s < 0.3 * left


@WAYS
def test_pure_noise_gives_next_to_nothing(name, literal):
    draw = torch.Generator().manual_seed(5)
    Y = torch.randn(40, 30, 30, generator=draw)
    A = torch.linalg.qr(torch.randn(40, 10, generator=draw))[0]
    with torch.inference_mode():
        found = build(name, literal=literal)(Y, A)[0]
    projected = A @ (A.mT @ Y.flatten(1))
    assert float(found.square().sum()) < 0.15 * float(projected.square().sum())


@WAYS
def test_a_strong_signal_without_noise_stays(name, literal):
    Y, _ = scene(30, 28, 40, 10)
    draw = torch.Generator().manual_seed(6)
    A = torch.linalg.qr(torch.randn(40, 10, generator=draw))[0]
    rows, cols = torch.meshgrid(torch.linspace(0, 3, 30), torch.linspace(0, 2, 28), indexing="ij")
    G = 100 * torch.stack([torch.sin((k % 3 + 1) * rows / 2 + k) * torch.cos(k * cols / 4) for k in range(10)])
    Y = (A @ G.flatten(1)).view(40, 30, 28)
    with torch.inference_mode():
        found = build(name, literal=literal)(Y, A)[0]
    assert float((found - Y).square().mean().sqrt()) < 0.02 * float(Y.square().mean().sqrt())


def test_dictionaries_are_orthonormal_whatever_is_learned(name):
    for dictionary in build(name).dictionaries:
        for D in dictionary():
            torch.testing.assert_close(D.mT @ D, torch.eye(len(D)), atol=1e-5, rtol=0)


def test_the_codes_of_a_patch_give_it_back_from_stage_to_stage(name):
    """However strong it is: what changes are the coordinates."""
    Y, A = scene(20, 22, 30, 10)
    Y = 1e4 * (A @ (A.mT @ Y.flatten(1))).view(Y.shape)
    with torch.inference_mode():
        found = build(name)(Y, A)[0]
    assert float((found - Y).abs().max()) < 1


def test_shrinkage():
    """The literal one soft-thresholds; the other threshold falls where the pilot holds signal."""
    F = torch.tensor([-3.0, 0.5, 2.0]).expand(1, 9, 81, 3)
    pilot = torch.tensor([-3.0, 0.0, 100.0]).expand(1, 9, 81, 3)
    literal, ours = Shrinkage(1.0, True), Shrinkage(1.0, False)
    with torch.no_grad():
        torch.testing.assert_close(literal(F, 1.0, pilot)[0, 0, 5], torch.tensor([-2.0, 0.0, 1.0]))
        torch.testing.assert_close(ours(F, 1.0, pilot)[0, 0, 5], torch.tensor([-3 + 1 / 3.3, 0.0, 2 - 1 / 100.3]))
        torch.testing.assert_close(literal(F, 1.0, pilot)[0, 0, 0], torch.tensor([-2.9, 0.4, 1.9]))


def test_outliers():
    stage = build("star-net-s", literal=True).stages[0]
    r = torch.tensor([-20.0, 1.0, 5.0])
    with torch.no_grad():
        torch.testing.assert_close(stage.outliers(r), torch.tensor([-17.0, 0.0, 2.0]))
        freed = build("star-net-s").stages[0].outliers(r)
        torch.testing.assert_close(freed, torch.tensor([-20 + 9 / 20.1, 0.0, 5 - 9 / 5.1]))
