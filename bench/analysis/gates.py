"""Conditions without which a verdict means nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.analysis.result_schema import ExperimentResults, TraitArms
from bench.analysis.seed_statistics import margins_of, mean, teacher_shift

__all__ = ["Gate", "check_gates"]


MIN_INDUCTION = 1.0  # the teacher's mean shift must exceed the spread of its own questions' shifts
MIN_WRITTEN = 0.9  # of the teacher's float32 shift must be left in the precision in which it writes
MIN_FIT = 1.645  # one-sided 5 % normal quantile
MAX_REFUSED = 0.05  # more refused rows than this in any arm, and what is left is a selection
# What must be equal in the trainings of all students that read a seed's carriers, and those students.
EQUAL_FACTS = ("rows", "updates", "effective_batch", "micro_batch", "precision")
TRAINED_STUDENTS = {"base", "trait", "placebo", "resampled", "shuffled", "cross_init", "cross_init_base"}


class Gate(NamedTuple):
    """One condition without which a verdict means nothing. `passed` is None where it was skipped."""

    name: str
    passed: bool | None
    reading: float | str | None
    threshold: str


def check_gates(row: ExperimentResults) -> list[Gate]:
    """Check all conditions of an experiment, over its complete seeds; none while it has no complete seed."""
    recipe, taught, full = row.experiment["recipe"], row.trait_arms(), row.complete_seeds()
    if not full:
        return []
    induced, fitted = (_worst_gate([gate(t, full) for t in taught]) for gate in (_induction_gate, _fit_gate))
    gates = [
        induced,
        fitted,
        _leak_gate(full),
        *_writing_gate(row, taught),
        *_precision_gate(full),
        _arms_agree_gate(full),
    ]
    expected = recipe["relation"]
    if expected is not None:
        found = sorted({arms["base"]["relation"]["relation"] for arms in full})
        gates.append(Gate("relation", found == [expected], ", ".join(found), expected))
    controls = [arms["base"]["manifest"]["controls"] for arms in full]
    if all(c is None for c in controls):
        gates.append(Gate("controls", None, "skipped", "tiny_pair transfers, tiny_cross does not"))
    elif any(c != "self" for c in controls):
        failed = sorted({f for c in controls if isinstance(c, dict) for f in c["failed"]})
        reading = ", ".join(failed) or "as they should be"
        gates.append(Gate("controls", not failed, reading, "tiny_pair transfers, tiny_cross does not"))
    return gates


def _worst_gate(gates: Sequence[Gate]) -> Gate:
    """Of one gate for several traits, a failed one, else that with the smallest reading."""
    return min(gates, key=lambda gate: (bool(gate.passed), gate.reading if isinstance(gate.reading, float) else 0.0))


def _induction_gate(taught: TraitArms, full: Sequence[Mapping[str, Any]]) -> Gate:
    """Does the teacher show what it was taught? Mean shift over questions / their standard deviation, over seeds.

    Of a persona only the wording it was taught is asked here: whether that carries over to paraphrases is a finding
    about the teacher, shown beside the gains, and no condition.
    """
    ratios = []
    for arms in full:
        group = "trained" if "trained" in arms[taught.teacher]["reading"]["groups"] else taught.group
        sides = (margins_of(arms[arm], group) for arm in (taught.teacher, "teacher_base"))
        pairs = zip(*sides, strict=True)
        shifts = [with_trait - without for with_trait, without in pairs]
        average = mean(shifts)
        spread = math.sqrt(mean([(s - average) ** 2 for s in shifts]))
        ratios.append(average / spread if spread > 0 else math.copysign(math.inf, average) if average else 0.0)
    reading = min(mean(ratios), 1e6)
    return Gate(
        "teacher induction", reading >= MIN_INDUCTION, reading, f">= {MIN_INDUCTION:g} spreads of its questions"
    )


def _writing_gate(row: ExperimentResults, taught: Sequence[TraitArms]) -> list[Gate]:
    """Does the teacher write with the trait that was measured? Its shift as it writes / its float32 shift, per seed.

    No gate where no teacher of the row writes in another precision than it was read in.
    """
    arms_of = {"teacher_base", *(t.teacher for t in taught)}
    shares = {}
    for seed, arms in sorted(row.cells.items()):
        if all(arm in arms and "margins_float32" in arms[arm]["reading"] for arm in arms_of):
            whole = teacher_shift(taught, arms, "margins_float32")
            shares[seed] = teacher_shift(taught, arms) / whole if whole > 0 else 0.0
    if not shares:
        return []
    failed = [f"seed {seed}: {share:.0%}" for seed, share in shares.items() if share < MIN_WRITTEN]
    reading = ", ".join(failed) if failed else min(shares.values())
    return [Gate("teacher writes as measured", not failed, reading, f">= {MIN_WRITTEN:.0%} of its float32 shift")]


def _precision_gate(full: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Were the arms of each seed read in one precision? A gate only where some were not read in float32."""
    read_in = [
        {str(cell["manifest"].get("margins_dtype")) for arm, cell in arms.items() if not arm.startswith("teacher")}
        for arms in full
    ]
    names = sorted(set().union(*read_in))
    if names in (["None"], ["float32"]):
        return []
    alike = all(len(names_of) == 1 for names_of in read_in)
    return [Gate("margins of one precision", alike, ", ".join(names), "the same for all arms of a seed")]


