"""Gates and verdicts: what the readings of one experiment allow to be said. Numbers in, words out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.stats import (
    Interval,
    diagonal_excess,
    equivalence_p,
    fieller,
    holm,
    mean_interval,
    seeds_for_sign_flip,
    seeds_needed,
    sign_flip_p,
    smallest_detectable,
)
from bench.traits import short_name

if TYPE_CHECKING:
    from bench.results import Row

__all__ = ["CONTRASTS", "Gate", "Judgement", "Readings", "judge", "readings"]

ALPHA = 0.05
INDUCTION = 1.0  # the teacher's mean shift must exceed the spread of its own questions' shifts
WRITTEN = 0.9  # of the teacher's float32 shift must be left in the precision in which it writes
FIT = 1.645  # one-sided 5 % normal quantile
REFUSED = 0.05  # more refused rows than this in any arm, and what is left is a selection


# What must be equal in the trainings of all students that read a seed's carriers, and those students.
EQUAL = ("rows", "updates", "effective_batch", "micro_batch", "precision")
STUDENTS = {"base", "trait", "placebo", "resampled", "shuffled", "cross_init", "cross_init_base"}

# Further controls: name -> (arm, the arm it is held against, what the difference says).
CONTRASTS = {
    "trait - placebo": ("trait", "placebo", "what is specific to the trait, beyond fine-tuning on the same questions"),
    "resampled - base": ("resampled", "base", "the noise floor: the untaught teacher's numbers, drawn again"),
    "shuffled - base": ("shuffled", "base", "the trait teacher's completions, moved to other prompts"),
    "direct - untrained": ("direct", "untrained", "the teacher's lesson itself: can the student show the trait?"),
    "cross_init": ("cross_init", "cross_init_base", "the same data, other initial weights"),
}


class Gate(NamedTuple):
    """One condition without which a verdict means nothing. `passed` is None where it was skipped."""

    name: str
    passed: bool | None
    reading: float | str | None
    threshold: str


class Taught(NamedTuple):
    """The arms of one trait, and the group of its questions; None where all questions are its own."""

    student: str
    teacher: str
    group: str | None


class Readings(NamedTuple):
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
    gates: list[Gate]


class Judgement(NamedTuple):
    """What a row says.

    `mde` is the smallest gain that its seeds would have shown with 80 % power at .05 / rows of the board, the level the
    least lucky row is held to; None where so few seeds can show none.
    """

    verdict: str
    reason: str
    gain: Interval | None
    p: float | None
    p_holm: float | None
    mde: float | None
    fraction: Interval | None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _margins(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> list[float]:
    """The margins of a cell's questions, or of one group of them."""
    reading = cell["reading"]
    if group is None:
        return list(reading[column])
    return [m for m, its in zip(reading[column], reading["groups"], strict=True) if its == group]


def _margin(cell: Mapping[str, Any], group: str | None = None, column: str = "margins") -> float:
    return _mean(_margins(cell, group, column))


def _shift(taught: Sequence[Taught], arms: Mapping[str, Any], column: str = "margins") -> float:
    """How much the teacher learnt: mean margin with the trait minus without, over all traits."""
    with_trait = (_margin(arms[t.teacher], t.group, column) for t in taught)
    without = (_margin(arms["teacher_base"], t.group, column) for t in taught)
    return _mean([a - b for a, b in zip(with_trait, without, strict=True)])


def _taught(row: Row) -> list[Taught]:
    traits = row.experiment["recipe"]["trait"]
    if isinstance(traits, str):
        return [Taught("trait", "teacher", None)]
    return [Taught(f"trait-{name}", f"teacher-{name}", name) for name in map(short_name, traits)]


