"""What a file says about its bands in one form: wavelengths and widths in nanometres, bad bands as booleans."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rsunfold.cube import Aside

_NANOMETRES = {
    **dict.fromkeys(("nanometers", "nanometer", "nanometres", "nanometre", "nm"), 1.0),
    **dict.fromkeys(("micrometers", "micrometer", "micrometres", "micrometre", "microns", "micron"), 1e3),
    **dict.fromkeys(("um", "\u03bcm"), 1e3),  # Greek mu, which NFKC makes of the micro sign
    **dict.fromkeys(("angstroms", "angstrom"), 0.1),
    **dict.fromkeys(("millimeters", "mm"), 1e6),
    **dict.fromkeys(("centimeters", "cm"), 1e7),
    **dict.fromkeys(("meters", "m"), 1e9),
}
_PER_NANOMETRE = {
    **dict.fromkeys(("wavenumber", "wavenumbers", "cm-1", "1/cm"), 1e7),
    **dict.fromkeys(("ghz", "gigahertz"), 2.99792458e8),
    **dict.fromkeys(("mhz", "megahertz"), 2.99792458e11),
}
"""What a wavenumber or a frequency is divided into to give the wavelength in nanometres."""
_NAMES = {"wavelength": _NANOMETRES, "wavenumber": _PER_NANOMETRE, "frequency": _PER_NANOMETRE}
"""What may stand before a unit, as in ``Wavenumber (cm^-1)``. A Raman shift is none of these: it has no wavelength."""
NEAR_ZERO = 2.0
"""Times the usual step between the other numbers of an axis up to which 0 is a point of it, not a number left out."""


def split_list(text: str | None) -> list[str]:
    """The entries of an ENVI list ``{a, b}``; braces and a comma at the end are optional, None and ``{}`` give none."""
    inner = (text or "").strip().removeprefix("{").removesuffix("}").strip().removesuffix(",")
    return [entry.strip() for entry in inner.split(",")] if inner else []


def _numbers(name: str, entries: Sequence[Any], bands: int, notes: list[str]) -> list[float]:
    if len(entries) not in (0, bands):
        notes.append(f"{name} lists {len(entries)} values for {bands} bands and was ignored")
        return []
    try:
        values = [float(entry) for entry in entries]
        if all(map(math.isfinite, values)):
            return values
        raise ValueError
    except (TypeError, ValueError):
        notes.append(f"{name} contains something that is not a number and was ignored")
        return []


def _unit(text: str) -> str:
    """The name of a unit as the tables have it where they do: ``cm-1`` of ``cm^-1`` and ``Wavenumber (cm⁻¹)``."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2212", "-")  # superscripts have a minus sign
    plain = re.sub(r"[\s^*(){}\[\],]", "", plain)
    for name, table in _NAMES.items():
        unit = re.sub(f"^{name}s?/?", "", plain)
        if unit in table:
            return unit
    return plain


def _optical(centres: Sequence[float], factor: float) -> bool:
    """Whether wavelengths, times ``factor`` in nanometres, are such that optical instruments have: 100 nm to 1 mm."""
    known = [value * factor for value in centres if value]
    return bool(known) and min(known) >= 100 and max(known) <= 1e6


def _of_one_unit(
    centres: list[float], widths: list[float], units: Sequence[str], notes: list[str]
) -> tuple[list[float], list[float], str]:
    """Wavelengths and widths whose unit is given band by band, and the unit that is then that of all."""
    given = {_unit(unit): unit for unit in units if unit.strip()}
    if len(given) < 2:  # bands that give none have that of the others
        return centres, widths, next(iter(given.values()), "")
    factors = [_NANOMETRES.get(_unit(unit)) for unit in units]
    known = [factor for factor in factors if factor is not None]
    if len(known) < len(factors):
        if centres or widths:
            notes.append("not all bands give a unit of length for their wavelength, so the wavelengths were ignored")
        return [], [], ""
    centres = [value * f for value, f in zip(centres, known, strict=bool(centres))]
    widths = [value * f for value, f in zip(widths, known, strict=bool(widths))]
    return centres, widths, "nm"


def _through_zero(centres: Sequence[float]) -> bool:
    """Whether an axis (bands,) has numbers below 0, or 0 as one of its points, as those of Raman shifts do. A 0 that is
    far from the others, is repeated or stands among them is that of a band of which nothing is known."""
    if min(centres) < 0:
        return True
    if centres.count(0) != 1 or 0 not in (centres[0], centres[-1]):
        return False
    others = sorted(value for value in centres if value)
    steps = [b - a for a, b in pairwise(others)]
    return bool(steps) and others[0] <= NEAR_ZERO * statistics.median(steps)


