"""The carrier of a row: what its teachers wrote to the same prompts, where they part, and what was refused.

Result files hold no carrier rows. They are read from the store, where it still has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.result_schema import ExperimentResults
from bench.pipeline.store import Store
from bench.report.data_pages import PART_ROWS, write_parts
from bench.stages.carriers import read_rows

__all__ = ["CarrierFiles", "find_carriers", "parting", "write_carriers"]

SHOWN = 10 * PART_ROWS  # rows of one seed that a page shows
TEXT_LIMIT = 2000  # characters of one text
UNIT = re.compile(r"\d+|[^\W\d_]+|\s+|.", re.DOTALL)  # a number, a word, spaces, or one sign


class CarrierFiles(NamedTuple):
    """The artefacts of one seed's carrier."""

    rows: Mapping[str, Path]
    """Arm -> the folder of its teacher's rows: base and the trait arm."""
    filtering: Path
    """The folder of the filter."""


def find_carriers(row: ExperimentResults, store: Store) -> dict[int, CarrierFiles]:
    """Find the carriers of each seed that the store still has, by the inputs of the students' trainings."""
    trait = row.trait_arms()[0].student
    carriers = {}
    for seed, cells in sorted(row.cells.items()):
        keys: dict[str, dict[str, str]] = {}
        for arm in ("base", trait):
            trained = cells[arm].manifest.artefacts.get("trained") if arm in cells else None
            if trained and store.is_done(trained):
                keys[arm] = store.record(trained).get("inputs", {})
        if len(keys) < 2 or any({"carrier", "kept"} - inputs.keys() for inputs in keys.values()):
            continue
        rows = {arm: store.path(inputs["carrier"]) for arm, inputs in keys.items()}
        filtering = store.path(keys["base"]["kept"])
        if all((folder / "rows.jsonl").is_file() for folder in rows.values()) and filtering.is_dir():
            carriers[seed] = CarrierFiles(rows, filtering)
    return carriers


def parting(first: str, second: str) -> int | None:
    """Return the position of the first number, word or sign that differs between two texts; None for equal texts."""
    position = 0
    for one, other in zip(UNIT.findall(first), UNIT.findall(second), strict=False):
        if one != other:
            return position
        position += len(one)
    return None if first == second else position


def write_carriers(carriers: Mapping[int, CarrierFiles], folder: Path) -> dict[str, Any]:
    """Write the rows of the first seed as parts `carriers_<n>`, and return what the page needs to load them.

    A record is [prompt, base completion, trait completion, position where they part, use, reason by arm]. `use` is
    `train`, `held_out` or `refused`.
    """
    if not carriers:
        return {"parts": 0, "records": 0}
    seed, files = next(iter(carriers.items()))
    tables = {arm: read_rows(path) for arm, path in files.rows.items()}
    uses = _read_uses(files.filtering, len(next(iter(tables.values()))))
    reasons = _read_reasons(files.filtering)
    base, trait = (tables[arm] for arm in files.rows)
    records = []
    for at, (one, other) in enumerate(zip(base, trait, strict=True)):
        by_arm = {arm: listed[at] for arm, listed in reasons.items() if listed[at]}
        texts = [text[:TEXT_LIMIT] for text in (one["prompt"], one["completion"], other["completion"])]
        records.append([*texts, parting(one["completion"], other["completion"]), uses[at], by_arm])
    refused = [record for record in records if record[4] == "refused"]
    shown = [*refused[: SHOWN // 2], *[record for record in records if record[4] != "refused"]][:SHOWN]
    equal = sum(record[3] is None for record in records)
    facts = {"seed": seed, "rows": len(records), "equal": equal, "refused": len(refused), "arms": list(files.rows)}
    return {**facts, "records": len(shown), "parts": write_parts(folder, "carriers", shown)}


def _read_uses(filtering: Path, rows: int) -> list[str]:
    indices = json.loads((filtering / "kept.json").read_text(encoding="utf-8"))
    uses = ["refused"] * rows
    for part in ("train", "held_out"):
        for index in indices[part]:
            uses[index] = part
    return uses


def _read_reasons(filtering: Path) -> dict[str, Sequence[str]]:
    path = filtering / "reasons.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
