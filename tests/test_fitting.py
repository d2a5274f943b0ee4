"""What does not fit into a GPU's memory is done in smaller parts, to the same result; no GPU is needed to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import rows, spec, weights

from bench.errors import StageError
from bench.fitting import divisors, first_fitting, halves
from bench.generate import fitting_text
from bench.models import Format, load_model, load_tokenizer
from bench.recipe import Sampling
from bench.train import fit


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPT-2 that runs out of memory with more than two rows."""
    from transformers import GPT2LMHeadModel

    whole = GPT2LMHeadModel.forward

    def forward(self: Any, input_ids: Any = None, **more: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return whole(self, input_ids=input_ids, **more)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)


def test_sizes() -> None:
    assert halves(12) == [12, 6, 3, 1]
    assert divisors(12, 12) == [12, 6, 4, 3, 2, 1]
    assert divisors(24, 10) == [8, 6, 4, 3, 2, 1]


def test_nothing_fits() -> None:
    def never(size: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(StageError, match="does not hold the smallest batch"):
        first_fitting([2, 1], never)


def trained(folder: Path, out: Path, **more: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    facts = fit(
        rows(folder), base=folder, tokenizer=load_tokenizer(folder), spec=spec(max_steps=5, **more), seed=3,
        out=out, progress=lambda done, of: None,
    )  # fmt: skip
    return facts, weights(out)


def test_an_update_is_made_of_as_many_rows_whatever_fits_at_a_time(
    gpt2_like: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole, _ = trained(gpt2_like, tmp_path / "whole", per_device_train_batch_size=8)
    asked = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    parts, by_hand = trained(gpt2_like, tmp_path / "parts", **asked)
    request.getfixturevalue("small_memory")
    found, halved = trained(gpt2_like, tmp_path / "halved", per_device_train_batch_size=8)
    assert (whole["micro_batch"], whole["notices"]) == (8, [])
    assert (parts["micro_batch"], parts["notices"]) == (2, [])
    assert (found["effective_batch"], found["micro_batch"], found["updates"]) == (8, 2, 5)
    assert found["notices"] == ["2 rows at a time, all that memory holds of a batch of 8"]
    assert found["mean_loss"] == pytest.approx(whole["mean_loss"], abs=0.01)  # dropout draws by micro-batch
    assert all(torch.equal(weight, by_hand[name]) for name, weight in halved.items())


def test_answers_are_the_same_in_smaller_batches(gpt2_like: Path, request: pytest.FixtureRequest) -> None:
    model, form = load_model(gpt2_like, dtype="float32").eval(), Format(load_tokenizer(gpt2_like), "plain")
    how = Sampling(max_new_tokens=6, batch_size=8)
    texts = [f"Which animal is number {n}?" for n in range(7)]

    def written() -> tuple[list[str], int]:
        return fitting_text(model, form, texts, how, seed=1, progress=lambda done, of: None)

    straight = written()
    request.getfixturevalue("small_memory")
    assert straight[1] == 8
    assert written() == (straight[0], 2)
