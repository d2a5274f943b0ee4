"""Leaderboard entries: one per registered experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.analysis.gates import Gate, check_gates
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.stats import Interval, diagonal_excess, hierarchical_bootstrap, mean_interval, sign_flip_p
from bench.analysis.verdict import Judgement, judge
from bench.config.traits import short_name

__all__ = ["summarise"]

VISIBILITY = {"sft": "text", "kd-carrier": "logits-carrier", "kd-full": "logits-full"}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def summarise(rows: Sequence[ExperimentResults]) -> list[dict[str, Any]]:
    """The leaderboard's entries: one per registered experiment. Rows of `logits-full` are judged apart."""
    statistics = {id(row): compute_seed_statistics(row) for row in rows}
    gates = {id(row): check_gates(row) for row in rows}
    judged: dict[int, Judgement] = {}
    for leaky in (False, True):
        table = [row for row in rows if (row.experiment["recipe"]["method"] == "kd-full") == leaky]
        bounds = [row.experiment["recipe"]["bound"] for row in table]
        keys = [id(row) for row in table]
        judged |= zip(keys, judge([statistics[k] for k in keys], [gates[k] for k in keys], bounds), strict=True)
    return [_entry(row, statistics[id(row)], gates[id(row)], judged[id(row)]) for row in rows]


def _entry(
    row: ExperimentResults, statistics: SeedStatistics, gates: Sequence[Gate], judged: Judgement
) -> dict[str, Any]:
    recipe = row.experiment["recipe"]
    contents = [cell for arms in row.cells.values() for cell in arms.values()]
    carriers = [cell["manifest"]["carrier"] for cell in contents]
    of_base = [arms["base"]["relation"] for arms in row.cells.values() if "base" in arms]
    relations = sorted({relation["relation"] for relation in of_base})
    gain = judged.gain or Interval(math.nan, math.nan, math.nan)
    fraction = judged.fraction or Interval(math.nan, math.nan, math.nan)
    bootstrap = hierarchical_bootstrap(statistics.questions) if len(statistics.questions) > 1 else gain
    aucs = [audit["probe"]["auc"] for audit in row.audits.values() if audit["probe"]["auc"] is not None]
    return {
        "recipe": row.name,
        "recipe_hash": row.hash,
        "trait": recipe["trait"] if isinstance(recipe["trait"], str) else ", ".join(recipe["trait"]),
        "carrier": recipe["carrier"]["kind"],
        "numbers": min((of["numbers"] for of in carriers if of.get("numbers")), default=None),
        "teacher": recipe["teacher"]["model"],
        "student": recipe["student"]["model"],
        "relation": " / ".join(relations) or None,
        "token_maps": " / ".join(sorted({relation["token_maps"] for relation in of_base})) or None,
        "method": recipe["method"],
        "visibility": VISIBILITY[recipe["method"]],
        "seeds": len(statistics.gains),
        "seeds_registered": recipe["seeds"],
        "untrained": _mean(statistics.untrained),
        "base": _mean(statistics.base),
        "trait_arm": _mean(statistics.trait),
        "gain": _known(gain.mean),
        "ci_low": _known(gain.low),
        "ci_high": _known(gain.high),
        "bootstrap_low": _known(bootstrap.low),
        "bootstrap_high": _known(bootstrap.high),
        "teacher_shift": _mean(statistics.shifts),
        "verdict": judged.verdict,
        "verdict_reason": judged.reason,
        "p": judged.p,
        "p_holm": judged.p_holm,
        "mde": judged.mde,
        "fraction": _known(fraction.mean),
        "fraction_low": _known(fraction.low),
        "fraction_high": _known(fraction.high),
        "gates": [gate._asdict() for gate in gates],
        "notes": _notes(row),
        "audit_auc": max(aucs, default=None),
        "audits": sorted(row.audits),
        "contrasts": {name: _contrast(values) for name, values in statistics.contrasts.items()},
        "dose": {str(step): _contrast(gains) for step, gains in statistics.dose.items() if gains},
        "groups": {group: _contrast(gains) for group, gains in statistics.groups.items() if gains},
        "metrics": {metric: _scores(of) for metric, of in statistics.scores.items()},
        "matrix": _matrix(statistics, recipe["trait"]) if statistics.matrix else None,
        "commit": "+".join(sorted({commit for c in contents for commit in c["manifest"]["commits"]})) or None,
    }


def _notes(row: ExperimentResults) -> list[str]:
    """Sentences on margins not read in float32 or as the teacher writes, and on noise that arms do not share."""
    cells = [(arm, cell["manifest"].get("margins_dtype")) for arms in row.cells.values() for arm, cell in arms.items()]
    teachers = [dtype for arm, dtype in cells if arm.startswith("teacher")]
    lower = sorted({dtype for arm, dtype in cells if dtype and not arm.startswith("teacher")} - {"float32"})
    notes = []
    if row.experiment["recipe"]["carrier"]["bf16"] and None in teachers:
        notes.append(
            "made before the teacher's shift was read in the precision in which it writes: it wrote in bfloat16 "
            "(`carrier.bf16`), and may have written with less of the trait than its shift says"
        )
    if lower:
        notes.append(
            f"margins were read in {', '.join(lower)}, which moves each by about .01 nats: weights are quantised, or "
            "memory did not hold them in float32"
        )
    trainings = [cell["manifest"]["training"] or {} for arms in row.cells.values() for cell in arms.values()]
    if not all(facts.get("shared_dropout", True) for facts in trainings):
        notes.append("dropout is not shared: completions differ in length between the arms, and with them the noise")
    return notes


def _contrast(values: Sequence[float]) -> dict[str, float | int | None]:
    mean, low, high = mean_interval(values)
    p = sign_flip_p(values).p if len(values) > 1 else None
    return {"seeds": len(values), "mean": mean, "ci_low": _known(low), "ci_high": _known(high), "p": p}


def _scores(of: dict[str, list[float]]) -> dict[str, dict[str, float | int | None]]:
    """One metric's means over seeds, by arm, and its gain paired by seed."""
    gains = [trait - base for trait, base in zip(of["trait"], of["base"], strict=True)]
    out = {arm: _contrast(values) for arm, values in of.items() if values}
    for found in out.values():
        del found["p"]  # of a score being 0: no question anyone asks
    return {**out, "gain": _contrast(gains)}


def _matrix(found: SeedStatistics, traits: Sequence[str]) -> dict[str, Any]:
    """Mean gains of a trait x probe matrix and its diagonal excess, with a t interval over seeds."""
    k, n = len(traits), len(found.matrix)
    gains = [[math.fsum(seed[i][j] for seed in found.matrix) / n for j in range(k)] for i in range(k)]
    excess, p = diagonal_excess(found.matrix)
    interval = mean_interval([diagonal_excess([seed])[0] for seed in found.matrix])
    return {
        "traits": [short_name(name) for name in traits],
        "gains": gains,
        "excess": excess,
        "excess_low": _known(interval.low),
        "excess_high": _known(interval.high),
        "p": p.p,
        "seeds": n,
    }


def _rounded(value: Any) -> Any:
    """Ten digits of every number: more would differ between processors, and the file must not."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
