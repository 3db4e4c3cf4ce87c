"""Denoising against the truth: of models on clean cubes with simulated noise, or of somebody else's result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta, told
from rsunfold.errors import InputError, UsageError, unknown
from rsunfold.infer.evaluation import mean_of, report_of
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.exchange import (
    Draw,
    Save,
    clean_name,
    names_of_files,
    noisy_folder,
    read_result,
    refuse_misfit,
    results_in,
    scale_note,
)
from rsunfold.infer.hsi.run import Options, denoise_array
from rsunfold.infer.results import environment, label_of_files
from rsunfold.infer.spectral import Gap, SpectralImage, header_shape
from rsunfold.io.memory import ArrayReader
from rsunfold.io.reader import select_bands
from rsunfold.metrics.denoising import quality
from rsunfold.progress import tracked
from rsunfold.report import heading
from rsunfold.simulate.noise import GAUSSIAN, KINDS, definition, make_noise

NOISY = "noisy"
"""Name of the noisy cubes themselves among the models."""
HIGH, LONELY = 0.999, 0.4
"""A quantile of the samples of a clean cube, and below which part of the largest one it is told."""
FIGURES = ("psnr", "psnr_global", "ssim", "sam_radians", "sam_degrees", "ergas", "ergas_published_code")
OF_RUNS = (
    "the runs of the row (cubes, seeds and, in the mean, noises), of the population (ddof 0); null of a single run"
)
BESIDE = {
    "divided_by": "the largest valid sample of the clean cube, which is 1 in all figures",
    "seconds": "time of denoising alone, without reading and comparing; of files and of the noisy cubes null",
    **{f"{key}_deviation": f"{key}: standard deviation over {OF_RUNS}" for key in FIGURES},
}
"""What is in a report beside the figures of :func:`quality`."""


@dataclass(frozen=True)
class Clean:
    """A clean cube: data float32 (bands that take part, rows, cols), and valid bool (rows, cols). bands : zero-based,
    of ``count``. wavelengths : of all bands in nm, or none. top : the largest valid sample of the file. meta : of the
    data, for a file of them. notes : what is to be told of it."""

    data: NDArray[np.float32]
    valid: NDArray[np.bool_]
    bands: list[int]
    count: int
    wavelengths: tuple[float, ...]
    top: float
    meta: Meta
    notes: tuple[str, ...] = ()


@dataclass
class DenoisingComparison:
    """Results of several models: one entry per model, cube, noise and seed in ``runs``, with the whole of
    :func:`quality` but its ``conventions``, which are the same for all, and the ``bands`` (from 1) that it is of;
    ``about`` by model. protocol : how the figures were made. each : runs of each model under each
    noise, when all are there. missing : models that lack some. count, wavelengths : of all bands of the first cube; see
    :class:`Clean`. notes : sentences on the cubes, each once."""

    protocol: dict[str, Any]
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    each: int = 1
    missing: list[str] = field(default_factory=list)
    count: int = 0
    wavelengths: tuple[float, ...] = ()
    notes: list[str] = field(default_factory=list)
    conventions: dict[str, str] = field(default_factory=dict)

    def add(self, clean: Clean, q: dict[str, Any], **run: Any) -> None:
        """Take the figures ``q`` of a ``run`` (model, cube, noise, seed, seconds, ...) on the cube ``clean``."""
        if not self.runs:
            self.count, self.wavelengths = clean.count, clean.wavelengths
        bands = [b + 1 for b in clean.bands]
        self.conventions = q["conventions"]
        figures = {key: value for key, value in q.items() if key != "conventions"}
        self.runs.append({**run, "divided_by": clean.top, "bands": bands, "quality": figures})

    def rows(self, *, deviations: bool = False) -> list[dict[str, Any]]:
        """The mean over cubes and seeds for each model and noise, then over all noises, by the keys of FIGURES; with
        ``deviations``, also by those of BESIDE. None where a run has no such figure.

        Those that lack some cube, seed or noise are left out.
        """
        lines = []
        for model in self.about:
            mine = [run for run in self.runs if run["model"] == model]
            noises = list(dict.fromkeys(run["noise"] for run in mine))
            for noise in [*noises, "mean"] if len(noises) > 1 else noises:
                some = [run for run in mine if noise in ("mean", run["noise"])]
                if model in self.missing if noise == "mean" else len(some) < self.each:
                    continue
                line: dict[str, Any] = {"model": model, "noise": noise, "cubes": len({r["cube"] for r in some})}
                line["runs"] = len(some)
                for key in FIGURES:
                    if not any(key in run["quality"] for run in self.runs):
                        continue
                    values = [run["quality"][key] for run in some]
                    line[key] = mean_of(values)
                    if deviations:
                        several = len(values) > 1 and None not in values
                        line[f"{key}_deviation"] = float(np.std(values)) if several else None
                line["seconds"] = mean_of(run["seconds"] for run in some)
                lines.append(line)
        return lines

    def remarks(self) -> list[str]:
        """The notes, and a sentence for each figure of a model that some of its runs do not have, nor their mean."""
        lines = list(self.notes)
        for model, key in itertools.product(self.about, FIGURES):
            mine = [run for run in self.runs if run["model"] == model and key in run["quality"]]
            without = [run for run in mine if run["quality"][key] is None]
            if without:
                first = f"{without[0]['cube']}, {without[0]['noise']}"
                lines.append(
                    f"{model}: {heading(key)} is undefined in {len(without)} of {len(mine)} runs (the first: {first}), "
                    "so the mean has none"
                )
        return lines

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Mean PSNR of each model in every band of the first cube, NaN in those that take no part."""
        first = self.runs[0]
        found = {}
        for model in self.about:
            some = [
                [np.nan if v is None else v for v in run["quality"]["psnr_per_band"]]
                for run in self.runs
                if run["model"] == model and run["cube"] == first["cube"]
            ]
            found[model] = np.full(self.count, np.nan)
            found[model][[b - 1 for b in first["bands"]]] = np.mean(some, axis=0)
        return found

    def report(self) -> dict[str, Any]:
        """Everything as plain types; where models lack some runs, also which."""
        return report_of(
            self.missing,
            protocol=self.protocol,
            formulas=self.conventions | BESIDE,
            models=self.about,
            summary=self.rows(deviations=True),
            runs=self.runs,
            notes=self.remarks(),
        )


