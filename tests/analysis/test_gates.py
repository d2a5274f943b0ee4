from __future__ import annotations

from board import controls_board, make_row

from bench.analysis.gates import check_gates


def test_the_gates_of_controls_hold_but_for_the_teacher_that_learns_nothing() -> None:
    rows = {row.name: row for row in controls_board()}
    assert all(gate.passed for gate in check_gates(rows["tiny_pair"]))
    failed = {gate.name for gate in check_gates(rows["tiny_untaught"]) if gate.passed is False}
    assert failed == {"teacher induction", "carrier fit"}


def test_without_a_complete_seed_there_is_no_gate() -> None:
    row = make_row([0.3, 0.2])
    for arms in row.cells.values():
        del arms["trait"]
    assert check_gates(row) == []
