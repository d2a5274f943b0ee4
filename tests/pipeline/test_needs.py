from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import Checkpoint
from bench.pipeline.needs import Needs, find_needs
from bench.pipeline.plan import Stage
from bench.pipeline.planner import make_plan


def plan_stages(model: str, **student: str) -> dict[str, Stage]:
    """The first stage of each kind; checkpoints are not on this machine, their size is in their name."""
    words = [f"{role}.model={model}" for role in ("teacher", "student")]
    words += [f"student.{key}={value}" for key, value in student.items()]
    experiment = load_recipe("tiny_pair", words, seeds=1)
    stages = make_plan(experiment, lambda spec: Checkpoint(spec.model, spec.model, Path("/nowhere"), {})).stages
    return {stage.kind: stage for stage in reversed(stages.values())}


@pytest.mark.parametrize("gpus", [True, False])
def test_only_stages_with_a_model_hold_a_gpu_where_there_is_one(gpus: bool) -> None:
    kinds = {kind for kind, stage in plan_stages("a/model-2b").items() if find_needs(stage, gpus=gpus).gpus}
    assert kinds == ({"teacher", "carrier", "micro_batch", "student", "evaluate"} if gpus else set())


def test_memory_follows_the_size_of_the_model_and_its_training() -> None:
    stages = plan_stages("a/model-2b", lora="{r: 8}")
    for kind, gib in {"teacher": 29, "student": 7, "evaluate": 7, "filter": 0}.items():
        assert find_needs(stages[kind], gpus=False) == Needs(1, 0, gib << 30), kind
    assert find_needs(stages["teacher"], gpus=True) == Needs(1, 1, 7 << 30)


def test_the_gpus_of_a_model_change_no_hash_and_no_key() -> None:
    words = ["teacher.model=a/model-2b", "student.model=a/model-2b"]
    more = [*words, "teacher.needs.gpus=2", "student.needs.gpus=4"]
    plain, spread = (load_recipe("tiny_pair", keys, seeds=1) for keys in (words, more))
    assert plain.hash() == spread.hash()
    plans = [
        make_plan(experiment, lambda spec: Checkpoint(spec.model, spec.model, Path("/nowhere"), {}))
        for experiment in (plain, spread)
    ]
    assert plans[0].stages.keys() == plans[1].stages.keys()
    stages = plans[1].stages.values()
    wanted = {"teacher": 2, "carrier": 2, "micro_batch": 4, "student": 4, "filter": 0, "relation": 0, "audit": 0}
    for kind, gpus in wanted.items():
        assert {find_needs(stage, gpus=True).gpus for stage in stages if stage.kind == kind} == {gpus}, kind
    readings = {stage.label: find_needs(stage, gpus=True).gpus for stage in stages if stage.kind == "evaluate"}
    assert all(gpus == (2 if "teacher" in label else 4) for label, gpus in readings.items())
    assert not any(find_needs(stage, gpus=False).gpus for stage in stages)


def test_needs_are_no_part_of_a_key_and_small_models_need_no_memory() -> None:
    stages = plan_stages("a/model-2m")
    assert not any(find_needs(stage, gpus=False).memory for stage in stages.values())
    assert "needs" not in Stage._fields
