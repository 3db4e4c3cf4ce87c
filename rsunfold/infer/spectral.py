"""A hyperspectral file as models see it: the bands that take part, its statistics, windows with holes filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion

from rsunfold.arrays import Mask, Samples
from rsunfold.cube import Alarm, Aside, Cube, Window
from rsunfold.errors import DeviceError, InputError
from rsunfold.infer.bands import dropped
from rsunfold.infer.defects import (
    FAR,
    GAPS,
    LEAST_BANDS,
    LEAST_SIDE,
    NOTABLE,
    bands_with_gaps,
    empty_bands,
    largest_number,
    spectral_axis,
    spike_limits,
    undeclared_fill,
)
from rsunfold.infer.gaps import LEARNED_FROM, LEARNER_BYTES, MOST_LACKING, Mender, mendable
from rsunfold.infer.holes import FILL_REACH, fill_holes
from rsunfold.infer.source import Source, closed_on_failure
from rsunfold.infer.tiles import evenly_spread
from rsunfold.io import CubeReader, open_cube
from rsunfold.lines import BLOCK, ColumnSummary
from rsunfold.moments import Moments
from rsunfold.progress import tracked
from rsunfold.scene import SAMPLE, Scene, some_of
from rsunfold.subspace import Lined, Subspace, estimate_subspace, smooth

STRIP_BYTES = 2**27
"""Most bytes of float32 samples that are read at a time for statistics."""
STRIP_COPIES, STRIP_COPIES_NEAR = 6, 10
"""How often they are held meanwhile, float64 counting twice; and with the smoothed image."""
MENDED_COPIES = 3
"""How often they are held besides where pixels are mended: counts of 32 bits become float64."""
COARSE = 1e-3
"""Largest steps of float32 in units of a band's deviation: the noise may be a hundredth of that."""
_EXPECTED = {
    "MAT": " (rows, columns, bands are expected)",
    "array": " (bands, rows, columns are expected; numpy.moveaxis(array, {place}, 0) puts this one first)",
}
CONTAINERS = {"netCDF", "HDF5", "HDF5Image", "HDF4Image", "Zarr"}
"""Drivers of GDAL that take the last two axes of any array for rows and columns."""
MOSAIC_SIDE, MOSAIC_TILE = 128, 32
"""Side of the mosaic that stands for an image with more pixels, and of the windows that it is made of."""
NO_WAVELENGTHS = Aside("the input has no wavelengths")
CELL = 32
"""Side of the squares whose valid pixels are counted."""
Spikes = Literal["kept", "limited", "holes", "outliers"]
BECAME = {
    "limited": "were limited to the range of the others",
    "holes": "their pixels were left as they are",
    "outliers": "were denoised as outliers, but for pixels that have them in, or lack, most bands, which were left as "
    "they are",
}
"""What is said of spikes."""


def header_shape(path: str | Path, var: str | None = None, drop_bands: Sequence[str] = ()) -> tuple[int, int, int]:
    """(bands, rows, cols) of a file; raises what :class:`SpectralImage` would for what the file says of itself, or for
    bands to drop, before its samples are read."""
    with open_cube(path, var=var) as reader:
        reader.refuse_complex()
        dropped(drop_bands, str(path), reader.shape[0], reader.meta.band_names)
        return reader.shape


class Gap(str):
    """Why a band takes no part that many pixels alone lack."""


@dataclass(frozen=True)
class Statistics:
    """What one pass over the valid pixels gives.

    bands : the bands that take part, zero-based in the file. passed : reason by zero-based band for all others, which
    are passed through. moments, near : of the bands that take part, and of these with their smoothed selves (None
    where that was not asked for or no pixel has all its neighbours). pixels : of the image. lacking int (bands that
    take part,) : pixels that lack the band, but not all of them. partial : pixels that lack some of them but not all,
    of which mended, though valid, are told by their other bands. valid_share : the share of valid
    pixels in each square of CELL pixels, (rows / CELL, cols / CELL), both rounded up.
    """

    bands: list[int]
    passed: dict[int, str]
    moments: Moments
    near: Moments | None
    pixels: int
    valid_share: NDArray[np.float64]
    lacking: NDArray[np.int_]
    partial: int
    mended: int

    @property
    def valid_pixels(self) -> int:
        """Those that the moments are of."""
        return self.moments.count

    @property
    def invalid_pixels(self) -> int:
        """All others of the image."""
        return self.pixels - self.valid_pixels


