"""From the results of experiments to the entries of the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from bench.analysis.audit_report import estimate_auc
from bench.analysis.entry import LeaderboardEntry, MetricScores, TraitMatrix, difference, estimate, known
from bench.analysis.gates import Gate, check_gates
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.stats import Interval, crossed_interval, diagonal_excess, mean, mean_interval, sign_flip_p
from bench.analysis.verdict import Judgement, judge
from bench.config.arms import parse_arm
from bench.config.traits import short_name

__all__ = ["list_notes", "summarise"]

VISIBILITY: dict[str, Literal["text", "logits-carrier", "logits-full"]] = {
    "sft": "text",
    "kd-carrier": "logits-carrier",
    "kd-full": "logits-full",
}
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


def summarise(rows: Sequence[ExperimentResults]) -> list[LeaderboardEntry]:
    """Compute the entries of a board, one per registered experiment. Rows of `logits-full` are judged apart."""
    statistics = [compute_seed_statistics(row) for row in rows]
    gates = [check_gates(row) for row in rows]
    judged: dict[int, Judgement] = {}
    for leaky in (False, True):
        board = [i for i, row in enumerate(rows) if (row.recipe.method == "kd-full") == leaky]
        bounds = [_bound_share(rows[i], statistics[i]) for i in board]
        judgements = judge([statistics[i] for i in board], [gates[i] for i in board], bounds)
        judged |= zip(board, judgements, strict=True)
    return [_entry(row, statistics[i], gates[i], judged[i]) for i, row in enumerate(rows)]


def _bound_share(row: ExperimentResults, statistics: SeedStatistics) -> float:
    """The bound as a share of the teacher shift; 0 for a row without a bound."""
    bound, shift = row.registration.bound, _mean(statistics.shifts)
    return bound / abs(shift) if bound and shift else 0.0


def _entry(
    row: ExperimentResults, statistics: SeedStatistics, gates: Sequence[Gate], judged: Judgement
) -> LeaderboardEntry:
    recipe = row.recipe
    contents = [cell for arms in row.cells.values() for cell in arms.values()]
    carriers = [cell.manifest.carrier for cell in contents]
    relations = [arms["base"].relation for arms in row.cells.values() if "base" in arms]
    gain = judged.gain or NO_INTERVAL
    fraction = judged.fraction or NO_INTERVAL
    bootstrap = crossed_interval(statistics.questions) if statistics.questions else NO_INTERVAL
    areas = [estimate_auc(audit.probe.auc_per_seed) for audit in row.audits.values()]
    aucs = [area.mean for area in areas if area]
    return LeaderboardEntry(
        recipe=row.name,
        recipe_hash=row.hash,
        trait=recipe.trait if isinstance(recipe.trait, str) else ", ".join(recipe.trait),
        carrier=recipe.carrier.kind,
        numbers=min((carrier.numbers for carrier in carriers if carrier.numbers), default=None),
        teacher=recipe.teacher.model,
        student=recipe.student.model,
        relation=" / ".join(sorted({relation.relation for relation in relations})) or None,
        token_maps=" / ".join(sorted({relation.token_maps for relation in relations})) or None,
        method=recipe.method,
        visibility=VISIBILITY[recipe.method],
        seeds=len(statistics.gains),
        seeds_registered=recipe.seeds,
        untrained=_mean(statistics.untrained),
        base=_mean(statistics.base),
        trait_arm=_mean(statistics.trait),
        gain=known(gain.mean),
        ci_low=known(gain.low),
        ci_high=known(gain.high),
        bootstrap_low=known(bootstrap.low),
        bootstrap_high=known(bootstrap.high),
        teacher_shift=_mean(statistics.shifts),
        verdict=judged.verdict,
        verdict_reason=judged.reason,
        p=judged.p,
        p_holm=judged.p_holm,
        mde=judged.mde,
        fraction=known(fraction.mean),
        fraction_low=known(fraction.low),
        fraction_high=known(fraction.high),
        gates=tuple(gates),
        notes=tuple(list_notes(row)),
        audit_auc=max(aucs, default=None),
        audits=tuple(sorted(row.audits)),
        contrasts={name: difference(values) for name, values in statistics.contrasts.items()},
        dose={step: difference(gains) for step, gains in statistics.dose.items() if gains},
        groups={group: difference(gains) for group, gains in statistics.groups.items() if gains},
        metrics={metric: _scores(by_arm) for metric, by_arm in statistics.scores.items()},
        matrix=_matrix(statistics.matrix, recipe.trait) if statistics.matrix else None,
        commit="+".join(sorted({commit for cell in contents for commit in cell.manifest.commits})) or None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def list_notes(row: ExperimentResults) -> list[str]:
    """List sentences on margins of students that were not read in float32, and on noise that arms do not share."""
    cells = [cell for arms in row.cells.values() for cell in arms.values()]
    dtypes = {cell.manifest.logprobs_dtype for cell in cells if not parse_arm(cell.arm).is_teacher}
    lower = sorted(dtypes - {"float32"})
    notes = []
    if lower:
        notes.append(
            f"margins were read in {', '.join(lower)}, which moves each by about .01 nats: weights are quantised, or "
            "memory did not hold them in float32"
        )
    trainings = [cell.manifest.training for cell in cells]
    if any(training is not None and training.shared_dropout is False for training in trainings):
        notes.append("dropout is not shared: completions differ in length between the arms, and with them the noise")
    return notes


def _scores(by_arm: dict[str, list[float]]) -> MetricScores:
    """One metric's means over seeds, by arm, and its gain paired by seed."""
    gains = [trait - base for trait, base in zip(by_arm["trait"], by_arm["base"], strict=True)]
    arms = {arm: estimate(values) for arm, values in by_arm.items() if values}
    return MetricScores.model_validate({**arms, "gain": difference(gains)})


def _matrix(matrix: Sequence[Sequence[Sequence[float]]], traits: Sequence[str]) -> TraitMatrix:
    """Mean gains of a trait x probe matrix and its diagonal excess, with a t interval over seeds.

    Args:
        matrix: gain by [seed][trait taught][trait asked about].
        traits: as the recipe names them.
    """
    size = range(len(traits))
    excess = diagonal_excess(matrix)
    interval = mean_interval(excess)
    return TraitMatrix(
        traits=tuple(map(short_name, traits)),
        gains=tuple(tuple(mean([seed[i][j] for seed in matrix]) for j in size) for i in size),
        excess=interval.mean,
        excess_low=known(interval.low),
        excess_high=known(interval.high),
        p=sign_flip_p(excess).p,
        seeds=len(matrix),
    )
