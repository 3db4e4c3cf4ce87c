"""Training: a loop that can stop at any step and go on as if it had not."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rsunfold.allocator import reuse_memory
from rsunfold.errors import InputError, UsageError
from rsunfold.infer.device import pick_device
from rsunfold.progress import tracked
from rsunfold.registry import get_model
from rsunfold.signals import ENDING, deferred
from rsunfold.train.folder import RunFolder
from rsunfold.train.grow import revived
from rsunfold.train.network import compiled, mix, networks, parameter_groups
from rsunfold.train.recipe import Recipe
from rsunfold.train.task import Verdict
from rsunfold.train.tasks import task_of
from rsunfold.unfold.unrolled import Unrolled
from rsunfold.weights import read_record, verify


class Trainer:
    """Trains one recipe on the images below ``data`` and writes everything to ``out`` (:class:`RunFolder`), the weights
    at each improvement on validation.

    What the images are, the loss and the validation come from the task of the recipe's model
    (:class:`rsunfold.train.task.TrainingTask`).

    start : weights to begin with, a shipped name or a file, instead of the recipe's random ones; their architecture
    must be the recipe's. A resumed run goes on from its checkpoint, which also says what it was begun with.

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
        self.recipe, self.device, self.say = recipe, device, say
        begun = "" if start is None else f" --from {Path(start).stem} ({verify(start)[:12]})"
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if recipe.optim.batch % self.world:
            raise InputError(f"a batch of {recipe.optim.batch} cannot be divided among {self.world} processes.")
        self.bfloat16 = recipe.optim.precision == "bfloat16"
        if self.bfloat16 and not calculates_bfloat16(device):
            self.bfloat16 = False
            say("this CPU has no bfloat16 arithmetic, so bfloat16 would take ten times as long; training in float32.")
        reuse_memory()
        self.start = None if start is None else read_record(start)
        kind = task_of(recipe.model)
        if not isinstance(recipe, kind.recipe_class):
            asked, given = kind.recipe_class.__name__, type(recipe).__name__
            raise UsageError(f"a recipe for {recipe.model} is of the class {asked}, not {given}.")
        net, origin = networks(recipe, start)
        self.task = kind(recipe, data, device)
        self.folder = RunFolder(out, recipe, self.task, begun)
        self.origin = copy.deepcopy(origin).to(device).eval().requires_grad_(False)
        self.net: Unrolled = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema: Unrolled = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.first = copy.deepcopy(self.ema) if recipe.optim.start_share else None
        self.net.train()
        for module in self.net.modules() if recipe.optim.fixed_norm else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        self.optimiser = torch.optim.AdamW(parameter_groups(self.net, recipe.optim), lr=recipe.optim.lr)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.validated = 0
        self.losses: list[float] = []

    @property
    def next_validation(self) -> int:
        """The step that ends with the next validation."""
        every = self.recipe.validate_every
        return min((self.step // every + 1) * every, self.recipe.optim.steps)

    # ------------------------------------------------------------------ one run

    def run(self, *, minutes: float = math.inf, resume: bool = False) -> bool:
        """Train until the recipe's last step or for ``minutes``; True when the recipe is complete.

        Raises OutputError when ``out`` holds a run or its results already and ``resume`` is off, or cannot be written;
        ClaimedError while another run trains into it; InputError when the run there was made by another recipe, with
        other images or from other weights than ``start`` where that is given, the recipe needs weights to begin with
        and there are none, or the training diverges: then the last checkpoint, whose weights are finite, stays.
        """
        end = time.monotonic() + 60 * minutes
        if self.start is None and not resume:
            self._refuse_random()
        with self.folder.claimed() if self.rank == 0 else nullcontext():
            return self._opened(resume, end)

    def _opened(self, resume: bool, end: float) -> bool:
        """Train in the folder that is this run's."""
        self._open(resume)
        if self.world == 1:
            if not resume:
                self._begin()
            return self._run(self.net, end)
        torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        try:
            if not resume:
                self._begin()
            return self._run(nn.parallel.DistributedDataParallel(self.net), end)
        finally:
            torch.distributed.destroy_process_group()

    def _refuse_random(self) -> None:
        """Raise InputError for a recipe that does not begin with random weights."""
        r = self.recipe
        if r.begins_with != r.model:
            raise InputError(
                f"by the recipe, {r.model} begins as a pupil of {r.begins_with}; give its weights with --from."
            )
        if r.continued:
            raise InputError(f"the recipe {r.name} goes on with weights that are trained; give them with --from.")
        if r.needs_weights:
            raise InputError(
                f"the recipe needs weights to begin with ({', '.join(r.needs_weights)}); give them with --from."
            )

    def _begin(self) -> None:
        """What the task learns beforehand, once for all processes, and kept: it may take as long as much training."""
        o, pupil = self.recipe.optim, self.recipe.begins_with != self.recipe.model
        begun = time.monotonic()
        if o.revive:
            self._revive()
        if self.rank == 0:
            with torch.inference_mode():
                self.task.begin(self.start, self.origin, self.say)
                if pupil:
                    self.say(f"fitting the operators of {self.recipe.model} to those of {self.recipe.begins_with}")
                    self.task.teach(self.origin, self.ema)
                    self.net.load_state_dict(self.ema.state_dict())
        if self.world > 1:
            found = [self.task.state() if self.rank == 0 else None]
            torch.distributed.broadcast_object_list(found, 0, device=self.device)
            if self.rank and found[0] is not None:
                self.task.restore(found[0])
        self.seconds = time.monotonic() - begun
        self._checkpoint()

    def _revive(self) -> None:
        """Operators of the weights begun with that have no effect begin anew."""
        with torch.inference_mode():
            dead = self.task.dead(self.ema)
        if dead is None:
            raise InputError(
                "the recipe asks for optim.revive, but which operators have no effect cannot be told of denoising "
                "networks and of images of 64 pixels and less; leave it out."
            )
        # Stages that were added have operators without an effect yet, whose layers are those of the last stage before.
        last = len(self.origin.stages) - 1
        added = {f"stages.{k}." for k in range(last + 1, len(self.net.stages))}
        for name in [name for name in dead if name.startswith(tuple(added))]:
            if f"stages.{last}.{name.split('.', 2)[2]}" not in dead:
                del dead[name]
        torch.manual_seed(self.recipe.seed)
        fresh: Unrolled = get_model(self.recipe.model).build(**self.net.arch)
        try:
            revived(self.net, dead, fresh)
        except ValueError as error:
            raise InputError(f"the recipe asks for optim.revive, but {error}.") from None
        for averaged in (self.ema, self.first):
            if averaged is not None:
                averaged.load_state_dict(self.net.state_dict())
        self.say(f"operators that begin anew: {', '.join(dead) or 'none, all have an effect'}")

    def _run(self, net: nn.Module, end: float) -> bool:
        if self.recipe.optim.compile:
            net = compiled(net, self.device)
        start, saved = time.monotonic(), time.monotonic()
        before = self.seconds
        steps = tracked(range(self.step, self.recipe.optim.steps), "training")
        if self._due() and self.validated != self.step:  # interrupted between the two
            self._validate()
        with closing(steps):
            while self._agreed(next(steps, None) is not None and time.monotonic() < end):
                # Not cut in two by Ctrl-C or the signal of a batch system, unless it comes twice.
                with deferred(*ENDING, once=True) as came:
                    self.losses.append(self._one(net))
                    self.seconds = before + time.monotonic() - start
                    if came:
                        self._checkpoint()
                if self._due():
                    self._checkpoint()
                    self._validate()
                    saved = -math.inf
                elif self.step % 100 == 0:
                    self._log()
                if time.monotonic() - saved > 120:
                    self._checkpoint()
                    saved = time.monotonic()
        self._checkpoint()
        return self.step >= self.recipe.optim.steps

    def _due(self) -> bool:
        """Whether the present step ends with a validation."""
        return self.step > 0 and (self.step % self.recipe.validate_every == 0 or self.step == self.recipe.optim.steps)

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

        def forward(*args: Any, by: nn.Module = net, **options: Any) -> Any:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                return by(*args, **options)

        with diverging(self.step + 1):
            loss = self.task.loss(forward, self.step, o.batch // self.world, self.rank)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value}")
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), o.clip))
            if not math.isfinite(norm):
                raise FloatingPointError(f"the norm of the gradient is {norm}")
        self.optimiser.step()
        self.step += 1
        mix(self.ema, self.net.state_dict(), 1 - min(o.ema, (1 + self.step) / (10 + self.step)))
        return value

    # ------------------------------------------------------------------ validation

    def _validate(self) -> None:
        self.validated = self.step
        if self.rank:
            return
        begun = time.monotonic()
        with torch.inference_mode(), diverging(self.step):
            kept = self._kept()
            verdict = self.task.validate(kept)
        self._log(verdict)
        if verdict.score > self.best:
            self.best = verdict.score
            self.folder.keep_weights(kept, verdict, self.step, self.seconds, bfloat16=self.bfloat16)
        seconds = time.monotonic() - begun
        self.say(f"step {self.step}: validation {verdict.score:.4f}, {verdict.message}, {seconds:.0f} s")

    def _kept(self) -> Unrolled:
        """The averaged network, or its mean with the one begun with."""
        if self.first is None:
            return self.ema
        mean: Unrolled = copy.deepcopy(self.ema)
        mix(mean, self.first.state_dict(), self.recipe.optim.start_share)
        return mean

    # ------------------------------------------------------------------ what the folder keeps

    def _open(self, resume: bool) -> None:
        self.folder.open(resume)
        if resume:
            self.folder.restore(self._adopt)
        elif self.rank == 0:
            self.folder.refuse_results()
        if self.rank == 0:
            # A validation that the run was killed before comes again.
            self.folder.start(self.step - int(self._due() and self.validated != self.step))

    def _adopt(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.validated = state.get("validated", self.step)
        self.losses = list(state.get("losses", []))
        self.task.restore(state.get("task", {}))
        if self.first is not None:
            self.first.load_state_dict(state["first"])

    def _checkpoint(self) -> None:
        with diverging(self.step):
            for net in (self.net, self.ema):
                if not all(bool(value.isfinite().all()) for value in net.state_dict().values()):
                    raise FloatingPointError("the weights are not finite")
        if self.rank:
            return
        self.folder.keep_checkpoint(
            {
                "net": self.net.state_dict(),
                "ema": self.ema.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "validated": self.validated,
                "losses": self.losses,
                "task": self.task.state(),
                "first": None if self.first is None else self.first.state_dict(),
            }
        )

    def _log(self, verdict: Verdict | None = None) -> None:
        mean = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        if self.rank == 0:
            self.folder.log_row(self.step, self.seconds, self.lr_at(self.step), mean, verdict)


@contextmanager
def diverging(step: int) -> Iterator[None]:
    """What is not finite within the block (FloatingPointError, LinAlgError) is the user's InputError: the training has
    diverged at ``step``."""
    try:
        yield
    except (FloatingPointError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        what = str(error) if isinstance(error, FloatingPointError) else "a matrix of the network cannot be decomposed"
        raise InputError(f"{what} at step {step}; lower lr in the recipe, or check the images.") from error


def calculates_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16; CPUs without AVX-512 imitate it, ten times slower than float32."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX", "AVX2")


def training_device(name: str, model: str) -> torch.device:
    """The device of this process for a model: that of :func:`pick_device`, under torchrun each process its own GPU."""
    if name in ("auto", "cuda") and torch.cuda.is_available():  # before a process touches the GPU of another
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = pick_device(name, apple=get_model(model).apple)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
