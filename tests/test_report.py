import dataclasses
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from rsunfold import report
from rsunfold.cube import Window
from rsunfold.drawing import INSET, boxes, inset_window, outline, square
from rsunfold.errors import InputError, OutputError
from rsunfold.infer.targets import find_targets


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    value: float


@pytest.fixture
def scene():
    """A dim gradient with three bright squares, (image, score, mask, targets)."""
    image = np.random.default_rng(0).normal(0.3, 0.02, (90, 120)).astype(np.float32)
    mask = np.zeros((90, 120), bool)
    for row, col in ((10, 20), (45, 100), (70, 5)):
        mask[row : row + 3, col : col + 3] = True
    image[mask] = 0.9
    score = np.where(mask, 0.95, 0.01).astype(np.float32)
    return image, score, mask, find_targets(score, mask, image)


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, read in full."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = imread(path).shape
    return width, height


def shows(path: Path, colour: str) -> bool:
    """Whether some pixel has this colour, such as #FFB000, up to the smoothing of a line's edge."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = np.rint(imread(path)[..., :3] * 255)
    return bool((np.abs(pixels - wanted).max(axis=2) <= 8).any())


def test_json_takes_what_results_are_made_of(tmp_path):
    obj = {
        "nan": math.nan, "inf": np.float32(np.inf), "n": np.int64(3), "flag": np.bool_(True), 4: (1, 2.5),
        "array": np.array([[1.0, np.nan]]), "record": Record("ä", math.nan), "path": Path("a/b"), "none": None,
    }  # fmt: skip
    report.write_json(tmp_path / "r.json", obj)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "nan": None, "inf": None, "n": 3, "flag": True, "4": [1, 2.5],
        "array": [[1.0, None]], "record": {"name": "ä", "value": None}, "path": "a/b", "none": None,
    }  # fmt: skip


def test_json_leaves_no_file_for_an_object_it_cannot_write(tmp_path):
    with pytest.raises(TypeError):
        report.write_json(tmp_path / "r.json", {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_table_has_every_column_and_dashes_for_what_is_missing():
    rows = [
        {"model": "l-rpcanet", "IoU": 0.712345678, "images": 12},
        {"model": "top-hat", "IoU": math.nan, "note": 1e-6},
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(report.table(rows, title="validation"))
    text = out.getvalue()
    assert "validation" in text and "0.7123" in text and "0.71235" not in text and "1e-06" in text
    cells = [[c.strip() for c in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    assert cells == [["l-rpcanet", "0.7123", "12", "–"], ["top-hat", "–", "–", "1e-06"]]
    assert [c.justify for c in report.table(rows).columns] == ["left", "right", "right", "right"]


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


def test_quicklook_shows_boxes_and_outlines(tmp_path, scene):
    path = tmp_path / "q.png"
    report.quicklook(path, *scene, title="scene")
    assert size_of(path) == (1400, 960)
    assert shows(path, "#FFB000") and shows(path, "#2EE66B")


def test_quicklook_of_nothing_has_no_insets_boxes_or_outlines(tmp_path, scene):
    image, score, mask, _ = scene
    path = tmp_path / "q.png"
    report.quicklook(path, image, score, np.zeros_like(mask), [])
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
    report.quicklook(tmp_path / "b.png", *small, shape=(90, 120))
    assert size_of(tmp_path / "a.png")[1] > size_of(tmp_path / "b.png")[1]


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_quicklook_of_thin_and_empty_images(tmp_path, shape):
    image = np.full(shape, np.nan, np.float32)
    report.quicklook(tmp_path / "q.png", image, image, np.zeros(shape, bool), [])
    assert size_of(tmp_path / "q.png")[0] == 1400
    assert shows(tmp_path / "q.png", "#CFE3F2")
    on = np.ones(shape, bool)
    report.quicklook(tmp_path / "r.png", on * 1.0, on * 1.0, on, find_targets(on * 1.0, on, on * 1.0))
    assert size_of(tmp_path / "r.png")[1] > size_of(tmp_path / "q.png")[1]  # the inset


def test_roc_draws_every_curve_also_one_without_any_false_alarm(tmp_path):
    curves = {
        "a": (np.array([1e-3, 0, 1e-6]), np.array([1.0, 0.2, 0.5])),
        "b": (np.zeros(2), np.array([0.4, 0.7])),
    }
    report.roc_picture(tmp_path / "roc.png", curves, points={"a": (1e-6, 0.5)}, title="ROC")
    assert size_of(tmp_path / "roc.png") == (900, 700)
    assert shows(tmp_path / "roc.png", "#0072B2") and shows(tmp_path / "roc.png", "#D55E00")
    report.roc_picture(tmp_path / "none.png", {"b": curves["b"]})
    assert shows(tmp_path / "none.png", "#0072B2")


def test_worst_images_show_truth_and_prediction(tmp_path, scene):
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


def test_stages_have_one_row_each_and_one_column_per_letter(tmp_path):
    rng = np.random.default_rng(1)
    stage = {letter: rng.normal(size=(32, 40)) for letter in "BTND"}
    last = {"B": stage["B"], "T": np.zeros((32, 40))}
    report.stages_picture(tmp_path / "s.png", [stage, stage, last])
    assert size_of(tmp_path / "s.png") == (1060, 810)
    report.stages_picture(tmp_path / "t.png", [{k: stage[k] for k in "BTD"}])
    assert size_of(tmp_path / "t.png") == (810, 310)
    with pytest.raises(InputError, match="no stage"):
        report.stages_picture(tmp_path / "n.png", [])


def test_training_picture_skips_what_the_log_lacks(tmp_path):
    full, loss_only = tmp_path / "log.csv", tmp_path / "loss.csv"
    full.write_text("step,lr,train_loss,val_iou\n1,1e-3,0.9,\n2,1e-3,0.5,0.3\n3,1e-3,nan,0.6\n")
    loss_only.write_text("step,train_loss\n1,0.9\n2,0.5\n")
    report.training_picture(tmp_path / "full.png", full)
    report.training_picture(tmp_path / "loss.png", loss_only)
    assert size_of(tmp_path / "full.png") == size_of(tmp_path / "loss.png") == (900, 700)
    assert shows(tmp_path / "full.png", "#0072B2") and shows(tmp_path / "full.png", "#D55E00")
    assert shows(tmp_path / "loss.png", "#0072B2") and not shows(tmp_path / "loss.png", "#D55E00")


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


def test_pictures_and_json_overwrite_only_when_asked(tmp_path):
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(OutputError):
        report.write_json(path, {})
    with pytest.raises(OutputError):
        report.roc_picture(path, {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
    report.roc_picture(path, {}, overwrite=True)
    assert size_of(path) == (900, 700)
    report.write_json(path, {}, overwrite=True)
    assert path.read_text() == "{}\n"


def test_importing_report_loads_neither_matplotlib_nor_torch():
    code = "import sys, rsunfold.report; print(sorted({'matplotlib', 'torch', 'rich.table'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
