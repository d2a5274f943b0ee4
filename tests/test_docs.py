from __future__ import annotations

import re

import pytest
from conftest import ROOT

from bench.leaderboard import entries, short_table
from bench.results import read_all
from bench.yamlfile import names

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_board_as_it_stands() -> None:
    shown = re.search(r"<!-- board -->\n(.*?)\n<!-- /board -->", README, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == short_table(entries(read_all(ROOT / "results")[0]))


def test_the_committed_results_are_whole_and_give_the_committed_board(tmp_path_factory: pytest.TempPathFactory) -> None:
    rows, refused = read_all(ROOT / "results")
    assert refused == []
    assert rows
    for row in rows:
        recipe = row.experiment["recipe"]
        assert set(row.cells) <= set(range(recipe["seeds"])), f"{row.name}: published seeds are 0..n-1"
        for arms in row.cells.values():
            for cell in arms.values():
                assert not any("dirty" in c or c == "unknown" for c in cell["manifest"]["commits"])


def test_the_tree_in_the_readme_names_every_module() -> None:
    modules = {path.name for path in (ROOT / "bench").glob("*.py")} - {"__init__.py", "errors.py"}
    assert modules <= set(re.findall(r"^  (\w+\.py)", README, re.MULTILINE))


def test_ci_runs_the_commands_of_the_readme() -> None:
    steps = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install --quiet torch==2.13.0", 'pip install --quiet -e ".[test]"', "python -m pytest"):
        assert command in steps
        assert command.replace(" --quiet", "") in README
    assert "python run_bench.py" in steps


def test_every_recipe_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"`((?:tiny|gpt2|gemma|smollm2|distilgpt2)_\w+)`", README))
    assert named
    assert named <= set(names(ROOT / "recipes"))
