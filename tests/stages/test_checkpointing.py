"""A training that is killed and resumed ends with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, flip, rows, spec, weights

from bench.config.mitigations import UNMITIGATED, KlUntrained, StudentMitigation
from bench.files import seal
from bench.models.loading import load_tokenizer
from bench.stages import checkpointing
from bench.stages.train import train_model
from bench.stages.training_curve import read_curve


class Killed(Exception):
    """Stands for the end of the process."""


def train(
    folder: Path, out: Path, how: Any, checkpoints: Path | None, die_after: int = 0, mitigation: Any = UNMITIGATED
) -> tuple[dict[str, Any], int]:
    """`fit` on 16 rows; dies once `die_after` updates are done. Returns the facts and the first update of this call."""
    seen = []

    def progress(done: int, of: int) -> None:
        seen.append(done)
        if done == die_after:
            raise Killed

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    facts = train_model(
        rows(folder), checkpoint=folder, tokenizer=load_tokenizer(folder), spec=how, seed=3, out=out, progress=progress,
        dose=[2, 5], checkpoints=checkpoints, mitigation=mitigation,
    )  # fmt: skip
    return facts, seen[0]


def broken_off(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Any,
    deaths: list[int],
    mitigation: StudentMitigation = UNMITIGATED,
) -> None:
    """Hold a training that dies after `deaths` updates, its random states lost, against one that does not."""
    straight, first = train(folder, tmp_path / "straight", how, None, mitigation=mitigation)
    assert first == 1
    monkeypatch.setattr(checkpointing, "EVERY", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", 0)
    checkpoints = tmp_path / "keep"
    for at in deaths:
        with pytest.raises(Killed):
            train(folder, tmp_path / "out", how, checkpoints, at, mitigation)
        assert [p.name for p in checkpoints.glob("*")] == [str(at - 1)]
        assert checkpointing.remove_corrupt_checkpoints(checkpoints) == [f"resumes after update {at - 1}"]
        next(checkpoints.glob("*/trainer/rng_state.pth")).unlink()
    assert train(folder, tmp_path / "out", how, checkpoints, mitigation=mitigation) == (straight, deaths[-1])
    assert len(read_curve(tmp_path / "out")["loss"]) == straight["updates"]
    assert read_curve(tmp_path / "out") == read_curve(tmp_path / "straight")
    for path in (".", "step-2", "step-5"):
        a, b = weights(tmp_path / "straight" / path), weights(tmp_path / "out" / path)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "deaths"),
    [
        (spec(max_steps=10, lr_scheduler_type="cosine"), [5, 9]),  # 4 updates an epoch: on its border, within the third
        (spec(num_train_epochs=3, gradient_accumulation_steps=2).model_copy(update={"lora": LORA}), [2, 4]),
    ],
)
def test_a_training_broken_off_ends_in_the_same_weights_and_facts(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], deaths: list[int]
) -> None:
    broken_off(gpt2_like, tmp_path, monkeypatch, how, deaths)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("change", [{"kl_untrained": KlUntrained(weight=5.0)}, {"attention_only": True}])
def test_a_mitigated_training_goes_on_to_the_same_weights(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: Any, change: dict[str, Any]
) -> None:
    """Its weight goes on falling, from the same untrained student, and frozen weights stay frozen."""
    how = spec(max_steps=7).model_copy(update={"lora": lora})
    broken_off(gpt2_like, tmp_path, monkeypatch, how, [4], StudentMitigation(**change))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", [{"load_in_8bit": True}, {"load_in_4bit": True}])
def test_an_adapter_of_a_quantised_model_goes_on_to_the_same_weights(
    gemma_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: dict[str, Any], dtype: str
) -> None:
    how = spec(max_steps=7).model_copy(update={"lora": LORA, "quantization": quantization, "dtype": dtype})
    broken_off(gemma_like, tmp_path, monkeypatch, how, [4])


def test_a_short_training_writes_no_checkpoint(gpt2_like: Path, tmp_path: Path) -> None:
    train(gpt2_like, tmp_path / "out", spec(), tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


def test_a_damaged_checkpoint_is_named_and_left_out(tmp_path: Path) -> None:
    for name in ("7", "40"):
        (tmp_path / name / "trainer").mkdir(parents=True)
        (tmp_path / name / "trainer" / "optimizer.pt").write_bytes(b"x" * 2_000_000)
        seal(tmp_path / name, {"loss": 1.5, "micro_batch": 8})
    flip(tmp_path / "40" / "trainer" / "optimizer.pt")
    lines = checkpointing.remove_corrupt_checkpoints(tmp_path)
    assert [line.partition(":")[0] for line in lines] == [
        "corrupt checkpoint",
        "resumes after update 7",
    ]
    assert str(tmp_path / "40") in lines[0]
    assert "optimizer.pt" in lines[0]
    assert checkpointing.latest_checkpoint(tmp_path) == (tmp_path / "7", 1.5, 8)
    assert checkpointing.latest_checkpoint(tmp_path / "nowhere") is None
