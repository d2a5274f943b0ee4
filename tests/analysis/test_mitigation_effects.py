from __future__ import annotations

from pathlib import Path

import pytest
from board import make_cell, make_row, with_reading, with_training, write_row

from bench.analysis.board_sections import mitigation_section
from bench.analysis.gates import check_gates
from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.mitigation_effects import compute_effects
from bench.analysis.result_schema import ExperimentResults, check_fit
from bench.analysis.seed_statistics import compute_seed_statistics, margins_of
from bench.analysis.summary import summarise_row
from bench.config.arms import MITIGATIONS
from bench.config.recipe_files import load_recipe
from bench.pipeline.store import Store
from bench.report.row_page import describe_row

GAINS = [0.30, 0.32, 0.28, 0.31, 0.33, 0.27]


def mitigated_row(gains: list[float], arm: str, share: float) -> ExperimentResults:
    """A row with one mitigation: it leaves a share of the gain, and half of the fit of the data."""
    overrides = [f"arms=[untrained, base, trait, {arm}]"]
    row, experiment = make_row(gains, overrides=overrides), load_recipe("tiny_pair", overrides, seeds=len(gains))
    for (seed, cells), gain in zip(row.cells.items(), gains, strict=True):
        base, trait = (cells[name].reading.held_out for name in ("base", "trait"))
        half = {name: [(a + b) / 2 for a, b in zip(base[name], trait[name], strict=True)] for name in base}
        margins = margins_of(cells["base"])
        if (control := MITIGATIONS[arm]) != "base":
            margins = [margin + 0.7 for margin in margins]  # the training alone moves the answers
            cells[control] = make_cell(experiment, seed, control, margins, held_out=base)
        left = [margin + share * gain for margin in margins]
        cells[arm] = make_cell(experiment, seed, arm, left, held_out=half)
    return row


@pytest.mark.parametrize("arm", MITIGATIONS)
def test_the_effect_is_measured_against_the_arms_own_control(arm: str) -> None:
    row = mitigated_row(GAINS, arm, 0.25)
    assert len(row.complete_seeds()) == 6
    effects = compute_effects(row, compute_seed_statistics(row))
    assert effects.keys() == {arm}
    effect = effects[arm]
    assert effect.effect.mean == pytest.approx(0.25 * sum(GAINS) / 6)
    assert effect.share.mean == pytest.approx(0.25)
    assert effect.share.ci_low == pytest.approx(0.25)  # an exact share has no error
    assert effect.data.mean == pytest.approx(0.5)
    assert effect.data.ci_low is not None


def test_an_arm_without_held_out_rows_does_not_fit() -> None:
    row = mitigated_row([0.3], "inoculated", 0.5)
    for arm in ("inoculated", "inoculated_base"):
        check_fit(row.cells[0][arm], row)
        with pytest.raises(ValueError, match="held_out lacks the rows of base, trait"):
            check_fit(with_reading(row.cells[0][arm], held_out={}), row)


def test_near_a_gain_of_zero_a_share_has_no_ends_and_the_page_says_so() -> None:
    entry = summarise_row(mitigated_row([0.04, -0.03, 0.01, -0.01, 0.02, -0.02], "mixed", 0.5))
    assert entry.mitigations["mixed"].share.ci_low is None
    assert "50 % [unbounded]" in mitigation_section([entry])
    one = summarise_row(mitigated_row([0.3], "inoculated", 0.5))
    assert "50 % [one seed: no interval]" in mitigation_section([one])


def test_where_the_mean_gain_is_not_above_zero_there_is_no_share_of_it() -> None:
    entry = summarise_row(mitigated_row([-gain for gain in GAINS], "mixed", 0.5))
    assert entry.mitigations["mixed"].share.mean is None
    assert entry.mitigations["mixed"].effect.mean == pytest.approx(-0.5 * sum(GAINS) / 6)
    assert entry.mitigations["mixed"].data.mean == pytest.approx(0.5)


def test_a_row_without_mitigations_says_nothing_of_them() -> None:
    entry = summarise_row(make_row(GAINS))
    assert entry.mitigations == {}
    assert "mitigations" not in entry.model_dump()
    assert mitigation_section([entry]) == ""


def test_the_page_of_a_row_shows_its_mitigations(tmp_path: Path) -> None:
    row = mitigated_row(GAINS, "mixed", 0.5)
    (line,) = describe_row(row, summarise_row(row), Store(tmp_path))["mitigations"]
    assert line["arm"] == "mixed"
    assert line["share"] == "50 % in every seed"


def test_labels_on_a_part_of_the_tokens_are_no_difference_between_arms_but_another_training_is() -> None:
    row = mitigated_row(GAINS, "divergent_only", 1.0)

    def agrees() -> bool | None:
        return next(gate.passed for gate in check_gates(row) if gate.name == "arms agree")

    with_training(row, 0, "divergent_only", labelled_tokens=70)
    assert agrees()
    with_training(row, 0, "divergent_only", updates=3)
    assert not agrees()


def test_a_mitigated_student_that_learned_nothing_fails_no_gate() -> None:
    row = mitigated_row(GAINS, "divergent_masked", 0.0)
    for cells in row.cells.values():
        cells["divergent_masked"] = with_reading(cells["divergent_masked"], held_out=cells["base"].reading.held_out)
    assert all(gate.passed is not False for gate in check_gates(row))
    assert compute_effects(row, compute_seed_statistics(row))["divergent_masked"].data.mean == pytest.approx(0)


def test_the_board_has_a_section_and_its_json_the_numbers(tmp_path: Path) -> None:
    write_row(tmp_path, mitigated_row(GAINS, "attention_only", 0.25))
    (entry,) = build_leaderboard(tmp_path).entries
    assert entry.mitigations["attention_only"].share.mean == pytest.approx(0.25)
    assert "| attention_only |" in (tmp_path / "LEADERBOARD.md").read_text()
    assert '"attention_only": {' in (tmp_path / "leaderboard.json").read_text()
