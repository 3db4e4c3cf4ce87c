"""Names of the array types that many modules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Floats = NDArray[np.float32]
Samples = NDArray[np.floating]
"""Of either precision."""
Mask = NDArray[np.bool_]