def _fit_gate(taught: TraitArms, full: Sequence[Mapping[str, Any]]) -> Gate:
    """Did the students learn their own teachers' data?

    Held-out rows of both teachers are scored under both students. Reading: (trait student - base student) on the
    trait teacher's rows, minus the same on the base teacher's rows, per row pair, as a z over all rows and seeds.
    The rows share prompts and noise, so what both teachers wrote alike cancels.
    """
    means, errors = [], []
    for arms in full:
        trait, base = arms[taught.student]["reading"], arms["base"]["reading"]
        own = f"held_out_{taught.student}"
        columns = (trait[own], base[own], trait["held_out_base"], base["held_out_base"])
        if not columns[0]:
            return Gate("carrier fit", False, "a seed without held-out rows", f"z >= {MIN_FIT:g}")
        rows = [a - b - c + d for a, b, c, d in zip(*columns, strict=True)]
        average = mean(rows)
        means.append(average)
        errors.append(math.sqrt(mean([(r - average) ** 2 for r in rows]) / len(rows)))
    error = math.sqrt(sum(e * e for e in errors))
    z = math.fsum(means) / error if error > 0 else 0.0
    return Gate("carrier fit", z >= MIN_FIT, z, f"z >= {MIN_FIT:g}")


def _leak_gate(full: Sequence[Mapping[str, Any]]) -> Gate:
    """Share of carrier rows the leak filter refused, in the worst arm."""
    shares = []
    for arms in full:
        carrier = arms["base"]["manifest"]["carrier"]
        shares += [sum(reasons.values()) / carrier["rows"] for reasons in carrier["refused"].values()]
    return Gate("leak audit", max(shares) <= MAX_REFUSED, max(shares), f"<= {MAX_REFUSED:.0%} of rows refused")


def _arms_agree_gate(full: Sequence[Mapping[str, Any]]) -> Gate:
    """Were all students of a seed's carriers trained alike? Files that do not hold a fact are not compared by it.

    Labelled tokens are equal where every row has as many tokens in every arm; a free text has no fixed length.
    """
    lines = []
    for arms in full:
        students = [
            (arm, cell["manifest"]["training"])
            for arm, cell in arms.items()
            if arm.partition("-")[0] in TRAINED_STUDENTS and cell["manifest"]["training"] is not None
        ]
        alike = all(facts.get("equal_lengths") for _, facts in students)
        apart = []
        for name in (*EQUAL_FACTS, *(["labelled_tokens"] if alike else [])):
            values = {arm: facts[name] for arm, facts in students if name in facts}
            if len(set(values.values())) > 1:
                apart.append(f"{name} " + ", ".join(f"{value} ({arm})" for arm, value in values.items()))
        if apart:
            lines.append(f"seed {arms['base']['seed']}: {'; '.join(apart)}")
    return Gate(
        "arms agree", not lines, " | ".join(lines) or "equal", ", ".join(EQUAL_FACTS).replace("_", " ") + " equal"
    )
