from __future__ import annotations

import re
from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, write_row
from scipy import stats

from bench.analysis.difference import compare_gains, compare_keys, find_side
from bench.config.recipe_files import load_recipe
from bench.errors import UserError

PAIR = make_row(STEADY)
CROSS = make_row(ZERO, recipe="tiny_cross")
LATER = make_row(ZERO, overrides=["first_seed=5"])
APART = make_row(ZERO, overrides=["first_seed=10", "student.train.learning_rate=5e-4"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for row in (PAIR, CROSS, LATER, APART):
        write_row(tmp_path, row)
    return tmp_path


def cells(table: str) -> dict[str, list[str]]:
    """The cells of a table by the first of their line."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


def test_every_key_in_which_two_experiments_differ_is_named(results: Path) -> None:
    a, b = (find_side(name, [results]) for name in ("tiny_pair", CROSS.hash))
    assert (a.hash, b.hash) == (load_recipe("tiny_pair").hash(), load_recipe("tiny_cross").hash())
    keys = cells(compare_keys(a, b))
    del keys["key"], keys[next(key for key in keys if key.startswith("---"))]
    assert keys == {
        "relation": ["same-init", "cross-init"],
        "student.init": ["0", "1"],
        "reference.recipe": ["-", "tiny_pair"],
        "reference.share": ["-", "0.25"],
    }
    assert compare_keys(a, a) == f"tiny_pair ({a.hash}) and tiny_pair ({a.hash}) are the same experiment."


def test_a_trait_is_compared_by_content(results: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("from: tiny_pair\ntrait: other.yaml\n")
    (tmp_path / "other.yaml").write_text("from: wolf\nlexicon: [wolf]\n")
    keys = cells(compare_keys(*(find_side(name, [results]) for name in ("tiny_pair", str(tmp_path / "own.yaml")))))
    assert keys["trait: lexicon"] == ["['wolf', 'wolves']", "['wolf']"]


def test_gains_are_paired_over_common_seeds(results: Path) -> None:
    a, b = (find_side(row.hash, [results]) for row in (PAIR, LATER))
    table = compare_gains(a, b)
    differences = [x - y for x, y in zip(STEADY[5:], ZERO[:5], strict=True)]
    low, high = stats.t.interval(0.95, 4, sum(differences) / 5, stats.sem(differences))
    assert cells(table)["gain"][2] == f"{sum(differences) / 5:+.3f} [{low:+.3f}, {high:+.3f}]"
    assert table.endswith("Paired over 5 common seeds (seeds 5 to 9).")


def test_a_row_without_results_has_its_keys_compared(results: Path) -> None:
    a, b = find_side("tiny_pair", [results]), find_side("tiny_noise", [results])
    assert b.row is None
    assert compare_gains(a, b) == f"Gains are compared where both were measured; no results of tiny_noise ({b.hash})."


def test_rows_without_a_common_seed_are_refused(results: Path) -> None:
    a, b = (find_side(row.hash, [results]) for row in (PAIR, APART))
    message = f"--diff: no common seed: tiny_pair ({PAIR.hash}) has seeds 0 to 9, tiny_pair  first_seed 10, lr 5e-4"
    with pytest.raises(UserError, match=re.escape(message)):
        compare_gains(a, b)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_pear", "--diff tiny_pear: no recipe, and no row in "),
        ("0123456789ab", "--diff 0123456789ab: no recipe, and no row in "),
        ("tiny_sweep", "--diff tiny_sweep: 4 rows have this name; name a hash: tiny_sweep  rows 512 ("),
        ("none.yaml", "none.yaml: no such recipe file"),
    ],
)
def test_an_unknown_or_ambiguous_name_is_one_line(results: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        find_side(name, [results])
    assert "\n" not in str(error.value)
