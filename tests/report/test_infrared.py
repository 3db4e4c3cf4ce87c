import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from rsunfold import report
from rsunfold.errors import InputError
from rsunfold.report.drawing import inset_window, outline
from rsunfold.targets import Target

TRUTH, PREDICTION = "#2ee66b", "#ff6a3d"


def quicklook(path, image, *others, **more) -> None:
    """Of an image that is not decimated."""
    report.quicklook(path, image, *others, shape=image.shape, read=lambda w: image[w.slices], **more)


def test_quicklook_shows_boxes_and_outlines(tmp_path, scene, size_of, shows):
    path = tmp_path / "q.png"
    quicklook(path, *scene, title="scene")
    assert size_of(path) == (1400, 990)
    assert shows(path, "#FFB000") and shows(path, "#2EE66B")


def test_quicklook_of_nothing_has_no_insets_boxes_or_outlines(tmp_path, scene, size_of, shows):
    image, score, mask, _ = scene
    path = tmp_path / "q.png"
    quicklook(path, image, score, np.zeros_like(mask), [])
    assert size_of(path) == (1400, 590)
    assert not shows(path, "#FFB000") and not shows(path, "#2EE66B")


def test_quicklook_of_a_decimated_image_reads_its_insets_from_the_full_one(tmp_path, scene):
    image, score, mask, targets = scene
    asked = []

    def read(window):
        asked.append(window)
        return image[window.slices]

    small = (image[::3, ::3], score[::3, ::3], mask[::3, ::3], targets)
    report.quicklook(tmp_path / "a.png", *small, shape=(90, 120), read=read)
    assert asked == [inset_window(t, 90, 120) for t in targets]


