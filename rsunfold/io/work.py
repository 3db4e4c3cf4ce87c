"""The hidden folder in which results are made, the claim that keeps other runs off them, and the move at the end."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISREG
from typing import Any

from rsunfold.errors import ClaimedError, OutputError, RsunfoldError
from rsunfold.io.atomic import atomic_path, folder_failure, refuse_existing, replace, write_failure
from rsunfold.io.folders import LAST
from rsunfold.io.writer import SIDECARS
from rsunfold.signals import deferred

fcntl: Any
msvcrt: Any
fcntl, msvcrt = (import_module(name) if find_spec(name) else None for name in ("fcntl", "msvcrt"))  # msvcrt: Windows

ENDS = (*LAST, "truth.json")
"""How the file ends that is moved after all others."""
HIDDEN, CLAIM = ".rsunfold-run-", ".rsunfold-claim-"
ABANDONED = 6 * 3600.0
"""Seconds without a change after which a work folder that no process here holds was left by one that was killed, on
whatever machine: on network disks others may not see who holds it."""
SWEPT = 600.0
"""Seconds for which a folder is not looked through again: a listing of many results takes longer than to make one."""
_ours: set[Path] = set()
"""Work folders of this process: on some network disks it could lock once more what it holds itself."""


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[None]:
    """The result whose last file is ``name`` in ``folder`` belongs to this run alone: another that claims it meanwhile
    gets ClaimedError. Where the file system has no locks (some network disks), nothing is claimed.

    ``folder`` is made, and removed again when it stays empty; raises OutputError when it cannot.
    """
    with _made(folder):
        mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path, lock = folder / f"{CLAIM}{mark}", None
        try:
            try:
                with _undisturbed():
                    lock = _lock_of(path)
            except BlockingIOError:
                raise ClaimedError(f"{folder / name} is being written by another run; wait for its end.") from None
            yield
        finally:
            if lock is not None:
                with _undisturbed():
                    _give_up(lock, path)


def _undisturbed() -> AbstractContextManager[list[int]]:
    """What ends a run comes after the block, which leaves nothing half done."""
    return deferred("SIGINT", "SIGTERM", "SIGHUP")


def _lock_of(path: Path) -> int | None:
    """A file, made where it is not there, that is locked until it is closed or the process ends; None where there are
    no such locks. Raises BlockingIOError when another process has it."""
    while (fcntl or msvcrt) and (found := _opened(path)) is not None:
        held = _locked(found)
        try:
            if held and (not fcntl or os.path.samestat(os.fstat(found), path.lstat())):
                return found
        except FileNotFoundError:  # removed by the run that had it, after it was opened here; not so on Windows
            pass
        except OSError:
            held = None
        os.close(found)
        if held is False:
            raise BlockingIOError
        if held is None:
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


def _give_up(lock: int | None, path: Path) -> None:
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


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """``folder``, removed again, with the parents that were not there either, when it stays empty."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder_failure(folder, error) from None
        yield
    finally:
        with suppress(OSError):  # not empty, or never made
            for place in missing:
                place.rmdir()


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder`` that is removed in the end, whatever happens.

    ``folder`` is made, and removed again when it stays empty. Raises OutputError when it cannot be made or written to,
    or its disk is full.
    """
    lock = None
    # Named before they are made, so that an interrupt just after finds them inside the try.
    work = folder / f"{HIDDEN}{secrets.token_hex(8)}"
    claim = _claim_on(work)
    with _made(folder):
        try:
            try:
                _sweep(folder.absolute(), int(time.monotonic() / SWEPT))
                _ours.add(work.absolute())
                with _undisturbed():
                    lock = _lock_of(claim)
                if lock is not None:
                    os.write(lock, _here())
                # On Windows this mode would keep the results from inheriting who may read them.
                work.mkdir(0o777 if os.name == "nt" else 0o700)
            except OSError as error:
                raise folder_failure(folder, error) from None
            yield work
        except RsunfoldError as error:  # nobody knows the hidden folder
            raise type(error)(str(error).replace(str(work), str(folder))) from error
        except OSError as error:
            if error.errno is None:
                raise
            raise OutputError(
                f"the results cannot be written to {folder} ({error.strerror}); make room or choose another folder."
            ) from error
        finally:
            with _undisturbed():
                shutil.rmtree(work, ignore_errors=True)
                _give_up(lock, claim)
                _ours.discard(work.absolute())


def _claim_on(work: Path) -> Path:
    """The file beside a work folder that is locked by the run which works there: Windows locks no folders."""
    return work.with_name(work.name.replace(HIDDEN, CLAIM, 1))


@functools.cache
def _here() -> bytes:
    """What tells this machine, since it was started, from all others: within it a free lock is held by nobody, whatever
    container asks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return platform.node().encode(errors="replace")


