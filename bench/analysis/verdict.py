"""Verdicts: what the seeds of one row allow it to claim, at the terms under which it was registered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from bench.analysis.gates import Gate
from bench.analysis.p_values import PValue, johnson_p, seeds_for_sign_flip, sign_flip_p
from bench.analysis.power import seeds_needed, smallest_detectable
from bench.analysis.seed_statistics import SeedStatistics
from bench.analysis.stats import Interval, diagonal_excess, fieller, mean_interval, skewness

__all__ = ["MIN_STEPS", "Judgement", "Terms", "Verdict", "judge_row"]

Verdict = Literal["TRANSFER", "TRACE", "NONE", "INCONCLUSIVE", "EXPLORATORY", "INVALID"]
# Answers of a seed that name the trait's answer at a gain of the bound. At such a gain 6 seeds are NONE with a
# probability of .008 (2 answers), .05 (1) and .30 (a fifth), where base never names it: simulated, 20,000 rows each.
MIN_STEPS = 2


class Terms(NamedTuple):
    """The claims that a row registered before its first run."""

    level: float
    """The two-sided level of its test; 1 - level is that of its interval."""
    seeds: int
    """The number of seeds."""
    bound: float | None
    """The gain below which it counts as no transfer, in `unit`; None where none was registered."""
    bound_source: str
    """Where the bound comes from; without a bound, why there is none and how to get one."""
    reference_gain: float | None = None
    """The lower end of the reference's gain, in `unit`."""
    one_data_set: bool = False
    """Whether its seeds are students of one data set."""
    unit: str = "nats"
    """The unit of the registered outcome."""
    step: float = 0.0
    """The gain of a seed in which one more answer names the trait's answer, in points; 0 for a margin."""


class Judgement(NamedTuple):
    """The verdict of a row and the numbers on which it rests."""

    verdict: Verdict
    reason: str
    gain: Interval | None = None
    """Its interval is at 1 - level."""
    p: PValue | None = None
    """Of the sign-flip test."""
    fraction: Interval | None = None
    """Gain / teacher shift."""
    detectable: float | None = None
    """The smallest gain that these seeds show with 80 % probability, at the spread that they have."""
    skewness: float | None = None
    johnson_p: float | None = None
    """p of Johnson's modified t test, which allows for skewed gains."""
    specific: bool | None = None
    """Whether the gain exceeds that of the placebo, or of the other traits; None without such an arm."""
    sensitivity: Mapping[str, Verdict] = MappingProxyType({})
    """The verdicts under other conditions."""


def judge_row(seeds: SeedStatistics, gates: Sequence[Gate], terms: Terms) -> Judgement:
    """Judge one row. No other row has an influence.

    INVALID: a gate failed. EXPLORATORY: the registered seeds cannot reach the level, or all of them are students of one
    data set. INCONCLUSIVE: seeds are missing,
    or none of the following. TRANSFER: the mean gain is above 0 and the sign-flip p is at most the level. TRACE: the
    same, and the whole interval is below the bound. NONE: neither, and the interval reaches 0 or below and is within
    plus and minus the bound. NONE also needs that a larger gain could have been seen: see `_find_blind_spot`. A gate
    that was skipped does not fail.

    Args:
        seeds: of the complete seeds.
        gates: of the row.
        terms: of its registration.
    """
    gains, n = seeds.gains, len(seeds.gains)
    if not gains:
        return Judgement("INCONCLUSIVE", "not measured yet")
    gain = mean_interval(gains, 1 - terms.level)
    p = sign_flip_p(gains) if n > 1 else None
    skew, johnson = (skewness(gains), johnson_p(gains)) if n > 2 else (math.nan, math.nan)
    spread = _spread(gains)
    detectable = smallest_detectable(spread, n, terms.level)
    specific = _is_specific(seeds, terms.level)
    verdict, reason = _check(seeds, gates, terms) or _decide(seeds, gain, p, terms)
    if verdict == "TRANSFER" and specific is not None:
        reason += "; specific to the trait" if specific else "; not shown to be specific to the trait"
    return Judgement(
        verdict,
        reason,
        gain,
        p,
        fieller(gains, seeds.shifts),
        _known(detectable),
        _known(skew),
        _known(johnson),
        specific,
        _vary(seeds, gates, terms, gain, p, johnson),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _spread(values: Sequence[float]) -> float:
    """The standard deviation over seeds; NaN for one seed."""
    n, average = len(values), math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - average) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan


def _check(seeds: SeedStatistics, gates: Sequence[Gate], terms: Terms) -> tuple[Verdict, str] | None:
    """The verdict of a row that cannot be decided; None for all others."""
    failed = [gate.describe_failure() for gate in gates if gate.passed is False]
    if failed:
        return "INVALID", "; ".join(failed)
    if terms.one_data_set:
        students = f"{terms.seeds} student{'s' * (terms.seeds > 1)} of one data set"
        return "EXPLORATORY", f"{students}: the claim is about this data set alone"
    least = seeds_for_sign_flip(terms.level)
    if terms.seeds < least:
        return (
            "EXPLORATORY",
            f"{terms.seeds} seed{'s' * (terms.seeds > 1)} cannot reach p <= {terms.level:g}; {least} can",
        )
    if len(seeds.gains) < terms.seeds:
        return "INCONCLUSIVE", f"{len(seeds.gains)} of {terms.seeds} registered seeds measured so far"
    return None


