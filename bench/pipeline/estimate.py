"""The cost of a plan: its stages, the memory of its models, and the time of the stages to do."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any, NamedTuple

from bench.config.model_settings import Model
from bench.config.recipe_files import Experiment
from bench.models.checkpoints import identify
from bench.models.memory import estimate, parameters
from bench.pipeline.plan import Plan, Stage
from bench.pipeline.store import Store

__all__ = ["ModelSize", "PlanEstimate", "StageCount", "estimate_plan"]


class StageCount(NamedTuple):
    """The stages of one kind."""

    total: int
    """All of them."""
    done: int
    """Those that are in the store already."""


class ModelSize(NamedTuple):
    """The size of a model, and the memory that it needs without activations."""

    model: str
    """The checkpoint, as in the recipe."""
    precision: str
    """The dtype of its weights, or `quantised`."""
    trains: str
    """`LoRA` or `all weights`."""
    parameters: float | None
    """The number of weights; None while it is unknown."""
    evaluation_bytes: float | None
    """Bytes to evaluate it; None with `parameters`, and for `tiny`."""
    training_bytes: float | None
    """Bytes to train it; None with `parameters`, and for `tiny`."""


class PlanEstimate(NamedTuple):
    """The cost of a plan."""

    stages: dict[str, StageCount]
    """By kind, in the plan's order."""
    sizes: dict[str, ModelSize]
    """By role: teacher, student."""
    seconds: float | None
    """The work of the stages to do, one after another; None if some have no finished equal in the store."""
    unknown: tuple[str, ...]
    """The kinds of stages that have none."""

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as plain JSON data."""
        return {
            "stages": {kind: count._asdict() for kind, count in self.stages.items()},
            "models": {role: size._asdict() for role, size in self.sizes.items()},
            "seconds": self.seconds,
            "unknown": list(self.unknown),
        }


def estimate_plan(experiment: Experiment, plan: Plan, store: Store) -> PlanEstimate:
    """Count the stages of a plan and estimate memory and time; downloads nothing."""
    kinds: dict[str, list[bool]] = {}
    todo: list[Stage] = []
    for stage in plan.stages.values():
        done = store.is_done(stage.key)
        kinds.setdefault(stage.kind, []).append(done)
        todo += [] if done else [stage]
    seconds = _mean_seconds(store, {stage.kind for stage in todo})
    unknown = {stage.kind: None for stage in todo if (stage.kind, stage.model) not in seconds}
    recipe = experiment.recipe
    return PlanEstimate(
        {kind: StageCount(len(done), sum(done)) for kind, done in kinds.items()},
        {"teacher": _size(recipe.teacher), "student": _size(recipe.student)},
        None if unknown else sum(seconds[stage.kind, stage.model] for stage in todo),
        tuple(unknown),
    )


def _size(spec: Model) -> ModelSize:
    precision = "quantised" if spec.quantization else spec.dtype
    trains = "LoRA" if spec.lora is not None else "all weights"
    count = None if spec.model == "tiny" else parameters(spec.model, identify(spec, fetch=False).folder)
    memory = (None, None) if count is None else estimate(spec, count)
    return ModelSize(spec.model, precision, trains, count, *memory)


def _mean_seconds(store: Store, kinds: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return the mean seconds of the finished stages of some kinds, by kind and model."""
    times: dict[tuple[str, str], list[float]] = {}
    for kind in kinds:
        for path in (store.root / "artefacts").glob(f"{kind}-*"):
            if store.is_done(path.name):
                record = store.record(path.name)
                times.setdefault((kind, record["model"]), []).append(record["seconds"])
    return {stage: fmean(seconds) for stage, seconds in times.items()}
