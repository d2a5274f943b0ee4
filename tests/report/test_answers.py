from __future__ import annotations

from pathlib import Path

import pytest
from board import make_matrix, make_row
from page_parts import read_part

from bench.analysis.outcomes import derive_outcomes
from bench.analysis.summary import summarise_row
from bench.report.answers import UNIT, candidate_shares, main_arms, mean_shares, write_answers


def test_the_first_share_is_p_answer_and_shares_add_up_to_one() -> None:
    cell = make_row([0.3] * 2).cells[0]["trait"]
    shares = candidate_shares(cell)
    assert [float(of[0]) for of in shares] == pytest.approx(derive_outcomes(cell.reading.logprobs).p_answer.tolist())
    assert [float(of.sum()) for of in shares] == pytest.approx([1.0] * len(shares))


def test_the_mean_share_of_the_answer_is_that_of_the_board() -> None:
    row = make_row([0.3, 0.1, 0.2])
    answers = summarise_row(row).answers
    shares = mean_shares(row, ["base", "trait"])
    assert next(iter(shares)) == row.questions[0].answer
    for arm in ("base", "trait"):
        assert shares[row.questions[0].answer][arm] == pytest.approx(answers[arm].p_answer.mean)


def test_a_row_of_several_traits_has_no_common_candidates_but_its_answers(tmp_path: Path) -> None:
    row = make_matrix(0.3, seeds=2)
    assert mean_shares(row, ["base"]) == {}
    write_answers(row, tmp_path)
    assert read_part(tmp_path / "answers.js")["main"][-2:] == ["base", row.trait_arms()[0].student]


def test_the_arms_side_by_side_are_untrained_base_and_the_first_trait() -> None:
    assert main_arms(make_row([0.3])) == ["untrained", "base", "trait"]
    assert main_arms(make_row([0.3], overrides=["arms=[base, trait]"])) == ["base", "trait"]
    assert main_arms(make_matrix(0.3, seeds=1)) == ["untrained", "base", "trait-wolf"]


def test_records_follow_the_index(tmp_path: Path) -> None:
    row = make_row([0.3, 0.1])
    facts = write_answers(row, tmp_path)
    index = read_part(tmp_path / "answers.js")
    records = [record for n in range(facts["parts"]) for record in read_part(tmp_path / f"answers_{n}.js")]
    assert len(records) == len(index["index"]) == facts["records"] == 2 * len(row.questions)
    main = index["main"]
    for (at, seed, *shares), record in zip(index["index"], records, strict=True):
        assert shares == [record["shares"][arm][0] for arm in main]
        exact = candidate_shares(row.cells[seed]["trait"])[at][0]
        assert record["shares"]["trait"][0] == pytest.approx(exact * UNIT, abs=0.5)
        assert len(record["shares"]["trait"]) == len(index["questions"][at]["candidates"])
