"""explain detect-ir: what each stage of an unrolled network does to one image, in numbers and as a picture."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsunfold.cube import Aside, Window
from rsunfold.errors import UsageError
from rsunfold.infer.device import FREE_GPU, device_failures
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.gray import GrayImage, Reading
from rsunfold.infer.results import environment, head_of, reserved, results_of
from rsunfold.io.jsonfile import write_json
from rsunfold.io.work import move_results, work_folder
from rsunfold.report import stages_picture

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rsunfold.unfold.unrolled import Unrolled

LARGEST = 512
"""Rows and columns of the largest image: the derivatives of an operator keep all of its features in memory."""
MOST_PREDICTED = 4
"""Numbers per image up to which what a part of a stage gives are step sizes that it predicts."""

DEFINITIONS = {
    "window": "rows and columns of the image that were computed, as an image of their own: what lies beyond is taken "
    "for 0, and channel weights are those of the window, so that values differ from --stages of the whole image",
    "step_sizes": "learned numbers of the stage, or what a small network of the stage predicts for this image",
    "fixed_point_residual": "|v^k - v^(k-1)| / |v^(k-1)|, Euclidean norms over the image; for k = 1 D^0 is the image, "
    "and there is none of the variables that start at 0 or are not there before: null",
    "data_residual": "|D^0 - B^k - T^k - N^k| / |D^0|, D^0 the image; T is a logit, and of any size",
    "local_gain": "largest singular value of the operator's Jacobian at this image, by power iteration (seed 0) until "
    "it changes by less than a thousandth or 100 iterations; approached from below, and a lower bound of the "
    "operator's Lipschitz constant",
    "gain_bound": "upper bound of the local gain: the product of the norms of the operator's layers. Of a convolution, "
    "batch normalisation folded in, a bound of the largest norm of its frequency responses; of ReLU 1, LeakyReLU its "
    "larger slope, sigmoid 1/4. Channel weights count with their values at this image and with what a change of them "
    "does; without them the bound holds at every image. null where a layer's norm is not known",
}


@dataclass(frozen=True)
class Options:
    """How files are read and written; see ``rsunfold explain detect-ir --help``. window : (row, column, size)."""

    band: int | None = None
    scale: tuple[float, float] | None = None
    var: str | None = None
    window: tuple[int, int, int] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.window is not None and not (min(self.window[:2]) >= 0 and 1 <= self.window[2] <= LARGEST):
            raise UsageError(
                f"--window takes a row and a column from 0 and a size from 1 to {LARGEST}, not "
                f"{','.join(map(str, self.window))}."
            )
        _ = self.reading

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.band, self.scale, self.var)

    def part(self, image: GrayImage) -> Window:
        """The window of the image that is explained; UsageError when it is too large or not in the image."""
        if self.window is None:
            if max(image.rows, image.cols) > LARGEST:
                raise UsageError(
                    f"{image.path} has {image.rows} x {image.cols} pixels, but at most {LARGEST} x {LARGEST} can be "
                    "explained; choose a part with --window ROW,COL,SIZE."
                )
            return image.whole
        row, col, size = self.window
        if row + size > image.rows or col + size > image.cols:
            raise UsageError(
                f"--window {row},{col},{size} is not inside {image.path}, which has {image.rows} x {image.cols} pixels."
            )
        return Window(row, col, size, size)


class Explainer:
    """A network with its weights as trained, nothing of it rearranged, on a device.

    Raises UsageError for a classical method, and what :class:`Detector` raises.
    """

    def __init__(self, model: str | None = None, *, weights: str | None = None, device: str = "auto") -> None:
        from rsunfold.weights import chosen, load

        self.detector = Detector(model, weights=weights, device=device)
        self.detector.require_stages()
        self.device: torch.device = self.detector.device
        net = load(chosen(self.detector.spec, weights))[0]
        with device_failures(FREE_GPU):
            self.net: Unrolled = net.requires_grad_(False).to(self.device)

    def explain(self, gray: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(numbers, variables) of each stage for an image float32 (H, W): see ``DEFINITIONS``; (H, W) by letter."""
        import torch

        from rsunfold.unfold.unrolled import Record

        x = torch.from_numpy(gray)[None, None].to(self.device)
        record, calls = Record(), list[dict[str, _Call]]()
        with torch.no_grad():
            hooks = [_listen(stage, calls) for stage in self.net.stages]
            try:
                self.net(x, keep=record, reconstruct=True)
            finally:
                for handle in (h for stage in hooks for h in stage):
                    handle.remove()
            learned = {id(p) for p in self.net.step_sizes()}
            numbers = []
            for k, (stage, found) in enumerate(zip(self.net.stages, calls, strict=True)):
                numbers.append(
                    {
                        "stage": k + 1,
                        "step_sizes": {
                            n: float(p) for n, p in stage.named_parameters(recurse=False) if id(p) in learned
                        }
                        | dict(_predicted(found)),
                        **_residuals(record.stages, k, x),
                        "operators": {name: _gains(c) for name, c in found.items() if c.on_image},
                    }
                )
        variables = [{n: v[0, 0].float().cpu().numpy() for n, v in stage.items()} for stage in record.stages]
        return numbers, variables


