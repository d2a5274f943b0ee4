"""One experiment from its plan to its result files, and the controls every installation is held against."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.execute import Pool, Watcher, run_stages
from bench.leaderboard import entries
from bench.models import identify
from bench.plan import make_plan
from bench.recipe import Experiment, load_recipe
from bench.results import read_all, write_cells
from bench.store import digest

__all__ = ["CONTROLS", "installation_controls", "is_control", "measure"]

# The controls, and the verdicts they must come to.
CONTROLS = {"tiny_pair": {"TRANSFER"}, "tiny_cross": {"NONE", "INCONCLUSIVE"}}
STAGE_SECONDS = 1.0  # of a control's stage: the 121 of tiny_pair took 106 to 124 s on two cores, one after another

Screen = Callable[[Experiment, int, int], AbstractContextManager[Watcher]]


def measure(experiment: Experiment, pool: Pool, results: Path, controls: Any, screen: Screen) -> None:
    """Make what is missing of one experiment and write its result files, also when it fails half-way.

    Args:
        controls: goes into the result files: see `bench.results.write_cells`.
        screen: (experiment, stages, stages done) -> who watches the run.
    """
    plan = make_plan(experiment, identify)
    done = sum(pool.store.is_done(key) for key in plan.stages)
    with screen(experiment, len(plan.stages), done) as watcher:
        write_cells(experiment, plan, pool.store, results, controls, watcher.noticed)  # registered before it is run
        try:
            run_stages(plan.stages, pool, watcher)
        finally:
            write_cells(experiment, plan, pool.store, results, controls, watcher.noticed)


def is_control(experiment: Experiment) -> bool:
    """Whether this is one of the shipped controls, unchanged."""
    return experiment.name in CONTROLS and experiment.hash() == load_recipe(experiment.name).hash()


def installation_controls(pool: Pool, screen: Screen, notice: Callable[[str], None]) -> dict[str, Any]:
    """What the positive and the negative control say with this code and these libraries: run once, then kept.

    They are judged as a board of their own. `failed` lists those that did not do what a control must.

    Args:
        notice: takes a line that says what runs, and about how long, if they must be run.
    """
    experiments = [load_recipe(name) for name in CONTROLS]
    plans = [make_plan(experiment, identify) for experiment in experiments]
    mark = digest([[e.hash(), sorted(plan.stages)] for e, plan in zip(experiments, plans, strict=True)])
    folder = pool.store.root / "controls" / mark

    def board() -> dict[str, dict[str, Any]]:
        return {entry["recipe"]: entry for entry in entries(read_all(folder)[0])}

    said = board()
    if not all(name in said and said[name]["seeds"] == said[name]["seeds_registered"] for name in CONTROLS):
        todo = {key for plan in plans for key in plan.stages if not pool.store.is_done(key)}
        seconds = len(todo) * STAGE_SECONDS / pool.slots(max(e.recipe.threads for e in experiments))
        notice(
            f"First this installation's controls, once: {' and '.join(CONTROLS)}, "
            f"{sum(e.recipe.seeds for e in experiments)} control seeds on tiny models, about "
            f"{max(1, round(seconds / 60))} min. They show that a transfer can be seen here, and that none is seen "
            "where there is none. (--skip-controls leaves them out, and the row shows it.)"
        )
        for experiment in experiments:
            measure(experiment, pool, folder, "self", screen)
        said = board()
    verdicts = {name: said[name]["verdict"] for name in CONTROLS}
    return {**verdicts, "failed": [name for name, wanted in CONTROLS.items() if verdicts[name] not in wanted]}
