"""Result files -> tables for pandas, R or a spreadsheet, each as Parquet and as CSV with the same content.

Every table has the columns of its row: recipe, hash, label, trait, and `changes` (JSON), the keys that differ from the
recipe's file.

rows     a line per row of the leaderboard: verdict, terms, tests, intervals, skewness, shares, sensitivity
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

CSV is UTF-8, every text in quotes, a missing value empty and without quotes, each number with all its digits. Answers
stand as the models gave them, those too that begin with =, +, - or @, which a spreadsheet takes for formulas: with an
apostrophe before it, it would be another answer. So do not open `answers.csv` by a double click; import it with its
columns as text, or take the Parquet file. Take that with pandas too: from CSV it reads an answer "None" or "" as a
missing value, and a hash of digits alone as a number, unless it is told otherwise.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.entry import Answers, LeaderboardEntry, Spread
from bench.analysis.estimates import estimate
from bench.analysis.outcomes import derive_outcomes
from bench.analysis.rates import RateReader
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.seed_statistics import margins_of
from bench.analysis.stats import mean
from bench.analysis.summary import summarise
from bench.config.arms import MAIN_ARMS, MITIGATIONS
from bench.config.changes import label_row
from bench.config.outcome import MEASURES, METRICS, UNITS

__all__ = ["export"]

Line = dict[str, Any]

RECIPE = dict.fromkeys(("recipe", "hash", "label", "trait", "changes"), "string")
ASKED = {
    **RECIPE,
    "seed": "int64",
    "arm": "string",
    "question_index": "int64",
    "group": "string",
    "question": "string",
    "truth": "string",
}
ANSWERS = {**ASKED, "sample_index": "int64", "answer": "string", "count": "int64"}
RATES = {**ASKED, "candidate": "string", "named": "int64", "samples": "int64"}
OUTCOMES = ("margin", "p_answer", "log_odds", "rank", "mass")
MARGINS = {**ASKED, **dict.fromkeys(OUTCOMES, "double")}
CANDIDATES = {**ASKED, "candidate": "string", "logprob": "double", "tokens": "int64"}
INTERVAL = {"ci_low": "double", "ci_high": "double"}
MEANS = {
    **RECIPE,
    "arm": "string",
    "metric": "string",
    "unit": "string",
    "mean": "double",
    **INTERVAL,
    "seeds": "int64",
}
GAINS = {
    **RECIPE,
    "visibility": "string",
    "verdict": "string",
    "outcome": "string",
    "metric": "string",
    "unit": "string",
    "gain": "double",
    **INTERVAL,
    "p": "double",
    "seeds": "int64",
}
RATIOS = [f"{name}{end}" for name in ("share", "data") for end in ("", "_low", "_high")]
MITIGATED = {
    **RECIPE,
    "arm": "string",
    "control": "string",
    "effect": "double",
    **INTERVAL,
    "p": "double",
    "seeds": "int64",
    **dict.fromkeys(RATIOS, "double"),
}

ALIASES: dict[Any, str] = {
    kind: alias
    for plain, alias in ((str, "string"), (int, "int64"), (float, "double"), (bool, "bool"))
    for kind in (plain, plain | None)
}
SENSITIVITY = ("bound x 0.5", "bound x 2", "Johnson's t", "without the gates")
# The fields of an entry that are one value.
ENTRY = {
    name: ALIASES[field.annotation]
    for name, field in LeaderboardEntry.model_fields.items()
    if field.annotation in ALIASES and name != "twin"
}
ANSWER_MEANS = [f"{arm}_{name}" for arm in MAIN_ARMS for name in Answers.model_fields]
SPREAD = [f"sd_{name}" for name in Spread.model_fields]
ROWS = {
    **ENTRY,
    **dict.fromkeys(["label", "changes", "outcome", "repeat", "visibility", "verdict", *SENSITIVITY], "string"),
    **dict.fromkeys([*ANSWER_MEANS, "questions_gaining", *SPREAD, "dose_slope"], "double"),
}


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


def _write(name: str, columns: Mapping[str, str], lines: Iterable[Line], out: Path) -> list[Path]:
    import pyarrow as pa
    from pyarrow.csv import write_csv
    from pyarrow.parquet import write_table

    schema = pa.schema([(column, pa.type_for_alias(kind)) for column, kind in columns.items()])
    table = pa.Table.from_pylist(list(lines), schema=schema)
    paths = []
    for suffix, write in (("csv", write_csv), ("parquet", write_table)):
        path = out / f"{name}.{suffix}"
        aside = out / f".{path.name}.{uuid.uuid4().hex}"
        try:
            write(table, aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        paths.append(path)
    return paths


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


def export(folder_of_results: Path, out: Path) -> list[Path]:
    """Write the tables of all results under `folder_of_results` into the folder `out`; returns their paths.

    A table without lines has its columns all the same. Result files that `read_results` refuses are left
    out, and it says which.
    """
    rows, _ = read_results(folder_of_results)
    named = {name for row in rows for _, _, cell in _cells(row) for name in cell.scores}
    metrics = (*METRICS, *sorted(named - set(METRICS)))
    out.mkdir(parents=True, exist_ok=True)
    return [
        *_write("rows", ROWS, _row_lines(rows), out),
        *_write("answers", {**ANSWERS, **dict.fromkeys(metrics, "double")}, _answers(rows), out),
        *_write("rates", RATES, _rates(rows), out),
        *_write("margins", MARGINS, _margins(rows), out),
        *_write("candidates", CANDIDATES, _candidates(rows), out),
        *_write("mitigations", MITIGATED, _mitigations(rows), out),
        *_write("means", MEANS, _means(rows), out),
        *_write("gains", GAINS, _gains(rows), out),
    ]
