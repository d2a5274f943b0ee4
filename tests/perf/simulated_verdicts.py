"""Tables of simulated verdicts, by the code that judges the leaderboard: `judge_row` and `adjust_for_board`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.gates import Gate
from bench.analysis.p_values import johnson_p
from bench.analysis.power import sign_flip_power
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.stats import mean_interval
from bench.analysis.summary import adjust_for_board
from bench.analysis.verdict import Judgement, Terms, judge_row
from tests.board import make_row

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
SHAPES: dict[str, Draw] = {  # mean 0, standard deviation 1
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "t, 3 degrees": lambda rng, size: rng.standard_t(3, size) / math.sqrt(3),
    "right-skewed": lambda rng, size: rng.exponential(1, size) - 1,
    "left-skewed": lambda rng, size: 1 - rng.exponential(1, size),
}
PASSED = [Gate(name="all", passed=True, reading=1.0, threshold="")]
STATISTICS = compute_seed_statistics(make_row([0.0]))
LEVEL = 0.05


class Table:
    """One table of the page: a title, a text of any line length, and rows."""

    def __init__(self, title: str, text: str, headers: Sequence[str]) -> None:
        self.title, self.text, self.headers = title, text, headers
        self.rows: list[list[str | int | float]] = []

    def render(self) -> str:
        body = tabulate(self.rows, headers=self.headers, tablefmt="github", disable_numparse=True)
        text = textwrap.fill(" ".join(self.text.split()), 118, break_on_hyphens=False)
        return f"## {self.title}\n\n{text}\n\n{body}\n"


def judge(gains: Array, bound: float | None = None) -> list[Judgement]:
    """Judgements of rows with these (rows, seeds) gains, all gates passed."""
    terms = Terms(LEVEL, gains.shape[1], bound, "a simulation")
    return [
        judge_row(
            STATISTICS._replace(registered=len(row), gains=row, shifts=[5.0] * len(row), contrasts={}, matrix=[]),
            PASSED,
            terms,
        )
        for row in gains.tolist()
    ]


def count_verdicts(judgements: Sequence[Judgement], *verdicts: str) -> float:
    """The share of rows with one of these verdicts."""
    return float(np.mean([judgement.verdict in verdicts for judgement in judgements]))


def percent(share: float) -> str:
    return f"{share:.1%}"


def describe_error(share: float, rows: int) -> str:
    """The standard error of a share over so many rows."""
    return f"{rows:,} rows each; standard error {math.sqrt(share * (1 - share) / rows):.2%} at {share:.1%}"


def false_transfer(rows: int) -> Table:
    table = Table(
        "False TRANSFER of one row",
        f"""True gain 0, level {LEVEL:g}; a row is judged alone, so boards do not matter. A two-sided test at .05 errs
        upwards in half of its errors, 2.5 %. The last column is the sensitivity that stands beside each row: a gain
        above 0 with Johnson's p at most .05. {describe_error(0.025, rows)}.""",
        ["gains", "seeds", "TRANSFER", "p <= .05, either side", "Johnson's p <= .05, above 0"],
    )
    for shape, draw in SHAPES.items():
        for n in (6, 8, 10, 12, 20):
            gains = draw(np.random.default_rng(n), (rows, n))
            judged = judge(gains)
            either = np.mean([j.p is not None and j.p.p <= LEVEL for j in judged])
            johnson = np.mean([johnson_p(row) <= LEVEL and sum(row) > 0 for row in gains.tolist()])
            transfers = count_verdicts(judged, "TRANSFER")
            table.rows.append([shape, n, percent(transfers), percent(float(either)), percent(float(johnson))])
    return table