def read_clean(path: str, var: str | None = None, drop_bands: Sequence[str] = ()) -> Clean:
    """A cube without ``drop_bands``, divided by its largest valid value; InputError unless that is above 0."""
    with environment(), SpectralImage(path, var=var, drop_bands=drop_bands) as image:
        data, valid = image.read(image.whole)
        top = float(data[:, valid].max())
        if top <= 0:
            raise InputError(f"{image.path} has no value above 0, so it cannot be scaled to 1 as a clean cube.")
        scaled = (data / top).astype(np.float32)
        notes = told(image.notes) + _left_out(image)
        high = float(np.quantile(scaled[:, valid], HIGH))
        if high < LONELY:
            notes.append(
                f"{HIGH:.1%} of its samples lie below {high:.2g} of the largest, {top:.6g}, by which it is divided; "
                "noise levels and PSNR are relative to it"
            )
        kept = select_bands(image.meta, image.bands)
        meta = kept.spatial(wavelengths=kept.wavelengths, fwhm=kept.fwhm, band_names=kept.band_names)
        return Clean(scaled, valid, image.bands, image.count, image.meta.wavelengths, top, meta, tuple(notes))


def _left_out(image: SpectralImage) -> list[str]:
    """A sentence for each reason why bands take no part that nobody asked to drop, and that no other note is on."""
    found: dict[str, list[int]] = {}
    for band, why in image.statistics.passed.items():
        if band not in image.left_out and not isinstance(why, Gap):
            found.setdefault(why, []).append(band + 1)
    return [
        f"left out {len(bands)} of {image.count} bands "
        f"({', '.join(map(str, bands[:5]))}{', ...' if len(bands) > 5 else ''}): {why}"
        for why, bands in found.items()
    ]


def noises(kind: str, sigmas: Sequence[float]) -> list[tuple[str, float | None]]:
    """(kind, sigma) of each noise asked for; raises UsageError for an unknown kind, or wrong sigmas for it."""
    if kind not in KINDS:
        raise unknown("--noise", kind, KINDS)
    if not all(0 < sigma < math.inf for sigma in sigmas):
        raise UsageError(f"--sigma must be above 0, not {', '.join(f'{sigma:g}' for sigma in sigmas)}.")
    if len({f"{sigma:g}" for sigma in sigmas}) < len(sigmas):
        raise UsageError(f"--sigma repeats a value: {', '.join(f'{sigma:g}' for sigma in sigmas)}.")
    if kind in GAUSSIAN:
        if not sigmas:
            raise UsageError(f"--noise {kind} needs --sigma, such as --sigma 10,30,50,70.")
        return [(kind, sigma) for sigma in sigmas]
    if sigmas:
        raise UsageError(f"--noise {kind} draws its own noise levels; leave out --sigma.")
    return [(kind, None)]


