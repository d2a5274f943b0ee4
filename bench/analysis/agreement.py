"""Whether a run agrees with the published row of the same recipe hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.seed_statistics import margins_of
from bench.analysis.summary import summarise_row

__all__ = ["MAX_DIFFERENCE", "Agreement", "compare_runs", "compare_with_published", "list_changes"]

MAX_DIFFERENCE = 1e-3  # nats; two seeds of tiny_pair run on another machine moved no margin by more than 1.6e-5


class Agreement(NamedTuple):
    """How two runs of one row compare."""

    agrees: bool
    """Whether the verdicts are equal and the own gain lies inside the other's interval, or the margins are equal."""
    largest: float
    """The largest difference of a margin, in nats."""
    arm: str
    """The arm of that margin."""
    seed: int
    """The seed of that margin."""
    cells: int
    """Number of models that both runs evaluated."""


def compare_runs(own: ExperimentResults, other: ExperimentResults) -> Agreement | None:
    """Compare two runs of one row; None where they have no model in common.

    They agree if the verdicts are equal and the own gain lies inside the other interval, or if no margin differs by
    more than `MAX_DIFFERENCE`.
    """
    differences = _differences(own, other)
    if not differences:
        return None
    own_entry, other_entry = summarise_row(own), summarise_row(other)
    largest, arm, seed = max(differences)
    agrees = largest <= MAX_DIFFERENCE or (
        own_entry.verdict == other_entry.verdict and _inside(own_entry.gain, other_entry)
    )
    return Agreement(agrees, largest, arm, seed, len(differences))


def compare_with_published(own: ExperimentResults, published: Path) -> list[str]:
    """Compare a run with its published row; returns lines for the user.

    Args:
        published: folder of the published result files.
    """
    rows, _ = read_results(published, own.hash)
    if not rows:
        return ["There is no published row of this recipe."]
    agreement = compare_runs(own, rows[0])
    if agreement is None:
        return ["The published row of this recipe has no results yet."]
    published_entry, own_entry = summarise_row(rows[0]), summarise_row(own)
    entries = (published_entry, own_entry)
    published_gain, own_gain = (gain_text(entry.gain_estimate(), entry.outcome) for entry in entries)
    lines = [
        f"Published: gain {published_gain}, {published_entry.verdict}.",
        f"Yours {'agrees' if agreement.agrees else 'differs'}: gain {own_gain}, "
        f"{own_entry.verdict}; largest difference of a margin {agreement.largest:.2g} ({agreement.arm}, seed "
        f"{agreement.seed}; {agreement.cells} readings of both).",
    ]
    if not agreement.agrees:
        changed = list_changes(own, rows[0])
        lines.append(
            "Agreement is the same verdict with a gain inside the published interval, or margins equal to "
            f"{MAX_DIFFERENCE:g}. "
            f"The two were made with {'other ' + ', '.join(changed) if changed else 'the same code'}."
        )
    return lines


def _cells(own: ExperimentResults, published: ExperimentResults) -> list[tuple[str, int, ArmResult, ArmResult]]:
    """The cells that both have: arm, seed, own content, published content."""
    return [
        (arm, seed, cell, published.cells[seed][arm])
        for seed, arms in own.cells.items()
        for arm, cell in arms.items()
        if arm in published.cells.get(seed, {})
    ]


def _differences(own: ExperimentResults, published: ExperimentResults) -> list[tuple[float, str, int]]:
    """Largest difference of a question's margin, in nats, with arm and seed, per cell that both have."""
    largest = []
    for arm, seed, one, other in _cells(own, published):
        margins = zip(margins_of(one), margins_of(other), strict=True)
        largest.append((max(abs(a - b) for a, b in margins), arm, seed))
    return largest


def _inside(gain: float | None, entry: LeaderboardEntry) -> bool:
    """Whether a gain lies inside the interval of an entry."""
    if gain is None or entry.ci_low is None or entry.ci_high is None:
        return False
    return entry.ci_low <= gain <= entry.ci_high


def list_changes(own: ExperimentResults, published: ExperimentResults) -> list[str]:
    """Keys of the manifest in which the two were made differently; a key that one lacks is no difference."""
    pairs = [(one.manifest.model_dump(), other.manifest.model_dump()) for _, _, one, other in _cells(own, published)]
    keys = ("commits", "versions", "checkpoints", "hardware", "processor_features")
    return [key.replace("_", " ") for key in keys if any(_differ(key, *pair) for pair in pairs)]


def _differ(key: str, a: dict[str, Any], b: dict[str, Any]) -> bool:
    if key not in a or key not in b:
        return False
    if isinstance(a[key], dict) and isinstance(b[key], dict):
        return any(_differ(inner, a[key], b[key]) for inner in a[key])
    return bool(a[key] != b[key])
