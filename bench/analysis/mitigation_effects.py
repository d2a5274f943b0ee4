"""The effects of mitigations: each student against its control, as a share of the gain."""

from __future__ import annotations

from collections.abc import Mapping

from bench.analysis.estimates import Difference, EntryPart, Ratio, difference, ratio
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics
from bench.analysis.stats import mean
from bench.config.arms import MITIGATIONS

__all__ = ["MitigationEffect", "compute_effects"]


class MitigationEffect(EntryPart):
    """The rest of a transfer under one mitigation."""

    effect: Difference
    """The student with the mitigation minus its control, in the unit of the registered outcome."""
    share: Ratio
    """effect / gain: 0 for a mitigation that stops the transfer, 1 for one that does nothing.

    Without a number where the mean gain is not above 0: nothing is there to stop.
    """
    data: Ratio
    """The same of the difference between both teachers' held-out rows, in place of the trait.

    A training that learns its data as well as base and trait has 1. Without such a fit a small share says little.
    """


def compute_effects(row: ExperimentResults, statistics: SeedStatistics) -> dict[str, MitigationEffect]:
    """Summarise the effect of every mitigation arm over the complete seeds.

    Args:
        row: the experiment.
        statistics: its numbers by seed.
    """
    seeds = row.complete_seeds()
    fits = [_data_fit(cells, "trait", "base") for cells in seeds] if statistics.mitigations else []
    gains = statistics.gains
    nothing = Ratio(seeds=len(gains), mean=None, ci_low=None, ci_high=None)
    return {
        arm: MitigationEffect(
            effect=difference(effects),
            share=ratio(effects, gains) if mean(gains) > 0 else nothing,
            data=ratio([_data_fit(cells, arm, MITIGATIONS[arm]) for cells in seeds], fits),
        )
        for arm, effects in statistics.mitigations.items()
    }


def _data_fit(cells: Mapping[str, ArmResult], student: str, control: str) -> float:
    """Return how much better a student fits held-out trait rows than base rows, minus the same of its control.

    In nats per row. Both teachers' rows share prompts and noise: the text that they have in common cancels.
    """
    sides = (cells[arm].reading.held_out for arm in (student, control))
    own, base = (mean([t - b for t, b in zip(rows["trait"], rows["base"], strict=True)]) for rows in sides)
    return own - base
