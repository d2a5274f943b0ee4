from __future__ import annotations

from typing import Any

import pytest

from bench.analysis.audit_report import estimate_auc, render_audit
from bench.analysis.stats import mean_interval

AREAS = {"0": 0.5, "1": 0.6, "2": 0.55}


def audit(carrier: str, control: str, areas: dict[str, float] | None = None) -> dict[str, Any]:
    return {
        "carrier": carrier,
        "control": control,
        "probe": {"auc_per_seed": areas or {}, "towards_trait": ["451 at 3"], "towards_control": ["4.. at 1"]},
        "differing": {"0": [{"control": "one\ntwo", "trait": "one two three"}]},
    }


def carrier(refused: dict[str, Any], format_refused: dict[str, Any]) -> dict[int, dict[str, Any]]:
    counts = {"rows": 100, "train": 90, "identical_rows": 4}
    return {0: {**counts, "refused": refused, "format_refused": format_refused}}


def test_the_interval_is_wider_than_one_of_independent_seeds() -> None:
    area = estimate_auc(AREAS)
    assert area is not None
    assert area.ci_low is not None
    independent = mean_interval([0.5, 0.6, 0.55])
    assert (area.seeds, area.mean) == (3, independent.mean)
    # variance: 1/3 + 1/2 (two training folds to one held-out) in place of 1/3
    assert area.mean - area.ci_low == pytest.approx((independent.mean - independent.low) * (5 / 2) ** 0.5)
    assert estimate_auc({}) is None


def test_numbers_are_reported_by_their_grammar_and_not_as_words() -> None:
    leaks = {"base": {}, "trait": {"letter code": 1, "lexicon": 2}}
    carriers = carrier(leaks, {"base": {"grammar": 3}, "trait": {"forbidden number": 4}})
    text = render_audit("x", "abc", audit("numbers", "placebo", AREAS), carriers)
    assert "grammar obeyed" in text
    counts = "base: 97; trait: 98 | base: 0; trait: 4 | base: none; trait: 1 letter code, 2 lexicon"
    assert f"| 0 | 100 | 90 | 4 | {counts} |" in text
    assert "tell trait rows from placebo rows" in text
    assert "0.550 [0.354, 0.746]" in text
    assert "word" not in text.replace("holds no words", "")
    assert "    placebo one two\n    trait   one two three\n" in text


@pytest.mark.parametrize("areas", [AREAS, None])
def test_texts_are_reported_by_their_refusals_and_words(areas: dict[str, float] | None) -> None:
    text = render_audit(
        "x",
        "abc",
        audit("text", "base", areas),
        carrier({"base": {}, "trait": {"lexicon": 2}}, {"base": {"empty": 1}, "trait": {}}),
    )
    assert "| 0 | 100 | 90 | 4 | base: none; trait: 2 lexicon | base: 1 empty; trait: none |" in text
    assert "grammar" not in text
    assert ("needs two seeds" in text) == (areas is None)
