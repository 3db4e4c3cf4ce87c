"""Results as a table for a person."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rsunfold.report.headings import heading
from rsunfold.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

NOTHING = "–"
READABLE = 24
"""Characters of a column of text below which it is not folded."""


def table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Folding:
    """A table for rich to print, with one line per mapping and one column per key, in the order in which they appear.
    A column has the :func:`heading` of its key.

    Columns that hold a number are flush right, with four significant digits for real ones; None, NaN and missing
    entries are a dash, and columns of dashes are left out. See :class:`Folding` for narrow terminals.
    """
    rows = [{visible(heading(name)): value for name, value in row.items()} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    whole = {name: [_cell(row.get(name)) for row in rows] for name in names}
    cells = {name: column for name, column in whole.items() if set(column) != {NOTHING}}
    numeric = {name for name in cells if any(isinstance(row.get(name), int | float | np.number) for row in rows)}
    return Folding(cells, numeric, title)


@dataclasses.dataclass(frozen=True)
class Folding:
    """A table that continues below itself where it is too wide, with the columns that name its lines in each part.

    cells : by column. numeric : columns flush right, whose cells are never cut or folded.
    """

    cells: dict[str, list[str]]
    numeric: set[str]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        for number, names in enumerate(self.parts(options.max_width)):
            yield self._part(names, self.title if number == 0 else "")

    def parts(self, width: int) -> list[list[str]]:
        """Names of the columns of each part, whose lines have at most ``width`` characters as far as they can."""
        keys = self.keys
        parts: list[list[str]] = [[]]
        for name in (n for n in self.cells if n not in keys):
            wider = [*keys, *parts[-1], name]
            if parts[-1] and 1 + sum(self._least(n) + 3 for n in wider) > width:
                parts.append([])
            parts[-1].append(name)
        return [[*keys, *part] for part in parts]

    @property
    def keys(self) -> list[str]:
        """The columns that name the lines: those before the first number, or the first."""
        found = list(itertools.takewhile(lambda name: name not in self.numeric, self.cells))
        return found if len(found) < len(self.cells) else found[:1]

    def _least(self, name: str) -> int:
        """Characters that a column needs: text is folded between words, what names a line where it is long."""
        longest = max(map(len, self.cells[name]), default=0)
        words = (word for text in (name, *self.cells[name]) for word in text.split())
        if name in self.numeric:
            return max([longest, *map(len, name.split())])
        if name in self.keys:
            return max([min(longest, READABLE), *map(len, name.split())])
        return max([min(READABLE, longest), *map(len, words)])

    def _part(self, names: list[str], title: str) -> Table:
        from rich.table import Table

        shown = Table(title=title or None)
        for name in names:
            justify: Literal["left", "right"] = "right" if name in self.numeric else "left"
            shown.add_column(name, justify=justify, min_width=self._least(name), overflow="fold")
        for line in zip(*(self.cells[name] for name in names), strict=True):
            shown.add_row(*line)
        return shown


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if math.isfinite(value) else NOTHING
    return NOTHING if value is None else visible(str(value))
