"""The paired answers of a row: each question and seed with the answers of all arms side by side."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.outcomes import pad_candidates
from bench.analysis.reading import Reading
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.config.arms import ARMS, MAIN_ARMS, parse_arm
from bench.report.data_pages import PART_ROWS, write_part

__all__ = ["candidate_shares", "list_answers", "main_arms", "mean_shares", "write_answers"]

ANSWERS = 20  # sampled answers of one question and arm that a page shows
UNIT = 50_000  # shares are written as whole numbers of this part: they fit two bytes
MISSING = 2**16 - 1  # in the place of a share, where a seed has no such arm


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
    [question, seed, share of the answer in untrained, base, trait]. `answers_<n>` hold the shares of all candidates and
    the sampled answers of `PART_ROWS` records, in the same order. Shares are whole numbers of 1 / `UNIT`.
    """
    arms = _shown_arms(row)
    main = [arm for arm in main_arms(row) if arm in arms]
    seeds = {seed: cells for seed, cells in sorted(row.cells.items()) if cells}
    tables = {arm: _to_units(row, list(seeds.values()), arm) for arm in arms} if seeds else {}
    places = [(at, seed) for seed in seeds for at in range(len(row.questions))]
    columns = [tables[arm][:, 0].tolist() for arm in main if arm in tables]
    index = [
        [*place, *(None if share == MISSING else share for share in shares)]
        for place, *shares in zip(places, *columns, strict=True)
    ]
    questions = [{"text": q.question, "candidates": [q.answer, *q.foils]} for q in row.questions]
    write_part(folder, "answers", {"questions": questions, "arms": arms, "main": main, "index": index})
    texts = _list_texts(row, seeds, arms)
    starts = range(0, len(places), PART_ROWS)
    for number, start in enumerate(starts):
        records = slice(start, start + PART_ROWS)
        packed = {arm: base64.b64encode(table[records].tobytes()).decode() for arm, table in tables.items()}
        write_part(
            folder, f"answers_{number}", {"rows": len(places[records]), "shares": packed, "texts": texts[records]}
        )
    return {"parts": len(starts), "records": len(places)}


def _list_texts(
    row: ExperimentResults, seeds: Mapping[int, Mapping[str, ArmResult]], arms: Sequence[str]
) -> list[dict[str, list[str]]]:
    """Return the sampled answers by arm for each seed and question; an empty list for a row without."""
    texts = []
    for cells in seeds.values():
        lists = {arm: list_answers(cells[arm].reading) for arm in arms if arm in cells and cells[arm].reading.answers}
        texts += [{arm: of[at][:ANSWERS] for arm, of in lists.items()} for at in range(len(row.questions))]
    return texts if any(texts) else []


def _to_units(row: ExperimentResults, seeds: Sequence[Mapping[str, ArmResult]], arm: str) -> NDArray[np.uint16]:
    """Return the shares of one arm, (seeds x questions, candidates), little-endian; `MISSING` where a seed lacks it."""
    width = 1 + max(len(question.foils) for question in row.questions)
    table = np.full((len(seeds), len(row.questions), width), MISSING, dtype="<u2")
    for part, cells in zip(table, seeds, strict=True):
        if arm in cells:
            part[:] = np.rint(candidate_shares(cells[arm]) * UNIT)
    return table.reshape(-1, width)
