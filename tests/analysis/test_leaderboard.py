from __future__ import annotations

from pathlib import Path

import pytest
from board import controls_board, write_row

from bench.analysis.entry import Estimate
from bench.analysis.leaderboard import build_leaderboard, gain_text, signed


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    for row in controls_board():
        write_row(tmp_path, row)
    assert build_leaderboard(tmp_path) == []
    first = {name: (tmp_path / name).read_bytes() for name in ("LEADERBOARD.md", "leaderboard.json")}
    for name in first:
        (tmp_path / name).unlink()
    assert build_leaderboard(tmp_path) == []
    assert first == {name: (tmp_path / name).read_bytes() for name in first}


@pytest.mark.parametrize(
    ("seeds", "low", "high", "text"),
    [(10, 0.01, 0.03, "+0.0200 [+0.0100, +0.0300]"), (1, None, None, "+0.0200 [one seed: no interval]")],
)
def test_a_gain_shows_its_interval(seeds: int, low: float | None, high: float | None, text: str) -> None:
    assert gain_text(Estimate(seeds=seeds, mean=0.02, ci_low=low, ci_high=high)) == text
    assert gain_text(None) == signed(None) == "-"