@functools.lru_cache(maxsize=256)
def _sweep(folder: Path, period: int) -> None:
    """Remove what runs that were killed have left: work folders, which may be as large as their images, and claims.

    At once where this machine had made it, else when it is ABANDONED. period : of SWEPT seconds, in each of which a
    folder is looked through once.
    """
    with suppress(OSError):
        names = sorted(os.listdir(folder), reverse=True)  # noqa: PTH208 (a list of many names): folders before claims
        found = [folder / name for name in names if name.startswith((HIDDEN, CLAIM))]
        for left in found:
            claim = _claim_on(left)
            if left not in _ours and claim not in map(_claim_on, _ours):
                with suppress(OSError):
                    _remove_left(left, claim)


def _remove_left(left: Path, claim: Path) -> None:
    files = (left, *left.iterdir()) if left.is_dir() and not left.is_symlink() else (left,)
    late = time.time() - max(path.lstat().st_mtime for path in files) > ABANDONED
    if (late or _made_here(claim)) and (lock := _lock_of(claim)) is not None:
        if left != claim:
            shutil.rmtree(left, ignore_errors=True)
        _give_up(lock, claim)


def _made_here(claim: Path) -> bool:
    try:
        return S_ISREG(claim.lstat().st_mode) and claim.read_bytes() == _here()
    except OSError:  # none, or of somebody else; Windows also denies what is locked
        return False


def move_results(
    work: Path, folder: Path, overwrite: bool, stale: Iterable[str] = (), *, within: Sequence[str] = ()
) -> None:
    """Move every file of ``work``, and of its folders ``within``, to ``folder``, the summary last; ExistsError before
    the first when one exists. Where one cannot be moved or replaced, ``folder`` stays as it was (OutputError).

    stale : names of the same result with other options, which are removed where ``overwrite`` replaces it.
    """
    places = (work, *(work / name for name in within))
    found = (p.relative_to(work) for place in places if place.is_dir() for p in place.iterdir() if p.is_file())
    files = sorted(found, key=lambda p: p.name.endswith(ENDS))
    for path in files:
        refuse_existing(folder / path, overwrite)
    with ExitStack() as stack:
        for name in within:
            stack.enter_context(_made(folder / name))
        stack.enter_context(_undisturbed())
        # The summaries first: without one nobody takes a mixture of old and new files for a result.
        old = [p.as_posix() for p in files if p.name.endswith(ENDS) and (folder / p).exists()]
        names = {p.as_posix() for p in files}
        gone = set(stale) - names if overwrite and old else set()
        kept = {f"{name}{end}" for name in gone | names for end in SIDECARS}  # by a GIS, of what is replaced
        going = [*old, *sorted((gone | names | kept) - set(old))]
        for name in going:
            refuse_existing(folder / name, overwrite=True)  # a folder
        aside = work / "replaced"
        aside.mkdir()
        moves = [(folder / name, aside / str(n)) for n, name in enumerate(going) if os.path.lexists(folder / name)]
        _move_all([*moves, *((work / path, folder / path) for path in files)], work)
        shutil.rmtree(aside, ignore_errors=True)


def _move_all(moves: Iterable[tuple[Path, Path]], work: Path) -> None:
    """Move files, all of them or none: those in ``work`` out of it, others into it. Raises OutputError, which names the
    file outside ``work`` that cannot be moved."""
    done: list[tuple[Path, Path]] = []
    try:
        for path, target in moves:
            try:
                _move(path, target)
            except RsunfoldError:
                raise
            except OSError as error:
                raise write_failure(target if path.is_relative_to(work) else path, error) from error
            done.append((path, target))
    except BaseException:
        whole = True
        for path, target in reversed(done):
            if whole or not path.name.endswith(ENDS):  # no summary beside what is not its result
                try:
                    _move(target, path)
                except OSError:
                    whole = False
        raise


def _move(path: Path, target: Path) -> None:
    try:
        replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # a folder in the target may be a link to another disk
            raise
        with atomic_path(target, overwrite=True) as temporary:
            temporary.unlink()
            shutil.copy2(path, temporary, follow_symlinks=False)
        path.unlink()
