"""E-FDPC: bands that are peaks of density among the bands, and far from denser ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsunfold.ranking import Ranking, by_score, check_most
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

QUANTILE = 0.02
"""Of all distances: the cut-off distance at the start, the 1 to 2 % of Rodriguez and Laio."""


@register(
    "e-fdpc",
    task="select-features",
    kind="classical",
    paper="Jia, Tang, Zhu and Li, A novel ranking-based clustering approach for hyperspectral band selection, IEEE "
    "TGRS 54(1), 2016",
    url="https://doi.org/10.1109/TGRS.2015.2450759",
    bands=(2, None),
    needs="bands in the same unit; uses only their means and covariance",
    nested=False,
)
class EFDPC:
    """score_i = rho_i delta_i^2, both scaled from 0 to 1 over the bands, for k bands of d.

    D_ij = sqrt(E (x_i - x_j)^2), which mean and covariance give; d_c = the QUANTILE of D, divided by exp(k / d);
    rho_i = sum_j!=i exp(-(D_ij / d_c)^2); delta_i = min over bands j denser than i of D_ij, for the densest one the
    largest D_ij. Of bands of equal density the lower index counts as denser, so that of duplicates one is kept and
    the others have delta 0.
    """

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features, the scores for ``most``."""
        d = len(scene.mean)
        check_most(most, d)
        C, m = scene.covariance, scene.mean
        v = np.diagonal(C)
        D = np.sqrt(np.maximum(v[:, None] + v - 2 * C + (m[:, None] - m) ** 2, 0))
        # The root of rounding is no distance.
        rounding = 1e-7 * float(np.sqrt(v + m**2).max())
        D[~(rounding < D)] = 0
        pairs = D[np.triu_indices(d, 1)]
        cut = float(np.quantile(pairs, QUANTILE) or pairs[pairs > 0].min(initial=np.inf)) / np.exp(most / d)
        near = np.exp(-((D / cut) ** 2))
        rho = near.sum(axis=1) - 1
        rank = np.lexsort((np.arange(d), -np.round(rho, 9)))
        delta = np.empty(d)
        delta[rank[0]] = D[rank[0]].max()
        for place, i in enumerate(rank[1:], start=1):
            delta[i] = D[i, rank[:place]].min()
        scores = _unit(rho) * _unit(delta) ** 2
        return Ranking(by_score(scores, spacing), scores, {"cut_off": float(cut) if np.isfinite(cut) else None})


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1; 1 everywhere where all are equal."""
    low, span = float(x.min()), float(np.ptp(x))
    return np.asarray((x - low) / span if span > 0 else np.ones_like(x))
