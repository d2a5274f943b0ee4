from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from page_parts import read_part

from bench.report.data_pages import PART_ROWS, write_part, write_parts


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_text_comes_back_and_the_script_is_plain(tmp_path_factory: Any, value: Any) -> None:
    folder = tmp_path_factory.mktemp("part")
    write_part(folder, "answers", value)
    assert read_part(folder / "answers.js") == value


def test_records_are_written_in_parts_and_twice_alike(tmp_path: Path) -> None:
    records = list(range(2 * PART_ROWS + 1))
    assert write_parts(tmp_path, "rows", records) == 3
    parts = [read_part(tmp_path / f"rows_{i}.js") for i in range(3)]
    assert [len(part) for part in parts] == [PART_ROWS, PART_ROWS, 1]
    assert [record for part in parts for record in part] == records
    before = (tmp_path / "rows_0.js").read_bytes()
    write_parts(tmp_path, "rows", records)
    assert (tmp_path / "rows_0.js").read_bytes() == before
    assert write_parts(tmp_path, "none", []) == 0
