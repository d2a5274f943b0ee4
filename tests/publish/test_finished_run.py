from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.pipeline.store import Store
from bench.publish.finished_run import RunCommand, load_finished_run


def test_a_run_without_its_artefacts_names_a_stage_and_the_command(tmp_path: Path) -> None:
    experiment = load_recipe("tiny_pair", ["student.train.max_steps=3"], seeds=1)
    command = RunCommand("tiny_pair", ("student.train.max_steps=3",), 1)
    with pytest.raises(UserError, match=r"stages are not done \(.*Run first: .*--recipe tiny_pair") as error:
        load_finished_run(experiment, command, Store(tmp_path / "store"), tmp_path / "results", merged=False)
    assert command.line() in str(error.value)
    assert command._replace(vllm="my env").line() == f"{command.line()} --vllm 'my env'"
