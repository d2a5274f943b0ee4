from __future__ import annotations

from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, write_row
from conftest import Bench

from bench import commands

PAIR, SLOW = make_row(STEADY), make_row(ZERO, overrides=["student.train.learning_rate=5e-4"])
APART = make_row(ZERO, overrides=["first_seed=10"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for row in (PAIR, SLOW, APART):
        write_row(tmp_path / "results", row)
    return tmp_path / "results"


def test_every_command_is_a_function_of_its_flag() -> None:
    assert {"archive", "compare", "diff", "prune"} <= set(commands.__all__)


def test_compare_prints_a_table_and_draws_it(bench: Bench, results: Path) -> None:
    done = bench("--compare", PAIR.hash, SLOW.hash)
    assert done.stdout.splitlines()[0].split("|")[1].strip() == "lr"
    assert (results / "figures" / f"compare_{PAIR.hash}_{SLOW.hash}.png").is_file()
    assert "there are tiny_pair" in bench("--compare", "tiny_pear", code=2).stderr
    assert "leave --recipe, --set and --seeds out" in bench("--compare", "tiny_pair", "--seeds", "3", code=2).stderr


def test_diff_explains_hashes_and_gains(bench: Bench, results: Path) -> None:
    done = bench("--diff", PAIR.hash, SLOW.hash)
    assert f"A: tiny_pair ({PAIR.hash})\nB: tiny_pair  lr 5e-4 ({SLOW.hash})" in done.stdout
    assert "student.train.learning_rate" in done.stdout
    assert "Paired over 10 common seeds" in done.stdout
    refused = bench("--diff", PAIR.hash, APART.hash, code=2)
    assert refused.stderr.startswith("error: --diff: no common seed: ")
    assert len(refused.stderr.splitlines()) == 1
    assert "first_seed" in refused.stdout
    refused = bench("--diff", "tiny_pair", "0123456789ab", code=2)
    assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1)


def test_archive_moves_a_row_and_rebuilds_the_board(bench: Bench, results: Path) -> None:
    done = bench("--archive", SLOW.hash)
    assert f"Archived tiny_pair  lr 5e-4 ({SLOW.hash})" in done.stdout
    assert f"| {SLOW.hash} |" in (results / "LEADERBOARD.md").read_text()
    assert "lr 5e-4" not in (results / "LEADERBOARD.md").read_text()
    assert "holds no row" in bench("--archive", SLOW.hash, code=2).stderr
