from __future__ import annotations

from entries import make_entry

from bench.analysis.board_sections import contrast_section, dose_section, section, sensitivity_section
from bench.analysis.estimates import Difference

GAIN = Difference(seeds=10, mean=0.3, ci_low=0.2, ci_high=0.4, p=0.002)


def test_a_section_without_lines_is_left_out() -> None:
    assert section("Empty", []) == ""
    assert contrast_section([make_entry()]) == dose_section([make_entry()]) == sensitivity_section([make_entry()]) == ""


def test_doses_end_with_the_gain_of_the_whole_training_and_the_gain_per_doubling() -> None:
    entry = make_entry(dose={16: GAIN}, dose_slope=GAIN, gain=0.5, ci_low=0.4, ci_high=0.6)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in dose_section([entry]).splitlines()[5:]]
    assert cells == [
        ["r", "16", "+0.30 [+0.20, +0.40]"],
        ["r", "end", "+0.50 [+0.40, +0.60]"],
        ["r", "per doubling", "+0.30 [+0.20, +0.40]"],
    ]


def test_a_contrast_says_what_it_means() -> None:
    text = contrast_section([make_entry(contrasts={"trait - placebo": GAIN})])
    assert "what is specific to the trait" in text


def test_verdicts_under_other_conditions_are_shown() -> None:
    text = sensitivity_section([make_entry(gain=0.1, verdict="NONE", sensitivity={"bound x 0.5": "INCONCLUSIVE"})])
    line, numbers = [line for line in text.splitlines() if line.startswith("| r ")]
    assert numbers.count("|") == 5
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["NONE", "INCONCLUSIVE", "-"]