def evaluate_models(
    cubes: dict[str, str],
    protocol: Sequence[tuple[str, float | None]],
    seeds: Sequence[int],
    denoisers: Sequence[Denoiser],
    *,
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    published_ergas: bool = False,
    restored: Sequence[Path] = (),
    restored_var: str | None = None,
    save_noisy: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    keep: Callable[[DenoisingComparison], None] = lambda done: None,
) -> DenoisingComparison:
    """Every model on every cube (path by name) under every noise and seed; the models see the noisy cube alone.

    The noisy cubes as they are come first, under the name NOISY, with what was drawn for each. drop_bands : of each
    cube, they take no part. restored : folders of somebody else's results for the same noise, see :func:`results_in`,
    on the scale of the noisy cubes; they come next. restored_var : the variable in their MAT files. save_noisy : a
    folder for the clean cubes and the noisy ones that the models see, see :func:`noisy_folder`, whose files are
    replaced where ``overwrite`` says so. keep : is given the comparison each time that a model has one more run.

    Raises InputError before anything is computed for files that are missing or have another size than what takes part
    of the clean cube.
    """
    with environment():
        for path in cubes.values():  # before minutes are spent on the first
            header_shape(path, var, drop_bands)
    draws = [Draw(kind, sigma, seed) for (kind, sigma), seed in itertools.product(protocol, seeds)]
    theirs = {label_of_files(folder): results_in(folder, cubes, draws) for folder in restored}
    asked: dict[str, Any] = {"clean": list(cubes.values()), "var": var, "restored": list(map(str, restored))}
    asked |= {"restored_var": restored_var, "drop_bands": list(drop_bands), "published_ergas": published_ergas}
    how = {"asked": asked, "noises": {draw.label: definition(draw.kind) for draw in draws}, "seeds": list(seeds)}
    done = DenoisingComparison(how, about={NOISY: {"model": NOISY}}, each=len(cubes) * len(seeds))
    done.missing = [*theirs, *(denoiser.label for denoiser in denoisers)]
    course = _Course(done, cubes, draws, var, drop_bands, published_ergas, say)
    course.refuse_misfits(theirs.values(), restored_var)
    with noisy_folder(save_noisy, cubes, draws, overwrite=overwrite) as save:
        course.noisy(save)
    for folder, (name, paths) in zip(restored, theirs.items(), strict=True):
        done.about[name] = {"model": name, "folder": str(folder)}
        course.restored(name, paths, restored_var)
        done.missing.remove(name)
        keep(done)
    for denoiser in denoisers:
        done.about[denoiser.label] = denoiser.describe()
        course.model(denoiser, keep)
        done.missing.remove(denoiser.label)
    return done


@dataclass
class _Course:
    """An evaluation under way: ``draws`` of noise on clean ``cubes``, path by name, each of which is read when it is
    needed; the figures go to ``done``."""

    done: DenoisingComparison
    cubes: dict[str, str]
    draws: list[Draw]
    var: str | None
    drop_bands: Sequence[str]
    published_ergas: bool
    say: Callable[[str], None]

    def clean(self, cube: str) -> Clean:
        """One of the cubes."""
        return read_clean(self.cubes[cube], self.var, self.drop_bands)

    def enter(self, model: str, cube: str, clean: Clean, draw: Draw, found: NDArray[Any], **more: Any) -> None:
        """Compare what a model, or another program, ``found`` with the clean cube."""
        q = quality(clean.data, found, valid=clean.valid, published_ergas=self.published_ergas)
        where = {"cube": cube, "file": self.cubes[cube], "noise": draw.label, "seed": draw.seed}
        self.done.add(clean, q, model=model, **where, **more)
        psnr = "identical" if q["psnr"] is None else f"{q['psnr']:.2f} dB"
        self.say(f"{model}: {cube}, {draw.label}, seed {draw.seed}: {psnr}")

    def refuse_misfits(self, theirs: Collection[Mapping[tuple[str, Draw], Path]], var: str | None) -> None:
        """Raise InputError for a result of other programs that has another size than its clean cube."""
        for cube, path in self.cubes.items() if theirs else ():
            shape = self.clean(cube).data.shape
            for paths, draw in itertools.product(theirs, self.draws):
                refuse_misfit(paths[cube, draw], shape, f"{path} is evaluated with", var=var, option="--restored-var")

    def noisy(self, save: Save) -> None:
        """The noisy cubes as they are, each of which is saved."""
        for cube, path in self.cubes.items():
            clean = self.clean(cube)
            self.done.notes += [f"{path}: {note}" for note in clean.notes]
            save(clean_name(cube), clean, clean.data)
            for draw in tracked(self.draws, f"{NOISY}, {cube}"):
                noisy = make_noise(clean.data, draw.kind, sigma=draw.sigma, seed=draw.seed)
                save(draw.of(cube), clean, noisy.data)
                self.enter(NOISY, cube, clean, draw, noisy.data, seconds=None, drawn=noisy.realised())

    def restored(self, name: str, paths: Mapping[tuple[str, Draw], Path], var: str | None) -> None:
        """Somebody else's results, read from ``paths``; InputError where one lacks pixels that are valid."""
        for cube, file in self.cubes.items():
            clean, scales = self.clean(cube), []
            for draw in tracked(self.draws, f"{name}, {cube}"):
                path = paths[cube, draw]
                of = f"{file} is evaluated with"
                found = read_result(path, clean.data.shape, of, bands=None, var=var, option="--restored-var")
                if lost := int((clean.valid & ~found.valid).sum()):
                    raise InputError(
                        f"{path} has no value at {lost} of the {int(clean.valid.sum())} valid pixels of {file}; all "
                        "results are measured on the same pixels, so give it one at each."
                    )
                scales += scale_note(path, found.data[:, clean.valid], str(file), clean.data[:, clean.valid])
                self.enter(name, cube, clean, draw, found.data, seconds=None, restored=str(path))
            self.done.notes += scales

    def model(self, denoiser: Denoiser, keep: Callable[[DenoisingComparison], None]) -> None:
        """What a model makes of each noisy cube."""
        for cube in self.cubes:
            clean = self.clean(cube)
            holes = np.broadcast_to(~clean.valid, clean.data.shape)
            for draw in tracked(self.draws, f"{denoiser.label}, {cube}"):
                noisy = make_noise(clean.data, draw.kind, sigma=draw.sigma, seed=draw.seed).data
                with environment():
                    cleaned = denoise_array(ArrayReader(np.ma.array(noisy, mask=holes)), denoiser, Options())
                assert cleaned.data is not None
                more = {key: cleaned.summary[key] for key in ("seconds", *(["adapted"] if denoiser.adapt else []))}
                self.enter(denoiser.label, cube, clean, draw, cleaned.data, **more)
                keep(self.done)


