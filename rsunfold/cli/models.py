"""``rsunfold models``."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import show, show_facts
from rsunfold.cli.options import Quiet, Verbose
from rsunfold.errors import RsunfoldError, UsageError

if TYPE_CHECKING:
    from rsunfold.registry import ModelSpec


@handled
def models(
    name: Annotated[
        str | None, typer.Argument(help="Describe this model: paper, requirements, options and equations.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="List only the models for this task, such as detect-ir.")] = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """List every network and classical method with its parameters, weights and requirements, or describe one."""
    from rsunfold.registry import all_models, get_model
    from rsunfold.report import table

    if name is not None:
        if task is not None:
            raise UsageError("use either the name of a model or --task.")
        _describe(get_model(name.split(":")[0]))
        return
    known = all_models()
    tasks = sorted({m.task for m in known})
    if task is not None and task not in tasks:
        raise UsageError(f"unknown task {task!r}; choose from {', '.join(tasks)}.")
    for each in tasks if task is None else [task]:
        show(table([_line(spec) for spec in known if spec.task == each], title=f"rsunfold {each}"))
    show("rsunfold models NAME describes a model, with its paper and options.")


def _line(spec: ModelSpec) -> dict[str, Any]:
    from rsunfold.weights import of_some, read_record

    parameters, weights = None, "none needed"
    if spec.kind == "network":
        arch = {} if spec.per_scene else next(iter(spec.sizes.values()), {})
        weights = "learned in each scene" if spec.per_scene else spec.weights or "none shipped"
        if special := of_some(spec):
            weights = f"{', '.join(special)}, not for all images"
        if spec.weights:
            try:
                arch = read_record(spec.weights).arch
            except RsunfoldError:  # one damaged file must not hide all other models
                weights = f"{spec.weights} (cannot be read)"
        # Of some networks the number depends on the scene.
        parameters = getattr(spec.build(**arch), "parameters_count", None)
    return {
        "model": spec.name,
        "kind": spec.kind,
        "parameters": parameters,
        "weights": weights,
        "needs": spec.needs,
    }


def _describe(spec: ModelSpec) -> None:
    if spec.weighted:
        options = "none: the architecture is stored with the weights"
    else:
        given = ":".join(f"{k}={_written(v)}" for k, v in spec.options.items())
        options = f"--model {spec.name}:{given} (the defaults)" if given else "none"
    facts = {**_line(spec), "task": spec.task, "paper": spec.paper, "url": spec.url or None, "options": options}
    show_facts((key, str(value)) for key, value in facts.items() if value is not None)
    text = re.sub(r"\s*\bRaises UsageError.*\Z", "", inspect.getdoc(spec.factory) or "", flags=re.DOTALL)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", text).replace("``", "")
    for line in ("", *text.splitlines()):
        show(line)


def _written(value: Any) -> str:
    """A default as it is typed after ``--model``."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
