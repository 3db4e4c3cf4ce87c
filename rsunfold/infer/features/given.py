"""Rankings by other programs, or of earlier selections, that are evaluated beside those of models."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsunfold.errors import InputError, UsageError
from rsunfold.infer.device import Budgeted, held, parse_memory
from rsunfold.infer.features.source import FeatureSource
from rsunfold.io.jsonfile import told_by
from rsunfold.ranking import Ranking

TAKES = "--ranking takes ..._ranking.json or ..._ranking.csv of select-features, or text of numbers from 1, best first"


@dataclass(frozen=True)
class _Ranked:
    """order : zero-based, best first. count : of all bands or features, and noun, what one is called, if known.

    Raises ValueError where nothing is ranked, or a number is negative.
    """

    order: list[int]
    count: int | None = None
    noun: str | None = None

    def __post_init__(self) -> None:
        if min(self.order) < 0:
            raise ValueError(self.order)


class GivenRanking(Budgeted):
    """The ranking in a file: the ``_ranking.json`` or ``_ranking.csv`` of ``select-features``, or a text of numbers
    from 1, best first, between white space, commas or semicolons.

    name : the path as given. memory : see :class:`rsunfold.infer.features.select.FeatureRanker`.

    Raises InputError for a file that is none of these, or holds a number twice.
    """

    def __init__(self, path: str | os.PathLike[str], *, memory: str | int | None = None) -> None:
        self.name = os.fspath(path)
        self._ranked = _read(Path(path))
        order = self._ranked.order
        twice = next((i for i in order if order.count(i) > 1), None) if len(set(order)) < len(order) else None
        if twice is not None:
            raise InputError(f"{self.name} ranks {self._ranked.noun or 'number'} {twice + 1} twice.")
        self.memory, self.held = parse_memory(memory), held()

    def describe(self) -> dict[str, Any]:
        """The file and how many it ranks, for the JSON report."""
        return {"task": "select-features", "ranking": self.name, "ranked": len(self._ranked.order)}

    def within(self, source: FeatureSource, most: int) -> Ranking:
        """The first ``most`` as places among the features of ``source`` that take part; without scores.

        Raises InputError where the ranking is not one of these features, or one of the first takes no part; UsageError
        where it has fewer than ``most``.
        """
        ranked, noun, count = self._ranked, source.noun, source.count
        if ranked.noun not in (None, noun):
            raise InputError(f"{self.name} ranks {ranked.noun}s, but {source.path} has {noun}s.")
        if ranked.count not in (None, count):
            raise InputError(f"{self.name} ranks {ranked.count} {noun}s, but {source.path} has {count}.")
        beyond = next((i for i in ranked.order if i >= count), None)
        if beyond is not None:
            raise InputError(f"{self.name} ranks {noun} {beyond + 1}, but {source.path} has only {count}.")
        if len(ranked.order) < most:
            raise UsageError(
                f"{self.name} ranks {len(ranked.order)} of the {most} {noun}s that --{noun}s asks for; ask for fewer."
            )
        first = ranked.order[:most]
        for i in first:
            if i in source.left_out:
                raise InputError(
                    f"{self.name} ranks {noun} {i + 1} of {source.path}, which takes no part ({source.left_out[i]}); "
                    "remove it from the ranking."
                )
        return Ranking(np.searchsorted(source.inside, first), np.full(len(source.inside), np.nan), {})


def _read(path: Path) -> _Ranked:
    """Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"the ranking {path} cannot be read ({why}); {TAKES}.") from None
    try:
        if text.lstrip().startswith("{"):
            return _of_report(told_by(path))
        if text.startswith("rank,index,"):
            return _of_table(text)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise InputError(f"{path} is no ranking of select-features, or is damaged; {TAKES}.") from None
    return _of_text(path, text)


def _of_report(told: dict[str, Any]) -> _Ranked:
    noun = "band" if "bands" in told else "feature"
    return _Ranked([int(i) for i in told["ranking_indices_zero_based"]], int(told[f"{noun}s"]), noun)


def _of_table(text: str) -> _Ranked:
    rows = list(csv.DictReader(text.splitlines()))
    ranked = sorted((row for row in rows if row["rank"]), key=lambda row: int(row["rank"]))
    return _Ranked([int(row["index"]) for row in ranked], len(rows), "band" if "band" in rows[0] else "feature")


def _of_text(path: Path, text: str) -> _Ranked:
    order = []
    for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;")):
        try:
            number = float(word)
        except ValueError:
            number = 0.0
        if not (number.is_integer() and number >= 1):
            what = f"holds {word!r}, which is no number from 1" if word else "is empty"
            raise InputError(f"{path} {what}; {TAKES}.")
        order.append(int(number) - 1)
    return _Ranked(order)
