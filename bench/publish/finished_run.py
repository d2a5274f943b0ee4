"""Load a finished run from its recipe: its row, its trained models, and their artefacts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ArmResult, ExperimentResults
from bench.analysis.summary import summarise
from bench.config.arms import ArmName, parse_arm
from bench.config.changes import write_command
from bench.config.recipe_files import FOLDER, Experiment
from bench.config.yaml_files import find_file
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.models.engine import choose_engine
from bench.pipeline.plan import Plan, ResultSpec, Stage
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.publish.card_facts import RunFacts

__all__ = ["ALL", "FinishedRun", "RunCommand", "Selection", "TrainedModel", "describe_training", "load_finished_run"]


class RunCommand(NamedTuple):
    """The arguments of the command that makes a run."""

    recipe: str
    """A recipe's name or path."""
    overrides: tuple[str, ...] = ()
    """The values of `--set`."""
    seeds: int | None = None
    """The value of `--seeds`."""
    vllm: str | None = None
    """The value of `--vllm`."""

    def line(self) -> str:
        """Return the command as one line, quoted for a shell."""
        engine = "" if self.vllm is None else f" --vllm {shlex.quote(self.vllm)}"
        return write_command(self.recipe, self.overrides, self.seeds) + engine

    def question(self) -> str:
        """Return the recipe's question: its opening comment after the command, up to the question mark."""
        lines: list[str] = []
        for line in find_file(self.recipe, FOLDER, "recipe").read_text(encoding="utf-8").splitlines()[1:]:
            if not line.startswith("#") or (lines and lines[-1].endswith("?")):
                break
            lines.append(line.lstrip("# ").rstrip())
        return " ".join(lines) or "its recipe states no question"


class TrainedModel(NamedTuple):
    """One trained model with its stage, its result and its files."""

    cell: ResultSpec
    """Its arm, its seed and the keys of its stages."""
    key: str
    """The artefact key."""
    stage: Stage
    """The stage that trains it."""
    reading: ArmResult
    """Its result."""
    folder: Path
    """The folder of its artefact."""
    start: Path
    """The folder of the checkpoint before training."""
    adapter: bool
    """Whether its folder holds an adapter."""
    merges: bool
    """Whether the adapter is to be merged into its base model."""

    @property
    def arm(self) -> ArmName:
        """Return its arm."""
        return parse_arm(self.cell.arm)


class Selection(NamedTuple):
    """The arms and seeds of the models to share; an empty tuple means all."""

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


ALL = Selection()


class FinishedRun(NamedTuple):
    """A finished run."""

    experiment: Experiment
    """Its experiment."""
    label: str
    """The recipe's name and hash."""
    store: Store
    """The store of its artefacts."""
    row: ExperimentResults
    """Its results."""
    facts: RunFacts
    """The facts for its cards."""
    models: list[TrainedModel]
    """Its trained models at the end of their training."""
    selected: list[TrainedModel]
    """The models to share."""


def load_finished_run(
    experiment: Experiment,
    command: RunCommand,
    store: Store,
    results: Path,
    *,
    merged: bool,
    selection: Selection = ALL,
) -> FinishedRun:
    """Load the row and the trained models of a finished run.

    Args:
        experiment: its experiment.
        command: the command that makes it.
        store: the store of its artefacts.
        results: folder of its result files.
        merged: whether adapters are to be merged into their base model.
        selection: the models to share.

    Raises:
        UserError: a stage or a result file is missing or corrupt, the weights of a base model are stored quantised, or
            the run trained no model of an arm or seed of `selection`.
    """
    plan = make_plan(experiment, identify, choose_engine(experiment.recipe, command.vllm))
    name, label = experiment.name, experiment.hash()
    hint = f"Run first: {command.line()}"
    missing = [stage.label for stage in plan.stages.values() if not store.is_done(stage.key)]
    if missing:
        raise UserError(f"{name}: {len(missing)} of {len(plan.stages)} stages are not done ({missing[0]}). {hint}")
    rows = read_results(results)[0]
    index, row = next(((i, row) for i, row in enumerate(rows) if (row.name, row.hash) == (name, label)), (0, None))
    trained = []
    for cell in plan.results:
        reading = row.cells.get(cell.seed, {}).get(cell.arm) if row else None
        if reading is None or reading.manifest.artefacts["asked"] != cell.evaluation:
            raise UserError(f"{name}: {results} holds no result of {cell.arm}, seed {cell.seed}, from this run. {hint}")
        if cell.training and parse_arm(cell.arm).step is None:
            trained.append(describe_training(cell, plan.stages[cell.training], reading, store, merged))
    selected = _select(name, trained, selection)
    inputs = {key for model in trained for key in _input_keys(model.stage)}
    for key in sorted({model.key for model in selected} | inputs):
        if store.corrupt_files(key):
            raise UserError(f"{store.path(key)}: checksum mismatch. {hint}")
    return FinishedRun(
        experiment,
        f"{name} {label}",
        store,
        rows[index],
        _facts(experiment, command, store, plan, summarise(rows)[index], trained),
        trained,
        selected,
    )


