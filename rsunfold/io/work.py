"""The hidden folder in which results are made, the claim that keeps other runs off them, and the move at the end."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rsunfold.errors import ClaimedError, OutputError, RsunfoldError
from rsunfold.io.atomic import atomic_path, folder_failure, refuse_existing, replace, write_failure
from rsunfold.io.claims import CLAIM, give_up, held, hidden, lock_of, undisturbed
from rsunfold.io.folders import LAST
from rsunfold.io.writer import SIDECARS

ENDS = (*LAST, "truth.json")
"""How the file ends that is moved after all others."""


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
                with undisturbed():
                    lock = lock_of(path)
            except BlockingIOError:
                raise ClaimedError(f"{folder / name} is being written by another run; wait for its end.") from None
            yield
        finally:
            if lock is not None:
                with undisturbed():
                    give_up(lock, path)


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
    work = hidden(folder)
    with _made(folder), held(work):
        try:
            try:
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
        stack.enter_context(undisturbed())
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
