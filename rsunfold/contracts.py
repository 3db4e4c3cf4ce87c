"""What the models of the four tasks are: what a class that registers itself must have, and may count on.

The base classes of unrolled networks are in :mod:`rsunfold.unfold.unrolled`. Nothing needs to inherit from what is
here; the tests of the registry hold every registered model against it.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.ranking import Ranking
from rsunfold.scene import Scene, Scorer
from rsunfold.spacing import Spacing
from rsunfold.subspace import Subspace

# ---------------------------------------------------------------------- detect-ir


@runtime_checkable
class TargetMethod(Protocol):
    """A classical method of the task ``detect-ir``."""

    @property
    def radius(self) -> int | None:
        """Pixels around a pixel that its score depends on; None for a method that looks at the whole image, which then
        is a :class:`PieceMethod`."""
        ...

    def score(self, image: Floats) -> Floats:
        """Score float32 (H, W), 0 or more, of ``image``, float32 (H, W) in about [0, 1] and finite, of any size."""
        ...


@runtime_checkable
class PieceMethod(TargetMethod, Protocol):
    """A method that looks at the whole image: large ones are cut into pieces, whose scores are blended."""

    @property
    def tile(self) -> int | None:
        """Pixels of the longest side that is computed at once; None for what fits in memory."""
        ...

    @property
    def overlap(self) -> int:
        """Pixels that pieces share."""
        ...

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory in bytes per pixel."""
        ...


# ---------------------------------------------------------------------- denoise-hsi


@runtime_checkable
class DenoisingMethod(Protocol):
    """A classical method of the task ``denoise-hsi``."""

    @property
    def radius(self) -> int | None:
        """Pixels around a pixel that its result depends on; None where that is the whole image, whose tiles are then an
        approximation."""
        ...

    @property
    def outliers(self) -> bool:
        """Whether it takes outliers away, so that they are not to count as noise."""
        ...

    def denoise(self, y: Floats, subspace: Subspace) -> Floats:
        """The signal in ``y``, float32 (bands, rows, cols), whitened and centred; same shape, type and units."""
        ...

    def bytes_per_pixel(self, bands: int, rank: int) -> float:
        """Working memory in bytes per pixel beside the input, with ``rank`` eigen-images."""
        ...


# ---------------------------------------------------------------------- detect-anomaly


class AnomalyModel(Protocol):
    """What every model of the task ``detect-anomaly`` says of itself."""

    @property
    def radius(self) -> int | None:
        """Pixels around a pixel that its score depends on, once the scene is known; None where the scene has to be in
        memory as a whole."""
        ...

    @property
    def takes_priors(self) -> bool:
        """Whether it was designed for spectra with priors: it has all of them unless the user names others."""
        ...

    def bytes_per_pixel(self, bands: int) -> float:
        """Working memory in bytes per pixel beside the input."""
        ...


@runtime_checkable
class AnomalyMethod(AnomalyModel, Protocol):
    """A classical method of the task ``detect-anomaly``."""

    def fit(self, scene: Scene) -> Scorer:
        """What scores the pixels of ``scene``, or of windows of it; deterministic for ``scene.seed``."""
        ...


@runtime_checkable
class Comparing(AnomalyModel, Protocol):
    """A model that may find too few pixels to compare one with, whose score is NaN then.

    Notes of its scorers tell of few pixels, and end in what to do.
    """

    @property
    def remedy(self) -> str:
        """What is lacking then, and what to do: the end of a sentence that tells of it."""
        ...


@runtime_checkable
class AnomalyNetwork(AnomalyModel, Protocol):
    """A network of the task ``detect-anomaly``, trained on the scene itself."""

    def fit(self, scene: Scene, device: str = "cpu") -> Scorer:
        """The same, computed on ``device``."""
        ...


class FittedStages(Protocol):
    """What a :class:`StagedNetwork` has learned in a scene."""

    def score(self, cube: Floats, valid: NDArray[np.bool_]) -> Floats:
        """See :data:`rsunfold.scene.Scorer`."""
        ...

    def stages(self, cube: Floats) -> list[dict[str, Floats]]:
        """Norms by letter, float32 (rows, cols), of every stage."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was learned, in types that ``json`` can write."""
        ...


@runtime_checkable
class StagedNetwork(AnomalyNetwork, Protocol):
    """A network whose stages can be looked at."""

    def learned(self, scene: Scene, device: str = "cpu") -> FittedStages:
        """What ``fit`` learns."""
        ...


# ---------------------------------------------------------------------- select-features


@runtime_checkable
class Selector(Protocol):
    """A model of the task ``select-features``."""

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """The ranking of the features of ``scene``, without labels; deterministic for ``scene.seed``.

        most : how many are wanted, 1 to d. A method that chooses one feature after the other stops there; one that
        scores every feature ranks them all. spacing : a smallest gap between features; the order then holds no two that
        are nearer, and may have fewer than ``most``, but has as many as are wanted where any choice has.
        """
        ...
