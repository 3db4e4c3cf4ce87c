"""Synthetic scenes as files: images with masks, cubes with and without noise, and the truth about them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta
from rsunfold.errors import UsageError
from rsunfold.io.atomic import atomic_path, refuse_existing
from rsunfold.io.jsonfile import told_by, write_json
from rsunfold.io.work import move_results, work_folder
from rsunfold.io.writer import RasterWriter, refuse_shared_header
from rsunfold.simulate.hyperspectral import HyperspectralScene
from rsunfold.simulate.infrared import InfraredScene
from rsunfold.simulate.noise import NoisyCube


def write_infrared(folder: str | os.PathLike[str], scenes: Iterable[InfraredScene], *, overwrite: bool = False) -> int:
    """Write ``images/NAME.png`` (8 bit), ``masks/NAME.png`` (0 and 255) and ``truth.json``; returns how many scenes.

    Scenes that an earlier run has left there, by its ``truth.json``, are removed where they are not written again.
    Nothing is left, or changed, unless all is written. Raises OutputError when a file exists and ``overwrite`` is
    False, or the folder cannot be written.
    """
    folder = Path(folder)
    refuse_existing(folder / "truth.json", overwrite)
    before = _names_of(folder / "truth.json")
    truth = {}
    with work_folder(folder) as work:
        for number, scene in enumerate(scenes, start=1):
            name = f"scene-{number:03d}-{scene.background}"
            pictures = {"images": np.round(scene.image * 255), "masks": scene.mask * 255.0}
            for kind, picture in pictures.items():
                refuse_existing(folder / kind / f"{name}.png", overwrite)
                save_png(work / kind / f"{name}.png", picture.astype(np.uint8))
            truth[name] = {"background": scene.background, "seed": scene.seed, "targets": scene.targets}
        write_json(work / "truth.json", truth)
        gone = [f"{kind}/{name}.png" for name in before - truth.keys() for kind in ("images", "masks")]
        move_results(work, folder, overwrite, gone, within=("images", "masks"))
    return len(truth)


def _names_of(truth: Path) -> set[str]:
    """The scenes that a ``truth.json`` of an earlier run lists; none where it is something else."""
    return {name for name in told_by(truth) if re.fullmatch(r"scene-\d{3,}-\w+", name)}


def write_hyperspectral(
    folder: str | os.PathLike[str],
    scene: HyperspectralScene,
    noisy: NoisyCube,
    *,
    envi: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Write ``clean.tif``, ``noisy.tif`` (``.img`` and ``.hdr`` with ``envi``) and ``truth.json``; returns their names.

    The truth gives, band by band, the standard deviation of the Gaussian noise (in the units of the cube) and the
    shares of the pixels with a stripe, in a dead line and hit by an impulse (None where the kind has no such noise).
    Raises UsageError when ``noisy`` has another size than the scene, and OutputError when a file exists and
    ``overwrite`` is False, both before anything is written, or when the folder cannot be written.
    """
    folder = Path(folder)
    if noisy.data.shape != scene.data.shape:
        raise UsageError(f"a noisy cube of shape {noisy.data.shape} does not belong to a scene of {scene.data.shape}.")
    cubes, suffix = {"clean": scene.data, "noisy": noisy.data}, ".img" if envi else ".tif"
    names = [name + end for end in ((suffix, ".hdr") if envi else (suffix,)) for name in cubes] + ["truth.json"]
    for name in names:
        refuse_existing(folder / name, overwrite)
    for name in cubes if envi else ():
        refuse_shared_header(folder / (name + suffix))
    bands, rows, cols = scene.data.shape
    meta = Meta(wavelengths=tuple(scene.wavelengths.tolist()))
    size = {"bands": bands, "rows": rows, "cols": cols, "dtype": np.float32}
    truth = {
        "seed": scene.seed,
        "data_range": 1.0,
        "wavelengths_nm": scene.wavelengths,
        "materials": scene.materials,
        "spectra": scene.spectra,
        "noise": {"kind": noisy.kind, "seed": noisy.seed, **noisy.realised()},
    }
    with work_folder(folder) as work:
        for name, data in cubes.items():
            with RasterWriter(work / (name + suffix), **size, meta=meta) as writer:
                writer.write(data)
        write_json(work / "truth.json", truth)
        move_results(work, folder, overwrite)
    return names


def save_png(path: Path, data: NDArray[np.uint8]) -> None:
    """Write a gray picture (rows, cols)."""
    from skimage.io import imsave

    with atomic_path(path) as temporary:
        imsave(temporary, data, check_contrast=False)
