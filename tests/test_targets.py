import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rsunfold import targets
from rsunfold.cube import Window
from rsunfold.errors import InputError
from rsunfold.rule import Rule
from rsunfold.targets import MARGIN, MIN_RING, Target, TargetCollector

INTEGERS = ("id", "row_min", "row_max", "col_min", "col_max", "area")
REALS = ("row", "col", "peak", "mean", "scr")


def same(a: list[Target], b: list[Target]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert [getattr(x, k) for k in INTEGERS] == [getattr(y, k) for k in INTEGERS]
        np.testing.assert_allclose(
            [getattr(x, k) for k in REALS], [getattr(y, k) for k in REALS], rtol=1e-9, equal_nan=True
        )


def find_targets(score, mask, image=None, valid=None, **options) -> list[Target]:
    """The targets of a whole image: a collector with one strip."""
    collector = TargetCollector(*mask.shape, **options)
    collector.add(0, score, mask, image, valid)
    if image is None:
        return collector.finish()
    usable = np.ones(mask.shape, bool) if valid is None else valid
    return collector.finish(lambda w: (image[w.slices], usable[w.slices], mask[w.slices]))


def by_hand(score, mask, image, valid, margin):
    """The definition, spelled out over the whole image, one component after the other."""
    on = mask & valid
    labels, n = ndimage.label(on, np.ones((3, 3)))
    found = []
    for k in range(1, n + 1):
        r, c = np.nonzero(labels == k)
        w = score[r, c].astype(float)
        around = (
            slice(max(0, r.min() - margin), r.max() + margin + 1),
            slice(max(0, c.min() - margin), c.max() + margin + 1),
        )
        ring = image[around][valid[around] & ~mask[around]].astype(float)
        scr = math.nan
        if ring.size >= MIN_RING and ring.std() > 0:
            scr = abs(image[r, c].astype(float).mean() - ring.mean()) / ring.std()
        found.append(
            Target(0, np.average(r, weights=w), np.average(c, weights=w), r.min(), r.max(), c.min(), c.max(), r.size,
                   w.max(), w.mean(), scr)
        )  # fmt: skip
    return found


@st.composite
def scenes(draw):
    rows, cols = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.05, 0.2, 0.4, 0.6, 1.0]))
    mask = rng.random((rows, cols)) < density
    valid = rng.random((rows, cols)) < draw(st.sampled_from([0.8, 1.0]))
    score = rng.uniform(0.1, 1, (rows, cols)).astype(np.float32)
    image = rng.normal(100, 20, (rows, cols)).astype(np.float32)
    heights = []
    while sum(heights) < rows:
        heights.append(draw(st.integers(1, rows - sum(heights))))
    return score, mask, image, valid, heights


@settings(max_examples=150, deadline=None)
@given(scenes(), st.integers(1, 6), st.integers(1, 4))
def test_strips_give_the_targets_of_the_whole_image(scene, margin, min_area):
    score, mask, image, valid, heights = scene
    collector = TargetCollector(*mask.shape, margin=margin, rule=Rule(0, min_area=min_area))
    row = 0
    for h in heights:
        s = slice(row, row + h)
        collector.add(row, score[s], mask[s], image[s], valid[s])
        row += h
    strips = collector.finish(lambda w: (image[w.slices], valid[w.slices], mask[w.slices]))
    same(strips, find_targets(score, mask, image, valid, margin=margin, rule=Rule(0, min_area=min_area)))


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_whole_image_agrees_with_the_definition(scene):
    score, mask, image, valid, _ = scene
    found = find_targets(score, mask, image, valid, margin=3)
    expected = by_hand(score, mask, image, valid, 3)
    key = lambda t: (t.row_min, t.col_min, t.row_max, t.col_max, t.area, t.row)  # noqa: E731
    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert [key(t)[:5] for t in found] == [key(t)[:5] for t in expected]
    for name in REALS:
        np.testing.assert_allclose([getattr(t, name) for t in found], [getattr(t, name) for t in expected], rtol=1e-6)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 9),
    st.floats(0.3, 0.95),
    st.one_of(st.none(), st.integers(1, 12)),
    st.one_of(st.none(), st.integers(1, 12)),
)
@settings(max_examples=60)
def test_pixels_have_the_ids_of_their_targets_whatever_the_strips_are(
    seed, rows, cols, height, confidence, most, reach
):
    rng = np.random.default_rng(seed)
    score, valid = rng.random((rows, cols)), rng.random((rows, cols)) > 0.1
    mask = (score > 0.6) & valid
    rule = Rule(0.6, confidence, most, reach=reach)
    collector = TargetCollector(rows, cols, rule=rule)
    for row in range(0, rows, height):
        collector.add(row, score[row : row + height], mask[row : row + height], None, valid[row : row + height])
    found = collector.finish()
    ids = np.concatenate([collector.ids(row, mask[row : row + height]) for row in range(0, rows, height)])
    kept = ids > 0
    assert [int((ids == t.id).sum()) for t in found] == [t.area for t in found]
    assert all((ids == t.id)[t.window.slices].sum() == t.area for t in found)
    np.testing.assert_array_equal(kept, rule.detected(score, valid))
    assert all(most is None or t.area <= most for t in found)
    assert sum(t.area for t in found) == kept.sum() and all(t.peak > max(confidence, 0.6) for t in found)


