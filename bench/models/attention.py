"""Attention for CPUs: plain matrix products, and no copies of keys and values that heads share."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["GROUPED", "group_heads"]

# Architectures whose attention is just this: scaled, masked, perhaps capped. GPT-2 shares no keys and gains nothing.
GROUPED = {"llama", "gemma", "gemma2", "gemma3_text", "mistral", "qwen2", "qwen3"}


def _grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' eager attention computes, with the queries of one key stacked in place of copied keys.

    Args:
        query: (batch, heads, new, width); key, value: (batch, key heads, all, width).
        attention_mask: added to the scores, (batch, 1, new, all).

    Returns:
        (batch, new, heads, width), and no weights.
    """
    batch, heads, new, width = query.shape
    groups = key.shape[1]
    scores = query.reshape(batch, groups, -1, width) @ key.transpose(2, 3)
    scores = scores * (width**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = (scores.view(batch, groups, -1, new, key.shape[2]) + attention_mask[:, :, None]).view_as(scores)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = torch.nn.functional.dropout(weights, dropout, module.training)
    return (weights @ value).reshape(batch, heads, new, width).transpose(1, 2).contiguous(), None


def group_heads(model: Any) -> None:
    """Have `model`, if its attention is of the plain kind, attend by matrix products: for CPUs.

    PyTorch's fused attention takes several times as long there, forward (one query of 256 rows in bfloat16: 12 ms a
    layer, products 2) and backward; and transformers' own eager attention copies keys for every head they serve, which
    was a quarter of the time of sampling with SmolLM2 on two cores.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    if model.config.model_type in GROUPED:
        AttentionInterface.register("grouped", _grouped)
        AttentionMaskInterface.register("grouped", eager_mask)
        model.set_attn_implementation("grouped")
