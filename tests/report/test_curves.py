import numpy as np
import pytest

from rsunfold import report
from rsunfold.errors import InputError, OutputError
from rsunfold.report.curves import _joined


def test_roc_draws_every_curve_also_one_without_any_false_alarm(tmp_path, size_of, shows):
    curves = {
        "a": (np.array([1e-3, 0, 1e-6]), np.array([1.0, 0.2, 0.5])),
        "b": (np.zeros(2), np.array([0.4, 0.7])),
    }
    report.roc_picture(tmp_path / "roc.png", curves, points={"a": (1e-6, 0.5)}, title="ROC")
    assert size_of(tmp_path / "roc.png") == (900, 700)
    assert shows(tmp_path / "roc.png", "#0072B2") and shows(tmp_path / "roc.png", "#D55E00")
    report.roc_picture(tmp_path / "none.png", {"b": curves["b"]})
    assert shows(tmp_path / "none.png", "#0072B2")


def test_a_roc_marks_the_rule_in_use_in_the_colour_of_its_curve(tmp_path, figures):
    curves = {
        "a": (np.array([0, 1e-6, 1e-3]), np.array([0.2, 0.5, 1.0])),
        "b": (np.array([0, 1e-4]), np.array([0.4, 0.7])),
        "c": (np.array([0, 1e-3]), np.array([0.1, 0.9])),
    }
    report.roc_picture(tmp_path / "roc.png", curves, points={"a": (1e-5, 0.45), "b": (0, 0.3)})
    (axes,) = figures[0].axes
    left, right = axes.get_xlim()
    assert 0 < left < 1e-6 and right == 1e-3 and axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    for name, (fa, pd) in curves.items():
        x, y = lines[name].get_data()
        np.testing.assert_allclose(np.interp(fa[1:], x, y), pd[1:])
        assert x.min() == left and y[x == left].min() == pd[0]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [mark.get_xydata().tolist() for mark in marks] == [[[1e-5, 0.45]], [[left, 0.3]], []]
    assert [mark.get_color() for mark in marks[:2]] == [lines["a"].get_color(), lines["b"].get_color()]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c", "rule in use"]


def test_a_roc_shows_masks_which_have_no_curve_by_a_mark(tmp_path, figures):
    curves = {"scores": (np.array([0, 1e-3]), np.array([0.2, 1.0]))}
    points = {"masks": (1e-2, 0.9), "scores": (1e-3, 1.0), "clean": (0.0, 0.3)}
    report.roc_picture(tmp_path / "roc.png", curves, points=points)
    (axes,) = figures[0].axes
    left, right = axes.get_xlim()
    marks = {line.get_label(): line for line in axes.lines if line.get_marker() == "D"}
    assert {name: mark.get_xydata().tolist() for name, mark in marks.items()} == {
        "masks": [[1e-2, 0.9]],
        "clean": [[left, 0.3]],
    }
    assert right == 1e-2 and len({line.get_color() for line in axes.lines[:-1]}) == 3
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["scores", "masks", "clean", "rule in use"]


def test_corners_of_a_roc_are_joined_by_straight_lines():
    fa, pd = np.array([0, 0, 1e-3, 1.0]), np.array([0, 0.2, 0.6, 1.0])
    x, y = _joined(fa, pd, 1e-4)
    assert x.min() == 1e-4 and x.max() == 1 and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    inside = x > 1e-4
    np.testing.assert_allclose(y[inside], np.interp(x[inside], fa[1:], pd[1:]))
    assert sorted(set(y[x == 1e-4].round(6).tolist())) == [0, 0.2, 0.24]
    area = float(np.trapezoid(y[inside], x[inside]))
    assert area == pytest.approx(0.999 * 0.8, rel=1e-2)  # of two values: half of it were lost to steps


def test_training_picture_skips_what_the_log_lacks(tmp_path, size_of, shows):
    full, loss_only = tmp_path / "log.csv", tmp_path / "loss.csv"
    full.write_text("step,lr,train_loss,val_iou\n1,1e-3,0.9,\n2,1e-3,0.5,0.3\n3,1e-3,nan,0.6\n")
    loss_only.write_text("step,train_loss\n1,0.9\n2,0.5\n")
    report.training_picture(tmp_path / "full.png", full)
    report.training_picture(tmp_path / "loss.png", loss_only)
    assert size_of(tmp_path / "full.png") == size_of(tmp_path / "loss.png") == (900, 700)
    assert shows(tmp_path / "full.png", "#0072B2") and shows(tmp_path / "full.png", "#D55E00")
    assert shows(tmp_path / "loss.png", "#0072B2") and not shows(tmp_path / "loss.png", "#D55E00")


def test_the_training_picture_marks_the_highest_figure(tmp_path, figures):
    log = tmp_path / "log.csv"
    log.write_text("step,train_loss,val_iou\n10,0.9,0.3\n20,0.5,0.6\n30,,0.2\n40,0.7,0.4\n")
    report.training_picture(tmp_path / "log.png", log)
    loss, figure = figures[0].axes
    assert loss.lines[0].get_xydata().tolist() == [[10, 0.9], [20, 0.5], [40, 0.7]]
    curve, best = figure.lines
    assert curve.get_xydata().tolist() == [[10, 0.3], [20, 0.6], [30, 0.2], [40, 0.4]]
    assert best.get_xydata().tolist() == [[20, 0.6]]
    assert [text.get_text() for text in figure.get_legend().get_texts()] == ["weights kept: 0.6000 at step 20"]
    assert (loss.get_ylabel(), figure.get_ylabel()) == ("training loss", "validation IoU")


def test_the_training_picture_marks_the_weights_that_were_kept(tmp_path, figures):
    log = tmp_path / "log.csv"
    log.write_text("step,train_loss,val_score,val_iou\n50,0.9,0.8,0.62\n100,0.5,0.6,0.64\n")
    report.training_picture(tmp_path / "log.png", log)
    assert figures[0].axes[1].lines[1].get_xydata().tolist() == [[50, 0.62]]


def test_the_training_picture_of_a_denoiser_has_its_psnr(tmp_path, shows):
    log = tmp_path / "log.csv"
    log.write_text("step,train_loss,val_psnr\n1,0.9,\n2,0.5,38.1\n3,0.4,39.2\n")
    report.training_picture(tmp_path / "log.png", log, figure="val_psnr")
    assert shows(tmp_path / "log.png", "#0072B2") and shows(tmp_path / "log.png", "#D55E00")


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read"), ("a,b\n1,2\n", "no column"), ("step,val_iou\n1,good\n", "cannot be read")],
)
def test_a_log_that_cannot_be_drawn_is_named(tmp_path, text, says):
    log = tmp_path / "log.csv"
    if text is not None:
        log.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        report.training_picture(tmp_path / "t.png", log)
    assert str(log) in str(caught.value) and not (tmp_path / "t.png").exists()


def test_pictures_overwrite_only_when_asked(tmp_path, size_of):
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(OutputError):
        report.roc_picture(path, {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
    report.roc_picture(path, {}, overwrite=True)
    assert size_of(path) == (900, 700)
