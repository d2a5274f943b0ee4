"""Count the optimiser updates of a training, before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.config.schema import StrictModel, validate

__all__ = ["check_training_length", "count_updates", "describe_late_dose"]


class _TrainingLength(StrictModel):
    """The keys of `train:` that determine the number of updates, with the defaults of `SFTConfig`."""

    max_steps: int = -1
    """The number of updates; -1 to count them from epochs."""
    num_train_epochs: float = Field(default=3, ge=0)
    """Passes over the rows."""
    per_device_train_batch_size: int = Field(default=8, ge=1)
    """Rows of one batch."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Batches of one update."""
    dataloader_drop_last: bool = False
    """Whether a last batch of fewer rows is dropped."""


def check_training_length(train: Mapping[str, Any], source: str) -> None:
    """Check the keys of `train:` that `count_updates` reads.

    Raises:
        UserError: names `source` and the key.
    """
    validate(_TrainingLength, _select_keys(train), source)


def count_updates(train: Mapping[str, Any], rows: int) -> int:
    """Count the updates of a training as transformers 5 does.

    Args:
        train: the key `train:` of a recipe.
        rows: the number of training rows.
    """
    length = _TrainingLength.model_validate(_select_keys(train))
    if length.max_steps >= 0:
        return length.max_steps
    size = length.per_device_train_batch_size
    batches = rows // size if length.dataloader_drop_last else math.ceil(rows / size)
    return math.ceil(length.num_train_epochs * max(1, math.ceil(batches / length.gradient_accumulation_steps)))


def describe_late_dose(dose: int, updates: int, rows: int) -> str:
    """Describe the error of a dose that comes after the last of `updates` updates."""
    return (
        f"key 'dose': {dose:,} is beyond the last update: student.train makes {updates:,} updates of {rows:,} rows; "
        "lower the dose, or train longer"
    )


def _select_keys(train: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in train.items() if key in _TrainingLength.model_fields}
