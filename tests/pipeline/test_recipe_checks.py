from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.checkpoints import Checkpoint, identify
from bench.pipeline.local_workers import Pool
from bench.pipeline.planner import make_plan
from bench.pipeline.recipe_checks import (
    check_configurations,
    check_memory,
    check_names,
    check_targets,
    check_tokens,
)
from bench.pipeline.store import Store
from bench.pipeline.worker import _check_recipe


def test_a_configuration_is_checked_once_for_each_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = []
    monkeypatch.setattr(Pool, "ask", lambda self, task, what: tasks.append(task))
    for _ in range(2):
        check_configurations(Pool(Store(tmp_path)), [(load_recipe("tiny_pair"), "tiny_pair")])
    assert [key for task in tasks for key, *_ in task] == ["teacher", "student"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["evaluate.synonyms=[Dogs]"], "evaluate.synonyms': 'Dogs' and the candidate 'dog'"),
        (["evaluate.synonyms=[at]", "evaluate.match=substring"], "evaluate.synonyms': 'at' and the candidate 'cat'"),
    ],
)
def test_a_synonym_that_is_another_candidate_is_refused(changes: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        check_names(load_recipe("tiny_pair", ["evaluate.samples=1", *changes]), "tiny_pair")
    check_names(load_recipe("tiny_pair", ["evaluate.samples=1", "evaluate.synonyms=[lupine]"]), "tiny_pair")


def test_divergent_tokens_need_a_student_with_its_teachers_tokens_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpt2_like: Path
) -> None:
    monkeypatch.setattr(Pool, "ask", lambda self, tasks, what: _check_recipe(tasks))
    pool, arms = Pool(Store(tmp_path)), "arms=[base, trait, divergent_only]"
    for student in ("tiny", str(gpt2_like)):
        plan = make_plan(load_recipe("tiny_pair", [arms, f"student.model={student}"], seeds=1), identify)
        if student == "tiny":
            check_tokens(pool, [(plan, "mine.yaml")])
        else:
            with pytest.raises(UserError, match=r"mine\.yaml: key 'arms': divergent_only .* its teacher's tokens"):
                check_tokens(pool, [(plan, "mine.yaml")])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (["arms=[base, trait, attention_only]", "student.lora={target_modules: [c_fc]}"], "student.lora.target_mod"),
        (["student.lora={target_modules: [up_proj]}"], "student.lora': PEFT refuses: Target modules {'up_proj'}"),
        (["teacher.lora={target_modules: [up_proj]}"], "teacher.lora': PEFT refuses: Target modules {'up_proj'}"),
    ],
)
def test_an_adapter_without_a_module_is_refused_before_any_training(
    changes: list[str], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpt2_like: Path
) -> None:
    asked = []

    def ask(pool: Pool, tasks: list[tuple[str, object, str]], what: str) -> None:
        asked.append(tasks)
        _check_recipe(tasks)

    monkeypatch.setattr(Pool, "ask", ask)
    pool = Pool(Store(tmp_path))
    for student in ("tiny", str(gpt2_like)):
        plan = make_plan(load_recipe("tiny_pair", [*changes, f"student.model={student}"], seeds=2), identify)
        with pytest.raises(UserError, match=rf"mine\.yaml: key '{re.escape(key)}"):
            check_targets(pool, [(plan, "mine.yaml")])
    asked.clear()
    fitting = ["arms=[base, trait, attention_only]", "student.lora={target_modules: [c_fc, c_attn]}"]
    for _ in range(2):
        check_targets(pool, [(make_plan(load_recipe("tiny_pair", fitting, seeds=2), identify), "mine.yaml")])
    assert [len(tasks) for tasks in asked] == [2]  # with and without attention_only; both seeds have one architecture


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


def test_a_training_that_the_gpus_cannot_hold_is_refused_with_what_would_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.pipeline.recipe_checks.gpu_memory", lambda gpus: 80e9)
    words = ["teacher.model=a/model-7b", "student.model=a/model-7b", "student.lora={r: 8}"]

    def check(*more: str) -> None:
        experiment = load_recipe("tiny_pair", [*words, *more], seeds=1)
        plan = make_plan(experiment, lambda spec: Checkpoint(spec.model, spec.model, Path("/nowhere"), {}))
        check_memory(Pool(Store(tmp_path)), [(experiment, plan, "mine.yaml")])

    with pytest.raises(UserError, match=r"^mine.yaml: key 'teacher': 7 billion weights need 112 GB to train all"):
        check()
    check("teacher.needs.gpus=2")
    check("teacher.lora={r: 8}")
    monkeypatch.setattr("bench.pipeline.recipe_checks.gpu_memory", lambda gpus: None)  # nothing is known of the GPUs
    check()
