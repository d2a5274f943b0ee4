from __future__ import annotations

from typing import Any

import pytest
from board import make_rates, make_row, with_reading

from bench.analysis.reading import Answers, check_reading
from bench.analysis.result_schema import ExperimentResults


def check(row: ExperimentResults, **fields: Any) -> None:
    check_reading(with_reading(row.cells[0]["base"], **fields).reading, row.candidates, row.recipe)


def test_a_rate_needs_answers_and_counts_that_fit_the_samples() -> None:
    row = make_rates([{}], samples=4)
    number = len(row.questions)
    check(row)
    check(row, answers=(("a", "b", "a", "c"),) * number, counts=None)
    with pytest.raises(ValueError, match="answers does not sum to the 4 samples"):  # merged texts without their counts
        check(row, answers=(("a", "b"),) * number, counts=None)
    with pytest.raises(ValueError, match="answers are missing"):
        check(row, answers=None, counts=None)
    with pytest.raises(ValueError, match="does not sum to the 4 samples"):
        check(row, answers=(("a",),) * number, counts=((3,),) * number)
    with pytest.raises(ValueError, match="one number for each answer"):
        check(row, answers=(("a",),) * number, counts=((2, 2),) * number)
    with pytest.raises(ValueError, match=f"1 answers to {number} questions"):
        check(row, answers=(("a",),), counts=None)


def test_the_prefixed_part_is_checked_too() -> None:
    row = make_row([0.3])
    logprobs = row.cells[0]["base"].reading.logprobs
    check(row, prefixed=Answers(logprobs=logprobs))
    with pytest.raises(ValueError, match=r"prefixed\.logprobs"):
        check(row, prefixed=Answers(logprobs=logprobs[1:]))
    with pytest.raises(ValueError, match=r"prefixed\.answers"):
        check(row, prefixed=Answers(logprobs=logprobs, answers=(("a",),)))


def test_answers_that_were_not_sampled_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="not sampled"):
        Answers(logprobs=()).counted_answers()
    assert Answers(logprobs=(), answers=(("a", "a"),)).counted_answers() == [(("a", "a"), (1, 1))]
