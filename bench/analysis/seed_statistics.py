"""Per-seed numbers of one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.analysis.result_schema import ExperimentResults, TraitArms
from bench.analysis.stats import mean
from bench.config.arms import BASE, CONTRASTS, MAIN_ARMS, TEACHER_BASE, TRAIT

__all__ = ["SeedStatistics", "compute_seed_statistics", "margins_of", "mean_margin", "teacher_shift"]


class SeedStatistics(NamedTuple):
    """Per-seed numbers of one experiment, each a mean over questions, and with several traits over traits as well.

    Lists hold one value per complete seed.
    """

    registered: int
    """Number of seeds that the recipe asks for."""
    untrained: list[float]
    """Margins of the student as shipped."""
    base: list[float]
    """Margins of the control arm."""
    trait: list[float]
    """Margins of the trait arm."""
    gains: list[float]
    """trait - base."""
    shifts: list[float]
    """Margins of the teacher with the trait minus without."""
    contrasts: dict[str, list[float]]
    """Differences of other arms, by name in `CONTRASTS`; one per seed that has both arms."""
    dose: dict[int, list[float]]
    """Gains during training, by student updates."""
    questions: list[list[float]]
    """Per seed, the gain of each question."""
    groups: dict[str, list[float]]
    """Gains by group of questions, where there is more than one group."""
    scores: dict[str, dict[str, list[float]]]
    """Scores of free answers, by metric and arm."""
    matrix: list[list[list[float]]]
    """With several traits, per seed: gain by [trait taught][trait asked about]."""


def margins_of(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> list[float]:
    """The margins of a model's questions, in nats, or of one group of them."""
    reading = cell["reading"]
    if group is None:
        return list(reading[column])
    return [m for m, its in zip(reading[column], reading["groups"], strict=True) if its == group]


def mean_margin(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> float:
    """The mean of `margins_of`."""
    return mean(margins_of(cell, group, column))


def teacher_shift(trait_arms: Sequence[TraitArms], arms: Mapping[str, Any], column: str = "margins") -> float:
    """The mean margin of the teacher with the trait minus without, over all traits."""
    with_trait = (mean_margin(arms[t.teacher], t.group, column) for t in trait_arms)
    without = (mean_margin(arms[str(TEACHER_BASE)], t.group, column) for t in trait_arms)
    return mean([a - b for a, b in zip(with_trait, without, strict=True)])


def compute_seed_statistics(row: ExperimentResults) -> SeedStatistics:
    """Compute the per-seed numbers of one experiment."""
    trait_arms, full = row.trait_arms(), row.complete_seeds()
    cells = [row.cells[seed] for seed in sorted(row.cells)]

    def by_question(arms: Mapping[str, Any]) -> list[float]:
        pairs = (
            zip(margins_of(arms[t.student], t.group), margins_of(arms["base"], t.group), strict=True)
            for t in trait_arms
        )
        return [a - b for pair in pairs for a, b in pair]

    def over(arms: Mapping[str, Any], arm: str | None) -> float:
        """Mean margin over all traits: of each trait's own student, or of one arm asked about all of them."""
        return mean([mean_margin(arms[arm or t.student], t.group) for t in trait_arms])

    groups = sorted({group for arms in full for group in arms["base"]["reading"]["groups"]})
    scored = sorted({metric for arms in full for metric in arms["base"].get("scores", {})})
    return SeedStatistics(
        registered=row.experiment["recipe"]["seeds"],
        untrained=[over(arms, "untrained") for arms in full if "untrained" in arms],
        base=[over(arms, "base") for arms in full],
        trait=[over(arms, None) for arms in full],
        gains=[over(arms, None) - over(arms, "base") for arms in full],
        shifts=[teacher_shift(trait_arms, arms) for arms in full],
        contrasts={
            name: differences
            for name, contrast in CONTRASTS.items()
            if (
                differences := [
                    mean_margin(arms[contrast.arm]) - mean_margin(arms[contrast.against])
                    for arms in cells
                    if {contrast.arm, contrast.against} <= arms.keys()
                ]
            )
        },
        dose={
            step: [mean_margin(arms[trait]) - mean_margin(arms[base]) for arms in full if {trait, base} <= arms.keys()]
            for step in row.experiment["recipe"]["dose"]
            for trait, base in [(str(TRAIT.at(step)), str(BASE.at(step)))]
        },
        questions=[by_question(arms) for arms in full],
        groups={
            group: [mean_margin(arms["trait"], group) - mean_margin(arms["base"], group) for arms in full]
            for group in (groups if len(trait_arms) == 1 and len(groups) > 1 else ())
        },
        scores={
            metric: {
                arm: [mean([mean(answers) for answers in arms[arm]["scores"][metric]]) for arms in full if arm in arms]
                for arm in MAIN_ARMS
            }
            for metric in scored
        },
        matrix=[
            [
                [
                    mean_margin(arms[t.student], probe.group) - mean_margin(arms["base"], probe.group)
                    for probe in trait_arms
                ]
                for t in trait_arms
            ]
            for arms in (full if len(trait_arms) > 1 else ())
        ],
    )
