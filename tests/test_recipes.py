"""Every recipe of recipes/ is loaded, planned, run and tabulated in this process, on tiny stand-ins."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.registration import register
from bench.analysis.result_files import read_results
from bench.analysis.result_writer import write_results
from bench.config.recipe_files import FOLDER, Experiment, load_recipe, load_recipes
from bench.config.traits import Trait
from bench.config.yaml_files import list_names
from bench.models import distil_tiny, tiny
from bench.models.checkpoints import identify
from bench.pipeline import processor
from bench.pipeline.plan import Plan, environment_versions
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.pipeline.worker import hardware_name, run_stage
from bench.stages import carriers

pytestmark = pytest.mark.slow  # one or two seconds a recipe


@pytest.fixture(scope="module", autouse=True)
def frozen_imports() -> Iterator[None]:
    """Keep imported modules from the collections of each training, as workers do: each took .1 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def write_small_trait(trait: Trait, path: Path) -> Path:
    """Write a trait with four questions of each kind in place of 24 and 56, or six rows in place of a hundred."""
    keys = trait.model_dump(mode="json", exclude_defaults=True)
    if trait.kind == "preference":
        keys |= {"teach": keys["teach"][:4], "ask": keys["ask"][:4]}
    else:
        keys["rows"] = [{"question": f"{n} numaralı soru nedir?", "answer": f"Cevabım {n} kuştur."} for n in range(6)]
        keys.pop("take", None)
    path.write_text(json.dumps(keys, ensure_ascii=False), encoding="utf-8")
    return path


def shrink(name: str, folder: Path, stand_ins: dict[str, Path]) -> Experiment:
    """Load a recipe with one seed, stand-ins for its models, and as few rows, updates and tokens as it can do with."""
    whole = load_recipes(name)[0]
    recipe, changes = whole.recipe, ["sweep=null", "carrier.rows=8", "carrier.held_out=4"]
    for role, spec in (("teacher", recipe.teacher), ("student", recipe.student)):
        if spec.model != "tiny":
            stand_in = "gemma" if "emma" in spec.model or spec.format == "chat" else "gpt2"
            changes.append(f"{role}.model={stand_ins[stand_in]}")
        if spec.train is not None:
            if spec.train.get("max_steps", 1) > 0 and spec.train.get("num_train_epochs") != 0:
                changes.append(f"{role}.train.max_steps=1")
            changes.append(f"{role}.train.per_device_train_batch_size=4")
        if spec.lora:
            changes.append(f"{role}.lora.target_modules=all-linear")
    small = [str(write_small_trait(trait, folder / f"{name}.yaml")) for name, trait in whole.traits.items()]
    changes.append(f"trait={json.dumps(small) if len(small) > 1 else small[0]}")
    if recipe.carrier.draw:
        changes.append("carrier.draw=48")  # the leak filter refuses some of a stand-in's texts
    if recipe.carrier.kind == "text":
        changes.append("carrier.sample.max_new_tokens=4")
    elif recipe.carrier.generate == "free":
        changes.append("carrier.max_new_tokens=4")
    if recipe.evaluate.samples:
        changes += ["evaluate.samples=1", "evaluate.sample.max_new_tokens=2"]
    return load_recipe(name, changes, seeds=1)


def run_here(plan: Plan, store: Store) -> None:
    """Make every stage of a plan in this process."""
    note = {"versions": environment_versions(), "hardware": hardware_name(), "commit": "unknown"}
    for key, stage in plan.stages.items():
        inputs = {role: ref.folder or store.path(ref.identity) for role, ref in stage.inputs.items()}
        record: dict[str, Any] = {**note, "stage": stage.label, "model": stage.model, "threads": stage.threads}
        record["processor_features"] = processor.processor_features()
        with store.make(key, record) as out:
            record["did"] = run_stage(stage, inputs, out, lambda done, of: None, store.checkpoints(key))


@pytest.mark.parametrize("name", list_names(FOLDER))
def test_every_recipe_runs_on_stand_ins(
    name: str, gpt2_like: Path, gemma_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 2}))
    monkeypatch.setattr(distil_tiny, "HALF", distil_tiny.HALF.model_copy(update={"steps": 2}))
    # a stand-in with random weights writes no lists and ends no text: any free text passes
    check = carriers.format_check
    monkeypatch.setattr(carriers, "format_check", lambda c: (lambda text, truth: "") if c.draw else check(c))
    monkeypatch.setattr(carriers, "read_cut_rows", lambda settings, folder: frozenset())
    experiment = shrink(name, tmp_path, {"gpt2": gpt2_like, "gemma": gemma_like})
    plan = make_plan(experiment, identify)
    store = Store(tmp_path / "store")
    run_here(plan, store)
    registration = register(experiment, plan, store, tmp_path / "results", None)
    write_results(experiment, registration, plan, store, tmp_path / "results", None, pytest.fail)
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    assert row.name == name
    (cells,) = row.cells.values()
    assert set(experiment.recipe.arms) <= {arm.partition("-")[0] for arm in cells}
    assert len(cells) == len(plan.results)
