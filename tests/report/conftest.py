"""A scene with targets, and how the tests look at the PNG files that are written and at what was drawn in them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rsunfold.report import drawing
from rsunfold.targets import TargetCollector


@pytest.fixture(autouse=True)
def sketched() -> None:
    """Pictures are here what users see."""


@pytest.fixture
def scene():
    """A dim gradient with three bright squares, (image, score, mask, targets)."""
    image = np.random.default_rng(0).normal(0.3, 0.02, (90, 120)).astype(np.float32)
    mask = np.zeros((90, 120), bool)
    for row, col in ((10, 20), (45, 100), (70, 5)):
        mask[row : row + 3, col : col + 3] = True
    image[mask] = 0.9
    score = np.where(mask, 0.95, 0.01).astype(np.float32)
    collector = TargetCollector(90, 120)
    collector.add(0, score, mask, image)
    targets = collector.finish(lambda w: (image[w.slices], np.ones((w.height, w.width), bool), mask[w.slices]))
    return image, score, mask, targets


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that the test has saved so far; none of them is rendered, their files are empty."""
    saved = []

    def keep(figure: Figure, path: Path) -> None:
        saved.append(figure)
        path.touch()

    monkeypatch.setattr(drawing, "render", keep)
    return saved


@pytest.fixture
def size_of() -> Callable[[Path], tuple[int, int]]:
    """``size_of(path)``: (width, height) of a PNG, read in full."""

    def size(path: Path) -> tuple[int, int]:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        height, width, _ = imread(path).shape
        return width, height

    return size


@pytest.fixture
def shows() -> Callable[..., bool]:
    """``shows(path, "#FFB000")``: whether some pixel has this colour, up to the smoothing of a line's edge.

    Light colours are also those of smoothed edges: ask for an area of one with ``within=0``.
    """

    def found(path: Path, colour: str, within: int = 8) -> bool:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        pixels = np.rint(imread(path)[..., :3] * 255)
        return bool((np.abs(pixels - wanted).max(axis=2) <= within).any())

    return found
