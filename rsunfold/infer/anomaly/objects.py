"""From a mask to anomalies: connected pixels, their mean spectra, and the wavelengths that set them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.csvfile import write_rows
from rsunfold.moments import Moments
from rsunfold.rule import Rule
from rsunfold.targets import Target, TargetCollector

PICTURE_SIDE = 1000
MOST = 1000
"""Anomalies, the strongest first, whose spectra are kept."""
DIFFERING = 3
"""Wavelengths named for each anomaly."""
COLOURS_NM = (640.0, 550.0, 460.0)
"""Of the bands that a picture shows as red, green and blue."""
NAMES = ("bands_differing", "names_differing", "wavelengths_nm_differing", "deviations_differing")
"""Further columns of an anomaly: the bands (from 1) in which its mean spectrum differs most from the background, their
names and their wavelengths in nanometres where the file gives them, and by how many standard deviations of the
background; as text, separated by semicolons, for which those in a name become commas."""


@dataclass
class Anomalies:
    """Connected groups of anomalous pixels (8 neighbours) of one image.

    targets : in scan order. mask bool (rows, cols) : without groups that are too small. spectra : by target id the
    mean spectrum (bands that take part,), in units of the file, of at most MOST. background, deviation (bands,) : mean
    and standard deviation of the pixels whose score is not above the threshold, of all where none is left. composite
    float (h, w, 3) or (h, w) in [0, 1], NaN where invalid : every ``step``-th pixel.
    """

    targets: list[Target]
    mask: NDArray[np.bool_]
    spectra: dict[int, NDArray[np.float64]]
    background: NDArray[np.float64]
    deviation: NDArray[np.float64]
    composite: NDArray[np.float64]
    step: int


def find_anomalies(image: SpectralImage, score: NDArray[np.float32], threshold: float, min_area: int = 1) -> Anomalies:
    """The anomalies of ``image``: groups of at least ``min_area`` pixels whose score exceeds ``threshold``.

    score float32 (rows, cols), NaN where a pixel is not valid. One pass over the image.
    """
    valid = np.isfinite(score)
    above = np.zeros(score.shape, bool)
    above[valid] = score[valid] > threshold
    # The threshold twice, so that odds are asked of no score: they are no probabilities.
    collector = TargetCollector(*score.shape, rule=Rule(threshold, threshold, min_area=min_area))
    collector.add(0, np.where(valid, score, 0), above)
    targets = collector.finish()
    groups = collector.ids(0, above)
    strongest = sorted(targets, key=lambda t: -t.peak)[:MOST]
    slot = np.full(len(targets) + 1, -1)
    slot[[t.id for t in strongest]] = np.arange(len(strongest))
    sums, pixels = np.zeros((len(strongest), len(image.bands))), np.zeros(len(strongest))
    step = math.ceil(max(image.rows, image.cols) / PICTURE_SIDE)
    chosen = picture_bands(image)
    small: list[NDArray[Any]] = []
    rest = Moments(len(image.bands))
    for window in image.strips(len(image.bands)):
        data, inside = image.read(window)
        group = slot[groups[window.slices]]
        here = group >= 0
        # An object far brighter than the scene is limited where it is scored, but its spectrum is its own.
        own = image.unlimited(window)[0] if here.any() else data
        np.add.at(sums, group[here], own[:, here].T.astype(np.float64))
        np.add.at(pixels, group[here], 1)
        rest.add(data[:, inside & ~above[window.slices]])
        some = np.s_[-window.row % step :: step, ::step]
        shown = np.where(inside, data[chosen], np.nan)
        small.append(np.moveaxis(shown[:, *some], 0, -1).copy())
    spectra = {t.id: sums[k] / pixels[k] for k, t in enumerate(strongest)}
    background = rest if rest.count else image.statistics.moments
    deviation = np.sqrt(np.maximum(np.diag(background.covariance), 0))
    return Anomalies(targets, groups > 0, spectra, background.mean, deviation, _stretched(np.concatenate(small)), step)


def picture_bands(image: SpectralImage) -> list[int]:
    """Indices among the bands that take part of those for red, green and blue; one band where there are fewer than 3.

    Nearest to COLOURS_NM where the file gives wavelengths that reach there, else spread evenly.
    """
    count = len(image.bands)
    if count < 3:
        return [0]
    waves = np.array([image.meta.wavelengths[b] for b in image.bands]) if image.meta.wavelengths else None
    if waves is not None and waves.min() < 500 and waves.max() > 600:
        return [int(np.abs(waves - nm).argmin()) for nm in COLOURS_NM]
    return [count * 5 // 6, count // 2, count // 6]


def _stretched(data: NDArray[Any]) -> NDArray[np.float64]:
    """(h, w) or (h, w, 3) in [0, 1]: percentiles 1 and 99 of each band; NaN stays."""
    out = data.astype(np.float64)
    for k in range(out.shape[2]):
        known = out[:, :, k][np.isfinite(out[:, :, k])]
        low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
        out[:, :, k] = np.clip((out[:, :, k] - low) / ((high - low) or 1.0), 0, 1)
    return out[:, :, 0] if out.shape[2] == 1 else out


def differences(image: SpectralImage, anomalies: Anomalies) -> list[dict[str, Any]]:
    """For each target the columns NAMES as text; None where unknown, as all are of those without a spectrum."""
    background, deviation = anomalies.background, anomalies.deviation
    waves, names = image.meta.wavelengths, image.meta.band_names
    rows = []
    for t in anomalies.targets:
        spectrum = anomalies.spectra.get(t.id)
        if spectrum is None:
            rows.append(dict.fromkeys(NAMES))
            continue
        z = (spectrum - background) / np.where(deviation > 0, deviation, np.inf)
        found = _apart(np.abs(z), max(1, len(z) // 20))
        bands = [image.bands[i] for i in found]
        rows.append(
            {
                NAMES[0]: ";".join(str(b + 1) for b in bands),
                NAMES[1]: ";".join(names[b].replace(";", ",") for b in bands) if names else None,
                NAMES[2]: ";".join(f"{waves[b]:.1f}" for b in bands) if waves else None,
                NAMES[3]: ";".join(f"{z[i]:.2f}" for i in found),
            }
        )
    return rows


def _apart(values: NDArray[np.float64], gap: int) -> list[int]:
    """Indices of the DIFFERING largest values that lie farther than ``gap`` from one another."""
    found: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        if all(abs(int(i) - j) > gap for j in found):
            found.append(int(i))
        if len(found) == DIFFERING:
            break
    return found


def write_spectra(path: Path, image: SpectralImage, anomalies: Anomalies) -> None:
    """CSV with one line per band that takes part: its number (from 1), name and wavelength, the background, and one
    column per anomaly.

    Values in units of the file; anomalies by id, in scan order. Raises OutputError when it cannot be written.
    """
    waves, names = image.meta.wavelengths, image.meta.band_names
    spectra = dict(sorted(anomalies.spectra.items()))
    columns = [anomalies.background, anomalies.deviation, *spectra.values()]
    rows = (
        [
            *(band + 1, names[band] if names else None, f"{waves[band]:g}" if waves else None),
            *(values[k] for values in columns),
        ]
        for k, band in enumerate(image.bands)
    )
    header = ["band", "name", "wavelength_nm", "background_mean", "background_std"]
    write_rows(path, [*header, *(f"anomaly_{i}" for i in spectra)], rows, digits=7)
