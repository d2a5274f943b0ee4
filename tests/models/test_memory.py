from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.model_settings import Model
from bench.models.loading import load_model
from bench.models.memory import estimate, parameters


def model(**keys: object) -> Model:
    return Model.model_validate({"model": "tiny", "dtype": "float32", "train": {}, **keys})


@pytest.mark.parametrize(
    ("name", "count"),
    [("google/gemma-2b-it", 2e9), ("a/Turkish-Gemma-9b-v0.1", 9e9), ("b/gpt2-large-750m", 750e6), ("c/v2", None)],
)
def test_the_size_of_a_model_is_read_off_its_name(name: str, count: float | None) -> None:
    assert parameters(name, None) == count


def test_the_parameters_of_a_local_checkpoint_are_counted(gpt2_like: Path) -> None:
    expected = sum(parameter.numel() for parameter in load_model(gpt2_like, dtype="float32").parameters())
    assert parameters("owner/name-70b", gpt2_like) == expected


@pytest.mark.parametrize(
    ("keys", "load", "train"),
    [
        ({}, 4.0, 16.0),
        ({"dtype": "bfloat16"}, 2.0, 16.0),
        ({"dtype": "bfloat16", "lora": {"r": 8}}, 2.0, 2.16),
        ({"lora": {"r": 8}, "quantization": {"load_in_8bit": True}}, 1.0, 1.16),
        ({"lora": {"r": 8}, "quantization": {"load_in_4bit": True}}, 0.6, 0.76),
    ],
)
def test_bytes_per_parameter_follow_precision_and_training(keys: dict[str, object], load: float, train: float) -> None:
    assert estimate(model(**keys), 1.0) == pytest.approx((load, train))
