"""Convolutions with wide windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rsunfold.unfold.precision import at_least_single

SIDE = 48
"""Pixels a side of the blocks that are transformed: the fastest of 32 to 128 for a window of 17 pixels."""


def wide_conv(x: Tensor, weight: Tensor) -> Tensor:
    """``F.conv2d(x, weight, padding=k // 2)`` for a wide odd window, k <= 47, by the fastest way that is exact.

    x : (B, C, H, W). weight : (C', C, k, k). On a GPU it is that convolution. On the CPU products of spectra take its
    place, in float32 or wider, block by block (overlap-save): a fifth of the time for k = 17 and 32 channels.
    Differences are float rounding, relative to the largest values of a block.
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    out, channels, k = weight.shape[:3]
    batch, _, rows, cols = x.shape
    step = SIDE - k + 1  # a block of SIDE pixels gives so many that the ends of the block do not reach
    down, across = -(-rows // step), -(-cols // step)
    x, weight = at_least_single(x, weight)
    padded = F.pad(x, (k // 2, across * step + k // 2 - cols, k // 2, down * step + k // 2 - rows))
    spectra = torch.fft.rfft2(weight, (SIDE, SIDE)).flatten(2).permute(2, 1, 0).conj()  # (frequencies, C, C')
    # Products of complex numbers as those of their real and imaginary parts: batches of real matrices are faster.
    matrices = torch.view_as_real(torch.stack((spectra, 1j * spectra), 2).resolve_conj())
    matrices = matrices.reshape(len(spectra), 2 * channels, 2 * out)
    strips = []
    for top in range(0, down * step, step):
        blocks = padded[:, :, top : top + SIDE].unfold(3, SIDE, step)  # (B, C, SIDE, across, SIDE)
        blocks = blocks.permute(0, 3, 1, 2, 4).reshape(batch * across, channels, SIDE, SIDE)
        values = torch.view_as_real(torch.fft.rfft2(blocks).flatten(2).permute(2, 0, 1).contiguous()).flatten(2)
        with torch.autocast("cpu", enabled=False):
            product = torch.bmm(values, matrices)
        product = torch.view_as_complex(product.reshape(*product.shape[:2], out, 2)).permute(1, 2, 0)
        y = torch.fft.irfft2(product.reshape(batch * across, out, SIDE, SIDE // 2 + 1), (SIDE, SIDE))
        y = y[..., :step, :step].reshape(batch, across, out, step, step)
        strips.append(y.permute(0, 2, 3, 1, 4).reshape(batch, out, step, across * step))
    return torch.cat(strips, 2)[:, :, :rows, :cols]
