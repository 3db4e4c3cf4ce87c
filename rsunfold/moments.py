"""Mean and covariance of spectra, gathered block by block from an image of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Real
from rsunfold.errors import InputError


class Moments:
    """Count, mean and covariance of spectra, gathered block by block; or their covariance with others.

    Sums are taken about the first block's mean, so that a large mean does not drown a small variance.
    """

    def __init__(self, bands: int) -> None:
        self.count = 0
        self._shift: Real | None = None
        self._sum, self._sum_beside = np.zeros(bands), np.zeros(bands)
        self._products = np.zeros((bands, bands))
        self._low, self._high = np.full(bands, np.inf), np.full(bands, -np.inf)

    def add(self, spectra: NDArray[np.floating], beside: NDArray[np.floating] | None = None) -> None:
        """Take ``spectra`` (bands, n), finite, and what they are to be multiplied with; None for themselves."""
        if not spectra.shape[1]:
            return
        x = spectra.astype(np.float64)
        self._low, self._high = np.minimum(self._low, x.min(axis=1)), np.maximum(self._high, x.max(axis=1))
        if self._shift is None:
            self._shift = x.mean(axis=1)
        x -= self._shift[:, None]
        z = x if beside is None else beside - self._shift[:, None]
        self.count += x.shape[1]
        self._sum += x.sum(axis=1)
        self._sum_beside += z.sum(axis=1)
        self._products += x @ z.T

    @property
    def mean(self) -> Real:
        """(bands,); raises InputError without any spectrum."""
        if self._shift is None:
            raise InputError("the image has no valid pixel: all are nodata, masked or not finite.")
        return np.asarray(self._shift + self._sum / self.count)

    @property
    def covariance(self) -> Real:
        """(bands, bands), divided by the count; of a covariance with others the symmetric part."""
        _ = self.mean
        C = self._products / self.count - np.outer(self._sum, self._sum_beside) / self.count**2
        return np.asarray((C + C.T) / 2)

    @property
    def low(self) -> Real:
        """(bands,): smallest value."""
        return self._low

    @property
    def high(self) -> Real:
        """(bands,): largest value."""
        return self._high

    @property
    def largest(self) -> Real:
        """(bands,): largest absolute value."""
        return np.asarray(np.maximum(np.abs(self._low), np.abs(self._high)))

    @property
    def spread(self) -> Real:
        """(bands,): largest minus smallest value."""
        return np.asarray(np.where(self.count, self._high - self._low, 0))

    def select(self, bands: NDArray[np.bool_]) -> Moments:
        """The moments of some of the bands, bool (bands,)."""
        out = Moments(int(bands.sum()))
        out.count = self.count
        out._shift = None if self._shift is None else self._shift[bands]
        out._sum, out._sum_beside = self._sum[bands], self._sum_beside[bands]
        out._low, out._high = self._low[bands], self._high[bands]
        out._products = self._products[np.ix_(bands, bands)]
        return out
