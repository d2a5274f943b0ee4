"""How the next token is picked: shared noise, and temperature, top-k and top-p of free text.

Shared noise (common random numbers): the Gumbel noise of a token is drawn from (seed, row, position) alone and a
token is the argmax of its logits plus noise. Two teachers given the same seed differ in a token only where their
distributions do, so a difference between two students is not drowned in the luck of two samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.config.recipe import Sampling
from bench.models.loading import current_device

__all__ = ["Sampler", "gumbel_noise", "row_seed", "split_mix", "token_noise"]

LIKELIEST = 128  # tokens that top-p looks at before it looks at all
# SplitMix64's constants, as signed numbers.
STEP, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def row_seed(seed: int, row: int) -> int:
    """Where the noise of one row begins."""
    return (seed * 1_000_003 + row * 7919 + 12345) % 2**63


def gumbel_noise(seeds: Sequence[int], sizes: Sequence[int]) -> list[torch.Tensor]:
    """Draw standard Gumbel noise for slots, one generator a row.

    Args:
        seeds: of each row.
        sizes: choices of each slot, in the order of the slots.

    Returns:
        A tensor for each slot, (rows, size) float32. A row's noise depends on its seed and the earlier sizes alone.
    """
    source, uniform = torch.Generator(), torch.empty(len(seeds), sum(sizes))
    for row, seed in zip(uniform, seeds, strict=True):
        torch.rand(len(row), generator=source.manual_seed(seed), out=row)
    return list(torch.split(_gumbel(uniform), list(sizes), dim=1))


def split_mix(seeds: torch.Tensor, at: torch.Tensor | int) -> torch.Tensor:
    """Output number `at`, from 0 on, of SplitMix64 started from `seeds`, int64 for 64 bits; shapes are broadcast.

    Any output is had without those before it, so that the noise of the few tokens of a vocabulary that free text is
    drawn from costs no more than theirs.
    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    x = seeds + STEP * (torch.as_tensor(at) + 1)
    x = (x ^ ((x >> 30) & (2**34 - 1))) * FIRST
    x = (x ^ ((x >> 27) & (2**37 - 1))) * SECOND
    return x ^ ((x >> 31) & (2**33 - 1))


def token_noise(seeds: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, (rows, tokens) float32, of `tokens` at one position, whose `seeds` are (rows, 1)."""
    return _gumbel((split_mix(seeds, tokens) >> 40 & (2**24 - 1)).float() / 2**24)


def _gumbel(uniform: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise in place of uniform noise in [0, 1)."""
    return uniform.clamp_(min=1e-20, max=1 - 2**-24).log_().neg_().log_().neg_()


class Sampler:
    """Last of the logits processors: temperature, top-k, top-p, and of what they leave the argmax with the noise.

    Does what transformers' warpers do, but for ties, without sorting the vocabulary: the likeliest `LIKELIEST` tokens
    hold the nucleus of most rows, and for the others more are looked at.
    """

    def __init__(self, seeds: Sequence[int], how: Sampling) -> None:
        self.seeds = torch.tensor(seeds, device=current_device())[:, None]
        self.how = how
        self.position = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seeds, warmed = split_mix(self.seeds, self.position), scores / self.how.temperature
        self.position += 1
        if self.how.top_k or self.how.top_p < 1:
            best = self.among_likeliest(warmed, seeds, self.how.top_k or LIKELIEST)
        else:
            best = self.noisy(warmed, seeds).argmax(-1, keepdim=True)
        return warmed.scatter_(-1, best, torch.inf)

    def noisy(self, scores: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Scores with the noise of all tokens, (rows, vocabulary); row by row, as each stays near the processor."""
        tokens = torch.arange(scores.shape[-1], device=scores.device)
        return torch.stack([row + token_noise(seed, tokens) for row, seed in zip(scores, seeds, strict=True)])

    def among_likeliest(self, scores: torch.Tensor, seeds: torch.Tensor, count: int) -> torch.Tensor:
        """The token chosen of each row's `count` likeliest; of all where those do not hold the row's nucleus.

        Args:
            scores: logits after temperature, (rows, vocabulary).
            seeds: of the position's noise, (rows, 1).

        Returns:
            Token ids, (rows, 1).
        """
        values, where = scores.topk(min(count, scores.shape[-1]))
        parts = torch.split(values if self.how.top_k else scores, 16)  # each stays near the processor
        shares = (values - torch.cat([part.logsumexp(-1, keepdim=True) for part in parts])).exp()
        likelier = shares.cumsum(-1) - shares
        kept = values if self.how.top_p == 1 else values.masked_fill(likelier >= self.how.top_p, -torch.inf)
        best = where.gather(-1, (kept + token_noise(seeds, where)).argmax(-1, keepdim=True))
        wide = likelier[:, -1] < self.how.top_p
        if not self.how.top_k and wide.any():
            best[wide] = self.among_all(scores[wide], seeds[wide])
        return best

    def among_all(self, scores: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The token chosen of each row's nucleus: the first in it as the noise orders them, (rows, 1)."""
        noisy, shares = self.noisy(scores, seeds), scores.softmax(-1)
        best = noisy.argmax(-1, keepdim=True)
        rows, picked = torch.arange(len(scores), device=scores.device), best
        while True:
            likelier = (shares * (scores > scores.gather(-1, picked))).sum(-1)
            out = likelier >= self.how.top_p
            if not out.any():
                return best
            rows, scores, shares = rows[out], scores[out], shares[out]
            noisy = noisy[out].scatter_(-1, picked[out], -torch.inf)
            best[rows] = picked = noisy.argmax(-1, keepdim=True)
