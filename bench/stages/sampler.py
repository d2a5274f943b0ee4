"""Sample the next token with shared noise; temperature, top-k and top-p for free text.

Shared noise (common random numbers): the Gumbel noise of a token depends on (seed, row, position) alone. The sampled
token is the argmax of logits plus noise. Two teachers with the same seed write different tokens only where their
distributions differ. This removes sampling variance from the difference between their students.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # only torch is there when `bench.stages.vllm_server` imports this module
    from bench.config.carrier_settings import Numbers, Sampling, Text

__all__ = ["carrier_seed", "gumbel_noise", "pick_tokens", "row_seed", "split_mix", "token_noise"]

LIKELIEST = 128  # tokens that top-p tries before it tries the whole vocabulary
DRAW_STRIDE = 1_000_003  # above all seeds of runs, which are the seeds of evaluations
# Numbers whose noise is computed at once. On a CPU they fit into its cache: 64 rows of 49,152 tokens took 40 ms four at
# a time, 46 ms row by row and 121 ms at once (one thread of an AMD EPYC). A GPU gets few kernels.
PART = {"cpu": 2**18, "cuda": 2**26}
LARGEST = 16.64  # no noise is above: -log(-log(1 - 2^-24)) = 16.636
# SplitMix64's constants, as signed numbers.
STEP, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def row_seed(seed: int, row: int) -> int:
    """Return the seed of one row's noise."""
    return (seed * 1_000_003 + row * 7919 + 12345) % 2**63


def carrier_seed(carrier: Numbers | Text, seed: int, draw: int = 0) -> int:
    """Return the seed of a carrier's noise.

    Carriers that draw their rows have noise of their own. All others have the seed of the evaluations: under the
    grammar it seeds another generator, and text row i shares the noise of sampled answer i, in all arms alike.

    Args:
        carrier: the carrier.
        seed: the seed of the run.
        draw: the number of the noise draw; 1 is a second draw for the same prompts.
    """
    return seed + DRAW_STRIDE * (draw + (2 if carrier.draw else 0))


def gumbel_noise(seeds: Sequence[int], sizes: Sequence[int]) -> list[torch.Tensor]:
    """Draw standard Gumbel noise for slots, with one generator per row.

    Args:
        seeds: one per row.
        sizes: number of choices per slot, in the order of the slots.

    Returns:
        One tensor per slot, (rows, size) float32. A row's noise depends on its seed and the earlier sizes alone.
    """
    generator, uniform = torch.Generator(), torch.empty(len(seeds), sum(sizes))
    for row, seed in zip(uniform, seeds, strict=True):
        torch.rand(len(row), generator=generator.manual_seed(seed), out=row)
    return list(torch.split(_gumbel(uniform), list(sizes), dim=1))


def split_mix(seeds: torch.Tensor, index: torch.Tensor | int) -> torch.Tensor:
    """Return output number `index`, counted from 0, of SplitMix64 with state `seeds`: int64, shapes broadcast.

    Each output is computed without the outputs before it. Noise for a few tokens of a large vocabulary is cheap.
    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    x = seeds + STEP * (torch.as_tensor(index) + 1)
    x = (x ^ ((x >> 30) & (2**34 - 1))) * FIRST
    x = (x ^ ((x >> 27) & (2**37 - 1))) * SECOND
    return x ^ ((x >> 31) & (2**33 - 1))


def token_noise(seeds: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return standard Gumbel noise of `tokens` at one position, float32; seeds and tokens broadcast."""
    return _gumbel((split_mix(seeds, tokens) >> 40 & (2**24 - 1)).float() / 2**24)


def _gumbel(uniform: torch.Tensor) -> torch.Tensor:
    """Turn uniform noise in [0, 1) into standard Gumbel noise, in place."""
    return uniform.clamp_(min=1e-20, max=1 - 2**-24).log_().neg_().log_().neg_()


