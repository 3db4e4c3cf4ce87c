"""matplotlib as it comes: pictures are the same whatever a user, a notebook or a machine has set."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

P = ParamSpec("P")

_KEPT = {"backend", "backend_fallback", "interactive", "timezone", "toolbar"}
"""Settings that draw nothing here, and may not change for what the caller draws."""
_drawing = threading.RLock()
_callers: dict[str, Any] = {}
"""Settings that are not the caller's while a picture is drawn."""


def _begin_anew() -> None:
    """In a process that was forked while another thread was drawing: that thread is not there."""
    global _drawing
    _drawing = threading.RLock()
    _give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def drawn(picture: Callable[Concatenate[Path, P], None]) -> Callable[Concatenate[Path, P], None]:
    """A function that draws the picture ``path``, with matplotlib's own settings, one thread at a time; afterwards they
    are the caller's again."""

    @functools.wraps(picture)
    def draw(path: Path, /, *args: P.args, **kwargs: P.kwargs) -> None:
        with _drawing:
            _load(path)
            import matplotlib

            ours: Any = matplotlib.rcParamsDefault
            now: Any = matplotlib.rcParams
            changed = {key for key in ours.keys() - _KEPT if now[key] != ours[key]}
            _callers.update({key: now[key] for key in changed})
            try:
                now.update({key: ours[key] for key in changed})
                picture(path, *args, **kwargs)
            finally:
                _give_back()

    return draw


def _give_back() -> None:
    """Set again what the caller had set, but for what another of its threads has set meanwhile."""
    if _callers:
        import matplotlib

        ours: Any = matplotlib.rcParamsDefault
        now: Any = matplotlib.rcParams
        now.update({key: value for key, value in _callers.items() if now[key] == ours[key]})
        _callers.clear()


def _load(path: Path) -> None:
    """Import matplotlib, if need be without the backend that MPLBACKEND names, which notebooks hand on to programs that
    do not have it, and without a home and a temporary folder, for which it has a use but no need."""
    if "matplotlib" in sys.modules:
        return
    with _silent(logging.getLogger("matplotlib")), _folder(path):
        try:
            import matplotlib.figure
        except ValueError:
            with _set("MPLBACKEND", "agg"):
                import matplotlib.figure  # noqa: F401


@contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Errors alone."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder for matplotlib's cache near ``path``, until the program ends, where there is no temporary folder."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        made = tempfile.mkdtemp(prefix=".rsunfold-", dir=there)
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        with _set("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or made):
            yield
    else:
        yield


@contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
