"""Numbers as text, with as many digits as their size and their interval justify."""

from __future__ import annotations

import math

__all__ = [
    "estimate_text",
    "fit_decimals",
    "fit_interval",
    "format_number",
    "format_together",
    "is_constant",
    "percentage",
    "signed",
    "unsigned",
]

MOST_DECIMALS = 6  # smaller numbers are written with a power of ten
NOTHING = 1e-12  # differences of log-probabilities below this are rounding errors


def fit_decimals(size: float, significant: int = 2) -> int:
    """Return the decimals with which a number of this size shows `significant` digits."""
    size = abs(size)
    if size < NOTHING or not math.isfinite(size):
        return 0
    return max(0, significant - 1 - math.floor(math.log10(size * (1 + 1e-9))))


def fit_interval(half: float) -> int:
    """Return the decimals for an estimate with half an interval of this size.

    The rule of the Particle Data Group (2024, Review of Particle Physics, Introduction 5.3): half the interval shows
    two digits if its first three are up to 354, otherwise one.
    """
    leading = f"{half:e}".partition("e")[0]
    return fit_decimals(half, 2 if float(leading) < 3.545 else 1)


def format_number(value: float, decimals: int, *, sign: bool = True) -> str:
    """Return a number with these decimals; a number that rounds to 0 has no sign.

    More than six decimals become a power of ten: +3.2e-08.
    """
    plus = "+" if sign else ""
    if decimals > MOST_DECIMALS:
        return "0" if abs(value) < NOTHING else f"{value:{plus}.1e}"
    if math.isfinite(value) and round(value, decimals) == 0:
        return f"{0:.{decimals}f}"
    return f"{value:{plus}.{decimals}f}"


def signed(value: float | None, decimals: int = 3) -> str:
    """Return a number with its sign: +0.021. At least one of its digits is shown, and 0 is `0`; a dash for None."""
    return "-" if value is None else _fit(value, decimals, sign=True)


def unsigned(value: float | None, decimals: int = 3) -> str:
    """Return a number as `signed` does, without the plus: 0.021."""
    return "-" if value is None else _fit(value, decimals, sign=False)


def _fit(value: float, decimals: int, *, sign: bool) -> str:
    return "0" if abs(value) < NOTHING else format_number(value, max(decimals, fit_decimals(value, 1)), sign=sign)


def percentage(share: float) -> str:
    """Return a share in percent: 84.5 %, 0.04 %; the ends are 0 % and 100 %."""
    value = 100 * share
    if value in (0.0, 100.0):
        return f"{value:.0f} %"
    return f"{format_number(value, min(max(1, fit_decimals(value, 1)), MOST_DECIMALS), sign=False)} %"


def is_constant(mean: float, low: float, high: float) -> bool:
    """Return whether an interval has no width: every seed has the same value."""
    return high - low <= max(NOTHING, 1e-9 * abs(mean))


def format_together(mean: float, low: float, high: float, *, sign: bool = True) -> tuple[str, str, str]:
    """Return a mean and the ends of its interval with the same decimals.

    There is one decimal more where the mean would round to 0.
    """
    half = (high - low) / 2
    decimals = fit_interval(half) if math.isfinite(half) else fit_decimals(mean)
    if round(mean, decimals) == 0 and abs(mean) >= NOTHING:
        decimals += 1
    texts = [format_number(value, decimals, sign=sign) for value in (mean, low, high)]
    return texts[0], texts[1], texts[2]


def estimate_text(mean: float, low: float | None, high: float | None, *, sign: bool = True, unit: str = "") -> str:
    """Return a mean with its interval: +0.45 [+0.29, +0.60], or `0 in every seed`; the mean alone without one.

    Args:
        mean: the mean.
        low: the lower end of its interval.
        high: the upper end.
        sign: whether positive numbers have one.
        unit: after the numbers, with its space.
    """
    alone = signed(mean) if sign else unsigned(mean)
    if low is None or high is None:
        return alone + unit
    if is_constant(mean, low, high):
        return f"{alone}{unit} in every seed"
    texts = format_together(mean, low, high, sign=sign)
    return f"{texts[0]} [{texts[1]}, {texts[2]}]{unit}"
