"""A network adapted to one noisy image, without truth and without other images, by Stein's unbiased risk estimate."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsunfold.errors import DeviceError, UsageError

STEPS, RATE = 30, 0.05
"""Of Adam; the rate is that of the logarithms of thresholds, weights and step sizes."""
SIDE, LEAST, GRAIN = 48, 16, 8
"""Side of the windows that are looked at, in pixels; where memory is short the smallest, and what one is less."""
PROBE = 0.1
"""Length of the step of the divergence's difference, in deviations of the noise."""
JUDGED = 4
"""Windows that decide whether the adapted numbers are kept."""
CODES = 40
"""Tensors of the size of the codes that each stage leaves for its gradient."""


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    risk_before, risk_after : Stein's estimate of the mean squared error, in variances of the noise, on windows drawn
    apart from those adapted to. kept : whether it fell; else the network is the given one. steps, side of the windows,
    seconds.
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
        return max(1, int(self.valid.sum()) * len(self.y))


def adapted(
    net: Any, noisy: NDArray[np.float32], valid: NDArray[np.bool_], A: Tensor, *, free: float, seed: int = 0
) -> tuple[Any, Adaptation]:
    """(the network with numbers adapted to the image, or as it was; what came of it).

    The numbers of the stages, thresholds, weights and step sizes, minimise Stein's estimate of the risk on random
    windows; dictionaries stay. With y = x + n, n of unit variance and independent from sample to sample::

        E |f(y) - x|^2 = E [|f(y) - y|^2 + 2 div f(y)] - N,      div f(y) = E z'(f(y + h z) - f(y)) / h

    for z of N(0, 1), N samples and h = PROBE. Sources: Stein, Annals of Statistics 9, 1981; the divergence: Ramani,
    Blu and Unser, IEEE Transactions on Image Processing 17, 2008.

    net : of whitened spectra. noisy float32 (bands, rows, cols) : whitened. valid bool (rows, cols). A (bands, R), on
    the network's device. free : bytes that may be used. Raises UsageError where they do not suffice for the smallest
    window, DeviceError where a GPU's do not.
    """
    begun = time.monotonic()
    side = _side(net, A, noisy.shape, free)
    y, inside = torch.from_numpy(noisy), torch.from_numpy(valid)
    made = copy.deepcopy(net).requires_grad_(False)
    numbers = made.step_sizes()
    optimiser = torch.optim.Adam(numbers, RATE)
    rng, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def look() -> Look:
        window = _window(rng, inside, side)
        part = y[:, *window]
        z = torch.randn(part.shape, generator=draw)
        return Look(part.to(A.device), inside[window].to(A.device), z.to(A.device))

    judged = [look() for _ in range(JUDGED)]
    try:
        with torch.no_grad():
            context = made(y.to(A.device), A)[1]
            before = _risk(made, judged, A, context)
        for p in numbers:
            p.requires_grad_(True)
        for step in range(STEPS):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 + np.cos(np.pi * step / STEPS)) / 2
            seen = look()
            optimiser.zero_grad()
            # One after the other, so that the memory of the first is free for the second.
            for y_, part in ((seen.y, seen.fit), (seen.y + PROBE * seen.z, seen.probed)):
                loss = part(made(y_, A, context)[0]) / seen.samples
                loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        made.requires_grad_(False)
        with torch.no_grad():
            after = _risk(made, judged, A, context)
    except torch.OutOfMemoryError:
        raise DeviceError(f"{A.device} has too little free memory to adapt {type(net).__name__}.") from None
    kept = bool(after < before)
    return made if kept else net, Adaptation(before, after, kept, STEPS, side, time.monotonic() - begun)


def _risk(net: Any, looks: list[Look], A: Tensor, context: Any) -> float:
    """Stein's estimate over all windows, in variances of the noise."""
    total = sum(float(s.fit(net(s.y, A, context)[0]) + s.probed(net(s.y + PROBE * s.z, A, context)[0])) for s in looks)
    return total / sum(s.samples for s in looks) - 1


def _window(rng: np.random.Generator, valid: Tensor, side: int) -> tuple[slice, slice]:
    """A window around a random valid pixel, as far as the image allows; around any where none is valid."""
    places = torch.nonzero(valid)
    count = len(places) or valid.numel()
    k = int(rng.integers(count))
    centre = places[k].tolist() if len(places) else divmod(k, valid.shape[1])
    begin = (
        int(np.clip(c - rng.integers(min(side, n)), 0, n - min(side, n)))
        for c, n in zip(centre, valid.shape, strict=True)
    )
    row, col = (slice(b, b + min(side, n)) for b, n in zip(begin, valid.shape, strict=True))
    return row, col


def _side(net: Any, A: Tensor, shape: tuple[int, ...], free: float) -> int:
    """The side of windows whose gradients fit; UsageError where none does."""
    bands, rank = A.shape
    per_pixel = 4 * (CODES * len(net.stages) * net.codes_per_pixel(rank) + 8 * bands)
    for side in range(SIDE, LEAST - 1, -GRAIN):
        if per_pixel * min(side, shape[1]) * min(side, shape[2]) <= free:
            return side
    needed = per_pixel * min(LEAST, shape[1]) * min(LEAST, shape[2])
    raise UsageError(
        f"--adapt needs {needed / 1e9:.1f} GB for gradients with {rank} eigen-images, {max(free, 0) / 1e9:.1f} GB are "
        "left: give more --memory, or leave out --adapt."
    )
