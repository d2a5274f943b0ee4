from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.number_text import estimate_text, format_together, percentage, signed, unsigned

FINITE = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "+0.123"), (-0.5, "-0.500"), (0.0, "0"), (1e-17, "0"), (-0.00029, "-0.0003"), (3.2e-8, "+3.2e-08")],
)
def test_a_number_shows_a_digit_of_its_size(value: float, text: str) -> None:
    assert signed(value) == text
    assert unsigned(value) == text.removeprefix("+")
    assert signed(None) == unsigned(None) == "-"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.4455, 0.2909, 0.6002), "+0.45 [+0.29, +0.60]"),
        ((0.0087, -0.0279, 0.0453), "+0.01 [-0.03, +0.05]"),
        ((-0.0018, -0.0052, 0.0015), "-0.0018 [-0.0052, +0.0015]"),
        ((-0.0042, -0.2534, 0.245), "-0.004 [-0.253, +0.245]"),  # with two decimals the mean would be 0
        ((4.1698, 4.0636, 4.276), "+4.17 [+4.06, +4.28]"),
        ((0.0028, -0.0228, 0.0284), "+0.003 [-0.023, +0.028]"),
        ((0.4294, 0.3463, 0.5126), "+0.43 [+0.35, +0.51]"),
        ((326.2, 210.0, 442.4), "+326 [+210, +442]"),
        ((0.0, 0.0, 0.0), "0 in every seed"),
        ((0.5, 0.5, 0.5), "+0.500 in every seed"),
        ((3e-9, 1e-9, 5e-9), "+3.0e-09 [+1.0e-09, +5.0e-09]"),
        ((0.3, -math.inf, 0.5), "+0.30 [-inf, +0.50]"),
    ],
)
def test_half_an_interval_has_one_or_two_digits(numbers: tuple[float, float, float], text: str) -> None:
    assert estimate_text(*numbers) == text
    assert estimate_text(*numbers, sign=False) == text.replace("+", "")


def test_without_an_interval_the_mean_stands_alone() -> None:
    assert estimate_text(0.25, None, None) == "+0.250"
    assert estimate_text(0.0, None, None, sign=False) == "0"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.8449, "84.5 %"), (0.0, "0 %"), (1.0, "100 %"), (0.00043, "0.04 %"), (0.99999, "100.0 %"), (-0.0007, "-0.07 %")],
)
def test_a_share_is_a_percentage_with_digits(share: float, text: str) -> None:
    assert percentage(share) == text


@given(FINITE, st.floats(1e-9, 1e9))
def test_an_interval_keeps_its_order_its_width_and_its_sides_of_zero(mean: float, half: float) -> None:
    texts = format_together(mean, mean - half, mean + half)
    middle, low, high = map(float, texts)
    assert low <= middle <= high
    if max(abs(mean), half) < 100 * half:  # far from 0 the numbers themselves have too few digits
        assert high - low == pytest.approx(2 * half, rel=0.15)
    for value, text in zip((mean, mean - half, mean + half), texts, strict=True):
        assert float(text) == 0 or (float(text) > 0) == (value > 0)
    assert "-0 " not in f"{' '.join(texts)} "


@given(FINITE)
def test_a_number_is_as_near_as_its_digits(value: float) -> None:
    assert float(signed(value)) == pytest.approx(value, rel=0.5, abs=1e-12)