@dataclass(frozen=True)
class _Pass:
    """What a pass over the image gives of some bands; see :class:`Statistics`."""

    moments: Moments
    near: Moments | None
    valid_share: NDArray[np.float64]
    lacking: NDArray[np.int_]
    partial: int
    mended: int
    mendable: int


class SpectralImage(Source):
    """A file, or an open reader, as spectra of the bands that take part; samples are float32 in physical units, or
    float64 where float32 is too coarse at their level (:attr:`kind`).

    Bands that the file calls bad (``bbl``), that have no valid sample, that many pixels alone lack (GAPS) or that are
    constant take no part. A pixel is valid where every band that takes part is. near : gather the moments with the
    smoothed image too, for :meth:`subspace`. left_out : reason by zero-based band of others that are to take no part.
    drop_bands : those that the user leaves out, see :func:`rsunfold.infer.bands.dropped`. room : bytes that may be
    held, None for any number; kept : those of them that are for something else. spikes : what becomes of rare samples
    more than FAR robust deviations (1.4826 times the median absolute deviation) from the median of their band, taken
    from :attr:`mosaic`: "kept", "limited" to the range of the others, "holes", their pixels invalid, or "outliers",
    limited but for pixels that have them in, or lack, more than half of the bands, which are invalid. One wild sample
    in a million decides mean, covariance and range of its band. :attr:`spiked` : the bands that have such samples,
    where these are not kept. :attr:`fills` : numbers that many pixels hold in all bands, far from all others: they
    stand for no data though the file does not say so, and these pixels are not valid. mend : fill what pixels lack in
    some bands from their others, see :class:`rsunfold.infer.gaps.Mender`; else they are not valid.

    Raises InputError when the samples are complex, no band can take part, no pixel is valid, or the axes of a container
    such as HDF5 are plainly in another order; DeviceError when not even a row fits in ``room``.
    """

    def __init__(
        self,
        source: str | CubeReader,
        *,
        var: str | None = None,
        near: bool = False,
        left_out: Mapping[int, str] | None = None,
        drop_bands: Sequence[str] = (),
        room: int | None = None,
        kept: int = 0,
        spikes: Spikes = "kept",
        mend: bool = False,
    ) -> None:
        super().__init__(source, var)
        self.limits: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self.spikes: Spikes = spikes
        self.spiked: list[int] = []
        self.fills: list[float] = []
        self._varying_bands: list[int] = []
        self.near, self.left_out = near, dict(left_out or {})
        self.mend = mend
        self._mender: Mender | None = None
        self.room, self.kept, self.strip_bytes = room, kept, STRIP_BYTES
        with closed_on_failure(self.reader):
            self.left_out |= dropped(drop_bands, self.path, self.count, self.meta.band_names)
            self._prepare()

    def _prepare(self) -> None:
        """Gather the statistics."""
        self.reader.refuse_complex()
        if self.room is not None:
            copies = (STRIP_COPIES_NEAR if self.near else STRIP_COPIES) + MENDED_COPIES * self.mend
            beside = 4 * self.count * min(MOSAIC_SIDE**2, self.rows * self.cols)  # the mosaic
            if self.mend:
                beside += LEARNER_BYTES * self.count * min(LEARNED_FROM, self.rows * self.cols)
            self.strip_bytes = min(STRIP_BYTES, (self.room - self.kept - beside) // copies)
            least = 4 * self.count * self.cols
            if self.strip_bytes < least:
                raise DeviceError.no_room(
                    f"{self.count} bands of {self.cols} columns need",
                    self.kept + beside + copies * least,
                    self.room,
                )
        self.statistics = self._gather()
        while len(self.fills) < 3 and (fill := self._undeclared()) is not None:
            self.fills.append(fill)
            self._varying_bands = self._varying_bands or self.bands
            self._again()
        if self.spikes != "kept":
            self._limit()
        if self.meta.driver in CONTAINERS and (axis := self._spectral_axis()):
            raise InputError(
                f"the {axis} of {self.path} look like its spectral axis, which has to come first: write it with the "
                "axes (bands, rows, columns), or with wavelengths if these are its axes."
            )

    def _again(self) -> None:
        """Gather the statistics once more, of what is valid now."""
        self.statistics = self._gather()
        for cached in ("mosaic", "kind"):
            self.__dict__.pop(cached, None)

    def _undeclared(self) -> float | None:
        """One of :attr:`fills`; see :func:`rsunfold.infer.defects.undeclared_fill`. Takes one more pass where some is.

        The mosaic says what the others are.
        """

        def sample() -> NDArray[np.floating]:
            data, valid, _ = self.mosaic
            return data[:, valid]

        def cubes() -> Iterator[Cube]:
            return (self._known(window, self.bands) for window in self.strips(len(self.bands)))

        return undeclared_fill(self.statistics.moments, largest_number(self.reader), sample, cubes)

    def _limit(self) -> None:
        """Find spikes, and where there are some gather the statistics of what is left.

        The mosaic says what is far; how many are, the whole image.
        """
        data, valid, _ = self.mosaic
        cubes = (self._known(window, self.bands) for window in tracked(list(self.strips(len(data))), "reading"))
        found = spike_limits(self.statistics.moments, data, valid, cubes)
        if not found:
            return
        self.spiked = [self.bands[k] for k in found]
        whole = np.full((2, self.count), np.inf) * [[-1], [1]]
        whole[:, self.spiked] = np.transpose([*found.values()])
        self.limits = whole[0], whole[1]
        self._again()

    def _known(self, window: Window, bands: list[int]) -> Cube:
        """A window of the file, mended, and no pixel valid that holds one of :attr:`fills`."""
        cube = self.reader.read(window, bands)
        if self._mender is not None:
            wild = None if self.limits is None else self._beyond(cube, bands)
            cube = self._mender.mended(cube, bands, wild)
        return self._unfilled(cube, bands)

    def _unfilled(self, cube: Cube, bands: list[int]) -> Cube:
        """No pixel of ``cube`` valid that holds one of :attr:`fills`."""
        if not self.fills:
            return cube
        # Bands that are constant say nothing, and may hold another number.
        places = [k for k, band in enumerate(bands) if band in self._varying_bands]
        if not places:
            return cube
        data, valid = cube.data[places].astype(np.float32), cube.valid.copy()
        for fill in self.fills:
            valid &= (data != np.float32(fill)).any(axis=0)
        return replace(cube, valid=valid)

    def _cube(self, window: Window, bands: list[int]) -> Cube:
        """What is :meth:`_known` of a window, :meth:`_within_limits`."""
        return self._within_limits(self._known(window, bands), bands)

    def _within_limits(self, cube: Cube, bands: list[int]) -> Cube:
        """``cube`` with what is :meth:`_beyond` limits as :attr:`spikes` says."""
        if self.limits is None:
            return cube
        if self.spikes != "limited":
            beyond = self._beyond(cube, bands)
            lost = beyond if cube.missing is None else beyond | cube.missing
            most = 0.0 if self.spikes == "holes" else MOST_LACKING
            cube = replace(cube, valid=cube.valid & ~(beyond.any(axis=0) & (lost.mean(axis=0) > most)))
        return cube if self.spikes == "holes" else replace(cube, data=np.clip(cube.data, *self._ends(cube, bands)))

    def _beyond(self, cube: Cube, bands: list[int]) -> Mask:
        """bool (bands, h, w): samples of ``cube`` beyond :attr:`limits`; those that are missing are not."""
        if self.limits is None:
            return np.zeros(cube.data.shape, bool)
        low, high = self._ends(cube, bands)
        beyond = (cube.data < low) | (cube.data > high)
        return beyond if cube.missing is None else beyond & ~cube.missing

    def _ends(self, cube: Cube, bands: list[int]) -> list[Samples]:
        """:attr:`limits`, where there are some, (bands, 1, 1) each, as numbers that samples of ``cube`` can be."""
        kind = cube.data.dtype if cube.data.dtype.kind == "f" else np.float64
        return [limit[bands, None, None].astype(kind) for limit in self.limits or ()]

    @property
    def bands(self) -> list[int]:
        """The bands that take part, zero-based."""
        return self.statistics.bands

    def among_all(self, values: ArrayLike) -> NDArray[np.float64]:
        """(..., bands of the file) of values (..., bands that take part), NaN for the other bands."""
        values = np.asarray(values, np.float64)
        out = np.full((*values.shape[:-1], self.count), np.nan)
        out[..., self.bands] = values
        return out

    @property
    def gaps(self) -> list[int]:
        """The bands that many pixels alone lack, zero-based."""
        return [band for band, why in self.statistics.passed.items() if isinstance(why, Gap)]

    @property
    def range(self) -> tuple[float, float]:
        """(low, span): the smallest valid sample over all bands that take part, and the largest less that."""
        moments = self.statistics.moments
        low, high = float(moments.low.min()), float(moments.high.max())
        return low, high - low

    @cached_property
    def kind(self) -> np.dtype[np.floating]:
        """The type to compute in: float32, or float64 where the steps of float32 at the largest sample are more than
        COARSE of the smallest deviation of a band: counts of 32 bits, or numbers with a large offset."""
        return self._fine_enough(self.statistics.moments.largest.max())

    @property
    def written_kind(self) -> np.dtype[np.floating]:
        """The type to write samples in, where the steps of each band are those at its own largest sample."""
        return self._fine_enough(self.statistics.moments.largest)

    def _fine_enough(self, largest: ArrayLike) -> np.dtype[np.floating]:
        """float32, or float64 where the steps of float32 at ``largest``, a number or (bands that take part,), are more
        than COARSE of the deviation of a band, if the file has finer ones."""
        deviation = np.sqrt(np.maximum(np.diagonal(self.statistics.moments.covariance), 0))
        wide = self.reader.dtype.itemsize > 2 and self.reader.dtype != np.float32
        coarse = (deviation > 0) & (np.spacing(np.asarray(largest, np.float32)) > COARSE * deviation)
        return np.dtype(np.float64 if wide and coarse.any() else np.float32)

    def strips(self, bands: int) -> Iterator[Window]:
        """Whole rows from top to bottom, aligned to the file's blocks, small enough to be held."""
        block = self.reader.block_shape[0]
        height = max(1, self.strip_bytes // (4 * bands * self.cols))
        height = height // block * block or min(height, block)
        return self.whole.parts(height)

    def _gather(self) -> Statistics:
        flagged = self.meta.bad_bands or (False,) * self.count
        passed = self.left_out | {i: "bad in the file's band list" for i, bad in enumerate(flagged) if bad}
        chosen = [i for i in range(self.count) if i not in passed]
        if not chosen:
            more = " or left out" if self.left_out else ""
            raise InputError(f"every band of {self.path} is marked as bad in its band list{more}.")
        self._mender = None
        found = self._passed(chosen)
        # Bands that take no part are not to decide which pixels do.
        for useless in (self._empty, self._with_gaps):
            if reasons := useless(chosen, found.moments):
                passed |= reasons
                chosen = [i for i in chosen if i not in reasons]
                found = self._passed(chosen)
        found = self._mended(chosen, found)
        while reasons := self._constant(chosen, found):  # in all pixels that are valid, those that are mended too
            passed |= reasons
            chosen = [i for i in chosen if i not in reasons]
            self._mender = None  # of the bands that are left, a pixel may lack more than half, or none
            found = self._mended(chosen, self._passed(chosen))
        moments, near = found.moments, found.near
        if not moments.count:
            raise InputError(f"{self.path} has no pixel that is valid in every band.")
        varies = self._varying(moments)
        passed |= {i: "constant" for i, v in zip(chosen, varies, strict=True) if not v}
        if moments.count == 1:
            raise InputError(f"{self.path} has a single valid pixel; at least two are needed to compare its bands.")
        if not varies.any():
            raise InputError(f"{self.path} is constant in every band; there is nothing to process.")
        bands = [i for i, v in zip(chosen, varies, strict=True) if v]
        chosen_near = None if near is None else near.select(varies)
        return Statistics(
            bands,
            dict(sorted(passed.items())),
            moments.select(varies),
            chosen_near,
            self.rows * self.cols,
            found.valid_share,
            found.lacking[varies],
            found.partial,
            found.mended,
        )

    def _mended(self, bands: list[int], found: _Pass) -> _Pass:
        """A pass with pixels mended, where ``found``, one without, has some that can be; else ``found``."""
        if not (self.mend and found.mendable):
            return found
        self._mender = self._learned(bands, found.moments.count + found.mendable)
        return self._passed(bands)

    def _learned(self, bands: list[int], pixels: int) -> Mender:
        """What tells what pixels lack, from :func:`some_of` those that have at least some of ``bands``, at most
        ``pixels``, however the image is cut into strips."""
        chosen, passed, count = some_of(pixels, LEARNED_FROM), 0, 0
        spectra = np.empty((len(bands), len(chosen)))
        lost = np.zeros(spectra.shape, bool)
        for window in tracked(list(self.strips(len(bands))), "reading"):
            cube = self.reader.read(window, bands)
            cube = replace(cube, valid=cube.valid | mendable(cube))
            beyond = self._beyond(cube, bands)
            cube = self._within_limits(self._unfilled(cube, bands), bands)
            some = np.flatnonzero(cube.valid.ravel())
            first, last = np.searchsorted(chosen, [passed, passed + some.size])
            here = some[chosen[first:last] - passed]
            passed += some.size
            places = slice(count, count + here.size)
            count += here.size
            spectra[:, places] = cube.data.reshape(len(bands), -1)[:, here]
            untold = beyond if cube.missing is None else beyond | cube.missing
            lost[:, places] = untold.reshape(len(bands), -1)[:, here]
        return Mender.learned(bands, spectra[:, :count], lost[:, :count])

    def _empty(self, bands: list[int], moments: Moments) -> dict[int, str]:
        """Reason by zero-based band for those of ``bands``, whose moments these are, that leave no pixel valid."""
        if moments.count:
            return {}
        empty = empty_bands(self.reader, self.strips(1), bands)
        if len(empty) == len(bands):
            raise InputError(f"{self.path} has no valid pixel: all are nodata, masked or not finite.")
        return dict.fromkeys(empty, "no valid sample")

    def _with_gaps(self, bands: list[int], moments: Moments) -> dict[int, str]:
        """Likewise, those that many pixels alone lack."""
        if moments.count >= (1 - GAPS) * self.rows * self.cols:
            return {}
        shares = bands_with_gaps(self.reader, bands)
        return {i: Gap(f"no data in {100 * share:.0f} % of the pixels that others have") for i, share in shares.items()}

    def _constant(self, bands: list[int], found: _Pass) -> dict[int, str]:
        """Likewise, those that are constant, where they may lack pixels and others vary."""
        moments = found.moments
        if moments.count < 2 or (moments.count == self.rows * self.cols and not found.partial):
            return {}
        varies = self._varying(moments)
        return {i: "constant" for i, v in zip(bands, varies, strict=True) if not v} if varies.any() else {}

    @staticmethod
    def _varying(moments: Moments) -> NDArray[np.bool_]:
        """Bands that are not constant, nor so small that their variance is no number."""
        return np.asarray((moments.spread > 0) & (np.diagonal(moments.covariance) > np.finfo(float).tiny))

    def _passed(self, bands: list[int]) -> _Pass:
        """A pass over the image: moments of the spectra, and of these with the smoothed ones where no hole is within
        the smoother's reach."""
        moments, near = Moments(len(bands)), Moments(len(bands))
        lacking, partial, mended, fit = np.zeros(len(bands), int), 0, 0, 0
        squares = np.zeros((-(-self.rows // CELL), -(-self.cols // CELL)))
        columns = np.arange(0, self.cols, CELL)
        for window in tracked(list(self.strips(len(bands))), "reading"):
            grown = window.grown(int(self.near), self.rows, self.cols)
            cube = self._cube(grown, bands)
            inner = window.within(grown)
            data, valid = cube.data[:, *inner], cube.valid[inner]
            moments.add(data[:, valid])
            if cube.missing is not None:
                lost = cube.missing[:, *inner]
                some = lost.any(axis=0) & ~lost.all(axis=0)
                lacking += lost[:, some].sum(axis=1)
                partial += int(some.sum())
                mended += int((some & valid).sum())
                fit += int(mendable(cube)[inner].sum())
            lines = np.add.reduceat(valid, columns, axis=1, dtype=float)
            np.add.at(squares, np.arange(window.row, window.row + window.height) // CELL, lines)
            if not self.near:
                continue
            whole = binary_erosion(cube.valid, np.ones((3, 3), bool), border_value=1)[inner]
            smoothed = smooth(np.where(cube.valid, cube.data, 0))[:, *inner]
            near.add(data[:, whole], smoothed[:, whole])
        area = np.outer(*(np.minimum(CELL, n - np.arange(0, n, CELL)) for n in (self.rows, self.cols)))
        return _Pass(moments, near if near.count else None, squares / area, lacking, partial, mended, fit)

    def read(self, window: Window) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """(samples (bands that take part, h, w), valid bool (h, w)); holes are filled smoothly.

        The fill depends on no window, so that windows agree with the whole image.
        """
        cube = self._cube(window, self.bands)
        if cube.valid.all():
            return cube.data.astype(self.kind, copy=False), cube.valid
        grown = window.grown(FILL_REACH, self.rows, self.cols)
        cube = self._cube(grown, self.bands)
        mean = self.statistics.moments.mean[:, None, None]
        values = np.where(cube.valid, cube.data, 0).astype(self.kind)
        inner = window.within(grown)
        return fill_holes(values, cube.valid, mean)[:, *inner], cube.valid[inner]

    @property
    def origin(self) -> float:
        """Where 0 lies of samples that float32 rounds, by :attr:`range`; 0 where they are float64."""
        low, span = self.range
        return -low / span if self.kind == np.float32 else 0.0

    def scaled(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What :meth:`read` gives, valid samples in [0, 1] by :attr:`range`."""
        cube, valid = self.read(window)
        return self._in_range(cube), valid

    def _in_range(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        low, span = (self.kind.type(end) for end in self.range)
        return np.asarray((samples.astype(self.kind, copy=False) - low) / span, np.float32)

    def unlimited(self, window: Window) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """(samples (bands that take part, h, w), valid bool (h, w)) as the file has them, with spikes and holes."""
        cube = self._known(window, self.bands)
        return cube.data, cube.valid

    def only_spiked(self, window: Window, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool (h, w): pixels of a window that are not ``valid`` for their spikes alone."""
        if not self.spiked:
            return np.zeros_like(valid)
        return self._known(window, self.bands).valid & ~valid

    def validity(self) -> Mask:
        """bool (rows, cols): which pixels are valid."""
        valid = np.empty((self.rows, self.cols), bool)
        for window in self.strips(len(self.bands)):
            valid[window.slices] = self._cube(window, self.bands).valid
        return valid

    @cached_property
    def mosaic(self) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.intp]]:
        """The image itself where it has at most MOSAIC_SIDE^2 pixels, else as many pixels of :meth:`spread` windows.

        (samples, valid, which columns of the image its columns are.) What depends on the image as a whole beyond its
        covariance is taken from there, so that it is the same however the image is cut for computing.
        """
        if self.rows * self.cols <= MOSAIC_SIDE**2:
            return *self.read(self.whole), np.arange(self.cols)
        pixels = min(self.rows, MOSAIC_TILE) * min(self.cols, MOSAIC_TILE)
        windows = self.spread(MOSAIC_TILE, MOSAIC_SIDE**2 // pixels)
        parts = [[self.read(window) for window in line] for line in windows]
        data = np.concatenate([np.concatenate([p[0] for p in line], axis=2) for line in parts], axis=1)
        columns = np.concatenate([w.col + np.arange(w.width) for w in windows[0]])
        return data, np.block([[p[1] for p in line] for line in parts]), columns

    def spread(self, side: int, count: int) -> list[list[Window]]:
        """At most ``count`` windows of ``side`` pixels that stand for the image, in lines of one length.

        A grid over all of the image where at least half of its pixels are valid. Otherwise a single line of windows
        that have at least half of the valid pixels of the fullest one, evenly spread among these.
        """
        height, width = min(self.rows, side), min(self.cols, side)
        rows, cols = evenly_spread(self.rows, self.cols, height, width, count)
        if self._valid_in(rows, cols, height, width).mean() >= 0.5 * height * width:
            return [[Window(r, c, height, width) for c in cols] for r in rows]
        rows, cols = (
            [min(start, n - size) for start in range(0, n, size)]
            for n, size in ((self.rows, height), (self.cols, width))
        )
        valid = self._valid_in(rows, cols, height, width)
        fullest = np.argwhere(valid >= 0.5 * valid.max())
        chosen = fullest[np.linspace(0, len(fullest) - 1, min(count, len(fullest))).astype(int)]
        return [[Window(rows[i], cols[j], height, width) for i, j in chosen.tolist()]]

    def _valid_in(self, rows: list[int], cols: list[int], height: int, width: int) -> NDArray[np.float64]:
        """About how many pixels are valid in each window that begins at one of ``rows`` and one of ``cols``."""

        def overlap(starts: list[int], size: int, count: int) -> NDArray[np.int_]:
            """Pixels that each window and each square have in common along an axis."""
            first, cell = np.array(starts)[:, None], CELL * np.arange(count)
            return np.asarray(np.maximum(np.minimum(first + size, cell + CELL) - np.maximum(first, cell), 0))

        share = self.statistics.valid_share
        down, across = overlap(rows, height, share.shape[0]), overlap(cols, width, share.shape[1])
        return np.asarray(down @ share @ across.T)

    def subspace(self, *, sigma: NDArray[np.float64] | None = None, robust: bool = False) -> Subspace:
        """Where the signal lies; see :func:`rsunfold.subspace.estimate_subspace`.

        robust : some samples are outliers, and some columns stripes or dead lines; takes one more pass.
        """
        s = self.statistics
        sample, valid, columns = self.mosaic
        lined = Lined(self._columns(), columns) if robust else None
        return estimate_subspace(s.moments, s.near, sample, valid, sigma=sigma, lined=lined)

    def _columns(self) -> ColumnSummary:
        columns = ColumnSummary(len(self.bands), self.rows, self.cols)
        width = max(1, self.strip_bytes // (4 * len(self.bands) * 2 * BLOCK))
        for window in tracked(list(ColumnSummary.windows(self.rows, self.cols, width)), "looking for stripes"):
            cube = self._cube(window, self.bands)
            columns.add(cube.data, cube.valid, window)
        return columns

    def scene(self, seed: int = 0) -> Scene:
        """The image as its statistics, of samples in [0, 1] as of :meth:`scaled`; the sample takes one more pass.

        :func:`some_of` the valid pixels, SAMPLE at most, stand for the image, however it is cut into strips.
        """
        moments, (low, span) = self.statistics.moments, self.range
        chosen = some_of(moments.count, SAMPLE)
        parts, passed = [], 0
        for window in tracked(list(self.strips(len(self.bands))), "reading"):
            cube = self._cube(window, self.bands)
            some = np.flatnonzero(cube.valid.ravel())
            first, last = np.searchsorted(chosen, [passed, passed + some.size])
            here = some[chosen[first:last] - passed]
            parts.append(self._in_range(cube.data.reshape(len(self.bands), -1)[:, here]))
            passed += some.size
        mean = (moments.mean - low) / span
        sample = np.concatenate(parts, axis=1)
        return Scene(mean, moments.covariance / span**2, moments.count, sample, seed, origin=self.origin)

    def remarks(self) -> list[str]:
        """Sentences on a spatial axis that behaves like a spectrum while the band axis does not, on pixels that have no
        data though the file does not say so, and on spikes."""
        found: list[str] = []
        which = self._spectral_axis()
        if which:
            expected = _EXPECTED.get(self.meta.driver.partition(" ")[0], "")
            found.append(
                Alarm(
                    f"the {which} look like the spectral axis and the bands like a spatial one: check the order of the "
                    f"axes{expected.format(place={'rows': 1, 'columns': -1}[which])}"
                )
            )
        if self.gaps:
            shown = ", ".join(str(band + 1) for band in self.gaps[:5]) + (", ..." if len(self.gaps) > 5 else "")
            found.append(
                f"{len(self.gaps)} band(s) ({shown}) were left out: they have no data in many pixels of the others"
            )
        found += self._gappy()
        found += [
            f"many pixels hold {fill:g} in every band and were taken to have no data: declare it in the file (nodata, "
            "or data ignore value in an ENVI header)"
            for fill in self.fills
        ]
        for value in (0.0, largest_number(self.reader)):
            if held := self._holding(value):
                found.append(
                    f"about {held:.0%} of the pixels are {value:g} in every band and were taken as measured: where "
                    "they have no data, declare it in the file (nodata, or data ignore value in an ENVI header)"
                )
        if self.spiked:
            shown = ", ".join(str(band + 1) for band in self.spiked[:5]) + (", ..." if len(self.spiked) > 5 else "")
            found.append(
                f"some samples of {len(self.spiked)} band(s) ({shown}) lie more than {FAR:g} robust deviations from "
                f"the median of their band and {BECAME[self.spikes]}: check the bands for spikes or undeclared nodata"
            )
        return found

    def _gappy(self) -> list[str]:
        """A sentence where many pixels lack some bands."""
        s = self.statistics
        share = s.partial / (s.valid_pixels + s.partial - s.mended)
        if share <= NOTABLE:
            return []
        worst = [s.bands[k] + 1 for k in np.argsort(-s.lacking, kind="stable") if s.lacking[k]]
        shown = ", ".join(map(str, worst[:5])) + (", ..." if len(worst) > 5 else "")
        zero = 0 in self.meta.nodata_values.values()
        why = "0, their nodata value, may be measured in dark pixels" if zero else "dead detectors, perhaps"
        became = {"were processed as their other bands tell": s.mended, "took no part": s.partial - s.mended}
        return [
            f"{share:.0%} of the pixels with data lack some bands, most of them band(s) {shown}: {why}; "
            + " and ".join(f"{count} {words}" for words, count in became.items() if count)
        ]

    def _holding(self, value: float) -> float:
        """Share of the pixels that hold a number in all bands, by the mosaic; 0 where it is small, or the bands are
        few."""
        data, valid, _ = self.mosaic
        held = (data[:, valid].astype(np.float32) == np.float32(value)).all(axis=0)
        return float(held.mean()) if len(data) >= LEAST_BANDS and held.size and held.mean() > NOTABLE else 0.0

    def _spectral_axis(self) -> str | None:
        """See :func:`rsunfold.infer.defects.spectral_axis`; None where wavelengths tell, or an axis is short."""
        if self.meta.wavelengths or min(len(self.bands), self.rows, self.cols) < LEAST_SIDE:
            return None
        return spectral_axis(self.mosaic[0])
