"""Proximal operators: prox_f(x) = argmin_z f(z) + 1/2 ||z - x||^2 in closed form.

Sources: Parikh and Boyd, Proximal Algorithms, 2014; Cai, Candes and Shen, SIAM J. Optim. 2010 (singular values).
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_1: sign(x) max(|x| - lam, 0), element by element.

    x : any shape, real. lam : >= 0, a number or a tensor that broadcasts against x.
    """
    return torch.sign(x) * torch.relu(x.abs() - lam)


def group_soft_threshold(x: Tensor, lam: Tensor | float, dim: int) -> Tensor:
    """prox of lam sum_g ||z_g||_2: each vector along ``dim`` keeps its direction and loses lam of its length.

    Vectors shorter than lam become 0; no division by zero for vectors that are 0 already.
    """
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * (torch.relu(norm - lam) / norm.clamp_min(torch.finfo(x.dtype).tiny))


def singular_value_threshold(x: Tensor, lam: Tensor | float) -> Tensor:
    """prox of lam ||z||_*: the singular values of x (..., m, n) are soft-thresholded by lam (>= 0)."""
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return (u * torch.relu(s - lam).unsqueeze(-2)) @ vh
