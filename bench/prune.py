"""What of a store the recipes no longer need: other seeds and settings, earlier code, other versions of libraries."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.errors import UserError
from bench.measure import CONTROLS
from bench.models import Checkpoint, identify
from bench.plan import make_plan
from bench.recipe import Experiment, Model, load_recipe
from bench.store import Store, record

__all__ = ["Count", "Needed", "needed", "prune"]


class Needed(NamedTuple):
    """Keys of stages, and models of which nothing is known here, so that whatever was made with them is kept."""

    keys: set[str]
    models: set[str]


def needed(experiments: Iterable[Experiment]) -> Needed:
    """What the experiments and the installation's controls are made of."""
    found = Needed(set(), set())

    def known(spec: Model) -> Checkpoint:
        checkpoint = identify(spec, fetch=False)
        if checkpoint.folder is None and not spec.model.startswith("pypi:"):  # a name alone: its revision is not known
            found.models.add(spec.model)
        return checkpoint

    for experiment in [*map(load_recipe, CONTROLS), *experiments]:
        try:
            found.keys.update(make_plan(experiment, known).stages)
        except UserError:
            recipe = experiment.recipe
            found.models.update({recipe.teacher.model, recipe.student.model, recipe.other_init().model})
    return found


class Count(NamedTuple):
    """Artefacts of one kind."""

    kept: int = 0
    kept_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0


def prune(store: Store, wanted: Needed) -> dict[str, Count]:
    """Remove what is not wanted, artefacts and checkpoints of trainings alike.

    While models are unknown, what may have been made with them stays: whatever does not say otherwise.

    Returns:
        What was kept and removed, by kind of stage.
    """
    store.sweep()
    counts: dict[str, Count] = {}
    for folder in sorted([*store.root.glob("artefacts/*"), *store.root.glob("checkpoints/*")]):
        kind = folder.name.partition("-")[0]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        unsure = bool(wanted.models) and _model(folder) in {*wanted.models, ""}
        kept = folder.name in wanted.keys or unsure
        if not kept:
            shutil.rmtree(folder)
        count = counts.get(kind, Count())
        counts[kind] = Count(
            count.kept + kept, count.kept_bytes + kept * size,
            count.removed + (not kept), count.removed_bytes + (not kept) * size,
        )  # fmt: skip
    return counts


def _model(folder: Path) -> str:
    """The model of an artefact; empty for stages of none, and where nothing is said: a training that was broken off."""
    try:
        return str(record(folder)["model"])
    except (OSError, ValueError, KeyError):
        return ""
