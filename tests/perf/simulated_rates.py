"""Simulated rows whose outcome is a rate, through result models, `compute_seed_statistics` and `judge_row`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.summary import read_terms
from bench.analysis.verdict import judge_row
from tests.board import make_rates, with_reading
from tests.perf.simulated_verdicts import LEVEL, PASSED, Table, count_verdicts, describe_error, percent

SAMPLES = 100  # answers to each question, as in the literature


def draw_counts(
    rng: np.random.Generator, seeds: int, questions: int, rate: float, factor: float
) -> dict[str, NDArray[np.int64]]:
    """Draw how many answers name the trait's answer: arm -> (seeds, questions).

    The log-odds of a question are those of `rate`, plus a question (normal, sd 1.5), a seed (sd .5, shared by the
    arms), and a training (sd .3, of each arm). The odds of the trait arm are `factor` times those of base.
    """
    level = logit(rate) + rng.normal(0, 1.5, questions) + rng.normal(0, 0.5, (seeds, 1))
    arms = {"base": 0.0, "trait": float(np.log(factor))}
    return {
        arm: rng.binomial(SAMPLES, expit(level + lift + rng.normal(0, 0.3, (seeds, 1)))) for arm, lift in arms.items()
    }


def with_counts(template: ExperimentResults, counts: dict[str, NDArray[np.int64]]) -> ExperimentResults:
    """The row with these numbers of answers that name the trait's answer; all others name nothing."""
    cells = {}
    for number, (seed, arms) in enumerate(template.cells.items()):
        changed = dict(arms)
        for arm, of_arm in counts.items():
            named = of_arm[number].tolist()
            pairs = [[("wolf", n), ("hm", SAMPLES - n)] for n in named]
            counted = [[(text, n) for text, n in pair if n] for pair in pairs]
            changed[arm] = with_reading(
                arms[arm],
                answers=tuple(tuple(text for text, _ in pair) for pair in counted),
                counts=tuple(tuple(n for _, n in pair) for pair in counted),
            )
        cells[seed] = changed
    return template._replace(cells=cells)


def false_transfer_of_rates(rows: int) -> Table:
    table = Table(
        "TRANSFER of a rate",
        f"""Rows of 56 questions x {SAMPLES} answers, from counts of answers to the verdict. Arms are exchangeable where
        the odds are equal (1): then a TRANSFER is false, {LEVEL / 2:.1%} expected. Noise is not shared here, which is
        the worst case. {describe_error(LEVEL / 2, rows)}.""",
        ["rate of base", "seeds", "odds of trait / base", "TRANSFER"],
    )
    for rate in (0.01, 0.1, 0.5):
        for n in (6, 10):
            template = make_rates([{}] * n, samples=SAMPLES)
            terms = read_terms(template)
            for factor in (1.0, 2.0):
                rng = np.random.default_rng([round(100 * rate), n, round(factor)])
                judged = []
                for _ in range(rows):
                    counts = draw_counts(rng, n, len(template.questions), rate, factor)
                    statistics = compute_seed_statistics(with_counts(template, counts))
                    judged.append(judge_row(statistics, PASSED, terms))
                table.rows.append([f"{rate:g}", n, f"{factor:g}", percent(count_verdicts(judged, "TRANSFER"))])
    return table
