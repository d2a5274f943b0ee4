from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from vllm_stand_in import make_engine, make_environment

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.engine import VARIABLE, Engine, choose_engine, find_engine, find_python

TEXT = "carrier={kind: text, rows: 12, held_out: 4, prompts: scenarios_en}"


def test_an_environment_and_its_python_name_the_same_engine(tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "with")
    engine = find_engine(str(environment))
    assert (
        engine
        == find_engine(str(environment / "bin/python"))
        == Engine(version="0.30.0", batch_invariant=False, python=environment / "bin/python")
    )


def test_the_key_holds_the_version_and_no_path_and_a_worker_gets_the_path(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "with")
    assert engine.model_dump() == {"name": "vllm", "version": "0.30.0", "batch_invariant": False}
    assert pickle.loads(pickle.dumps(engine)).locate() == tmp_path / "with/bin/python"


def test_another_machine_names_its_environment_by_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Engine(version="0.30.0", batch_invariant=False, python=Path("/nowhere/bin/python"))
    with pytest.raises(UserError, match=f"no /nowhere/bin/python on this machine; .* in {VARIABLE}"):
        elsewhere.locate()
    monkeypatch.setenv(VARIABLE, str(make_environment(tmp_path / "here")))
    assert elsewhere.locate() == tmp_path / "here/bin/python"


def test_a_path_without_a_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    for name, problem in (
        ("none", "no such file or folder"),
        ("empty", "there is no .*empty/bin/python"),
        ("text", "not executable"),
    ):
        with pytest.raises(UserError, match=f"vLLM at .*{name}: .*{problem}.*; name a virtual environment with vLLM"):
            find_python(str(tmp_path / name))


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (None, "vLLM is not installed there. Run: .*/bin/python -m pip install 'vllm>=0.2"),
        ("0.9.2", "version .* expected, found 0.9.2. Run: "),
        ("1.0.0", "version .* expected, found 1.0.0. Run: "),
        ("dev", "version .* expected, found dev. Run: "),
    ],
)
def test_an_environment_without_a_usable_vllm_is_refused(tmp_path: Path, version: str | None, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        find_engine(str(make_environment(tmp_path / "with", version=version)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("#!/bin/sh\necho broken >&2\nexit 3\n", "is no working Python: broken"),
        ("#!/bin/sh\n", "it printed nothing"),
        ("#!/bin/sh\necho 3\n", "is no working Python"),
        (f'#!{sys.executable}\nprint(\'{{"vllm": "0.30.0", "python": [3, 8]}}\')', "Python 3.10 or later .* 3.8"),
    ],
)
def test_a_python_that_does_not_work_is_refused(tmp_path: Path, script: str, problem: str) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    with pytest.raises(UserError, match=problem):
        find_engine(str(python))


def test_recipes_that_write_no_free_text_or_quantise_refuse_the_flag_and_ignore_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = str(make_environment(tmp_path / "with"))
    monkeypatch.delenv(VARIABLE, raising=False)
    lora = "lora={r: 8, target_modules: all-linear}"
    quantised = [TEXT, f"teacher.{lora}", "teacher.quantization={load_in_8bit: true}"]
    for changes, problem in (([], "written by a grammar"), (quantised, "settings of bitsandbytes")):
        recipe = load_recipe("tiny_pair", changes).recipe
        assert choose_engine(recipe, None) is None
        with pytest.raises(UserError, match=f"{problem}.*; leave --vllm out"):
            choose_engine(recipe, environment)
        monkeypatch.setenv(VARIABLE, environment)
        assert choose_engine(recipe, None) is None
        monkeypatch.delenv(VARIABLE)
    for change in (TEXT, "evaluate.samples=2"):
        recipe = load_recipe("tiny_pair", [change]).recipe
        assert choose_engine(recipe, environment) == find_engine(environment)
