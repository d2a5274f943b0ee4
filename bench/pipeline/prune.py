"""The artefacts of a store that no run needs: of other seeds and settings, earlier code, other library versions.

`<store>/plans/<recipe>-<hash>.json` holds the stage keys of every run, so that runs of users' own files and of `--set`
are known by name and stay.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.config.model_settings import Model
from bench.config.recipe import Experiment
from bench.errors import UserError
from bench.files import read_record, write_atomically
from bench.models.checkpoints import Checkpoint, identify
from bench.pipeline.plan import Plan
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store

__all__ = ["Folder", "Needed", "Run", "find_needed", "read_runs", "record_run", "remove", "survey"]


class Run(NamedTuple):
    """A run that this store was used for."""

    recipe: str
    hash: str
    stages: list[str]


class Needed(NamedTuple):
    """What must stay: stage keys, runs as (recipe, hash), and models whose stage keys cannot be known here today."""

    keys: set[str]
    runs: set[tuple[str, str]]
    models: set[str]


class Folder(NamedTuple):
    """An artefact, the checkpoints of an unfinished training, or an artefact left half-made; `size` in bytes."""

    path: Path
    kind: str
    size: int
    needed: bool

    @property
    def key(self) -> str:
        return self.path.name.partition(".")[0]


def record_run(store: Store, experiment: Experiment, plan: Plan) -> None:
    """Write down which stages a run is made of, before it starts."""
    run = Run(experiment.name, experiment.hash(), sorted(plan.stages))
    write_atomically(_plan_file(store, run), json.dumps(run._asdict(), indent=1) + "\n")


def _plan_file(store: Store, run: Run) -> Path:
    return store.root / "plans" / f"{run.recipe}-{run.hash}.json"


def read_runs(store: Store) -> list[Run]:
    """All runs of a store, by recipe and hash.

    Raises:
        UserError: a plan file is damaged.
    """
    runs = []
    for path in sorted((store.root / "plans").glob("*.json")):
        try:
            runs.append(Run(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError):
            raise UserError(
                f"{path}: damaged: the artefacts of this run are not known. Remove the file, or run the recipe again, "
                "which writes it again"
            ) from None
    return runs


def find_needed(experiments: Iterable[Experiment], runs: Iterable[Run], *, only_named: bool) -> Needed:
    """Find what the experiments and, unless `only_named`, all other runs are made of.

    Args:
        runs: those that the store was used for. A run of one of the experiments needs the stages of today's code alone.
    """
    needed = Needed(set(), set(), set())
    recorded = {(run.recipe, run.hash): run.stages for run in runs}

    def known(spec: Model) -> Checkpoint:
        checkpoint = identify(spec, fetch=False)
        if checkpoint.folder is None and not spec.model.startswith("pypi:"):  # a name alone: its revision is not known
            unknown.add(spec.model)
        return checkpoint

    for experiment in experiments:
        unknown: set[str] = set()
        which = (experiment.name, experiment.hash())
        try:
            needed.keys.update(make_plan(experiment, known).stages)
        except UserError:
            recipe = experiment.recipe
            unknown.update({recipe.teacher.model, recipe.student.model, recipe.other_init().model})
        if unknown:
            needed.keys.update(recorded.get(which, ()))
        needed.runs.add(which)
        needed.models.update(unknown)
    if not only_named:
        for which in recorded.keys() - needed.runs:
            needed.keys.update(recorded[which])
        needed.runs.update(recorded)
    return needed


def survey(store: Store, needed: Needed) -> list[Folder]:
    """All artefacts and checkpoints of the store, each with its size and whether it is needed.

    While models are unknown, the artefacts made with them are needed. Checkpoints of unfinished trainings are needed
    where their stage is: every training belongs to a run that the store knows.
    """
    folders = []
    for path in sorted([*store.root.glob("artefacts/*"), *store.root.glob("checkpoints/*"), *store.root.glob("tmp/*")]):
        kind, part = path.name.partition("-")[0], path.parent.name
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        wanted = part != "tmp" and (path.name in needed.keys or (part == "artefacts" and _model(path) in needed.models))
        folders.append(Folder(path, kind if part == "artefacts" else f"{kind}, unfinished", size, wanted))
    return folders


def _model(folder: Path) -> str | None:
    """The model of an artefact, if its record can be read."""
    try:
        return str(read_record(folder)["model"])
    except (OSError, ValueError, KeyError):
        return None


def remove(store: Store, folders: Iterable[Folder], runs: Iterable[Run], needed: Needed) -> None:
    """Remove the folders and the plans of runs that are not needed."""
    for folder in folders:
        if not folder.needed:
            shutil.rmtree(folder.path)
    for run in runs:
        if (run.recipe, run.hash) not in needed.runs:
            _plan_file(store, run).unlink(missing_ok=True)
