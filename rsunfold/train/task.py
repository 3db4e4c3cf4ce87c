"""What a task gives the trainer: batches and their loss, validation, and what a weight's record and card say of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rsunfold.errors import InputError
from rsunfold.train.recipe import Recipe
from rsunfold.unfold.unrolled import Unrolled
from rsunfold.weights import WeightRecord

Forward = Callable[..., Any]
NOT_FINITE = "the network's output for a validation image is not finite"


@dataclass(frozen=True)
class Verdict:
    """What a validation found.

    score : higher is better; the weights with the best one are kept. log : values of the task's ``columns``.
    message : follows the score on the terminal. record : the fields of the WeightRecord that the task decides, such as
    ``bands``, ``scaling`` and ``figures``. usage : entries of the card's list, on how to use the output.
    results : lines of the card (Markdown) with the figures and what they were measured on.
    """

    score: float
    log: dict[str, float | dict[str, float]]
    message: str
    record: dict[str, Any] = field(default_factory=dict)
    usage: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


class TrainingTask(ABC):
    """What :class:`rsunfold.train.loop.Trainer` asks of a task; networks of every task are trained by the same loop.

    recipe_class : the recipe with the tables of this task. columns : what a validation adds to the log.

    The constructor reads the images below ``data``, holds some out for validation, and sets

    data_hash : SHA-256 of all that was read; a run is resumed only with the same. trained_on : what is trained on, for
    the record. held_out : the lines of ``validation.txt``, one for each image that is held out.
    """

    recipe_class: ClassVar[type[Recipe]]
    columns: ClassVar[tuple[str, ...]] = ()
    data_hash: str
    trained_on: str
    held_out: list[str]

    @abstractmethod
    def __init__(self, recipe: Any, data: Path, device: torch.device) -> None:
        """``recipe`` is one of ``recipe_class``. Raises InputError when ``data`` cannot be trained on."""

    @abstractmethod
    def loss(self, forward: Forward, step: int, size: int, rank: int) -> Tensor:
        """Loss (a scalar, float32) of the batch of ``size`` that process ``rank`` sees at ``step``.

        The batch may depend on the recipe's seed and on these three alone, so that a resumed run sees what the
        uninterrupted one would have seen. ``forward`` is the network's own, under the recipe's precision, and may be
        called several times; the network is to be called in no other way, since several processes average their
        gradients through it.
        """

    def begin(self, record: WeightRecord | None, net: Unrolled, say: Callable[[str], None]) -> None:  # noqa: B027
        """Learn what there is to know of ``net``, in evaluation and inference mode, that training begins with.

        record : of its weights, None where they are random. say : told how far it is.
        """

    def teach(self, teacher: Unrolled, pupil: Unrolled) -> None:
        """Make the weights of ``pupil`` what training begins with; both are in evaluation and inference mode.

        Called, after :meth:`begin`, for recipes whose ``begins_with`` is another model, the teacher's. Raises
        InputError where networks of this task have no teachers.
        """
        raise InputError("networks of this task cannot begin as pupils of another model.")

    def dead(self, net: Unrolled) -> dict[str, float] | None:
        """Names of the operators of ``net``, in evaluation mode, that give one number whatever the image, and that
        number; None where the task cannot tell."""
        return None

    def state(self) -> dict[str, Any]:
        """What :meth:`begin` found, in numbers, texts, lists and tensors, for the checkpoint; see :meth:`restore`."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what :meth:`state` gave to the checkpoint."""

    @abstractmethod
    def validate(self, net: Unrolled) -> Verdict:
        """Judge ``net``, the averaged network, in evaluation and inference mode, on the images held out.

        Raises FloatingPointError where its output is not finite.
        """
