"""Samples that a pixel lacks in some bands and has in others: what its other bands tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real
from rsunfold.cube import Cube

MOST_LACKING = 0.5
"""Share of the bands that a pixel may lack; the others have to tell what it shows."""
LEARNED_FROM, ROUNDS = 2**13, 8
"""Most spectra that a :class:`Mender` is learned from, and rounds of filling their gaps."""
RIDGE = 1e-6
"""Added to the correlations of the bands before they are inverted."""


def mendable(cube: Cube) -> Mask:
    """bool (rows, cols): pixels that lack some samples, but at most MOST_LACKING of the bands."""
    if cube.missing is None:
        return np.zeros(cube.valid.shape, bool)
    share = cube.missing.mean(axis=0)
    return np.asarray((share > 0) & (share <= MOST_LACKING))


@dataclass(frozen=True)
class Mender:
    """Mean (bands,) and covariance (bands, bands) of spectra, which say what a missing sample most likely is: its
    conditional mean, given the others of its pixel, of a normal distribution.

    bands : of the file, zero-based, rising. It depends on nothing but the pixel itself, so that windows agree with the
    whole image.
    """

    bands: Sequence[int]
    mean: Real
    covariance: Real

    @classmethod
    def learned(cls, bands: Sequence[int], spectra: Real, lost: Mask) -> Mender:
        """From ``spectra`` (bands, n) without the samples that are ``lost`` (bands, n): the expectation-maximisation of
        a normal distribution with missing values (Dempster, Laird and Rubin, JRSS B 39(1), 1977)."""
        known = np.maximum((~lost).sum(axis=1), 1)
        centre = np.where(lost, 0, spectra).sum(axis=1) / known
        x = np.where(lost, 0, spectra - centre[:, None])
        scale = np.sqrt((x**2).sum(axis=1) / known)
        scale[scale == 0] = 1
        x /= scale[:, None]
        count, mean = x.shape[1], np.zeros(len(x))
        C = x @ x.T / count
        for _ in range(ROUNDS):
            P = np.linalg.inv(C + RIDGE * np.eye(len(C)))
            x -= mean[:, None]
            uncertain = np.zeros_like(C)
            for some, where, part in _conditional(P, x, lost):
                x[np.ix_(some, where)] = part
                uncertain[np.ix_(some, some)] += len(where) * np.linalg.inv(P[np.ix_(some, some)])
            x += mean[:, None]
            mean = x.mean(axis=1)
            C = np.cov(x, bias=True) + uncertain / count
        return cls(bands, centre + scale * mean, C * np.outer(scale, scale))

    def mended(self, cube: Cube, bands: Sequence[int]) -> Cube:
        """``cube``, which holds ``bands``, some of :attr:`bands`, with the samples of :func:`mendable` pixels filled,
        in floating point; these pixels are valid."""
        some = mendable(cube)
        if cube.missing is None or not some.any():
            return cube
        places = np.searchsorted(self.bands, bands)
        mean, C = self.mean[places, None], self.covariance[np.ix_(places, places)]
        scale = np.sqrt(np.maximum(np.diagonal(C), 0))
        scale[scale == 0] = 1
        P = np.linalg.inv(C / np.outer(scale, scale) + RIDGE * np.eye(len(C)))
        data, lost = cube.data.astype(np.result_type(cube.data.dtype, np.float32)), cube.missing[:, some]
        x = np.where(lost, 0, (data[:, some] - mean) / scale[:, None])
        for lacking, where, part in _conditional(P, x, lost):
            x[np.ix_(lacking, where)] = part
        data[:, some] = np.where(lost, mean + scale[:, None] * x, data[:, some])
        return replace(cube, data=data, valid=cube.valid | some)


def _conditional(P: Real, x: Real, lost: Mask) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], Real]]:
    """(bands, spectra, conditional means (bands, spectra)) for each set of bands that spectra x (bands, n) lack.

    P : the inverse of the covariance: the mean of x_m given the others, x_o, is -P_mm^-1 P_mo x_o. What x holds
    where it is lost does not matter.
    """
    sets, which = np.unique(np.packbits(lost, axis=0), axis=1, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=sets.shape[1]))
    for where in np.split(order, ends[:-1]):
        m = lost[:, where[0]]
        if m.any():
            told = np.linalg.solve(P[np.ix_(m, m)], P[np.ix_(m, ~m)] @ x[np.ix_(~m, where)])
            yield np.flatnonzero(m), where, np.asarray(-told, np.float64)
