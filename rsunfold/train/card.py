"""The model card that accompanies a weight file."""

from __future__ import annotations

import dataclasses
import json

from rsunfold.train.recipe import Recipe
from rsunfold.train.task import Verdict
from rsunfold.weights import WeightRecord


def card(record: WeightRecord, sha: str, recipe: Recipe, verdict: Verdict, seconds: float) -> str:
    """The model card, in Markdown: the part common to all weights, and what the task's ``verdict`` adds."""
    bands = "any number of bands" if record.bands is None else f"{record.bands} band{'s' * (record.bands > 1)}"
    begun = " --from " in record.origin
    before = "; the weights that it began with: see their card, perhaps also on images that are held out here" * begun
    lines = [
        f"# {record.name}",
        "",
        f"Model `{record.model}`, architecture `{json.dumps(record.arch, sort_keys=True)}`, "
        f"licence: {record.licence or 'not stated'}.",
        "",
        f"- file: `{record.name}.safetensors`, sha256 `{sha}`",
        f"- origin: `{record.origin}`, {seconds / 3600:.2f} hours of training",
        f"- trained on: {record.trained_on}{before}",
        f"- input: {bands}, {record.scaling}",
        *(f"- {entry}" for entry in verdict.usage),
        "",
        *verdict.results,
        "",
        "Recipe:",
        "",
        "```json",
        json.dumps(dataclasses.asdict(recipe), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)
