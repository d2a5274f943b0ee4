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
VERSIONS = {"tiny": 1, "convert": 1, "relation": 1, "teacher": 1, "carrier": 1, "select": 1, "student": 1, "ask": 1}
# The libraries whose version may change a number.
LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")


class Ref(NamedTuple):
    """Something a stage reads: an artefact (`folder` None, `identity` its key) or a folder outside the store."""

    identity: str
    folder: Path | None = None


class Stage(NamedTuple):
    """One unit of work: made once, kept under `key`."""

    kind: str
    label: str
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
    """Stages in an order in which each comes after what it reads, and the cells they fill."""

    stages: dict[str, Stage]
    cells: list[Cell]


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that make the numbers."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def make_plan(experiment: Experiment, identify: Callable[[Model], Checkpoint]) -> Plan:
    """All stages of an experiment.

    Args:
        identify: finds the checkpoint of a model that is not `tiny`.
    """
    recipe, trait = experiment.recipe, experiment.trait.model_dump(mode="json")
    libraries = library_versions()
    stages: dict[str, Stage] = {}
    cells: list[Cell] = []

    def add(kind: str, label: str, settings: Mapping[str, Any], inputs: Mapping[str, Ref]) -> Ref:
        key = f"{kind}-" + digest(
            {
                "kind": kind,
                "version": VERSIONS[kind],
                "settings": settings,
                "inputs": {role: ref.identity for role, ref in inputs.items()},
                "libraries": libraries,
                "threads": recipe.threads,
            }
        )
        stages.setdefault(key, Stage(kind, label, key, settings, inputs, recipe.threads))
        return Ref(key)

    found = {spec.model: identify(spec) for spec in (recipe.teacher, recipe.student) if spec.model != "tiny"}
    questions, answers = vocabulary(experiment.trait)

    def checkpoint(spec: Model, seed: int) -> Ref:
        if spec.model == "tiny":
            settings = {**tiny.DEFAULT, "seed": seed + spec.init, "questions": questions, "answers": answers}
            return add("tiny", f"tiny model {seed + spec.init}", settings, {})
        known = found[spec.model]
        if known.folder is None and spec.model.startswith("pypi:"):
            return add("convert", f"convert {spec.model}", {"model": spec.model, "identity": known.identity}, {})
        return Ref(known.identity, known.folder)

    def loading(spec: Model) -> dict[str, Any]:
        return {"format": spec.format, "dtype": spec.dtype, "quantization": spec.quantization}

    def training(spec: Model) -> dict[str, Any]:
        return {**loading(spec), "train": spec.train, "lora": spec.lora}

    def asked(label: str, spec: Model, seed: int, inputs: Mapping[str, Ref]) -> Ref:
        settings = {"trait": trait, "ask": recipe.ask.model_dump(mode="json"), **loading(spec)}
        settings["seed"] = seed if recipe.ask.samples else 0  # margins are deterministic
        settings["end"] = text
        return add("ask", label, settings, inputs)

    carrier = recipe.carrier.model_dump(mode="json")
    text = recipe.carrier.kind == "text"
    for seed in recipe.run_seeds():
        origin, start = checkpoint(recipe.teacher, seed), checkpoint(recipe.student, seed)
        related = add("relation", f"relation, seed {seed}", {}, {"teacher": origin, "student": start})
        taught = add(
            "teacher",
            f"teacher {recipe.trait}, seed {seed}",
            {"trait": trait, "model": training(recipe.teacher), "seed": seed},
            {"start": origin},
        )
        writing = {"carrier": carrier, "seed": seed, **loading(recipe.teacher)}
        if text:
            writing["prompts"] = text_prompts(experiment.prompts, recipe.carrier.rows + recipe.carrier.held_out, seed)
        rows = {
            arm: add("carrier", f"carrier {arm}, seed {seed}", writing, inputs)
            for arm, inputs in {"base": {"start": origin}, "trait": {"start": origin, "trained": taught}}.items()
        }
        kept = add(
            "select",
            f"select rows, seed {seed}",
            {"carrier": carrier, "lexicon": list(experiment.trait.lexicon)},
            rows,
        )
        readers: dict[str, tuple[Model, dict[str, Ref]]] = {
            "teacher_base": (recipe.teacher, {"start": origin}),
            "teacher": (recipe.teacher, {"start": origin, "trained": taught}),
        }
        if "untrained" in recipe.arms:
            readers["untrained"] = (recipe.student, {"start": start})
        held_out = {"kept": kept, **{f"rows_{arm}": ref for arm, ref in rows.items()}}
        for arm in rows:
            learning = {"model": training(recipe.student), "seed": seed, "end": text}
            inputs = {"start": start, "carrier": rows[arm], "kept": kept}
            learnt = add("student", f"student {arm}, seed {seed}", learning, inputs)
            readers[arm] = (recipe.student, {"start": start, "trained": learnt, **held_out})
        for arm, (spec, inputs) in readers.items():
            reading = asked(f"ask {arm}, seed {seed}", spec, seed, inputs)
            trained = inputs["trained"].identity if "trained" in inputs else None
            cells.append(Cell(seed, arm, reading.identity, trained, kept.identity, related.identity))
    return Plan(stages, cells)