def _of_waves(
    centres: list[float], widths: list[float], product: float, notes: list[str]
) -> tuple[list[float], list[float]]:
    """Wavelengths and widths in nanometres of wavenumbers or frequencies, 0 of those that are 0, which stands for
    unknown; none where they go :func:`_through_zero`."""
    if _through_zero(centres):
        notes.append(
            "wavelengths are given as wavenumbers or frequencies, but go down to 0 or below (Raman shifts?), so all "
            "were ignored; results have none"
        )
        return [], []
    scales = [product / value**2 if value else 0.0 for value in centres]
    widths = [scale * width for scale, width in zip(scales, widths, strict=bool(widths))]
    return [product / value if value else 0.0 for value in centres], widths


def _in_lengths(
    centres: list[float], widths: list[float], units: str, notes: list[str]
) -> tuple[list[float], list[float], float]:
    """Wavelengths and widths as lengths, none where they are none, and what makes nanometres of these."""
    unit = _unit(units)
    if unit in _PER_NANOMETRE and centres:
        return *_of_waves(centres, widths, _PER_NANOMETRE[unit], notes), 1.0
    if unit in _NANOMETRES:
        return centres, widths, _NANOMETRES[unit]
    if unit not in ("", "unknown"):
        if centres or widths:
            notes.append(f"wavelengths are given in {units}, not a length, and were ignored; results have none")
        return [], [], 1.0
    if centres:
        small = max(centres) < 100
        micro = small or (_optical(centres, 1e3) and not _optical(centres, 1.0))
        note = f"wavelengths have no unit and were taken to be in {'micro' if micro else 'nano'}metres"
        notes.append(note if micro and not small else Aside(note))  # it may be no wavelengths but numbers
        return centres, widths, 1e3 if micro else 1.0
    if widths:
        notes.append("fwhm has no unit and no accompanying wavelengths, and was ignored")
    return [], [], 1.0


def _meant_factor(centres: list[float], factor: float, units: str, notes: list[str]) -> float:
    """``factor``, or that of micrometres for nanometres and the reverse where only so the wavelengths are optical."""
    others = {1.0: (1e3, "micrometres"), 1e3: (1.0, "nanometres")}
    if factor not in others or _optical(centres, factor):
        return factor
    other, meant = others[factor]
    if not _optical(centres, other):
        return factor
    notes.append(f"wavelengths are given in {units} but were taken to be in {meant}, as their values are")
    return other


def spectral_fields(
    bands: int,
    wavelength: Sequence[Any] = (),
    fwhm: Sequence[Any] = (),
    bbl: Sequence[Any] = (),
    units: str | Sequence[str] = "",
) -> tuple[dict[str, Any], list[str]]:
    """The fields ``wavelengths``, ``fwhm`` and ``bad_bands`` of a Meta, and notes on what was assumed or ignored.

    ``wavelength``, ``fwhm`` and ``bbl`` (1 good, 0 bad) are numbers or their text, one per band or none. ``units``
    is the file's name for the unit of both, a length, wavenumber or frequency, or one per band, lengths; without it,
    wavelengths below 100, and others that only then are optical, are taken as micrometres.
    """
    notes: list[str] = []
    centres = _numbers("wavelength", wavelength, bands, notes)
    widths = _numbers("fwhm", fwhm, bands, notes)
    if not isinstance(units, str):
        centres, widths, units = _of_one_unit(centres, widths, units, notes)
    flags = _numbers("bbl", bbl, bands, notes)
    centres, widths, factor = _in_lengths(centres, widths, units.strip(), notes)
    if len(set(centres)) < len(centres):
        twice = sorted({value for value in centres if centres.count(value) > 1})
        notes.append(Aside(f"several bands share the wavelength {', '.join(f'{value:g}' for value in twice[:5])}"))
    factor = _meant_factor(centres, factor, units.strip(), notes)
    if centres and factor == 1e3 and widths and all(w >= c for w, c in zip(widths, centres, strict=True)):
        notes.append("the widths (fwhm) exceed the wavelengths, so they were taken to be in nanometres")
        widths = [value / factor for value in widths]
    fields = {
        # the rounding hides that 0.4005 um times 1000 is 400.49999999999994 nm
        "wavelengths": tuple(round(value * factor, 6) for value in centres),
        "fwhm": tuple(round(value * factor, 6) for value in widths),
        "bad_bands": tuple(value == 0 for value in flags),
    }
    return fields, notes
