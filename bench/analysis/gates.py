"""Gates: conditions without which a verdict means nothing. Every seed has to meet each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from bench.analysis.manifest import ControlsReport
from bench.analysis.rates import RateReader
from bench.analysis.result_schema import ArmResult, ExperimentResults, TraitArms
from bench.analysis.seed_statistics import margins_of, teacher_shift
from bench.analysis.stats import mean
from bench.config.arms import PARTLY_LABELLED, TEACHER_BASE, ArmName, parse_arm

__all__ = ["Gate", "check_gates", "list_seeds"]

MIN_INDUCTION = 1.0  # the teacher's mean shift must exceed the spread of its own questions' shifts
MIN_WRITTEN = 0.9  # of the teacher's float32 shift must be left in the precision in which it writes
# One-sided 5 % normal quantile: a seed of students that learned nothing fails with probability .95. Sound seeds with
# the default of 256 held-out rows fail with probability .0006 (tiny models, z of 8 ± 1.7; results/perf/statistics.md).
MIN_FIT = 1.645
MAX_LEAKS = 0.05  # a larger share of refused rows in any arm, and what is left is a selection
# Equal in the trainings of all students of a seed that read a carrier.
EQUAL_FACTS = ("rows", "updates", "effective_batch", "micro_batch", "precision")
TEACHERS = ("teacher", str(TEACHER_BASE))
CONTROLS_NEEDED = "tiny_pair transfers, tiny_cross does not"


class Gate(BaseModel):
    """One condition without which a verdict means nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The condition."""
    passed: bool | None
    """Whether every seed meets it; None where it was skipped."""
    reading: float | str | None
    """The value that was compared, that of the worst seed; or a text."""
    threshold: str
    """The value that was needed."""
    failed_seeds: tuple[int, ...] = ()
    """The seeds that do not meet it."""

    def describe_failure(self) -> str:
        """One line for a row that this gate makes INVALID."""
        value = f"{self.reading:.2f}" if isinstance(self.reading, float) else self.reading
        seeds = f" (seeds {list_seeds(self.failed_seeds)})" if self.failed_seeds else ""
        return f"{self.name}: {value}, needed {self.threshold}{seeds}"


def list_seeds(seeds: Sequence[int]) -> str:
    """List seeds in increasing order, those that follow each other as a range: 0 to 9, 12."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


Arms = Mapping[str, ArmResult]
Seeds = Mapping[int, Arms]


def _least(name: str, values: Mapping[int, float], least: float, threshold: str) -> Gate:
    """A gate that passes if the value of every seed is at least `least`; its reading is the smallest."""
    failed = tuple(seed for seed, value in values.items() if not value >= least)
    return Gate(name=name, passed=not failed, reading=min(values.values()), threshold=threshold, failed_seeds=failed)


def check_gates(row: ExperimentResults) -> list[Gate]:
    """Check all conditions on the complete seeds of an experiment; returns no gate before the first of them."""
    trait_arms, seeds = row.trait_arms(), {arms["base"].seed: arms for arms in row.complete_seeds()}
    if not seeds:
        return []
    return [
        *(_rate_gate(row, seeds) if row.recipe.outcome == "rate" else _induction_gates(row, trait_arms, seeds)),
        *_writing_gate(row, trait_arms, seeds),
        _fit_gate(trait_arms, seeds),
        _leak_gate(seeds),
        *_precision_gate(seeds),
        _arms_agree_gate(seeds),
        *_relation_gate(row, seeds),
        *_controls_gate(seeds),
    ]


def _induction_gates(row: ExperimentResults, trait_arms: Sequence[TraitArms], seeds: Seeds) -> list[Gate]:
    """Does every seed's teacher show the trait? Its mean shift over questions, in nats and in their standard deviation.

    With several traits, the weakest counts. For a persona, only the questions that the teacher was trained on count.
    Whether the persona carries over to paraphrases is a finding about the teacher, not a condition.
    """
    nats, spreads = {}, {}
    for seed, arms in seeds.items():
        by_trait = []
        for trait_arm in trait_arms:
            positions = row.positions("trained") or row.positions(trait_arm.group)
            sides = (margins_of(arms[arm], positions) for arm in (trait_arm.teacher, str(TEACHER_BASE)))
            shifts = [with_trait - without for with_trait, without in zip(*sides, strict=True)]
            average = mean(shifts)
            spread = math.sqrt(mean([(s - average) ** 2 for s in shifts]))
            ratio = average / spread if spread > 0 else math.copysign(1e6, average) if average else 0.0
            by_trait.append((average, ratio))
        nats[seed] = min(average for average, _ in by_trait)
        spreads[seed] = min(1e6, min(ratio for _, ratio in by_trait))
    needed = row.recipe.min_shift
    return [
        _least("teacher shift", nats, needed, f">= {needed:g} nats in every seed"),
        _least("teacher induction", spreads, MIN_INDUCTION, f">= {MIN_INDUCTION:g} spreads of its questions"),
    ]


