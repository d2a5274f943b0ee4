"""A plan: the stages of one experiment, their keys, and the result files that they fill."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.files import digest
from bench.models.engine import Engine
from bench.stages.settings import StageSettings

__all__ = [
    "IMPORTED",
    "LIBRARIES",
    "RECORDED",
    "Plan",
    "Ref",
    "ResultSpec",
    "Stage",
    "environment_versions",
    "library_versions",
    "make_stage",
]

# The versions of these libraries are part of every key: with another version every stage runs again.
LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")
# The versions of these may change a number too. They are recorded, but are not part of a key.
RECORDED = ("accelerate", "bitsandbytes", "confusable-homoglyphs", "datasets", "rapidfuzz", "snowballstemmer")

IMPORTED = "checkpoint-"  # before the identity of a checkpoint that was copied into the store


class Ref(NamedTuple):
    """An input of a stage: an artefact (`folder` None, `identity` its key) or a folder outside the store."""

    identity: str
    folder: Path | None = None


class Stage(NamedTuple):
    """One unit of work. Its artefact is made once and stored under `key`."""

    label: str
    """Its name on the screen."""
    model: str
    """The model that it uses, for estimates of its time; empty without a model."""
    key: str
    """See `make_stage`."""
    settings: StageSettings
    inputs: Mapping[str, Ref]
    """Role -> artefact or folder."""
    threads: int
    """CPU threads of its process."""
    gpus: int = 1
    """GPUs over which its model is spread, where there are any; no part of its key."""

    @property
    def kind(self) -> str:
        """Return the kind of stage."""
        return self.settings.kind


class ResultSpec(NamedTuple):
    """One result file to write, and the keys of the stages that fill it."""

    seed: int
    arm: str
    evaluation: str
    """Key of the evaluation."""
    scores: str | None
    """Key of the scores of free answers; None without free answers."""
    training: str | None
    """Key of the training; None for a model as shipped."""
    filtering: str
    """Key of the leak filter of the seed."""
    relation: str
    """Key of the relation of the student's initial weights to the teacher's."""
    checkpoints: Mapping[str, Mapping[str, str]]
    """Sources of the checkpoints of the `teacher` and of the arm's `student`."""


class Plan(NamedTuple):
    """All stages of an experiment."""

    stages: dict[str, Stage]
    """By key, each after its inputs."""
    results: list[ResultSpec]
    """The result files to write."""
    audits: dict[str, str]
    """Trait arm -> key of its leak audit."""
    engine: Engine | None = None
    """The engine that writes its free text; None for this environment."""


def make_stage(
    label: str,
    settings: StageSettings,
    inputs: Mapping[str, Ref],
    *,
    model: str,
    libraries: Mapping[str, str],
    threads: int,
    gpus: int = 1,
) -> Stage:
    """Make a stage. Its key is a digest of its settings, inputs, library versions and threads."""
    key = digest(
        {
            "kind": settings.kind,
            "version": settings.version,
            "settings": settings.key_data(),
            "inputs": {role: ref.identity for role, ref in inputs.items()},
            "libraries": libraries,
            "threads": threads,
        }
    )
    return Stage(label, model, f"{settings.kind}-{key}", settings, inputs, threads, gpus)


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that are part of every key."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def environment_versions() -> dict[str, str]:
    """Return the versions of Python and of all libraries that may change a number, for the records of artefacts."""
    further = {name: importlib.metadata.version(name) for name in RECORDED}
    return {"python": platform.python_version(), **library_versions(), **further}
