"""Denoising against the truth: of models on clean cubes with simulated noise, or of somebody else's result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import told
from rsunfold.errors import InputError, UsageError, unknown
from rsunfold.infer.evaluation import report_of
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.run import Options, denoise_array
from rsunfold.infer.results import environment
from rsunfold.infer.spectral import SpectralImage, header_shape
from rsunfold.io import open_cube
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.denoising import quality
from rsunfold.progress import tracked
from rsunfold.simulate.noise import GAUSSIAN, KINDS, make_noise

NOISY = "noisy"
"""Name of the noisy cubes themselves among the models."""
HIGH, LONELY = 0.999, 0.4
"""A quantile of the samples of a clean cube, and below which part of the largest one it is told."""
FIGURES = ("psnr", "psnr_global", "ssim", "sam_radians", "sam_degrees", "ergas", "ergas_published_code")
BESIDE = {
    "divided_by": "the largest valid sample of the clean cube, which is 1 in all figures",
    "seconds": "time of denoising alone, without reading and comparing; of files and of the noisy cubes 0",
}
"""What is in a report beside the figures of :func:`quality`."""


@dataclass(frozen=True)
class Clean:
    """A clean cube: data float32 (bands that take part, rows, cols), and valid bool (rows, cols). bands : zero-based,
    of ``count``. wavelengths : of all bands in nm, or none. top : the largest valid sample of the file. notes : what is
    to be told of it."""

    data: NDArray[np.float32]
    valid: NDArray[np.bool_]
    bands: list[int]
    count: int
    wavelengths: tuple[float, ...]
    top: float
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

    def rows(self) -> list[dict[str, Any]]:
        """The mean over cubes and seeds for each model and noise, then over all noises, by the keys of FIGURES.

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
                    values = [run["quality"][key] for run in some if run["quality"][key] is not None]
                    line[key] = float(np.mean(values)) if values else None
                line["seconds"] = float(np.mean([run["seconds"] for run in some]))
                lines.append(line)
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
            summary=self.rows(),
            runs=self.runs,
            notes=self.notes,
        )


def read_clean(path: str, var: str | None = None, drop_bands: Sequence[str] = ()) -> Clean:
    """A cube without ``drop_bands``, divided by its largest valid value; InputError unless that is above 0."""
    with environment(), SpectralImage(path, var=var, drop_bands=drop_bands) as image:
        data, valid = image.read(image.whole)
        top = float(data[:, valid].max())
        if top <= 0:
            raise InputError(f"{image.path} has no value above 0, so it cannot be scaled to 1 as a clean cube.")
        scaled = (data / top).astype(np.float32)
        notes = told(image.notes)
        high = float(np.quantile(scaled[:, valid], HIGH))
        if high < LONELY:
            notes.append(
                f"{HIGH:.1%} of its samples lie below {high:.2g} of the largest, {top:.6g}, by which it is divided; "
                "noise levels and PSNR are relative to it"
            )
        return Clean(scaled, valid, image.bands, image.count, image.meta.wavelengths, top, tuple(notes))


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


def _label(kind: str, sigma: float | None) -> str:
    """What a noise is called in reports."""
    return kind if sigma is None else f"{kind} {sigma:g}"


