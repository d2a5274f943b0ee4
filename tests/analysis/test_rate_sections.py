from __future__ import annotations

from board import STEADY, make_rates, make_row

from bench.analysis.rate_sections import answer_section, measure_section
from bench.analysis.summary import summarise

RISING = [{"base": 0.1, "trait": 0.3 + 0.05 * (seed % 3)} for seed in range(6)]


def test_what_answers_name_is_shown_by_arm_in_percent() -> None:
    text = answer_section(summarise([make_rates(RISING)]))
    (line,) = [line for line in text.splitlines() if "| trait " in line]
    assert "35.0 %" in line
    assert "owl 31.7 %" in line
    assert answer_section(summarise([make_row(STEADY)])) == ""


def test_a_gain_by_measure_has_its_unit_in_every_cell() -> None:
    lines = measure_section(summarise([make_rates(RISING)])).splitlines()
    assert sum("nats" in line for line in lines) == 1
    assert sum("points" in line for line in lines) == 1
    assert measure_section(summarise([make_row(STEADY)])) == ""
