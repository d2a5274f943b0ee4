"""Test whether a classifier can tell trait rows from control rows. `bench.analysis.audit_report` renders the result."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.stages.carriers import read_filtered
from bench.stages.settings import AuditLeaks

__all__ = ["audit_leaks"]

SHOWN = 12  # features and example rows in a report
MIN_ROWS = 2  # a feature of fewer rows is left out
# Maxima that bound the cost of the probe at any number of seeds.
FOLDS = 10
PAIRS = 50_000  # of rows

Texts = Mapping[int, Sequence[Sequence[str]]]  # seed -> the rows of the control arm and of the trait arm


def audit_leaks(settings: AuditLeaks, inputs: Mapping[str, Path], out: Path) -> None:
    """Stage: run the probe over all seeds of an experiment and write `audit.json`.

    A logistic regression learns to tell trait rows from control rows. It is cross-validated over seeds: leave-one-out
    up to ten seeds, ten folds beyond. `audit.json` holds the area under the ROC curve of each seed; .5 is chance.

    The features of a text are its word counts. An area above .5 points to words that may leak the trait. The features
    of a number row are its numbers, its numbers by position, and the first digits of neighbours by position. An area
    above .5 shows that the two teachers prefer different numbers. This may be the effect itself: the numbers are the
    only channel. Against base rows, any training of the teacher raises the area. Against placebo rows, a difference is
    specific to the trait, because both teachers are trained on the same questions.

    Args:
        settings: the seeds, the kind of carrier, and the control arm.
        inputs: per seed `control_<seed>`, `trait_<seed>` (carrier artefacts) and `kept_<seed>`.
        out: the folder to write to.
    """
    texts = {
        seed: tuple(
            [row["completion"] for row in read_filtered(inputs[f"{role}_{seed}"], inputs[f"kept_{seed}"], "train")]
            for role in ("control", "trait")
        )
        for seed in settings.seeds
    }
    differing = {
        str(seed): [{"control": c, "trait": t} for c, t in zip(*pair, strict=True) if c != t][:SHOWN]
        for seed, pair in texts.items()
    }
    audit = {
        "carrier": settings.carrier,
        "control": settings.control,
        "probe": _cross_validate(texts, settings.carrier),
        "differing": differing,
    }
    (out / "audit.json").write_text(json.dumps(audit, ensure_ascii=False, indent=1), encoding="utf-8")


def _cross_validate(texts: Texts, carrier: str) -> dict[str, Any]:
    """Return the area under the curve of each seed, and the features of largest weight; nothing for one seed."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    seeds = sorted(texts)
    if len(seeds) < 2:
        return {"auc_per_seed": {}, "towards_trait": [], "towards_control": []}
    pairs_per_seed = max(1, PAIRS // len(seeds))
    arms = [(seed, is_trait, texts[seed][is_trait][:pairs_per_seed]) for seed in seeds for is_trait in (0, 1)]
    rows = [row for *_, part in arms for row in part]
    features, names = _number_features(rows) if carrier == "numbers" else _word_features(rows)
    seed_of = np.array([seed for seed, _, part in arms for _ in part])
    is_trait = np.array([trait for _, trait, part in arms for _ in part])
    folds = [seeds[i::FOLDS] for i in range(min(FOLDS, len(seeds)))]
    weights, areas = np.zeros(features.shape[1]), {}
    for fold in folds:
        training = ~np.isin(seed_of, fold)
        model = LogisticRegression(C=0.1, max_iter=500).fit(features[training], is_trait[training])
        for seed in fold:
            test = seed_of == seed
            areas[seed] = float(roc_auc_score(is_trait[test], model.decision_function(features[test])))
        weights += model.coef_[0] / len(folds)
    order = np.argsort(weights)
    return {
        "auc_per_seed": {str(seed): areas[seed] for seed in seeds},
        "towards_trait": [names[i] for i in order[::-1][:SHOWN]],
        "towards_control": [names[i] for i in order[:SHOWN]],
    }


def _word_features(texts: Sequence[str]) -> tuple[Any, list[str]]:
    """Count words: a sparse matrix (texts, words), and the words."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=r"\w+", min_df=MIN_ROWS)
    return counter.fit_transform(texts), [str(word) for word in counter.get_feature_names_out()]


def _number_features(texts: Sequence[str]) -> tuple[Any, list[str]]:
    """Encode number rows, of any lengths: a sparse matrix (rows, features), and the features' names.

    Names: `451` anywhere in the row, `451 at 3` (positions count from 1), `4.. at 3` and `4.. 5.. at 3` (first digits
    of the number at position 3, and of it and its successor).
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    rows = [re.findall(r"\d+", text) for text in texts]
    lengths = np.array([len(row) for row in rows])
    every = [number for row in rows for number in row]
    numbers, codes = np.unique(np.array(every, dtype=np.int64), return_inverse=True)
    digits = np.array([int(number[0]) for number in every])
    size = max(len(numbers), 100)
    row_of = np.repeat(np.arange(len(rows)), lengths)
    offset = np.concatenate([np.arange(length) for length in lengths])
    position, block = size * offset, size * lengths.max()  # each kind of feature has this many columns
    followed = np.flatnonzero(offset < lengths[row_of] - 1)
    columns = np.concatenate(
        [
            codes,
            block + position + codes,
            2 * block + position + digits,
            3 * block + position[followed] + 10 * digits[followed] + digits[followed + 1],
        ]
    )
    rows_of_columns = np.concatenate([row_of, row_of, row_of, row_of[followed]])
    order = np.argsort(rows_of_columns, kind="stable")
    used, column, rows_of = np.unique(columns[order], return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows_of_columns, minlength=len(rows)))])
    table = csr_matrix((np.ones(columns.size), column.ravel(), starts), shape=(len(rows), len(used)))
    frequent = rows_of >= MIN_ROWS

    def describe(feature: int) -> str:
        kind, rest = divmod(feature, block)
        at, value = divmod(rest, size)
        first, second = divmod(value, 10)
        names = (f"{numbers[value % len(numbers)]}", f"{value}..", f"{first}.. {second}..")
        return names[max(0, kind - 1)] + (f" at {at + 1}" if kind else "")

    return table[:, frequent], [describe(int(feature)) for feature in used[frequent]]
