"""Outcomes from the log-probabilities of a question's candidates: margins, probabilities, ranks. Pure numpy.

The argument `logprobs` holds one row per question: the log-probability of each candidate in nats, summed over its
tokens, the answer first and then its foils. Questions may have different numbers of candidates, at least two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outcomes", "derive_margins", "derive_outcomes", "pad_candidates"]

Array = NDArray[np.float64]


class Outcomes(NamedTuple):
    """The outcomes of one model, each of shape (questions,)."""

    margin: Array
    """Log-probability of the answer minus the mean over its foils, in nats; per token where token counts are given."""
    p_answer: Array
    """P(answer | one of the candidates): the softmax over the candidates' total log-probabilities, 0..1."""
    log_odds: Array
    """log(p_answer / (1 - p_answer)), in nats."""
    rank: Array
    """Rank of the answer by total log-probability, 1 for the most likely candidate; ties share their mean rank."""
    mass: Array
    """P(one of the candidates), 0..1: the sum of their probabilities."""
    top: Array
    """1 where the answer is the most likely candidate, 0 where it is not; 1/n where n candidates tie for it."""


def derive_outcomes(logprobs: Sequence[Sequence[float]], tokens: Sequence[Sequence[int]] | None = None) -> Outcomes:
    """Derive all outcomes of the questions.

    Args:
        logprobs: as above.
        tokens: the number of tokens of each candidate, where the margin is a mean over tokens. The other outcomes go by
            total log-probabilities, since only those are logarithms of probabilities.

    Raises:
        ValueError: a number is not finite, a question has fewer than two candidates, or the shapes differ.
    """
    totals, is_candidate = pad_candidates(logprobs)
    answer, foils = totals[:, :1], totals[:, 1:]
    log_mass = _logsumexp(totals)
    log_odds = answer[:, 0] - _logsumexp(foils)
    above, equal = (foils > answer).sum(axis=1), (foils == answer).sum(axis=1)
    return Outcomes(
        margin=_margins(totals, is_candidate, tokens),
        p_answer=np.exp(answer[:, 0] - log_mass),
        log_odds=log_odds,
        rank=1 + above + equal / 2,
        mass=np.exp(log_mass),
        top=np.where(above == 0, 1 / (1 + equal), 0.0),
    )


def derive_margins(logprobs: Sequence[Sequence[float]], tokens: Sequence[Sequence[int]] | None = None) -> Array:
    """Derive the margins alone, of shape (questions,), in nats; arguments and errors as of `derive_outcomes`."""
    return _margins(*pad_candidates(logprobs), tokens)


def pad_candidates(rows: Sequence[Sequence[float]]) -> tuple[Array, NDArray[np.bool_]]:
    """Return (questions, candidates) with -inf after the last candidate of a question, and where candidates are."""
    counts = list(map(len, rows))
    if not counts or min(counts) < 2:
        raise ValueError("a question needs an answer and at least one foil")
    if min(counts) == max(counts):
        totals = np.array(rows, dtype=np.float64)
        is_candidate = np.ones(totals.shape, dtype=np.bool_)
    else:
        is_candidate = np.arange(max(counts)) < np.array(counts)[:, None]
        totals = np.full(is_candidate.shape, -np.inf)
        totals[is_candidate] = [value for row in rows for value in row]
    if not np.isfinite(totals[is_candidate]).all():
        raise ValueError("a log-probability is not finite")
    return totals, is_candidate


def _margins(totals: Array, is_candidate: NDArray[np.bool_], tokens: Sequence[Sequence[int]] | None) -> Array:
    values = np.where(is_candidate, totals, 0.0)
    if tokens is not None:
        counts, has_count = pad_candidates(tokens)
        if not np.array_equal(has_count, is_candidate) or counts[has_count].min() < 1:
            raise ValueError("token counts do not fit the candidates")
        values = values / np.where(is_candidate, counts, 1.0)
    means: Array = values[:, 1:].sum(axis=1) / is_candidate[:, 1:].sum(axis=1)
    return values[:, 0] - means


def _logsumexp(rows: Array) -> Array:
    """Return log(sum(exp(row))) of each row, without overflow."""
    top = rows.max(axis=1, keepdims=True)
    total: Array = top[:, 0] + np.log(np.exp(rows - top).sum(axis=1))
    return total