def _decide(seeds: SeedStatistics, gain: Interval, p: PValue | None, terms: Terms) -> tuple[Verdict, str]:
    """The verdict of a row whose gates passed and whose seeds are complete."""
    if p is None:
        return "INCONCLUSIVE", "one seed has no interval"
    bound, shown = terms.bound, f"p = {p.text().removeprefix('<= ')}"
    if p.at_floor:
        shown = f"p {p.text()}"
    above = p.p <= terms.level and gain.mean > 0
    interval = f"[{gain.low:+.3g}, {gain.high:+.3g}]"
    share = f", at most {gain.high / terms.reference_gain:.0%} of the reference's gain" if terms.reference_gain else ""
    if above and bound is not None and gain.high < bound:
        return "TRACE", f"above 0 ({shown}), and {interval} is below the bound of {bound:.3g} {terms.unit}{share}"
    if above:
        return "TRANSFER", f"gain above 0 ({shown})"
    if bound is not None and -bound < gain.low <= 0 and gain.high < bound:
        if problem := _find_blind_spot(seeds, bound, terms):
            return "INCONCLUSIVE", f"{interval} is within ±{bound:.3g} {terms.unit}, but {problem}"
        return "NONE", f"{interval} is within the bound of ±{bound:.3g} {terms.unit}{share}"
    if p.p <= terms.level:
        return "INCONCLUSIVE", f"gain below 0 ({shown}): the opposite of a transfer"
    return "INCONCLUSIVE", f"{shown}, level {terms.level:g}; {_explain_missing_none(seeds.gains, gain, terms)}"


def _find_blind_spot(seeds: SeedStatistics, bound: float, terms: Terms) -> str | None:
    """Return why these seeds could not have shown a gain of the bound; None where they could.

    The student trained on the trait itself gains more than the bound in every seed, where the row has the arm `direct`.
    Answers of every seed leave room for the bound, and a gain of the bound is `MIN_STEPS` answers of a seed.
    """
    direct = seeds.contrasts.get("direct - untrained")
    if direct is not None and min(direct) <= bound:
        return (
            f"a student that was trained on the trait itself gains {min(direct):.3g}: this student may be unable to "
            "show the trait"
        )
    if seeds.rooms and min(seeds.rooms) <= bound:
        return (
            f"the answers of base leave room for {min(seeds.rooms):.3g} {terms.unit}: too few name a candidate, or "
            "almost all name the trait's answer"
        )
    if bound < MIN_STEPS * terms.step:
        return (
            f"one answer of a seed is {terms.step:.3g} {terms.unit}: with so few answers a gain of the bound may show "
            "in none; raise evaluate.samples"
        )
    return None


def _explain_missing_none(gains: Sequence[float], gain: Interval, terms: Terms) -> str:
    """Why a row is not NONE, and how many seeds would help."""
    spread, n = _spread(gains), len(gains)
    if terms.bound is None:
        text = f"without a bound NONE is out of reach: {terms.bound_source}"
    elif gain.low > 0:
        text = "the interval excludes 0 and the test does not"
    else:
        text = f"the interval is not within ±{terms.bound:.3g} {terms.unit}"
    if spread > 0:
        least = f"{smallest_detectable(spread, n, terms.level):.3g} {terms.unit}"
        text += f"; {n} seeds with this spread show a gain of {least} or more"
    wanted = seeds_needed(gain.mean, spread, terms.level) if gain.mean > 0 else None
    return text + (f", and {wanted} seeds one as large as that seen" if wanted else "")


def _is_specific(seeds: SeedStatistics, level: float) -> bool | None:
    """Whether the trait's gain exceeds the placebo's, or that on the other traits, by the test of the gain itself.

    None without such an arm.
    """
    excess = diagonal_excess(seeds.matrix) if seeds.matrix else seeds.contrasts.get("trait - placebo", [])
    if len(excess) < 2:
        return None
    return sign_flip_p(excess).p <= level and mean_interval(excess).mean > 0


def _vary(
    seeds: SeedStatistics,
    gates: Sequence[Gate],
    terms: Terms,
    gain: Interval,
    p: PValue | None,
    johnson: float,
) -> dict[str, Verdict]:
    """The verdict under other bounds, without its gates, and by Johnson's test."""
    few = terms.one_data_set or terms.seeds < seeds_for_sign_flip(terms.level)
    if p is None or few or len(seeds.gains) < terms.seeds:
        return {}
    out: dict[str, Verdict] = {}
    if any(gate.passed is False for gate in gates):
        out["without the gates"] = _decide(seeds, gain, p, terms)[0]
        return out
    if terms.bound is not None:
        for factor in (0.5, 2.0):
            changed = terms._replace(bound=terms.bound * factor)
            out[f"bound x {factor:g}"] = _decide(seeds, gain, p, changed)[0]
    if not math.isnan(johnson):
        out["Johnson's t"] = _decide(seeds, gain, PValue(johnson, 0.0), terms)[0]
    return out
