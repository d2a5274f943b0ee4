"""Runs on Ray end with the bytes of local runs, whatever happens to nodes and workers.

The cluster is Ray's own for tests: its nodes are processes of this machine. Its tests need `pip install ".[ray]"`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from conftest import ROOT, Bench

from bench.cli import main
from bench.errors import StageError
from bench.models import tiny
from bench.pipeline.needs import Needs
from bench.pipeline.plan import Ref, Stage
from bench.pipeline.ray_executor import RayExecutor, Slot
from bench.pipeline.store import Store
from bench.stages.settings import Relation
from tests.perf.kill_anywhere import artefacts, files, running, start, wait_for_lines

WORDS = [
    "--skip-controls",
    *("--seeds", "1", "--set", "first_seed=1000", "--set", "carrier.rows=64", "--set", "carrier.held_out=16"),
    *("--set", "teacher.train.max_steps=8", "--set", "student.train.max_steps=150"),
]
# Read by the processes of a node. Workers write checkpoints sooner, note where a stage runs, and may have a full disk.
ON_NODE = """
import errno, os, sys
if any("multiprocessing" in word for word in sys.orig_argv):
    import bench.pipeline.worker, bench.stages.checkpointing
    bench.stages.checkpointing.EVERY, bench.stages.checkpointing.SHARE = 0.5, 1
    compute = bench.pipeline.worker.run_stage
    def noted(stage, *rest):
        with open({runs!r}, "a") as file:
            print(stage.kind, os.environ["NODE"], os.environ.get("CUDA_VISIBLE_DEVICES", ""), os.getpid(), file=file)
        if os.environ["NODE"] == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return compute(stage, *rest)
    bench.pipeline.worker.run_stage = noted
"""


# -- without a cluster -------------------------------------------------------------------------------------------------


@pytest.fixture
def executor(tmp_path: Path) -> RayExecutor:
    """An executor whose cluster is not there."""
    executor = object.__new__(RayExecutor)
    executor.store, executor.jobs, executor.gpus = Store(tmp_path), None, False
    executor.active, executor.nodes, executor.full = [], {"a": {}, "b": {}}, set()
    return executor


def test_a_checkpoint_of_this_host_travels_through_the_store(executor: RayExecutor, gpt2_like: Path) -> None:
    sent: list[Stage] = []
    actor = SimpleNamespace(step=SimpleNamespace(remote=sent.append))
    executor.active.append(Slot(Needs(1, 0, 0), actor, None))
    inputs = {"student": Ref("abc", gpt2_like), "teacher": Ref("student-1")}
    executor.submit(Stage("relation", "gpt2", "relation-1", Relation(), inputs, 1))
    assert sent[0].inputs == {"student": Ref("checkpoint-abc"), "teacher": Ref("student-1")}
    copy = executor.store.path("checkpoint-abc")
    assert executor.store.corrupt_files("checkpoint-abc") == []
    assert (copy / "model.safetensors").read_bytes() == (gpt2_like / "model.safetensors").read_bytes()


def test_a_node_with_a_full_disk_gets_no_more_stages_and_the_last_one_ends_the_run(executor: RayExecutor) -> None:
    executor._avoid("a", "/disk: the disk is full: make room")
    assert executor.full == {"a"}
    with pytest.raises(StageError, match="the disk is full"):
        executor._avoid("b", "/disk: the disk is full: make room")


# -- on a cluster of this machine --------------------------------------------------------------------------------------


class Nodes:
    """A cluster whose nodes have a name, and the notes of its workers."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.runs = folder / "runs"
        (folder / "node").mkdir()
        (folder / "node" / "sitecustomize.py").write_text(ON_NODE.format(runs=str(self.runs)))
        self.path = os.pathsep.join([str(folder / "node"), str(ROOT)])
        self.cluster = Cluster()
        self.by_name: dict[str, Any] = {}

    def add(self, name: str, **resources: int) -> None:
        env = {"NODE": name, "PYTHONPATH": self.path, "RAY_USAGE_STATS_ENABLED": "0"}
        amounts = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False, **resources}
        with pytest.MonkeyPatch.context() as patch:
            for key, value in env.items():
                patch.setenv(key, value)
            self.by_name[name] = self.cluster.add_node(**amounts)

    def where(self) -> list[tuple[str, str, str]]:
        """Kind of stage, node and visible GPUs of every run of a stage."""
        return [tuple(line.split(" ")[:3]) for line in self.runs.read_text().splitlines()]  # type: ignore[misc]  # three words

    def worker(self) -> psutil.Process:
        return psutil.Process(int(self.runs.read_text().split()[-1]))


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    pytest.importorskip("ray")
    nodes = Nodes(tmp_path)
    nodes.add("head")
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    yield nodes
    nodes.cluster.shutdown()


