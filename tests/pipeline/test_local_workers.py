from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from bench.models.tiny import DEFAULT
from bench.pipeline.local_workers import Pool
from bench.pipeline.plan import Stage
from bench.pipeline.processor import count_cores
from bench.pipeline.store import Store
from bench.stages.settings import BuildTiny, Relation, StageSettings

HEAVY = {"torch", "transformers", "trl", "peft", "bench.stages.train"}


def report_start(conn: Any, *_: Any) -> None:
    """Stands in for `bench.pipeline.worker.run_worker`: tells in which state a worker starts."""
    how = type(multiprocessing.current_process()).__name__
    conn.send(("done", how, dict(os.environ), sorted(HEAVY & set(sys.modules))))


def test_gpu_workers_are_new_processes_whose_environment_names_their_gpu_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = "0,MIG-5c1a2b3c-0000-1111-2222-333344445555"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    with Pool(Store(tmp_path)) as pool:
        starts = [pool.receive(worker, "") for worker in pool.start(3)]
    gpus = visible.split(",")
    for (_, how, environment, imported), gpu in zip(starts, [*gpus, gpus[0]], strict=True):
        assert how == "SpawnProcess"
        assert imported == []
        assert environment["CUDA_VISIBLE_DEVICES"] == gpu
        assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
        assert not [name for name in environment if name.startswith("MALLOC_")]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_without_a_gpu_workers_are_forked_from_a_server_that_has_imported_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    with Pool(Store(tmp_path)) as pool:
        _, how, environment, imported = pool.receive(pool.start(1)[0], "")
    assert how == "ForkServerProcess"
    assert set(imported) == HEAVY
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} <= environment.keys()
    assert "CUBLAS_WORKSPACE_CONFIG" not in environment


def make_stage(settings: StageSettings, name: str) -> Stage:
    return Stage(name, "", name, settings, {}, threads=1)


def test_a_stage_that_cannot_use_a_gpu_waits_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    tiny = BuildTiny(seed=0, questions=("q",), answers=("a",), budget=DEFAULT)
    on_gpu, beside = make_stage(tiny, "on_gpu"), make_stage(Relation(), "beside")
    with Pool(Store(tmp_path)) as pool:
        pool.submit(on_gpu)
        assert not pool.room(make_stage(tiny, "another"))
        assert pool.room(beside)
        pool.submit(beside)
        assert not pool.room(make_stage(Relation(), "another"))
        visible = {}
        while pool.busy:
            visible.update({stage.key: message[2]["CUDA_VISIBLE_DEVICES"] for stage, message in pool.events() if stage})
    assert visible == {"on_gpu": "0", "beside": ""}


def test_cores_are_those_this_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 4, 7, 9}, raising=False)
    assert count_cores() == 4
    assert Pool(Store(tmp_path)).slots(2) == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert count_cores() == 64


@pytest.mark.slow
def test_workers_run_the_code_of_their_command_whatever_lies_in_the_working_folder(
    new_process: Bench, tmp_path: Path
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "train.py").touch()
    new_process("--dry-run", env={"CUDA_VISIBLE_DEVICES": ""})
