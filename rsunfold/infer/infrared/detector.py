"""A model made ready to score infrared images: network or classical method behind one call."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.contracts import PieceMethod, TargetMethod
from rsunfold.cube import Window
from rsunfold.errors import DeviceError, UsageError
from rsunfold.infer.device import (
    FREE_GPU,
    Budgeted,
    device_failures,
    free_on,
    held,
    parse_memory,
    pick_device,
    refuse_gpu,
)
from rsunfold.infer.infrared.gray import GrayImage
from rsunfold.infer.tiles import KEPT_PIXEL_BYTES, Plan, plan, strips
from rsunfold.io.work import work_folder
from rsunfold.registry import chosen_model
from rsunfold.rule import Rule

if TYPE_CHECKING:
    import torch

    from rsunfold.unfold.unrolled import TargetNetwork
    from rsunfold.weights import WeightRecord

Gray = NDArray[np.float32]
Compute = Callable[[Window], Gray]

CLASSICAL_BYTES = 128
"""Bytes per pixel that a classical method works with (float64 copies) unless it declares them."""
NETWORK_FIXED, NETWORK_PER_CHANNEL = 130, 8
"""Bytes per pixel of an unrolled network, fixed and per channel of its widest layer: an upper bound of what was
measured (241 for 16 channels, 293 to 304 for 32, peak of a 1024 x 1024 image on the CPU)."""
REUSE = 2
"""Freed tensors of other sizes stay in the process (:func:`rsunfold.allocator.reuse_memory`): up to 1.5 times was
measured over a batch of images of 300 to 1000 pixels a side."""
HALF_TOLERANCE = 0.01


@dataclass
class LazyScores:
    """Scores of one image, computed where they are asked for.

    strips() yields (first row, score float32 (h, cols) in [0, 1]) from top to bottom. stages is filled with readers
    ``(window) -> (h, w)`` by (stage from 1, letter) where stages were asked for. overlap : pixels over which the tiles
    of a method that looks at the whole image are blended; 0 where the tiles give the result of the whole image.
    """

    plan: Plan
    strips: Callable[[], Iterator[tuple[int, Gray]]]
    stages: dict[tuple[int, str], Compute] = field(default_factory=dict)
    overlap: int = 0

    @property
    def computed(self) -> str:
        """How the image was computed, in words."""
        if self.plan.whole or not self.overlap:
            return self.plan.words
        apart = f"each on its own, blended over {self.overlap} pixels, unlike the result of the whole image"
        return f"{self.plan.words}, {apart}"


class Detector(Budgeted):
    """A model, its weights and a device, ready to score images.

    model : registry name of a ``detect-ir`` model; options may follow that of a classical method, as in
    ``top-hat:disk=7``; None takes that of ``weights``, or the default. name : what ``model`` is then. label : the
    same, with the weights where they are not its own.
    weights : a shipped name or a ``.safetensors`` file; None takes the model's own. device : see :func:`pick_device`;
    classical methods run on the CPU. memory : the budget for the whole process, bytes or ``2GB``; None is half of what
    is free. half : float16 on a GPU, checked against float32 on the first image.

    own : what is a target by the weights, or by the method's own threshold. Raises UsageError, WeightsError or
    DeviceError when the model cannot run as asked.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        weights: str | None = None,
        device: str = "auto",
        memory: str | int | None = None,
        half: bool = False,
    ) -> None:
        from rsunfold.weights import chosen, labelled, load, model_for

        model = model_for("detect-ir", model, weights)
        self.name = model
        self.label = labelled(model, weights)
        self.spec, self.options = chosen_model(model, "detect-ir")
        self.memory = parse_memory(memory)
        self.half, self._half_checked = half, False
        self.net: TargetNetwork | None = None
        self.record: WeightRecord | None = None
        self.sha256: str | None = None
        self.own = Rule(self.spec.threshold)
        if self.spec.kind == "classical":
            if weights is not None or half:
                raise UsageError(
                    f"{self.spec.name} is a classical method and takes neither weights nor half precision."
                )
            refuse_gpu(self.spec.name, device)
            self.method: TargetMethod = self.spec.build(**self.options)
            self.device_name = "cpu"
            self.held = held()
            return
        from rsunfold.unfold.fast import for_inference

        name = chosen(self.spec, weights)
        self.device: torch.device = pick_device(device)
        self.device_name = str(self.device)
        if half and self.device.type != "cuda":
            raise UsageError(f"half precision needs a CUDA device, but this run uses {self.device}.")
        net, self.record, self.sha256 = load(name, self.spec.name)
        self.own = self.record.rule
        with device_failures(FREE_GPU):
            self.net = for_inference(net).to(self.device)  # type: ignore[assignment]
        self.held = held()

    def describe(self) -> dict[str, Any]:
        """Model and options, or weights with hash and temperature, and device, for the JSON summary."""
        spec = self.spec
        about: dict[str, Any] = {"task": spec.task, "model": spec.name, "paper": spec.paper, "device": self.device_name}
        if self.net is None:
            about["options"] = spec.with_defaults(self.options)
        if self.record is not None:
            about |= {
                "weights": self.record.name,
                "weights_sha256": self.sha256,
                "arch": self.record.arch,
                "temperature": self.record.temperature,
                "half": self.half,
            }
        return about

    def require_stages(self) -> None:
        """Raise UsageError when the model has no stages."""
        if self.net is None:
            raise UsageError(f"{self.spec.name} is a classical method and has no stages to show.")

    @property
    def margin(self) -> int:
        """Pixels read around each tile."""
        if self.net is None:
            return self.method.radius or 0
        return max(op.radius for op in self.net.operators)

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory per pixel that is computed at a time."""
        if self.net is None:
            return self.method.bytes_per_pixel if isinstance(self.method, PieceMethod) else CLASSICAL_BYTES
        tensors = float(NETWORK_FIXED + NETWORK_PER_CHANNEL * max(op.width for op in self.net.operators))
        return tensors * (REUSE if self.device.type == "cpu" else 1)

    def score(self, gray: Gray) -> Gray:
        """Score float32 (H, W) in [0, 1] of a gray image float32 (H, W) in about [0, 1], in one piece.

        Gray levels beyond [0, 1] can lift the score of a classical method above 1; it is cut there. A classical method
        that declares a ``tile`` works by such tiles nevertheless, see :meth:`scored`.
        """
        if self.net is None:
            whole = Plan(True, max(gray.shape))
            scored = self._classical(gray.shape[0], gray.shape[1], lambda w: gray[w.slices], whole)
            return np.concatenate([strip for _, strip in scored.strips()])
        import torch

        with torch.inference_mode():
            return self._sigmoid(self._logits(torch.from_numpy(np.ascontiguousarray(gray))[None, None]))

    def _logits(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        import torch

        assert self.net is not None
        x = x.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.float16, enabled=self.half):
            T: torch.Tensor = self.net(x, **options)[0]
        if self.half and not self._half_checked:
            exact = self.net(x)[0]
            worst = float(np.abs(self._sigmoid(T) - self._sigmoid(exact)).max())
            if not worst <= HALF_TOLERANCE:
                raise DeviceError(f"half precision changes the score by {worst:.3g} on this image; run without --half.")
            self._half_checked = True
        return T

    def _sigmoid(self, T: torch.Tensor) -> Gray:
        import torch

        assert self.record is not None
        return np.asarray(torch.sigmoid(T[0, 0].float() / self.record.temperature).cpu().numpy())

    @contextmanager
    def scored(self, image: GrayImage, scratch: Path | None = None, *, stages: bool = False) -> Iterator[LazyScores]:
        """Scores of a file within the memory budget; maps that do not fit are kept in the folder ``scratch``, None for
        one below the system's temporary folder.

        Runs in one piece when that fits, else by tiles with the same result. On a GPU whose memory runs out the
        tiles are halved until they fit; raises DeviceError when they do not. A classical method that looks at the
        whole image declares no radius: its tiles are blended where they overlap, and the result is another.
        """
        if stages:
            self.require_stages()
        budget = self.room
        if self.net is not None:
            budget = free_on(self.device, budget)
        made = plan(
            image.rows,
            image.cols,
            bytes_per_pixel=self.bytes_per_pixel,
            margin=self.margin,
            budget=budget,
            kept_bytes=KEPT_PIXEL_BYTES + (0 if self.net is None else max(op.kept_bytes for op in self.net.operators)),
        )
        if self.net is None:
            yield self._classical(image.rows, image.cols, lambda w: image.read(w)[0], made)
            return
        import torch

        with torch.inference_mode(), ExitStack() as stack:
            while True:
                try:
                    scored = self._network(image, made, scratch, stages, stack)
                    break
                except torch.OutOfMemoryError:
                    stack.close()
                    smaller = min(made.tile, max(image.rows, image.cols)) // 2
                    if smaller < 64:
                        raise DeviceError(
                            f"{self.device} has too little free memory, even for tiles of 64 pixels."
                        ) from None
                    torch.cuda.empty_cache()
                    made = Plan(False, smaller)
            yield scored

    def _classical(self, rows: int, cols: int, read: Compute, made: Plan) -> LazyScores:
        overlap = 0
        if isinstance(self.method, PieceMethod):
            tile = min(made.tile, self.method.tile or made.tile)
            overlap = min(self.method.overlap, tile // 2)
            side = max(rows, cols)
            if side > tile:
                count = math.ceil((side - overlap) / (tile - overlap))
                tile = math.ceil((side - overlap) / count) + overlap  # no piece much smaller than the others
            made = Plan(side <= tile, tile)

        def compute(window: Window) -> Gray:
            grown = window.grown(self.margin, rows, cols)
            return np.clip(self.method.score(read(grown)), 0, 1)[window.within(grown)]

        return LazyScores(made, lambda: strips(rows, cols, made.tile, compute, overlap), overlap=overlap)

    def _network(
        self, image: GrayImage, made: Plan, scratch: Path | None, stages: bool, stack: ExitStack
    ) -> LazyScores:
        """The scores by a plan; ``stack`` closes what they are read from."""
        import torch

        from rsunfold.infer.outofcore import Canvas
        from rsunfold.unfold.unrolled import Record, as_is

        assert self.net is not None
        record = Record()
        keep = record if stages else as_is
        if made.whole:
            x = torch.from_numpy(image.read()[0])[None, None]
            T = self._logits(x, keep=keep, reconstruct=stages)
            score = self._sigmoid(T)

            def read_tensor(value: torch.Tensor) -> Compute:
                array = value[0, 0].float().cpu().numpy()
                return lambda w: array[w.slices]

            found = {(k + 1, n): read_tensor(v) for k, s in enumerate(record.stages) for n, v in s.items()}
            return LazyScores(made, lambda: iter([(0, score)]), found)
        if self.half:
            raise UsageError(f"{image.path} needs tiles, which half precision does not support; run without --half.")
        scratch = scratch or stack.enter_context(work_folder(Path(tempfile.gettempdir())))
        canvas = Canvas(image.rows, image.cols, made.tile, scratch / "maps", self.device, len(self.net.stages))
        stack.callback(canvas.close)
        D = canvas.load(lambda w: image.read(w)[0])
        last = len(self.net.stages) - 1

        def store(k: int, letter: str, value: Any) -> Any:
            if k == last and letter == "T" and not stages:
                return value  # the result is computed where the caller reads it
            return keep(k, letter, canvas.keep(k, letter, value))

        T = self.net(D, keep=store, reconstruct=stages)[0]

        def read_map(value: Any) -> Compute:
            return lambda w: value.read(w)[0, 0].float().cpu().numpy()

        found = {(k + 1, n): read_map(v) for k, s in enumerate(record.stages) for n, v in s.items()}
        compute = lambda w: self._sigmoid(T.read(w))  # noqa: E731
        return LazyScores(made, lambda: strips(image.rows, image.cols, made.tile, compute), found)
