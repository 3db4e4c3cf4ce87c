"""Non-local means against its formula, pixel by pixel, and at borders."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rsunfold.unfold.neighbours import DISTANCE, PATCH, REACH, H, non_local_means


def image(*shape: int) -> Tensor:
    """A step, a slope and noise of variance 1."""
    draw = torch.Generator().manual_seed(4)
    rows, cols = torch.meshgrid(torch.arange(shape[1]), torch.arange(shape[2]), indexing="ij")
    clean = 4.0 * (rows + cols > (shape[1] + shape[2]) / 2) + 0.1 * rows
    return clean + torch.randn(*shape, generator=draw)


def by_the_formula(x: np.ndarray) -> np.ndarray:
    """Of one image; the mean of pixels weighed by exp(-max(d - 2, 0) / H^2), d the mean squared difference."""
    half = PATCH // 2
    padded = np.pad(x.astype(np.float64), REACH, mode="reflect")
    out = np.zeros(x.shape)
    for r, c in np.ndindex(*x.shape):
        total = weights = 0.0
        here = padded[r + DISTANCE : r + DISTANCE + PATCH, c + DISTANCE : c + DISTANCE + PATCH]
        for i in range(2 * DISTANCE + 1):
            for j in range(2 * DISTANCE + 1):
                there = padded[r + i : r + i + PATCH, c + j : c + j + PATCH]
                w = math.exp(-max(np.mean((there - here) ** 2) - 2, 0) / H**2)
                total += w * there[half, half]
                weights += w
        out[r, c] = total / weights
    return out


def test_every_pixel_is_the_weighted_mean_of_the_formula():
    x = image(2, 13, 11)
    found = non_local_means(x)
    for n in range(2):
        np.testing.assert_allclose(found[n].numpy(), by_the_formula(x[n].numpy()), rtol=1e-4, atol=1e-5)


def test_noise_is_reduced_and_the_step_stays():
    x = image(1, 40, 40)
    rows, cols = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    clean = 4.0 * (rows + cols > 40) + 0.1 * rows
    error = (non_local_means(x)[0] - clean).square().mean()
    assert float(error) < 0.15


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (1, 8, 1), (1, 2, 3), (3, 20, 21)])
def test_constant_images_of_any_size_stay_as_they_are(shape):
    x = torch.full(shape, 3.7)
    torch.testing.assert_close(non_local_means(x), x)


@pytest.mark.parametrize("shape", [(1, 1, 12), (1, 12, 1), (1, 2, 2)])
def test_narrow_images_are_mirrored(shape):
    x = image(*shape)
    np.testing.assert_allclose(non_local_means(x)[0].numpy(), by_the_formula(x[0].numpy()), rtol=1e-4, atol=1e-5)


def test_a_window_with_a_margin_gives_the_result_of_the_image():
    x = image(2, 40, 37)
    window = non_local_means(x[:, 3:33, 5:36])[:, REACH:-REACH, REACH:-REACH]
    torch.testing.assert_close(window, non_local_means(x)[:, 3 + REACH : 33 - REACH, 5 + REACH : 36 - REACH])


def test_no_pixel_further_than_the_reach_matters_and_the_input_is_left_alone():
    x = image(1, 30, 30)
    before, changed = x.clone(), x.clone()
    found = non_local_means(x)
    assert torch.equal(x, before)
    changed[0, 15 + REACH + 1] += 100
    assert torch.equal(non_local_means(changed)[0, 15], found[0, 15])
