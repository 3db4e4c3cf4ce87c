"""Random choice: what any selector has to beat."""

from __future__ import annotations

import numpy as np

from rsunfold.ranking import Ranking, check_most, spaced
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing


@register(
    "random",
    task="select-features",
    kind="classical",
    paper="Li et al., Feature selection: a data perspective, ACM Computing Surveys 50(6), 2017",
    url="https://doi.org/10.1145/3136625",
    bands=(2, None),
    needs="nothing; draws features at random from the seed",
    drawn=True,
    blind=True,
)
class RandomChoice:
    """A permutation of the features from the seed of the scene, the same for every number wanted; without scores."""

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        d = len(scene.mean)
        check_most(most, d)
        order = np.random.default_rng(scene.seed).permutation(d).astype(np.intp)
        return Ranking(spaced(order, spacing), np.full(d, np.nan), {"seed": scene.seed})
