"""Greedy column subset selection: the features from which all others are best predicted, without any learning."""

from __future__ import annotations

from rsunfold import ranking
from rsunfold.ranking import Ranking
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing


@register(
    "css",
    task="select-features",
    kind="classical",
    paper="Farahat, Ghodsi and Kamel, Efficient greedy feature selection for unsupervised learning, Knowledge and "
    "Information Systems 35(2), 2013",
    url="https://doi.org/10.1007/s10115-012-0538-1",
    bands=(2, None),
    needs="correlated features; uses only their covariance",
)
class ColumnSubset:
    """min over S, |S| = k of sum_i E (x_i - best linear prediction of x_i from x_j, j in S)^2, one j after the other.

    score_j = the share of the whole variance that j explained beyond those before it when it was taken, in [0, 1], NaN
    for features not taken; see :func:`rsunfold.ranking.greedy_columns`.

    standardised : every feature counts the same, K = the correlations, which is how features of different units are
    to be treated; False for K = the covariance, where features count by their variance.
    """

    def __init__(self, *, standardised: bool = True) -> None:
        self.standardised = standardised

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; ``most`` features."""
        K = ranking.standardised(scene, 1.0 if self.standardised else 0.0)
        order, gains = ranking.greedy_columns(K, most, spacing)
        return Ranking(order, gains, {"standardised": self.standardised})
