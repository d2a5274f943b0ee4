from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from board import STEADY, ZERO, make_row, write_cells

from bench.analysis.registry import read_registry
from bench.analysis.registry_lines import Registration
from bench.config.recipe_files import Experiment, load_recipe
from bench.experiment import CONTROLS, is_control, run_installation_controls
from bench.pipeline.local_workers import Pool
from bench.pipeline.plan import Plan
from bench.pipeline.scheduler import ProgressListener
from bench.pipeline.store import Store


def test_only_an_unchanged_shipped_control_is_a_control() -> None:
    assert CONTROLS.keys() == {"tiny_pair", "tiny_cross"}
    for name in CONTROLS:
        assert is_control(load_recipe(name))
        assert not is_control(load_recipe(name, seeds=3))
    assert not is_control(load_recipe("tiny_noise"))


@pytest.mark.slow
def test_controls_are_registered_in_their_order_and_pin_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "tiny_pair": make_row(STEADY, controls="self"),
        "tiny_cross": make_row(ZERO, recipe="tiny_cross", relation="cross-init", controls="self"),
    }

    def write(of: Experiment, registration: Registration, plan: Plan, store: Store, folder: Path, *_: Any) -> None:
        write_cells(folder, rows[of.name])

    monkeypatch.setattr("bench.experiment.run_stages", lambda *_: None)
    monkeypatch.setattr("bench.experiment.write_results", write)
    store = Store(tmp_path / "store")

    def screen(*_: Any) -> AbstractContextManager[ProgressListener]:
        return nullcontext(cast("ProgressListener", Mock()))

    with Pool(store, 1) as pool:
        verdicts = run_installation_controls(pool, screen, print)
        folder = next((store.root / "controls").iterdir())
        chain = (folder / "registry.jsonl").read_bytes()
        assert run_installation_controls(pool, screen, print) == verdicts
    assert verdicts == {"tiny_pair": "TRANSFER", "tiny_cross": "NONE", "failed": []}
    assert (folder / "registry.jsonl").read_bytes() == chain
    pair, cross = read_registry(folder).entries
    assert (pair.recipe, pair.bound) == ("tiny_pair", None)
    assert cross.reference
    assert (cross.recipe, cross.reference.recipe_hash) == ("tiny_cross", pair.recipe_hash)
    assert read_registry(store.root).entries == ()
