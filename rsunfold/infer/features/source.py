"""What features are selected from: an image whose bands are the features, or a table, behind the same few names."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rsunfold import __version__
from rsunfold.arrays import Real
from rsunfold.cube import Window
from rsunfold.errors import DeviceError, InputError, UsageError
from rsunfold.infer.defects import BEYOND, FAR_BELOW, distance, is_usual
from rsunfold.infer.features.select import outside
from rsunfold.infer.source import closed_on_failure
from rsunfold.infer.spectral import NO_WAVELENGTHS, STRIP_BYTES, SpectralImage
from rsunfold.io import CubeReader, RasterWriter, open_cube
from rsunfold.io.inputs import FileStates
from rsunfold.io.memory import ArrayReader
from rsunfold.io.reader import select_bands
from rsunfold.io.table import TEXT_SUFFIXES, Table, write_columns
from rsunfold.noise import band_noise, directions, steps
from rsunfold.registry import all_models
from rsunfold.scene import SAMPLE, Scene, scene_of

Ranges = Sequence[tuple[float, float]]

SAMPLE_COPIES = 2
"""Copies of the sample that stands for a scene, while it is gathered."""
CENTRED, NO_VALUE = -9.0, -99.0
"""Down to where features of mean 0 may hold a number however far from the others, and from where none is a value beside
others that are all the same."""
SQUARES = 8
"""Matrices of features x features in float64 that a ranking holds."""


MICROMETRES = 20.0
"""Below it a wavelength is one in micrometres: no optical sensor has bands of so few nm."""
NARROW_BANDS, NARROW_GAP = 20, 25.0
"""Fewest bands, and largest median gap of their wavelengths in nm, of which neighbours see nearly the same: what the
others do not tell of a band is its noise then. Bands farther apart have signal of their own."""


class FeatureSource(ABC):
    """An input and its features; a context manager that closes it.

    path : as given. noun : what a feature is called. count : of all features. inside : those that take part,
    zero-based. left_out : reason by zero-based index of the others. names, wavelengths, fwhm (nm) : (count,) or empty.
    mean, deviation : float64 (count,), in the units of the input, NaN for those left out. samples : that were looked
    at. notes : sentences on what was assumed. states : of its files when it was opened, see
    :func:`rsunfold.io.inputs.states_of`.
    """

    path: str
    noun: str
    count: int
    inside: list[int]
    left_out: dict[int, str]
    names: Sequence[str] = ()
    wavelengths: Sequence[float] = ()
    fwhm: Sequence[float] = ()
    mean: Real
    deviation: Real
    samples: int
    notes: list[str]
    states: FileStates = MappingProxyType({})

    @abstractmethod
    def scene(self, seed: int) -> Scene:
        """The features that take part as a scene, samples from 0 to 1 by the smallest and the largest of all."""

    def doubts(self, scene: Scene) -> list[str]:
        """Sentences on why ``scene``, of the features that take part, may not tell which ones are good."""
        return []

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What the input is, for the JSON report."""

    @abstractmethod
    def suffix(self, envi: bool) -> str:
        """Extension of the file that :meth:`write` writes."""

    @abstractmethod
    def write(self, path: Path, chosen: Sequence[int], about: dict[str, str]) -> None:
        """Write the features ``chosen`` (zero-based, in that order), everything else as it is; may add notes."""

    @abstractmethod
    def reduced(self, chosen: Sequence[int]) -> NDArray[Any]:
        """The features ``chosen`` in memory, in the type of the input."""

    def close(self) -> None:  # noqa: B027 (a table is in memory)
        """Let go of the input."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ImageBands(FeatureSource):
    """The bands of an image; bad, empty and constant ones, those outside ``drop`` and ``keep`` (ranges of wavelengths
    in nm), and ``drop_bands`` (see :func:`rsunfold.infer.bands.dropped`) take no part. Statistics come from one pass by
    strips of rows that fit in ``room`` bytes.

    Raises InputError when the image cannot be read, has a single band or no wavelengths where ranges or a gap ask for
    them; UsageError for ranges in micrometres; DeviceError when the memory does not suffice.
    """

    noun = "band"

    def __init__(
        self,
        source: str | CubeReader,
        *,
        room: int,
        var: str | None = None,
        drop: Ranges = (),
        keep: Ranges = (),
        drop_bands: Sequence[str] = (),
        gap: float | None = None,
    ) -> None:
        reader = source if isinstance(source, CubeReader) else open_cube(source, var=var)
        with closed_on_failure(reader):
            self.path, self.count = str(reader.path), reader.shape[0]
            if self.count < 2:
                raise InputError(f"{self.path} has a single band; there is nothing to choose from.")
            meta = reader.meta
            if len(meta.nodata_values) > 1:
                raise InputError(
                    f"{self.path} has several nodata values, which the output cannot represent; first give "
                    "all bands the same one."
                )
            self.notes = list(meta.notes)
            self.wavelengths, self.fwhm, self.names = meta.wavelengths, meta.fwhm, meta.band_names
            if not self.wavelengths:
                asked = [o for o, v in (("--drop", drop), ("--keep", keep), ("--min-gap", gap)) if v]
                if asked:
                    instead = "" if asked == ["--min-gap"] else "; exclude bands by number or name with --drop-bands"
                    raise InputError(
                        f"{self.path} has no wavelengths, so {' and '.join(asked)} cannot be used{instead}."
                    )
            if drop or keep:
                refuse_micrometres(self.path, self.wavelengths, {"--drop": drop, "--keep": keep})
            beside = outside(self.wavelengths, drop, keep)
            if len(beside) == self.count:
                leave = "--drop and --keep leave" if drop and keep else "--drop leaves" if drop else "--keep leaves"
                raise InputError(f"{leave} no band of {self.path}, which has {_extent(self.wavelengths)}.")
            for low, high in (*drop, *keep):
                if not any(low <= w <= high for w in self.wavelengths):
                    self.notes.append(f"no band lies in the range {low:g}-{high:g} nm")
            self._room = room
            _, rows, cols = reader.shape
            sample = SAMPLE_COPIES * 4 * self.count * min(SAMPLE, rows * cols) + SQUARES * 8 * self.count**2
            self.image = SpectralImage(
                reader, left_out=beside, drop_bands=drop_bands, room=room, kept=sample, spikes="limited"
            )
            s = self.image.statistics
            self.inside, self.left_out, self.samples = s.bands, s.passed, s.valid_pixels
            self.mean, self.deviation = np.full(self.count, np.nan), np.full(self.count, np.nan)
            self.mean[s.bands] = s.moments.mean
            self.deviation[s.bands] = np.sqrt(np.maximum(np.diagonal(s.moments.covariance), 0))
            if len(s.bands) < 2:
                raise InputError(f"{self.path} has a single usable band; there is nothing to choose from.")
            self.notes += self.image.remarks()
            if not self.wavelengths:
                self.notes.append(NO_WAVELENGTHS)

    def scene(self, seed: int) -> Scene:
        """See :meth:`FeatureSource.scene`, with the noise of narrow bands; the sample takes a second pass."""
        scene = self.image.scene(seed)
        if self.wavelengths:
            scene = replace(scene, wavelengths=np.array([self.wavelengths[b] for b in self.inside]))
        if not self._narrow():
            return scene
        return replace(scene, noise=band_noise(scene.covariance, step=steps(scene.sample)))

    def doubts(self, scene: Scene) -> list[str]:
        """A sentence on an image whose noise was taken away: what differs by less than the noise did now counts."""
        model = self.image.meta.tags.get("RSUNFOLD_MODEL")
        if model is not None and model in (spec.name for spec in all_models("denoise-hsi")):
            seen = f"the image was denoised by {model}"
        elif scene.noise is not None and 2 * directions(scene.covariance) < len(scene.mean):
            seen = "most bands follow from the others without any noise, as after denoising"
        else:
            return []
        return [
            f"{seen}: which bands are worth most is told by the image as measured; choose them there, and take the "
            "same of this one with --like"
        ]

    def _narrow(self) -> bool:
        bands, known = self.inside, len(self.wavelengths) > 0
        gaps = np.diff(np.sort([self.wavelengths[b] for b in bands])) if known else np.zeros(1)
        return len(bands) >= NARROW_BANDS and float(np.median(gaps)) <= NARROW_GAP and self.samples >= 2 * len(bands)

    def about(self) -> dict[str, Any]:
        """Size, CRS and how many pixels were looked at."""
        meta, s = self.image.meta, self.image.statistics
        return {
            "rows": self.image.rows,
            "cols": self.image.cols,
            "crs": str(meta.placed_in) if meta.placed_in else None,
            "acquired": meta.acquired or None,
            "valid_pixels": s.valid_pixels,
            "invalid_pixels": s.invalid_pixels,
        }

    def suffix(self, envi: bool) -> str:
        """GeoTIFF, or ENVI."""
        return ".img" if envi else ".tif"

    def write(self, path: Path, chosen: Sequence[int], about: dict[str, str]) -> None:
        """The stored samples of some bands with their wavelengths, nodata, scale and names, window by window."""
        reader, image = self.image.reader, self.image
        meta = select_bands(image.meta, chosen)
        names = meta.band_names or tuple(f"Band {band + 1}" for band in chosen)  # of the image they were chosen from
        meta = replace(meta, notes=(), tags={**meta.tags, "RSUNFOLD_VERSION": __version__, **about}, band_names=names)
        lost = 0
        nodata = next(iter(meta.nodata_values.values()), math.nan if reader.dtype.kind == "f" else None)
        if nodata is not None:
            meta = replace(meta, nodata=(nodata,) * len(chosen))
        size: dict[str, Any] = {"bands": len(chosen), "rows": image.rows, "cols": image.cols}
        with RasterWriter(path, dtype=reader.dtype, meta=meta, **size) as raster:
            for window in self._windows(len(chosen), reader.dtype.itemsize, raster.block_shape):
                cube = reader.read(window, chosen, scaled=False)
                unmarked = meta.unmarked(cube.data, cube.valid)
                if nodata is None:
                    lost += int(unmarked.sum())
                else:
                    cube.data[:, unmarked] = nodata
                raster.write(cube.data, window)
        if lost:
            self.notes.append(
                f"{lost} pixels are invalid because of a mask in the file, which is not copied to {path.name}"
            )

    def _windows(self, bands: int, itemsize: int, block: tuple[int, int]) -> Iterator[Window]:
        """Whole blocks of the raster that is written, as many side by side as the memory allows, row by row."""
        rows, cols = self.image.rows, self.image.cols
        # Read, written and compressed.
        pixels = max(1, int(min(STRIP_BYTES, self._room // 4)) // (bands * itemsize))
        height, width = min(rows, block[0]), min(cols, block[1])
        if height * width > pixels:
            height, width = max(1, pixels // width), min(width, pixels)
        width = min(cols, max(width, pixels // height // width * width))
        if width == cols:
            height = min(rows, max(height, pixels // width // height * height))
        return self.image.whole.parts(height, width)

    def reduced(self, chosen: Sequence[int]) -> NDArray[Any]:
        """(bands, rows, cols), masked where only a mask says that pixels are invalid."""
        cube = self.image.reader.read(bands=chosen, scaled=False)
        hidden = select_bands(self.image.meta, chosen).unmarked(cube.data, cube.valid)
        truths = isinstance(self.image.reader, ArrayReader) and self.image.reader.bits == 1
        data = cube.data.astype(bool) if truths else cube.data
        return np.ma.array(data, mask=np.broadcast_to(hidden, data.shape).copy()) if hidden.any() else data

    def close(self) -> None:
        """Close the file."""
        self.image.reader.close()


def refuse_micrometres(path: str, wavelengths: Sequence[float], ranges: Mapping[str, Ranges]) -> None:
    """Raise UsageError for the first of the ``ranges``, by option, of which some are micrometres by all that can be
    told: nothing lies there in nm, and a part of the bands does in micrometres.

    wavelengths : of the bands of ``path``, in nm.
    """
    first, last = min(wavelengths), max(wavelengths)
    for option, given in ranges.items():
        micrometres = [
            (low, high)
            for low, high in given
            if 0 < low <= high < MICROMETRES <= first  # from 0 on stands for the first bands, in nm
            and (1000 * low <= last and 1000 * high >= first)
            and (1000 * low > first or 1000 * high < last)
        ]
        if micrometres:
            typed, meant = (
                ",".join(f"{unit * low:g}-{unit * high:g}" for low, high in micrometres) for unit in (1, 1000)
            )
            raise UsageError(
                f"{option} is in nm, but {typed} looks like micrometres: write {meant} ({path} has "
                f"{_extent(wavelengths)})."
            )


def _extent(wavelengths: Sequence[float]) -> str:
    return f"bands from {min(wavelengths):g} to {max(wavelengths):g} nm"


def refuse_large(data: NDArray[np.float64], room: int) -> None:
    """Raise DeviceError where ``room`` bytes do not hold what a table (samples, features) needs beside itself."""
    count = data.shape[1]
    needed = SQUARES * 8 * count**2 + 2 * data.nbytes
    if needed > room:
        raise DeviceError.no_room(
            f"beside the table, a copy of {len(data)} samples and the covariance of {count} features need", needed, room
        )


def _far_below(column: Real) -> dict[float, float]:
    """Numbers of a feature (n,) that usually stand for no data, below all others and far from them, each with its
    distance; one such number does not hide another."""
    numbers = np.unique(column)
    marks = [float(number) for number in numbers[numbers <= -1] if is_usual(number)]
    others = column[~np.isin(column, [mark for mark in marks if mark < CENTRED])]
    found = {}
    for mark in marks:
        rest = others[others != mark]
        if rest.size and mark > rest.min():
            continue
        off = distance(mark, rest) if rest.size else math.inf
        if off == math.inf and rest.size and rest.min() - mark <= 2 * max(1.0, float(np.abs(rest).max())):
            continue  # a feature of two values, which say nothing of how far is far
        if FAR_BELOW < off < math.inf or (off == math.inf and mark <= NO_VALUE):
            found[mark] = off
    return found


def no_data_marks(
    path: str, data: NDArray[np.float64], inside: Sequence[int] | NDArray[np.intp], called: Callable[[int], str]
) -> list[str]:
    """Sentences on the features ``inside`` of a table (samples, features) that hold a number which may stand for no
    data, such as -9. called : what a feature is called.

    Raises InputError where one is too far from all others for anything else, such as -9999.
    """
    low = data.min(axis=0)
    told: dict[Any, str] = {}
    for i in inside:
        for mark, off in _far_below(data[:, i]).items() if is_usual(low[i]) else ():
            held = int(np.count_nonzero(data[:, i] == mark))
            holds = f"{called(i)} holds {mark:g} in {held} sample{'' if held == 1 else 's'}, far from all others"
            if off > BEYOND and mark < CENTRED:
                raise InputError(
                    f"{path}: {holds}, which stands for no data; fill these cells, remove these samples, or "
                    "leave the feature out."
                )
            told.setdefault(i, holds)
    more = f" (and {len(told) - 1} more features like it)" if len(told) > 1 else ""
    first = next(iter(told.values()), "")
    return [f"{first}{more}; if that stands for no data, remove these samples"] if told else []


def table_scene(data: NDArray[np.float64], inside: Sequence[int] | NDArray[np.intp], seed: int) -> Scene:
    """The scene of the features ``inside``, not all constant, of a table (samples, features): from 0 to 1 by the
    smallest and the largest of their values."""
    scaled = data[:, inside]  # a copy, scaled in place: refuse_large counts it and the sample
    scaled -= scaled.min()
    scaled /= scaled.max()
    return scene_of(scaled.T[:, None], seed=seed)


class TableColumns(FeatureSource):
    """The features of a table; constant and empty ones take no part. room : bytes that may be held beside the table.

    Raises InputError when there is one alone, or all of them are constant but one or none; DeviceError when the memory
    does not suffice.
    """

    noun = "feature"

    def __init__(self, table: Table, room: int) -> None:
        self.table, self.path, self.notes = table, table.path, list(table.notes)
        data = table.data
        self.samples, self.count = data.shape
        self.names = table.names
        refuse_large(data, room)
        if self.count == 1:
            raise InputError(f"{self.path} has a single feature; there is nothing to choose from.")
        varies = data.max(axis=0) > data.min(axis=0)
        self.inside = [int(i) for i in np.flatnonzero(varies)]
        self.left_out = {int(i): "empty" if i in table.empty else "constant" for i in np.flatnonzero(~varies)}
        if len(self.inside) < 2:
            many = "every feature" if not self.inside else "every feature but one"
            what = "constant or empty" if table.empty else "constant"
            raise InputError(f"{self.path}: {many} is {what}; there is nothing to choose from.")
        self.mean = np.where(varies, data.mean(axis=0), np.nan)
        self.deviation = np.where(varies, data.std(axis=0), np.nan)
        self.notes += no_data_marks(self.path, data, self.inside, table.name)
        self.notes += self._duplicates()

    def _duplicates(self) -> list[str]:
        """A sentence on features that are the same in all samples."""
        first: dict[bytes, int] = {}
        pairs = []
        for i in self.inside:
            j = first.setdefault(self.table.data[:, i].tobytes(), i)
            if j != i:
                pairs.append(f"{self.table.name(i)} repeats {self.table.name(j)}")
        more = f" (and {len(pairs) - 3} more)" if len(pairs) > 3 else ""
        return [f"duplicate features: {', '.join(pairs[:3])}{more}"] if pairs else []

    def scene(self, seed: int) -> Scene:
        """See :meth:`FeatureSource.scene`."""
        return table_scene(self.table.data, self.inside, seed)

    def about(self) -> dict[str, Any]:
        """Size."""
        return {"samples": self.samples, "columns_kept_aside": [name for name, _ in self.table.kept]}

    def suffix(self, envi: bool) -> str:
        """CSV for a table of text, else NumPy's own: an archive where there is more than the features."""
        if Path(self.path).suffix.lower() in (*TEXT_SUFFIXES, ".parquet"):
            return ".csv"
        return ".npy" if self.table.labels is None and not self.table.kept else ".npz"

    def write(self, path: Path, chosen: Sequence[int], about: dict[str, str]) -> None:
        """See :func:`rsunfold.io.table.write_columns`."""
        write_columns(path, self.table, chosen)

    def reduced(self, chosen: Sequence[int]) -> NDArray[Any]:
        """(samples, features)."""
        return np.ascontiguousarray(self.table.stored[:, chosen])
