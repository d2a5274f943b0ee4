from __future__ import annotations

import pytest
from board import STEADY, ZERO, make_row

from bench.analysis.comparison import compare_rows, list_varied_keys, render_comparison
from bench.errors import UserError

RATE, ROWS = "student.train.learning_rate", "carrier.rows"
GRID = [
    make_row(gains, overrides=[f"{RATE}={rate}", f"{ROWS}={rows}"])
    for gains in (STEADY, ZERO)
    for rate in ("1.5e-3", "5e-4")
    for rows in (2048, 64)
][:4]


def test_the_keys_in_which_rows_differ_are_columns_in_the_order_of_their_values() -> None:
    rows = compare_rows(GRID)
    assert list_varied_keys(rows) == {ROWS: [64, 2048], RATE: [5e-4, 1.5e-3]}
    assert [list(row.keys.values()) for row in rows] == [[64, 5e-4], [64, 1.5e-3], [2048, 5e-4], [2048, 1.5e-3]]
    assert rows[0].gains == pytest.approx(STEADY)
    head, _, first, *_ = render_comparison(rows).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["rows", "lr", "seeds"]
    assert [cell.strip() for cell in first.split("|")[1:4]] == ["64", "5e-4", "10"]
    assert rows[0].entry.recipe_hash in first


def test_a_row_without_a_change_has_the_value_of_its_recipe() -> None:
    rows = compare_rows([make_row(STEADY), make_row(ZERO, overrides=["trait=owl", "student.lora={r: 8}"])])
    assert {row.keys["trait"] for row in rows} == {"owl", "wolf"}
    assert {row.keys.get("student.lora.r") for row in rows} == {None, 8}


def test_rows_of_several_recipes_are_named() -> None:
    table = render_comparison(compare_rows([make_row(STEADY), make_row(ZERO, recipe="tiny_cross")]))
    assert [cell.strip() for cell in table.splitlines()[0].split("|")[1:3]] == ["recipe", "relation"]


def test_one_row_and_two_units_are_refused() -> None:
    with pytest.raises(UserError, match=r"--compare: expected two rows or more, found tiny_pair [0-9a-f]{12}; run"):
        compare_rows([make_row(STEADY)])
    rate = make_row(ZERO, overrides=["outcome=rate", "evaluate.samples=2"])
    with pytest.raises(UserError, match=r"--compare: expected rows of one outcome, found tiny_pair .* margin, .* rate"):
        compare_rows([make_row(STEADY), rate])
