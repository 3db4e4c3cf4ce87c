"""How many features find room with a smallest gap between them, against all choices there are."""

import itertools

import numpy as np
import pytest

from rsunfold.spacing import Spacing


def most_of(places, gap):
    """The largest number of ``places`` of which no two are nearer than ``gap``."""
    sizes = range(len(places), 0, -1)
    fit = (
        size
        for size in sizes
        for some in itertools.combinations(np.sort(places), size)
        if (np.diff(some) >= gap - 1e-9).all()
    )
    return next(fit, 0)


def test_what_is_just_the_gap_apart_is_not_near():
    """0.1 is no binary number: 400.1 and 420.1 are 20 nm apart, whatever their difference."""
    spacing = Spacing(np.arange(400, 520, 10) + 0.1, 20)
    assert not spacing.near[0, 2] and spacing.near[0, 1] and spacing.near[0, 0]
    assert spacing.most == 6
    assert Spacing(np.array([3.0, 3.0, 3.0]), 1e-12).most == 3


@pytest.mark.parametrize("seed", range(6))
def test_open_is_what_leaves_room_for_as_many_as_are_wanted(seed):
    """Places in any order, several the same; some of them taken already."""
    rng = np.random.default_rng(seed)
    places, gap = rng.integers(0, 14, 9) / 10, 0.3
    free = rng.random(9) < 0.8
    most = most_of(places[free], gap)
    assert Spacing(places, gap).most == most_of(places, gap)
    for wanted in range(most + 3):
        found = Spacing(places, gap, wanted + 2).open(free, 2)
        after = [most_of(places[free & (np.abs(places - p) >= gap - 1e-9)], gap) for p in places]
        np.testing.assert_array_equal(found, free & (np.array(after) >= wanted - 1))
