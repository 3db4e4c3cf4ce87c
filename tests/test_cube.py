"""Windows of an image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rsunfold.cube import Window

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
