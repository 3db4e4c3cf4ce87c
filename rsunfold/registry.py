"""The one registry of models: published networks and classical methods alike.

A model declares itself once, with :func:`register`, in its own file under ``rsunfold/models`` or
``rsunfold/classical``. The command line, ``train``, ``evaluate``, the tests and the documentation all walk this
registry.
"""

from __future__ import annotations

import importlib
import inspect
import math
import numbers
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rsunfold.errors import UsageError, unknown

Task = Literal["denoise-hsi", "detect-ir", "detect-anomaly", "select-features"]
Kind = Literal["network", "classical"]
DEFAULTS: dict[Task, str] = {
    "denoise-hsi": "star-net",
    "detect-ir": "l-rpcanet",
    "detect-anomaly": "lrr-net-plus",
    "select-features": "spca-net",
}
"""The model of each task unless the user names one."""
C = TypeVar("C", bound=type)
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((numbers.Integral,), "a whole number"),
    "float": ((numbers.Real,), "a number"),
    "bool": ((bool,), "true or false"),
    "tuple[int, ...]": ((tuple,), "whole numbers, such as 3+5+7"),
}
"""What options of a model may be, by the annotation of the keyword argument."""
MOST = 10**6
"""Largest whole number of an option: beyond are slips of the keyboard, which would end in obscure errors."""
ALL = "all"
"""What stands for every model that can run, in a comparison."""


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
    nested : of selectors, that the first k features are the same however many are asked for, so that an evaluation
    needs one ranking alone. drawn : of selectors, that the choice is a draw from the seed, of which an evaluation has
    to look at several. ordered : of selectors, that features beside each other are taken for neighbours: bands are
    given by wavelength, where these are known. blind : of selectors, that the choice is the same whatever the data.
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
    nested: bool = True
    drawn: bool = False
    ordered: bool = False
    blind: bool = False

    @property
    def weighted(self) -> bool:
        """Whether it runs with trained weights, which come with its architecture."""
        return self.kind == "network" and not self.per_scene

    @property
    def options(self) -> dict[str, Any]:
        """Default of each keyword argument that :meth:`build` takes."""
        return {name: p.default for name, p in inspect.signature(self.factory).parameters.items()}

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options that a result was made with, for its JSON: those ``given``, and the defaults of the others."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in {**self.options, **given}.items()}

    @property
    def annotations(self) -> dict[str, str]:
        """Annotation of each keyword argument that :meth:`build` takes: one of KINDS, or one with `` | None``."""
        given = {name: p.annotation for name, p in inspect.signature(self.factory).parameters.items()}
        # Those that are texts stay so: names in them may be imported for type checkers alone.
        return {name: a if isinstance(a, str) else inspect.formatannotation(a) for name, a in given.items()}

    def build(self, **arch: Any) -> Any:
        """An instance; raises TypeError for keyword arguments that the architecture does not know, UsageError for a
        value of another kind than its annotation names, for one that is not finite, and for a whole number below
        ``least`` or above MOST."""
        annotations = self.annotations
        for name, value in arch.items():
            annotation = annotations.get(name, "")
            kind = annotation.removesuffix(" | None")
            if kind not in KINDS or (value is None and kind != annotation):
                continue
            types, words = KINDS[kind]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise UsageError(f"{name} of {self.name} must be {words}, not {value!r}.")
            for number in value if isinstance(value, tuple) else (value,):
                if not math.isfinite(number) or (isinstance(number, int) and number > MOST):
                    raise UsageError(f"{name} of {self.name} must be finite and at most {MOST}, not {number}.")
            least = self.least.get(name, 1)
            if self.weighted and numbers.Integral in types and arch[name] < least:
                raise UsageError(f"{name} of {self.name} must be at least {least}, not {value}.")
        return self.factory(**arch)


_MODELS: dict[str, ModelSpec] = {}


def register(name: str, *, task: Task, kind: Kind, paper: str, **rest: Any) -> Callable[[C], C]:
    """Class decorator that enters a model under ``name``; see :class:`ModelSpec` for the fields."""

    def enter(cls: C) -> C:
        known = _MODELS[name].factory if name in _MODELS else cls
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            where = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in (known, cls))
            raise ValueError(f"two models are called {name!r}: {where}")
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


