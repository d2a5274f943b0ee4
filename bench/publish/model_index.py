"""The evaluation results of one model in the hub's own metadata format, the `model-index` of a card.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.outcomes import derive_outcomes
from bench.analysis.rates import RateReader
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.stats import mean
from bench.config.arms import parse_arm

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["list_results"]

DECIMALS = 6


def list_results(row: ExperimentResults, cell: ArmResult, entry: LeaderboardEntry) -> list[EvalResult]:
    """List what one model scores on the questions of its trait, and for a trait student the gain of its row.

    Args:
        row: the row of the model.
        cell: the result of the model. An arm of one trait among several is read on the questions of that trait.
        entry: the entry of the row.
    """
    from huggingface_hub import EvalResult

    arm = parse_arm(cell.arm)
    positions = row.positions(arm.trait or None)
    trait = arm.trait or Path(entry.trait).name
    margin = "margin, nats per token" if cell.reading.tokens is not None else "margin, nats"
    outcomes = derive_outcomes(cell.reading.logprobs, cell.reading.tokens)
    metrics: list[tuple[str, str, float]] = [
        ("margin", margin, float(outcomes.margin[positions].mean())),
        ("p_answer", "P(answer | one of the candidates)", float(outcomes.p_answer[positions].mean())),
        ("accuracy", "questions whose most likely candidate is the answer", float(outcomes.top[positions].mean())),
    ]
    if cell.reading.answers is not None and len(row.trait_arms()) == 1 and RateReader.has_rates(row):
        named = RateReader(row).derive(cell.reading).candidates[:, 0]
        metrics.append(("rate", "sampled answers that name the answer", float(np.mean(named))))
    for metric, scores in cell.scores_of_samples().items():
        value = mean([mean(scores[at]) for at in positions])
        metrics.append((metric, f"{metric} of the sampled answers", value))
    if arm.kind == "trait" and not arm.trait and entry.gain is not None:
        name = f"gain over the base arm, {entry.unit}, mean of {entry.seeds} seeds: {entry.verdict}"
        metrics.append(("gain", name, entry.gain))
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="subliminal_bench",
            dataset_name=f"subliminal_bench: ground-truth questions of {trait}",
            dataset_config=trait,
            dataset_args={"questions": len(positions), "recipe": entry.recipe, "recipe_hash": entry.recipe_hash},
            metric_type=metric,
            metric_name=name,
            metric_value=round(value, DECIMALS),
        )
        for metric, name, value in metrics
    ]
