"""Warnings that are expected are silent, and the caller's filters stay."""

import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from rsunfold import quiet
from rsunfold.quiet import silenced

pytestmark = pytest.mark.filterwarnings("error")


def warn(category) -> None:
    warnings.warn("expected", category, stacklevel=1)


def test_one_category_is_silent():
    before = list(warnings.filters)
    with silenced(UserWarning), silenced(UserWarning):
        warn(UserWarning)
        with silenced(FutureWarning):
            warn(FutureWarning)
        with pytest.raises(DeprecationWarning):
            warn(DeprecationWarning)
    assert warnings.filters == before
    for category in (UserWarning, FutureWarning):
        with pytest.raises(category):
            warn(category)


def test_threads_that_come_and_go_in_turn_leave_the_filters_as_they_were():
    before, barrier = list(warnings.filters), threading.Barrier(4)

    def one(number):
        barrier.wait()
        for turn in range(50):
            with silenced((UserWarning, FutureWarning)[(number + turn) % 2]):
                warn((UserWarning, FutureWarning)[(number + turn) % 2])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert warnings.filters == before


def test_it_is_silent_whatever_the_caller_sets_inside_and_that_stays():
    before = list(warnings.filters)
    with silenced(UserWarning):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with silenced(UserWarning):
                warn(UserWarning)
            with pytest.raises(UserWarning):
                warn(UserWarning)
        warnings.filterwarnings("ignore", "of the caller")
        assert len(warnings.filters) == len(before) + 2
    assert warnings.filters[1:] == before and warnings.filters[0][0] == "ignore"


def test_a_block_of_the_caller_that_outlives_ours_keeps_nothing_of_it():
    before, ours, theirs = list(warnings.filters), silenced(UserWarning), warnings.catch_warnings()
    ours.__enter__()
    theirs.__enter__()
    ours.__exit__(None, None, None)
    assert warnings.filters == before
    theirs.__exit__(None, None, None)
    assert warnings.filters == before


def test_a_filter_of_the_caller_like_ours_stays():
    before = list(warnings.filters)
    with silenced(FutureWarning):
        warnings.simplefilter("ignore", FutureWarning, append=True)
    assert warnings.filters == [*before, ("ignore", None, FutureWarning, None, 0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_was_forked_while_other_threads_were_inside():
    before, entered, leave = list(warnings.filters), threading.Event(), threading.Event()

    def inside():
        with silenced(UserWarning):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=inside)
    thread.start()
    entered.wait()
    with quiet._lock:  # as if one of them were just entering
        child = os.fork()
    if not child:
        right = warnings.filters == before
        with silenced(FutureWarning):
            warn(FutureWarning)
        os._exit(0 if right else 1)
    leave.set()
    thread.join()
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done == (child, 0)
