from __future__ import annotations

import json
from pathlib import Path

from bench.config.recipe_files import load_recipe
from bench.files import seal
from bench.models.checkpoints import identify
from bench.pipeline.estimate import StageCount, estimate_plan
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store


def finish(store: Store, key: str, seconds: float, model: str) -> None:
    """Put an artefact into a store, as a finished stage leaves it."""
    folder = store.path(key)
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("{}")
    seal(folder, {"seconds": seconds, "model": model})


def test_the_time_is_that_of_equal_stages_and_unknown_without_them(tmp_path: Path) -> None:
    experiment, store = load_recipe("tiny_pair", ["arms=[base, trait]"], seeds=2), Store(tmp_path)
    plan = make_plan(experiment, identify)
    estimate = estimate_plan(experiment, plan, store)
    assert estimate.seconds is None
    assert set(estimate.unknown) == {stage.kind for stage in plan.stages.values()} == estimate.stages.keys()

    one_of_each = {stage.kind: key for key, stage in plan.stages.items()}
    for key in one_of_each.values():
        finish(store, key, 3.0, plan.stages[key].model)
    finish(store, "teacher-other", 100.0, "gpt2")
    estimate = estimate_plan(experiment, plan, store)
    todo = len(plan.stages) - len(one_of_each)
    assert (estimate.unknown, estimate.seconds) == ((), 3.0 * todo)
    assert estimate.stages["build_tiny"] == StageCount(total=2, done=1)
    assert json.loads(json.dumps(estimate.as_json()))["stages"]["build_tiny"] == {"total": 2, "done": 1}

    for key in plan.stages.keys() - set(one_of_each.values()):
        finish(store, key, 3.0, plan.stages[key].model)
    assert estimate_plan(experiment, plan, store).seconds == 0


def test_memory_is_that_of_a_named_size_before_any_download(tmp_path: Path) -> None:
    experiment = load_recipe("gemma_pair")
    plan = make_plan(load_recipe("tiny_pair", seeds=1), identify)
    size = estimate_plan(experiment, plan, Store(tmp_path)).sizes["student"]
    assert (size.model, size.trains) == (experiment.recipe.student.model, "LoRA")
    assert size.parameters == 2e9
    assert size.evaluation_bytes is not None
    assert size.training_bytes is not None
    assert size.evaluation_bytes < size.training_bytes < 2 * size.evaluation_bytes
    tiny = estimate_plan(load_recipe("tiny_pair"), plan, Store(tmp_path)).sizes["student"]
    assert (tiny.model, tiny.parameters, tiny.training_bytes) == ("tiny", None, None)
