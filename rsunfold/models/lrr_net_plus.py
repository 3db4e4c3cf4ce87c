"""LRR-Net+: hyperspectral anomalies as what a low-rank representation of the background leaves, by unrolled ADMM."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rsunfold.arrays import Floats
from rsunfold.errors import UsageError
from rsunfold.progress import tracked
from rsunfold.registry import register
from rsunfold.scene import Scene, Scorer, some_of
from rsunfold.unfold.proximal import group_soft_threshold
from rsunfold.unfold.unrolled import Keep, Record, Unrolled, as_is, gradients

COMPONENTS = 60
"""Most principal components that the network sees; a rotation to them keeps the distances of the spectra."""
QUANTILE = 0.75
"""Of the residual norms: where l3 begins, so that a quarter of the pixels may hold an anomaly."""
NUMBERS = ("l1", "l2", "l3", "mu")
START = {"l1": 1e-2, "l2": 0.1, "l3": 1.0, "mu": 1.0}
"""What the learned numbers begin with, each relative to a scale of the stage, see :class:`Stage`."""
LITERAL = {"l1": 1e-5, "l2": 1e-5, "l3": 1e-5, "mu": 1e-2}
"""The same as absolute numbers; 1e-5 for l3 is the paper's."""
TRAINED_ON, CLUSTERED = 3000, 10_000
"""Most spectra of the scene, evenly spread, that an epoch looks at, and that k-means looks at."""
LEARNING_RATE, CORRECTION_RATE = 5e-3, 5e-4
CHUNK = 2**16
"""Pixels scored at a time."""


class State(NamedTuple):
    """The variables of the iteration for M pixels: codes L, their low-rank copy J and multiplier d (M, K), anomalies S
    (M, B)."""

    L: Tensor
    S: Tensor
    J: Tensor
    d: Tensor


class Shared(NamedTuple):
    """What a stage takes from the scene as a whole; with it every pixel goes through the stage on its own.

    D (K, B), Gamma (K, B), Theta (K, K), the limit of the residual norms l3, the matrix W (K, K) of the singular value
    thresholding, and c (K,), the root mean square of the codes. The last D is that of the result, after c.
    """

    D: Tensor
    Gamma: Tensor
    Theta: Tensor
    l3: Tensor
    W: Tensor
    c: Tensor


class Stage(nn.Module):
    """One iteration of ADMM, with learned l1, l2 / mu, l3 and mu (as logarithms) and corrections of Gamma and Theta.

    Relative to the scale of the stage, so that they mean the same in any scene: l1 in units of M / K, mu in units of
    tr(D D') / K, l2 / mu in units of the mean singular value of L + d, l3 in units of the QUANTILE of the residual
    norms. ``literal``: absolute numbers, J from L - d, no normalisation.
    """

    def __init__(self, K: int, B: int, literal: bool) -> None:
        super().__init__()
        self.literal = literal
        start = LITERAL if literal else START
        self.l1, self.l2, self.l3, self.mu = (
            nn.Parameter(torch.tensor(start[k], dtype=torch.float64).log()) for k in NUMBERS
        )
        self.gamma = nn.Parameter(torch.zeros(K, B, dtype=torch.float64))
        self.theta = nn.Parameter(torch.zeros(K, K, dtype=torch.float64))

    def numbers(self) -> tuple[Tensor, ...]:
        """l1, l2 / mu, l3 and mu themselves."""
        return tuple(log.exp() for log in (self.l1, self.l2, self.l3, self.mu))

    def share(self, X: Tensor, state: State) -> Shared:
        """What all of the pixels X (M, B) together say about the stage."""
        L, S, _, d = state
        l1, l2, l3, mu = self.numbers()
        eye = torch.eye(L.shape[1], dtype=X.dtype, device=X.device)
        if not self.literal:
            l1 = l1 * len(X) / len(eye)
        D = torch.linalg.solve(L.T @ L + l1 * eye, L.T @ (X - S))  # (5, 14)
        if not self.literal:
            mu = mu * _above_zero((D * D).sum()) / len(eye)  # D is 0 where all pixels are alike
        inverse = torch.linalg.inv(D @ D.T + mu * eye)
        Gamma, Theta = inverse @ D + self.gamma, mu * inverse + self.theta
        L = _codes(X, state, Gamma, Theta)
        if not self.literal:
            # The quantile says where the limit lies; which pixel it is, is no matter of learning.
            l3 = l3 * torch.quantile(torch.linalg.vector_norm(X - L @ D, dim=1).detach(), QUANTILE)
        W = _shrinkage(L - d if self.literal else L + d, l2, relative=not self.literal)
        c = torch.ones_like(L[0]) if self.literal else _above_zero((L * L).mean(0)).sqrt()
        return Shared(D, Gamma, Theta, l3, W, c)

    def forward(self, X: Tensor, state: State, shared: Shared) -> State:
        """The variables after the stage, of any pixels X (M, B)."""
        D, Gamma, Theta, l3, W, c = shared
        L = _codes(X, state, Gamma, Theta)
        S = group_soft_threshold(X - L @ D, l3)  # (8, 16-18)
        J = (L - state.d if self.literal else L + state.d) @ W  # (9-11, 19-20)
        d = state.d + (L - J)  # (12, 21)
        return State(L / c, S, J / c, d / c)


