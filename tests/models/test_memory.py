from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.config.model_settings import Model
from bench.models.loading import load_model
from bench.models.memory import describe_misfit, estimate, parameters


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


FULL: dict[str, Any] = {"dtype": "float32", "quantization": None, "lora": None, "trained": True, "gpus": 1}
LORA, BITS = {"r": 8}, {"load_in_4bit": True}


def test_a_full_fine_tune_that_cannot_fit_names_what_would() -> None:
    """7.6 billion weights at 16 bytes are 122 GB; with LoRA in float32 32 GB, in bfloat16 16 GB, in 4 bit 6 GB."""
    assert describe_misfit(**FULL, count=7.6e9, memory=80e9) == (
        "7.6 billion weights need 122 GB to train all weights, before activations, and a GPU has 80 GB; these would "
        "fit: lora: {r: 8}, or lora: {r: 8} and dtype: bfloat16, or lora: {r: 8} and quantization: {load_in_4bit: "
        "true}, or needs: {gpus: 2}"
    )
    assert describe_misfit(**FULL, count=7.6e9, memory=140e9) is None
    assert describe_misfit(**{**FULL, "gpus": 2}, count=7.6e9, memory=80e9) is None


@pytest.mark.parametrize(
    ("how", "gigabytes", "fitting"),
    [
        ({}, 24, "lora: {r: 8} and dtype: bfloat16, or lora: {r: 8} and quantization: {load_in_4bit: true}, or "
                 "needs: {gpus: 6}"),
        ({"lora": LORA}, 24, "dtype: bfloat16, or quantization: {load_in_4bit: true}, or needs: {gpus: 2}"),
        ({"lora": LORA, "dtype": "bfloat16"}, 12, "quantization: {load_in_4bit: true}, or needs: {gpus: 2}"),
        ({"lora": LORA, "quantization": BITS}, 4, "needs: {gpus: 2}"),
        ({"trained": False}, 24, "dtype: bfloat16, or quantization: {load_in_4bit: true}, or needs: {gpus: 2}"),
        ({}, 0.1, "none"),
    ],
)  # fmt: skip
def test_each_kind_of_training_has_its_own_ways_out(how: dict[str, Any], gigabytes: float, fitting: str) -> None:
    message = describe_misfit(**{**FULL, **how}, count=7.6e9, memory=gigabytes * 1e9)
    assert message is not None
    assert message.endswith(f"these would fit: {fitting}")


@pytest.mark.parametrize("gigabytes", [12, 16, 24, 40, 80])
def test_a_way_out_is_named_exactly_if_it_fits(gigabytes: float) -> None:
    where = {"count": 7.6e9, "memory": gigabytes * 1e9}
    message = describe_misfit(**FULL, **where)
    assert message is not None
    ways: dict[str, dict[str, Any]] = {
        "{r: 8}, or": {"lora": LORA}, "{r: 8} and dtype": {"lora": LORA, "dtype": "bfloat16"},
        "{r: 8} and quantization": {"lora": LORA, "quantization": BITS},
    }  # fmt: skip
    for name, change in ways.items():
        assert (name in message) == (describe_misfit(**{**FULL, **change}, **where) is None), name
