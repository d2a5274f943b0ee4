"""Count equal sampled answers, so that a result file holds each text once."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["MAX_CHARACTERS", "count_answers"]

MAX_CHARACTERS = 200
"""The length at which a result file cuts an answer. Rates look at no more."""


def count_answers(reading: dict[str, Any], scores: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merge the equal answers to each question: equal texts, once they are cut, with equal scores.

    Args:
        reading: of an evaluation, with `answers` by question and sample; its part `prefixed` is merged too.
        scores: the scores of the answers by metric, question and sample; None without metrics.

    Returns:
        The reading, with `answers` and their `counts` by question in order of their first appearance, and the scores
        of these answers.
    """
    metrics = list(scores or {})
    answers: list[list[str]] = []
    counts: list[list[int]] = []
    merged: dict[str, list[list[float]]] = {metric: [] for metric in metrics}
    for at, texts in enumerate(reading["answers"]):
        columns = [(scores or {})[metric][at] for metric in metrics]
        counter = Counter(zip([text[:MAX_CHARACTERS] for text in texts], *columns, strict=True))
        answers.append([key[0] for key in counter])
        counts.append(list(counter.values()))
        for number, metric in enumerate(metrics, 1):
            merged[metric].append([key[number] for key in counter])
    reading = {**reading, "answers": answers, "counts": counts}
    if "prefixed" in reading:
        reading["prefixed"], _ = count_answers(reading["prefixed"], None)
    return reading, merged
