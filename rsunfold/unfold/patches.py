"""Overlapping patch cubes of a stack of eigen-images, and dictionaries on them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 9
"""Eigen-images, rows and columns of a patch cube."""
BORDER = 4
"""Mirrored pixels around the image: without them a corner pixel would lie in a single patch."""


def mirrored(size: int, before: int, after: int) -> Tensor:
    """Indices, int64, that extend ``size`` entries by mirroring about the edge entries, as often as needed."""
    places = torch.arange(-before, size + after)
    if size == 1:
        return torch.zeros_like(places)
    turn = 2 * (size - 1)
    places = places.remainder(turn)
    return torch.where(places < size, places, turn - places)


class PatchGrid:
    """Where the 9 x 9 x 9 patch cubes of an image of ``rows`` x ``cols`` pixels and ``rank`` >= 9 eigen-images lie.

    Patches begin every ``stride`` pixels, the first one ``border`` outside the image; along the eigen-images they
    begin every ``step``, the last one ending at the last eigen-image. Codes and patches have the shape (n, 9, 81, L):
    n places along the eigen-images, 9 of these, 81 pixels or coefficients, L places in the image.

    The grid of a window of an image is part of the image's when its first row and column are multiples of ``stride``.
    """

    def __init__(
        self, rows: int, cols: int, rank: int, *, stride: int = 1, step: int = SIDE, border: int = BORDER
    ) -> None:
        if rank < SIDE:
            raise ValueError(f"patch cubes need at least {SIDE} eigen-images, not {rank}")
        self.rows, self.cols, self.rank, self.stride, self.border = rows, cols, rank, stride, border
        self.padded = tuple(max(0, math.ceil((n + 2 * border - SIDE) / stride)) * stride + SIDE for n in (rows, cols))
        count = math.ceil((rank - SIDE) / step) + 1
        self.places = [min(i * step, rank - SIDE) for i in range(count)]

    def pad(self, image: Tensor) -> Tensor:
        """(..., rows, cols) extended by mirroring to the size that the patches cover."""
        down, across = (
            mirrored(n, self.border, p - n - self.border).to(image.device)
            for n, p in zip((self.rows, self.cols), self.padded, strict=True)
        )
        return image[..., down, :][..., across]

    def crop(self, image: Tensor) -> Tensor:
        """The inverse of :meth:`pad`."""
        return image[..., self.border : self.border + self.rows, self.border : self.border + self.cols]

    def cut(self, G: Tensor) -> Tensor:
        """R_i G of all i: patches (n, 9, 81, L) of padded eigen-images (rank, H, W)."""
        columns = F.unfold(G[None], SIDE, stride=self.stride).view(self.rank, SIDE * SIDE, -1)
        if len(self.places) == 1:
            return columns[None]
        return torch.stack([columns[p : p + SIDE] for p in self.places])

    def paste(self, patches: Tensor) -> Tensor:
        """sum_i R_i^T patch_i: padded eigen-images (rank, H, W) of patches (n, 9, 81, L)."""
        if len(self.places) == 1:
            columns = patches[0]
        else:
            columns = patches.new_zeros(self.rank, *patches.shape[2:])
            for p, part in zip(self.places, patches, strict=True):
                columns[p : p + SIDE] += part
        folded: Tensor = F.fold(columns.reshape(1, -1, columns.shape[-1]), self.padded, SIDE, stride=self.stride)[0]
        return folded

    def count(self, weight: Tensor) -> Tensor:
        """sum_i w_i R_i^T R_i, a diagonal: the weights of the patches that each value lies in, (rank, H, W).

        weight : (n, L), one per patch cube.
        """
        places, size = weight.shape
        folded = F.fold(weight[:, None].expand(places, SIDE * SIDE, size), self.padded, SIDE, stride=self.stride)
        total = folded.new_zeros(self.rank, *folded.shape[2:])
        for p, part in zip(self.places, folded, strict=True):
            total[p : p + SIDE] += part
        return total


def dct_dictionary(size: int = SIDE) -> Tensor:
    """The orthonormal discrete cosine basis, columns of rising frequency, float32 (size, size)."""
    n = torch.arange(size, dtype=torch.float64)
    D = torch.cos(math.pi * (n[:, None] + 0.5) * n / size)
    return (D / torch.linalg.vector_norm(D, dim=0)).float()


def synthesis(B: Tensor, D1: Tensor, D23: Tensor) -> Tensor:
    """B x1 D1 x23 D23 of codes (n, 9, 81, L): D1 (9, 9) along the eigen-images, D23 (81, 81) on the pixels.

    With D23 = kron(D2, D3) this is B x1 D1 x2 D2 x3 D3. One large matrix product is faster than two of 9 x 9,
    although it does four times their arithmetic.
    """
    return _mode1(D1, _mode23(D23, B))


def analysis(X: Tensor, D1: Tensor, D23: Tensor) -> Tensor:
    """X x1 D1^T x23 D23^T of patches (n, 9, 81, L): the adjoint of :func:`synthesis`."""
    return _mode23(D23.mT, _mode1(D1.mT, X))


def _mode1(D: Tensor, X: Tensor) -> Tensor:
    return (D @ X.flatten(2)).view(X.shape[0], D.shape[0], *X.shape[2:])


def _mode23(D: Tensor, X: Tensor) -> Tensor:
    # torch.matmul would fold the batch into the columns, for which it copies X.
    batch = X.flatten(0, 1)
    return torch.bmm(D.expand(len(batch), *D.shape), batch).view(X.shape)