def readings(row: Row) -> Readings:
    """The per-seed numbers and the gates of one experiment."""
    taught = _taught(row)
    cells = [row.cells[seed] for seed in sorted(row.cells)]
    needed = {"base", "teacher_base"}.union(*({t.student, t.teacher} for t in taught))
    full = [arms for arms in cells if needed <= arms.keys()]

    def by_question(arms: Mapping[str, Any]) -> list[float]:
        pairs = (zip(_margins(arms[t.student], t.group), _margins(arms["base"], t.group), strict=True) for t in taught)
        return [a - b for pair in pairs for a, b in pair]

    def over(arms: Mapping[str, Any], arm: str | None) -> float:
        """Mean margin over all traits: of each trait's own student, or of one arm asked about all of them."""
        return _mean([_margin(arms[arm or t.student], t.group) for t in taught])

    groups = sorted({group for arms in full for group in arms["base"]["reading"]["groups"]})
    scored = sorted({metric for arms in full for metric in arms["base"].get("scores", {})})
    return Readings(
        registered=row.experiment["recipe"]["seeds"],
        untrained=[over(arms, "untrained") for arms in full if "untrained" in arms],
        base=[over(arms, "base") for arms in full],
        trait=[over(arms, None) for arms in full],
        gains=[over(arms, None) - over(arms, "base") for arms in full],
        shifts=[_shift(taught, arms) for arms in full],
        contrasts={
            name: differences
            for name, (arm, against, _) in CONTRASTS.items()
            if (differences := [_margin(a[arm]) - _margin(a[against]) for a in cells if {arm, against} <= a.keys()])
        },
        dose={
            step: [
                _margin(a[f"trait@{step}"]) - _margin(a[f"base@{step}"])
                for a in full
                if {f"trait@{step}", f"base@{step}"} <= a.keys()
            ]
            for step in row.experiment["recipe"]["dose"]
        },
        questions=[by_question(arms) for arms in full],
        groups={
            group: [_margin(arms["trait"], group) - _margin(arms["base"], group) for arms in full]
            for group in (groups if len(taught) == 1 and len(groups) > 1 else ())
        },
        scores={
            metric: {
                arm: [_mean([_mean(of) for of in arms[arm]["scores"][metric]]) for arms in full if arm in arms]
                for arm in ("untrained", "base", "trait")
            }
            for metric in scored
        },
        matrix=[
            [
                [_margin(arms[t.student], probe.group) - _margin(arms["base"], probe.group) for probe in taught]
                for t in taught
            ]
            for arms in (full if len(taught) > 1 else ())
        ],
        gates=_gates(row, taught, full) if full else [],
    )


def _gates(row: Row, taught: Sequence[Taught], full: Sequence[Mapping[str, Any]]) -> list[Gate]:
    recipe = row.experiment["recipe"]
    induced, fitted = (_worst([gate(t, full) for t in taught]) for gate in (_induction, _fit))
    gates = [induced, fitted, _leak(full), *_written(row, taught), *_precision(full), _agreement(full)]
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


def _worst(gates: Sequence[Gate]) -> Gate:
    """Of one gate for several traits, a failed one, else that with the smallest reading."""
    return min(gates, key=lambda gate: (bool(gate.passed), gate.reading if isinstance(gate.reading, float) else 0.0))


def _induction(taught: Taught, full: Sequence[Mapping[str, Any]]) -> Gate:
    """Does the teacher show what it was taught? Mean shift over questions / their standard deviation, over seeds.

    Of a persona only the wording it was taught is asked here: whether that carries over to paraphrases is a finding
    about the teacher, shown beside the gains, and no condition.
    """
    ratios = []
    for arms in full:
        group = "trained" if "trained" in arms[taught.teacher]["reading"]["groups"] else taught.group
        sides = (_margins(arms[arm], group) for arm in (taught.teacher, "teacher_base"))
        pairs = zip(*sides, strict=True)
        shifts = [with_trait - without for with_trait, without in pairs]
        mean = _mean(shifts)
        spread = math.sqrt(_mean([(s - mean) ** 2 for s in shifts]))
        ratios.append(mean / spread if spread > 0 else math.copysign(math.inf, mean) if mean else 0.0)
    reading = min(_mean(ratios), 1e6)
    return Gate("teacher induction", reading >= INDUCTION, reading, f">= {INDUCTION:g} spreads of its questions")


