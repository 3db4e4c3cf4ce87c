"""Windows over an image: they cover it once, blend without a trace, and fit the memory."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsunfold.cube import Window
from rsunfold.errors import DeviceError
from rsunfold.infer.tiles import STRIP_PIXEL_BYTES, Plan, evenly_spread, plan, ramp, spans, strips

sizes = st.integers(1, 300)
layouts = st.integers(1, 80).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


@given(size=sizes, layout=layouts)
def test_spans_cover_every_pixel_and_share_exactly_the_overlap(size, layout):
    tile, overlap = layout
    parts = spans(size, tile, overlap)
    assert parts[0][0] == 0 and parts[-1][1] == size
    assert all(0 < b - a <= tile for a, b in parts)
    assert all(before[1] - after[0] == overlap for before, after in itertools.pairwise(parts))
    assert all(b - a == tile for a, b in parts[:-1])


def test_an_overlap_as_large_as_the_tile_is_a_mistake():
    with pytest.raises(ValueError, match="overlap of 8 does not go with tiles of 8"):
        spans(20, 8, 8)
    with pytest.raises(ValueError, match="overlap of -1"):
        spans(20, 8, -1)


@given(size=sizes, layout=layouts)
def test_blend_weights_are_positive_and_at_most_one(size, layout):
    parts = spans(size, *layout)
    for index, (start, stop) in enumerate(parts):
        weight = ramp(index, parts)
        assert weight.shape == (stop - start,)
        assert weight.min() > 0 and weight.max() <= 1


def test_the_ramps_of_two_neighbours_add_up_to_one():
    parts = spans(20, 12, 4)
    assert parts == [(0, 12), (8, 20)]
    np.testing.assert_allclose(ramp(0, parts)[-4:] + ramp(1, parts)[:4], 1, rtol=1e-6)
    np.testing.assert_array_equal(ramp(0, parts)[:8], 1)


def assemble(rows: int, cols: int, tile: int, compute, overlap: int) -> np.ndarray:
    """All strips in one array, after checking that they come from top to bottom, each row once."""
    parts, next_row = [], 0
    for row, values in strips(rows, cols, tile, compute, overlap):
        assert row == next_row and values.shape[-1] == cols
        next_row += values.shape[-2]
        parts.append(values)
    assert next_row == rows
    return np.concatenate(parts, axis=-2)


@settings(max_examples=60)
@given(rows=sizes, cols=sizes, layout=layouts)
def test_a_function_that_does_not_depend_on_its_window_gives_the_whole_image(rows, cols, layout):
    tile, overlap = max(8, layout[0]), min(layout[1], max(8, layout[0]) // 2)
    image = np.random.default_rng(rows * 1000 + cols).normal(size=(rows, cols)).astype(np.float32)
    np.testing.assert_allclose(assemble(rows, cols, tile, lambda w: image[w.slices], overlap), image, atol=1e-5)


def test_more_than_two_tiles_may_overlap():
    image = np.random.default_rng(0).normal(size=(23, 19)).astype(np.float32)
    np.testing.assert_allclose(assemble(23, 19, 8, lambda w: image[w.slices], 7), image, atol=1e-5)


@given(rows=sizes, cols=sizes, overlap=st.integers(0, 20))
def test_the_weights_sum_to_one_for_a_computation_that_depends_on_the_window(rows, cols, overlap):
    seen = []

    def compute(window: Window) -> np.ndarray:
        seen.append(window)
        return np.full((window.height, window.width), 7.5 if len(seen) % 2 else 8.5, np.float32)

    blended = assemble(rows, cols, 32, compute, overlap)
    assert blended.min() >= 7.5 - 1e-5 and blended.max() <= 8.5 + 1e-5  # a mean of what the tiles say, nothing else
    constant = assemble(rows, cols, 32, lambda w: np.full((w.height, w.width), 7.5, np.float32), overlap)
    np.testing.assert_allclose(constant, 7.5, rtol=1e-6)


def test_seams_are_blended_and_not_cut():
    left = strips(4, 20, 12, lambda w: np.full((w.height, w.width), float(w.col > 0), np.float32), 4)
    row = next(iter(left))[1][0]
    np.testing.assert_allclose(row[:8], 0)
    np.testing.assert_allclose(row[8:12], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(row[12:], 1)


def test_tiles_are_asked_for_row_by_row_and_results_may_have_bands():
    image = np.arange(3 * 10 * 13, dtype=np.float32).reshape(3, 10, 13)
    seen = []

    def compute(window: Window) -> np.ndarray:
        seen.append((window.row, window.col))
        return image[:, *window.slices]

    np.testing.assert_array_equal(assemble(10, 13, 6, compute, 0), image)
    assert seen == sorted(seen) and len(seen) == len(set(seen)) == 6


def cost(made: Plan, rows: int, cols: int, per_pixel: float, margin: int) -> float:
    side = min(made.tile + 2 * margin, max(rows, cols))
    return side**2 * per_pixel + min(made.tile, rows) * cols * STRIP_PIXEL_BYTES


def test_a_plan_stays_within_its_budget():
    kinds: list[bool] = []

    @given(
        rows=st.integers(1, 30_000),
        cols=st.integers(1, 30_000),
        per_pixel=st.floats(50, 2000),
        margin=st.integers(0, 60),
        budget=st.floats(3e8, 4e9),
    )
    def check(rows, cols, per_pixel, margin, budget):
        made = plan(rows, cols, bytes_per_pixel=per_pixel, margin=margin, budget=budget)
        kinds.append(made.whole)
        if made.whole:
            assert rows * cols * (per_pixel + STRIP_PIXEL_BYTES) <= budget
        else:
            assert cost(made, rows, cols, per_pixel, margin) <= budget
            assert 64 <= made.tile <= 4096

    check()
    assert min(kinds.count(True), kinds.count(False)) > 10


def test_an_image_that_fits_is_one_piece_and_one_byte_less_makes_tiles():
    need = 1000 * 900 * (100 + STRIP_PIXEL_BYTES)
    assert plan(1000, 900, bytes_per_pixel=100, margin=8, budget=need) == Plan(True, 1000)
    made = plan(1000, 900, bytes_per_pixel=100, margin=8, budget=need - 1)
    assert not made.whole and made.tile == 512


def test_more_memory_never_gives_smaller_tiles():
    tiles = [
        plan(20_000, 20_000, bytes_per_pixel=464, margin=8, budget=b).tile for b in np.linspace(2e8, 8e9, 40).tolist()
    ]
    assert tiles == sorted(tiles) and tiles[0] < tiles[-1]
    assert all(t % 256 == 0 for t in tiles if t >= 256)  # whole blocks of the output


@pytest.mark.parametrize("budget", [-5e9, 0, 1e6])
def test_nothing_fits(budget):
    said = r"5000 x 5000 .* \d+ MB on top of the program itself, but --memory leaves \d+ MB; increase it by about \d+"
    with pytest.raises(DeviceError, match=said) as refused:
        plan(5000, 5000, bytes_per_pixel=464, margin=8, budget=budget)
    more = int(str(refused.value).split()[-2])
    with pytest.raises(DeviceError):
        plan(5000, 5000, bytes_per_pixel=464, margin=8, budget=budget + (more - 41) * 2**20)
    plan(5000, 5000, bytes_per_pixel=464, margin=8, budget=budget + (more - 30) * 2**20)


@given(rows=sizes, cols=sizes, tall=st.integers(1, 90), wide=st.integers(1, 90), count=st.integers(1, 40))
def test_spread_windows_lie_inside_apart_and_from_end_to_end(rows, cols, tall, wide, count):
    height, width = min(tall, rows), min(wide, cols)
    down, across = evenly_spread(rows, cols, height, width, count)
    assert 1 <= len(down) * len(across) <= count
    for starts, side, size in ((down, height, rows), (across, width, cols)):
        assert starts[0] == 0 and all(b - a >= side for a, b in itertools.pairwise(starts))
        assert starts[-1] == (size - side if len(starts) > 1 else 0)
