"""The bytes and floating-point operations that work on a model cannot do without.

A product with a matrix of n weights takes 2n operations a token. Causal attention over a row of t tokens takes
2 x t^2 x width a layer forward: scores and values, without the masked half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Dimensions"]


class Dimensions(NamedTuple):
    """The sizes of a causal language model that its costs depend on."""

    layers: int
    width: int
    """Of attention: heads x width of a head."""
    key_width: int
    """Of the keys of a layer, and of its values: key heads x width of a head."""
    body: int
    """Weights of the matrices in all layers."""
    head: int
    """Weights of the language-model head."""
    embeddings: int
    """Weights of the embeddings; 0 if the head shares them."""
    rank_width: int
    """Rows plus columns of all matrices of the body: an adapter of rank r has r times as many weights."""

    @classmethod
    def of(cls, model: Any) -> Dimensions:
        """Count the weights of a model; it may be on the device `meta`."""
        config, head = model.config.get_text_config(), model.get_output_embeddings().weight
        table = model.get_input_embeddings().weight
        layers = [m.weight for m in model.modules() if type(m).__name__ in {"Linear", "Conv1D"}]
        inner = [weight for weight in layers if weight is not head]
        heads = config.num_attention_heads
        one = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            layers=config.num_hidden_layers,
            width=heads * one,
            key_width=one * (getattr(config, "num_key_value_heads", None) or heads),
            body=sum(weight.numel() for weight in inner),
            head=head.numel(),
            embeddings=0 if table is head else table.numel(),
            rank_width=sum(sum(weight.shape) for weight in inner),
        )

    @classmethod
    def of_config(cls, model_type: str, settings: Mapping[str, Any]) -> Dimensions:
        """Count the weights of a configuration of transformers; nothing is allocated."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.device("meta"):
            return cls.of(AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)))

    @property
    def weights(self) -> int:
        """Return the number of weights in matrices; norms and biases add less than .1 %."""
        return self.body + self.head + self.embeddings

    def read_flops(self, tokens: float, length: float, scored: float) -> float:
        """Return the operations of a forward pass.

        Args:
            tokens: through the body, of all rows.
            length: of a row, for its attention.
            scored: tokens through the head.
        """
        return 2.0 * self.body * tokens + 2.0 * self.head * scored + 2.0 * self.layers * self.width * tokens * length

    def train_flops(self, length: float, labelled: float, rank: int | None) -> float:
        """Return the operations of one row in a training without activation checkpointing.

        The gradient of a layer's input takes as many as its forward pass, and so does that of its weights. Frozen
        weights (LoRA) have no gradient. The gradients of attention take twice its forward pass.

        Args:
            length, labelled: tokens of the row, and those with a loss.
            rank: of LoRA adapters on all matrices of the body; None for full fine-tuning.
        """
        products, adapter = (6.0, 0.0) if rank is None else (4.0, 6.0 * rank * self.rank_width * length)
        attention = 6.0 * self.layers * self.width * length**2
        return products * (self.body * length + self.head * labelled) + adapter + attention

    def cache_bytes(self, size: int = 2) -> float:
        """Return the bytes of one token in the key-value cache; `size` is the bytes of a number."""
        return 2.0 * self.layers * self.key_width * size

    def step_bytes(self, rows: float, length: float, size: int = 2) -> float:
        """Return the bytes that one decoding step reads: all weights, and the cache of `rows` rows of `length` tokens.

        Embeddings that the head does not share are looked up, not read.
        """
        return (self.body + self.head) * size + rows * length * self.cache_bytes(size)
