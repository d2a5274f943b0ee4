"""How often do the intervals cover, and the tests err? Simulated with the library's own functions.

    python -m tests.perf.simulate_statistics [--experiments 20000] [--bootstraps 2000] [--boards 2000]

Seeds are independent; "skewed" gains are exponential (skewness 2), shifted to the wanted mean. Bootstrap readings have
8 questions a seed, with as much spread between questions as between seeds, and 1,000 resamples.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from bench.analysis.gates import Gate
from bench.analysis.power import seeds_needed, smallest_detectable
from bench.analysis.seed_statistics import SeedStatistics
from bench.analysis.stats import (
    crossed_interval,
    fieller,
    mean_interval,
    sign_flip_p,
)
from bench.analysis.verdict import judge

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "skewed": lambda rng, size: rng.exponential(1, size) - 1,
}
GATES = [Gate(name="all", passed=True, reading=1.0, threshold="")]


def coverage(shape: str, n: int, experiments: int, boots: int) -> tuple[float, float, float]:
    """Share of 95 % intervals that hold the truth: t, crossed, Fieller's for the transfer fraction."""
    rng = np.random.default_rng(n)
    gains = 0.5 + SHAPES[shape](rng, (experiments, n))
    hits = [low <= 0.5 <= high for _, low, high in map(mean_interval, gains.tolist())]
    questions = gains[:boots, :, None] + rng.normal(0, 1, (min(boots, experiments), n, 8))
    resampled = [crossed_interval(table.tolist()) for table in questions]
    shifts = rng.normal(5, 0.5, (experiments, n))
    ratios = [fieller(g, s) for g, s in zip(gains.tolist(), shifts.tolist(), strict=True)]
    return (
        float(np.mean(hits)),
        float(np.mean([low <= 0.5 <= high for _, low, high in resampled])),
        float(np.mean([low <= 0.1 <= high for _, low, high in ratios])),
    )


def board(gains: NDArray[np.float64], shift: float = 5.0) -> list[str]:
    """Verdicts of a board whose rows have these (rows, seeds) gains."""
    empty = SeedStatistics(gains.shape[1], [], [], [], [], [], {}, {}, [], {}, {}, [], GATES)
    rows = [empty._replace(gains=g, shifts=[shift] * len(g)) for g in gains.tolist()]
    return [j.verdict for j in judge(rows, [0.05] * len(rows))]


def false_transfers(shape: str, n: int, boards: int, rows: int = 20) -> tuple[float, float]:
    """Share of boards of null rows with a TRANSFER anywhere; share of single null rows with p at most .05."""
    rng = np.random.default_rng(1000 + n)
    wrong, single = 0, []
    for _ in range(boards):
        gains = SHAPES[shape](rng, (rows, n))
        wrong += "TRANSFER" in board(gains)
        single += [sign_flip_p(gains[0].tolist()).p <= 0.05]
    return wrong / boards, float(np.mean(single))


def false_none(n: int, experiments: int) -> float:
    """Share of rows at the edge of the equivalence bound that are called NONE."""
    gains = np.random.default_rng(2000 + n).normal(0.25, 0.1, (experiments, n))
    return float(np.mean([board(g[None])[0] == "NONE" for g in gains]))


def detected(n: int, experiments: int) -> tuple[float, float]:
    """Share of experiments that show the smallest detectable effect: by the t interval, by the sign-flip test."""
    effect = smallest_detectable(1.0, n)
    gains = np.random.default_rng(3000 + n).normal(effect, 1, (experiments, n)).tolist()
    by_t = float(np.mean([mean_interval(g).low > 0 for g in gains]))
    return by_t, float(np.mean([sign_flip_p(g).p <= 0.05 for g in gains[: None if n <= 10 else 2000]]))


def error(experiments: int) -> str:
    return f"{(0.95 * 0.05 / experiments) ** 0.5:.2%}"


def percent(value: float) -> str:
    return f"{value:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=20_000)
    parser.add_argument("--bootstraps", type=int, default=2_000, help="experiments with a bootstrap")
    parser.add_argument("--boards", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("results/perf/statistics.md"))
    args = parser.parse_args()
    covers = [
        [shape, n, *map(percent, coverage(shape, n, args.experiments, args.bootstraps))]
        for shape in SHAPES
        for n in (6, 10, 20)
    ]
    errs = [[shape, n, *map(percent, false_transfers(shape, n, args.boards))] for shape in SHAPES for n in (6, 10, 12)]
    nones = [[n, percent(false_none(n, min(args.experiments, 2000)))] for n in (6, 10, 20)]
    powers = [
        [n, f"{smallest_detectable(1.0, n):.2f}", *map(percent, detected(n, args.experiments))] for n in (6, 10, 20)
    ]
    table = {"tablefmt": "github", "disable_numparse": True}
    text = f"""# Statistics, simulated

Made by `python -m tests.perf.simulate_statistics --experiments {args.experiments} --bootstraps {args.bootstraps}
--boards {args.boards}`, with the functions that judge the leaderboard. The standard error of a share near 95 % over
{args.experiments:,} experiments is {error(args.experiments)}, over the {args.bootstraps:,} with a bootstrap
{error(args.bootstraps)}.

## Coverage of 95 % intervals

{tabulate(covers, headers=["gains", "seeds", "t", "crossed", "Fieller (fraction)"], **table)}

## False TRANSFER

Boards of 20 rows without any effect; then a single such row at p <= .05, uncorrected and two-sided.

{tabulate(errs, headers=["gains", "seeds", "boards with a TRANSFER", "single rows"], **table)}

## False NONE

Rows whose true gain lies exactly on the bound (at most 2,000 of them).

{tabulate(nones, headers=["seeds", "called NONE"], **table)}

## Power

At the smallest detectable effect (80 % promised), in units of the seeds' standard deviation.

{tabulate(powers, headers=["seeds", "effect", "t interval above 0", "sign-flip p <= .05"], **table)}

Seeds needed to show an effect of half a standard deviation: {seeds_needed(0.5, 1.0)}; of one: {seeds_needed(1.0, 1.0)}.
"""
    args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
