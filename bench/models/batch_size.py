"""The largest batch a GPU has memory for, found by trying."""

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
    """`size`, half of it, and so on down to 1."""
    return [size >> shift for shift in range(size.bit_length())]


def divisors(whole: int, first: int) -> list[int]:
    """Sizes from `first` down to 1 that divide `whole`: micro-batches of one effective batch."""
    return [size for size in range(first, 0, -1) if whole % size == 0]


def largest_fitting(sizes: Iterable[int], work: Callable[[int], T]) -> tuple[T, int]:
    """`work(size)` with the first of `sizes` for which memory does not run out, and that size.

    Raises:
        StageError: it runs out with all of them.
    """
    for size in sizes:
        try:
            return work(size), size
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # on here, where the error and with it the tensors of its frames are gone
        gc.collect()
        torch.cuda.empty_cache()
    raise StageError("memory does not hold the smallest batch: take a smaller dtype, `quantization:` or `lora:`")
