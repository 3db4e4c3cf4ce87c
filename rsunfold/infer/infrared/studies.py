"""What the figures of infrared models depend on: noise in the image, and the number of stages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rsunfold.errors import UsageError
from rsunfold.infer.evaluation import report_of
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.evaluate import (
    DEFINED,
    Evaluation,
    EvaluationProtocol,
    Unread,
    evaluate_detector,
    first_stages,
    label_of,
    notes_of,
    score_of,
)
from rsunfold.io.samples import Sample
from rsunfold.metrics.infrared import legacy_half_maximum
from rsunfold.report import Case, Course, Courses
from rsunfold.simulate.corruption import KINDS, Corruption


def _case(
    protocol: EvaluationProtocol, detector: Detector, sample: Sample, corruption: Corruption | None, level: str
) -> Case:
    """The image, truth and prediction of a sample, named after the level."""
    image = protocol.read(detector, sample, corruption)
    score, _ = score_of(detector, image.gray)
    rule = protocol.rule(detector)
    predicted = legacy_half_maximum(score, image.valid) if rule is None else rule.detected(score, image.valid)
    truth, predicted = image.targets, predicted & image.known
    either = int((predicted | truth).sum())
    return Case(level, image.gray, truth, predicted, int((predicted & truth).sum()) / either if either else 1.0)


@dataclass
class Study:
    """Evaluations of models, one for each value of what is varied.

    runs : in the order of the table; what was varied is in ``about`` of each. missing : labels of the models that lack
    some, as :meth:`evaluate` did not come to its end. protocol : how images are read and cut. unread : the images that
    none of them has. example : the image that is shown, and its cases by what is varied.
    """

    title: ClassVar[str]
    about: dict[str, Any]
    runs: list[Evaluation] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    protocol: EvaluationProtocol = field(default_factory=EvaluationProtocol)
    unread: Unread = field(default_factory=Unread)
    example: str = ""
    strips: dict[str, list[Case]] = field(default_factory=dict)

    def evaluate(
        self,
        detectors: list[Detector],
        samples: list[Sample],
        protocol: EvaluationProtocol,
        keep: Callable[[Study], None] = lambda study: None,
    ) -> None:
        """Fill in ``runs``; ``keep`` is given the study each time that there is one more. Raises UsageError for a model
        that the study has no use for."""
        self._refuse_useless(detectors)
        self.protocol = protocol
        self.missing = [detector.label for detector in detectors]
        for detector in detectors:
            for run in self._evaluated(detector, samples, protocol):
                self.runs.append(run)
                keep(self)
            self.missing.remove(detector.label)
        self._illustrate(detectors[0], samples, protocol)

    def _evaluated(
        self, detector: Detector, samples: list[Sample], protocol: EvaluationProtocol
    ) -> Iterator[Evaluation]:
        """The evaluations of one model."""
        raise NotImplementedError

    def _refuse_useless(self, detectors: list[Detector]) -> None:
        """Raise UsageError for a model that the study has no use for."""

    def _illustrate(self, first: Detector, samples: list[Sample], protocol: EvaluationProtocol) -> None:
        """Enter the example and its cases by the ``first`` model, where the study shows one."""

    def report(self) -> dict[str, Any]:
        """Everything as plain types; of one that was interrupted, also what is missing."""
        return report_of(
            self.missing,
            protocol=self.protocol.report(),
            formulas=DEFINED,
            study=self.title,
            **self.about,
            **self.unread.report(),
            runs=[run.report() for run in self.runs],
            notes=self.notes(),
        )

    def notes(self) -> list[str]:
        """The notes of all evaluations, each once."""
        return self.unread.notes() + notes_of(self.runs)

    def rows(self) -> list[dict[str, Any]]:
        """One line per evaluation for a table."""
        raise NotImplementedError

    def courses(self) -> dict[str, Courses]:
        """What a picture shows: by the name of what is varied, the course of the figures of each model."""
        raise NotImplementedError


class Robustness(Study):
    """Figures under noise of rising level; level 0 is the image as it is.

    noises : see :func:`corruptions`.
    """

    title: ClassVar[str] = "robustness to noise"

    def __init__(self, noises: dict[str, list[Corruption]]) -> None:
        self.noises = noises
        super().__init__(
            {
                "corruptions": {kind: KINDS[kind] for kind in noises},
                "levels": {kind: [0.0, *(c.level for c in noise)] for kind, noise in noises.items()},
                "seed": next(iter(noises.values()))[0].seed,
            }
        )

    def _illustrate(self, first: Detector, samples: list[Sample], protocol: EvaluationProtocol) -> None:
        """The example is the image with targets whose IoU by the first model is in the middle."""
        rows = [row for row in self.runs[0].sets["all"].rows if row["iou"] is not None]
        rows = sorted((row for row in rows if row["targets"]), key=lambda row: row["iou"]) or rows
        if not rows:
            return
        self.example = rows[len(rows) // 2]["image"]
        sample = next(s for s in samples if label_of(s) == self.example)
        for kind, noise in self.noises.items():
            self.strips[_AXES[kind]] = [
                _case(protocol, first, sample, c, "as it is" if c is None else f"{c.level:g}") for c in (None, *noise)
            ]

    def _evaluated(
        self, detector: Detector, samples: list[Sample], protocol: EvaluationProtocol
    ) -> Iterator[Evaluation]:
        for corruption in [None, *(c for noise in self.noises.values() for c in noise)]:
            if corruption is not None:
                protocol.say(f"{detector.name}: {corruption.kind} {corruption.level:g}")
            run = evaluate_detector(detector, samples, protocol, corruption=corruption, roc=False)
            run.about |= {
                "corruption": None if corruption is None else corruption.kind,
                "level": 0.0 if corruption is None else corruption.level,
            }
            yield run

    def _groups(self) -> Iterable[tuple[str, str, list[Evaluation]]]:
        """(kind, model, evaluations by level) with the clean image first in each."""
        for kind in self.about["levels"]:
            for clean in (run for run in self.runs if run.about["corruption"] is None):
                noisy = [r for r in self.runs if r.about["corruption"] == kind and r.label == clean.label]
                yield kind, clean.label, [clean, *noisy]

    def rows(self) -> list[dict[str, Any]]:
        """One line per model, kind and level."""
        return [
            {"model": model, "corruption": kind, "level": run.about["level"], **run.figures()}
            for kind, model, runs in self._groups()
            for run in runs
        ]

    def courses(self) -> dict[str, Courses]:
        """By kind and model."""
        found: dict[str, Courses] = {}
        for kind, model, runs in self._groups():
            found.setdefault(_AXES[kind], {})[model] = _course([run.about["level"] for run in runs], runs)
        return found


_AXES = {"gaussian": "Gaussian noise: standard deviation", "salt-pepper": "salt and pepper: share of the pixels"}


class Ablation(Study):
    """Figures of the T^k of every stage, at the threshold and the confidence of the weights.

    The weights are those that were trained for K stages. Whether an earlier T^k was meant to be read depends on the
    recipe, whose ``loss.stages`` weighs it.
    """

    title: ClassVar[str] = "number of stages"

    def __init__(self) -> None:
        super().__init__({"note": ABLATION_NOTE})

    def _refuse_useless(self, detectors: list[Detector]) -> None:
        for detector in detectors:
            detector.require_stages()

    def _evaluated(
        self, detector: Detector, samples: list[Sample], protocol: EvaluationProtocol
    ) -> Iterator[Evaluation]:
        assert detector.net is not None
        for k in range(1, len(detector.net.stages) + 1):
            protocol.say(f"{detector.name}: stage {k} of {len(detector.net.stages)}")
            short = copy.copy(detector)
            short.net = first_stages(detector.net, k)
            run = evaluate_detector(short, samples, protocol, roc=False)
            names = {key: f"{name} stage {k}" for key, name in (("model", detector.name), ("label", detector.label))}
            run.about |= {**names, "stage": k}
            yield run

    def rows(self) -> list[dict[str, Any]]:
        """One line per model and stage, with the cost of a network of that many stages."""
        return [run.comparison() for run in self.runs]

    def courses(self) -> dict[str, Courses]:
        """By model, over the number of the stage."""
        names = dict.fromkeys(run.about["weights"] for run in self.runs)
        of = {n: [run for run in self.runs if run.about["weights"] == n] for n in names}
        return {"stage k": {n: _course([run.about["stage"] for run in runs], runs) for n, runs in of.items()}}


def _course(over: Sequence[float], runs: list[Evaluation]) -> Course:
    figures = [run.figures() for run in runs]
    shown = {"IoU": "iou_pooled", "F1": "f1_pooled", "Pd": "overlap.pd", "Fa": "overlap.fa"}
    return Course(over, {name: [f[key] for f in figures] for name, key in shown.items()})


def corruptions(levels: dict[str, list[float]], seed: int) -> dict[str, list[Corruption]]:
    """By kind the corruptions at the levels given, ascending, each once, without level 0.

    Raises UsageError for what :class:`Corruption` does not know, and for a kind without a level above 0.
    """
    found = {}
    for kind, values in levels.items():
        every = [Corruption(kind, level, seed) for level in sorted(set(values))]
        found[kind] = [c for c in every if c.level]
        if not found[kind]:
            raise UsageError(f"--corrupt {kind} takes levels above 0; level 0 is always included.")
    return found


ABLATION_NOTE = (
    "T^k of the weights trained for all stages, by their own rule; not networks trained with k "
    "stages. Earlier stages were trained to be read out where the recipe's loss.stages is above 0 (see the weights' "
    "card). "
    "parameters and gflop are those of a network of the first k stages, every branch counted."
)
