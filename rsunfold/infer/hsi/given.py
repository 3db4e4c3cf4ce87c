"""Noise that is given, not estimated: one number, one for each band, or what an earlier result tells of its bands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arguments import Numbers
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.bands import Bands
from rsunfold.infer.results import told_by
from rsunfold.infer.spectral import SpectralImage


@dataclass(frozen=True)
class GivenNoise:
    """Standard deviations of the noise in physical units, after the scale of the images.

    numbers : one for all bands, or one for each of ``bands``. summary : the file that they are from, if they are.
    """

    numbers: tuple[float, ...]
    bands: Bands | None = None
    summary: Path | None = None

    def __post_init__(self) -> None:
        for number in self.numbers:
            if not 0 < number < np.inf:
                raise UsageError(f"--sigma must be above 0, not {number:g}.")

    def __str__(self) -> str:
        """What messages call it."""
        several = "" if self.bands is not None else f" {self.numbers[0]:g}"
        return f"--sigma{several if self.summary is None else f' {self.summary}'}"

    @property
    def how(self) -> str:
        """For the summary."""
        several = "" if self.bands is None else " for each band"
        return f"given{several if self.summary is None else f' by {self.summary}'}"

    @property
    def asked(self) -> float | list[float | None]:
        """For the summary: one number, or one by band, None where it is not known."""
        if self.bands is None:
            return self.numbers[0]
        known = dict(zip(self.bands.numbers, self.numbers, strict=True))
        return [known.get(number) for number in range(self.bands.count)]

    def of(self, image: SpectralImage) -> NDArray[np.float64]:
        """(bands of ``image`` that take part,). Raises UsageError or InputError where it is not known of all."""
        if self.bands is None:
            return np.full(len(image.bands), self.numbers[0])
        if self.summary is None and self.bands.count != image.count:
            raise UsageError(
                f"--sigma has {self.bands.count} numbers, but {image.path} has {image.count} bands; give one for each."
            )
        waves = image.meta.wavelengths
        wanted = Bands(image.path, image.count, image.bands, [waves[b] for b in image.bands] if waves else ())
        places = wanted.within(self.bands)
        for band, place in zip(image.bands, places, strict=True):
            if place is None:
                at = f" ({waves[band]:g} nm)" if waves else ""
                raise InputError(
                    f"{self} tells no noise of band {band + 1}{at} of {image.path}; use one with the same bands."
                )
        return np.array([self.numbers[place] for place in places if place is not None])


def given_noise(sigma: float | Numbers | str | os.PathLike[str]) -> GivenNoise:
    """One number, one for each band of the images, or the summary (``..._summary.json``) of an earlier result.

    Raises UsageError for numbers that are not above 0, InputError for a file that is no such summary.
    """
    if isinstance(sigma, str | os.PathLike):
        return _of_summary(Path(sigma))
    if isinstance(sigma, Sequence | np.ndarray):
        numbers = tuple(float(number) for number in sigma)
        return GivenNoise(numbers, Bands("", len(numbers), range(len(numbers))))
    return GivenNoise((float(sigma),))


def _of_summary(path: Path) -> GivenNoise:
    told = told_by(path)
    rows: list[dict[str, Any]] = told.get("per_band", []) if told.get("task") == "denoise-hsi" else []
    known = [row for row in rows if row.get("noise_sigma")]
    if not known:
        what = "is no summary of denoise-hsi that tells the noise of bands" if path.exists() else "does not exist"
        raise InputError(f"--sigma takes a number, or the ..._summary.json of an earlier result, but {path} {what}.")
    waves = [row["wavelength_nm"] for row in known]
    bands = Bands(str(path), told["bands"], [row["band"] - 1 for row in known], () if None in waves else waves)
    return GivenNoise(tuple(row["noise_sigma"] for row in known), bands, path)
