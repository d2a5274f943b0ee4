"""How often do verdicts, intervals and gates err? Simulated through the code that judges the leaderboard.

    python -m tests.perf.simulate_statistics [--scale 1.0]        writes results/perf/statistics.md

`--scale` multiplies the number of simulated rows.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from bench.analysis.gates import MIN_FIT, check_gates
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.stats import crossed_interval, fieller, mean_interval
from bench.analysis.summary import summarise
from tests.board import make_row, with_margins, with_reading
from tests.perf.simulated_rates import false_transfer_of_rates
from tests.perf.simulated_verdicts import (
    SHAPES,
    Table,
    describe_error,
    false_discoveries,
    false_none,
    false_transfer,
    nested_looks,
    percent,
    power,
    true_none,
)


def seed_coverage(rows: int) -> Table:
    table = Table(
        "Coverage of 95 % intervals over seeds",
        f"""The t interval of a gain of .5 sd, and Fieller's interval of gain / teacher shift for a normal shift of
        5 ± .5 sd. {describe_error(0.95, rows)}.""",
        ["gains", "seeds", "t", "Fieller"],
    )
    for shape, draw in SHAPES.items():
        for n in (6, 10, 20):
            rng, hits = np.random.default_rng(n), np.zeros(2)
            gains, shifts = 0.5 + draw(rng, (rows, n)), rng.normal(5, 0.5, (rows, n))
            for own, shift in zip(gains.tolist(), shifts.tolist(), strict=True):
                gain, fraction = mean_interval(own), fieller(own, shift)
                hits += [gain.low <= 0.5 <= gain.high, fraction.low <= 0.1 <= fraction.high]
            table.rows.append([shape, n, *map(percent, hits / rows)])
    return table


def crossed_coverage(rows: int) -> Table:
    table = Table(
        "Coverage of 95 % intervals with crossed questions",
        f"""Gain of a seed on a question = truth + seed (sd .5, of the shape named) + question (normal, sd 1, the same
        for all seeds) + rest (normal, sd 1). "These questions": the t interval over seeds, the primary one. "A
        population": the crossed interval; beside it the t interval, asked to cover what it does not promise.
        {describe_error(0.95, rows)}.""",
        ["seed effects", "seeds", "questions", "t: these questions", "crossed: a population", "t: a population"],
    )
    for shape in ("normal", "t, 3 degrees", "left-skewed"):
        for n, q in ((6, 8), (6, 56), (10, 8), (10, 56), (20, 8), (20, 56)):
            rng = np.random.default_rng([n, q])
            hits = np.zeros(3)
            for _ in range(rows):
                questions = rng.normal(0, 1, q)
                gains = 0.5 * SHAPES[shape](rng, (n, 1)) + questions + rng.normal(0, 1, (n, q))
                seeds, population = mean_interval(gains.mean(1).tolist()), crossed_interval(gains)  # type: ignore[arg-type]  # an array
                hits += [
                    seeds.low <= questions.mean() <= seeds.high,
                    population.low <= 0 <= population.high,
                    seeds.low <= 0 <= seeds.high,
                ]
            table.rows.append([shape, n, q, *map(percent, hits / rows)])
    return table


def larger_board() -> Table:
    table = Table(
        "A row among others",
        """One row, alone and with 1,000 others, through the whole of `summarise`. Only q may change.""",
        ["board", "verdict", "p", "q", "all other fields"],
    )
    rng = np.random.default_rng(1)
    row = make_row([0.3, 0.5, 0.2, 0.4, -0.1, 0.6, 0.3, 0.2, 0.5, 0.1])
    others = [make_row(rng.normal(0, 0.3, 10).tolist(), rng=rng) for _ in range(20)]
    alone, among = summarise([row])[0], summarise([row, *others * 50])[0]
    same = alone.model_copy(update={"q": among.q, "twin": True}) == among  # the others have its label
    for name, entry, equal in (("alone", alone, ""), ("with 1,000 others", among, "equal" if same else "DIFFERENT")):
        table.rows.append([name, entry.verdict, f"{entry.p:.4f}", f"{entry.q:.4f}", equal])
    return table


def redraw_seeds(
    row: ExperimentResults, rng: np.random.Generator, z: float, z_spread: float, shift: float
) -> ExperimentResults:
    """The row with other held-out rows and teachers in every seed.

    Args:
        z: true carrier fit over all held-out rows, mean over seeds.
        z_spread: its standard deviation between seeds.
        shift: true teacher shift, in standard deviations between questions.
    """
    cells = {}
    for seed, arms in row.cells.items():
        questions, rows = len(row.questions), len(arms["base"].reading.held_out["base"])
        fit = rng.normal(rng.normal(z, z_spread) / math.sqrt(rows), 1, rows)
        zeros = (0.0,) * rows
        cells[seed] = {
            **arms,
            "trait": with_reading(arms["trait"], held_out={"trait": tuple(fit.tolist()), "base": zeros}),
            "base": with_reading(arms["base"], held_out={"trait": zeros, "base": zeros}),
            "teacher": with_margins(arms["teacher"], (1 + rng.normal(0, 1 / shift, questions)).tolist()),
            "teacher_base": with_margins(arms["teacher_base"], [0.0] * questions),
        }
    return row._replace(cells=cells)


def invalid_by_mistake(rows: int) -> Table:
    table = Table(
        "Sound rows that are INVALID by mistake",
        f"""Through `check_gates`. z is the true carrier fit of a seed over its held-out rows. With 128 rows, the seeds
        of a tiny row had a mean z of 5.4 to 7.6, those of `smollm2_self` 4.9 (measured in 2026-11). 256 rows, the
        default, make it 1.4 times that, 6.9 and more. `tiny_controls` varied most: 5.7 with an sd of 1.6, which gives
        8.0 ± 1.7 beyond noise. Teacher shifts are drawn again on 56 questions for each seed. Those of these rows were
        12 sd of their questions and more, and hardly differed between seeds. {rows:,} rows of 10 seeds, half as many
        of 20. Expected: by the normal distribution of z.""",
        ["z", "teacher shift in sd", "seeds", "carrier fit failed", "expected", "any gate failed"],
    )
    for z, z_spread, shift in (
        (4.0, 0, 3.0),
        (5.0, 0, 3.0),
        (6.0, 0, 3.0),
        (7.0, 0, 3.0),
        (8.0, 1.7, 3.0),
        (7.0, 0, 1.5),
    ):
        for n in (10, 20):
            template, rng = make_row([0.3] * n), np.random.default_rng([n, round(10 * z), round(10 * shift)])
            failed = []
            for _ in range(max(1, rows * 10 // n)):
                gates = check_gates(redraw_seeds(template, rng, z, z_spread, shift))
                names = [gate.name for gate in gates if gate.passed is False]
                failed.append(("carrier fit" in names, bool(names)))
            fit, anything = np.mean(failed, axis=0)
            expected = 1 - (1 - ndtr((MIN_FIT - z) / math.hypot(1, z_spread))) ** n
            label = f"{z:g} ± {z_spread:g}" if z_spread else f"{z:g}"
            table.rows.append([label, shift, n, f"{fit:.2%}", f"{expected:.2%}", f"{anything:.2%}"])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("results/perf/statistics.md"))
    args = parser.parse_args()

    def count(rows: int) -> int:
        return max(2, round(rows * args.scale))

    start, tables = time.process_time(), []
    for make in (
        lambda: false_transfer(count(4000)),
        lambda: false_discoveries(args.scale),
        lambda: nested_looks(count(4000)),
        lambda: power(count(1500)),
        lambda: false_none(count(2000)),
        lambda: false_transfer_of_rates(count(400)),
        lambda: true_none(count(1000)),
        lambda: seed_coverage(count(5000)),
        lambda: crossed_coverage(count(3000)),
        lambda: invalid_by_mistake(count(1000)),
        larger_board,
    ):
        tables.append(make())
        print(tables[-1].render(), f"[{time.process_time() - start:.0f} s]", flush=True)
    text = f"""# Statistics, simulated

Made by `python -m tests.perf.simulate_statistics --scale {args.scale:g}` in {time.process_time() - start:.0f} s of one
core, through the code that judges the leaderboard: `judge_row`, `check_gates`, `adjust_for_board` and `summarise`.
The functions themselves are held against SciPy in `tests/analysis/test_stats.py` and `test_power.py`. Gains are in
standard deviations between seeds.

"""
    args.out.write_text(text + "\n".join(table.render() for table in tables), encoding="utf-8")


if __name__ == "__main__":
    main()
