"""An input on its way to a model: an open reader that is closed in the end, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rsunfold.cube import Meta, Window
from rsunfold.io import CubeReader, open_cube
from rsunfold.io.inputs import states_of


@contextmanager
def closed_on_failure(reader: CubeReader) -> Iterator[None]:
    """Close ``reader`` where the block fails, which works out what is to be known of the image."""
    try:
        yield
    except BaseException:
        reader.close()
        raise


class Source:
    """A file, or an open reader; a context manager that closes it.

    states : of its files when it was opened, see :func:`rsunfold.io.inputs.states_of`.
    """

    def __init__(self, source: str | CubeReader, var: str | None) -> None:
        self.states = states_of(str(source.path) if isinstance(source, CubeReader) else source)
        self.reader = source if isinstance(source, CubeReader) else open_cube(source, var=var)
        self.count, self.rows, self.cols = self.reader.shape

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.close()

    @property
    def meta(self) -> Meta:
        """What the file says."""
        return self.reader.meta

    def remarks(self) -> list[str]:
        """Sentences on what the file does not say of itself."""
        return []

    @property
    def notes(self) -> list[str]:
        """All that is to be told of the file."""
        return [*self.meta.notes, *self.remarks()]

    @property
    def whole(self) -> Window:
        """All of the image."""
        return Window(0, 0, self.rows, self.cols)

    @property
    def path(self) -> str:
        """Path of the file as given."""
        return str(self.reader.path)