def evaluate_files(
    truth: Path,
    restored: Sequence[Path],
    *,
    noisy: Path | None = None,
    var: str | None = None,
    restored_var: str | None = None,
    noisy_var: str | None = None,
    drop_bands: Sequence[str] = (),
    published_ergas: bool = False,
) -> DenoisingComparison:
    """Files of somebody else's, named after them, and the noisy cube, NOISY, against the truth; one scale for all.

    The largest valid value of the truth, without ``drop_bands``, is the data range. All files are compared on the same
    pixels, those that are valid in each; notes tell of a file that has fewer than the truth, and of one on another
    scale. var, restored_var, noisy_var : the variable in a MAT file of each. Raises InputError where the sizes differ.
    """
    clean = read_clean(str(truth), var, drop_bands)
    asked: dict[str, Any] = {"truth": str(truth), "var": var, "restored": list(map(str, restored))}
    asked |= {"restored_var": restored_var, "noisy": None if noisy is None else str(noisy), "noisy_var": noisy_var}
    asked |= {"drop_bands": list(drop_bands), "published_ergas": published_ergas}
    done = DenoisingComparison({"asked": asked}, notes=[f"{truth}: {note}" for note in clean.notes])
    size, whole = (clean.count, *clean.valid.shape), int(clean.valid.sum())
    files = {} if noisy is None else {NOISY: (noisy, noisy_var, "--noisy-var")}
    files |= {name: (path, restored_var, "--restored-var") for name, path in names_of_files(restored).items()}
    results, common = {}, clean.valid
    for name, (path, its, option) in files.items():
        cube = read_result(path, size, f"its ground truth {truth} has", bands=clean.bands, var=its, option=option)
        shared = clean.valid & cube.valid
        if not shared.any():
            raise InputError(f"{path} and its ground truth {truth} have no valid pixel in common.")
        if lost := whole - int(shared.sum()):
            done.notes.append(
                f"{path} has no value at {lost} of the {whole} valid pixels of {truth}; they are left out"
            )
        results[name], common = (cube.data / clean.top).astype(np.float32), common & cube.valid
        done.notes += scale_note(path, results[name][:, shared], str(truth), clean.data[:, shared], clean.top)
    if not common.any():
        raise InputError(f"{' and '.join(str(path) for path, *_ in files.values())} have no valid pixel in common.")
    for name, (path, *_) in files.items():
        q = quality(clean.data, results[name], valid=common, published_ergas=published_ergas)
        done.about[name] = {"model": name, "file": str(path), "truth": str(truth), "divided_by": clean.top}
        done.add(clean, q, model=name, cube=truth.stem, file=str(truth), noise="as given", seed=None, seconds=None)
    return done
