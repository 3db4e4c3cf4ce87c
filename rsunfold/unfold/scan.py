"""Selective state space scans over sequences and images, in plain PyTorch.

A state h runs along a sequence x_1 .. x_L; how fast it forgets, what it takes up and what it gives out depend on the
input (Gu and Dao, Mamba, 2023). With one decay per head and step (Dao and Gu, Transformers are SSMs, 2024)::

    h_t = exp(-delta_t A) h_{t-1} + delta_t b_t x_t'          h in R^{N x P} of each head
    y_t = h_t' c_t

is y = M x with M_ij = c_i' b_j delta_j exp(-A (delta_{j+1} + .. + delta_i)) for i >= j, so that a chunk of steps is
a small matrix product, and only the states between chunks are a recurrence.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsunfold.unfold.precision import at_least_single, without_autocast

CHUNK = 64
"""Steps of one matrix product; the product's arithmetic grows with it, the work of the recurrence falls."""
CELLS = 2**13
"""An image of more cells is worked on in strips when no gradients are asked for: its memory stays bounded."""


@functools.lru_cache(maxsize=16)
def _there(Q: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(Q, Q): 1 where step j comes before step i, or is it, else 0."""
    with torch.inference_mode(False):
        return torch.ones(Q, Q, dtype=dtype, device=device).tril()


@dataclass(frozen=True)
class _Lines:
    """The rows or the columns of an image as S sequences of L steps with H heads of P channels; views, not copies.

    x : (S, L, H, P). delta : (2, S, L, H), >= 0. A : (2, H), > 0. b, c : (S, L, N), of both ways. The leading 2 are the
    ways from the first step to the last, and back. total : (H, S, L, P), or the transposed image of it for columns, to
    which the result is added; where ``first`` it holds nothing yet.
    """

    x: Tensor
    delta: Tensor
    A: Tensor
    b: Tensor
    c: Tensor
    total: Tensor
    columns: bool = False
    first: bool = True

    @classmethod
    def of(cls, dim: int, x: Tensor, delta: Tensor, A: Tensor, bc: Tensor, total: Tensor, *, first: bool) -> _Lines:
        """Rows (dim 1) or columns (dim 2) of an image x (h, w, H, P), delta (4, h, w, H), A (4, H), bc (h, w, 4, N),
        total (H, h, w, P)."""
        if dim == 1:
            return cls(x, delta[:2], A[:2], bc[:, :, 0], bc[:, :, 1], total, first=first)
        x, delta, bc = x.transpose(0, 1), delta[2:].transpose(1, 2), bc.transpose(0, 1)
        return cls(x, delta, A[2:], bc[:, :, 2], bc[:, :, 3], total, columns=True, first=first)

    @property
    def y(self) -> Tensor:
        """``total`` as (H, S, L, P). A view made before something was added would not know its gradients."""
        return self.total.transpose(1, 2) if self.columns else self.total

    def filled(self, rest: int) -> _Lines:
        """With ``rest`` more steps at the end, which take nothing up and forget nothing."""
        if not rest:
            return self
        delta, b, c = (F.pad(t, (0, 0, 0, rest)) for t in (self.delta, self.b, self.c))
        return replace(self, x=F.pad(self.x, (0, 0, 0, 0, 0, rest)), delta=delta, b=b, c=c)


def _scan(lines: list[_Lines], D: Tensor, chunk: int) -> None:
    """Add to the y of each set of sequences, all of one shape, a scan there, one back, and D x, for D (H,).

    Both triangles of one matrix hold the two ways, so that they share one product with x. Decays are exponentials of
    differences of summed logarithms that are never above 0, so that nothing overflows; delta_j stands in there, too.
    All sets in one go: for a small image it is the number of operations that takes the time.
    """
    S, L, H, P = lines[0].x.shape
    chunks, Q = _chunks(L, chunk)
    lines = [one.filled(chunks * Q - L) for one in lines]
    sets, Z = len(lines), S * chunks
    # (2, H, sets, Z, Q), and the logarithms to base 2, whose exponential is the fastest, of the decay of each step and
    # of delta. What forgets more than float32 can tell from all, 2^-26, forgets that: long sums would lose digits.
    delta = torch.stack([one.delta for one in lines], 1).movedim(4, 1).reshape(2, H, sets, Z, Q)
    A = torch.stack([one.A for one in lines], 2)
    log_a = (delta * (A / -math.log(2))[..., None, None]).clamp_min(-26)
    summed = log_a.cumsum(-1)
    # Logarithms of what is left at each step of what came from the first step there, or from the last step back.
    reached = torch.stack((summed[0], summed[1, ..., -1:] - summed[1] + log_a[1]))
    taken = reached - delta.clamp_min(1e-30).log2()

    there, back = (r.unsqueeze(-1) - t.unsqueeze(-2) for r, t in zip(reached, taken, strict=True))  # (.., Z, Q, Q)
    bc = [(one.b.reshape(Z, Q, -1), one.c.reshape(Z, Q, -1)) for one in lines]
    product = torch.stack([c.bmm(b.mT) for b, c in bc])  # (sets, Z, Q, Q)
    # lerp_ selects, in a third of the time of where.
    M = back.lerp_(there, _there(Q, there.dtype, there.device)).exp2_()
    M = M * product if torch.is_grad_enabled() else M.mul_(product)
    # The diagonal is the way there's; that of the way back, and D:
    diagonal = M.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(torch.addcmul(D[:, None, None, None], product.diagonal(dim1=-2, dim2=-1), delta[1]))
    for n, (one, (b, c)) in enumerate(zip(lines, bc, strict=True)):
        if chunks == 1:
            for k in range(H):  # x may be a transposed image: it is not copied for that
                if one.first:
                    one.y[k].baddbmm_(M[k, n], one.x[:, :, k], beta=0)
                else:
                    one.y[k].add_(M[k, n].bmm(one.x[:, :, k]))
            continue
        x = one.x.reshape(Z, Q, H, P).movedim(2, 0).contiguous()
        y = M[:, n] @ x
        for way in (0, 1):
            y = y + _between(x, delta[way, :, n], reached[way, :, n], b, c, chunks, backward=way == 1)
        y = y.reshape(H, S, chunks * Q, P)[:, :, :L]
        if one.first:
            one.y.copy_(y)
        else:
            one.y.add_(y)


def _between(x: Tensor, delta: Tensor, reached: Tensor, b: Tensor, c: Tensor, chunks: int, *, backward: bool) -> Tensor:
    """What the chunks before give to each step: (H, Z, Q, P)."""
    H, Z, _, P = x.shape
    through = reached[..., :1] if backward else reached[..., -1:]  # (H, Z, 1): log decay over the whole chunk
    weight = (through - reached).exp2() * delta
    added = (b.mT @ (x * weight.unsqueeze(-1))).reshape(H, Z // chunks, chunks, -1, P)
    decay = through.exp2().reshape(H, -1, chunks, 1, 1)
    states = [torch.zeros_like(added[:, :, 0])]
    for n in range(chunks - 1, 0, -1) if backward else range(chunks - 1):
        states.append(decay[:, :, n] * states[-1] + added[:, :, n])
    if backward:
        states.reverse()
    before = torch.stack(states, 2).reshape(H, Z, -1, P)
    return (c @ before) * reached.exp2().unsqueeze(-1)


def _chunks(L: int, chunk: int) -> tuple[int, int]:
    """(number of chunks, steps of each) for L steps."""
    chunks = -(-L // chunk)
    return chunks, -(-L // chunks)


def scan_macs(S: int, L: int, H: int, P: int, N: int) -> int:
    """Multiply-accumulates of the matrix products of the scans of S sequences of L steps, both ways."""
    chunks, Q = _chunks(L, CHUNK)
    within = Q * Q * N + Q * Q * H * P
    between = 2 * 2 * Q * N * H * P if chunks > 1 else 0
    return S * chunks * (within + between)


class FourWayScan(nn.Module):
    """A residual layer that lets every cell of an image see its row and its column, both ways::

        u, z = W_in norm(x),   y = x + W_out (silu(z) * (rows(silu(u)) + columns(silu(u)) + D silu(u)))

    x : (B, h, w, d). Each row and each column is a sequence of its own: the end of one says nothing about the beginning
    of the next, and all run side by side. Two layers one after the other see the whole image. Inside there are 2 d
    channels in H heads with N states. From the input come delta of each of the four ways, and b and c of rows and of
    columns, the same both ways; they have a fixed length, which keeps the sums bounded.
    """

    def __init__(self, d: int, H: int, N: int) -> None:
        super().__init__()
        self.H, self.N, self.inside = H, N, 2 * d
        if self.inside % H:
            raise ValueError(f"{self.inside} channels cannot be shared by {H} heads")
        self.norm = nn.LayerNorm(d)
        self.W_in = nn.Linear(d, 2 * self.inside, bias=False)
        self.ways = nn.Linear(self.inside, 4 * (H + N))
        self.A = nn.Parameter(torch.zeros(4, H))  # logarithms
        self.D = nn.Parameter(torch.ones(H))
        self.W_out = nn.Linear(self.inside, d, bias=False)
        # Heads that remember 3 to 100 cells.
        start = torch.logspace(-2, -0.5, H)
        with torch.no_grad():
            self.ways.bias[: 4 * H] = torch.log(torch.expm1(start)).repeat(4)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for a whole image (B, h, w, d)."""
        if torch.is_grad_enabled() or x.shape[1] * x.shape[2] <= CELLS:
            u, z = self.inner(x)
            y: Tensor = x + self._out(z, self.scan(u, *self.steps(u)))
            return y
        out = x.clone()
        for dim, other in ((1, 2), (2, 1)):
            size = max(1, CELLS // x.shape[other])
            for part, sum_ in zip(torch.split(x, size, dim), torch.split(out, size, dim), strict=True):
                u, z = self.inner(part)
                sum_ += self._out(z, self.scan(u, *self.steps(u), dims=(dim,)))
        return out

    def inner(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """silu(u) and silu(z) of x (B, h, w, d), both (B, h, w, 2 d)."""
        u, z = F.silu(self.W_in(self.norm(x))).chunk(2, -1)
        return u, z

    def steps(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """What the scans of u (B, h, w, 2 d) are made of: delta (B, h, w, 4, H), b and c (B, h, w, 4, N) in the order
        b of rows, c of rows, b of columns, c of columns."""
        raw: Tensor = self.ways(u)
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        delta = F.softplus(raw[..., : 4 * self.H]).reshape(*u.shape[:3], 4, self.H)
        bc = raw[..., 4 * self.H :].reshape(*u.shape[:3], 4, self.N)
        # sqrt(N) in the product of b and c: for random directions it is about 1.
        return delta, self.N**0.25 * F.normalize(bc, dim=-1)

    def scan(self, u: Tensor, delta: Tensor, bc: Tensor, dims: tuple[int, ...] = (1, 2)) -> Tensor:
        """Rows (dim 1), columns (dim 2), and D u of channels u (B, h, w, 2 d): (B, h, w, H, P); half of D u of each.

        delta, bc : as from :meth:`steps`.
        """
        x, delta, bc, A, D = at_least_single(u, delta.movedim(3, 1), bc, self.A.exp(), self.D / 2)
        x = x.reshape(*x.shape[:3], self.H, -1)
        with without_autocast(x):
            images = [self._scanned(x[n], delta[n], A, bc[n], D, dims) for n in range(len(x))]
        return torch.stack(images) if len(images) > 1 else images[0].unsqueeze(0)

    def _out(self, z: Tensor, y: Tensor) -> Tensor:
        gated = z.reshape(y.shape) * y.to(z.dtype)
        out: Tensor = self.W_out(gated.reshape(z.shape))
        return out

    @staticmethod
    def _scanned(x: Tensor, delta: Tensor, A: Tensor, bc: Tensor, D: Tensor, dims: tuple[int, ...]) -> Tensor:
        """:meth:`scan` of one image x (h, w, H, P), delta (4, h, w, H)."""
        total = x.new_empty(x.shape[2], *x.shape[:2], x.shape[3])
        lines = [_Lines.of(dim, x, delta, A, bc, total, first=dim == dims[0]) for dim in dims]
        for together in [lines] if x.shape[0] == x.shape[1] else [[one] for one in lines]:
            _scan(together, D, CHUNK)
        return total.movedim(0, 2)

    @property
    def projections(self) -> int:
        """Multiply-accumulates of the projections for one cell."""
        return sum(m.in_features * m.out_features for m in (self.W_in, self.ways, self.W_out))

    def macs(self, h: int, w: int) -> int:
        """Multiply-accumulates for h x w cells."""
        H, P, N = self.H, self.inside // self.H, self.N
        return h * w * self.projections + scan_macs(h, w, H, P, N) + scan_macs(w, h, H, P, N)
