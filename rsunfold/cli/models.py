"""``rsunfold models``."""

from __future__ import annotations

from typing import Annotated

import typer

from rsunfold.cli.options import Quiet, Verbose, handled, show
from rsunfold.errors import RsunfoldError, UsageError


@handled
def models(
    task: Annotated[str | None, typer.Option(help="List only the models for this task, such as detect-ir.")] = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """List every network and classical method with its paper, parameters, requirements and weights."""
    from rsunfold.registry import all_models
    from rsunfold.report import table
    from rsunfold.weights import read_record

    known = all_models()
    tasks = sorted({m.task for m in known})
    if task is not None and task not in tasks:
        raise UsageError(f"unknown task {task!r}; choose from {', '.join(tasks)}.")
    rows = []
    for spec in known:
        if task not in (None, spec.task):
            continue
        parameters, weights = None, "needs none"
        if spec.kind == "network":
            arch = {} if spec.per_scene else next(iter(spec.sizes.values()), {})
            weights = "learned in each scene" if spec.per_scene else spec.weights or "none shipped"
            if spec.weights:
                try:
                    arch = read_record(spec.weights).arch
                except RsunfoldError:  # one damaged file must not hide all other models
                    weights = f"{spec.weights} (cannot be read)"
            # Of some networks the number depends on the scene.
            parameters = getattr(spec.build(**arch), "parameters_count", None)
        rows.append(
            {
                "model": spec.name,
                "task": spec.task,
                "kind": spec.kind,
                "parameters": parameters,
                "weights": weights,
                "needs": spec.needs,
                "paper": spec.paper,
            }
        )
    show(table(rows))
