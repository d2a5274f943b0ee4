from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import StageError
from bench.pipeline.executor import Event
from bench.pipeline.plan import Ref, Stage
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


class Scripted:
    """An executor for one stage at a time. It answers with given messages, and then makes the artefact."""

    def __init__(self, store: Store, **answers: list[tuple[Any, ...]]) -> None:
        self.store = store
        self.answers = answers
        self.running: Stage | None = None
        self.order: list[str] = []

    def slots(self, threads: int) -> int:
        return 1

    def room(self, stage: Stage) -> bool:
        return self.running is None

    def submit(self, stage: Stage) -> None:
        self.running = stage
        self.order.append(stage.key)

    def events(self) -> list[Event]:
        stage, self.running = self.running, None
        assert stage
        if messages := self.answers.get(stage.key):
            return [(stage, messages.pop(0))]
        with self.store.make(stage.key, {}) as out:
            (out / "rows").write_text("rows")
        return [(stage, ("done", None))]

    def close(self, *, failed: bool) -> None: ...


def stage(name: str, threads: int = 1) -> Stage:
    return Stage(name, "tiny", name, Relation(), {}, threads)


def test_a_plan_whose_stages_are_done_starts_no_worker(tmp_path: Path) -> None:
    executor = Scripted(Store(tmp_path))
    run_stages({"a": stage("a")}, executor, Listener())
    run_stages({"a": stage("a")}, executor, Listener())
    assert executor.order == ["a"]


def test_a_corrupt_artefact_is_named_before_a_stage_starts(tmp_path: Path) -> None:
    store, listener = Store(tmp_path), Listener()
    run_stages({n: stage(n) for n in ("a", "b")}, Scripted(store), Listener())
    (store.path("b") / "rows").write_text("row")
    run_stages({n: stage(n) for n in ("a", "b")}, Scripted(store), listener)
    damage, *others = listener.lines
    assert str(store.path("b")) in damage
    assert "rows" in damage
    assert others == ["start b", "finish b, 0 left"]


def test_a_lost_stage_runs_again_and_later_stages_wait_for_it(tmp_path: Path) -> None:
    listener, executor = Listener(), Scripted(Store(tmp_path), a=[("lost", "node 7 died")] * 3)
    after = stage("b")._replace(inputs={"start": Ref("a")})
    run_stages({"a": stage("a"), "b": after}, executor, listener)
    assert executor.order == ["a", "a", "a", "a", "b"]
    assert listener.lines.count("lost: a: node 7 died; runs again") == 3


def test_a_stage_that_is_lost_too_often_ends_the_run(tmp_path: Path) -> None:
    executor = Scripted(Store(tmp_path), a=[("lost", "node 7 died")] * 9)
    with pytest.raises(StageError, match=r"^a: lost 4 times; last: node 7 died$"):
        run_stages({"a": stage("a")}, executor, Listener())
