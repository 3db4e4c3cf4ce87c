"""SPCA-Net: features from sparse principal components, learned in each data set by unrolled ADMM, without labels."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rsunfold.arrays import Real
from rsunfold.errors import UsageError
from rsunfold.ranking import Ranking, by_score, check_most, greedy_columns, noise_scaled, standardised
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing
from rsunfold.unfold.proximal import group_soft_threshold, procrustes, soft_threshold
from rsunfold.unfold.unrolled import Keep, Unrolled, as_is, gradients

SHARE, COMPONENTS = 0.99, 30
"""Of the variance that the components explain, and the most components, unless their number is given."""
POWER = 0.75
"""How far features are standardised, from 0 for not at all to 1 for correlations."""
WEIGHT, ELEMENT_WEIGHT = 1e-3, 1e-4
"""lambda and mu of the loss, for a largest eigenvalue of 1. With 1e-2 and 1e-3 the components of the data sets looked
at explain 20 to 40 % less than as many principal components, with these 0.3 % less at most."""
NUMBERS = ("eta", "lam", "mu", "alpha", "beta")
START = {"eta": 0.8, "lam": WEIGHT, "mu": ELEMENT_WEIGHT, "alpha": 0.1, "beta": 0.1}
"""What every stage begins with; eta <= 1 / (alpha + beta + 1), with which the step of W never raises the Lagrangian."""
LEARNING_RATE = 0.1
"""Of what softplus is taken of."""
PUBLISHED_WEIGHT, PUBLISHED_RATE, PUBLISHED_EPOCHS = 1e-3, 1e-4, 100
"""lambda and mu at the start, learning rate and epochs of the published code."""


class State(NamedTuple):
    """The variables of the iteration, each (d, p): W, its copies Y (rows) and Z (elements), and the multipliers."""

    W: Tensor
    Y: Tensor
    Z: Tensor
    Lam: Tensor
    Pi: Tensor

    @classmethod
    def at(cls, W: Tensor) -> State:
        """All three equal to W, multipliers 0."""
        return cls(W, W, W, torch.zeros_like(W), torch.zeros_like(W))


class Stage(nn.Module):
    """One iteration of ADMM with its own eta, lambda, mu, alpha and beta, each a softplus of what is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.eta, self.lam, self.mu, self.alpha, self.beta = (
            nn.Parameter(torch.tensor(math.log(math.expm1(START[k])), dtype=torch.float64)) for k in NUMBERS
        )

    def numbers(self) -> dict[str, Tensor]:
        """eta, lambda, mu, alpha and beta themselves, above 0."""
        return {k: nn.functional.softplus(getattr(self, k)) for k in NUMBERS}

    def forward(self, S: Tensor, state: State) -> State:
        """The variables after the stage, for S (d, d)."""
        W, _, _, Lam, Pi = state
        n = self.numbers()
        Y = group_soft_threshold(W + Lam / n["alpha"], n["lam"] / n["alpha"])
        Z = soft_threshold(W + Pi / n["beta"], n["mu"] / n["beta"])
        Lam, Pi = Lam + n["alpha"] * (W - Y), Pi + n["beta"] * (W - Z)
        G = -(S @ W) + Lam + n["alpha"] * (W - Y) + Pi + n["beta"] * (W - Z)
        return State(procrustes(W - n["eta"] * G), Y, Z, Lam, Pi)


class PublishedStage(nn.Module):
    """The same as the published code has it: +S W, numbers free to become negative, a mixing (one number) of G."""

    def __init__(self) -> None:
        super().__init__()
        start = {"eta": 1.0, "lam": PUBLISHED_WEIGHT, "mu": PUBLISHED_WEIGHT, "alpha": 1.0, "beta": 1.0}
        self.eta, self.lam, self.mu, self.alpha, self.beta = (
            nn.Parameter(torch.tensor(start[k], dtype=torch.float64)) for k in NUMBERS
        )

    def numbers(self) -> dict[str, Tensor]:
        """eta, lambda, mu, alpha and beta themselves, of any sign."""
        return {k: getattr(self, k) for k in NUMBERS}

    def forward(self, S: Tensor, state: State) -> State:
        """The variables after the stage, for S (d, d), not normalised."""
        W, Y, Z, Lam, Pi = state
        n = self.numbers()
        G = S @ W + Lam + n["alpha"] * (W - Y) + Pi + n["beta"] * (W - Z)
        W = procrustes(W - n["eta"] * G)
        Y = group_soft_threshold(W + Lam / n["alpha"], n["lam"] / n["alpha"])
        Z = soft_threshold(W + Pi / n["beta"], n["mu"] / n["beta"])
        return State(W, Y, Z, Lam + n["alpha"] * (W - Y), Pi + n["beta"] * (W - Z))


