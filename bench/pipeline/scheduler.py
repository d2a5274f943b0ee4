"""Run the stages of a plan on workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from bench.errors import StageError
from bench.pipeline.local_workers import Pool, Worker
from bench.pipeline.plan import Stage

__all__ = ["ProgressListener", "run_stages"]

MAX_CORRUPTIONS = 2  # of one artefact in one run


class ProgressListener(Protocol):
    """Receives the progress of a run; `bench.terminal` shows it."""

    def on_start(self, stage: Stage) -> None: ...
    def on_progress(self, stage: Stage, done: int, total: int) -> None: ...
    def on_finish(self, stage: Stage, seconds: float, left: int) -> None: ...
    def on_message(self, line: str) -> None: ...


def _corrupt_message(stage: Stage, folder: Path, names: list[str]) -> str:
    others = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"damaged: {stage.label}: {folder}: {', '.join(names[:3])}{others}; made again"


def run_stages(stages: Mapping[str, Stage], pool: Pool, listener: ProgressListener) -> None:
    """Make every stage that is not done yet, several at a time, in the plan's order.

    Corrupt artefacts are reported and made again. A wrong size or time of a file, or a wrong checksum of a small one,
    is noticed here. Other corruption is noticed when a stage is about to read the artefact.

    Raises:
        StageError, UserError: a stage failed. Finished stages stay in the store.
    """
    store = pool.store
    waiting = {key: stage for key, stage in stages.items() if not store.is_done(key)}
    if not waiting:
        return
    store.sweep()
    for key, stage in waiting.items():
        if store.path(key).exists() and (names := store.corrupt_files(key)):
            listener.on_message(_corrupt_message(stage, store.path(key), names))
    missing = set(waiting)
    corruptions: Counter[str] = Counter()
    idle = pool.start(pool.slots(max(stage.threads for stage in waiting.values())))
    busy: dict[Any, tuple[Worker, Stage, float]] = {}  # by connection: the worker, its stage, and when it started
    while waiting or busy:
        for key, stage in list(waiting.items()):
            if idle and not any(ref.identity in missing for ref in stage.inputs.values()):
                worker = idle.pop(0)
                pool.send(worker, waiting.pop(key), stage.label)
                busy[worker.conn] = (worker, stage, time.monotonic())
                listener.on_start(stage)
        for conn in wait(list(busy)):
            worker, stage, start = busy[conn]
            message = pool.receive(worker, stage.label)
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
                        corruptions[key] += 1
                        if corruptions[key] > MAX_CORRUPTIONS:
                            raise StageError(f"{stages[key].label}: corrupt {corruptions[key]} times; check the disk")
                        listener.on_message(_corrupt_message(stages[key], store.path(key), names))
                        missing.add(key)
                        waiting[key] = stages[key]
                continue
            if not store.is_done(stage.key):
                raise StageError(f"{stage.label}: ended without making {store.path(stage.key)}")
            missing.discard(stage.key)
            listener.on_finish(stage, time.monotonic() - start, len(waiting) + len(busy))
