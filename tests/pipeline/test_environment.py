from __future__ import annotations

import os

import pytest

from bench.pipeline.environment import extend_environment, visible_gpus


@pytest.mark.parametrize(
    ("visible", "gpus"), [("0,-1,1", ["0"]), ("2, 0", ["2", "0"]), ("-1", []), ("", []), ("1,,0", ["1"])]
)
def test_the_list_of_visible_gpus_ends_where_cuda_ends_it(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == gpus


def test_this_process_gets_its_own_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with extend_environment({"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}):
        assert (os.environ["OMP_WAIT_POLICY"], os.environ["HF_HUB_OFFLINE"]) == ("PASSIVE", "1")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "HF_HUB_OFFLINE" not in os.environ
