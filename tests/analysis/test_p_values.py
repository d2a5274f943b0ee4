from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.analysis.p_values import benjamini_hochberg, johnson_p, seeds_for_sign_flip, sign_flip_p

RNG = np.random.default_rng(7)
SAMPLES = [RNG.normal(0.3, 1, n).tolist() for n in (2, 3, 6, 10, 14)]
SKEWED = [RNG.exponential(1, n).tolist() for n in (3, 6, 20)]


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


def test_the_sign_flip_test_of_20_seeds_is_exact_within_50_ms() -> None:
    values = RNG.normal(0.3, 1, 20).tolist()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert sign_flip_p(values).error == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # .3 ms on an idle core


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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_are_scipys(ps: list[float]) -> None:
    assert benjamini_hochberg(ps) == pytest.approx(scipy_stats.false_discovery_control(ps).tolist(), abs=1e-15)


def test_no_rows_have_no_q_values_and_a_p_above_1_is_refused() -> None:
    assert benjamini_hochberg([]) == []
    for p in (1.1, -0.1, math.nan):
        with pytest.raises(ValueError, match="p-values from 0 to 1"):
            benjamini_hochberg([0.5, p])


@pytest.mark.parametrize("values", SAMPLES[1:] + SKEWED)
def test_johnsons_p_follows_his_formula(values: list[float]) -> None:
    data, n = np.array(values) - 0.5, len(values)
    s2, k3 = data.var(ddof=1), scipy_stats.kstat(data, 3)
    by_johnson = (data.mean() + k3 / (6 * s2 * n) + k3 / (3 * s2**2) * data.mean() ** 2) / math.sqrt(s2 / n)
    t = scipy_stats.ttest_1samp(data, 0).statistic
    by_hall = by_johnson + (k3 / s2**1.5) ** 2 * t**3 / (27 * n)
    assert johnson_p(data.tolist()) == pytest.approx(2 * scipy_stats.t.sf(abs(by_hall), n - 1))


def test_johnsons_p_of_a_symmetric_sample_is_that_of_the_t_test() -> None:
    values = [0.1, 0.3, 0.5, 0.7, 0.9]
    assert johnson_p(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


def test_johnsons_p_never_grows_with_the_mean_of_a_left_skewed_sample() -> None:
    sample = -np.random.default_rng(5).exponential(1, 10) + 1.5
    ps = [johnson_p((sample + shift).tolist()) for shift in np.linspace(0, 10, 60)]
    assert ps == sorted(ps, reverse=True)
    assert ps[-1] < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_johnsons_test_errs_less_than_the_sign_flip_test_on_skewed_gains(sign: int) -> None:
    gains = (sign * (np.random.default_rng(2).exponential(1, (4000, 10)) - 1)).tolist()
    johnson = np.mean([johnson_p(values) <= 0.05 for values in gains])
    assert 0.045 <= johnson <= 0.07
    assert johnson < np.mean([sign_flip_p(values).p <= 0.05 for values in gains[:1000]])


def test_johnsons_p_of_too_few_or_equal_values() -> None:
    assert math.isnan(johnson_p([1.0, 2.0]))
    assert (johnson_p([0.1] * 7), johnson_p([0.0] * 7)) == (0.0, 1.0)
