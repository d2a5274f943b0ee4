"""Worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

from bench.errors import DiskError, StageError, UserError
from bench.files import ROOT
from bench.pipeline import processor
from bench.pipeline.environment import (
    CPU_ENVIRONMENT,
    ENVIRONMENT,
    GPU_ENVIRONMENT,
    extend_environment,
    visible_gpus,
)
from bench.pipeline.executor import Event, Executor
from bench.pipeline.needs import find_needs
from bench.pipeline.plan import Stage
from bench.pipeline.store import Store
from bench.pipeline.worker import run_worker

__all__ = ["Pool", "Worker", "WorkerEnded", "current_commit"]

# Modules that the fork server imports once for all workers.
PRELOAD = [
    "bench.stages.train",
    "bench.stages.generate",
    "trl.trainer.sft_trainer",
    "transformers.models.gpt2.modeling_gpt2",
    "peft",
]


def current_commit() -> str:
    """Return the git commit of this code, with `-dirty` if the code differs from it, or `unknown`."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", "bench", "recipes", "run_bench.py")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@contextmanager
def _redirect_output(log: Path) -> Iterator[None]:
    """Redirect the output of this process, and of processes that it starts, to a file. A terminal keeps its stdout.

    Without this, a reader of the command's output would wait for processes that still import after the command's end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (2,) if os.isatty(1) else (1, 2)
    originals = [os.dup(stream) for stream in streams]
    with log.open("a", encoding="utf-8") as file:
        for stream in streams:
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        for stream, original in zip(streams, originals, strict=True):
            os.dup2(original, stream)
            os.close(original)


class WorkerEnded(StageError):
    """A worker's process ended during its task."""


class Worker(NamedTuple):
    """A worker process."""

    process: Any
    conn: Connection
    """The command's end of the connection."""
    gpus: tuple[str, ...]
    """The ids of the GPUs that it sees; () for none."""


