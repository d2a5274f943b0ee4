from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from bench.agreement import EQUAL, _changed, compare
from bench.leaderboard import build
from bench.results import Row, read_all


@pytest.fixture
def published(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "results" / "tiny_pair", tmp_path / "tiny_pair")
    return tmp_path


@pytest.fixture
def row(published: Path) -> Row:
    """A run that gave the published bits, free to be changed."""
    return copy.deepcopy(read_all(published)[0][0])


def shift(row: Row, by: float) -> None:
    for arms in row.cells.values():
        arms["trait"]["reading"]["margins"] = [m + by for m in arms["trait"]["reading"]["margins"]]


def test_equal_margins_agree(row: Row, published: Path) -> None:
    shift(row, 3e-6)
    shown, yours = compare(row, published)
    assert shown.startswith("Published: gain +0.")
    assert "TRANSFER" in shown
    assert yours.startswith("Yours agrees: gain +0.")
    assert "largest difference of a margin 3e-06 (trait, seed " in yours


def test_other_margins_agree_if_the_verdict_is_equal_and_the_gain_inside_the_interval(
    row: Row, published: Path
) -> None:
    shift(row, 20 * EQUAL)
    assert compare(row, published)[1].startswith("Yours agrees")


def test_a_gain_outside_the_interval_differs_and_the_reason_may_be_the_manifest(row: Row, published: Path) -> None:
    shift(row, -1.0)
    row.cells[0]["trait"]["manifest"]["versions"]["accelerate"] = "9.9"  # not recorded of the published row
    assert "made with the same code" in compare(row, published)[2]
    for arms in row.cells.values():
        for cell in arms.values():
            cell["manifest"]["versions"] = {"torch": "9.9"}
    _, yours, reason = compare(row, published)
    assert yours.startswith("Yours differs")
    assert "other versions" in reason
    for features, at in ((["avx2"], row), (["avx2", "avx512f"], read_all(published)[0][0])):
        for arms in at.cells.values():
            for cell in arms.values():
                cell["manifest"]["processor_features"] = features
    assert _changed(row, at) == ["versions", "processor features"]


def test_a_run_without_a_published_row_is_told_so_in_one_line(row: Row, published: Path) -> None:
    assert compare(row._replace(hash="0" * 12), published) == ["There is no published row of this recipe."]
    for path in published.glob("*/*-*.json"):
        path.unlink()
    assert compare(row, published) == ["The published row of this recipe has no results yet."]


def test_own_results_below_the_published_ones_are_no_part_of_them(published: Path) -> None:
    shutil.copytree(published / "tiny_pair", published / "local" / "tiny_pair")
    assert build(published / "local") == []
    build(published)
    before = (published / "leaderboard.json").read_bytes()
    shutil.rmtree(published / "local")
    assert build(published) == []
    assert (published / "leaderboard.json").read_bytes() == before
    shutil.copytree(published / "tiny_pair", published / "local" / "tiny_pair")
    build(published / "local")
    assert build(published) == []
