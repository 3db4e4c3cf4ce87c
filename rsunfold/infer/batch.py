"""Many inputs: what a command line names, and one result per input whatever happens to the others."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Generic, TypeVar

from rsunfold.errors import (
    BatchError,
    ClaimedError,
    DeviceError,
    ExistsError,
    InputError,
    OutputError,
    RsunfoldError,
    UsageError,
)
from rsunfold.io.atomic import ANEW
from rsunfold.io.folders import BESIDE, SUFFIXES, folder_below, inputs_in, is_result, natural
from rsunfold.io.names import exists, folded, of_gdal, refuse_undecodable, same_image, stem_of
from rsunfold.io.reader import NO_STDIN
from rsunfold.io.writer import SIDECARS

T = TypeVar("T")
THERE = "it already has results"
PARTIAL = ", but is no complete result of this image, model and settings; remove it or choose another folder."
WAIT = 1.0
"""Seconds between two looks at what another run is making."""


def expand(
    inputs: Sequence[str],
    *,
    outputs: bool = True,
    mirror: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, str]:
    """Files by stem, of file names, folders (all images in them) and patterns such as ``frames/*.png``.

    outputs : they are named after the stems, which have to differ; else several files of one stem are found by their
    paths. mirror : of a pattern with a wildcard for folders, those below the ones that it names come before the stem,
    ``2022-07-24/cam`` of ``in/*/cam.tif``, whether stems repeat or not: results have to be found again when there are
    more folders. Of an ENVI image both files may be named. Of folders and patterns, what earlier runs have written is
    left out (:func:`~rsunfold.io.folders.is_result`), and of patterns what a GIS keeps beside an image. say : told of
    folders whose sub-folders hold images too, which are not searched.

    Raises InputError where nothing matches or a folder holds two images of one name, UsageError when two files would
    give the same output names.
    """
    files: list[str] = []
    below: dict[str, str] = {}
    for name in inputs:
        if not name:
            raise UsageError("the name of an input is empty; check that your shell variables are set.")
        if name == "-":
            raise UsageError(NO_STDIN)
        if os.path.isdir(name):  # noqa: PTH112 (pathlib raises where nobody may look)
            files += _in_folder(name, say)
        elif glob.has_magic(name) and not exists(name) and not of_gdal(name):
            found = _matching(name)
            if mirror:
                below = _folders_below(name, found) | below
            files += found
        else:
            files.append(name)
    by_stem: dict[str, list[str]] = {}
    folders: dict[str, str] = {}
    for name in dict.fromkeys(files):
        folder = below.get(name, "")
        stem = folded(folder + stem_of(name))
        folders.setdefault(stem, folder)
        twins = by_stem.setdefault(stem, [])
        same = ((n, image) for n, twin in enumerate(twins) if (image := same_image(twin, name)) is not None)
        if known := next(same, None):
            twins[known[0]] = known[1]
        elif twins and outputs:
            raise UsageError(
                f"{twins[0]} and {name} would write the same outputs; process them into separate folders"
                + _advice(mirror, twins[0], name)
            )
        else:
            twins.append(name)
    return {
        folders[stem] + stem_of(name) if len(names) == 1 else name: name
        for stem, names in by_stem.items()
        for name in names
    }


def _in_folder(name: str, say: Callable[[str], None]) -> list[str]:
    found = [str(p) for p in inputs_in(Path(name)).values()]
    inner = folder_below(Path(name))
    if not found and inner is not None:
        raise InputError(f"{name} contains no image, but its sub-folder {inner} does; name that one.")
    if not found:
        raise InputError(f"{name} matches no image (folders are searched for {', '.join(sorted(SUFFIXES))}).")
    if inner is not None:
        say(f"{name}: sub-folders are not searched; name {inner} too if you want its images")
    return found


def _matching(pattern: str) -> list[str]:
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (patterns may be absolute)
    found = sorted(filter(_is_input, matches), key=natural)
    if matches and not found:
        raise InputError(f"{pattern} matches only results of earlier runs and folders; name the files themselves.")
    if not found:
        raise InputError(f"{pattern} matches no image.")
    return found


def _folders_below(pattern: str, found: Sequence[str]) -> dict[str, str]:
    """The folder of each file that a pattern finds, below those that it names, such as ``2022-07-24/``; nothing of a
    pattern without a wildcard for folders."""
    *folders, last = Path(pattern).parts
    named = list(takewhile(lambda part: not glob.has_magic(part), folders))
    if named == folders and last != "**":
        return {}
    parts = {name: Path(os.path.normpath(Path(name).parent.relative_to(Path(*named)))).parts for name in found}
    return {name: "".join(f"{part}/" for part in inner if part != "..") for name, inner in parts.items()}


def _advice(mirror: bool, one: str, other: str) -> str:
    """The end of a sentence on two files of one name, which may be apart under a pattern."""
    if not mirror or Path(one).parent == Path(other).parent:
        return "."
    pattern = f"'*/{Path(other).name}'"
    return f", or name them by one quoted pattern with a wildcard for folders, such as {pattern}, which keeps these."


def _is_input(name: str) -> bool:
    """Whether a file that a pattern matches is an image or a table."""
    path = Path(name)
    return not (path.is_dir() or path.suffix.lower() in BESIDE or name.endswith(SIDECARS) or is_result(path))


@dataclass
class Outcome(Generic[T]):
    """What became of one input: a result, an error, or why it was skipped."""

    source: str
    stem: str
    result: T | None = None
    error: RsunfoldError | None = None
    skipped: str = ""


def run_batch(
    files: dict[str, str],
    run: Callable[[str, str], T],
    *,
    done: Callable[[str, str], bool] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome[T]]:
    """``run(source, stem)`` on each of ``files`` (by stem); an error ends only its own input.

    One that is nobody's mistake but rsunfold's is raised where there is a single file.

    done : says of a source and a stem whether it has its result already and is to be skipped. With it, several runs may
    share the work: what another is making is left for the end, when it is done, or is made after all. say : told of
    these.
    """
    left = list(files.items())
    passed: set[str] = set()  # stems that another run was making
    waiting = 0  # inputs in a row that another run was making
    while left:
        stem, source = left.pop(0)
        before, waiting = waiting, 0
        try:
            refuse_undecodable(source)
            if done is not None and done(source, stem):
                yield Outcome(source, stem, skipped=THERE)
                continue
            try:
                yield Outcome(source, stem, result=run(source, stem))
            except ClaimedError:
                if done is None:
                    raise
                if stem not in passed:
                    say(f"{source}: another run is making its results; looking again at the end")
                passed.add(stem)
                left.append((stem, source))
                waiting = before + 1
                if waiting >= len(left):
                    time.sleep(WAIT)
                    waiting = 0
            except ExistsError as error:
                if done is None:
                    raise
                if not done(source, stem):
                    raise ExistsError(str(error).replace(ANEW, PARTIAL)) from None
                yield Outcome(source, stem, skipped=THERE)
        except RsunfoldError as error:
            yield Outcome(source, stem, error=error)
        except UnicodeError:
            yield Outcome(source, stem, error=OutputError("the name of the output is not valid UTF-8; choose another."))
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            why = error.strerror or error
            yield Outcome(source, stem, error=OutputError(f"the results of {source} cannot be written ({why})."))
        except MemoryError:
            yield Outcome(
                source, stem, error=DeviceError(f"{source} needs more memory than is free; give a lower --memory.")
            )
        except Exception as error:
            if len(files) == 1:
                raise
            what = f"internal error in rsunfold: {type(error).__name__}: {error}"
            yield Outcome(
                source, stem, error=RsunfoldError(f"{what}; run it on this file alone with -v and report it.")
            )


def raise_failures(outcomes: Sequence[Outcome[T]], say: Callable[[str], None]) -> None:
    """Nothing when all went well; the error itself when there was one input, else BatchError after naming each."""
    failed = [o for o in outcomes if o.error is not None]
    if not failed:
        return
    if len(outcomes) == 1 and failed[0].error is not None:
        raise failed[0].error
    for outcome in failed:
        say(f"failed: {outcome.source}: {outcome.error}")
    others = "; the results of the others were written." if len(failed) < len(outcomes) else "."
    raise BatchError(f"{len(failed)} of {len(outcomes)} inputs failed{others}")
