"""denoise-hsi on one file: statistics, subspace, whitened windows through the model, back to units, write, report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold import __version__
from rsunfold.cube import Aside, Meta, Window
from rsunfold.errors import InputError, UsageError
from rsunfold.infer import results
from rsunfold.infer.hsi.denoiser import DOUBTED, Denoised, Denoiser, Spectra, refuse_faint
from rsunfold.infer.hsi.removed import Removed
from rsunfold.infer.results import (
    FILES,
    Result,
    all_names,
    environment,
    head_of,
    of_files,
    refuse_place,
    reserved,
    with_headers,
)
from rsunfold.infer.spectral import NO_WAVELENGTHS, SpectralImage
from rsunfold.io import CubeReader, RasterWriter
from rsunfold.io.envi import TIFF_SUFFIXES
from rsunfold.io.jsonfile import write_json
from rsunfold.io.names import stem_of
from rsunfold.io.reader import select_bands
from rsunfold.io.work import move_results, work_folder
from rsunfold.io.writer import ENVI_SUFFIXES, raster_of, the_nodata
from rsunfold.subspace import Subspace

DENOISED = "_denoised"
"""What follows the name of the image in that of the raster in a folder."""
HALF_A_STEP = 0.5
"""Noise, in steps of the type of the output, below which rounding adds as much as denoising removes."""
EXCESS = 1.5
"""Times its noise that may be removed of the median band without a note: 0.6 to 1.1 where only noise is."""
PATTERN, FAINT = 0.5, 0.5
"""Autocorrelation of what was removed of a band, down the rows and along the columns, by which it exceeds that of the
median band (where the noise of resampled images shows, too) if most of it is a pattern, not noise; and times its noise
below which that matters little. Stripes have it in one direction only. In crops of ten real cubes, with simulated noise
and without, the smaller of the two is 0.36 at most with fasthyde, and with star-net where it keeps all directions of
signal."""


@dataclass(frozen=True)
class Options:
    """How files are treated; see ``rsunfold denoise-hsi --help``.

    dtype : "auto" (physical units in float32, or in float64 where float32 is too coarse, see
    :attr:`rsunfold.infer.spectral.SpectralImage.written_kind`), "float32" or "same" (the input's type, scale and
    offset). pixels : (row, col) whose spectra the report shows; empty chooses some.
    """

    var: str | None = None
    drop_bands: tuple[str, ...] = ()
    dtype: str = "auto"
    residual: bool = of_files(False, True)
    report: bool = of_files(False, True)
    pixels: tuple[tuple[int, int], ...] = of_files(())
    overwrite: bool = of_files(False)

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "same"):
            raise UsageError(f"--dtype must be auto, float32 or same, not {self.dtype!r}.")


@dataclass(repr=False, eq=False)
class CleanedFiles(Result):
    """What ``denoise_hsi`` made of one image and wrote.

    summary : what the JSON summary holds. files : what was written, by kind.
    """

    summary: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict, kw_only=True)


@dataclass(repr=False, eq=False)
class Cleaned(CleanedFiles):
    """The same of an image in memory, without files.

    data (bands, rows, cols), of all bands of the image; valid bool (rows, cols).
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_]


def target_of(output: Path, stem: str, envi: bool = False) -> Path:
    """The raster that one input gives: ``output`` itself when it has the extension of a raster, else a file in it."""
    if output.suffix.lower() in TIFF_SUFFIXES + ENVI_SUFFIXES and not output.is_dir():
        if envi and output.suffix.lower() in TIFF_SUFFIXES:
            raise UsageError(f"--envi cannot be combined with {output}; give a name that ends in .hdr, or a folder.")
        return raster_of(output)
    if output.suffix.lower() in FILES and not output.is_dir():
        known = " ".join(TIFF_SUFFIXES + ENVI_SUFFIXES)
        raise UsageError(f"{output} has an unsupported extension; use one of {known}.")
    return output / f"{stem}{DENOISED}{'.img' if envi else '.tif'}"


