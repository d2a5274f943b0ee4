"""Sections of the leaderboard's page on sampled answers: what each arm names, and the gain by each measure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.board_sections import section
from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import difference_p_text, level_text, measure_text

__all__ = ["answer_section", "measure_section"]

MOST_NAMED = 3  # candidates on a line; leaderboard.json has all


def answer_section(board: Sequence[LeaderboardEntry]) -> str:
    """What the sampled answers of each arm name."""
    lines = []
    for entry in board:
        for arm, rates in entry.rates.items():
            most = sorted(rates.candidates.items(), key=lambda item: -item[1])[:MOST_NAMED]
            lines.append(
                {
                    "recipe": entry.label,
                    "arm": arm,
                    "the trait's answer": level_text(rates.answer.mean, "rate"),
                    "no candidate": level_text(rates.none.mean, "rate"),
                    "most named": ", ".join(f"{name} {level_text(share, 'rate')}" for name, share in most),
                }
            )
    return section("What sampled answers name", lines)


def measure_section(board: Sequence[LeaderboardEntry]) -> str:
    """The gain by every measure of a row; `prefixed` is measured after the recipe's `evaluate.prefix`."""
    lines = [
        {
            "recipe": entry.label,
            "verdict rests on": entry.outcome,
            "measure": name,
            "gain [95 % CI]": measure_text(gain, name),
            "p (uncorrected)": difference_p_text(gain),
        }
        for entry in board
        for name, gain in entry.gains.items()
    ]
    return section("Gain by measure", lines)
