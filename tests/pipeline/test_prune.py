from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.models.engine import Engine
from bench.pipeline.planner import make_plan
from bench.pipeline.prune import find_needed, read_runs, record_run
from bench.pipeline.store import Store


def test_a_recorded_run_is_read_back_and_needed_until_it_is_unnamed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cross, pair = (load_recipe(name, seeds=1) for name in ("tiny_cross", "tiny_pair"))
    plan = make_plan(cross, identify)
    record_run(store, cross, plan)
    (run,) = read_runs(store)
    assert (run.recipe, run.hash, run.stages) == ("tiny_cross", cross.hash(), sorted(plan.stages))
    own = set(make_plan(pair, identify).stages)
    assert find_needed([pair], [run], only_named=True).keys == own
    assert find_needed([pair], [run], only_named=False).keys == own | set(plan.stages)


def test_a_run_with_an_engine_needs_its_artefacts_next_to_those_without(tmp_path: Path) -> None:
    store, recipe = Store(tmp_path), load_recipe("tiny_pair", ["evaluate.samples=2"], seeds=1)
    engine = Engine(version="0.30.0", batch_invariant=False, python=tmp_path / "python")
    plans = [make_plan(recipe, identify, used) for used in (engine, None)]
    for plan in plans:
        record_run(store, recipe, plan)
    runs = read_runs(store)
    needed = set(plans[0].stages) | set(plans[1].stages)
    assert len(runs) == 2
    assert needed != set(plans[1].stages)
    assert find_needed([recipe], runs, only_named=True).keys == needed
    assert find_needed([], runs, only_named=False).keys == needed


def test_a_corrupt_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json: corrupt"):
        read_runs(Store(tmp_path))
