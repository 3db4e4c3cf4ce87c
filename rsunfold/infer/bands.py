"""Bands of an image that are told by number or name, or are those of another image of the same sensor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError, UsageError

MOST_WAYS = 3
"""Ways out that a message shows."""


@dataclass(frozen=True)
class Bands:
    """Some bands of an image, or features of a table.

    path : of the image, or of a report that tells of it. count : of all its bands. numbers : of these, zero-based.
    wavelengths : nm, one for each of the numbers, or empty. noun : what one is called.
    """

    path: str
    count: int
    numbers: Sequence[int]
    wavelengths: Sequence[float] = ()
    noun: str = "band"

    @property
    def in_nm(self) -> bool:
        """Whether every band has a wavelength; 0 stands for none."""
        return len(self.wavelengths) > 0 and all(0 < w < np.inf for w in self.wavelengths)

    def within(self, others: Bands) -> list[int | None]:
        """The place of each band among the numbers of ``others``, each place once; None where it is not there.

        Where both have wavelengths, that is the nearest within half of the usual distance of two of the ``others``, or
        of the bands so near the one of the same number; what several bands come to is the place of the nearest of them
        alone. Else it is the one of the same number.

        Raises InputError where bands are told by their numbers and the images have not as many.
        """
        if self.in_nm and others.in_nm:
            return self._by_wavelength(others)
        if self.count != others.count:
            why = "without wavelengths in both, " if self.noun == "band" else ""
            raise InputError(
                f"{self.path} has {self.count} {self.noun}s, but {others.path} {others.count}: {why}there must be as "
                "many in both."
            )
        places = {number: k for k, number in enumerate(others.numbers)}
        return [places.get(number) for number in self.numbers]

    def _by_wavelength(self, others: Bands) -> list[int | None]:
        there = np.asarray(others.wavelengths, float)
        reach = half_spacing(there)
        numbers = np.asarray(others.numbers)
        near: list[tuple[bool, float, int, int]] = []
        for i, (number, wavelength) in enumerate(zip(self.numbers, self.wavelengths, strict=True)):
            off = np.abs(there - wavelength)
            same = np.flatnonzero((numbers == number) & (off <= reach) & (self.count == others.count))
            k = int(same[0]) if len(same) else int(off.argmin())
            if off[k] <= reach:
                near.append((not len(same), float(off[k]), i, k))
        found: list[int | None] = [None] * len(self.numbers)
        for _, _, i, k in sorted(near):
            if k not in found:
                found[i] = k
        return found


def dropped(bands: Sequence[str], path: str, count: int, names: Sequence[str]) -> dict[int, str]:
    """Reason by zero-based band for those that are to take no part: numbers from 1, ranges or names, such as ``220``,
    ``104-108`` or ``B10``.

    path, count, names : of the image and its bands; names may be numbers or ranges themselves. Raises UsageError for a
    band that is not there, or is not the only one that is meant.
    """
    found: dict[int, str] = {}
    for word in bands:
        called = [i for i, name in enumerate(names) if name == word]
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        asked = range(0) if ends is None else range(int(ends[1]) - 1, int(ends[2] or ends[1]))
        numbers = asked if asked and 0 <= asked[0] <= asked[-1] < count else range(0)
        if len(called) > 1 or (called and numbers and called != [*numbers]):
            meant = [band + 1 for band in sorted({*called, *numbers})]
            ways = " or ".join(f"{n}-{n} for band number {n}" for n in meant[:MOST_WAYS])
            more = " and so on" if len(meant) > MOST_WAYS else ""
            raise UsageError(f"--drop-bands {word} may mean several bands of {path}; write {ways}{more}.")
        if not called and not asked:
            raise UsageError(
                f"{path} has no band {word!r}; --drop-bands takes numbers from 1, ranges such as 104-108, and names."
            )
        if not called and not numbers:
            raise UsageError(f"--drop-bands {word} is not within the {count} bands of {path}, counted from 1.")
        found |= dict.fromkeys(called or numbers, "among the bands to drop")
    return found


def half_spacing(wavelengths: NDArray[np.float64]) -> float:
    """Half of the median distance of neighbours among wavelengths (n,) in any order, and a little for rounding."""
    steps = np.diff(np.unique(wavelengths))
    return (float(np.median(steps)) / 2 if steps.size else 0.0) + 1e-3
