from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logit, logsumexp, softmax
from scipy.stats import rankdata

from bench.analysis.outcomes import derive_margins, derive_outcomes

LOGPROB = st.floats(-300, 0) | st.sampled_from([-5.0, -7.0])  # two values that tie
QUESTION = st.lists(LOGPROB, min_size=2, max_size=6)
QUESTIONS = st.lists(QUESTION, min_size=1, max_size=5)


@given(QUESTIONS)
def test_outcomes_agree_with_scipy_question_by_question(logprobs: list[list[float]]) -> None:
    outcomes = derive_outcomes(logprobs)
    for at, row in enumerate(logprobs):
        assert outcomes.margin[at] == pytest.approx(row[0] - np.mean(row[1:]), abs=1e-9)
        assert outcomes.p_answer[at] == pytest.approx(softmax(row)[0])
        assert outcomes.log_odds[at] == pytest.approx(row[0] - logsumexp(row[1:]))
        assert outcomes.rank[at] == rankdata([-value for value in row])[0]
        assert outcomes.mass[at] == pytest.approx(np.exp(logsumexp(row)))
        winners = np.flatnonzero(np.array(row) == max(row))
        assert outcomes.top[at] == (1 / len(winners) if 0 in winners else 0)
        if 1e-9 < outcomes.p_answer[at] < 1 - 1e-9:
            assert outcomes.log_odds[at] == pytest.approx(logit(np.exp(log_softmax(row)[0])), abs=1e-5)


@given(st.data())
def test_per_token_margins_divide_each_candidate_by_its_own_tokens(data: st.DataObject) -> None:
    logprobs = data.draw(QUESTIONS)
    tokens = [data.draw(st.lists(st.integers(1, 30), min_size=len(row), max_size=len(row))) for row in logprobs]
    outcomes, totals = derive_outcomes(logprobs, tokens), derive_outcomes(logprobs)
    for at, (row, counts) in enumerate(zip(logprobs, tokens, strict=True)):
        each = [value / count for value, count in zip(row, counts, strict=True)]
        assert outcomes.margin[at] == pytest.approx(each[0] - np.mean(each[1:]), abs=1e-9)
    assert np.array_equal(derive_margins(logprobs, tokens), outcomes.margin)
    for name in ("p_answer", "log_odds", "rank", "mass", "top"):  # of probabilities, which go by totals
        assert np.array_equal(getattr(outcomes, name), getattr(totals, name))


def test_one_foil_that_ties_shares_rank_and_top() -> None:
    outcomes = derive_outcomes([[-2.0, -2.0]])
    assert [column[0] for column in outcomes] == pytest.approx([0.0, 0.5, 0.0, 1.5, 2 * np.exp(-2.0), 0.5])


def test_questions_with_more_candidates_do_not_change_the_others() -> None:
    short, long = [-1.0, -2.0], [-3.0, -1.0, -1.0, -9.0]
    together = derive_outcomes([short, long])
    for at, row in enumerate((short, long)):
        assert [column[at] for column in together] == [column[0] for column in derive_outcomes([row])]


def test_improbable_candidates_neither_underflow_nor_warn() -> None:
    outcomes = derive_outcomes([[-2000.0, -2001.0]])
    assert outcomes.p_answer[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert outcomes.mass[0] == 0.0


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        derive_outcomes([[-1.0, -2.0], [value, -1.0]])


@pytest.mark.parametrize("logprobs", [[], [[]], [[-1.0]], [[-1.0, -2.0], [-1.0]]])
def test_a_question_without_foils_is_refused(logprobs: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one foil"):
        derive_margins(logprobs)


@pytest.mark.parametrize("tokens", [[[1, 2, 3]], [[1, 0]], [[1, 1], [1, 1]]])
def test_token_counts_that_do_not_fit_are_refused(tokens: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        derive_margins([[-1.0, -2.0]], tokens)
