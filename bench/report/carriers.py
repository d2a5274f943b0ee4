"""The carrier of a row: the rows of both teachers side by side, with their first difference and the refusals.

Result files hold no carrier rows. They are read from the store, where it still has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.result_schema import ExperimentResults
from bench.pipeline.store import Store
from bench.report.data_pages import PART_ROWS, write_parts
from bench.stages.carriers import read_rows

__all__ = ["UNIT", "CarrierFiles", "CarrierRow", "find_carriers", "parting", "read_carrier", "write_carriers"]

SHOWN = 10 * PART_ROWS  # rows of one seed that a page shows
TEXT_LIMIT = 2000  # characters of one text
UNIT = re.compile(r"\d+|[^\W\d_]+|\s+|.", re.DOTALL)  # a number, a word, spaces, or one sign


class CarrierFiles(NamedTuple):
    """The artefacts of one seed's carrier."""

    rows: Mapping[str, Path]
    """Arm -> the folder of its teacher's rows: base and the trait arm."""
    filtering: Path
    """The folder of the filter."""


class CarrierRow(NamedTuple):
    """What both teachers wrote to one prompt."""

    prompt: str
    """The prompt."""
    base: str
    """The completion of the base teacher."""
    trait: str
    """The completion of the trait teacher."""
    parting: int | None
    """The position of the first number, word or sign that differs; None for equal completions."""
    use: str
    """`train`, `held_out`, `refused`, or `not drawn` for a row that passes and is left out."""
    reasons: dict[str, str]
    """The reason to refuse it, by the arm whose completion was refused; empty where the filter recorded none."""


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


def read_carrier(files: CarrierFiles) -> list[CarrierRow]:
    """Read the rows of one seed, in the order of its prompts."""
    base, trait = (read_rows(path) for path in files.rows.values())
    reasons = _read_reasons(files.filtering)
    uses = _read_uses(files.filtering, reasons, len(base))
    rows = []
    for at, (one, other) in enumerate(zip(base, trait, strict=True)):
        by_arm = {arm: of_arm[str(at)] for arm, of_arm in (reasons or {}).items() if str(at) in of_arm}
        texts = one["prompt"], one["completion"], other["completion"]
        rows.append(CarrierRow(*texts, parting(*texts[1:]), uses[at], by_arm))
    return rows


def write_carriers(carriers: Mapping[int, CarrierFiles], folder: Path) -> dict[str, Any]:
    """Write the rows of the first seed as parts `carriers_<n>`, and return the facts with which the page loads them.

    A record holds the fields of `CarrierRow`, its texts cut at `TEXT_LIMIT`. Half of the records at most are refused.
    """
    if not carriers:
        return {"parts": 0, "records": 0}
    seed, files = next(iter(carriers.items()))
    rows = read_carrier(files)
    refused = [row for row in rows if row.use == "refused"]
    shown = [*refused[: SHOWN // 2], *[row for row in rows if row.use != "refused"]][:SHOWN]
    records = [[*(text[:TEXT_LIMIT] for text in row[:3]), *row[3:]] for row in shown]
    equal = sum(row.parting is None for row in rows)
    facts = {"seed": seed, "rows": len(rows), "equal": equal, "refused": len(refused), "arms": list(files.rows)}
    return {**facts, "records": len(records), "parts": write_parts(folder, "carriers", records)}


def _read_uses(filtering: Path, reasons: Mapping[str, Mapping[str, str]] | None, rows: int) -> list[str]:
    """Return the use of each row: see `CarrierRow`."""
    indices = json.loads((filtering / "kept.json").read_text(encoding="utf-8"))
    refused = None if reasons is None else {int(at) for of_arm in reasons.values() for at in of_arm}
    uses = ["refused" if refused is None or at in refused else "not drawn" for at in range(rows)]
    for part in ("train", "held_out"):
        for index in indices[part]:
            uses[index] = part
    return uses


def _read_reasons(filtering: Path) -> dict[str, dict[str, str]] | None:
    """Read the reasons by arm and row; None for a filter that recorded none."""
    path = filtering / "reasons.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
