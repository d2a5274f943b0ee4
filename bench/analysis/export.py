"""Write the tables of results, each as Parquet and as CSV with the same content.

CSV is UTF-8, every text in quotes, a missing value empty and without quotes, each number with all its digits. Answers
stand as the models gave them, those too that begin with =, +, - or @, which a spreadsheet takes for formulas: with an
apostrophe before it, it would be another answer. So do not open `answers.csv` by a double click; import it with its
columns as text, or take the Parquet file. Take that with pandas too: from CSV it reads an answer "None" or "" as a
missing value, and a hash of digits alone as a number, unless it is told otherwise.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from bench.analysis.result_files import read_results
from bench.analysis.tidy_tables import Table, make_tables, to_arrow

__all__ = ["export"]


def export(folder_of_results: Path, out: Path) -> list[Path]:
    """Write the tables of all results under `folder_of_results` into the folder `out`; returns their paths.

    Result files that `read_results` refuses are left out, and it says which.
    """
    rows, _ = read_results(folder_of_results)
    out.mkdir(parents=True, exist_ok=True)
    return [path for name, table in make_tables(rows).items() for path in _write(name, table, out)]


def _write(name: str, table: Table, out: Path) -> list[Path]:
    from pyarrow.csv import write_csv
    from pyarrow.parquet import write_table

    arrow = to_arrow(table)
    paths = []
    for suffix, write in (("csv", write_csv), ("parquet", write_table)):
        path = out / f"{name}.{suffix}"
        aside = out / f".{path.name}.{uuid.uuid4().hex}"
        try:
            write(arrow, aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        paths.append(path)
    return paths