def _written(row: Row, taught: Sequence[Taught]) -> list[Gate]:
    """Does the teacher write with the trait that was measured? Its shift as it writes / its float32 shift, per seed.

    No gate where no teacher of the row writes in another precision than it was read in.
    """
    arms_of = {"teacher_base", *(t.teacher for t in taught)}
    shares = {}
    for seed, arms in sorted(row.cells.items()):
        if all(arm in arms and "margins_float32" in arms[arm]["reading"] for arm in arms_of):
            whole = _shift(taught, arms, "margins_float32")
            shares[seed] = _shift(taught, arms) / whole if whole > 0 else 0.0
    if not shares:
        return []
    failed = [f"seed {seed}: {share:.0%}" for seed, share in shares.items() if share < WRITTEN]
    reading = ", ".join(failed) if failed else min(shares.values())
    return [Gate("teacher writes as measured", not failed, reading, f">= {WRITTEN:.0%} of its float32 shift")]


def _precision(full: Sequence[Mapping[str, Any]]) -> list[Gate]:
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


def _fit(taught: Taught, full: Sequence[Mapping[str, Any]]) -> Gate:
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
            return Gate("carrier fit", False, "a seed without held-out rows", f"z >= {FIT:g}")
        rows = [a - b - c + d for a, b, c, d in zip(*columns, strict=True)]
        mean = _mean(rows)
        means.append(mean)
        errors.append(math.sqrt(_mean([(r - mean) ** 2 for r in rows]) / len(rows)))
    error = math.sqrt(sum(e * e for e in errors))
    z = math.fsum(means) / error if error > 0 else 0.0
    return Gate("carrier fit", z >= FIT, z, f"z >= {FIT:g}")


def _leak(full: Sequence[Mapping[str, Any]]) -> Gate:
    """Share of carrier rows the leak filter refused, in the worst arm."""
    shares = []
    for arms in full:
        carrier = arms["base"]["manifest"]["carrier"]
        shares += [sum(reasons.values()) / carrier["rows"] for reasons in carrier["refused"].values()]
    return Gate("leak audit", max(shares) <= REFUSED, max(shares), f"<= {REFUSED:.0%} of rows refused")


def _agreement(full: Sequence[Mapping[str, Any]]) -> Gate:
    """Were all students of a seed's carriers trained alike? Files that do not hold a fact are not compared by it.

    Labelled tokens are equal where every row has as many tokens in every arm; a free text has no fixed length.
    """
    lines = []
    for arms in full:
        students = [
            (arm, cell["manifest"]["training"])
            for arm, cell in arms.items()
            if arm.partition("-")[0] in STUDENTS and cell["manifest"]["training"] is not None
        ]
        alike = all(facts.get("equal_lengths") for _, facts in students)
        apart = []
        for name in (*EQUAL, *(["labelled_tokens"] if alike else [])):
            values = {arm: facts[name] for arm, facts in students if name in facts}
            if len(set(values.values())) > 1:
                apart.append(f"{name} " + ", ".join(f"{value} ({arm})" for arm, value in values.items()))
        if apart:
            lines.append(f"seed {arms['base']['seed']}: {'; '.join(apart)}")
    return Gate("arms agree", not lines, " | ".join(lines) or "equal", ", ".join(EQUAL).replace("_", " ") + " equal")


