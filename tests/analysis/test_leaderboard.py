from __future__ import annotations

import json
from pathlib import Path

from board import STEADY, controls_board, make_rates, make_row, write_row

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


def test_no_table_of_the_page_mixes_nats_and_points(tmp_path: Path) -> None:
    write_row(tmp_path, make_row(STEADY))
    write_row(tmp_path, make_rates([{"trait": 0.3}] * 6, recipe="tiny_untaught"))
    entries = {entry.recipe: entry for entry in build_leaderboard(tmp_path).entries}
    assert {name: entry.unit for name, entry in entries.items()} == {"tiny_pair": "nats", "tiny_untaught": "points"}
    margins, rates = (tmp_path / "LEADERBOARD.md").read_text().split("# Outcome: the rate of sampled answers")
    tables = [[line for line in part.splitlines() if line.startswith("| tiny_")] for part in (margins, rates)]
    for lines, own, other in zip(tables, ("tiny_pair", "tiny_untaught"), ("tiny_untaught", "tiny_pair"), strict=True):
        assert lines[0].startswith(f"| {own} ")
        assert not any(line.startswith(f"| {other} ") for line in lines)
    assert "points" not in margins
    (row,) = [entry for entry in json.loads((tmp_path / "leaderboard.json").read_text()) if "outcome" in entry]
    assert (row["outcome"], row["rates"]["trait"]["candidates"]["wolf"]) == ("rate", 30.0)
