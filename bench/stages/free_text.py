"""Sample free text with shared noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from bench.config.carrier_settings import Sampling
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.loading import current_device
from bench.models.slot_cache import SLOTTED
from bench.stages.decoder import decode
from bench.stages.sampler import pick_tokens, row_seed
from bench.stages.vllm_client import VllmServer

__all__ = ["FreeText", "Sampler", "generate", "sample_text", "sample_text_fitting"]

Progress = Callable[[int, int], None]


class FreeText(NamedTuple):
    """A sampled answer."""

    text: str
    """The text, without whitespace around it."""
    cut: bool
    """Whether it was cut off at `max_new_tokens`, before a token that ends it."""


class Sampler:
    """`pick_tokens` as the last logits processor of transformers' `generate`: only the picked token can be taken."""

    def __init__(self, seeds: Sequence[int], sampling: Sampling) -> None:
        self.seeds = torch.tensor(seeds, device=current_device())[:, None]
        self.sampling = sampling
        self.position = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best = pick_tokens(scores, self.seeds, self.position, self.sampling)
        self.position += 1
        return scores.scatter(-1, best[:, None], torch.inf)


def sample_text(
    model: Any, form: PromptFormat, prompts: Sequence[str], sampling: Sampling, *, seed: int, progress: Progress
) -> list[FreeText]:
    """Sample free answers to `prompts`, with shared noise, up to an end-of-text token.

    The order is: repetition rules, temperature, top-k, top-p, noise. Row i has the noise of `row_seed(seed, i)`.

    Args:
        model: a causal language model, or a `VllmServer`.
        form: its prompt format.
        prompts: texts.
        sampling: how tokens are sampled.
        seed: of the noise.
        progress: receives the number of finished rows, and of all rows.
    """
    ids, seeds = form.prompts(prompts), [row_seed(seed, row) for row in range(len(prompts))]
    if isinstance(model, VllmServer):
        write: Callable[..., list[list[int]]] = model.sample
    elif model.config.model_type in SLOTTED:
        write = partial(decode, model)
    else:
        write = partial(generate, model, pad=form.tokenizer.pad_token_id)
    rows = write(ids, seeds, sampling, stops=form.stops, progress=progress)
    stops = set(form.stops)
    return [FreeText(form.decode(row).strip(), cut=stops.isdisjoint(row)) for row in rows]


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stops: Sequence[int],
    pad: int,
    progress: Progress,
) -> list[list[int]]:
    """Do as `decode` does, by transformers' `generate`: slower, for architectures that are not in `SLOTTED`.

    `generate` decodes greedily over noisy logits. A batch runs until its longest row ends; shorter rows hold `pad`.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    out: list[list[int]] = []
    width = 0

    def step(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Report progress after each token, as a stopping criterion that stops no row."""
        share = (ids.shape[1] - width) / (sampling.max_new_tokens + 1)
        progress(len(out) + int(len(ids) * share), len(prompts))
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    for start in range(0, len(prompts), sampling.batch_size):
        ids = [list(prompt) for prompt in prompts[start : start + sampling.batch_size]]
        width = max(map(len, ids))
        batch = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=current_device())
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=current_device())
        noise = [Sampler(seeds[start : start + len(ids)], sampling)] if sampling.temperature > 0 else []
        sequences = model.generate(
            input_ids=batch,
            attention_mask=mask,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList(noise),
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram_size,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=pad,
            eos_token_id=list(stops),
            stopping_criteria=StoppingCriteriaList([step]),
        )
        out += sequences[:, width:].tolist()
        progress(len(out), len(prompts))
    return out


def sample_text_fitting(
    model: Any, form: PromptFormat, prompts: Sequence[str], sampling: Sampling, *, seed: int, progress: Progress
) -> tuple[list[FreeText], int]:
    """Call `sample_text` with the largest batch size that fits into GPU memory, at most the recipe's; return both."""

    def sample(size: int) -> list[FreeText]:
        resized = sampling.model_copy(update={"batch_size": size})
        return sample_text(model, form, prompts, resized, seed=seed, progress=progress)

    return largest_fitting(halving_sizes(sampling.batch_size), sample)
