"""Print `bench.analysis.power.TABLE`: the smallest effects that the sign-flip test detects at level .05.

python -m tests.perf.power_table        some five minutes on one core
"""

from __future__ import annotations

import math

import numpy as np

from bench.analysis.p_values import seeds_for_sign_flip
from bench.analysis.power import SIMULATED, TARGET, detection_thresholds


def main() -> None:
    for n in SIMULATED[seeds_for_sign_flip(0.05) - 1 :]:
        thresholds = detection_thresholds(n, 0.05, 2**16 if n <= 12 else 2**15)
        low, value, high = np.quantile(thresholds, TARGET + np.array([-1, 0, 1]) * 0.4 / math.sqrt(len(thresholds)))
        error = (high - low) / 2 * math.sqrt(n)
        print(f"{value * math.sqrt(n):.3f},  # {n} seeds, {len(thresholds):,} samples, error {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
