"""Read users' tables: JSON lines, CSV, Parquet, data sets of the Hugging Face hub, and lines of text."""

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

__all__ = ["TABLE_ENDINGS", "read_hub", "read_lines", "read_table"]

TABLE_ENDINGS = (".jsonl", ".csv", ".parquet")


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 text file.

    Raises:
        UserError: the file is not readable.
    """
    yield from io.StringIO(_read_text(path))


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Read the texts in some columns of a .jsonl, .csv or .parquet file, row by row.

    Raises:
        UserError: the file is not readable, lacks a column, or a cell is not text; names the line.
    """
    if path.suffix not in TABLE_ENDINGS:
        raise UserError(f"{path}: the name of a table ends in {', '.join(TABLE_ENDINGS)}")
    for location, row in _read_rows(path, columns):
        yield _select_texts(location, row, columns)


def read_hub(name: str, columns: Sequence[str], *, split: str, revision: str | None) -> Iterator[tuple[str, ...]]:
    """Read the texts in some columns of a data set of the Hugging Face hub, row by row.

    The first call downloads the data set; later calls read the hub's cache.

    Raises:
        UserError: the data set is not available, lacks a column, or a cell is not text.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from datasets import load_dataset

    command = f"hf download --repo-type dataset {name}"
    try:
        table = load_dataset(name, split=split, revision=revision)
    except Exception as error:  # the class differs between causes, and between versions of datasets
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"dataset hub:{name}, split {split!r}, is not available ({reason}). With network, run: {command}"
        ) from None
    _check_columns(columns, table.column_names, f"hub:{name}")
    for n, row in enumerate(table, 1):
        yield _select_texts(f"hub:{name}, row {n}", row, columns)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeError:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path.absolute()}: {error.strerror} ({PATH_RULE})") from None


def _check_columns(columns: Sequence[str], existing: Sequence[str], location: str) -> None:
    for column in columns:
        if column not in existing:
            names = ", ".join(map(repr, existing)) or "none"
            raise UserError(f"{location}: expected a column {column!r}, found {names}")


def _select_texts(location: str, row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    texts = tuple(row[column] for column in columns)
    for column, text in zip(columns, texts, strict=True):
        if not isinstance(text, str):
            raise UserError(f"{location}: column {column!r}: expected text, found {text!r:.80}")
        try:
            text.encode()  # JSON can contain half of a surrogate pair
        except UnicodeError:
            raise UserError(f"{location}: column {column!r}: not text that UTF-8 can encode") from None
    return texts


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read (location for errors, row) of every row; skip empty lines."""
    if path.suffix == ".parquet":
        yield from _read_parquet(path, columns)
    elif path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
        try:
            _check_columns(columns, table.fieldnames or (), f"{path}, line 1")
            for row in table:
                if None in row:
                    raise UserError(f"{path}, line {table.line_num}: more fields than columns: quote texts with commas")
                yield f"{path}, line {table.line_num}", row
        except csv.Error as error:
            raise UserError(f"{path}: not valid CSV: {error}") from None
    else:
        for n, line in enumerate(io.StringIO(_read_text(path)), 1):
            if not line.strip():
                continue
            location = f"{path}, line {n}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{location}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                example = json.dumps(dict.fromkeys(columns, "..."))
                raise UserError(f"{location}: expected an object, as in {example}")
            _check_columns(columns, list(row), location)
            yield location, row


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(path.read_bytes()))
        _check_columns(columns, file.schema_arrow.names, str(path))
        rows = file.read(columns=list(columns)).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: corrupt, or not a Parquet file: {' '.join(str(error).split())[:200]}") from None
    except OSError as error:
        raise UserError(f"{path.absolute()}: {error.strerror or error} ({PATH_RULE})") from None
    for n, row in enumerate(rows, 1):
        yield f"{path}, row {n}", row
