"""Tables over a batch: a line for each target of all images, and one for each image."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsunfold.errors import UsageError
from rsunfold.infer.batch import Outcome
from rsunfold.io.atomic import refuse_existing
from rsunfold.io.csvfile import write_rows
from rsunfold.io.jsonfile import told_by
from rsunfold.io.names import shown_as

INPUT = "input"
"""Last column of the table of targets: the file, which may hold several images, such as the pages of a TIFF."""


@dataclass(frozen=True)
class Listing:
    """Two CSV files on a whole batch, ``path`` and ``path_images``.

    columns : of the table of each single image, which :meth:`write` finds by ``kind`` among the files of its stem, and
    so of all. figures : what the table of images takes from the summaries. overwrite : both may replace files.
    """

    path: Path
    files: Callable[[str], Mapping[str, Path]]
    kind: str
    columns: Sequence[str]
    figures: Sequence[str]
    overwrite: bool = False

    def ready(self, stems: Iterable[str], *, resumed: bool) -> Listing:
        """The same, whose files can be written; ``resumed`` : it may take the place of its own earlier tables.

        stems : of the images of the batch. Raises UsageError for a name that does not end in .csv or is that of a
        result, OutputError for files that exist otherwise.
        """
        if self.path.suffix.lower() != ".csv":
            raise UsageError(f"--table writes CSV files: give a name that ends in .csv, not {self.path}.")
        tables = {self.path: self.of_targets, self.path_images: self.of_images}
        results = {file.resolve() for stem in stems for file in self.files(stem).values()}
        for table in tables:
            if table.resolve() in results:
                raise UsageError(f"--table would write to {table}, which is a result of one of the images; rename it.")
        own = resumed and all(_header(table) in ([], list(header)) for table, header in tables.items())
        for table in tables:
            refuse_existing(table, self.overwrite or own)
        return replace(self, overwrite=self.overwrite or own)

    @property
    def path_images(self) -> Path:
        """Where the table of the images is."""
        return self.path.with_name(f"{self.path.stem}_images{self.path.suffix}")

    @property
    def of_targets(self) -> tuple[str, ...]:
        """Header of the table of targets."""
        return (*self.columns, INPUT)

    @property
    def of_images(self) -> tuple[str, ...]:
        """Header of the table of images; ``error`` is why one has no result, else empty."""
        return ("image", INPUT, *self.figures, "error")

    def write(self, outcomes: Sequence[Outcome[Any]]) -> None:
        """Gather what each of ``outcomes`` has written; raises OutputError where a table cannot be."""

        def targets() -> Iterator[list[str]]:
            for outcome in outcomes:
                if outcome.error is None:
                    with self.files(outcome.stem)[self.kind].open(newline="", encoding="utf-8") as file:
                        named = {"image": shown_as(outcome.source, outcome.stem)}  # that rsunfold 0.1.0 left out
                        for row in csv.DictReader(file):
                            yield [*((named | row).get(name, "") for name in self.columns), outcome.source]

        def images() -> Iterator[list[Any]]:
            for outcome in outcomes:
                told = {} if outcome.error is not None else told_by(self.files(outcome.stem)["summary"])
                error = "" if outcome.error is None else str(outcome.error)
                name = shown_as(outcome.source, outcome.stem)
                yield [name, outcome.source, *(told.get(figure) for figure in self.figures), error]

        write_rows(self.path, self.of_targets, targets(), overwrite=self.overwrite)
        write_rows(self.path_images, self.of_images, images(), overwrite=self.overwrite)


def _header(path: Path) -> list[str]:
    """First line of a CSV file; empty where there is no such file, or none of text."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [""])
    except FileNotFoundError:
        return []
    except (OSError, UnicodeError, csv.Error):
        return [""]