def false_discoveries(scale: float) -> Table:
    n, effect = 10, 1.5
    table = Table(
        "False discoveries on boards",
        f"""A fifth of the rows has a true gain of {effect} sd, {n} normal seeds each. Share of false rows among those
        that are shown (0 where none is), mean over boards with its standard error: by q <= .05 and a gain above 0, and
        by the verdict TRANSFER alone. Power: share of the true rows that are shown.""",
        ["rows", "boards", "false, by q", "power, by q", "false, by TRANSFER", "power, by TRANSFER"],
    )
    for size, boards in ((20, 300), (200, 40), (1000, 10)):
        results = []
        for board in range(max(2, round(boards * scale))):
            true = np.arange(size) < size // 5
            judged = judge(np.random.default_rng([size, board]).normal(0, 1, (size, n)) + effect * true[:, None])
            entries = [
                LeaderboardEntry.model_construct(
                    verdict=j.verdict,
                    p=j.p and j.p.p,
                    gain=j.gain and j.gain.mean,
                    seeds=n,
                    seeds_registered=n,
                    measurement=str(number),
                )
                for number, j in enumerate(judged)
            ]
            qs = adjust_for_board(entries)
            above = np.array([entry.gain is not None and entry.gain > 0 for entry in entries])
            by_q = np.array([q is not None and q <= 0.05 for q in qs]) & above
            by_verdict = np.array([j.verdict == "TRANSFER" for j in judged])
            results.append(
                [
                    value
                    for shown in (by_q, by_verdict)
                    for value in ((shown & ~true).sum() / max(1, shown.sum()), shown[true].mean())
                ]
            )
        errors = np.std(results, axis=0, ddof=1) / math.sqrt(len(results))
        cells = [f"{value:.1%} ± {error:.1%}" for value, error in zip(np.mean(results, axis=0), errors, strict=True)]
        table.rows.append([size, len(results), *cells])
    return table


def nested_looks(rows: int) -> Table:
    table = Table(
        "Looks",
        f"""True gain 0, normal. Whoever judges after 6, 8 and 10 seeds and stops at the first TRANSFER errs more often
        than with one look. So the registry counts looks. {describe_error(0.025, rows)}.""",
        ["judged after", "TRANSFER"],
    )
    gains = np.random.default_rng(10).normal(0, 1, (rows, 10))
    hits = np.array([[j.verdict == "TRANSFER" for j in judge(gains[:, :n])] for n in (6, 8, 10)])
    table.rows += [[f"{n} seeds", percent(float(hit.mean()))] for n, hit in zip((6, 8, 10), hits, strict=True)]
    table.rows.append(["6, then 8, then 10 seeds", percent(float(hits.any(0).mean()))])
    return table


def power(rows: int) -> Table:
    table = Table(
        "Power",
        f"""Share of rows with a true gain that are TRANSFER; in brackets the power that `bench.analysis.power` states.
        {describe_error(0.8, rows)}.""",
        ["true gain in sd", "6 seeds", "10 seeds", "20 seeds"],
    )
    for effect in (0.5, 1.0, 1.5, 2.0):
        cells = []
        for n in (6, 10, 20):
            judged = judge(np.random.default_rng(n).normal(effect, 1, (rows, n)))
            cells.append(f"{count_verdicts(judged, 'TRANSFER'):.1%} ({sign_flip_power(effect, n, LEVEL):.1%})")
        table.rows.append([effect, *cells])
    return table


def false_none(rows: int) -> Table:
    table = Table(
        "False NONE",
        f"""A true gain at the bound, or 1.2 times it: NONE and TRACE both say that it lies below. Normal gains whose
        sd is a quarter or a half of the bound. {describe_error(0.025, rows)}.""",
        ["true gain / bound", "sd / bound", "seeds", "NONE", "TRACE"],
    )
    for factor in (1.0, 1.2):
        for sd in (0.25, 0.5):
            for n in (6, 10, 20):
                judged = judge(np.random.default_rng(n).normal(factor, sd, (rows, n)), bound=1.0)
                shares = [percent(count_verdicts(judged, verdict)) for verdict in ("NONE", "TRACE")]
                table.rows.append([factor, sd, n, *shares])
    return table


def true_none(rows: int) -> Table:
    table = Table(
        "NONE at a true gain of 0",
        f"""The bound is a quarter of the lower end of the reference's interval. The reference has as many seeds and
        the same sd, and is drawn for each row. {describe_error(0.5, rows)} for NONE.""",
        ["sd / the reference's gain", "seeds", "NONE", "TRACE", "TRANSFER", "INCONCLUSIVE"],
    )
    for parts in (20, 10, 5, 3):
        for n in (10, 20):
            rng = np.random.default_rng([parts, n])
            judged = []
            for reference in rng.normal(1, 1 / parts, (rows, n)).tolist():
                bound = mean_interval(reference).low / 4
                judged += judge(rng.normal(0, 1 / parts, (1, n)), bound if bound > 0 else None)
            verdicts = ("NONE", "TRACE", "TRANSFER", "INCONCLUSIVE")
            table.rows.append([f"1/{parts}", n, *(percent(count_verdicts(judged, verdict)) for verdict in verdicts)])
    return table
