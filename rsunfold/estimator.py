"""Unsupervised feature selection as a scikit-learn estimator, for pipelines."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from rsunfold.registry import DEFAULTS


class FeatureSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Chooses the features that keep the information of X, without looking at labels.

    n_features : how many to choose; None chooses the fewest whose projection explains ``variance``, a share of the
    total variance in (0, 1]. model : registry name, see ``rsunfold models --task select-features``. options : keyword
    arguments of the model. random_state : seed of what a model draws at random; None is 0. memory : budget for the
    process, as ``--memory``.

    Attributes after :meth:`fit` on X (samples, features), which must be finite and below 1e30; constant features are
    never chosen. order_ : zero-based indices of the ranked features, best first. ranking_ int (features,) : the rank of
    each, 1 for the best; the same number beyond the last for those that are not ranked. scores_ float64 (features,) :
    of the model, larger is better, NaN where it gives none. explained_variance_ : share of the variance that the first
    1, 2, ... of ``order_`` explain. n_features_in_, feature_names_in_ : as in scikit-learn.
    """

    def __init__(
        self,
        n_features: int | None = None,
        *,
        variance: float = 0.99,
        model: str = DEFAULTS["select-features"],
        options: dict[str, Any] | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        memory: str | int | None = None,
    ) -> None:
        self.n_features = n_features
        self.variance = variance
        self.model = model
        self.options = options
        self.random_state = random_state
        self.memory = memory

    def fit(self, X: Any, y: Any = None) -> Self:
        """Rank the features of X (samples, features); y is ignored.

        Raises ValueError (:mod:`rsunfold.errors`) for fewer than two samples, values that are masked, not finite or, as
        -9999, stand for no data, nothing but constant features, and more features asked for than there are.
        """
        from rsunfold.arguments import arguments_named
        from rsunfold.errors import InputError
        from rsunfold.infer.results import environment

        if np.ma.is_masked(X):
            raise InputError("X has masked values; fill them or remove these samples.")
        data = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        with environment(), arguments_named(k="n_features"):
            self._check()
            self._choose(data)
        return self

    def _check(self) -> None:
        """Raise UsageError for parameters of another type than the class says."""
        from numbers import Integral, Real

        from rsunfold.errors import UsageError

        generators = (np.random.RandomState, np.random.Generator)
        for name, kinds, words in (
            ("n_features", Integral, "a whole number of at least 1, or None"),
            ("variance", Real, "a number"),
            ("model", str, "text"),
            ("options", dict, "a dictionary or None"),
            ("random_state", (Integral, *generators), "a whole number, a generator of NumPy or None"),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, kinds) or (value is None and "None" in words)):
                raise UsageError(f"{name} must be {words}, not {value!r}.")

    def _choose(self, data: NDArray[np.float64]) -> None:
        from rsunfold.cube import measured
        from rsunfold.errors import InputError, UsageError
        from rsunfold.infer.features.select import FeatureRanker, Wanted
        from rsunfold.infer.features.source import no_data_marks, refuse_large, table_scene

        wanted = Wanted(count=self.n_features, variance=None if self.n_features is not None else self.variance)
        if self.n_features is not None and self.n_features > data.shape[1]:
            raise UsageError(f"n_features={self.n_features} is more than the {data.shape[1]} features of X.")
        if not measured(data).all():
            raise InputError("X has values of 1e30 or more, which mean that there is no number; remove these samples.")
        inside = np.flatnonzero(data.max(axis=0) > data.min(axis=0))
        if not inside.size:
            raise InputError("every feature of X is constant; there is nothing to choose from.")
        names = getattr(self, "feature_names_in_", None)
        no_data_marks("X", data, inside, lambda i: f"feature {i + 1}" if names is None else str(names[i]))
        ranker = FeatureRanker(self.model, options=self.options, seed=self._seed(), memory=self.memory)
        refuse_large(data, ranker.room)
        chosen = ranker.select(table_scene(data, inside, ranker.seed), wanted)
        self.order_: NDArray[np.intp] = inside[chosen.ranking.order]
        self.ranking_ = np.full(data.shape[1], len(self.order_) + 1)
        self.ranking_[self.order_] = np.arange(1, len(self.order_) + 1)
        self.scores_ = np.full(data.shape[1], np.nan)
        self.scores_[inside] = chosen.ranking.scores
        self.explained_variance_ = chosen.explained
        self._support = np.zeros(data.shape[1], bool)
        self._support[self.order_[: chosen.count]] = True

    def _seed(self) -> int:
        """``random_state``: a seed, 0 for None, or a generator, of which a number is drawn."""
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31))
        if isinstance(self.random_state, np.random.Generator):
            return int(self.random_state.integers(2**31))
        return int(self.random_state or 0)

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "order_")
        return self._support
