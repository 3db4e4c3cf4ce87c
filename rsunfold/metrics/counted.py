"""Which pixels count in a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def counted(*arrays: NDArray[Any]) -> NDArray[np.bool_]:
    """bool (rows, cols), False where a masked array among ``arrays``, each (rows, cols) or (bands, rows, cols) of one
    size, masks a pixel in any band."""
    known = np.ones(arrays[0].shape[-2:], dtype=bool)
    for array in arrays:
        if np.ma.is_masked(array):
            masked = np.ma.getmaskarray(array)
            known &= ~masked.reshape(-1, *known.shape).any(axis=0)
    return known
