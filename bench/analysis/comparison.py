"""Rows side by side: the keys in which they differ as columns, with their gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import markdown_table, table_cells
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.summary import summarise
from bench.config.changes import flatten, name_key, value_text
from bench.errors import UserError

__all__ = ["ComparedRow", "compare_rows", "list_varied_keys", "render_comparison"]

COLUMNS = ("seeds", "base", "trait arm", "gain [95 % CI]", "P(answer)", "teacher shift", "verdict", "p", "hash")


class ComparedRow(NamedTuple):
    """One row of a comparison."""

    entry: LeaderboardEntry
    keys: dict[str, Any]
    """The keys in which the rows differ, by dotted name."""
    gains: list[float]
    """The gain of each complete seed, in the unit of the outcome."""


def compare_rows(rows: Sequence[ExperimentResults]) -> list[ComparedRow]:
    """Compare rows, sorted by the keys in which they differ.

    Raises:
        UserError: there are fewer than two rows, or their outcomes have different units.
    """
    if len(rows) < 2:
        texts = ", ".join(f"{row.name} {row.hash}" for row in rows)
        raise UserError(f"--compare: expected two rows or more, found {texts}; run a sweep, or name further rows")
    if len({row.recipe.outcome for row in rows}) > 1:
        texts = ", ".join(f"{row.name} {row.hash} {row.recipe.outcome}" for row in rows)
        raise UserError(f"--compare: expected rows of one outcome, found {texts}; name those of one")
    recipes = [dict(flatten(row.recipe.model_dump(mode="json"))) for row in rows]
    names = [name for name in _order(recipes) if len({repr(recipe.get(name)) for recipe in recipes}) > 1]
    compared = [
        ComparedRow(entry, {name: recipe.get(name) for name in names}, compute_seed_statistics(row).gains)
        for row, entry, recipe in zip(rows, summarise(rows), recipes, strict=True)
    ]
    return sorted(compared, key=lambda row: [_rank(value) for value in row.keys.values()])


def list_varied_keys(rows: Sequence[ComparedRow]) -> dict[str, list[Any]]:
    """Return the values of each key in which rows differ, each once, in the order of the rows."""
    values: dict[str, list[Any]] = {}
    for name in rows[0].keys:
        values[name] = []
        for row in rows:
            if row.keys[name] not in values[name]:
                values[name].append(row.keys[name])
    return values


def render_comparison(rows: Sequence[ComparedRow]) -> str:
    """Render the table of a comparison: a column for each key in which the rows differ, and their numbers."""
    several = len({row.entry.recipe for row in rows}) > 1
    lines = []
    for row in rows:
        cells = table_cells(row.entry)
        keys = {name_key(name): value_text(value) for name, value in row.keys.items()}
        recipe = {"recipe": row.entry.recipe} if several or not keys else {}
        lines.append({**recipe, **keys, **{name: cells[name] for name in COLUMNS}})
    return markdown_table(lines)


def _order(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of all keys, in the order of the schema."""
    return list(dict.fromkeys(name for recipe in recipes for name in recipe))


def _rank(value: Any) -> tuple[int, float, str]:
    """Return a key to sort values of any kind: missing ones, numbers, then texts."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))
