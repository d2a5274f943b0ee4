"""The lines of the forest plot: what is grouped, and what has an axis of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.seed_statistics import SeedStatistics
from bench.config.outcome import UNITS
from bench.figures.style import estimate, labels

__all__ = ["MITIGATED", "Group", "Interval", "Line", "Panel", "list_panels"]

MITIGATED = ""  # in the place of a verdict: a mitigation has none
SCALES = 50  # rows whose scales differ by this factor share no axis: the smaller would be a dot at 0
RELATIONS = {
    "same-init": "same initial weights",
    "lineage": "lineage",
    "cross-init": "other initial weights",
    "cross-architecture": "other architecture",
    None: "not run yet",
}
LEAK = "Whole vocabulary distilled: a leak, not subliminal learning"


class Interval(NamedTuple):
    """A mean with its interval, its bound and the values of its seeds; None for a missing number."""

    mean: float | None
    low: float | None
    high: float | None
    bound: float | None
    seeds: tuple[float, ...] = ()

    def size(self) -> float:
        """Return the largest distance from 0 of the mean, its interval and its bound."""
        numbers = (self.mean, self.low, self.high, self.bound)
        return max((abs(number) for number in numbers if number is not None), default=0.0)


class Line(NamedTuple):
    """One line of a forest plot."""

    label: str
    verdict: str
    gain: Interval
    share: Interval
    """The same in percent of the teacher's shift, or for a mitigation of the gain."""
    texts: tuple[str, str]
    """The gain with its interval, and the number of seeds."""


class Group(NamedTuple):
    """The lines that a reader compares."""

    heading: str
    lines: tuple[Line, ...]


class Panel(NamedTuple):
    """The groups that share two axes."""

    title: str
    unit: str
    share: str
    """The label of the right axis."""
    groups: tuple[Group, ...]


def list_panels(
    entries: Sequence[LeaderboardEntry], statistics: Mapping[str, SeedStatistics] | None = None
) -> list[Panel]:
    """Return the panels of a board: rows, then mitigations, then rows that are a leak.

    A panel has one unit, and no scales that differ by a factor of 50.

    Args:
        entries: the entries of the leaderboard.
        statistics: the numbers of each seed, by recipe hash.
    """
    by_seed = statistics or {}
    named = list(zip(entries, labels(entries), strict=True))
    panels = []
    for leaky in (False, True):
        for outcome, unit in UNITS.items():
            rows = [(entry, label) for entry, label in named if (entry.is_leak, entry.outcome) == (leaky, outcome)]
            lines = [(entry.relation, _row_line(entry, label, by_seed.get(entry.recipe_hash))) for entry, label in rows]
            for number, part in enumerate(_split_scales(lines)):
                groups = [
                    Group(heading, tuple(line for kind, line in part if kind == relation))
                    for relation, heading in RELATIONS.items()
                    if any(kind == relation for kind, _ in part)
                ]
                title = "; ".join(text for text in (LEAK if leaky else "", "a smaller scale" if number else "") if text)
                panels.append(Panel(title, unit, "gain / teacher shift (%)", tuple(groups)))
            if not leaky:
                panels += _mitigation_panels(rows, by_seed, unit)
    return panels


def _split_scales(lines: Sequence[tuple[str | None, Line]]) -> list[list[tuple[str | None, Line]]]:
    """Split lines into parts whose scales differ by less than `SCALES`, the largest first. 0 fits every scale."""
    rest, parts = list(lines), []
    while rest:
        largest = max(line.gain.size() for _, line in rest)
        part = [one for one in rest if one[1].gain.size() * SCALES > largest or one[1].gain.size() == 0]
        parts.append(part)
        rest = [one for one in rest if one not in part]
    return parts


def _row_line(entry: LeaderboardEntry, label: str, seeds: SeedStatistics | None) -> Line:
    gain = Interval(entry.gain, entry.ci_low, entry.ci_high, entry.bound, tuple(seeds.gains) if seeds else ())
    shares = [
        100 * gain / shift for gain, shift in zip(seeds.gains, seeds.shifts, strict=True) if shift
    ] if seeds and entry.fraction is not None else []  # fmt: skip
    bound = 100 * entry.bound / abs(entry.teacher_shift) if entry.bound and entry.teacher_shift else None
    share = _percent(entry.fraction, entry.fraction_low, entry.fraction_high, bound, shares)
    return Line(label, entry.verdict, gain, share, _texts(entry))


def _texts(entry: LeaderboardEntry) -> tuple[str, str]:
    return estimate(entry.gain, entry.ci_low, entry.ci_high), entry.seeds_text


def _percent(
    mean: float | None, low: float | None, high: float | None, bound: float | None = None, seeds: Sequence[float] = ()
) -> Interval:
    """Return a share with its interval in percent; bound and seeds are in percent already."""
    percent = [None if number is None else 100 * number for number in (mean, low, high)]
    return Interval(percent[0], percent[1], percent[2], bound, tuple(seeds))


def _mitigation_panels(
    rows: Sequence[tuple[LeaderboardEntry, str]], by_seed: Mapping[str, SeedStatistics], unit: str
) -> list[Panel]:
    """Return one panel with a group for each row with mitigations: its gain without, then each mitigation's effect."""
    groups = []
    for entry, label in rows:
        if not entry.mitigations:
            continue
        seeds = by_seed.get(entry.recipe_hash)
        plain = Interval(entry.gain, entry.ci_low, entry.ci_high, None, tuple(seeds.gains) if seeds else ())
        lines = [Line("no mitigation", entry.verdict, plain, Interval(100.0, None, None, None), _texts(entry))]
        for arm, mitigation in entry.mitigations.items():
            effect, share = mitigation.effect, mitigation.share
            values = tuple(seeds.mitigations[arm]) if seeds else ()
            lines.append(
                Line(
                    arm.replace("_", " "),
                    MITIGATED,
                    Interval(effect.mean, effect.ci_low, effect.ci_high, None, values),
                    _percent(share.mean, share.ci_low, share.ci_high),
                    (estimate(effect.mean, effect.ci_low, effect.ci_high), str(effect.seeds)),
                )
            )
        groups.append(Group(label, tuple(lines)))
    title = "Mitigations: the effect that is left, student \N{MINUS SIGN} its control"
    return [Panel(title, unit, "effect / gain (%)", tuple(groups))] if groups else []
