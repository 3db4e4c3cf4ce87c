"""What libraries raise for damaged files, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rsunfold.errors import DeviceError, InputError, RsunfoldError

DAMAGED = "is truncated or damaged"


@contextmanager
def named(path: str, what: str = DAMAGED) -> Iterator[None]:
    """Whatever is raised inside becomes an InputError that says ``what`` ``path`` is, as a damaged file may break a
    library anywhere; MemoryError becomes a DeviceError."""
    try:
        yield
    except RsunfoldError:
        raise
    except MemoryError:
        raise DeviceError(f"{path} needs more memory than it may take, or than is free.") from None
    except Exception as error:
        words = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{path} {what} ({words}).") from error
