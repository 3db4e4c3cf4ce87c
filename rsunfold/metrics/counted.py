"""Which pixels count in a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask


def counted(valid: Mask, *arrays: NDArray[Any]) -> Mask:
    """``valid``, bool (rows, cols), without the pixels that it or one of ``arrays``, each (rows, cols) or (bands, rows,
    cols), masks in any band where it is a masked array."""
    known = np.array(np.ma.getdata(valid))
    for array in (valid, *arrays):
        if np.ma.is_masked(array):
            known &= ~np.ma.getmaskarray(array).reshape(-1, *known.shape).any(axis=0)
    return known
