from __future__ import annotations

import pytest
import torch

from bench.stages.repetition import ban_ngrams, penalise_repetition

VOCABULARY = 12
LENGTHS = [1, 2, 3, 9, 30]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, and tokens of few kinds, so that n-grams repeat; tokens after a row's end are of any kind."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(len(LENGTHS), VOCABULARY, generator=generator)
    tokens = torch.randint(0, 3, (len(LENGTHS), 30), generator=generator)
    for row, length in enumerate(LENGTHS):
        tokens[row, length:] = torch.randint(3, VOCABULARY, (30 - length,), generator=generator)
    return scores, tokens, torch.tensor(LENGTHS)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_the_penalty_is_that_of_transformers(penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    scores, tokens, lengths = batch()
    result = penalise_repetition(scores, tokens, lengths, penalty)
    stock = RepetitionPenaltyLogitsProcessor(penalty)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(result[row], stock(tokens[row : row + 1, :length], scores[row : row + 1].clone())[0])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 31])
def test_the_banned_tokens_are_those_of_transformers(size: int) -> None:
    from transformers import NoRepeatNGramLogitsProcessor

    scores, tokens, lengths = batch()
    result = ban_ngrams(scores, tokens, lengths, size)
    stock = NoRepeatNGramLogitsProcessor(size)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(result[row], stock(tokens[row : row + 1, :length], scores[row : row + 1].clone())[0])
    assert (size <= 3) == bool(torch.isinf(result).any())
