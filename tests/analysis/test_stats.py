from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.analysis.stats import (
    diagonal_excess,
    equivalence_p,
    fieller,
    hierarchical_bootstrap,
    holm,
    mean_interval,
    power,
    seeds_for_sign_flip,
    seeds_needed,
    sign_flip_p,
    smallest_detectable,
)

RNG = np.random.default_rng(7)
SAMPLES = [RNG.normal(0.3, 1, n).tolist() for n in (2, 3, 6, 10, 14)]


@pytest.mark.parametrize("values", SAMPLES)
def test_the_t_interval_is_scipys(values: list[float]) -> None:
    mean, low, high = mean_interval(values)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected))


@pytest.mark.parametrize("values", SAMPLES)
def test_the_sign_flip_test_is_scipys(values: list[float]) -> None:
    expected = scipy_stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**15).pvalue
    assert sign_flip_p(values) == (pytest.approx(expected), 0.0, False)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 17])
def test_meeting_in_the_middle_counts_what_enumeration_counts(n: int) -> None:
    rng = np.random.default_rng(n)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    for values in (rng.normal(0.4, 1, n), rng.normal(0.4, 1, n).round(1)):  # rounded values tie
        extreme = np.abs(signs @ values) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()
        assert sign_flip_p(values.tolist()) == (pytest.approx(extreme.mean()), 0.0, False)


def test_beyond_36_seeds_the_sign_flip_test_draws_and_reports_its_error() -> None:
    values = RNG.normal(0.3, 1, 40).tolist()
    p, error, at_floor = sign_flip_p(values)
    assert error > 0
    assert not at_floor
    assert abs(p - scipy_stats.ttest_1samp(values, 0).pvalue) < 0.02
    assert sign_flip_p([1.0] * 40) == (pytest.approx(1 / 65537), pytest.approx(1 / 65537, rel=1e-3), True)


def test_the_sign_flip_test_counts_its_own_pattern_whatever_the_rounding() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3, 0.7, 0.1, 0.3]).p == 2 / 2**6
    assert sign_flip_p([0.0, 0.0, 0.0]).p == 1.0
    assert (seeds_for_sign_flip(0.05), seeds_for_sign_flip(0.05 / 8)) == (6, 9)


@pytest.mark.parametrize("values", SAMPLES)
def test_equivalence_is_two_one_sided_t_tests(values: list[float]) -> None:
    upper = scipy_stats.ttest_1samp(values, 1.0, alternative="less").pvalue
    lower = scipy_stats.ttest_1samp(values, -1.0, alternative="greater").pvalue
    assert equivalence_p(values, 1.0) == pytest.approx(max(upper, lower))
    low, high = mean_interval(values, 0.90)[1:]
    assert (equivalence_p(values, 1.0) < 0.05) == (low > -1 and high < 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_at_least_p_at_most_bonferroni_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= min(1, p * len(ps)) + 1e-12 for p, a in zip(ps, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(ps, kind="stable")] == sorted(adjusted)


def test_holm_on_the_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_power_is_what_simulation_gives() -> None:
    rng = np.random.default_rng(1)
    for effect, n in ((0.8, 10), (1.5, 6)):
        data = rng.normal(effect, 1, (20_000, n))
        seen = (scipy_stats.ttest_1samp(data, 0, axis=1).pvalue < 0.05).mean()
        assert power(effect, 1, n) == pytest.approx(seen, abs=0.01)


def test_the_smallest_detectable_effect_has_the_promised_power() -> None:
    rng = np.random.default_rng(9)
    for n in (6, 8, 14):
        gains = rng.normal(smallest_detectable(0.4, n), 0.4, (1500, n)).tolist()
        assert np.mean([sign_flip_p(g).p <= 0.05 for g in gains]) == pytest.approx(0.8, abs=0.035)
    assert math.isnan(smallest_detectable(1, 5))
    n = seeds_needed(0.5, 0.6)
    assert n is not None
    assert power(0.5, 0.6, n) >= 0.8 > power(0.5, 0.6, n - 1)
    assert seeds_needed(1e-6, 1.0) is None
    assert seeds_needed(0.0, 1.0) is None


def test_fieller_holds_the_ratios_that_a_paired_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.3, 0.1, 8), rng.normal(4, 0.4, 8)
    ratio, low, high = fieller(a.tolist(), b.tolist())
    assert ratio == pytest.approx(a.mean() / b.mean())
    for bound in (low, high):
        assert scipy_stats.ttest_1samp(a - bound * b, 0).pvalue == pytest.approx(0.05)
    assert math.isnan(fieller(a.tolist(), rng.normal(0, 1, 8).tolist()).low)


def test_the_matrix_test_counts_matchings() -> None:
    one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    excess, p = diagonal_excess([one] * 3)
    assert excess == pytest.approx(1.0)
    assert p == (pytest.approx(1 / 6**3), 0.0, False)
    assert diagonal_excess([[[0.0, 1.0], [1.0, 0.0]]]) == (-1.0, (1.0, 0.0, False))


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_what_is_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)
    with pytest.raises(ValueError, match="finite"):
        hierarchical_bootstrap([values])
