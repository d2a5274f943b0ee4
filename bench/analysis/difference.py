"""Why two recipes or rows have different hashes, and how their gains differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.entry_text import difference_p_text, gain_text, markdown_table
from bench.analysis.estimates import difference
from bench.analysis.number_text import signed
from bench.analysis.result_schema import ExperimentResults, RegisteredExperiment
from bench.analysis.row_selection import HASH, describe_row, find_rows, refuse_several
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.stats import mean
from bench.config.changes import flatten
from bench.config.outcome import UNITS
from bench.config.recipe_files import FOLDER, load_recipes
from bench.config.schema import clip_line
from bench.config.yaml_files import list_names
from bench.errors import UserError

__all__ = ["Side", "compare_gains", "compare_keys", "find_side"]

WIDTH = 60  # characters of a value
MEASURES = ("base", "trait", "gains", "shifts")  # of `SeedStatistics`
NAMES = {"base": "base", "trait": "trait arm", "gains": "gain", "shifts": "teacher shift"}


class Side(NamedTuple):
    """A recipe or a row of a comparison."""

    label: str
    """The changes to the recipe's file, and the hash."""
    hash: str
    experiment: RegisteredExperiment
    row: ExperimentResults | None
    """Its results; None where there are none."""


def find_side(name: str, folders: Sequence[Path]) -> Side:
    """Find a row by its hash or one of its files, or a recipe by its name or path, with its results.

    Args:
        name: the name, path or hash.
        folders: results folders; the first that holds the row counts.

    Raises:
        UserError: there is no such recipe or row, or the name stands for several.
    """
    is_row = bool(HASH.fullmatch(name)) or name.endswith(".json")
    if not is_row and (name.endswith((".yaml", ".yml")) or name in list_names(FOLDER)):
        experiments = load_recipes(name)
        if len(experiments) > 1:
            raise refuse_several("--diff", name, [f"{row.label} ({row.hash()})" for row in experiments])
        (own,) = experiments
        rows = find_rows(own.hash(), folders)
        experiment = RegisteredExperiment.model_validate(own.resolved())
        return Side(f"{own.label} ({own.hash()})", own.hash(), experiment, rows[0] if rows else None)
    rows = find_rows(name, folders)
    if not rows:
        folder_names = " or ".join(map(str, folders))
        raise UserError(f"--diff {clip_line(name, 80)}: no recipe, and no row in {folder_names}, has this name or hash")
    if len(rows) > 1:
        raise refuse_several("--diff", name, list(map(describe_row, rows)))
    return Side(describe_row(rows[0]), rows[0].hash, rows[0].registered.experiment, rows[0])


def compare_keys(a: Side, b: Side) -> str:
    """Return the keys in which two experiments differ, as a table; a sentence where there are none."""
    keys = [dict(_list_keys(side.experiment)) for side in (a, b)]
    names = [name for name in dict.fromkeys([*keys[0], *keys[1]]) if keys[0].get(name) != keys[1].get(name)]
    if not names:
        return f"{a.label} and {b.label} are the same experiment."
    lines = [{"key": name, "A": _value(keys[0].get(name)), "B": _value(keys[1].get(name))} for name in names]
    return f"A: {a.label}\nB: {b.label}\n\n{markdown_table(lines)}"


def _list_keys(experiment: RegisteredExperiment) -> Iterator[tuple[str, Any]]:
    """Iterate over the keys of a recipe, then over the contents of its traits' files and prompts."""
    yield from flatten(experiment.recipe.model_dump(mode="json"))
    for name, trait in experiment.named_traits().items():
        yield from flatten(trait.model_dump(mode="json"), f"trait {name}: " if name else "trait: ")
    yield "prompts (SHA-256)", experiment.prompts_sha256


def _value(value: Any) -> str:
    text = f"{len(value)} values: {value}" if isinstance(value, list) and len(value) > 4 else str(value)
    return "-" if value is None else clip_line(text, WIDTH).replace("|", "/")


def compare_gains(a: Side, b: Side) -> str:
    """Return outcomes and gains of two rows over the seeds that both have, and their differences, as a table.

    Raises:
        UserError: both were measured, and they have no seed in common.
    """
    missing = [side.label for side in (a, b) if side.row is None or not side.row.complete_seeds()]
    if missing or a.row is None or b.row is None:
        return f"Gains are compared where both were measured; no results of {' and '.join(missing)}."
    if a.row.recipe.outcome != b.row.recipe.outcome:
        return f"The gain of A is a {a.row.recipe.outcome}, that of B a {b.row.recipe.outcome}: they are not compared."
    seeds = [[arms["base"].seed for arms in row.complete_seeds()] for row in (a.row, b.row)]
    common = sorted(set(seeds[0]) & set(seeds[1]))
    if not common:
        texts = [f"{side.label} has {_span(of_side)}" for side, of_side in zip((a, b), seeds, strict=True)]
        raise UserError(f"--diff: no common seed: {', '.join(texts)}; run one of them on the other's seeds")
    statistics = [compute_seed_statistics(row) for row in (a.row, b.row)]
    lines, unit = [], UNITS[a.row.recipe.outcome]
    for measure in MEASURES:
        one, other = (
            [dict(zip(of_side, getattr(values, measure), strict=True))[seed] for seed in common]
            for of_side, values in zip(seeds, statistics, strict=True)
        )
        change = difference([x - y for x, y in zip(one, other, strict=True)])
        means = {"A": signed(mean(one)), "B": signed(mean(other))}
        p = difference_p_text(change)
        lines.append({unit: NAMES[measure], **means, "A - B [95 % CI]": gain_text(change), "p": p})
    note = (
        "" if a.row.questions == b.row.questions else "\nTheir questions differ, and with them what an outcome means."
    )
    return f"{markdown_table(lines)}\n\nPaired over {len(common)} common seeds ({_span(common)}).{note}"


def _span(seeds: Sequence[int]) -> str:
    return f"seeds {min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
