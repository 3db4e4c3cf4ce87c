"""Samples that a pixel lacks in some bands and has in others: what its other bands tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real
from rsunfold.cube import Cube

_Indices = NDArray[np.intp]
MOST_LACKING = 0.5
"""Share of the bands that a pixel may lack; the others have to tell what it shows."""
LEARNED_FROM, ROUNDS = 2**12, 8
"""Most spectra that a :class:`Mender` is learned from, and rounds of filling their gaps."""
LEARNER_BYTES = 5 * 8
"""Held for each of their samples meanwhile: the spectra, what is made of them, and what comes and goes, in float64."""
RIDGE = 1e-6
"""Added to the correlations of the bands before they are inverted."""
SHARED = 16
"""Fewest spectra lacking the same bands for which one system of equations is solved; others have one each."""
BLOCK, SYSTEMS = 2**17, 2**18
"""Most samples that are mended at a time, and entries of the systems that are solved at a time: a few MB, which count
among the LATER_BYTES of :mod:`rsunfold.infer.device`."""


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
        scale = np.sqrt(np.einsum("ij,ij->i", x, x) / known)
        scale[scale == 0] = 1
        x /= scale[:, None]
        count, mean, gaps = x.shape[1], np.zeros(len(x)), _Gaps.of(lost)
        C = x @ x.T / count
        for _ in range(ROUNDS):
            uncertain = np.zeros_like(C)
            gaps.fill(np.linalg.inv(C + RIDGE * np.eye(len(C))), x, uncertain)
            shift = x.mean(axis=1)
            x -= shift[:, None]
            mean += shift
            C = (x @ x.T + uncertain) / count
        return cls(bands, centre + scale * mean, C * np.outer(scale, scale))

    def mended(self, cube: Cube, bands: Sequence[int], wild: Mask | None = None) -> Cube:
        """``cube``, which holds ``bands``, some of :attr:`bands`, with the samples of :func:`mendable` pixels filled,
        in floating point; these pixels are valid. Samples that are of such a type are filled where they are.

        wild : bool (bands, rows, cols), samples that tell nothing of those that are missing, and stay as they are.
        """
        some = mendable(cube)
        if cube.missing is None or not some.any():
            return cube
        places = np.searchsorted(self.bands, bands)
        mean, C = self.mean[places, None], self.covariance[np.ix_(places, places)]
        scale = np.sqrt(np.maximum(np.diagonal(C), 0))[:, None]
        scale[scale == 0] = 1
        P = np.linalg.inv(C / (scale @ scale.T) + RIDGE * np.eye(len(C)))
        data = np.ascontiguousarray(cube.data, np.result_type(cube.data.dtype, np.float32))
        samples, missing = data.reshape(len(C), -1), cube.missing.reshape(len(C), -1)
        untold = missing if wild is None else missing | wild.reshape(len(C), -1)
        pixels, step = np.flatnonzero(some), max(1, BLOCK // len(C))
        for first in range(0, len(pixels), step):
            here = pixels[first : first + step]
            x = (samples[:, here] - mean) / scale
            _Gaps.of(untold[:, here]).fill(P, x)
            samples[:, here] = np.where(missing[:, here], mean + scale * x, samples[:, here])
        return replace(cube, data=data, valid=cube.valid | some)


@dataclass(frozen=True)
class _Gaps:
    """Which bands spectra (bands, n) lack.

    lost : bool (bands, n). shared : (bands (k,), spectra (m,)) for each set of bands that SHARED spectra or more lack.
    single : (bands (m, k), spectra (m,)) for each number k of bands that others lack.
    """

    lost: Mask
    shared: list[tuple[_Indices, _Indices]]
    single: list[tuple[_Indices, _Indices]]

    @classmethod
    def of(cls, lost: Mask) -> _Gaps:
        gappy, numbers = np.flatnonzero(lost.any(axis=0)), lost.sum(axis=0)
        keys = np.packbits(lost[:, gappy], axis=0)
        _, which, counts = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
        which = which.ravel()
        order = np.argsort(which, kind="stable")
        each = np.split(gappy[order], np.cumsum(counts)[:-1])
        shared = [(np.flatnonzero(lost[:, where[0]]), where) for where in each if len(where) >= SHARED]
        alone = gappy[counts[which] < SHARED]
        single = []
        for k in np.unique(numbers[alone]).tolist():
            where = alone[numbers[alone] == k]
            single.append((np.nonzero(lost[:, where].T)[1].reshape(-1, k), where))
        return cls(lost, shared, single)

    def fill(self, P: Real, x: Real, uncertain: Real | None = None) -> None:
        """Put the conditional means where x (bands, n) is lost, whatever it holds there, and add the covariances about
        them to ``uncertain`` (bands, bands).

        P : the inverse of the covariance. The mean of x_m given the others, x_o, is -P_mm^-1 P_mo x_o, of covariance
        P_mm^-1, and P_mo x_o is (P x)_m where x_m is 0.
        """
        x[self.lost] = 0
        for m, where in self.shared:
            among = P[np.ix_(m, m)]
            x[np.ix_(m, where)] = -np.linalg.solve(among, P[m] @ x[:, where])
            if uncertain is not None:
                uncertain[np.ix_(m, m)] += len(where) * np.linalg.inv(among)
        for every, spectra in self.single:
            step = max(1, min(SYSTEMS // every.shape[1] ** 2, BLOCK // len(P)))
            for first in range(0, len(spectra), step):
                m, where = every[first : first + step], spectra[first : first + step]
                among = P[m[:, :, None], m[:, None, :]]
                told = np.take_along_axis(P @ x[:, where], m.T, axis=0).T[:, :, None]
                if uncertain is None:
                    x[m, where[:, None]] = -np.linalg.solve(among, told)[:, :, 0]
                    continue
                about = np.linalg.inv(among)
                x[m, where[:, None]] = -(about @ told)[:, :, 0]
                entries = (m[:, :, None] * len(P) + m[:, None, :]).ravel()
                uncertain += np.bincount(entries, about.ravel(), P.size).reshape(P.shape)
