"""Boards of nothing: how often does a student of the *untaught* teacher come out as a TRANSFER?

Runs the recipe `tiny_noise` on boards x seeds seeds and judges each block of seeds as an experiment of its own, with
the student of the base teacher's numbers drawn again (`resampled`) in the place of the trait's. Both arms come from
the same teacher, so every gain is noise and every TRANSFER is false.

    python -m tests.perf.false_positives              20 boards of 6 seeds, half an hour on two cores; resumes
    python -m tests.perf.false_positives --boards 2   a look
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.analysis.result_files import read_results
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.stats import mean_interval
from bench.analysis.verdict import Judgement, judge
from bench.files import ROOT
from bench.pipeline.local_workers import current_commit


def boards(results: Path, seeds: int) -> list[tuple[list[float], Judgement]]:
    """(gains, judgement) of each block of `seeds` seeds, judged as a leaderboard of one row."""
    ((row, *_), _) = read_results(results)
    found = compute_seed_statistics(row)
    bound = row.recipe.bound
    noise = found.contrasts["resampled - base"]
    out = []
    for start in range(0, len(noise) - seeds + 1, seeds):
        block = slice(start, start + seeds)
        one = found._replace(
            registered=seeds,
            gains=noise[block],
            shifts=found.shifts[block],
            contrasts={},
            # the two gates that speak of the trait's student say nothing of this one
            gates=[gate for gate in found.gates if gate.name not in {"carrier fit", "relation"}],
        )
        out.append((one.gains, judge([one], [bound])[0]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=6, help="seeds of a board")
    parser.add_argument("--store", type=Path, default=ROOT / ".bench")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "false_positives.md")
    args = parser.parse_args()
    results = args.store / "noise"
    words = ["--recipe", "tiny_noise", "--seeds", str(args.boards * args.seeds), "--skip-controls"]
    subprocess.run(
        [sys.executable, str(ROOT / "run_bench.py"), *words, "--store", str(args.store), "--results", str(results)],
        check=True,
    )
    judged = boards(results, args.seeds)
    wrong = sum(j.verdict == "TRANSFER" for _, j in judged)
    none = sum(j.verdict == "NONE" for _, j in judged)
    gains = [gain for block, _ in judged for gain in block]
    mean, low, high = mean_interval(gains)
    lines = [
        "# Boards of nothing",
        "",
        f"`python -m tests.perf.false_positives --boards {args.boards} --seeds {args.seeds}` at "
        f"{current_commit()}. Both arms",
        "were written by the same untaught teacher, with different sampling noise; every TRANSFER is false.",
        "",
        f"**{wrong} of {len(judged)} boards came out as TRANSFER**, {none} as NONE. Gain over all {len(gains)} seeds:",
        f"{mean:+.4f} [{low:+.4f}, {high:+.4f}].",
        "",
        "| board | seeds | gain [95 % CI] | p | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for i, (block, judgement) in enumerate(judged):
        m, a, b = mean_interval(block)
        first = i * args.seeds
        seeds = f"{first} to {first + len(block) - 1}"
        lines.append(f"| {i + 1} | {seeds} | {m:+.4f} [{a:+.4f}, {b:+.4f}] | {judgement.p:.2g} | {judgement.verdict} |")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