def test_known_target_centroid_box_and_scores():
    score = np.zeros((40, 50), np.float32)
    score[10, 20], score[10, 21], score[11, 22] = 0.5, 0.5, 1.0  # the last one touches by a corner only
    (t,) = find_targets(score, score > 0)
    assert (t.id, t.row_min, t.row_max, t.col_min, t.col_max, t.area) == (1, 10, 11, 20, 22, 3)
    assert (t.row, t.col) == pytest.approx((10.5, (0.5 * 20 + 0.5 * 21 + 22) / 2))
    assert (t.peak, t.mean) == pytest.approx((1.0, 2 / 3))
    assert math.isnan(t.scr)
    assert t.window == Window(10, 20, 2, 3)


def test_ids_follow_the_scan_and_min_area_leaves_no_gap():
    mask = np.zeros((9, 12), bool)
    mask[4, 0] = mask[2, 9] = True
    mask[2, 3:5] = mask[7, 5:8] = True
    big = find_targets(mask.astype(np.float32), mask, rule=Rule(0, min_area=2))
    assert [(t.id, t.row_min, t.col_min, t.area) for t in big] == [(1, 2, 3, 2), (2, 7, 5, 3)]
    assert [(t.id, t.row_min, t.col_min) for t in find_targets(mask.astype(np.float32), mask)] == [
        (1, 2, 3), (2, 2, 9), (3, 4, 0), (4, 7, 5)
    ]  # fmt: skip


def test_a_u_whose_arms_meet_in_a_later_strip_is_one_target():
    mask = np.zeros((6, 7), bool)
    mask[:5, 1] = mask[:5, 5] = mask[5, 1:6] = True
    collector = TargetCollector(6, 7)
    for row in range(6):
        collector.add(row, mask[row : row + 1].astype(np.float32), mask[row : row + 1])
    (t,) = collector.finish()
    assert (t.area, t.row_min, t.row_max, t.col_min, t.col_max) == (15, 0, 5, 1, 5)


def test_contrast_is_measured_on_the_ring_without_other_targets_and_invalid_pixels():
    rng = np.random.default_rng(3)
    image = rng.normal(50, 4, (60, 60)).astype(np.float32)
    mask = np.zeros((60, 60), bool)
    valid = np.ones((60, 60), bool)
    mask[30:32, 30:32] = mask[30, 36] = True
    image[mask] = 90
    image[25, 25], valid[25, 25] = 1e6, False
    ring = np.zeros((60, 60), bool)
    ring[30 - MARGIN : 32 + MARGIN, 30 - MARGIN : 32 + MARGIN] = True
    ring &= valid & ~mask
    expected = (90 - image[ring].mean(dtype=float)) / image[ring].std(dtype=float)
    found = find_targets(mask.astype(np.float32), mask, image, valid)
    assert [t.scr for t in found if t.area == 4] == pytest.approx([expected])
    # a neighbour below min_area is no target, but no background either
    (large,) = find_targets(mask.astype(np.float32), mask, image, valid, rule=Rule(0, min_area=2))
    assert large.scr == pytest.approx(expected)


