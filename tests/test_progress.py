"""Progress: who hears of which steps."""

import numpy as np
import pytest

from rsunfold.infer.device import device_failures
from rsunfold.infer.tiles import strips
from rsunfold.progress import listening, tracked

END = ("", 0, None)


def heard(run):
    told = []
    with listening(lambda *step: told.append(step)):
        run()
    return told


def test_every_step_is_told_and_what_is_tracked_comes_back():
    assert list(tracked("abc", "reading")) == ["a", "b", "c"]
    found = []
    assert heard(lambda: found.extend(tracked("ab", "reading"))) == [*(("reading", n, 2) for n in range(3)), END]
    assert found == ["a", "b"]
    assert heard(lambda: list(tracked(iter("a"), "reading"))) == [("reading", 0, None), ("reading", 1, None), END]
    assert heard(lambda: list(tracked(iter("a"), "reading", 9)))[-2] == ("reading", 1, 9)


def test_only_the_outermost_is_heard_and_the_next_one_again():
    def run():
        for _ in tracked(range(2), "outer"):
            list(tracked(range(5), "inner"))
        for k in tracked(range(9), "broken"):
            if k == 1:
                break
        list(tracked(range(1), "last"))

    told = [what for what, _, _ in heard(run)]
    assert told == ["outer"] * 3 + [""] + ["broken"] * 2 + [""] + ["last"] * 2 + [""]


def test_after_an_error_the_steps_of_others_are_heard_again():
    def fails():
        for _ in tracked(range(3), "outer"):
            raise ValueError

    def run():
        with pytest.raises(ValueError):
            fails()
        list(tracked(range(1), "after"))

    assert heard(run)[-2:] == [("after", 1, 1), END]
    assert list(tracked(range(2), "nobody listens")) == [0, 1]


def test_a_generator_that_is_kept_after_the_end_is_not_heard():
    kept = []

    def run():
        steps = tracked(range(3), "kept")
        next(steps)
        kept.append(steps)

    told = heard(run)
    before = list(told)
    kept.pop().close()
    assert told == before == [("kept", 0, 3)]


def test_a_failing_tile_does_not_silence_what_comes_after():
    caught = []

    def fails(window):
        raise ValueError

    def run():
        try:
            list(strips(9, 9, 4, fails))
        except ValueError as error:
            caught.append(error)  # with all its frames
        list(tracked(range(1), "after"))

    assert ("after", 1, 1) in heard(run)


@pytest.mark.parametrize("size", [3, 9])
def test_the_last_tile_is_told(size):
    told = heard(lambda: list(strips(size, size, 4, lambda window: np.ones((window.height, window.width)))))
    count = (-(-size // 4)) ** 2
    assert told == [*(("computing", n, count) for n in range(count + 1)), END]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: mine"), MemoryError()])
def test_what_a_listener_raises_is_no_failure_of_a_device(error):
    def listener(*step):
        raise error

    with pytest.raises(type(error)) as raised, listening(listener), device_failures():
        list(tracked("a", "reading"))
    assert raised.value is error
