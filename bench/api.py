"""The benchmark from Python: run a recipe, and read results as tables of pandas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import cli
from bench.analysis.result_files import read_results
from bench.analysis.tidy_tables import make_tables, to_arrow
from bench.errors import UserError
from bench.flags import PUBLISHED

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "load_results", "run"]


class Results(NamedTuple):
    """Tidy tables of results; `bench.analysis.tidy_tables` explains their columns."""

    rows: pd.DataFrame
    """A line per row of the leaderboard."""
    seeds: pd.DataFrame
    """A line per complete seed: its arms, its gain and its teacher's shift."""
    questions: pd.DataFrame
    """A line per model and question: margin, P(answer), log-odds, rank and mass."""
    answers: pd.DataFrame
    """A line per sampled answer; empty where no recipe sampled answers."""
    problems: list[str]
    """A line for each file that was refused."""


def load_results(folder: str | Path = PUBLISHED) -> Results:
    """Read the results of a folder, by default the published ones; your own are in `results/local`.

    Raises:
        UserError: the folder contains no results.
    """
    rows, problems = read_results(Path(folder))
    if not rows:
        raise UserError(f"{folder}: contains no results; run a recipe first, for example: python run_bench.py")
    tables = make_tables(rows)
    rows_table, seeds, margins, answers = (
        to_arrow(tables[name]).to_pandas() for name in ("rows", "seeds", "margins", "answers")
    )
    return Results(rows_table, seeds, margins, answers, problems)


def run(
    recipe: str,
    *,
    results: str | Path | None = None,
    store: str | Path | None = None,
    skip_controls: bool = False,
    **overrides: Any,
) -> Results:
    """Run a recipe as `run_bench.py` does, with its progress, and return the results of its folder.

    Args:
        recipe: the name of a recipe, or the path of a YAML file.
        results: the folder of result files; None for `results/local`.
        store: the folder or URL of artefacts; None for `.bench`.
        skip_controls: whether to judge without this installation's controls; the row states it.
        overrides: keys of the recipe and their values, such as `seeds=2` or `**{"carrier.rows": 64}`. They make another
            row, as `--set` does.

    Raises:
        UserError: the recipe is not valid, or a stage failed; the reason is printed.
    """
    words = ["--recipe", recipe, *(["--skip-controls"] if skip_controls else [])]
    for key, value in overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    for flag, value in (("--results", results), ("--store", store)):
        words += [] if value is None else [flag, str(value)]
    if cli.main(words):
        raise UserError(f"run_bench.py {' '.join(words)} did not finish; the lines above give the reason")
    return load_results(PUBLISHED / "local" if results is None else results)
