from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.result_files import read_results, seal_content
from bench.cli import main


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The published files of one recipe, free to be changed."""
    shutil.copytree(ROOT / "results" / "tiny_untaught", tmp_path / "results" / "tiny_untaught")
    return tmp_path / "results"


def test_every_published_file_is_accepted() -> None:
    assert read_results(ROOT / "results")[1] == []


def resealed(path: Path, **more: Any) -> None:
    """Change a result file and seal it anew, as someone would who wants to be believed."""
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(seal_content({**content, **more}))


TAMPERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a margin that is no number": lambda c: {"reading": {**c["reading"], "margins": [float("nan")] * 56}},
    "an infinite margin": lambda c: {"reading": {**c["reading"], "margins": [1e999] * 56}},
    "a margin too few": lambda c: {"reading": {**c["reading"], "margins": c["reading"]["margins"][1:]}},
    "text for margins": lambda c: {"reading": {**c["reading"], "margins": ["1"] * 56}},
    "no reading": lambda c: {"reading": {}},
    "a reading that is a list": lambda c: {"reading": []},
    "held-out rows of another number": lambda c: {"reading": {**c["reading"], "held_out_base": [0.0]}},
    "no manifest": lambda c: {"manifest": None},
    "no carrier": lambda c: {"manifest": {**c["manifest"], "carrier": None}},
    "another carrier": lambda c: {"manifest": {**c["manifest"], "carrier": {**c["manifest"]["carrier"], "train": 1}}},
    "a training of another kind": lambda c: {"manifest": {**c["manifest"], "training": 3}},
    "controls of another kind": lambda c: {"manifest": {**c["manifest"], "controls": 3}},
    "a seed that is text": lambda c: {"seed": "1"},
    "a seed that is not registered": lambda c: {"seed": 7},
    "another arm": lambda c: {"arm": "base"},
    "another recipe": lambda c: {"recipe": "tiny_cross"},
    "a recipe outside": lambda c: {"recipe": "../tiny_pair"},
    "another schema": lambda c: {"schema": 2},
    "no relation": lambda c: {"relation": None},
    "scores that are none": lambda c: {"scores": {"rouge": "high"}},
    "scores of fewer questions": lambda c: {"scores": {"rouge": [[0.5]]}},
    "fewer groups": lambda c: {"reading": {**c["reading"], "groups": ["ask"]}},
}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_leaderboard_refuses_a_malformed_cell_by_name(results: Path, what: str) -> None:
    path = next((results / "tiny_untaught").glob("*-0001-trait.json"))
    resealed(path, **TAMPERED[what](json.loads(path.read_text())))
    (line,) = build_leaderboard(results)
    assert line.startswith(f"{path}: refused: ")
    assert len(line) < len(str(path)) + 250
    assert json.loads((results / "leaderboard.json").read_text())[0]["seeds"] == 2


def test_cells_that_do_not_fit_together_are_refused_as_a_row(results: Path) -> None:
    path = next((results / "tiny_untaught").glob("*-0001-trait.json"))
    reading = json.loads(path.read_text())["reading"]
    resealed(path, reading={name: column for name, column in reading.items() if not name.startswith("held_out")})
    (line,) = build_leaderboard(results)
    assert re.search(r"\.recipe\.json: refused: its files do not fit together .*held_out", line)
    assert json.loads((results / "leaderboard.json").read_text()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "null", "3", '"text"', "[]", "[" * 100_000, "\xff", '{"sha256": 3}', "9" * 5000]
)
def test_the_leaderboard_refuses_what_is_no_result_by_name(results: Path, text: str) -> None:
    for pattern in ("*-0001-trait.json", "*.audit.json", "*.recipe.json"):
        path = next((results / "tiny_untaught").glob(pattern))
        path.write_text(text, encoding="latin-1")
        assert any(line.startswith(f"{path}: refused: ") for line in build_leaderboard(results))
    assert main(["--leaderboard", "--results", str(results)]) == 0


def test_a_registration_that_was_changed_is_refused_and_other_rows_are_built(results: Path) -> None:
    shutil.copytree(ROOT / "results" / "tiny_pair", results / "tiny_pair")
    path = next((results / "tiny_untaught").glob("*.recipe.json"))
    experiment = json.loads(path.read_text())["experiment"]
    resealed(path, experiment={**experiment, "recipe": {**experiment["recipe"], "bound": 0.9}})
    refused = build_leaderboard(results)
    assert refused[0] == f"{path}: refused: the experiment it holds has another hash"
    assert all("its recipe file is missing" in line for line in refused[1:])
    board = json.loads((results / "leaderboard.json").read_text())
    assert [entry["recipe"] for entry in board] == ["tiny_pair"]
