"""LRASR: what low-rank and sparse combinations of spectra from all over the background cannot represent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats, Real
from rsunfold.classical.rpca import STILL, gram, norms, shrink_columns, shrink_entries, shrink_singular
from rsunfold.errors import UsageError
from rsunfold.progress import tracked
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer

MU, NU = 3.0, 0.3  # first penalties of the copies of Z and of X = D Z + E
RELAXED = 1.8  # over-relaxation
EVERY, SETTLED, MOST = 10, 50, 4.0  # iterations between two balances of the penalties, the last one, a factor's limit
ITERATIONS, TOLERANCE = 500, 2e-3
LEVEL = 4.0  # norm of the scene's mean spectrum that beta and lam are meant for
LOADING = 1e-3  # of a cluster's covariance, as a share of its mean variance: clusters may have few pixels
FEWEST = 2  # pixels of a cluster that can tell which of them are typical


@dataclass(frozen=True)
class Representation:
    """X = D Z + E. Z float32 (atoms, n); E, Y float32 (bands, n), Y the multipliers of X = D Z + E.

    residuals : the largest of the relative residuals, see :class:`LRASR`, after each iteration.
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
    mean in its own Mahalanobis distance. The problem is the paper's, the solver is not. Its LADMAP takes linearised
    steps of Z and stops once a growing penalty has made X = D Z + E hold, far above the minimum (by 59 % in
    abu-urban-1, 74 % in abu-airport-2), so that the penalty's growth sets the score. Here ADMM has the copies Z = J and
    Z = W, the multipliers Y1 of X = D Z + E, Y2, Y3 of the copies, and the penalties nu and mu:

        Z   = argmin of nu |X - D Z - E + Y1/nu|^2 + mu |Z - J + Y2/mu|^2 + mu |Z - W + Y3/mu|^2
        q   = 1.8 (X - D Z) - 0.8 E + Y1/nu;  E_j = q_j max(0, 1 - lam / (nu |q_j|));  Y1 = nu (q - E)
        q   = 1.8 Z - 0.8 J + Y2/mu;          J   = SVT(q, 1/mu);                      Y2 = mu (q - J)
        q   = 1.8 Z - 0.8 W + Y3/mu;          W   = soft(q, beta/mu);                  Y3 = mu (q - W)

    Z comes from the inverse of nu D'D + 2 mu, the singular vectors from the atoms x atoms matrix of products. After 10,
    20 ... 50 iterations nu and mu are balanced, then kept: each is multiplied by the root of its relative primal
    residual over its dual one, at most by 4 (Boyd et al., Foundations and Trends in Machine Learning 3(1), 2011, 3.3
    and 3.4). Primal residuals are |X - D Z - E| / |E| and |(Z - J, Z - W)| / |(J, W)|; dual ones the change of E by nu
    over |Y1|, and of (J, W) by mu over |(Y2, Y3)|. E is the score, and |X| may be a thousand times as large where
    little differs from the mean spectrum; |E| counts as 0.001 |X - mean| at least. It stops when none exceeds 0.002,
    which with weights near the default ones left the objective within 1 % of its minimum; after 500
    iterations it stops with a note.

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
        return Representing(gain * D, gain, self.beta, self.lam)

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input: seven arrays like Z, six like X, float32."""
        return 28.0 * self.clusters * self.atoms + 24.0 * bands + 16


@dataclass
class Representing:
    """The scorer of :class:`LRASR`; D has the ``gain``. notes : where the iterations did not suffice."""

    D: Floats
    gain: np.float32
    beta: float
    lam: float
    notes: list[str] = field(default_factory=list)

    def __call__(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        """See :data:`rsunfold.scene.Scorer`."""
        score = np.zeros(valid.shape, np.float32)
        X = self.gain * cube[:, valid]
        found = represent(X, self.D, self.beta, self.lam)
        if found.residuals[-1] >= TOLERANCE:
            self.notes.append(
                f"lrasr stopped after {ITERATIONS} iterations with a residual of {found.residuals[-1]:.2g} instead of "
                f"{TOLERANCE:g}: its scores may be inexact; other weights beta and lam may help"
            )
        score[valid] = (norms(found.E) + norms(X).mean() / 1000 * (norms(found.Y) / self.lam)) / self.gain
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
    """The representation that :class:`LRASR` describes of X, float32 (bands, n), by D (bands, atoms).

    The iterations did not suffice where the last of its residuals is not below TOLERANCE.
    """
    # |E| and |Z| that matter: where D Z represents all, or Z = 0 is best, residuals have nothing else to compare with.
    least_E = LOADING * _norm(X - X.mean(axis=1, keepdims=True))
    values, U = np.linalg.eigh(gram(D.T))
    least_Z = LOADING * (_norm(X) or 1.0) / (math.sqrt(max(float(values[-1]), 0)) or 1.0)
    mu, nu = MU, NU
    inverse = _inverse(values, U, mu, nu)
    Z, J, W, Y2, Y3 = (np.zeros((D.shape[1], X.shape[1]), np.float32) for _ in range(5))
    E, Y1, rest = X, np.zeros_like(X), X
    residuals: list[float] = []
    for count in tracked(range(1, ITERATIONS + 1), "iterating, at most"):
        # What Z lacks, instead of Z: float32 then rounds what goes to 0.
        step = D.T @ (nu * (rest - E) + Y1)
        step -= mu * (Z - J)
        step -= Y2
        step -= mu * (Z - W)
        step -= Y3
        Z += inverse @ step
        rest = X - D @ Z
        E, apart, moved = _follow(rest, E, Y1, nu, partial(shrink_columns, limit=lam / nu))
        J, apart_J, moved_J = _follow(Z, J, Y2, mu, partial(shrink_singular, limit=1 / mu))
        W, apart_W, moved_W = _follow(Z, W, Y3, mu, partial(shrink_entries, limit=beta / mu))
        data = _over(apart, max(_norm(E), least_E)), _over(moved, _norm(Y1))
        copies = (
            _over(math.hypot(apart_J, apart_W), max(math.hypot(_norm(J), _norm(W)), least_Z)),
            _over(math.hypot(moved_J, moved_W), math.hypot(_norm(Y2), _norm(Y3))),
        )
        residuals.append(max(*data, *copies))
        if residuals[-1] < TOLERANCE:
            break
        if count % EVERY == 0 and count <= SETTLED:
            nu *= _balance(*data)
            mu *= _balance(*copies)
            inverse = _inverse(values, U, mu, nu)
    return Representation(Z, E, Y1, residuals)


def _inverse(values: Real, U: Real, mu: float, nu: float) -> Floats:
    """Of nu D'D + 2 mu, from the eigenvalues and eigenvectors of D'D."""
    return np.asarray((U / (nu * np.maximum(values, 0) + 2 * mu)) @ U.T, np.float32)


def _follow(
    A: Floats, C: Floats, Y: Floats, penalty: float, shrink: Callable[[Floats], Floats]
) -> tuple[Floats, float, float]:
    """The next C of the constraint A = C, |A - C|, and its move times ``penalty``. Y, the multipliers, in place."""
    Y /= penalty
    Y += RELAXED * A
    Y += (1 - RELAXED) * C
    found = shrink(Y)
    Y -= found
    Y *= penalty
    return found, _norm(A - found), penalty * _norm(found - C)


def _balance(primal: float, dual: float) -> float:
    """What to multiply a penalty by so that its relative residuals come closer to each other."""
    ratio = math.sqrt(primal / dual) if dual else MOST if primal else 1.0
    return min(MOST, max(1 / MOST, ratio))


def _over(part: float, whole: float) -> float:
    return part / whole if whole else part


def _norm(A: Floats) -> float:
    return float(np.linalg.norm(A))
