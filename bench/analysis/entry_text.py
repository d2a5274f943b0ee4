"""Numbers of the leaderboard as text: for its page, the screen, cards and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.analysis.entry import LeaderboardEntry, Selection, TraitMatrix
from bench.analysis.estimates import Difference, Estimate, Ratio
from bench.analysis.gates import Gate
from bench.analysis.number_text import (
    estimate_text,
    fit_decimals,
    fit_interval,
    format_number,
    format_together,
    is_constant,
    percentage,
    signed,
)
from bench.analysis.p_values import PValue
from bench.config.outcome import MEASURES, UNITS, Outcome

__all__ = [
    "change_text",
    "difference_p_text",
    "gain_text",
    "interval_text",
    "level_text",
    "markdown_table",
    "matrix_texts",
    "measure_text",
    "p_text",
    "percent_text",
    "ratio_text",
    "reading_text",
    "score_text",
    "selection_text",
    "short_model",
    "short_table",
    "table_cells",
    "unit_suffix",
]


def level_text(value: float | None, outcome: Outcome) -> str:
    """The outcome of an arm: a margin in nats, +1.234, or a rate, 12.3 %."""
    return signed(value) if outcome == "margin" or value is None else percentage(value / 100)


def change_text(value: float | None, outcome: Outcome) -> str:
    """A difference of outcomes: nats, +1.23, or points with their unit, +12.3 points."""
    return signed(value, 2) if outcome == "margin" or value is None else f"{signed(value, 1)} points"


def interval_text(low: float | None, high: float | None, outcome: Outcome = "margin") -> str:
    """[+0.010, +0.032], or with a unit [+1.0, +3.2] points; a dash for None."""
    if low is None or high is None:
        return "-"
    middle = (low + high) / 2
    ends = (signed(low), signed(high)) if is_constant(middle, low, high) else format_together(middle, low, high)[1:]
    return f"[{ends[0]}, {ends[1]}]{unit_suffix(outcome)}"


def gain_text(estimate: Estimate | None, outcome: Outcome = "margin", unit: str | None = None) -> str:
    """A gain with its interval: +0.021 [+0.010, +0.032], or with a unit +2.1 [+1.0, +3.2] points.

    Args:
        estimate: the gain.
        outcome: in which it is measured.
        unit: after the numbers, with its space; by default that of a rate, since that of a margin stands in headings.
    """
    if estimate is None:
        return "-"
    unit = unit_suffix(outcome) if unit is None else unit
    if estimate.ci_low is None or estimate.ci_high is None:
        mean = signed(estimate.mean, 3 if outcome == "margin" else 1)
        return f"{mean}{unit}" + (" [one seed: no interval]" if estimate.seeds == 1 else "")
    return estimate_text(estimate.mean, estimate.ci_low, estimate.ci_high, unit=unit)


def score_text(estimate: Estimate | None) -> str:
    """A score or an area, which has no sign, with its interval: 0.501 [0.497, 0.505]."""
    return "-" if estimate is None else estimate_text(estimate.mean, estimate.ci_low, estimate.ci_high, sign=False)


def ratio_text(ratio: Ratio) -> str:
    """A ratio in percent: 74 % [60, 88], or unbounded."""
    if ratio.mean is None:
        return "-"
    percent = 100 * ratio.mean
    alone = f"{format_number(percent, fit_decimals(percent, 1), sign=False)} %"
    if ratio.ci_low is None or ratio.ci_high is None:
        return f"{alone} " + ("[one seed: no interval]" if ratio.seeds == 1 else "[unbounded]")
    numbers = (percent, 100 * ratio.ci_low, 100 * ratio.ci_high)
    if is_constant(*numbers):
        return f"{alone} in every seed"
    mean, low, high = format_together(*numbers, sign=False)
    return f"{mean} % [{low}, {high}]"


def matrix_texts(matrix: TraitMatrix) -> list[list[str]]:
    """The gains of a trait x probe matrix, all with one decimal more than the interval of its excess justifies."""
    excess = matrix.excess
    decimals = 3
    if excess.ci_low is not None and excess.ci_high is not None:
        decimals = fit_interval((excess.ci_high - excess.ci_low) / 2) + 1
    return [[format_number(gain, decimals) if gain else "0" for gain in row] for row in matrix.gains]


def measure_text(gain: Estimate, measure: str) -> str:
    """A gain by one of `MEASURES`, with its unit also for nats."""
    outcome = MEASURES[measure]
    return gain_text(gain, outcome, f" {UNITS[outcome]}")


def p_text(p: float | None, *, error: float | None = None, at_floor: bool = False) -> str:
    """A p-value; with <= where it is only known to be at most this, with its standard error where it was drawn."""
    return "-" if p is None else PValue(p, error or 0.0, at_floor).text()


def difference_p_text(difference: Difference) -> str:
    """The p-value of a difference."""
    return p_text(difference.p, error=difference.p_error, at_floor=difference.p_at_floor)


def reading_text(gate: Gate) -> str:
    """What a gate read: 5.87, same-init, or in percent where its threshold is."""
    if not isinstance(gate.reading, float):
        return str(gate.reading or "-")
    return percentage(gate.reading) if "% of" in gate.threshold else f"{gate.reading:.3g}"


def percent_text(estimate: Estimate | None) -> str:
    """A probability or a share: 84.5 %."""
    return "-" if estimate is None else percentage(estimate.mean)


def selection_text(selection: Selection) -> str:
    """The rows that an arm keeps, and the change of means: 71.2 % of its rows; drawn - all: length -3.1, count +0.4."""
    changes = {"length": selection.length, "count": selection.count, "value": selection.value}
    texts = [f"{name} {signed(change.mean, 1)}" for name, change in changes.items() if change is not None]
    return f"{percent_text(selection.retention)} of its rows; rows drawn - all its rows: {', '.join(texts)}"


def unit_suffix(outcome: Outcome) -> str:
    """The unit after a number: that of a margin stands in headings."""
    return "" if outcome == "margin" else " points"


def _pair(entry: LeaderboardEntry, measure: str) -> str:
    """One measure of the answers of base and of the trait arm: 5.0 % -> 7.7 %."""
    arms = [entry.answers[arm] for arm in ("base", "trait") if arm in entry.answers]
    return " -> ".join(percent_text(getattr(answers, measure)) for answers in arms) or "-"


def table_cells(entry: LeaderboardEntry) -> dict[str, str]:
    """The cells of an entry by the heading of their column, for every table that shows it."""
    outcome = entry.outcome
    untrained, base, trait = (level_text(value, outcome) for value in entry.levels().values())
    return {
        "recipe": entry.label,
        "teacher -> student": f"{entry.teacher} -> {entry.student}",
        "relation": entry.relation or "-",
        "trait": entry.trait,
        "carrier": entry.carrier,
        "visibility": entry.visibility,
        "seeds": entry.seeds_text,
        "untrained": untrained,
        "base": base,
        "trait arm": trait,
        "gain [95 % CI]": gain_text(entry.gain_estimate(), outcome),
        "verdict": entry.verdict + (", specific" if entry.specific and entry.verdict == "TRANSFER" else ""),
        "p": p_text(entry.p, error=entry.p_error, at_floor=entry.p_at_floor),
        "q": p_text(entry.q),
        "P(answer)": _pair(entry, "p_answer"),
        "mass": _pair(entry, "mass"),
        "teacher shift": change_text(entry.teacher_shift, outcome),
        "fraction": "-" if entry.fraction is None else percentage(entry.fraction),
        "level": f"{entry.level:g}",
        "bound": "-" if entry.bound is None else f"{entry.bound:.3g}{unit_suffix(outcome)}",
        "looks": str(entry.looks),
        "replications": str(entry.replications),
        "hash": entry.recipe_hash,
        "commit": entry.commit or "-",
    }


def markdown_table(lines: Sequence[dict[str, str]]) -> str:
    """A table in GitHub's Markdown; the keys of a line are its headings."""
    from tabulate import tabulate

    return str(tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True))


def short_model(name: str) -> str:
    """A model's name without its owner, and without the quantisation of a package: `gemma3-270m`."""
    return re.sub(r"-q\d[\w-]*-gguf$", "", name.removeprefix("pypi:").rstrip("/").rpartition("/")[2])


def short_table(board: Sequence[LeaderboardEntry]) -> str:
    """The six columns that the README shows, without the rows that are a leak."""
    lines = []
    for entry in board:
        if entry.is_leak:
            continue
        cells = table_cells(entry)
        teacher, student = short_model(entry.teacher), short_model(entry.student)
        models = teacher if teacher == student else f"{teacher} -> {student}"
        columns = {name: cells[name] for name in ("relation", "seeds", "gain [95 % CI]")}
        lines.append({"recipe": entry.label, "model": models, **columns, "verdict": f"**{cells['verdict']}**"})
    return markdown_table(lines)
