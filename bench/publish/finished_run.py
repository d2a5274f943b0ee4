"""A finished run, found again from its recipe: its row, its trained models, and their artefacts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ArmResult
from bench.analysis.summary import summarise
from bench.config.arms import ArmName, parse_arm
from bench.config.recipe import FOLDER, Experiment
from bench.config.yaml_files import find_file
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.pipeline.plan import Plan, ResultSpec, Stage
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.publish.cards import RunFacts

__all__ = ["ALL", "Origin", "Pick", "Run", "Trained", "describe_training", "load_finished_run"]


class Origin(NamedTuple):
    """What the user typed to make a run: a recipe by name or path, `--set` and `--seeds`."""

    recipe: str
    overrides: tuple[str, ...] = ()
    seeds: int | None = None

    def command(self) -> str:
        """The command that makes the run, for a shell."""
        seeds = [] if self.seeds is None else ["--seeds", str(self.seeds)]
        changes = [word for change in self.overrides for word in ("--set", change)]
        return shlex.join(["python", "run_bench.py", "--recipe", self.recipe, *seeds, *changes])

    def question(self) -> str:
        """What the recipe asks: its opening comment after the command, up to the question mark."""
        lines: list[str] = []
        for line in find_file(self.recipe, FOLDER, "recipe").read_text(encoding="utf-8").splitlines()[1:]:
            if not line.startswith("#") or (lines and lines[-1].endswith("?")):
                break
            lines.append(line.lstrip("# ").rstrip())
        return " ".join(lines) or "its recipe does not say"


class Trained(NamedTuple):
    """One trained model: the stage that made it, what was read of it, and where it and the weights it began from are.

    `merges` says whether it is an adapter that was asked to be merged into those weights.
    """

    cell: ResultSpec
    key: str
    stage: Stage
    reading: ArmResult
    folder: Path
    start: Path
    adapter: bool
    merges: bool

    @property
    def arm(self) -> ArmName:
        """Its arm."""
        return parse_arm(self.cell.arm)


class Pick(NamedTuple):
    """Which trained models are handed out, by arm and seed; all arms or all seeds where none is named."""

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


ALL = Pick()


class Run(NamedTuple):
    """A finished run: how its row reads, its trained models at the end of their training, and those picked."""

    experiment: Experiment
    mark: str
    store: Store
    facts: RunFacts
    trained: list[Trained]
    picked: list[Trained]


def load_finished_run(
    experiment: Experiment, origin: Origin, store: Store, results: Path, *, merged: bool, pick: Pick = ALL
) -> Run:
    """Find all that a run made.

    Args:
        merged: whether adapters are to be merged into their base.
        pick: the models that are handed out.

    Raises:
        UserError: a stage or a result file is missing or damaged, a base cannot be merged into, or the run trained no
            model of an arm or seed of `pick`.
    """
    plan = make_plan(experiment, identify)
    name, mark = experiment.name, experiment.hash()
    first = f"Run first: {origin.command()}"
    missing = [stage.label for stage in plan.stages.values() if not store.is_done(stage.key)]
    if missing:
        raise UserError(f"{name}: {len(missing)} of {len(plan.stages)} stages are not done ({missing[0]}). {first}")
    rows = read_results(results)[0]
    at, row = next(((i, row) for i, row in enumerate(rows) if (row.name, row.hash) == (name, mark)), (0, None))
    trained = []
    for cell in plan.results:
        reading = row.cells.get(cell.seed, {}).get(cell.arm) if row else None
        if reading is None or reading.manifest.artefacts["asked"] != cell.evaluation:
            raise UserError(f"{name}: what was read of {cell.arm}, seed {cell.seed}, is not in {results}. {first}")
        if cell.training and parse_arm(cell.arm).step is None:
            trained.append(describe_training(cell, plan.stages[cell.training], reading, store, merged))
    picked = _pick(name, trained, pick)
    read = {key for model in trained for key in _read_by(model.stage)}
    for key in sorted({model.key for model in picked} | read):
        if store.corrupt_files(key):
            raise UserError(f"{store.path(key)} is damaged. {first}")
    return Run(
        experiment,
        f"{name} {mark}",
        store,
        _facts(experiment, origin, store, plan, summarise(rows)[at], trained),
        trained,
        picked,
    )


def _pick(name: str, trained: list[Trained], pick: Pick) -> list[Trained]:
    arms = list(dict.fromkeys(model.cell.arm for model in trained))
    seeds = list(dict.fromkeys(model.cell.seed for model in trained))
    flags: list[tuple[str, Sequence[object], Sequence[object]]] = [
        ("--only-arms", pick.arms, arms),
        ("--only-seeds", pick.seeds, seeds),
    ]
    for flag, wanted, valid in flags:
        unknown = [str(value) for value in wanted if value not in valid]
        if unknown:
            raise UserError(
                f"{flag} {' '.join(unknown)}: {name} trained no such model; there are {', '.join(map(str, valid))}"
            )
    return [
        model for model in trained if model.cell.arm in (pick.arms or arms) and model.cell.seed in (pick.seeds or seeds)
    ]


def _read_by(stage: Stage) -> list[str]:
    """Keys of the artefacts that a model is published with: what it began from, and its rows."""
    return [ref.identity for role, ref in stage.inputs.items() if ref.folder is None and role != "logits"]


def describe_training(cell: ResultSpec, stage: Stage, reading: ArmResult, store: Store, merged: bool) -> Trained:
    ref, folder = stage.inputs["start"], store.path(stage.key)
    start = ref.folder or store.path(ref.identity)
    adapter = (folder / "adapter_config.json").is_file()
    if adapter and merged and "quantization_config" in json.loads((start / "config.json").read_text(encoding="utf-8")):
        raise UserError(f"{start}: these weights are stored quantised, and no adapter can be merged into them")
    return Trained(cell, stage.key, stage, reading, folder, start, adapter, adapter and merged)


def _facts(
    experiment: Experiment, origin: Origin, store: Store, plan: Plan, entry: LeaderboardEntry, trained: list[Trained]
) -> RunFacts:
    recipe = experiment.recipe
    specs = (recipe.teacher, recipe.student, recipe.other_init())
    folders = {spec.model: spec.path() for spec in specs if spec.path().is_dir() and spec.model.strip("./~")}

    def public(text: str) -> str:
        """Without the user's folders: what is inside them is published, where they are is not."""
        for stated, folder in folders.items():
            text = text.replace(stated, folder.resolve().name)
        return text

    return RunFacts(
        question=public(origin.question()),
        command=public(origin._replace(recipe=Path(origin.recipe).name).command()),
        entry=entry.model_copy(
            update={
                "teacher": public(entry.teacher),
                "student": public(entry.student),
                "trait": Path(entry.trait).name,
            }
        ),
        carrier=recipe.carrier.model_dump(mode="json"),
        carriers={cell.seed: store.record(cell.filtering)["did"] for cell in plan.results},
        versions=trained[0].reading.manifest.versions,
    )
