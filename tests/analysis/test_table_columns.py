from __future__ import annotations

import pyarrow as pa

from bench.analysis import table_columns
from bench.analysis.entry import LeaderboardEntry


def test_every_type_is_one_of_pyarrow_and_every_table_names_its_row() -> None:
    tables = {name: getattr(table_columns, name) for name in table_columns.__all__}
    schemas = {name: columns for name, columns in tables.items() if isinstance(columns, dict)}
    for columns in schemas.values():
        assert all(pa.type_for_alias(kind) for kind in columns.values())
    assert all("label" in columns for name, columns in schemas.items() if name not in {"ENTRY", "INTERVAL"})


def test_every_plain_field_of_an_entry_is_a_column_of_rows() -> None:
    plain = {name for name, field in LeaderboardEntry.model_fields.items() if field.annotation in (str, int, float)}
    assert plain <= table_columns.ROWS.keys()
