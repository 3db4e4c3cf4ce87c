"""Maximum variance: the features that vary most."""

from __future__ import annotations

from rsunfold.ranking import Ranking, by_score, check_most, deviations
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing


@register(
    "variance",
    task="select-features",
    kind="classical",
    paper="Bishop, Neural Networks for Pattern Recognition, Oxford University Press, 1995, the baseline of He, Cai and "
    "Niyogi, Laplacian score for feature selection, NIPS 18, 2005",
    url="https://proceedings.neurips.cc/paper/2005/hash/b5b03f06271f8917685d14cea7c6c50a-Abstract.html",
    bands=(2, None),
    needs="features in the same unit; favours those with the largest values",
)
class MaxVariance:
    """score_i = C_ii, the variance of feature i; 0 for a constant one."""

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        check_most(most, len(scene.mean))
        scores = deviations(scene) ** 2
        return Ranking(by_score(scores, spacing), scores, {})