class Unfolded(Unrolled):
    """The stages, one after the other; built by :class:`SPCANet` for each data set."""

    letters: ClassVar[tuple[str, ...]] = State._fields

    def __init__(self, stages: int, published: bool = False) -> None:
        super().__init__()
        self.arch = {"stages": stages, "published": published}
        self.stages = nn.ModuleList(PublishedStage() if published else Stage() for _ in range(stages))

    def forward(self, S: Tensor, W: Tensor, *, keep: Keep = as_is) -> tuple[State, None]:
        """(variables after the last stage, None) from W (d, p), W'W = I, for S (d, d)."""
        state = State.at(W)
        for k, stage in enumerate(self.stages):
            after = stage(S, state)
            state = State(*(keep(k, letter, v) for letter, v in zip(self.letters, after, strict=True)))
        return state, None

    def learned(self) -> list[dict[str, float]]:
        """The numbers of every stage."""
        return [{k: float(v.detach()) for k, v in s.numbers().items()} for s in self.stages]  # type: ignore[operator]


def problem(S: Tensor, W: Tensor, lam: Tensor | float, mu: Tensor | float) -> Tensor:
    """1/2 tr S - 1/2 tr W'SW + lam ||W||_{2,1} + mu ||W||_1, rows of W (d, p) the groups.

    The first two terms are 1/2 ||X - W W'X||_F^2 for S = X X' and W'W = I.
    """
    left: Tensor = (S.diagonal().sum() - (W * (S @ W)).sum()) / 2
    value: Tensor = left + lam * torch.linalg.vector_norm(W, dim=1).sum() + mu * W.abs().sum()
    return value


