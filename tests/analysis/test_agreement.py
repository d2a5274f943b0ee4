from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from board import STEADY, make_row, with_manifest, with_margins, write_row

from bench.analysis.agreement import MAX_DIFFERENCE, compare_with_published, list_changes
from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import margins_of


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_row(tmp_path, make_row(STEADY))
    return tmp_path


@pytest.fixture
def row(published: Path) -> ExperimentResults:
    """A run that gave the published bits, free to be changed."""
    return read_results(published)[0][0]


def shift(row: ExperimentResults, by: float) -> None:
    for arms in row.cells.values():
        arms["trait"] = with_margins(arms["trait"], [margin + by for margin in margins_of(arms["trait"])])


def test_equal_margins_agree(row: ExperimentResults, published: Path) -> None:
    shift(row, 3e-6)
    shown, yours = compare_with_published(row, published)
    assert shown.startswith("Published: gain +0.")
    assert "TRANSFER" in shown
    assert yours.startswith("Yours agrees: gain +0.")
    assert "largest difference of a margin 3e-06 (trait, seed " in yours


def test_other_margins_agree_if_the_verdict_is_equal_and_the_gain_inside_the_interval(
    row: ExperimentResults, published: Path
) -> None:
    shift(row, 10 * MAX_DIFFERENCE)
    assert compare_with_published(row, published)[1].startswith("Yours agrees")


def test_a_gain_outside_the_interval_differs_and_the_reason_may_be_the_manifest(
    row: ExperimentResults, published: Path
) -> None:
    shift(row, -1.0)
    cell = row.cells[0]["trait"]
    versions = {**cell.manifest.versions, "another": "9.9"}  # not recorded of the published row
    row.cells[0]["trait"] = with_manifest(cell, versions=versions)
    assert "made with the same code" in compare_with_published(row, published)[2]
    for arms in row.cells.values():
        for arm, cell in arms.items():
            arms[arm] = with_manifest(cell, versions={"torch": "9.9"})
    _, yours, reason = compare_with_published(row, published)
    assert yours.startswith("Yours differs")
    assert "other versions" in reason
    for features, at in ((("avx2",), row), (("avx2", "avx512f"), read_results(published)[0][0])):
        for arms in at.cells.values():
            for arm, cell in arms.items():
                arms[arm] = with_manifest(cell, processor_features=features)
    assert list_changes(row, at) == ["versions", "processor features"]


def test_a_run_without_a_published_row_is_told_so_in_one_line(row: ExperimentResults, published: Path) -> None:
    assert compare_with_published(make_row(STEADY[:2]), published) == ["There is no published row of this recipe."]
    for path in published.glob("*/*-*.json"):
        path.unlink()
    assert compare_with_published(row, published) == ["The published row of this recipe has no results yet."]


def test_own_results_below_the_published_ones_are_no_part_of_them(published: Path) -> None:
    shutil.copytree(published / "tiny_pair", published / "local" / "tiny_pair")
    shutil.copy(published / "registry.jsonl", published / "local")
    assert build_leaderboard(published / "local").problems == []
    build_leaderboard(published)
    before = (published / "leaderboard.json").read_bytes()
    shutil.rmtree(published / "local")
    assert build_leaderboard(published).problems == []
    assert (published / "leaderboard.json").read_bytes() == before
    shutil.copytree(published / "tiny_pair", published / "local" / "tiny_pair")
    build_leaderboard(published / "local")
    assert build_leaderboard(published).problems == []