@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (60, 240)])
def test_quicklook_of_strips_shows_them_large_and_whole(tmp_path, shape, figures):
    image = np.random.default_rng(0).random(shape)
    rows, cols = shape
    target = Target(1, rows / 2, cols / 2, rows // 2, rows // 2 + 2, cols // 2, cols // 2 + 2, 9, 1.0, 1.0, np.nan)
    quicklook(tmp_path / "q.png", image, image, image > 0.999, [target])
    figures[0].draw_without_rendering()
    left, right = figures[0].axes[:2]
    a, b = (axes.get_window_extent() for axes in (left, right))
    stacked = cols > 4 * rows
    assert (a.y0 > b.y1) == stacked and (a.width > 900) == stacked
    (box,) = left.collections[0].get_paths()
    assert np.ptp(box.vertices, axis=0).max() <= min(rows, cols)
    bounds = figures[0].bbox
    for axes in (left, right):
        title = axes.title.get_window_extent()
        assert bounds.x0 <= title.x0 and title.x1 <= bounds.x1


def test_the_numbers_of_a_single_inset_are_inside_the_picture(tmp_path, scene, figures):
    image, score, mask, targets = scene
    quicklook(tmp_path / "q.png", image, score, mask, targets[:1])
    figures[0].draw_without_rendering()
    bounds = figures[0].bbox
    labels = [
        tick.get_window_extent() for axes in figures[0].findobj(Axes) if axes.axison for tick in axes.get_xticklabels()
    ]
    assert all(box.y0 >= bounds.y0 for box in labels)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_quicklook_of_thin_and_empty_images(tmp_path, shape, size_of, shows):
    image = np.full(shape, np.nan, np.float32)
    quicklook(tmp_path / "q.png", image, image, np.zeros(shape, bool), [])
    assert size_of(tmp_path / "q.png")[0] == 1400
    assert shows(tmp_path / "q.png", "#CFE3F2")
    on = np.ones(shape, bool)
    rows, cols = shape
    target = Target(1, (rows - 1) / 2, (cols - 1) / 2, 0, rows - 1, 0, cols - 1, rows * cols, 1.0, 1.0, np.nan)
    quicklook(tmp_path / "r.png", on * 1.0, on * 1.0, on, [target])
    assert size_of(tmp_path / "r.png")[1] > size_of(tmp_path / "q.png")[1]  # the inset


def test_worst_images_show_truth_and_prediction(tmp_path, scene, size_of, shows):
    image, _, mask, _ = scene
    cases = [report.Case("a.png", image, mask, np.roll(mask, 1, 1), 0.5), report.Case("b.png", image, mask, mask, 1.0)]
    report.worst_images(tmp_path / "w.png", cases, title="worst")
    assert size_of(tmp_path / "w.png") == (1000, 720)
    assert shows(tmp_path / "w.png", "#2EE66B") and shows(tmp_path / "w.png", "#FF6A3D")
    nothing = np.zeros_like(mask)
    report.worst_images(tmp_path / "e.png", [report.Case("c.png", image, nothing, nothing, 1.0)])
    assert size_of(tmp_path / "e.png") == (1000, 390)
    assert not shows(tmp_path / "e.png", "#2EE66B")
    with pytest.raises(InputError, match="no image"):
        report.worst_images(tmp_path / "n.png", [])


def test_worst_images_outline_what_their_titles_name(tmp_path, scene, figures):
    image, _, truth, _ = scene
    prediction = np.roll(truth, 1, 1)
    prediction[70:] = False
    report.worst_images(tmp_path / "w.png", [report.Case("a.png", image, truth, prediction, 0.5)])
    both, *enlarged = figures[0].axes
    np.testing.assert_array_equal(both.images[0].get_array(), image)
    assert both.get_ylabel() == "a.png\nIoU 0.500"
    assert [axes.get_title() for axes in enlarged] == ["truth: 27 pixels", "prediction: 18 pixels"]
    expected = [(truth, TRUTH), (prediction, PREDICTION)]
    drawn = [*both.collections, *(lines for axes in enlarged for lines in axes.collections)]
    for lines, (mask, colour) in zip(drawn, expected * 2, strict=True):
        np.testing.assert_allclose(np.concatenate(lines.get_segments()).reshape(-1, 2, 2), outline(mask))
        assert to_hex(lines.get_color()[0]) == colour
    for axes in enlarged:
        left, right, bottom, top = (round(end + 0.5) for end in axes.images[0].get_extent())
        np.testing.assert_array_equal(axes.images[0].get_array(), image[top:bottom, left:right])


def test_stages_have_one_row_each_and_one_column_per_letter(tmp_path, size_of):
    rng = np.random.default_rng(1)
    stage = {letter: rng.normal(size=(32, 40)) for letter in "BTND"}
    last = {"B": stage["B"], "T": np.zeros((32, 40))}
    report.stages_picture(tmp_path / "s.png", [stage, stage, last])
    assert size_of(tmp_path / "s.png") == (1060, 810)
    report.stages_picture(tmp_path / "t.png", [{k: stage[k] for k in "BTD"}])
    assert size_of(tmp_path / "t.png") == (810, 310)
    report.stages_picture(tmp_path / "u.png", [stage, last], notes=["eps = 1", "eps = 2"])
    assert size_of(tmp_path / "u.png") == (1280, 560)
    with pytest.raises(InputError, match="no stage"):
        report.stages_picture(tmp_path / "n.png", [])


def test_variables_of_stages_have_their_colours_and_the_scale_stated_below(tmp_path, figures):
    rng = np.random.default_rng(1)
    stages = [{letter: rng.normal(2, 1, (20, 24)) for letter in "BTND"} for _ in range(2)]
    stages[1]["T"][3, 4] = -9
    notes = ["eps = 1", "eps = 2"]
    report.stages_picture(tmp_path / "s.png", stages, notes=notes)
    grid = np.reshape(figures[0].axes, (2, 5))
    assert [axes.get_title()[:2] for axes in grid[0, :4]] == ["B ", "T ", "N ", "D "]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["stage 1", "stage 2"]
    assert [axes.texts[0].get_text() for axes in grid[:, 4]] == notes
    for line, stage in zip(grid, stages, strict=True):
        for axes, (letter, data) in zip(line, stage.items(), strict=False):
            (shown,) = axes.images
            np.testing.assert_array_equal(shown.get_array(), data)
            assert shown.get_cmap().name == {"B": "gray", "T": "RdBu_r", "N": "RdBu_r", "D": "gray"}[letter]
            largest = max(-data.min(), data.max())
            low, high = np.percentile(data, (0.5, 99.9)) if letter in "BD" else (-largest, largest)
            np.testing.assert_allclose(shown.get_clim(), (low, high))
            ends = f"{data.min():.3g} to {data.max():.3g}\n(colours: {low:.3g} to {high:.3g})"
            assert axes.get_xlabel() == ends.replace("-", "−")


def test_studies_have_a_row_of_panels_and_one_of_images(tmp_path, scene, size_of, shows):
    image, _, mask, _ = scene
    course = report.Course([0, 0.1, 0.2], {"IoU": [0.9, 0.5, None], "Fa": [1e-4, 0.0, 1e-3]})
    studies = {"noise": {"a": course, "b": course}, "stage": {"a": course}}
    report.study_picture(tmp_path / "a.png", studies)
    assert size_of(tmp_path / "a.png") == (1400, 710)
    assert not shows(tmp_path / "a.png", "#2EE66B")
    nothing = report.Case("0.2", image, np.zeros_like(mask), np.zeros_like(mask), 1.0)
    cases = [report.Case("as it is", image, mask, np.roll(mask, 2, 1), 0.3), nothing]
    report.study_picture(tmp_path / "b.png", studies, {"noise": cases, "stage": [nothing]}, example="one.png")
    assert size_of(tmp_path / "b.png") == (1400, 1290)
    assert shows(tmp_path / "b.png", "#2EE66B") and shows(tmp_path / "b.png", "#FF6A3D")
    with pytest.raises(InputError, match="nothing to show"):
        report.study_picture(tmp_path / "n.png", {})
