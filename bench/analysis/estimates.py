"""Estimates over seeds: parts of a leaderboard entry."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from bench.analysis.p_values import sign_flip_p
from bench.analysis.stats import fieller, mean_interval

__all__ = ["Difference", "EntryPart", "Estimate", "Ratio", "difference", "estimate", "known", "ratio"]


class EntryPart(BaseModel):
    """Infinite numbers are allowed: an interval may have no end."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(EntryPart):
    """A mean over seeds with its 95 % t interval."""

    seeds: int
    """Number of seeds."""
    mean: float
    """Mean over the seeds."""
    ci_low: float | None
    """Lower end of the interval; None for one seed."""
    ci_high: float | None
    """Upper end of the interval; None for one seed."""


class Difference(Estimate):
    """A mean difference, paired by seed."""

    p: float | None
    """Sign-flip p, not corrected; None for one seed."""
    p_error: float | None = None
    """Its standard error; 0 where it is exact."""
    p_at_floor: bool = False
    """Whether the true p is at most this one."""


class Ratio(EntryPart):
    """A ratio of two means over seeds with its 95 % interval (Fieller)."""

    seeds: int
    """Number of seeds."""
    mean: float | None
    """The ratio; None for a denominator of 0, or of no meaning."""
    ci_low: float | None
    """Lower end; None for one seed, or if the denominator is too near 0 for an interval with two ends."""
    ci_high: float | None
    """Upper end of the interval."""


def known(value: float) -> float | None:
    """`value`, or None for NaN."""
    return None if math.isnan(value) else value


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed, with its interval."""
    mean, low, high = mean_interval(values)
    return Estimate(seeds=len(values), mean=mean, ci_low=known(low), ci_high=known(high))


def difference(values: Sequence[float]) -> Difference:
    """The mean of one difference per seed, with its interval and its p."""
    if len(values) < 2:
        return Difference(**estimate(values).model_dump(), p=None)
    p, error, at_floor = sign_flip_p(values)
    return Difference(**estimate(values).model_dump(), p=p, p_error=error, p_at_floor=at_floor)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """The ratio of two means, paired by seed, with its interval."""
    mean, low, high = map(known, fieller(numerators, denominators))
    return Ratio(seeds=len(numerators), mean=mean, ci_low=low, ci_high=high)
