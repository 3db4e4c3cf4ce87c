"""A model made ready to rank features, and how many of the ranked ones are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Real
from rsunfold.contracts import Selector
from rsunfold.errors import UsageError
from rsunfold.infer.device import Budgeted, held, parse_memory
from rsunfold.ranking import Ranking
from rsunfold.registry import DEFAULTS, as_registered, chosen_model
from rsunfold.scene import Scene
from rsunfold.spacing import Spacing

if TYPE_CHECKING:
    from rsunfold.infer.features.earlier import EarlierChoice

RANKED_WHOLE = 512
"""Up to so many features all are ranked; of more, only as many as are asked for: the time grows with the cube."""
FIRST_GUESS = 32
"""Features ranked first where a share of the variance is asked for; twice as many until they reach it."""
TRIED = 64
"""Numbers of features that are tried one by one, where the choice depends on the number that is asked for."""
SHORT = 1e-9
"""What a share of the variance may fall short by through rounding."""


@dataclass(frozen=True)
class Wanted:
    """Which features are asked for: ``count`` of them, or the fewest whose projection explains ``variance``, a share in
    (0, 1], or those of an earlier choice, ``like``; one of the three. min_gap : nm that chosen bands lie apart at
    least, or None.

    Raises UsageError for anything else.
    """

    count: int | None = None
    variance: float | None = None
    min_gap: float | None = None
    like: EarlierChoice | None = None

    def __post_init__(self) -> None:
        if [self.count, self.variance, self.like].count(None) != 2:
            raise UsageError(
                "use one of -k, the number to choose, --variance, the share of the variance to explain, and --like, "
                "the report of an earlier choice."
            )
        if self.like is not None and self.min_gap is not None:
            raise UsageError("--min-gap cannot be combined with --like, which applies an earlier choice as it is.")
        if self.count is not None and not (isinstance(self.count, Integral) and self.count >= 1):
            raise UsageError(f"-k must be a whole number of at least 1, not {self.count}.")
        if self.variance is not None and not 0 < self.variance <= 1:
            raise UsageError(f"--variance must be a share above 0 and at most 1, such as 0.999, not {self.variance:g}.")
        if self.min_gap is not None and not 0 < self.min_gap < np.inf:
            raise UsageError(f"--min-gap must be above 0 nm, not {self.min_gap:g}.")


@dataclass(frozen=True)
class Selection:
    """Ranked features, of which the first ``count`` are chosen.

    explained float64 (m,) : share of the total variance that the projection on the features up to each rank explains.
    correlation float64 (m,) : largest absolute correlation of each with those before it; NaN for the first. m is the
    number of ranked features.
    """

    ranking: Ranking
    count: int
    explained: Real
    correlation: Real

    @property
    def chosen(self) -> NDArray[np.intp]:
        """Zero-based indices, best first."""
        return self.ranking.order[: self.count]


class FeatureRanker(Budgeted):
    """A model and its options, ready to rank features.

    model : registry name of a ``select-features`` model, which options may follow, as in ``spca-net:rank=5:published``.
    options : keyword arguments of the model besides; None values are left out. name : ``model`` as given. seed : of all
    random choices. memory : the budget for the whole process, bytes or ``2GB``; None is half of what is free.

    Raises UsageError when the model or an option is not known.
    """

    def __init__(
        self,
        model: str = DEFAULTS["select-features"],
        *,
        options: dict[str, Any] | None = None,
        seed: int = 0,
        memory: str | int | None = None,
    ) -> None:
        self.name = as_registered(model)
        self.spec, self.options = chosen_model(model, "select-features", options)
        if not 0 <= seed < 2**32:
            raise UsageError(f"the seed must lie between 0 and {2**32 - 1}, not {seed}.")
        self.method: Selector = self.spec.build(**self.options)
        self.seed, self.memory = seed, parse_memory(memory)
        self.held = held()

    def describe(self) -> dict[str, Any]:
        """Model, options and seed, for the JSON report."""
        spec = self.spec
        options = spec.with_defaults(self.options)
        return {"task": spec.task, "model": spec.name, "paper": spec.paper, "options": options, "seed": self.seed}

    def rank(self, scene: Scene, most: int, spacing: Spacing | None = None) -> Ranking:
        """See :meth:`rsunfold.contracts.Selector.rank`; a single feature is ranked without the model, and to one that
        looks at neighbours bands are given by wavelength."""
        if len(scene.mean) == 1:
            return Ranking(np.zeros(1, np.intp), np.full(1, np.nan), {})
        if not self.spec.ordered or scene.wavelengths is None or (np.diff(scene.wavelengths) >= 0).all():
            return self.method.rank(scene, most, spacing)
        order = np.argsort(scene.wavelengths, kind="stable")
        arranged = None if spacing is None else spacing.arranged(order)
        ranking = self.method.rank(scene.arranged(order), most, arranged)
        return replace(ranking, order=order[ranking.order], scores=ranking.scores[np.argsort(order)])

    def select(self, scene: Scene, wanted: Wanted, spacing: Spacing | None = None, noun: str = "feature") -> Selection:
        """The features of ``scene`` that are wanted; spacing : see :meth:`rsunfold.contracts.Selector.rank`.

        Raises UsageError when there are fewer than asked for, or all together explain less.
        """
        d = len(scene.mean)
        if wanted.count is not None and wanted.count > d:
            raise UsageError(f"-k {wanted.count} is more than the {d} usable {noun}s; ask for fewer.")
        gap = f" at least {wanted.min_gap:g} nm apart" if wanted.min_gap else ""
        if wanted.count is not None and spacing is not None and wanted.count > spacing.most:
            raise UsageError(
                f"-k {wanted.count} is more than the {spacing.most} {noun}s of the {d} usable ones that can be{gap}; "
                "ask for fewer, or for a smaller gap."
            )
        if wanted.count is not None:
            count, ranking = wanted.count, self.rank(scene, wanted.count, spacing)
        else:
            count, ranking = self._reaching(scene, wanted, spacing, f"{noun}s", gap)
        if len(ranking.order) < d <= RANKED_WHOLE:
            # What comes after the chosen ones, where the method would have chosen these first anyway.
            whole = self.rank(scene, d, spacing)
            if np.array_equal(whole.order[:count], ranking.order[:count]):
                ranking = replace(whole, about=ranking.about, notes=ranking.notes)
        explained = explained_variance(scene.covariance, ranking.order)
        return Selection(ranking, count, explained, largest_correlation(scene.covariance, ranking.order))

    @staticmethod
    def taken(scene: Scene, order: NDArray[np.intp]) -> Selection:
        """The features ``order`` of ``scene``, best first, which an earlier choice has ranked."""
        ranking = Ranking(order, np.full(len(scene.mean), np.nan), {})
        explained = explained_variance(scene.covariance, order)
        return Selection(ranking, len(order), explained, largest_correlation(scene.covariance, order))

    def _reaching(
        self, scene: Scene, wanted: Wanted, spacing: Spacing | None, nouns: str, gap: str
    ) -> tuple[int, Ranking]:
        """(fewest features that explain the share that is wanted, the ranking that they are the first of).

        The ranking is the one for as many, or for the next larger number whose ranking reaches the share at all.
        """
        d, share = len(scene.mean), float(wanted.variance or 0)

        def ranked(most: int, spacing: Spacing | None = spacing) -> tuple[Ranking, Real]:
            ranking = self.rank(scene, most, spacing)
            return ranking, explained_variance(scene.covariance, ranking.order[:most])

        most = d if d <= RANKED_WHOLE else FIRST_GUESS
        ranking, explained = ranked(most)
        while explained[-1] < share - SHORT:
            if most == d or len(ranking.order) < most:
                if spacing is not None:  # more may find room where it is kept for them
                    for most in range(len(explained) + 1, spacing.most + 1):
                        ranking, explained = ranked(most, replace(spacing, wanted=most))
                        if explained[-1] >= share - SHORT:
                            return _first(explained, share), ranking
                raise UsageError(
                    f"--variance {share:g} cannot be reached: the {len(explained)} {nouns} that {self.spec.name} "
                    f"ranks{gap} explain only {explained[-1]:.6f}; ask for less."
                )
            most = min(d, 2 * most)
            ranking, explained = ranked(most)
        count = _first(explained, share)
        # No features explain more than as many principal components do.
        held = np.cumsum(np.linalg.eigvalsh(scene.covariance)[::-1]) / np.trace(scene.covariance)
        least = min(count, int(np.count_nonzero(held < share - 2 * SHORT)) + 1)
        if all(np.array_equal(ranked(k)[0].order[:k], ranking.order[:k]) for k in {least, count}):
            return count, ranking
        # The choice depends on how many are asked for, and more need not explain more: numbers are tried one by one,
        # and of very many those that halving leaves.
        low, high = least - 1, len(explained)
        while high - low > 1:
            middle = low + 1 if low + 1 < least + TRIED else (low + high) // 2
            small, reached = ranked(middle)
            if reached[-1] < share - SHORT:
                low = middle
                continue
            high, count, ranking = middle, _first(reached, share), small
            if middle < least + TRIED:
                break
        return count, ranking


def _first(explained: Real, share: float) -> int:
    """The number of features that ``explained``, which reaches ``share``, first does so with."""
    return int(np.argmax(explained >= share - SHORT)) + 1


def explained_variance(covariance: Real, order: Sequence[int] | NDArray[np.intp]) -> Real:
    """(m,): share of the trace of ``covariance`` (d, d) that the projection on the first 1 to m of ``order`` explains.

    By Cholesky's decomposition in that order, C = L L' + rest: the column j of L holds what feature j tells about all
    features beyond those before it.
    """
    d, m = len(covariance), len(order)
    columns = np.zeros((d, m))
    gains = np.zeros(m)
    tiny = 8 * d * np.finfo(np.float64).eps
    for k, j in enumerate(order):
        column = covariance[:, j] - columns[:, :k] @ columns[j, :k]
        if column[j] > tiny * covariance[j, j]:
            columns[:, k] = column / np.sqrt(column[j])
            gains[k] = columns[:, k] @ columns[:, k]
    total = float(np.trace(covariance))
    return np.asarray(np.minimum(np.cumsum(gains) / total, 1.0))


def correlations(covariance: Real) -> Real:
    """(d, d); 0 for features without variance, 1 on the diagonal."""
    s = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    inverse = np.divide(1, s, out=np.zeros_like(s), where=s > 0)
    found = covariance * inverse[:, None] * inverse
    np.fill_diagonal(found, 1)
    return np.asarray(np.clip(found, -1, 1))


def largest_correlation(covariance: Real, order: Sequence[int] | NDArray[np.intp]) -> Real:
    """(m,): largest absolute correlation of each of ``order`` with those before it; NaN for the first."""
    places = np.asarray(order, np.intp)
    ordered = np.abs(correlations(covariance[np.ix_(places, places)]))
    found = np.full(len(order), np.nan)
    for k in range(1, len(order)):
        found[k] = ordered[k, :k].max()
    return found


def outside(
    wavelengths: Sequence[float], drop: Sequence[tuple[float, float]], keep: Sequence[tuple[float, float]]
) -> dict[int, str]:
    """Reason by zero-based band for each whose wavelength (nm) is in a range to drop, or in none of those to keep."""
    reasons = {}
    for i, w in enumerate(wavelengths):
        hit = next((f"{low:g}-{high:g}" for low, high in drop if low <= w <= high), None)
        if hit is not None:
            reasons[i] = f"in the range {hit} nm to drop"
        elif keep and not any(low <= w <= high for low, high in keep):
            reasons[i] = "in none of the ranges to keep"
    return reasons
