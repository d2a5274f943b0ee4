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


def test_replications_go_with_their_row_and_those_of_other_rows_stay(results: Path) -> None:
    for chain in ("a", "b"):
        write_row(results / "replications" / chain, SLOW)
    write_row(results / "replications" / "a", PAIR)
    before = build_leaderboard(results)
    assert {entry.recipe_hash: entry.replications for entry in before.entries} == {PAIR.hash: 1, SLOW.hash: 2}
    page = (results / "LEADERBOARD.md").read_text()
    archive_rows([SLOW.hash], results)
    board = build_leaderboard(results)
    assert not board.problems
    assert [(entry.recipe_hash, entry.replications) for entry in board.entries] == [(PAIR.hash, 1)]
    archive = results / "archive"
    moved = [path.relative_to(archive) for path in archive.rglob("*.json")]
    assert {str(path.parent) for path in moved} == {
        "tiny_pair", "replications/a/tiny_pair", "replications/b/tiny_pair"
    }  # fmt: skip
    for path in moved:
        (archive / path).rename(results / path)
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
