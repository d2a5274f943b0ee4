"""Replications: runs of a published row on other machines. They are shown next to the row and never join its seeds.

`<results>/replications/<chain>/` is a results folder of its own: the files of one machine's runs, and its registry.
The chain is that of the store that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.analysis.agreement import Agreement, compare_runs
from bench.analysis.entry import LeaderboardEntry
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import summarise_row

__all__ = ["FOLDER", "Replication", "read_replications"]

FOLDER = "replications"


class Replication(NamedTuple):
    """One replication of a row."""

    chain: str
    """The chain of its registry."""
    entry: LeaderboardEntry
    """Its own numbers and its own verdict."""
    agreement: Agreement | None
    """How it compares with the row; None where they have no model in common."""
    hardware: str
    """The processors and accelerators that evaluated it."""


def read_replications(folder: Path, rows: Sequence[ExperimentResults]) -> tuple[list[Replication], list[str]]:
    """Read the replications of rows in a results folder, by recipe, and a line for each fault.

    Args:
        folder: the results folder.
        rows: its own rows. A replication of no row is a fault.
    """
    published = {row.hash: row for row in rows}
    replications, problems = [], []
    for chain in sorted((folder / FOLDER).glob("*/")):
        others, faults = read_results(chain)
        problems += faults
        for other in others:
            if (row := published.get(other.hash)) is None:
                problems.append(f"{chain}: {other.name} {other.hash} replicates no row of {folder}")
                continue
            cells = [cell for arms in other.cells.values() for cell in arms.values()]
            hardware = ", ".join(sorted({cell.manifest.hardware for cell in cells}))
            replications.append(Replication(chain.name, summarise_row(other), compare_runs(other, row), hardware))
    return sorted(replications, key=lambda one: (one.entry.recipe, one.entry.recipe_hash, one.chain)), problems
