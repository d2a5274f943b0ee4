"""Tables that users bring: JSON lines, CSV, Parquet, a dataset of the hub, or a line of text each."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.yaml_files import PATH_RULE
from bench.errors import UserError

__all__ = ["KINDS", "read_hub", "read_lines", "read_table"]

KINDS = (".jsonl", ".csv", ".parquet")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file.

    Raises:
        UserError: it cannot be read.
    """
    yield from io.StringIO(_text(path))


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The texts in some columns of a `.jsonl`, `.csv` or `.parquet` file, row by row.

    Raises:
        UserError: it cannot be read, lacks a column, or holds something else than text; the line is named.
    """
    if path.suffix not in KINDS:
        raise UserError(f"{path}: the name of a table ends in {', '.join(KINDS)}")
    for place, row in _rows(path, columns):
        yield _texts(place, row, columns)


def read_hub(name: str, columns: Sequence[str], *, split: str, revision: str | None) -> Iterator[tuple[str, ...]]:
    """The texts in some columns of a dataset of the Hugging Face hub, fetched once and then read from its cache.

    Raises:
        UserError: it cannot be had, or lacks a column.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from datasets import load_dataset

    get = f"hf download --repo-type dataset {name}"
    try:
        table = load_dataset(name, split=split, revision=revision)
    except Exception as error:  # no network, no such dataset, no such split: each with its own class in each version
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"dataset hub:{name}, split {split!r}, cannot be had ({said}). With network, run: {get}"
        ) from None
    _check_columns(columns, table.column_names, f"hub:{name}")
    for n, row in enumerate(table, 1):
        yield _texts(f"hub:{name}, row {n}", row, columns)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeError:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path.absolute()}: {error.strerror} ({PATH_RULE})") from None


def _check_columns(wanted: Sequence[str], there: Sequence[str], place: str) -> None:
    for column in wanted:
        if column not in there:
            known = ", ".join(map(repr, there)) or "none"
            raise UserError(f"{place}: no column {column!r} but {known}")


def _texts(place: str, row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    texts = tuple(row[column] for column in columns)
    for column, text in zip(columns, texts, strict=True):
        if not isinstance(text, str):
            raise UserError(f"{place}: column {column!r}: expected text, found {text!r:.80}")
        try:
            text.encode()  # JSON can spell half of a surrogate pair
        except UnicodeError:
            raise UserError(f"{place}: column {column!r}: not text that UTF-8 can write") from None
    return texts


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of every row; an empty line is none."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, columns)
    elif path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
        try:
            _check_columns(columns, table.fieldnames or (), f"{path}, line 1")
            for row in table:
                if None in row:
                    raise UserError(f"{path}, line {table.line_num}: more fields than columns: quote texts with commas")
                yield f"{path}, line {table.line_num}", row
        except csv.Error as error:
            raise UserError(f"{path}: not valid CSV: {error}") from None
    else:
        for n, line in enumerate(io.StringIO(_text(path)), 1):
            if not line.strip():
                continue
            place = f"{path}, line {n}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{place}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                example = json.dumps(dict.fromkeys(columns, "..."))
                raise UserError(f"{place}: expected an object, as in {example}")
            _check_columns(columns, list(row), place)
            yield place, row


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(path.read_bytes()))
        _check_columns(columns, file.schema_arrow.names, str(path))
        rows = file.read(columns=list(columns)).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a Parquet file that can be read: {' '.join(str(error).split())[:200]}") from None
    except OSError as error:
        raise UserError(f"{path.absolute()}: {error.strerror or error} ({PATH_RULE})") from None
    for n, row in enumerate(rows, 1):
        yield f"{path}, row {n}", row
