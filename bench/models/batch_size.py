"""Find the largest batch that fits into GPU memory, by trial."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from bench.errors import StageError

__all__ = ["divisors", "halving_sizes", "largest_fitting"]

T = TypeVar("T")


def halving_sizes(size: int) -> list[int]:
    """List `size`, half of it, and so on down to 1."""
    return [size >> shift for shift in range(size.bit_length())]


def divisors(whole: int, first: int) -> list[int]:
    """List the sizes from `first` down to 1 that divide `whole`: micro-batches of one effective batch."""
    return [size for size in range(first, 0, -1) if whole % size == 0]


def largest_fitting(sizes: Iterable[int], work: Callable[[int], T]) -> tuple[T, int]:
    """Return `work(size)` for the first of `sizes` that fits into memory, and that size.

    Raises:
        StageError: no size fits.
    """
    for size in sizes:
        try:
            return work(size), size
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Outside of `except`, where the error no longer keeps the tensors of its frames alive.
        gc.collect()
        torch.cuda.empty_cache()
    raise StageError("the smallest batch does not fit into memory: use a smaller dtype, `quantization:` or `lora:`")
