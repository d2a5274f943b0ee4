from __future__ import annotations

import pytest
import torch

from bench.config.carrier_settings import Numbers, Sampling, Text
from bench.stages.free_text import Sampler
from bench.stages.sampler import PART, _add_noise, carrier_seed, row_seed, split_mix, token_noise


# a nucleus of most tokens in each row, one of few, and rows that differ
@pytest.mark.parametrize("spreads", [[0.01] * 4, [5.0] * 4, [0.01, 5.0, 0.3, 1.0]])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (0, 0.9), (50, 1.0), (50, 0.5)])
def test_the_sampler_leaves_what_the_stock_warpers_leave(spreads: list[float], top_k: int, top_p: float) -> None:
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = torch.tensor(spreads)[:, None] * torch.randn(4, 3000, generator=torch.Generator().manual_seed(0))
    expected = TemperatureLogitsWarper(0.7)(None, scores)
    expected = TopKLogitsWarper(top_k)(None, expected) if top_k else expected
    expected = TopPLogitsWarper(top_p)(None, expected) if top_p < 1 else expected
    how = Sampling(temperature=0.7, top_k=top_k, top_p=top_p)
    rows = [row_seed(1, row) for row in range(4)]
    sampler = Sampler(rows, how)
    for position in range(20):
        noise = token_noise(split_mix(torch.tensor(rows)[:, None], position), torch.arange(3000))
        wanted = (expected + noise).argmax(-1)
        assert torch.equal(sampler(torch.empty(0), scores).argmax(-1), wanted)


def test_the_noise_of_tokens_is_splitmix64_and_gumbel() -> None:
    """First outputs from seed 0 against the published ones; the noise against Gumbel's distribution; and no correlation
    with the next position, row and token.
    """
    from scipy.stats import gumbel_r, kstest, pearsonr

    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(x) % 2**64 for x in split_mix(torch.tensor(0), torch.arange(3))] == published
    seeds = torch.tensor([[row_seed(3, row)] for row in range(40)])
    first, second = (token_noise(split_mix(seeds, position), torch.arange(5000)) for position in (0, 1))
    assert kstest(first.flatten().double().numpy(), gumbel_r.cdf).pvalue > 1e-3
    pairs = [(first, second), (first[1:], first[:-1]), (first[:, 1:], first[:, :-1])]
    assert all(pearsonr(a.flatten().numpy(), b.flatten().numpy()).pvalue > 1e-3 for a, b in pairs)


def test_rows_that_are_drawn_have_other_noise_than_the_answers_of_any_seed() -> None:
    """Published seeds start at 0 and those of tuning at 1000; a recipe's first seed is at most a million."""
    free = Numbers(kind="numbers", rows=3, held_out=1, draw=8, generate="free")
    grammar, text = Numbers(kind="numbers", rows=3), Text(kind="text", rows=3, prompts="scenarios_en")
    seeds = [*range(40), *range(1000, 1040), 1_000_000, 1_000_999]
    answers = {row_seed(seed, row) for seed in seeds for row in range(0, 60_000, 7)}
    for draw in (0, 1):
        assert answers.isdisjoint(row_seed(carrier_seed(free, seed, draw), row) for seed in seeds for row in range(400))
        assert carrier_seed(grammar, 5, draw) == carrier_seed(text, 5, draw) == 5 + draw * 1_000_003  # as published


@pytest.mark.parametrize("vocabulary", [1, 7, 999, 6001, 50257, PART["cpu"] + 3])
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_noise_of_many_rows_at_once_has_the_bits_of_row_by_row(vocabulary: int, rows: int) -> None:
    scores = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    seeds = split_mix(torch.tensor([[row_seed(5, row)] for row in range(rows)]), 4)
    tokens = torch.arange(vocabulary)
    one_by_one = torch.stack([row + token_noise(seed, tokens) for row, seed in zip(scores, seeds, strict=True)])
    assert torch.equal(_add_noise(scores, seeds), one_by_one)
