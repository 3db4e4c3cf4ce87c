"""Colour pictures whose luminance need not rise with temperature, such as those of cameras with false colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
COLOURED = 1 / 16
"""Share of the largest sample by which the bands of a coloured pixel differ; those of JPEG differ a little in grays."""
OVERLAY = 0.05
"""Largest share of the pixels that may be coloured in a gray picture, as letters and marks are."""


def luminance(colours: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance of red, green and blue, (3, ...) of any real dtype."""
    return np.tensordot(np.array(LUMINANCE, np.float32), colours.astype(np.float32), axes=1)


class Colours:
    """What some pixels of a picture tell of its colours.

    palette : uint8 (entries, 3 and more) by which its pixels were coloured, else None.
    """

    def __init__(self, palette: NDArray[np.uint8] | None = None) -> None:
        self._palette = palette
        self._used = np.zeros(0 if palette is None else len(palette), bool)
        self._spread: list[NDArray[np.float32]] = []
        self._largest = 0.0

    def add(self, pixels: NDArray[Any]) -> None:
        """Take more pixels, (3, n) of any real dtype."""
        if not pixels.size:
            return
        high, low = (np.asarray(end(axis=0), np.float32) for end in (pixels.max, pixels.min))
        self._spread.append(high - low)
        self._largest = max(self._largest, float(high.max()))
        if self._palette is not None:
            self._used |= np.isin(_codes(self._palette[:, :3].T), _codes(pixels))

    def mislead(self) -> bool:
        """Whether the picture is coloured, not in marks alone. With a palette, whether its luminance neither only rises
        nor only falls from each colour in use to the next, in however few pixels: the hottest may be red."""
        if self._palette is None or not self._used.any():
            spread = np.concatenate(self._spread) if self._spread else np.zeros(1)
            return bool((spread > COLOURED * self._largest).mean() > OVERLAY)
        steps = np.diff(luminance(self._palette[self._used, :3].T))
        rise, fall = steps[steps > 0].sum(), -steps[steps < 0].sum()
        return bool(min(rise, fall) > COLOURED * 255)


def _codes(colours: NDArray[Any]) -> NDArray[np.int64]:
    """One number for each colour of 8 bits, (3, n)."""
    return np.array([65536, 256, 1]) @ colours.astype(np.int64)
