"""What is a target among the components of a score: candidates that are surer than their surroundings demand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsunfold.metrics.components import Components
from rsunfold.rule import Asked, Rule, log_odds, middles, sure


def holm(odds, centre, least, reach):
    """Step by step and pair by pair: the surest candidate that passes leaves the count of the others."""
    near = (np.abs(centre[:, None] - centre[None]) <= reach).all(axis=2)
    found = np.zeros(len(odds), bool)
    while True:
        margin = np.where(found, -np.inf, odds - least - np.log((near & ~found).sum(axis=1).clip(1)))
        if not len(margin) or margin.max() <= 0:
            return found
        found[np.argmax(margin)] = True


candidates = st.lists(
    st.tuples(st.floats(-2, 8), st.integers(0, 40), st.integers(0, 40)), max_size=25, unique_by=lambda c: c[1:]
)


@given(candidates, st.floats(-1, 5), st.integers(1, 50))
@settings(max_examples=150)
def test_sure_are_those_that_a_step_down_from_the_surest_finds(found, least, reach):
    table = np.array(found).reshape(-1, 3)
    odds, centre = table[:, 0], table[:, 1:] / 2
    kept = sure(odds, centre, least, reach)
    np.testing.assert_array_equal(kept, holm(odds, centre, least, reach))
    assert not (kept & ~sure(odds, centre, least, None)).any()
    assert not (sure(odds, centre, least + 0.5, reach) & ~kept).any()  # who asks more gets no other ones


def test_one_alone_has_to_exceed_the_least_and_clutter_around_it_asks_more():
    middle, clutter = [[50.0, 50.0]], [[50.0 + 10 * i, 60.0] for i in range(1, 8)]
    odds = np.array([3.0] + [1.0] * 7)
    assert sure(odds[:1], np.array(middle), 1.5, 100).tolist() == [True]
    assert not sure(odds, np.array(middle + clutter), 1.5, 100).any()  # 1.5 + log(8) = 3.58
    assert sure(odds, np.array(middle + clutter), 1.5, 20).tolist() == [True] + [False] * 7
    assert sure(odds, np.array(middle + clutter), 1.5, None).tolist() == [True] + [False] * 7


def test_many_sure_targets_do_not_hide_each_other():
    centre = np.array([[r, c] for r in range(0, 80, 8) for c in range(0, 80, 8)], float)
    odds = 1.6 + np.log(np.arange(1, 101))  # 1.5 + log(100) = 6.1: the last lets the one before it pass, and so on
    assert sure(odds, centre, 1.5, 100).all()
    assert not sure(np.full(100, 6.0), centre, 1.5, 100).any()


@pytest.mark.parametrize("count", [0, 1])
def test_few_candidates(count):
    centre = np.zeros((count, 2))
    assert sure(np.full(count, 2.0), centre, 1.0, 5).tolist() == [True] * count
    assert sure(np.full(count, 1.0), centre, 1.0, 5).tolist() == [False] * count


def test_middles_are_those_of_the_boxes():
    mask = np.zeros((6, 9), bool)
    mask[1:4, 2] = mask[3, 2:6] = mask[5, 8] = True
    np.testing.assert_array_equal(middles(Components.of(mask).labels), [[2, 3.5], [5, 8]])
    assert middles(np.zeros((3, 4), np.int32)).shape == (0, 2)


def test_what_is_asked_for_replaces_what_the_rule_says():
    own = Rule(0.6, 0.9, 30, reach=64)
    assert own.asked(Asked(None, None, None, None)) == own
    assert own.asked(Asked(None, 0.95, None, None)) == Rule(0.6, 0.95, 30, reach=64)
    assert own.asked(Asked(0.7, 0.95, None, None)) == Rule(0.7, 0.95, 30, reach=64)
    assert own.asked(Asked(0.7, None, None, None)) == Rule(0.7, 0.7, 30)  # a plain threshold judges each alone
    assert own.asked(Asked(0.7, None, 0, 16)) == Rule(0.7, 0.7, None, reach=16)
    assert own.asked(Asked(None, None, None, 0)) == Rule(0.6, 0.9, 30)


def test_numbers_of_numpy_are_compared_as_those_of_python():
    score, valid = np.float32([[k / 255 for k in range(256)]]), np.ones((1, 256), bool)
    for k in range(256):
        usual = Rule(k / 255).detected(score, valid)
        np.testing.assert_array_equal(Rule(np.float64(k / 255)).detected(score, valid), usual)
    assert json.dumps(Rule(np.float32(0.5), np.float64(0.7)).as_dict())


def test_a_target_may_have_as_many_pixels_as_are_allowed():
    score = np.zeros((8, 8), np.float32)
    score[2:4, 2:4] = 0.9
    assert [Rule(0.5, max_area=n).detected(score, score >= 0).sum() for n in (3, 4)] == [0, 4]


def test_detected_pixels_are_those_of_candidates_that_are_sure():
    score = np.full((40, 200), 0.01)
    score[5:7, 5:7], score[20, 20], score[5, 150:153] = 0.97, 0.9, 0.93
    valid = np.ones(score.shape, bool)

    def found(reach):
        labels = Components.of(Rule(0.5, 0.88, reach=reach).detected(score, valid)).labels
        return [labels[5, 5] > 0, labels[20, 20] > 0, labels[5, 151] > 0]

    assert log_odds(0.9) > log_odds(0.88) and log_odds(0.93) < log_odds(0.88) + np.log(3)
    assert found(None) == [True, True, True]
    assert found(50) == [True, True, True]  # the first passes, then nothing is left around the second
    score[30, 30] = 0.6
    assert found(50) == [True, False, True]
    assert found(200) == [True, False, False]
