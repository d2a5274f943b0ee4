from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.models.chat_format import PromptFormat
from bench.models.loading import load_model, load_tokenizer
from bench.models.logprobs import sequence_logprobs


def loaded(folder: Path) -> tuple[Any, PromptFormat]:
    return load_model(folder, dtype="float32").eval(), PromptFormat(load_tokenizer(folder), "plain")


@pytest.mark.parametrize("shape", ["gpt2_like", "gemma_like"])
def test_log_probabilities_are_summed_over_whole_answers(request: pytest.FixtureRequest, shape: str) -> None:
    model, form = loaded(request.getfixturevalue(shape))
    prompts = form.prompts(["What?", "Which animal is it, and where does it live?", "x"])
    answers = form.completions(["wolf", "an owl of the north", "zebra 123"], end=True)
    pairs = [(p, a) for p in prompts for a in answers]
    expected = []
    with torch.no_grad():
        for prompt, answer in pairs:
            logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            expected.append(sum(float(logs[len(prompt) - 1 + i, t]) for i, t in enumerate(answer)))
    assert sequence_logprobs(model, pairs, batch_size=4) == pytest.approx(expected, abs=1e-4)
    assert sequence_logprobs(model, pairs, batch_size=100) == pytest.approx(expected, abs=1e-4)


def test_one_token_candidates_of_a_question_share_one_row(gpt2_like: Path) -> None:
    model, form = loaded(gpt2_like)
    prompt = form.prompts(["Which animal?"])[0]
    rows: list[int] = []
    model.register_forward_pre_hook(lambda m, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True)
    sequence_logprobs(model, [(prompt, [token]) for token in range(20)], batch_size=8)
    assert rows == [1]


@pytest.mark.parametrize("shape", ["gpt2_like", "gemma_like"])
def test_a_prefix_that_all_prompts_share_runs_once(request: pytest.FixtureRequest, shape: str) -> None:
    model, form = loaded(request.getfixturevalue(shape))
    start = form.encode("You are asked about animals. " * 3)
    ends = [form.encode(text) for text in ("Which one is it?", "Say it now.", "What is it?")]
    answer = form.encode(" wolf of the north")
    alone = [sequence_logprobs(model, [(start + end, answer)], batch_size=4)[0] for end in ends]
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda m, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    assert sequence_logprobs(model, [(start + end, answer) for end in ends], batch_size=4) == pytest.approx(
        alone, abs=1e-4
    )
    assert shapes == [(1, len(start)), (3, max(map(len, ends))), (3, len(answer) - 1)]
