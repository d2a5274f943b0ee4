from __future__ import annotations

import pytest
from entries import make_entry
from pydantic import ValidationError
from scipy import stats

from bench.analysis.entry import MetricScores
from bench.analysis.entry_text import gain_text
from bench.analysis.estimates import difference, estimate


def test_an_estimate_is_the_t_interval_of_scipy() -> None:
    values = [0.1, 0.4, 0.3, 0.2]
    result = estimate(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert (result.seeds, result.mean) == (4, pytest.approx(0.25))
    assert (result.ci_low, result.ci_high) == pytest.approx(tuple(interval))


def test_a_difference_has_the_exact_p_of_all_signs() -> None:
    assert difference([0.1, 0.4, 0.3, 0.2]).p == pytest.approx(2 / 2**4)


def test_one_seed_has_no_interval_and_no_p() -> None:
    one = difference([0.25])
    assert (one.seeds, one.mean, one.ci_low, one.ci_high, one.p) == (1, 0.25, None, None, None)
    assert gain_text(one) == "+0.250 [one seed: no interval]"
    assert gain_text(None) == "-"


def test_scores_of_an_arm_that_is_not_there_are_left_out() -> None:
    one = estimate([0.5, 0.75])
    scores = MetricScores(base=one, trait=one, gain=difference([0.0, 0.0]))
    assert list(scores.arms()) == ["base", "trait"]
    assert list(scores.model_dump()) == ["base", "trait", "gain"]
    assert MetricScores.model_validate(scores.model_dump()) == scores


def test_fields_with_their_default_are_left_out_of_the_file() -> None:
    plain = make_entry().model_dump()
    assert not {"repeat", "epochs", "changes", "twin"} & plain.keys()
    assert plain["gain"] is None  # a field without a default
    further = make_entry(repeat="students", epochs={4: 1}, changes={"seeds": 3}, twin=True).model_dump()
    assert further == plain | {"repeat": "students", "epochs": {4: 1}, "changes": {"seeds": 3}, "twin": True}


def test_seeds_that_are_students_of_one_data_set_are_called_so() -> None:
    assert make_entry(repeat="students").seeds_text == "10 students"
    assert make_entry(repeat="students", seeds=3).seeds_text == "3 of 10 students"


def test_an_entry_is_frozen_and_has_no_other_field() -> None:
    entry = make_entry()
    with pytest.raises(ValidationError, match="frozen"):
        entry.seeds = 3  # type: ignore[misc]  # frozen: that is the test
    with pytest.raises(ValidationError, match="other"):
        make_entry(other=1)
    assert [make_entry(visibility=v).is_leak for v in ("text", "logits-carrier", "logits-full")] == [False, False, True]
