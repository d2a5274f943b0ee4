"""The key `dose` of a recipe: student updates, or epochs, after which a student is evaluated during its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator

from bench.config.schema import StrictModel
from bench.config.training_length import check_training_length, count_updates, describe_late_dose
from bench.errors import UserError

__all__ = ["Dose", "EpochDose", "check_dose", "count_epochs", "list_dose_updates"]


class EpochDose(StrictModel):
    """A dose in passes over the student's rows."""

    epochs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(min_length=1)
    """Epochs after which the student is evaluated. Results count them as updates of all `carrier.rows` rows."""

    @field_validator("epochs")
    @classmethod
    def _expect_ascending(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        if list(epochs) != sorted(set(epochs)):
            raise ValueError("expected different epochs in ascending order, such as [1, 2, 3]")
        return epochs


Dose = tuple[Annotated[int, Field(ge=1)], ...] | EpochDose


def list_dose_updates(dose: Dose, train: Mapping[str, Any], rows: int) -> tuple[int, ...]:
    """Return the updates of a dose.

    Args:
        dose: updates, or epochs.
        train: the key `student.train` of the recipe.
        rows: the number of training rows.
    """
    return count_epochs(dose.epochs, train, rows) if isinstance(dose, EpochDose) else dose


def count_epochs(epochs: Sequence[int], train: Mapping[str, Any], rows: int) -> tuple[int, ...]:
    """Return the updates after which each of `epochs` ends in a training on `rows` rows."""
    return tuple(count_updates({**train, "max_steps": -1, "num_train_epochs": epoch}, rows) for epoch in epochs)


def check_dose(dose: Dose, train: Mapping[str, Any], rows: int, source: str) -> None:
    """Check that the training reaches the last dose; arguments as for `list_dose_updates`.

    Raises:
        UserError: names `source` and the key.
    """
    if not dose:
        return
    check_training_length(train, f"{source}: student.train")
    updates, last = count_updates(train, rows), max(list_dose_updates(dose, train, rows))
    if updates >= last:
        return
    if isinstance(dose, EpochDose):
        raise UserError(
            f"{source}: key 'dose.epochs': epoch {dose.epochs[-1]} ends after {last:,} updates, and student.train "
            f"makes {updates:,} updates of {rows:,} rows; lower the dose, or train longer"
        )
    raise UserError(f"{source}: {describe_late_dose(last, updates, rows)}")
