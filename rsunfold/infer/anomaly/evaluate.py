"""Detection of anomalies against the truth: of models on scenes, or of somebody else's scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask
from rsunfold.cube import told
from rsunfold.errors import BatchError, DeviceError, InputError, RsunfoldError
from rsunfold.infer.anomaly.detector import AnomalyDetector
from rsunfold.infer.anomaly.run import Options, detect_array
from rsunfold.infer.anomaly.threshold import choose_threshold
from rsunfold.infer.evaluation import mean_of, report_of, variable_of
from rsunfold.infer.results import environment, label_of_files
from rsunfold.infer.spectral import SpectralImage, header_shape
from rsunfold.io import open_cube
from rsunfold.io.folders import images_in, inputs_in, not_looked_for, refuse_no_folder
from rsunfold.io.mat import MatFile
from rsunfold.io.reader import chosen_by
from rsunfold.io.samples import open_score, read_mask, read_score
from rsunfold.metrics.anomaly import FORMULAS, detection, roc
from rsunfold.progress import tracked
from rsunfold.report.headings import heading

TRUTH = ("map", "gt", "truth", "mask", "groundtruth")
"""Variables of a MAT file that hold the truth, in the order in which they are looked for."""
BESIDE = {
    "auc_df_least": "the least auc_df of all scenes and seeds",
    "auc_df_deviation": "standard deviation over the seeds, of the population, of the mean of auc_df over the scenes",
    "mask.pfa_wanted": "the share of background pixels that the threshold is chosen for",
    "mask.pfa": "the share of background pixels above that threshold, the table's mask PF",
    "mask.pd": "the share of anomalous pixels above that threshold, the table's mask PD",
    "pixels": "pixels of the scene: anomaly_pixels, background_pixels and left_out_pixels",
    "left_out_pixels": "pixels that are not valid in the scene, or whose truth is unknown; they count for nothing",
    "without_score.pixels": "pixels that count, but have no score: they get the lowest score of the map, which counts "
    "as not detected, and a note tells of them",
    "without_score.anomalous": "those of them that are anomalous",
    "seconds": "time of reading a scene, computing its scores and finding its anomalies; of files null",
}
"""What is in a report beside the FORMULAS."""
SHOWN = 10
"""Most maps of a file that are named where none of them is the truth."""
SCORES = ("_score", "")
"""What may follow the stem of a scene in the name of somebody else's score."""


