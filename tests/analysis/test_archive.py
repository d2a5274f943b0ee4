from __future__ import annotations

from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, write_row

from bench.analysis.archive import archive_rows, list_archived
from bench.analysis.leaderboard import build_leaderboard
from bench.errors import UserError

PAIR, SLOW = make_row(STEADY), make_row(ZERO, overrides=["student.train.learning_rate=5e-4"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for row in (PAIR, SLOW):
        write_row(tmp_path, row)
    return tmp_path


def test_an_archived_row_leaves_the_board_and_its_registration_says_so(results: Path) -> None:
    before = {path.name: path.read_bytes() for path in (results / "tiny_pair").iterdir()}
    assert archive_rows([SLOW.hash], results) == [
        f"Archived tiny_pair  lr 5e-4 ({SLOW.hash}) in {results / 'archive' / 'tiny_pair'}"
    ]
    assert list_archived(results) == {SLOW.hash}
    board = build_leaderboard(results)
    assert [entry.recipe_hash for entry in board.entries] == [PAIR.hash]
    assert board.problems == []
    page = (results / "LEADERBOARD.md").read_text()
    (line,) = [line for line in page.splitlines() if SLOW.hash in line]
    assert line.rstrip(" |").endswith("archived")
    after = {p.name: p.read_bytes() for name in ("tiny_pair", "archive/tiny_pair") for p in (results / name).iterdir()}
    assert after == before


def test_a_row_that_is_moved_back_is_on_the_board_again(results: Path) -> None:
    build_leaderboard(results)
    page = (results / "LEADERBOARD.md").read_text()
    archive_rows(["tiny_pair"], results)
    assert build_leaderboard(results).entries == []
    for path in (results / "archive" / "tiny_pair").iterdir():
        path.rename(results / "tiny_pair" / path.name)
    build_leaderboard(results)
    assert (results / "LEADERBOARD.md").read_text() == page


def test_nothing_is_moved_where_a_row_is_unknown_or_archived_already(results: Path) -> None:
    with pytest.raises(UserError, match="--archive 0123456789ab: no row of this recipe or hash"):
        archive_rows([SLOW.hash, "0123456789ab"], results)
    archive_rows([SLOW.hash], results)
    write_row(results, SLOW)
    with pytest.raises(UserError, match=r"exists; move the archived row away first. Nothing was moved"):
        archive_rows(["tiny_pair"], results)
    assert {entry.recipe_hash for entry in build_leaderboard(results).entries} == {PAIR.hash, SLOW.hash}