class Pool(Executor):
    """Worker processes. They start when they are first needed.

    With GPUs, `jobs` stages (default: one per GPU) run on GPUs, and as many stages that need none run next to them. A
    stage that needs several GPUs shares them with no other; only where `jobs` exceeds the GPUs do stages share one.
    `track` names the tool of `bench.stages.tracking` that tracks trainings.
    """

    def __init__(self, store: Store, jobs: int | None = None, track: str | None = None) -> None:
        self.store = store
        self.jobs = jobs
        self.track = track
        self.commit = current_commit()
        self.gpus = visible_gpus()
        self.workers: list[Worker] = []
        self.busy: dict[Connection, tuple[Worker, Stage]] = {}

    def close(self, *, failed: bool) -> None:
        """End all workers; after a failure also those that still work."""
        for worker in self.workers:
            worker.conn.close()  # an idle worker ends by itself
            if failed:
                worker.process.kill()
        for worker in self.workers:
            worker.process.join()
        if failed:
            with suppress(OSError):
                self.store.sweep()  # unfinished artefacts may fill the disk

    def start(self, gpus: tuple[str, ...]) -> Worker:
        """Return an idle worker that sees these GPUs; start one if there is none."""
        for worker in self.workers:
            if worker.gpus == gpus and worker.conn not in self.busy:
                return worker
        self.workers.append(self._start_worker(gpus))
        return self.workers[-1]

    def start_ahead(self, stage: Stage) -> None:
        """Start the workers that stages like this one will need, so that they import while the first one works."""
        if (count := self._count_gpus(stage)) > 1:
            return
        alike = sum(len(worker.gpus) == count for worker in self.workers)
        for number in range(alike, self.slots(stage.threads)):
            gpus = (self.gpus[number % len(self.gpus)],) if count else ()
            self.workers.append(self._start_worker(gpus))

    def _start_worker(self, gpus: tuple[str, ...]) -> Worker:
        method = "spawn" if self.gpus or "forkserver" not in multiprocessing.get_all_start_methods() else "forkserver"
        context: Any = multiprocessing.get_context(method)
        if not self.workers and method == "forkserver":
            context.set_forkserver_preload(PRELOAD)
        device = {**CPU_ENVIRONMENT, **({"CUDA_VISIBLE_DEVICES": ""} if self.gpus else {})}
        if gpus:  # CUDA reads its variables once, when torch first asks for a device
            device = {**GPU_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        conn, worker_conn = context.Pipe()
        log = self.store.root / "logs" / f"{os.getpid()}-{len(self.workers)}.log"
        arguments = worker_conn, self.store, self.commit, log, self.track
        process = context.Process(target=run_worker, args=arguments, daemon=True)
        # The fork server starts here, with this environment and output. PYTHONPATH makes it preload this code, and
        # not that of the working folder or of an installed copy.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (
            extend_environment({**ENVIRONMENT, **device, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}),
            _redirect_output(log),
        ):
            process.start()
        worker_conn.close()
        return Worker(process, conn, gpus)

    def slots(self, threads: int) -> int:
        """Return the number of parallel stages: `jobs`, else one per GPU, else one per `threads` cores."""
        return self.jobs or len(self.gpus) or max(1, processor.count_cores() // threads)

    def room(self, stage: Stage) -> bool:
        """Return whether a worker for the stage is idle or can be started.

        Raises:
            UserError: the stage needs more GPUs than there are.
        """
        if (count := self._count_gpus(stage)) > len(self.gpus):
            raise UserError(f"{stage.label}: key 'needs.gpus': {count} GPUs expected, found {len(self.gpus)}")
        return self._find_gpus(stage) is not None

    def submit(self, stage: Stage) -> None:
        """Send a stage for which there is room to an idle worker."""
        gpus = self._find_gpus(stage)
        assert gpus is not None
        worker = self.start(gpus)
        self.send(worker, stage, stage.label)
        self.busy[worker.conn] = worker, stage
        self.start_ahead(stage)

    def _find_gpus(self, stage: Stage) -> tuple[str, ...] | None:
        """Return GPUs with room for the stage, () if it needs none; None if it has to wait."""
        count, slots = self._count_gpus(stage), self.slots(stage.threads)
        busy = [worker.gpus for worker, _ in self.busy.values()]
        if sum(bool(gpus) == bool(count) for gpus in busy) >= slots:
            return None
        loads = Counter(gpu for gpus in busy for gpu in gpus)
        spread = {gpu for gpus in busy if len(gpus) > 1 for gpu in gpus}
        share = 1 if count > 1 else -(-slots // max(1, len(self.gpus)))
        free = [gpu for gpu in self.gpus if loads[gpu] < share and gpu not in spread]
        return tuple(sorted(free, key=loads.__getitem__)[:count]) if len(free) >= count else None

    def events(self) -> list[Event]:
        """Wait for messages of the busy workers and return them.

        Raises:
            StageError, UserError: a stage failed, or its worker's process ended.
        """
        events: list[Event] = []
        for conn in wait(list(self.busy)):
            worker, stage = self.busy[cast("Connection", conn)]
            message = self.receive(worker, stage.label)
            if message[0] not in {"progress", "message"}:
                del self.busy[worker.conn]
            events.append((stage, message))
        return events

    def _count_gpus(self, stage: Stage) -> int:
        return find_needs(stage, gpus=bool(self.gpus)).gpus

    def ask(self, task: Any, what: str) -> Any:
        """Run a task other than a stage in a worker and return its result; `what` names it in errors.

        Raises:
            StageError, UserError: the task failed.
        """
        worker = self.start(tuple(self.gpus[:1]))
        self.send(worker, task, what)
        return self.receive(worker, what)[1]

    def send(self, worker: Worker, task: Any, what: str) -> None:
        """Send a task to a worker; `what` names it in errors.

        Raises:
            StageError: the worker's process ended.
        """
        try:
            worker.conn.send(task)
        except OSError:
            raise self._ended(worker, what) from None

    def _ended(self, worker: Worker, what: str) -> WorkerEnded:
        worker.process.join()
        code = worker.process.exitcode
        killed = " (killed: out of memory?)" if code == -signal.SIGKILL else ""
        return WorkerEnded(f"{what}: its process ended with code {code}{killed}")

    def receive(self, worker: Worker, what: str) -> tuple[Any, ...]:
        """Wait for the next message of a worker; `what` names its task in errors.

        Raises:
            StageError, UserError: the task failed, or the worker's process ended.
        """
        try:
            message: tuple[Any, ...] = worker.conn.recv()
        except (EOFError, OSError):
            raise self._ended(worker, what) from None
        if message[0] == "user":
            raise UserError(message[1])
        if message[0] == "disk":
            raise DiskError(f"{what}: {message[1]}")
        if message[0] == "stage":
            raise StageError(f"{what}: {message[1]}")
        return message
