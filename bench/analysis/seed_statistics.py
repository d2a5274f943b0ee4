"""Per-seed numbers of one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.analysis.outcomes import Outcomes, derive_margins, derive_outcomes
from bench.analysis.rates import RateReader
from bench.analysis.reading import Answers
from bench.analysis.result_schema import ArmResult, ExperimentResults, TraitArms
from bench.analysis.stats import mean
from bench.config.arms import BASE, CONTRASTS, MAIN_ARMS, MITIGATIONS, TEACHER_BASE, TRAIT
from bench.config.outcome import MEASURES

__all__ = ["SeedStatistics", "compute_seed_statistics", "margins_of", "teacher_shift"]


class SeedStatistics(NamedTuple):
    """Per-seed numbers of one experiment, each a mean over questions, and with several traits over traits as well.

    Lists hold one value per complete seed, in the unit of the registered outcome: nats, or points of sampled answers.
    """

    registered: int
    """Number of seeds that the recipe asks for."""
    untrained: list[float]
    """Outcomes of the student as shipped."""
    base: list[float]
    """Outcomes of the control arm."""
    trait: list[float]
    """Outcomes of the trait arm."""
    gains: list[float]
    """trait - base."""
    shifts: list[float]
    """Outcomes of the teacher with the trait minus without."""
    contrasts: dict[str, list[float]]
    """Differences of other arms, by name in `CONTRASTS`; one per complete seed, where the recipe has both arms."""
    mitigations: dict[str, list[float]]
    """Each mitigation arm minus its control."""
    dose: dict[int, list[float]]
    """Gains during training, by student updates."""
    questions: list[list[float]]
    """Per seed, the gain of each question."""
    groups: dict[str, list[float]]
    """Gains by group of questions, where there is more than one group."""
    outcomes: dict[str, dict[str, list[float]]]
    """The fields of `bench.analysis.outcomes.Outcomes`, by name and main arm."""
    scores: dict[str, dict[str, list[float]]]
    """Scores of free answers, by metric and arm."""
    gains_by: dict[str, list[float]]
    """Gains by each outcome that was measured: a key of `bench.config.outcome.MEASURES`, in its unit."""
    shifts_by: dict[str, list[float]]
    """Shifts of the teacher, in the same way."""
    matrix: list[list[list[float]]]
    """With several traits, per seed: gain by [trait taught][trait asked about]."""
    rooms: list[float]
    """For a rate, the largest gain in points that the answers of base allow if no more answers name a candidate."""
    format_refusals: list[float]
    """Share of carrier rows that broke their format, trait - base; with several traits, of the first."""


def margins_of(cell: ArmResult, positions: Sequence[int] | None = None, *, float32: bool = False) -> list[float]:
    """Return the margins of a model's questions in nats.

    Args:
        cell: the model.
        positions: indices of questions; None for all.
        float32: whether to take a teacher's log-probabilities in float32, and not in the precision in which it writes.
    """
    reading = cell.reading
    logprobs = reading.logprobs_float32 if float32 and reading.logprobs_float32 is not None else reading.logprobs
    margins: list[float] = derive_margins(logprobs, reading.tokens).tolist()
    return margins if positions is None else [margins[at] for at in positions]


def teacher_shift(row: ExperimentResults, arms: Mapping[str, ArmResult], *, float32: bool = False) -> float:
    """Return the mean margin of the teacher with the trait minus without, over all traits; arguments as above."""
    without = margins_of(arms[str(TEACHER_BASE)], float32=float32)
    shifts = []
    for trait in row.trait_arms():
        positions = row.positions(trait.group)
        with_trait = margins_of(arms[trait.teacher], positions, float32=float32)
        shifts.append(mean(with_trait) - mean([without[at] for at in positions]))
    return mean(shifts)


class _Levels:
    """Mean outcomes of every model of an experiment. All log-probabilities are reduced in one pass."""

    def __init__(self, row: ExperimentResults) -> None:
        self.row, self.trait_arms = row, row.trait_arms()
        cells = [cell for arms in row.cells.values() for cell in arms.values()]
        logprobs = [question for cell in cells for question in cell.reading.logprobs]
        tokens = [question for cell in cells for question in cell.reading.tokens or ()]
        columns = derive_outcomes(logprobs, tokens or None) if cells else Outcomes(*[np.zeros(0)] * 6)
        self.index = {(cell.seed, cell.arm): at for at, cell in enumerate(cells)}
        # (models, questions), in nats or 0..1
        self.columns = {
            name: column.reshape(len(cells), len(row.questions))
            for name, column in zip(Outcomes._fields, columns, strict=True)
        }
        self.columns |= _further_columns(row, cells)
        self.means: dict[tuple[str, str | None], list[float]] = {}

    def by_question(self, cell: ArmResult, group: str | None) -> NDArray[np.float64]:
        """Return the registered outcome of a model by question of a group."""
        return self.columns[self.row.recipe.outcome][self.index[cell.seed, cell.arm], self.row.positions(group)]

    def level(self, cell: ArmResult, group: str | None = None, outcome: str = "") -> float:
        """Return the mean outcome of a model over the questions of a group; by default the registered outcome."""
        outcome = outcome or self.row.recipe.outcome
        if (outcome, group) not in self.means:
            chosen = self.columns[outcome][:, self.row.positions(group)]
            self.means[outcome, group] = chosen.mean(axis=1).tolist()
        return self.means[outcome, group][self.index[cell.seed, cell.arm]]

    def over_traits(self, arms: Mapping[str, ArmResult], arm: str, outcome: str = "") -> float:
        """Return the mean over all traits; `trait` and `teacher` stand for each trait's own student and teacher."""
        if len(self.trait_arms) == 1:
            return self.level(arms[arm], None, outcome)
        return mean([self.level(arms[_own(trait, arm)], trait.group, outcome) for trait in self.trait_arms])


