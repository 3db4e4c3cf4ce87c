"""SMDS-Net: the published checkpoints' arithmetic, and what holds for any image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsunfold import weights
from rsunfold.errors import WeightsError
from rsunfold.models.smds_net import SMDSNet, cosine_dictionary, shrink
from rsunfold.registry import get_model
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import subspace_of
from rsunfold.train.hyperspectral.data import whitened
from rsunfold.train.recipefile import SHIPPED, load_recipe
from rsunfold.unfold.unrolled import Record

SPEC = get_model("smds-net", "denoise-hsi")
PAPER = SPEC.sizes["paper"]
STAR = {**PAPER, "K": 9, "squared": True}
SMDS_FILE, STAR_FILE = "ICVL_55_ckpt", "STAR-Net_ckpt"


def scene(rows: int, cols: int, bands: int, rank: int) -> tuple[Tensor, Tensor]:
    """A whitened image (bands, rows, cols) and a basis (bands, rank)."""
    draw = torch.Generator().manual_seed(rows * 97 + cols * 13 + bands)
    A = torch.linalg.qr(torch.randn(bands, rank, generator=draw))[0]
    G = 5 * torch.randn(rank, 1, 1, generator=draw) + torch.randn(rank, rows, cols, generator=draw)
    return (A @ G.flatten(1)).view(bands, rows, cols) + torch.randn(bands, rows, cols, generator=draw), A


def shaken(**arch) -> SMDSNet:
    """A network off its start, at which the codes of the patch means are 0 exactly."""
    net = SPEC.build(**{"K": 2, **arch})
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.05 * torch.randn(p.shape, generator=draw)
    return net


def imported(shared: Path, tmp_path: Path, name: str) -> tuple[SMDSNet, weights.WeightRecord]:
    target = tmp_path / "imported.safetensors"
    record = weights.import_published(shared / "reference" / "smds-net" / name, "smds-net", target)
    net, loaded, _ = weights.load(str(target), "smds-net")
    assert loaded == record
    return net, record


@pytest.fixture
def block(shared: Path) -> dict[str, Tensor]:
    """noisy and restored (31, 56, 56) and basis (31, R), as the published code had and gave them."""
    with np.load(shared / "reference" / "smds-net" / "ICVL_55.56x56x31.npz") as data:
        found = {k: torch.from_numpy(data[k]).float() for k in ("noisy", "clean", "restored", "basis")}
    return {k: x.permute(2, 0, 1).contiguous() if x.ndim == 3 else x for k, x in found.items()}


def as_published(net: SMDSNet, Y: Tensor, A: Tensor) -> Tensor:
    """The published code again: every patch cut on its own, and the Kronecker products made."""

    def kron(m) -> Tensor:
        return torch.kron(torch.kron(m.M1, m.M2), m.M3)

    def soft(x: Tensor, lam: Tensor | float) -> Tensor:
        return torch.relu(x - lam) - torch.relu(-x - lam)

    if A.shape[1] < 9:
        A = torch.cat([A, A.new_zeros(len(A), 9 - A.shape[1])], 1)
    G = torch.einsum("brc,bk->krc", Y, A)
    D, C, W, dct = kron(net.D), kron(net.C), kron(net.W), cosine_dictionary().float()
    total, count = torch.zeros_like(G), torch.zeros_like(G)
    for s, r, c in np.ndindex(*(n - 8 for n in G.shape)):
        part = np.s_[s : s + 9, r : r + 9, c : c + 9]
        x = G[part].reshape(729)
        m = x.mean()
        x = x - m
        first = net.first.reshape(-1) if net.arch["squared"] else 0.001
        B = soft(torch.linalg.pinv(torch.kron(torch.kron(dct, dct), dct)) @ x, first)
        for stage in net.stages:
            lam = stage.lam.reshape(729)
            B = soft(B - C @ (D @ B - x), lam * lam if net.arch["squared"] else lam)
        total[part] += (W @ B + m).view(9, 9, 9)
        count[part] += 1
    return torch.einsum("krc,bk->brc", total / count, A)


# ---------------------------------------------------------------------- published checkpoints


def test_the_published_checkpoint_gives_what_the_published_code_gave(shared, tmp_path, block):
    net, record = imported(shared, tmp_path, SMDS_FILE)
    assert record.arch == {**PAPER, "squared": False} and record.published
    assert record.scaling == SPEC.scaling != SPEC.needs
    with torch.inference_mode():
        found = net(block["noisy"], block["basis"])[0]
    assert (found - block["restored"]).abs().max() <= 1e-5 * block["restored"].abs().max()


def test_negative_thresholds_are_kept_and_matter(shared, tmp_path, block):
    net, _ = imported(shared, tmp_path, SMDS_FILE)
    assert min(float(stage.lam.detach().min()) for stage in net.stages) < -1
    clamped = SPEC.build(**{**net.arch, "signed": False})
    clamped.load_state_dict(net.state_dict())
    with torch.inference_mode():
        found = clamped(block["noisy"], block["basis"])[0]
    assert (found - block["restored"]).abs().max() > 1e-3 * block["restored"].abs().max()


def test_the_published_star_net_checkpoint_is_an_smds_net(shared, tmp_path, block):
    net, record = imported(shared, tmp_path, STAR_FILE)
    assert record.arch == STAR
    assert float(net.first.detach().min()) < 0
    with torch.inference_mode():
        found = net(block["noisy"], block["basis"])[0]
        part = block["noisy"][:, :10, :9]
        torch.testing.assert_close(net(part, block["basis"])[0], as_published(net, part, block["basis"]))
    assert found.isfinite().all()
    error, noise = ((x - block["clean"]).square().mean() for x in (found, block["noisy"]))
    assert error < noise / 10


def test_parameters():
    # 9 matrices of 9 x 9, and a threshold for each of 729 coefficients in each stage.
    assert SPEC.build(**PAPER).parameters_count == 9 * 81 + 6 * 729 == 5103
    # The STAR-Net checkpoint counts 27,702. Of these gamma_2 and beta, 2 x 9 x 729, never train, and gamma_1, 9 x 729,
    # is lmbda once more: the threshold gamma_1 lmbda is lmbda^2. What remains are 9 matrices and 1 + 9 thresholds.
    assert SPEC.build(**STAR).parameters_count == 9 * 81 + (1 + 9) * 729 == 27_702 - 13_122 - 6_561


def published_state(shared: Path, name: str) -> dict[str, Tensor]:
    path = shared / "reference" / "smds-net" / name
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix("module."): v for k, v in state.items()}


@pytest.mark.parametrize("name", [SMDS_FILE, STAR_FILE])
def test_a_checkpoint_of_something_else_is_refused(shared, tmp_path, name):
    state = published_state(shared, name)

    def refuse(state: dict[str, Tensor], reason: str) -> None:
        torch.save(state, tmp_path / "other.pkl")
        with pytest.raises(WeightsError, match=reason):
            weights.import_published(tmp_path / "other.pkl", "smds-net", tmp_path / "other.safetensors")

    refuse({**state, "mu": torch.zeros(729)}, "mu does not belong to an SMDS-Net")
    refuse({k: v for k, v in state.items() if k != "apply_W.1"}, "no entry 'apply_W.1'")
    refuse({**state, "lmbda.1": torch.zeros(1, 1, 1, 1, 64)}, "invalid for input of size 64|gamma_1.1 is not lmbda.1")
    if name == STAR_FILE:
        refuse({**state, "gamma_1.4": state["gamma_1.4"] + 1}, "gamma_1.4 is not lmbda.4")


# ---------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("arch", [PAPER, STAR])
@pytest.mark.parametrize(("bands", "rank"), [(12, 11), (4, 3)])
def test_mode_products_are_the_kronecker_products(arch, bands, rank):
    net = shaken(**{**arch, "K": 2})
    Y, A = scene(10, 11, bands, rank)
    with torch.inference_mode():
        torch.testing.assert_close(net(Y, A)[0], as_published(net, Y, A), rtol=1e-4, atol=1e-4)


def test_start():
    dct, net = cosine_dictionary(), SPEC.build(**PAPER)
    torch.testing.assert_close(torch.linalg.vector_norm(dct, dim=0), torch.ones(9, dtype=torch.float64))
    assert float(dct[:, 1:].sum(0).abs().max()) < 1e-12
    for D, C, W in zip(net.D.parameters(), net.C.parameters(), net.W.parameters(), strict=True):
        assert torch.equal(D, W) and torch.equal(C, D.mT)
        assert float(torch.linalg.matrix_norm(D.detach(), 2)) == pytest.approx(1)
    assert all(torch.equal(stage.lam, torch.full((9, 81, 1), 0.02)) for stage in net.stages)


@given(st.floats(-5, 5), st.floats(-2, 2))
def test_shrinkage(x, lam):
    value, threshold = torch.tensor(x), torch.tensor(lam)
    clamped, signed = shrink(value, threshold, signed=False), shrink(value, threshold, signed=True)
    assert float(clamped) == pytest.approx(np.sign(x) * max(abs(x) - max(lam, 0), 0), abs=1e-6)
    assert float(signed) == pytest.approx(max(x - lam, 0) - max(-x - lam, 0), abs=1e-6)
    if lam >= 0:
        torch.testing.assert_close(signed, clamped)


# ---------------------------------------------------------------------- any image


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 20), st.booleans())
@example(1, 1, 1, 1, True)
@example(1, 40, 60, 20, False)
@example(40, 8, 5, 9, True)
def test_any_size_and_any_number_of_bands(rows, cols, bands, rank, ours):
    arch = {"step": 9, "border": 4} if ours else {"step": 4, "border": 0, "signed": True}
    net = shaken(K=1, **arch)
    Y, A = scene(rows, cols, bands, min(rank, bands))
    with torch.inference_mode():
        found, context = net(Y, A)
    assert found.shape == Y.shape and found.isfinite().all() and context is None


@pytest.mark.parametrize("arch", [{}, {"step": 1, "border": 0, "signed": True}, {"squared": True}])
def test_gradients_reach_every_parameter(arch):
    net = shaken(threshold=0.3, **arch)
    Y, A = scene(20, 17, 14, 11)
    net(Y, A)[0].square().mean().backward()
    idle = {name for name, p in net.named_parameters() if p.grad is None or not float(p.grad.abs().max())}
    assert not idle
    assert len(net.step_sizes()) == 2 + bool(net.arch["squared"])


def test_a_window_gives_the_result_of_the_image():
    Y, A = scene(44, 41, 13, 11)
    m = SPEC.build().radius
    for arch in ({}, {"step": 1, "border": 0, "signed": True}):
        net = shaken(**arch)
        with torch.inference_mode():
            whole = net(Y, A)[0]
            part = net(Y[:, 7:40, 5:38], A)[0]
        inner = part[:, m:-m, m:-m]
        torch.testing.assert_close(inner, whole[:, 7 + m : 40 - m, 5 + m : 38 - m], rtol=1e-5, atol=1e-5)


def test_an_output_pixel_depends_on_no_more_than_the_radius_and_on_that():
    net, m = shaken(), SPEC.build().radius
    Y, A = scene(30, 30, 10, 9)
    Y.requires_grad_()
    net(Y, A)[0][:, 15, 14].sum().backward()
    rows, cols = torch.nonzero(Y.grad.abs().sum(0), as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (15 - m, 15 + m)
    assert (int(cols.min()), int(cols.max())) == (14 - m, 14 + m)


def test_every_stage_can_be_kept():
    net, record = shaken(K=3), Record()
    Y, A = scene(12, 13, 10, 10)
    with torch.inference_mode():
        assert torch.equal(net(Y, A, keep=record)[0], net(Y, A)[0])
    assert [tuple(stage) for stage in record.stages] == [net.letters] * 3
    places = 12 * 13  # with a border of 4, one patch for each pixel
    assert record.stages[0]["B"].shape == (2, 9, 81, places)
    assert net.codes_per_pixel(10) == 2 * 729


@pytest.mark.parametrize("arch", [{}, PAPER, STAR, SPEC.sizes["tiny"]])
def test_arch_rebuilds_the_network_and_weights_survive_a_file(arch, tmp_path):
    net = shaken(**arch).eval()
    again = SPEC.build(**net.arch)
    assert again.arch == net.arch
    again.load_state_dict(net.state_dict())
    path = tmp_path / "own.safetensors"
    weights.save(path, net, weights.WeightRecord(name="own", model="smds-net", arch=net.arch, bands=None))
    loaded, _, _ = weights.load(str(path), "smds-net")
    Y, A = scene(11, 12, 10, 9)
    with torch.inference_mode():
        assert torch.equal(loaded(Y, A)[0], net(Y, A)[0]) and torch.equal(again(Y, A)[0], net(Y, A)[0])


# ---------------------------------------------------------------------- training


def test_two_training_steps_lower_the_loss():
    recipe = load_recipe(SHIPPED / "smds-net.toml")
    net = SPEC.build(**recipe.arch)
    rng = np.random.default_rng(0)
    spectra, maps = rng.random((14, 3)), np.kron(rng.random((3, 6, 6)), np.ones((4, 4)))
    clean = np.einsum("br,rij->bij", spectra, maps).astype(np.float32) / 3
    noisy = make_noise(clean, "iid", sigma=30.0, seed=0).data
    item = whitened(subspace_of(noisy), noisy, clean)
    steps = {id(p) for p in net.step_sizes()}
    rest = [p for p in net.parameters() if id(p) not in steps]
    lr = recipe.optim.lr
    groups = [{"params": rest}, {"params": net.step_sizes(), "lr": lr * recipe.optim.step_size_lr}]
    optimiser = torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)
    losses = []
    for _ in range(3):
        loss = (net(item.noisy, item.A)[0] - item.clean).square().mean((1, 2)).log().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[2] < losses[1] < losses[0] - 0.01
    assert losses[0] < float((item.noisy - item.clean).square().mean((1, 2)).log().mean()) - 0.5
