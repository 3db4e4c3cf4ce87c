"""What only one run may touch: results that are claimed, and hidden files and folders in which they are made, which go
even where their run is killed."""

from __future__ import annotations

import functools
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISREG
from typing import Any

from rsunfold.signals import ENDING, deferred

fcntl: Any
msvcrt: Any
fcntl, msvcrt = (import_module(name) if find_spec(name) else None for name in ("fcntl", "msvcrt"))  # msvcrt: Windows

HIDDEN, CLAIM = ".rsunfold-run-", ".rsunfold-claim-"
ABANDONED = 6 * 3600.0
"""Seconds without a change after which what no process here holds was left by one that was killed, on whatever machine:
on network disks others may not see who holds it."""
SWEPT = 600.0
"""Seconds for which a folder is not looked through again: a listing of many results takes longer than to make one."""
_ours: set[Path] = set()
"""What this process holds: on some network disks it could lock once more what it holds itself."""


def hidden(folder: Path, suffix: str = "") -> Path:
    """A name in ``folder`` that nothing has yet, for :func:`held`."""
    return folder / f"{HIDDEN}{secrets.token_hex(8)}{suffix}"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """What the block makes at ``path``, of :func:`hidden` in a folder that is there, is removed in the end: by this
    run or, where that is killed, by the next that works in the same folder."""
    # Named before they are made, so that an interrupt just after finds them inside the try.
    claim, lock = _claim_on(path), None
    try:
        _sweep(path.parent.absolute(), int(time.monotonic() / SWEPT))
        _ours.add(path.absolute())
        with undisturbed():
            lock = lock_of(claim)
        if lock is not None:
            with suppress(OSError):  # a full disk, which the block will tell
                os.write(lock, _here())
        yield
    finally:
        with undisturbed():
            _remove(path)
            give_up(lock, claim)
            _ours.discard(path.absolute())


def undisturbed() -> AbstractContextManager[list[int]]:
    """What ends a run comes after the block, which leaves nothing half done."""
    return deferred(*ENDING)


def lock_of(path: Path) -> int | None:
    """A file, made where it is not there, that is locked until it is closed or the process ends; None where there are
    no such locks. Raises BlockingIOError when another process has it."""
    while (fcntl or msvcrt) and (found := _opened(path)) is not None:
        ours = _locked(found)
        try:
            if ours and (not fcntl or os.path.samestat(os.fstat(found), path.lstat())):
                return found
        except FileNotFoundError:  # removed by the run that had it, after it was opened here; not so on Windows
            pass
        except OSError:
            ours = None
        os.close(found)
        if ours is False:
            raise BlockingIOError
        if ours is None:
            with suppress(OSError):
                path.unlink()
            break
    return None


def _opened(path: Path) -> int | None:
    """A file opened for writing, made where it is not there, for all users to lock; None where that is not allowed, and
    of links, which may lead to a file that is nobody's business."""
    how = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    for _ in range(5):
        try:
            found = os.open(path, how | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:  # a run that failed has just removed the folder, which it had made
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            try:
                return os.open(path, how)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError:
                return None
        except OSError:
            return None
        else:
            with suppress(OSError):
                os.chmod(found if os.chmod in os.supports_fd else path, 0o666)  # noqa: PTH101 (of the open file)
            return found
    return None


def _locked(found: int) -> bool | None:
    """Lock an open file: False where another process has it, None where there are no such locks."""
    taken = BlockingIOError if fcntl else PermissionError
    try:
        if fcntl:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(found, msvcrt.LK_NBLCK, 1)
    except taken:
        return False
    except OSError:
        return None
    return True


def give_up(lock: int | None, path: Path) -> None:
    """Remove the file of a lock and let others have it. Windows removes no file that is open: here it is closed first,
    and where another run has opened it meanwhile, that one removes it."""
    if fcntl:  # while it is locked, so that nobody locks a file that goes
        with suppress(OSError):
            path.unlink()
    if lock is not None:
        if not fcntl:
            with suppress(OSError):
                msvcrt.locking(lock, msvcrt.LK_UNLCK, 1)
        os.close(lock)
    if not fcntl:
        with suppress(OSError):
            path.unlink()


def _claim_on(path: Path) -> Path:
    """The file that is locked by the run which makes ``path``, and whatever lies beside it under that name with other
    extensions: Windows locks no folders, and lets nobody write to locked files."""
    mark = path.name.removeprefix(HIDDEN).removeprefix(CLAIM).partition(".")[0]
    return path.with_name(f"{CLAIM}{mark}")


@functools.cache
def _here() -> bytes:
    """What tells this machine, since it was started, from all others: within it a free lock is held by nobody, whatever
    container asks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return platform.node().encode(errors="replace")


@functools.lru_cache(maxsize=256)
def _sweep(folder: Path, period: int) -> None:
    """Remove what runs that were killed have left: work folders, which may be as large as their images, unfinished
    files, and claims.

    At once where this machine had made it, else when it is ABANDONED. period : of SWEPT seconds, in each of which a
    folder is looked through once.
    """
    with suppress(OSError):
        left: dict[Path, list[Path]] = {}
        for name in os.listdir(folder):  # noqa: PTH208 (a list of many names)
            if name.startswith((HIDDEN, CLAIM)):
                left.setdefault(_claim_on(folder / name), []).append(folder / name)
        for claim, paths in left.items():
            if claim not in map(_claim_on, _ours.copy()):  # other threads add to it
                with suppress(OSError):
                    _remove_left(paths, claim)


def _remove_left(left: list[Path], claim: Path) -> None:
    inside = [path for folder in left if folder.is_dir() and not folder.is_symlink() for path in folder.iterdir()]
    late = time.time() - max(path.lstat().st_mtime for path in (*left, *inside)) > ABANDONED
    if (late or _made_here(claim)) and (lock := lock_of(claim)) is not None:
        for path in left:
            if path != claim:
                _remove(path)
        give_up(lock, claim)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if S_ISREG(path.lstat().st_mode):
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)  # follows no link


def _made_here(claim: Path) -> bool:
    try:
        return S_ISREG(claim.lstat().st_mode) and claim.read_bytes() == _here()
    except OSError:  # none, or of somebody else; Windows also denies what is locked
        return False
