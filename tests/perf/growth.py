"""What grows with seeds and results: planning, looking up what is done, the leaderboard, the store.

    python -m tests.perf.growth                 5,000 cached stages, 10,000 result files; 2 GB of temporary disk
    python -m tests.perf.growth --only runs     1, 10 and 50 seeds of a brief recipe, run
    python -m tests.perf.growth --share 0.1     a tenth of the stages and files
    python -m tests.perf.growth --profile       and where the time goes: the ten dearest functions

Artefacts are made of random bytes, with the file names and sizes of a real run of `tiny_pair` (one seed, run first);
result files hold drawn log-probabilities in the number and with the digits of `tiny_pair`. Every
command and every lookup runs in a process of its own. Writes `results/perf/growth.md` when all was measured.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import pstats
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.analysis.registration import propose_registration
from bench.analysis.registry import append_entry
from bench.analysis.result_files import seal_content
from bench.analysis.result_writer import write_recipe_file
from bench.config.recipe_files import SCHEMA, Experiment, load_recipe
from bench.config.traits import list_questions
from bench.files import ROOT, digest, seal, write_atomically
from bench.models.checkpoints import identify
from bench.pipeline.local_workers import current_commit
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.pipeline.worker import hardware_name
from tests.board import MANIFEST
from tests.perf.watch import watch

RECIPE = "tiny_pair"
STAGES, FILES = 5000, 10_000
WANTED = 5.0  # seconds, for the plan and for the leaderboard
SEEDS = (1, 2, 5, 10, 20, 50)
RUN = (1, 10, 50)
BRIEF = ["--set", "carrier.rows=256", "--set", "teacher.train.max_steps=10", "--set", "student.train.max_steps=10"]
PARTS = ("plan", "board", "runs")

RELATION = {"relation": "same-init", "token_maps": "identical"}

Sizes = dict[str, dict[str, int]]  # kind of stage -> name of file -> bytes


def planning() -> list[dict[str, Any]]:
    """Processor seconds of `make_plan` by number of seeds, the best of five."""
    table = []
    for seeds in SEEDS:
        experiment = load_recipe(RECIPE, seeds=seeds)
        took = []
        for _ in range(5):
            begun = time.process_time()
            plan = make_plan(experiment, identify)
            took.append(time.process_time() - begun)
        ms = 1000 * min(took)
        table.append(
            {"seeds": seeds, "stages": len(plan.stages), "plan, ms": f"{ms:.1f}", "ms a seed": f"{ms / seeds:.2f}"}
        )
    return table


def real_sizes(root: Path) -> Sizes:
    """Run one seed of the recipe and look at the files it leaves."""
    store = Store(root / "store")
    few = ["--set", "student.train.max_steps=3", "--set", "teacher.train.max_steps=3"]  # as large as after all updates
    places = ["--store", str(store.root), "--results", str(root / "results")]
    watch(["run_bench.py", "--recipe", RECIPE, "--seeds", "1", "--skip-controls", *few, *places])
    sizes: Sizes = {}
    for folder in sorted((store.root / "artefacts").iterdir()):
        kind = folder.name.partition("-")[0]
        sizes.setdefault(kind, {name: size for name, (size, _) in store.record(folder.name)["files"].items()})
    return sizes


def synthetic_store(root: Path, stages: int, sizes: Sizes) -> Experiment:
    """A store in which all of a plan of at least `stages` stages is done."""
    per_seed = len(make_plan(load_recipe(RECIPE, seeds=2), identify).stages) // 2
    experiment = load_recipe(RECIPE, seeds=math.ceil(stages / per_seed))
    store = Store(root)
    for key, stage in make_plan(experiment, identify).stages.items():
        folder = store.path(key)
        for name, size in sizes[stage.kind].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
        note = {"stage": stage.label, "model": stage.model, "commit": "synthetic", "threads": 1, "hardware": "none"}
        seal(folder, {"key": key, **note, "did": {}, "seconds": 1.0})
    return experiment


def look_up(root: Path, seeds: int) -> None:
    """Plan, and ask of every stage whether it is done; prints seconds of both, and the processor's, as JSON."""
    begun, spent = time.perf_counter(), time.process_time()
    plan = make_plan(load_recipe(RECIPE, seeds=seeds), identify)
    planned = time.perf_counter()
    store = Store(root)
    done = sum(store.is_done(key) for key in plan.stages)
    took = planned - begun, time.perf_counter() - planned
    print(json.dumps([*took, time.process_time() - spent, done, len(plan.stages)]))


