"""The interface between the scheduler, which orders stages, and the processes that run them."""

from __future__ import annotations

from typing import Any, Protocol, Self

from bench.pipeline.plan import Stage
from bench.pipeline.store import Store

__all__ = ["Event", "Executor"]

# A stage (None: not about one) and a message about it: ("progress", done, total), ("message", line), ("done", None),
# ("corrupt", {key of an input: names of its files}) or ("lost", reason): the stage can start again.
Event = tuple[Stage | None, tuple[Any, ...]]


class Executor(Protocol):
    """Runs stages: `Pool` on this machine, `RayExecutor` on a cluster. Only finished artefacts leave a trace.

    All processes end with the `with` block.
    """

    store: Store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(failed=kind is not None)

    def slots(self, threads: int) -> int:
        """Return the number of parallel stages of `threads` threads, for estimates of time."""

    def room(self, stage: Stage) -> bool:
        """Return whether the stage can start now."""

    def submit(self, stage: Stage) -> None:
        """Start a stage for which there is room."""

    def events(self) -> list[Event]:
        """Wait for messages, or for room, and return the messages. Raises StageError, UserError: a stage failed."""

    def close(self, *, failed: bool) -> None:
        """End all processes; after a failure also those that still work."""
