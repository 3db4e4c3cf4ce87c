"""The errors a user can meet, each with its exit code.

Every message is one sentence that says what is wrong, with which file, and what to do. The command line
prints it without a traceback and exits with ``exit_code``; Python callers may also catch the builtin class
that each error inherits from.

===== =========================================================================
code  meaning
===== =========================================================================
0     success (even if nothing is detected)
1     internal error in rsunfold (traceback with ``-v``)
2     usage error: unknown option, argument, model or weights name
3     an input cannot be read or is not what the command needs
4     an output exists already, cannot be written, or the disk is full
5     weights are missing, damaged or do not fit the model
6     the requested device is unavailable, or memory is exhausted
7     a batch finished, but some of its inputs failed
129   hung up (SIGHUP), 130 interrupted (Ctrl-C), 143 terminated (SIGTERM), 138 SIGUSR1 (macOS: 158):
      none leaves partial results but a checkpoint of training, and what ``evaluate`` has finished
===== =========================================================================
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable


class RsunfoldError(Exception):
    """Base of all errors that rsunfold raises on purpose."""

    exit_code = 1


class UsageError(RsunfoldError, ValueError):
    """The call itself is wrong: unknown model, impossible option value."""

    exit_code = 2


def unknown(what: str, name: str, known: Iterable[str], where: str = "") -> UsageError:
    """The error for a ``name`` of a thing that is none of those ``known``: with the nearest of them, or all."""
    known = list(known)
    plain = {each.lower().replace("-", ""): each for each in known}
    near = difflib.get_close_matches(name.lower().replace("-", ""), plain, n=1, cutoff=0.7)
    hint = f"did you mean {plain[near[0]]!r}?" if near else f"choose from {', '.join(known)}."
    return UsageError(f"unknown {what} {name!r}{where}; {hint}")


def decimal_hint(text: str, reads: Callable[[str], object], *, share: bool = False) -> str:
    """The end of a sentence on numbers that cannot be read: how to write the decimal commas, or the percentage, in
    ``text``; empty where ``reads``, which raises ValueError for what it cannot read, cannot read that either.

    share : whether 0.01 stands for 1 %; nothing does of other numbers.
    """
    pointed = re.sub(r"(\d+),(\d+)", r"\1.\2", text)
    percentage = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", pointed)
    if percentage:
        return f"; write {float(percentage[1]) / 100:.12g}" if share else "; it takes no percentage"
    if pointed == text:
        return ""
    try:
        reads(pointed)
    except ValueError:
        return ""
    return f"; write decimal points, not commas: {pointed}"


class InputError(RsunfoldError, ValueError):
    """An input file or array cannot be read, or is not what the task needs."""

    exit_code = 3


class OutputError(RsunfoldError, OSError):
    """An output exists already, or cannot be written."""

    exit_code = 4


class ExistsError(OutputError):
    """An output exists already."""


class ClaimedError(OutputError):
    """Another run is writing an output."""


class WeightsError(RsunfoldError, ValueError):
    """Weights are missing, damaged, or belong to another architecture."""

    exit_code = 5


GROWS = 30
"""Megabytes by which the program is larger the next time, at most: it loads libraries as it goes."""


class DeviceError(RsunfoldError, RuntimeError):
    """The requested device does not exist, or the memory budget cannot be met."""

    exit_code = 6

    @classmethod
    def no_room(cls, needing: str, needed: float, room: float, instead: str = "") -> DeviceError:
        """For what ("an image of 5 x 5 pixels needs") takes more bytes than ``room``, what --memory leaves; that may be
        negative. instead : what else helps.
        """
        needs, leaves = math.ceil(needed / 2**20), max(0, math.floor(room / 2**20))
        more = 10 * math.ceil(((needed - room) / 2**20 + GROWS) / 10)
        return cls(
            f"{needing} {needs} MB on top of the program itself, but --memory leaves {leaves} MB; "
            f"increase it by about {more} MB{instead}."
        )


class BatchError(RsunfoldError, RuntimeError):
    """Some inputs of a batch failed; the others were written."""

    exit_code = 7
