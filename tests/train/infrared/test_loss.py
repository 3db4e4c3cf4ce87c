"""Losses against values worked out by hand."""

import math

import pytest
import torch

from rsunfold.train.infrared import loss
from rsunfold.train.infrared.loss import hard_pixel_loss, infrared_loss, soft_iou_loss

LARGE = 50.0


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def picture(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def test_soft_iou_by_hand():
    logits = picture([logit(0.8), logit(0.5)], [logit(0.25), logit(0.1)])
    truth = picture([1.0, 0.0], [1.0, 0.0])
    both, p, y = 0.8 + 0.25, 0.8 + 0.5 + 0.25 + 0.1, 2.0
    assert soft_iou_loss(logits, truth).item() == pytest.approx(1 - (both + 1) / (p + y - both + 1), rel=1e-6)


def test_soft_iou_is_a_mean_over_images():
    a, b = torch.randn(2, 1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(1, 1, 5, 5)
    t[..., 2, 2] = 1
    both = soft_iou_loss(torch.cat([a, b]), torch.cat([t, t]))
    torch.testing.assert_close(both, (soft_iou_loss(a, t) + soft_iou_loss(b, t)) / 2)


def test_soft_iou_reaches_zero_with_and_without_targets():
    truth = torch.zeros(1, 1, 4, 4)
    assert soft_iou_loss(torch.full_like(truth, -LARGE), truth).item() == 0
    assert soft_iou_loss(torch.full_like(truth, LARGE), truth).item() == pytest.approx(1 - 1 / 17)
    truth[..., 1, 1] = 1
    assert soft_iou_loss((2 * truth - 1) * LARGE, truth).item() == pytest.approx(0, abs=1e-6)


def test_hard_pixels_by_hand(monkeypatch):
    truth = picture([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    logits = picture([logit(0.9), logit(0.3), logit(0.2)], [logit(0.6), logit(0.7), logit(0.1)])
    target = -(math.log(0.9) + math.log(0.6)) / 2
    two_worst = -(math.log(1 - 0.7) + math.log(1 - 0.3)) / 2
    monkeypatch.setattr(loss, "HARDEST", 2 / 6)
    assert hard_pixel_loss(logits, truth).item() == pytest.approx(target + two_worst, rel=1e-5)
    one_worst = -math.log(1 - 0.7)
    monkeypatch.setattr(loss, "HARDEST", 1e-9)
    assert hard_pixel_loss(logits, truth).item() == pytest.approx(target + one_worst, rel=1e-5)


def test_hard_pixels_punish_a_detection_in_an_empty_image():
    truth = torch.zeros(1, 1, 20, 20)
    logits = torch.full_like(truth, -LARGE).requires_grad_()
    assert hard_pixel_loss(logits, truth).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        logits[..., 3, 4] = 5
    loss = hard_pixel_loss(logits, truth)
    assert loss.item() > 1
    loss.backward()
    assert logits.grad[..., 3, 4].item() > 0.1


def test_infrared_loss_is_the_weighted_sum():
    draw = torch.Generator().manual_seed(1)
    T, D, image = torch.randn(3, 2, 1, 6, 6, generator=draw)
    truth = (torch.rand(2, 1, 6, 6, generator=draw) > 0.8).float()
    mse = (D - image).square().mean()
    expected = soft_iou_loss(T, truth) + 0.3 * hard_pixel_loss(T, truth) + 0.1 * mse
    torch.testing.assert_close(infrared_loss(T, D, image, truth, pixel=0.3, fidelity=0.1), expected)
    torch.testing.assert_close(
        infrared_loss(T, D, image, truth, pixel=0.0, fidelity=0.1), soft_iou_loss(T, truth) + 0.1 * mse
    )


def test_what_is_not_valid_counts_for_nothing():
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 1, 6, 6), torch.zeros(2, 1, 6, 6)
    truth[:, :, 1:3, 1:3] = 1
    valid = torch.ones_like(truth)
    assert soft_iou_loss(logits, truth, valid) == soft_iou_loss(logits, truth)
    assert hard_pixel_loss(logits, truth, valid) == hard_pixel_loss(logits, truth)
    valid[:, :, 4:] = 0
    other = torch.where(valid == 1, logits, 30.0)
    for measure in (soft_iou_loss, hard_pixel_loss):
        assert measure(other, truth, valid) == measure(logits, truth, valid) != measure(other, truth)
