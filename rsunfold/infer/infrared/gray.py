"""One gray band of any file as a network sees it: scaled to [0, 1], holes filled, read window by window."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Cube, Window
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.defects import BEYOND, FAR_BELOW, NOTABLE, RANGE, apart, is_usual
from rsunfold.infer.holes import FILL_REACH, fill_holes
from rsunfold.infer.infrared.colour import Colours, luminance
from rsunfold.infer.source import Source, closed_on_failure
from rsunfold.io import CubeReader, full_range
from rsunfold.progress import tracked
from rsunfold.scene import some_of
from rsunfold.weights import GRAY

if TYPE_CHECKING:
    from rsunfold.weights import WeightRecord

LIMITS = (-1.0, 2.0)
SAMPLE_PIXELS, FEW_PIXELS = 4_000_000, 100_000
"""Most pixels that decide the scale of an image, and of fewer valid ones all."""
SIDE = 2048
"""Side of the windows in which a large image is read, where its blocks are smaller."""
NEARLY_ALL = 0.9
"""Share of the pixels beyond a scale that is given in other units."""
TOLD = 2e-3
"""Share of the pixels above which a low number that all of them hold is told where it decides the scale, such as that
of dead pixels; a high one may be that of a target, unless NOTABLE of the pixels hold it."""
ABSOLUTE_ZERO = -273.15
"""Degrees Celsius; cameras measure from -20 or -40, and a cold sky holds just that, but none has less than this."""
BULK, MOST_OF_THE_SCALE = (1.0, 99.0), 0.9
"""Percentiles between which nearly all pixels lie, and the share of the scale that those beyond may take untold."""
_INVERTED = " (dark is hot)"
"""What is said of a scale whose first number is the larger one."""


@dataclass(frozen=True)
class Reading:
    """How files are read as gray; None takes what :class:`GrayImage` does by itself.

    band : one-based, as in GDAL. scale : what is gray 0 and 1, in physical units, those after the file's scale and
    offset; of two the first of which is larger, dark is hot. var : variable of a MAT file, or GDAL subdataset.
    scale_of_weights : the scale was not asked for, see :meth:`for_weights`.

    Raises UsageError for an empty scale.
    """

    band: int | None = None
    scale: tuple[float, float] | None = None
    var: str | None = None
    scale_of_weights: bool = False

    def __post_init__(self) -> None:
        if self.scale is None:
            return
        zero, one = map(float, self.scale)
        if zero == one or not np.isfinite([zero, one]).all():
            raise UsageError(f"--scale takes two numbers that differ, not {zero:g},{one:g}.")
        object.__setattr__(self, "scale", (zero, one))

    def for_weights(self, record: WeightRecord | None) -> Self:
        """The same, with the scale that the weights were made for where none was asked for."""
        if self.scale is not None or record is None or record.scale is None:
            return self
        return replace(self, scale=record.scale, scale_of_weights=True)

    def remarks(self, record: WeightRecord | None) -> list[str]:
        """Sentences on a scale that is that of the weights, or is not though they were made for one."""
        if record is None or record.scale is None:
            return []
        own = _ends(record.scale)
        if self.scale_of_weights:
            return [f"the scale {own} is that of the weights {record.name}; --scale takes another"]
        if self.scale == record.scale:
            return []
        used = "the default" if self.scale is None else _ends(self.scale)
        return [f"the weights {record.name} were made for the scale {own}, not for {used}"]

    @property
    def recorded(self) -> dict[str, Any]:
        """What the record of weights says that are made for images read so."""
        return {"scale": self.scale, "scaling": self.words}

    @property
    def words(self) -> str:
        """What the network then sees."""
        gray = GRAY if self.scale is None else f"gray in about [0, 1]: {_ends(self.scale)} as 0 to 1"
        band = "" if self.band is None else f", band {self.band}"
        return gray + band + ("" if self.var is None else f", variable {self.var}")


DEFAULT_READING = Reading()


def misses(gray: NDArray[np.floating]) -> bool:
    """Whether nearly all of the scaled samples (n,) lie farther than its own width beyond the scale."""
    return bool(((gray <= LIMITS[0]) | (gray >= LIMITS[1])).mean() > NEARLY_ALL)


def _ends(scale: tuple[float, float]) -> str:
    return " to ".join(f"{end:.10g}" for end in scale) + _INVERTED * (scale[0] > scale[1])


@dataclass(frozen=True)
class Scale:
    """gray = (value - low) / (high - low), limited to [-1, 2]; ``fill`` (gray) stands for what has no valid neighbour.

    ``low`` is gray 0 and ``high`` gray 1; where dark is hot, it is the smaller one.

    Values beyond [low, high] are kept up to the limits, not cut at 0 and 1: a small target is by nature an outlier,
    and cutting at a percentile would take away the contrast that makes it one. The limits keep a hot pixel from
    drowning its surroundings.
    """

    low: float
    high: float
    fill: float
    how: str

    def unlimited(self, values: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """(value - low) / (high - low) of an array of any real dtype and shape, not cut at the limits."""
        # float64 where float32 cannot tell neighbouring counts apart (32-bit integers)
        kind = np.result_type(values.dtype, np.float32).type
        return np.asarray((values.astype(kind) - kind(self.low)) / kind(self.high - self.low))

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Gray values float32 of an array of any real dtype and shape."""
        return np.asarray(np.clip(self.unlimited(values), *LIMITS), np.float32)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON summary."""
        return asdict(self)


class BandNeeded(InputError):
    """An image has several bands, of which one has to be chosen."""


class GrayImage(Source):
    """A file, or an open reader, as one band of gray; windows come as (gray float32 in about [0, 1], valid bool).

    reading : without a band, the only one is taken, or the luminance of a colour picture; without a scale, 0..255 for 8
    bit, as the networks were trained (the declared range for fewer bits), and else the percentiles 0.1 and 99.9 of the
    valid pixels (all of them up to 4 megapixels, else :func:`~rsunfold.scene.some_of` them). undeclared : look for a
    negative number that stands for no data though the file does not say so (:func:`apart`), which :attr:`fill` then is,
    and whose pixels are not valid: one of the usual ones, or one that is no temperature in degrees Celsius, unless it
    lies within the scale. Of others, such as the 0 around a swath, which may as well be a cold sky, :meth:`remarks`
    tells.

    Raises InputError when there is no valid pixel or the samples are complex, BandNeeded when the band has to be
    chosen, UsageError for one that does not exist.
    """

    def __init__(
        self, source: str | CubeReader, reading: Reading = DEFAULT_READING, *, undeclared: bool = True
    ) -> None:
        super().__init__(source, reading.var)
        self.reading, scale = reading, reading.scale
        self.fill: float | None = None
        self._apart: dict[float, float] = {}  # numbers that remarks tell of, each with its share of the pixels
        self._beyond = self._few = 0.0
        self._extent = (0.0, 0.0)
        with closed_on_failure(self.reader):
            self.band_used, self._bands = self._choose(reading.band, self.count)
            colours = Colours(self.reader.palette)
            sample = self._sample(colours)
            self._misleading = colours.mislead()
            if undeclared and not self._of_8_bit(sample):
                sample = self._without_fill(sample, scale)
            self.scale = self._make_scale(sample)
            if scale is not None:  # which no number decides
                self._apart = {}
                gray = self.scale.unlimited(sample)
                self._beyond = float(((gray < LIMITS[0]) | (gray > LIMITS[1])).mean())
                self._extent = float(sample.min()), float(sample.max())
            elif undeclared and not self._apart and not self._of_8_bit(sample):
                least, most = np.percentile(sample, BULK)
                if most > least:
                    self._few = float(1 - (most - least) / (self.scale.high - self.scale.low))

    def _choose(self, band: int | None, bands: int) -> tuple[str, list[int]]:
        self.reader.refuse_complex()
        if band is not None:
            if bands < band <= len(self.reader.pages):
                pages = f"{len(self.reader.pages)} pages, but page 1 has {bands} band(s)"
                raise UsageError(f"{self.reader.path} has {pages}: --var {band} reads page {band}.")
            if not 1 <= band <= bands:
                raise UsageError(f"{self.reader.path} has {bands} band(s), so --band must be 1 to {bands}, not {band}.")
            return f"band {band} of {bands}", [band - 1]
        if bands == 1:
            return "the only band", [0]
        if self.reader.colour:
            return "luminance of the three colour bands (ITU-R BT.601)", [0, 1, 2]
        hint = "arrays are (band, row, col); " if self.meta.driver == "array" else ""
        raise BandNeeded(f"{self.reader.path} has {bands} bands, but one is needed: {hint}choose one with --band.")

    def _values(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return self._gray_of(self.reader.read(window, self._bands))

    def _gray_of(self, cube: Cube) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values = cube.data[0] if len(self._bands) == 1 else luminance(cube.data)
        return values, cube.valid if self.fill is None else cube.valid & (values != self.fill)

    def _sample(self, colours: Colours) -> NDArray[Any]:
        """Valid values of the whole image; of a large one, of some of its pixels, or of all if few are valid. The
        ``colours`` are told of them, too."""
        chosen = some_of(self.rows * self.cols, SAMPLE_PIXELS)
        parts: list[NDArray[Any]] = []
        everything: list[NDArray[Any]] = []
        windows = list(self.whole.parts(*self._blocks()))
        for window in tracked(windows, "reading") if len(windows) > 1 else windows:
            cube = self.reader.read(window, self._bands)
            values, valid = self._gray_of(cube)
            first, last = np.searchsorted(chosen, np.array([window.row, window.row + window.height]) * self.cols)
            row, col = np.divmod(chosen[first:last], self.cols)
            here = (window.col <= col) & (col < window.col + window.width)
            picked = row[here] - window.row, col[here] - window.col
            parts.append(values[picked][valid[picked]])
            if len(self._bands) > 1:
                colours.add(cube.data[:, *picked][:, valid[picked]])
            if sum(map(len, everything)) <= FEW_PIXELS:
                everything.append(values[valid])
        return np.concatenate(everything if sum(map(len, everything)) <= FEW_PIXELS else parts)

    def _blocks(self) -> tuple[int, int]:
        """(height, width) of windows of whole blocks of the file, each of which is then decompressed once; of parts of
        blocks where one is too large."""
        height, width = (min(*sizes) for sizes in zip(self.reader.block_shape, (self.rows, self.cols), strict=True))
        across = self.cols
        if width < self.cols:
            across = max(width, min(SIDE, SAMPLE_PIXELS // height) // width * width)
        rows = max(1, SAMPLE_PIXELS // across)
        return rows // height * height or rows, across

    def _of_8_bit(self, sample: NDArray[Any]) -> bool:
        return bool(sample.dtype == np.uint8 or (len(self._bands) == 3 and self.reader.dtype == np.uint8))

    def _without_fill(self, sample: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[Any]:
        """The sample without the number that stands for no data."""
        found = apart(sample)
        low = float(sample.min()) if found else 0.0
        off = found.get(low, (0, 0))[1]
        asked_for = scale is not None and min(scale) <= low <= max(scale)
        far = off > (FAR_BELOW if is_usual(low) else BEYOND)
        if far and (is_usual(low) or low < ABSOLUTE_ZERO) and not asked_for:
            self.fill = low
            sample = sample[sample != low]
            found = apart(sample)
        least = {value: TOLD if value < np.median(sample) else NOTABLE for value in found}
        self._apart = {value: share for value, (share, _) in found.items() if share > least[value]}
        return sample

    def remarks(self) -> list[str]:
        """Sentences on colours, and on pixels that have no data, or may have none, though the file does not say so."""
        declare = "declare it in the file (nodata, or data ignore value in an ENVI header)"
        found = []
        if self._misleading:
            found.append(
                "the picture is coloured, and the luminance that was used need not rise with temperature: give the raw "
                "or gray frames of the camera"
            )
        for value, share in self._apart.items():
            holds = f"{share:.1%} of the pixels hold {value:g}, far from all others, which decides the scale"
            saturated = "give --scale, or " if value >= self.scale.high else ""
            found.append(f"{holds}: {saturated}if they have no data, {declare}")
        if self._few > MOST_OF_THE_SCALE:
            low, high = (f"{end:.6g}" for end in (self.scale.low, self.scale.high))
            found.append(
                f"1 % of the pixels at either end take {self._few:.0%} of the scale {low} to {high}: if faint "
                "targets are missed, give --scale"
            )
        if self._beyond > NEARLY_ALL:
            scale = _ends((self.scale.low, self.scale.high)) + " of the weights" * self.reading.scale_of_weights
            least, most = self._extent
            found.append(
                f"{self._beyond:.0%} of the pixels lie far outside the scale {scale} (the image has values from "
                f"{least:.6g} to {most:.6g}), so the result means little: give --scale in the units of the image, "
                "after the file's own scale factor and offset"
            )
        if self.fill is not None:
            found.append(
                f"many pixels hold {self.fill:g}, far from all others, and were taken to have no data: {declare}"
            )
        return found

    def _make_scale(self, sample: NDArray[Any]) -> Scale:
        if sample.size == 0:
            raise InputError(f"{self.reader.path} has no valid pixel: all are nodata, masked or not finite.")
        middle = float(np.median(sample))
        if self.reading.scale is not None:
            low, high = self.reading.scale
            how = ("of the weights" if self.reading.scale_of_weights else "given") + _INVERTED * (low > high)
        elif self._of_8_bit(sample):
            low, high = 0.0, full_range(self.reader)
            how = f"{self.reader.bits or 8} bit: 0 to {high:.0f}"
        else:
            low, high = (float(v) for v in np.percentile(sample, RANGE))
            how = f"percentiles {RANGE[0]} and {RANGE[1]} of {sample.size} valid pixels"
            if not high > low:
                low, high = float(sample.min()), float(sample.max())
                how = f"minimum and maximum of {sample.size} valid pixels"
            if not high > low:
                high, how = low + 1.0, "constant image"
        fill = float(np.clip((middle - low) / (high - low), *LIMITS))
        return Scale(low, high, fill, how)

    def unlimited(self, window: Window) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """(gray, valid bool) of a window as :meth:`read`, but not cut at the limits of the scale, and 0 where it is not
        valid: contrasts are those of the image."""
        values, valid = self._values(window)
        return self.scale.unlimited(np.where(valid, values, 0)), valid

    def read(self, window: Window | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(gray float32, valid bool) of a window; pixels that are not valid hold a smooth fill.

        The fill is the mean of the valid pixels at most 16 pixels away, which depends on no window, so that windows
        agree with the whole image; farther away it is ``scale.fill``.
        """
        window = window or self.whole
        values, valid = self._values(window)
        if valid.all():
            return self.scale.apply(values), valid
        grown = window.grown(FILL_REACH, self.rows, self.cols)
        values, around = self._values(grown)
        gray = self.scale.apply(np.where(around, values, 0))
        inner = window.within(grown)
        return fill_holes(gray, around, self.scale.fill)[inner], around[inner]
