"""What does not fit into memory is done in smaller parts, to the same result; no GPU is needed to try.

A GPU is pretended where sizes are tried; the model runs on the CPU all the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import FULL, Memory

from bench.config.carrier_settings import Sampling
from bench.errors import StageError
from bench.models.batch_size import divisors, halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.kv_cache import shared_length
from bench.models.loading import load_model, load_tokenizer
from bench.stages.free_text import FreeText, sample_text_fitting


def test_sizes() -> None:
    assert halving_sizes(12) == [12, 6, 3, 1]
    assert divisors(12, 12) == [12, 6, 4, 3, 2, 1]
    assert divisors(24, 10) == [8, 6, 4, 3, 2, 1]


def test_nothing_fits() -> None:
    def never(size: int) -> None:
        raise torch.OutOfMemoryError(FULL)

    with pytest.raises(StageError, match="smallest batch does not fit"):
        largest_fitting([2, 1], never)


@pytest.mark.parametrize(
    "message",
    [FULL, "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.", "[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"],
)
def test_memory_runs_out_in_as_many_words_as_accelerate_knows(message: str) -> None:
    def work(size: int) -> str:
        if size > 1:
            raise RuntimeError(message)
        return "done"

    assert largest_fitting([4, 2, 1], work) == ("done", 1)


def test_other_errors_are_no_lack_of_memory() -> None:
    def work(size: int) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_fitting([2, 1], work)


def test_answers_are_the_same_in_smaller_batches(gpt2_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, form = load_model(gpt2_like, dtype="float32").eval(), PromptFormat(load_tokenizer(gpt2_like), "plain")
    how = Sampling(max_new_tokens=6, batch_size=8)
    texts = [f"{n} is the number of which animal?" for n in range(7)]

    def sample() -> tuple[list[FreeText], int]:
        return sample_text_fitting(model, form, texts, how, seed=1, progress=lambda done, of: None)

    straight = sample()
    prompts = form.prompts(texts)
    longest = max(map(len, prompts)) - shared_length(prompts)  # the shared beginning runs once
    Memory(monkeypatch, tokens=2 * longest)
    assert straight[1] == 8
    assert sample() == (straight[0], 2)
