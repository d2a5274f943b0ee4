from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import rows, spec

from bench.models.loading import load_tokenizer
from bench.stages.train import train_model
from bench.stages.training_curve import FILE, read_curve, write_curve


def curve_of(folder: Path, out: Path, **train: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    out.mkdir()
    facts = train_model(
        rows(folder), checkpoint=folder, tokenizer=load_tokenizer(folder), spec=spec(**train), seed=3, out=out,
        progress=lambda done, of: None,
    )  # fmt: skip
    return facts, read_curve(out)


def test_each_update_has_its_loss_rate_and_norm(gpt2_like: Path, tmp_path: Path) -> None:
    train = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
    }
    facts, curve = curve_of(gpt2_like, tmp_path / "a", **train)
    updates = facts["updates"]
    assert {name: len(values) for name, values in curve.items()} == dict.fromkeys(curve, updates)
    assert sum(curve["loss"]) / updates == pytest.approx(facts["mean_loss"], rel=1e-5)
    assert curve["learning_rate"] == pytest.approx([1e-3 * (updates - i) / updates for i in range(updates)], rel=1e-5)
    assert all(norm > 0 for norm in curve["grad_norm"])


def test_accumulated_batches_are_one_update(gpt2_like: Path, tmp_path: Path) -> None:
    whole = curve_of(gpt2_like, tmp_path / "a", per_device_train_batch_size=8, max_steps=2)[1]
    parts = curve_of(
        gpt2_like, tmp_path / "b", per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=2
    )[1]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], rel=0.1)  # dropout differs


def test_a_model_of_earlier_code_has_no_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == {}
    write_curve([{"step": 1, "loss": 1 / 3, "learning_rate": 0.0, "grad_norm": None}, {"train_loss": 1.0}], tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == {
        "loss": [0.333333],
        "learning_rate": [0.0],
        "grad_norm": [None],
    }
