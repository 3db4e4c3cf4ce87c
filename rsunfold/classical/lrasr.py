"""LRASR: what low-rank and sparse combinations of spectra from all over the background cannot represent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.classical.rpca import STILL, norms, shrink_columns, shrink_singular
from rsunfold.errors import UsageError
from rsunfold.progress import tracked
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

MU, RHO, MU_MAX = 1e-2, 1.2, 1e6  # first penalty, its growth where the variables hardly move, and its limit
ITERATIONS = 150
TOLERANCE, MOVE = 1e-3, 1e-2  # of |X|: misfit below which it stops, movement below which it stops and mu grows
LEVEL = 4.0  # norm of the scene's mean spectrum that beta and lam are meant for
LOADING = 1e-3  # of a cluster's covariance, as a share of its mean variance: clusters may have few pixels
FEWEST = 2  # pixels of a cluster that can tell which of them are typical


@dataclass(frozen=True)
class Representation:
    """X = D Z + E. Z float32 (atoms, n); E, Y float32 (bands, n), Y the multipliers of X = D Z + E.

    residuals : |X - D Z - E| / |X| after each iteration.
    """

    Z: Floats
    E: Floats
    Y: Floats
    residuals: list[float]


@register(
    "lrasr",
    task="detect-anomaly",
    kind="classical",
    paper="Xu, Wu, Li, Plaza and Wei, Anomaly detection in hyperspectral images based on low-rank and sparse "
    "representation, IEEE TGRS 54(4), 2016",
    url="https://doi.org/10.1109/TGRS.2015.2493201",
    bands=(1, None),
    needs="a background of a few materials; the whole image in memory, with 300 coefficients for every pixel",
    sizes={"tiny": {"clusters": 5, "atoms": 8}},
)
class LRASR:
    """min |Z|_* + beta |Z|_1 + lam |E|_{2,1} subject to X = D Z + E, X (bands, n) all spectra; 0 or more.

    D (bands, atoms) : k-means splits the spectra into clusters; of each, the ``atoms`` pixels that are nearest to its
    mean in its own Mahalanobis distance. LADMAP (Lin, Liu and Su, NIPS 24, 2011) with Z = J, multipliers Y1 of
    X = D Z + E and Y2 of Z = J, penalty mu, and eta = |D|_2^2 + 1:

        Z   = SVT(Z + (D'(X - D Z - E + Y1/mu) - (Z - J + Y2/mu)) / eta, 1 / (mu eta))
        J   = soft(Z + Y2/mu, beta/mu)
        E_j = q_j max(0, 1 - lam / (mu |q_j|)) from q = X - D Z + Y1/mu
        Y1  = Y1 + mu (X - D Z - E);  Y2 = Y2 + mu (Z - J);  mu = rho mu if the variables hardly moved

    The singular vectors come from the atoms x atoms matrix of products. It stops when neither misfit nor movement
    exceeds its tolerance, or after 150 iterations.

    beta and lam weigh terms of the first degree in Z against one in E, so their effect depends on the scale of X. Where
    one bright pixel sets it, Z = 0 is cheapest and the score is brightness. Hence the spectra, and D, are first scaled
    by the one factor that gives the scene's mean spectrum the norm 4, which the paper does not do; the score is scaled
    back.

    The score is |E_j| + e |Y1_j| / lam, e the mean norm of X's columns / 1000: E has columns of exactly 0, whose order
    is told by how near their multipliers, |Y1_j| <= lam, are to where E_j leaves 0; the paper leaves ties. Clusters
    of fewer pixels than ``atoms`` give all they have, the paper leaves them out; single pixels, which may be the
    anomalies, give none unless there is nothing else. A scene without variance scores 0.

    clusters, atoms, beta, lam : as above, 1 or more and above 0.

    Raises UsageError for what is less.
    """

    radius: ClassVar[None] = None
    takes_priors: ClassVar[bool] = False

    def __init__(self, *, clusters: int = 15, atoms: int = 20, beta: float = 0.1, lam: float = 0.5) -> None:
        if clusters < 1 or atoms < 1:
            raise UsageError(f"lrasr needs at least one cluster and one atom of each, got {clusters} and {atoms}.")
        if not (0 <= beta < math.inf and 0 < lam < math.inf):
            raise UsageError(f"the weights of lrasr must be beta from 0 and lam above 0, got {beta} and {lam}.")
        self.clusters, self.atoms, self.beta, self.lam = clusters, atoms, beta, lam

    def fit(self, scene: Scene) -> Scorer:
        """The scorer, with the dictionary from the sample of ``scene``; it solves for the image that it is given."""
        if float(np.trace(scene.covariance)) <= STILL * len(scene.mean):
            return _nothing
        gain = np.float32(LEVEL / np.linalg.norm(scene.mean))
        D = dictionary(scene.sample, self.clusters, self.atoms, scene.seed)
        return partial(self._score, gain * D, gain)

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: seven arrays like Z, six like X, float32."""
        return 28.0 * self.clusters * self.atoms + 24.0 * bands + 16

    def _score(self, D: Floats, gain: np.float32, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        score = np.zeros(valid.shape, np.float32)
        X = gain * cube[:, valid]
        found = represent(X, D, self.beta, self.lam)
        score[valid] = (norms(found.E) + norms(X).mean() / 1000 * (norms(found.Y) / self.lam)) / gain
        return score


def _nothing(cube: Floats, valid: NDArray[np.bool_]) -> Floats:
    return np.zeros(valid.shape, np.float32)


def dictionary(sample: Floats, clusters: int, atoms: int, seed: int) -> Floats:
    """D (bands, up to clusters * atoms) from the columns of ``sample`` (bands, n), as :class:`LRASR` describes."""
    from sklearn.cluster import KMeans

    spectra = sample.T
    # k-means warns when it finds fewer clusters than it is asked for.
    count = min(clusters, len(np.unique(spectra, axis=0)))
    labels = KMeans(count, n_init=1, random_state=seed).fit_predict(spectra)
    members = [np.flatnonzero(labels == k) for k in range(count)]
    chosen = [_typical(spectra, at, atoms) for at in members if len(at) >= FEWEST] or members
    return np.ascontiguousarray(sample[:, np.sort(np.concatenate(chosen))])


def _typical(spectra: Floats, at: NDArray[np.intp], atoms: int) -> NDArray[np.intp]:
    """Those of the rows ``at`` that are nearest to their mean in the distance of their covariance."""
    x = spectra[at].astype(np.float64)
    x -= x.mean(axis=0)
    C = x.T @ x / (len(x) - 1)
    C[np.diag_indices_from(C)] += max(LOADING * float(np.trace(C)) / len(C), STILL)
    distance = np.einsum("ij,ji->i", x, np.linalg.solve(C, x.T))
    return at[np.argsort(distance, kind="stable")[:atoms]]


def represent(X: Floats, D: Floats, beta: float, lam: float) -> Representation:
    """The representation that :class:`LRASR` describes of X, float32 (bands, n), by D (bands, atoms)."""
    size = float(np.linalg.norm(X)) or 1.0
    spectral = float(np.linalg.norm(D.astype(np.float64), 2))
    eta = spectral**2 + 1
    mu = MU
    Z = np.zeros((D.shape[1], X.shape[1]), np.float32)
    J, Y2 = np.zeros_like(Z), np.zeros_like(Z)
    E, Y1, DZ = (np.zeros_like(X) for _ in range(3))
    residuals: list[float] = []
    for _ in tracked(range(ITERATIONS), "iterating, at most"):
        step = D.T @ (X - DZ - E + Y1 / np.float32(mu))
        step -= Z - J + Y2 / np.float32(mu)
        step /= np.float32(eta)
        step += Z
        Z, last_Z = shrink_singular(step, 1 / (mu * eta)), Z
        V = Z + Y2 / np.float32(mu)
        J, last_J = V - np.clip(V, -beta / mu, beta / mu), J
        V -= J
        Y2 = V * np.float32(mu)  # Y2 + mu (Z - J)
        DZ = D @ Z
        q = X - DZ
        q += Y1 / np.float32(mu)
        E, last_E = shrink_columns(q, lam / mu), E
        Y1 = (q - E) * np.float32(mu)  # Y1 + mu (X - D Z - E)
        moved = max(
            math.sqrt(eta) * float(np.linalg.norm(Z - last_Z)),
            float(np.linalg.norm(J - last_J)),
            float(np.linalg.norm(E - last_E)),
        )
        residuals.append(float(np.linalg.norm(X - DZ - E)) / size)
        still = mu * moved / size < MOVE
        if residuals[-1] < TOLERANCE and still:
            break
        if still:
            mu = min(MU_MAX, RHO * mu)
    return Representation(Z, E, Y1, residuals)
