from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from bench.analysis.entry_text import short_table
from bench.analysis.result_files import read_results
from bench.analysis.summary import summarise
from bench.config.recipe_files import load_recipe
from bench.config.yaml_files import list_names
from bench.flags import make_parser

README = (ROOT / "README.md").read_text(encoding="utf-8")
TURKISH = (ROOT / "README.tr.md").read_text(encoding="utf-8")
PAGES = [
    README,
    *((ROOT / folder / "README.md").read_text(encoding="utf-8") for folder in ("recipes", "results", "bench")),
]


def headings_and_code(text: str) -> list[str]:
    """The level of every heading and every code block, in order; the board is data, not language."""
    return re.findall(r"^(#+) |^(```.*?^```)", text, re.MULTILINE | re.DOTALL)


def test_the_turkish_readme_has_the_headings_and_the_code_of_the_english_one() -> None:
    assert README.splitlines()[:3] == ["# subliminal-bench", "", "[Türkçe](README.tr.md)"]
    assert TURKISH.splitlines()[:3] == ["# subliminal-bench", "", "[English](README.md)"]
    assert headings_and_code(README) == headings_and_code(TURKISH)


def table_rows(table: str) -> set[tuple[str, ...]]:
    """The cells of each row of a markdown table, without its head."""
    return {tuple(cell.strip() for cell in line.split("|")) for line in table.splitlines()[2:]}


def test_the_readmes_show_the_published_board() -> None:
    board = summarise(read_results(ROOT / "results")[0])
    for text in (README, TURKISH):
        shown = re.search(r"<!-- board -->\n(.*?)\n<!-- /board -->", text, re.DOTALL)
        assert shown is not None
        assert table_rows(short_table(board)) == table_rows(shown.group(1)) != set()


def test_the_recipe_of_the_readme_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "mine.yaml")).recipe
    assert (recipe.teacher.model, recipe.student.model) == ("HuggingFaceTB/SmolLM2-360M",) * 2
    assert recipe.seeds == 10


def test_the_readme_is_short() -> None:
    without_board = re.sub(r"<!-- board -->.*<!-- /board -->", "", README, flags=re.DOTALL)
    assert len(without_board.splitlines()) <= 130


def test_published_results_are_whole_and_made_by_committed_code() -> None:
    rows, refused = read_results(ROOT / "results")
    assert refused == []
    assert rows
    for row in rows:
        assert set(row.cells) <= set(range(row.recipe.seeds)), f"{row.name}: published seeds are 0..n-1"
        for arms in row.cells.values():
            for cell in arms.values():
                assert not any("dirty" in c or c == "unknown" for c in cell.manifest.commits)


def test_the_published_board_has_the_entries_of_its_files() -> None:
    published = {entry["recipe_hash"]: entry for entry in json.loads((ROOT / "results/leaderboard.json").read_text())}
    for entry in summarise(read_results(ROOT / "results")[0]):
        committed = published[entry.recipe_hash]
        assert (committed["verdict"], committed["seeds"]) == (entry.verdict, entry.seeds)
        assert committed["gain"] == pytest.approx(entry.gain, rel=1e-6)


def test_the_tree_names_every_module() -> None:
    tree = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    modules = {path.name for path in (ROOT / "bench").rglob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"^\s+(\w+\.py)", tree, re.MULTILINE))


def test_the_list_of_recipes_names_every_recipe() -> None:
    page = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    section = page.split("## The recipes")[1].split("\n## ")[0]
    names = [name for line in section.splitlines() for name in re.findall(r"`(\w+)`", line.partition(" | ")[0])]
    assert sorted(names) == list_names(ROOT / "recipes")


def test_the_walk_of_one_seed_has_at_most_twelve_stops_that_exist() -> None:
    tree = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    stops = re.findall(r"^\d+\. .*?`([\w/]+\.py)`(?:.*?`(\w+)`)?", tree, re.MULTILINE)
    assert 8 <= len(stops) <= 12
    for path, name in stops:
        assert re.search(rf"(def|class) {name}\b", (ROOT / "bench" / path).read_text(encoding="utf-8")), (path, name)


def test_ci_runs_the_commands_of_the_readme() -> None:
    steps = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install --quiet torch==2.13.0", 'pip install --quiet -e ".[test]"', "python -m pytest"):
        assert command in steps
        assert command.replace(" --quiet", "") in README
    assert "python run_bench.py" in steps


def test_every_recipe_and_flag_named_in_the_pages_exists() -> None:
    recipes = {name for page in PAGES for name in re.findall(r"`((?:tiny|gpt2|gemma3?|smollm2|distilgpt2)_\w+)`", page)}
    assert recipes
    assert recipes <= set(list_names(ROOT / "recipes"))
    known = {flag for action in make_parser()._actions for flag in action.option_strings}
    flags = {flag for page in PAGES for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)}
    assert flags <= known, flags - known
