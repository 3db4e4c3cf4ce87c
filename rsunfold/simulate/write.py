"""Synthetic scenes as files: images, masks and what is known of each target."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsunfold.io.atomic import atomic_path, refuse_existing
from rsunfold.report import write_json
from rsunfold.simulate.infrared import InfraredScene


def write_infrared(folder: Path, scenes: Iterable[InfraredScene], *, overwrite: bool = False) -> int:
    """Write ``images/NAME.png`` (8 bit), ``masks/NAME.png`` (0 and 255) and ``truth.json``; returns how many scenes.

    Raises OutputError when a file exists and ``overwrite`` is False, or the folder cannot be written.
    """
    refuse_existing(folder / "truth.json", overwrite)
    truth = {}
    for number, scene in enumerate(scenes, start=1):
        name = f"scene-{number:03d}-{scene.background}"
        save_png(folder / "images" / f"{name}.png", np.round(scene.image * 255).astype(np.uint8), overwrite)
        save_png(folder / "masks" / f"{name}.png", scene.mask.astype(np.uint8) * 255, overwrite)
        truth[name] = {"background": scene.background, "seed": scene.seed, "targets": scene.targets}
    write_json(folder / "truth.json", truth, overwrite=overwrite)
    return len(truth)


def save_png(path: Path, data: NDArray[np.uint8], overwrite: bool) -> None:
    """Write a gray picture (rows, cols)."""
    from skimage.io import imsave

    with atomic_path(path, overwrite=overwrite) as temporary:
        imsave(temporary, data, check_contrast=False)