def test_contrast_is_nan_on_a_constant_or_too_small_ring():
    mask = np.zeros((20, 20), bool)
    mask[9, 9] = True
    image = np.where(mask, 5, 0.1).astype(np.float32)
    assert math.isnan(find_targets(mask.astype(np.float32), mask, image)[0].scr)
    image += np.random.default_rng(0).random((20, 20), dtype=np.float32)
    few, enough = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    few[9, 9] = enough[9, 9] = True
    few[0, : MIN_RING - 1] = enough[0, :MIN_RING] = True
    assert math.isnan(find_targets(mask.astype(np.float32), mask, image, few)[0].scr)
    assert find_targets(mask.astype(np.float32), mask, image, enough)[0].scr > 0


def test_a_wide_target_is_read_back_in_bounded_windows(monkeypatch):
    monkeypatch.setattr(targets, "_READ_PIXELS", 200)
    rng = np.random.default_rng(1)
    image = rng.normal(1000, 1, (70, 64)).astype(np.float32)
    mask = np.zeros((70, 64), bool)
    mask[5:65, 30] = True
    image[mask] += 7
    asked = []

    def read(w):
        asked.append(w)
        return image[w.slices], np.ones((w.height, w.width), bool), mask[w.slices]

    collector = TargetCollector(70, 64)
    collector.add(0, mask.astype(np.float32), mask, image)
    (t,) = collector.finish(read)
    assert len(asked) > 1 and max(w.height * w.width for w in asked) <= 200
    expected = by_hand(mask.astype(np.float32), mask, image, np.ones_like(mask), MARGIN)[0].scr
    assert t.scr == pytest.approx(expected, rel=1e-6)


def test_scores_that_are_not_positive_give_the_plain_centroid():
    mask = np.zeros((5, 9), bool)
    mask[2, 3:6] = True
    (t,) = find_targets(np.full((5, 9), -2, np.float32), mask)
    assert (t.row, t.col, t.peak) == pytest.approx((2, 4, -2))


def test_nothing_found_is_an_empty_list():
    empty = np.zeros((7, 5), bool)
    assert find_targets(np.zeros((7, 5), np.float32), empty, np.zeros((7, 5), np.float32)) == []
    assert find_targets(np.zeros((7, 5), np.float32), ~empty, valid=empty) == []


def test_a_score_that_is_not_finite_is_refused_only_on_valid_target_pixels():
    score = np.full((4, 4), np.nan, np.float32)
    mask = np.zeros((4, 4), bool)
    assert find_targets(score, mask) == []
    mask[1, 1] = True
    assert find_targets(score, mask, valid=~mask) == []
    with pytest.raises(InputError, match="NaN or infinite"):
        find_targets(score, mask)


def test_strips_out_of_order_or_missing_are_refused():
    strip, score = np.zeros((2, 5), bool), np.zeros((2, 5), np.float32)
    collector = TargetCollector(4, 5)
    with pytest.raises(ValueError, match="do not continue"):
        collector.add(2, score, strip)
    collector.add(0, score, strip)
    with pytest.raises(ValueError, match="do not continue"):
        collector.add(2, score[:, :4], strip[:, :4])
    with pytest.raises(ValueError, match="only 2 of 4 rows"):
        collector.finish()
    with pytest.raises(ValueError, match="do not continue"):
        collector.add(2, np.zeros((3, 5), np.float32), np.zeros((3, 5), bool))


def test_masks_of_numbers_are_refused():
    ones = np.ones((3, 3))
    for mask, valid in ((ones.astype(np.uint8), None), (ones > 0, ones.astype(np.uint8))):
        with pytest.raises(ValueError, match="must be boolean"):
            TargetCollector(3, 3).add(0, ones, mask, None, valid)
