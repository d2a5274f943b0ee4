from __future__ import annotations

from pathlib import Path

import pytest
from conftest import spec

from bench.stages.trainer import batches, sft_config


@pytest.mark.parametrize(("rows", "accumulated"), [(8, 1), (2, 4)])
def test_the_batch_of_an_update_is_rows_times_accumulation(rows: int, accumulated: int) -> None:
    train = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}
    assert batches(spec(**train)) == (rows, rows * accumulated)


def test_a_configuration_keeps_the_recipe_and_reports_to_nobody(tmp_path: Path) -> None:
    config = sft_config({"learning_rate": 3e-4, "max_steps": 7}, out=tmp_path, seed=5)
    assert (config.learning_rate, config.max_steps, config.seed) == (3e-4, 7, 5)
    assert config.report_to == []
    assert not config.push_to_hub


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_a_recipe_may_use_the_old_or_the_new_name_of_checkpointing(tmp_path: Path, name: str) -> None:
    from trl import SFTConfig

    if name not in SFTConfig.__dataclass_fields__:
        pytest.skip("a later name")
    config = sft_config({name: True, f"{name}_kwargs": {"use_reentrant": False}}, out=tmp_path, seed=0)
    assert config.gradient_checkpointing is True
    assert config.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert sft_config({}, out=tmp_path, seed=0).gradient_checkpointing is False
