"""Pictures of chosen features, read back."""

import numpy as np
import pytest

from rsunfold.errors import InputError, OutputError
from rsunfold.report import Curve, feature_curves_picture, selection_picture
from rsunfold.report.drawing import COLOURS
from rsunfold.report.features import _CHOSEN

MEAN = np.sin(np.linspace(0, 3, 40)) + 1
W = np.linspace(400, 2400, 40)


def test_a_selection(tmp_path, size_of, shows):
    mean = MEAN.copy()
    mean[3:6] = np.nan
    for name, extra in (("nm", {"wavelengths": W}), ("numbers", {"noun": "feature"})):
        path = tmp_path / f"{name}.png"
        selection_picture(path, mean, 0.1 * mean, [0, 9, 30], np.eye(3) * 2 - 1, title="t", **extra)
        assert size_of(path) == (1500, 620)
        assert shows(path, _CHOSEN)
        assert shows(path, "#fcfdbf")  # magma's end: a correlation of 1 and of -1
    with pytest.raises(OutputError, match="already exists"):
        selection_picture(path, mean, mean, [0], np.eye(1))


def test_chosen_bands_lie_on_the_mean_spectrum(tmp_path, figures):
    chosen, correlation = [30, 0, 9], np.array([[1, -0.5, 0.3], [-0.5, 1, 0.1], [0.3, 0.1, 1]])
    selection_picture(tmp_path / "a.png", MEAN, 0.1 * MEAN, chosen, correlation, wavelengths=W)
    left, right, _ = figures[0].axes
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_array_equal(lines["mean"].get_xydata(), np.transpose([W, MEAN]))
    np.testing.assert_array_equal(lines["3 chosen"].get_xydata(), np.transpose([W, MEAN])[chosen])
    (band,) = left.collections
    edges = {tuple(point) for path in band.get_paths() for point in path.vertices.round(9)}
    for edge in (0.9 * MEAN, 1.1 * MEAN):
        assert edges >= set(zip(W.round(9), edge.round(9), strict=True))
    np.testing.assert_array_equal(right.images[0].get_array(), np.abs(correlation))
    assert right.get_title() == "|correlation|: mean 0.30 between two of them"
    assert [text.get_text() for text in right.get_xticklabels()] == [f"{W[i]:.0f}" for i in chosen]


def test_names_stand_in_for_wavelengths(tmp_path, figures):
    selection_picture(tmp_path / "a.png", MEAN[:3], MEAN[:3], [0, 2], np.eye(2), names=("B2", "B3", "B8A"))
    left, right, _ = figures[0].axes
    assert [text.get_text() for text in left.get_xticklabels()] == ["B2", "B3", "B8A"]
    assert [text.get_text() for text in right.get_xticklabels()] == ["B2", "B8A"]


def test_one_and_many_bands(tmp_path, size_of):
    for k in (1, 40):
        selection_picture(tmp_path / f"{k}.png", MEAN, MEAN, range(k), np.ones((k, k)), wavelengths=W)
        assert size_of(tmp_path / f"{k}.png") == (1500, 620)


@pytest.mark.parametrize(("chosen", "size"), [([], 0), ([1, 2], 3), ([40], 1), ([-1], 1)])
def test_a_selection_that_does_not_fit(chosen, size, tmp_path):
    with pytest.raises(InputError, match="do not belong together"):
        selection_picture(tmp_path / "a.png", MEAN, MEAN, chosen, np.ones((size, size)))
    assert not (tmp_path / "a.png").exists()


def test_curves(tmp_path, size_of, shows):
    curves = {f"m{i}": Curve([10, 20, 30], [50 + i, 55, 60], [1, np.nan, 2]) for i in range(3)}
    path = tmp_path / "a.png"
    feature_curves_picture(path, {"ACC": curves, "NMI": curves}, baselines={"ACC": 58.0, "NMI": np.nan})
    assert size_of(path) == (1400, 560)
    assert all(shows(path, colour) for colour in COLOURS[:3])
    with pytest.raises(OutputError):
        feature_curves_picture(path, {"ACC": curves})
    for nothing in ({}, {"ACC": {}}):
        with pytest.raises(InputError, match="there is no curve to show"):
            feature_curves_picture(tmp_path / "b.png", nothing)
