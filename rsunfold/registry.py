"""The one registry of models: published networks and classical methods alike.

A model declares itself once, with :func:`register`, in its own file under ``rsunfold/models`` or
``rsunfold/classical``. The command line, ``train``, ``evaluate``, the tests and the documentation all walk this
registry.
"""

from __future__ import annotations

import importlib
import inspect
import numbers
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rsunfold.errors import UsageError, unknown

Task = Literal["denoise-hsi", "detect-ir", "detect-anomaly", "select-features"]
Kind = Literal["network", "classical"]
C = TypeVar("C", bound=type)
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((numbers.Integral,), "a whole number"),
    "float": ((numbers.Real,), "a number"),
    "bool": ((bool,), "on or off"),
}
"""What options of a model may be, by the annotation of the keyword argument."""


@dataclass(frozen=True)
class ModelSpec:
    """What the rest of rsunfold needs to know of a model without building it.

    name : as typed after ``--model``. factory : the class; its keyword arguments are the architecture.
    bands : (fewest, most) input bands, ``None`` for no upper limit. needs : one sentence on the input.
    weights : name of the default weight record (networks only), or None when none is shipped.
    scaling : what published weights of the model expect of their input, where that is not what ours do.
    per_scene : the network learns from the very scene that it is given, without truth, and has no weights.
    apple : a network that runs on Apple's GPUs, which have neither float64 nor eigenvalues.
    threshold : score above which a pixel counts as target unless the weight's record says otherwise.
    sizes : named architectures, keyword arguments of the factory (for tests, recipes and benchmarks).
    least : what whole numbers of the architecture must be at least, where that is not 1; of networks that are not
    ``per_scene``, since other models check their options themselves.
    """

    name: str
    task: Task
    kind: Kind
    factory: type[Any]
    paper: str
    url: str = ""
    bands: tuple[int, int | None] = (1, 1)
    needs: str = ""
    weights: str | None = None
    scaling: str = ""
    per_scene: bool = False
    apple: bool = True
    threshold: float = 0.5
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    least: dict[str, int] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """Names of the keyword arguments that :meth:`build` takes."""
        return list(inspect.signature(self.factory).parameters)

    def build(self, **arch: Any) -> Any:
        """An instance; raises TypeError for keyword arguments that the architecture does not know, UsageError for a
        value of another kind than its annotation names or for a whole number below ``least``."""
        for name, value in arch.items():
            parameter = inspect.signature(self.factory).parameters.get(name)
            kinds = KINDS.get(str(parameter.annotation).removesuffix(" | None")) if parameter else None
            if kinds is None or (value is None and "None" in str(parameter.annotation)):  # type: ignore[union-attr]
                continue
            types, words = kinds
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise UsageError(f"{name} of {self.name} must be {words}, not {value!r}.")
            least = self.least.get(name, 1)
            if self.kind == "network" and not self.per_scene and numbers.Integral in types and arch[name] < least:
                raise UsageError(f"{name} of {self.name} must be at least {least}, not {value}.")
        return self.factory(**arch)


_MODELS: dict[str, ModelSpec] = {}


def register(name: str, *, task: Task, kind: Kind, paper: str, **rest: Any) -> Callable[[C], C]:
    """Class decorator that enters a model under ``name``; see :class:`ModelSpec` for the fields."""

    def enter(cls: C) -> C:
        if name in _MODELS and _MODELS[name].factory.__qualname__ != cls.__qualname__:
            raise ValueError(f"two models are called {name!r}")
        _MODELS[name] = ModelSpec(name=name, task=task, kind=kind, paper=paper, factory=cls, **rest)
        return cls

    return enter


def _discover(package: str) -> None:
    module = importlib.import_module(package)
    for info in pkgutil.iter_modules(module.__path__):
        importlib.import_module(f"{package}.{info.name}")


def all_models(task: Task | None = None, kind: Kind | None = None) -> list[ModelSpec]:
    """Every registered model, networks first, then by name; imports torch."""
    if kind != "network":
        _discover("rsunfold.classical")
    if kind != "classical":
        _discover("rsunfold.models")
    found = [m for m in _MODELS.values() if task in (None, m.task) and kind in (None, m.kind)]
    return sorted(found, key=lambda m: (m.kind != "network", m.name))


def get_model(name: str, task: Task | None = None) -> ModelSpec:
    """The model called ``name``; raises UsageError that names the nearest ones."""
    _discover("rsunfold.classical")  # cheap: classical methods need no torch
    if name not in _MODELS:
        _discover("rsunfold.models")
    spec = _MODELS.get(name)
    if spec is not None and task in (None, spec.task):
        return spec
    raise unknown("model", name, (m.name for m in all_models(task)), f" for {task}" if task else "")


def model_names(text: str) -> list[str]:
    """The models of ``--model a,b``; raises UsageError for one that is named twice."""
    names = [name.strip() for name in text.split(",")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--model names {twice} twice.")
    return names
