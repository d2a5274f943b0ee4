from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from bench.models.kv_cache import CACHE, shared_prefix_cache
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
