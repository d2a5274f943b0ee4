from __future__ import annotations

import json
import re
from pathlib import Path

from board import STEADY, controls_board, make_rates, make_row, write_row
from conftest import ROOT

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


LETTER, EDGE = (
    8.6,
    27,
)  # pixels, in GitHub's style: a letter of 16 pixels (bold ones are wider), and the edges of a cell
PAGE = 1056  # pixels that a table has in a window of 1,200


def least_width(table: list[str]) -> float:
    """The width to which a browser can squeeze a table: it breaks cells at spaces and after hyphens."""
    cells = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in table]
    columns = zip(*cells, strict=True)
    longest = (max(len(word) for cell in column for word in re.split(r"\s|(?<=-)", cell)) for column in columns)
    return sum(LETTER * letters + EDGE for letters in longest)


def test_no_table_of_the_published_page_is_cut_off_at_1200_pixels() -> None:
    lines = (ROOT / "results" / "LEADERBOARD.md").read_text(encoding="utf-8").splitlines()
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("| "):
            tables[-1].append(line)
        elif tables[-1] and not line.startswith("|"):
            tables.append([])
    widths = [least_width(table) for table in tables if table]
    assert len(widths) > 8
    assert max(widths) <= PAGE
