"""The facts and the charts of one row's page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import (
    change_text,
    difference_p_text,
    gain_text,
    interval_text,
    measure_text,
    p_text,
    percent_text,
    ratio_text,
    table_cells,
)
from bench.analysis.estimates import Difference, Estimate, known
from bench.analysis.number_text import signed
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.stats import mean_interval
from bench.config.arms import CONTRASTS
from bench.config.changes import write_command
from bench.config.recipe_files import FOLDER, read_recipe_layers
from bench.config.sweep import write_assignments
from bench.config.yaml_files import merge_layers
from bench.pipeline.store import Store
from bench.report.answers import mean_shares
from bench.report.inline_charts import Line, Mark, draw_candidates, draw_curves, draw_intervals
from bench.stages.training_curve import read_curve

__all__ = ["describe_row"]

CURVES = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm"}
POINTS = 400  # of one curve
QUESTIONS = 60  # of the chart of questions; a page with more shows those with the largest gains, and says so


def describe_row(row: ExperimentResults, entry: LeaderboardEntry, store: Store) -> dict[str, Any]:
    """Return what the template of a row needs; every text is plain, and every chart is SVG.

    Training curves are read from the store, if it still has the students.
    """
    statistics = compute_seed_statistics(row)
    cells = [cell for arms in row.cells.values() for cell in arms.values()]
    return {
        "entry": entry,
        "cells": table_cells(entry),
        "gates": [_describe_gate(gate) for gate in entry.gates],
        "mitigations": [
            {
                "arm": arm,
                "effect": gain_text(mitigation.effect, entry.outcome),
                "share": ratio_text(mitigation.share),
                "data": ratio_text(mitigation.data),
                "p": difference_p_text(mitigation.effect),
            }
            for arm, mitigation in entry.mitigations.items()
        ],
        "contrasts": [
            {
                "name": name,
                "gain": gain_text(value, entry.outcome),
                "p": difference_p_text(value),
                "claim": CONTRASTS[name].claim,
            }
            for name, value in entry.contrasts.items()
            if name in CONTRASTS
        ],
        "measures": _list_measures(entry),
        "charts": {**_draw_charts(row, entry, statistics), **_draw_curves(row, store)},
        "leaks": _list_refusals(row),
        "audits": [{"arm": arm, "area": gain_text(area).replace("+", "")} for arm, area in entry.audits.items()],
        "hardware": sorted({cell.manifest.hardware for cell in cells}),
        "versions": dict(sorted({item for cell in cells for item in cell.manifest.versions.items()})),
        "checkpoints": {
            role: ", ".join(f"{key} {value}" for key, value in sorted(facts.items()))
            for role, facts in (cells[0].manifest.checkpoints if cells else {}).items()
        },
        "command": _write_command(row),
        "recipe_text": yaml.safe_dump(
            row.recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=100
        ),
    }


def _write_command(row: ExperimentResults) -> str:
    """Return the command that makes a row, with the keys in which it differs from the file of its recipe."""
    changes = dict(row.registered.changes)
    seeds = changes.pop("seeds", None)
    if _has_sweep(row.name):  # the values of the row are among the changes, or those of the file
        changes["sweep"] = None
    return write_command(row.name, write_assignments(changes), seeds)


def _has_sweep(recipe: str) -> bool:
    path = FOLDER / f"{recipe}.yaml"
    return path.is_file() and bool(merge_layers(read_recipe_layers(path)).get("sweep"))


def _describe_gate(gate: Any) -> dict[str, str]:
    state = {True: "passed", False: "failed", None: "skipped"}[gate.passed]
    reading = f"{gate.reading:.4g}" if isinstance(gate.reading, float) else str(gate.reading or "-")
    seeds = f" (seeds {', '.join(map(str, gate.failed_seeds))})" if gate.failed_seeds else ""
    return {"name": gate.name, "state": state, "reading": reading, "threshold": f"{gate.threshold}{seeds}"}


def _list_measures(entry: LeaderboardEntry) -> list[dict[str, str]]:
    """Return further measures of the row as (name, value) lines."""
    lines = {
        **{f"gain by {name}": measure_text(gain, name) for name, gain in entry.gains.items()},
        "teacher shift": change_text(entry.teacher_shift, entry.outcome),
        "gain / teacher shift": "-" if entry.fraction is None else f"{entry.fraction:.2%}",
        "interval for questions like these": interval_text(entry.population_low, entry.population_high, entry.outcome),
        "questions with a gain above 0": percent_text(entry.gaining),
        "smallest gain that these seeds show": change_text(entry.detectable, entry.outcome),
        "p of Johnson's t": p_text(entry.johnson_p),
        "skewness of the gains": signed(entry.skewness, 2),
        "gain per doubling of the updates": gain_text(entry.dose_slope, entry.outcome),
        "broken format, trait - base": percent_text(entry.format_refusals),
        **{f"verdict with {name}": verdict for name, verdict in entry.sensitivity.items()},
    }
    return [{"name": name, "value": value} for name, value in lines.items() if value != "-"]


def _draw_charts(row: ExperimentResults, entry: LeaderboardEntry, statistics: SeedStatistics) -> dict[str, str]:
    charts = {}
    if statistics.gains:
        charts["seeds"] = draw_intervals(
            _seed_marks(row, entry, statistics),
            unit=f"gain, {entry.unit}",
            about="Gain of every seed",
            bound=entry.bound,
        )
    if marks := _question_marks(row, statistics):
        charts["questions"] = draw_intervals(
            marks[:QUESTIONS], unit=f"gain, {entry.unit}", about="Gain of every question"
        )
    if shares := mean_shares(row, [arm for arm in ("untrained", "base", "trait") if arm in entry.answers]):
        charts["candidates"] = draw_candidates(shares, about="P(candidate) in every arm")
    if entry.dose:
        points = dict(entry.dose)
        if (end := entry.gain_estimate()) is not None and (last := _last_update(row)) is not None:
            points[last] = end
        line = Line("gain", [_point(step, value) for step, value in sorted(points.items())], "trait")
        charts["dose"] = draw_curves([line], unit=f"gain, {entry.unit}", about="Gain against updates", logarithmic=True)
    return charts


def _draw_curves(row: ExperimentResults, store: Store) -> dict[str, str]:
    """Draw the training of the base and the trait student of the first seed that the store still has."""
    trait = row.trait_arms()[0].student
    for cells in row.cells.values():
        keys = {
            arm: key
            for arm in ("base", trait)
            if arm in cells and (key := cells[arm].manifest.artefacts.get("trained")) is not None
        }
        curves = {arm: curve for arm, key in keys.items() if (curve := read_curve(store.path(key)))}
        if len(curves) < 2:
            continue
        charts = {}
        for name, about in CURVES.items():
            lines = [Line(arm, _thin(curve[name]), arm.partition("-")[0]) for arm, curve in curves.items()]
            if all(line.points for line in lines):
                charts[name] = draw_curves(lines, unit=about, about=f"{about} of every update")
        return charts
    return {}


def _thin(values: Sequence[float | None]) -> list[tuple[float, float, None, None]]:
    """Return at most `POINTS` points of a curve, evenly spaced, with the last."""
    step = max(1, math.ceil(len(values) / POINTS))
    indices = sorted({*range(0, len(values), step), len(values) - 1} - {-1})
    return [(i + 1.0, value, None, None) for i in indices if (value := values[i]) is not None]


def _point(step: int, value: Estimate) -> tuple[float, float, float | None, float | None]:
    return float(step), value.mean, value.ci_low, value.ci_high


def _last_update(row: ExperimentResults) -> int | None:
    updates = [
        training.updates
        for arms in row.cells.values()
        if "trait" in arms and (training := arms["trait"].manifest.training) is not None
    ]
    return max(updates, default=None)


def _seed_marks(row: ExperimentResults, entry: LeaderboardEntry, statistics: SeedStatistics) -> list[Mark]:
    """Return a line for each complete seed, and one for their mean."""
    seeds = [next(iter(arms.values())).seed for arms in row.complete_seeds()]
    digits = 4 if entry.outcome == "margin" else 1
    marks = [
        Mark(f"seed {seed}", gain, None, None, signed(gain, digits))
        for seed, gain in zip(seeds, statistics.gains, strict=True)
    ]
    total: Difference | None = entry.gain_estimate()
    if total is not None:
        marks.append(
            Mark(
                "mean, 95 % t interval",
                total.mean,
                total.ci_low,
                total.ci_high,
                gain_text(total, entry.outcome),
                "mean",
            )
        )
    return marks


def _question_marks(row: ExperimentResults, statistics: SeedStatistics) -> list[Mark]:
    """Return a line for each question with its mean gain and its interval over seeds, the largest gain first."""
    if not statistics.questions or len(row.trait_arms()) > 1:
        return []
    gains = np.array(statistics.questions)  # (seeds, questions)
    digits = 4 if row.recipe.outcome == "margin" else 1
    marks = []
    for question, values in zip(row.questions, gains.T.tolist(), strict=True):
        value, low, high = mean_interval(values)
        marks.append(Mark(question.question, value, known(low), known(high), signed(value, digits)))
    return sorted(marks, key=lambda mark: -(mark.mean or 0))


def _list_refusals(row: ExperimentResults) -> list[dict[str, Any]]:
    """Return one line for each arm with rows that the leak filter or the format check refused, over all seeds."""
    totals: dict[tuple[str, str, str], int] = {}
    total_rows = 0
    for arms in row.cells.values():
        carrier = next(iter(arms.values())).manifest.carrier
        total_rows += carrier.rows
        kinds: dict[str, Mapping[str, Mapping[str, int]]] = {
            "leak": carrier.refused,
            "format": carrier.format_refused,
        }
        for kind, by_arm in kinds.items():
            for arm, reasons in by_arm.items():
                for reason, count in reasons.items():
                    totals[kind, arm, reason] = totals.get((kind, arm, reason), 0) + count
    return [
        {"kind": kind, "arm": arm, "reason": reason, "rows": count, "share": f"{count / total_rows:.3%}"}
        for (kind, arm, reason), count in sorted(totals.items())
    ]
