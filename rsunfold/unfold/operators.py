"""Learned operators of unrolled networks, made so that an image of any size can be worked on window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rsunfold.cube import Window


@dataclass(frozen=True)
class Place:
    """Where a piece lies in an image of ``rows`` x ``cols`` pixels: ``window``, margin included, and the part ``inner``
    (slices of the piece) that lies within the margin."""

    window: Window
    inner: tuple[slice, slice]
    rows: int
    cols: int

    @classmethod
    def whole(cls, x: Tensor) -> Place:
        """The place of a piece that is the whole image."""
        rows, cols = x.shape[2:]
        return cls(Window(0, 0, rows, cols), (slice(0, rows), slice(0, cols)), rows, cols)


class MapOperator(nn.Module):
    """A learned operator on images float (B, C, H, W): local but for ``pools`` things that the whole image gives.

    An output pixel depends on inputs at most ``radius`` pixels away and on what was pooled. The n-th pooled thing is
    gathered over windows that cover the image once, :meth:`gather` of each, added up by :meth:`merge`, then made ready
    by :meth:`finish`; it may depend on those before it. :meth:`local` gives the output of a piece when all are known.
    That is how :mod:`rsunfold.infer.outofcore` gets the exact result of an image that does not fit in memory.

    Windows begin at multiples of ``stride`` pixels, and end there or with the image. What is pooled takes
    ``kept_bytes`` for each pixel of the image.
    """

    pools = 0
    stride = 1
    kept_bytes = 0.0

    @property
    def radius(self) -> int:
        """Receptive-field radius in pixels of everything but what is pooled."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """The largest number of channels (of full resolution) that one step works on."""
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        """The output for a whole image x.

        An x that is no tensor but an image kept elsewhere is asked to pass itself through this operator, so that
        a stage reads the same for both.
        """
        if not isinstance(x, Tensor):
            return x.through(self)
        place, found = Place.whole(x), list[Any]()
        for _ in range(self.pools):
            found.append(self.finish(self.gather(x, place, found), place.rows, place.cols))
        return self.local(x, place, found)

    def gather(self, x: Tensor, place: Place, found: Sequence[Any]) -> Any:
        """What the inner part of a piece adds to the thing pooled after ``found``."""
        raise NotImplementedError

    def merge(self, a: Any, b: Any) -> Any:
        """What two parts that were gathered give together: their sum unless a subclass says otherwise."""
        return a + b

    def finish(self, total: Any, rows: int, cols: int) -> Any:
        """The pooled thing of what was gathered over all of rows x cols pixels: the mean unless a subclass differs."""
        return (total / (rows * cols)).to(self.kind)

    @property
    def kind(self) -> torch.dtype:
        """The type of the weights, and so of all images."""
        return next(self.parameters()).dtype

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """Output of a piece (B, C', h, w), exact in its inner part."""
        raise NotImplementedError


def exact(x: Tensor) -> Tensor:
    """x in float64, for sums over many windows; as it is on Apple's GPUs, which have no float64."""
    return x if x.device.type == "mps" else x.double()


def join(first: Any, second: Any) -> Any:
    """Two images as the channels of one; both tensors, or both kept elsewhere."""
    return torch.cat((first, second), 1) if isinstance(first, Tensor) else first.beside(second)


def image_mean(x: Any) -> Tensor:
    """Means (B, C) over the pixels of an image (B, C, H, W), a tensor or kept elsewhere."""
    return x.mean((2, 3)) if isinstance(x, Tensor) else x.mean()


class SqueezeExcite(nn.Module):
    """Channel weights from image-wide means: sigmoid(W2 relu(W1 m + b1) + b2), m the mean of each channel.

    Source: Hu et al., CVPR 2018. ``channels`` are squeezed to ``hidden``. Input (B, channels) or (B, channels, 1, 1),
    output (B, channels, 1, 1) in (0, 1).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.excitation = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, mean: Tensor) -> Tensor:
        """Weights of the channels whose image-wide means are given."""
        weights: Tensor = self.excitation(mean.reshape(mean.shape[0], -1, 1, 1))
        return weights


def conv(c_in: int, c_out: int, kernel: int, *, norm: bool = False, act: bool = True) -> list[nn.Module]:
    """A convolution that keeps the size (zero padding, bias), then batch normalisation and ReLU where asked."""
    layers: list[nn.Module] = [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)]
    nn.init.xavier_normal_(layers[0].weight)  # type: ignore[arg-type]
    if norm:
        layers.append(nn.BatchNorm2d(c_out))
    if act:
        layers.append(nn.ReLU(inplace=True))
    return layers


class Operator(MapOperator):
    """Convolutions F on a one-channel image: features, image-wide channel weights, projection.

        f = features(x),   F(x) = head(f * SE(mean f))   or   head(f)   without ``se``.

    Everything but the mean is local. Input and output: float (B, 1, H, W).
    """

    def __init__(self, features: list[nn.Module], head: nn.Conv2d, se: SqueezeExcite | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.se = se
        self.head = head
        nn.init.xavier_normal_(head.weight)

    @property
    def pools(self) -> int:  # type: ignore[override]
        """The mean of the features, where there are channel weights."""
        return int(self.se is not None)

    @property
    def radius(self) -> int:
        """Receptive-field radius in pixels of everything but the image-wide mean."""
        convs = [m for m in (*self.features, self.head) if isinstance(m, nn.Conv2d)]
        return sum(int(m.kernel_size[0]) // 2 for m in convs)

    @property
    def width(self) -> int:
        """The largest number of channels between two layers."""
        return max(m.out_channels for m in self.features if isinstance(m, nn.Conv2d))

    def forward(self, x: Any, mean: Tensor | None = None) -> Any:
        """F(x); ``mean`` (B, C) replaces the mean of the features over x. See :meth:`MapOperator.forward`."""
        if not isinstance(x, Tensor):
            return x.through(self)
        f = self.features(x)
        if self.se is not None:
            f = f * self.se(f.mean((2, 3)) if mean is None else mean)
        return self.head(f)

    def total(self, x: Tensor, inner: tuple[slice, slice]) -> Tensor:
        """Sums of the features over the pixels ``inner`` (rows, columns) of x, :func:`exact` (B, C).

        Exact where x holds the ``radius`` pixels around ``inner``, or the image ends there.
        """
        f: Tensor = self.features(x)
        return exact(f[:, :, inner[0], inner[1]].sum((2, 3)))

    def gather(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """Sums of the features over the inner part."""
        return self.total(x, place.inner)

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """F(x) with the means that were found."""
        y: Tensor = self(x, *found)
        return y


MARGIN, STILL = 16, 1e-4
"""Pixels at the border that :func:`dead_operators` leaves out, and the change that it does not see."""


def plain(depth: int, C: int, *, norm: bool) -> Operator:
    """3x3 1->C, ``depth`` x 3x3 C->C, 3x3 C->1."""
    layers = conv(1, C, 3, norm=norm)
    for _ in range(depth):
        layers += conv(C, C, 3, norm=norm)
    return Operator(layers, nn.Conv2d(C, 1, 3, padding=1))


@torch.inference_mode()
def dead_operators(net: nn.Module, images: Iterable[Tensor]) -> dict[str, float]:
    """Operators whose output is one number all over ``images``: names, such as ``stages.0.FT``, and that number.

    images : (1, 1, H, W), larger than the border of MARGIN pixels that is left out. Rectifiers that pass nothing have
    no gradient: training does not revive such an operator, which then is a constant at the price of a network.
    """
    ends: dict[str, tuple[float, float]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            inner = output[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
            low, high = ends.get(name, (math.inf, -math.inf))
            ends[name] = min(low, float(inner.min())), max(high, float(inner.max()))

        return hook

    parts = [(n, m) for n, m in net.named_modules() if isinstance(m, MapOperator)]
    hooks = [part.register_forward_hook(note(name)) for name, part in parts]
    try:
        for x in images:
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (low + high) / 2 for name, (low, high) in ends.items() if high - low < STILL}
