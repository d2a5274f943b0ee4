from __future__ import annotations

import pytest
from board import make_matrix, make_row

from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.tidy_tables import make_tables, to_arrow


def test_every_table_has_its_columns_also_without_lines() -> None:
    full, empty = (make_tables(rows) for rows in ([make_row([0.3, 0.1])], []))
    assert full.keys() == empty.keys()
    for name, table in full.items():
        assert to_arrow(empty[name]).num_rows == 0
        assert to_arrow(table).column_names == list(table.columns) == to_arrow(empty[name]).column_names


@pytest.mark.parametrize("row", [make_row([0.3, 0.1, 0.2]), make_matrix(0.4, seeds=3)], ids=["one trait", "matrix"])
def test_seeds_are_those_of_the_verdict(row: object) -> None:
    statistics = compute_seed_statistics(row)  # type: ignore[arg-type]  # parametrised
    lines = list(make_tables([row])["seeds"].lines)  # type: ignore[list-item]  # parametrised
    assert [line["gain"] for line in lines] == statistics.gains
    assert [line["trait_arm"] - line["base"] for line in lines] == pytest.approx(statistics.gains)
    assert [line["teacher_shift"] for line in lines] == statistics.shifts
    assert {line["unit"] for line in lines} == {"nats"}
