from __future__ import annotations

from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, write_row
from conftest import QUICK, Bench

from bench import commands

PAIR, SLOW = make_row(STEADY), make_row(ZERO, overrides=["student.train.learning_rate=5e-4"])
APART = make_row(ZERO, overrides=["first_seed=10"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for row in (PAIR, SLOW, APART):
        write_row(tmp_path / "results", row)
    return tmp_path / "results"


def test_every_command_is_a_function_of_its_flag() -> None:
    assert {"archive", "compare", "diff", "lm_eval", "prune"} <= set(commands.__all__)


@pytest.mark.slow
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
    assert "no row of this recipe or hash" in bench("--archive", SLOW.hash, code=2).stderr


@pytest.mark.slow
def test_show_prints_a_seed_of_a_row_and_names_what_is_there(bench: Bench, results: Path, tmp_path: Path) -> None:
    lines = bench("--show", "answers", "--recipe", SLOW.hash, "--seed", "3").stdout.splitlines()
    assert lines[0] == f"tiny_pair  lr 5e-4 ({SLOW.hash}), seed 3: 56 questions, the largest difference first."
    changed = ["--set", "student.train.learning_rate=5e-4", "--seeds", "10"]
    assert bench("--show", "answers", *changed, "--seed", "3").stdout.splitlines() == lines
    refused = {
        ("answers", "--recipe", "tiny_pear"): "--show answers tiny_pear: no row of this recipe or hash in ",
        ("answers", "--recipe", PAIR.hash, "--seed", "10"): "has answers of the seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ("rows", "--recipe", PAIR.hash): f"there are no carrier rows in {tmp_path / 'store'}; run its recipe",
        ("prompts", "--seed", "1"): "--seed needs --show answers or --show rows",
    }
    for words, message in refused.items():
        done = bench("--show", *words, code=2)
        assert message in done.stderr
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


@pytest.mark.slow
def test_show_rows_prints_what_both_teachers_wrote(bench: Bench, tmp_path: Path) -> None:
    bench(*QUICK, "--seeds", "1")
    lines = bench("--show", "rows", "--seed", "1000", "--recipe", "tiny_pair").stdout.splitlines()
    assert "seed 1000: 80 rows, 0 refused" in lines[0]
    assert sum(line.startswith("row ") for line in lines) == 80
    assert "has carrier rows in" in bench("--show", "rows", "--seed", "5", code=2).stderr
