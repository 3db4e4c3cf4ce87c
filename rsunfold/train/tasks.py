"""Which task trains a model."""

from __future__ import annotations

from rsunfold.errors import InputError
from rsunfold.registry import Task, get_model
from rsunfold.train.hyperspectral.task import HyperspectralTask
from rsunfold.train.infrared.task import InfraredTask
from rsunfold.train.task import TrainingTask

TASKS: dict[Task, type[TrainingTask]] = {"detect-ir": InfraredTask, "denoise-hsi": HyperspectralTask}


def task_of(model: str) -> type[TrainingTask]:
    """The training task of a model; raises UsageError for an unknown one, InputError where its task has no training."""
    spec = get_model(model)
    if spec.task not in TASKS:
        raise InputError(f"{model!r} cannot be trained: training is not available for {spec.task}.")
    return TASKS[spec.task]
