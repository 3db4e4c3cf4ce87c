"""Noisy cubes as files, so that other programs denoise the very same noise, and what they made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Cube
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.evaluation import variable_of
from rsunfold.infer.results import environment
from rsunfold.io import CubeReader, open_cube
from rsunfold.io.atomic import refuse_existing
from rsunfold.io.folders import images_in, not_looked_for, refuse_no_folder
from rsunfold.io.reader import chosen_by
from rsunfold.io.work import move_results, work_folder
from rsunfold.io.writer import RasterWriter, refuse_header_of_tiff

if TYPE_CHECKING:
    from rsunfold.infer.hsi.evaluate import Clean

RESTORED = ("_denoised", "")
"""What may follow the name of a noisy cube in that of somebody else's result."""
SCALES_APART = 5.0
"""Times that the median of a result may differ from that of the truth, either way, without a note."""
TOPS_APART = 1.5
"""Times that the largest sample of a truth is more or less than 1 before it is told from one that was divided by it."""
Save = Callable[[str, "Clean", NDArray[np.float32]], None]


@dataclass(frozen=True)
class Draw:
    """A noise of :func:`rsunfold.simulate.noise.make_noise`."""

    kind: str
    sigma: float | None
    seed: int

    @property
    def label(self) -> str:
        """What the noise is called in tables, without its seed."""
        return self.kind if self.sigma is None else f"{self.kind} {self.sigma:g}"

    def of(self, cube: str) -> str:
        """What the file of this noise on a ``cube`` is called, without extension, such as ``scene_iid30_seed0``."""
        return f"{cube}_{self.label.replace(' ', '')}_seed{self.seed}"


def clean_name(cube: str) -> str:
    """What the file of a clean cube, scaled as it is evaluated, is called, without extension."""
    return f"{cube}_clean"


@contextmanager
def noisy_folder(
    folder: Path | None, cubes: Mapping[str, str], draws: Sequence[Draw], *, overwrite: bool
) -> Iterator[Save]:
    """Yield a function that writes a cube, by its name, to ``folder``, as GeoTIFF, float32, NaN where it is not valid;
    all appear there when the block ends, or none. Without a folder nothing is written.

    cubes : path of each clean cube by name. Raises OutputError before anything is written for a file that is there
    without ``overwrite``, and UsageError for the folder of a clean cube, in which the noisy ones would be taken for
    clean, too.
    """
    if folder is None:
        yield lambda name, clean, data: None
        return
    if folder.resolve() in (Path(path).resolve().parent for path in cubes.values()):
        raise UsageError(
            f"--save-noisy names {folder}, where clean cubes are; give the noisy ones a folder of their own."
        )
    names = [name for cube in cubes for name in (clean_name(cube), *(draw.of(cube) for draw in draws))]
    files = [folder / f"{name}.tif" for name in names]
    for file in files:
        refuse_header_of_tiff(file)
        refuse_existing(file, overwrite)
    with work_folder(folder) as work:

        def save(name: str, clean: Clean, data: NDArray[np.float32]) -> None:
            bands, rows, cols = data.shape
            size: dict[str, Any] = {"bands": bands, "rows": rows, "cols": cols, "dtype": np.float32}
            with RasterWriter(work / f"{name}.tif", **size, meta=clean.meta) as writer:
                writer.write(np.where(clean.valid, data, np.float32(np.nan)))

        yield save
        move_results(work, folder, overwrite)


def results_in(folder: Path, cubes: Iterable[str], draws: Sequence[Draw]) -> dict[tuple[str, Draw], Path]:
    """Somebody else's result for each noise on each of the clean ``cubes``: the file that is called like the noisy
    cube, perhaps with ``_denoised`` behind it. Raises InputError where one is missing."""
    wanted = {(cube, draw): [draw.of(cube) + tail for tail in RESTORED] for cube in cubes for draw in draws}
    looked_for = {name for names in wanted.values() for name in names}
    refuse_no_folder(folder, "the denoised cubes")
    found = images_in(folder, lambda path: path.stem in looked_for)
    paths = {}
    for (cube, draw), names in wanted.items():
        path = next((found[name] for name in names if name in found), None)
        if path is None:
            raise InputError(
                f"{folder} contains no result for {cube} with the noise {draw.label}, seed {draw.seed}, called "
                f"{names[-1]} or {names[0]}{not_looked_for(folder, names)}."
            )
        paths[cube, draw] = path
    return paths


def read_result(
    path: Path, shape: tuple[int, int, int], of: str, *, bands: Sequence[int] | None, var: str | None, option: str
) -> Cube:
    """Some ``bands`` (zero-based, None for all) of somebody else's file, whose shape has to be that of the truth.

    of : the words that come before ``shape`` where it is another. var : its variable, which ``option`` chooses, where
    it may have several. Raises InputError for another shape, and complex samples.
    """
    with _opened(path, shape, of, var, option) as reader:
        return reader.read(bands=bands)


def refuse_misfit(path: Path, shape: tuple[int, int, int], of: str, *, var: str | None, option: str) -> None:
    """Raise what :func:`read_result` raises, for what a file says of itself, before its samples are read."""
    with _opened(path, shape, of, var, option):
        pass


@contextmanager
def _opened(path: Path, shape: tuple[int, int, int], of: str, var: str | None, option: str) -> Iterator[CubeReader]:
    with environment(), chosen_by(option), open_cube(path, var=variable_of(path, var)) as reader:
        if reader.shape != shape:
            raise InputError(f"{path} has (bands, rows, cols) {reader.shape}, but {of} {shape}.")
        reader.refuse_complex()
        yield reader


def scale_note(path: Path, found: NDArray[Any], of: str, truth: NDArray[Any], top: float = 1.0) -> list[str]:
    """A sentence where the median of the samples ``found`` in a file is far from that of the ``truth``, both (bands,
    valid pixels) in one unit: then one of them is on a scale of its own.

    top : the largest sample of the truth's file; a median that is nearer to that of a truth divided by it is told, too.
    """
    theirs, ours = float(np.median(found)), float(np.median(truth))
    ratio = theirs / ours if ours > 0 else 1.0
    divided = max(top, 1 / top) > TOPS_APART and ratio > 0 and abs(np.log(ratio * top)) < abs(np.log(ratio))
    if 1 / SCALES_APART <= ratio <= SCALES_APART and not divided:
        return []
    return [f"{path} has a median of {theirs:.3g}, but {of} {ours:.3g}: is one of them divided by its maximum?"]


def names_of_files(paths: Sequence[Path]) -> dict[str, Path]:
    """What tables call files: their names, with their folders where two have the same one."""
    names = [path.name for path in paths]
    return {str(path) if names.count(path.name) > 1 else path.name: path for path in paths}
