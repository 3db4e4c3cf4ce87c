"""Outputs that either appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from rsunfold.errors import ExistsError, OutputError
from rsunfold.io.claims import held, hidden

ANEW = "; choose another name or pass --overwrite."
"""What to do about a file that is there."""
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_HELD = {errno.EACCES, errno.EPERM, errno.EBUSY}
WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6) if os.name == "nt" else ()
"""Seconds between tries of what another program forbids by having a file open, which only Windows lets it do: virus
scanners and indexers do so for a moment."""

T = TypeVar("T")


def patiently(do: Callable[[], T]) -> T:
    """What ``do`` returns; where it raises PermissionError, it is called again after each of WAITS."""
    for wait in WAITS:
        try:
            return do()
        except PermissionError:
            time.sleep(wait)
    return do()


def replace(path: Path, target: Path) -> None:
    """Rename a file, in place of the one called ``target`` where there is one."""
    patiently(lambda: path.replace(target))


def write_failure(target: Path, cause: str | OSError) -> OutputError:
    """The error for a write that broke off: its cause, and how much room the disk has left where that may be why."""
    reason = cause if isinstance(cause, str) else cause.strerror or "no room"
    if isinstance(cause, OSError) and cause.errno in _HELD:
        return OutputError(
            f"{target} cannot be written ({reason}); check its permissions and whether another program has it open, or "
            "choose another folder."
        )
    try:
        free = shutil.disk_usage(target.parent).free / 2**20
        reason, room = "the disk is full" if free < 1 else reason, f"{free:.0f} MiB are free there"
    except OSError:
        room = "the folder can no longer be read"
    return OutputError(f"{target} cannot be written ({reason}; {room}); make room or choose another folder.")


def folder_failure(folder: Path, error: OSError) -> OutputError:
    """The error for a folder that cannot be made or used."""
    if folder.is_symlink() and not folder.exists():
        return OutputError(f"{folder} is a link to nothing; remove it or choose another folder.")
    blocked = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    if not blocked.is_dir():
        return OutputError(f"{blocked} is a file, not a folder; choose another.")
    return OutputError(f"the folder {folder} cannot be used ({error.strerror}); choose another.")


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Raise OutputError when ``target`` is a folder, a device, (ExistsError) a file that may not be overwritten, or in
    what is no folder, or one that may not be written to."""
    try:
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file.")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target} is a device or a pipe, which cannot be replaced; give the name of a file.")
        if not overwrite and os.path.lexists(target):
            raise ExistsError(f"{target} already exists{ANEW}")
        there = next((folder for folder in target.absolute().parents if folder.exists()), None)
        if there is not None and not there.is_dir():
            raise OutputError(f"{target} cannot be written: {there} is a file, not a folder; choose another.")
        as_now = os.access in os.supports_effective_ids
        if there is not None and not os.access(there, os.W_OK | os.X_OK, effective_ids=as_now):
            raise OutputError(f"{target} cannot be written: no permission for the folder {there}; choose another.")
    except PermissionError as err:
        raise OutputError(f"{target} cannot be reached ({err.strerror}); choose another folder.") from err


@contextmanager
def atomic_path(target: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block ends without an exception.

    The temporary file exists (empty, mode bits from the umask), is hidden, and has the suffix of ``target``. Missing
    parent folders are made. On any exception, KeyboardInterrupt included, the temporary file is removed and
    ``target`` stays as it was; what a killed process leaves, the next that writes to the folder removes.

    Raises OutputError when ``target`` exists and ``overwrite`` is False, when its folder cannot be made or written
    to, and when the block runs out of disk.
    """
    target = Path(target)
    refuse_existing(target, overwrite)
    temporary = hidden(target.parent, target.suffix)
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(temporary))
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as err:
            raise OutputError(f"{target} cannot be written ({err.strerror}); choose another folder.") from err
        try:
            yield temporary
            refuse_existing(target, overwrite)  # somebody else may have written it meanwhile
            replace(temporary, target)
        except OSError as err:
            if err.errno in _DISK or err.filename == str(temporary):  # the disk is full, or the last step failed
                raise write_failure(target, err) from err
            raise
