"""IPI: overlapping patches of the background are alike, so that as columns they have a low rank; targets are sparse."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.classical.rpca import outlier_pursuit, shrink_entries
from rsunfold.errors import UsageError
from rsunfold.registry import register

GROWTH = 1.3  # of the penalty: 1.5 leaves 0.006 gray levels of error in the score, 1.3 0.002, in 35 iterations not 25
ARRAYS = 7  # of the size of the patch-image that live at a time, float32


@register(
    "ipi",
    task="detect-ir",
    kind="classical",
    paper="Gao, Meng, Yang, Wang, Zhou and Hauptmann, Infrared patch-image model for small target detection in a "
    "single image, IEEE Trans. Image Processing 22(12), 2013",
    url="https://doi.org/10.1109/TIP.2013.2281420",
    needs="one band in [0, 1]; targets brighter than a repetitive background",
    threshold=0.0754,
)
class IPI:
    """score = max(T, 0) of min |B|_* + lam |T|_1 subject to D = B + T, D the patch-image: gray levels.

    D holds one patch of the image per column. B, the background, has a low rank, for its patches resemble each other
    wherever they lie; T, the targets, has few entries that are not 0. One iteration of the inexact augmented
    Lagrangian method (Lin, Chen and Ma, 2010) with multipliers Y and penalty mu, which grows by 1.3:

        B = U max(s - 1/mu, 0) V' from D - T + Y/mu = U diag(s) V'
        T = soft(D - B + Y/mu, lam/mu)
        Y = Y + mu (D - B - T)

    It stops where |D - B - T| < 1e-6 |D|; U and s come from the matrix of products of the shorter side of D. A pixel
    lies in many patches, and its T is the median of theirs, as in the paper. The paper allows for noise in
    D = B + T + N and uses an accelerated proximal gradient, whose weight of N falls to a small share of D's fourth
    singular value; the limit of that, without N, is what is solved here.

    patch, step : side of the square patches and distance from one to the next, pixels; the last ones are aligned with
    the border, and an image smaller than a patch is one. lam : weight in units of 1 / sqrt(max(rows, cols)) of the
    image, as in the authors' program; in units of 1 / sqrt(longer side of D), as robust PCA has it, edges of the
    background stay in T (IoU 0.19 instead of 0.55 on 24 training images). tile : side in pixels up to which
    ``detect-ir`` and ``evaluate`` solve an image at once, 2 patches or more, because time grows with the third power
    of the number of patches. Larger images are treated in pieces of nearly equal size that overlap by a patch, blended.

    The registered threshold is the one that gives the largest IoU, 0.373, pooled over training images of NUDT-SIRST,
    IRSTD-1k and SIRST (every 24th, 60 images, native size, gray / 255).

    Raises UsageError for sides and weights that are not positive.
    """

    radius: ClassVar[None] = None

    def __init__(self, patch: int = 50, step: int = 10, lam: float = 1.0, tile: int = 256) -> None:
        if patch < 1 or step < 1 or step > patch:
            raise UsageError(
                f"ipi needs patches of 1 pixel or more that leave no gap, got {patch} every {step} pixels."
            )
        if not 0 < lam < math.inf:
            raise UsageError(f"the weight lam of ipi must be above 0, got {lam}.")
        if tile < 2 * patch:
            raise UsageError(f"the tile of ipi must be at least two patches of {patch} pixels, got {tile}.")
        self.patch, self.step, self.lam, self.tile = patch, step, lam, tile

    @property
    def overlap(self) -> int:
        """Pixels that pieces share: near the border of a piece, fewer patches tell about a pixel."""
        return self.patch

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory per pixel: copies of the patch-image, in which a pixel occurs so many times."""
        return 4.0 * ARRAYS * (math.ceil(self.patch / self.step) + 1) ** 2

    def score(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score of ``image``, float32 (H, W) in about [0, 1] and finite; float32 (H, W), 0 or more, gray levels.

        The image is solved at once, whatever ``tile`` says. A constant image scores 0.
        """
        gray = np.asarray(image, dtype=np.float32)
        if gray.min() == gray.max():
            return np.zeros_like(gray)
        patches = Patches(gray.shape, self.patch, self.step)
        T = outlier_pursuit(patches.cut(gray), self.lam / math.sqrt(max(gray.shape)), shrink_entries, GROWTH).S
        return np.maximum(patches.median(T), 0)


class Patches:
    """Square patches of an image of ``shape`` (rows, cols), ``side`` pixels wide, one every ``step`` pixels.

    The last ones end at the border; a side that is longer than the image is cut.
    """

    def __init__(self, shape: tuple[int, ...], side: int, step: int) -> None:
        self.shape = shape
        self.sides = tuple(min(side, n) for n in shape)
        self.starts = [np.array([*range(0, n - s, step), n - s]) for n, s in zip(self.shape, self.sides, strict=True)]

    def cut(self, image: Floats) -> Floats:
        """(patches, pixels of a patch), the transpose of the paper's patch-image."""
        windows = np.lib.stride_tricks.sliding_window_view(image, self.sides)[np.ix_(*self.starts)]
        return np.asarray(windows.reshape(-1, math.prod(self.sides)))

    def median(self, values: Floats) -> Floats:
        """The image (rows, cols) whose pixels are the median of ``values`` (patches, pixels) that belong to them."""
        found, count = self._gather(values, np.inf)
        found.sort(axis=-1)  # what is missing comes last
        middle = [np.take_along_axis(found, k[..., None], -1)[..., 0] for k in ((count - 1) // 2, count // 2)]
        return np.asarray((middle[0] + middle[1]) / 2)

    def mean(self, values: Floats) -> Floats:
        """The same with the mean."""
        found, count = self._gather(values, 0)
        return np.asarray(found.sum(axis=-1) / count, np.float32)

    def _gather(self, values: Floats, missing: float) -> tuple[Floats, NDArray[np.intp]]:
        """(rows, cols, n) of all that belongs to a pixel, filled up with ``missing``, and how much belongs to it."""
        (row, y, has_row), (col, x, has_col) = (
            self._cover(n, s, starts) for n, s, starts in zip(self.shape, self.sides, self.starts, strict=True)
        )
        table = values.reshape(*map(len, self.starts), *self.sides)
        found = table[row[:, None, :, None], col[None, :, None, :], y[:, None, :, None], x[None, :, None, :]]
        found[~(has_row[:, None, :, None] & has_col[None, :, None, :])] = missing
        return found.reshape(*self.shape, -1), np.outer(has_row.sum(1), has_col.sum(1))

    @staticmethod
    def _cover(
        size: int, side: int, starts: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """For each of ``size`` pixels the patches that cover it, its place in them, and whether there are so many."""
        at = np.arange(size)
        first = np.searchsorted(starts, at - side, side="right")
        last = np.searchsorted(starts, at, side="right") - 1
        number = first[:, None] + np.arange((last - first).max() + 1)
        there = number <= last[:, None]
        number = np.minimum(number, last[:, None])
        return number, at[:, None] - starts[number], there
