from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2LMHeadModel

from bench.models.kv_cache import CACHE, shared_length, shared_prefix_cache, stem_lengths
from bench.models.loading import load_model


def test_the_name_is_that_of_the_installed_transformers() -> None:
    assert CACHE in inspect.signature(GPT2LMHeadModel.forward).parameters


@pytest.mark.parametrize(
    ("prompts", "length"),
    [([[5, 6, 7], [5, 6, 8], [5, 6, 7, 9]], 2), ([[5, 6], [5, 6]], 1), ([[5], [6]], 0), ([[5, 6, 7]], 0), ([], 0)],
)
def test_at_least_one_token_of_each_prompt_is_left(gpt2_like: Path, prompts: list[list[int]], length: int) -> None:
    model = load_model(gpt2_like, dtype="float32").eval()
    with torch.no_grad():
        prefix, make_cache = shared_prefix_cache(model, prompts)
        cache = make_cache(2)
    assert prefix == length
    assert (cache is None) == (length == 0)
    if cache is not None:
        assert cache.get_seq_length() == length
        assert cache.layers[0].keys.shape[0] == 2


def test_stems_are_the_longest_beginnings_that_four_prompts_share() -> None:
    prompts = sorted(
        [(1, 2, 3, i) for i in range(5)] + [(1, 2, 4 + i, 9, 9) for i in range(3)] + [(1, 7), (1, 8, 8, 8)]
    )
    lengths = dict(zip(prompts, stem_lengths(prompts, 10), strict=True))
    assert {prompt: 3 if prompt[:3] == (1, 2, 3) else 2 if prompt[1] == 2 else 1 for prompt in prompts} == lengths
    assert stem_lengths(prompts, 5) == [2 if prompt[1] == 2 else 1 for prompt in prompts]
    assert stem_lengths(prompts, 2) == [1] * len(prompts)
    assert stem_lengths(prompts[:3], 10) == [3] * 3
    assert stem_lengths([(5, 6, 7)], 10) == [2]


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, unique=True),
    st.integers(1, 30),
)
def test_a_stem_is_shorter_than_its_prompt_and_at_least_what_all_share(
    prompts: list[tuple[int, ...]], most: int
) -> None:
    prompts = sorted(prompts)
    lengths = stem_lengths(prompts, most)
    stems = {prompt[:length] for prompt, length in zip(prompts, lengths, strict=True)}
    assert sum(map(len, stems)) <= most or set(lengths) == {shared_length(prompts)}
    assert all(shared_length(prompts) <= length < len(prompt) for prompt, length in zip(prompts, lengths, strict=True))
