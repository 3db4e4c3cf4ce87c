"""select-features on one file: statistics, ranking, how many are taken, the reduced file, table, report and picture."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arguments import Numbers
from rsunfold.errors import UsageError
from rsunfold.infer import results
from rsunfold.infer.features.select import FeatureRanker, Selection, Wanted, correlations
from rsunfold.infer.features.source import FeatureSource, ImageBands, Ranges, TableColumns
from rsunfold.infer.results import (
    Result,
    all_names,
    environment,
    made_of,
    of_files,
    refuse_place,
    refuse_results,
    results_of,
    with_headers,
)
from rsunfold.io import CubeReader
from rsunfold.io.csvfile import write_rows
from rsunfold.io.frame import columns_of
from rsunfold.io.inputs import states_of
from rsunfold.io.jsonfile import write_json
from rsunfold.io.memory import ArrayReader, as_array
from rsunfold.io.table import DIRECTIONS, Table, is_table, read_table, table_of
from rsunfold.io.work import claimed, move_results, work_folder
from rsunfold.io.writer import the_nodata
from rsunfold.report.features import selection_picture
from rsunfold.spacing import Spacing

COLUMNS = {
    "rank": "1 is the best; empty if left out",
    "index": "zero-based, as in Python",
    "band": "one-based, as in ENVI",
    "name": "",
    "wavelength_nm": "",
    "fwhm_nm": "",
    "selected": "1 or 0",
    "score": "score of the model; larger is better",
    "explained_variance": "share of the variance explained by projection on the features up to this rank, in [0, 1]",
    "largest_correlation": "largest absolute correlation with a better-ranked feature",
    "left_out": "why a feature has no rank",
}
"""Columns of the ranking and what they are; ``band`` is ``feature`` for tables."""
Reals = NDArray[np.float64]
TABLE_KINDS = (".csv", ".npy", ".npz")
"""Extensions of reduced tables."""


@dataclass(frozen=True)
class Options:
    """How files are treated; see ``rsunfold select-features --help``.

    header : whether a text table has one, None looks. drop, keep : ranges of wavelengths in nm. drop_bands : see
    :func:`rsunfold.infer.bands.dropped`.
    """

    var: str | None = None
    features: str = "columns"
    ignore: tuple[str, ...] = ()
    label: str | None = None
    header: bool | None = None
    drop: Ranges = ()
    keep: Ranges = ()
    drop_bands: tuple[str, ...] = ()
    rank_order: bool = False
    envi: bool = of_files(False)
    picture: bool = of_files(True, False)
    overwrite: bool = of_files(False)

    def __post_init__(self) -> None:
        if self.features not in DIRECTIONS:
            raise UsageError(f"features must be {' or '.join(DIRECTIONS)}, not {self.features!r}.")
        for name, ranges in (("--drop", self.drop), ("--keep", self.keep)):
            for low, high in ranges:
                if not 0 <= low <= high < math.inf:
                    raise UsageError(f"{name} takes ranges in nm with the smaller value first, such as 1340-1450.")

    @property
    def excluded(self) -> dict[str, Any]:
        """By option which bands of images are to take no part."""
        return {"--drop": self.drop, "--keep": self.keep, "--drop-bands": self.drop_bands}


@dataclass(repr=False, eq=False)
class SelectedFiles(Result):
    """What was selected from one input and written.

    indices : zero-based, in the order in which they are written. ranking : zero-based, best first, of all ranked
    features. scores float64 (features,), explained and correlation (ranked,) : see :class:`Selection`; scores of
    features that were left out are NaN. summary : what the JSON report holds. files : what was written, by kind.
    """

    indices: list[int]
    ranking: list[int]
    scores: NDArray[np.float64]
    explained: NDArray[np.float64]
    correlation: NDArray[np.float64]
    summary: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict, kw_only=True)


@dataclass(repr=False, eq=False)
class Selected(SelectedFiles):
    """The same of an input in memory, without files. data : the chosen features, (bands, rows, cols) or (samples,
    features)."""

    data: NDArray[Any]


def output_names(stem: str, suffix: str, options: Options) -> dict[str, str]:
    """File names by kind of the input ``stem`` whose reduced file has the extension ``suffix``; the report is last."""
    names = {"table": f"{stem}_ranking.csv", "selected": f"{stem}_selected{suffix}"}
    names = with_headers(names)
    if options.picture:
        names["picture"] = f"{stem}_selected.png"
    return names | {"summary": f"{stem}_ranking.json"}


def replaced_names(stem: str, options: Options) -> set[str]:
    """See :func:`rsunfold.infer.results.all_names`: whatever the input is, a table or an image."""
    every = (all_names(output_names, stem, s, options=options) for s in (".tif", ".img", *TABLE_KINDS))
    return set().union(*every)


def written_names(folder: Path, stem: str, options: Options) -> dict[str, str]:
    """Those of the input ``stem`` in ``folder``; whether it is a table tells what an earlier run has written of it."""
    table = next((s for s in TABLE_KINDS if (folder / f"{stem}_selected{s}").exists()), None)
    return output_names(stem, table or (".img" if options.envi else ".tif"), options)


def select_array(
    array: NDArray[Any] | str,
    ranker: FeatureRanker,
    wanted: Wanted,
    options: Options,
    *,
    nodata: float | None = None,
    wavelengths: Numbers | None = None,
) -> Selected:
    """Select from an array, (bands, rows, cols) or (samples, features), or a file, and keep the result in memory.

    nodata, wavelengths : of an array, see :class:`rsunfold.io.memory.ArrayReader`.
    """
    started = time.monotonic()
    with environment(), _opened(array, ranker.room, wanted, options, nodata, wavelengths) as source:
        made = _Made(source, ranker, wanted, options)
        data = source.reduced(made.indices)
        return Selected(*made.result(started), data=data)


def select_file(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    stem: str,
    ranker: FeatureRanker,
    wanted: Wanted,
    options: Options,
) -> SelectedFiles:
    """Select from a file of any size and write to ``folder`` what :func:`output_names` lists for ``stem``.

    Everything is written to a hidden folder first and moved when it is complete, so that an interrupted run leaves
    nothing. Raises OutputError when an output exists and ``options.overwrite`` is False.
    """
    started = time.monotonic()
    path, (folder, stem) = os.fspath(path), results_of(folder, stem)
    last = output_names(stem, "", options)["summary"]  # known before the input is read
    with claimed(folder, last), environment(), _opened(path, ranker.room, wanted, options) as source:
        names = output_names(stem, source.suffix(options.envi), options)
        refuse_results(folder, names.values(), ranker.spec, path, overwrite=options.overwrite)
        if isinstance(source, ImageBands):
            refuse_place(folder, names.values(), source.image)
            the_nodata(Path(source.path), source.image.meta, source.image.reader.dtype)
        made = _Made(source, ranker, wanted, options)
        with work_folder(folder) as work:
            lines = made.rows()
            write_rows(work / names["table"], lines[0], (list(line.values()) for line in lines), digits=9)
            source.write(work / names["selected"], made.indices, {"RSUNFOLD_MODEL": ranker.spec.name})
            if options.picture:
                made.draw(work / names["picture"])
            files = {kind: folder / name for kind, name in names.items()}
            done = SelectedFiles(*made.result(started), files=files)
            write_json(work / names["summary"], done.summary)
            move_results(work, folder, options.overwrite, replaced_names(stem, options))
    return done


def _opened(
    given: NDArray[Any] | str,
    room: int,
    wanted: Wanted,
    options: Options,
    nodata: float | None = None,
    wavelengths: Numbers | None = None,
) -> FeatureSource:
    """See :func:`_source_of`; with the states of its files before they are read."""
    before = states_of(given) if isinstance(given, str) else {}
    source = _source_of(given, room, wanted, options, nodata, wavelengths)
    source.states = before
    return source


def _source_of(
    given: NDArray[Any] | str,
    room: int,
    wanted: Wanted,
    options: Options,
    nodata: float | None,
    wavelengths: Numbers | None,
) -> FeatureSource:
    """The input as what it is; raises the errors of both kinds, UsageError for options of the other kind."""
    for option in (option for option, value in options.excluded.items() if value and wanted.like is not None):
        raise UsageError(f"{option} cannot be combined with --like, which applies an earlier choice as it is.")
    source: str | CubeReader
    if not isinstance(given, str):
        array = None if columns_of(given) else as_array(given)
        if array is None or array.ndim == 2:
            if options.header is not None:
                raise UsageError("header applies to tables of text; an array has none.")
            if wavelengths is not None:
                raise UsageError("wavelengths apply to cubes; a table has none.")
            if nodata is not None:
                raise UsageError(
                    "nodata applies to cubes (bands, rows, cols) only; remove samples without data from a table."
                )
            table = table_of(given, features=options.features, ignore=options.ignore, label=options.label)
            return _table_source(table, room, wanted, options)
        source = ArrayReader(array, nodata=nodata, wavelengths=wavelengths)
    elif is_table(given, options.var):
        table = read_table(
            given,
            var=options.var,
            features=options.features,
            ignore=options.ignore,
            label=options.label,
            header=options.header,
            room=room,
        )
        return _table_source(table, room - table.held, wanted, options)
    else:
        source = given
    asked = [o for o, v in (("--ignore", options.ignore), ("--label", options.label)) if v]
    asked += ["--features rows"] if options.features != "columns" else []
    asked += ["--header"] if options.header is not None else []
    if asked:
        raise UsageError(
            f"{asked[0]} applies to tables, but {given if isinstance(given, str) else 'a cube'} is an image."
        )
    return ImageBands(
        source,
        room=room,
        var=options.var,
        drop=options.drop,
        keep=options.keep,
        drop_bands=options.drop_bands,
        gap=wanted.min_gap,
    )


def _table_source(table: Table, room: int, wanted: Wanted, options: Options) -> TableColumns:
    of_images = {**options.excluded, "--min-gap": wanted.min_gap, "--envi": options.envi}
    for option in (option for option, value in of_images.items() if value):
        raise UsageError(f"{option} applies to images, but {table.path} is a table, which has no bands.")
    return TableColumns(table, room)


def about(ranker: FeatureRanker, wanted: Wanted, options: Options) -> dict[str, Any]:
    """See :func:`rsunfold.infer.results.about`."""
    return results.about(ranker, wanted, options, like=wanted.like and wanted.like.asked)


class _Made:
    """A selection from one input and everything that is told about it."""

    def __init__(self, source: FeatureSource, ranker: FeatureRanker, wanted: Wanted, options: Options) -> None:
        self.source, self.ranker, self.wanted, self.options = source, ranker, wanted, options
        inside = np.array(source.inside)
        gap = wanted.min_gap
        like = None if wanted.like is None else wanted.like.within(source)
        spacing = None
        if gap is not None:
            wavelengths = np.asarray(source.wavelengths)[inside]
            spacing = Spacing(wavelengths, gap, wanted.count or 0)
            if np.count_nonzero(spacing.near) == len(inside):  # each to itself
                least = np.diff(np.sort(wavelengths)).min()
                source.notes.append(f"--min-gap {gap:g} has no effect: all bands lie {least:g} nm or more apart")
        self.scene = source.scene(ranker.seed)
        self.selection: Selection = (
            ranker.select(self.scene, wanted, spacing, source.noun)
            if like is None
            else ranker.taken(self.scene, np.searchsorted(inside, like))
        )
        if self.selection.ranking.about.get("features_scaled_by") == "noise" and not source.wavelengths:
            source.notes.append("the bands were taken as narrow, and are compared in units of their noise")
        source.notes += self.selection.ranking.notes
        source.notes += [] if ranker.spec.blind or like is not None else source.doubts(self.scene)
        order = self.selection.ranking.order
        self.ranking = [int(i) for i in inside[order]]
        self.near = set() if spacing is None else set(inside[spacing.near[order].any(axis=0)].tolist())
        """Features nearer to one that is ranked than is wanted."""
        self.scores = np.full(source.count, np.nan)
        self.scores[inside] = self.selection.ranking.scores
        chosen = inside[self.selection.chosen].tolist()
        self.indices = chosen if options.rank_order else self._by_wavelength(chosen)

    def _by_wavelength(self, chosen: Sequence[int]) -> list[int]:
        w = self.source.wavelengths
        return sorted(chosen, key=lambda i: (w[i] if w else 0, i))

    def rows(self) -> list[dict[str, Any]]:
        """Lines of the ranking: every feature of the input, the ranked ones first, then the others with the reason."""
        s = self.source
        chosen, ranked = set(self.indices), set(self.ranking)
        reasons = dict(s.left_out)
        unranked = "not ranked by the model" if self.wanted.like is None else "not among those chosen before"
        reasons |= dict.fromkeys(set(s.inside) - ranked, unranked)
        for i in self.near - ranked:
            reasons[i] = f"nearer than {self.wanted.min_gap:g} nm to a ranked one"
        lines = []
        for place, i in enumerate([*self.ranking, *sorted(reasons)]):
            in_order = place < len(self.ranking)
            lines.append(
                {
                    "rank": place + 1 if in_order else None,
                    "index": i,
                    s.noun: i + 1,
                    "name": s.names[i] if s.names else None,
                    "wavelength_nm": s.wavelengths[i] if s.wavelengths else None,
                    "fwhm_nm": s.fwhm[i] if s.fwhm else None,
                    "selected": int(i in chosen),
                    "score": self.scores[i],
                    "explained_variance": self.selection.explained[place] if in_order else None,
                    "largest_correlation": self.selection.correlation[place] if in_order else None,
                    "left_out": None if in_order else reasons[i],
                }
            )
        return lines

    def summary(self, started: float) -> dict[str, Any]:
        """The JSON report: everything that is needed to do it again, and what came of it."""
        s, w, o = self.source, self.wanted, self.options
        return {
            **made_of(s.path, s.states),
            "var": o.var,
            f"{s.noun}s": s.count,
            **s.about(),
            **about(self.ranker, w, o),
            "like": None if w.like is None else w.like.origin,
            "wanted": {"count": w.count, "variance": w.variance, "min_gap_nm": w.min_gap},
            "drop_nm": [list(r) for r in o.drop],
            "keep_nm": [list(r) for r in o.keep],
            "drop_bands": list(o.drop_bands),
            "features_in": o.features,
            "ignored_columns": list(o.ignore),
            "header": o.header,
            "order_of_output": "rank" if o.rank_order else "wavelength" if s.wavelengths else s.noun,
            "selected": len(self.indices),
            "selected_indices_zero_based": self.indices,
            f"selected_{s.noun}s_one_based": [i + 1 for i in self.indices],
            "selected_names": [s.names[i] for i in self.indices] if s.names else None,
            "selected_wavelengths_nm": [s.wavelengths[i] for i in self.indices] if s.wavelengths else None,
            "explained_variance": float(self.selection.explained[self.selection.count - 1]),
            "ranking_indices_zero_based": self.ranking,
            "scores_by_index": self.scores,
            "explained_variance_by_rank": self.selection.explained,
            "largest_correlation_by_rank": self.selection.correlation,
            f"{s.noun}s_left_out": {str(i + 1): why for i, why in s.left_out.items()},
            "samples_in_covariance": self.scene.count,
            "samples_in_sample": self.scene.sample.shape[1],
            "about_the_ranking": self.selection.ranking.about,
            "columns_of_the_ranking": {s.noun if k == "band" else k: v for k, v in COLUMNS.items() if v},
            "seconds": round(time.monotonic() - started, 3),
            "notes": s.notes,
        }

    def draw(self, path: Path) -> None:
        """The picture of the choice."""
        s = self.source
        place = {i: k for k, i in enumerate(s.inside)}
        shown = self._by_wavelength(self.indices)
        chosen = [place[i] for i in shown]
        selection_picture(
            path,
            s.mean,
            s.deviation,
            shown,
            correlations(self.scene.covariance[np.ix_(chosen, chosen)]),
            wavelengths=s.wavelengths,
            names=s.names,
            noun=s.noun,
            title=f"{Path(s.path).name}: {len(shown)} of {s.count} {s.noun}s ({self.ranker.spec.name})",
        )

    def result(self, started: float) -> tuple[list[int], list[int], Reals, Reals, Reals, dict[str, Any]]:
        """The fields of what is handed back, without the chosen features."""
        s = self.selection
        return self.indices, self.ranking, self.scores, s.explained, s.correlation, self.summary(started)
