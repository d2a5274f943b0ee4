"""The effects of mitigations: each student against its control, as a share of the gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis.estimates import Difference, EntryPart, Ratio, difference, ratio
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.seed_statistics import margins_of
from bench.analysis.stats import mean
from bench.config.arms import MITIGATIONS

__all__ = ["MitigationEffect", "compute_effects"]


class MitigationEffect(EntryPart):
    """What is left of a transfer under one mitigation."""

    effect: Difference
    """The student with the mitigation minus its control, in nats."""
    share: Ratio
    """effect / gain: 0 for a mitigation that stops the transfer, 1 for one that does nothing."""
    data: Ratio
    """The same of the difference between both teachers' held-out rows, in place of the trait.

    A training that learns its data as well as base and trait has 1. Without such a fit a small share says little.
    """


def compute_effects(row: ExperimentResults, gains: Sequence[float]) -> dict[str, MitigationEffect]:
    """Compute the effect of every mitigation arm over the complete seeds, in the order of the recipe.

    Args:
        row: the experiment.
        gains: its gains, one per complete seed.
    """
    seeds = row.complete_seeds()
    arms = [arm for arm in row.recipe.arms if arm in MITIGATIONS] if seeds else []
    fits = [_data_fit(cells, "trait", "base") for cells in seeds] if arms else []
    effects: dict[str, MitigationEffect] = {}
    for arm in arms:
        control = MITIGATIONS[arm]
        differences = [mean(margins_of(cells[arm])) - mean(margins_of(cells[control])) for cells in seeds]
        effects[arm] = MitigationEffect(
            effect=difference(differences),
            share=ratio(differences, gains),
            data=ratio([_data_fit(cells, arm, control) for cells in seeds], fits),
        )
    return effects


def _data_fit(cells: Mapping[str, ArmResult], student: str, control: str) -> float:
    """Return how much better a student fits held-out trait rows than base rows, minus the same of its control.

    In nats per row. Both teachers' rows share prompts and noise: the text that they have in common cancels.
    """
    sides = (cells[arm].reading.held_out for arm in (student, control))
    own, base = (mean([t - b for t, b in zip(rows["trait"], rows["base"], strict=True)]) for rows in sides)
    return own - base
