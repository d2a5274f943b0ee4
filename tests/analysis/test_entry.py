from __future__ import annotations

import pytest
from scipy import stats

from bench.analysis.entry import difference, estimate


def test_an_estimate_is_the_t_interval_of_scipy() -> None:
    values = [0.1, 0.4, 0.3, 0.2]
    result = estimate(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert (result.seeds, result.mean) == (4, pytest.approx(0.25))
    assert (result.ci_low, result.ci_high) == pytest.approx(tuple(interval))


def test_a_difference_has_the_exact_p_of_all_signs() -> None:
    assert difference([0.1, 0.4, 0.3, 0.2]).p == pytest.approx(2 / 2**4)


def test_one_seed_has_no_interval() -> None:
    one = difference([0.1])
    assert (one.ci_low, one.ci_high, one.p) == (None, None, None)
