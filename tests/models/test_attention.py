"""Grouped attention is transformers' eager attention, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from bench.models.attention import group_heads
from bench.models.kv_cache import CACHE

SMALL = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
SHAPES = [
    (LlamaForCausalLM, LlamaConfig(**SMALL)),
    (Gemma2ForCausalLM, Gemma2Config(**SMALL, sliding_window=4, attn_logit_softcapping=20.0)),
    (
        Gemma3ForCausalLM,
        Gemma3TextConfig(**SMALL, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    ),
]


@pytest.mark.parametrize(("kind", "config"), SHAPES)
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_it_is_eager_attention(kind: Any, config: Any, dtype: torch.dtype, apart: float) -> None:
    torch.manual_seed(0)
    model = kind(config).to(dtype).eval()
    ids = torch.randint(1, 60, (3, 9))
    real = torch.arange(9) >= torch.tensor([[0], [2], [5]])

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        loss = model(input_ids=ids, attention_mask=real.long(), labels=ids).loss
        loss.backward()
        with torch.no_grad():
            first = model(input_ids=ids[:, :6], attention_mask=real[:, :6].long(), use_cache=True)
            more = model(input_ids=ids[:, 6:], attention_mask=real.long(), **{CACHE: first[CACHE]})
        return [loss.detach(), first.logits, more.logits, *(p.grad.clone() for p in model.parameters())]

    model.set_attn_implementation("eager")
    eager = run()
    group_heads(model)
    assert model.config._attn_implementation == "grouped"
    for value, expected in zip(run(), eager, strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=apart)


def test_other_attention_stays_as_it_is() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=60))
    before = model.config._attn_implementation
    group_heads(model)
    assert model.config._attn_implementation == before != "grouped"
