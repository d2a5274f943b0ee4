from __future__ import annotations

import pytest

from bench.analysis.estimates import difference, estimate, known, ratio
from bench.analysis.stats import fieller


def test_an_estimate_of_one_seed_has_no_interval_and_no_p() -> None:
    assert (estimate([0.5]).ci_low, difference([0.5]).p) == (None, None)
    assert known(float("nan")) is None


def test_a_ratio_is_that_of_the_means_with_fiellers_interval() -> None:
    numerators, denominators = [0.1, 0.12, 0.08, 0.1], [0.2, 0.21, 0.19, 0.2]
    value = ratio(numerators, denominators)
    assert (value.mean, value.ci_low, value.ci_high) == fieller(numerators, denominators)
    assert value.mean == pytest.approx(0.5)


def test_a_ratio_to_a_mean_near_zero_has_no_ends() -> None:
    value = ratio([0.1, 0.12, 0.08], [0.1, -0.12, 0.03])
    assert (value.seeds, value.ci_low, value.ci_high) == (3, None, None)
    assert ratio([0.1], [0.2]).ci_low is None
