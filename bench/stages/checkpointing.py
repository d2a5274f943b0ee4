"""A long training's own checkpoints: what a killed training goes on from, to the very same weights.

`<folder>/<updates>` holds transformers' own checkpoint (weights, optimizer, schedule, random states), the models saved
along the way, and the sum of the losses so far. Each is sealed like an artefact; only the newest is kept.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.files import find_corrupt_files, read_record, seal

__all__ = ["checkpoint_callback", "latest_checkpoint", "remove_corrupt_checkpoints"]

EVERY = 60.0  # seconds of training between two checkpoints: a short training never pays for one
SHARE = 20  # ... and at most one part in so many of the time is spent on them


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the oldest first."""
    return sorted((p for p in folder.glob("*") if p.name.isdecimal()), key=lambda p: int(p.name))


def remove_corrupt_checkpoints(folder: Path) -> list[str]:
    """Remove checkpoints that are damaged; returns lines that name them and say where the training will go on."""
    lines = []
    for path in _checkpoints(folder):
        if names := find_corrupt_files(path):
            lines.append(f"damaged checkpoint: {path}: {', '.join(names)}; its updates are made again")
            shutil.rmtree(path)
    if left := _checkpoints(folder):
        lines.append(f"goes on after update {int(left[-1].name):,}, where it was broken off")
    return lines


class TrainingCheckpoint(NamedTuple):
    """A checkpoint, the sum of the losses up to it, and how many rows its training takes at a time."""

    path: Path
    loss: float
    micro_batch: int


def latest_checkpoint(folder: Path | None) -> TrainingCheckpoint | None:
    """The newest checkpoint in `folder`; call `review` first."""
    kept = _checkpoints(folder) if folder is not None else []
    if not kept:
        return None
    said = read_record(kept[-1])
    return TrainingCheckpoint(kept[-1], float(said["loss"]), int(said["micro_batch"]))


def checkpoint_callback(trainer: Any, out: Path, folder: Path) -> Any:
    """A callback for `trainer` that keeps its newest checkpoint in `folder`.

    Args:
        trainer: has the sum of its losses as `loss_sum`.
        out: where the trained model goes, on the disk of `folder`; models saved along the way are its `step-*`.
    """
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        begun = time.monotonic()
        due = begun + EVERY

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.begun = time.monotonic()
            control.should_save = self.begun >= self.due and state.global_step < state.max_steps

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            made = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            aside = made.with_name("kept")
            aside.mkdir()
            made.rename(aside / "trainer")
            for step in out.glob("step-*"):
                shutil.copytree(step, aside / step.name)
            seal(aside, {"loss": float(trainer.loss_sum), "micro_batch": args.per_device_train_batch_size})
            older = _checkpoints(folder)
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / str(state.global_step)
            aside.rename(place)
            for path in older:
                shutil.rmtree(path, ignore_errors=True)
            now = time.monotonic()
            self.due = now + max(EVERY, SHARE * (now - self.begun))

    return Keeper()
