"""Numbers of results/FINDINGS.md, computed again from the result files."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text, ratio_text
from bench.analysis.leaderboard import build_leaderboard

PAGE = (ROOT / "results" / "FINDINGS.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\|(.+)\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)
NUMBER = re.compile(r"\d*\.\d+|\d+ %")


@pytest.fixture(scope="module")
def board() -> dict[str, LeaderboardEntry]:
    return {entry.label: entry for entry in build_leaderboard(ROOT / "results").entries}


def _effect(entry: LeaderboardEntry, measure: str) -> str:
    """Return the text of a gain, a contrast, a matrix, or the share of the gain under a mitigation."""
    if measure == "gain":
        return gain_text(entry.gain_estimate())
    if measure == "diagonal - rest":
        assert entry.matrix is not None
        return gain_text(entry.matrix.excess)
    if measure.endswith(" / gain"):
        return ratio_text(entry.mitigations[measure.removesuffix(" / gain")].share)
    return gain_text(entry.contrasts[measure])


@pytest.mark.parametrize(("row", "measure", "effect", "verdict"), [line[1:] for line in LINES])
def test_each_line_of_a_table_is_what_the_files_give(
    board: dict[str, LeaderboardEntry], row: str, measure: str, effect: str, verdict: str
) -> None:
    assert effect == _effect(board[row], measure)
    assert verdict == (board[row].verdict if measure == "gain" else "-")


def test_the_page_has_no_other_numbers_than_those_of_its_tables_and_of_its_sources() -> None:
    assert len(LINES) > 10
    findings, _, literature = PAGE.partition("## The literature")
    prose = [line for line in findings.splitlines() if not line.startswith("|")]
    assert not NUMBER.findall("\n".join(prose))
    lines = [line for line in literature.splitlines() if NUMBER.search(line)]
    assert lines
    assert all("](https://" in line for line in lines)


def test_each_published_row_is_on_the_page(board: dict[str, LeaderboardEntry]) -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {entry.recipe for entry in board.values()} <= named
