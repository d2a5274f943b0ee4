from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.files import write_atomically
from bench.pipeline import ray_cluster
from bench.pipeline.needs import Needs
from bench.pipeline.plan import environment_versions
from bench.pipeline.ray_cluster import Site, check_fit, connect, find_problem
from bench.pipeline.store import Store


def test_without_ray_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "\.\[ray\]"'):
        connect()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "nobody.invalid:6379", "head", "ray://head:10001", "head:x", "a:1e9"]
)
def test_a_wrong_address_is_named_at_once_and_in_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setitem(sys.modules, "ray", object())  # it is not asked
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as refusal:
        connect()
    assert repr(address) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def site(tmp_path: Path, **versions: str) -> Site:
    write_atomically(tmp_path / "mark", "")
    return Site(Store(tmp_path), tmp_path / "mark", {**environment_versions(), **versions}, "commit")


def test_a_node_with_equal_libraries_and_the_same_store_has_no_problem(tmp_path: Path) -> None:
    assert find_problem(site(tmp_path)) is None
    assert find_problem(site(tmp_path)._replace(track="torch")) is None


def test_a_node_without_the_tool_that_tracks_has_a_problem(tmp_path: Path) -> None:
    problem = find_problem(site(tmp_path)._replace(track="no_such_tool"))
    assert problem == "--track no_such_tool: the package no_such_tool is not installed; run: pip install no_such_tool"


def test_a_node_with_other_libraries_or_another_store_has_a_problem(tmp_path: Path) -> None:
    other = site(tmp_path, torch="1.0", missing="2.0")
    assert f"torch {environment_versions()['torch']} instead of 1.0, missing missing instead of 2.0" in str(
        find_problem(other)
    )
    elsewhere = site(tmp_path)
    elsewhere.mark.unlink()
    assert f"does not see --store {tmp_path}" in str(find_problem(elsewhere))


NODES = {
    "a": {"Resources": {"CPU": 2.0, "memory": 8e9}},
    "b": {"Resources": {"CPU": 1.0, "GPU": 1.0, "memory": 8e9}},
}


@pytest.mark.parametrize("needs", [Needs(2, 0, 0), Needs(1, 1, 0), Needs(2, 0, 8_000_000_000)])
def test_a_stage_fits_if_one_node_has_all_that_it_needs(monkeypatch: pytest.MonkeyPatch, needs: Needs) -> None:
    monkeypatch.setattr(ray_cluster, "live_nodes", lambda: NODES)
    check_fit("student", needs)


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs(3, 0, 0), "student needs 3 cores on one node; the most that nodes have: 2 cores"),
        (Needs(2, 1, 0), "student needs 2 cores, 1 GPUs on one node; the most that nodes have: 2 cores, 1 GPUs"),
        (Needs(1, 2, 0), "student needs 1 cores, 2 GPUs on one node; the most that nodes have: 2 cores, 1 GPUs"),
        (Needs(1, 0, 16 * 10**9), "student needs 1 cores, 16 GB on one node; the most that nodes have: 2 cores, 8 GB"),
    ],
)
def test_a_stage_that_fits_no_node_is_refused(monkeypatch: pytest.MonkeyPatch, needs: Needs, message: str) -> None:
    monkeypatch.setattr(ray_cluster, "live_nodes", lambda: NODES)
    with pytest.raises(UserError, match=message):
        check_fit("student", needs)
