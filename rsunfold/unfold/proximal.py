"""Proximal operators: prox_f(x) = argmin_z f(z) + 1/2 ||z - x||^2 in closed form.

All are differentiable everywhere that training may reach, zeros and repeated singular values included.

Sources: Parikh and Boyd, Proximal Algorithms, 2014; Cai, Candes and Shen, SIAM J. Optim. 2010 (singular values).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rsunfold.unfold.precision import at_least_single, without_autocast


def soft_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_1: sign(x) max(|x| - lam, 0), element by element.

    x : any shape, real. lam : >= 0, a number or a tensor that broadcasts against x.
    """
    return torch.sign(x) * torch.relu(x.abs() - lam)


def group_soft_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam sum_g ||z_g||_2: each row z_g of a matrix keeps its direction and loses lam of its length.

    x : (..., n), real. lam : >= 0, a number or a tensor that broadcasts against (..., 1).
    Vectors shorter than lam become 0; no division by zero for vectors that are 0 already.
    """
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * (torch.relu(norm - lam) / norm.clamp_min(torch.finfo(x.dtype).tiny))


def singular_value_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_*: the singular values of x (..., m, n) are soft-thresholded by lam.

    lam : > 0, a number or a tensor that broadcasts against (..., 1). Differentiable once. The result has the type of x,
    float32 where that is narrower.

    With X = U diag(s) V' and h(t) = max(1 - lam / sqrt(t), 0), the result is U diag(h(s^2)) U' X: the eigenvectors of
    the smaller Gram matrix X X' suffice. For batches of 9 x 81 matrices that is six times faster than their SVD.
    """
    (x,) = at_least_single(x)
    threshold: Tensor = torch.as_tensor(lam, dtype=x.dtype, device=x.device)
    if x.shape[-2] > x.shape[-1]:
        return singular_value_threshold(x.mT, threshold).mT
    with without_autocast(x):
        y: Tensor = _GramThreshold.apply(x, threshold)  # type: ignore[no-untyped-call]
    return y


class _GramThreshold(torch.autograd.Function):
    """X -> W X, W = h(X X'), h(t) = max(1 - lam / sqrt(t), 0).

    The derivative of eigenvectors has poles where eigenvalues coincide; in that of a function of the matrix they
    cancel: dW = U (K * U' dC U) U' with the divided differences K_ij = (h_i - h_j) / (t_i - t_j), h' where they
    coincide (Daleckii and Krein, 1965; Higham, Functions of Matrices, theorem 3.11).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: Tensor) -> Tensor:
        x = x.contiguous()  # products of batches of strided matrices are made one by one
        t, u = torch.linalg.eigh(x @ x.mT)
        s = t.clamp_min(0).sqrt()
        kept = s > lam
        h = torch.where(kept, 1 - lam / torch.where(kept, s, 1), 0)
        w = (u * h.unsqueeze(-2)) @ u.mT.contiguous()
        ctx.save_for_backward(x, lam, s, h, u, w)
        y: Tensor = w @ x
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, lam, s, h, u, w = ctx.saved_tensors
        safe = torch.where(h > 0, s, 1)
        slope = torch.where(h > 0, lam / (2 * safe**3), 0)  # h'(t)
        t_i, t_j = (s * s).unsqueeze(-1), (s * s).unsqueeze(-2)
        apart = t_i - t_j
        # Both kept: the quotient in a form without cancellation, lam / (s_i s_j (s_i + s_j)).
        s_i, s_j = safe.unsqueeze(-1), safe.unsqueeze(-2)
        both = (h > 0).unsqueeze(-1) & (h > 0).unsqueeze(-2)
        one = (h > 0).unsqueeze(-1) ^ (h > 0).unsqueeze(-2)
        l3 = lam.unsqueeze(-1) if lam.ndim else lam
        K = torch.where(both, l3 / (s_i * s_j * (s_i + s_j)), 0)
        K = torch.where(one, (h.unsqueeze(-1) - h.unsqueeze(-2)) / torch.where(one, apart, 1), K)
        K.diagonal(dim1=-2, dim2=-1).copy_(slope)
        u_t, g = u.mT.contiguous(), g.contiguous()
        c = u_t @ (g @ x.mT) @ u
        inner = (K * (c + c.mT)).contiguous() / 2
        grad = w @ g + 2 * ((u @ inner) @ u_t) @ x
        grad_lam = (torch.where(h > 0, -1 / safe, 0) * c.diagonal(dim1=-2, dim2=-1)).sum_to_size(lam.shape)
        return grad, grad_lam


def procrustes(m: Tensor) -> Tensor:
    """The orthonormal matrix nearest to m (..., p, q), p >= q: U V' of m = U diag(s) V', argmax of <A, m>, A'A = I.

    Solves min_A ||Y - A G||_F over orthonormal A for m = Y G' (Schonemann, 1966). Differentiable once where m has
    full rank; in directions that m does not determine the gradient is held back, not infinite. The result has the type
    of m, float32 where that is narrower.
    """
    (m,) = at_least_single(m)
    with without_autocast(m):
        y: Tensor = _Polar.apply(m)  # type: ignore[no-untyped-call]
    return y


class _Polar(torch.autograd.Function):
    """M = U S V' -> U V'; its derivative is U (skew part of U' dM V, divided by (s_i + s_j) / 2) V' plus what lies
    outside U, divided by s_j: no differences of singular values occur."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(m, full_matrices=False)
        ctx.save_for_backward(u, s, vh)
        q: Tensor = u @ vh
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        u, s, vh = ctx.saved_tensors
        least = torch.finfo(s.dtype).eps ** 0.5 * s[..., :1].clamp_min(torch.finfo(s.dtype).tiny)
        s = torch.maximum(s, least)
        c = u.mT @ g @ vh.mT
        inside = (c - c.mT) / (s.unsqueeze(-1) + s.unsqueeze(-2))
        gv = g @ vh.mT
        outside = (gv - u @ c) / s.unsqueeze(-2)
        grad: Tensor = (u @ inside + outside) @ vh
        return grad
