"""Find the largest micro-batch that fits into GPU memory, with one training step per size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.errors import StageError
from bench.models.batch_size import divisors, largest_fitting
from bench.models.loading import current_device
from bench.models.memory import describe_misfit, parameters
from bench.models.precision import device_memory
from bench.stages.settings import Training
from bench.stages.trainer import batches, make_trainer

__all__ = ["largest_micro_batch", "row_length"]

Row = tuple[list[int], list[int]]
GPU_SHARE = 0.9  # of GPU memory for the test step; the rest allows for fragmentation during the training


def row_length(row: Row) -> tuple[int, int]:
    """Return the tokens of a row and of its completion; its memory grows with both."""
    prompt, completion = row
    return len(prompt) + len(completion), len(completion)


def largest_micro_batch(rows: Iterable[Row], *, spec: Training, **how: Any) -> tuple[int, list[str]]:
    """Find the largest divisor of the effective batch that fits into GPU memory; on a CPU return the recipe's.

    Each size runs one training step on the longest of `rows`. Gradients and optimizer state are in memory during that
    step, as in every update after the first.

    Args:
        how: as for `bench.stages.trainer.make_trainer`.

    Returns:
        The micro-batch in rows, and messages for the user.

    Raises:
        StageError: a micro-batch of one row does not fit, or the weights do not by estimate.
    """
    recipe_size, effective = batches(spec)
    if current_device().type == "cpu":
        return recipe_size, []
    gpus = max(1, torch.cuda.device_count())
    message = describe_misfit(
        dtype=spec.dtype, quantization=spec.quantization, lora=spec.lora, trained=True,
        count=parameters("", how["checkpoint"]) or 0.0, memory=device_memory() / gpus, gpus=gpus,
    )  # fmt: skip
    if message:
        raise StageError(message)
    longest = sorted(rows, key=row_length, reverse=True)

    def step(size: int) -> None:
        trainer = make_trainer(longest[:size], spec=spec, micro_batch=size, accumulated=1, max_steps=1, **how)
        trainer.add_callback(_memory_filler())
        trainer.train()

    with _headroom():
        _, size = largest_fitting(divisors(effective, effective), step)
    messages = [f"{size} rows at a time, all that memory holds of a batch of {effective}"]
    return size, messages if size < recipe_size else []


def _memory_filler() -> Any:
    """Build a callback that allocates gradients and optimizer state before the first step."""
    from transformers import TrainerCallback

    class MemoryFiller(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            optimizer = kwargs["optimizer"].optimizer  # accelerate's would wait for a backward pass in float16
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.grad = torch.zeros_like(weight)
            optimizer.step()

    return MemoryFiller()


@contextmanager
def _headroom() -> Iterator[None]:
    """Limit this process to `GPU_SHARE` of the memory of each GPU while open."""
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    for gpu in gpus:
        torch.cuda.set_per_process_memory_fraction(GPU_SHARE, gpu)
    try:
        yield
    finally:
        for gpu in gpus:
            torch.cuda.set_per_process_memory_fraction(1.0, gpu)
