"""Selective state space scans over sequences and images, in plain PyTorch.

A state h runs along a sequence x_1 .. x_L; how fast it forgets, what it takes up and what it gives out depend on the
input (Gu and Dao, Mamba, 2023). With one decay per head and step (Dao and Gu, Transformers are SSMs, 2024)::

    h_t = exp(-delta_t A) h_{t-1} + delta_t b_t x_t'          h in R^{N x P} of each head
    y_t = h_t' c_t

is y = M x with M_ij = c_i' b_j delta_j exp(-A (delta_{j+1} + .. + delta_i)) for i >= j, so that a chunk of steps is
a small matrix product, and only the states between chunks are a recurrence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 64
"""Steps of one matrix product; the product's arithmetic grows with it, the work of the recurrence falls."""
CELLS = 2**13
"""An image of more cells is worked on in strips when no gradients are asked for: its memory stays bounded."""


def two_way_scan(x: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Sum of a scan from the first step to the last and one from the last to the first.

    x : (S, L, H, P), S sequences of L steps with H heads of P channels. delta : (2, S, L, H), >= 0. A : (2, H), > 0.
    b, c : (2, S, L, N). The leading 2 are the two ways. Result: (S, L, H, P), float32 whatever the autocast.

    Both triangles of one matrix hold the two ways, so that they share one product with x. Decays are exponentials of
    sums of logarithms, and never above 1: what a factorisation would make overflow is subtracted before.
    """
    with torch.autocast(x.device.type, enabled=False):
        kind = torch.promote_types(x.dtype, torch.float32)
        return _two_way_scan(*(t.to(kind) for t in (x, delta, A, b, c)), chunk)


def _two_way_scan(x: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    S, L, H, P = x.shape
    chunks, Q = _chunks(L, chunk)
    rest = chunks * Q - L  # steps that take nothing up and forget nothing
    if rest:
        x, delta = F.pad(x, (0, 0, 0, 0, 0, rest)), F.pad(delta, (0, 0, 0, rest))
        b, c = F.pad(b, (0, 0, 0, rest)), F.pad(c, (0, 0, 0, rest))
    Z = S * chunks
    x, delta = x.reshape(Z, Q, H, P), delta.reshape(2, Z, Q, H)
    b, c = b.reshape(2, Z, Q, -1), c.reshape(2, Z, Q, -1)

    steps = delta.transpose(2, 3).contiguous()  # (2, Z, H, Q)
    # What forgets more than float32 can tell from all, e^-18, forgets that: long sums would lose digits.
    log_a = (-A[:, None, :, None] * steps).clamp_min(-18)
    reached = torch.stack((log_a[0].cumsum(-1), log_a[1].flip(-1).cumsum(-1).flip(-1)))
    taken = reached - steps.clamp_min(1e-30).log()
    lower = torch.ones(Q, Q, dtype=torch.bool, device=x.device).tril()
    exponent = torch.where(
        lower,
        reached[0].unsqueeze(-1) - taken[0].unsqueeze(-2),
        reached[1].unsqueeze(-1) - taken[1].unsqueeze(-2),
    )
    products = c @ b.mT  # (2, Z, Q, Q)
    M = exponent.exp() * torch.where(lower, products[0], products[1]).unsqueeze(1)
    y = (M @ x.transpose(1, 2)).transpose(1, 2)  # (Z, Q, H, P)
    # The diagonal of M is the forward way's; the backward way's:
    y = y + ((b[1] * c[1]).sum(-1, keepdim=True) * delta[1]).unsqueeze(-1) * x
    if chunks > 1:
        for way in (0, 1):
            y = y + _between(x, delta[way], reached[way], b[way], c[way], chunks, backward=way == 1)
    return y.reshape(S, chunks * Q, H, P)[:, :L]


def _between(
    x: Tensor, delta: Tensor, reached: Tensor, b: Tensor, c: Tensor, chunks: int, *, backward: bool
) -> Tensor:
    """What the chunks before give to each step: (Z, Q, H, P)."""
    Z, Q, H, P = x.shape
    through = reached[..., :1] if backward else reached[..., -1:]  # (Z, H, 1): log decay over the whole chunk
    weight = (through - reached).exp().transpose(1, 2) * delta
    added = (b.mT @ (x * weight.unsqueeze(-1)).flatten(2)).reshape(Z // chunks, chunks, -1, H, P)
    decay = through.exp().reshape(-1, chunks, 1, H, 1)
    states = [torch.zeros_like(added[:, 0])]
    order = range(chunks - 1, 0, -1) if backward else range(chunks - 1)
    for n in order:
        states.append(decay[:, n] * states[-1] + added[:, n])
    if backward:
        states.reverse()
    before = torch.stack(states, 1).reshape(Z, -1, H * P)
    return (c @ before).reshape(Z, Q, H, P) * reached.exp().transpose(1, 2).unsqueeze(-1)


def _chunks(L: int, chunk: int) -> tuple[int, int]:
    """(number of chunks, steps of each) for L steps."""
    chunks = -(-L // chunk)
    return chunks, -(-L // chunks)


def scan_macs(S: int, L: int, H: int, P: int, N: int, *, chunk: int = CHUNK) -> int:
    """Multiply-accumulates of the matrix products of :func:`two_way_scan`."""
    chunks, Q = _chunks(L, chunk)
    within = 2 * Q * Q * N + Q * Q * H * P
    between = 2 * 2 * Q * N * H * P if chunks > 1 else 0
    return S * chunks * (within + between)


class FourWayScan(nn.Module):
    """A residual layer that lets every cell of an image see its row and its column, both ways::

        u, z = W_in norm(x),   y = x + W_out (silu(z) * (rows(silu(u)) + columns(silu(u)) + D silu(u)))

    x : (B, h, w, d). Each row and each column is a sequence of its own: the end of one says nothing about the beginning
    of the next, and all run side by side. Two layers one after the other see the whole image. Inside there are 2 d
    channels in H heads with N states, and delta, b and c of each of the four ways from the input; b and c have a fixed
    length, which keeps the sums bounded.
    """

    def __init__(self, d: int, H: int, N: int) -> None:
        super().__init__()
        self.H, self.N, self.inside = H, N, 2 * d
        if self.inside % H:
            raise ValueError(f"{self.inside} channels cannot be shared by {H} heads")
        self.norm = nn.LayerNorm(d)
        self.W_in = nn.Linear(d, 2 * self.inside, bias=False)
        self.ways = nn.Linear(self.inside, 4 * (H + 2 * N))
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
            u, z = self._inner(x)
            return x + self.W_out(z * self.scan(u).to(z.dtype))
        out = x.clone()
        for dim, other in ((1, 2), (2, 1)):
            size = max(1, CELLS // x.shape[other])
            for part, y in zip(x.split(size, dim), out.split(size, dim), strict=True):
                u, z = self._inner(part)
                y += self.W_out(z * self._along(u, dim, self.ways(u)).to(z.dtype))
        return out

    def _inner(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, z = F.silu(self.W_in(self.norm(x))).chunk(2, -1)
        return u, z

    def scan(self, u: Tensor) -> Tensor:
        """Rows, columns and D u of channels u (B, h, w, 2 d)."""
        ways = self.ways(u)
        return self._along(u, 1, ways) + self._along(u, 2, ways)

    def _along(self, u: Tensor, dim: int, ways: Tensor) -> Tensor:
        """Both ways along the rows (dim 1), with D u, or the columns (dim 2)."""
        B, h, w, _ = u.shape
        H, N = self.H, self.N
        first = 0 if dim == 1 else 2
        delta, b, c = ways.to(torch.promote_types(ways.dtype, torch.float32)).split((4 * H, 4 * N, 4 * N), -1)
        if dim == 2:
            u, delta, b, c = (t.transpose(1, 2) for t in (u, delta, b, c))
        S, L = (B * h, w) if dim == 1 else (B * w, h)

        def pick(t: Tensor, size: int) -> Tensor:
            """(2, S, L, size) of the two ways."""
            t = t[..., first * size : (first + 2) * size].reshape(S, L, 2, size)
            return t.permute(2, 0, 1, 3).contiguous()

        b, c = F.normalize(pick(b, N), dim=-1), N**0.5 * F.normalize(pick(c, N), dim=-1)
        x = u.reshape(S, L, H, -1)
        y = two_way_scan(x, F.softplus(pick(delta, H)), self.A[first : first + 2].exp(), b, c)
        if dim == 1:
            return (y + self.D[:, None] * x).reshape(u.shape)
        return y.reshape(u.shape).transpose(1, 2)

    def macs(self, h: int, w: int) -> int:
        """Multiply-accumulates for h x w cells."""
        dense = sum(m.in_features * m.out_features for m in (self.W_in, self.ways, self.W_out))
        P = self.inside // self.H
        return h * w * dense + scan_macs(h, w, self.H, P, self.N) + scan_macs(w, h, self.H, P, self.N)
