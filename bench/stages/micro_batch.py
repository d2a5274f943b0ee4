"""How many rows a training takes at a time: as many as a GPU's memory holds, found by one step per size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from bench.models.batch_size import divisors, largest_fitting
from bench.models.loading import current_device
from bench.stages.settings import Training
from bench.stages.trainer import batches, make_trainer

__all__ = ["largest_micro_batch", "row_length"]

Row = tuple[list[int], list[int]]
GPU_SHARE = 0.9  # of the GPU's memory, so that a training that fits once fits to its end, fragmented as memory becomes


def row_length(row: Row) -> tuple[int, int]:
    """Tokens of a row in all, and of its completion: what its memory grows with."""
    prompt, completion = row
    return len(prompt) + len(completion), len(completion)


def largest_micro_batch(rows: Sequence[Row], *, spec: Training, **how: Any) -> tuple[int, list[str]]:
    """The largest micro-batch that a GPU's memory holds, one that divides the effective batch; on a CPU the recipe's.

    One training step is made per size that is tried, on the longest of `rows`, with all gradients and the optimizer's
    state in memory, as they are in every update after the first.

    Args:
        how: as for `bench.stages.trainer.make_trainer`.

    Returns:
        The micro-batch, and lines for the user.

    Raises:
        StageError: not even one row at a time fits.
    """
    wanted, effective = batches(spec)
    if current_device().type == "cpu":
        return wanted, []
    longest = sorted(rows, key=row_length, reverse=True)

    def step(size: int) -> None:
        trainer = make_trainer(longest[:size], spec=spec, micro_batch=size, accumulated=1, max_steps=1, **how)
        trainer.add_callback(_filler())
        trainer.train()

    with _headroom():
        _, size = largest_fitting(divisors(effective, effective), step)
    few = [f"{size} rows at a time, all that memory holds of a batch of {effective}"]
    return size, few if size < wanted else []


def _filler() -> Any:
    """A callback that gives a step the memory that later ones have less: gradients and the optimizer's state."""
    from transformers import TrainerCallback

    class Filler(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            optimizer = kwargs["optimizer"].optimizer  # accelerate's would wait for a backward pass in float16
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.grad = torch.zeros_like(weight)
            optimizer.step()

    return Filler()


@contextmanager
def _headroom() -> Iterator[None]:
    """No more than `SHARE` of the GPU's memory meanwhile."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.set_per_process_memory_fraction(GPU_SHARE)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
