"""What is known of anomalies in any scene, as steps that can be switched on and off one by one.

Anomalies are small, and they keep to the edges of the image. None of the steps learns, or knows a sensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.scene import Scene

PRIORS = {
    "attribute-profile": "the detector sees the small structures of the leading components instead of the spectra",
    "kernel": "geometric mean of the score and the score of kernel RX on the spectra",
    "small-object": "parts of the score larger than an object are removed",
    "edge-preserving": "the score is averaged with its version filtered under guidance of the first component",
}
"""By name, in the order in which they act."""
SHARES = (0.1, 0.25, 0.5, 1.0)
"""Areas of the attribute profile, in units of the largest area of an object."""
COMPONENTS = 10
"""Principal components of which profiles are made."""
RADIUS, EPSILON = 1, 1e-2
"""Of the guided filter: pixels, and the variance of the guide below which the filter averages."""
GUIDE_SPREAD = 8.0
"""Standard deviations of the first component that the guide's range of 1 stands for."""


class PrincipalComponents:
    """The leading principal components of a scene, each divided by its standard deviation."""

    def __init__(self, scene: Scene, count: int) -> None:
        values, vectors = np.linalg.eigh(scene.covariance)
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        kept = values > 1e-12 * max(values[0], np.finfo(float).tiny)
        self.mean = scene.mean.astype(np.float32)
        self.V = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        if not self.V.size:
            self.V = np.zeros((len(scene.mean), 1), np.float32)

    def __call__(self, cube: Floats) -> Floats:
        """(components, rows, cols) of a cube (bands, rows, cols)."""
        return np.tensordot(self.V.T, cube - self.mean[:, None, None], axes=1).astype(np.float32, copy=False)


class AttributeProfile:
    """Closing minus opening by area of the leading components, at several areas: large where something small is.

    An opening by area a takes away every bright region of fewer than a pixels, a closing every dark one (Vincent,
    Proc. EURASIP Workshop on Mathematical Morphology, 1993); as differences of a profile: Dalla Mura, Benediktsson,
    Waske and Bruzzone, IEEE TGRS 48(10), 2010; for anomalies: Kang et al., IEEE TGRS 55(10), 2017.

    object_size : pixels that objects stay below; the areas are SHARES of it.
    """

    def __init__(self, scene: Scene, object_size: int) -> None:
        self.components = PrincipalComponents(scene, COMPONENTS)
        self.areas = sorted({max(2, round(share * object_size)) for share in SHARES})
        self.radius = self.areas[-1]
        """Pixels around a pixel that decide about it: a region of that many pixels reaches no farther."""

    @property
    def count(self) -> int:
        """Features: components times areas."""
        return int(self.components.V.shape[1]) * len(self.areas)

    def __call__(self, cube: Floats) -> Floats:
        """Features float32 (count, rows, cols) >= 0 of a cube (bands, rows, cols)."""
        maps = [1 - area_opened(1 - z, a) - area_opened(z, a) for z in self.components(cube) for a in self.areas]
        return np.asarray(np.maximum(np.stack(maps), 0), np.float32)


def small_object(score: Floats, object_size: int) -> Floats:
    """White top-hat by area opening: score (rows, cols) less its opening, 0 wherever what is bright is larger.

    A region, 8-connected, above any level that has ``object_size`` pixels or more is cut down to that level.
    """
    return np.asarray(score - area_opened(score, object_size, connectivity=2), np.float32)


def area_opened(image: Floats, area: int, connectivity: int = 1) -> Floats:
    """Opening by area of an image (rows, cols): the largest image below it without bright regions below ``area``.

    An image of fewer pixels has its smallest value everywhere. connectivity : 1 for 4 neighbours, 2 for 8.
    """
    from skimage.morphology import area_opening

    opening: Any = area_opening
    # A frame of the smallest value changes no region; scikit-image fails on images of one or two rows.
    framed = np.pad(image, 1, constant_values=image.min())
    opened = opening(framed, min(area, framed.size), connectivity=connectivity)
    return np.asarray(opened[1:-1, 1:-1])


def edge_preserving(score: Floats, guide: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Mean of the score (rows, cols) and its guided filter (He, Sun and Tang, IEEE PAMI 35(6), 2013).

    guide : (rows, cols), about 0 to 1. The filter averages in windows of 2 RADIUS + 1 pixels where the guide is flat
    and leaves edges of the guide in place; alone it hurts objects of few pixels, hence the mean. valid (rows, cols) :
    pixels that have a score; the averages are those of these, and all others become 0.
    """
    from scipy.ndimage import uniform_filter

    def box(x: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(uniform_filter(x, 2 * RADIUS + 1, mode="reflect"))

    share = None if valid.all() else np.where(valid, box(valid.astype(np.float64)), 1)

    def mean(x: NDArray[Any]) -> NDArray[np.float64]:
        return box(x) if share is None else np.where(valid, box(np.where(valid, x, 0)) / share, 0)

    p, g = score.astype(np.float64), guide.astype(np.float64)
    mean_g, mean_p = mean(g), mean(p)
    a = (mean(g * p) - mean_g * mean_p) / (mean(g * g) - mean_g**2 + EPSILON)
    b = mean_p - a * mean_g
    filtered = mean(a) * g + mean(b)
    return np.asarray(np.maximum((p + filtered) / 2, 0), np.float32)


def guide_of(scene: Scene) -> PrincipalComponents:
    """The first component, of which :func:`edge_preserving` takes edges; divide by GUIDE_SPREAD."""
    return PrincipalComponents(scene, 1)