def _rate_gate(row: ExperimentResults, seeds: Seeds) -> list[Gate]:
    """Does every seed's teacher name the trait's answer more often? Its shift in points of sampled answers.

    A rate is bounded, so a few questions cannot make up the shift, and there is no gate on the spread of questions.
    """
    reader, needed = RateReader(row), row.recipe.min_shift_points
    points = {
        seed: 100 * float(np.subtract(*(reader.derive(arms[arm].reading).candidates[:, 0] for arm in TEACHERS)).mean())
        for seed, arms in seeds.items()
    }
    return [_least("teacher shift", points, needed, f">= {needed:g} points in every seed")]


def _writing_gate(row: ExperimentResults, trait_arms: Sequence[TraitArms], seeds: Seeds) -> list[Gate]:
    """Does the teacher write with the trait? Its shift as it writes / its float32 shift.

    There is no gate where every teacher writes in the precision in which it was evaluated. Shifts are those of margins,
    also in a row of rates: its answers are sampled in the precision in which the teacher writes, not in float32, and a
    ratio of two rates has their sampling noise. A margin's shift at or below 0 says nothing there. The gate is skipped
    where memory held no float32 model of a seed: its shift is measured as its teacher writes.
    """
    teachers = {str(TEACHER_BASE), *(t.teacher for t in trait_arms)}
    shares, skipped, quantised = {}, [], row.recipe.teacher.quantization is not None
    for seed, arms in seeds.items():
        if all(arms[arm].reading.logprobs_float32 is not None for arm in teachers):
            whole = teacher_shift(row, arms, float32=True)
            if whole > 0 or row.recipe.outcome == "margin":
                shares[seed] = teacher_shift(row, arms) / whole if whole > 0 else 0.0
        elif not quantised and any(arms[arm].manifest.logprobs_dtype != "float32" for arm in teachers):
            skipped.append(seed)
    name, threshold = "teacher writes as measured", f">= {MIN_WRITTEN:g} of its float32 shift"
    gates = [_least(name, shares, MIN_WRITTEN, threshold)] if shares else []
    if skipped and all(gate.passed for gate in gates):
        reading = f"skipped for seeds {list_seeds(skipped)}: memory held no float32 model"
        return [Gate(name=name, passed=None, reading=reading, threshold=threshold)]
    return gates


def _fit_gate(trait_arms: Sequence[TraitArms], seeds: Seeds) -> Gate:
    """Did the students of every seed learn their own teachers' data?

    Held-out rows of both teachers are scored under both students. Reading: (trait student - base student) on the
    trait teacher's rows, minus the same on the base teacher's rows, per pair of rows, as a z over the rows. The rows
    share prompts and noise, so the text that both teachers have in common cancels. With several traits, the smallest z.
    Mitigations are left out: some fit less by design, and `bench.analysis.mitigation_effects` shows how much.
    """
    values = {}
    for seed, arms in seeds.items():
        base = arms["base"].reading.held_out
        values[seed] = min(
            _fit_z(
                arms[t.student].reading.held_out[t.student],
                base[t.student],
                arms[t.student].reading.held_out["base"],
                base["base"],
            )
            for t in trait_arms
        )
    return _least("carrier fit", values, MIN_FIT, f"z >= {MIN_FIT:g} in every seed")


def _fit_z(*columns: Sequence[float]) -> float:
    """The z of trait on trait rows - base on trait rows - trait on base rows + base on base rows; 0 without rows."""
    rows = [a - b - c + d for a, b, c, d in zip(*columns, strict=True)]
    if not rows:
        return 0.0
    average = mean(rows)
    error = math.sqrt(mean([(r - average) ** 2 for r in rows]) / len(rows))
    return average / error if error > 0 else 0.0


def _leak_gate(seeds: Seeds) -> Gate:
    """Share of carrier rows that the leak filter refused, in the worst arm. Rows of a wrong format are no leak."""
    shares = {}
    for seed, arms in seeds.items():
        shares[seed] = arms["base"].manifest.carrier.leak_share()
    failed = tuple(seed for seed, share in shares.items() if share > MAX_LEAKS)
    return Gate(
        name="leak filter",
        passed=not failed,
        reading=max(shares.values()),
        threshold=f"<= {MAX_LEAKS:.0%} of rows refused",
        failed_seeds=failed,
    )