def synthetic_results(root: Path, files: int) -> int:
    """At least `files` cells of experiments of ten seeds and five arms; returns how many, registrations not counted."""
    seeds, arms = 10, ("untrained", "base", "trait", "teacher", "teacher_base")
    rng, folder = random.Random(0), root / RECIPE
    folder.mkdir(parents=True, exist_ok=True)
    experiments = math.ceil(files / (seeds * len(arms)))
    for i in range(experiments):
        rate = 1e-3 * (1 + i / 1000)
        experiment = load_recipe(RECIPE, [f"student.train.learning_rate={rate:.6e}"], seeds=seeds)
        mark = experiment.hash()
        head = {"schema": SCHEMA, "recipe": RECIPE, "recipe_hash": mark}
        write_recipe_file(experiment, append_entry(root, propose_registration(experiment, [], "c")), root)
        questions, rows = list_questions(experiment.traits), experiment.recipe.carrier.held_out
        for seed in range(seeds):
            for arm in arms:
                is_student = arm in ("base", "trait")
                content = {**head, "seed": seed, "arm": arm, "relation": RELATION}
                content["reading"] = {
                    "logprobs": [[_draw(rng, -8.0) for _ in range(1 + len(q.foils))] for q in questions],
                    "held_out": {name: [_draw(rng, -68.0) for _ in range(rows)] for name in ("base", "trait")}
                    if is_student
                    else {},
                }
                artefacts = {"asked": "evaluate-" + digest([mark, seed, arm]), "trained": None}
                carrier = {**MANIFEST["carrier"], "held_out": rows}
                content["manifest"] = {**MANIFEST, "carrier": carrier, "artefacts": artefacts}
                (folder / f"{mark}-{seed:04d}-{arm}.json").write_text(seal_content(content), encoding="utf-8")
    return experiments * seeds * len(arms)


def _draw(rng: random.Random, level: float) -> float:
    return round(rng.gauss(level, 0.5), 6)


def profile_call(call: str, where: Path) -> list[str]:
    """The ten dearest functions of a call, by their own time, as lines."""
    code = (
        "import cProfile, pstats\n"
        f"import time; p = cProfile.Profile(time.process_time); p.enable(); {call}; p.disable()\n"
        f"p.dump_stats({str(where)!r})\n"
    )
    watch(["-c", code])
    out = io.StringIO()
    pstats.Stats(str(where), stream=out).sort_stats("tottime").print_stats(10)
    lines = out.getvalue().splitlines()
    start = next(i for i, text in enumerate(lines) if "ncalls" in text)
    return [text.replace(str(ROOT) + "/", "") for text in lines[start:] if text.strip()]


