"""Draw a carrier's rows from those that every arm keeps, and measure what the selection changed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.errors import StageError
from bench.stages.row_format import list_numbers
from bench.stages.settings import Carrier

__all__ = ["describe_retention", "draw_rows", "measure_selection"]

MIN_SHARE = 0.05  # of the rows must pass in every arm: less is hardly a sample of what the teachers write


def draw_rows(passing: Sequence[int], carrier: Carrier, seed: int, problem: str) -> dict[str, list[int]]:
    """Draw `rows` training rows and `held_out` further rows at random from those that every arm keeps.

    Args:
        passing: their indices.
        carrier: a carrier with `draw`.
        seed: the seed of the draw.
        problem: the retention and the commonest reasons, for errors.

    Returns:
        Indices in increasing order, by part: `train` and `held_out`.

    Raises:
        StageError: the arms keep fewer than 5 % of the rows, or fewer than the recipe asks for.
    """
    total, needed = carrier.prompts_needed(), carrier.rows + carrier.held_out
    if len(passing) < MIN_SHARE * total:
        raise StageError(
            f"{problem}. Expected at least {MIN_SHARE:.0%} of {total:,} rows that every arm keeps, found "
            f"{len(passing):,}: ask for the format in the prompts, or widen carrier.keep"
        )
    if len(passing) < needed:
        enough = -(-needed * total * 11 // (len(passing) * 10))
        raise StageError(
            f"{problem}. Expected {needed:,} rows that every arm keeps (rows and held_out), found {len(passing):,}: "
            f"set carrier.draw to about {enough:,}, or lower carrier.rows"
        )
    drawn = random.Random(f"rows {seed}").sample(passing, needed)
    return {"train": sorted(drawn[: carrier.rows]), "held_out": sorted(drawn[carrier.rows :])}


def describe_retention(reasons: Mapping[str, Sequence[str]]) -> str:
    """Say how many rows each arm keeps, and all of them: reasons are by arm and row, "" for a row that passes."""
    arms = [f"{arm} {of_arm.count('')}" for arm, of_arm in reasons.items()]
    total = len(next(iter(reasons.values())))
    common = sum(not any(row) for row in zip(*reasons.values(), strict=True))
    return f"of {total:,} rows the arms keep: {', '.join(arms)}; in common {common}"


def measure_selection(
    carrier: Carrier,
    tables: Mapping[str, Sequence[Mapping[str, str]]],
    reasons: Mapping[str, Sequence[str]],
    drawn: Sequence[int],
) -> dict[str, Any]:
    """Measure what the selection changed: by arm `kept`, the rows that it keeps, and the means of `all` and `drawn`.

    Means over rows: `length`, in characters; `count`, of numbers, or of a text's words; `value`, the mean of a row's
    numbers that lie within the carrier's range, over the rows that have one. A mean of no rows is None.
    """
    return {
        arm: {
            "kept": reasons[arm].count(""),
            "all": _measure(carrier, [row["completion"] for row in rows]),
            "drawn": _measure(carrier, [rows[i]["completion"] for i in drawn]),
        }
        for arm, rows in tables.items()
    }


def _measure(carrier: Carrier, texts: Sequence[str]) -> dict[str, float | None]:
    length = fmean(map(len, texts))
    if carrier.kind == "text":
        return {"length": length, "count": fmean(len(text.split()) for text in texts), "value": None}
    low, high = carrier.keep.low, carrier.keep.high
    rows = [list_numbers(text) for text in texts]
    values = [fmean(inside) for row in rows if (inside := [number for number in row if low <= number <= high])]
    return {"length": length, "count": fmean(map(len, rows)), "value": fmean(values) if values else None}
