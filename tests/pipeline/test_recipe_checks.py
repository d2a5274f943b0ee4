from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.pipeline.local_workers import Pool
from bench.pipeline.recipe_checks import check_configurations
from bench.pipeline.store import Store


def test_a_configuration_is_checked_once_for_each_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = []
    monkeypatch.setattr(Pool, "ask", lambda self, task, what: tasks.append(task))
    for _ in range(2):
        check_configurations(Pool(Store(tmp_path)), [(load_recipe("tiny_pair"), "tiny_pair")])
    assert [key for task in tasks for key, *_ in task] == ["teacher", "student"]


@pytest.mark.slow
@pytest.mark.parametrize("visible", ["", "0,1"])
def test_a_refused_configuration_is_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    bad = load_recipe("tiny_pair", ["student.train.optim=none_of_these"])
    with Pool(Store(tmp_path)) as pool:
        check_configurations(pool, [(load_recipe("tiny_pair"), "tiny_pair")])
        for _ in range(2):
            with pytest.raises(UserError, match=r"student\.train"):
                check_configurations(pool, [(bad, "tiny_pair")])
