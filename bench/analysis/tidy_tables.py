"""Result files -> tidy tables for pandas, R or a spreadsheet.

Every table has the columns of its row: recipe, hash, label, trait, and `changes` (JSON), the keys that differ from the
recipe's file.

rows     a line per row of the leaderboard: verdict, terms, tests, intervals, skewness, shares, sensitivity
seeds    a line per complete seed, in the row's registered outcome: its arms, its gain and its teacher's shift
answers  a line per sampled answer, with a column per metric (empty where a recipe did not ask for it); a trait with
         candidates has a line per different answer to a question, and `count` is how often it was sampled
rates    a line per question and candidate: how many sampled answers name it (outcome: rate); without a candidate, how
         many name none
margins  a line per question, with the outcomes of `bench.analysis.outcomes`
candidates  a line per question and candidate: its log-probability in nats, and its tokens where the margin is per token
mitigations  a line per mitigation arm: its effect in nats, and its shares of the gain and of the data
means    per arm: a seed's mean over its questions first, then the mean over seeds with its 95 % t interval
gains    trait - base, paired by seed over the seeds that the leaderboard counts, with its unit, its 95 % t interval and
         an exact sign-flip p, corrected for nothing. `verdict` is the row's, given on its `outcome` alone; where
         `visibility` is logits-full, the gain is a leak and no subliminal learning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench.analysis.entry import Answers
from bench.analysis.estimates import estimate
from bench.analysis.outcomes import derive_outcomes
from bench.analysis.rates import RateReader
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics, margins_of
from bench.analysis.stats import mean
from bench.analysis.summary import summarise
from bench.analysis.table_columns import (
    ANSWERS,
    CANDIDATES,
    ENTRY,
    GAINS,
    MARGINS,
    MEANS,
    MITIGATED,
    OUTCOMES,
    RATES,
    RATIOS,
    ROWS,
    SEEDS,
)
from bench.config.arms import MITIGATIONS
from bench.config.changes import label_row
from bench.config.outcome import MEASURES, METRICS, UNITS

__all__ = ["Table", "make_tables", "to_arrow"]

Line = dict[str, Any]


def _row_lines(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row, entry in zip(rows, summarise(rows), strict=True):
        answers = {
            f"{arm}_{name}": getattr(values, name).mean
            for arm, values in entry.answers.items()
            for name in Answers.model_fields
        }
        spread = {f"sd_{name}": value for name, value in (entry.spread.model_dump() if entry.spread else {}).items()}
        yield {
            **{name: getattr(entry, name) for name in (*ENTRY, "outcome", "repeat", "visibility", "verdict")},
            **{name: value for name, value in _identity(row).items() if name in {"label", "changes"}},
            **answers,
            **spread,
            "questions_gaining": entry.gaining.mean if entry.gaining else None,
            "dose_slope": entry.dose_slope.mean if entry.dose_slope else None,
            **entry.sensitivity,
        }


def _identity(row: ExperimentResults) -> Line:
    """The columns that say which row a line belongs to; `changes` is JSON."""
    changes = row.registered.changes
    return {
        "recipe": row.name,
        "hash": row.hash,
        "label": label_row(row.name, changes),
        "trait": ", ".join(row.recipe.trait_names()),
        "changes": json.dumps(changes, ensure_ascii=False, sort_keys=True),
    }


def _cells(row: ExperimentResults) -> Iterator[tuple[int, str, ArmResult]]:
    for seed in sorted(row.cells):
        for arm in sorted(row.cells[seed]):
            yield seed, arm, row.cells[seed][arm]


def _asked(row: ExperimentResults) -> Iterator[tuple[Line, ArmResult, int]]:
    """Every question of every arm of every seed: its columns, the arm's content, the question's index."""
    for seed, arm, cell in _cells(row):
        for index, question in enumerate(row.questions):
            line = {
                **_identity(row),
                "seed": seed,
                "arm": arm,
                "question_index": index,
                "group": question.group,
                "question": question.question,
                "truth": question.answer,
            }
            yield line, cell, index


def _answers(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        for line, cell, index in _asked(row):
            if cell.reading.answers is None:
                continue
            if index == 0:
                counted = cell.reading.counted_answers()
            for sample, (answer, count) in enumerate(zip(*counted[index], strict=True)):
                graded = {name: per_question[index][sample] for name, per_question in cell.scores.items()}
                yield {**line, "sample_index": sample, "answer": answer, "count": count, **graded}


def _rates(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        if not RateReader.has_rates(row):
            continue
        reader = RateReader(row)
        for line, cell, index in _asked(row):
            if cell.reading.answers is None:
                continue
            if index == 0:
                rates, counted = reader.derive(cell.reading), cell.reading.counted_answers()
            samples = sum(counted[index][1])
            shares = [*zip(reader.candidates, rates.candidates[index], strict=True), (None, rates.none[index])]
            for candidate, share in shares:
                yield {**line, "candidate": candidate, "named": round(share * samples), "samples": samples}


def _seeds(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        statistics = compute_seed_statistics(row)
        unit = UNITS[row.recipe.outcome]
        seeds = [next(iter(arms.values())).seed for arms in row.complete_seeds()]
        for at, seed in enumerate(seeds):
            yield {
                **_identity(row),
                "seed": seed,
                "outcome": row.recipe.outcome,
                "unit": unit,
                "untrained": statistics.untrained[at] if statistics.untrained else None,
                "base": statistics.base[at],
                "trait_arm": statistics.trait[at],
                "gain": statistics.gains[at],
                "teacher_shift": statistics.shifts[at],
            }


def _margins(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        for line, cell, index in _asked(row):
            if index == 0:
                outcomes = derive_outcomes(cell.reading.logprobs, cell.reading.tokens)
            derived = {name: float(getattr(outcomes, name)[index]) for name in OUTCOMES}
            yield {**line, **derived}


def _candidates(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        for line, cell, index in _asked(row):
            question, tokens = row.questions[index], cell.reading.tokens
            for at, candidate in enumerate((question.answer, *question.foils)):
                yield {
                    **line,
                    "candidate": candidate,
                    "logprob": cell.reading.logprobs[index][at],
                    "tokens": None if tokens is None else tokens[index][at],
                }


def _levels(cell: ArmResult) -> dict[str, float]:
    """Per metric, the mean over the questions of one model; a question's score is the mean over its answers."""
    scores = {
        name: mean([mean(answers) for answers in per_question if answers])
        for name, per_question in cell.scores_of_samples().items()
        if any(per_question)
    }
    return {"margin": mean(margins_of(cell)), **scores}