def _precision_gate(seeds: Seeds) -> list[Gate]:
    """Were the students of each seed evaluated in one precision? No gate where all were evaluated in float32."""
    dtypes = {
        seed: {cell.manifest.logprobs_dtype for arm, cell in arms.items() if not parse_arm(arm).is_teacher}
        for seed, arms in seeds.items()
    }
    names = sorted(set().union(*dtypes.values()))
    if names == ["float32"]:
        return []
    failed = tuple(seed for seed, of_seed in dtypes.items() if len(of_seed) > 1)
    return [
        Gate(
            name="margins of one precision",
            passed=not failed,
            reading=", ".join(names),
            threshold="the same for all arms of a seed",
            failed_seeds=failed,
        )
    ]


def _is_compared(arm: ArmName) -> bool:
    """Whether it is a student of a carrier at the end of its training."""
    return arm.facts.carrier is not None and arm.step is None


def _arms_agree_gate(seeds: Seeds) -> Gate:
    """Were all students of a seed trained alike, and all arms made on one kind of processor?

    Labelled tokens are compared only where every row has the same length in every arm; free text has no fixed length.
    Arms with labels on a part of the tokens are left out of this comparison.
    """
    lines = {}
    for seed, arms in seeds.items():
        compared = {arm: cell for arm, cell in arms.items() if _is_compared(parse_arm(arm))}
        students = {arm: training for arm, cell in compared.items() if (training := cell.manifest.training) is not None}
        alike = all(facts.equal_lengths for facts in students.values())
        apart = [f"{arm} has no training report" for arm in compared if arm not in students]
        for name in (*EQUAL_FACTS, *(["labelled_tokens"] if alike else [])):
            part = PARTLY_LABELLED if name == "labelled_tokens" else frozenset()
            values = {arm: getattr(facts, name) for arm, facts in students.items() if parse_arm(arm).kind not in part}
            if len(set(values.values())) > 1:
                apart.append(f"{name} " + ", ".join(f"{value} ({arm})" for arm, value in values.items()))
        machines = {(cell.manifest.hardware, *cell.manifest.processor_features) for cell in arms.values()}
        if len(machines) > 1:
            apart.append("processors " + ", ".join(sorted({machine[0] for machine in machines})))
        if apart:
            lines[seed] = f"seed {seed}: {'; '.join(apart)}"
    return Gate(
        name="arms agree",
        passed=not lines,
        reading=" | ".join(lines.values()) or "equal",
        threshold=", ".join(EQUAL_FACTS).replace("_", " ") + ", processor equal",
        failed_seeds=tuple(lines),
    )


def _relation_gate(row: ExperimentResults, seeds: Seeds) -> list[Gate]:
    """Is the relation of the students' initial weights the one that the recipe states? No gate where it states none."""
    expected = row.recipe.relation
    if expected is None:
        return []
    relations = {
        seed: {cell.relation.relation for arm, cell in arms.items() if parse_arm(arm).facts.model == "student"}
        for seed, arms in seeds.items()
    }
    failed = tuple(seed for seed, of_seed in relations.items() if of_seed != {expected})
    reading = ", ".join(sorted(set().union(*relations.values())))
    return [Gate(name="relation", passed=not failed, reading=reading, threshold=expected, failed_seeds=failed)]


def _controls_gate(seeds: Seeds) -> list[Gate]:
    """Did this installation's controls behave, for every arm of every seed? No gate for the controls themselves."""
    reports = {seed: [cell.manifest.controls for cell in arms.values()] for seed, arms in seeds.items()}
    every = [report for of_seed in reports.values() for report in of_seed]
    if all(report == "self" for report in every):
        return []
    wrong = {
        seed: {name for report in of_seed if isinstance(report, ControlsReport) for name in report.failed}
        for seed, of_seed in reports.items()
    }
    failed = tuple(seed for seed, names in wrong.items() if names)
    skipped = tuple(seed for seed, of_seed in reports.items() if None in of_seed)
    reading = ", ".join(sorted(set().union(*wrong.values()))) or (
        f"skipped for seeds {list_seeds(skipped)}" if skipped else "as they should be"
    )
    return [
        Gate(
            name="controls",
            passed=False if failed else None if skipped else True,
            reading=reading,
            threshold=CONTROLS_NEEDED,
            failed_seeds=failed,
        )
    ]
