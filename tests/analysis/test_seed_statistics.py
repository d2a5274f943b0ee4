from __future__ import annotations

import pytest
from conftest import ROOT

from bench.analysis.result_files import read_results
from bench.analysis.seed_statistics import compute_seed_statistics, margins_of, mean_margin


def test_gains_are_the_differences_of_mean_margins_seed_by_seed() -> None:
    row = next(row for row in read_results(ROOT / "results")[0] if row.name == "tiny_pair")
    statistics = compute_seed_statistics(row)
    for arms, gain in zip(row.cells.values(), statistics.gains, strict=True):
        trait, base = (sum(margins_of(arms[arm])) / len(margins_of(arms[arm])) for arm in ("trait", "base"))
        assert gain == pytest.approx(trait - base)
    assert statistics.registered == len(statistics.gains) == 10


def test_a_group_holds_its_own_questions() -> None:
    cell = {"reading": {"margins": [1.0, 2.0, 6.0], "groups": ["a", "b", "b"]}}
    assert margins_of(cell, "b") == [2.0, 6.0]
    assert mean_margin(cell, "b") == 4.0
    assert mean_margin(cell) == 3.0
