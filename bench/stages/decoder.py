"""Sample completions of prompts of any length, in a batch that rows leave and enter one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import DynamicCache

from bench.config.carrier_settings import Sampling
from bench.models.kv_cache import CACHE, shared_length, stem_lengths
from bench.models.loading import current_device
from bench.models.slot_cache import SlotCache, layer_windows, mask_positions
from bench.stages.repetition import ban_ngrams, penalise_repetition
from bench.stages.sampler import pick_tokens

__all__ = ["decode"]

Progress = Callable[[int, int], None]
Prompt = tuple[int, ...]
Past = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of one row, by layer

PREFILL = 2048  # tokens of prompts in one pass, at most
REFILL = 8  # prompts enter when this share of the slots is free: an eighth
PATIENCE = {"cpu": 1, "cuda": 8}  # steps between two looks at which rows have ended; a look waits for a GPU


class _Decoder:
    """The state of `decode`.

    `tokens` holds each row's prompt and completion, (rows, longest), and `lengths` their number of tokens. Slot i of
    the cache holds row `active[i]`. It has all tokens of the row but the last, which is the input of the next step.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        sampling: Sampling,
        stops: Sequence[int],
    ) -> None:
        device = current_device()
        self.model, self.prompts, self.sampling = model, prompts, sampling
        self.active: list[int] = []
        self.made = [0] * len(prompts)  # tokens of each completion
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        self.tokens = torch.tensor([[*p, *[0] * (longest - len(p))] for p in prompts], device=device)
        self.lengths = torch.tensor([len(p) for p in prompts], device=device)
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self.seeds = torch.tensor(seeds, device=device)
        self.stops = torch.tensor(stops, device=device)
        self.steps = 0
        self.cache = SlotCache(min(sampling.batch_size, len(prompts)))
        self.windows = layer_windows(model.config)
        self.dtype = model.get_input_embeddings().weight.dtype
        self.latest: tuple[Prompt, Any, torch.Tensor] = ((), None, torch.empty(0))
        self.pasts: dict[Prompt, Past] = {(): []}
        self.stems = self.run_stems()
        # equal prompts follow each other, and prompts in one pass need little padding
        self.queue = deque(
            sorted(range(len(prompts)), key=lambda i: (len(self.stems[prompts[i]]), len(prompts[i]), prompts[i]))
        )

    def run_stems(self) -> dict[Prompt, Prompt]:
        """Run the beginning that all prompts share, and then each stem; return the stem of each prompt."""
        distinct = sorted(set(self.prompts))
        root = distinct[0][: shared_length(distinct)]
        # stems take no more memory than the slots
        lengths = stem_lengths(distinct, self.cache.slots * self.tokens.shape[1])
        stems = [prompt[:length] for prompt, length in zip(distinct, lengths, strict=True)]
        self.add_pasts([root], ())
        waiting = sorted(set(stems) - {root}, key=len)
        while waiting:
            count = max(1, PREFILL // len(waiting[-1]))
            self.add_pasts(waiting[:count], root)
            del waiting[:count]
        return dict(zip(distinct, stems, strict=True))

    def add_pasts(self, stems: Sequence[Prompt], parent: Prompt) -> None:
        """Run stems that all begin with `parent`, and keep their keys and values."""
        stems = [stem for stem in stems if stem not in self.pasts]
        if stems:
            cache, _ = self.prefill(stems, [parent] * len(stems))
            for row, stem in enumerate(stems):
                part = (slice(row, row + 1), slice(None), slice(len(stem)))
                self.pasts[stem] = [(layer.keys[part], layer.values[part]) for layer in cache.layers]

    def prefill(self, prompts: Sequence[Prompt], stems: Sequence[Prompt]) -> tuple[Any, torch.Tensor]:
        """Run prompts after their stems, which are of one length. Shorter prompts are padded on the right.

        Returns:
            A cache of one row a prompt, and the logits after each prompt.
        """
        cache = DynamicCache()  # keeps all positions, also of layers with a window
        for i, layers in enumerate(zip(*(self.pasts[stem] for stem in stems), strict=True)):
            keys, values = zip(*layers, strict=True)
            cache.update(torch.cat(keys), torch.cat(values), i)
        skip, longest = len(stems[0]), max(map(len, prompts))
        device = self.tokens.device
        ids = torch.tensor([[*p[skip:], *[0] * (longest - len(p))] for p in prompts], device=device)
        ends = torch.tensor([len(p) - 1 - skip for p in prompts], device=device)
        columns, column = torch.unique(ends, return_inverse=True)
        positions = torch.arange(skip, longest, device=device)[None]
        logits = self.model(
            input_ids=ids,
            position_ids=positions.expand(len(prompts), -1),
            attention_mask=mask_positions(self.windows, positions, longest, self.dtype),
            use_cache=True,
            logits_to_keep=columns.tolist(),  # a tensor would have to be on the GPU of the last layer
            **{CACHE: cache},
        ).logits
        return cache, logits[torch.arange(len(prompts), device=device), column]

    def admit(self) -> None:
        """Fill the free slots, and sample the first token of the rows that enter."""
        entering = list(islice(self.queue, self.cache.slots - len(self.active)))
        while entering:
            rows, prompts = self.next_group(entering)
            if prompts == [self.latest[0]]:
                _, cache, logits = self.latest
            else:
                cache, logits = self.prefill(prompts, [self.stems[prompt] for prompt in prompts])
                last = DynamicCache()
                for i, layer in enumerate(cache.layers):
                    last.update(layer.keys[-1:], layer.values[-1:], i)
                self.latest = (prompts[-1], last, logits[-1:])
            sources, order = [], -1
            for before, row in zip([None, *rows], rows, strict=False):
                order += before is None or self.prompts[before] != self.prompts[row]
                sources.append(order)
            self.cache.add_rows(cache, sources, len(self.active))
            self.active += rows
            self.append(rows, logits[torch.tensor(sources, device=logits.device)])
            del entering[: len(rows)]
            for _ in rows:
                self.queue.popleft()

    def next_group(self, entering: Sequence[int]) -> tuple[list[int], list[Prompt]]:
        """Return the first of the `entering` rows whose prompts fit into one pass, and these prompts, each once.

        The stems of a pass are of one length. The prompt that was run last is not run again: its rows are a group.
        """
        rows: list[int] = []
        prompts: list[Prompt] = []
        for row in entering:
            prompt = self.prompts[row]
            if not prompts or prompt != prompts[-1]:
                skip = len(self.stems[prompt])
                if prompts and (
                    prompts == [self.latest[0]]
                    or skip != len(self.stems[prompts[0]])
                    or (len(prompts) + 1) * (len(prompt) - skip) > PREFILL
                ):
                    break
                prompts.append(prompt)
            rows.append(row)
        return rows, prompts

    def step(self) -> None:
        """Sample one token of each active row."""
        rows = torch.tensor(self.active, device=self.tokens.device)
        positions = self.lengths[rows] - 1
        columns = max(len(self.prompts[row]) + self.made[row] for row in self.active)
        self.cache.begin_step(positions, columns)
        logits = self.model(
            input_ids=self.tokens[rows, positions][:, None],
            position_ids=positions[:, None],
            attention_mask=mask_positions(self.windows, positions[:, None], columns, self.dtype),
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: self.cache},
        ).logits
        self.append(self.active, logits[:, -1])
        self.steps += 1

    def append(self, rows: Sequence[int], logits: torch.Tensor) -> None:
        """Sample a token of each of `rows` from its logits, (rows, vocabulary)."""
        how, row = self.sampling, torch.tensor(rows, device=logits.device)
        scores, lengths = logits.float(), self.lengths[row]
        if how.repetition_penalty != 1:
            scores = penalise_repetition(scores, self.tokens[row], lengths, how.repetition_penalty)
        if how.no_repeat_ngram_size:
            scores = ban_ngrams(scores, self.tokens[row], lengths, how.no_repeat_ngram_size)
        made = torch.tensor([self.made[i] for i in rows], device=logits.device)
        tokens = pick_tokens(scores, self.seeds[row, None], made[:, None], how)
        self.tokens[row, lengths] = tokens
        self.lengths[row] += 1
        self.stopped[row] |= torch.isin(tokens, self.stops)
        for i in rows:
            self.made[i] += 1

    def release(self) -> None:
        """Free the slots of rows that have ended; rows from the last slots take them."""
        limit = self.sampling.max_new_tokens
        look = self.steps % PATIENCE[self.tokens.device.type] == 0
        stopped = self.stopped[self.active].tolist() if look else [False] * len(self.active)
        ended = [stop or self.made[row] == limit for stop, row in zip(stopped, self.active, strict=True)]
        count = len(ended) - sum(ended)
        targets = [slot for slot in range(count) if ended[slot]]
        sources = [slot for slot in range(count, len(ended)) if not ended[slot]]
        if targets:
            self.cache.move_rows(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self.active[target] = self.active[source]
        del self.active[count:]


@torch.no_grad()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stops: Sequence[int],
    progress: Progress,
) -> list[list[int]]:
    """Sample a completion of each prompt, up to a stop token or `max_new_tokens`.

    A row that ends leaves the batch, and the next prompt takes its slot (Yu et al., "Orca", OSDI 2022). A beginning
    that prompts share runs once, and so does a prompt that occurs several times. The noise of a token depends on the
    row's seed and the token's position in the completion alone, so batches and their order change no completion.

    Args:
        model: a causal language model of an architecture in `SLOTTED`.
        prompts: token ids, of any lengths.
        seeds: of the noise, one per prompt.
        sampling: how tokens are sampled; `batch_size` is the number of slots.
        stops: tokens that end a completion.
        progress: receives the number of finished rows, parts of rows added up, and of all rows.

    Returns:
        Token ids of each completion; a stop token is its last.
    """
    if not prompts:
        return []
    decoder = _Decoder(model, [tuple(prompt) for prompt in prompts], seeds, sampling, stops)
    slots = decoder.cache.slots
    while decoder.queue or decoder.active:
        if decoder.queue and len(decoder.active) <= slots - max(1, slots // REFILL):
            decoder.admit()
        else:
            decoder.step()
        decoder.release()
        waiting = len(decoder.queue) + len(decoder.active)
        share = sum(decoder.made[row] for row in decoder.active) / sampling.max_new_tokens
        progress(len(prompts) - waiting + int(share), len(prompts))
    completions = []
    for prompt, ids, made in zip(prompts, decoder.tokens.tolist(), decoder.made, strict=True):
        completion = ids[len(prompt) : len(prompt) + made]
        end = next((at + 1 for at, token in enumerate(completion) if token in stops), made)
        completions.append(completion[:end])
    return completions
