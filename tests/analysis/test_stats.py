from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from bench.analysis.stats import (
    crossed_interval,
    diagonal_excess,
    dose_slope,
    fieller,
    mean_interval,
    mean_intervals,
    skewness,
    variance_components,
)

RNG = np.random.default_rng(7)
SAMPLES = [RNG.normal(0.3, 1, n).tolist() for n in (2, 3, 6, 10, 14)]
SKEWED = [RNG.exponential(1, n).tolist() for n in (3, 6, 20)]


def draw_crossed(
    rng: np.random.Generator, n: int, q: int, seeds: float = 0.5, questions: float = 1.0, rest: float = 1.0
) -> NDArray[np.float64]:
    """A (seeds, questions) table with a true mean of 0 and these standard deviations."""
    table = rng.normal(0, seeds, (n, 1)) + rng.normal(0, questions, (1, q)) + rng.normal(0, rest, (n, q))
    return np.asarray(table, dtype=np.float64)


@pytest.mark.parametrize("values", SAMPLES)
def test_the_t_interval_is_scipys(values: list[float]) -> None:
    mean, low, high = mean_interval(values)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected))


def test_skewness_of_too_few_or_equal_values_is_none() -> None:
    assert math.isnan(skewness([1.0, 2.0]))
    assert math.isnan(skewness([0.1] * 7))


@pytest.mark.parametrize("values", SAMPLES[1:] + SKEWED)
def test_skewness_is_scipys_without_bias(values: list[float]) -> None:
    assert skewness(values) == pytest.approx(scipy_stats.skew(values, bias=False))


def test_fieller_holds_the_ratios_that_a_paired_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.3, 0.1, 8), rng.normal(4, 0.4, 8)
    ratio, low, high = fieller(a.tolist(), b.tolist())
    assert ratio == pytest.approx(a.mean() / b.mean())
    for bound in (low, high):
        assert scipy_stats.ttest_1samp(a - bound * b, 0).pvalue == pytest.approx(0.05)
    assert math.isnan(fieller(a.tolist(), rng.normal(0, 1, 8).tolist()).low)


@pytest.mark.parametrize(("n", "q"), [(6, 8), (20, 5)])
def test_the_crossed_interval_covers_where_the_t_interval_over_seeds_does_not(n: int, q: int) -> None:
    rng = np.random.default_rng(n)
    tables = [draw_crossed(rng, n, q) for _ in range(2000)]
    crossed = np.mean([low <= 0 <= high for _, low, high in map(crossed_interval, tables)])
    seeds_alone = np.mean([low <= 0 <= high for _, low, high in (mean_interval(t.mean(1).tolist()) for t in tables)])
    assert 0.935 <= crossed <= 0.975
    assert seeds_alone < 0.85


def test_the_crossed_interval_of_a_table_without_question_effects_is_no_narrower_than_t_would_allow() -> None:
    rng = np.random.default_rng(4)
    tables = [draw_crossed(rng, 6, 8, questions=0.0) for _ in range(2000)]
    assert 0.94 <= np.mean([low <= 0 <= high for _, low, high in map(crossed_interval, tables)]) <= 0.985


def test_the_crossed_interval_does_not_depend_on_the_order_of_seeds_and_questions() -> None:
    table = draw_crossed(np.random.default_rng(1), 6, 4)
    shuffled = table[::-1][:, [2, 0, 3, 1]]
    assert crossed_interval(table.tolist()) == pytest.approx(crossed_interval(shuffled.tolist()))
    assert crossed_interval(table.T.tolist()) == pytest.approx(crossed_interval(table.tolist()))


@given(
    st.integers(2, 6).flatmap(
        lambda q: st.lists(st.lists(st.floats(-100, 100), min_size=q, max_size=q), min_size=2, max_size=6)
    )
)
def test_the_crossed_interval_holds_its_mean_and_widens_with_the_level(table: list[list[float]]) -> None:
    mean, low, high = crossed_interval(table)
    wider = crossed_interval(table, 0.99)
    assert mean == pytest.approx(np.mean(table))
    assert wider.low <= low <= mean <= high <= wider.high


