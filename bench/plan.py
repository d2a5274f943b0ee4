"""Recipe -> stages. Pure: the same experiment and checkpoints give the same plan, keys included."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench import tiny
from bench.carriers import text_prompts
from bench.models import Checkpoint
from bench.recipe import Experiment, Model
from bench.store import digest
from bench.traits import vocabulary

__all__ = ["Cell", "Plan", "Ref", "Stage", "make_plan"]

# Raised when a stage's code changes the numbers it makes: its artefacts, and all that follow from them, get new keys.
VERSIONS = {
    "tiny": 1,
    "convert": 1,
    "relation": 1,
    "teacher": 1,
    "carrier": 1,
    "select": 1,
    "logits": 1,
    "audit": 1,
    "student": 1,
    "ask": 1,
}
# The libraries whose version may change a number.
LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")


class Ref(NamedTuple):
    """Something a stage reads: an artefact (`folder` None, `identity` its key) or a folder outside the store."""

    identity: str
    folder: Path | None = None


class Stage(NamedTuple):
    """One unit of work: made once, kept under `key`. `model` is what it works on, for estimates of its time."""

    kind: str
    label: str
    model: str
    key: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Ref]
    threads: int


class Cell(NamedTuple):
    """One result to write: what `asked` read of an arm, and the stages its manifest speaks of."""

    seed: int
    arm: str
    asked: str
    trained: str | None
    selected: str
    relation: str


class Plan(NamedTuple):
    """Stages in an order in which each comes after what it reads, the cells they fill, and the key of the audit."""

    stages: dict[str, Stage]
    cells: list[Cell]
    audit: str


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that make the numbers."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def make_plan(experiment: Experiment, identify: Callable[[Model], Checkpoint]) -> Plan:
    """All stages of an experiment.

    Args:
        identify: finds the checkpoint of a model that is not `tiny`.
    """
    planner = _Planner(experiment, identify)
    for seed in experiment.recipe.run_seeds():
        planner.add_seed(seed)
    settings = {"seeds": list(experiment.recipe.run_seeds())}
    audit = planner.add("audit", "leak audit", settings, planner.audited)
    return Plan(planner.stages, planner.cells, audit.identity)


class _Planner:
    """Collects the stages of one experiment, seed by seed; a stage that two arms share is added once."""

    def __init__(self, experiment: Experiment, identify: Callable[[Model], Checkpoint]) -> None:
        self.experiment, self.recipe = experiment, experiment.recipe
        self.trait = experiment.trait.model_dump(mode="json", exclude={"language"})  # the leak filter alone reads it
        self.carrier = self.recipe.carrier.model_dump(mode="json")
        self.text = self.recipe.carrier.kind == "text"
        self.vocabulary = vocabulary(experiment.trait)
        self.libraries = library_versions()
        self.stages: dict[str, Stage] = {}
        self.cells: list[Cell] = []
        self.audited: dict[str, Ref] = {}
        specs = [self.recipe.teacher, self.recipe.student, self.recipe.other_init()]
        wanted = {(spec.model, spec.revision): spec for spec in specs if spec.model != "tiny"}
        self.found = {which: identify(spec) for which, spec in wanted.items()}

    def add(
        self, kind: str, label: str, settings: Mapping[str, Any], inputs: Mapping[str, Ref], model: str = ""
    ) -> Ref:
        key = f"{kind}-" + digest(
            {
                "kind": kind,
                "version": VERSIONS[kind],
                "settings": settings,
                "inputs": {role: ref.identity for role, ref in inputs.items()},
                "libraries": self.libraries,
                "threads": self.recipe.threads,
            }
        )
        self.stages.setdefault(key, Stage(kind, label, model, key, settings, inputs, self.recipe.threads))
        return Ref(key)

    def checkpoint(self, spec: Model, seed: int) -> Ref:
        if spec.model == "tiny":
            questions, answers = self.vocabulary
            number = seed + tiny.STRIDE * spec.init
            settings = {**tiny.DEFAULT, "seed": number, "questions": questions, "answers": answers}
            return self.add("tiny", f"tiny model {number}", settings, {})
        known = self.found[spec.model, spec.revision]
        if known.folder is None and spec.model.startswith("pypi:"):
            settings = {"model": spec.model, "identity": known.identity}
            return self.add("convert", f"convert {spec.model}", settings, {})
        return Ref(known.identity, known.folder)

    def taught(self, label: str, spec: Model, start: Ref, seed: int, **more: Any) -> Ref:
        settings = {"trait": self.trait, "model": spec.training(), "seed": seed, **more}
        return self.add("teacher", f"{label}, seed {seed}", settings, {"start": start}, spec.model)

    def written(self, label: str, seed: int, inputs: Mapping[str, Ref], **more: Any) -> Ref:
        settings = {"carrier": self.carrier, "seed": seed, **self.recipe.teacher.loading(), **more}
        if self.text:
            needed = self.recipe.carrier.rows + self.recipe.carrier.held_out
            settings["prompts"] = text_prompts(self.experiment.prompts, needed, seed)
        return self.add("carrier", f"carrier {label}, seed {seed}", settings, inputs, self.recipe.teacher.model)

    def learnt(self, label: str, seed: int, start: Ref, rows: Mapping[str, Ref], **more: Any) -> Ref:
        """A student; `rows` are the `carrier`, which rows are `kept`, and the teacher's `logits` if it learns those."""
        settings = {"model": self.recipe.student.training(), "seed": seed, "end": self.text, **more}
        if self.recipe.dose:
            settings["dose"] = list(self.recipe.dose)
        inputs = {"start": start, **rows}
        return self.add("student", f"student {label}, seed {seed}", settings, inputs, self.recipe.student.model)

    def lesson_rows(
        self, label: str, seed: int, writer: Mapping[str, Ref], start: Ref, rows: dict[str, Ref]
    ) -> dict[str, Ref]:
        """What a student of `writer` learns from: its carrier rows, and for a distillation its log-probabilities."""
        if self.recipe.method == "sft":
            return rows
        settings = {
            "method": self.recipe.method,
            "carrier": self.carrier,
            "student_format": self.recipe.student.format,
            **self.recipe.teacher.loading(),
        }
        inputs = {**writer, **rows, "student": start}
        logits = self.add("logits", f"logits {label}, seed {seed}", settings, inputs, self.recipe.teacher.model)
        return {**rows, "logits": logits}

    def add_seed(self, seed: int) -> None:
        """Teachers, carriers, students and readings of one complete repetition."""
        recipe, arms = self.recipe, self.recipe.arms
        origin, start = self.checkpoint(recipe.teacher, seed), self.checkpoint(recipe.student, seed)
        related = self.add("relation", f"relation, seed {seed}", {}, {"teacher": origin, "student": start})
        lesson = self.taught(f"teacher {recipe.trait}", recipe.teacher, origin, seed)
        writers = {"base": {"start": origin}, "trait": {"start": origin, "trained": lesson}}
        if "placebo" in arms:
            placebo = self.taught("teacher placebo", recipe.teacher, origin, seed, placebo=True)
            writers["placebo"] = {"start": origin, "trained": placebo}
        rows = {arm: self.written(arm, seed, writer) for arm, writer in writers.items()}
        if "resampled" in arms:
            writers["resampled"] = writers["base"]
            rows["resampled"] = self.written("resampled", seed, writers["base"], noise=1)
        filtering: dict[str, Any] = {"carrier": self.carrier, "lexicon": list(self.experiment.trait.lexicon)}
        if self.text:
            if self.experiment.trait.kind == "preference":
                filtering["lexicon"] = [self.experiment.trait.answer, *filtering["lexicon"]]
            filtering["language"] = self.experiment.trait.language
            filtering["questions"] = self.vocabulary[0]
        kept = self.add("select", f"select rows, seed {seed}", filtering, rows)
        self.audited |= {f"base_{seed}": rows["base"], f"trait_{seed}": rows["trait"], f"kept_{seed}": kept}

        readers: dict[str, tuple[Model, dict[str, Ref]]] = {
            "teacher_base": (recipe.teacher, {"start": origin}),
            "teacher": (recipe.teacher, {"start": origin, "trained": lesson}),
        }
        if "untrained" in arms:
            readers["untrained"] = (recipe.student, {"start": start})
        fit = {"kept": kept, "rows_base": rows["base"], "rows_trait": rows["trait"]}
        lessons = {
            arm: self.lesson_rows(arm, seed, writers[arm], start, {"carrier": carrier, "kept": kept})
            for arm, carrier in rows.items()
        }
        for arm, read in lessons.items():
            trained = self.learnt(arm, seed, start, read)
            readers[arm] = (recipe.student, {"start": start, "trained": trained, **fit})
        if "shuffled" in arms:
            trained = self.learnt("shuffled", seed, start, lessons["trait"], shuffled=True)
            readers["shuffled"] = (recipe.student, {"start": start, "trained": trained, **fit})
        if "direct" in arms:
            # the teacher's lesson, given to the student's own checkpoint: can it show the trait at all?
            lesson_of = recipe.student.model_copy(update={"train": recipe.teacher.train, "lora": recipe.teacher.lora})
            trained = self.taught("direct", lesson_of, start, seed)
            readers["direct"] = (recipe.student, {"start": start, "trained": trained})
        if "cross_init" in arms:
            spec = recipe.other_init()
            other = self.checkpoint(spec, seed)
            across = self.add(
                "relation", f"relation cross_init, seed {seed}", {}, {"teacher": origin, "student": other}
            )
            for arm, read in (("cross_init", lessons["trait"]), ("cross_init_base", lessons["base"])):
                trained = self.learnt(arm, seed, other, read)
                readers[arm] = (spec, {"start": other, "trained": trained, **fit})
        for arm, (spec, inputs) in readers.items():
            relation = across if arm.startswith("cross_init") else related
            for step in (None, *(recipe.dose if arm in {"base", "trait"} else ())):
                self.read(seed, arm, spec, inputs, kept, relation, step)

    def read(
        self, seed: int, arm: str, spec: Model, inputs: dict[str, Ref], kept: Ref, related: Ref, step: int | None
    ) -> None:
        """Ask one arm, at the end of its training or after `step` updates, and note the cell that it fills."""
        settings = {
            "trait": self.trait,
            "ask": self.recipe.ask.model_dump(mode="json"),
            **spec.loading(),
            "seed": seed if self.recipe.ask.samples else 0,  # margins are deterministic
            "end": self.text,
        }
        if step is not None:
            settings["step"] = step
            arm = f"{arm}@{step}"
        reading = self.add("ask", f"ask {arm}, seed {seed}", settings, inputs, spec.model)
        made = inputs["trained"].identity if "trained" in inputs else None
        self.cells.append(Cell(seed, arm, reading.identity, made, kept.identity, related.identity))
