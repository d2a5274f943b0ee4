from __future__ import annotations

from pathlib import Path

from board import controls_board, write_row

from bench.analysis.leaderboard import build_leaderboard


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    for row in controls_board():
        write_row(tmp_path, row)
    assert build_leaderboard(tmp_path).problems == []
    first = {name: (tmp_path / name).read_bytes() for name in ("LEADERBOARD.md", "leaderboard.json")}
    for name in first:
        (tmp_path / name).unlink()
    assert build_leaderboard(tmp_path).problems == []
    assert first == {name: (tmp_path / name).read_bytes() for name in first}
