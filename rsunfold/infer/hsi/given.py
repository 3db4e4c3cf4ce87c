"""Noise that is given, not estimated: one number, one for each band, or what an earlier result tells of its bands."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arguments import SomeNumbers
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.bands import Bands
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.jsonfile import told_by

NAMED = 5
"""Bands that a message names, of all that it is about."""


@dataclass(frozen=True)
class GivenNoise:
    """Standard deviations of the noise in physical units, after the scale of the images.

    numbers : one for all bands, or one for each of ``bands``, NaN where it is not known. summary : the file that they
    are from, if they are.

    Raises UsageError for a number below 0, or where none is above 0.
    """

    numbers: tuple[float, ...]
    bands: Bands | None = None
    summary: Path | None = None

    def __post_init__(self) -> None:
        below = [number for number in self.numbers if number < 0]
        for number in below or ([] if any(map(_is_known, self.numbers)) else self.numbers):
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
        known = {b: s for b, s in zip(self.bands.numbers, self.numbers, strict=True) if _is_known(s)}
        return [known.get(number) for number in range(self.bands.count)]

    def of(self, image: SpectralImage) -> NDArray[np.float64]:
        """(bands of ``image`` that take part,). Raises UsageError or InputError where it is not known of all of these.

        Each is that of the same band, see :meth:`rsunfold.infer.bands.Bands.within`.
        """
        if self.bands is None:
            return np.full(len(image.bands), self.numbers[0])
        if self.summary is None and self.bands.count != image.count:
            raise UsageError(
                f"--sigma has {self.bands.count} numbers, but {image.path} has {image.count} bands; give one for each."
            )
        waves = image.meta.wavelengths
        every = _bands(image.path, image.count, image.bands, dict(enumerate(waves)))
        places = dict(zip(every.numbers, every.within(self.bands), strict=True))
        found = [np.nan if (place := places[band]) is None else self.numbers[place] for band in image.bands]
        missing = [band for band, number in zip(image.bands, found, strict=True) if not _is_known(number)]
        if not missing:
            return np.array(found)
        names = [f"{band + 1} ({waves[band]:g} nm)" if waves else str(band + 1) for band in missing]
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        told = f"{self} tells no noise of band{'s' * (len(names) > 1)} {shown} of {image.path}"
        if self.summary is None:
            raise UsageError(f"{told}; give a number above 0 for each band that takes part.")
        left_out = (
            ""
            if len(missing) == len(image.bands)
            else (f", or leave out what took no part there: --drop-bands {','.join(str(band + 1) for band in missing)}")
        )
        raise InputError(f"{told}; use one with the same bands{left_out}.")


def _is_known(number: float) -> bool:
    return 0 < number < np.inf


def given_noise(sigma: float | SomeNumbers | str | os.PathLike[str]) -> GivenNoise:
    """One number, one for each band of the images (NaN, None or 0 for bands that take no part), or the summary
    (``..._summary.json``) of an earlier result.

    Raises UsageError as :class:`GivenNoise`, InputError for a file that is no such summary, or not a whole one.
    """
    if isinstance(sigma, str | os.PathLike):
        return _of_summary(Path(sigma))
    if isinstance(sigma, Sequence | np.ndarray):
        numbers = tuple(np.nan if number is None else float(number) for number in sigma)
        return GivenNoise(numbers, Bands("", len(numbers), range(len(numbers))))
    return GivenNoise((float(sigma),))


def _of_summary(path: Path) -> GivenNoise:
    try:
        return _told(path, told_by(path))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        what = "is no summary of denoise-hsi that tells the noise of bands" if path.exists() else "does not exist"
        raise InputError(
            f"--sigma takes a number, or the ..._summary.json of an earlier result, but {path} {what}."
        ) from None


def _told(path: Path, told: Mapping[str, Any]) -> GivenNoise:
    known = {row["band"] - 1: float(row["noise_sigma"]) for row in told["per_band"] if row["noise_sigma"]}
    if told["task"] != "denoise-hsi" or not known:
        raise ValueError(path)
    if "wavelengths_nm" in told:
        waves = dict(enumerate(told["wavelengths_nm"] or ()))
    else:  # of versions that told those of denoised bands alone
        waves = {row["band"] - 1: row["wavelength_nm"] for row in told["per_band"]}
    bands = _bands(str(path), int(told["bands"]), known, waves)
    return GivenNoise(tuple(known.get(number, np.nan) for number in bands.numbers), bands, path)


def _bands(path: str, count: int, needed: Collection[int], waves: Mapping[int, float | None]) -> Bands:
    """The bands ``needed`` of an image, and those that have a wavelength, so that none is taken for another."""
    numbers = sorted({*needed, *(band for band, wavelength in waves.items() if wavelength)})
    return Bands(path, count, numbers, [float(waves.get(number) or 0) for number in numbers])
