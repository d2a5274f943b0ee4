from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bench.config.tables import read_lines, read_table
from bench.errors import UserError


def test_lines_are_read_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("İki\nkelime\n", encoding="utf-8-sig")
    assert list(read_lines(tmp_path / "a.txt")) == ["İki\n", "kelime\n"]


def test_every_kind_of_table_gives_the_same_rows_in_the_order_of_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('q,n,a\n"Rain, or tea?",1,Çay\n', encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"q": "Rain, or tea?", "n": 1, "a": "Çay"}\n\n', encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.table({"q": ["Rain, or tea?"], "a": ["Çay"]}), tmp_path / "a.parquet")
    for kind in ("csv", "jsonl", "parquet"):
        assert list(read_table(tmp_path / f"a.{kind}", ["a", "q"])) == [("Çay", "Rain, or tea?")]


def test_a_table_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.xls: .*\.jsonl, \.csv, \.parquet"):
        list(read_table(tmp_path / "a.xls", ["q"]))