def output_names(target: Path, options: Options) -> dict[str, str]:
    """File names by kind beside ``target``; the summary is written last."""
    stem, suffix = target.stem, target.suffix
    names = {"denoised": target.name}
    if options.residual:
        names["residual"] = f"{stem}_residual{suffix}"
    names = with_headers(names)
    if options.report:
        names |= {kind: f"{stem}_{kind}.png" for kind in ("report", "bands", "noise")}
    return names | {"summary": f"{stem}_summary.json"}


def replaced_names(target: Path, options: Options, *, kept: str) -> set[str]:
    """See :func:`rsunfold.infer.results.all_names`, but for an image that is called like one of them; ``kept`` is its
    stem."""
    every: set[str] = set()
    for suffix in {target.suffix, *((".tif", ".img") if target.stem.endswith(DENOISED) else ())}:
        every |= all_names(output_names, target.with_suffix(suffix), options=options)
    own = set(output_names(target, options).values())
    return own | {name for name in every if Path(name).stem != kept}


def about(denoiser: Denoiser, options: Options) -> dict[str, Any]:
    """See :func:`rsunfold.infer.results.about`."""
    return results.about(denoiser, options, sigma=denoiser.sigma and denoiser.sigma.asked, adapt=denoiser.adapt)


def denoise_array(source: CubeReader | str, denoiser: Denoiser, options: Options) -> Cleaned:
    """Denoise an image that fits in memory, and keep the result in memory."""
    started = time.monotonic()
    with environment(), denoiser.open(source, options.var, options.drop_bands) as image:
        passage = _Passage(image, denoiser, options)
        strips = [(samples, valid) for _, samples, valid, _ in passage.strips()]
        data = np.concatenate([samples for samples, _ in strips], axis=1)
        valid = np.concatenate([valid for _, valid in strips])
        return Cleaned(_summary(image, denoiser, options, passage, started), data=data, valid=valid)


def denoise_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], denoiser: Denoiser, options: Options
) -> CleanedFiles:
    """Denoise a file of any size and write ``target`` and what goes with it, see :func:`output_names`.

    Everything is written to a hidden folder beside the target first and moved when it is complete, so that an
    interrupted run leaves nothing. Raises OutputError when an output exists and ``options.overwrite`` is False.
    """
    started = time.monotonic()
    source, target = os.fspath(source), Path(target)
    folder, names = target.parent, output_names(target, options)
    with (
        reserved(folder, names, denoiser.spec, source, overwrite=options.overwrite),
        environment(),
        denoiser.open(source, options.var, options.drop_bands) as image,
        work_folder(folder) as work,
    ):
        refuse_place(folder, names.values(), image)
        passage = _Passage(image, denoiser, options)
        paths = {kind: work / name for kind, name in names.items()}
        size: dict[str, Any] = {"bands": image.count, "rows": image.rows, "cols": image.cols}
        tags = {**image.meta.tags, "RSUNFOLD_VERSION": __version__, "RSUNFOLD_MODEL": denoiser.spec.name}
        with ExitStack() as stack:
            meta = replace(passage.meta, tags=tags)
            raster = stack.enter_context(RasterWriter(paths["denoised"], dtype=passage.dtype, meta=meta, **size))
            residual = None
            if options.residual:
                meta = replace(meta, nodata=(math.nan,) * image.count, scales=(), offsets=(), dtype="float32")
                residual = stack.enter_context(RasterWriter(paths["residual"], dtype=np.float32, meta=meta, **size))
            for row, samples, valid, gone in passage.strips():
                window = Window(row, 0, *valid.shape)
                raster.write(samples, window)
                if residual is not None:
                    residual.write(passage.of_all_bands(gone, valid), window)
        summary = _summary(image, denoiser, options, passage, started)
        if options.report:
            title = f"{Path(image.path).name}: {denoiser.spec.name}"
            passage.removed.pictures(paths, title=title)
        summary["seconds"] = round(time.monotonic() - started, 3)
        write_json(paths["summary"], summary)
        move_results(work, folder, options.overwrite, replaced_names(target, options, kept=stem_of(source)))
    return CleanedFiles(summary, files={kind: folder / name for kind, name in names.items()})


