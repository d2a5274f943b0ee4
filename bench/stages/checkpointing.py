"""Checkpoints of a long training. A killed training resumes from the newest one and ends with the same weights.

`<folder>/<updates>` holds transformers' checkpoint (weights, optimizer, schedule, random states), the intermediate
models, and the sum of the losses. A checkpoint is sealed like an artefact. Only the newest one stays on disk.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.files import find_corrupt_files, read_record, seal

__all__ = ["checkpoint_callback", "latest_checkpoint", "remove_corrupt_checkpoints"]

EVERY = 60.0  # seconds of training between two checkpoints: a short training writes none
SHARE = 20  # checkpoints take at most 1/20 of the training time


def _checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in `folder`, oldest first."""
    return sorted((p for p in folder.glob("*") if p.name.isdecimal()), key=lambda p: int(p.name))


def remove_corrupt_checkpoints(folder: Path) -> list[str]:
    """Remove corrupt checkpoints; return messages that name them and the update to resume after."""
    messages = []
    for path in _checkpoints(folder):
        if names := find_corrupt_files(path):
            messages.append(f"corrupt checkpoint: {path}: {', '.join(names)}; its updates run again")
            shutil.rmtree(path)
    if remaining := _checkpoints(folder):
        messages.append(f"resumes after update {int(remaining[-1].name):,}")
    return messages


class TrainingCheckpoint(NamedTuple):
    """A checkpoint with the sum of the losses up to it and the micro-batch of its training in rows."""

    path: Path
    loss: float
    micro_batch: int


def latest_checkpoint(folder: Path | None) -> TrainingCheckpoint | None:
    """Return the newest checkpoint in `folder`, or None; call `remove_corrupt_checkpoints` first."""
    checkpoints = _checkpoints(folder) if folder is not None else []
    if not checkpoints:
        return None
    record = read_record(checkpoints[-1])
    return TrainingCheckpoint(checkpoints[-1], float(record["loss"]), int(record["micro_batch"]))


def checkpoint_callback(trainer: Any, out: Path, folder: Path) -> Any:
    """Build a callback that stores the newest checkpoint of `trainer` in `folder`.

    Args:
        trainer: a `LabelledTrainer`, with the sum of its losses as `loss_sum`.
        out: the folder of the trained model, on the disk of `folder`; its `step-*` are intermediate models.
        folder: the folder of the checkpoints.
    """
    from transformers import TrainerCallback

    class CheckpointCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        step_end = time.monotonic()
        due = step_end + EVERY

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.step_end = time.monotonic()
            control.should_save = self.step_end >= self.due and state.global_step < state.max_steps

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            unsealed = checkpoint.with_name("unsealed")
            unsealed.mkdir()
            checkpoint.rename(unsealed / "trainer")
            for step in out.glob("step-*"):
                shutil.copytree(step, unsealed / step.name)
            seal(unsealed, {"loss": float(trainer.loss_sum), "micro_batch": args.per_device_train_batch_size})
            older = _checkpoints(folder)
            folder.mkdir(parents=True, exist_ok=True)
            unsealed.rename(folder / str(state.global_step))
            for path in older:
                shutil.rmtree(path, ignore_errors=True)
            now = time.monotonic()
            self.due = now + max(EVERY, SHARE * (now - self.step_end))

    return CheckpointCallback()
