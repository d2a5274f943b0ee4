"""Conditions without which a verdict means nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from bench.analysis.result_schema import ArmResult, ControlsReport, ExperimentResults, TraitArms
from bench.analysis.seed_statistics import margins_of, teacher_shift
from bench.analysis.stats import mean
from bench.config.arms import TEACHER_BASE, ArmName, parse_arm

__all__ = ["Gate", "check_gates"]


MIN_INDUCTION = 1.0  # the teacher's mean shift must exceed the spread of its own questions' shifts
MIN_WRITTEN = 0.9  # of the teacher's float32 shift must be left in the precision in which it writes
MIN_FIT = 1.645  # one-sided 5 % normal quantile
MAX_REFUSED = 0.05  # more refused rows than this in any arm, and what is left is a selection
# Equal in the trainings of all students of a seed that read a carrier.
EQUAL_FACTS = ("rows", "updates", "effective_batch", "micro_batch", "precision")


class Gate(BaseModel):
    """One condition without which a verdict means nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The condition."""
    passed: bool | None
    """Whether it is met; None where it was skipped."""
    reading: float | str | None
    """The value that was compared, or a text that names the failures."""
    threshold: str
    """The value that was needed."""


def _gate(name: str, passed: bool | None, reading: float | str | None, threshold: str) -> Gate:
    return Gate(name=name, passed=passed, reading=reading, threshold=threshold)


def check_gates(row: ExperimentResults) -> list[Gate]:
    """Check all conditions of an experiment over its complete seeds; returns no gate before the first of them."""
    recipe, trait_arms, full = row.recipe, row.trait_arms(), row.complete_seeds()
    if not full:
        return []
    induced, fitted = (_worst_gate([gate(row, t, full) for t in trait_arms]) for gate in (_induction_gate, _fit_gate))
    gates = [
        induced,
        fitted,
        _leak_gate(full),
        *_writing_gate(row, trait_arms),
        *_precision_gate(full),
        _arms_agree_gate(full),
    ]
    expected = recipe.relation
    if expected is not None:
        relations = sorted({arms["base"].relation.relation for arms in full})
        gates.append(_gate("relation", relations == [expected], ", ".join(relations), expected))
    controls = [arms["base"].manifest.controls for arms in full]
    if all(c is None for c in controls):
        gates.append(_gate("controls", None, "skipped", "tiny_pair transfers, tiny_cross does not"))
    elif any(c != "self" for c in controls):
        failed = sorted({f for c in controls if isinstance(c, ControlsReport) for f in c.failed})
        reading = ", ".join(failed) or "as they should be"
        gates.append(_gate("controls", not failed, reading, "tiny_pair transfers, tiny_cross does not"))
    return gates


def _worst_gate(gates: Sequence[Gate]) -> Gate:
    """The gate of one of several traits: a failed one, otherwise the one with the smallest reading."""
    return min(gates, key=lambda gate: (bool(gate.passed), gate.reading if isinstance(gate.reading, float) else 0.0))


def _induction_gate(row: ExperimentResults, taught: TraitArms, full: Sequence[Mapping[str, ArmResult]]) -> Gate:
    """Does the teacher show the trait? Mean shift over questions / their standard deviation, averaged over seeds.

    For a persona, only the questions that the teacher was trained on count. Whether the persona carries over to
    paraphrases is a finding about the teacher, not a condition; the leaderboard shows it with the gains.
    """
    ratios = []
    positions = row.positions("trained") or row.positions(taught.group)
    for arms in full:
        sides = (margins_of(arms[arm], positions) for arm in (taught.teacher, str(TEACHER_BASE)))
        pairs = zip(*sides, strict=True)
        shifts = [with_trait - without for with_trait, without in pairs]
        average = mean(shifts)
        spread = math.sqrt(mean([(s - average) ** 2 for s in shifts]))
        ratios.append(average / spread if spread > 0 else math.copysign(math.inf, average) if average else 0.0)
    reading = min(mean(ratios), 1e6)
    return _gate(
        "teacher induction", reading >= MIN_INDUCTION, reading, f">= {MIN_INDUCTION:g} spreads of its questions"
    )


def _writing_gate(row: ExperimentResults, trait_arms: Sequence[TraitArms]) -> list[Gate]:
    """Does the teacher write with the trait? Its shift as it writes / its float32 shift, per seed.

    There is no gate where every teacher writes in the precision in which it was evaluated.
    """
    teachers = {str(TEACHER_BASE), *(t.teacher for t in trait_arms)}
    shares = {}
    for seed, arms in sorted(row.cells.items()):
        if all(arm in arms and arms[arm].reading.logprobs_float32 is not None for arm in teachers):
            whole = teacher_shift(row, arms, float32=True)
            shares[seed] = teacher_shift(row, arms) / whole if whole > 0 else 0.0
    if not shares:
        return []
    failed = [f"seed {seed}: {share:.0%}" for seed, share in shares.items() if share < MIN_WRITTEN]
    reading = ", ".join(failed) if failed else min(shares.values())
    return [_gate("teacher writes as measured", not failed, reading, f">= {MIN_WRITTEN:.0%} of its float32 shift")]


def _precision_gate(full: Sequence[Mapping[str, ArmResult]]) -> list[Gate]:
    """Were the students of each seed evaluated in one precision? No gate where all were evaluated in float32."""
    dtypes = [
        {cell.manifest.logprobs_dtype for arm, cell in arms.items() if not parse_arm(arm).is_teacher} for arms in full
    ]
    names = sorted(set().union(*dtypes))
    if names == ["float32"]:
        return []
    alike = all(len(dtypes_of_seed) == 1 for dtypes_of_seed in dtypes)
    return [_gate("margins of one precision", alike, ", ".join(names), "the same for all arms of a seed")]


def _fit_gate(row: ExperimentResults, taught: TraitArms, full: Sequence[Mapping[str, ArmResult]]) -> Gate:
    """Did the students learn their own teachers' data?

    Held-out rows of both teachers are scored under both students. Reading: (trait student - base student) on the
    trait teacher's rows, minus the same on the base teacher's rows, per row pair, as a z over all rows and seeds.
    The rows share prompts and noise, so the text that both teachers have in common cancels.
    """
    means, errors = [], []
    for arms in full:
        trait, base = arms[taught.student].reading.held_out, arms["base"].reading.held_out
        columns = (trait[taught.student], base[taught.student], trait["base"], base["base"])
        if not columns[0]:
            return _gate("carrier fit", False, "a seed without held-out rows", f"z >= {MIN_FIT:g}")
        rows = [a - b - c + d for a, b, c, d in zip(*columns, strict=True)]
        average = mean(rows)
        means.append(average)
        errors.append(math.sqrt(mean([(r - average) ** 2 for r in rows]) / len(rows)))
    error = math.sqrt(sum(e * e for e in errors))
    z = math.fsum(means) / error if error > 0 else 0.0
    return _gate("carrier fit", z >= MIN_FIT, z, f"z >= {MIN_FIT:g}")


def _leak_gate(full: Sequence[Mapping[str, ArmResult]]) -> Gate:
    """Share of carrier rows the leak filter refused, in the worst arm."""
    shares = []
    for arms in full:
        carrier = arms["base"].manifest.carrier
        shares += [sum(reasons.values()) / carrier.rows for reasons in carrier.refused.values()]
    return _gate("leak audit", max(shares) <= MAX_REFUSED, max(shares), f"<= {MAX_REFUSED:.0%} of rows refused")


def _is_compared(arm: ArmName) -> bool:
    """Whether it is a student of a carrier at the end of its training."""
    return arm.facts.carrier is not None and arm.step is None


def _arms_agree_gate(full: Sequence[Mapping[str, ArmResult]]) -> Gate:
    """Were all students of a seed trained alike?

    Labelled tokens are compared only where every row has the same length in every arm; free text has no fixed length.
    """
    lines = []
    for arms in full:
        students = [
            (arm, training)
            for arm, cell in arms.items()
            if (training := cell.manifest.training) is not None and _is_compared(parse_arm(arm))
        ]
        alike = all(facts.equal_lengths for _, facts in students)
        apart = []
        for name in (*EQUAL_FACTS, *(["labelled_tokens"] if alike else [])):
            values = {arm: getattr(facts, name) for arm, facts in students}
            if len(set(values.values())) > 1:
                apart.append(f"{name} " + ", ".join(f"{value} ({arm})" for arm, value in values.items()))
        if apart:
            lines.append(f"seed {arms['base'].seed}: {'; '.join(apart)}")
    return _gate(
        "arms agree", not lines, " | ".join(lines) or "equal", ", ".join(EQUAL_FACTS).replace("_", " ") + " equal"
    )
