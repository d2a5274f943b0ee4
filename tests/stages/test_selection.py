from __future__ import annotations

import re

import pytest

from bench.config.carrier_settings import Numbers, Text
from bench.errors import StageError
from bench.stages.selection import describe_retention, draw_rows, measure_selection

CARRIER = Numbers(kind="numbers", rows=6, held_out=2, draw=100, generate="free")


def test_rows_are_drawn_at_random_from_those_of_all_arms_and_depend_on_the_seed() -> None:
    passing = list(range(0, 100, 3))
    drawn = draw_rows(passing, CARRIER, 1, "")
    assert len(drawn["train"]) == 6
    assert len(drawn["held_out"]) == 2
    assert len({*drawn["train"], *drawn["held_out"]}) == 8
    assert {*drawn["train"], *drawn["held_out"]} < set(passing)
    assert drawn == draw_rows(passing, CARRIER, 1, "")
    assert drawn != draw_rows(passing, CARRIER, 2, "")
    late = [max(draw_rows(passing, CARRIER, seed, "")["train"]) for seed in range(200)]
    assert max(late) == 99  # the last rows are as likely as the first


def test_few_rows_are_an_error_with_the_reasons_and_a_draw_that_would_do() -> None:
    with pytest.raises(StageError, match=r"PROBLEM\. Expected at least 5% of 100 rows .* found 4: ask for the format"):
        draw_rows(range(4), CARRIER, 1, "PROBLEM")
    message = "Expected 8 rows that every arm keeps (rows and held_out), found 5: set carrier.draw to about 176"
    with pytest.raises(StageError, match=re.escape(message)):
        draw_rows(range(5), CARRIER, 1, "PROBLEM")


def test_the_retention_is_told_by_arm_and_in_common() -> None:
    reasons = {"base": ["", "count", "", ""], "trait": ["", "", "other text", "range"]}
    assert describe_retention(reasons) == "of 4 rows the arms keep: base 3, trait 2; in common 1"


def test_measures_compare_the_drawn_rows_with_all_rows_of_the_arm() -> None:
    texts = ["1, 2", "no numbers", "5, 5000, 7", "10"]
    tables = {"base": [{"completion": text} for text in texts]}
    report = measure_selection(CARRIER, tables, {"base": ["", "other text", "range", ""]}, [0, 3])
    assert report["base"]["kept"] == 2
    assert report["base"]["all"] == {"length": 6.5, "count": 1.5, "value": pytest.approx((1.5 + 6 + 10) / 3)}
    assert report["base"]["drawn"] == {"length": 3, "count": 1.5, "value": pytest.approx(5.75)}
    none = measure_selection(CARRIER, {"base": [{"completion": "none"}]}, {"base": ["other text"]}, [0])
    assert none["base"]["all"]["value"] is None


def test_texts_are_measured_in_words() -> None:
    carrier = Text(kind="text", rows=1, held_out=1, draw=2, prompts="unused")
    tables = {"trait": [{"completion": "one two 33"}, {"completion": "four"}]}
    report = measure_selection(carrier, tables, {"trait": ["", ""]}, [1])
    assert report["trait"]["all"] == {"length": 7, "count": 2, "value": None}
    assert report["trait"]["drawn"] == {"length": 4, "count": 1, "value": None}
