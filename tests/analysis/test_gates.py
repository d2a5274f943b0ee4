from __future__ import annotations

from conftest import ROOT

from bench.analysis.gates import check_gates
from bench.analysis.result_files import read_results


def test_the_gates_of_published_rows_hold_but_for_the_teacher_that_learns_nothing() -> None:
    rows = {row.name: row for row in read_results(ROOT / "results")[0]}
    assert all(gate.passed for gate in check_gates(rows["tiny_pair"]))
    failed = {gate.name for gate in check_gates(rows["tiny_untaught"]) if gate.passed is False}
    assert failed == {"teacher induction", "carrier fit"}


def test_without_a_complete_seed_there_is_no_gate() -> None:
    row = next(row for row in read_results(ROOT / "results")[0] if row.name == "tiny_untaught")
    for arms in row.cells.values():
        del arms["trait"]
    assert check_gates(row) == []
