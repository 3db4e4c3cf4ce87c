"""Connected components of a mask, and the one-to-one matching of two masks' components by their centroids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MATCH_DISTANCE = 3.0


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask: labels int (H, W) from 1, area (n,) in pixels, centroid (n, 2) row, col."""

    labels: NDArray[np.int32 | np.intp]
    area: NDArray[np.int64]
    centroid: NDArray[np.float64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Components:
        """Components of ``mask``, bool (H, W)."""
        from scipy import ndimage

        labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int32))
        row, col = np.nonzero(labels)
        which = labels[row, col] - 1
        area = np.bincount(which, minlength=count)
        sums = [np.bincount(which, weights=place, minlength=count) for place in (row, col)]
        return cls(labels, area, np.stack(sums, axis=1) / area[:, None])


def match(truth: Components, predicted: Components) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (n,) and (n,) of the true and the predicted components that belong together, each used once at most.

    As many pairs as possible whose centroids are closer than 3 pixels; among those the smallest sum of distances.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    if not len(truth.area) or not len(predicted.area):
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    nearest, _ = KDTree(truth.centroid).query(predicted.centroid)
    near = np.flatnonzero(nearest < MATCH_DISTANCE)  # a noisy score has a million components: leave the far ones out
    distance = cdist(truth.centroid, predicted.centroid[near])
    forbidden = MATCH_DISTANCE * (1 + min(distance.shape))  # dearer than all allowed pairs together
    i, j = linear_sum_assignment(np.where(distance < MATCH_DISTANCE, distance, forbidden))
    close = distance[i, j] < MATCH_DISTANCE
    return i[close], near[j[close]]
