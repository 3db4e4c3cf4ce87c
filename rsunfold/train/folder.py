"""The folder of a training: what it holds of a run, and that nothing of another run is lost there."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from rsunfold.errors import InputError, OutputError
from rsunfold.io.atomic import atomic_path, patiently, write_failure
from rsunfold.io.samples import HELD_OUT, TRAINING_LOG
from rsunfold.io.work import claimed
from rsunfold.quiet import silenced
from rsunfold.report import training_picture
from rsunfold.train.card import card
from rsunfold.train.recipe import Recipe
from rsunfold.train.task import TrainingTask, Verdict
from rsunfold.unfold.unrolled import Unrolled
from rsunfold.weights import WeightRecord, save

SHOWN = 3
"""Changes of a recipe that a message tells."""
LOG = ("step", "seconds", "lr", "train_loss", "val_score")  # and the columns of the task


class RunFolder:
    """The folder ``path`` of one run, that of ``recipe`` on the images of ``task``.

    Files: ``checkpoint.pt``, ``log.csv`` and its picture ``log.png``, ``validation.txt`` (the validation images, for
    ``evaluate --only``), and the weights NAME.safetensors with their card NAME.md.

    begun : " --from NAME (SHA-256)" for the weights that the run was begun with, "" for random ones; a checkpoint that
    is restored says it itself.
    """

    def __init__(self, path: Path, recipe: Recipe, task: TrainingTask, begun: str) -> None:
        self.path, self.recipe, self.task, self.begun = path, recipe, task, begun
        self.checkpoint, self.log = path / "checkpoint.pt", path / TRAINING_LOG
        self.weights = path / f"{recipe.name}.safetensors"
        self.card = self.weights.with_suffix(".md")

    def claimed(self) -> AbstractContextManager[None]:
        """The folder, made, is this run's alone: raises ClaimedError while another trains into it, OutputError when it
        cannot be made."""
        return claimed(self.path, self.checkpoint.name)

    def open(self, resume: bool) -> None:
        """Raises OutputError when the folder holds a run and ``resume`` is off, InputError when it holds none to
        resume."""
        if self.checkpoint.exists():
            if not resume:
                raise OutputError(
                    f"{self.path} already contains a training run; continue it with --resume, or choose another --out."
                )
        elif resume:
            raise InputError(f"{self.path} contains no checkpoint.pt to resume from.")

    def refuse_results(self) -> None:
        """Raise OutputError for weights, card or log of a run whose checkpoint is gone: they would be replaced."""
        results = [self.weights, self.card]
        # A run that ended at once leaves the first line.
        if self.log.is_file() and len(self.log.read_bytes().splitlines()) > 1:
            results.append(self.log)
        there = next((file for file in results if file.exists()), None)
        if there is not None:
            raise OutputError(f"{there} already exists, and training would replace it; choose another --out.")

    def start(self, step: int) -> None:
        """Write the list of validation images and a log with the rows up to ``step``: a run that was killed has logged
        more than it kept."""
        held = "".join(f"{line}\n" for line in self.task.held_out)
        with atomic_path(self.path / HELD_OUT, overwrite=True) as temporary:
            temporary.write_text(held, encoding="utf-8")
        rows: list[dict[str, str]] = []
        if step and self.log.is_file():
            with self.log.open(newline="", encoding="utf-8-sig", errors="replace") as f:
                read = csv.DictReader(f)
                if not {"step"} <= set(read.fieldnames or ()) <= {*LOG, *self.task.columns}:
                    raise InputError(
                        f"the log {self.log} was changed, perhaps by a spreadsheet; move it away to go on."
                    )
                rows = [row for row in read if (row["step"] or "").isdecimal() and int(row["step"]) <= step]
        with atomic_path(self.log, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, LOG + self.task.columns, extrasaction="ignore")  # of a damaged row
            writer.writeheader()
            writer.writerows(rows)

    def restore(self, adopt: Callable[[dict[str, Any]], None]) -> None:
        """Let ``adopt`` take what the checkpoint holds. Raises InputError where it is damaged, or of another run."""
        path = self.checkpoint
        try:
            with silenced(Warning):  # about the unpickler, of a file that is no checkpoint
                state = torch.load(path, map_location="cpu", weights_only=True)  # what is restored copies it
            self._check(state)
            adopt(state)
        except InputError:
            raise
        except Exception as error:  # bytes that are no checkpoint make torch.load raise almost anything
            raise InputError(f"{path} is damaged ({type(error).__name__}); start again in another --out.") from error

    def _check(self, state: dict[str, Any]) -> None:
        """Raise InputError where a checkpoint is of another run than this; take over what that was begun with."""
        # Keys that recipes did not have when the checkpoint was made had the effect of today's defaults.
        made_by = _filled(json.loads(state["recipe"]), type(self.recipe)(name="", model=""))
        now = json.loads(json.dumps(dataclasses.asdict(self.recipe)))
        now["continued"] = made_by["continued"]  # which decides no more than how a run begins
        if changed := list(_changed(made_by, now)):
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise InputError(
                f"{self.checkpoint} was made with another recipe, with {', '.join(changed[:SHOWN])}{more}; use that "
                "one, or another --out."
            )
        if state["data"] != self.task.data_hash:
            raise InputError(
                f"{self.checkpoint} was made with other images, or in a folder of another name; use those, or another "
                "--out."
            )
        made = state.get("begun")  # checkpoints of 0.1 do not say
        if self.begun and made is not None and made != self.begun:
            raise InputError(
                f"{self.checkpoint} was started {made.replace('--from', 'from').strip() or 'without weights'}, not "
                f"{self.begun.replace('--from', 'from').strip()}; leave out --from, or use another --out."
            )
        self.begun = self.begun if made is None else made

    def keep_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by ``state``, with what says whose it is."""
        state = state | {
            "recipe": json.dumps(dataclasses.asdict(self.recipe), sort_keys=True),
            "data": self.task.data_hash,
            "begun": self.begun,
        }
        # Not straight to the file: torch's error for a full disk is no OSError, which atomic_path could put in words.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_path(self.checkpoint, overwrite=True) as temporary:
            temporary.write_bytes(content.getbuffer())

    def log_row(self, step: int, seconds: float, lr: float, loss: float, verdict: Verdict | None = None) -> None:
        """Add a row to the log; with a validation's ``verdict`` the picture is drawn anew."""
        row = {"step": step, "seconds": round(seconds), "lr": f"{lr:.3g}", "train_loss": f"{loss:.4f}"}
        if verdict is not None:
            found = {"val_score": verdict.score, **verdict.log}
            row |= {k: json.dumps(v) if isinstance(v, dict) else f"{v:.4f}" for k, v in found.items()}
        try:
            with patiently(lambda: self.log.open("a", newline="", encoding="utf-8")) as f:
                csv.DictWriter(f, LOG + self.task.columns).writerow(row)
        except OSError as error:  # the checkpoint is older than the row, which --resume makes again
            raise write_failure(self.log, error) from error
        if verdict is not None:
            figure = next(iter(self.task.columns), "val_score")
            picture = self.log.with_suffix(".png")
            training_picture(picture, self.log, figure=figure, title=self.recipe.name, overwrite=True)

    def keep_weights(self, net: Unrolled, verdict: Verdict, step: int, seconds: float, *, bfloat16: bool) -> None:
        """Replace the weights and their card by those of ``net`` after ``step``.

        bfloat16 : whether it was trained in that precision; where not although the recipe asks for it, the record
        says so.
        """
        r = self.recipe
        record = WeightRecord(
            name=r.name,
            model=r.model,
            arch=net.arch,
            trained_on=f"{self.task.trained_on}; sha256 of the data {self.task.data_hash[:16]}",
            licence=r.licence,
            origin=f"rsunfold train {r.name}{self.begun}, seed {r.seed}, step {step} of {r.optim.steps}"
            + (", in float32" if r.optim.precision == "bfloat16" and not bfloat16 else ""),
            **verdict.record,
        )
        sha = save(self.weights, net, record, overwrite=True)
        with atomic_path(self.card, overwrite=True) as temporary:
            temporary.write_text(card(record, sha, r, verdict, seconds), encoding="utf-8")


def _changed(made: dict[str, Any], now: dict[str, Any], table: str = "") -> Iterator[str]:
    """What a recipe as JSON, ``made``, has otherwise than ``now``: "optim.steps = 6, not 9"."""
    for key in {**now, **made}:
        old, new = made.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changed(old, new, f"{table}{key}.")
        elif old != new:
            was, is_now = ("unset" if value is None else json.dumps(value) for value in (old, new))
            yield f"{table}{key} = {was}, not {is_now}"


def _filled(given: dict[str, Any], recipe: Any) -> dict[str, Any]:
    """``given``, a recipe as JSON, with the defaults of ``recipe`` for what it lacks, in its tables too."""
    out = dict(given)
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            out[field.name] = _filled(given.get(field.name, {}), value)
        else:
            out.setdefault(field.name, json.loads(json.dumps(value)))
    return out
