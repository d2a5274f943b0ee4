"""Load a model in the precision in which it is evaluated, or in which it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.models.loading import current_device, load_model, locate_weights
from bench.models.memory import parameters

__all__ = ["SplitLinear", "device_memory", "load_reader", "load_split", "load_writer"]

MEMORY_SHARE = 0.5  # the rest is for other workers, activations and caches
LIMIT = Path("/sys/fs/cgroup/memory.max")


def device_memory() -> float:
    """Return the total memory of this process's devices in bytes. Free memory would make precision depend on load."""
    if current_device().type == "cuda":
        return float(sum(torch.cuda.mem_get_info(i)[1] for i in range(torch.cuda.device_count())))
    total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, float(LIMIT.read_text()))
    return total


def load_reader(start: Path, trained: Path, *, dtype: str, quantization: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Load a model for log-probabilities; return it and the dtype in which it computes.

    The dtype is float32 where memory allows, because bfloat16 moves a margin by about .01 nats. Weights keep the values
    of the training, so that an adapter gets the weights on which it was trained. Quantised models are not upcast.

    Args:
        start: the folder of the checkpoint from which training started.
        trained: the folder of the trained model, or `start`.
        dtype: of the recipe.
        quantization: of the recipe.
    """
    weights, adapter = locate_weights(trained, start)
    fits = 4 * (parameters(str(weights), weights) or 0.0) <= MEMORY_SHARE * device_memory()
    upcast = dtype != "float32" and not quantization and fits
    model = load_model(weights, dtype=dtype, quantization=quantization, adapter=adapter, upcast=upcast)
    return model.eval(), "float32" if upcast else dtype


def load_writer(
    start: Path, trained: Path, *, writes: str, dtype: str, quantization: Mapping[str, Any] | None
) -> tuple[Any, str]:
    """Load a model for text generation; return it and the dtype of its matrix products.

    Args:
        start, trained, dtype, quantization: as for `load_reader`.
        writes: a value of `Model.writing`. `split` means two bfloat16 products on a GPU, and float32 on a CPU. There
            one bfloat16 product is at most 2.1 to 2.4 times as fast (AMD EPYC with AVX-512), so two gain nothing.
    """
    if writes == "split":
        if current_device().type == "cuda":
            return load_split(start, trained).eval(), "bfloat16"
        return load_model(trained, dtype="float32").eval(), "float32"
    weights, adapter = locate_weights(trained, start)
    dtype = "bfloat16" if writes == "bfloat16" else dtype
    return load_model(weights, dtype=dtype, quantization=quantization, adapter=adapter).eval(), dtype


class SplitLinear(torch.nn.Module):
    """A linear layer as the float32 sum of two bfloat16 products: of the start weights and of the training update.

    The updates of a full fine-tune are often smaller than a bfloat16 step at the weight, so rounding their sum erases
    them: a teacher shift of 16.3 nats fell to 4.8. Rounding the two parts separately keeps the update.
    """

    start: torch.Tensor
    difference: torch.Tensor | None

    def __init__(self, layer: Any, start: Any) -> None:
        super().__init__()
        trained_weight, start_weight = _out_by_in(layer), _out_by_in(start)
        self.register_buffer("start", start_weight.bfloat16())
        unchanged = torch.equal(trained_weight, start_weight)
        self.register_buffer("difference", None if unchanged else (trained_weight - start_weight).bfloat16())
        self.bias = layer.bias

    @property
    def weight(self) -> torch.Tensor:
        """Return the float32 sum of both parts, (out, in)."""
        start = self.start.float()
        return start if self.difference is None else start + self.difference

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.to(self.start.device, torch.bfloat16)  # another one if the model is spread over GPUs
        total = torch.nn.functional.linear(hidden, self.start).float()
        if self.difference is not None:
            total = total + torch.nn.functional.linear(hidden, self.difference)
        return total if self.bias is None else total + self.bias


def _out_by_in(layer: Any) -> torch.Tensor:
    """Return the weight of a `Linear` or of GPT-2's `Conv1D`, (out, in)."""
    weight: torch.Tensor = layer.weight.detach()
    return weight if isinstance(layer, torch.nn.Linear) else weight.t().contiguous()


@torch.no_grad()
def load_split(start: Path, trained: Path) -> Any:
    """Load the model in `trained` with its linear layers as `SplitLinear`; all other weights are float32.

    If `trained` is `start`, the layers have no difference.
    """
    from transformers.pytorch_utils import Conv1D

    # Both are on the GPU: 8 bytes a weight, half of those of the full fine-tune that this teacher had.
    model = load_model(trained, dtype="float32")
    origin = model if trained == start else load_model(start, dtype="float32")
    names = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear | Conv1D)]
    for name in names:  # each layer's float32 weights are freed before the next is split
        parent, _, child = name.rpartition(".")
        split = SplitLinear(model.get_submodule(name), origin.get_submodule(name))
        setattr(model.get_submodule(parent), child, split)
    return model
