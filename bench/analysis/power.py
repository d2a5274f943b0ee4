"""Power of the sign-flip test: what a number of seeds can show. Simulated for normal gains, never from the t test."""

from __future__ import annotations

import bisect
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bench.analysis.p_values import seeds_for_sign_flip

__all__ = ["seeds_needed", "sign_flip_power", "smallest_detectable"]

TARGET = 0.8  # the power that an effect needs to count as detectable
PATTERNS = (2**11, 2**16)  # fewest and most sign patterns; up to 12 seeds 2^11 are all of them
PER_LEVEL = 16  # patterns drawn for one that the level allows to be as extreme as the observed one
LEAST_ALLOWED = 4  # fewer allowed patterns say nothing: no figure below a level of 6e-5 where patterns are drawn
CELLS = 2**22  # samples x patterns of one simulation, about .3 s
SAMPLES = (1_000, 20_000)  # fewest and most samples of one simulation
SIMULATED = (*range(1, 33), 50, 100)  # numbers of seeds; between them effect x sqrt(seeds) is linear in 1 / seeds
# Smallest detectable effect x sqrt(seeds) at level .05, from 6 seeds on, in the order of SIMULATED. Standard errors
# are below .011. Made by `python -m tests.perf.power_table`.
TABLE = (
    4.398,
    3.529,
    3.369,
    3.270,
    3.178,
    3.117,
    3.088,
    3.065,
    3.019,
    3.019,
    3.005,
    2.982,
    2.977,
    2.957,
    2.954,
    2.938,
    2.935,
    2.937,
    2.921,
    2.917,
    2.922,
    2.913,
    2.901,
    2.907,
    2.901,
    2.901,
    2.893,
    2.849,
    2.842,
)


@lru_cache(maxsize=256)
def detection_thresholds(n: int, level: float, samples: int = 0) -> NDArray[np.float64]:
    """Per simulated sample, the true mean (in sd) above which the two-sided test finds a gain above 0, sorted.

    A sample is noise z plus a mean d. With T = sum(z), sign pattern s is as extreme as the observed one while
    |s.z + d sum(s)| >= T + d n: while d <= (s.z - T) / (n - sum(s)) or d <= -(s.z + T) / (n + sum(s)). The test rejects
    where the share of such patterns, the observed one included, is at most `level`. Empty where no sample can.
    `samples`: 0 for as many as take about .3 s.
    """
    half = 2 ** (n - 1)  # -s is as extreme as s, so the first sign stays +
    patterns = min(half, max(PATTERNS[0], math.ceil(PER_LEVEL / level)), PATTERNS[1])
    rng = np.random.default_rng(0)
    if patterns == half:
        signs = 1.0 - 2 * ((np.arange(1, half)[:, None] >> np.arange(n)) & 1)  # 0 is the observed pattern
        allowed = math.floor(level * half + 1e-9) - 1
    else:
        signs = 1.0 - 2 * rng.integers(0, 2, (patterns, n))
        signs[:, 0] = 1
        signs = signs[signs.sum(1) < n]
        allowed = math.floor(level * len(signs))
    if allowed < (0 if patterns == half else LEAST_ALLOWED):
        return np.empty(0)
    tilt, out = signs.sum(1), []
    samples = samples or min(max(CELLS // patterns, SAMPLES[0]), SAMPLES[1])
    block = max(1, 2**20 // patterns)
    for start in range(0, samples, block):
        noise = rng.normal(0, 1, (min(block, samples - start), n))
        sums, total = noise @ signs.T, noise.sum(1, keepdims=True)
        effects = np.maximum((sums - total) / (n - tilt), -(sums + total) / (n + tilt))
        out.append(np.partition(effects, -allowed - 1, axis=1)[:, -allowed - 1])
    return np.sort(np.concatenate(out))


def sign_flip_power(effect_in_sd: float, n: int, level: float = 0.05) -> float:
    """Probability that the two-sided sign-flip test at `level` finds a true mean of `effect_in_sd` above 0.

    For `n` normal gains; simulated, with a standard error of at most .016. NaN where patterns must be drawn (from
    13 seeds on) and the level is below 6e-5.
    """
    if n < seeds_for_sign_flip(level):
        return 0.0
    thresholds = detection_thresholds(n, level)
    return float(np.searchsorted(thresholds, effect_in_sd) / len(thresholds)) if len(thresholds) else math.nan


@lru_cache(maxsize=4096)
def _scaled_effect(n: int, level: float) -> float:
    """The smallest detectable effect x sqrt(n), in sd; NaN where there is none."""
    least = seeds_for_sign_flip(level)
    if n < least:
        return math.nan
    if n in SIMULATED:
        if level == 0.05:
            return TABLE[SIMULATED.index(n) - SIMULATED.index(least)]
        thresholds = detection_thresholds(n, level)
        return float(np.quantile(thresholds, TARGET)) * math.sqrt(n) if len(thresholds) else math.nan
    at = bisect.bisect(SIMULATED, n)
    below = SIMULATED[at - 1]
    if at < len(SIMULATED):
        above, right = SIMULATED[at], _scaled_effect(SIMULATED[at], level)
    else:  # in the limit of many seeds it is the z test
        above, right = math.inf, float(ndtri(1 - level / 2) + ndtri(TARGET))
    share = (1 / n - 1 / above) / (1 / below - 1 / above)
    return float(_scaled_effect(below, level) * share + right * (1 - share))


def smallest_detectable(sd: float, n: int, level: float = 0.05) -> float:
    """The smallest true mean that the sign-flip test at `level` finds above 0 with probability .8, for `n` seeds.

    Args:
        sd: standard deviation of the gain between seeds. Where it is that of the row itself, the result is an
            estimate from these seeds and no plan: the caller must say so.

    Returns:
        In the unit of `sd`. NaN where so few seeds cannot reach `level`, and where `sign_flip_power` is NaN.
    """
    return sd * _scaled_effect(n, level) / math.sqrt(n)


def seeds_needed(effect: float, sd: float, level: float = 0.05, most: int = 1000) -> int | None:
    """The fewest seeds at which the sign-flip test at `level` finds `effect` with probability .8; None beyond `most`.

    Args:
        effect: true mean. Where it is the observed one, the result is an estimate and no plan: the caller must say so.
        sd: standard deviation between seeds, with the same caveat.
    """
    low, high = seeds_for_sign_flip(level), most + 1
    if effect == 0:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if smallest_detectable(sd, middle, level) <= abs(effect) else (middle + 1, high)
    return low if low <= most else None
