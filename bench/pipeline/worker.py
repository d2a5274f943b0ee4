"""A worker process: it makes one stage after another and reports its progress."""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.errors import DiskError, StageError, UserError
from bench.pipeline import processor
from bench.pipeline.plan import IMPORTED, Stage, environment_versions
from bench.pipeline.store import Store
from bench.stages.divergence import FindDivergence
from bench.stages.evaluation_settings import Evaluate, ScoreAnswers
from bench.stages.settings import (
    AuditLeaks,
    BuildTiny,
    Convert,
    FilterRows,
    FindMicroBatch,
    Relation,
    TeacherLogits,
    TrainStudent,
    TrainTeacher,
    WriteCarrier,
)
from bench.stages.tracking import Tracking

__all__ = ["MEASURE_BFLOAT16", "hardware_name", "run_worker"]

MEASURE_BFLOAT16 = "measure bfloat16"  # a task
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "your disk quota is used up: make room",
    errno.EROFS: "the disk is read-only: name another --store",
}


class CorruptInputs(Exception):
    """Inputs of a stage have a checksum mismatch: key -> names of the files."""


def run_stage(
    stage: Stage,
    inputs: dict[str, Path],
    out: Path,
    report: Any,
    checkpoints: Path,
    tracking: Tracking | None = None,
) -> dict[str, Any]:
    """Run a stage and write its files.

    Args:
        stage: the stage.
        inputs: role -> folder.
        out: the folder of its files.
        report: receives the amounts (done, total) during the work.
        checkpoints: the folder of the checkpoints of a long training.
        tracking: where the updates of a training are reported; None for nowhere.

    Returns:
        Facts for the artefact's record; `notices` are lines for the user.
    """
    from bench.models import distil_tiny, loading, relation, tiny
    from bench.stages import carriers, divergence, evaluate, generate, leak_audit, teacher_logits, text_metrics, train

    match stage.settings:
        case BuildTiny() as tiny_model:
            content = tiny_model.model_dump(include={"seed", "questions", "answers"})
            if "whole" in inputs:
                distil_tiny.distil_tiny(inputs["whole"], out, report, **content, budget=tiny_model.budget)
            else:
                tiny.build_tiny(out, report, **content, budget=tiny_model.budget)
        case Convert(model=model):
            loading.convert_gguf(model, out)
        case Relation():
            result = relation.relation(inputs["teacher"], inputs["student"])
            (out / "relation.json").write_text(json.dumps(result, indent=1))
        case TrainTeacher() as settings:
            return train.train_teacher(settings, inputs, out, report, checkpoints, tracking)
        case WriteCarrier() as settings:
            return generate.write_carrier(settings, inputs, out, report)
        case FilterRows() as settings:
            return carriers.filter_rows(settings, inputs, out)
        case TeacherLogits() as settings:
            return teacher_logits.compute_teacher_logits(settings, inputs, out, report)
        case FindDivergence() as settings:
            return divergence.find_divergence(settings, inputs, out, report)
        case AuditLeaks() as settings:
            leak_audit.audit_leaks(settings, inputs, out)
        case FindMicroBatch() as settings:
            return train.find_micro_batch(settings, inputs, out)
        case TrainStudent() as settings:
            return train.train_student(settings, inputs, out, report, checkpoints, tracking)
        case Evaluate() as settings:
            return evaluate.evaluate(settings, inputs, out, report)
        case ScoreAnswers() as settings:
            text_metrics.score_reading(settings, inputs, out)
    return {}