def _table(rows: list[dict[str, Any]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def _met(seconds: float, share: float) -> str:
    if share < 1:
        return f"(wanted of the whole: {WANTED:g} s; this is {share:.0%} of it)"
    return f"(wanted: {WANTED:g} s, {'met' if seconds < WANTED else 'not met'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the stages and files (default: 1)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--profile", action="store_true", help="the ten dearest functions of each")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf", help="default: results/perf")
    args = parser.parse_args()
    only = "" if set(args.only) == set(PARTS) else f" --only {' '.join(args.only)}"
    parts = [
        "# Growth",
        f"Made by `python -m tests.perf.growth{only}` on {hardware_name()}, commit {current_commit()}.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if "plan" in args.only:
            parts += plans(root, args.share, args.profile)
        if "board" in args.only:
            parts += boards(root, args.share, args.profile)
        if "runs" in args.only:
            parts += runs(root)
    text = "\n\n".join(parts) + "\n"
    print(text)
    if set(args.only) == set(PARTS) and args.share == 1:
        write_atomically(args.out / "growth.md", text)


def plans(root: Path, share: float, profile: bool) -> list[str]:
    """Sections on planning, the store's size, and looking up what is done."""
    parts = ["## Planning by seeds", _table(planning())]
    sizes = real_sizes(root / "real")
    plan = make_plan(load_recipe(RECIPE, seeds=2), identify)
    made: dict[str, int] = defaultdict(int)
    for stage in plan.stages.values():
        made[stage.kind] += stage.kind != "audit"
    rows = [
        {
            "stage": kind,
            "a seed": made[kind] // 2,
            "files": len(files),
            "kB each": f"{sum(files.values()) / 1000:,.1f}",
            "kB a seed": f"{made[kind] // 2 * sum(files.values()) / 1000:,.1f}",
        }
        for kind, files in sizes.items()
    ]
    whole = sum(made[kind] // 2 * sum(files.values()) for kind, files in sizes.items())
    parts += [f"## The store: {whole / 1e6:.1f} MB a seed of `{RECIPE}`", _table(rows)]
    store = root / "synthetic"
    experiment = synthetic_store(store, math.ceil(STAGES * share), sizes)
    seeds = experiment.recipe.seeds
    call = "from tests.perf.growth import look_up; from pathlib import Path; look_up("
    looked = watch(["-c", f"{call}Path({str(store)!r}), {seeds})"])
    planned, checked, cpu, done, stages = json.loads(looked.lines[-1][1])
    places = ["--store", str(store), "--results", str(root / "none")]
    words = ["run_bench.py", "--recipe", RECIPE, "--seeds", str(seeds), "--dry-run", *places]
    watch(words)  # the first in a store has TRL check the recipe's settings
    dry = watch(words)
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    parts += [
        "## A plan whose stages are all done",
        f"{stages:,} stages, {done:,} of them done, {size / 1e9:.2f} GB: planned in {planned:.2f} s, looked up in "
        f"{checked:.2f} s, **{planned + checked:.2f} s** ({cpu:.2f} of the processor's) "
        f"{_met(planned + checked, share)}. `--dry-run`, which also reads every record for its estimate: "
        f"{dry.seconds:.2f} s ({dry.cpu:.2f} of the processor's).",
    ]
    if profile:
        lines = profile_call(f"{call}Path({str(store)!r}), {seeds})", root / "plan.prof")
        parts.append("```\n" + "\n".join(lines) + "\n```")
    return parts


def runs(root: Path) -> list[str]:
    """Section on what a further seed costs, run for real."""
    table = []
    for seeds in RUN:
        places = ["--store", str(root / f"run-{seeds}"), "--results", str(root / f"results-{seeds}")]
        ran = watch(["run_bench.py", "--recipe", RECIPE, "--seeds", str(seeds), "--skip-controls", *BRIEF, *places])
        table.append((seeds, ran.seconds))
    alone = table[0][1]
    rows = [
        {"seeds": n, "seconds": f"{took:.1f}", "a further seed": f"{(took - alone) / (n - 1):.2f} s" if n > 1 else "-"}
        for n, took in table
    ]
    return [f"## Runs by seeds: `{RECIPE}` with {' '.join(BRIEF[1::2])}", _table(rows)]


def boards(root: Path, share: float, profile: bool) -> list[str]:
    """Section on the leaderboard."""
    results = root / "results"
    count = synthetic_results(results, math.ceil(FILES * share))
    size = sum(path.stat().st_size for path in results.rglob("*.json"))
    run = watch(["run_bench.py", "--leaderboard", "--results", str(results), "--store", str(root / "none")])
    refused = [text for _, text in run.lines if "refused" in text]
    if refused:
        raise SystemExit(f"{len(refused)} synthetic files were refused: {refused[0]}")
    board = json.loads((results / "leaderboard.json").read_text(encoding="utf-8"))
    parts = [
        "## The leaderboard",
        f"{count:,} cells of {len(board):,} experiments, {size / 1e6:.0f} MB: `--leaderboard` took "
        f"**{run.seconds:.2f} s** ({run.cpu:.2f} of the processor's) {_met(run.seconds, share)}.",
    ]
    if profile:
        modules = "from pathlib import Path; from bench.analysis.leaderboard import build_leaderboard"
        call = f"{modules}; build_leaderboard(Path({str(results)!r}))"
        parts.append("```\n" + "\n".join(profile_call(call, root / "board.prof")) + "\n```")
    return parts


if __name__ == "__main__":
    main()
