"""The facts of one row's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import (
    change_text,
    difference_p_text,
    gain_text,
    interval_text,
    matrix_texts,
    measure_text,
    p_text,
    percent_text,
    ratio_text,
    reading_text,
    score_text,
    table_cells,
)
from bench.analysis.gates import Gate
from bench.analysis.number_text import percentage, signed
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.config.arms import CONTRASTS, MAIN_ARMS
from bench.config.changes import write_command
from bench.config.outcome import name_metric
from bench.config.recipe_files import FOLDER, read_recipe_layers
from bench.config.sweep import write_assignments
from bench.config.yaml_files import merge_layers
from bench.pipeline.store import Store
from bench.report.row_charts import draw_row, draw_training

__all__ = ["describe_row"]


def describe_row(row: ExperimentResults, entry: LeaderboardEntry, store: Store) -> dict[str, Any]:
    """Return the values of a row's template. Every text is plain, and every chart is SVG.

    Training curves are read from the store, if it still has the students.
    """
    cells = [cell for arms in row.cells.values() for cell in arms.values()]
    return {
        "entry": entry,
        "cells": {**table_cells(entry), "gain [95 % CI]": gain_text(entry.gain_estimate(), unit=f" {entry.unit}")},
        "gates": [_describe_gate(gate) for gate in entry.gates],
        "mitigations": [
            {
                "arm": arm,
                "effect": gain_text(mitigation.effect, entry.outcome),
                "share": ratio_text(mitigation.share),
                "data": ratio_text(mitigation.data),
                "p": difference_p_text(mitigation.effect),
            }
            for arm, mitigation in entry.mitigations.items()
        ],
        "contrasts": [
            {
                "name": name,
                "gain": gain_text(value, entry.outcome),
                "p": difference_p_text(value),
                "claim": CONTRASTS[name].claim,
            }
            for name, value in entry.contrasts.items()
            if name in CONTRASTS
        ],
        "matrix": _describe_matrix(entry),
        "metrics": _list_metrics(entry),
        "measures": _list_measures(entry),
        "charts": {**draw_row(row, entry, compute_seed_statistics(row)), **draw_training(row, store)},
        "leaks": _list_refusals(row),
        "audits": [{"arm": arm, "area": score_text(area)} for arm, area in entry.audits.items()],
        "hardware": sorted({cell.manifest.hardware for cell in cells}),
        "versions": dict(sorted({item for cell in cells for item in cell.manifest.versions.items()})),
        "checkpoints": {
            role: ", ".join(f"{key} {value}" for key, value in sorted(facts.items()))
            for role, facts in (cells[0].manifest.checkpoints if cells else {}).items()
        },
        "command": _write_command(row),
        "recipe_text": yaml.safe_dump(
            row.recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=100
        ),
    }


def _write_command(row: ExperimentResults) -> str:
    """Return the command that makes a row, with the keys in which it differs from the file of its recipe."""
    changes = dict(row.registered.changes)
    seeds = changes.pop("seeds", None)
    if _has_sweep(row.name):  # the values of the row are among the changes, or those of the file
        changes["sweep"] = None
    return write_command(row.name, write_assignments(changes), seeds)


def _has_sweep(recipe: str) -> bool:
    path = FOLDER / f"{recipe}.yaml"
    return path.is_file() and bool(merge_layers(read_recipe_layers(path)).get("sweep"))


def _describe_gate(gate: Gate) -> dict[str, str]:
    state = {True: "passed", False: "failed", None: "skipped"}[gate.passed]
    seeds = f" (seeds {', '.join(map(str, gate.failed_seeds))})" if gate.failed_seeds else ""
    return {"name": gate.name, "state": state, "reading": reading_text(gate), "threshold": f"{gate.threshold}{seeds}"}


def _describe_matrix(entry: LeaderboardEntry) -> dict[str, Any] | None:
    """Return the heads and lines of the trait x probe table, and its excess; None for a row of one trait."""
    if (matrix := entry.matrix) is None:
        return None
    lines = [
        dict(zip(("", *matrix.traits), (name, *texts), strict=True))
        for name, texts in zip(matrix.traits, matrix_texts(matrix), strict=True)
    ]
    heads = ["trait taught", *(f"asked: {probe}" for probe in matrix.traits)]
    return {"heads": heads, "lines": lines, "excess": gain_text(matrix.excess), "p": difference_p_text(matrix.excess)}


def _list_metrics(entry: LeaderboardEntry) -> list[dict[str, str]]:
    """Return the mean scores of free answers by metric and arm."""
    return [
        {
            "metric": name_metric(metric),
            **{arm: score_text(scores.arms().get(arm)) for arm in MAIN_ARMS},
            "gain": gain_text(scores.gain),
            "p": difference_p_text(scores.gain),
        }
        for metric, scores in entry.metrics.items()
    ]


def _list_measures(entry: LeaderboardEntry) -> list[dict[str, str]]:
    """Return further measures of the row as (name, value) lines."""
    unit = ", nats" if entry.outcome == "margin" else ""  # a rate has its unit beside the number
    lines = {
        **{f"gain by {name}": measure_text(gain, name) for name, gain in entry.gains.items()},
        f"teacher shift{unit}": change_text(entry.teacher_shift, entry.outcome),
        "gain / teacher shift": "-" if entry.fraction is None else percentage(entry.fraction),
        f"interval of the gain for questions like these{unit}": interval_text(
            entry.population_low, entry.population_high, entry.outcome
        ),
        "questions with a gain above 0": percent_text(entry.gaining),
        f"smallest gain that these seeds show{unit}": change_text(entry.detectable, entry.outcome),
        "p of Johnson's t": p_text(entry.johnson_p),
        "skewness of the gains": signed(entry.skewness, 2),
        f"gain per doubling of the updates{unit}": gain_text(entry.dose_slope, entry.outcome),
        "broken format, trait - base": percent_text(entry.format_refusals),
        **{f"verdict with {name}": verdict for name, verdict in entry.sensitivity.items()},
    }
    return [{"name": name, "value": value} for name, value in lines.items() if value != "-"]


def _list_refusals(row: ExperimentResults) -> list[dict[str, Any]]:
    """Return one line for each arm with rows that the leak filter or the format check refused, over all seeds."""
    totals: dict[tuple[str, str, str], int] = {}
    total_rows = 0
    for arms in row.cells.values():
        carrier = next(iter(arms.values())).manifest.carrier
        total_rows += carrier.rows
        kinds: dict[str, Mapping[str, Mapping[str, int]]] = {
            "leak": carrier.refused,
            "format": carrier.format_refused,
        }
        for kind, by_arm in kinds.items():
            for arm, reasons in by_arm.items():
                for reason, count in reasons.items():
                    totals[kind, arm, reason] = totals.get((kind, arm, reason), 0) + count
    return [
        {"kind": kind, "arm": arm, "reason": reason, "rows": count, "share": percentage(count / total_rows)}
        for (kind, arm, reason), count in sorted(totals.items())
    ]