def run(folder: Path, *more: str) -> int:
    """The command in this process."""
    where = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 20}))
        return main([*WORDS, *more, *where])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of local workers."""
    folder = tmp_path_factory.mktemp("reference")
    assert run(folder) == 0
    return folder


def same(folder: Path, reference: Path) -> None:
    assert artefacts(folder / "store") == artefacts(reference / "store")
    assert files(folder / "results") == files(reference / "results")
    assert not [p for name in ("tmp", "checkpoints") for p in (folder / "store" / name).glob("*")]


def wait_until(sign: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not sign():
        assert time.monotonic() < until, "the sign did not come"
        time.sleep(0.05)


@pytest.mark.extras
@pytest.mark.slow
def test_stages_that_need_no_gpu_hold_none_and_all_bytes_are_those_of_local_workers(
    nodes: Nodes, reference: Path, tmp_path: Path
) -> None:
    nodes.add("gpu", num_gpus=1)
    assert run(tmp_path, "--on", "ray") == 0
    same(tmp_path, reference)
    on_gpu = {(kind, node) for kind, node, visible in nodes.where() if visible == "0"}
    assert on_gpu == {
        (kind, "gpu") for kind in ("build_tiny", "teacher", "carrier", "micro_batch", "student", "evaluate")
    }
    assert {kind for kind, _, visible in nodes.where() if not visible} == {"relation", "filter", "audit"}


@pytest.mark.extras
@pytest.mark.slow
def test_a_training_goes_on_from_its_checkpoint_on_a_node_that_joins_when_its_node_is_killed(
    nodes: Nodes, reference: Path, tmp_path: Path
) -> None:
    nodes.add("first", num_gpus=1)
    process = start(tmp_path, [*WORDS, "--on", "ray"], {"TINY_STEPS": "20"})  # nodes start in the main thread alone
    wait_until(lambda: any((tmp_path / "store" / "checkpoints").glob("student-*/[1-9]*/done.json")))
    nodes.cluster.remove_node(nodes.by_name["first"], allow_graceful=False)
    nodes.add("second", num_gpus=1)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    same(tmp_path, reference)
    out = out.replace("\n", " ")
    assert re.search(r"lost: student [^;]* or its worker there ended; runs again", out)
    assert re.search(r"student \w+, seed 1000: resumes after update [1-9]", out)
    students = [node for kind, node, _ in nodes.where() if kind == "student"]
    assert students[0] == "first"
    assert students[-1] == "second"


@pytest.mark.extras
@pytest.mark.slow
def test_a_stage_whose_worker_is_killed_or_whose_node_has_a_full_disk_runs_elsewhere(
    nodes: Nodes, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes.add("full")

    def kill() -> None:
        wait_until(lambda: nodes.runs.exists() and nodes.where()[-1][:2] == ("student", "head"))
        nodes.worker().kill()

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill)
        assert run(tmp_path, "--on", "ray") == 0
        killed.result()
    same(tmp_path, reference)
    out = capsys.readouterr().out.replace("\n", " ")
    assert re.search(r"lost: student [^;]*killed: out of memory\?\); runs again", out)
    assert out.count("the disk is full: make room; runs again") == 1
    assert [node for _, node, _ in nodes.where()].count("full") == 1


@pytest.mark.extras
@pytest.mark.slow
def test_nodes_that_cannot_work_are_refused_before_a_stage_runs(
    nodes: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, "--on", "ray", "--set", "threads=64") == 2
    assert "needs 64 cores on one node; the most that nodes have: 1 cores" in capsys.readouterr().err
    monkeypatch.setattr("bench.pipeline.ray_executor.environment_versions", lambda: {"torch": "1.0"})
    assert run(tmp_path, "--on", "ray") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "instead of 1.0; install the same versions on every node" in line
    assert not nodes.runs.exists()


@pytest.mark.extras
@pytest.mark.slow
def test_an_interrupted_run_leaves_no_process_and_the_same_command_resumes(
    reference: Path, tmp_path: Path, new_process: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "run_bench.py"), "--on", "ray", *WORDS, *where],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if line.startswith("[1/"):
            break
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in p.name() for p in family)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().endswith("Finished stages stay; the same command resumes.")
    assert psutil.wait_procs(family, 10)[1] == []
    done = new_process("--on", "ray", *WORDS, *where)
    left = re.findall(r"^\[(\d+)/14\]", done.stdout, re.MULTILINE)
    assert int(left[0]) > 1  # a second stage may have ended before the signal
    assert left[-1] == "14"


@pytest.mark.extras
@pytest.mark.slow
def test_a_killed_command_takes_its_workers_with_it_and_the_next_one_ends_as_if_undisturbed(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = [*WORDS, "--on", "ray"]
    process = start(tmp_path, words, {"TINY_STEPS": "20"})
    wait_for_lines(process, 4, 200)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_until(lambda: all("Agent" in p.name() for p in running(family, 0)))  # Ray's own agents take longer
    process = start(tmp_path, words, {"TINY_STEPS": "20"})
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "[4/14]" not in out
    same(tmp_path, reference)
