"""Models that see only the last tokens: what is computed in batches from a cache is what one row alone gives."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from bench.config.carrier_settings import Sampling
from bench.models.attention import group_heads
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.stages.free_text import sample_text
from bench.stages.generate import sample_slots

pytestmark = pytest.mark.slow

WINDOW = 8
SHAPES = ["gemma2", "gemma3", "mistral"]
COMMON = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "sliding_window": WINDOW, "max_position_embeddings": 256,
    "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def windowed(shape: str, *, vocab_size: int = 300, grouped: bool = True) -> Any:
    """A random model of four layers; every second one of the Gemmas, and every one of Mistral, sees 8 tokens."""
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        MistralConfig,
        MistralForCausalLM,
    )

    kinds = ["sliding_attention", "full_attention"] * 2
    common = {**COMMON, "vocab_size": vocab_size}
    torch.manual_seed(0)
    model: Any
    if shape == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(**common, layer_types=kinds))
    elif shape == "gemma3":
        model = Gemma3ForCausalLM(Gemma3TextConfig(**common, layer_types=kinds))
    else:
        model = MistralForCausalLM(MistralConfig(**common))
    if grouped:
        group_heads(model)
    return model.eval()


def quiet(done: int, of: int) -> None:
    pass


def random_ids(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(5, 300) for _ in range(length)]


@torch.no_grad()
def alone(model: Any, prompt: list[int], answer: list[int]) -> float:
    """The log-probability of an answer from one pass over one row, without a cache."""
    logs = model(torch.tensor([prompt + answer]), use_cache=False).logits[0].log_softmax(-1)
    return sum(float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [0, 3, 20])
@pytest.mark.parametrize("lengths", [(1, 30), (4, 6)])
def test_scores_in_batches_are_those_of_single_rows(shape: str, shared: int, lengths: tuple[int, int]) -> None:
    rng, model = random.Random(f"{shape} {shared}"), windowed(shape)
    beginning = random_ids(rng, shared)
    prompts = [beginning + random_ids(rng, rng.randint(*lengths)) for _ in range(12)]
    prompts += [beginning + random_ids(rng, lengths[1]) for _ in range(3)]
    pairs = [(prompt, random_ids(rng, length)) for prompt in prompts for length in (1, 2, 5, 14)]
    expected = [alone(model, *pair) for pair in pairs]
    for batch_size in (1, 7, 100):
        assert sequence_logprobs(model, pairs, batch_size=batch_size) == pytest.approx(expected, abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [0, 20])
def test_slots_in_batches_are_those_of_single_rows(shape: str, shared: int) -> None:
    """At temperature 0, against passes over one whole row; forced tokens between the sampled ones."""
    rng, model = random.Random(f"{shape} {shared}"), windowed(shape)
    beginning = random_ids(rng, shared)
    prompts = [beginning + random_ids(rng, 12) for _ in range(6)]
    slots: list[tuple[int, ...]] = [(9,), tuple(range(20, 120)), (10,), (11,), tuple(range(50, 250))] * 4
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        for slot in slots:
            with torch.no_grad():
                logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(max(slot, key=lambda token: float(logits[token])))
        expected.append(ids[len(prompt) :])
    for batch_size in (1, 4, 6):
        rows = sample_slots(model, prompts, slots, seed=0, temperature=0, batch_size=batch_size, progress=quiet)
        assert rows == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_texts_in_batches_are_those_of_single_rows(shape: str, gpt2_like: Any) -> None:
    form = PromptFormat(load_tokenizer(gpt2_like), "plain")
    model = windowed(shape, vocab_size=len(form.tokenizer))
    prompts = ["Go", "Write about a long day at the market, and about the way home", "Hello there"]
    how = Sampling(max_new_tokens=20, temperature=0, batch_size=3)
    expected = []
    for ids in form.prompts(prompts):
        start = len(ids)
        while len(ids) < start + 20:
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] in form.stops:
                break
        expected.append(form.decode(ids[start:]).strip())
    assert [row.text for row in sample_text(model, form, prompts, how, seed=0, progress=quiet)] == expected
