"""How much faster are two nodes of a Ray cluster than one? Both have one core.

    python -m tests.perf.scale_out [--repeats 3] [--seeds 4]

The nodes are processes of this machine. By turns, one and two nodes run the same recipe from an empty store. Efficiency
is the time of one node over twice the time of two, from the first stage's start to the last one's end. The page also
shows the processor seconds of all processes: where they agree, both did the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from bench.pipeline.local_workers import current_commit
from bench.pipeline.processor import processor_name
from tests.perf.alternate import alternate, spread_text
from tests.perf.watch import watch

ROOT = Path(__file__).parent.parent.parent
TARGET = 0.9


def run_on(nodes: int, words: list[str]) -> None:
    """Run the command on a new cluster and print when stages began and ended; in a process of its own."""
    import time

    from ray.cluster_utils import Cluster

    from bench import terminal
    from bench.cli import main

    times: list[float] = []

    class Clock(terminal.ProgressDisplay):
        def on_start(self, stage: object) -> None:
            times.append(time.perf_counter())
            super().on_start(stage)  # type: ignore[arg-type]  # passed on

        def on_finish(self, *of: object) -> None:
            times.append(time.perf_counter())
            super().on_finish(*of)  # type: ignore[arg-type]  # passed on

    import bench.cli

    bench.cli.ProgressDisplay = Clock  # type: ignore[misc]  # in the place of the class
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        code = main(["--on", "ray", *words])
    finally:
        cluster.shutdown()
    print(json.dumps({"seconds": times[-1] - times[0]}))
    sys.exit(code)


def measure(repeats: int, seeds: int) -> str:
    """Measure by turns and return the page."""
    cpu: dict[str, list[float]] = {"one node": [], "two nodes": []}

    def rate(name: str, nodes: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            words = ["--skip-controls", "--seeds", str(seeds), "--set", "first_seed=1000"]
            words += ["--store", f"{folder}/store", "--results", f"{folder}/results"]
            ran = watch(["-c", f"from tests.perf.scale_out import run_on; run_on({nodes}, {words!r})"])
        cpu[name].append(ran.cpu)
        return 1 / float(json.loads(ran.lines[-1][1])["seconds"])

    ways = {"one node": lambda: rate("one node", 1), "two nodes": lambda: rate("two nodes", 2)}
    rates = alternate(ways, repeats, print)
    efficiencies = [two / one / 2 for one, two in zip(rates["one node"], rates["two nodes"], strict=True)]
    rows = [
        {"nodes": name, "wall seconds": spread_text([1 / rate for rate in rates[name]]),
         "processor seconds": spread_text(cpu[name][1:])}
        for name in rates
    ]  # fmt: skip
    return (
        f"# Scale-out\n\n`python -m tests.perf.scale_out --repeats {repeats} --seeds {seeds}` at {current_commit()}, "
        f"{processor_name()}.\n\n{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n"
        f"Efficiency of two nodes: **{spread_text(efficiencies)}** (median [quartiles] over {repeats} rounds; wanted: "
        f"{TARGET}).\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "scale_out.md")
    args = parser.parse_args()
    page = measure(args.repeats, args.seeds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
