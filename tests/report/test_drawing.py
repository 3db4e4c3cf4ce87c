import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rsunfold.cube import Window
from rsunfold.report.drawing import (
    COLOURS,
    INSET,
    NO_DIFFERENCE,
    boxes,
    curve_style,
    inset_window,
    outline,
    save,
    show_difference,
    square,
    stretch,
)


def test_boxes_run_along_the_outer_edges_of_the_pixels(scene):
    *_, targets = scene
    assert boxes(targets).tolist() == [[19.5, 9.5, 3, 3], [99.5, 44.5, 3, 3], [4.5, 69.5, 3, 3]]
    assert boxes(targets, least=9)[0].tolist() == [16.5, 6.5, 9, 9]
    assert boxes([]).shape == (0, 4)


def test_outline_follows_the_pixel_edges_also_at_the_border():
    mask = np.zeros((3, 4), bool)
    mask[0, 2:] = True
    edges = {tuple(map(tuple, e)) for e in outline(mask).tolist()}
    assert edges == {
        ((1.5, -0.5), (1.5, 0.5)), ((3.5, -0.5), (3.5, 0.5)),
        ((1.5, -0.5), (2.5, -0.5)), ((2.5, -0.5), (3.5, -0.5)), ((1.5, 0.5), (2.5, 0.5)), ((2.5, 0.5), (3.5, 0.5)),
    }  # fmt: skip
    assert outline(np.zeros((3, 4), bool)).shape == (0, 2, 2)


def test_insets_stay_inside_the_image_and_hold_the_target(scene):
    *_, targets = scene
    for target in targets:
        window = inset_window(target, 90, 120)
        assert (window.height, window.width) == (INSET, INSET)
        assert 0 <= window.row <= target.row_min and target.row_max < window.row + INSET <= 90
        assert 0 <= window.col <= target.col_min and target.col_max < window.col + INSET <= 120
    assert square((50, 60), 20, 90, 120) == Window(40, 50, 20, 20)
    assert square((0, 2), 20, 7, 120) == Window(0, 0, 7, 20)


def test_missing_differences_are_grey_and_none_is_white():
    shown = show_difference(Figure().subplots(), np.array([[np.nan, 0.0, -9.0, 9.0]]), 2.0, (1, 4))
    missing, none, low, high = (to_hex(shown.to_rgba(v)) for v in shown.get_array()[0])
    assert missing == NO_DIFFERENCE.lower() and min(int(none[i : i + 2], 16) for i in (1, 3, 5)) > 240
    assert int(low[5:], 16) > int(low[1:3], 16) and int(high[1:3], 16) > int(high[5:], 16)  # blue, red


@pytest.mark.filterwarnings("error")
def test_names_are_no_formulas_and_may_hold_any_character(tmp_path):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 1e4], [1, 1e4], label="$_$")
    axes.set(title="cost_$5_vs_$6.tif 図", xscale="log", yscale="log")
    axes.legend()
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
    assert not axes.title.get_parse_math() and not axes.get_legend().get_texts()[0].get_parse_math()
    assert all(label.get_parse_math() for label in axes.get_xticklabels())  # powers of ten


def test_a_stretch_always_has_two_ends():
    assert stretch(np.arange(1001.0), 1, 99) == (10, 990)
    assert stretch(np.full(4, 7.0)) == (7, 8)
    assert stretch(np.full(4, np.nan)) == (0, 1)


def test_curves_differ_in_colour_or_dash():
    assert len({curve_style(i) for i in range(21)}) == 21
    assert curve_style(0) == (COLOURS[0], "-")
