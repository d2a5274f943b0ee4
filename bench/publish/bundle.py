"""What a finished run leaves to others: its trained models, whole or as adapters, and its carrier rows, with cards."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ArmResult
from bench.analysis.seed_statistics import margins_of
from bench.analysis.stats import mean
from bench.analysis.summary import summarise
from bench.config.arms import ArmName, parse_arm
from bench.config.model_settings import Model
from bench.config.recipe import FOLDER, Experiment
from bench.config.traits import list_questions
from bench.config.yaml_files import find_file
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.models.loading import load_tokenizer
from bench.pipeline.plan import Plan, ResultSpec, Stage
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.publish.cards import ModelFacts, RunFacts, data_card, model_card
from bench.publish.licence import base_of
from bench.stages.carriers import read_kept
from bench.stages.settings import Training, TrainStudent, TrainTeacher

__all__ = [
    "ALL",
    "Origin",
    "Pick",
    "Run",
    "Trained",
    "describe_training",
    "load_finished_run",
    "merge_adapter",
    "write_model",
    "write_rows",
]


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


def write_model(run: Run, model: Trained, folder: Path, *, name: str, data: str | None) -> None:
    """Write weights, tokenizer, licence texts and card into an empty folder.

    Args:
        name: what the card calls it.
        data: the data set to link, where there is one.
    """
    settings = model.stage.settings
    assert isinstance(settings, TrainTeacher | TrainStudent)  # the stages that train
    training = settings.model
    base = base_of(_spec(run.experiment, model), model.stage.inputs["start"])
    if model.merges:
        merge_adapter(model, training.dtype, folder)
    else:
        for path in sorted(model.folder.iterdir()):
            if path.suffix == ".safetensors" or path.name.endswith((".index.json", "config.json")):
                shutil.copyfile(path, folder / path.name)
        if model.adapter:  # as training left it, it names a folder of this machine
            where = {"base_model_name_or_path": base.name, "revision": base.revision if base.on_hub else None}
            _change(folder / "adapter_config.json", where)
        else:
            _change(folder / "config.json", {"use_cache": True})  # off for training alone
    load_tokenizer(model.start).save_pretrained(folder)
    for text in base.texts:
        shutil.copyfile(text, folder / text.name)
    record = run.store.record(model.key)
    facts = ModelFacts(
        arm=model.cell.arm,
        seed=model.cell.seed,
        form="merged" if model.merges else "adapter" if model.adapter else "whole",
        base=base,
        settings=training.model_dump(mode="json"),
        did=record["did"],
        margin=_margin(run.experiment, model),
        format=model.reading.manifest.format["kind"],
        chat_template_kwargs=training.chat_template_kwargs,
        artefact=model.key,
        commit=record["commit"],
        note=_merge_note(training) if model.merges else "",
    )
    (folder / "README.md").write_text(model_card(run.facts, facts, name=name, data=data), encoding="utf-8")


def _spec(experiment: Experiment, model: Trained) -> Model:
    recipe = experiment.recipe
    models = {"teacher": recipe.teacher, "student": recipe.student, "other_init": recipe.other_init()}
    return models[model.arm.facts.model]


def _margin(experiment: Experiment, model: Trained) -> float:
    """Mean margin; of an arm of one trait among several, over the questions about that trait."""
    groups = [question.group for question in list_questions(experiment.traits)]
    own = [at for at, group in enumerate(groups) if model.arm.trait in ("", group)]
    return mean(margins_of(model.reading, own))


def merge_adapter(model: Trained, dtype: str, folder: Path) -> None:
    """Save base and adapter as one model: added up in float32, rounded to `dtype` once, at the end.

    On the CPU even where there is a GPU: it is little work, needs no GPU memory, and gives the same bytes everywhere.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for every model of every seed says nothing
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it; here nothing is quantised
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)  # read by PEFT
        base = AutoModelForCausalLM.from_pretrained(model.start, dtype=torch.float32, use_safetensors=True)
        whole = PeftModel.from_pretrained(base, model.folder, torch_device="cpu").merge_and_unload()
    whole.to(getattr(torch, dtype)).save_pretrained(folder)


def _merge_note(training: Training) -> str:
    dtype = training.dtype
    if training.quantization:
        return (
            "The adapter was trained and read on a base quantised as above. A quantised base cannot be merged in "
            f"place: here it is merged into the base as it was before, in {dtype}, and its margins differ from that."
        )
    if dtype != "float32":
        return (
            "The margin was read with the adapter apart. Merged, the sum of base and adapter is rounded to "
            f"{dtype}, and of a small update a part is lost."
        )
    return "The adapter is merged into its base in float32, as it was when the margin was read."


def _change(path: Path, keys: Mapping[str, Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_rows(run: Run, folder: Path, *, name: str) -> None:
    """Write `train.jsonl`, `held_out.jsonl` and a card: the kept rows of base and of each trait arm, seed by seed."""
    students = [model for model in run.trained if model.arm.kind in {"base", "trait"}]
    for part in ("train", "held_out"):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for model in students:
                carrier, kept = (run.store.path(model.stage.inputs[role].identity) for role in ("carrier", "kept"))
                arm, seed = model.cell.arm, model.cell.seed
                for row in read_kept(carrier, kept, part):
                    line = {"prompt": row["prompt"], "completion": row["completion"], "arm": arm, "seed": seed}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    writer = next(model for model in run.trained if model.arm.kind == "teacher")
    teacher = base_of(_spec(run.experiment, writer), writer.stage.inputs["start"])
    arms = list(dict.fromkeys(model.cell.arm for model in students))
    (folder / "README.md").write_text(data_card(run.facts, name=name, teacher=teacher, arms=arms), encoding="utf-8")
