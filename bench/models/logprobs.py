"""Log-probabilities of continuations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from bench.models.kv_cache import CACHE, shared_prefix_cache
from bench.models.loading import current_device

__all__ = ["logits_at", "pad_right", "sequence_logprobs"]


@contextmanager
def logits_at(model: Any, mask: torch.Tensor) -> Iterator[None]:
    """While open, `model` returns logits only where `mask` (rows, width) is true, row by row: (positions, vocab)."""
    head = model.get_output_embeddings()
    # a head on another GPU than the inputs gets the hidden states there
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][mask.to(hidden[0].device)],))
    try:
        yield
    finally:
        hook.remove()


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right; return ids and the mask of real tokens, both (rows, width)."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=current_device())
    lengths = torch.tensor([len(row) for row in rows], device=current_device())
    return ids, torch.arange(width, device=current_device()) < lengths[:, None]


def _sliding_window(model: Any) -> int | None:
    """Return the shortest attention window of any layer in tokens; None if all layers attend to everything."""
    from transformers import DynamicCache

    layers = DynamicCache(config=model.config).layers
    return min((layer.sliding_window for layer in layers if layer.is_sliding), default=None)


@torch.no_grad()
def sequence_logprobs(
    model: Any,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[float]:
    """Return the log-probability of each continuation given its prompt, summed over its tokens, in nats.

    The model runs the shared prefix of all prompts once, and each prompt once. Continuations of more than one token
    start from the prompt's cache. The language-model head sees only the positions that predict a continuation. The
    softmax is in float32.

    Prompts of a batch are padded on the right. A layer with a sliding window would keep the padding in its cache and
    drop tokens for it (an error of .41 nats on a Gemma-3 shape). If rows exceed the window, a batch therefore holds
    prompts of equal length only.

    Args:
        model: a causal language model.
        pairs: (prompt ids, continuation ids); neither may be empty.
        batch_size: sequences per batch.
        progress: receives the number of finished pairs, and of all pairs.
    """
    indices: dict[tuple[int, ...], list[int]] = {}  # of the pairs of a prompt
    for i, (prompt, _) in enumerate(pairs):
        indices.setdefault(tuple(prompt), []).append(i)
    order = sorted(indices, key=len)

    def sequence_count(prompt: tuple[int, ...]) -> int:  # one-token continuations need no sequence of their own
        return max(1, sum(len(pairs[i][1]) > 1 for i in indices[prompt]))

    prefix, make_cache = shared_prefix_cache(model, order)
    window, longest = _sliding_window(model), max((len(p) + len(c) for p, c in pairs), default=0)
    equal_lengths = window is not None and longest > window and any(len(c) > 1 for _, c in pairs)
    totals = [0.0] * len(pairs)
    start = done = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and sum(map(sequence_count, order[start : stop + 1])) <= batch_size:
            if equal_lengths and len(order[stop]) > len(order[start]):
                break
            stop += 1
        prompts = order[start:stop]
        ids, mask = pad_right([prompt[prefix:] for prompt in prompts])
        last = torch.arange(mask.shape[1], device=mask.device) == mask.sum(1, keepdim=True) - 1
        mask = torch.cat([mask.new_ones(len(prompts), prefix), mask], 1)
        cache = make_cache(len(prompts))
        with logits_at(model, last):
            out = model(input_ids=ids, attention_mask=mask.long(), use_cache=True, **{CACHE: cache})
        first_logprobs = out.logits.float().log_softmax(-1)
        longer: list[tuple[int, int]] = []  # (row of the prompt, index of the pair)
        for row, prompt in enumerate(prompts):
            for i in indices[prompt]:
                totals[i] = float(first_logprobs[row, pairs[i][1][0]])
                longer += [(row, i)] if len(pairs[i][1]) > 1 else []
        if longer:
            progress(done + sum(len(indices[p]) for p in prompts) // 2, len(pairs))
            rows = torch.tensor([row for row, _ in longer])  # on the CPU: layers of the cache may be on several GPUs
            out[CACHE].batch_select_indices(rows)
            input_ids, input_mask = pad_right([pairs[i][1][:-1] for _, i in longer])
            targets, _ = pad_right([pairs[i][1][1:] for _, i in longer])
            offset = mask.sum(1)[rows][:, None]
            with logits_at(model, input_mask):
                logits = model(
                    input_ids=input_ids,
                    attention_mask=torch.cat([mask[rows], input_mask], 1).long(),
                    position_ids=offset + torch.arange(input_ids.shape[1], device=ids.device),
                    use_cache=True,
                    **{CACHE: out[CACHE]},
                ).logits.float()
            logprobs = torch.zeros(input_mask.shape, dtype=torch.float64, device=ids.device)
            # logsumexp copies its input: 256 positions at a time
            normalisers = torch.cat([part.logsumexp(-1) for part in logits.split(256)])
            target_logits = logits.gather(-1, targets[input_mask][:, None])[:, 0]
            logprobs[input_mask] = (target_logits - normalisers).double()
            for (_, i), total in zip(longer, logprobs.sum(1).tolist(), strict=True):
                totals[i] += total
        start = stop
        done += sum(len(indices[p]) for p in prompts)
        progress(done, len(pairs))
    return totals