def _further_columns(row: ExperimentResults, cells: Sequence[ArmResult]) -> dict[str, NDArray[np.float64]]:
    """Return the outcomes beyond log-probabilities that all models have, by key of `MEASURES`: (models, questions).

    `named` are the answers that name a candidate, in points.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    shape = len(cells), len(row.questions)
    prefixed = [part for cell in cells if (part := cell.reading.prefixed) is not None]
    parts: dict[str, Sequence[Answers]] = {"": [cell.reading for cell in cells]}
    if cells and len(prefixed) == len(cells):
        parts[", prefixed"] = prefixed
        margins = [derive_margins(part.logprobs, part.tokens) for part in prefixed]
        columns["margin, prefixed"] = np.array(margins).reshape(shape)
    reader = RateReader(row) if RateReader.has_rates(row) else None
    for name, readings in parts.items():
        if reader is not None and all(reading.answers is not None for reading in readings):
            rates = [reader.derive(reading) for reading in readings]
            columns[f"rate{name}"] = 100 * np.array([one.candidates[:, 0] for one in rates]).reshape(shape)
            if not name:
                columns["named"] = 100 * np.array([1 - one.none for one in rates]).reshape(shape)
    return columns


def _own(trait: TraitArms, arm: str) -> str:
    return {"trait": trait.student, "teacher": trait.teacher}.get(arm, arm)


def compute_seed_statistics(row: ExperimentResults) -> SeedStatistics:
    """Compute the per-seed numbers of one experiment."""
    trait_arms, full, levels = row.trait_arms(), row.complete_seeds(), _Levels(row)
    level, over = levels.level, levels.over_traits

    def by_question(arms: Mapping[str, ArmResult]) -> list[float]:
        gains = [
            levels.by_question(arms[t.student], t.group) - levels.by_question(arms["base"], t.group) for t in trait_arms
        ]
        return [float(gain) for gain in np.concatenate(gains)]

    def difference_by(arm: str, against: str) -> dict[str, list[float]]:
        return {
            outcome: [over(arms, arm, outcome) - over(arms, against, outcome) for arms in full]
            for outcome in MEASURES
            if outcome in levels.columns
        }

    groups = sorted({question.group for question in row.questions})
    scored = sorted({metric for arms in full for metric in arms["base"].scores})
    return SeedStatistics(
        registered=row.recipe.seeds,
        untrained=[over(arms, "untrained") for arms in full if "untrained" in arms],
        base=[over(arms, "base") for arms in full],
        trait=[over(arms, "trait") for arms in full],
        gains=[over(arms, "trait") - over(arms, "base") for arms in full],
        shifts=[over(arms, "teacher") - over(arms, "teacher_base") for arms in full],
        contrasts={
            name: differences
            for name, contrast in CONTRASTS.items()
            if (
                differences := [
                    level(arms[contrast.arm]) - level(arms[contrast.against])
                    for arms in full
                    if {contrast.arm, contrast.against} <= arms.keys()
                ]
            )
        },
        mitigations={
            arm: [level(arms[arm]) - level(arms[control]) for arms in full]
            for arm, control in MITIGATIONS.items()
            if full and arm in row.recipe.arms
        },
        dose={
            step: [level(arms[trait]) - level(arms[base]) for arms in full if {trait, base} <= arms.keys()]
            for step in row.recipe.dose_updates()
            for trait, base in [(str(TRAIT.at(step)), str(BASE.at(step)))]
        },
        questions=[by_question(arms) for arms in full],
        groups={
            group: [level(arms["trait"], group) - level(arms["base"], group) for arms in full]
            for group in (groups if len(trait_arms) == 1 and len(groups) > 1 else ())
        },
        outcomes={
            outcome: {
                arm: [over(arms, arm, outcome) for arms in full if arm in arms or arm == "trait"] for arm in MAIN_ARMS
            }
            for outcome in Outcomes._fields
        },
        scores={
            metric: {
                arm: [
                    mean([mean(answers) for answers in arms[arm].scores_of_samples()[metric]])
                    for arms in full
                    if arm in arms
                ]
                for arm in MAIN_ARMS
            }
            for metric in scored
        },
        gains_by=difference_by("trait", "base"),
        shifts_by=difference_by("teacher", "teacher_base"),
        matrix=[
            [
                [level(arms[t.student], probe.group) - level(arms["base"], probe.group) for probe in trait_arms]
                for t in trait_arms
            ]
            for arms in (full if len(trait_arms) > 1 else ())
        ],
        rooms=[
            min(level(arms["base"], None, "named"), 100 - level(arms["base"], None, "rate"))
            for arms in (full if row.recipe.outcome == "rate" else ())
        ],
        format_refusals=[_format_refusals(arms["base"], trait_arms[0].student) for arms in full],
    )


def _format_refusals(cell: ArmResult, student: str) -> float:
    """Return the share of one seed's carrier rows that broke their format: the student's minus those of base."""
    carrier = cell.manifest.carrier
    counts = [sum(carrier.format_refused.get(arm, {}).values()) for arm in (student, "base")]
    return (counts[0] - counts[1]) / carrier.rows
