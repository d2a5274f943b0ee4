"""Results -> `LEADERBOARD.md` and `leaderboard.json`: a pure function of the files. Imports no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bench.results import Row, read_all
from bench.stats import mean_interval
from bench.store import write_atomically

__all__ = ["build", "record"]

HEAD = """# Leaderboard

How much more of the teacher's trait does a student show when its data came from the teacher **with** the trait
(`trait`) than when the same data came from the same teacher **without** it (`base`)? Readings are margins in nats:
log-probability of the ground-truth answer minus the mean over its foils. **Gain** = trait - base, paired by seed,
with a 95 % t interval over seeds. An interval that holds 0 is no evidence of transfer.

"""
FOOT = """
`untrained` is the student as shipped: the control moves too, so never read trait - untrained. Teacher shift is
what the teacher itself learnt: its margin with the trait minus without. `relation` says how the student's initial weights
relate to those the teacher started from, found from the files. Every row is conditional on the checkpoints it names;
`tiny` builds another one per seed. Made by `python run_bench.py --leaderboard` from the files in this folder.
"""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def record(row: Row) -> dict[str, Any]:
    """The leaderboard's entry for one experiment, from its per-question readings."""
    recipe = row.experiment["recipe"]
    margins = {
        seed: {arm: _mean(cell["reading"]["margins"]) for arm, cell in arms.items()} for seed, arms in sorted(row.cells.items())
    }
    paired = [m for m in margins.values() if {"base", "trait"} <= m.keys()]
    taught = [m for m in margins.values() if {"teacher", "teacher_base"} <= m.keys()]
    gain = mean_interval([m["trait"] - m["base"] for m in paired]) if paired else None

    def over(arm: str) -> float | None:
        values = [m[arm] for m in margins.values() if arm in m]
        return _mean(values) if values else None

    contents = [cell for arms in row.cells.values() for cell in arms.values()]
    relations = sorted({c["relation"]["relation"] for c in contents})
    return {
        "recipe": row.name,
        "recipe_hash": row.hash,
        "trait": recipe["trait"],
        "carrier": recipe["carrier"]["kind"],
        "teacher": recipe["teacher"]["model"],
        "student": recipe["student"]["model"],
        "relation": " / ".join(relations) or None,
        "visibility": "text",
        "seeds": len(paired),
        "seeds_registered": recipe["seeds"],
        "untrained": over("untrained"),
        "base": over("base"),
        "trait_arm": over("trait"),
        "gain": gain.mean if gain else None,
        "ci_low": gain.low if gain and not math.isnan(gain.low) else None,
        "ci_high": gain.high if gain and not math.isnan(gain.high) else None,
        "teacher_shift": _mean([m["teacher"] - m["teacher_base"] for m in taught]) if taught else None,
        "commit": "+".join(sorted({commit for c in contents for commit in c["manifest"]["commits"]})) or None,
    }


def signed(value: float | None, digits: int = 3) -> str:
    """A margin or a gain as the tables show it: +0.021, with a dash where there is none."""
    return "-" if value is None else f"{value:+.{digits}f}"


def gain_text(entry: dict[str, Any]) -> str:
    """A gain with its interval: +0.021 [+0.010, +0.032]."""
    if entry["ci_low"] is None:
        return signed(entry["gain"], 4) + (" [one seed: no interval]" if entry["seeds"] == 1 else "")
    return f"{entry['gain']:+.4f} [{entry['ci_low']:+.4f}, {entry['ci_high']:+.4f}]"


def build(folder: Path) -> list[str]:
    """Write both leaderboard files into `folder`; returns a line for each result file that was refused."""
    from tabulate import tabulate

    rows, refused = read_all(folder)
    entries = [record(row) for row in rows]
    table = [
        {
            "recipe": e["recipe"],
            "teacher -> student": f"{e['teacher']} -> {e['student']}",
            "relation": e["relation"] or "-",
            "trait": e["trait"],
            "carrier": e["carrier"],
            "seeds": str(e["seeds"]) + ("" if e["seeds"] == e["seeds_registered"] else f" of {e['seeds_registered']}"),
            "untrained": signed(e["untrained"]),
            "base": signed(e["base"]),
            "trait arm": signed(e["trait_arm"]),
            "gain [95 % CI]": gain_text(e),
            "teacher shift": signed(e["teacher_shift"], 2),
            "hash": e["recipe_hash"],
            "commit": e["commit"] or "-",
        }
        for e in entries
    ]
    shown = tabulate(table, headers="keys", tablefmt="github", disable_numparse=True) if table else "No results yet."
    write_atomically(folder / "LEADERBOARD.md", HEAD + shown + "\n" + FOOT)
    write_atomically(folder / "leaderboard.json", json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
    return refused