class _Passage:
    """One pass over an image from top to bottom, and what has to be remembered of it."""

    def __init__(self, image: SpectralImage, denoiser: Denoiser, options: Options) -> None:
        self.image, self.model = image, denoiser.spec.name
        self.same = options.dtype == "same"
        self.dtype: np.dtype[Any] = image.reader.dtype if self.same else np.dtype(np.float32)
        if self.same and (self.dtype.kind == "b" or image.reader.bits == 1):
            raise UsageError("--dtype same cannot be used with a two-valued image.")
        if options.dtype == "auto":
            self.dtype = image.written_kind  # reads the image
        # Before the noise is estimated, which takes its time.
        for row, col in options.pixels:
            if not (0 <= row < image.rows and 0 <= col < image.cols):
                raise UsageError(
                    f"pixel {row},{col} is outside the image, which has {image.rows} x {image.cols} pixels."
                )
        self.scaled = any(s != 1 for s in image.meta.scales) or any(o != 0 for o in image.meta.offsets)
        self.nodata = self._nodata()
        self.meta = self._meta()
        the_nodata(Path(image.path), self.meta, self.dtype)
        self.denoised: Denoised = denoiser.denoised(image)
        if options.dtype == "float32":
            refuse_faint(image, self.denoised.subspace, self.dtype)
        self.clipped = self.unmarked = 0
        self.removed = Removed(image, self.denoised.subspace, options.pixels, pictures=options.report)

    def _nodata(self) -> float | None:
        """The value of invalid samples of the output: the input's own where it has one that fits, else NaN."""
        values = set(self.image.meta.nodata_values.values())
        if self.same:
            values = {v for v in values if _occurs(v, self.dtype)}
            if len(values) > 1:
                raise UsageError(f"{self.image.path} has several nodata values, but --dtype same needs a single one.")
            return values.pop() if values else (math.nan if self.dtype.kind == "f" else None)
        if len(values) == 1 and not self.scaled:
            value = float(values.pop())
            with np.errstate(over="ignore"):
                if math.isnan(value) or float(self.dtype.type(value)) == value:
                    return value
        return math.nan

    @property
    def steps(self) -> NDArray[np.float64]:
        """(bands that take part,): steps of the type of the output in physical units, the largest of floating point."""
        image = self.image
        if self.dtype.kind in "iu":
            return np.abs(np.array(image.meta.scales or (1.0,) * image.count, np.float64))[image.bands]
        return np.asarray(np.spacing(image.statistics.moments.largest.astype(self.dtype)), np.float64)

    def _meta(self) -> Meta:
        count = self.image.count
        nodata = () if self.nodata is None else (self.nodata,) * count
        meta = replace(self.image.meta, nodata=nodata, dtype=self.dtype.name, notes=())
        return meta if self.same else replace(meta, scales=(), offsets=())

    def strips(self) -> Iterator[tuple[int, NDArray[Any], NDArray[np.bool_], Spectra]]:
        """(first row, samples (bands, h, cols) as they are written, valid bool (h, cols), what was removed (bands that
        take part, h, cols) in physical units) of each strip."""
        image = self.image
        for row, found in self.denoised.strips():
            if not np.isfinite(found).all():
                low, high = self.image.statistics.moments.low.min(), self.image.statistics.moments.high.max()
                raise InputError(
                    f"{self.model} makes no numbers of {self.image.path}, whose samples are {low:.3g} to {high:.3g}: "
                    "try another model, or another unit if these are very small or large."
                )
            window = Window(row, 0, *found.shape[1:])
            cube = image.reader.read(window, scaled=False)
            stored, holes = cube.data, np.zeros(cube.shape, bool) if cube.missing is None else cube.missing
            before, valid = image.read(window)
            lost = holes[image.bands]
            found[lost] = before[lost]
            self.removed.add_modelled(before, found, valid)
            samples = self._assembled(stored, found, valid, valid | image.only_spiked(window, valid), holes)
            self.removed.add(row, before, found, valid, lost)
            # What spikes were limited by has been removed, too.
            gone = (image.unlimited(window)[0] if image.spiked else before) - found
            gone[lost] = np.nan
            yield row, samples, valid, gone

    def _assembled(
        self,
        stored: NDArray[Any],
        found: Spectra,
        valid: NDArray[np.bool_],
        known: NDArray[np.bool_],
        holes: NDArray[np.bool_],
    ) -> NDArray[Any]:
        """The samples to write: what the file holds, with denoised samples where a pixel is valid and has some, and
        nodata where it is not ``known``.

        holes (bands of the file, h, cols) : samples that are missing, which stay so. ``found`` becomes what is written,
        since rounding and clipping are part of what is removed.
        """
        meta, bands = self.image.meta, self.image.bands
        hidden = holes & ~meta.missing(stored) if holes.any() else holes  # by a mask alone
        if self.same:
            if self.nodata is not None:
                stored[hidden] = self.nodata
            unmarked = select_bands(self.meta, bands).unmarked(stored[bands], known)
            if self.nodata is None:
                self.unmarked += int((unmarked | hidden[bands].any(axis=0)).sum())
            else:
                stored[:, unmarked] = self.nodata
            for k, band in enumerate(bands):
                scale = meta.scales[band] if meta.scales else 1.0
                offset = meta.offsets[band] if meta.offsets else 0.0
                here = valid & ~holes[band]
                whole = self._quantised((found[k][here].astype(np.float64) - offset) / scale)
                stored[band][here] = whole
                # As the reader does it, so that what did not change leaves exactly nothing.
                physical = np.result_type(self.dtype, np.float32).type
                found[k][here] = whole.astype(physical) * physical(scale) + physical(offset)
            return stored
        with np.errstate(over="ignore"):  # nodata may be a number that the type has not
            out = stored.astype(self.dtype)
        if self.scaled:
            out *= np.asarray(meta.scales or 1, self.dtype).reshape(-1, 1, 1)
            out += np.asarray(meta.offsets or 0, self.dtype).reshape(-1, 1, 1)
        if self.nodata is not None:
            # Where the file's own mask alone says that a pixel is invalid, no sample does.
            out[:, ~(known | holes[bands].any(axis=0))] = self.nodata
            out[holes if math.isnan(self.nodata) else hidden] = self.nodata
        for k, band in enumerate(bands):
            here = valid & ~holes[band]
            out[band][here] = found[k][here] = self._apart(found[k][here].astype(self.dtype))
        return out

    def _apart(self, values: NDArray[Any]) -> NDArray[Any]:
        """Floating-point values, moved by the least possible where they would be taken for nodata."""
        if self.nodata is not None and not math.isnan(self.nodata):
            hit = values == self.nodata
            # Next to 0 lie numbers that a processor may take for 0.
            values[hit] = np.nextafter(values[hit], math.inf) if self.nodata else np.finfo(values.dtype).tiny
        return values

    def _quantised(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """Values in the type of the file; those that do not fit are cut at its limits and counted."""
        if self.dtype.kind == "f":
            return self._apart(values.astype(self.dtype))
        limits = np.iinfo(self.dtype.name)
        whole = np.rint(values)
        low, high = float(limits.min), float(limits.max)
        if high > limits.max:  # 64 bits: rounded up to what does not fit
            high = math.nextafter(high, 0)
        self.clipped += int(((whole < low) | (whole > high)).sum())
        out = np.clip(whole, low, high).astype(self.dtype)
        if self.nodata is not None and not math.isnan(self.nodata):
            # A denoised sample must not turn into nodata.
            hit = out == self.nodata
            self.clipped += int(hit.sum())
            out[hit] = self.nodata + 1 if self.nodata < high else self.nodata - 1
        return out

    def of_all_bands(self, some: Spectra, valid: NDArray[np.bool_]) -> Spectra:
        """float32 (all bands, h, cols) of the bands that take part (bands, h, cols); NaN elsewhere and where not
        ``valid``."""
        out = np.full((self.image.count, *valid.shape), np.nan, np.float32)
        out[self.image.bands] = np.where(valid, some, np.nan)
        return out


def _occurs(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a sample of ``dtype`` can equal ``value``."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype.name)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _summary(
    image: SpectralImage, denoiser: Denoiser, options: Options, passage: _Passage, started: float
) -> dict[str, Any]:
    meta, s, subspace, plan = image.meta, image.statistics, passage.denoised.subspace, passage.denoised.plan
    notes = _notes(image, denoiser, passage)
    return {
        **head_of(image),
        **about(denoiser, options),
        "noise": denoiser.sigma.how if denoiser.sigma is not None else _how(image, denoiser, subspace),
        "dtype": passage.dtype.name,
        "units": _one(meta.units),
        "wavelengths_nm": list(meta.wavelengths) or None,
        "bands_denoised": [b + 1 for b in s.bands],
        "bands_passed_through": {str(b + 1): why for b, why in s.passed.items()},
        "adapted": None if passage.denoised.adaptation is None else passage.denoised.adaptation.summary(),
        "bands_that_repeat_others": [b + 1 for b, told in zip(s.bands, subspace.repeated, strict=True) if told],
        "signal_rank": subspace.rank,
        "eigen_images": subspace.A.shape[1],
        "stripes": None if subspace.lines is None else subspace.lines.stripes,
        "dead_lines": None if subspace.lines is None else int(subspace.lines.dead.sum()),
        "computed": plan.words,
        "valid_pixels": s.valid_pixels,
        "invalid_pixels_passed_through": s.invalid_pixels,
        "pixels_that_lack_some_bands": s.partial,
        "of_these_denoised": s.mended,
        "samples_clipped": passage.clipped if passage.same else None,
        "per_band": passage.removed.table(),
        "seconds": round(time.monotonic() - started, 3),
        "notes": notes,
    }


def _notes(image: SpectralImage, denoiser: Denoiser, passage: _Passage) -> list[str]:
    """What the image's reader and the result have to say."""
    meta, subspace = image.meta, passage.denoised.subspace
    notes = image.notes
    if not meta.wavelengths:
        notes.append(NO_WAVELENGTHS)
    if passage.dtype == np.float64 and not passage.same:
        notes.append(Aside("float32 is coarse for the values of a band, so the result is float64"))
    kept = subspace.A.shape[1]
    if denoiser.net is not None and subspace.rank > 1.5 * kept:  # classical methods keep them all
        notes.append(
            f"the image appears to have {subspace.rank} directions of signal, of which {denoiser.spec.name} keeps "
            f"{kept} and removes the others as noise; compare with another model, such as fasthyde"
        )
    if denoiser.sigma is None and not denoiser.published and denoiser.by_wavelets(image, subspace):
        notes.append(
            "the noise was estimated from the finest detail of each band, since the other bands or pixels are too few: "
            "fine texture was taken for noise, too; give --sigma if you know the noise"
        )
    # With a wrong noise, what was removed in its units says nothing of the model.
    notes += _doubted(denoiser, image) or _excess(denoiser, subspace, passage) or _patterns(denoiser, subspace, passage)
    if passage.dtype != image.written_kind and np.median(subspace.noise / passage.steps) < HALF_A_STEP:
        notes.append(
            f"the noise is below the steps of {passage.dtype.name}: rounding to them adds as much as was removed; "
            f"without --dtype {'same' if passage.same else passage.dtype.name} the result is {image.written_kind.name}"
        )
    if passage.unmarked:
        notes.append(
            f"{passage.unmarked} pixels are invalid, or lack some bands, because of a mask in the file, or of a number "
            "that it does not declare, which --dtype same does not mark; they have values in the result, but are NaN "
            "without --dtype same"
        )
    return notes


def _doubted(denoiser: Denoiser, image: SpectralImage) -> list[str]:
    """A note where the noise that was given is far from an estimate: of the median band, or where there is a number for
    each, of single ones."""
    each = denoiser.doubt(image)
    times = float(np.median(each))
    if 1 / DOUBTED <= times <= DOUBTED:
        off = np.flatnonzero((each < 1 / DOUBTED) | (each > DOUBTED))
        if denoiser.sigma is None or denoiser.sigma.bands is None or not off.size:
            return []
        shown = ", ".join(str(image.bands[k] + 1) for k in off[:5]) + (", ..." if off.size > 5 else "")
        return [
            f"{denoiser.sigma} differs by more than a factor of {DOUBTED:g} from the noise that {off.size} band(s) "
            f"({shown}) seem to have: check these numbers"
        ]
    much, effect = (
        (f"{times:.3g} times the", "signal is removed, too")
        if times > 1
        else (f"1/{1 / times:.3g} of the", "noise is left")
    )
    return [
        f"{denoiser.sigma} is {much} noise that the median band seems to have, so {effect}: check "
        "that it is in physical units, after the file's scale, or leave it out"
    ]


def _excess(denoiser: Denoiser, subspace: Subspace, passage: _Passage) -> list[str]:
    """A note where much more was removed than there is noise, as models do whose error is a share of the signal."""
    noisy = subspace.noise > 0
    if denoiser.published or not noisy.any():
        return []
    times = float(np.median(passage.removed.modelled_rms[noisy] / subspace.noise[noisy]))
    if times < EXCESS:
        return []
    what = "stripes or impulses, if there are any, else signal" if denoiser.robust else "signal"
    return [
        f"what {denoiser.spec.name} removed is {times:.1f} times the noise of the band, in half of the bands or more: "
        f"{what}; compare with {_others(denoiser)}"
    ]


def _patterns(denoiser: Denoiser, subspace: Subspace, passage: _Passage) -> list[str]:
    """A note on the bands of which mostly a pattern was removed, as of those that alone show something."""
    if denoiser.published:
        return []
    removed, bands = passage.removed, passage.image.bands
    alike = removed.correlations
    usual = [max(0.0, float(np.median(r[np.isfinite(r)]))) if np.isfinite(r).any() else 0.0 for r in alike]
    patterned = np.flatnonzero(
        (alike > PATTERN + np.array(usual)[:, None]).all(axis=0)
        & (removed.rms > FAINT * subspace.noise)
        & (subspace.noise > 0)
    )
    if not patterned.size:
        return []
    shown = ", ".join(str(bands[k] + 1) for k in patterned[:5]) + (", ..." if patterned.size > 5 else "")
    what = "wide stripes, if there are any, else signal" if denoiser.robust else "signal"
    return [
        f"what {denoiser.spec.name} removed of {patterned.size} band(s) ({shown}) is a pattern rather than noise: "
        f"{what}; compare with {_others(denoiser)}"
    ]


def _others(denoiser: Denoiser) -> str:
    """Models to compare with."""
    return " or ".join(name for name in ("star-net", "fasthyde") if name != denoiser.spec.name)


def _how(image: SpectralImage, denoiser: Denoiser, subspace: Subspace) -> str:
    if denoiser.published:
        return "as in the published scripts"
    if denoiser.by_wavelets(image, subspace):
        return "estimated from the finest wavelets of each band: the other bands or pixels are too few"
    rest = ", outliers left out" if denoiser.robust else ", then from what the signal subspace leaves"
    return "estimated by regression on the other bands" + rest


def _one(units: Sequence[str]) -> str | None:
    return units[0] if units and len(set(units)) == 1 else None
