"""Non-local means of a stack of images, in torch: the pilot estimate that unrolled denoisers start from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rsunfold.unfold.patches import mirrored

PATCH, DISTANCE, H = 5, 5, 0.8
"""Side of the patches, farthest patch along each axis, and how much, in noises, patches may differ."""
REACH = DISTANCE + PATCH // 2
"""Pixels that a result depends on."""


def non_local_means(G: Tensor) -> Tensor:
    """Each image of G (n, rows, cols), with noise of variance 1, as the mean of pixels around which it looks alike.

    The weight of a pixel is exp(-max(d - 2, 0) / H^2), d the mean squared difference of the two patches, of which
    their noise makes up 2. Source: Buades, Coll and Morel, CVPR 2005. Beyond its border an image is mirrored.
    Memory: six times that of G.
    """
    rows, cols = G.shape[1:]
    half = PATCH // 2
    down, across = (mirrored(n, REACH, REACH).to(G.device) for n in (rows, cols))
    padded = G[:, down][:, :, across]

    def shifted(i: int, j: int, margin: int) -> Tensor:
        """The images moved by (i, j), with ``margin`` pixels around."""
        top, left = REACH - margin + i, REACH - margin + j
        return padded[:, top : top + rows + 2 * margin, left : left + cols + 2 * margin]

    here = shifted(0, 0, half)
    total, weights = torch.zeros_like(G), torch.zeros_like(G)
    for i in range(-DISTANCE, DISTANCE + 1):
        for j in range(-DISTANCE, DISTANCE + 1):
            d = F.avg_pool2d((shifted(i, j, half) - here).square_(), PATCH, stride=1)
            w = torch.exp_(d.sub_(2).clamp_min_(0).mul_(-1 / H**2))
            total.addcmul_(w, shifted(i, j, 0))
            weights += w
    return total / weights
