"""Global RX: the Mahalanobis distance of every spectrum from the mean of the scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.errors import UsageError
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

CHUNK = 4096  # pixels taken at a time: their float64 copies stay in the cache
FEW = 2  # pixels per dimension, which lose half of the contrast of an anomaly (Reed, Mallett and Brennan, 1974)
INSTEAD = "use --model kernel-rx or few components (rx:components=10)"
ROUNDING = 4e-15  # share of the mean square of float32 samples that their rounding may make up as variance


@register(
    "rx",
    task="detect-anomaly",
    kind="classical",
    paper="Reed and Yu, Adaptive multiple-band CFAR detection of an optical pattern with unknown spectral "
    "distribution, IEEE Trans. Acoustics, Speech, and Signal Processing 38(10), 1990",
    url="https://doi.org/10.1109/29.60107",
    bands=(1, None),
    needs="a background described by one normal distribution; more pixels than bands",
)
class GlobalRX:
    """score(x) = (x - m)' C^-1 (x - m), with m and C the mean and the covariance of the scene, 0 or more.

    C is divided by the count minus 1, as in spectral.rx, whose scores these are. It is inverted as S R S with the
    deviations S of the bands, as scores do not depend on the units of a band. Where R is singular (duplicate or
    constant bands, pixels that are mixtures of fewer spectra than bands) its pseudo-inverse takes the place of R^-1:
    eigenvectors whose eigenvalue is below rounding, bands * 2.2e-16 of the largest or what float32 samples have of it,
    are left out. Of a constant scene nothing is left, and its score is 0.

    Of n pixels in n - 1 dimensions, as many as they can span, each has the distance (n - 1)^2 / n, whatever they are:
    such a scene has no score, NaN. A note tells of less than 2 pixels per dimension.

    components : the distance within the leading principal components of C only, sum over k <= components of
    (e_k' (x - m))^2 / l_k; None for all. With more components than there are, those that there are.

    Raises UsageError for less than one component.
    """

    radius: ClassVar[int] = 0
    takes_priors: ClassVar[bool] = False
    remedy: ClassVar[str] = f"it needs more pixels than bands or components; {INSTEAD}"

    def __init__(self, *, components: int | None = None) -> None:
        if components is not None and components < 1:
            raise UsageError(f"rx needs at least one principal component, got {components}.")
        self.components = components

    def fit(self, scene: Scene) -> Scorer:
        """The scorer of ``scene``, from its mean and covariance alone."""
        C = scene.covariance * (scene.count / max(scene.count - 1, 1))
        # They are rounded as they are stored, and once more when they are scaled.
        largest = np.maximum((scene.mean - scene.origin) ** 2, scene.mean**2)
        rounding = ROUNDING * (largest + np.diag(C))
        if self.components is None:
            s = np.sqrt(np.diag(C))
            unit = np.divide(1, s, out=np.zeros_like(s), where=s**2 > rounding)
            W = whitening(C * np.outer(unit, unit), rounding * unit**2) * unit
        else:
            W = whitening(C, rounding)[: self.components]
        if len(W) >= scene.count - 1:
            return _nothing
        few = f"rx has fewer than {FEW} pixels per dimension of their spectra and may miss anomalies; {INSTEAD}"
        return Distance(W, W @ scene.mean, [few] if scene.count < FEW * len(W) else [])

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: the score; the chunks do not grow with the image."""
        return 8.0


def whitening(C: Real, rounding: Real) -> Real:
    """W (k, bands) with W' W the inverse of C (bands, bands), or its pseudo-inverse; rows by descending eigenvalue.

    rounding (bands,) : the variance of each band that is rounding.
    """
    values, vectors = np.linalg.eigh(C)
    kept = values > np.maximum(len(values) * np.finfo(np.float64).eps * values[-1], rounding @ vectors**2)
    return np.ascontiguousarray((vectors[:, kept] / np.sqrt(values[kept])).T[::-1])


@dataclass(frozen=True)
class Distance:
    """|W x - shift|^2 of every pixel x; in float64, as C^-1 weighs small differences of large samples."""

    W: Real
    shift: Real
    notes: list[str] = field(default_factory=list)

    def __call__(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        """See :data:`rsunfold.scene.Scorer`."""
        spectra = cube.reshape(len(cube), -1)
        score = np.empty(spectra.shape[1], np.float32)
        for first in range(0, len(score), CHUNK):
            part = np.s_[first : first + CHUNK]
            z = self.W @ spectra[:, part].astype(np.float64)
            z -= self.shift[:, None]
            score[part] = np.einsum("ij,ij->j", z, z)
        return score.reshape(valid.shape)


def _nothing(cube: Floats, valid: NDArray[np.bool_]) -> Floats:
    return np.full(valid.shape, np.nan, np.float32)
