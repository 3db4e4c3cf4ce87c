"""An input on its way to a model: an open reader that is closed in the end, whatever happens."""

from __future__ import annotations

from typing import Self

from rsunfold.cube import Meta, Window
from rsunfold.io import CubeReader, open_cube


class Source:
    """A file, or an open reader; a context manager that closes it.

    A subclass works out in :meth:`prepare` what it needs to know of the image; the reader is closed when that fails.
    """

    def __init__(self, source: str | CubeReader, var: str | None) -> None:
        self.reader = source if isinstance(source, CubeReader) else open_cube(source, var=var)
        self.count, self.rows, self.cols = self.reader.shape
        try:
            self.prepare()
        except BaseException:
            self.reader.close()
            raise

    def prepare(self) -> None:
        """Look at the open image; raises the errors of the subclass."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.close()

    @property
    def meta(self) -> Meta:
        """What the file says."""
        return self.reader.meta

    @property
    def whole(self) -> Window:
        """All of the image."""
        return Window(0, 0, self.rows, self.cols)

    @property
    def path(self) -> str:
        """Path of the file as given."""
        return str(self.reader.path)
