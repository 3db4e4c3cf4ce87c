"""Features on a line, such as bands by wavelength, of which those chosen are to lie apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask, Real

Indices = NDArray[np.intp]

ROUNDING = 1e-9
"""Tenths of nanometres are no binary numbers: what is just the gap apart must not fall short of it."""


@dataclass(frozen=True)
class Spacing:
    """The smallest ``gap`` between any two of the features that are chosen, in the unit of their places (d,), which may
    come in any order, and of how many features, ``wanted``, no choice of the first ones may take away the room."""

    places: Real
    gap: float
    wanted: int = 0

    @cached_property
    def near(self) -> Mask:
        """bool (d, d): True where two features cannot be chosen both; and on the diagonal."""
        near = np.abs(self.places[:, None] - self.places) < self.gap - ROUNDING
        return np.asarray(near | np.eye(len(near), dtype=bool))

    @cached_property
    def _line(self) -> tuple[Indices, Indices, Indices]:
        """(features from the smallest place up, and where, in that order, what is near each begins and ends)."""
        order = np.argsort(self.places, kind="stable")
        near = self.near[np.ix_(order, order)]
        begin = near.argmax(axis=1)
        return order, begin, begin + near.sum(axis=1)

    def arranged(self, order: Indices) -> Spacing:
        """That of the features in another order (d,)."""
        return replace(self, places=self.places[order])

    @property
    def most(self) -> int:
        """The largest number of features of which no two are too near."""
        return len(self._swept(np.ones(len(self.places), dtype=bool))[0])

    def open(self, free: Mask, taken: int) -> Mask:
        """bool (d,): those of the features ``free`` (d,) that, taken after ``taken`` others, leave room among the free
        for as many more as are wanted.

        What is not open once is not open later either, until something near it is taken.
        """
        rest = self.wanted - taken - 1
        if rest <= 0:
            return free
        order, begin, end = self._line
        upward, downward = self._swept(free)
        room = np.searchsorted(upward, begin) + len(downward) - np.searchsorted(downward, end)
        fits = np.empty(len(free), dtype=bool)
        fits[order] = room >= rest
        return np.asarray(free & fits)

    def _swept(self, free: Mask) -> tuple[Indices, Indices]:
        """Places in the line, rising, of what a sweep upward takes of the features that are ``free``, and one downward.

        None has more of them in front of any place of the line than the first, or behind it than the second.
        """
        order, begin, end = self._line
        at = np.flatnonzero(free[order])
        upward: list[int] = []
        downward: list[int] = []
        i = 0
        while i < len(at):
            upward.append(int(at[i]))
            i = int(np.searchsorted(at, end[at[i]]))
        i = len(at) - 1
        while i >= 0:
            downward.append(int(at[i]))
            i = int(np.searchsorted(at, begin[at[i]])) - 1
        return np.array(upward, np.intp), np.array(downward[::-1], np.intp)
