"""Sections of the leaderboard's page, each a heading and a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import (
    difference_p_text,
    gain_text,
    interval_text,
    markdown_table,
    matrix_texts,
    p_text,
    percent_text,
    ratio_text,
    unit_suffix,
)
from bench.analysis.estimates import Difference
from bench.analysis.number_text import signed, unsigned
from bench.analysis.registry_lines import RegistryLine
from bench.analysis.replications import Replication
from bench.config.arms import CONTRASTS, MAIN_ARMS
from bench.config.outcome import name_metric

__all__ = [
    "contrast_section",
    "dose_section",
    "group_section",
    "matrix_section",
    "metric_section",
    "mitigation_section",
    "question_section",
    "registration_section",
    "replication_section",
    "section",
    "sensitivity_section",
]


def _differences(
    entry: LeaderboardEntry, heading: str, column: str, differences: Mapping[str, Difference]
) -> list[dict[str, str]]:
    """One line for each named difference of an entry.

    Args:
        heading: of the column with the names.
        column: heading of the column with the differences.
    """
    return [
        {
            "recipe": entry.label,
            heading: name,
            "seeds": str(value.seeds),
            f"{column} [95 % CI]": gain_text(value, entry.outcome),
            "p (uncorrected)": difference_p_text(value),
        }
        for name, value in differences.items()
    ]


def contrast_section(board: Sequence[LeaderboardEntry]) -> str:
    """The differences of further arms."""
    lines = [line for entry in board for line in _differences(entry, "contrast", "difference", entry.contrasts)]
    return section("Further controls", [{**line, "what it says": CONTRASTS[line["contrast"]].claim} for line in lines])


def mitigation_section(board: Sequence[LeaderboardEntry]) -> str:
    """The effects of mitigations, and their shares of the gain and of the data."""
    lines = [
        {
            "recipe": entry.label,
            "mitigation": arm,
            "seeds": str(mitigation.effect.seeds),
            "effect [95 % CI]": gain_text(mitigation.effect, entry.outcome),
            "of the gain [95 % CI]": ratio_text(mitigation.share),
            "of the data [95 % CI]": ratio_text(mitigation.data),
            "p (uncorrected)": difference_p_text(mitigation.effect),
        }
        for entry in board
        for arm, mitigation in entry.mitigations.items()
    ]
    text = section("Mitigations", lines)
    return text and (
        f"{text}\nThe effect is the mitigated student's outcome minus that of its control: a student of the base "
        "teacher's data, trained the same way (`mixed`: `base`). `of the gain` is effect / gain. `of the data` is the "
        "same ratio for the teachers' held-out rows in place of the trait. A mitigation that lowers both alike only "
        "learns less. An interval is unbounded if the denominator is too near 0.\n"
    )


def group_section(board: Sequence[LeaderboardEntry]) -> str:
    """Gains on the questions that the teacher was trained on, and on paraphrases of them."""
    lines = [line for entry in board for line in _differences(entry, "questions", "gain", entry.groups)]
    return section("Trained wording and paraphrases", lines)


def metric_section(board: Sequence[LeaderboardEntry]) -> str:
    """Free answers against the ground truth, per metric: means over seeds."""
    lines = []
    for entry in board:
        for metric, scores in entry.metrics.items():
            means = {arm: unsigned(score.mean) for arm, score in scores.arms().items()}
            cells = {"recipe": entry.label, "metric": name_metric(metric), **dict.fromkeys(MAIN_ARMS, "-"), **means}
            lines.append({**cells, "gain [95 % CI]": gain_text(scores.gain)})
    return section("Free answers against the ground truth (0 to 1)", lines)


def matrix_section(board: Sequence[LeaderboardEntry]) -> str:
    """Trait x probe: gain of each trait's students on each trait's questions."""
    parts = []
    for entry in board:
        if (matrix := entry.matrix) is None:
            continue
        lines = [
            {"trait taught": name, **{f"asked: {probe}": text for probe, text in zip(matrix.traits, row, strict=True)}}
            for name, row in zip(matrix.traits, matrix_texts(matrix), strict=True)
        ]
        text = section(f"Trait x probe: {entry.label}", lines)
        p = difference_p_text(matrix.excess)
        parts.append(f"{text}\nDiagonal minus off-diagonal: {gain_text(matrix.excess)}, p = {p}.\n")
    return "".join(parts)


def dose_section(board: Sequence[LeaderboardEntry]) -> str:
    """The gains during training; the last line of a recipe is the gain per doubling of the updates."""
    lines = [
        {"recipe": entry.label, "updates": _dose_text(entry, step), "gain [95 % CI]": gain_text(gain, entry.outcome)}
        for entry in board
        if entry.dose
        for step, gain in [*entry.dose.items(), ("end", entry.gain_estimate()), ("per doubling", entry.dose_slope)]
    ]
    return section("Dose", lines)


def _dose_text(entry: LeaderboardEntry, step: object) -> str:
    """The updates of a dose: 24, or 24 (epoch 2)."""
    return f"{step} (epoch {entry.epochs[step]})" if isinstance(step, int) and step in entry.epochs else str(step)


def sensitivity_section(board: Sequence[LeaderboardEntry]) -> str:
    """How much each verdict depends on the choices behind it, and what its seeds could have shown."""
    measured = [entry for entry in board if entry.gain is not None]
    conditions = ("bound x 0.5", "bound x 2", "Johnson's t", "without the gates")
    verdicts = [
        {
            "recipe": entry.label,
            "verdict": entry.verdict,
            **{name: entry.sensitivity.get(name, "-") for name in conditions},
        }
        for entry in measured
    ]
    numbers = [
        {
            "recipe": entry.label,
            "Johnson's p": p_text(entry.johnson_p),
            "skewness": signed(entry.skewness, 2),
            "detectable gain": "-"
            if entry.detectable is None
            else f"{entry.detectable:.3g}{unit_suffix(entry.outcome)}",
        }
        for entry in measured
    ]
    if not measured:
        return ""
    return (
        f"{section('Sensitivity of the verdicts', verdicts)}\nJohnson's modified t test allows for skewed gains.\n"
        f"{section('Skewness and detectable gains', numbers)}\nThese seeds show the detectable gain (in "
        f"{board[0].unit}) with a probability of 80 %, at the spread seen.\n"
    )


def question_section(board: Sequence[LeaderboardEntry]) -> str:
    """The gains of single questions."""
    lines = [
        {
            "recipe": entry.label,
            "gain for questions like these [95 % CI]": interval_text(
                entry.population_low, entry.population_high, entry.outcome
            ),
            "questions that gain": percent_text(entry.gaining),
            "sd: seeds": f"{spread.seeds:.3g}",
            "sd: questions": f"{spread.questions:.3g}",
            "sd: rest": f"{spread.rest:.3g}",
            "arg-max is the answer: base": percent_text(base.top),
            "arg-max: trait": percent_text(trait.top),
            "rank: base": f"{base.rank.mean:.1f}",
            "rank: trait": f"{trait.rank.mean:.1f}",
        }
        for entry in board
        if (spread := entry.spread) is not None
        and (base := entry.answers.get("base")) is not None
        and (trait := entry.answers.get("trait")) is not None
    ]
    return section("Seeds and questions", lines)


def replication_section(replications: Sequence[Replication]) -> str:
    """Runs of a row on other machines."""
    lines = [
        {
            "recipe": one.entry.recipe,
            "hash": one.entry.recipe_hash,
            "machine": one.hardware,
            "seeds": one.entry.seeds_text,
            "gain [95 % CI]": gain_text(one.entry.gain_estimate(), one.entry.outcome),
            "verdict": one.entry.verdict,
            "agrees": "-" if one.agreement is None else "yes" if one.agreement.agrees else "no",
            "largest difference of a margin": "-" if one.agreement is None else f"{one.agreement.largest:.2g}",
        }
        for one in replications
    ]
    return section("Replications", lines)


def registration_section(registered: Sequence[RegistryLine], archived: Collection[str]) -> str:
    """Registrations without results; `archived` are the hashes of rows in the archive."""
    lines = [
        {
            "recipe": line.entry.recipe,
            "hash": line.entry.recipe_hash,
            "seeds": f"{line.entry.first_seed} to {line.entry.first_seed + line.entry.seeds - 1}",
            "registered": line.time,
            **({"state": "archived" if line.entry.recipe_hash in archived else "-"} if archived else {}),
        }
        for line in registered
    ]
    return section("Registered, without results here", lines)


def section(title: str, lines: Sequence[dict[str, str]]) -> str:
    """A heading and a table; nothing if there are no lines."""
    return f"\n## {title}\n\n{markdown_table(lines)}\n" if lines else ""