def _unit(metric: str) -> str:
    return UNITS[MEASURES[metric]] if metric in MEASURES else "score"


def _means(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row in rows:
        levels: dict[tuple[str, str], list[float]] = {}
        reader = RateReader(row) if RateReader.has_rates(row) else None
        for _, arm, cell in _cells(row):
            by_metric = _levels(cell)
            if reader is not None and cell.reading.answers is not None:
                by_metric["rate"] = 100 * float(reader.derive(cell.reading).candidates[:, 0].mean())
            for metric, level in by_metric.items():
                levels.setdefault((arm, metric), []).append(level)
        for (arm, metric), values in sorted(levels.items()):
            columns = estimate(values).model_dump()
            yield {**_identity(row), "arm": arm, "metric": metric, "unit": _unit(metric), **columns}


def _gains(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row, entry in zip(rows, summarise(rows), strict=True):
        gains = {metric: scores.gain for metric, scores in entry.metrics.items()} | entry.gains
        if (gain := entry.gain_estimate()) is not None:
            gains[entry.outcome] = gain
        for metric, gain in sorted(gains.items()):
            yield {
                **_identity(row),
                "visibility": entry.visibility,
                "verdict": entry.verdict,
                "outcome": entry.outcome,
                "metric": metric,
                "unit": _unit(metric),
                "gain": gain.mean,
                **gain.model_dump(),
            }


def _mitigations(rows: Sequence[ExperimentResults]) -> Iterator[Line]:
    for row, entry in zip(rows, summarise(rows), strict=True):
        for arm, mitigation in entry.mitigations.items():
            effect = mitigation.effect
            ratios = [mitigation.share, mitigation.data]
            ends = [end for ratio in ratios for end in (ratio.mean, ratio.ci_low, ratio.ci_high)]
            yield {
                **_identity(row),
                "arm": arm,
                "control": MITIGATIONS[arm],
                "effect": effect.mean,
                "ci_low": effect.ci_low,
                "ci_high": effect.ci_high,
                "p": effect.p,
                "seeds": effect.seeds,
                **dict(zip(RATIOS, ends, strict=True)),
            }


class Table(NamedTuple):
    """One table: the types of its columns in pyarrow's words, and its lines."""

    columns: Mapping[str, str]
    lines: Iterable[Line]


def make_tables(rows: Sequence[ExperimentResults]) -> dict[str, Table]:
    """Make the tables of all rows, by name; a table without lines has its columns all the same."""
    graded = {name for row in rows for _, _, cell in _cells(row) for name in cell.scores}
    metrics = (*METRICS, *sorted(graded - set(METRICS)))
    return {
        "rows": Table(ROWS, _row_lines(rows)),
        "seeds": Table(SEEDS, _seeds(rows)),
        "answers": Table({**ANSWERS, **dict.fromkeys(metrics, "double")}, _answers(rows)),
        "rates": Table(RATES, _rates(rows)),
        "margins": Table(MARGINS, _margins(rows)),
        "candidates": Table(CANDIDATES, _candidates(rows)),
        "mitigations": Table(MITIGATED, _mitigations(rows)),
        "means": Table(MEANS, _means(rows)),
        "gains": Table(GAINS, _gains(rows)),
    }


def to_arrow(table: Table) -> Any:
    """Return a table as one of pyarrow."""
    import pyarrow as pa

    schema = pa.schema([(column, pa.type_for_alias(kind)) for column, kind in table.columns.items()])
    return pa.Table.from_pylist(list(table.lines), schema=schema)
