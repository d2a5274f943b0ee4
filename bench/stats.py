"""Intervals and tests over seeds: numbers in, numbers out. Nothing here knows a model.

One number per seed is the unit: a mean over questions first, so that questions are never mistaken for repetitions
(Miller 2024, arXiv 2411.00640).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

__all__ = ["Interval", "mean_interval"]


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval; the bounds are NaN where one seed gives none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent values with Student's t interval, n - 1 degrees of freedom.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    data = np.asarray(values, dtype=float)
    mean = float(data.mean())
    n = len(data)
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stdtrit(n - 1, 0.5 + level / 2) * data.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half)
