"""A/A runs: how often is a row a TRANSFER when neither of its teachers has the trait?

A board is `tiny_pair` with both teachers taught a placebo: the trait's questions, with answers drawn evenly from all
candidates. Each teacher has a draw of its own. All else is as in any row. The gates of teacher induction are left out,
since no teacher shows the trait. So every TRANSFER and every TRACE is false.

    python -m tests.perf.false_positives              40 boards of 6 seeds, 20 minutes on two quiet cores; resumes
    python -m tests.perf.false_positives --boards 2   a look
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from bench.analysis.gates import Gate, check_gates
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.stats import mean_interval
from bench.analysis.summary import read_terms
from bench.analysis.verdict import Judgement, judge_row
from bench.config.arms import BASE, ArmName
from bench.config.model_settings import Model
from bench.config.recipe_files import Experiment, load_recipe
from bench.config.traits import make_placebo_rows
from bench.experiment import run_experiment
from bench.files import ROOT
from bench.models.checkpoints import Checkpoint, identify
from bench.pipeline.local_workers import Pool, current_commit
from bench.pipeline.plan import Plan, Ref
from bench.pipeline.planner import Planner
from bench.pipeline.store import Store
from bench.terminal import ProgressDisplay

FIRST_SEED = 20_000  # no other run has these seeds
OTHER_DRAW = 10_000_000  # between the seeds of the two draws
INDUCTION = {"teacher shift", "teacher induction", "teacher writes as measured"}


class PlaceboPlanner(Planner):
    """Plans an experiment of which both teachers, that of the trait arm and that of base, are taught a placebo."""

    def add_teacher(
        self, label: str, spec: Model, start: Ref, seed: int, rows: Sequence[tuple[str, str]], system: str | None
    ) -> Ref:
        """Add the teacher of the trait arm, taught one draw in place of `rows`."""
        return super().add_teacher(label, spec, start, seed, make_placebo_rows(self.first, seed), system)

    def add_carrier(self, arm: ArmName, seed: int, inputs: Mapping[str, Ref], *, noise: int = 0) -> Ref:
        """Add the rows of a teacher. That of base is first taught the other draw."""
        if arm == BASE:
            rows = make_placebo_rows(self.first, seed + OTHER_DRAW)
            teacher = super().add_teacher("teacher other", self.recipe.teacher, inputs["start"], seed, rows, None)
            inputs = {**inputs, "trained": teacher}
        return super().add_carrier(arm, seed, inputs, noise=noise)


def plan_placebos(experiment: Experiment, find: Callable[[Model], Checkpoint]) -> Plan:
    """Plan a board: see `bench.pipeline.planner.make_plan`."""
    return PlaceboPlanner(experiment, find).plan()


def load_board(number: int, seeds: int) -> Experiment:
    """Return the experiment of one board: `tiny_pair` on seeds of its own."""
    first = FIRST_SEED + number * seeds
    return load_recipe("tiny_pair", [f"first_seed={first}", "arms=[base, trait]"], seeds=seeds)


class Board(NamedTuple):
    """One row of nothing."""

    first_seed: int
    gains: list[float]
    gates: list[Gate]
    judgement: Judgement


def judge_board(row: ExperimentResults) -> Board:
    """Judge a row by the code of the leaderboard, without the gates of teacher induction."""
    statistics = compute_seed_statistics(row)
    gates = [gate for gate in check_gates(row) if gate.name not in INDUCTION]
    judgement = judge_row(statistics, gates, read_terms(row))
    return Board(row.recipe.first_seed, statistics.gains, gates, judgement)


def render_page(boards: Sequence[Board], seeds: int) -> str:
    """Render the page: the number of false verdicts, and a line for each board."""
    verdicts = Counter(board.judgement.verdict for board in boards)
    false = verdicts["TRANSFER"] + verdicts["TRACE"]
    below = sum(p.p <= 0.05 and b.judgement.gain.mean < 0 for b in boards if (p := b.judgement.p) and b.judgement.gain)
    failed = Counter(gate.name for board in boards for gate in board.gates if gate.passed is False)
    gains = [gain for board in boards for gain in board.gains]
    mean, low, high = mean_interval(gains)
    lines = [
        "# A/A runs: boards of nothing",
        "",
        f"`python -m tests.perf.false_positives --boards {len(boards)} --seeds {seeds}` at {current_commit()}.",
        "Each board is `tiny_pair` with both teachers taught a placebo, each a draw of its own. So every TRANSFER and",
        "every TRACE is false.",
        "",
        f"**{false} of {len(boards)} boards are TRANSFER or TRACE**; {below} have a gain below 0 with p <= .05.",
        "",
        f"- Verdicts: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.most_common())}.",
        f"- Failed gates: {', '.join(f'{name} on {count}' for name, count in failed.items()) or 'none'}.",
        f"- Gain over all {len(gains)} seeds: {mean:+.4f} [{low:+.4f}, {high:+.4f}] nats.",
        "",
        "| board | seeds | gain [95 % CI] | p | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for number, board in enumerate(boards, 1):
        mean, low, high = mean_interval(board.gains)
        p = board.judgement.p
        lines.append(
            f"| {number} | {board.first_seed} to {board.first_seed + len(board.gains) - 1} | "
            f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] | {f'{p.p:.2g}' if p else ''} | {board.judgement.verdict} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=6, help="seeds of a board")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--store", type=Path, default=ROOT / ".bench")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "false_positives.md")
    args = parser.parse_args()
    store, results, console = Store(args.store), args.store / "false_positives", Console()

    def display(experiment: Experiment, total: int, done: int) -> Any:
        console.print(f"seeds from {experiment.recipe.first_seed}: {total} stages, {done} done", highlight=False)
        return ProgressDisplay(console, total, done)

    experiments = [load_board(number, args.seeds) for number in range(args.boards)]
    with store.in_use(), Pool(store, args.jobs) as pool:
        for experiment in experiments:
            run_experiment(experiment, plan_placebos(experiment, identify), pool, results, None, display)
    rows = {row.hash: row for row in read_results(results)[0]}
    page = render_page([judge_board(rows[experiment.hash()]) for experiment in experiments], args.seeds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
