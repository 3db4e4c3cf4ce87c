"""Proximal operators against their definition: y = prox_f(x) minimises f(z) + 1/2 ||z - x||^2."""

import pytest
import torch
from torch.autograd import gradcheck

from rsunfold.unfold.proximal import group_soft_threshold, procrustes, singular_value_threshold, soft_threshold

LAM = 0.6


def nuclear(z: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(z, "nuc")


CASES = {
    "soft": (soft_threshold, lambda z: z.abs().sum()),
    "group": (group_soft_threshold, lambda z: z.norm(dim=1).sum()),
    "singular": (singular_value_threshold, nuclear),
}
DUALS = {  # the dual norm, whose ball of radius lam the residual x - prox(x) is the projection onto
    "soft": lambda z: z.abs().max(),
    "group": lambda z: z.norm(dim=1).max(),
    "singular": lambda z: torch.linalg.matrix_norm(z, 2),
}


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def draw(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("name", CASES)
def test_no_other_point_has_a_lower_objective(name, rng):
    prox, norm = CASES[name]
    x = draw(rng, 5, 4)
    y = prox(x, LAM)
    best = LAM * norm(y) + (y - x).square().sum() / 2
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(50):
            z = y + size * draw(rng, 5, 4)
            assert LAM * norm(z) + (z - x).square().sum() / 2 > best


@pytest.mark.parametrize("name", CASES)
def test_moreau_residual_lies_in_the_dual_ball_and_attains_the_norm(name, rng):
    prox, norm = CASES[name]
    x = 2 * draw(rng, 6, 4)
    y = prox(x, LAM)
    residual = x - y
    assert y.abs().sum() > 0
    assert DUALS[name](residual) <= LAM * (1 + 1e-12)
    assert (residual * y).sum() == pytest.approx(LAM * float(norm(y)), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_small_inputs_and_zeros_become_zero_with_finite_gradients(name):
    prox, _ = CASES[name]
    for x in (torch.zeros(4, 3), torch.full((4, 3), 0.01)):
        x.requires_grad_()
        y = prox(x, LAM)
        (3 * y).sum().backward()
        torch.testing.assert_close(y.detach(), torch.zeros(4, 3))
        torch.testing.assert_close(x.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_gradients_for_input_and_threshold(name, shape, rng):
    x = draw(rng, *shape).requires_grad_()
    lam = torch.tensor(LAM, dtype=torch.float64, requires_grad=True)
    assert gradcheck(CASES[name][0], (x, lam))


def test_singular_values_gradient_of_low_rank_and_of_repeated_values(rng):
    low_rank = (draw(rng, 6, 2) @ draw(rng, 2, 5)).requires_grad_()
    repeated = (2 * torch.eye(5, 3, dtype=torch.float64)).requires_grad_()
    for x in (low_rank, repeated):
        assert gradcheck(lambda z: singular_value_threshold(z, LAM), (x,))


def test_batches_and_thresholds_that_broadcast(rng):
    x = draw(rng, 2, 5, 3)
    lam = torch.tensor([[0.1], [2.0]], dtype=torch.float64, requires_grad=True)
    y = singular_value_threshold(x, lam)
    for i in range(2):
        torch.testing.assert_close(y[i], singular_value_threshold(x[i], lam[i, 0].item()))
    y.sum().backward()
    assert lam.grad is not None and lam.grad.shape == lam.shape
    grouped = group_soft_threshold(x, lam[:, :, None])
    torch.testing.assert_close(grouped[1], group_soft_threshold(x[1], 2.0))


def test_known_values():
    torch.testing.assert_close(soft_threshold(torch.tensor([-3.0, 0.5, 2.0]), 1.0), torch.tensor([-2.0, 0.0, 1.0]))
    torch.testing.assert_close(group_soft_threshold(torch.tensor([3.0, 4.0]), 1.0), torch.tensor([2.4, 3.2]))
    torch.testing.assert_close(
        singular_value_threshold(torch.diag(torch.tensor([5.0, 2.0, 0.5])), 1.0),
        torch.diag(torch.tensor([4.0, 1.0, 0.0])),
    )


# ---------------------------------------------------------------------- Procrustes


def test_procrustes_is_orthonormal_and_nearest(rng):
    M = draw(rng, 3, 7, 4)
    A = procrustes(M)
    torch.testing.assert_close(A.mT @ A, torch.eye(4, dtype=M.dtype).expand(3, 4, 4))
    best = (A * M).sum((1, 2))
    for size in (0.01, 0.1, 100.0):
        for _ in range(50):
            Q = torch.linalg.qr(A + size * draw(rng, 3, 7, 4))[0]
            Q = Q * (Q * A).sum(1, keepdim=True).sign()  # signs of columns are qr's own affair
            assert ((Q * M).sum((1, 2)) < best).all()
    torch.testing.assert_close(best, torch.linalg.matrix_norm(M, "nuc"))


def test_procrustes_solves_the_spectral_step(rng):
    G, truth = draw(rng, 4, 50), torch.linalg.qr(draw(rng, 7, 4))[0]
    torch.testing.assert_close(procrustes(truth @ G @ G.mT), truth)
    torch.testing.assert_close(procrustes(truth), truth)


@pytest.mark.parametrize("shape", [(7, 4), (4, 4), (2, 5, 3), (1, 1)])
def test_procrustes_gradients(shape, rng):
    assert gradcheck(procrustes, (draw(rng, *shape).requires_grad_(),))


def test_procrustes_gradients_of_repeated_and_of_missing_directions(rng):
    assert gradcheck(procrustes, ((2 * torch.eye(5, 3, dtype=torch.float64)).requires_grad_(),))
    low_rank = (draw(rng, 7, 2) @ draw(rng, 2, 4)).requires_grad_()
    A = procrustes(low_rank)
    torch.testing.assert_close(A.mT @ A, torch.eye(4, dtype=A.dtype))
    (A * draw(rng, 7, 4)).sum().backward()
    assert low_rank.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_decompositions_are_made_in_single_precision_under_autocast(kind, rng):
    x = draw(rng, 4, 9, 20).float()
    for function in (lambda m: singular_value_threshold(m, 0.5), lambda m: procrustes(m.mT)):
        expected = function(x)
        with torch.autocast("cpu", kind):
            torch.testing.assert_close(function(x), expected)
            assert function(x.to(kind)).dtype == torch.float32
