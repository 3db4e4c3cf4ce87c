"""How much memory a classical method takes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def peak() -> Callable[[Callable[[], Any]], int]:
    """``peak(work)``: the most bytes that ``work()`` holds at once, beside what there was before."""

    def measure(work: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
