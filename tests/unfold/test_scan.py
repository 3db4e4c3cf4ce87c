"""The selective scan: equal to the recurrence, step by step, that it replaces."""

import pytest
import torch
from torch import Tensor

from rsunfold.unfold import scan
from rsunfold.unfold.scan import CHUNK, FourWayScan, _Lines, _scan, scan_macs

INPUTS = ("x", "delta", "A", "b", "c", "D")


def step_by_step(x: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One way: h_t = exp(-delta_t A) h_{t-1} + delta_t b_t x_t', y_t = h_t' c_t, as it stands in the paper."""
    S, L, H, P = x.shape
    h = x.new_zeros(S, H, b.shape[-1], P)
    out = []
    for t in range(L):
        taken = torch.einsum("sh,sn,shp->shnp", delta[:, t], b[:, t], x[:, t])
        h = torch.exp(-delta[:, t] * A)[..., None, None] * h + taken
        out.append(torch.einsum("shnp,sn->shp", h, c[:, t]))
    return torch.stack(out, 1)


def both_ways(x, delta, A, b, c, D):
    there = step_by_step(x, delta[0], A[0], b, c)
    back = step_by_step(x.flip(1), delta[1].flip(1), A[1], b.flip(1), c.flip(1))
    return there + back.flip(1) + D[:, None] * x


def two_ways(x, delta, A, b, c, D, chunk: int = CHUNK) -> Tensor:
    """What the layer makes of its rows, or its columns."""
    total = x.new_empty(x.shape[2], *x.shape[:2], x.shape[3])
    _scan([_Lines(x, delta, A, b, c, total)], D, chunk)
    return total.movedim(0, 2)


def inputs(L: int, S: int = 3, H: int = 2, P: int = 5, N: int = 4, seed: int = 0, largest: float = 0.5) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"x": (S, L, H, P), "delta": (2, S, L, H), "A": (2, H), "b": (S, L, N), "c": (S, L, N), "D": (H,)}
    values = {k: torch.randn(v, generator=draw) for k, v in shapes.items()}
    values["delta"] = largest * torch.rand(shapes["delta"], generator=draw)
    values["A"] = values["A"].exp()
    return [values[k] for k in INPUTS]


@pytest.mark.parametrize("L", [1, 2, 7, 8, 9, 16, 33, 64, 65, 130])
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_equals_the_recurrence_with_gradients(L, chunk):
    given = inputs(L)
    results, slopes = [], []
    weights = torch.randn(3, L, 2, 5, generator=torch.Generator().manual_seed(1))
    for function, kind in ((lambda *a: two_ways(*a, chunk=chunk), torch.float32), (both_ways, torch.float64)):
        leaves = [t.to(kind, copy=True).requires_grad_() for t in given]
        y = function(*leaves)
        (y * weights).sum().backward()
        results.append(y.detach().double())
        slopes.append([t.grad.double() for t in leaves])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-5 * float(results[1].abs().max()))
    for name, ours, exact in zip(INPUTS, *slopes, strict=True):
        close = 1e-5 * max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(ours, exact, rtol=0, atol=close, msg=lambda m, name=name: f"{name}: {m}")


def test_derivatives_are_those_of_the_function():
    given = [t.double().requires_grad_() for t in inputs(7, S=1, H=2, P=2, N=2, largest=2.0)]
    with torch.no_grad():
        given[1].clamp_(min=1e-2)
    assert torch.autograd.gradcheck(lambda *a: two_ways(*a, chunk=3), given)


@pytest.mark.parametrize(("largest", "close"), [(1e-7, 1e-5), (100.0, 5e-5)])
def test_all_is_remembered_or_nothing_without_overflow(largest, close):
    given = [t.requires_grad_() for t in inputs(150, largest=largest)]
    y = two_ways(*given, chunk=32)
    exact = both_ways(*(t.detach().double() for t in given))
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=close * float(exact.abs().max()))
    y.square().sum().backward()
    assert all(t.grad.isfinite().all() for t in given)


def test_a_step_of_no_length_changes_nothing():
    x, delta, A, b, c, D = inputs(20)
    delta[:, :, 8] = 0
    delta.requires_grad_()
    y = two_ways(x, delta, A, b, c, D, chunk=8)
    torch.testing.assert_close(y, both_ways(x, delta, A, b, c, D), rtol=1e-4, atol=1e-5)
    y.sum().backward()
    assert delta.grad.isfinite().all()


def test_sequences_do_not_see_each_other():
    x, delta, A, b, c, D = inputs(40)
    together = two_ways(x, delta, A, b, c, D)
    alone = two_ways(x[1:2], delta[:, 1:2], A, b[1:2], c[1:2], D)
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_scan_in_single_precision(kind):
    layer, x = FourWayScan(6, 2, 3), torch.randn(2, 5, 9, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        u, _ = layer.inner(x)
        steps = layer.steps(u)
        expected = layer.scan(u, *steps)
        with torch.autocast("cpu", kind):
            torch.testing.assert_close(layer.scan(u, *steps), expected)
        expected = layer(x)
        with torch.autocast("cpu", kind):
            torch.testing.assert_close(layer(x).float(), expected, rtol=0.05, atol=0.05)


def test_two_layers_see_the_whole_image_and_one_a_cross():
    torch.manual_seed(0)
    first, second = FourWayScan(6, 3, 4).double(), FourWayScan(6, 3, 4).double()
    x = torch.randn(1, 7, 9, 6, dtype=torch.float64)
    moved = x.clone()
    moved[0, 2, 3, 1] += 1
    with torch.no_grad():
        once = (first(moved) != first(x)).any(-1)[0]
        twice = (second(first(moved)) != second(first(x))).any(-1)[0]
    cross = torch.zeros(7, 9, dtype=torch.bool)
    cross[2], cross[:, 3] = True, True
    assert torch.equal(once, cross) and twice.all()


def test_four_ways_turn_with_the_image():
    """With one set of weights for rows and columns, a transposed image gives the transposed result."""
    torch.manual_seed(0)
    layer = FourWayScan(6, 3, 4)
    with torch.no_grad():
        for part in layer.ways.weight.split((12, 16)) + layer.ways.bias.split((12, 16)):
            part[len(part) // 2 :] = part[: len(part) // 2]
        x = torch.randn(2, 5, 8, 6)
        torch.testing.assert_close(layer(x.transpose(1, 2)), layer(x).transpose(1, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (40, 3), (13, 17)])
def test_strips_give_what_the_whole_gives(size, monkeypatch):
    torch.manual_seed(0)
    layer = FourWayScan(6, 3, 4)
    x = torch.randn(2, *size, 6)
    with torch.no_grad():
        expected = layer(x)
        monkeypatch.setattr(scan, "CELLS", 20)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("size", [(2, 2), (2, 7), (7, 2), (7, 7), (5, 8)])
def test_gradients_of_rows_and_columns_of_any_length(size, monkeypatch):
    """Of one or several chunks each; in a square image both are scanned in one go."""
    monkeypatch.setattr(scan, "CHUNK", 4)
    torch.manual_seed(0)
    layer = FourWayScan(2, 2, 2).double()
    x = torch.randn(1, *size, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *parameters: layer(x), (x, *layer.parameters()))


def test_a_square_image_is_no_special_case(monkeypatch):
    monkeypatch.setattr(scan, "CHUNK", 4)
    torch.manual_seed(0)
    layer = FourWayScan(6, 3, 4)
    x = torch.randn(1, 6, 6, 6)
    with torch.no_grad():
        u, _ = layer.inner(x)
        steps = layer.steps(u)
        both = layer.scan(u, *steps)
        apart = layer.scan(u, *steps, dims=(1,)) + layer.scan(u, *steps, dims=(2,))
    torch.testing.assert_close(both, apart)


def test_arithmetic_is_counted(flops):
    for L in (5, 64, 150):
        assert flops(two_ways, *inputs(L)) == 2 * scan_macs(3, L, 2, 5, 4)
    layer = FourWayScan(6, 2, 3)
    assert flops(layer, torch.randn(1, 70, 9, 6)) == 2 * layer.macs(70, 9)


def test_heads_must_share_the_channels():
    with pytest.raises(ValueError, match="12 channels cannot be shared by 5 heads"):
        FourWayScan(6, 5, 4)
