"""The key-value cache of a model: its name in transformers, and the cache of a prefix that prompts share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from typing import Any

import torch
import transformers
from packaging.version import Version

from bench.models.loading import current_device

__all__ = ["CACHE", "shared_length", "shared_prefix_cache", "stem_lengths"]

# The argument and the output of a model that hold its cache: transformers 5.24 renamed them.
CACHE = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"
SHARERS = (4, 8, 16, 32, 64)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens with which all prompts begin, at least one less than the length of any."""
    rows = [tuple(prompt) for prompt in prompts]
    first, last = min(rows, default=()), max(rows, default=())  # a prefix of both is a prefix of all
    return _common_length(first[:-1], last)


def stem_lengths(prompts: Sequence[Sequence[int]], most: int) -> list[int]:
    """Return for each prompt the length of its stem: the longest beginning that some prompts share, at least 4.

    A stem that runs once saves its tokens for all but one of its prompts. Where the different stems have more than
    `most` tokens, more prompts must share one; the last resort is the beginning that all prompts share.

    Args:
        prompts: different ones, in lexicographic order.
        most: the largest number of tokens of all different stems.

    Returns:
        Numbers of tokens, each less than that of its prompt.
    """
    shared = [_common_length(*pair) for pair in pairwise(prompts)]
    for sharers in SHARERS:
        if sharers > len(prompts):
            break
        # of each `sharers` neighbours, the tokens that all of them share
        common = [min(shared[i : i + sharers - 1]) for i in range(len(prompts) - sharers + 1)]
        longest = [max(common[max(0, i - sharers + 1) : i + 1]) for i in range(len(prompts))]
        lengths = [min(length, len(prompt) - 1) for length, prompt in zip(longest, prompts, strict=True)]
        stems = {tuple(prompt[:length]) for length, prompt in zip(lengths, prompts, strict=True)}
        if sum(map(len, stems)) <= most:
            return lengths
    return [shared_length(prompts)] * len(prompts)


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def shared_prefix_cache(model: Any, prompts: Sequence[Sequence[int]]) -> tuple[int, Callable[[int], Any]]:
    """Run the prefix that all prompts share, such as the system message of a chat, once.

    Returns:
        The prefix length in tokens, at least one less than that of any prompt.
        A function that takes a number of rows and returns the key-value cache for them: None if the length is 0.
    """
    length = shared_length(prompts)
    if length == 0 or len(prompts) == 1:
        return 0, lambda count: None
    ids = torch.tensor([list(prompts[0][:length])], device=current_device())
    cache = model(input_ids=ids, use_cache=True, logits_to_keep=1)[CACHE]

    def repeat_cache(count: int) -> Any:
        repeated = copy.deepcopy(cache)
        repeated.batch_repeat_interleave(count)
        return repeated

    return length, repeat_cache
