"""Many inputs: what a command line names, and one result per input whatever happens to the others."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rsunfold.errors import BatchError, InputError, RsunfoldError, UsageError
from rsunfold.io.folders import images_in, natural

T = TypeVar("T")


def expand(inputs: Sequence[str]) -> dict[str, str]:
    """Files by stem, of file names, folders (all images in them) and patterns such as ``frames/*.png``.

    Raises InputError where nothing matches or a folder holds two images of one name, UsageError when two files would
    give the same output names.
    """
    files: list[str] = []
    for name in inputs:
        if Path(name).is_dir():
            found = [str(p) for p in images_in(Path(name)).values()]
        elif glob.has_magic(name) and not Path(name).exists():
            matches = glob.glob(name, recursive=True)  # noqa: PTH207 (patterns may be absolute)
            found = sorted((f for f in matches if not Path(f).is_dir()), key=natural)
        else:
            found = [name]
        if not found:
            raise InputError(f"{name} matches no image.")
        files += found
    by_stem: dict[str, str] = {}
    for name in dict.fromkeys(files):
        stem = Path(name).stem
        if stem in by_stem:
            raise UsageError(f"{by_stem[stem]} and {name} would write the same outputs; run them with two folders.")
        by_stem[stem] = name
    return by_stem


@dataclass
class Outcome(Generic[T]):
    """What became of one input: a result, an error, or neither when it was skipped."""

    source: str
    result: T | None = None
    error: RsunfoldError | None = None


def run_batch(
    files: dict[str, str], run: Callable[[str, str], T], *, done: Callable[[str], bool] | None = None
) -> Iterator[Outcome[T]]:
    """``run(source, stem)`` on each of ``files`` (by stem); errors that a user can cause end only their own input.

    done : says whether the input of that stem has its result already and is to be skipped.
    """
    for stem, source in files.items():
        try:
            if done is not None and done(stem):
                yield Outcome(source)
                continue
            yield Outcome(source, result=run(source, stem))
        except RsunfoldError as error:
            yield Outcome(source, error=error)


def raise_failures(outcomes: Sequence[Outcome[T]], say: Callable[[str], None]) -> None:
    """Nothing when all went well; the error itself when there was one input, else BatchError after naming each."""
    failed = [o for o in outcomes if o.error is not None]
    if not failed:
        return
    if len(outcomes) == 1 and failed[0].error is not None:
        raise failed[0].error
    for outcome in failed:
        say(f"failed: {outcome.source}: {outcome.error}")
    others = "; the others are written." if len(failed) < len(outcomes) else "."
    raise BatchError(f"{len(failed)} of {len(outcomes)} inputs failed{others}")
