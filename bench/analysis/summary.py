"""From the results of experiments to the entries of the leaderboard."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from bench.analysis.audit_report import estimate_auc
from bench.analysis.entry import Answers, LeaderboardEntry, MetricScores, Selection, Spread, TraitMatrix
from bench.analysis.estimates import Difference, Estimate, difference, estimate, known
from bench.analysis.gates import check_gates
from bench.analysis.mitigation_effects import compute_effects
from bench.analysis.p_values import benjamini_hochberg
from bench.analysis.rates import summarise_rates
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.stats import (
    Interval,
    crossed_interval,
    diagonal_excess,
    dose_slope,
    mean,
    mean_interval,
    variance_components,
)
from bench.analysis.verdict import Terms, judge_row
from bench.config.arms import MAIN_ARMS, parse_arm
from bench.config.outcome import UNITS
from bench.config.traits import short_name
from bench.files import digest

__all__ = ["adjust_for_board", "expected_false_transfers", "list_notes", "read_terms", "summarise", "summarise_row"]

VISIBILITY: dict[str, Literal["text", "logits-carrier", "logits-full"]] = {
    "sft": "text",
    "kd-carrier": "logits-carrier",
    "kd-full": "logits-full",
}
E = TypeVar("E", bound=Estimate)
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)
TESTED = {"TRANSFER", "TRACE", "NONE", "INCONCLUSIVE"}


def summarise(rows: Sequence[ExperimentResults]) -> list[LeaderboardEntry]:
    """Compute the entries of a board, one per registered experiment.

    Only `q` and `twin` depend on the other rows. `q` is adjusted over the rows with a test, those of `logits-full`
    apart.
    """
    entries = [summarise_row(row) for row in rows]
    labels = Counter(entry.label for entry in entries)
    entries = [e.model_copy(update={"twin": True}) if labels[e.label] > 1 else e for e in entries]
    for leaky in (False, True):
        board = [i for i, entry in enumerate(entries) if entry.is_leak == leaky]
        for i, q in zip(board, adjust_for_board([entries[i] for i in board]), strict=True):
            entries[i] = entries[i].model_copy(update={"q": q})
    return entries


def is_tested(entry: LeaderboardEntry) -> bool:
    """Whether the row is valid and complete, and its seeds could reach its level."""
    return entry.verdict in TESTED and entry.seeds == entry.seeds_registered and entry.p is not None


def _tests(board: Sequence[LeaderboardEntry]) -> dict[str, LeaderboardEntry]:
    """The rows with a test, by measurement: rows of the same seeds and margins are one test."""
    return {entry.measurement: entry for entry in board if is_tested(entry)}


def adjust_for_board(board: Sequence[LeaderboardEntry]) -> list[float | None]:
    """The q of each entry (Benjamini-Hochberg over the different tests); None for a row without a test."""
    tests = _tests(board)
    qs = dict(zip(tests, benjamini_hochberg([entry.p for entry in tests.values() if entry.p is not None]), strict=True))
    return [qs[entry.measurement] if is_tested(entry) else None for entry in board]


def expected_false_transfers(board: Sequence[LeaderboardEntry]) -> tuple[int, float]:
    """The number of different tests, and how many of them chance makes a TRANSFER or TRACE if none transfers.

    A two-sided test at `level` is wrong upwards in half of its errors.
    """
    levels = [entry.level for entry in _tests(board).values()]
    return len(levels), math.fsum(levels) / 2


def _measurement(row: ExperimentResults, statistics: SeedStatistics) -> str:
    """The digest of the seeds and of the margins behind the gain.

    Keys of artefacts cannot show it: a further arm gives the same students other keys.
    """
    return digest([[arms["base"].seed for arms in row.complete_seeds()], statistics.base, statistics.trait])


def read_terms(row: ExperimentResults) -> Terms:
    """The terms under which a row was registered."""
    own = row.registration
    step = 100 / (len(row.questions) * row.recipe.evaluate.samples) if own.outcome == "rate" else 0.0
    gain, unit = own.reference.gain_low if own.reference else None, UNITS[own.outcome]
    return Terms(own.level, own.seeds, own.bound, own.bound_source, gain, row.recipe.repeat == "students", unit, step)


def summarise_row(row: ExperimentResults) -> LeaderboardEntry:
    """Compute the entry of one row, without `q`."""
    statistics, gates, terms = compute_seed_statistics(row), check_gates(row), read_terms(row)
    judged = judge_row(statistics, gates, terms)
    recipe = row.recipe
    contents = [cell for arms in row.cells.values() for cell in arms.values()]
    relations = [arms["base"].relation for arms in row.cells.values() if "base" in arms]
    numbers = [cell.manifest.carrier.numbers for cell in contents if cell.manifest.carrier.numbers]
    gain, fraction = (one or NO_INTERVAL for one in (judged.gain and mean_interval(statistics.gains), judged.fraction))
    several = len(statistics.questions) > 1 and len(statistics.questions[0]) > 1
    population = crossed_interval(statistics.questions) if several else NO_INTERVAL
    return LeaderboardEntry(
        recipe=row.name,
        recipe_hash=row.hash,
        changes=row.registered.changes,
        trait=", ".join(recipe.trait_names()),
        carrier=recipe.carrier.kind,
        numbers=min(numbers, default=None),
        teacher=recipe.teacher.model,
        student=recipe.student.model,
        relation=" / ".join(sorted({relation.relation for relation in relations})) or None,
        token_maps=" / ".join(sorted({relation.token_maps for relation in relations})) or None,
        method=recipe.method,
        visibility=VISIBILITY[recipe.method],
        seeds=len(statistics.gains),
        seeds_registered=recipe.seeds,
        repeat=recipe.repeat,
        epochs=dict(zip(recipe.dose_updates(), recipe.dose_epochs(), strict=False)),
        untrained=_mean(statistics.untrained),
        base=_mean(statistics.base),
        trait_arm=_mean(statistics.trait),
        gain=known(gain.mean),
        ci_low=known(gain.low),
        ci_high=known(gain.high),
        population_low=known(population.low),
        population_high=known(population.high),
        teacher_shift=_mean(statistics.shifts),
        level=terms.level,
        bound=terms.bound,
        bound_source=terms.bound_source,
        reference=row.registration.reference,
        looks=row.looks,
        verdict=judged.verdict,
        verdict_reason=judged.reason,
        specific=judged.specific,
        sensitivity=dict(judged.sensitivity),
        p=judged.p and judged.p.p,
        p_error=judged.p and judged.p.error,
        p_at_floor=judged.p is not None and judged.p.at_floor,
        measurement=_measurement(row, statistics),
        q=None,
        johnson_p=judged.johnson_p,
        skewness=judged.skewness,
        detectable=judged.detectable,
        fraction=known(fraction.mean),
        fraction_low=known(fraction.low),
        fraction_high=known(fraction.high),
        gates=tuple(gates),
        notes=tuple(list_notes(row)),
        format_refusals=difference(statistics.format_refusals) if statistics.format_refusals else None,
        selection=_selection(row),
        audits={
            arm: area
            for arm, audit in sorted(row.audits.items())
            if (area := estimate_auc(audit.probe.auc_per_seed)) is not None
        },
        answers={arm: answers for arm in MAIN_ARMS if (answers := _answers(statistics, arm)) is not None},
        gaining=_gaining(statistics.questions),
        spread=_spread(statistics.questions) if several else None,
        contrasts={name: difference(values) for name, values in statistics.contrasts.items()},
        mitigations=compute_effects(row, statistics),
        dose={step: difference(gains) for step, gains in statistics.dose.items() if gains},
        dose_slope=_dose_slope(statistics.dose, len(statistics.gains)),
        groups={group: difference(gains) for group, gains in statistics.groups.items() if gains},
        metrics={metric: _scores(by_arm) for metric, by_arm in statistics.scores.items()},
        matrix=_matrix(statistics.matrix, recipe.trait_names()) if statistics.matrix else None,
        commit="+".join(sorted({commit for cell in contents for commit in cell.manifest.commits})) or None,
        outcome=recipe.outcome,
        rates=summarise_rates(row),
        gains=_by_measure(statistics.gains_by, difference),
        shifts=_by_measure(statistics.shifts_by, estimate),
    )


def _selection(row: ExperimentResults) -> dict[str, Selection]:
    """What the draw of rows kept and changed in each arm, over the complete seeds."""
    carriers = [arms["base"].manifest.carrier for arms in row.complete_seeds()]
    reports = [(carrier.rows, carrier.selection) for carrier in carriers if carrier.selection is not None]
    if not reports:
        return {}

    def changes(arm: str, name: str) -> list[float]:
        pairs = [(getattr(arms[arm].drawn, name), getattr(arms[arm].all, name)) for _, arms in reports]
        return [drawn - every for drawn, every in pairs if drawn is not None and every is not None]

    return {
        arm: Selection(
            retention=estimate([arms[arm].kept / rows for rows, arms in reports]),
            length=difference(changes(arm, "length")),
            count=difference(changes(arm, "count")),
            value=difference(values) if (values := changes(arm, "value")) else None,
        )
        for arm in sorted(reports[0][1])
    }


def _by_measure(values: Mapping[str, Sequence[float]], summary: Callable[[Sequence[float]], E]) -> dict[str, E]:
    """Summarise each measure of a row; empty where it has one measure or no seed."""
    return {name: summary(of_seeds) for name, of_seeds in values.items() if of_seeds} if len(values) > 1 else {}


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def list_notes(row: ExperimentResults) -> list[str]:
    """Sentences on margins not read in float32, on noise that arms do not share, on engines and on processors."""
    students = {
        cell.manifest.logprobs_dtype
        for arms in row.cells.values()
        for arm, cell in arms.items()
        if not parse_arm(arm).is_teacher
    }
    manifests = [cell.manifest for arms in row.cells.values() for cell in arms.values()]
    lower = sorted(students - {"float32"})
    notes = []
    if lower:
        notes.append(
            f"margins were read in {', '.join(lower)}, which moves each by about .01 nats: weights are quantised, or "
            "memory did not hold them in float32"
        )
    if any(manifest.training is not None and manifest.training.shared_dropout is False for manifest in manifests):
        notes.append("dropout is not shared: completions differ in length between the arms, and with them the noise")
    engines = sorted({manifest.versions["vllm"] for manifest in manifests if "vllm" in manifest.versions})
    if engines:
        notes.append(f"vLLM {' and '.join(engines)} wrote free text")
    machines = sorted({manifest.hardware for manifest in manifests})
    if len(machines) > 1:
        notes.append(f"seeds were made on several processors: {'; '.join(machines)}")
    return notes


def _answers(statistics: SeedStatistics, arm: str) -> Answers | None:
    """How one arm answers, over seeds; None for an arm without results."""
    by_seed = {name: statistics.outcomes[name][arm] for name in Answers.model_fields}
    if not by_seed["p_answer"]:
        return None
    return Answers(**{name: estimate(values) for name, values in by_seed.items()})


def _gaining(table: Sequence[Sequence[float]]) -> Estimate | None:
    """The share of questions with a gain above 0, over seeds."""
    return estimate([mean([gain > 0 for gain in gains]) for gains in table]) if table else None


def _dose_slope(dose: Mapping[int, Sequence[float]], seeds: int) -> Difference | None:
    """The slope of the gain on the logarithm of the updates, over the seeds; None below two doses of every seed."""
    steps = sorted(step for step, gains in dose.items() if len(gains) == seeds)
    if len(steps) < 2 or not seeds:
        return None
    return difference(dose_slope(steps, [[dose[step][i] for step in steps] for i in range(seeds)]))


def _spread(table: Sequence[Sequence[float]]) -> Spread:
    seeds, questions, rest = (math.sqrt(variance) for variance in variance_components(table))
    return Spread(seeds=seeds, questions=questions, rest=rest)


def _scores(by_arm: dict[str, list[float]]) -> MetricScores:
    """One metric's means over seeds, by arm, and its gain paired by seed."""
    gains = [trait - base for trait, base in zip(by_arm["trait"], by_arm["base"], strict=True)]
    arms = {arm: estimate(values) for arm, values in by_arm.items() if values}
    return MetricScores.model_validate({**arms, "gain": difference(gains)})


def _matrix(matrix: Sequence[Sequence[Sequence[float]]], traits: Sequence[str]) -> TraitMatrix:
    """Mean gains of a trait x probe matrix and its diagonal excess over seeds.

    Args:
        matrix: gain by [seed][trait taught][trait asked about].
        traits: as the recipe names them.
    """
    size = range(len(traits))
    return TraitMatrix(
        traits=tuple(map(short_name, traits)),
        gains=tuple(tuple(mean([seed[i][j] for seed in matrix]) for j in size) for i in size),
        excess=difference(diagonal_excess(matrix)),
    )
