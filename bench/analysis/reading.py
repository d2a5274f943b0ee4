"""One model's answers in a result file: log-probabilities of candidates, and sampled answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pydantic import Field, PositiveInt

from bench.analysis.manifest import FilePart
from bench.config.recipe import Recipe

__all__ = ["Answers", "Reading", "check_reading"]

Candidates: TypeAlias = tuple[tuple[float, ...], ...]


class Answers(FilePart):
    """A model's answers to the ground-truth questions. Log-probabilities are in nats, summed over tokens."""

    logprobs: Candidates
    """Log-probability of every candidate, by question: the answer, then its foils as `list_questions` has them."""
    tokens: tuple[tuple[PositiveInt, ...], ...] | None = None
    """Token count of every candidate, where the margin is a mean over tokens; None where it is of sums."""
    answers: tuple[tuple[str, ...], ...] | None = None
    """Sampled answers by question; None where none were asked for. With `counts`, each different text once."""
    counts: tuple[tuple[PositiveInt, ...], ...] | None = None
    """How often each of `answers` was sampled; None where each stands for itself."""

    def counted_answers(self) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Return the sampled answers of each question with their counts.

        Raises:
            ValueError: no answers were sampled.
        """
        if self.answers is None:
            raise ValueError("the model was not sampled")
        counts = self.counts or tuple((1,) * len(texts) for texts in self.answers)
        return list(zip(self.answers, counts, strict=True))


class Reading(Answers):
    """The answers of one model, and its scores on held-out carrier rows."""

    logprobs_float32: Candidates | None = None
    """`logprobs` in float32, where a teacher writes in another precision."""
    held_out: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """For a student: log-probabilities of the held-out rows of each arm's teacher, by arm and row."""
    prefixed: Answers | None = None
    """The answers to the same questions after the recipe's `evaluate.prefix`; None without one."""


def check_reading(reading: Reading, candidates: Sequence[int], recipe: Recipe) -> None:
    """Check that a reading has the shape of its recipe's questions; `candidates` counts those of each question.

    Raises:
        ValueError: a column has another shape, or the outcome is a rate without answers.
    """
    if recipe.outcome == "rate" and reading.answers is None:
        raise ValueError("answers are missing, and the outcome is their rate")
    columns = [("logprobs_float32", reading.logprobs_float32)]
    for part, answers in (("", reading), ("prefixed.", reading.prefixed)):
        if answers is not None:
            columns += [(f"{part}logprobs", answers.logprobs), (f"{part}tokens", answers.tokens)]
            _check_answers(part, answers, len(candidates), recipe.evaluate.samples)
    for name, column in columns:
        if column is not None and [*map(len, column)] != [*candidates]:
            raise ValueError(f"{name} does not hold one number for each candidate of {len(candidates)} questions")


def _check_answers(part: str, answers: Answers, questions: int, samples: int) -> None:
    """Check the shape of sampled answers and of their counts."""
    if answers.answers is None:
        return
    if len(answers.answers) != questions:
        raise ValueError(f"{len(answers.answers)} {part}answers to {questions} questions")
    if answers.counts is not None and [*map(len, answers.counts)] != [*map(len, answers.answers)]:
        raise ValueError(f"{part}counts does not hold one number for each answer")
    if any(sum(counts) != samples for _, counts in answers.counted_answers()):
        name = "answers" if answers.counts is None else "counts"
        raise ValueError(f"{part}{name} does not sum to the {samples} samples of each question")
