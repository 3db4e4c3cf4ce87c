"""Overlapping patch cubes of a stack of eigen-images, and dictionaries on them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 9
"""Eigen-images, rows and columns of a patch cube."""
BORDER = 4
"""Mirrored pixels around the image: without them a corner pixel would lie in a single patch."""
PART = 256
"""Patches that inference works on at a time."""


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
        self.across = [(p - SIDE) // stride + 1 for p in self.padded]
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

    def parts(self, patches: int | None) -> list[slice]:
        """Rows of patches in parts of about ``patches`` patches each, at least one row; None: all in one part.

        What is done to each patch on its own is faster part by part, where a part stays in the processor's cache.
        """
        down, across = self.across
        rows = down if patches is None else max(1, patches // across)
        return [slice(a, min(a + rows, down)) for a in range(0, down, rows)]

    def _rows(self, part: slice) -> slice:
        """The padded image's rows that a part of the patches covers."""
        return slice(part.start * self.stride, (part.stop - 1) * self.stride + SIDE)

    def cut(self, G: Tensor, part: slice) -> Tensor:
        """R_i G of the patches i of a part: (n, 9, 81, L) of padded eigen-images (rank, H, W)."""
        rows = G[:, self._rows(part)]
        columns = F.unfold(rows[None], SIDE, stride=self.stride).view(self.rank, SIDE * SIDE, -1)
        if len(self.places) == 1:
            return columns[None]
        return torch.stack([columns[p : p + SIDE] for p in self.places])

    def paste(self, patches: Tensor, part: slice) -> Tensor:
        """sum_i R_i^T patch_i over a part, on the rows that it covers: (rank, h, W) of patches (n, 9, 81, L)."""
        if len(self.places) == 1:
            columns = patches[0]
        else:
            columns = patches.new_zeros(self.rank, *patches.shape[2:])
            for p, one in zip(self.places, patches, strict=True):
                columns[p : p + SIDE] += one
        return self._fold(columns.reshape(1, -1, columns.shape[-1]), part)[0]

    def count(self, weight: Tensor, part: slice) -> Tensor:
        """sum_i w_i R_i^T R_i over a part, a diagonal: (rank, h, W), the weights of the patches over each value.

        weight : (n, L), one per patch cube.
        """
        places, size = weight.shape
        folded = self._fold(weight[:, None].expand(places, SIDE * SIDE, size), part)
        if places == 1:
            return folded.expand(self.rank, *folded.shape[1:]).reshape(self.rank, *folded.shape[-2:])
        total = folded.new_zeros(self.rank, *folded.shape[2:])
        for p, one in zip(self.places, folded, strict=True):
            total[p : p + SIDE] += one
        return total

    def _fold(self, columns: Tensor, part: slice) -> Tensor:
        rows = self._rows(part)
        folded: Tensor = F.fold(columns, (rows.stop - rows.start, self.padded[1]), SIDE, stride=self.stride)
        return folded

    def gathered(self, terms: Iterable[tuple[slice, Tensor]]) -> Tensor:
        """The sum (rank, H, W) of what :meth:`paste` or :meth:`count` gave for each part."""
        total: Tensor | None = None
        for part, term in terms:
            if total is None:
                if term.shape[1] == self.padded[0]:
                    return term  # the only part
                total = term.new_zeros(self.rank, *self.padded)
            total[:, self._rows(part)] += term
        assert total is not None
        return total


def dct_dictionary() -> Tensor:
    """The orthonormal discrete cosine basis, columns of rising frequency, float32 (SIDE, SIDE)."""
    n = torch.arange(SIDE, dtype=torch.float64)
    D = torch.cos(math.pi * (n[:, None] + 0.5) * n / SIDE)
    D /= torch.linalg.vector_norm(D, dim=0)
    return D.float()


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