def test_a_single_seed_or_question_has_no_crossed_interval_and_no_variances() -> None:
    for table in ([[1.0, 2.0]], [[1.0], [2.0]]):
        assert crossed_interval(table) == (
            1.5,
            pytest.approx(math.nan, nan_ok=True),
            pytest.approx(math.nan, nan_ok=True),
        )
        assert all(map(math.isnan, variance_components(table)))
    assert crossed_interval([[0.5, 0.5], [0.5, 0.5]]) == (0.5, 0.5, 0.5)


def test_equal_means_of_all_seeds_and_questions_are_no_certainty_where_single_answers_differ() -> None:
    center, low, high = crossed_interval([[0, 100], [100, 0], [0, 100], [100, 0]])  # rates of one answer each
    assert center == 50
    assert high - 50 == pytest.approx(50 - low)
    assert high - low == pytest.approx(2 * 3.1824 * (20_000 / 3 / 8) ** 0.5, rel=1e-4)  # t of 3 degrees of freedom


def test_variance_components_return_the_variances_that_made_the_table() -> None:
    tables = [draw_crossed(np.random.default_rng(seed), 40, 40, 0.5, 1.0, 2.0) for seed in range(40)]
    assert np.mean([variance_components(table) for table in tables], axis=0) == pytest.approx([0.25, 1, 4], rel=0.1)


def test_variance_components_are_those_of_the_analysis_of_variance() -> None:
    table = draw_crossed(np.random.default_rng(3), 5, 4)
    within = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    rest = (within**2).sum() / 12
    seeds, questions, noise = variance_components(table.tolist())
    assert noise == pytest.approx(rest)
    # an F test of scipy compares the same mean squares, pooled: MS between / MS within
    between = 4 * table.mean(1).var(ddof=1)
    pooled = (12 * rest + 3 * 5 * table.mean(0).var(ddof=1)) / 15
    assert scipy_stats.f_oneway(*table).statistic == pytest.approx(between / pooled)
    assert seeds == pytest.approx(max(0, (between - rest) / 4))
    assert questions == pytest.approx(max(0, (5 * table.mean(0).var(ddof=1) - rest) / 5))


def test_the_excess_of_a_matrix_is_diagonal_minus_rest_in_each_seed() -> None:
    one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert diagonal_excess([one, (2 * np.array(one) + 5).tolist()]) == pytest.approx([1.0, 2.0])
    assert diagonal_excess([[[0.0, 1.0], [1.0, 0.0]]]) == [-1.0]
    start = time.perf_counter()
    assert len(diagonal_excess(np.eye(30)[None].repeat(20, 0).tolist())) == 20  # no matchings are enumerated
    assert time.perf_counter() - start < 0.5
    for wrong in ([[[1.0]]], [[[1.0, 2.0]]]):
        with pytest.raises(ValueError, match="square"):
            diagonal_excess(wrong)


def test_the_dose_slope_is_scipys_regression_on_doublings() -> None:
    steps, gains = [3, 10, 40, 80], RNG.normal(0, 1, (3, 4)).tolist()
    expected = [scipy_stats.linregress(np.log2(steps), row).slope for row in gains]
    assert dose_slope(steps, gains) == pytest.approx(expected)
    assert dose_slope([8, 16, 32], [[0.1, 0.3, 0.5]]) == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("steps", "gains"), [([8], [[1.0]]), ([8, 8], [[1.0, 2.0]]), ([0, 8], [[1.0, 2.0]]), ([4, 8], [[1.0]])]
)
def test_a_dose_slope_needs_two_counts_and_a_gain_for_each(steps: list[int], gains: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dose_slope(steps, gains)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_what_is_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)
    for function in (crossed_interval, variance_components):
        with pytest.raises(ValueError, match="finite"):
            function([values])


def test_the_intervals_of_a_table_are_those_of_its_columns() -> None:
    table = np.random.default_rng(3).normal(0.2, 1.0, (6, 4))
    for column, interval in zip(table.T.tolist(), mean_intervals(table), strict=True):
        assert interval == pytest.approx(mean_interval(column))
