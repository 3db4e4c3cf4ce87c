"""Training for infrared small targets: augmented crops, SoftIoU and its companions, calibration on whole images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rsunfold.errors import InputError, RsunfoldError
from rsunfold.infer.infrared.evaluate import label_of, read_sample
from rsunfold.infer.infrared.gray import Reading, misses
from rsunfold.io.samples import LabelledImage, Sample, find_samples, notes_on
from rsunfold.progress import tracked
from rsunfold.registry import get_model
from rsunfold.train.imitate import Led, heads_fitted
from rsunfold.train.infrared.calibrate import calibrate, largest_area
from rsunfold.train.infrared.data import Crops, carve, error_places
from rsunfold.train.infrared.figures import figures_of, kept_of, results_of, table_of, usage_of
from rsunfold.train.infrared.loss import infrared_loss, soft_iou_loss
from rsunfold.train.infrared.recipe import InfraredRecipe
from rsunfold.train.recipe import Recipe
from rsunfold.train.task import NOT_FINITE, Forward, TrainingTask, Verdict
from rsunfold.unfold.operators import MARGIN, dead_operators
from rsunfold.unfold.unrolled import Record, TargetNetwork, Unrolled
from rsunfold.weights import WeightRecord

TAUGHT = 8
"""Batches, and crops of each, by which a pupil is fitted to its teacher."""
LISTING = "train.txt"
"""What a list of the images to train on is usually called."""
SHOWN, SIDE = 8, 256
"""Validation images, at most twice as many, on which operators have to have an effect, and the side of their middle."""


class InfraredTask(TrainingTask):
    """Sets of images with masks, and of images without targets; see :func:`rsunfold.io.samples.find_samples`.

    validation : the images held out. crops : augmented crops of all others.
    """

    recipe_class: ClassVar[type[Recipe]] = InfraredRecipe
    columns: ClassVar[tuple[str, ...]] = ("val_iou", "val_silent", "val_sets")

    def __init__(self, recipe: InfraredRecipe, data: Path, device: torch.device) -> None:
        self.weights, self.steps, self.device = recipe.loss, recipe.optim.steps, device
        self.on_error, self.taught = recipe.augment.on_error, recipe.teacher
        self.bfloat16 = recipe.optim.precision == "bfloat16"
        self.teacher: Unrolled | None = None
        self.reading = recipe.data.reading
        samples = find_samples(data, recipe.data.split)
        images = _read(samples, self.reading, data)
        self.data_hash = _hash(images)
        held = carve(
            samples, [im.gray for im in images], recipe.data.validation_of, recipe.data.validation, recipe.seed
        )
        there, named = {s.group for s in samples}, recipe.data.named
        if not there.issuperset(named):
            lacking = next(name for name in named if name not in there)
            raise InputError(
                f"the recipe names the set {lacking!r}, but {data} contains {', '.join(sorted(there))}; "
                "change data.sets."
            )
        used = [(im, h) for im, h in zip(images, held, strict=True) if not named or im.sample.group in named]
        self.validation = [im for im, h in used if h]
        train = [im for im, h in used if not h]
        where = f"{data} ({recipe.data.sets})" if named else str(data)
        _refuse_too_few(train, self.validation, where)
        self.unused = None if recipe.data.split else _listing(train + self.validation)
        self.absent = sorted({*recipe.data.weights, *recipe.data.validation_of} - there)
        _refuse_without_targets(train, self.validation, where)
        masks = [im.targets for im in train]
        self.max_area = self.own_area = largest_area(masks)
        self.largest = largest_area(masks, share=1.0)
        self.trained_on = f"{len(train)} images of {', '.join(sorted({im.sample.group for im in train}))}"
        self.held_out = [label_of(im.sample) for im in self.validation]
        self.train = train
        self.crops = Crops(train, recipe.augment, recipe.data.weights, recipe.seed, device)

    def loss(self, forward: Forward, step: int, size: int, rank: int) -> Tensor:
        """:func:`infrared_loss` of the last stage, and SoftIoU of the earlier ones where the recipe weighs them."""
        image, truth, valid = self.crops.batch(step, size, rank)
        if step < self.taught.steps:
            return self._imitation(forward, image)
        known = None if bool(valid.all()) else valid
        record = Record()
        T, D = forward(image.contiguous(memory_format=torch.channels_last), keep=record, reconstruct=True)
        first, last = self.weights.pixel
        pixel = first + (last - first) * step / self.steps
        loss = infrared_loss(T.float(), D.float(), image, truth, known, pixel=pixel, fidelity=self.weights.fidelity)
        if self.weights.stages:
            loss = loss + self.weights.stages * sum(
                soft_iou_loss(s["T"].float(), truth, known) for s in record.stages[:-1]
            )
        return loss

    def _imitation(self, forward: Forward, image: Tensor) -> Tensor:
        """How far the variables are from the teacher's (:class:`~rsunfold.train.imitate.Led`)."""
        assert self.teacher is not None
        image, shown = image.contiguous(memory_format=torch.channels_last), Record()
        with torch.no_grad():
            forward(image, by=self.teacher, keep=shown, reconstruct=True)
        led = Led(shown.stages)
        forward(image, keep=led, reconstruct=True)
        return led.loss()

    def teach(self, teacher: Unrolled, pupil: Unrolled) -> None:
        """Fit the operators of the pupil to those of the teacher, on crops that are not trained on."""
        assert isinstance(teacher, TargetNetwork) and isinstance(pupil, TargetNetwork)
        heads_fitted(teacher, pupil, [self.crops.batch(self.steps + n, TAUGHT)[0] for n in range(TAUGHT)])
        self.teacher = teacher

    def begin(self, record: WeightRecord | None, net: Unrolled, say: Callable[[str], None]) -> None:
        """Say how many images of each set there are, what is to be told of them, and which sets the data lack; targets
        may be as large as those of ``record``, and as those trained on; where the recipe draws crops on errors, look
        for those of ``net``."""
        for group in sorted({im.sample.group for im in self.train + self.validation}):
            train, held = ([im for im in some if im.sample.group == group] for some in (self.train, self.validation))
            free = all(im.sample.mask is None for im in train + held)
            what = ", without masks and so taken to be free of targets" if free else ""
            say(f"{group}: {len(train)} images to train on, {len(held)} to validate on{what}")
        on_files = notes_on((im.sample.image, im.notes) for im in self.train + self.validation)
        for note in self.reading.remarks(record) + on_files:
            say(f"note: {_with_keys(note)}")
        if self.unused is not None:
            say(f"{self.unused} is not used, as the recipe names no split; --set data.split={LISTING} does")
        if self.absent:
            say(f"sets that the recipe names and the data do not contain: {', '.join(self.absent)}")
        if record is not None and record.max_area is not None:
            self.max_area = max(self.max_area or self.largest or 0, record.max_area)
        if self.on_error:
            assert record is not None  # the recipe needs weights
            self.crops.errors = []
            say(f"looking for errors of {record.name} in {len(self.train)} images")
            results = results_of(net, self.train, self.device, bfloat16=self.bfloat16)
            for image, logits in tracked(results, "looking for errors", len(self.train)):
                self.crops.errors.append(error_places(logits, image.targets, image.counted))

    def dead(self, net: Unrolled) -> dict[str, float] | None:
        """Operators whose output is one number all over some validation images; None where all of these are small."""
        shown = list(self._shown())
        return dead_operators(net, shown) if shown else None

    def state(self) -> dict[str, Any]:
        """The largest area, the places of errors of each image, and the teacher."""
        errors = [torch.from_numpy(places) for places in self.crops.errors]
        state: dict[str, Any] = {"max_area": self.max_area, "errors": errors}
        if self.teacher is not None:
            state["teacher"] = {"arch": self.teacher.arch, "tensors": self.teacher.state_dict()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.max_area = state.get("max_area", self.max_area)
        self.crops.errors = [places.numpy() for places in state.get("errors", [])]
        if self.taught.model:
            kept = state["teacher"]
            net = get_model(self.taught.model).build(**kept["arch"])
            net.load_state_dict(kept["tensors"])
            self.teacher = net.to(self.device).eval().requires_grad_(False)
        if self.on_error and not self.crops.errors:
            raise InputError("the checkpoint contains no places for on_error; start again in another --out.")

    def validate(self, net: Unrolled) -> Verdict:
        """Calibrate on the images held out, whole and at native resolution, and measure there."""
        results = list(results_of(net, self.validation, self.device))
        if not all(np.isfinite(logits).all() for _, logits in results):
            raise FloatingPointError(NOT_FINITE)
        found = calibrate(results, self.max_area)
        figures = figures_of(results, found)
        by_set = {g: f["iou_pooled"] for g, f in figures.items() if f["targets"]}
        iou = sum(by_set.values()) / max(1, len(by_set))
        dead = self.dead(net) or {}
        return Verdict(
            score=found.score,
            log={"val_iou": iou, "val_sets": by_set} | ({} if found.silent is None else {"val_silent": found.silent}),
            message=f"threshold {found.rule.threshold:.3f}, confidence {found.rule.confidence:.3f}"
            + ("" if found.silent is None else f", silent on {found.silent:.0%} of target-free images")
            + (f", without effect: {', '.join(dead)}" if dead else ""),
            record={**found.record, **self.reading.recorded, "figures": kept_of(figures)},
            usage=[usage_of(found, cut=found.rule.max_area == self.own_area)]
            + ([f"operators that give one number for all pixels: {', '.join(f'`{d}`' for d in dead)}"] if dead else []),
            results=table_of(figures, found),
        )

    def _shown(self) -> Iterator[Tensor]:
        """The middle of some validation images, (1, 1, H, W)."""
        large = [im.gray for im in self.validation if min(im.gray.shape) > 4 * MARGIN]
        for gray in large[:: max(1, len(large) // SHOWN)]:
            down, across = (slice(max(0, n // 2 - SIDE // 2), n // 2 + SIDE // 2) for n in gray.shape)
            yield torch.from_numpy(gray[down, across])[None, None].to(self.device)


def _with_keys(text: str) -> str:
    """A message on how files are read, with the keys of recipes in place of the options of commands."""
    return re.sub(r"(?<!detect-ir )--(band|scale|var)\b", r"data.\1", text)


@contextmanager
def _keys_named() -> Iterator[None]:
    """Errors raised inside name keys of the recipe."""
    try:
        yield
    except RsunfoldError as error:
        error.args = (_with_keys(str(error)),)
        raise


def _read(samples: list[Sample], reading: Reading, data: Path) -> list[LabelledImage]:
    """The images; InputError where ``data.scale`` misses most of them."""
    with _keys_named():
        images = [read_sample(s, reading) for s in samples]
    scale = reading.scale
    if scale is not None and 2 * (missed := sum(misses(im.gray[im.valid]) for im in images)) > len(images):
        raise InputError(
            f"data.scale = {list(scale)} misses {missed} of the {len(images)} images of {data}: it "
            "takes physical values, as they are after the file's scale and offset."
        )
    return images


def _refuse_too_few(train: list[LabelledImage], validation: list[LabelledImage], where: str) -> None:
    count = len(train) + len(validation)
    if count > 3 and not validation:
        raise InputError(
            f"none of the {count} images of {where} can be held out for validation: they are near-duplicates of "
            "one another, such as frames of one scene, or their share (data.validation, data.validation_of) is "
            "less than one image; add images of another scene, raise the share, or fit the thresholds alone with "
            "rsunfold weights calibrate."
        )
    if not train or not validation:
        raise InputError(
            f"{where} contains {count} image(s), too few to hold out validation images; add images, or fit the "
            "thresholds alone with rsunfold weights calibrate."
        )


def _refuse_without_targets(train: list[LabelledImage], validation: list[LabelledImage], where: str) -> None:
    both = train + validation
    for what, some in (("train on", train), ("validate on", validation)):
        if not any(im.targets.any() for im in some):
            others = sum(bool(im.targets.any()) for im in both)
            advice = (
                f"{others} of all {len(both)} do: add images with targets, or draw others with --set seed="
                if others
                else "check the masks"
            )
            raise InputError(f"none of the {len(some)} images of {where} to {what} contains a target; {advice}.")


def _listing(images: list[LabelledImage]) -> Path | None:
    """The first list of training images that lies with the sets of ``images``."""
    samples = (im.sample for im in images)
    sets = sorted({s.image.parent if s.mask is None else s.image.parent.parent for s in samples})
    return next((path for folder in sets if (path := folder / LISTING).is_file()), None)


def _hash(images: list[LabelledImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(label_of(image.sample).encode())
        digest.update(image.gray.tobytes())
        digest.update(image.truth.tobytes())
        if not (counted := image.counted).all():
            digest.update(counted.tobytes())
    return digest.hexdigest()
