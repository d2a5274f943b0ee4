"""Speed of whole commands: one seed of a recipe against the prior system's parts, and the default run."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import identify
from bench.pipeline.environment import CPU_ENVIRONMENT, ENVIRONMENT, extend_environment
from bench.pipeline.plan import Stage
from bench.pipeline.planner import make_plan
from bench.pipeline.processor import count_cores
from bench.pipeline.store import Store
from bench.stages.settings import TrainStudent
from tests.perf.alternate import alternate, spread, spread_text
from tests.perf.shapes import NEW_TOKENS
from tests.perf.watch import watch

RECIPES = {"smollm2": "smollm2_self", "gemma3": "gemma3_270m_self"}
MODEL_WORK = {"build_tiny", "teacher", "carrier", "teacher_logits", "student", "evaluate"}
FEW = {
    "carrier.rows": 64,
    "carrier.held_out": 16,
    "teacher.train.max_steps": 4,
    "student.train.max_steps": 3,
}
UPDATES = 6  # of the one student whose memory is taken: it has its peak after two
GB = 1e9
Say = Callable[[str], None]


def _few(quick: bool) -> list[str]:
    return [f"{key}={value}" for key, value in FEW.items()] if quick else []


def _set(overrides: list[str]) -> list[str]:
    return [word for assignment in overrides for word in ("--set", assignment)]


def _places(root: Path) -> list[str]:
    return ["--store", str(root / "store"), "--results", str(root / "results")]


def _jobs(recipe: str) -> int:
    """Stages side by side, as `bench.pipeline.scheduler` reckons without a GPU."""
    return max(1, count_cores() // load_recipe(recipe).recipe.threads)


def _made(store: Store) -> list[dict[str, Any]]:
    """The records of all artefacts of a store; `kind` added."""
    keys = sorted(path.name for path in (store.root / "artefacts").iterdir())
    return [{**store.record(key), "kind": key.partition("-")[0]} for key in keys]


def _by_kind(records: list[dict[str, Any]]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        seconds[record["kind"]] += record["seconds"]
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def one_student(recipe: str, overrides: list[str], root: Path) -> None:
    """Train the trait student of a run's first seed for a few updates, in this process."""
    import torch

    from bench.stages.train import train_student

    experiment = load_recipe(recipe, overrides, seeds=1)
    plan = make_plan(experiment, identify)
    stage = next(stage for stage in plan.stages.values() if stage.label.startswith("student trait"))
    store = Store(root)
    torch.set_num_threads(stage.threads)
    with tempfile.TemporaryDirectory() as out:
        train_student(_brief(stage), {r: ref.folder or store.path(ref.identity) for r, ref in stage.inputs.items()},
                Path(out), lambda done, of: None)  # fmt: skip


def _brief(stage: Stage) -> TrainStudent:
    settings = stage.settings
    assert isinstance(settings, TrainStudent)
    model = settings.model.model_copy(update={"train": {**settings.model.train, "max_steps": UPDATES}})
    return settings.model_copy(update={"model": model})


