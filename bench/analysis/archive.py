"""Move rows to the archive of their results folder, `<results>/archive/`, where no board counts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.analysis.replications import FOLDER as REPLICATIONS
from bench.analysis.row_selection import describe_row, select_rows
from bench.errors import UserError
from bench.files import exclusive_lock

__all__ = ["FOLDER", "archive_rows", "list_archived"]

FOLDER = "archive"


def archive_rows(names: Sequence[str], results: Path) -> list[str]:
    """Move the files of rows and of their replications to the archive. Return a line for each row.

    Registrations stay. A path in the archive is the path in the results folder.

    Args:
        names: recipes (all their rows), hashes, or paths of result files.
        results: the results folder.

    Raises:
        UserError: there is no such row, or the archive holds one; nothing is moved.
    """
    with exclusive_lock(results):
        rows = select_rows(names, [results], "--archive")
        folders = [results, *sorted((results / REPLICATIONS).glob("*/"))]
        moves = [
            (path, results / FOLDER / path.relative_to(results))
            for row in rows
            for folder in folders
            for path in sorted((folder / row.name).glob(f"{row.hash}*"))
        ]
        if taken := [target for _, target in moves if target.exists()]:
            raise UserError(f"--archive: {taken[0]} exists; move the archived row away first. Nothing was moved")
        for path, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    return [f"Archived {describe_row(row)} in {results / FOLDER / row.name}" for row in rows]


def list_archived(results: Path) -> set[str]:
    """Return the hashes of the rows in the archive."""
    return {path.name.partition(".")[0] for path in (results / FOLDER).glob("*/*.recipe.json")}