@dataclass(frozen=True)
class _Call:
    """A part of a stage and how it was called."""

    module: nn.Module
    args: tuple[Any, ...]
    output: Any

    @property
    def on_image(self) -> bool:
        """Whether it is an operator: it takes an image, and gives nothing or an image of that size."""
        first = self.args[0]
        if not (hasattr(first, "ndim") and first.ndim == 4):
            return False
        return not hasattr(self.output, "shape") or self.output.shape[2:] == first.shape[2:]


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules of a stage that are called, by name: lists of modules are not."""
    from torch.nn import ModuleDict, ModuleList

    for name, child in module.named_children():
        if isinstance(child, ModuleList | ModuleDict):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _listen(stage: nn.Module, calls: list[dict[str, _Call]]) -> list[Any]:
    """Note the first call of each part of the stage; the handles by which to end it."""
    found: dict[str, _Call] = {}
    calls.append(found)

    def note(name: str) -> Any:
        return lambda module, args, output: found.setdefault(name, _Call(module, args, output)) and None

    return [part.register_forward_hook(note(name)) for name, part in _parts(stage)]


def _predicted(calls: dict[str, _Call]) -> Iterator[tuple[str, float]]:
    """Step sizes that parts of the stage predicted for the image."""
    for name, call in calls.items():
        if not call.on_image and hasattr(call.output, "numel") and call.output.numel() <= MOST_PREDICTED:
            values = call.output.flatten().tolist()
            yield from ((name if len(values) == 1 else f"{name}[{i}]", v) for i, v in enumerate(values))


def _residuals(stages: list[dict[str, Tensor]], k: int, image: Tensor) -> dict[str, Any]:
    """``fixed_point_residual`` by letter and ``data_residual`` of stage k from 0."""
    now, before = stages[k], stages[k - 1] if k else {"D": image}

    def change(letter: str) -> float | None:
        size = float(before[letter].norm()) if letter in before else 0.0
        return float((now[letter] - before[letter]).norm()) / size if size else None

    left, size = image, float(image.norm())
    for letter in "BTN":
        left = left - now.get(letter, 0)
    return {
        "fixed_point_residual": {letter: change(letter) for letter in now},
        "data_residual": float(left.norm()) / size if size else None,
    }


def _gains(call: _Call) -> dict[str, Any]:
    """Local gain and bound of an operator."""
    from torch import Tensor

    from rsunfold.unfold.gain import UnknownNormError, gain_bound, local_gain

    x, *others = call.args
    if not isinstance(call.output, Tensor):
        return {"local_gain": None, "gain_bound": None, "reason": "it gives more than one image"}
    gain = local_gain(lambda v: call.module(v, *others), x)
    about = {"local_gain": gain.value, "iterations": gain.iterations, "converged": gain.converged}
    try:
        return {**about, "gain_bound": gain_bound(call.module, x)}
    except UnknownNormError as error:
        return {**about, "gain_bound": None, "reason": str(error)}


def output_names(stem: str) -> dict[str, str]:
    """Names of the picture and of the JSON file, the summary."""
    return {"picture": f"{stem}_explain.png", "summary": f"{stem}_explain.json"}


def explain_file(
    source: str, stem: str, folder: str | os.PathLike[str], explainer: Explainer, options: Options
) -> dict[str, Any]:
    """Write ``STEM_explain.png`` and ``STEM_explain.json`` to ``folder``, both or none; what the latter holds.

    Raises OutputError when one exists and ``options.overwrite`` is False, UsageError for an image that is too large.
    """
    started = time.monotonic()
    folder, stem = results_of(folder, stem)
    names = output_names(stem)
    record = explainer.detector.record
    with (
        reserved(folder, names, explainer.detector.spec, source, overwrite=options.overwrite),
        environment(),
        GrayImage(source, options.reading.for_weights(record)) as image,
        work_folder(folder) as work,
    ):
        part = options.part(image)
        numbers, variables = explainer.explain(image.read(part)[0])
        report = {
            **head_of(image),
            "window": {"row": part.row, "col": part.col, "rows": part.height, "cols": part.width},
            "band": image.band_used,
            "scale": image.scale.as_dict(),
            **explainer.detector.describe(),
            "definitions": DEFINITIONS,
            "stages": numbers,
            "seconds": 0.0,
            "notes": [*map(Aside, image.reading.remarks(record)), *image.notes],
        }
        title = f"{Path(image.path).name}: stages of {explainer.detector.spec.name}"
        if (part.height, part.width) != (image.rows, image.cols):
            title += f" on rows {part.row} to {part.row + part.height - 1}, columns {part.col} to "
            title += f"{part.col + part.width - 1} alone"
        stages_picture(work / names["picture"], variables, notes=[_note(stage) for stage in numbers], title=title)
        report["seconds"] = round(time.monotonic() - started, 3)
        write_json(work / names["summary"], report)
        move_results(work, folder, options.overwrite)
    return report


def _note(stage: dict[str, Any]) -> str:
    """What stands beside the images of a stage."""

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    lines = [f"{name} = {value:.4g}" for name, value in stage["step_sizes"].items()]
    lines += ["", "change from the stage before:"]
    lines += [f"  {letter} {shown(value)}" for letter, value in stage["fixed_point_residual"].items()]
    lines += ["", f"left of the image: {shown(stage['data_residual'])}"]
    lines += ["", "gain here, bound:"]
    for name, gain in stage["operators"].items():
        lines.append(f"  {name} {shown(gain['local_gain'])}, {shown(gain['gain_bound'])}")
    return "\n".join(lines)
