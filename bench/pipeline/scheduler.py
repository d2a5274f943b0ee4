"""Run the stages of a plan in an order in which inputs come first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bench.errors import StageError
from bench.pipeline.executor import Executor
from bench.pipeline.plan import Stage

__all__ = ["ProgressListener", "run_stages"]

MAX_CORRUPTIONS = 2  # of one artefact in one run
MAX_LOSSES = 3  # of one stage in one run, with its worker or node


class ProgressListener(Protocol):
    """Receives the progress of a run; `bench.terminal` shows it."""

    def on_start(self, stage: Stage) -> None: ...
    def on_progress(self, stage: Stage, done: int, total: int) -> None: ...
    def on_finish(self, stage: Stage, seconds: float, left: int) -> None: ...
    def on_message(self, line: str) -> None: ...


def _corrupt_message(stage: Stage, folder: Path, names: list[str]) -> str:
    others = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"corrupt: {stage.label}: {folder}: {', '.join(names[:3])}{others}; the stage runs again"


def run_stages(stages: Mapping[str, Stage], executor: Executor, listener: ProgressListener) -> None:
    """Make every stage that is not done yet, several at a time, in the plan's order.

    A stage whose artefact is corrupt runs again, and a message names the files. A wrong size or time of a file, or a
    wrong checksum of a small one, is noticed here. Other corruption is noticed when a stage is about to read the
    artefact. A stage that was lost with its worker or node runs again, up to `MAX_LOSSES` times.

    Raises:
        StageError, UserError: a stage failed. Finished stages stay in the store.
    """
    store = executor.store
    waiting = {key: stage for key, stage in stages.items() if not store.is_done(key)}
    if not waiting:
        return
    store.sweep()
    for key, stage in waiting.items():
        if store.path(key).exists() and (names := store.corrupt_files(key)):
            listener.on_message(_corrupt_message(stage, store.path(key), names))
    missing = set(waiting)
    corruptions: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    starts: dict[str, float] = {}  # by the key of a running stage: when it started
    while waiting or starts:
        for key, stage in list(waiting.items()):
            if not any(ref.identity in missing for ref in stage.inputs.values()) and executor.room(stage):
                executor.submit(waiting.pop(key))
                starts[key] = time.monotonic()
                listener.on_start(stage)
        for running, message in executor.events():
            if running is None or message[0] == "message":
                listener.on_message(message[1])
                continue
            if message[0] == "progress":
                listener.on_progress(running, message[1], message[2])
                continue
            start = starts.pop(running.key)
            if message[0] == "corrupt":
                waiting[running.key] = running
                for key, names in message[1].items():
                    if key not in missing:
                        corruptions[key] += 1
                        if corruptions[key] > MAX_CORRUPTIONS:
                            raise StageError(f"{stages[key].label}: corrupt {corruptions[key]} times; check the disk")
                        listener.on_message(_corrupt_message(stages[key], store.path(key), names))
                        missing.add(key)
                        waiting[key] = stages[key]
                continue
            if message[0] == "lost":
                losses[running.key] += 1
                if losses[running.key] > MAX_LOSSES:
                    raise StageError(f"{running.label}: lost {losses[running.key]} times; last: {message[1]}")
                listener.on_message(f"lost: {running.label}: {message[1]}; runs again")
                waiting[running.key] = running
                continue
            if not store.is_done(running.key):
                raise StageError(f"{running.label}: ended without making {store.path(running.key)}")
            missing.discard(running.key)
            listener.on_finish(running, time.monotonic() - start, len(waiting) + len(starts))
