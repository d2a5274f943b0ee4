"""Per-seed numbers of one experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.analysis.result_schema import ExperimentResults, TraitArms

__all__ = [
    "CONTRASTS",
    "SeedStatistics",
    "compute_seed_statistics",
    "margins_of",
    "mean",
    "mean_margin",
    "teacher_shift",
]

# Further controls: name -> (arm, the arm it is held against, what the difference says).
CONTRASTS = {
    "trait - placebo": ("trait", "placebo", "what is specific to the trait, beyond fine-tuning on the same questions"),
    "resampled - base": ("resampled", "base", "the noise floor: the untaught teacher's numbers, drawn again"),
    "shuffled - base": ("shuffled", "base", "the trait teacher's completions, moved to other prompts"),
    "direct - untrained": ("direct", "untrained", "the teacher's lesson itself: can the student show the trait?"),
    "cross_init": ("cross_init", "cross_init_base", "the same data, other initial weights"),
}


class SeedStatistics(NamedTuple):
    """Per-seed numbers of one experiment, each a mean over questions, and with several traits over traits as well."""

    registered: int  # how many seeds the recipe asks for; the lists hold those that are complete
    untrained: list[float]
    base: list[float]
    trait: list[float]
    gains: list[float]
    shifts: list[float]
    contrasts: dict[str, list[float]]  # per further control, by its name in CONTRASTS
    dose: dict[int, list[float]]  # gains along the way: updates -> one per seed
    questions: list[list[float]]  # per seed, the gain of each question
    groups: dict[str, list[float]]  # gains by group of questions, where there is more than one: group -> one per seed
    scores: dict[str, dict[str, list[float]]]  # metric -> arm -> one per seed, where free answers were scored
    matrix: list[list[list[float]]]  # with several traits, per seed: gain of [trait taught][trait asked about]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def margins_of(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> list[float]:
    """The margins of a cell's questions, or of one group of them."""
    reading = cell["reading"]
    if group is None:
        return list(reading[column])
    return [m for m, its in zip(reading[column], reading["groups"], strict=True) if its == group]


def mean_margin(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> float:
    return mean(margins_of(cell, group, column))


def teacher_shift(taught: Sequence[TraitArms], arms: Mapping[str, Any], column: str = "margins") -> float:
    """How much the teacher learnt: mean margin with the trait minus without, over all traits."""
    with_trait = (mean_margin(arms[t.teacher], t.group, column) for t in taught)
    without = (mean_margin(arms["teacher_base"], t.group, column) for t in taught)
    return mean([a - b for a, b in zip(with_trait, without, strict=True)])


def compute_seed_statistics(row: ExperimentResults) -> SeedStatistics:
    """Compute the per-seed numbers of one experiment."""
    taught, full = row.trait_arms(), row.complete_seeds()
    cells = [row.cells[seed] for seed in sorted(row.cells)]

    def by_question(arms: Mapping[str, Any]) -> list[float]:
        pairs = (
            zip(margins_of(arms[t.student], t.group), margins_of(arms["base"], t.group), strict=True) for t in taught
        )
        return [a - b for pair in pairs for a, b in pair]

    def over(arms: Mapping[str, Any], arm: str | None) -> float:
        """Mean margin over all traits: of each trait's own student, or of one arm asked about all of them."""
        return mean([mean_margin(arms[arm or t.student], t.group) for t in taught])

    groups = sorted({group for arms in full for group in arms["base"]["reading"]["groups"]})
    scored = sorted({metric for arms in full for metric in arms["base"].get("scores", {})})
    return SeedStatistics(
        registered=row.experiment["recipe"]["seeds"],
        untrained=[over(arms, "untrained") for arms in full if "untrained" in arms],
        base=[over(arms, "base") for arms in full],
        trait=[over(arms, None) for arms in full],
        gains=[over(arms, None) - over(arms, "base") for arms in full],
        shifts=[teacher_shift(taught, arms) for arms in full],
        contrasts={
            name: differences
            for name, (arm, against, _) in CONTRASTS.items()
            if (
                differences := [
                    mean_margin(a[arm]) - mean_margin(a[against]) for a in cells if {arm, against} <= a.keys()
                ]
            )
        },
        dose={
            step: [
                mean_margin(a[f"trait@{step}"]) - mean_margin(a[f"base@{step}"])
                for a in full
                if {f"trait@{step}", f"base@{step}"} <= a.keys()
            ]
            for step in row.experiment["recipe"]["dose"]
        },
        questions=[by_question(arms) for arms in full],
        groups={
            group: [mean_margin(arms["trait"], group) - mean_margin(arms["base"], group) for arms in full]
            for group in (groups if len(taught) == 1 and len(groups) > 1 else ())
        },
        scores={
            metric: {
                arm: [mean([mean(of) for of in arms[arm]["scores"][metric]]) for arms in full if arm in arms]
                for arm in ("untrained", "base", "trait")
            }
            for metric in scored
        },
        matrix=[
            [
                [mean_margin(arms[t.student], probe.group) - mean_margin(arms["base"], probe.group) for probe in taught]
                for t in taught
            ]
            for arms in (full if len(taught) > 1 else ())
        ],
    )
