"""In which precision a model is asked, and in which it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.models.loading import current_device, load_model, locate_weights
from bench.models.memory import parameters

__all__ = ["SplitLinear", "load_reader", "load_split", "load_writer"]

MEMORY_SHARE = 0.5  # of the memory is for other workers, activations and caches
LIMIT = Path("/sys/fs/cgroup/memory.max")


def device_memory() -> float:
    """Bytes of memory of this process's device, used or not: what runs at the moment must not decide on a reading."""
    if current_device().type == "cuda":
        return float(torch.cuda.mem_get_info()[1])
    total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, float(LIMIT.read_text()))
    return total


def load_reader(start: Path, trained: Path, *, dtype: str, quantization: Mapping[str, Any] | None) -> tuple[Any, str]:
    """The model whose log-probabilities are read, and the dtype in which it computes them.

    float32 where memory allows: bfloat16 moves a margin by about .01 nats. Weights keep the values that they were
    trained with, so that an adapter meets the base it was trained on. Quantised models stay as they are.

    Args:
        start: folder of the checkpoint that training began with.
        trained: folder of what training left, or `start`.
        dtype: of the recipe.
    """
    base, adapter = locate_weights(trained, start)
    fits = 4 * (parameters(str(base), base) or 0.0) <= MEMORY_SHARE * device_memory()
    upcast = dtype != "float32" and not quantization and fits
    model = load_model(base, dtype=dtype, quantization=quantization, adapter=adapter, upcast=upcast)
    return model.eval(), "float32" if upcast else dtype


def load_writer(
    start: Path, trained: Path, *, writes: str, dtype: str, quantization: Mapping[str, Any] | None
) -> tuple[Any, str]:
    """The model as it writes text, and the dtype of its products.

    Args:
        start, trained, dtype: as for `load_reader`.
        writes: as `Model.writing` names it. `split` means two bfloat16 products on a GPU and float32 on a
            CPU, where a bfloat16 product is 2.1 to 2.4 times as fast at best (AMD EPYC with AVX-512), so that two gain
            nothing.
    """
    if writes == "split":
        if current_device().type == "cuda":
            return load_split(start, trained).eval(), "bfloat16"
        return load_model(trained, dtype="float32").eval(), "float32"
    base, adapter = locate_weights(trained, start)
    dtype = "bfloat16" if writes == "bfloat16" else dtype
    return load_model(base, dtype=dtype, quantization=quantization, adapter=adapter).eval(), dtype


class SplitLinear(torch.nn.Module):
    """A linear layer as two bfloat16 products, of its start and of what training added; their sum is float32.

    The updates of a full fine-tune are often smaller than bfloat16's steps around the weight, and are lost where their
    sum is rounded: of a teacher's shift of 16.3 nats 4.8 were left. Each part has steps of its own.
    """

    start: torch.Tensor
    difference: torch.Tensor | None

    def __init__(self, layer: Any, start: Any) -> None:
        super().__init__()
        ours, theirs = _rows(layer), _rows(start)
        self.register_buffer("start", theirs.bfloat16())
        self.register_buffer("difference", None if torch.equal(ours, theirs) else (ours - theirs).bfloat16())
        self.bias = layer.bias

    @property
    def weight(self) -> torch.Tensor:
        """The float32 sum, (out, in)."""
        start = self.start.float()
        return start if self.difference is None else start + self.difference

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.bfloat16()
        total = torch.nn.functional.linear(hidden, self.start).float()
        if self.difference is not None:
            total = total + torch.nn.functional.linear(hidden, self.difference)
        return total if self.bias is None else total + self.bias


def _rows(layer: Any) -> torch.Tensor:
    """Weights of a `Linear` or of GPT-2's `Conv1D`, (out, in)."""
    weight: torch.Tensor = layer.weight.detach()
    return weight if isinstance(layer, torch.nn.Linear) else weight.t().contiguous()


@torch.no_grad()
def load_split(start: Path, trained: Path) -> Any:
    """The model in `trained`, its linear layers `Split` from those of `start`; everything else is float32.

    `trained` may be `start`: a model that writes in the same mode, without a difference.
    """
    from transformers.pytorch_utils import Conv1D

    cpu = torch.device("cpu")  # a GPU need not hold both
    model = load_model(trained, dtype="float32", to=cpu)
    origin = model if trained == start else load_model(start, dtype="float32", to=cpu)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear | Conv1D):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, SplitLinear(layer, origin.get_submodule(name)))
    return model.to(current_device())
