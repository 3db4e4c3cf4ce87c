"""Losses for infrared small targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HARDEST = 0.005
"""Share of the background pixels that the loss counts, those farthest from right."""


def soft_iou_loss(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - mean_b (sum p y + 1) / (sum p + sum y - sum p y + 1), p = sigmoid(logits).

    logits, truth, valid (0 or 1; None: all are): (B, 1, H, W); no target is where valid is 0. Source: L-RPCANet and
    RPCANet. The 1 lets an empty image reach 0.
    """
    p = torch.sigmoid(logits).flatten(1)
    p = p if valid is None else p * valid.flatten(1)
    y = truth.flatten(1)
    both = (p * y).sum(1)
    return 1 - ((both + 1) / (p.sum(1) + y.sum(1) - both + 1)).mean()


def hard_pixel_loss(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy averaged over target pixels plus that over the HARDEST share of background pixels.

    The background term counts on empty images too, where SoftIoU soon has no slope left, and it is not drowned by
    the 99.9 % of pixels that are easy. logits, truth, valid: see :func:`soft_iou_loss`.
    """
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten()
    y = truth.flatten() > 0.5
    background = loss.masked_fill(y if valid is None else y | (valid.flatten() == 0), 0.0)
    worst = background.topk(max(1, int(HARDEST * background.numel()))).values.mean()
    return worst + (loss * y).sum() / y.sum().clamp_min(1)


def infrared_loss(
    logits: Tensor,
    D: Tensor,
    image: Tensor,
    truth: Tensor,
    valid: Tensor | None = None,
    *,
    pixel: float,
    fidelity: float,
) -> Tensor:
    """SoftIoU + ``pixel`` * hard pixels + ``fidelity`` * mean (D^K - D^0)^2; the last over all pixels."""
    loss = soft_iou_loss(logits, truth, valid) + fidelity * F.mse_loss(D, image)
    return loss + pixel * hard_pixel_loss(logits, truth, valid) if pixel else loss
