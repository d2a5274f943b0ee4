from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Bench

from bench.analysis.result_files import read_results
from bench.analysis.summary import summarise
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


FREE = (
    "carrier={{kind: numbers, generate: free, draw: 96, rows: {}, held_out: 16, given: [3, 8], max_new_tokens: 12, {}}}"
)


@pytest.mark.slow
def test_free_rows_go_through_every_control_to_the_row_of_the_board(bench: Bench, tmp_path: Path) -> None:
    def run(carrier: str, code: int = 0) -> str:
        arms = "arms=[untrained, base, trait, placebo, resampled, shuffled]"
        steps = ["--set", "teacher.train.max_steps=4", "--set", "student.train.max_steps=3", "--set", "first_seed=1000"]
        sets = ["--set", carrier, "--set", arms, *steps]
        done = bench("--recipe", "tiny_pair", "--skip-controls", "--seeds", "1", *sets, code=code)
        return done.stdout + done.stderr

    run(FREE.format(24, "keep: {count: [1, 12]}"))
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    (cells,) = row.cells.values()
    carrier = cells["base"].manifest.carrier
    assert (carrier.rows, carrier.train, carrier.held_out) == (96, 24, 16)
    assert carrier.selection is not None
    assert set(carrier.selection) == {"base", "trait", "placebo", "resampled"}
    assert all(40 <= report.kept <= 96 for report in carrier.selection.values())
    assert all(report.drawn.count <= 12 for report in carrier.selection.values())
    trainings = [cell.manifest.training for arm, cell in cells.items() if arm in carrier.selection or arm == "shuffled"]
    assert [training.rows for training in trainings if training] == [24] * 5
    (entry,) = summarise([row])
    assert entry.selection["base"].retention.mean == carrier.selection["base"].kept / 96
    bench("--leaderboard")
    assert "base keeps" in (tmp_path / "results" / "LEADERBOARD.md").read_text()
    again = run(FREE.format(20, "keep: {count: [1, 12], high: 990}"))
    assert "filter rows" in again
    assert "carrier base" not in again  # what teachers wrote is there
    none = run(FREE.format(24, "count: 3, keep: {count: [1, 3]}"), code=1)
    assert "count: " in none
    assert "Expected at least 5% of 96 rows that every arm keeps" in none
    assert "] student" not in none
