"""The cores, GPUs and memory that a stage needs."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bench.models.memory import load_bytes, parameters, train_bytes
from bench.pipeline.plan import Stage
from bench.stages.evaluation_settings import Evaluate, ScoreAnswers
from bench.stages.settings import (
    AuditLeaks,
    Convert,
    FilterRows,
    FindMicroBatch,
    Relation,
    TeacherLogits,
    Training,
    TrainStudent,
    TrainTeacher,
    WriteCarrier,
)

__all__ = ["Needs", "find_needs"]

LOADS = (TrainTeacher, WriteCarrier, TeacherLogits, FindMicroBatch, TrainStudent, Evaluate)  # with the key `model`
NO_GPU = (Convert, Relation, FilterRows, AuditLeaks, ScoreAnswers)  # these read files and compute on the CPU
GIB = 1 << 30


class Needs(NamedTuple):
    """The cores, GPUs and main memory of one stage. They are no part of its key."""

    cpus: int
    gpus: int
    """GPUs where there are any; 0 if the stage cannot use one."""
    memory: int
    """Bytes for the weights and their training, a multiple of 1 GiB; 0 for small models or an unknown size."""


_parameters = cache(parameters)


def find_needs(stage: Stage, *, gpus: bool) -> Needs:
    """Return the needs of a stage on machines with or without GPUs."""
    on_gpu = gpus and not isinstance(stage.settings, NO_GPU)
    return Needs(stage.threads, stage.gpus if on_gpu else 0, _memory(stage, on_gpu=on_gpu) // GIB * GIB)


def _memory(stage: Stage, *, on_gpu: bool) -> int:
    """Estimate the bytes in main memory; with a GPU those of loading the weights."""
    settings, start = stage.settings, stage.inputs.get("start")
    if not isinstance(settings, LOADS):
        return 0
    model = settings.model
    count = _parameters(stage.model, start.folder if start else None)
    if count is None:
        return 0
    load = load_bytes(model.dtype, model.quantization, count)
    if isinstance(model, Training) and not on_gpu:
        return int(train_bytes(load, model.lora, count))
    return int(load)
