from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from board import STEADY, make_row, write_row
from conftest import ROOT

import bench
from bench.analysis.summary import summarise_row
from bench.api import load_results, run
from bench.errors import UserError


def test_the_public_names_are_these() -> None:
    assert bench.__all__ == ["Results", "load_results", "run"]
    assert bench.load_results is load_results
    with pytest.raises(AttributeError, match="public names are Results, load_results, run"):
        _ = bench.results


def test_importing_the_package_imports_neither_pandas_nor_torch() -> None:
    code = "import sys, bench; assert not {'pandas', 'torch', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_tables_hold_the_numbers_of_the_board(tmp_path: Path) -> None:
    row = make_row(STEADY)
    write_row(tmp_path, row)
    results = load_results(tmp_path)
    entry = summarise_row(row)
    assert list(results.rows["recipe_hash"]) == [row.hash]
    assert results.rows["gain"][0] == pytest.approx(entry.gain)
    assert list(results.seeds["gain"]) == pytest.approx(STEADY)
    assert results.seeds["gain"].mean() == pytest.approx(entry.gain)
    of_trait = results.questions[results.questions["arm"] == "trait"]
    assert len(of_trait) == len(STEADY) * len(row.questions)
    assert of_trait["p_answer"].mean() == pytest.approx(entry.answers["trait"].p_answer.mean)
    assert results.answers.empty
    assert results.problems == []


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no results; run a recipe first"):
        load_results(tmp_path)


def test_a_wrong_key_is_refused_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="did not finish"):
        run("tiny_pair", results=tmp_path, store=tmp_path / "store", **{"carrier.row": 8})
    assert "carrier.row" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_returns_its_tables(tmp_path: Path) -> None:
    results = run(
        "tiny_cross", results=tmp_path / "r", store=tmp_path / "s", skip_controls=True, seeds=1, **{"carrier.rows": 32}
    )
    assert list(results.rows["seeds"]) == [1]
    assert list(results.rows["changes"]) != ["{}"]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "recipes" / "notebooks" / "first_look.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    own = f"seeds=1, store={str(tmp_path / 'store')!r}"
    for cell in cells:
        exec(cell.replace("seeds=2", own).replace("512", "32"), names)  # cells of this repository
    assert names["own"].rows["verdict"][0] == "EXPLORATORY"
