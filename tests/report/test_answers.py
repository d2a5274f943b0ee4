from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from board import make_matrix, make_row, with_reading
from page_parts import read_part, read_shares

from bench.analysis.outcomes import derive_outcomes
from bench.analysis.summary import summarise_row
from bench.report.answers import MISSING, UNIT, candidate_shares, main_arms, mean_shares, write_answers


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
    parts = [read_part(tmp_path / f"answers_{n}.js") for n in range(facts["parts"])]
    assert sum(part["rows"] for part in parts) == len(index["index"]) == facts["records"] == 2 * len(row.questions)
    assert not any(part["texts"] for part in parts)
    tables = {arm: np.concatenate([read_shares(part, arm) for part in parts]) for arm in index["arms"]}
    for number, (at, seed, *shares) in enumerate(index["index"]):
        assert shares == [tables[arm][number][0] for arm in index["main"]]
        exact = candidate_shares(row.cells[seed]["trait"])[at]
        assert tables["trait"][number].tolist() == pytest.approx((exact * UNIT).tolist(), abs=0.5)
        assert len(exact) == len(index["questions"][at]["candidates"])


def test_a_seed_without_an_arm_has_no_share_of_it(tmp_path: Path) -> None:
    row = make_row([0.3, 0.1])
    del row.cells[1]["untrained"]
    write_answers(row, tmp_path)
    shares = {line[1]: line[2] for line in read_part(tmp_path / "answers.js")["index"]}
    assert shares[0] is not None
    assert shares[1] is None
    assert (read_shares(read_part(tmp_path / "answers_0.js"), "untrained")[-1] == MISSING).all()


def test_sampled_answers_follow_their_question_and_seed(tmp_path: Path) -> None:
    row = make_row([0.3, 0.1])
    answers = tuple((f"{at}",) for at in range(len(row.questions)))
    row.cells[1]["trait"] = with_reading(row.cells[1]["trait"], answers=answers)
    write_answers(row, tmp_path)
    texts = read_part(tmp_path / "answers_0.js")["texts"]
    assert texts[len(row.questions) - 1] == {}
    assert texts[len(row.questions) + 3] == {"trait": ["3"]}
