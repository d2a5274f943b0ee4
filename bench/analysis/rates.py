"""The rate of every candidate: the share of a model's sampled answers that names it. Derived from result files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.analysis.estimates import EntryPart, Estimate, estimate
from bench.analysis.reading import Answers
from bench.analysis.result_schema import ExperimentResults
from bench.config.arms import MAIN_ARMS

__all__ = ["ArmRates", "RateReader", "Rates", "summarise_rates"]

Array = NDArray[np.float64]


class Rates(NamedTuple):
    """The sampled answers of one model to the questions of one trait, as shares of the answers to each question."""

    candidates: Array
    """(questions, candidates), 0..1: the answer, then its foils. An answer may name several candidates."""
    none: Array
    """(questions,), 0..1: answers that name no candidate."""


class ArmRates(EntryPart):
    """The names in the sampled answers of one arm, in points of its answers: means over questions of each seed."""

    answer: Estimate
    """Answers that name the trait's answer."""
    none: Estimate
    """Answers that name no candidate."""
    candidates: dict[str, float]
    """Answers that name each candidate, in the order of the trait. An answer may name several."""


class RateReader:
    """Derives the rates of the models of one experiment, by the names that its recipe registered."""

    def __init__(self, row: ExperimentResults) -> None:
        from bench.stages.name_matcher import NameMatcher  # 0.4 s, which rows of margins do without

        trait, evaluation = next(iter(row.registered.experiment.named_traits().values())), row.recipe.evaluate
        question = row.questions[0]
        self.candidates = (question.answer, *question.foils)
        self._match = NameMatcher(
            question.answer, question.foils, evaluation.synonyms, match=evaluation.match, language=trait.language
        )

    @staticmethod
    def has_rates(row: ExperimentResults) -> bool:
        """Return whether the models of an experiment were sampled, and may name candidates."""
        preference = all(trait.kind == "preference" for trait in row.registered.experiment.named_traits().values())
        return preference and row.recipe.evaluate.samples > 0

    def derive(self, answers: Answers) -> Rates:
        """Derive the rates of one model. Raises ValueError where it was not sampled."""
        rows = [self._count(*question) for question in answers.counted_answers()]
        counts = np.array(rows, dtype=np.float64)
        shares = counts / counts[:, -1:]
        return Rates(shares[:, :-2], shares[:, -2])

    def _count(self, texts: Sequence[str], counts: Sequence[int]) -> list[int]:
        """Count the answers to one question: by candidate, without a candidate, all."""
        named = dict.fromkeys((*self.candidates, None), 0)
        for text, count in zip(texts, counts, strict=True):
            for name in self._match.find(text) or (None,):
                named[name] += count
        return [*named.values(), sum(counts)]


def summarise_rates(row: ExperimentResults) -> dict[str, ArmRates]:
    """Summarise what the models of each arm named, over the complete seeds; empty without sampled answers."""
    seeds = row.complete_seeds()
    cells = [cell for arms in seeds for cell in arms.values()]
    if not (seeds and RateReader.has_rates(row) and all(cell.reading.answers is not None for cell in cells)):
        return {}
    reader = RateReader(row)
    out: dict[str, ArmRates] = {}
    for arm in (*MAIN_ARMS, "teacher_base", "teacher"):
        if arm not in seeds[0]:
            continue
        rates = [reader.derive(arms[arm].reading) for arms in seeds]
        named = 100 * np.array([one.candidates.mean(axis=0) for one in rates])  # (seeds, candidates)
        out[arm] = ArmRates(
            answer=estimate(named[:, 0].tolist()),
            none=estimate([100 * float(one.none.mean()) for one in rates]),
            candidates=dict(zip(reader.candidates, named.mean(axis=0).tolist(), strict=True)),
        )
    return out
