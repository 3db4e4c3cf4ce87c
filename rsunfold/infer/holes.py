"""What stands in for pixels without data while a model runs: a smooth fill that depends on no window."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

F = TypeVar("F", bound=np.floating)

FILL_REACH = 16
"""Pixels around a window that have to be read so that its holes are filled as in the whole image."""


def fill_holes(values: NDArray[F], valid: NDArray[np.bool_], fallback: Any) -> NDArray[F]:
    """``values`` (..., h, w), where ``valid`` (h, w) is False replaced by the mean of what is valid nearby.

    Nearby is at most FILL_REACH pixels away along both axes; where nothing is, ``fallback`` (broadcast) stands.
    """
    size = 2 * FILL_REACH + 1
    share = uniform_filter(valid.astype(np.float64), size, mode="constant")
    near = share > 0.5 / size**2
    kept = np.where(valid, values, 0).astype(np.float64)
    mean = uniform_filter(kept, size, mode="constant", axes=(-2, -1)) / np.maximum(share, 1e-9)
    return np.where(valid, values, np.where(near, mean, fallback)).astype(values.dtype, copy=False)
