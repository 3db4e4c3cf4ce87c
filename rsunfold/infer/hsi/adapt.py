"""A network adapted to one noisy image, without truth and without other images, by Stein's unbiased risk estimate."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsunfold.cube import Window
from rsunfold.errors import DeviceError, InputError, UsageError
from rsunfold.progress import tracked
from rsunfold.unfold.patches import SIDE as PATCH
from rsunfold.unfold.unrolled import DenoisingNetwork, gradients

STEPS, RATE = 30, 0.05
"""Of Adam; the rate is that of the logarithms of thresholds, weights and step sizes."""
SIDE, LEAST, GRAIN = 48, 16, 8
"""Side of the windows that are looked at, in pixels; where memory is short the smallest, and what one is less."""
PROBE = 0.1
"""Length of the step of the divergence's difference, in deviations of the noise."""
JUDGED = 4
"""Windows that decide whether the adapted numbers are kept."""
FEWEST = 2000
"""Valid samples in these; the estimate of fewer is mostly chance."""
TRIES = 16
"""Windows that are looked at for one that is valid in half of its pixels or more."""
SEED = 0
"""Of the windows and the probes."""
CODES = 50
"""Tensors of the size of the codes that each stage leaves for its gradient."""

Reader = Callable[[Window], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""A window of the image: whitened spectra float32 (bands, h, w) and where they are valid, bool (h, w)."""


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    risk_before, risk_after : Stein's estimate of the mean squared error, in variances of the noise, on windows drawn
    independently of those adapted to, with probes of their own; of a small image they are the same pixels. kept :
    whether it fell; else the network is the given one. steps, side of the windows, seconds.
    """

    risk_before: float
    risk_after: float
    kept: bool
    steps: int
    side: int
    seconds: float

    def summary(self) -> dict[str, Any]:
        """As plain types."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Look:
    """A window y (bands, h, w) of the whitened image, where it is valid, bool (h, w), and a probe z like y."""

    y: Tensor
    valid: Tensor
    z: Tensor

    def fit(self, found: Tensor) -> Tensor:
        """Sum of (f(y) - y)^2 and of the divergence's -z'f(y) / h, twice."""
        z = 2 * self.z / PROBE
        return ((found - self.y).square() - z * found).mul(self.valid).sum()

    def probed(self, found: Tensor) -> Tensor:
        """The divergence's z'f(y + h z) / h, twice."""
        return (2 * self.z / PROBE * found).mul(self.valid).sum()

    @property
    def samples(self) -> int:
        """Valid samples."""
        return int(self.valid.sum()) * len(self.y)


def adapted(
    net: DenoisingNetwork,
    read: Reader,
    rows: int,
    cols: int,
    A: Tensor,
    context: Any,
    *,
    side: int = SIDE,
    name: str = "the image",
) -> tuple[DenoisingNetwork, Adaptation]:
    """(the network with numbers adapted to the image of rows x cols pixels, or as it was; what came of it).

    The numbers of the stages, thresholds, weights and step sizes, minimise Stein's estimate of the risk on random
    windows. Dictionaries stay, and so does rho, which acts on the bases of the whole image alone, given by ``context``.
    With y = x + n, n of unit variance and independent from sample to sample::

        E |f(y) - x|^2 = E [|f(y) - y|^2 + 2 div f(y)] - N,      div f(y) = E z'(f(y + h z) - f(y)) / h

    for z of N(0, 1), N samples and h = PROBE. Sources: Stein, Annals of Statistics 9, 1981; the divergence: Ramani,
    Blu and Unser, IEEE Transactions on Image Processing 17, 2008.

    net : of whitened spectra. A (bands, R), on the network's device, and context : see the network. side : of the
    windows, see :func:`side_for`. name : of the image, for messages. Raises InputError where it has too few valid
    pixels for the estimate to mean anything, DeviceError where a GPU has too little memory.
    """
    begun = time.monotonic()
    rng, draw = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)

    def look() -> Look:
        y, valid = _window(read, rng, rows, cols, side, net.stride)
        z = torch.randn(y.shape, generator=draw)
        return Look(torch.from_numpy(y).to(A.device), torch.from_numpy(valid).to(A.device), z.to(A.device))

    with gradients():
        judged = [look() for _ in range(JUDGED)]
        if sum(s.samples for s in judged) < FEWEST:
            raise InputError(f"{name} has too few valid pixels to adapt a network to; leave out --adapt.")
        try:
            made = copy.deepcopy(net).requires_grad_(False)
            before = _risk(made, judged, A, context)
            _descend(made, look, A, context)
            after = _risk(made, judged, A, context)
        except torch.OutOfMemoryError:
            raise DeviceError(f"{A.device} has too little free memory to adapt {type(net).__name__}.") from None
    kept = bool(after < before)
    return made if kept else net, Adaptation(before, after, kept, STEPS, side, time.monotonic() - begun)


def _descend(net: DenoisingNetwork, look: Callable[[], Look], A: Tensor, context: Any) -> None:
    numbers = net.step_sizes()
    for p in numbers:
        p.requires_grad_(True)
    optimiser = torch.optim.Adam(numbers, RATE)
    for step in tracked(range(STEPS), "adapting"):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 + np.cos(np.pi * step / STEPS)) / 2
        seen = look()
        optimiser.zero_grad()
        # One after the other, so that the memory of the first is free for the second.
        for y, part in ((seen.y, seen.fit), (seen.y + PROBE * seen.z, seen.probed)):
            loss = part(net(y, A, context)[0]) / max(1, seen.samples)
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    net.requires_grad_(False)


@torch.no_grad()
def _risk(net: DenoisingNetwork, looks: list[Look], A: Tensor, context: Any) -> float:
    """Stein's estimate over all windows, in variances of the noise."""
    total = sum(float(s.fit(net(s.y, A, context)[0]) + s.probed(net(s.y + PROBE * s.z, A, context)[0])) for s in looks)
    return total / sum(s.samples for s in looks) - 1


def _window(
    read: Reader, rng: np.random.Generator, rows: int, cols: int, side: int, stride: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A random window that begins at multiples of the stride; of some, the first that is half valid, or the best."""
    best: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None
    height, width = min(side, rows), min(side, cols)
    for _ in range(TRIES):
        row, col = (int(rng.integers((n - size) // stride + 1)) * stride for n, size in ((rows, height), (cols, width)))
        found = read(Window(row, col, height, width))
        if best is None or found[1].sum() > best[1].sum():
            best = found
        if 2 * best[1].sum() >= best[1].size:
            break
    assert best is not None
    return best


def side_for(net: DenoisingNetwork, bands: int, rank: int, rows: int, cols: int, free: float) -> int:
    """The side of windows whose gradients fit in ``free`` bytes; UsageError where none does."""

    def needed(side: int) -> float:
        """Patches reach over the edge of a window."""
        pixels = (min(side, rows) + PATCH - 1) * (min(side, cols) + PATCH - 1)
        return float(4 * pixels * (CODES * len(net.stages) * net.codes_per_pixel(rank) + 10 * bands))

    for side in range(SIDE, LEAST - 1, -GRAIN):
        if needed(side) <= free:
            return side
    raise UsageError(
        f"--adapt needs {needed(LEAST) / 1e9:.1f} GB for gradients with {rank} eigen-images, but only "
        f"{max(free, 0) / 1e9:.1f} GB are left; increase --memory, or leave out --adapt."
    )
