"""Proximal operators: prox_f(x) = argmin_z f(z) + 1/2 ||z - x||^2 in closed form.

All are differentiable everywhere that training may reach, zeros and repeated singular values included.

Sources: Parikh and Boyd, Proximal Algorithms, 2014; Cai, Candes and Shen, SIAM J. Optim. 2010 (singular values).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def soft_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_1: sign(x) max(|x| - lam, 0), element by element.

    x : any shape, real. lam : >= 0, a number or a tensor that broadcasts against x.
    """
    return torch.sign(x) * torch.relu(x.abs() - lam)


def group_soft_threshold(x: Tensor, lam: Tensor | float, dim: int) -> Tensor:
    """prox of lam sum_g ||z_g||_2: each vector along ``dim`` keeps its direction and loses lam of its length.

    x : any shape, real. lam : >= 0, a number or a tensor that broadcasts against x with ``dim`` of length 1.
    Vectors shorter than lam become 0; no division by zero for vectors that are 0 already.
    """
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * (torch.relu(norm - lam) / norm.clamp_min(torch.finfo(x.dtype).tiny))


def singular_value_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_*: the singular values of x (..., m, n) are soft-thresholded by lam.

    lam : > 0, a number or a tensor that broadcasts against (..., min(m, n)). Differentiable once.
    """
    threshold: Tensor = torch.as_tensor(lam, dtype=x.dtype, device=x.device)
    y: Tensor = _SingularValueThreshold.apply(x, threshold)  # type: ignore[no-untyped-call]
    return y


class _SingularValueThreshold(torch.autograd.Function):
    """X = U diag(s) V' -> U diag(f) V', f = max(s - lam, 0).

    The derivative of the singular vectors has poles where singular values coincide, which those of a low-rank matrix
    do at 0; in the derivative of the prox they cancel. It is U (P * sym(W) + Q * skew(W)) V' with W = U' dX V and the
    divided differences P_ij = (f_i - f_j) / (s_i - s_j), Q_ij = (f_i + f_j) / (s_i + s_j), plus f_i / s_i on what
    lies outside U or V. Source: Candes, Sing-Long and Trzasko, IEEE Trans. Signal Process. 61(19), 2013.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        ctx.save_for_backward(u, s, vh, lam)
        y: Tensor = (u * torch.relu(s - lam).unsqueeze(-2)) @ vh
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        # A prox is the gradient of a function (the Moreau envelope), so its Jacobian is its own transpose.
        u, s, vh, lam = ctx.saved_tensors
        f = torch.relu(s - lam)
        tiny = torch.finfo(s.dtype).tiny
        kept = (s > lam).to(s.dtype)
        s_i, s_j, f_i, f_j = s.unsqueeze(-1), s.unsqueeze(-2), f.unsqueeze(-1), f.unsqueeze(-2)
        alike = kept.unsqueeze(-1) == kept.unsqueeze(-2)  # both above lam or neither: the quotient is 1 or 0
        P = torch.where(alike, kept.unsqueeze(-1), (f_i - f_j) / torch.where(alike, 1.0, s_i - s_j))
        Q = (f_i + f_j) / (s_i + s_j).clamp_min(tiny)
        uh, v = u.mH, vh.mH
        gv = g @ v
        W = uh @ gv
        inside = P * (W + W.mH) / 2 + Q * (W - W.mH) / 2
        share = (f / s.clamp_min(tiny)).unsqueeze(-2)
        left = (gv - u @ W) * share  # columns outside U
        right = share.mH * (uh @ g - W @ vh)  # rows outside V
        grad = u @ inside @ vh + left @ vh + u @ right
        grad_lam = -(kept * W.diagonal(dim1=-2, dim2=-1)).sum_to_size(lam.shape)
        return grad, grad_lam
