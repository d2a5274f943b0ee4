"""The columns of the tidy tables, with their types in pyarrow's words."""

from __future__ import annotations

from typing import Any

from bench.analysis.entry import Answers, LeaderboardEntry, Spread
from bench.config.arms import MAIN_ARMS

__all__ = [
    "ANSWERS",
    "CANDIDATES",
    "ENTRY",
    "GAINS",
    "MARGINS",
    "MEANS",
    "MITIGATED",
    "OUTCOMES",
    "RATES",
    "RATIOS",
    "ROWS",
    "SEEDS",
]

RECIPE = dict.fromkeys(("recipe", "hash", "label", "trait", "changes"), "string")
ASKED = {
    **RECIPE,
    "seed": "int64",
    "arm": "string",
    "question_index": "int64",
    "group": "string",
    "question": "string",
    "truth": "string",
}
ANSWERS = {**ASKED, "sample_index": "int64", "answer": "string", "count": "int64"}
RATES = {**ASKED, "candidate": "string", "named": "int64", "samples": "int64"}
OUTCOMES = ("margin", "p_answer", "log_odds", "rank", "mass")
MARGINS = {**ASKED, **dict.fromkeys(OUTCOMES, "double")}
CANDIDATES = {**ASKED, "candidate": "string", "logprob": "double", "tokens": "int64"}
INTERVAL = {"ci_low": "double", "ci_high": "double"}
MEANS = {
    **RECIPE,
    "arm": "string",
    "metric": "string",
    "unit": "string",
    "mean": "double",
    **INTERVAL,
    "seeds": "int64",
}
GAINS = {
    **RECIPE,
    "visibility": "string",
    "verdict": "string",
    "outcome": "string",
    "metric": "string",
    "unit": "string",
    "gain": "double",
    **INTERVAL,
    "p": "double",
    "seeds": "int64",
}
SEEDS = {
    **RECIPE,
    "seed": "int64",
    "outcome": "string",
    "unit": "string",
    **dict.fromkeys(("untrained", "base", "trait_arm", "gain", "teacher_shift"), "double"),
}
RATIOS = [f"{name}{end}" for name in ("share", "data") for end in ("", "_low", "_high")]
MITIGATED = {
    **RECIPE,
    "arm": "string",
    "control": "string",
    "effect": "double",
    **INTERVAL,
    "p": "double",
    "seeds": "int64",
    **dict.fromkeys(RATIOS, "double"),
}

ALIASES: dict[Any, str] = {
    kind: alias
    for plain, alias in ((str, "string"), (int, "int64"), (float, "double"), (bool, "bool"))
    for kind in (plain, plain | None)
}
SENSITIVITY = ("bound x 0.5", "bound x 2", "Johnson's t", "without the gates")
# The fields of an entry that are one value.
ENTRY = {
    name: ALIASES[field.annotation]
    for name, field in LeaderboardEntry.model_fields.items()
    if field.annotation in ALIASES and name != "twin"
}
ANSWER_MEANS = [f"{arm}_{name}" for arm in MAIN_ARMS for name in Answers.model_fields]
SPREAD = [f"sd_{name}" for name in Spread.model_fields]
ROWS = {
    **ENTRY,
    **dict.fromkeys(["label", "changes", "outcome", "repeat", "visibility", "verdict", *SENSITIVITY], "string"),
    **dict.fromkeys([*ANSWER_MEANS, "questions_gaining", *SPREAD, "dose_slope"], "double"),
}
