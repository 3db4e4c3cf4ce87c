"""Training: a loop that can stop at any step and go on as if it had not."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rsunfold.errors import InputError, OutputError, WeightsError
from rsunfold.infer.device import pick_device, reuse_memory
from rsunfold.io.atomic import atomic_path, write_failure
from rsunfold.io.samples import Sample, find_samples
from rsunfold.registry import get_model
from rsunfold.report import training_picture
from rsunfold.train.calibrate import Calibration, calibrate
from rsunfold.train.card import card, figures_of
from rsunfold.train.data import Crops, carve, read_sample
from rsunfold.train.loss import infrared_loss, soft_iou_loss
from rsunfold.train.recipe import Optim, Recipe
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.unrolled import Record, Unrolled
from rsunfold.weights import WeightRecord, load, save, verify

LOG = ("step", "seconds", "lr", "train_loss", "val_score", "val_iou", "val_silent", "val_sets")


class Trainer:
    """Trains one recipe on the sets below ``data`` and writes everything to ``out``.

    Files in ``out``: ``checkpoint.pt`` (model, averaged model, optimiser, step, best), ``log.csv`` and its picture,
    ``validation.txt`` (the validation images, for ``evaluate --only``), and at each improvement on validation
    NAME.safetensors and its card NAME.md.

    start : weights to begin with, a shipped name or a file, instead of the recipe's random ones; their architecture
    must be the recipe's. A resumed run goes on from its checkpoint whatever it started from.

    Under torchrun each process takes its share of the batch and gradients are averaged (DDP).
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        *,
        device: torch.device,
        start: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.recipe, self.out, self.device, self.say = recipe, out, device, say
        self.begun = "" if start is None else f" --from {Path(start).stem} ({verify(start)[:12]})"
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if recipe.optim.batch % self.world:
            raise InputError(f"a batch of {recipe.optim.batch} cannot be shared by {self.world} processes.")
        reuse_memory()
        net: Any = _network(recipe, start).train()
        self.net: Unrolled = net.to(device, memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        samples = find_samples(data, recipe.data.split)
        contents = [read_sample(s) for s in samples]
        self.data_hash = _hash(samples, contents)
        held = carve(samples, [c[0] for c in contents], recipe.data.validation_of, recipe.data.validation, recipe.seed)
        self.validation = [(s, c) for s, c, h in zip(samples, contents, held, strict=True) if h]
        train = [(s, c) for s, c, h in zip(samples, contents, held, strict=True) if not h]
        if not train or not self.validation:
            raise InputError(f"{data} holds {len(samples)} images: too few to hold out validation images.")
        self.trained_on = f"{len(train)} images of {', '.join(sorted({s.group for s, _ in train}))}"
        self.crops = Crops(
            [s for s, _ in train],
            [c[0] for _, c in train],
            [c[1] for _, c in train],
            recipe.augment,
            recipe.data.weights,
            recipe.seed,
            device,
        )
        self.optimiser = torch.optim.AdamW(_groups(self.net, recipe.optim), lr=recipe.optim.lr)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.losses: list[float] = []

    # ------------------------------------------------------------------ one run

    def run(self, *, minutes: float = math.inf, resume: bool = False) -> bool:
        """Train until the recipe's last step or for ``minutes``; True when the recipe is complete.

        Raises OutputError when ``out`` holds a run already and ``resume`` is off, or cannot be written; InputError when
        the run there was made by another recipe or with other images, or the loss is no longer finite.
        """
        self._open(resume)
        if self.world == 1:
            return self._run(self.net, minutes)
        torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        try:
            return self._run(nn.parallel.DistributedDataParallel(self.net), minutes)
        finally:
            torch.distributed.destroy_process_group()

    def _run(self, net: nn.Module, minutes: float) -> bool:
        start, saved = time.monotonic(), time.monotonic()
        before = self.seconds
        while self._agreed(self.step < self.recipe.optim.steps and time.monotonic() - start < 60 * minutes):
            self.losses.append(self._one(net))
            self.seconds = before + time.monotonic() - start
            last = self.step == self.recipe.optim.steps
            if self.step % self.recipe.validate_every == 0 or last:
                self._validate()
                saved = -math.inf
            elif self.step % 100 == 0:
                self._log({})
            if time.monotonic() - saved > 120:
                self._checkpoint()
                saved = time.monotonic()
        self._checkpoint()
        return self.step >= self.recipe.optim.steps

    def _agreed(self, go_on: bool) -> bool:
        """What process 0 decides: clocks differ, and a process that went on alone would wait for ever."""
        if self.world == 1:
            return go_on
        flag = torch.tensor([go_on], dtype=torch.uint8, device=self.device)
        torch.distributed.broadcast(flag, 0)
        return bool(flag.item())

    def lr_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine down to 1 %."""
        o = self.recipe.optim
        if step < o.warmup:
            return o.lr * (step + 1) / o.warmup
        progress = (step - o.warmup) / max(1, o.steps - o.warmup)
        return o.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def _one(self, net: nn.Module) -> float:
        o = self.recipe.optim
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr_at(self.step) * group["factor"]
        image, truth = self.crops.batch(self.step, o.batch // self.world, self.rank)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.precision == "bfloat16"):
            record = Record()
            x = image.contiguous(memory_format=torch.channels_last)
            T, D = net(x, keep=record, reconstruct=True)
        weights = self.recipe.loss
        first, last = weights.pixel
        pixel = first + (last - first) * self.step / o.steps
        loss = infrared_loss(T.float(), D.float(), image, truth, pixel=pixel, fidelity=weights.fidelity)
        if weights.stages:
            loss = loss + weights.stages * sum(soft_iou_loss(s["T"].float(), truth) for s in record.stages[:-1])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {self.step + 1}: lower lr in the recipe, or check the images."
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), o.clip)
        self.optimiser.step()
        self.step += 1
        self._average(min(o.ema, (1 + self.step) / (10 + self.step)))
        return value

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        mine = dict(self.net.state_dict())
        for name, kept in self.ema.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(mine[name], 1 - decay)
            else:
                kept.copy_(mine[name])

    # ------------------------------------------------------------------ validation

    def _validate(self) -> None:
        if self.rank:
            return
        begun = time.monotonic()
        results = [(s, T, c[1], c[2]) for s, T, c in self._logits()]
        found = calibrate([(T, t, v, s.group) for s, T, t, v in results])
        figures = figures_of(results, found)
        score = found.score
        by_set = {g: f["iou_pooled"] for g, f in figures.items() if f["targets"]}
        self._log(
            {
                "val_score": score,
                "val_iou": sum(by_set.values()) / max(1, len(by_set)),
                "val_silent": found.silent,
                "val_sets": by_set,
            }
        )
        training_picture(self.out / "log.png", self.out / "log.csv", title=self.recipe.name, overwrite=True)
        if score > self.best:
            self.best = score
            self._save_weight(found, figures)
        self.say(
            f"step {self.step}: validation {score:.4f}, threshold {found.threshold:.3f}, peak {found.peak:.3f}, "
            f"silent on {found.silent:.0%} of target-free images, {time.monotonic() - begun:.0f} s"
        )

    def _logits(self) -> Iterator[tuple[Sample, NDArray[np.float32], Any]]:
        net = for_inference(self.ema)
        with torch.inference_mode():
            for sample, content in self.validation:
                x = torch.from_numpy(content[0])[None, None].to(self.device)
                yield sample, net(x)[0][0, 0].float().cpu().numpy(), content

    # ------------------------------------------------------------------ files

    def _open(self, resume: bool) -> None:
        path = self.out / "checkpoint.pt"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {self.out} cannot be made ({error.strerror}).") from None
        if path.exists():
            if not resume:
                raise OutputError(
                    f"{self.out} holds a training already: continue it with --resume, or choose another --out."
                )
            self._restore(path)
        elif resume:
            raise InputError(f"{self.out} holds no checkpoint.pt to resume from.")
        if self.rank == 0:
            held = "".join(f"{s.group}/{s.name}\n" for s, _ in self.validation)
            with atomic_path(self.out / "validation.txt", overwrite=True) as temporary:
                temporary.write_text(held, encoding="utf-8")
            self._start_log()

    def _restore(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self._adopt(state, path)
        except InputError:
            raise
        except Exception as error:  # bytes that are no checkpoint make torch.load raise almost anything
            raise InputError(f"{path} is damaged ({type(error).__name__}): start again in another --out.") from error

    def _adopt(self, state: dict[str, Any], path: Path) -> None:
        if state["recipe"] != json.dumps(dataclasses.asdict(self.recipe), sort_keys=True):
            raise InputError(f"{path} was made by another recipe; use that one, or another --out.")
        if state["data"] != self.data_hash:
            raise InputError(f"{path} was made with other images; use those, or another --out.")
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def _checkpoint(self) -> None:
        if self.rank:
            return
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "recipe": json.dumps(dataclasses.asdict(self.recipe), sort_keys=True),
            "data": self.data_hash,
        }
        # Not straight to the file: torch's error for a full disk is no OSError, which atomic_path could put in words.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_path(self.out / "checkpoint.pt", overwrite=True) as temporary:
            temporary.write_bytes(content.getbuffer())

    def _start_log(self) -> None:
        """A log with the rows up to the present step: a run that was killed has logged more than it kept."""
        path = self.out / "log.csv"
        rows: list[dict[str, str]] = []
        if self.step and path.is_file():
            with path.open(newline="") as f:
                rows = [row for row in csv.DictReader(f) if row["step"].isdecimal() and int(row["step"]) <= self.step]
        with atomic_path(path, overwrite=True) as temporary, temporary.open("w", newline="") as f:
            writer = csv.DictWriter(f, LOG)
            writer.writeheader()
            writer.writerows(rows)

    def _log(self, extra: dict[str, Any]) -> None:
        mean = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        if self.rank:
            return
        row = {
            "step": self.step,
            "seconds": round(self.seconds),
            "lr": f"{self.lr_at(self.step):.3g}",
            "train_loss": f"{mean:.4f}",
        }
        row |= {k: json.dumps(v) if isinstance(v, dict) else f"{v:.4f}" for k, v in extra.items()}
        path = self.out / "log.csv"
        try:
            with path.open("a", newline="") as f:
                csv.DictWriter(f, LOG).writerow(row)
        except OSError as error:
            raise write_failure(path, error.strerror or "no room") from error

    def _save_weight(self, found: Calibration, figures: dict[str, Any]) -> None:
        r = self.recipe
        record = WeightRecord(
            name=r.name,
            model=r.model,
            arch=self.ema.arch,
            threshold=found.threshold,
            peak=found.peak,
            temperature=found.temperature,
            trained_on=f"{self.trained_on}; sha256 of the data {self.data_hash[:16]}",
            licence=r.licence,
            origin=f"rsunfold train {r.name}{self.begun}, seed {r.seed}, step {self.step} of {r.optim.steps}",
            figures={g: {k: f[k] for k in ("images", "iou_pooled", "niou", "f1_pooled")} for g, f in figures.items()},
        )
        path = self.out / f"{r.name}.safetensors"
        sha = save(path, self.ema, record, overwrite=True)
        with atomic_path(path.with_suffix(".md"), overwrite=True) as temporary:
            temporary.write_text(card(record, sha, self.recipe, figures, found, self.seconds))


def _network(recipe: Recipe, start: str | None = None) -> Unrolled:
    """The recipe's network with the weights ``start``, else the random ones of its seed; InputError where there is
    none, WeightsError where ``start`` is of another model or architecture."""
    spec = get_model(recipe.model, "detect-ir")
    if spec.kind != "network":
        raise InputError(
            f"the recipe {recipe.name} names {recipe.model!r}, a classical method: nothing to train there."
        )
    torch.manual_seed(recipe.seed)
    try:
        net: Unrolled = spec.build(**recipe.arch)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"[arch] of the recipe {recipe.name} does not fit {recipe.model!r}: {error}.") from None
    if start is None:
        return net
    begun, _, _ = load(start, recipe.model)
    if begun.arch != net.arch:
        raise WeightsError(f"the weights {start} have the architecture {begun.arch}, the recipe asks for {net.arch}.")
    return begun


def _groups(net: nn.Module, o: Optim) -> list[dict[str, Any]]:
    """Parameters by how they are treated: matrices decay; step sizes, which belong to no layer, have their own lr."""
    steps = [p for m in net.modules() if any(m.children()) for p in m.parameters(recurse=False)]
    layers = [p for p in net.parameters() if not any(p is q for q in steps)]
    return [
        {"params": [p for p in layers if p.ndim > 1], "weight_decay": o.weight_decay, "factor": 1.0},
        {"params": [p for p in layers if p.ndim == 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": steps, "weight_decay": 0.0, "factor": o.step_size_lr},
    ]


def _hash(samples: list[Sample], contents: list[Any]) -> str:
    digest = hashlib.sha256()
    for sample, (gray, truth, _) in zip(samples, contents, strict=True):
        digest.update(f"{sample.group}/{sample.name}".encode())
        digest.update(gray.tobytes())
        digest.update(truth.tobytes())
    return digest.hexdigest()


def training_device(name: str) -> torch.device:
    """The device of this process: that of :func:`pick_device`, under torchrun each process its own GPU."""
    device = pick_device(name)
    if device.type == "cuda":
        if device.index is None:
            device = pick_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(device)
    return device