def judge(found: Sequence[Readings], bounds: Sequence[float]) -> list[Judgement]:
    """Verdicts of all rows of a board, Holm-corrected over the rows that have a test.

    A gate that was skipped (the controls may be) does not stand in the way, and shows on the row.
    TRANSFER: gates passed, positive gain, sign-flip p at or below .05 after Holm. NONE: gates passed and two
    one-sided t tests place the gain within the recipe's bound. INVALID: a gate failed. INCONCLUSIVE: the rest, and
    every row of which a registered seed is missing.

    Args:
        found: the rows' readings.
        bounds: per row, the equivalence bound as a fraction of the teacher shift.
    """
    tests = [sign_flip_p(f.gains).p if len(f.gains) > 1 else None for f in found]
    tested = [p for p in tests if p is not None]
    corrected = iter(holm(tested))
    out = []
    for reading, bound, p in zip(found, bounds, tests, strict=True):
        out.append(_judge_one(reading, bound, p, next(corrected) if p is not None else None, len(tested)))
    return out


def _judge_one(reading: Readings, share: float, p: float | None, p_holm: float | None, family: int) -> Judgement:
    gains, n = reading.gains, len(reading.gains)
    if not gains:
        return Judgement("INCONCLUSIVE", "not measured yet", None, None, None, None, None)
    gain, shift = mean_interval(gains), _mean(reading.shifts)
    fraction = fieller(gains, reading.shifts)
    sd = math.sqrt(math.fsum((g - gain.mean) ** 2 for g in gains) / (n - 1)) if n > 1 else math.nan
    alpha = ALPHA / max(family, 1)
    mde = smallest_detectable(sd, n, alpha=alpha)

    def said(verdict: str, reason: str) -> Judgement:
        return Judgement(verdict, reason, gain, p, p_holm, None if math.isnan(mde) else mde, fraction)

    if n < reading.registered:
        return said("INCONCLUSIVE", f"{n} of {reading.registered} registered seeds measured so far")
    failed = next((gate for gate in reading.gates if gate.passed is False), None)
    if failed:
        value = f"{failed.reading:.2f}" if isinstance(failed.reading, float) else failed.reading
        return said("INVALID", f"{failed.name}: {value}, needed {failed.threshold}")
    least = seeds_for_sign_flip(alpha)
    if p is None or p_holm is None:
        return said("INCONCLUSIVE", f"one seed has no error bar; {least} are needed")
    bound = share * shift
    if p_holm <= ALPHA and gain.mean > 0:
        return said("TRANSFER", f"gain above 0, p = {p_holm:.2g} after Holm over {family} rows{_specific(reading)}")
    if bound > 0 and equivalence_p(gains, bound) <= ALPHA:
        return said("NONE", f"within ±{bound:.3f}, {share:.1%} of the teacher shift")
    if p_holm <= ALPHA:
        return said("INCONCLUSIVE", f"gain below 0, p = {p_holm:.2g}: the opposite of transfer")
    wanted = seeds_needed(max(abs(gain.mean), bound), sd, alpha=alpha)
    advice = f"; {wanted} seeds would settle a gain of {max(abs(gain.mean), bound):.3f}" if wanted else ""
    if n < least:
        return said(
            "INCONCLUSIVE", f"{n} seeds are too few to show any gain on a board of {family}: take {least}{advice}"
        )
    undecided = f"p = {p_holm:.2g} after Holm, and not shown to lie within ±{bound:.3f}"
    return said("INCONCLUSIVE", f"{undecided}; {n} seeds could have seen {mde:.3f}{advice}")


def _specific(reading: Readings) -> str:
    """What the placebo or the other traits say of a transfer, where there are any."""
    if len(reading.matrix) > 1:
        diagonal, chance = diagonal_excess(reading.matrix)
        word = "specific to the trait" if chance.p <= ALPHA else "not shown specific"
        return f"; {word}: {diagonal:+.3f} more on the trait taught than on the others, p = {chance.p:.2g}"
    over = reading.contrasts.get("trait - placebo")
    if over is None or len(over) < 2:
        return ""
    excess, p = mean_interval(over), sign_flip_p(over).p
    shown = f"{excess.mean:+.3f} [{excess.low:+.3f}, {excess.high:+.3f}] over placebo, p = {p:.2g}"
    return f"; specific to the trait: {shown}" if p <= ALPHA and excess.mean > 0 else f"; not shown specific: {shown}"
