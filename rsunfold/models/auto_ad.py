"""Auto-AD: what a convolutional autoencoder that starts from noise cannot reconstruct of a scene is anomalous."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rsunfold.arrays import Floats
from rsunfold.errors import UsageError
from rsunfold.progress import tracked
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer
from rsunfold.torchstate import drawing
from rsunfold.unfold.unrolled import gradients

AMPLITUDE = 0.1
"""The input is uniform noise from 0 to this."""
SLOPE = 0.2
"""Of the rectifiers, for negative values."""
PERIOD = 100
"""Iterations after which the loss is weighted anew."""
SETTLING = 50
"""Iterations over which the change of the loss is averaged before it is compared with the tolerance."""


class Block(nn.Sequential):
    """Convolution with mirrored borders, normalisation by the image's own moments, leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, padding_mode="reflect"),
            own_moments(outputs),
            nn.LeakyReLU(SLOPE, inplace=True),
        )


def own_moments(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation that keeps no running moments: there is one image, in learning as in scoring."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


class Scale(nn.Module):
    """One resolution: what stays at it beside what passes through the ``coarser`` ones, (1, channels, H, W).

    H and W of the input must exceed 2^(1 + coarser), or the coarsest has nothing to mirror.
    """

    def __init__(self, inputs: int, channels: int, coarser: int) -> None:
        super().__init__()
        self.skip = Block(inputs, channels, 1)
        self.down = nn.Sequential(Block(inputs, channels, 3, stride=2), Block(channels, channels, 3))
        self.inner = Scale(channels, channels, coarser - 1) if coarser else nn.Identity()
        self.norm = own_moments(2 * channels)
        self.up = nn.Sequential(Block(2 * channels, channels, 3), Block(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(1, channels, H, W) of (1, inputs, H, W)."""
        beside = self.skip(x)
        through = F.interpolate(self.inner(self.down(x)), size=beside.shape[2:])
        out: Tensor = self.up(self.norm(torch.cat([beside, through], dim=1)))
        return out


def autoencoder(bands: int, channels: int, scales: int) -> nn.Sequential:
    """Noise (1, channels, H, W) -> samples (1, bands, H, W) in [0, 1]; H and W at least 2^scales + 1."""
    return nn.Sequential(Scale(channels, channels, scales - 1), nn.Conv2d(channels, bands, 1), nn.Sigmoid())


@register(
    "auto-ad",
    task="detect-anomaly",
    kind="network",
    per_scene=True,
    paper="Wang, Wang, Zhang and Zhong, Auto-AD: autonomous hyperspectral anomaly detection network based on fully "
    "convolutional autoencoder, IEEE Transactions on Geoscience and Remote Sensing 60, 2022",
    url="https://doi.org/10.1109/TGRS.2021.3057721",
    bands=(1, None),
    needs="samples scaled to [0, 1]; anomalies that are small and few; trained on each image, without weights",
    sizes={
        "paper": {"channels": 128, "scales": 5, "iterations": 1001, "jitter": 0.1, "tolerance": 0.01},
        "tiny": {"channels": 4, "scales": 2, "iterations": 3},
    },
)
class AutoAD:
    """Auto-AD (Wang, Wang, Zhang and Zhong, 2022): the residual of a scene that an autoencoder made out of noise.

    A fully convolutional autoencoder f with skip connections, the same kind as that of the deep image prior (Ulyanov,
    Vedaldi and Lempitsky, CVPR 2018), learns from nothing but the scene X to turn a fixed noise image z into it::

        r_i = ||x_i - f(z)_i||^2
        w_i = (max r - r_i) / (max r - min r)                every 100 iterations; 1 before, 0 where not valid
        min over f of  mean over i and bands of (w_i (x_i - f(z)_i))^2

    It learns what is common first. Small anomalies come late, and weigh the less the worse they are reconstructed, so
    that they stay in the residual: the score is ||x_i - f(z)_i|| when learning ends. That is after ``iterations``, or
    when the loss changes by less than ``tolerance`` from one iteration to the next, on average over 50. No truth is
    asked. A seed gives the same score again on the same device with the same number of threads.

    channels : of every layer and of z. scales : resolutions below the full one, each half of the one before.
    tolerance : in units of the scene's variance, averaged over the bands. rate : of Adam. jitter : standard deviation
    of normal noise that is added to z anew in each iteration; the changes of the loss are then about ten times as
    large, and the tolerance has to be.

    What differs from the published code: 32 channels instead of 128, and as many channels of noise instead of one per
    band, which keeps a scene of 100 x 100 pixels and 200 bands below a minute on two cores. No jitter, there 0.1: on
    seven scenes the AUC was the same on average (some gained and others lost up to 0.05) and learning took twice as
    long. The tolerance, there 1.5e-5 whatever the contrast of the scene; the score, there that of the last weighting.

    Both sides of an image need 2^scales + 1 pixels; pixels of weight 0 stand in for those that a smaller one lacks.
    """

    radius: ClassVar[int | None] = None
    takes_priors: ClassVar[bool] = False

    def __init__(
        self,
        *,
        iterations: int = 600,
        channels: int = 32,
        scales: int = 5,
        tolerance: float = 0.001,
        rate: float = 0.01,
        jitter: float = 0.0,
    ) -> None:
        for name, number, least in (("iterations", iterations, 1), ("channels", channels, 1), ("scales", scales, 1)):
            if number != int(number) or number < least:
                raise UsageError(f"Auto-AD needs a whole number of {name} from {least} on, got {number}.")
        if not 0 <= tolerance < math.inf:
            raise UsageError(f"Auto-AD needs a tolerance of 0 or more, got {tolerance}.")
        if not 0 < rate < math.inf:
            raise UsageError(f"Auto-AD needs a learning rate above 0, got {rate}.")
        if not 0 <= jitter < math.inf:
            raise UsageError(f"Auto-AD needs a jitter of 0 or more, got {jitter}.")
        self.iterations, self.channels, self.scales = int(iterations), int(channels), int(scales)
        self.tolerance, self.rate, self.jitter = tolerance, rate, jitter

    def fit(self, scene: Scene, device: str = "cpu") -> Scorer:
        """The scorer of ``scene``, of which it takes the seed alone: it learns from the very cube that it scores.

        A cube without any contrast among its valid pixels scores 0.
        """

        def score(cube: Floats, valid: NDArray[np.bool_]) -> Floats:
            return self._score(cube, valid, scene.seed, torch.device(device))

        return score

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory per pixel beside the cube: what learning keeps of every layer and sends back (measured)."""
        return 4.0 * (9 * bands + 43 * self.channels)

    @gradients()
    def _score(self, cube: Floats, valid: NDArray[np.bool_], seed: int, device: torch.device) -> Floats:
        _, rows, cols = cube.shape
        variance = float(cube[:, valid].var(axis=1, dtype=np.float64).mean()) if valid.any() else 0.0
        if not variance > 0:
            return np.zeros((rows, cols), np.float32)
        least = 2**self.scales + 1
        lacking = (max(0, least - rows), max(0, least - cols))
        padding = (0, lacking[1], 0, lacking[0])
        x = F.pad(torch.from_numpy(np.where(valid, cube, np.float32(0)))[None], padding).to(device)
        inside = F.pad(torch.from_numpy(valid), padding).to(device)
        net, z = self._start(len(cube), x.shape[2:], seed)
        net, z = net.to(device), z.to(device)
        self._learn(net, z, x, inside, variance, torch.Generator(device).manual_seed(seed))
        with torch.no_grad():
            residual = (net(z) - x).square_().sum(dim=1)[0].sqrt_()
        return np.asarray(residual[:rows, :cols].cpu().numpy(), np.float32)

    def _start(self, bands: int, size: torch.Size, seed: int) -> tuple[nn.Sequential, Tensor]:
        """Network and noise, drawn on the CPU so that they are the same for every device."""
        with drawing(seed):
            net = autoencoder(bands, self.channels, self.scales)
            return net, AMPLITUDE * torch.rand(1, self.channels, *size)

    def _learn(
        self, net: nn.Module, z: Tensor, x: Tensor, inside: Tensor, variance: float, draw: torch.Generator
    ) -> None:
        optimizer = torch.optim.Adam(net.parameters(), lr=self.rate)
        samples = float(inside.sum()) * x.shape[1]
        weight = inside.to(x.dtype)
        noise = torch.empty_like(z)
        last, changes = math.nan, []
        for k in tracked(range(self.iterations), "training"):
            optimizer.zero_grad()
            start = z + self.jitter * noise.normal_(generator=draw) if self.jitter else z
            error = net(start) - x
            if k and k % PERIOD == 0:
                weight = weights(error.detach().square().sum(dim=1)[0], inside)
            loss = (error * weight).square().sum() / samples
            loss.backward()
            optimizer.step()
            now = float(loss.detach())
            changes.append(abs(now - last))
            last = now
            if k and k % SETTLING == 0 and sum(changes[-SETTLING:]) < SETTLING * self.tolerance * variance:
                return


def weights(residual: Tensor, valid: Tensor) -> Tensor:
    """Weights (H, W) from 1 at the smallest squared residual (H, W) of a valid pixel to 0 at the largest; else 0.

    1 at every valid pixel where all residuals are the same.
    """
    known = residual[valid]
    low, high = known.min(), known.max()
    falling = (high - residual) / (high - low) if high > low else torch.ones_like(residual)
    return falling * valid
