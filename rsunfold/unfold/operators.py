"""Learned convolutional operators of unrolled networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


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


class Operator(nn.Module):
    """A learned operator F on a one-channel image: features, image-wide channel weights, projection.

        f = features(x),   F(x) = head(f * SE(mean f))   or   head(f)   without ``se``.

    Everything but the mean is local: an output pixel depends on inputs at most ``radius`` pixels away, and on
    ``mean f``. That is what lets an image of any size be processed window by window with the exact result: first
    the mean over all windows, then F with that mean (see :mod:`rsunfold.infer.outofcore`).

    Input and output: float (B, 1, H, W).
    """

    def __init__(self, features: list[nn.Module], head: nn.Conv2d, se: SqueezeExcite | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.se = se
        self.head = head
        nn.init.xavier_normal_(head.weight)

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
        """F(x); ``mean`` (B, C) replaces the mean of the features over x.

        An x that is no tensor but an image kept elsewhere is asked to pass itself through this operator, so that
        a stage reads the same for both.
        """
        if not isinstance(x, Tensor):
            return x.through(self)
        f = self.features(x)
        if self.se is not None:
            f = f * self.se(f.mean((2, 3)) if mean is None else mean)
        return self.head(f)

    def total(self, x: Tensor, inner: tuple[slice, slice]) -> Tensor:
        """Sums of the features over the pixels ``inner`` (rows, columns) of x, float64 (B, C).

        Exact where x holds the ``radius`` pixels around ``inner``, or the image ends there.
        """
        f: Tensor = self.features(x)
        return f[:, :, inner[0], inner[1]].sum((2, 3)).double()
