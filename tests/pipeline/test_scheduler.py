from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import StageError
from bench.pipeline.plan import Stage
from bench.pipeline.scheduler import run_stages
from bench.pipeline.store import Store
from bench.stages.settings import Relation


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, stage: Stage) -> None:
        self.lines.append(f"start {stage.label}")

    def on_progress(self, stage: Stage, done: int, of: int) -> None: ...

    def on_finish(self, stage: Stage, seconds: float, left: int) -> None:
        self.lines.append(f"finish {stage.label}, {left} left")

    def on_message(self, line: str) -> None:
        self.lines.append(line)


class NoWorkers:
    """A pool that must not be started."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def slots(self, threads: int) -> int:
        return threads

    def start(self, count: int) -> Any:
        raise StageError(f"{count} workers were started")


def stage(name: str, threads: int = 1) -> Stage:
    return Stage(name, "tiny", name, Relation(), {}, threads)


def test_a_plan_whose_stages_are_done_starts_no_worker(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.make("a", {}) as out:
        (out / "rows").write_text("rows")
    run_stages({"a": stage("a")}, NoWorkers(store), Listener())  # type: ignore[arg-type]  # a stand-in


def test_a_corrupt_artefact_is_named_before_workers_are_started(tmp_path: Path) -> None:
    store, listener = Store(tmp_path), Listener()
    for name in ("a", "b"):
        with store.make(name, {}) as out:
            (out / "rows").write_text("rows")
    (store.path("b") / "rows").write_text("row")
    with pytest.raises(StageError, match="2 workers"):
        run_stages({n: stage(n, 2) for n in ("a", "b")}, NoWorkers(store), listener)  # type: ignore[arg-type]  # a stand-in
    (line,) = listener.lines
    assert str(store.path("b")) in line
    assert "rows" in line