def _codes(X: Tensor, state: State, Gamma: Tensor, Theta: Tensor) -> Tensor:
    return (X - state.S) @ Gamma.T + (state.J - state.d) @ Theta.T  # (7, 15)


def _shrinkage(P: Tensor, threshold: Tensor, *, relative: bool) -> Tensor:
    """W (K, K) with P W = SVT(P, threshold), P (M, K): V diag(relu(s - t) / s) V' from P' P = V diag(s^2) V'.

    The derivative of V has poles where singular values coincide, so V counts as constant. relative : the threshold is
    in units of the mean singular value.
    """
    gram = P.T @ P
    V = torch.linalg.eigh(gram.detach())[1]
    squares = (V * (gram @ V)).sum(0)
    s = _above_zero(squares).sqrt()
    t = threshold * s.mean() if relative else threshold
    W: Tensor = (V * torch.relu(1 - t / s)) @ V.T
    return W


def _above_zero(squares: Tensor) -> Tensor:
    """``squares`` (n,), those that rounding has made 0 or less a little above, where a root has a slope."""
    eps = torch.finfo(squares.dtype).eps
    return squares.clamp_min(float(eps * squares.detach().max().clamp_min(eps)))


class Unfolded(Unrolled):
    """The K_stages iterations of one scene with B features; built by :class:`LRRNetPlus`."""

    letters: ClassVar[tuple[str, ...]] = ("background", "residual", "S")

    def __init__(self, B: int, atoms: int, stages: int, literal: bool) -> None:
        super().__init__()
        self.arch = {"B": B, "atoms": atoms, "stages": stages, "literal": literal}
        self.stages = nn.ModuleList(Stage(atoms, B, literal) for _ in range(stages))

    def iterations(self) -> list[Stage]:
        """The stages, with their type."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def forward(
        self, X: Tensor, L: Tensor, shared: list[Shared] | None = None, *, keep: Keep = as_is
    ) -> tuple[State, list[Shared]]:
        """(variables after the last stage, what each stage shares) for pixels X (M, B) and first codes L (M, K).

        shared : what the scene gave; None takes it from X, which then is the scene. ``keep`` sees, of every stage, the
        norms (M,) of the background J D, of the residual X - J D and of S.
        """
        state = State(L, torch.zeros_like(X), torch.zeros_like(L), torch.zeros_like(L))
        found = []
        for k, stage in enumerate(self.iterations()):
            found.append(stage.share(X, state) if shared is None else shared[k])
            state = stage(X, state, found[-1])
            if keep is not as_is:
                fit = background(state, found[-1])
                for letter, rows in zip(self.letters, (fit, X - fit, state.S), strict=True):
                    keep(k, letter, torch.linalg.vector_norm(rows, dim=1))
        return state, found


def background(state: State, shared: Shared) -> Tensor:
    """J D, (M, B), with the scale that the codes lost to the dictionary."""
    return state.J @ (shared.D * shared.c[:, None])


@register(
    "lrr-net-plus",
    task="detect-anomaly",
    kind="network",
    paper="Li, Zhang, Hong, Yao and Chanussot, LRR-Net: an interpretable deep unfolding network for hyperspectral "
    "anomaly detection, IEEE TGRS 61, 2023, and its extension LRR-Net+",
    url="https://doi.org/10.1109/TGRS.2023.3279834",
    bands=(1, None),
    needs="one scene, on whose pixels it is trained without ground truth",
    per_scene=True,
    apple=False,  # float64
)
class LRRNetPlus:
    """min 1/2 ||X - L D - S||_F^2 + l1/2 ||D||_F^2 + l2 ||L||_* + l3 ||S||_{2,1} over D, L and S, one pixel per row.

    X (M, B) holds the pixels, L (M, K) their codes over the dictionary D (K, B), S (M, B) the anomalies. With J = L,
    its scaled multiplier d and penalty mu, each stage is (the paper's equations in brackets)::

        D <- (L'L + l1 I)^-1 L'(X - S)                                          DicNet (5, 14)
        L <- (X - S) Gamma' + (J - d) Theta'                                    LRNet  (7, 15)
             Gamma = (D D' + mu I)^-1 D + gamma,  Theta = mu (D D' + mu I)^-1 + theta
        R  = X - L D;  s_i <- r_i max(0, 1 - l3 / ||r_i||)                      SpaNet (8, 16-18)
        J <- SVT(L + d, l2 / mu)                                                VarNet (9-11, 19-20)
        d <- d + (L - J)                                                        LarNet (12, 21)

    Learned in each scene, without truth, by ``epochs`` steps of Adam from the same start: l1, l2 / mu, l3 and mu of
    every stage, gamma and theta (but for theta of the first, where J = d = 0, and l3 of the last, on which J does not
    depend). D and L begin with the centres and the labels of k-means (:class:`Clusters`), gamma and theta with 0.
    score_i = ||x_i - (J D)_i||.

    Deviations from the paper, each with its reason:

    - J comes from L + d, not L - d, without which the iteration is not that of its Lagrangian; mu is learned for every
      stage in place of the schedule (13).
    - Gamma and Theta begin with the closed forms: from zeros, as in Algorithm 1, L = 0 and S = X for ever.
    - No free layer of size K x M in the D step: it would tie the network to the positions of one scene's pixels.
    - l1, l2, l3 and mu are relative to the scale of the stage, see :class:`Stage`; l3 = 1e-5 lets S take everything.
    - The loss is the problem itself, the first line, with J for L, S at its minimum (then the first and the last term
      are a Huber function of ||x_i - (J D)_i||) and the constants at their start; mean_i ||x_i - (JD + S)_i||^2 (22)
      is 0 for S = X - J D, whatever is learned. A fit without the terms in D and J makes the detection worse with
      every epoch.
    - The normalisation after a stage, which the paper does not define, brings the columns of L to unit root mean
      square and moves their scale into the rows of D, so that L D stays.
    - The score is the residual, not ||s_i||, whose exact zeros are ties.
    - The network sees at most COMPONENTS principal components, each divided by the square root of its deviation:
      between the distances of the spectra themselves, which strong components rule, and whitened ones, which noise
      rules.

    atoms : K. stages, epochs. literal : the paper's l3, loss (22), L - d, score ||s_i||, no relative numbers and
    no normalisation, on the spectra themselves; Gamma and Theta still begin with the closed forms.
    """

    radius: ClassVar[int | None] = 0

    def __init__(self, *, atoms: int = 12, stages: int = 6, epochs: int = 40, literal: bool = False) -> None:
        for name, value, least in (("atoms", atoms, 1), ("stages", stages, 1), ("epochs", epochs, 0)):
            if value < least:
                raise UsageError(f"{name} of lrr-net-plus must be at least {least}, not {value}.")
        self.atoms, self.stages, self.epochs, self.literal = atoms, stages, epochs, literal

    @property
    def takes_priors(self) -> bool:
        """Whether it was designed for spectra with priors, as the published network is not."""
        return not self.literal

    @property
    def parameters_count(self) -> int:
        """Learned numbers in a scene of COMPONENTS or more bands."""
        return self.stages * (4 + self.atoms * (COMPONENTS + self.atoms))

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory of the scorer beside its input: float64 of one chunk is a constant, the score stays."""
        return 8.0

    def fit(self, scene: Scene, device: str = "cpu") -> Scorer:
        """Learn from ``scene``; the scorer that comes back needs nothing else. Deterministic for ``scene.seed``."""
        fitted = self.learned(scene, device)
        return fitted.score

    @gradients()
    def learned(self, scene: Scene, device: str = "cpu") -> Fitted:
        """The network of ``scene``, for those who look into it; see :meth:`fit`."""
        rotation = Rotation.whole(scene) if self.literal else Rotation.of(scene)
        X = rotation(torch.from_numpy(np.ascontiguousarray(scene.sample.T)), device)
        clusters = Clusters.of(X, self.atoms, scene.seed, centred=not self.literal)
        net = Unfolded(X.shape[1], clusters.atoms, self.stages, self.literal).to(device)
        losses = self._train(net, _some(X, TRAINED_ON), clusters)
        with torch.no_grad():
            shared = net(X, clusters.labels(X))[1]
        return Fitted(net, rotation, clusters, shared, losses, device)

    def _train(self, net: Unfolded, X: Tensor, clusters: Clusters) -> list[float]:
        """Losses by epoch, the first before any step."""
        corrections = [p for s in net.iterations() for p in (s.gamma, s.theta)]
        numbers = [p for s in net.iterations() for p in (s.l1, s.l2, s.l3, s.mu)]
        groups = [{"params": numbers, "lr": LEARNING_RATE}, {"params": corrections, "lr": CORRECTION_RATE}]
        optimizer = torch.optim.Adam(groups)
        L = clusters.labels(X)
        problem: Problem | None = None
        losses = []
        for epoch in tracked(range(self.epochs + 1 if X.shape[1] else 0), "training"):
            state, shared = net(X, L)
            fit = background(state, shared[-1])
            if self.literal:
                loss = (X - fit - state.S).square().mean()
            else:
                problem = problem or Problem.at(state, shared[-1], net.iterations()[-1])
                loss = problem.value(X, fit, state.J, shared[-1])
            losses.append(float(loss.detach()))
            if epoch < self.epochs:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return losses


class Problem(NamedTuple):
    """The constants of the problem that a scene's network is trained to solve: those of its last stage at the start."""

    l1: float
    l2: float
    l3: float

    @classmethod
    def at(cls, state: State, shared: Shared, stage: Stage) -> Problem:
        """From the variables after the last stage."""
        M, K = state.J.shape
        l1, l2, _, mu = (float(v.detach()) for v in stage.numbers())
        D = shared.D.detach()
        singular = torch.linalg.svdvals((state.J + state.d).detach() * shared.c.detach())
        threshold = l2 * float(singular.mean())
        return cls(l1 * M / K, threshold * mu * float((D * D).sum()) / K, float(shared.l3.detach()))

    def value(self, X: Tensor, fit: Tensor, J: Tensor, shared: Shared) -> Tensor:
        """The objective per pixel, with S at its minimum."""
        r = torch.linalg.vector_norm(X - fit, dim=1)
        huber = torch.where(r < self.l3, r * r / 2, self.l3 * (r - self.l3 / 2)).sum()
        D = shared.D * shared.c[:, None]
        singular = _above_zero(torch.linalg.eigvalsh(J.T @ J)).sqrt()
        return (huber + self.l2 * singular.sum() + self.l1 / 2 * (D * D).sum()) / len(X)


class Rotation(NamedTuple):
    """Spectra (M, bands) to features (M, B): (x - mean) @ V, float64."""

    mean: NDArray[np.float64]
    V: NDArray[np.float64]

    @classmethod
    def whole(cls, scene: Scene) -> Rotation:
        """The spectra as they are."""
        return cls(np.zeros(len(scene.mean)), np.eye(len(scene.mean)))

    @classmethod
    def of(cls, scene: Scene) -> Rotation:
        """Leading principal components, divided by the square root of their deviation; mean squared length 1."""
        values, vectors = np.linalg.eigh(scene.covariance)
        values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
        kept = values > 1e-12 * max(values[0], np.finfo(float).tiny)
        deviation = np.sqrt(values[kept])
        return cls(scene.mean, vectors[:, kept] / np.sqrt(deviation * deviation.sum()))

    def __call__(self, spectra: Tensor, device: str) -> Tensor:
        """Features float64 (M, B) on ``device`` of spectra (M, bands)."""
        mean, V = torch.from_numpy(self.mean), torch.from_numpy(np.ascontiguousarray(self.V))
        return (spectra.to(device, torch.float64) - mean.to(device)) @ V.to(device)


class Fitted:
    """The network of one scene; ``losses`` by epoch."""

    def __init__(
        self,
        net: Unfolded,
        rotation: Rotation,
        clusters: Clusters,
        shared: list[Shared],
        losses: list[float],
        device: str,
    ) -> None:
        self.net, self.rotation, self.clusters, self.shared = net, rotation, clusters, shared
        self.losses, self.device = losses, device

    def score(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        """See :data:`rsunfold.scene.Scorer`."""
        return self.stages(cube, last=True)[-1]["S" if self.net.arch["literal"] else "residual"]

    def stages(self, cube: Floats, *, last: bool = False) -> list[dict[str, Floats]]:
        """Norms by letter, float32 (rows, cols), of every stage (or of the last alone) for ``cube``."""
        pixels = torch.from_numpy(np.ascontiguousarray(cube.reshape(len(cube), -1).T))
        parts: list[list[dict[str, Any]]] = []
        with torch.no_grad():
            for chunk in torch.split(pixels, CHUNK):
                X = self.rotation(chunk, self.device)
                record = Record()
                self.net(X, self.clusters.labels(X), self.shared, keep=record)
                parts.append(record.stages[-1:] if last else record.stages)
        shape = cube.shape[1:]
        return [
            {k: torch.cat([p[i][k] for p in parts]).float().cpu().numpy().reshape(shape) for k in Unfolded.letters}
            for i in range(len(parts[0]))
        ]

    def describe(self) -> dict[str, Any]:
        """What was learned, for the summary: thresholds by stage, and the loss before and after."""
        stages = [
            dict(zip(NUMBERS, (float(v.detach()) for v in stage.numbers()), strict=True))
            | {"l3_norm": float(shared.l3)}
            for stage, shared in zip(self.net.iterations(), self.shared, strict=True)
        ]
        return {"loss_before": self.losses[:1], "loss_after": self.losses[-1:], "stages": stages}


class Clusters(NamedTuple):
    """The centres (C, B) of k-means, the first of which have no atom, ``bare`` of them."""

    centres: Tensor
    bare: int

    @classmethod
    def of(cls, X: Tensor, atoms: int, seed: int, *, centred: bool) -> Clusters:
        """As many as give ``atoms`` atoms, or as there are distinct pixels X (M, B).

        centred : the mean of X is 0. Then the centres, each times the size of its cluster, add up to 0. In a dictionary
        of all of them that direction would begin as rounding and grow some two hundred times with every stage, so the
        largest cluster has no atom, unless it is alone: the origin stands for it.
        """
        from sklearn.cluster import KMeans

        some = _some(X, CLUSTERED).cpu().numpy()
        # Equal spectra differ by rounding after a rotation; their mean squared length is 1.
        C = min(atoms + centred, len(np.unique(some.round(9), axis=0)))
        centres = np.zeros((1, 0))
        if some.shape[1]:
            found = KMeans(C, n_init=1, max_iter=30, random_state=seed).fit(some)
            largest = np.bincount(found.labels_, minlength=C).argmax()
            centres = np.concatenate(
                [found.cluster_centers_[[largest]], np.delete(found.cluster_centers_, largest, axis=0)]
            )
        on_device = torch.from_numpy(np.ascontiguousarray(centres, np.float64)).to(X.device)
        return cls(on_device, int(centred and C > 1))

    @property
    def atoms(self) -> int:
        """Of the dictionary."""
        return len(self.centres) - self.bare

    def labels(self, X: Tensor) -> Tensor:
        """(M, atoms): 1 at the nearest centre if that has an atom, else 0."""
        nearest = ((self.centres * self.centres).sum(1) - 2 * X @ self.centres.T).argmin(1)
        return nn.functional.one_hot(nearest, len(self.centres))[:, self.bare :].to(X.dtype)


def _some(X: Tensor, most: int) -> Tensor:
    """At most ``most`` of the pixels X (M, B), see :func:`some_of`."""
    return X[torch.from_numpy(some_of(len(X), most)).to(X.device)]