def as_registered(text: str) -> str:
    """The name of a model, which options may follow, as models are registered: papers write LRR-Net+ or RPCANet++."""
    name, *options = text.split(":")
    return ":".join([name.lower().replace("++", "-pp").replace("+", "-plus"), *options])


def get_model(name: str, task: Task | None = None) -> ModelSpec:
    """The model called ``name``, see :func:`as_registered`; raises UsageError that names the nearest ones."""
    _discover("rsunfold.classical")  # cheap: classical methods need no torch
    if as_registered(name) not in _MODELS:
        _discover("rsunfold.models")
    spec = _MODELS.get(as_registered(name))
    if spec is not None and task in (None, spec.task):
        return spec
    raise unknown("model", name, (m.name for m in all_models(task)), f" for {task}" if task else "")


def chosen_model(text: str, task: Task, given: Mapping[str, Any] | None = None) -> tuple[ModelSpec, dict[str, Any]]:
    """The model that ``text`` names, and its options: those of ``given`` that are not None, and those in ``text``.

    Options follow the name after colons, ``crd:inner=7:outer=13``; without a value, as in ``mpcm:dark``, they are True,
    and whole numbers are joined by +, as in ``mpcm:scales=3+5``. Raises UsageError for a model of another task or that
    there is none, for an option that the model does not have or that is given twice, and for options of a network whose
    architecture comes with its weights.
    """
    name, *words = text.split(":")
    spec = get_model(name, task)
    name = spec.name
    options = {k: v for k, v in (given or {}).items() if v is not None}
    for word in words:
        option, value = _option(word)
        if not option:
            raise UsageError(f"an option of {name} must follow each colon, as in NAME:OPTION=VALUE, not {text!r}.")
        if option in options:
            flag = f", as --{option.replace('_', '-')} too" if option in (given or {}) else ""
            raise UsageError(f"{option} of {name} is given twice{flag}.")
        single = isinstance(spec.options.get(option), tuple) and isinstance(value, int) and not isinstance(value, bool)
        options[option] = (value,) if single else value
    if options and spec.weighted:
        raise UsageError(f"{name} takes no options: its architecture is stored with its weights.")
    known = spec.options
    for option in options:
        if option not in known:
            takes = f"its options are {', '.join(known)}" if known else "it takes no options"
            raise UsageError(f"{name} has no option {option!r}; {takes}.")
    return spec, options


def _option(text: str) -> tuple[str, Any]:
    """``rank=5`` as a name and a value: a number, whole numbers, true, false or a word; without ``=`` true."""
    name, equals, value = text.partition("=")
    return name.strip().replace("-", "_"), _value(value.strip()) if equals else True


def _value(text: str) -> Any:
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if "_" in text:  # int takes 1_0 for 10, which nobody means here
        return text
    readers: tuple[Callable[[str], Any], ...] = (int, float, lambda t: tuple(map(int, t.split("+"))))
    for read in readers:
        try:
            return read(text)
        except ValueError:
            continue
    return text


def models_to_compare(
    text: str, task: Task, device: str, given: Collection[str] = (), say: Callable[[str], None] = lambda text: None
) -> dict[str, str]:
    """The models of ``--model a,b`` as they are registered, and the device of each; ``all`` is every one that can run.

    given : networks whose weights are given. With ``all``, networks without weights are left out, which ``say`` is
    told, and classical methods run on the CPU whatever ``device`` is. Raises UsageError for a model that is named
    twice, and for ``all`` beside others or with options.
    """
    names = [as_registered(name.strip()) for name in text.split(",")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--model names {twice} twice.")
    if names != [ALL]:
        if any(name.split(":")[0] == ALL for name in names):
            raise UsageError(f"--model {ALL} stands alone, without other models or options.")
        return dict.fromkeys(names, device)
    known = all_models(task)
    specs = [spec for spec in known if not spec.weighted or spec.weights or spec.name in given]
    absent = [spec.name for spec in known if spec not in specs]
    if absent:
        say(f"skipped, because no weights for all images are shipped: {', '.join(absent)}")
    return {spec.name: "auto" if spec.kind == "classical" else device for spec in specs}