@dataclass(frozen=True)
class LabelledScene:
    """A scene, and where its truth is: a file, or a variable of the scene's own MAT file."""

    name: str
    path: Path
    truth_path: Path
    truth_var: str | None

    def files(self) -> dict[str, str | None]:
        """Where the scene and its truth are, for reports."""
        return {"file": str(self.path), "truth": str(self.truth_path), "truth_var": self.truth_var}

    def truth(self, shape: tuple[int, int], of: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Anomalous pixels, and the pixels whose truth is known, both (rows, cols); raises InputError when they are not
        of the ``shape`` of the file ``of``."""
        if self.truth_var is None:
            truth, known = read_mask(self.truth_path, truth=True)
        else:
            with open_cube(self.truth_path, var=self.truth_var) as reader:
                reader.refuse_complex()
                cube = reader.read()
            truth, known = cube.data[0] > 0, cube.valid
        if truth.shape != shape:
            raise InputError(f"the truth in {self.truth_path} is {truth.shape}, but {of} is {shape} (rows, columns).")
        return truth, known


def scenes_in(folder: Path, masks: Path | None = None, truth_var: str | None = None) -> list[LabelledScene]:
    """Every scene of ``folder`` with its truth: NAME or NAME_mask in ``masks``, else a variable of its MAT file.

    Raises InputError where a scene has no truth.
    """
    refuse_no_folder(folder, "the scenes")
    if masks is not None:
        refuse_no_folder(masks, "the masks")
    found = []
    given = {} if masks is None else images_in(masks)
    for stem, path in inputs_in(folder).items():
        if masks is not None:
            mask = given.get(f"{stem}_mask") or given.get(stem)
            if mask is None or mask.resolve() == path.resolve():
                if stem.endswith("_mask") and stem.removesuffix("_mask") in given:
                    continue  # scenes and masks are in one folder
                raise InputError(f"no ground truth found for {path} in {masks}; expected {stem} or {stem}_mask.")
            found.append(LabelledScene(stem, path, mask, None))
            continue
        found.append(LabelledScene(stem, path, path, _truth_variable(path, truth_var)))
    if not found:
        raise InputError(f"{folder} contains no images.")
    return found


def _truth_variable(path: Path, wanted: str | None) -> str:
    """The variable of a MAT file that holds the truth: the one ``wanted``, else one named as in TRUTH, in any case.

    Raises InputError where there is none.
    """
    maps: list[str] = []
    if path.suffix.lower() == ".mat":
        with MatFile(str(path), () if wanted is None else (wanted,)) as mat:
            flat = [v for v in mat.variables if v.shape[2:] in ((), (1,)) and mat.image_size(v) is None]
            sizes = {v.shape[:2] for v in mat.variables if len(v.shape) == 3 and v.shape[2] > 1}
            maps = [v.name for v in flat if v.shape[:2] in sizes]
            found = {v.leaf.lower(): v.name for v in reversed(flat)}
        if wanted is not None and any(v.name == wanted for v in flat):
            return wanted
        for name in TRUTH if wanted is None else ():
            if name in found:
                return found[name]
    there = f"; its maps are called {', '.join(maps[:SHOWN])}" if maps else ""
    names = TRUTH if wanted is None else (wanted,)
    raise InputError(f"{path} contains no ground truth ({', '.join(names)}){there}; use --masks or --truth-var.")


@dataclass
class AnomalyComparison:
    """Results: one entry per model, scene and seed in ``runs``, with the whole of :func:`detection`; ``about`` by
    model; curves (PF, PD) by scene and model, of the first seed. protocol : how the figures were made. missing : models
    (or folders of scores) that lack some. failed : the runs that could not be, with the ``error``."""

    protocol: dict[str, Any]
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        model: str,
        scene: LabelledScene,
        seed: int | None,
        score: NDArray[Any],
        valid: Mask,
        seconds: float | None,
        pfa: float,
        source: Path | None = None,
        notes: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Take one score map (rows, cols), NaN where there is no score; returns the entry.

        valid : bool (rows, cols), pixels that are valid in the scene. Those of them whose truth is known count, whether
        they have a score or not: where there is none, they get the lowest of the map. source : the file of the score,
        where it is one. notes : on the scene and its score. Raises InputError, with the file, for a score or a truth
        that no figure can be told of.
        """
        shape = score.shape[0], score.shape[1]
        of = scene.path if source is None else source
        truth, known = scene.truth(shape, of)
        score = np.where(valid, score, np.nan)
        counted, lacking = valid & known, np.isnan(score)
        if not (counted & ~lacking).any():
            raise InputError(f"{of} has no score where the truth is known: all are nodata, NaN, or 1e30 and more.")
        threshold = choose_threshold(score, pfa=pfa)[0]
        score[lacking] = score[counted & ~lacking].min()
        try:
            figures = detection(score, truth, counted)
        except InputError as error:
            raise InputError(f"{scene.path}: {error}") from None
        above = score > threshold
        run: dict[str, Any] = {
            **{"model": model, "scene": scene.name, **scene.files()},
            **{"seed": seed, "seconds": None if seconds is None else round(seconds, 3), "figures": figures},
            "mask": {
                "pfa_wanted": pfa,
                "pfa": float(above[counted & ~truth].mean()),
                "pd": float(above[counted & truth].mean()),
            },
        }
        absent = counted & lacking
        run["without_score"] = {"pixels": int(absent.sum()), "anomalous": int((absent & truth).sum())}
        run["notes"] = told(notes)
        self.runs.append(run)
        self.curves.setdefault(scene.name, {}).setdefault(model, roc(score, truth, counted))
        return run

    def fail(
        self, model: str, scene: LabelledScene, seed: int | None, error: RsunfoldError, *, alone: bool = False
    ) -> None:
        """Enter a run that could not be; raises its ``error`` where it is ``alone``."""
        if alone:
            raise error
        self.failed.append({"model": model, "scene": scene.name, "seed": seed, "error": str(error)})

    def complete(self, model: str) -> None:
        """All runs of a model had their turn: it is missing only if one failed."""
        if all(run["model"] != model for run in self.failed):
            self.missing.remove(model)

    def rows(self, *, per_scene: bool = False) -> list[dict[str, Any]]:
        """Means over scenes and seeds for each model, or means over seeds for each scene, by the keys of FORMULAS and
        BESIDE.

        The auc_df of a model comes with the smallest over scenes, and with the deviation between seeds of its mean
        over scenes where there are several. Lines that lack some scene or seed are left out.
        """
        lines = []
        for model in self.about:
            mine = [run for run in self.runs if run["model"] == model]
            scenes = list(dict.fromkeys(run["scene"] for run in mine))
            for scene in scenes if per_scene else [None]:
                some = [run for run in mine if scene in (None, run["scene"])]
                if model in self.missing if scene is None else len(some) < len(self.about[model].get("seed", [None])):
                    continue
                line: dict[str, Any] = {"model": model}
                line |= {"scenes": len(scenes)} if scene is None else {"scene": scene}
                for key in FORMULAS:
                    line[key] = mean_of(_figure(run, key) for run in some)
                    if key == "auc_df" and scene is None:
                        line |= self._spread(some)
                line |= {f"mask.{key}": float(np.mean([r["mask"][key] for r in some])) for key in ("pfa", "pd")}
                line["seconds"] = mean_of(r["seconds"] for r in some)
                lines.append(line)
        return lines

    def notes(self) -> list[str]:
        """A sentence for each scene that has no figures, the notes of the runs, and sentences on scenes some of
        whose pixels count but have no score, and on figures that are undefined on some scenes, and so in the mean."""
        failed = {f"{r['model']} on {r['scene']}": r["error"].rstrip(".") for r in self.failed}
        absent = {f"{r['model']} on {r['scene']}": r["without_score"] for r in self.runs}
        missed = [
            f"{name}: {n['pixels']} pixels, {n['anomalous']} of them anomalous, have no score and count as not detected"
            for name, n in absent.items()
            if n["pixels"]
        ]
        failures = [f"{name}: {error}" for name, error in failed.items()]
        return [*failures, *self._noted(), *missed, *self._undefined()]

    def _undefined(self) -> list[str]:
        """A sentence for each figure of a model that some scenes do not have."""
        lines = []
        for model, key in itertools.product(self.about, FORMULAS):
            defined: dict[str, bool] = {}
            for run in self.runs:
                if run["model"] == model:
                    defined[run["scene"]] = defined.get(run["scene"], True) and _figure(run, key) is not None
            without = [scene for scene, has in defined.items() if not has]
            if without:
                lines.append(
                    f"{model}: {heading(key)} is undefined on {len(without)} of {len(defined)} scenes (the first: "
                    f"{without[0]}), so the mean has none"
                )
        return lines

    def _noted(self) -> list[str]:
        """The notes of all runs, each once: those that all models have on a scene name the scene alone."""
        by: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            for note in run["notes"]:
                by.setdefault((run["scene"], note), []).append(run["model"])
        lines = []
        for (scene, note), models in by.items():
            common = set(models) == {run["model"] for run in self.runs if run["scene"] == scene}
            names = [scene] if common else [f"{model} on {scene}" for model in dict.fromkeys(models)]
            lines += [f"{name}: {note}" for name in names]
        return lines

    def _spread(self, some: list[dict[str, Any]]) -> dict[str, Any]:
        seeds = list(dict.fromkeys(run["seed"] for run in some))
        means = [np.mean([r["figures"]["auc_df"] for r in some if r["seed"] == seed]) for seed in seeds]
        found: dict[str, Any] = {"auc_df_least": min(r["figures"]["auc_df"] for r in some)}
        if len(seeds) > 1:
            found["auc_df_deviation"] = float(np.std(means))
        return found

    def boxes(self) -> dict[str, dict[str, Any]]:
        """Percentiles of the scaled scores of each model, mean over scenes and seeds."""
        found = {}
        for model in self.about:
            some = [run["figures"]["separability"] for run in self.runs if run["model"] == model]
            found[model] = {
                kind: {q: float(np.mean([s[kind][q] for s in some])) for q in some[0][kind]}
                for kind in ("anomaly", "background")
            }
        return found

    def report(self) -> dict[str, Any]:
        """Everything as plain types; where models lack some runs, also which, and which failed."""
        return report_of(
            self.missing,
            protocol=self.protocol,
            formulas=FORMULAS | BESIDE,
            models=self.about,
            summary=self.rows(),
            per_scene=self.rows(per_scene=True),
            runs=self.runs,
            **({"failed": self.failed} if self.failed else {}),
            notes=self.notes(),
        )


def _figure(run: Mapping[str, Any], key: str) -> float | None:
    """The figure of a run that is called so in FORMULAS."""
    figures = run["figures"]
    found: float | None = figures["separability"][key] if key == "gap" else figures[key]
    return found


@dataclass(frozen=True)
class ScoreFiles:
    """Somebody else's score rasters, one band each; larger is more anomalous, never the other way.

    paths : by the name of the scene. var : the variable of those that hold several.
    """

    folder: Path
    paths: dict[str, Path]
    var: str | None

    @classmethod
    def of(cls, folder: Path, scenes: Sequence[LabelledScene], var: str | None = None) -> ScoreFiles:
        """The file NAME_score or NAME of every scene; raises InputError for a scene that has none."""
        refuse_no_folder(folder, "the predictions")
        names = {scene.name: [scene.name + tail for tail in SCORES] for scene in scenes}
        looked_for = {name for several in names.values() for name in several}
        given = images_in(folder, lambda p: p.stem in looked_for)
        paths = {}
        for scene, several in names.items():
            path = next((given[name] for name in several if name in given), None)
            if path is None:
                unread = not_looked_for(folder, several)
                raise InputError(f"{folder} contains no score for {scene} ({' or '.join(several)}){unread}.")
            paths[scene] = path
        return cls(folder, paths, var)

    @property
    def label(self) -> str:
        """What tables and pictures call the folder."""
        return label_of_files(self.folder)

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {"model": self.label, "folder": str(self.folder)}

    def refuse_other(self, scene: LabelledScene, shape: tuple[int, int]) -> None:
        """Raise InputError for a file of another size than its scene, (rows, cols), and what :func:`open_score` does:
        before its samples are read."""
        path = self.paths[scene.name]
        with chosen_by("--score-var"), open_score(path, variable_of(path, self.var)) as reader:
            if reader.shape[1:] != shape:
                raise InputError(f"{path} is {reader.shape[1:]} but {scene.path} is {shape} (rows, columns).")

    def read(self, scene: LabelledScene) -> tuple[NDArray[np.float64], Sequence[str]]:
        """(score (rows, cols), NaN where there is none; what is to be told of the file); InputError for infinities."""
        path = self.paths[scene.name]
        with environment():
            # As stored: what is equal in float32 only, is in order.
            cube = read_score(path, scaled=False, var=variable_of(path, self.var))
        if np.isinf(cube.data).any():
            raise InputError(f"{path} has infinite scores; give every pixel a finite one, or NaN where there is none.")
        return np.where(cube.valid, cube.data[0].astype(np.float64), np.nan), cube.meta.notes


def refuse_useless(
    scenes: Sequence[LabelledScene],
    var: str | None = None,
    drop_bands: Sequence[str] = (),
    theirs: Sequence[ScoreFiles] = (),
) -> None:
    """Raise InputError for a truth or a score of another size than its scene's, for a truth without an anomaly or
    background, and what :func:`header_shape` does: before hours of computing, not after. Which pixels are which stays
    unknown to the models."""
    for scene in scenes:
        _, rows, cols = header_shape(scene.path, var, drop_bands)
        truth, known = scene.truth((rows, cols), scene.path)
        for kind, some in (("an anomaly", truth & known), ("background", ~truth & known)):
            if not some.any():
                raise InputError(f"no pixel of the truth in {scene.truth_path} is {kind}; nothing can be measured.")
        for files in theirs:
            files.refuse_other(scene, (rows, cols))


def evaluate_models(
    scenes: Sequence[LabelledScene],
    detectors: Sequence[AnomalyDetector] = (),
    seeds: Sequence[int] = (),
    *,
    pfa: float,
    predictions: Sequence[Path] = (),
    score_var: str | None = None,
    var: str | None = None,
    drop_bands: tuple[str, ...] = (),
    asked: Mapping[str, Any] = {},
    say: Callable[[str], None] = lambda text: None,
    keep: Callable[[AnomalyComparison], None] = lambda done: None,
) -> AnomalyComparison:
    """The scores in every folder of ``predictions``, then every model on every scene (without ``drop_bands``) and seed;
    the truth is read when the score is there.

    All are measured on the same pixels, see :meth:`AnomalyComparison.add`. score_var : see :class:`ScoreFiles`. asked :
    what else was asked for, such as where the truth is, for the report. keep : is given the comparison each time that
    there is one more run. A scene that cannot be read or scored, InputError, or needs more memory than there is,
    DeviceError, ends only its own run: raises BatchError in the end, or that error where there is no other run.
    """
    for detector, seed in itertools.product(detectors, seeds):
        detector.reseed(seed)  # refuses seeds before all the work
    theirs = [ScoreFiles.of(folder, scenes, score_var) for folder in predictions]
    refuse_useless(scenes, var, drop_bands, theirs)
    asked = {**asked, "var": var, "drop_bands": list(drop_bands), "score_var": score_var}
    protocol = {"asked": asked, "pfa": pfa, "seeds": list(seeds)}
    total = len(scenes) * (len(theirs) + len(detectors) * len(seeds))
    done = AnomalyComparison(protocol, missing=[each.label for each in theirs] + [each.name for each in detectors])

    @cache
    def valid(scene: LabelledScene) -> Mask:
        with environment(), SpectralImage(str(scene.path), var=var, drop_bands=drop_bands, spikes="limited") as image:
            return image.validity()

    for files in theirs:
        name = files.label
        done.about[name] = files.describe()
        for scene in tracked(scenes, name):
            score, notes = files.read(scene)
            try:
                counted = valid(scene)
            except InputError as error:
                done.fail(name, scene, None, error, alone=total == 1)
            else:
                done.add(name, scene, None, score, counted, None, pfa, files.paths[scene.name], notes)
            keep(done)
        done.complete(name)
    for detector in detectors:
        name = detector.name
        done.about[name] = detector.describe() | {"seed": list(seeds)}
        for scene, seed in tracked(list(itertools.product(scenes, seeds)), name):
            detector.reseed(seed)
            try:
                found = detect_array(str(scene.path), detector, Options(var=var, drop_bands=drop_bands, pfa=pfa))
                seconds, notes = found.summary["seconds"], found.summary["notes"]
                run = done.add(name, scene, seed, found.score, valid(scene), seconds, pfa, notes=notes)
            except (InputError, DeviceError) as error:
                done.fail(name, scene, seed, error, alone=total == 1)
                told = str(error)
            else:
                run["bands"] = found.summary["bands_used"]
                told = f"AUC(D,F) {run['figures']['auc_df']:.4f}"
            keep(done)
            say(f"{name}: {scene.name}, seed {seed}: {told}")
        done.complete(name)
    if done.failed:
        raise BatchError(f"{len(done.failed)} of {total} runs failed.")
    return done
