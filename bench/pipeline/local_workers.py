"""Worker processes of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from bench.config.recipe_files import Experiment
from bench.errors import StageError, UserError
from bench.files import ROOT, digest, write_atomically
from bench.models.tokenizer_source import TokenizerSource
from bench.pipeline import processor
from bench.pipeline.environment import (
    CPU_ENVIRONMENT,
    ENVIRONMENT,
    GPU_ENVIRONMENT,
    extend_environment,
    visible_gpus,
)
from bench.pipeline.plan import Plan, Ref, library_versions
from bench.pipeline.store import Store
from bench.pipeline.worker import MEASURE_BFLOAT16, run_worker
from bench.stages.settings import BuildTiny, Convert, Relation, WriteCarrier

__all__ = ["Pool", "Worker", "current_commit"]

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


def find_tokenizer(plan: Plan, start: Ref, store: Store) -> TokenizerSource:
    """Return where the tokenizer of a checkpoint is before the plan has run: see `TokenizerSource`."""
    builder = plan.stages.get(start.identity)
    if builder is not None and isinstance(builder.settings, BuildTiny):
        return builder.settings.questions, builder.settings.answers
    if builder is not None and isinstance(builder.settings, Convert) and not store.is_done(start.identity):
        return builder.settings.model
    return start.folder or store.path(start.identity)


class Worker(NamedTuple):
    """A worker process."""

    process: Any
    conn: Connection
    """The command's end of the connection."""


