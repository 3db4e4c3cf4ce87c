"""Windows of an image, and what counts as measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsunfold.cube import Window, measured

SIZE = st.integers(1, 12)


@given(st.integers(0, 5), st.integers(0, 5), SIZE, SIZE, SIZE, st.none() | SIZE)
def test_the_parts_of_a_window_cover_it_once_in_order(row, col, rows, cols, height, width):
    whole = Window(row, col, rows, cols)
    parts = list(whole.parts(height, width))
    covered = np.zeros((row + rows + 1, col + cols + 1), int)
    for part in parts:
        assert 0 < part.height <= height and 0 < part.width <= (width or cols)
        covered[part.slices] += 1
    assert covered[whole.slices].all() and covered.sum() == rows * cols
    assert parts == sorted(parts, key=lambda part: (part.row, part.col))
    if width is None:
        assert {(part.col, part.width) for part in parts} == {(col, cols)}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.complex64])
def test_nothing_measures_1e30(kind):
    samples = np.array([9e29, -9e29, 1.1e30, 9.97e36, -3.4e38, np.inf, np.nan]).astype(kind)
    assert measured(samples).tolist() == [True] * 2 + [False] * 5
