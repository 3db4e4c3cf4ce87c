"""Chosen features against labels: clustering of tables, classification of the pixels of images.

Labels choose nothing: every ranking is made before a label is looked at, with the same settings for all data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Meta, told
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.evaluation import report_of
from rsunfold.infer.features.given import GivenRanking
from rsunfold.infer.features.select import FeatureRanker
from rsunfold.infer.features.source import FeatureSource, ImageBands, TableColumns
from rsunfold.infer.results import environment
from rsunfold.infer.spectral import SpectralImage, header_shape
from rsunfold.io import open_cube
from rsunfold.io.inputs import input_bytes
from rsunfold.io.memory import ArrayReader
from rsunfold.io.names import same_image
from rsunfold.io.table import LABEL_NAMES, Table, read_table
from rsunfold.io.texttable import missing_labels
from rsunfold.metrics.features import CLASSIFIER, FORMULAS, SPLITS, classification, clustering, training_samples
from rsunfold.progress import tracked
from rsunfold.ranking import Ranking
from rsunfold.report import Curve, heading
from rsunfold.scene import Scene

Columns = Sequence[int] | NDArray[np.intp]
Rankers = Sequence[FeatureRanker | GivenRanking]
Measure = Callable[[Columns, Sequence[int]], dict[str, list[float]]]
"""(columns, seeds) -> by figure its values, one for each seed, in [0, 1]."""

ALL = "all"
BESIDE = {
    "indices_zero_based": "the features of a run, best first; of a model that draws them, one list for each seed",
    "about_the_ranking": "what the model learned or assumed, likewise",
    "mean": "of a figure of a run, over the repeats",
    "deviation": "of a figure of a run, over the repeats, of the population",
    "values": "of a figure of a run, one for each of the seeds",
    "seconds_ranking": "time of ranking; of a model that ranks once for all numbers, the same for each",
}
"""What is in a report beside the FORMULAS."""
BLOCK = 16
"""Side in pixels of the blocks into which a single image is cut for a split by tiles."""


@dataclass
class FeatureComparison:
    """Figures of several models: one entry per data set, model and number of features in ``runs``.

    figures : keys of FORMULAS, such as acc. noun : what a feature is called. protocol : how the figures were made.
    about : by model. Each run holds ``data``, ``model``, ``features``, ``indices_zero_based`` (of these features, best
    first) and ``about_the_ranking`` (what the model learned or assumed), both in a list with one for each repeat where
    the choice is drawn, ``repeats`` and, by figure, ``mean``, ``deviation`` (over the repeats, of the population) and
    ``values``, shares. missing : ``MODEL on DATA`` of those that lack some numbers of features. notes : what was
    assumed or left out.
    """

    figures: tuple[str, ...]
    noun: str
    protocol: dict[str, Any]
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, data: str, model: str, found: list[dict[str, list[float]]], **about: Any) -> None:
        """Enter what a Measure gave, once or for each repeat; about : further entries of the run."""
        run: dict[str, Any] = {"data": data, "model": model, **about}
        for name in self.figures:
            values = np.concatenate([part[name] for part in found])
            run["repeats"] = len(values)
            run[name] = {"mean": float(values.mean()), "deviation": float(values.std()), "values": values}
        self.runs.append(run)

    def some(self, data: str, model: str) -> list[dict[str, Any]]:
        """The runs of a model on a data set, by number of features."""
        found = [r for r in self.runs if r["data"] == data and r["model"] == model]
        return sorted(found, key=lambda r: r["features"])

    def rows(self) -> list[dict[str, Any]]:
        """Figures of each model on each data set, by the keys of :meth:`formulas`; models are left out where they lack
        some numbers of features."""
        lines = []
        for data, model in dict.fromkeys((r["data"], r["model"]) for r in self.runs):
            if _pair(model, data) in self.missing:
                continue
            mine = self.some(data, model)
            line: dict[str, Any] = {"data": data, "model": model}
            for name in self.figures:
                line[f"{name}_mean"] = float(np.mean([r[name]["mean"] for r in mine]))
                if self.noun == "band":
                    continue
                best = max(mine, key=lambda r: r[name]["mean"])
                line |= {f"{name}_best": best[name]["mean"], f"{name}_best_deviation": best[name]["deviation"]}
                line[f"{name}_best_features"] = best["features"]
            lines.append(line)
        return lines

    def table_rows(self) -> list[dict[str, Any]]:
        """Lines of a table in per cent: for clustering, of each figure the best over the numbers of features, its
        deviation and the number, and the mean over all numbers; for classification the means, and the first figure at
        each number."""
        lines = []
        for row in self.rows():
            line = {"data": row["data"], "model": row["model"]}
            for name in self.figures:
                short, mean = heading(name), f"{100 * row[f'{name}_mean']:.2f}"
                if self.noun == "band":
                    line[f"mean {short}"] = mean
                    continue
                line[f"{short} best"] = _percent(row[f"{name}_best"], row[f"{name}_best_deviation"])
                line |= {f"at {short}": row[f"{name}_best_features"], f"{short} mean": mean}
            if self.noun == "band" and row["model"] != ALL:
                first = self.figures[0]
                line |= {
                    f"{heading(first)} {r['features']}": _percent(r[first]["mean"], r[first]["deviation"])
                    for r in self.some(row["data"], row["model"])
                }
            lines.append(line)
        return lines

    def formulas(self) -> dict[str, str]:
        """What the figures are, of the runs and of :meth:`rows`."""
        found = {name: FORMULAS[name] for name in self.figures} | BESIDE
        for name in self.figures:
            found[f"{name}_mean"] = f"mean over all numbers of {self.noun}s of the mean over the repeats of {name}"
            if self.noun == "feature":
                found[f"{name}_best"] = f"the largest mean over the repeats of {name}, of all numbers of features"
                found[f"{name}_best_deviation"] = f"deviation of {name} at that number of features"
                found[f"{name}_best_features"] = "that number of features"
        return found

    def panels(self, data: str) -> tuple[dict[str, dict[str, Curve]], dict[str, float]]:
        """(figure -> model -> curve, figure -> value with all features) of one data set in per cent, for the
        picture."""
        models = [m for m in dict.fromkeys(r["model"] for r in self.runs if r["data"] == data) if m != ALL]
        panels = {}
        for name in self.figures:
            panels[heading(name)] = {
                model: Curve(
                    [r["features"] for r in runs],
                    [100 * r[name]["mean"] for r in runs],
                    [100 * r[name]["deviation"] for r in runs],
                )
                for model in models
                for runs in [self.some(data, model)]
            }
        whole = self.some(data, ALL)
        return panels, {heading(name): 100 * whole[0][name]["mean"] if whole else np.nan for name in self.figures}

    @property
    def data(self) -> list[str]:
        """Names of the data sets."""
        return list(dict.fromkeys(r["data"] for r in self.runs))

    def report(self) -> dict[str, Any]:
        """Everything as plain types; where models lack some runs, also which, and on what."""
        return report_of(
            self.missing,
            protocol=self.protocol,
            formulas=self.formulas(),
            models=self.about,
            summary=self.rows(),
            runs=self.runs,
            notes=self.notes,
        )


def _percent(mean: float, deviation: float) -> str:
    """Two shares in a table."""
    return f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _pair(model: str, data: str) -> str:
    """What a model on a data set is called among those that are missing."""
    return f"{model} on {data}"


Keep = Callable[[FeatureComparison], None]


def evaluate_tables(
    tables: dict[str, str],
    rankers: Rankers,
    numbers: Sequence[int],
    *,
    repeats: int = 20,
    seed: int = 0,
    plain: bool = True,
    var: str | None = None,
    label: str | None = None,
    labels_var: str | None = None,
    ignore: Sequence[str] = (),
    header: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    keep: Keep = lambda done: None,
) -> FeatureComparison:
    """ACC and NMI of k-means on the first 10, 20, ... ranked features of tables (path by name) with labels.

    numbers : of features. header : whether text tables have one, None looks. repeats : starts of k-means, seeds
    ``seed`` and on. plain : one draw for each centre, as in the literature. The features are taken as they are, not
    standardised; where labels fit the columns, features are the rows. keep : is given the comparison each time that a
    model has one more run. Raises InputError for a table without labels, or samples without one.
    """
    numbers = check_numbers(numbers, "--features")
    _check_repeats(repeats)
    if len(tables) > 1 and any(isinstance(ranker, GivenRanking) for ranker in rankers):
        raise UsageError(f"--ranking is that of one table, but there are {len(tables)}; evaluate each with its own.")
    how = "plain k-means++, one draw for each centre" if plain else "greedy k-means++ of scikit-learn"
    data: dict[str, dict[str, Any]] = {}
    protocol = {
        "task": "clustering",
        "data": data,
        "asked": {"var": var, "label": label, "labels_var": labels_var, "ignore": list(ignore), "header": header},
        "method": "k-means (scikit-learn), as many clusters as classes, features as they are, not standardised",
        "start": how,
        "seeds": list(range(seed, seed + repeats)),
        "features": numbers,
        "best": "best of the means over the numbers of features, chosen with the labels, as in the literature",
    }
    done = FeatureComparison(("acc", "nmi"), "feature", protocol)
    done.missing = [_pair(ranker.name, name) for name in tables for ranker in rankers]
    room = rankers[0].room

    def labelled(path: str) -> tuple[Table, NDArray[Any]]:
        table = read_table(
            path,
            var=var,
            features=None,
            label=label,
            labels_var=labels_var,
            ignore=ignore,
            header=header,
            room=room,
        )
        return table, _labels_of(table, path)

    for name, path in list(tables.items())[1:]:  # before minutes are spent on the first
        table, _ = labelled(path)
        _usable(name, TableColumns(table, room - table.held), numbers)
    for name, path in tables.items():
        table, labels = labelled(path)
        data[name] = {
            "path": path,
            "input_bytes": input_bytes(path),
            "samples": len(table.data),
            "classes": len(set(labels.tolist())),
        }
        X = table.data

        def measure(columns: Columns, seeds: Sequence[int], X: Any = X, labels: Any = labels) -> dict[str, list[float]]:
            return clustering(X[:, columns], labels, seeds, plain)

        columns = TableColumns(table, room - table.held)
        _enter(done, name, columns, rankers, numbers, range(seed, seed + repeats), measure, say, keep)
    return done


def _labels_of(table: Table, path: str) -> NDArray[Any]:
    """The labels of a table; raises InputError where there are none, not for all samples, or all are alike or none."""
    if table.labels is None:
        why = f" ({table.unlabelled})" if table.unlabelled else ""
        instead = "give --label COLUMN"
        if Path(path).suffix.lower() in (".mat", ".npz"):
            instead = (
                f"it needs a vector (no cells) called {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}, "
                "--labels-var NAME, or --label COLUMN"
            )
        raise InputError(f"{path} has no labels{why}; {instead}.")
    unlabelled = sum(missing_labels(table.labels))
    if unlabelled:
        raise InputError(f"{path} has no label for {unlabelled} of its samples; remove them, or label them.")
    if len(set(table.labels.tolist())) == 1:
        raise InputError(f"{path} has a single class, {table.labels[0]}; clustering needs two or more.")
    if len(set(table.labels.tolist())) == len(table.labels):
        raise InputError(f"{path} has another label for every sample, so they are no classes; choose other labels.")
    return table.labels


def evaluate_images(
    images: dict[str, str],
    labels: dict[str, str],
    rankers: Rankers,
    numbers: Sequence[int],
    *,
    share: float = 0.05,
    split: str = "random",
    repeats: int = 10,
    seed: int = 0,
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    labels_var: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    keep: Keep = lambda done: None,
) -> FeatureComparison:
    """OA, AA and kappa of an RBF SVM on the first 3, 5, ... ranked bands of images (path by stem), pooled.

    labels : path by the same stems; 0 is unlabelled, and of several bands (abundances) the largest is the class.
    Bands are ranked from all valid pixels, labelled or not; ``drop_bands`` take no part. share : of the labelled pixels
    for training. split : "random", or "tiles": whole images where there are several, else blocks of BLOCK x BLOCK
    pixels. keep : is given the comparison each time that a model has one more run.
    """
    numbers = check_numbers(numbers, "--bands")
    _check_repeats(repeats)
    if split not in SPLITS:
        raise UsageError(f"--split must be random or tiles, not {split!r}.")
    if not 0 < share < 1:
        raise UsageError(f"--train-share must lie between 0 and 1, not {share:g}.")
    with environment():
        reader, y, tiles = read_pixels(images, labels, var=var, drop_bands=drop_bands, labels_var=labels_var)
        name = next(iter(images)) if len(images) == 1 else f"{len(images)} images"
        known = y > 0
        seeds = range(seed, seed + repeats)
        groups = tiles[known] if split == "tiles" else None
        protocol = {
            "task": "classification",
            "images": list(images.values()),
            "labels": [labels[stem] for stem in images],
            "asked": {"var": var, "drop_bands": list(drop_bands), "labels_var": labels_var},
            "classes": len(np.unique(y[known])),
            "labelled_pixels": int(known.sum()),
            "train_share": share,
            "split": split,
            "tiles": None if groups is None else len(np.unique(groups)),
            "trained_on": SPLITS[split],
            "training_samples": [_counted(y[known], share, s, groups) for s in seeds],
            "classifier": CLASSIFIER,
            "seeds": list(seeds),
            "bands": numbers,
        }
        done = FeatureComparison(("oa", "aa", "kappa"), "band", protocol)
        done.missing = [_pair(ranker.name, name) for ranker in rankers]
        with ImageBands(reader, room=rankers[0].room) as bands:
            pixels = reader.read(bands=bands.inside).data.reshape(len(bands.inside), -1)[:, known].T
            place = {band: i for i, band in enumerate(bands.inside)}

            def measure(columns: Columns, seeds: Sequence[int]) -> dict[str, list[float]]:
                X = pixels[:, [place[int(c)] for c in columns]].astype(np.float64)
                return classification(X, y[known], share, seeds, groups)

            _enter(done, name, bands, rankers, numbers, seeds, measure, say, keep)
    return done


def _counted(
    labels: NDArray[np.int64], share: float, seed: int, tiles: NDArray[np.intp] | None
) -> dict[str, dict[str, int] | int]:
    """How many of ``labels`` (n,) are trained on, of all classes and of each, see :func:`training_samples`."""
    train = labels[training_samples(labels, share, seed, tiles)]
    by_class = {str(c): int(np.count_nonzero(train == c)) for c in np.unique(labels)}
    return {"seed": seed, "all": len(train), "by_class": by_class}


def read_pixels(
    images: dict[str, str],
    labels: dict[str, str],
    *,
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    labels_var: str | None = None,
) -> tuple[ArrayReader, NDArray[np.int64], NDArray[np.intp]]:
    """(the valid pixels of all images as one image of one row; class of each, 0 for none; tile of each).

    ``drop_bands``, and bands that take no part in one of the images, are bad in the result. Raises InputError where
    images and labels do not belong together.
    """
    absent = sorted(set(images) - set(labels))
    if absent:
        raise InputError(
            f"no labels found for {images[absent[0]]} (missing for {len(absent)} of {len(images)} images)."
        )
    for stem, path in images.items():
        if labels_var == var and (path == labels[stem] or same_image(path, labels[stem])):
            raise UsageError(f"the labels are the image {path} itself; give the variable of the labels (--labels-var).")
    _refuse_other_sizes(images, labels, var, drop_bands, labels_var)
    meta: Meta | None = None
    common: set[int] = set()
    for path in images.values():
        with SpectralImage(path, var=var, drop_bands=drop_bands) as image:
            if meta is None:
                meta, common, count = image.meta, set(image.bands), image.count
            common &= set(image.bands)
    assert meta is not None
    bands = sorted(common)
    if len(bands) < 2:
        raise InputError("the images have fewer than two usable bands in common.")
    spectra, classes, tiles = [], [], []
    for number, (stem, path) in enumerate(images.items()):
        with open_cube(path, var=var) as reader:
            cube = reader.read(bands=bands)
        truth = read_classes(labels[stem], labels_var)
        full = np.zeros((count, int(cube.valid.sum())), np.float32)
        full[bands] = cube.data[:, cube.valid]
        spectra.append(full)
        classes.append(truth[cube.valid])
        row, col = np.nonzero(cube.valid)
        block = row // BLOCK * -(-truth.shape[1] // BLOCK) + col // BLOCK
        tiles.append(block if len(images) == 1 else np.full(len(block), number))
    y = np.concatenate(classes)
    if not (y > 0).any():
        raise InputError("no valid pixel has a label above 0.")
    pooled = ArrayReader(np.concatenate(spectra, axis=1)[:, None])
    pooled.path = next(iter(images.values())) if len(images) == 1 else f"{len(images)} images"
    bad = tuple(i not in common for i in range(count))
    pooled.meta = replace(
        pooled.meta, bad_bands=bad, wavelengths=meta.wavelengths, fwhm=meta.fwhm, band_names=meta.band_names
    )
    found = np.concatenate(tiles)
    return pooled, y, np.unique(found, return_inverse=True)[1]


def _refuse_other_sizes(
    images: dict[str, str], labels: dict[str, str], var: str | None, drop_bands: Sequence[str], labels_var: str | None
) -> None:
    """Raise InputError where images differ in their number of bands, or from their labels in size, and what
    :func:`header_shape` does, before any of them is read."""
    shapes = {stem: header_shape(path, var, drop_bands) for stem, path in images.items()}
    count = next(iter(shapes.values()))[0]
    for stem, path in images.items():
        if shapes[stem][0] != count:
            raise InputError(f"{path} has {shapes[stem][0]} bands, but the others have {count}.")
    for stem, path in images.items():
        with open_cube(labels[stem], var=labels_var, palette="indices") as reader:
            size = reader.shape[1:]
        if size != shapes[stem][1:]:
            raise InputError(f"{labels[stem]} is {size} but {path} is {shapes[stem][1:]} (rows, columns).")


def read_classes(path: str | Path, var: str | None = None) -> NDArray[np.int64]:
    """(rows, cols): the class of each pixel, 0 where there is none or the file is not valid.

    Where the file has a palette, its indices are the classes. A file of several bands holds abundances: the class is
    the band of the largest, from 1, or 0 where none is above 0. Raises InputError for classes that are not whole
    numbers from 0.
    """
    with open_cube(path, var=var, palette="indices") as reader:
        cube = reader.read()
    if len(cube.data) > 1:
        some = cube.valid & (cube.data > 0).any(axis=0)
        return np.where(some, cube.data.argmax(axis=0) + 1, 0).astype(np.int64)
    values = np.where(cube.valid, cube.data[0], 0)
    if values.dtype.kind not in "buif" or (values != np.rint(values)).any() or values.min() < 0:
        raise InputError(
            f"{path} contains values that are not classes; whole numbers from 0 (no class) upwards are needed."
        )
    return values.astype(np.int64)


def check_numbers(numbers: Sequence[int], option: str) -> list[int]:
    """The numbers of features, rising; raises UsageError unless there are some and all are at least 1."""
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} takes numbers of at least 1, such as 10,20,30.")
    return sorted(set(numbers))


def _check_repeats(repeats: int) -> None:
    if repeats < 1:
        raise UsageError(f"--repeats must be at least 1, not {repeats}.")


def _enter(
    done: FeatureComparison,
    data: str,
    source: FeatureSource,
    rankers: Rankers,
    numbers: Sequence[int],
    seeds: Sequence[int],
    measure: Measure,
    say: Callable[[str], None],
    keep: Keep,
) -> None:
    """All features, then the first ``numbers`` of each model, into ``done``.

    A model whose choice is random is drawn anew for each repeat, with its seed.
    """
    done.notes += [f"{data}: {note}" for note in told(source.notes)]
    inside = np.array(source.inside)
    many = [k for k in numbers if k > len(inside)]
    numbers = _usable(data, source, numbers)
    if many:
        left = f"{data} has only {len(inside)} usable {source.noun}s; {', '.join(map(str, many))} left out"
        done.notes.append(left)
    given = {r.name: r.within(source, numbers[-1]) for r in rankers if isinstance(r, GivenRanking)}
    done.add(data, ALL, [measure(inside, seeds)], features=len(inside), indices_zero_based=inside, seconds_ranking=0.0)
    scene = source.scene(seeds[0])
    for ranker in rankers:
        drawn, seconds = False, None
        chosen: dict[int, tuple[Ranking, ...]]
        if isinstance(ranker, GivenRanking):
            chosen = dict.fromkeys(numbers, (given[ranker.name],))
        else:
            drawn, started = ranker.spec.drawn, time.monotonic()
            chosen = _choices(ranker, scene, numbers, seeds)
            made = {id(ranking) for rankings in chosen.values() for ranking in rankings}
            seconds = (time.monotonic() - started) / len(made)
        done.notes += [f"{data}: {note}" for note in told(chosen[numbers[-1]][0].notes)]
        done.about.setdefault(ranker.name, ranker.describe())
        for k in tracked(numbers, f"{data}, {ranker.name}"):
            if any(len(ranking.order) < k for ranking in chosen[k]):
                say(f"{data}: {ranker.name} ranks fewer than {k} {source.noun}s")
                break
            taken, about = [inside[ranking.order[:k]] for ranking in chosen[k]], [r.about for r in chosen[k]]
            parts = [[s] for s in seeds] if drawn else [seeds]
            done.add(
                data,
                ranker.name,
                [measure(columns, part) for columns, part in zip(taken, parts, strict=True)],
                features=k,
                indices_zero_based=taken if drawn else taken[0],
                about_the_ranking=about if drawn else about[0],
                seconds_ranking=seconds,
            )
            keep(done)
            figures = ", ".join(f"{heading(f)} {100 * done.runs[-1][f]['mean']:.2f}" for f in done.figures)
            say(f"{data}: {ranker.name}, {k} {source.noun}s: {figures}")
        done.missing.remove(_pair(ranker.name, data))


def _usable(data: str, source: FeatureSource, numbers: Sequence[int]) -> list[int]:
    """The ``numbers`` of features that ``source`` has; raises UsageError where there are none."""
    found = [k for k in numbers if k <= len(source.inside)]
    if not found:
        raise UsageError(f"{data} has only {len(source.inside)} usable {source.noun}s; ask for fewer.")
    return found


def _choices(
    ranker: FeatureRanker, scene: Scene, numbers: Sequence[int], seeds: Sequence[int]
) -> dict[int, tuple[Ranking, ...]]:
    """The ranking for each of ``numbers``, rising, and for each of ``seeds`` where the choice is drawn: that of the
    largest number serves all where the method is ``nested``."""
    scenes = [replace(scene, seed=seed) for seed in (seeds if ranker.spec.drawn else [ranker.seed])]

    def ranked(most: int) -> tuple[Ranking, ...]:
        return tuple(ranker.rank(s, most) for s in scenes)

    if ranker.spec.nested:
        return dict.fromkeys(numbers, ranked(numbers[-1]))
    return {k: ranked(k) for k in numbers}
