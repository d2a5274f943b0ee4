"""The curve of a training: loss, learning rate and gradient norm of every update, as a file of the artefact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["FILE", "curve_callback", "read_curve", "write_curve"]

FILE = "curve.json"
NAMES = ("loss", "learning_rate", "grad_norm")


def curve_callback(trainer: Any) -> Any:
    """Build a callback that adds each update to the log history, which checkpoints of a training hold.

    The gradient norm is that before clipping, and None where the recipe clips nothing.

    Args:
        trainer: a `LabelledTrainer`, with the sum of its losses as `loss_sum`.
    """
    from transformers import TrainerCallback

    clip = trainer.accelerator.clip_grad_norm_

    class CurveCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        norm: Any = None

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.before = float(trainer.loss_sum)
            self.rate = float(kwargs["optimizer"].param_groups[0]["lr"])

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            norm = None if self.norm is None else float(self.norm)
            values = (float(trainer.loss_sum) - self.before, self.rate, norm)
            state.log_history.append({"step": state.global_step, **dict(zip(NAMES, values, strict=True))})

    callback = CurveCallback()

    def clip_and_keep(*args: Any, **kwargs: Any) -> Any:
        callback.norm = clip(*args, **kwargs)
        return callback.norm

    trainer.accelerator.clip_grad_norm_ = clip_and_keep
    return callback


def write_curve(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the curve of a finished training, a list for each name, with six digits."""
    updates = [entry for entry in history if NAMES[0] in entry]
    curve = {name: [_round(entry[name]) for entry in updates] for name in NAMES}
    (folder / FILE).write_text(json.dumps(curve), encoding="utf-8")


def read_curve(folder: Path) -> dict[str, list[float | None]]:
    """Read the curve of a trained model, by name; empty for a model that was trained before curves were written."""
    path = folder / FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
