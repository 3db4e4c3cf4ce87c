"""Kernel RX: the Mahalanobis distance in the feature space of a Gaussian kernel, by Nystrom's approximation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.classical.rx import ROUNDING
from rsunfold.errors import UsageError
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

CHUNK = 2048  # pixels taken at a time
RIDGE = 1e-3  # lam as a share of the whole variance in feature space
RANK = 1e-8  # eigenvalues of K below this share of the largest are left out
PAIRS = 1000  # pixels whose distances from one another give the width
MOST_LANDMARKS = 5000  # the eigenvectors of their kernel matrix take minutes


@register(
    "kernel-rx",
    task="detect-anomaly",
    kind="classical",
    paper="Kwon and Nasrabadi, Kernel RX-algorithm: a nonlinear anomaly detector for hyperspectral imagery, IEEE TGRS "
    "43(2), 2005",
    url="https://doi.org/10.1109/TGRS.2004.841487",
    bands=(1, None),
    needs="any background, as long as anomalies are few",
)
class KernelRX:
    """(phi(x) - m)' (C + lam I)^-1 (phi(x) - m) with m and C in the feature space of k(x, y) = exp(-|x - y|^2 / 2 s^2).

    x are the leading principal components, each divided by the square root of its standard deviation: half-way between
    distances as they are and Mahalanobis distances. With landmarks z_1 .. z_M drawn from the scene, K_ij = k(z_i, z_j),
    k_x = (k(x, z_1), .., k(x, z_M)) and K = U D U',

        f(x)     = D^-1/2 U' k_x                         the part of phi(x) in the span of the landmarks
        score(x) = (f - m)' (C + lam I)^-1 (f - m)  +  (1 - k_x' K^-1 k_x) / lam

    with m and C those of f over the scene. The second term is |phi(x)|^2 outside the span: there the background has no
    variance, and C + lam I is lam. It is what shows an anomaly that is like no landmark, for which k_x vanishes and
    f(x) is the origin. lam = 1e-3 tr(C); s = the median distance of two pixels. Eigenvalues
    of K below 1e-8 of the largest are left out.

    The paper inverts the centred kernel matrix of all pixels; Nystrom's approximation (Williams and Seeger, NIPS 13,
    2001) takes the place of that matrix here, and scores every pixel against the same background.

    components : principal components, landmarks : M, both at most; scenes of fewer make do with what they have.
    A scene without variance scores 0.

    Raises UsageError for less than one component or landmark, or more than MOST_LANDMARKS.
    """

    radius: ClassVar[int] = 0
    takes_priors: ClassVar[bool] = False

    def __init__(self, *, components: int = 20, landmarks: int = 500) -> None:
        if components < 1 or landmarks < 1:
            raise UsageError(
                f"kernel-rx needs at least one component and one landmark, got {components} and {landmarks}."
            )
        if landmarks > MOST_LANDMARKS:
            raise UsageError(f"kernel-rx takes at most {MOST_LANDMARKS} landmarks, not {landmarks}.")
        self.components, self.landmarks = components, landmarks

    def fit(self, scene: Scene) -> Scorer:
        """The scorer of ``scene``, whose sample gives landmarks, width, m and C; its seed draws the landmarks."""
        rng = np.random.default_rng(scene.seed)
        values, vectors = np.linalg.eigh(scene.covariance)
        kept = np.flatnonzero(values > max(1e-9 * values[-1], ROUNDING))[::-1][: self.components]
        P = (vectors[:, kept] / values[kept] ** 0.25).T
        n = scene.sample.shape[1]
        picked = scene.sample[:, np.sort(rng.permutation(n)[: max(self.landmarks, PAIRS)])]
        x = P @ (picked.astype(np.float64) - scene.mean[:, None])
        spread = np.linspace(0, x.shape[1] - 1, min(PAIRS, x.shape[1])).astype(int)  # over the whole image
        width = _median_distance(x[:, spread])
        if not width:
            return _Score(P, scene.mean, x[:, :0], np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0), 0.0)
        P, x = P / width, x / width
        z = x[:, np.sort(rng.permutation(x.shape[1])[: self.landmarks])]
        D, U = np.linalg.eigh(_kernel(z, z))
        kept = np.flatnonzero(D / D[-1] > RANK)
        U = U[:, kept] / np.sqrt(D[kept])
        total, products = np.zeros(U.shape[1]), np.zeros((U.shape[1],) * 2)
        for first in range(0, n, CHUNK):
            x = P @ (scene.sample[:, first : first + CHUNK].astype(np.float64) - scene.mean[:, None])
            f = U.T @ _kernel(z, x)
            total += f.sum(axis=1)
            products += f @ f.T
        m = total / n
        variance, V = np.linalg.eigh(products / n - np.outer(m, m))
        lam = RIDGE * np.maximum(variance, 0).sum()
        W = (V / np.sqrt(np.maximum(variance, 0) + lam)).T
        return _Score(P, scene.mean, z, U.T, W, W @ m, 1 / lam)

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: the score; the chunks do not grow with the image."""
        return 8.0


@dataclass(frozen=True)
class _Score:
    """P (components, bands) from spectra to x / s, landmarks z, F (k, M) from k_x to f, W from f to unit variance."""

    P: Real
    mean: Real
    z: Real
    F: Real
    W: Real
    shift: Real
    outside: float

    def __call__(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        spectra = cube.reshape(len(cube), -1)
        score = np.zeros(spectra.shape[1], np.float32)
        if not len(self.F):
            return score.reshape(valid.shape)
        for first in range(0, len(score), CHUNK):
            part = np.s_[first : first + CHUNK]
            x = self.P @ (spectra[:, part].astype(np.float64) - self.mean[:, None])
            f = self.F @ _kernel(self.z, x)
            beyond = np.maximum(1 - np.einsum("ij,ij->j", f, f), 0)
            g = self.W @ f - self.shift[:, None]
            score[part] = np.einsum("ij,ij->j", g, g) + self.outside * beyond
        return score.reshape(valid.shape)


def _kernel(a: Real, b: Real) -> Real:
    """exp(-|a_i - b_j|^2 / 2) of the columns of ``a`` and ``b``, in units of the width."""
    exponent = a.T @ b
    exponent -= np.einsum("ij,ij->j", a, a)[:, None] / 2
    exponent -= np.einsum("ij,ij->j", b, b) / 2
    return np.asarray(np.exp(np.minimum(exponent, 0, out=exponent), out=exponent))


def _median_distance(x: Real) -> float:
    """Of two different columns of ``x``; the mean where half of them are equal, 0 where all are."""
    from scipy.spatial.distance import pdist

    distances = pdist(x.T)
    return float(np.median(distances) or distances.mean()) if distances.size else 0.0
