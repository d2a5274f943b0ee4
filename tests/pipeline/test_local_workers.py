from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from bench.errors import UserError
from bench.models.tiny import DEFAULT
from bench.pipeline.local_workers import Pool, Worker
from bench.pipeline.plan import Stage
from bench.pipeline.processor import count_cores
from bench.pipeline.store import Store
from bench.stages.settings import BuildTiny, Relation, StageSettings

HEAVY = {"torch", "transformers", "trl", "peft", "bench.stages.train"}


def report_start(conn: Any, *_: Any) -> None:
    """Stands in for `bench.pipeline.worker.run_worker`: tells in which state a worker starts."""
    how = type(multiprocessing.current_process()).__name__
    conn.send(("done", how, dict(os.environ), sorted(HEAVY & set(sys.modules))))


@pytest.mark.slow
def test_gpu_workers_are_new_processes_whose_environment_names_their_gpu_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = "0,MIG-5c1a2b3c-0000-1111-2222-333344445555"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    with Pool(Store(tmp_path)) as pool:
        gpus = visible.split(",")
        wanted = [(gpus[0],), (gpus[1],), tuple(gpus)]
        starts = [pool.receive(pool.start(group), "") for group in wanted]
    for (_, how, environment, imported), gpu in zip(starts, [*gpus, visible], strict=True):
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
        _, how, environment, imported = pool.receive(pool.start(()), "")
    assert how == "ForkServerProcess"
    assert set(imported) == HEAVY
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} <= environment.keys()
    assert "CUBLAS_WORKSPACE_CONFIG" not in environment


TINY = BuildTiny(seed=0, questions=("q",), answers=("a",), budget=DEFAULT)


def make_stage(settings: StageSettings, name: str, gpus: int = 1) -> Stage:
    return Stage(name, "", name, settings, {}, threads=1, gpus=gpus)


def visible_devices(pool: Pool) -> dict[str, str]:
    """The GPUs that the workers of all running stages saw when they started."""
    visible = {}
    while pool.busy:
        visible.update({stage.key: message[2]["CUDA_VISIBLE_DEVICES"] for stage, message in pool.events() if stage})
    return visible


@pytest.mark.slow
def test_a_stage_that_needs_several_gpus_shares_them_with_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    monkeypatch.setattr(Pool, "start_ahead", lambda *_: None)
    pair, one, beside = make_stage(TINY, "pair", 2), make_stage(TINY, "one"), make_stage(Relation(), "beside", 2)
    with Pool(Store(tmp_path)) as pool:
        pool.submit(one)
        pool.submit(pair)
        assert not pool.room(make_stage(TINY, "other"))
        assert not pool.room(make_stage(TINY, "other pair", 2))
        pool.submit(beside)
        assert visible_devices(pool) == {"one": "0", "pair": "1,2", "beside": ""}
        assert pool.room(make_stage(TINY, "all", 3))
        with pytest.raises(UserError, match=r"all: key 'needs.gpus': 4 GPUs expected, found 3"):
            pool.room(make_stage(TINY, "all", 4))


@pytest.mark.slow
def test_stages_share_a_gpu_only_where_there_are_more_jobs_than_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    monkeypatch.setattr(Pool, "start_ahead", lambda *_: None)
    with Pool(Store(tmp_path), jobs=3) as pool:
        for name in ("a", "b", "c"):
            assert pool.room(make_stage(TINY, name))
            pool.submit(make_stage(TINY, name))
        assert not pool.room(make_stage(TINY, "d"))
        assert visible_devices(pool) == {"a": "0", "b": "1", "c": "0"}
        pool.submit(make_stage(TINY, "pair", 2))
        assert not pool.room(make_stage(TINY, "e"))
        assert visible_devices(pool) == {"pair": "0,1"}


def test_workers_that_equal_stages_will_need_start_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    started: list[tuple[str, ...]] = []

    def start(pool: Pool, gpus: tuple[str, ...]) -> Worker:
        started.append(gpus)
        return Worker(None, object(), gpus)  # type: ignore[arg-type]  # no process

    monkeypatch.setattr(Pool, "_start_worker", start)
    pool = Pool(Store(tmp_path))
    pool.start_ahead(make_stage(TINY, "pair", 2))
    assert started == []
    pool.start_ahead(make_stage(TINY, "one"))
    pool.start_ahead(make_stage(Relation(), "beside"))
    pool.start_ahead(make_stage(TINY, "one"))
    assert started == [("4",), ("7",), (), ()]


@pytest.mark.slow
def test_a_stage_that_cannot_use_a_gpu_waits_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("bench.pipeline.local_workers.run_worker", report_start)
    on_gpu, beside = make_stage(TINY, "on_gpu"), make_stage(Relation(), "beside")
    with Pool(Store(tmp_path)) as pool:
        pool.submit(on_gpu)
        assert not pool.room(make_stage(TINY, "another"))
        assert pool.room(beside)
        pool.submit(beside)
        assert not pool.room(make_stage(Relation(), "another"))
        assert visible_devices(pool) == {"on_gpu": "0", "beside": ""}


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
