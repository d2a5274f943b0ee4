from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.pipeline.environment import extend_environment, gpu_memory, visible_gpus


@pytest.mark.parametrize(
    ("visible", "gpus"), [("0,-1,1", ["0"]), ("2, 0", ["2", "0"]), ("-1", []), ("", []), ("1,,0", ["1"])]
)
def test_the_list_of_visible_gpus_ends_where_cuda_ends_it(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("answer", "memory"), [("81559\n24564\n", 24564 * 2**20), ("[N/A]\n", None), ("", None), ("exit 6", None)]
)
def test_the_memory_of_the_smallest_gpu_is_asked_of_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, memory: float | None
) -> None:
    command = answer if answer.startswith("exit") else f"printf '{answer}'"
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\n[ "$2" = 0,3 ] || exit 1\n{command}\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpu_memory(["0", "3"]) == memory
    assert gpu_memory([]) is None


def test_this_process_gets_its_own_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with extend_environment({"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}):
        assert (os.environ["OMP_WAIT_POLICY"], os.environ["HF_HUB_OFFLINE"]) == ("PASSIVE", "1")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "HF_HUB_OFFLINE" not in os.environ
