"""Write the report site: `report/index.html`, a page for each row, and the data of their browsers.

The site needs no network and no server. Unchanged pages are not written again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text, table_cells
from bench.analysis.leaderboard import Board, build_leaderboard
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import expected_false_transfers
from bench.errors import UserError
from bench.figures.paper import CAPTIONS, MOST, write_figures
from bench.files import digest, write_atomically
from bench.pipeline.store import Store
from bench.report.answers import write_answers
from bench.report.carriers import find_carriers, write_carriers
from bench.report.row_page import describe_row

__all__ = ["Report", "write_report"]

COLUMNS = (
    *("recipe", "verdict", "gain [95 % CI]", "P(answer)", "seeds", "relation", "teacher -> student"),
    *("trait", "carrier", "visibility", "teacher shift", "p", "q"),
)
# The numbers by which columns are sorted; other columns are sorted by their text.
NUMBERS = {"gain [95 % CI]": "gain", "teacher shift": "teacher_shift", "p": "p", "q": "q", "seeds": "seeds"}
HERE = Path(__file__).parent
BUILT = "built.txt"  # the inputs of the last site, as JSON; a .json file would be read as a result


class Report(NamedTuple):
    """A site that is written."""

    page: Path
    """Its first page."""
    problems: list[str]
    """One line for each result file that was refused."""


def write_report(results: Path, store: Store) -> Report:
    """Write the leaderboard, the figures and the site of the results under `results`.

    Args:
        results: a folder of result files.
        store: where carrier rows are read from, if it still has them.

    Raises:
        UserError: `results` contains no results, or matplotlib is not installed.
    """
    folder = results / "report"
    inputs = _inputs(results, store)
    built = _read_built(folder)
    if built.get("inputs") == inputs and built.get("leaderboard") == _stamp_leaderboard(results):
        return Report(folder / "index.html", built["problems"])
    figures: list[Path] = []

    def draw(made: Board) -> None:
        if not made.rows:
            raise UserError(f"{results}: contains no results; run a recipe first, for example: python run_bench.py")
        figures.extend(write_figures(results / "figures", made.rows, made.entries))

    rows, board, problems = build_leaderboard(results, draw)
    pages = Environment(
        loader=PackageLoader("bench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    for path in sorted((HERE / "static").iterdir()):
        write_atomically(folder / path.name, path.read_bytes())
    states = {}
    for row, entry in zip(rows, board, strict=True):
        carriers = find_carriers(row, store)
        states[row.hash] = _row_state(results, entry, [str(files.filtering) for files in carriers.values()])
        if built.get("rows", {}).get(row.hash) != states[row.hash]:
            _write_row(folder, pages, row, entry, carriers, store)
    _remove_old(folder, set(states))
    tests, expected = expected_false_transfers(board)
    has_rates = any(entry.outcome == "rate" for entry in board)
    page = pages.get_template("board.html").render(
        columns=COLUMNS,
        lines=[_board_line(entry, has_rates) for entry in board],
        has_rates=has_rates,
        tests=tests,
        expected=expected,
        most=MOST if len(board) > MOST else None,
        figures=[(path.stem, CAPTIONS[path.stem.partition("_")[0]]) for path in figures if path.suffix == ".svg"],
    )
    write_atomically(folder / "index.html", page)
    facts = {"inputs": inputs, "leaderboard": _stamp_leaderboard(results), "problems": problems, "rows": states}
    write_atomically(folder / BUILT, json.dumps(facts, indent=1))
    return Report(folder / "index.html", problems)


def _write_row(
    folder: Path,
    pages: Environment,
    row: ExperimentResults,
    entry: LeaderboardEntry,
    carriers: dict[int, Any],
    store: Store,
) -> None:
    data = folder / "data" / row.hash
    shutil.rmtree(data, ignore_errors=True)
    answers, rows = write_answers(row, data), write_carriers(carriers, data)
    page = pages.get_template("row.html").render(**describe_row(row, entry, store), answers=answers, carrier=rows)
    write_atomically(folder / "rows" / f"{row.hash}.html", page)


def _board_line(entry: LeaderboardEntry, has_rates: bool) -> dict[str, Any]:
    """Return the cells of a row as (text, value to sort by), and the words by which it is filtered."""
    texts = table_cells(entry)
    if has_rates and entry.outcome == "margin" and entry.gain is not None:  # rates stand in the same columns, in points
        texts |= {
            "gain [95 % CI]": gain_text(entry.gain_estimate(), unit=" nats"),
            "teacher shift": f"{texts['teacher shift']} nats",
        }
    values = {column: getattr(entry, field) for column, field in NUMBERS.items()}
    return {
        "hash": entry.recipe_hash,
        "verdict": entry.verdict,
        "is_leak": entry.is_leak,
        "cells": [(column, texts[column], values.get(column, texts[column])) for column in COLUMNS],
        "reason": entry.verdict_reason,
    }


def _inputs(results: Path, store: Store) -> str:
    """Digest the sizes and times of all result files, of the code, and the names of the store's artefacts."""
    code = [path for path in sorted(HERE.parent.rglob("*.*")) if "__pycache__" not in path.parts]
    paths = [*sorted(results.glob("*/*.json"), key=str), results / "registry.jsonl", *code]
    paths += sorted(path for part in ("replications", "archive") for path in (results / part).glob("**/*.json*"))
    facts = [(str(path), *_stamp(path)) for path in paths]
    artefacts = store.root / "artefacts"
    return digest([facts, sorted(path.name for path in artefacts.iterdir()) if artefacts.is_dir() else []])


def _stamp_leaderboard(results: Path) -> list[list[int]]:
    return [list(_stamp(results / name)) for name in ("LEADERBOARD.md", "leaderboard.json")]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _row_state(results: Path, entry: LeaderboardEntry, carriers: Sequence[str]) -> str:
    files = [(path.name, *_stamp(path)) for path in sorted((results / entry.recipe).glob(f"{entry.recipe_hash}*"))]
    code = [(path.name, *_stamp(path)) for path in sorted(HERE.rglob("*.*")) if path.suffix != ".pyc"]
    return digest([files, carriers, code, entry.model_dump(mode="json")])


def _read_built(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / BUILT).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _remove_old(folder: Path, hashes: set[str]) -> None:
    """Remove the pages and data of rows that are gone."""
    for path in (folder / "rows").glob("*.html"):
        if path.stem not in hashes:
            path.unlink()
    for path in (folder / "data").glob("*"):
        if path.name not in hashes:
            shutil.rmtree(path, ignore_errors=True)