def _select(name: str, trained: list[TrainedModel], selection: Selection) -> list[TrainedModel]:
    arms = list(dict.fromkeys(model.cell.arm for model in trained))
    seeds = list(dict.fromkeys(model.cell.seed for model in trained))
    flags: list[tuple[str, Sequence[object], Sequence[object]]] = [
        ("--only-arms", selection.arms, arms),
        ("--only-seeds", selection.seeds, seeds),
    ]
    for flag, wanted, valid in flags:
        unknown = [str(value) for value in wanted if value not in valid]
        if unknown:
            raise UserError(
                f"{flag} {' '.join(unknown)}: {name} trained no model of this name; "
                f"expected {', '.join(map(str, valid))}"
            )
    return [
        model
        for model in trained
        if model.cell.arm in (selection.arms or arms) and model.cell.seed in (selection.seeds or seeds)
    ]


def _input_keys(stage: Stage) -> list[str]:
    """Return the keys of the artefacts that are published with a model: its checkpoint before training and its rows."""
    return [ref.identity for role, ref in stage.inputs.items() if ref.folder is None and role != "logits"]


def describe_training(cell: ResultSpec, stage: Stage, reading: ArmResult, store: Store, merged: bool) -> TrainedModel:
    """Describe the model that a stage trained.

    Raises:
        UserError: `merged` asks for an adapter to be merged into weights that are stored quantised.
    """
    ref, folder = stage.inputs["start"], store.path(stage.key)
    start = ref.folder or store.path(ref.identity)
    adapter = (folder / "adapter_config.json").is_file()
    if adapter and merged and "quantization_config" in json.loads((start / "config.json").read_text(encoding="utf-8")):
        raise UserError(
            f"{start}: these weights are stored quantised, so no adapter can be merged into them: leave --merge out"
        )
    return TrainedModel(cell, stage.key, stage, reading, folder, start, adapter, adapter and merged)


def _facts(
    experiment: Experiment,
    command: RunCommand,
    store: Store,
    plan: Plan,
    entry: LeaderboardEntry,
    trained: list[TrainedModel],
) -> RunFacts:
    recipe = experiment.recipe
    specs = (recipe.teacher, recipe.student, recipe.other_init())
    folders = {spec.model: spec.path() for spec in specs if spec.path().is_dir() and spec.model.strip("./~")}

    def public(text: str) -> str:
        """Replace the paths of local folders by the folders' names: paths stay private."""
        for path, folder in folders.items():
            text = text.replace(path, folder.resolve().name)
        return text

    shared = command._replace(recipe=Path(command.recipe).name, vllm="PATH" if command.vllm else None)
    return RunFacts(
        question=public(command.question()),
        command=public(shared.line()),
        entry=entry.model_copy(
            update={
                "teacher": public(entry.teacher),
                "student": public(entry.student),
                "trait": Path(entry.trait).name,
            }
        ),
        carrier=recipe.carrier.model_dump(mode="json"),
        filter_reports={cell.seed: store.record(cell.filtering)["did"] for cell in plan.results},
        versions=trained[0].reading.manifest.versions,
    )
