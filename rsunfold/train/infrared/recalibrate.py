"""The rule of finished weights chosen anew on other images: temperature, threshold and confidence, not the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rsunfold.errors import InputError, UsageError
from rsunfold.infer.infrared.evaluate import read_sample
from rsunfold.infer.infrared.gray import DEFAULT_READING, Reading
from rsunfold.io.samples import Sample, notes_on
from rsunfold.metrics.components import Components
from rsunfold.progress import tracked
from rsunfold.registry import get_model
from rsunfold.rule import Asked
from rsunfold.train.infrared.calibrate import REACHES, calibrate
from rsunfold.train.infrared.figures import figures_of, kept_of, results_of, table_of, usage_of
from rsunfold.weights import GRAY, WeightRecord, load, save


def recalibrate(
    weights: str,
    samples: list[Sample],
    output: Path,
    *,
    reading: Reading = DEFAULT_READING,
    max_area: int | None = None,
    reach: int | None = None,
    device: torch.device | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[WeightRecord, list[str]]:
    """Write ``output``, the weights of a ``detect-ir`` network with the rule that suits ``samples`` best.

    The rule is that of :func:`calibrate`: of the thresholds and confidences that leave at least 90 % of the target-free
    images without detection, the pair with the best IoU. reading : of the images; its scale, or that of the weights
    where it has none, is that of the new ones. max_area : most pixels of a target; None keeps that of the
    weights, 0 is any number. reach : as of :class:`rsunfold.rule.Rule`; None takes the best of REACHES,
    0 is none. device : None is the CPU. say : is told of the images what :func:`rsunfold.io.samples.notes_on` lists.

    Returns the new record, and what a card says of it in lines of Markdown. Raises InputError unless some image holds
    a target, UsageError for weights of another task, and what :func:`rsunfold.weights.load` raises.
    """
    Asked(reach=reach)
    device = device or torch.device("cpu")
    net, record, sha = load(weights)
    if get_model(record.model).task != "detect-ir":
        raise UsageError(f"the weights {weights} are not for detect-ir; only its scores have a threshold.")
    limit = (record.max_area if max_area is None else max_area) or None

    reading = reading.for_weights(record)
    images = (read_sample(sample, reading) for sample in tracked(samples, "scoring"))
    with torch.inference_mode():
        results = list(results_of(net, images, device))
    for note in reading.remarks(record) + notes_on((image.sample.image, image.notes) for image, _ in results):
        say(note)
    if not any(image.targets.any() for image, _ in results):
        raise InputError(
            f"none of the {len(samples)} images contains a target, so no threshold can be chosen; 'rsunfold evaluate "
            f"detect-ir --data DIR --weights {weights} --pfa 1e-5' names one that keeps a share of false alarms; "
            "give it the same --band, --scale and --var."
        )
    found = calibrate(results, limit, reaches=REACHES if reach is None else [reach or None])
    figures = figures_of(results, found)
    changed = dataclasses.replace(
        record,
        name=output.stem,
        **found.record,
        **reading.recorded,
        figures=kept_of(figures),
        origin=f"{record.origin}; recalibrated, before {sha[:12]}",
    )
    save(output, net, changed, overwrite=overwrite)
    areas = np.concatenate([Components.of(image.targets).area for image, _ in results])
    larger = int((areas > limit).sum()) if limit else 0
    told = [
        f"{larger} of the {areas.size} targets have more than {limit} pixels and cannot be found; see --max-area",
        "",
    ]
    return changed, [
        usage_of(found, trained=False),
        *([] if reading.words == GRAY else [f"images read as {reading.words}"]),
        "",
        *(told if larger else []),
        *table_of(figures, found, trained=False),
    ]