@register(
    "spca-net",
    task="select-features",
    kind="network",
    paper="Chen and Xiu, SPCA-Net: tuning-free structured sparse PCA by deep unfolding for unsupervised feature "
    "selection, Chinese Control Conference, 2025",
    bands=(2, None),
    needs="correlated features; uses only their covariance, no labels",
    per_scene=True,
    sizes={"tiny": {"stages": 3, "epochs": 3}},
)
class SPCANet:
    """min over W'W = I of 1/2 ||X - W W'X||_F^2 + lambda ||W||_{2,1} + mu ||W||_1, by K unrolled iterations of ADMM.

    X (d, n) has features in rows, centred; S = X X', scaled to a largest eigenvalue of 1; W (d, p); rows are the groups
    of the norm. With W = Y and W = Z, multipliers Lam and Pi and penalties alpha and beta, stage k is::

        Y <- row_shrink(W + Lam / alpha, lambda / alpha)                              GSoftNet
        Z <- soft(W + Pi / beta, mu / beta)                                           SoftNet
        Lam <- Lam + alpha (W - Y);  Pi <- Pi + beta (W - Z)                          Linear
        G = -S W + Lam + alpha (W - Y) + Pi + beta (W - Z)
        W <- U V',  U Sig V' = svd(W - eta G)                                         LargNet

    with its own eta, lambda, mu, alpha and beta, above 0 by a softplus and learned in the data set itself by
    ``epochs`` steps of Adam on the problem, the first line, with lambda and mu fixed there at WEIGHT and
    ELEMENT_WEIGHT. W begins with the p leading eigenvectors of S, and that of the epoch with the least loss counts.
    Nothing is drawn by chance.

    The ranking takes the features from which the learned components W'X, each scaled to unit variance, are predicted
    best: a greedy column subset selection with targets (:func:`rsunfold.ranking.greedy_columns`) on K, A = N^-1/2 W',
    N the diagonal of W'KW. scores_j : the share of the components' variance that feature j explained when it was
    taken. With ``norms`` the score is the row norm ||w^j|| in [0, 1], as in the paper, for all features.

    Deviations from the paper and its code, each with its reason:

    - -S W, and S / lambda_max: +S W descends to the minor components unless S is so large that the sign is lost, as
      in the code.
    - The loss is weighted by constants. Weighted by what is learned, as in the code, it is lowered by making lambda
      and mu negative.
    - Scalars in LargNet, in place of a dense (dp) x (dp) matrix a stage, 419 million weights for 1024 features, which
      is never near convergence and whose frozen random start decides what comes out.
    - A deterministic start; the code draws its W without a seed.
    - W comes last in a stage. It is the same iteration, as the first W step leaves eigenvectors where they are, and
      every number has a gradient: the last Y and Z would not reach the loss, nor the first eta.
    - K_ij = C_ij / (n_i n_j), C the covariance and n the noise of each band, takes the place of X X', where the noise
      is known (:attr:`rsunfold.scene.Scene.noise`): covariances rank by units and amplitudes, correlations raise the
      noise of features that hardly vary. Where it is not, K_ij = C_ij / (s_i s_j)^POWER with the deviations s.
    - Row norms pick features that say the same, neighbouring bands above all, and lose to random ones.

    stages : K. epochs : of the training; 0, the default, leaves every stage at its start. Training (30 epochs suffice)
    lowers the problem as far as some 100 stages without it, but the features that follow are no better for it: on
    COIL20, Isolet and UMIST they cluster worse in two of three. rank : p, at most d; None for SHARE of the variance, of
    components that explain no less than the average one, so that noise makes none, at most COMPONENTS. norms : rank by
    row norms. published : the published behaviour, for comparison: +S W with the uncentred X X', not scaled; numbers of
    any sign, which weight their own loss; a random start, here from the seed; of the dense matrix of each stage one
    number, as it would be too large; row norms, which the code saves from the smallest up, here from the largest down.

    Raises UsageError for less than one stage or component, or epochs below 0.
    """

    def __init__(
        self,
        *,
        rank: int | None = None,
        norms: bool = False,
        stages: int = 10,
        epochs: int = 0,
        published: bool = False,
    ) -> None:
        for name, value, least in (("rank", rank, 1), ("stages", stages, 1), ("epochs", epochs, 0)):
            if value is not None and value < least:
                raise UsageError(f"{name} of spca-net must be at least {least}, not {value}.")
        self.components, self.norms, self.published = rank, norms or published, published
        self.stages, self.epochs = stages, PUBLISHED_EPOCHS if published else epochs

    @property
    def parameters_count(self) -> int:
        """Learned numbers."""
        return self.stages * len(NUMBERS)

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; ``most`` features, or all with ``norms``."""
        d = len(scene.mean)
        check_most(most, d)
        K = standardised(scene, POWER) if scene.noise is None else noise_scaled(scene)
        if self.published:
            K = scene.count * (scene.covariance + np.outer(scene.mean, scene.mean))
        used = np.flatnonzero(np.diagonal(K) > 0)
        scores = np.full(d, 0.0 if self.norms else np.nan)
        if not used.size:
            return Ranking(by_score(np.zeros(d), spacing)[:most], np.zeros(d), {"components": 0})
        fitted = self.fit(K[np.ix_(used, used)], scene.seed)
        if not self.published:
            fitted.about["features_scaled_by"] = f"deviation^{POWER:g}" if scene.noise is None else "noise"
        W = np.zeros((d, fitted.W.shape[1]))
        W[used] = fitted.W
        if self.norms:
            scores[:] = np.linalg.norm(W, axis=1)
            return Ranking(by_score(scores, spacing), scores, fitted.about)
        variance = np.einsum("ij,ij->j", W, K @ W)
        known = variance > np.finfo(np.float64).eps * variance.max()
        targets = (W[:, known] / np.sqrt(variance[known])).T
        order, scores = greedy_columns(K, most, spacing, targets)
        return Ranking(order, scores, fitted.about)

    @gradients()
    def fit(self, K: Real, seed: int = 0) -> Fitted:
        """The network of K (d, d), positive semidefinite and not 0; the seed matters to ``published`` alone."""
        values, vectors = np.linalg.eigh(K)
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        explained = np.cumsum(values) / values.sum()
        p = self.components
        if p is None:
            enough = int(np.searchsorted(explained, SHARE)) + 1
            p = min(enough, COMPONENTS, int(np.count_nonzero(values >= values.mean() * (1 - 1e-9))))
        p = min(p, len(K))
        if self.published:
            start = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(K), p)))[0]
            S = torch.from_numpy(K)
        else:
            start, S = vectors[:, :p].copy(), torch.from_numpy(K / values[0])
        net = Unfolded(self.stages, self.published)
        best, losses, numbers = self._train(net, S, torch.from_numpy(start))
        W = best.numpy()
        about = {
            "components": p,
            "explained": float(np.trace(W.T @ K @ W) / values.sum()),
            "explained_by_principal": float(explained[p - 1]),
            "loss_before": losses[0],
            "loss_after": losses[-1] if self.published else min(losses),
            "stages": numbers,
        }
        return Fitted(W, losses, about)

    def _train(self, net: Unfolded, S: Tensor, start: Tensor) -> tuple[Tensor, list[float], list[dict[str, float]]]:
        """(W (d, p), losses by epoch, the first before any step, numbers of the stages that gave W)."""
        optimizer = None
        if self.epochs:  # made only where it is needed: torch takes seconds to import its optimisers
            optimizer = torch.optim.Adam(net.parameters(), PUBLISHED_RATE if self.published else LEARNING_RATE)
        W, numbers = start, net.learned()
        losses: list[float] = []
        for epoch in range(self.epochs + 1):
            state, _ = net(S, start)
            lam: Tensor | float = WEIGHT
            mu: Tensor | float = ELEMENT_WEIGHT
            if self.published:
                last = net.stages[-1].numbers()  # type: ignore[operator]
                lam, mu = last["lam"], last["mu"]
            loss = problem(S, state.W, lam, mu)
            losses.append(float(loss.detach()))
            if self.published or losses[-1] == min(losses):
                W, numbers = state.W.detach(), net.learned()
            if optimizer is not None and epoch < self.epochs:
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return W, losses, numbers


class Fitted(NamedTuple):
    """W (d, p) with W'W = I, the losses by epoch, and what :attr:`rsunfold.ranking.Ranking.about` says."""

    W: Real
    losses: list[float]
    about: dict[str, Any]