class Pool:
    """Worker processes. They start when they are first needed, and end with the `with` block in every case."""

    def __init__(self, store: Store, jobs: int | None = None) -> None:
        self.store = store
        self.jobs = jobs
        self.commit = current_commit()
        self.gpus = visible_gpus()
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self.workers:
            worker.conn.close()  # an idle worker ends by itself
            if kind is not None:
                worker.process.kill()
        for worker in self.workers:
            worker.process.join()
        if kind is not None:
            with suppress(OSError):
                self.store.sweep()  # unfinished artefacts may fill the disk

    def start(self, count: int) -> list[Worker]:
        """Return the first `count` workers; start those that do not run yet."""
        method = "spawn" if self.gpus or "forkserver" not in multiprocessing.get_all_start_methods() else "forkserver"
        context: Any = multiprocessing.get_context(method)
        if not self.workers and method == "forkserver":
            context.set_forkserver_preload(PRELOAD)
        while len(self.workers) < count:
            device = CPU_ENVIRONMENT
            if self.gpus:  # CUDA reads its variables once, when torch first asks for a device
                gpu = self.gpus[len(self.workers) % len(self.gpus)]
                device = {**GPU_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpu}
            conn, worker_conn = context.Pipe()
            log = self.store.root / "logs" / f"{os.getpid()}-{len(self.workers)}.log"
            process = context.Process(
                target=run_worker, args=(worker_conn, self.store.root, self.commit, log), daemon=True
            )
            # The fork server starts here, with this environment and output. PYTHONPATH makes it preload this code, and
            # not that of the working folder or of an installed copy.
            path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            with (
                extend_environment({**ENVIRONMENT, **device, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}),
                _redirect_output(log),
            ):
                process.start()
            worker_conn.close()
            self.workers.append(Worker(process, conn))
        return self.workers[:count]

    def slots(self, threads: int) -> int:
        """Return the number of parallel stages: `jobs`, else one per GPU, else one per `threads` cores."""
        return self.jobs or len(self.gpus) or max(1, processor.count_cores() // threads)

    def check(self, experiments: Iterable[tuple[Experiment, str]]) -> None:
        """Build the real `SFTConfig`, `LoraConfig` and `BitsAndBytesConfig`, and load further metrics, in a worker.

        Valid configurations are cached and not checked again.

        Raises:
            UserError: a library refuses a configuration.
        """
        from bench.config.recipe import METRICS

        todo: dict[Path, tuple[str, Any, str]] = {}
        for experiment, source in experiments:
            recipe = experiment.recipe
            for key, spec in (("teacher", recipe.teacher), ("student", recipe.student)):
                settings = [spec.train, spec.lora, spec.quantization, library_versions()]
                todo[self.store.root / "checked" / digest(settings)] = (key, spec, source)
            further = sorted(set(recipe.ask.metrics) - set(METRICS))
            if further:
                todo[self.store.root / "checked" / digest(further)] = ("ask", further, source)
        self._check(todo)

    def check_numbers(self, plans: Iterable[tuple[Plan, str]]) -> None:
        """Check in a worker that each teacher's tokenizer can write the carrier's numbers.

        The tokenizer of a package that is not converted yet is checked by its first carrier, before teachers are
        trained. Valid configurations are cached and not checked again.

        Raises:
            UserError: a tokenizer cannot write the numbers.
        """
        todo: dict[Path, tuple[str, Any, str]] = {}
        for plan, source in plans:
            for stage in plan.stages.values():
                settings = stage.settings
                if not isinstance(settings, WriteCarrier) or settings.carrier.kind != "numbers":
                    continue
                tokenizer = find_tokenizer(plan, stage.inputs["start"], self.store)
                if isinstance(tokenizer, str):
                    continue
                identity = stage.inputs["start"].identity if isinstance(tokenizer, Path) else tokenizer
                form = settings.model.model_dump(mode="json", include={"format", "chat_template_kwargs"})
                carrier = settings.carrier.model_dump(mode="json")
                mark = digest([carrier, form, identity, settings.version, library_versions()])
                todo[self.store.root / "checked" / mark] = (
                    "carrier",
                    (settings.carrier, settings.model, tokenizer),
                    source,
                )
        self._check(todo)

    def check_systems(self, plans: Iterable[tuple[Experiment, Plan, str]]) -> None:
        """Check in a worker that each model can have the system prompts that its recipe states.

        Raises:
            UserError: it has no chat template, or one without the system message that is to be empty.
        """
        todo: dict[Path, tuple[str, Any, str]] = {}
        for experiment, plan, source in plans:
            teacher, student = experiment.recipe.teacher, experiment.recipe.student
            keys = {
                "teacher.system": (teacher, teacher.system),
                "student.system.train": (student, student.system.train),
                "student.system.evaluate": (student, student.system.evaluate),
            }
            checkpoints = next(stage.inputs for stage in plan.stages.values() if isinstance(stage.settings, Relation))
            for key, (spec, system) in keys.items():
                if system is None:
                    continue
                start, how = checkpoints[key.partition(".")[0]], (spec.format, spec.chat_template_kwargs, system)
                mark = self.store.root / "checked" / digest([key, how, start.identity, library_versions()])
                todo[mark] = ("system", (key, how, find_tokenizer(plan, start, self.store)), source)
        self._check(todo)

    def _check(self, tasks: Mapping[Path, tuple[str, Any, str]]) -> None:
        """Run the tasks without a mark file in a worker, and write their marks. `tasks`: mark -> task."""
        todo = {mark: task for mark, task in tasks.items() if not mark.exists()}
        if todo:
            worker = self.start(1)[0]
            self.send(worker, list(todo.values()), "checking the recipe")
            self.receive(worker, "checking the recipe")
            for mark in todo:
                write_atomically(mark, "")

    def describe_bfloat16(self, experiment: Experiment, plan: Plan) -> list[str]:
        """Describe slow bfloat16 to the user; [] if the plan is done, or this processor is not slow at it."""
        options = processor.bfloat16_options(experiment.recipe)
        if self.gpus or not options or all(self.store.is_done(key) for key in plan.stages):
            return []
        return processor.describe_bfloat16(experiment.name, options, self._bfloat16_slowdown())

    def _bfloat16_slowdown(self) -> float:
        """Return `measure_bfloat16` of this processor, cached in the store by kind of processor and torch version."""
        kind = {
            "name": processor.processor_name(),
            "features": processor.processor_features(),
            "torch": library_versions()["torch"],
        }
        path = self.store.root / "processors" / f"{digest(kind)}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads(path.read_text(encoding="utf-8"))["bfloat16_slowdown"])
        worker = self.start(1)[0]
        self.send(worker, MEASURE_BFLOAT16, MEASURE_BFLOAT16)
        slowdown = float(self.receive(worker, MEASURE_BFLOAT16)[1])
        write_atomically(path, json.dumps({**kind, "bfloat16_slowdown": slowdown}))
        return slowdown

    def send(self, worker: Worker, task: Any, what: str) -> None:
        """Send a task to a worker; `what` names it in errors.

        Raises:
            StageError: the worker's process ended.
        """
        try:
            worker.conn.send(task)
        except OSError:
            raise self._ended(worker, what) from None

    def _ended(self, worker: Worker, what: str) -> StageError:
        worker.process.join()
        code = worker.process.exitcode
        killed = " (killed: out of memory?)" if code == -signal.SIGKILL else ""
        return StageError(f"{what}: its process ended with code {code}{killed}")

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
        if message[0] == "stage":
            raise StageError(f"{what}: {message[1]}")
        return message
