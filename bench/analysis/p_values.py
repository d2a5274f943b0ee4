"""Tests over seeds and their p-values: numbers in, numbers out.

How often each test errs is simulated by `tests/perf/simulate_statistics.py`; its table is `results/perf/statistics.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from bench.analysis.stats import seed_values, skewness

__all__ = ["PValue", "benjamini_hochberg", "johnson_p", "seeds_for_sign_flip", "sign_flip_p"]

EXACT_SEEDS = 36  # sign patterns are enumerated up to here: two halves of 2^18 sums, 40 to 130 ms
DRAWS = 2**16  # sign patterns drawn beyond


class PValue(NamedTuple):
    """A p-value and the standard error of its own estimation: 0 where it was enumerated.

    `at_floor`: no drawn pattern was as extreme, so the true p is at most this.
    """

    p: float
    error: float
    at_floor: bool = False

    def text(self) -> str:
        """Render it: with <= where it is at its floor, with its standard error where it was drawn."""
        if self.at_floor:
            return f"<= {self.p:.2g}"
        return f"{self.p:.2g}" + (f" ± {self.error:.1g}" if self.error else "")


def _sign_sums(data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of `data` under all 2^n choices of signs, (2^n,)."""
    sums = np.zeros(1)
    for value in data:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def sign_flip_p(values: Sequence[float], seed: int = 0) -> PValue:
    """Two-sided p of a mean of 0: how often a random choice of signs gives a mean at least as far from 0.

    Exact up to 36 values: the sums of one half of the values under all signs meet those of the other half, sorted
    (Horowitz and Sahni 1974). Beyond, 2^16 patterns are drawn. The exact p cannot fall below 2 / 2^n. Valid where each
    value is symmetric about 0 under the null, as a paired difference of exchangeable arms is.
    """
    data = seed_values(values)
    n, observed = len(data), abs(float(data.sum()))
    slack = 1e-12 * float(np.abs(data).sum())  # ties count, in any order of summation
    if n <= EXACT_SEEDS:
        # -s mirrors s, so the first sign stays +
        left, right = data[0] + _sign_sums(data[1 : n // 2]), np.sort(_sign_sums(data[max(1, n // 2) :]))
        above = len(right) - np.searchsorted(right, observed - slack - left, side="left")
        below = np.searchsorted(right, -observed + slack - left, side="right")
        extreme = int(above.sum() + below.sum())
        return PValue(min(1.0, extreme / 2 ** (n - 1)), 0.0, False)
    signs = np.random.default_rng(seed).integers(0, 2, (DRAWS, n)) * 2 - 1
    extreme = int((np.abs(signs @ data) >= observed - slack).sum())
    p = (1 + extreme) / (1 + DRAWS)
    return PValue(p, math.sqrt(p * (1 - p) / DRAWS), extreme == 0)


def seeds_for_sign_flip(alpha: float) -> int:
    """The fewest seeds at which a sign-flip test can reach `alpha` at all."""
    return math.ceil(math.log2(2 / alpha))


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """q-values in the order given: rejecting those at or below q keeps the false discovery rate at most q.

    Benjamini and Hochberg (1995), for independent or positively dependent p-values.

    Raises:
        ValueError: a p-value outside 0 to 1.
    """
    if not all(0 <= p <= 1 for p in ps):
        raise ValueError("expected p-values from 0 to 1")
    order = sorted(range(len(ps)), key=lambda i: ps[i], reverse=True)
    out, smallest = [0.0] * len(ps), 1.0
    for i, index in enumerate(order):
        smallest = min(smallest, ps[index] * len(ps) / (len(ps) - i))
        out[index] = smallest
    return out


def johnson_p(values: Sequence[float]) -> float:
    """Two-sided p of a mean of 0 by the t test corrected for skewness (Johnson 1978, JASA 73).

    With g = k3 / s^3, k3 the unbiased third central moment, the statistic is t + g t^2 / (3 sqrt n) + g / (6 sqrt n),
    plus the term g^2 t^3 / (27 n) of Hall (1992, JRSS B 54), on n - 1 degrees of freedom. Without that term it is not
    monotone in t: of 10 normal values with a mean of 4 sd it misses 6 %, with it .2 %. NaN below 3 values.
    """
    data = seed_values(values)
    n = len(data)
    if n < 3:
        return math.nan
    center, sd = float(data.mean()), float(data.std(ddof=1))
    if np.ptp(data) <= 1e-12 * np.abs(data).max():
        return 0.0 if center else 1.0
    t = center / sd * math.sqrt(n)
    shift = skewness(values) / (3 * math.sqrt(n))  # the adjusted skewness is k3 / s^3
    return float(2 * stdtr(n - 1, -abs(t + shift * t**2 + shift**2 * t**3 / 3 + shift / 2)))
