"""ONR: the bands between which all others are best interpolated, found exactly by dynamic programming."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Real
from rsunfold.ranking import Ranking, check_most, greedy_columns, spaced, standardised
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing


@register(
    "onr",
    task="select-features",
    kind="classical",
    paper="Wang, Zhang and Li, Hyperspectral band selection via optimal neighborhood reconstruction, IEEE TGRS 58(12), "
    "2020",
    url="https://doi.org/10.1109/TGRS.2020.2987955",
    bands=(2, None),
    needs="bands in order of wavelength, which they get where it is known; uses only their covariance",
    nested=False,
    ordered=True,
)
class ONR:
    """min over S, |S| = k of sum over b not in S of min_{u, v} E (x_b - u x_l - v x_r)^2, exactly.

    l and r are the chosen bands next to b on either side; b beyond the first or the last of S has that one alone. The
    sum splits at every chosen band, so dynamic programming over the last chosen band finds the minimum for every
    number of bands at once, in d^2 (d + k) steps.

    Bands are centred, which the constant of the interpolation amounts to. The paper's noise reducer, a threshold on
    the bands looked at, is left out: bad bands are left out before. S has no order; it comes in that of a greedy column
    subset selection among S. With a smallest gap no two neighbours in S are nearer, and where no S of
    k bands is possible, it is the largest that is. Without scores.
    """

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; ``most`` features, another choice for every ``most``."""
        d = len(scene.mean)
        check_most(most, d)
        C = standardised(scene, 0.0)
        chosen, error = optimal_neighbours(C, most, spacing)
        order = chosen[greedy_columns(C[np.ix_(chosen, chosen)], len(chosen))[0]]
        total = float(np.trace(C))
        about = {"unexplained": error / total if total > 0 else 0.0}
        return Ranking(spaced(order, spacing), np.full(d, np.nan), about)


def optimal_neighbours(C: Real, k: int, spacing: Spacing | None = None) -> tuple[NDArray[np.intp], float]:
    """(indices rising, summed error) of the best k bands for the covariance C (d, d); see :class:`ONR`."""
    between, before, after = _costs(C)
    if spacing is not None:
        between = np.where(spacing.near, np.inf, between)
    best = [before]
    came: list[NDArray[np.intp]] = []
    for _ in range(k - 1):
        paths = best[-1][:, None] + between
        came.append(paths.argmin(axis=0).astype(np.intp))
        best.append(paths.min(axis=0))
    count = k
    while not np.isfinite(best[count - 1]).any():
        count -= 1
    ends = best[count - 1] + after
    chosen = [int(ends.argmin())]
    for step in range(count - 2, -1, -1):
        chosen.append(int(came[step][chosen[-1]]))
    return np.array(chosen[::-1], dtype=np.intp), float(ends.min())


def _costs(C: Real) -> tuple[Real, Real, Real]:
    """Errors between (d, d) of the bands between two chosen neighbours i < j (infinite for i >= j), before (d,) of
    those in front of the first chosen band, after (d,) of those behind the last."""
    d = len(C)
    v = np.diagonal(C)
    safe = np.where(v > 0, v, 1)
    # What is left of b after i alone: error[i, b].
    alone = np.maximum(v - C * C / safe[:, None], 0)
    before = np.array([alone[i, :i].sum() for i in range(d)])
    after = np.array([alone[i, i + 1 :].sum() for i in range(d)])
    between = np.full((d, d), np.inf)
    for i in range(d - 1):
        # j adds what it says about b beyond i: the squared partial covariance over what i leaves of j.
        rest = C[i + 1 :, i + 1 :] - np.outer(C[i, i + 1 :], C[i, i + 1 :]) / safe[i]
        left = np.diagonal(rest)
        known = left > 1e-12 * v[i + 1 :]
        part = np.where(known[:, None], rest**2 / np.where(known, left, 1)[:, None], 0)
        error = np.maximum(alone[i, i + 1 :] - part, 0)
        between[i, i + 1 :] = np.tril(error, -1).sum(axis=1)
    return between, before, after
