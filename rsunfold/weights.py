"""Weights as records: find, verify, load, save, and import published checkpoints.

A weight file is a safetensors file whose header holds its record as JSON under the key ``rsunfold``. The folder of
shipped weights has a ``registry.toml`` that gives, per name, the file and its sha256; nothing is loaded whose sum
differs. Nothing here ever executes a pickle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsunfold.errors import InputError, UsageError, WeightsError, unknown
from rsunfold.io.atomic import atomic_path
from rsunfold.quiet import silenced
from rsunfold.registry import DEFAULTS, ModelSpec, Task, all_models, as_registered, get_model
from rsunfold.rule import SETTINGS, Rule
from rsunfold.torchstate import drawing, usual_torch

if TYPE_CHECKING:
    from torch import Tensor

    from rsunfold.unfold.unrolled import Unrolled

COST_SIDE = 256
"""Rows and columns of the image whose arithmetic is told, as papers do."""
LARGEST = sys.float_info.max
"""Below it a whole number is one of floating point, too."""
GRAY = "gray in [0, 1]: 8 bit / 255, else percentiles"
OF_SCORES = (*SETTINGS, "temperature", "scale")
"""What the record of a network says that gives scores of targets."""


@dataclass(frozen=True)
class WeightRecord:
    """What a weight is.

    model, arch : registry name and keyword arguments that rebuild the network. bands (None: any number), scaling :
    what the network sees. scale : the physical values that it and its rule take as gray 0 and 1, of infrared images
    that all were read so; None where each decides itself. published : its authors trained it, where the model has a
    ``ModelSpec.scaling`` on input prepared as that says, not as ours is. origin : where the weight comes from, with the
    command or the published file.

    Of networks that detect, too: threshold : score above which a pixel is a target, and confidence : score whose log
    odds the mean of a target's must exceed (none when not above threshold), both chosen on validation. max_area : most
    pixels of a target, from the training targets; None for any number. reach : pixels around a target within which
    other candidates count, see :func:`rsunfold.rule.sure`; None for none. temperature : score =
    sigmoid(logit / temperature).
    """

    name: str
    model: str
    arch: dict[str, Any]
    threshold: float = 0.5
    confidence: float = 0.0
    max_area: int | None = None
    reach: int | None = None
    temperature: float = 1.0
    bands: int | None = 1
    scaling: str = GRAY
    scale: tuple[float, float] | None = None
    published: bool = False
    trained_on: str = ""
    licence: str = ""
    origin: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def number(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool)

        def count(value: Any) -> bool:
            return value is None or (type(value) is int and value > 0)

        def ends(value: Any) -> bool:
            if value is None:
                return True
            two = isinstance(value, tuple) and len(value) == 2
            return two and all(map(number, value)) and max(map(abs, value)) < LARGEST and value[0] != value[1]

        if isinstance(self.scale, list):  # of JSON
            object.__setattr__(self, "scale", tuple(self.scale))
        texts = ("name", "model", "scaling", "trained_on", "licence", "origin")
        rules = {name: ("text", isinstance(getattr(self, name), str)) for name in texts}
        rules |= {name: ("a table", isinstance(getattr(self, name), dict)) for name in ("arch", "figures")}
        whole = ("bands", "max_area", "reach")
        rules |= {name: ("a whole number above 0", count(getattr(self, name))) for name in whole}
        rules["threshold"] = ("between 0 and 1", number(self.threshold) and 0 < self.threshold < 1)
        rules["confidence"] = ("0 or more and below 1", number(self.confidence) and 0 <= self.confidence < 1)
        rules["scale"] = ("two numbers that differ", ends(self.scale))
        rules["temperature"] = ("above 0", number(self.temperature) and 0 < self.temperature < math.inf)
        rules["published"] = ("true or false", isinstance(self.published, bool))
        for name, (what, holds) in rules.items():
            if not holds:
                raise WeightsError(
                    f"the record of {self.name} has {name} {getattr(self, name)!r}, but it must be {what}."
                )

    @property
    def rule(self) -> Rule:
        """What is a target among scores of the network."""
        return Rule(**{name: getattr(self, name) for name in SETTINGS})


def weights_folder() -> Path:
    """The folder of the shipped weights: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def shipped() -> dict[str, dict[str, str]]:
    """Entries of the registry by name: ``file`` and ``sha256``."""
    path = weights_folder() / "registry.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"the installation is damaged: {path} is missing; reinstall rsunfold.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"the installation is damaged: {path}: {error}; reinstall rsunfold.") from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def find(name: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """(file, expected sha256 or None) of a shipped name or of a path to a ``.safetensors`` file.

    Names are those of :func:`shipped` in any case. Raises UsageError for an unknown name, and for that of a model for
    which no weights are shipped, WeightsError for a missing file.
    """
    name = os.fspath(name)
    if name.lower().endswith(".safetensors") or os.sep in name or (os.altsep or os.sep) in name:
        path = Path(name)
        if path.is_dir():
            raise WeightsError(f"the weights {name} are a folder; give the file.")
        if not path.is_file():
            raise WeightsError(f"the weights file {name} does not exist.")
        return path, None
    known = shipped()
    entry = known.get(as_registered(name))
    if entry is None:
        try:
            spec = get_model(name)
        except UsageError:
            where = ", which are neither shipped nor a .safetensors file"
            raise unknown("weights", name, sorted(known), where) from None
        _refuse_weightless(spec)
        raise UsageError(_none_shipped(spec))
    path = weights_folder() / entry["file"]
    if not path.is_file():
        raise WeightsError(f"the weights {name!r} should be in {path}, which is missing; reinstall rsunfold.")
    return path, entry["sha256"]


def of_some(spec: ModelSpec) -> list[str]:
    """Names of the shipped weights, as far as they can be read, of a model that has none for all images."""
    found = []
    for name in shipped() if spec.weights is None else ():
        with suppress(WeightsError):
            found += [name] if read_record(name).model == spec.name else []
    return found


def _none_shipped(spec: ModelSpec) -> str:
    if special := of_some(spec):
        return (
            f"no weights of {spec.name} for all images are shipped, but {' and '.join(special)} (see weights info); "
            "give such a name, or a .safetensors file, with --weights, or train some."
        )
    return f"no weights are shipped for {spec.name}; give a .safetensors file with --weights, or train some."


def _refuse_weightless(spec: ModelSpec) -> None:
    """Raise UsageError for a model that has no weights."""
    if spec.kind != "network":
        raise UsageError(f"{spec.name} is a classical method and has no weights.")
    if spec.per_scene:
        raise UsageError(f"{spec.name} learns in each scene and takes no weights.")


def model_for(task: Task, model: str | None, weights: str | None) -> str:
    """The ``model`` asked for; where none is, that of ``weights``, or the default of ``task`` without these.

    Raises WeightsError for weights of another task, and what :func:`read_record` raises.
    """
    if model is not None or weights is None:
        return DEFAULTS[task] if model is None else as_registered(model)
    named = read_record(weights).model
    try:
        of = get_model(named).task
    except UsageError as error:
        raise WeightsError(f"the weights {weights} were made for another version of rsunfold: {error}") from None
    if of != task:
        raise WeightsError(f"the weights {weights} belong to the model {named!r}, which is of {of}, not of {task}.")
    return named


def compared(task: Task, models: Sequence[str], weights: Sequence[str]) -> list[tuple[str, str | None]]:
    """(model, its weights, None for its own) of a comparison: each of ``models``, with each of the ``weights`` that are
    made for it; without ``models``, those of the weights, or the default of ``task``. Weights that are named twice
    count once, shipped ones by the name that they are registered with.

    Raises UsageError for weights of a model that is not among ``models`` or of one name, and what :func:`model_for`
    raises.
    """
    of = {name: model_for(task, None, name) for name in _each_once(weights)}
    named = models or list(dict.fromkeys(of.values())) or [DEFAULTS[task]]
    for name, model in of.items():
        if model not in named:
            raise UsageError(f"the weights {name} belong to {model}; add it to --model, or leave --model out.")
    pairs: list[tuple[str, str | None]] = []
    for model in named:
        mine = [name for name, its in of.items() if its == model]
        pairs += [(model, name) for name in mine] or [(model, None)]
    labels = [labelled(*pair) for pair in pairs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UsageError(f"two weights would both be called {twice}; give one of the files another name.")
    return pairs


def _each_once(weights: Sequence[str]) -> list[str]:
    """The first name of each file, however the others are written."""
    found: dict[Path, str] = {}
    for name in weights:
        path, registered = find(name)
        found.setdefault(path.resolve(), name if registered is None else as_registered(name))
    return list(found.values())


def labelled(model: str, weights: str | None) -> str:
    """A model as tables call it: with its weights where they are not its own."""
    return model if weights is None else f"{model} ({Path(weights).name.removesuffix('.safetensors')})"


def chosen(spec: ModelSpec, given: str | None) -> str:
    """The weights ``given`` for a model, or those shipped for it; raises WeightsError where there are none."""
    name = spec.weights if given is None else given
    if name is None:
        raise WeightsError(_none_shipped(spec))
    return name


def verify(name: str | os.PathLike[str]) -> str:
    """The SHA-256 of a weight; raises WeightsError when it is not the registered one."""
    path, expected = find(name)
    actual = sha256_of(path)
    if expected not in (None, actual):
        raise WeightsError(
            f"{path} is damaged or was modified: its sha256 is {actual[:12]}..., but the registry has "
            f"{str(expected)[:12]}...; reinstall rsunfold."
        )
    return actual


def read_record(name: str | os.PathLike[str]) -> WeightRecord:
    """The record of a weight, from the file's header alone (no torch)."""
    path, _ = find(name)
    try:
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            text = f.read(length) if length < 2**26 else b""
        if text.startswith(b"{") and path.stat().st_size < 8 + length:
            raise WeightsError(f"{path} is truncated; copy or train it again.")
        content = json.loads(json.loads(text)["__metadata__"]["rsunfold"])
        peak = content.pop("peak", None)  # the rule before: by the best pixel
        if peak is not None and peak > content.get("threshold", 0.5):
            raise WeightsError(
                f"{path} uses the peak rule of an older version of rsunfold, no longer supported; train it again."
            )
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError(
            f"{path} is not an rsunfold weights file; convert published checkpoints with rsunfold weights import."
        ) from None
    fields = {f.name: f for f in dataclasses.fields(WeightRecord)}
    newer = next((name for name in content if name not in fields), None)
    if newer is not None:
        raise WeightsError(f"{path} has the entry {newer!r}, which this version does not know; update rsunfold.")
    missing = [n for n, f in fields.items() if n not in content and f.default is f.default_factory is MISSING]
    if missing:
        raise WeightsError(f"the record of {path} is damaged: it lacks {missing[0]!r}; copy or train it again.")
    try:
        return WeightRecord(**content)
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be used: {error}") from None


def load(name: str | os.PathLike[str], model: str | None = None) -> tuple[Unrolled, WeightRecord, str]:
    """(network in evaluation mode on the CPU, record, sha256) of verified weights.

    ``model`` demands that the weights belong to that model. Raises WeightsError when they do not, do not fit, are
    damaged, or belong to a model that this version does not know; UsageError for an unknown name, and for a network
    that lacks what :meth:`Unrolled.check` looks for.
    """
    import safetensors.torch

    sha = verify(name)
    record = read_record(name)
    if model not in (None, record.model):
        raise WeightsError(
            f"the weights {name} belong to the model {record.model!r}, not to {model!r}; choose that model, or other "
            "weights."
        )
    try:
        spec = get_model(record.model)
        if not spec.weighted:
            raise WeightsError(f"the weights {name} are for the model {record.model!r}, which takes none.")
        tensors = safetensors.torch.load_file(find(name)[0])
        with usual_torch(), drawing(), _no_larger_than(tensors):  # what layers begin with is overwritten
            net: Unrolled = spec.build(**record.arch)
        _refuse_values(tensors, net, f"the weights {name}")
        net.load_state_dict(tensors)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"the weights {name} are damaged or truncated ({error}).") from None
    except UsageError as error:
        raise WeightsError(f"the weights {name} were made for another version of rsunfold: {error}") from None
    except WeightsError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the weights {name} do not fit the model {record.model!r}: {_reason(error)}") from None
    net.check()
    return net.float().eval(), record, sha  # whatever the caller's default is


@contextmanager
def _no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise RuntimeError where a network is built of more or larger parameters than the tensors of its file, before
    they are filled: a wrong number in the record would fill the memory. A layer may be built for another one."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    here, left = threading.get_ident(), 2 * len(tensors)
    largest = max((tensor.numel() for tensor in tensors.values()), default=0)

    def look(module: object, name: str, parameter: Tensor | None) -> None:
        nonlocal left
        if parameter is None or threading.get_ident() != here:
            return
        left -= 1
        if left < 0 or parameter.numel() > largest:
            raise RuntimeError("the record is that of a larger network than the tensors are")

    hook = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        hook.remove()


def _refuse_values(tensors: Mapping[str, Tensor], net: Unrolled, what: str) -> None:
    """Raise WeightsError for tensors that hold whole numbers where ``net`` has others, or what is no number."""
    for name, own in net.state_dict().items():
        given = tensors.get(name)
        if given is None or not own.is_floating_point():
            continue
        if not given.is_floating_point():
            raise WeightsError(f"{what} have whole numbers in the tensor {name}; they cannot be used.")
        if not bool(given.isfinite().all()):
            raise WeightsError(f"{what} have values that are not finite in the tensor {name}; they cannot be used.")


def describe(name: str) -> dict[str, Any]:
    """The record of weights, their sha256, parameters and arithmetic, for a person to read.

    The name of a network without shipped weights gives what is known of it, with the architecture of its paper. Raises
    what :func:`load` raises.
    """
    called = as_registered(name)
    spec = next((m for m in all_models(kind="network") if m.name == called and m.weights is None), None)
    if spec is None or called in shipped():
        net, record, sha = load(name)
        known = dataclasses.asdict(record)
        if get_model(record.model).task != "detect-ir":
            known = {key: value for key, value in known.items() if key not in OF_SCORES}
        return {**known, "sha256": sha, **_cost(net)}
    why = "none: the network learns in each scene" if spec.per_scene else "none shipped; train some with rsunfold train"
    if special := of_some(spec):
        why = f"{', '.join(special)}, not for all images"
    arch = {} if spec.per_scene else spec.sizes.get("paper", {})
    about: dict[str, Any] = {"model": spec.name, "weights": why, "arch": arch, "paper": spec.paper, "url": spec.url}
    return {**about, "needs": spec.needs, **_cost(spec.build(**arch))}


def _cost(net: Any) -> dict[str, str]:
    """Parameters and arithmetic of a network, as far as they are known without an image."""
    side = COST_SIDE
    count = getattr(net, "parameters_count", None)
    macs = net.macs(side, side) if hasattr(net, "macs") else 0
    told = f"{macs / side**2:,.0f} multiply-accumulates per pixel, {2e-9 * macs:.2f} GFLOP at {side}x{side}"
    return {
        "parameters": "depends on the scene" if count is None else f"{count:,}",
        "arithmetic": told if macs else "not counted for this network",
    }


def _reason(error: Exception) -> str:
    """The last line of an error, where torch puts what does not fit."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[-1], 200, placeholder=" ...")


def save(path: Path, net: Unrolled, record: WeightRecord, *, overwrite: bool = False) -> str:
    """Write a weight file whole or not at all; returns its SHA-256."""
    import safetensors.torch

    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    header = {"rsunfold": json.dumps(dataclasses.asdict(record), sort_keys=True)}
    # Not save_file: its own error for a full disk is no OSError, which atomic_path could put in words.
    content = safetensors.torch.save(tensors, metadata=header)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def import_published(
    path: str | os.PathLike[str], model: str, target: str | os.PathLike[str], *, overwrite: bool = False
) -> WeightRecord:
    """Turn a published PyTorch checkpoint into a weight file of ``model``; the architecture follows from its tensors.

    The pickle is read with ``weights_only=True``: tensors and containers, never code. Raises InputError for a file
    that is no such checkpoint, WeightsError when its tensors are not those of the model.
    """
    import torch

    path, target = Path(path), Path(target)
    spec = get_model(model)
    _refuse_weightless(spec)
    if path.is_dir():
        raise InputError(f"the checkpoint {path} is a folder; give the file.")
    if not path.is_file():
        raise InputError(f"the checkpoint {path} does not exist.")
    if path.suffix.lower() == ".safetensors":
        raise InputError(f"{path} is no PyTorch checkpoint; weights of rsunfold are used with --weights.")
    try:
        with silenced(Warning):  # about the unpickler, of files that are no checkpoints
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # bytes that are no checkpoint make torch.load raise almost anything, with unsafe advice
        raise InputError(
            f"{path} is not a PyTorch checkpoint of plain tensors, or is truncated; other objects are never unpickled."
        ) from None
    for key in ("state_dict", "model", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    table = state.items() if isinstance(state, dict) else [(None, None)]
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in table):
        raise InputError(f"{path} contains no table of named tensors.")
    state = {k.removeprefix("module."): v for k, v in state.items()}
    try:
        net: Unrolled = spec.factory.from_published(state)
    except ValueError as error:
        why = _reason(error).rstrip(".")
        raise WeightsError(f"{path} does not contain published weights of {spec.name} ({why}).") from None
    _refuse_values(net.state_dict(), net, f"the tensors of {path}")
    fewest, most = spec.bands
    bands = fewest if fewest == most else None
    record = WeightRecord(
        name=target.stem,
        model=spec.name,
        arch=net.arch,
        bands=bands,
        scaling=spec.scaling or (GRAY if bands == 1 else spec.needs),
        published=True,
        trained_on="see the publication",
        licence="its authors'",
        origin=f"imported from {path.name}, sha256 {sha256_of(path)}",
    )
    save(target, net, record, overwrite=overwrite)
    return record
