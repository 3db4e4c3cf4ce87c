"""What a detector of anomalies may know of a scene as a whole before it scores the first pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.moments import Moments

Scorer = Callable[[Floats, NDArray[np.bool_]], Floats]
"""(cube float32 (bands, rows, cols), samples scaled as the scene's, holes filled; valid (rows, cols)) -> score float32
(rows, cols) from 0, larger where a pixel belongs less to the background, NaN where there are too few others to compare
it with, of no meaning where a pixel is not valid. It may have ``notes``, sentences on what it has scored."""

SAMPLE = 2**17
"""Most spectra that stand for a scene where a method has to look at spectra, not only at their moments."""


@dataclass(frozen=True)
class Scene:
    """A scene as its statistics; samples are scaled so that the valid samples of the scene run from 0 to 1.

    mean (bands,), covariance (bands, bands), float64, and count : of all valid pixels. sample (bands, n), float32, of
    tables float64 : the valid pixels themselves, row by row, or :func:`some_of` them, SAMPLE at most. seed : of every
    random choice. noise (bands,) : standard deviation of the noise of each band, where a selector may build on it, else
    None. origin : where 0 lies of the samples that were rounded to float32 before they were scaled. wavelengths
    (bands,) : in nm, where all are known, else None.
    """

    mean: Real
    covariance: Real
    count: int
    sample: NDArray[np.floating]
    seed: int = 0
    noise: Real | None = None
    origin: float = 0.0
    wavelengths: Real | None = None

    def arranged(self, order: NDArray[np.intp]) -> Scene:
        """The scene with its bands in another order (bands,)."""
        noise, wavelengths = (None if v is None else v[order] for v in (self.noise, self.wavelengths))
        return replace(
            self,
            mean=self.mean[order],
            covariance=self.covariance[np.ix_(order, order)],
            sample=self.sample[order],
            noise=noise,
            wavelengths=wavelengths,
        )


def some_of(count: int, most: int) -> NDArray[np.intp]:
    """Indices in rising order of at most ``most`` of ``count`` pixels: all, or one in each of equally long stretches.

    Its place there is random, always the same, as otherwise an image whose width is a multiple of the stretches would
    be seen in a few of its columns alone, and the detectors of a scanner differ by column.
    """
    step = -(-count // most)
    if step <= 1:
        return np.arange(count)
    stretches = np.arange(-(-count // step))
    places = np.random.PCG64(0).random_raw(len(stretches)) % np.uint64(step)  # the same in every version of NumPy
    return np.asarray(np.minimum(stretches * step + places.astype(np.intp), count - 1))


def scene_of(
    cube: NDArray[np.floating], valid: NDArray[np.bool_] | None = None, *, seed: int = 0, origin: float = 0.0
) -> Scene:
    """The scene of a cube (bands, rows, cols) in memory, samples in [0, 1]; valid (rows, cols), None for all.

    origin : see :class:`Scene`.

    Raises InputError when no pixel is valid.
    """
    spectra = cube.reshape(len(cube), -1) if valid is None else cube[:, valid]
    moments = Moments(len(cube))
    moments.add(spectra)
    sample = np.ascontiguousarray(spectra[:, some_of(spectra.shape[1], SAMPLE)])
    return Scene(moments.mean, moments.covariance, moments.count, sample, seed, origin=origin)
