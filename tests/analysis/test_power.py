from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from bench.analysis.p_values import sign_flip_p
from bench.analysis.power import (
    SIMULATED,
    TABLE,
    detection_thresholds,
    seeds_needed,
    sign_flip_power,
    smallest_detectable,
)


def measure_power(effect: float, n: int, level: float, samples: int) -> float:
    gains = np.random.default_rng(n).normal(effect, 1, (samples, n)).tolist()
    return float(np.mean([sum(values) > 0 and sign_flip_p(values).p <= level for values in gains]))


@pytest.mark.parametrize(
    ("effect", "n", "level"),
    [(1.5, 6, 0.05), (1, 8, 0.05), (0.5, 20, 0.05), (1, 10, 0.05), (0.8, 16, 0.01), (0, 7, 0.05)],
)
def test_power_is_that_of_the_sign_flip_test(effect: float, n: int, level: float) -> None:
    assert sign_flip_power(effect, n, level) == pytest.approx(measure_power(effect, n, level, 1500), abs=0.05)


def test_six_seeds_must_all_be_above_0() -> None:
    for effect in (0.0, 0.7, 1.5):
        assert sign_flip_power(effect, 6) == pytest.approx(norm.cdf(effect) ** 6, abs=0.01)
    exact = brentq(lambda effect: norm.cdf(effect) ** 6 - 0.8, 0, 5)
    assert smallest_detectable(1, 6) == pytest.approx(exact, rel=0.005)
    assert smallest_detectable(1, 8, 2 / 2**8) == pytest.approx(norm.ppf(0.8 ** (1 / 8)), rel=0.02)


def test_too_few_seeds_show_nothing() -> None:
    assert sign_flip_power(9.0, 5) == 0.0
    assert math.isnan(smallest_detectable(1, 5))
    assert math.isnan(smallest_detectable(1, 6, 0.01))
    assert seeds_needed(100, 1) == 6
    assert seeds_needed(100, 1, 0.01) == 8


@pytest.mark.parametrize("n", [8, 14, 24])
def test_the_smallest_detectable_effect_has_a_power_of_80_percent(n: int) -> None:
    assert measure_power(smallest_detectable(1, n), n, 0.05, 1500) == pytest.approx(0.8, abs=0.06)


def test_the_table_is_what_the_simulation_gives_and_falls_with_the_seeds() -> None:
    numbers = SIMULATED[5:]
    assert len(TABLE) == len(numbers)
    effects = [scaled / math.sqrt(n) for scaled, n in zip(TABLE, numbers, strict=True)]
    assert effects == sorted(effects, reverse=True)
    for n in (6, 9, 12, 20, 50):
        simulated = np.quantile(detection_thresholds(n, 0.05, 4000), 0.8)
        assert smallest_detectable(1, n) == pytest.approx(simulated, rel=0.03)


def test_detectable_effects_fall_beyond_the_table_towards_the_z_test() -> None:
    effects = [smallest_detectable(1, n) for n in range(6, 1001)]
    assert effects == sorted(effects, reverse=True)
    assert effects[-1] * math.sqrt(1000) == pytest.approx(norm.ppf(0.975) + norm.ppf(0.8), rel=0.01)


def test_effects_scale_with_the_spread_and_grow_with_a_stricter_level() -> None:
    assert smallest_detectable(0.3, 10) == pytest.approx(0.3 * smallest_detectable(1, 10))
    assert smallest_detectable(0.0, 10) == 0
    assert math.isnan(smallest_detectable(math.nan, 10))
    assert smallest_detectable(1, 20) < smallest_detectable(1, 20, 0.01) < smallest_detectable(1, 20, 0.001)


@pytest.mark.parametrize("effect", [0.2, 0.5, 0.9, 3.0])
def test_the_seeds_needed_are_the_fewest_that_detect_the_effect(effect: float) -> None:
    n = seeds_needed(-effect, 0.6)
    assert n is not None
    assert smallest_detectable(0.6, n) <= effect
    assert n == 6 or smallest_detectable(0.6, n - 1) > effect


def test_no_number_of_seeds_is_given_for_no_effect_or_beyond_the_most() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1e-6, 1.0) is None
    assert seeds_needed(0.5, 1.0, most=20) is None
    assert seeds_needed(0.5, 0.0) == 6


def test_a_board_of_10000_rows_asks_for_power_in_a_second() -> None:
    spreads = np.random.default_rng(0).exponential(1, 10_000).tolist()
    start = time.perf_counter()
    for i, spread in enumerate(spreads):
        smallest_detectable(spread, 3 + i % 40)
        seeds_needed(0.1, spread)
    assert time.perf_counter() - start < 1.5
