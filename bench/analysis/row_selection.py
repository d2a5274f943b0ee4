"""Find measured rows by the name of their recipe, their hash, or one of their files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.analysis.result_files import HASH_DIGITS, read_results
from bench.analysis.result_schema import ExperimentResults
from bench.config.changes import label_row
from bench.config.schema import clip_line
from bench.errors import UserError

__all__ = ["describe_row", "find_rows", "refuse_several", "select_row", "select_rows"]

HASH = re.compile(r"[0-9a-f]{6,12}")


def find_rows(name: str, folders: Sequence[Path]) -> list[ExperimentResults]:
    """Return the rows of a recipe, or the row of a hash, in the first of `folders` that has one.

    Args:
        name: a recipe, the path of its YAML file or of a result file, or a hash, of which six digits will do.
        folders: results folders.
    """
    path = Path(name)
    if path.suffix == ".json" and HASH.match(path.name):
        name = path.name[:HASH_DIGITS]
        folders = [path.parent.parent]
    for folder in folders:
        rows, _ = read_results(folder)
        chosen = [row for row in rows if row.name == path.stem or (HASH.fullmatch(name) and row.hash.startswith(name))]
        if chosen:
            return chosen
    return []


def select_rows(names: Sequence[str], folders: Sequence[Path], flag: str) -> list[ExperimentResults]:
    """Return the rows of all names, each once, in their order; arguments as for `find_rows`.

    Raises:
        UserError: no folder holds a row of a name.
    """
    rows: dict[str, ExperimentResults] = {}
    for name in names:
        chosen = find_rows(name, folders)
        if not chosen:
            known = sorted({row.name for folder in folders for row in read_results(folder)[0]})
            there = f"there are {clip_line(', '.join(known))}" if known else "there are none"
            places = " or ".join(map(str, folders))
            raise UserError(f"{flag} {clip_line(name, 80)}: no row of this recipe or hash in {places}; {there}")
        rows |= {row.hash: row for row in chosen}
    return list(rows.values())


def select_row(name: str, folders: Sequence[Path], flag: str) -> ExperimentResults:
    """Return the one row of a name: of several rows of a recipe the one without changes.

    Raises:
        UserError: no folder holds such a row, or the name stands for several.
    """
    rows = select_rows([name], folders, flag)
    own = rows if len(rows) == 1 else [row for row in rows if not row.registered.changes]
    if len(own) != 1:
        raise refuse_several(flag, name, list(map(describe_row, rows)))
    return own[0]


def refuse_several(flag: str, name: str, labels: Sequence[str]) -> UserError:
    """Return the error of a name that stands for several rows."""
    return UserError(
        f"{flag} {clip_line(name, 80)}: {len(labels)} rows have this name; name a hash: {'; '.join(labels)}"
    )


def describe_row(row: ExperimentResults) -> str:
    """Return the label and the hash of a row."""
    return f"{label_row(row.name, row.registered.changes)} ({row.hash})"
