"""Stacks of frames, such as videos: every band of a cube, or every page of a TIFF, is an image of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rsunfold.errors import RsunfoldError, UsageError
from rsunfold.io import open_cube

ALL = "all"
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


@dataclass(frozen=True)
class Frame:
    """One image of a stack. source : what is read. band : of it, one-based; None leaves the choice to the reader."""

    source: str
    band: int | None = None


@dataclass(frozen=True)
class Frames:
    """Which frames are wanted of each file. numbers : one-based; None is all of them."""

    numbers: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Frames:
        """``all``, or numbers and ranges such as ``1-100,250``; raises UsageError."""
        if text.strip().lower() == ALL:
            return cls()
        found: dict[int, None] = {}
        for part in text.split(","):
            ends = _RANGE.fullmatch(part)
            first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, 0)
            if not 1 <= first <= last:
                raise UsageError(f"--band takes a number from 1, all, or ranges such as 1-100,250, not {text!r}.")
            found |= dict.fromkeys(range(first, last + 1))
        return cls(tuple(found))

    def of(self, files: Mapping[str, str], var: str | None) -> dict[str, Frame]:
        """The frames of ``files`` (by stem), by stems of their own: ``NAME_b007``, or ``NAME_p007`` for a page.

        A file that cannot be opened stays as it is, and fails when its turn comes. Raises UsageError for a frame that a
        file does not have, and where two frames would have the same stem.
        """
        found: dict[str, Frame] = {}
        for stem, source in files.items():
            for name, frame in self._of_one(stem, source, var):
                if name in found:
                    raise UsageError(
                        f"{found[name].source} and {frame.source} would write the same outputs, {name}_...; process "
                        "them into separate folders."
                    )
                found[name] = frame
        return found

    def _of_one(self, stem: str, source: str, var: str | None) -> Iterator[tuple[str, Frame]]:
        try:
            with open_cube(source, var=var) as reader:
                pages, bands = reader.pages, reader.shape[0]
        except RsunfoldError:
            yield stem, Frame(source)
            return
        count, what = (len(pages), "page") if pages else (bands, "band")
        numbers = range(1, count + 1) if self.numbers is None else self.numbers
        for number in numbers:
            if number > count:
                raise UsageError(f"{source} has {count} {what}(s), so --band must be 1 to {count}, not {number}.")
            name = f"{stem}_{what[0]}{number:03}"  # as wide in a stack that has grown
            yield name, Frame(pages[number - 1]) if pages else Frame(source, number)
