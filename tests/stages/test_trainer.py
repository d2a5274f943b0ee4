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
