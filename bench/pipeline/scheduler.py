"""Run a plan: hand ready stages to workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from bench.errors import StageError
from bench.pipeline.local_workers import Pool, _Worker
from bench.pipeline.plan import Stage

__all__ = ["ProgressListener", "run_stages"]


class ProgressListener(Protocol):
    """Is told how a run goes; `bench.terminal` shows it."""

    def on_start(self, stage: Stage) -> None: ...
    def on_progress(self, stage: Stage, done: int, of: int) -> None: ...
    def on_finish(self, stage: Stage, seconds: float, left: int) -> None: ...
    def on_message(self, line: str) -> None: ...


def _corrupt_message(stage: Stage, folder: Path, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"damaged: {stage.label}: {folder}: {', '.join(names[:3])}{more}; made again"


def run_stages(stages: Mapping[str, Stage], pool: Pool, listener: ProgressListener) -> None:
    """Make every stage that is not done yet, several at a time. Stages are taken in the plan's order.

    What is damaged is named and made again: found at once where a file's size or time, or a small file's checksum, is
    wrong, and else when a stage is about to read it.

    Raises:
        StageError, UserError: a stage failed; those that were done stay done.
    """
    store = pool.store
    waiting = {key: stage for key, stage in stages.items() if not store.is_done(key)}
    if not waiting:
        return
    store.sweep()
    for key, stage in waiting.items():
        if store.path(key).exists() and (names := store.damaged(key)):
            listener.on_message(_corrupt_message(stage, store.path(key), names))
    missing = set(waiting)
    again: Counter[str] = Counter()
    idle = pool.start(pool.slots(max(stage.threads for stage in waiting.values())))
    busy: dict[Any, tuple[_Worker, Stage, float]] = {}  # by connection; `wait` says less of those than it is given
    while waiting or busy:
        for key, stage in list(waiting.items()):
            if idle and not any(ref.identity in missing for ref in stage.inputs.values()):
                worker = idle.pop(0)
                pool.send(worker, waiting.pop(key), stage.label)
                busy[worker.conn] = (worker, stage, time.monotonic())
                listener.on_start(stage)
        for conn in wait(list(busy)):
            worker, stage, begun = busy[conn]
            message = pool.answer(worker, stage.label)
            if message[0] == "progress":
                listener.on_progress(stage, message[1], message[2])
                continue
            if message[0] == "message":
                listener.on_message(message[1])
                continue
            del busy[conn]
            idle.append(worker)
            if message[0] == "corrupt":
                waiting[stage.key] = stage
                for key, names in message[1].items():
                    if key not in missing:
                        again[key] += 1
                        if again[key] > 2:
                            raise StageError(f"{stages[key].label}: damaged time and again: is the disk sound?")
                        listener.on_message(_corrupt_message(stages[key], store.path(key), names))
                        missing.add(key)
                        waiting[key] = stages[key]
                continue
            if not store.is_done(stage.key):
                raise StageError(f"{stage.label}: ended without leaving {store.path(stage.key)}")
            missing.discard(stage.key)
            listener.on_finish(stage, time.monotonic() - begun, len(waiting) + len(busy))
