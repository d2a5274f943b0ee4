"""Run one experiment, from its plan to its result files, and the controls of an installation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.registration import register
from bench.analysis.result_files import read_results
from bench.analysis.result_writer import write_results
from bench.analysis.summary import summarise
from bench.config.recipe_files import Experiment, load_recipe
from bench.files import digest
from bench.models.checkpoints import identify
from bench.pipeline.executor import Executor
from bench.pipeline.plan import Plan
from bench.pipeline.planner import make_plan
from bench.pipeline.scheduler import ProgressListener, run_stages

__all__ = ["CONTROLS", "is_control", "run_experiment", "run_installation_controls"]

# The controls and their expected verdicts.
CONTROLS = {"tiny_pair": {"TRANSFER"}, "tiny_cross": {"NONE", "TRACE", "INCONCLUSIVE"}}
STAGE_SECONDS = 0.75  # core-seconds per stage of the controls: the 131 stages of tiny_pair take 99

DisplayFactory = Callable[[Experiment, int, int], AbstractContextManager[ProgressListener]]


def run_experiment(
    experiment: Experiment,
    plan: Plan,
    executor: Executor,
    results: Path,
    controls: Any,
    make_display: DisplayFactory,
    published: Path | None = None,
) -> None:
    """Register one experiment, run its missing stages and write its result files, also after a failure.

    Args:
        experiment: the experiment.
        plan: its plan.
        executor: runs the stages.
        results: folder of the result files.
        controls: verdicts for the result files: see `bench.analysis.result_writer.write_results`.
        make_display: (experiment, stages, stages done) -> the listener of the run.
        published: a second folder that may contain the experiment's reference.

    Raises:
        UserError: the experiment cannot be registered.
    """
    done = sum(executor.store.is_done(key) for key in plan.stages)
    with make_display(experiment, len(plan.stages), done) as listener:
        registration = register(experiment, plan, executor.store, results, published)
        write_results(experiment, registration, plan, executor.store, results, controls, listener.on_message)
        try:
            run_stages(plan.stages, executor, listener)
        finally:
            write_results(experiment, registration, plan, executor.store, results, controls, listener.on_message)


def is_control(experiment: Experiment) -> bool:
    """Return whether this is one of the shipped controls, unchanged."""
    return experiment.name in CONTROLS and experiment.hash() == load_recipe(experiment.name).hash()


def run_installation_controls(
    executor: Executor, make_display: DisplayFactory, notice: Callable[[str], None]
) -> dict[str, Any]:
    """Run the positive and the negative control once with this code and these libraries; later calls read the results.

    The controls are judged on a separate board. Returns their verdicts by name, and under `failed` the names of
    controls without the expected verdict.

    Args:
        executor: runs the stages.
        make_display: as for `run_experiment`.
        notice: receives a line about the controls and their time before they run.
    """
    experiments = [load_recipe(name) for name in CONTROLS]
    plans = [make_plan(experiment, identify) for experiment in experiments]
    key = digest([[e.hash(), sorted(plan.stages)] for e, plan in zip(experiments, plans, strict=True)])
    folder = executor.store.root / "controls" / key

    def summarise_controls() -> dict[str, LeaderboardEntry]:
        return {entry.recipe: entry for entry in summarise(read_results(folder)[0])}

    board = summarise_controls()
    if not all(name in board and board[name].seeds == board[name].seeds_registered for name in CONTROLS):
        todo = {key for plan in plans for key in plan.stages if not executor.store.is_done(key)}
        seconds = len(todo) * STAGE_SECONDS / executor.slots(max(e.recipe.threads for e in experiments))
        notice(
            f"First run the controls of this installation, once: {' and '.join(CONTROLS)}, "
            f"{sum(e.recipe.seeds for e in experiments)} control seeds on tiny models, about "
            f"{max(1, round(seconds / 60))} min. They show that this installation detects a transfer and reports none "
            "if there is none. (--skip-controls leaves them out, and the row states it.)"
        )
        for experiment, plan in zip(experiments, plans, strict=True):
            run_experiment(experiment, plan, executor, folder, "self", make_display)
        board = summarise_controls()
    verdicts = {name: board[name].verdict for name in CONTROLS}
    return {**verdicts, "failed": [name for name, expected in CONTROLS.items() if verdicts[name] not in expected]}
