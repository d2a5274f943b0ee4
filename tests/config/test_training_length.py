from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.training_length import count_updates


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("rows", "batch", "accumulated", "epochs"), [(10, 4, 1, 1), (11, 2, 3, 2), (5, 4, 2, 1.5)])
def test_updates_are_counted_as_transformers_counts_them(
    tmp_path: Path, rows: int, batch: int, accumulated: int, epochs: float, drop_last: bool
) -> None:
    from torch import nn
    from torch.utils.data import DataLoader
    from transformers import Trainer, TrainingArguments

    train = {
        "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "num_train_epochs": epochs,
        "dataloader_drop_last": drop_last,
    }  # fmt: skip
    trainer = Trainer(nn.Linear(1, 1), TrainingArguments(str(tmp_path), report_to="none", **train))
    loader: DataLoader[int] = DataLoader(range(rows), batch, drop_last=drop_last)  # type: ignore[arg-type]  # a range will do
    assert count_updates(train, rows) == trainer.set_initial_training_values(trainer.args, loader)[-1]
