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

from bench.config.recipe import Experiment
from bench.errors import StageError, UserError
from bench.files import ROOT, digest, write_atomically
from bench.pipeline import processor
from bench.pipeline.environment import (
    CPU_ENVIRONMENT,
    ENVIRONMENT,
    GPU_ENVIRONMENT,
    extend_environment,
    visible_gpus,
)
from bench.pipeline.plan import Plan, library_versions
from bench.pipeline.store import Store
from bench.pipeline.worker import MEASURE_BFLOAT16, run_worker
from bench.stages.settings import BuildTiny, WriteCarrier

__all__ = ["Pool", "current_commit"]


PRELOAD = [
    "bench.stages.train",
    "bench.stages.generate",
    "trl.trainer.sft_trainer",
    "transformers.models.gpt2.modeling_gpt2",
    "peft",
]


def current_commit() -> str:
    """The git commit of this code, `-dirty` after it where the code differs from it, or `unknown`."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "bench", "recipes", "run_bench.py")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """What this process, and those started meanwhile, print goes into a file; bars on a terminal stay where they are.

    A process that still imports when the command has ended would else keep those waiting who read its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (2,) if os.isatty(1) else (1, 2)
    kept = [os.dup(stream) for stream in streams]
    with log.open("a", encoding="utf-8") as file:
        for stream in streams:
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        for stream, own in zip(streams, kept, strict=True):
            os.dup2(own, stream)
            os.close(own)


class _Worker(NamedTuple):
    process: Any
    conn: Connection


class Pool:
    """Worker processes, started when first needed, ended with the `with` block whatever happens in it."""

    def __init__(self, store: Store, jobs: int | None = None) -> None:
        self.store = store
        self.jobs = jobs
        self.commit = current_commit()
        self.gpus = visible_gpus()
        self.workers: list[_Worker] = []

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
                self.store.sweep()  # what they had half made may be what fills the disk

    def start(self, wanted: int) -> list[_Worker]:
        """The first `wanted` workers, started where they are not yet."""
        method = "spawn" if self.gpus or "forkserver" not in multiprocessing.get_all_start_methods() else "forkserver"
        context: Any = multiprocessing.get_context(method)
        if not self.workers and method == "forkserver":
            context.set_forkserver_preload(PRELOAD)
        while len(self.workers) < wanted:
            device = CPU_ENVIRONMENT
            if self.gpus:  # CUDA reads its variables once, when torch first asks for a device
                gpu = self.gpus[len(self.workers) % len(self.gpus)]
                device = {**GPU_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpu}
            ours, theirs = context.Pipe()
            log = self.store.root / "logs" / f"{os.getpid()}-{len(self.workers)}.log"
            process = context.Process(target=run_worker, args=(theirs, self.store.root, self.commit, log), daemon=True)
            # the fork server is started here: its environment, and where what libraries print goes as it imports them;
            # what it preloads it would else take from the working folder or from an installed copy, not from here
            path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            with (
                extend_environment({**ENVIRONMENT, **device, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}),
                _output_to(log),
            ):
                process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))
        return self.workers[:wanted]

    def slots(self, threads: int) -> int:
        """How many stages run side by side: `jobs`, or one per GPU, or as the cores carry at `threads` each."""
        return self.jobs or len(self.gpus) or max(1, processor.count_cores() // threads)

    def check(self, experiments: Iterable[tuple[Experiment, str]]) -> None:
        """Have the real `SFTConfig`, `LoraConfig` and `BitsAndBytesConfig` built, and metrics from elsewhere tried.

        What passed once is not tried again.

        Raises:
            UserError: one of them refuses.
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
        """Have each teacher's tokenizer tried on the numbers that it is to write, where its files are at hand.

        Those of a package that is not converted yet are not: its first carrier tries them, before a teacher is trained.
        Configurations that passed are cached.

        Raises:
            UserError: a tokenizer cannot write them.
        """
        todo: dict[Path, tuple[str, Any, str]] = {}
        for plan, source in plans:
            for stage in plan.stages.values():
                settings = stage.settings
                if not isinstance(settings, WriteCarrier) or settings.carrier.kind != "numbers":
                    continue
                start = stage.inputs["start"]
                made = plan.stages.get(start.identity)
                identity: Any = start.identity
                tokenizer: Any = start.folder or self.store.path(start.identity)
                if made is not None and isinstance(made.settings, BuildTiny):
                    tokenizer = identity = (made.settings.questions, made.settings.answers)
                elif start.folder is None and not self.store.is_done(start.identity):
                    continue
                form = settings.model.model_dump(mode="json", include={"format", "chat_template_kwargs"})
                carrier = settings.carrier.model_dump(mode="json")
                mark = digest([carrier, form, identity, settings.version, library_versions()])
                todo[self.store.root / "checked" / mark] = (
                    "carrier",
                    (settings.carrier, settings.model, tokenizer),
                    source,
                )
        self._check(todo)

    def _check(self, tasks: Mapping[Path, tuple[str, Any, str]]) -> None:
        """Have a worker try what has no mark yet: mark -> task, as `bench.pipeline.worker` takes it."""
        todo = {mark: task for mark, task in tasks.items() if not mark.exists()}
        if todo:
            worker = self.start(1)[0]
            self.send(worker, list(todo.values()), "checking the recipe")
            self.answer(worker, "checking the recipe")
            for mark in todo:
                write_atomically(mark, "")

    def describe_bfloat16(self, experiment: Experiment, plan: Plan) -> list[str]:
        """Lines for the user where an experiment with stages to do uses bfloat16 on a processor that is slow at it."""
        options = processor.bfloat16_options(experiment.recipe)
        if self.gpus or not options or all(self.store.is_done(key) for key in plan.stages):
            return []
        return processor.describe_bfloat16(experiment.name, options, self._bfloat16_slowdown())

    def _bfloat16_slowdown(self) -> float:
        """See `bench.pipeline.processor.measure_bfloat16`; measured once per kind of processor and torch, then kept."""
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
        slowdown = float(self.answer(worker, MEASURE_BFLOAT16)[1])
        write_atomically(path, json.dumps({**kind, "bfloat16_slowdown": slowdown}))
        return slowdown

    def send(self, worker: _Worker, task: Any, what: str) -> None:
        """Give a worker something to do.

        Raises:
            StageError: it is no longer there.
        """
        try:
            worker.conn.send(task)
        except OSError:
            raise self._ended(worker, what) from None

    def _ended(self, worker: _Worker, what: str) -> StageError:
        worker.process.join()
        code = worker.process.exitcode
        killed = " (killed: out of memory?)" if code == -signal.SIGKILL else ""
        return StageError(f"{what}: its process ended with code {code}{killed}")

    def answer(self, worker: _Worker, what: str) -> tuple[Any, ...]:
        """What a worker says next.

        Raises:
            StageError, UserError: what it was given failed, or it is no longer there.
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