def pick_tokens(
    scores: torch.Tensor, seeds: torch.Tensor, positions: torch.Tensor | int, sampling: Sampling
) -> torch.Tensor:
    """Sample a token of each row: temperature, top-k, top-p, then the argmax of the remaining scores plus noise.

    Equals transformers' warpers except for ties, and does not sort the vocabulary. The `LIKELIEST` tokens contain the
    nucleus of most rows; other rows use all tokens.

    Args:
        scores: logits, (rows, vocabulary) float32.
        seeds: of the rows' noise, (rows, 1).
        positions: of the tokens in their completions, (rows, 1), or one for all.
        sampling: temperature 0 takes the likeliest token.

    Returns:
        Token ids, (rows,).
    """
    if sampling.temperature == 0:
        return scores.argmax(-1)
    seeds, tempered = split_mix(seeds, positions), scores / sampling.temperature
    if sampling.top_k or sampling.top_p < 1:
        return _sample_likeliest(tempered, seeds, sampling)
    return _sample_all(tempered, seeds)


def _sample_all(scores: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Sample from all tokens: the token of the largest noisy score, (rows,).

    Noise is at most `LARGEST`. So few tokens can exceed the likeliest token's noisy score, and only their noise is
    computed.
    """
    highest, likeliest = scores.max(-1, keepdim=True)
    bound = highest + token_noise(seeds, likeliest) - LARGEST
    rows, tokens = (scores >= bound).nonzero(as_tuple=True)
    noisy = scores[rows, tokens] + token_noise(seeds[rows, 0], tokens)
    best = torch.full_like(bound[:, 0], -torch.inf).scatter_reduce_(0, rows, noisy, "amax")
    first = noisy == best[rows]
    return likeliest[:, 0].scatter_reduce_(0, rows[first], tokens[first], "amin", include_self=False)


def _add_noise(scores: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Add the noise of all tokens to `scores`, (rows, vocabulary), `PART` numbers at a time."""
    tokens = torch.arange(scores.shape[-1], device=scores.device)
    rows = max(1, PART[scores.device.type] // len(tokens))
    parts = zip(torch.split(scores, rows), torch.split(seeds, rows), strict=True)
    return torch.cat([part + token_noise(seed, tokens) for part, seed in parts])


def _sample_likeliest(scores: torch.Tensor, seeds: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Sample from each row's likeliest tokens; from all where these do not contain the row's nucleus.

    Args:
        scores: logits after temperature, (rows, vocabulary).
        seeds: seeds of the position's noise, (rows, 1).
        sampling: top-k and top-p.

    Returns:
        Token ids, (rows,).
    """
    values, tokens = scores.topk(min(sampling.top_k or LIKELIEST, scores.shape[-1]))
    whole = values if sampling.top_k else scores
    parts = torch.split(whole, 16 if scores.device.type == "cpu" else len(scores))  # 16 rows fit into a CPU's cache
    shares = (values - torch.cat([part.logsumexp(-1, keepdim=True) for part in parts])).exp()
    likelier = shares.cumsum(-1) - shares
    nucleus = values if sampling.top_p == 1 else values.masked_fill(likelier >= sampling.top_p, -torch.inf)
    best = tokens.gather(-1, (nucleus + token_noise(seeds, tokens)).argmax(-1, keepdim=True))[:, 0]
    wide = likelier[:, -1] < sampling.top_p
    if not sampling.top_k and wide.any():
        best[wide] = _sample_nucleus(scores[wide], seeds[wide], sampling.top_p)
    return best


def _sample_nucleus(scores: torch.Tensor, seeds: torch.Tensor, top_p: float) -> torch.Tensor:
    """Sample from each row's nucleus: the token of the largest noisy score inside it, (rows,)."""
    noisy, shares = _add_noise(scores, seeds), scores.softmax(-1)
    best = noisy.argmax(-1, keepdim=True)
    rows, candidate = torch.arange(len(scores), device=scores.device), best
    while True:
        likelier = (shares * (scores > scores.gather(-1, candidate))).sum(-1)
        outside = likelier >= top_p
        if not outside.any():
            return best[:, 0]
        rows, scores, shares = rows[outside], scores[outside], shares[outside]
        noisy = noisy[outside].scatter_(-1, candidate[outside], -torch.inf)
        best[rows] = candidate = noisy.argmax(-1, keepdim=True)
