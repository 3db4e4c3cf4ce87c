"""Warnings that are expected are silent, and the caller's filters stay."""

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_was_forked_inside_hears_warnings_again():
    with silenced(UserWarning):
        child = os.fork()
        if not child:
            with silenced(FutureWarning):
                warn(FutureWarning)
            try:
                warn(UserWarning)
            except UserWarning:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
