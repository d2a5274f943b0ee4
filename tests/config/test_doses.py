from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.doses import EpochDose, check_dose, count_epochs, list_dose_updates
from bench.config.recipe_files import load_recipe
from bench.config.training_length import count_updates
from bench.errors import UserError

TRAIN = {"max_steps": -1, "num_train_epochs": 3, "per_device_train_batch_size": 8}


def test_updates_stay_as_they_are_and_epochs_are_counted_from_rows_and_batch_size() -> None:
    assert list_dose_updates((4, 16), TRAIN, 64) == (4, 16)
    assert list_dose_updates(EpochDose(epochs=(1, 2, 3)), TRAIN, 64) == (8, 16, 24)
    assert list_dose_updates(EpochDose(epochs=(1, 3)), {**TRAIN, "gradient_accumulation_steps": 3}, 64) == (3, 9)


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 5), st.integers(1, 9))
def test_the_last_epoch_ends_with_the_training(rows: int, batch: int, accumulated: int, epochs: int) -> None:
    train = {
        "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "num_train_epochs": epochs
    }  # fmt: skip
    assert count_epochs([epochs], train, rows) == (count_updates(train, rows),)


def test_a_late_epoch_names_the_key_and_both_lengths() -> None:
    check_dose(EpochDose(epochs=(3,)), TRAIN, 64, "r.yaml")
    check_dose((), {"max_steps": "never read"}, 64, "r.yaml")
    message = "r.yaml: key 'dose.epochs': epoch 4 ends after 32 updates, and student.train makes 24 updates of 64 rows"
    with pytest.raises(UserError, match=re.escape(message)):
        check_dose(EpochDose(epochs=(1, 4)), TRAIN, 64, "r.yaml")
    with pytest.raises(UserError, match="key 'dose': 25 is beyond the last update"):
        check_dose((25,), TRAIN, 64, "r.yaml")


@pytest.mark.parametrize(
    ("dose", "message"),
    [
        ("{epochs: []}", "key 'dose.epochs'"),
        ("{epochs: [2, 1]}", "different epochs in ascending order"),
        ("{epochs: [1, 1]}", "different epochs in ascending order"),
        ("{epochs: [0]}", "key 'dose.epochs.0'"),
        ("{epochs: 2}", "key 'dose.epochs'"),
        ("{epoch: [1]}", "did you mean 'epochs'?"),
        ("[0]", "key 'dose.0'"),
        ("2", "key 'dose'"),
    ],
)
def test_a_bad_dose_names_its_key(dose: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe("tiny_pair", [f"dose={dose}"])
