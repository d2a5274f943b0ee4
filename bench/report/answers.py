"""The paired answers of a row: each question and seed with the answers of all arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.outcomes import pad_candidates
from bench.analysis.reading import Reading
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.config.arms import ARMS, MAIN_ARMS, parse_arm
from bench.report.data_pages import write_part, write_parts

__all__ = ["candidate_shares", "list_answers", "main_arms", "mean_shares", "write_answers"]

ANSWERS = 20  # sampled answers of one question and arm that a page shows
UNIT = 100_000  # shares are written as whole numbers of this part


def candidate_shares(cell: ArmResult) -> NDArray[np.float64]:
    """Return P(candidate | one of the candidates), (questions, candidates).

    The trait's answer is first. Where a question has fewer candidates, 0 follows the last.
    """
    totals, _ = pad_candidates(cell.reading.logprobs)
    weights = np.exp(totals - totals.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _shown_arms(row: ExperimentResults) -> list[str]:
    """Return the arms that answers are shown for, as `ARMS` orders them: all but those during a training."""
    names = {name for arms in row.cells.values() for name in arms if parse_arm(name).step is None}
    order = list(ARMS)
    return sorted(names, key=lambda name: (order.index(parse_arm(name).kind), name))


def main_arms(row: ExperimentResults) -> list[str]:
    """Return the arms that stand side by side: untrained, if the row has it, base and trait.

    With several traits the last is the student of the first trait.
    """
    trait = row.trait_arms()[0].student
    evaluated = row.registered_arms()
    return [arm for arm in (*MAIN_ARMS[:2], trait) if arm in evaluated]


def mean_shares(row: ExperimentResults, arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return candidate -> arm -> P(candidate), a mean over seeds and questions; empty where candidates differ.

    Candidates are the trait's answer, then its foils as the first question orders them.
    """
    names = [(question.answer, *question.foils) for question in row.questions]
    if len({frozenset(candidates) for candidates in names}) != 1 or len({c[0] for c in names}) != 1:
        return {}
    order = np.array([[candidates.index(name) for name in names[0]] for candidates in names])
    means: dict[str, dict[str, float]] = {candidate: {} for candidate in names[0]}
    for arm in arms:
        by_seed = [candidate_shares(cells[arm]) for cells in row.cells.values() if arm in cells]
        if not by_seed:
            continue
        table = np.take_along_axis(np.mean(by_seed, axis=0), order, axis=1)
        for candidate, mean in zip(names[0], table.mean(axis=0).tolist(), strict=True):
            means[candidate][arm] = mean
    return means


def list_answers(reading: Reading) -> list[list[str]]:
    """List the sampled answers of each question: in their order, or counted, the most frequent first."""
    lists = []
    for texts, counts in reading.counted_answers():
        ordered = sorted(zip(texts, counts, strict=True), key=lambda pair: -pair[1])
        lists.append([text if reading.counts is None else f"{count} x {text}" for text, count in ordered])
    return lists


def write_answers(row: ExperimentResults, folder: Path) -> dict[str, Any]:
    """Write the answers of a row as parts, and return the facts with which its page loads them.

    `answers` is the index: questions with their candidates, and one short record for each question and seed:
    [question, seed, share of the answer in untrained, base, trait]. `answers_<n>` are the full records in the same
    order. Shares are whole numbers of 1 / 100,000.
    """
    arms = _shown_arms(row)
    main = [arm for arm in main_arms(row) if arm in arms]
    index, records = [], []
    counts = [1 + len(question.foils) for question in row.questions]
    for seed, cells in sorted(row.cells.items()):
        present = [arm for arm in arms if arm in cells]
        shares = {arm: _to_units(candidate_shares(cells[arm]), counts) for arm in present}
        answers = {arm: list_answers(cells[arm].reading) for arm in present if cells[arm].reading.answers is not None}
        for at in range(len(row.questions) if present else 0):
            index.append([at, seed, *(shares[arm][at][0] if arm in shares else None for arm in main)])
            records.append(
                {
                    "shares": {arm: of[at] for arm, of in shares.items()},
                    "answers": {arm: texts[at][:ANSWERS] for arm, texts in answers.items()},
                }
            )
    questions = [{"text": q.question, "candidates": [q.answer, *q.foils]} for q in row.questions]
    write_part(folder, "answers", {"questions": questions, "arms": arms, "main": main, "index": index})
    return {"parts": write_parts(folder, "answers", records), "records": len(records)}


def _to_units(shares: NDArray[np.float64], counts: Sequence[int]) -> list[list[int]]:
    """Return the shares of each question's candidates as whole numbers of 1 / `UNIT`.

    Args:
        shares: of one model, (questions, candidates).
        counts: the number of candidates of each question.
    """
    units: list[list[int]] = np.rint(shares * UNIT).astype(int).tolist()
    return [line[:count] for line, count in zip(units, counts, strict=True)]
