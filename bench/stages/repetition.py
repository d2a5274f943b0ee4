"""Rules against repetition in free text, for rows of different lengths at once."""

from __future__ import annotations

import torch

__all__ = ["ban_ngrams", "penalise_repetition"]


def penalise_repetition(
    scores: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Divide positive scores of tokens that a row holds by `penalty`, multiply negative ones: as transformers does.

    Args:
        scores: (rows, vocabulary).
        tokens: of each row, prompt and completion, (rows, longest); those from `lengths` on count for nothing.
        lengths: (rows,), at least 1.
        penalty: above 1 discourages repetition (Keskar et al. 2019, CTRL).
    """
    outside = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
    tokens = torch.where(outside, tokens[:, :1], tokens)  # each token's score is written once or with one value
    present = scores.gather(1, tokens)
    return scores.scatter(1, tokens, torch.where(present < 0, present * penalty, present / penalty))


def ban_ngrams(scores: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Set the score of each token that would repeat an n-gram of its row to minus infinity.

    Args:
        scores, tokens, lengths: as for `penalise_repetition`.
        size: tokens of an n-gram; 1 bans each token of the row.
    """
    if tokens.shape[1] < size:
        return scores
    ngrams = tokens.unfold(1, size, 1)  # (rows, starts, size)
    start = torch.arange(ngrams.shape[1], device=tokens.device)
    offset = torch.arange(size - 1, device=tokens.device)
    # a row shorter than its beginning of an n-gram has no n-gram, so any index will do
    beginning = tokens.gather(1, (lengths[:, None] - size + 1 + offset).clamp(min=0))
    repeats = (ngrams[:, :, :-1] == beginning[:, None]).all(-1) & (start + size <= lengths[:, None])
    # tokens that are not banned point past the vocabulary, to a column that is cut off
    banned = torch.where(repeats, ngrams[:, :, -1], scores.shape[1])
    wide = torch.nn.functional.pad(scores, (0, 1)).scatter(1, banned, -torch.inf)
    return wide[:, :-1]