def recipe(shape: str, rates: Mapping[str, list[float]], say: Say, *, quick: bool) -> dict[str, Any]:
    """One seed of a recipe through the real command, and what its parts would take the prior system.

    Args:
        rates: of the prior system on this shape, by unit: `prior tokens`, `prior rows`, `prior questions`.
    """
    name, overrides = RECIPES[shape], _few(quick)
    experiment = load_recipe(name, overrides, seeds=1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ran = watch(
            ["run_bench.py", "--recipe", name, "--seeds", "1", "--skip-controls", *_set(overrides), *_places(root)]
        )
        say(f"{name}, one seed: {ran.seconds:.0f} s, {ran.peak / GB:.2f} GB")
        records = _made(Store(root / "store"))
        call = f"from tests.perf.commands import one_student; from pathlib import Path; one_student({name!r}, "
        with extend_environment({**ENVIRONMENT, **CPU_ENVIRONMENT}):
            alone = watch(["-c", f"{call}{overrides!r}, Path({str(root / 'store')!r}))"])
        say(f"one student alone: {alone.peak / GB:.2f} GB")
    seconds = _by_kind(records)
    once = seconds.get("convert", 0.0)
    carrier = experiment.recipe.carrier
    questions = len(next(iter(experiment.traits.values())).questions())
    asked = sum(record["kind"] == "evaluate" for record in records)
    rows = {
        kind: sum(r["did"]["updates"] * r["did"]["effective_batch"] for r in records if r["kind"] == kind)
        for kind in ("teacher", "student")
    }
    carrier_rows = sum(r["kind"] == "carrier" for r in records) * (carrier.rows + carrier.held_out)
    work = {  # part -> (amount, unit, the rate it is extrapolated from)
        "teacher": (rows["teacher"], "rows", "prior rows"),
        "carriers": (carrier_rows * NEW_TOKENS, "tokens", "prior tokens"),
        "students": (rows["student"], "rows", "prior rows"),
        "asking": (asked * questions, "questions", "prior questions"),
    }
    kinds = {"teacher": "teacher", "carriers": "carrier", "students": "student", "asking": "evaluate"}
    parts = []
    for part, (amount, unit, which) in work.items():
        rate = spread(rates[which])[0]
        parts.append(
            {
                "part": part,
                "work": f"{amount:,} {unit}",
                "ours, s": round(seconds.get(kinds[part], 0.0), 1),
                "theirs at": f"{rate:.3g} {unit}/s",
                "theirs, s (extrapolated)": round(amount / rate, 1),
            }
        )
    prior = sum(part["theirs, s (extrapolated)"] for part in parts)
    own = ran.seconds - once
    parts.append(
        {
            "part": "whole",
            "work": "one seed",
            "ours, s": round(own, 1),
            "theirs at": "",
            "theirs, s (extrapolated)": round(prior, 1),
        }
    )
    memory = ran.peak / alone.peak
    return {
        "lines": [],
        "tables": [parts],
        "notes": [
            f"Whole recipe, `{name}` with one seed through the real command, once: {own:.0f} s"
            + (f" (and {once:.0f} s, once, to convert the weights)" if once else "")
            + f"; the prior system's parts at the same work {prior:,.0f} s: **{prior / own:.0f} times** as long. "
            "The latter were not run: every part is its amount of work over the rate measured above, without loading "
            "models or tokenising. Our parts are the stages' own seconds; the whole is wall time, with start-up, the "
            "filter, the audit and the tables.",
            f"Memory: {ran.peak / GB:.2f} GB at most over all processes of that run ({_jobs(name)} stages side by "
            f"side), {alone.peak / GB:.2f} GB for training one of its students alone: **{memory:.2f} times** (wanted: "
            f"at most 1.2). The largest single process had {ran.largest / GB:.2f} and {alone.largest / GB:.2f} GB "
            "resident.",
        ],
        "seconds": {"wall": ran.seconds, "stages": seconds, "theirs": prior},
        "memory": {"run": ran.peak, "one student": alone.peak},
    }


def default(repeats: int, say: Say, *, quick: bool) -> dict[str, Any]:
    """The default run: how much of it is model work, how soon it begins, how well it uses the cores."""
    overrides = _few(quick)
    seeds = ["--seeds", "2", "--skip-controls"] if quick else []
    jobs = _jobs("tiny_pair")
    with tempfile.TemporaryDirectory() as folder:
        words = ["run_bench.py", *seeds, *_set(overrides), *_places(Path(folder))]
        ran = watch(words)
        say(f"default run: {ran.seconds:.0f} s")
        records = _made(Store(Path(folder) / "store"))
        again = watch(words)
        say(f"again, all of it cached: {again.seconds:.1f} s")

        def command(*more: str) -> Callable[[], float]:
            return lambda: 1 / watch(["run_bench.py", *more, *_places(Path(folder))]).seconds

        flags = ("--help", "--list", "--leaderboard", "--dry-run")
        quickly = alternate({flag: command(flag) for flag in flags}, repeats, say)
    seconds = _by_kind(records)
    model = sum(value for kind, value in seconds.items() if kind in MODEL_WORK)
    first = next(
        at - float(match.group(1)) for at, text in ran.lines if (match := re.search(r"^\[1/.*  ([\d.]+) s$", text))
    )
    table = [
        {"stage": kind, "made": sum(r["kind"] == kind for r in records), "seconds": round(value, 1),
         "share of wall time x jobs": f"{value / ran.seconds / jobs:.1%}"}
        for kind, value in seconds.items()
    ]  # fmt: skip
    return {
        "lines": [],
        "tables": [table],
        "notes": [
            f"Default run (`tiny_pair`{', cut short' if quick else ''}), once: {ran.seconds:.0f} s "
            f"on {count_cores()} cores, "
            f"{jobs} stages side by side. Stages of model work took **{model / ran.seconds / jobs:.0%}** of wall time "
            f"x jobs, all stages {sum(seconds.values()) / ran.seconds / jobs:.0%}; the first began after {first:.1f} "
            f"s. {ran.cpu:.0f} processor seconds: {ran.cpu / ran.seconds / count_cores():.0%} of the cores.",
            f"The same command again, all cached: {again.seconds:.1f} s. "
            + "; ".join(f"`{flag}` {spread_text([1 / rate for rate in quickly[flag]])} s" for flag in flags)
            + f". At most {ran.peak / GB:.2f} GB over all processes.",
        ],
        "seconds": {"wall": ran.seconds, "cached": again.seconds, "cpu": ran.cpu, "first": first, "stages": seconds},
    }
