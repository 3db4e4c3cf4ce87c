"""Uniform choice: features at equal steps of the index, the baseline of band selection."""

from __future__ import annotations

import numpy as np

from rsunfold.ranking import Ranking, check_most, spaced
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing


@register(
    "uniform",
    task="select-features",
    kind="classical",
    paper="Keshava, Distance metrics and band selection in hyperspectral processing with applications to material "
    "identification and spectral libraries, IEEE TGRS 42(7), 2004, where it is the baseline",
    url="https://doi.org/10.1109/TGRS.2004.830549",
    bands=(2, None),
    needs="features in a meaningful order, such as by wavelength, which bands get where it is known",
    nested=False,
    ordered=True,
    blind=True,
)
class Uniform:
    """The k features floor((i + 1/2) d / k), i = 0 .. k - 1, in rising order; without scores, whatever the data.

    With a smallest gap others, as few steps from one of these as possible, replace those that lie too near.
    """

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; ``most`` features, another choice for every ``most``."""
        d = len(scene.mean)
        check_most(most, d)
        order = ((2 * np.arange(most) + 1) * d) // (2 * most)
        if spacing is not None:
            away = np.abs(np.arange(d)[:, None] - order).min(axis=1)
            order = np.sort(spaced(np.argsort(away, kind="stable"), spacing)[:most])
        return Ranking(order.astype(np.intp), np.full(d, np.nan), {})
