"""The tables of an infrared recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from rsunfold.infer.infrared.gray import Reading
from rsunfold.train.recipe import Recipe, check_values
from rsunfold.weights import LARGEST


@dataclass
class Data:
    """Which images: ``split`` names a file of stems in each set's folder; ``validation`` is the share of each set held
    out, ``validation_of`` overrides it by set; ``weights`` says how often a set is drawn (1 unless named).

    sets : names, comma-separated, of the sets to train on and to validate with; all unless some are named. The split
    is that of all sets, whichever are named, so that weights of all and of one can begin with each other.

    band, scale, var : how the images are read, see :class:`~rsunfold.infer.infrared.gray.Reading`.
    """

    split: str | None = None
    validation: float = 0.15
    validation_of: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    sets: str = ""
    band: int | None = None
    scale: tuple[float, float] | None = None
    var: str | None = None

    @property
    def reading(self) -> Reading:
        """How the images are read."""
        return Reading(self.band, self.scale, self.var)

    @property
    def named(self) -> list[str]:
        """The sets that are named."""
        return [part.strip() for part in self.sets.split(",") if part.strip()]


@dataclass
class Augment:
    """How crops are varied; probabilities in [0, 1], gray levels in [0, 1].

    crop : side in pixels. on_target : share of crops centred near a target. on_error : share of crops centred near an
    error of the weights that training begins with, drawn before on_target, each place as often as its cross-entropy
    is large; 0 where it begins with random ones. scale : range of the zoom factor, used
    on half of the crops. contrast, brightness : half-widths. gauss : largest noise sigma. salt : largest share of
    salt-and-pepper pixels. paste : share of crops that get targets of other images pasted in.
    """

    crop: int = 128
    on_target: float = 0.75
    on_error: float = 0.0
    scale: tuple[float, float] = (0.5, 2.0)
    contrast: float = 0.3
    brightness: float = 0.1
    gauss: float = 0.02
    salt: float = 0.002
    paste: float = 0.3


@dataclass
class Loss:
    """Weights of the terms beside SoftIoU of T^K: hard pixels, fidelity of D^K to the image, SoftIoU of earlier T^k.

    pixel : at the first and at the last step, linear between. Much of it from the start keeps targets from being
    found at all; little of it to the end leaves the strongest clutter above the faint targets.
    """

    pixel: tuple[float, float] = (0.1, 1.0)
    fidelity: float = 0.1
    stages: float = 0.0


@dataclass
class Teacher:
    """What the network begins as a pupil of, see :mod:`rsunfold.train.imitate`.

    model : the model of the weights to begin with, which has as many stages; "" where they are of the recipe's own
    model and training goes on with them. steps : the first ones, in which the loss is that of the imitation alone; 0
    for networks of the same layers as the teacher's.
    """

    model: str = ""
    steps: int = 0


@dataclass
class InfraredRecipe(Recipe):
    """A recipe for infrared small targets; ``seed`` decides weights, split and crops."""

    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    loss: Loss = field(default_factory=Loss)
    teacher: Teacher = field(default_factory=Teacher)

    @property
    def begins_with(self) -> str:
        """The model of the weights that training begins with, if it begins with any."""
        return self.teacher.model or self.model

    @property
    def needs_weights(self) -> list[str]:
        """Keys that ask for something of the weights that training begins with."""
        return super().needs_weights + ["on_error"] * bool(self.augment.on_error)

    def check(self) -> None:
        """Raise ValueError for a value of the right kind that no training can run with."""
        super().check()
        d, a, loss = self.data, self.augment, self.loss
        shares = {"validation": d.validation, "salt": a.salt, "paste": a.paste}
        shares |= {"on_target": a.on_target, "on_error": a.on_error}
        shares |= {f"validation_of.{name}": share for name, share in d.validation_of.items()}
        others = {"contrast": a.contrast, "brightness": a.brightness, "gauss": a.gauss}
        others |= {"fidelity": loss.fidelity, "stages": loss.stages, "teacher.steps": self.teacher.steps}
        others |= {"pixel at first": loss.pixel[0], "pixel at last": loss.pixel[1]}
        others |= {f"weights.{name}": weight for name, weight in d.weights.items()}
        counts = {"crop": a.crop} | ({} if d.band is None else {"data.band": d.band})
        check_values(counts=counts, positive={"scale": a.scale[0]}, shares=shares, others=others)
        if d.scale is not None and (d.scale[0] == d.scale[1] or not max(map(abs, d.scale)) < LARGEST):
            raise ValueError("data.scale must be two numbers that differ")
        if self.teacher.model and self.optim.start_share:
            raise ValueError("with a teacher there are no weights of this model to have a start_share of")
        if self.teacher.model == self.model:
            raise ValueError(f"the teacher must be of another model than the network, {self.model}")
        if self.teacher.steps and not self.teacher.model:
            raise ValueError("steps of imitation need the model of a teacher")
        if not a.scale[0] <= a.scale[1] < LARGEST:
            raise ValueError(f"scale must be an ascending range, not {a.scale[0]} to {a.scale[1]}")
