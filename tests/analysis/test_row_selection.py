from __future__ import annotations

import re
from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, write_row

from bench.analysis.row_selection import describe_row, find_rows, select_row, select_rows
from bench.errors import UserError

SLOW = make_row(ZERO, overrides=["student.train.learning_rate=5e-4"])
OTHER = make_row(ZERO, overrides=["student.train.learning_rate=1e-4"])
PAIR = make_row(STEADY)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for row in (PAIR, SLOW):
        write_row(tmp_path, row)
    return tmp_path


def test_rows_are_found_by_recipe_hash_or_file(results: Path) -> None:
    both = {PAIR.hash, SLOW.hash}
    assert {row.hash for row in find_rows("tiny_pair", [results])} == both
    assert {row.hash for row in find_rows("some/folder/tiny_pair.yaml", [results])} == both
    files = [results / "tiny_pair" / f"{SLOW.hash}{end}" for end in (".recipe.json", "-0000-trait.json")]
    for name in (SLOW.hash, SLOW.hash[:6], *map(str, files)):
        assert [row.hash for row in find_rows(name, [results])] == [SLOW.hash]
    assert find_rows(SLOW.hash[:5], [results]) == find_rows("tiny", [results]) == []


def test_the_first_folder_with_the_row_counts(results: Path, tmp_path: Path) -> None:
    assert find_rows(PAIR.hash, [tmp_path / "none", results])
    path = str(results / "tiny_pair" / f"{PAIR.hash}.recipe.json")
    assert find_rows(path, [tmp_path / "none"])


def test_an_unknown_row_is_one_line_that_names_those_that_are_there(results: Path, tmp_path: Path) -> None:
    assert [row.hash for row in select_rows([SLOW.hash, "tiny_pair"], [results], "--compare")] == [SLOW.hash, PAIR.hash]
    with pytest.raises(UserError, match=re.escape("--compare tiny_pear: ")) as error:
        select_rows(["tiny_pair", "tiny_pear"], [results], "--compare")
    assert str(error.value).endswith(f"no row of this recipe or hash in {results}; there are tiny_pair")
    with pytest.raises(UserError, match="there are none"):
        select_rows(["tiny_pair"], [tmp_path / "none"], "--compare")


def test_one_row_of_several_is_the_unchanged_one_or_has_a_hash(results: Path, tmp_path: Path) -> None:
    assert select_row("tiny_pair", [results], "--show answers").hash == PAIR.hash
    assert select_row(SLOW.hash, [results], "--show answers").hash == SLOW.hash
    write_row(results, OTHER)
    write_row(tmp_path / "changed", SLOW)
    write_row(tmp_path / "changed", OTHER)
    with pytest.raises(UserError) as error:
        select_row("tiny_pair", [tmp_path / "changed"], "--show answers")
    assert "2 rows have this name; name a hash: " in str(error.value)
    assert all(row.hash in str(error.value) for row in (SLOW, OTHER))


def test_a_row_is_described_by_its_label_and_hash() -> None:
    assert describe_row(SLOW) == f"tiny_pair  lr 5e-4 ({SLOW.hash})"