def evaluate_models(
    cubes: dict[str, str],
    protocol: Sequence[tuple[str, float | None]],
    seeds: Sequence[int],
    denoisers: Sequence[Denoiser],
    *,
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    published_ergas: bool = False,
    say: Callable[[str], None] = lambda text: None,
    keep: Callable[[DenoisingComparison], None] = lambda done: None,
) -> DenoisingComparison:
    """Every model on every cube (path by name) under every noise and seed; the models see the noisy cube alone.

    The noisy cubes as they are come first, under the name NOISY. drop_bands : of each cube, they take no part. keep :
    is given the comparison each time that a model has one more run.
    """
    with environment():
        for path in cubes.values():  # before minutes are spent on the first
            header_shape(path, var, drop_bands)
    asked = {"clean": list(cubes.values()), "var": var, "drop_bands": list(drop_bands)}
    how = {
        "asked": {**asked, "published_ergas": published_ergas},
        "noises": [_label(kind, sigma) for kind, sigma in protocol],
        "seeds": list(seeds),
    }
    done = DenoisingComparison(how, about={NOISY: {"model": NOISY}}, each=len(cubes) * len(seeds))
    done.missing = [denoiser.label for denoiser in denoisers]
    for denoiser in [None, *denoisers]:
        name = NOISY if denoiser is None else denoiser.label
        if denoiser is not None:
            done.about[name] = denoiser.describe()
        for cube, path in cubes.items():
            clean = read_clean(path, var, drop_bands)
            if denoiser is None:
                done.notes += [f"{path}: {note}" for note in clean.notes]
            holes = np.broadcast_to(~clean.valid, clean.data.shape)
            for (kind, sigma), seed in tracked(list(itertools.product(protocol, seeds)), f"{name}, {cube}"):
                found = noisy = make_noise(clean.data, kind, sigma=sigma, seed=seed).data
                more: dict[str, Any] = {"seconds": 0.0}
                if denoiser is not None:
                    with environment():
                        cleaned = denoise_array(ArrayReader(np.ma.array(noisy, mask=holes)), denoiser, Options())
                    assert cleaned.data is not None
                    found = cleaned.data
                    more = {key: cleaned.summary[key] for key in ("seconds", *(["adapted"] if denoiser.adapt else []))}
                q = quality(clean.data, found, valid=clean.valid, published_ergas=published_ergas)
                label = _label(kind, sigma)
                done.add(clean, q, model=name, cube=cube, file=path, noise=label, seed=seed, **more)
                if denoiser is not None:
                    keep(done)
                psnr = "identical" if q["psnr"] is None else f"{q['psnr']:.2f} dB"
                say(f"{name}: {cube}, {label}, seed {seed}: {psnr}")
        if denoiser is not None:
            done.missing.remove(name)
    return done


def evaluate_files(
    truth: Path,
    results: dict[str, Path],
    *,
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    published_ergas: bool = False,
) -> DenoisingComparison:
    """Files of somebody else's (by a name for each) against the file of the truth; one scale for all.

    The largest valid value of the truth, without ``drop_bands``, is the data range. All files are compared on the same
    pixels, those that are valid in each; a note tells of a file that has fewer than the truth. Raises InputError where
    the sizes differ.
    """
    clean = read_clean(str(truth), var, drop_bands)
    files = {"truth": str(truth), **{name: str(path) for name, path in results.items()}}
    asked = {**files, "var": var, "drop_bands": list(drop_bands), "published_ergas": published_ergas}
    done = DenoisingComparison({"asked": asked}, notes=[f"{truth}: {note}" for note in clean.notes])
    size, whole = (clean.count, *clean.valid.shape), int(clean.valid.sum())
    restored, common = {}, clean.valid
    for name, path in results.items():
        with environment(), open_cube(path, var=var) as reader:
            if reader.shape != size:
                raise InputError(
                    f"{path} has (bands, rows, cols) {reader.shape}, but its ground truth {truth} has {size}."
                )
            reader.refuse_complex()
            cube = reader.read(bands=clean.bands)
        shared = int((clean.valid & cube.valid).sum())
        if not shared:
            raise InputError(f"{path} and its ground truth {truth} have no valid pixel in common.")
        if shared < whole:
            lost = f"has no value at {whole - shared} of the {whole} valid pixels of {truth}"
            done.notes.append(f"{path} {lost}; they are left out")
        restored[name], common = (cube.data / clean.top).astype(np.float32), common & cube.valid
    if not common.any():
        raise InputError(f"{' and '.join(map(str, results.values()))} have no valid pixel in common.")
    for name, path in results.items():
        q = quality(clean.data, restored[name], valid=common, published_ergas=published_ergas)
        done.about[name] = {"model": name, "file": str(path), "truth": str(truth), "divided_by": clean.top}
        done.add(clean, q, model=name, cube=truth.stem, file=str(truth), noise="as given", seed=None, seconds=0.0)
    return done
