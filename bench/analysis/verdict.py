"""Verdicts: what the statistics of one experiment allow to be claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from bench.analysis.gates import Gate
from bench.analysis.power import seeds_needed, smallest_detectable
from bench.analysis.seed_statistics import SeedStatistics
from bench.analysis.stats import (
    Interval,
    diagonal_excess,
    equivalence_p,
    fieller,
    holm,
    mean,
    mean_interval,
    seeds_for_sign_flip,
    sign_flip_p,
)

__all__ = ["Judgement", "judge"]

ALPHA = 0.05


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


def judge(
    statistics: Sequence[SeedStatistics], gates: Sequence[Sequence[Gate]], bounds: Sequence[float]
) -> list[Judgement]:
    """Verdicts of all rows of a board, Holm-corrected over the rows that have a test.

    A gate that was skipped (the controls may be) does not stand in the way, and shows on the row.
    TRANSFER: gates passed, positive gain, sign-flip p at or below .05 after Holm. NONE: gates passed and two
    one-sided t tests place the gain within the recipe's bound. INVALID: a gate failed. INCONCLUSIVE: the rest, and
    every row of which a registered seed is missing.

    Args:
        statistics, gates: of each row.
        bounds: per row, the equivalence bound as a fraction of the teacher shift.
    """
    tests = [sign_flip_p(f.gains).p if len(f.gains) > 1 else None for f in statistics]
    tested = [p for p in tests if p is not None]
    corrected = iter(holm(tested))
    out = []
    for seeds, passed, bound, p in zip(statistics, gates, bounds, tests, strict=True):
        adjusted = next(corrected) if p is not None else None
        out.append(_judge_one(seeds, passed, bound, p, adjusted, len(tested)))
    return out


def _judge_one(
    seeds: SeedStatistics, gates: Sequence[Gate], share: float, p: float | None, p_holm: float | None, family: int
) -> Judgement:
    gains, n = seeds.gains, len(seeds.gains)
    if not gains:
        return Judgement("INCONCLUSIVE", "not measured yet", None, None, None, None, None)
    gain, shift = mean_interval(gains), mean(seeds.shifts)
    fraction = fieller(gains, seeds.shifts)
    sd = math.sqrt(math.fsum((g - gain.mean) ** 2 for g in gains) / (n - 1)) if n > 1 else math.nan
    alpha = ALPHA / max(family, 1)
    mde = smallest_detectable(sd, n, alpha)

    def judgement(verdict: str, reason: str) -> Judgement:
        return Judgement(verdict, reason, gain, p, p_holm, None if math.isnan(mde) else mde, fraction)

    if n < seeds.registered:
        return judgement("INCONCLUSIVE", f"{n} of {seeds.registered} registered seeds measured so far")
    failed = next((gate for gate in gates if gate.passed is False), None)
    if failed:
        value = f"{failed.reading:.2f}" if isinstance(failed.reading, float) else failed.reading
        return judgement("INVALID", f"{failed.name}: {value}, needed {failed.threshold}")
    least = seeds_for_sign_flip(alpha)
    if p is None or p_holm is None:
        return judgement("INCONCLUSIVE", f"one seed has no error bar; {least} are needed")
    bound = share * shift
    if p_holm <= ALPHA and gain.mean > 0:
        return judgement("TRANSFER", f"gain above 0, p = {p_holm:.2g} after Holm over {family} rows{_specific(seeds)}")
    if bound > 0 and equivalence_p(gains, bound) <= ALPHA:
        return judgement("NONE", f"within ±{bound:.3f}, {share:.1%} of the teacher shift")
    if p_holm <= ALPHA:
        return judgement("INCONCLUSIVE", f"gain below 0, p = {p_holm:.2g}: the opposite of transfer")
    wanted = seeds_needed(max(abs(gain.mean), bound), sd, alpha)
    advice = f"; {wanted} seeds would settle a gain of {max(abs(gain.mean), bound):.3f}" if wanted else ""
    if n < least:
        return judgement(
            "INCONCLUSIVE", f"{n} seeds are too few to show any gain on a board of {family}: take {least}{advice}"
        )
    undecided = f"p = {p_holm:.2g} after Holm, and not shown to lie within ±{bound:.3f}"
    return judgement("INCONCLUSIVE", f"{undecided}; {n} seeds could have seen {mde:.3f}{advice}")


def _specific(seeds: SeedStatistics) -> str:
    """What the placebo or the other traits say of a transfer, where there are any."""
    if len(seeds.matrix) > 1:
        excess = diagonal_excess(seeds.matrix)
        interval, p = mean_interval(excess), sign_flip_p(excess).p
        word = "specific to the trait" if interval.low > 0 else "not shown specific"
        return f"; {word}: {interval.mean:+.3f} more on the trait taught than on the others, p = {p:.2g}"
    over = seeds.contrasts.get("trait - placebo")
    if over is None or len(over) < 2:
        return ""
    interval, p = mean_interval(over), sign_flip_p(over).p
    shown = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] over placebo, p = {p:.2g}"
    return f"; specific to the trait: {shown}" if p <= ALPHA and interval.mean > 0 else f"; not shown specific: {shown}"