def hardware_name() -> str:
    """Return the name of this process's GPU, or of the processor."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else processor.processor_name()


def describe_disk_error(error: Exception, folder: Path) -> str | None:
    """Describe an error of the disk of `folder`; None for another error.

    Libraries may wrap the system's error. Its number is then only in the text, or missing.
    """
    path = getattr(error, "filename", None) or folder
    for number, message in DISK_ERRORS.items():
        if getattr(error, "errno", None) == number or f"os error {number})" in str(error):
            return f"{path}: {message}"
    with suppress(OSError):
        if shutil.disk_usage(folder).free < 100_000:
            return f"{folder}: {DISK_ERRORS[errno.ENOSPC]}"
    return None


def _make_artefact(stage: Stage, store: Store, commit: str, track: str | None, conn: Connection) -> None:
    import torch

    from bench.stages.checkpointing import remove_corrupt_checkpoints

    last_report = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last_report
        if (now := time.monotonic()) - last_report > 0.1 or done == total:
            last_report = now
            conn.send(("progress", done, total))

    torch.set_num_threads(stage.threads)
    with store.lock(stage.key):
        if not store.corrupt_files(stage.key):  # another process made it while this one waited
            return
        corrupt = {
            ref.identity: names
            for ref in stage.inputs.values()
            if ref.folder is None and (names := store.corrupt_files(ref.identity))
        }
        if corrupt:
            raise CorruptInputs(corrupt)
        inputs = {role: ref.folder or store.path(ref.identity) for role, ref in stage.inputs.items()}
        note: dict[str, Any] = {
            "stage": stage.label,
            "model": stage.model,
            "inputs": {role: ref.identity.removeprefix(IMPORTED) for role, ref in stage.inputs.items()},
            "commit": commit,
            "versions": environment_versions() | stage.settings.engine_versions(),
            "threads": stage.threads,
            "hardware": hardware_name(),
            "processor_features": processor.processor_features(),
        }
        run = f"{stage.label} {stage.key[-6:]}"
        tracking = Tracking(track, run, store.root / "tensorboard") if track else None
        start = time.monotonic()
        with store.keep_checkpoints(stage.key) as checkpoints, store.make(stage.key, note) as out:
            for line in remove_corrupt_checkpoints(checkpoints):
                conn.send(("message", f"{stage.label}: {line}"))
            try:
                note["did"] = run_stage(stage, inputs, out, report, checkpoints, tracking)
            except Exception as error:
                if message := describe_disk_error(error, store.root):
                    raise DiskError(message) from error
                raise
            for line in note["did"].pop("notices", ()):
                conn.send(("message", f"{stage.label}: {line}"))
            note["seconds"] = round(time.monotonic() - start, 2)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # The next stage can rarely use the memory that glibc retains (see CPU_ENVIRONMENT): without this call a recipe
    # peaked at 1.5 times the memory of its trainings.
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _check_recipe(tasks: Sequence[tuple[str, Any, str]]) -> None:
    """Check settings of a recipe with the libraries that read them.

    Args:
        tasks: (key of the recipe, its settings, the recipe's source).

    Raises:
        UserError: a library refuses the settings.
    """
    from bench.models.chat_format import check_system
    from bench.models.tokenizer_source import open_tokenizer
    from bench.stages.divergence import check_tokens
    from bench.stages.number_slots import check_numbers
    from bench.stages.text_metrics import check_metrics
    from bench.stages.training_config import check_targets, check_training

    for key, settings, source in tasks:
        if key == "evaluate":
            check_metrics(settings)
        elif key == "carrier":
            carrier, model, tokenizer = settings
            check_numbers(carrier, model, tokenizer, source)
        elif key == "system":
            name, how, tokenizer = settings
            check_system(open_tokenizer(tokenizer), how, f"{source}: key '{name}'")
        elif key == "tokens":
            formats, teacher, student = settings
            check_tokens(formats, open_tokenizer(teacher), open_tokenizer(student), source)
        elif key == "targets":
            skeleton, lora, attention_only, role = settings
            check_targets(skeleton, lora, attention_only=attention_only, key=role, source=source)
        else:
            check_training(settings, key, source)


def _end_with_parent() -> None:
    """End this process when the command that started it ends, so that it frees its locks and cores."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_worker(conn: Connection, store: Store, commit: str, log: Path, track: str | None = None) -> None:
    """Run the tasks of a connection until it is closed: make a `Stage`, check a recipe, or measure bfloat16.

    Args:
        conn: the connection to the command.
        store: the store.
        commit: the commit of this code, for the records of artefacts.
        log: a file for the output of libraries.
        track: the tool that tracks trainings: see `bench.stages.tracking`; None for none.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles an interruption
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # imported modules are never collected, and a search through them takes 0.3 s each time
    try:
        log.touch()
    except OSError:  # the disk is full: the output of libraries is lost
        log = Path(os.devnull)
    with log.open("a", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        while True:
            try:
                task = conn.recv()
            except EOFError:
                return
            try:
                result = None
                if isinstance(task, Stage):
                    _make_artefact(task, store, commit, track, conn)
                elif task == MEASURE_BFLOAT16:
                    result = processor.measure_bfloat16()
                else:
                    _check_recipe(task)
                conn.send(("done", result))
            except UserError as error:
                conn.send(("user", str(error)))
            except DiskError as error:
                conn.send(("disk", str(error)))
            except StageError as error:
                conn.send(("stage", str(error)))
            except CorruptInputs as error:
                conn.send(("corrupt", error.args[0]))
            except Exception as error:
                with suppress(OSError):  # the log may be on a full disk
                    traceback.print_exc()
                message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]} (traceback in {log})"
                disk = describe_disk_error(error, store.root)
                conn.send(("disk", disk) if disk else ("stage", message))
