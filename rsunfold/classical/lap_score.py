"""Laplacian score: the features that keep neighbouring samples together; and the graph of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsunfold.arrays import Real
from rsunfold.errors import UsageError
from rsunfold.ranking import Ranking, by_score, check_most, deviations, feature_samples
from rsunfold.registry import register
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

LANDMARKS = 2000
"""Most samples, evenly spread, that a graph of neighbours is made of: its cost grows with their square."""
NEIGHBOURS = 5


def check_neighbours(neighbours: int, name: str) -> None:
    """Raises UsageError for less than one."""
    if neighbours < 1:
        raise UsageError(f"{name} needs at least one neighbour, not {neighbours}.")


def neighbour_graph(x: Real, neighbours: int) -> Any:
    """W, sparse (n, n), symmetric: exp(-|x_a - x_b|^2 / t) where a is among the ``neighbours`` nearest of b or b of a.

    x (d, n) : samples in columns. t : the mean of these squared distances. The diagonal is 0; where there are fewer
    samples, all others are neighbours.
    """
    from scipy.sparse import csr_array
    from sklearn.neighbors import NearestNeighbors

    n = x.shape[1]
    count = min(neighbours, n - 1)
    if count < 1:
        return csr_array((n, n), dtype=np.float64)
    distances, index = NearestNeighbors(n_neighbors=count).fit(x.T).kneighbors()
    squares = distances**2
    t = float(squares.mean()) or 1.0
    rows = np.repeat(np.arange(n), count)
    W = csr_array((np.exp(-squares.ravel() / t), (rows, index.ravel())), shape=(n, n))
    return W.maximum(W.T)


@register(
    "lapscore",
    task="select-features",
    kind="classical",
    paper="He, Cai and Niyogi, Laplacian score for feature selection, NIPS 18, 2005",
    url="https://proceedings.neurips.cc/paper/2005/hash/b5b03f06271f8917685d14cea7c6c50a-Abstract.html",
    bands=(2, None),
    needs="samples that form neighbourhoods; uses at most 2000 of them",
)
class LapScore:
    """L_r = f' L f / f' D f for every feature, f its values less their mean by D; score_r = 1 - L_r, from -1 to 1.

    W the graph of the nearest neighbours with heat-kernel weights (:func:`neighbour_graph`), D its degrees, L = D - W.
    L_r lies in [0, 2]; small where neighbours have like values. Constant features score NaN.

    The graph is that of LANDMARKS samples at most, evenly spread over the scene's sample: no matrix of all pixels is
    ever made. neighbours : of the graph, 5 in the paper's experiments.
    """

    def __init__(self, *, neighbours: int = NEIGHBOURS) -> None:
        check_neighbours(neighbours, "lapscore")
        self.neighbours = neighbours

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :class:`rsunfold.contracts.Selector`; all features."""
        check_most(most, len(scene.mean))
        x = feature_samples(scene, LANDMARKS)
        W = neighbour_graph(x, self.neighbours)
        D = np.asarray(W.sum(axis=1)).ravel()
        f = x - (x @ D / D.sum() if D.any() else x.mean(axis=1))[:, None]
        whole = (f * f) @ D
        near = np.einsum("ij,ij->i", f, (W @ f.T).T)
        known = (deviations(scene) > 0) & (whole > 0)
        scores = np.where(known, near / np.where(known, whole, 1), np.nan)
        return Ranking(by_score(scores, spacing), scores, {"landmarks": x.shape[1], "neighbours": self.neighbours})
