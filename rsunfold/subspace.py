"""Noise and signal subspace of a hyperspectral image, from its mean and covariance alone.

Everything follows from the second moments of the spectra, which one pass over an image of any size gathers in float64
(:class:`Moments`). In the whitened image, each band divided by the standard deviation of its noise, noise has unit
variance in every direction: the eigenvalues of its covariance say how much signal there is, and a method that works
there needs neither a noise level nor a number of bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError

Real = NDArray[np.float64]

RIDGE = 1e-9
"""Added to the correlations of the bands before they are inverted; keeps duplicate bands from making them singular."""
CONFIDENCE = 1.02
"""Factor on the largest eigenvalue that pure noise gives on average; it scatters by less than that."""


class Moments:
    """Count, mean and covariance of spectra, gathered block by block.

    Sums are taken about the first block's mean, so that a large mean does not drown a small variance.
    """

    def __init__(self, bands: int) -> None:
        self.count = 0
        self._shift: Real | None = None
        self._sum = np.zeros(bands)
        self._products = np.zeros((bands, bands))

    def add(self, spectra: NDArray[np.floating]) -> None:
        """Take ``spectra`` (bands, n), finite."""
        if not spectra.shape[1]:
            return
        x = spectra.astype(np.float64)
        if self._shift is None:
            self._shift = x.mean(axis=1)
        x -= self._shift[:, None]
        self.count += x.shape[1]
        self._sum += x.sum(axis=1)
        self._products += x @ x.T

    @property
    def mean(self) -> Real:
        """(bands,); raises InputError without any spectrum."""
        if self._shift is None:
            raise InputError("the image has no valid pixel: all are nodata, masked or not finite.")
        return np.asarray(self._shift + self._sum / self.count)

    @property
    def covariance(self) -> Real:
        """(bands, bands), divided by the count."""
        _ = self.mean
        m = self._sum / self.count
        return np.asarray(self._products / self.count - np.outer(m, m))


def regression_noise(covariance: Real) -> Real:
    """Standard deviation (bands,) of what the other bands do not tell about each band, from the covariance.

    The residual of the linear regression of band b on all others has the variance 1 / (C^-1)_bb. It is the noise of
    that band plus the signal that is in no other band, so it errs upwards where bands are few or far apart.
    Source: Roger and Arnold, Int. J. Remote Sensing 17(10), 1996; step 1 of HySime (Bioucas-Dias and Nascimento,
    IEEE TGRS 46(8), 2008). A constant band has 0; with a single band nothing can be told, and it is 0 too.
    """
    spread = np.sqrt(np.diag(covariance))
    sigma = np.zeros(len(spread))
    varies = np.flatnonzero(spread > 0)
    if len(varies) < 2:
        return sigma
    s = spread[varies]
    correlation = covariance[np.ix_(varies, varies)] / np.outer(s, s)
    inverse = np.linalg.inv(correlation + RIDGE * np.eye(len(s)))
    sigma[varies] = s / np.sqrt(np.diag(inverse))
    return sigma


@dataclass(frozen=True)
class Subspace:
    """Where the signal of an image lies: y = mean + sigma * (A g + unit noise), spectrum by spectrum.

    mean, sigma (bands,) in units of the image. eigenvalues (bands,), descending, of the covariance of the whitened
    image; basis (bands, bands), its orthonormal eigenvectors in that order; rank, how many of them hold signal.
    """

    mean: Real
    sigma: Real
    eigenvalues: Real
    basis: Real
    rank: int

    def whiten(self, cube: NDArray[np.floating]) -> NDArray[np.float32]:
        """(cube - mean) / sigma, float32 (bands, rows, cols)."""
        shift, scale = (v.astype(np.float32)[:, None, None] for v in (self.mean, 1 / self.sigma))
        return np.asarray((cube - shift) * scale, np.float32)

    def colour(self, whitened: NDArray[np.floating]) -> NDArray[np.float32]:
        """Back from :meth:`whiten`, in units of the image."""
        shift, scale = (v.astype(np.float32)[:, None, None] for v in (self.mean, self.sigma))
        return np.asarray(whitened * scale + shift, np.float32)


def signal_subspace(mean: Real, covariance: Real, sigma: Real, count: int) -> Subspace:
    """The signal subspace of an image with ``mean`` and ``covariance`` from ``count`` spectra and noise ``sigma`` > 0.

    A direction holds signal when its variance in the whitened image exceeds the largest that unit noise alone would
    give in so many spectra, (1 + sqrt(bands / count))^2 (Marchenko and Pastur, 1967). The rank is at least 1.
    """
    if not (sigma > 0).all():
        raise ValueError("every band needs noise above 0: leave out constant bands")
    whitened = covariance / np.outer(sigma, sigma)
    values, vectors = np.linalg.eigh(whitened)
    values, vectors = values[::-1], vectors[:, ::-1]
    edge = CONFIDENCE * (1 + np.sqrt(len(sigma) / max(count, 1))) ** 2
    return Subspace(mean, sigma, values, vectors, max(1, int((values > edge).sum())))


def hysime(correlation: Real, noise_correlation: Real) -> tuple[int, Real]:
    """(rank, basis): HySime's signal subspace from the correlation (not covariance) matrices of image and noise.

    basis (bands, bands) holds the eigenvectors of the estimated signal correlation in the order of HySime's cost, the
    first ``rank`` columns span the signal. Source: Bioucas-Dias and Nascimento, IEEE TGRS 46(8), 2008, eq. (26):
    direction e is kept when 2 e' Rn e - e' Ry e < 0.
    """
    signal = correlation - noise_correlation
    _, vectors = np.linalg.eigh((signal + signal.T) / 2)
    cost = 2 * _quadratic(vectors, noise_correlation) - _quadratic(vectors, correlation)
    order = np.argsort(cost, kind="stable")
    return int((cost < 0).sum()), vectors[:, order]


def _quadratic(vectors: Real, matrix: Real) -> Real:
    return np.asarray(np.einsum("ij,ij->j", vectors, matrix @ vectors))
