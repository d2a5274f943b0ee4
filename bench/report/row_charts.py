"""The charts of one row's page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text
from bench.analysis.estimates import Difference, Estimate
from bench.analysis.number_text import estimate_text, fit_interval, signed
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics
from bench.analysis.stats import mean_intervals
from bench.pipeline.store import Store
from bench.report.answers import mean_shares
from bench.report.inline_charts import Line, Mark, draw_candidates, draw_curves, draw_intervals
from bench.stages.training_curve import read_curve

__all__ = ["draw_row", "draw_training"]

CURVES = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm"}
POINTS = 400  # of one curve
QUESTIONS = 60  # of the chart of questions; a page with more shows those with the largest gains, and says so


def draw_row(row: ExperimentResults, entry: LeaderboardEntry, statistics: SeedStatistics) -> dict[str, str]:
    """Return the charts of a row that need its result files alone, by name; those without data are left out."""
    charts = {}
    if statistics.gains:
        charts["seeds"] = draw_intervals(
            _seed_marks(row, entry, statistics),
            unit=f"gain, {entry.unit}",
            about="Gain of every seed",
            bound=entry.bound,
        )
    if entry.mitigations:
        charts["mitigations"] = draw_intervals(
            _mitigation_marks(entry, statistics), unit=f"effect, {entry.unit}", about="What is left of the gain"
        )
    if marks := _question_marks(row, statistics):
        charts["questions"] = draw_intervals(
            marks[:QUESTIONS], unit=f"gain, {entry.unit}", about="Gain of every question"
        )
    if shares := mean_shares(row, [arm for arm in ("untrained", "base", "trait") if arm in entry.answers]):
        charts["candidates"] = draw_candidates(shares, about="P(candidate) in every arm")
    if entry.dose:
        points, seeds = dict(entry.dose), dict(statistics.dose)
        if (end := entry.gain_estimate()) is not None and (last := _last_update(row)) is not None:
            points[last], seeds[last] = end, statistics.gains
        line = Line("gain", [_point(step, value) for step, value in sorted(points.items())], "trait", seeds)
        charts["dose"] = draw_curves([line], unit=f"gain, {entry.unit}", about="Gain against updates", logarithmic=True)
    return charts


def draw_training(row: ExperimentResults, store: Store) -> dict[str, str]:
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
    total: Difference | None = entry.gain_estimate()
    decimals = _decimals(total)
    marks = [
        Mark(f"seed {seed}", gain, None, None, signed(gain, decimals))
        for seed, gain in zip(seeds, statistics.gains, strict=True)
    ]
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
    if len(statistics.questions) < 2:
        pairs = zip(row.questions, statistics.questions[0], strict=True)
        marks = [Mark(question.question, gain, None, None, signed(gain)) for question, gain in pairs]
    else:
        intervals = mean_intervals(np.array(statistics.questions))  # of (seeds, questions)
        marks = [
            Mark(question.question, *interval, estimate_text(*interval))
            for question, interval in zip(row.questions, intervals, strict=True)
        ]
    return sorted(marks, key=lambda mark: -(mark.mean or 0))


def _mitigation_marks(entry: LeaderboardEntry, statistics: SeedStatistics) -> list[Mark]:
    """Return the gain without a mitigation, and the effect of each mitigation, with their seeds."""
    effects: dict[str, Difference | None] = {"no mitigation": entry.gain_estimate()}
    effects |= {arm: mitigation.effect for arm, mitigation in entry.mitigations.items()}
    values = {"no mitigation": statistics.gains, **statistics.mitigations}
    return [
        Mark(
            name.replace("_", " "),
            effect.mean,
            effect.ci_low,
            effect.ci_high,
            gain_text(effect, entry.outcome, unit=""),
            "mean" if name == "no mitigation" else "other",
            tuple(values[name]),
        )
        for name, effect in effects.items()
        if effect is not None
    ]


def _decimals(total: Difference | None) -> int:
    """Return the decimals of a single seed: one more than those of the mean."""
    if total is None or total.ci_low is None or total.ci_high is None:
        return 3
    return fit_interval((total.ci_high - total.ci_low) / 2) + 1
