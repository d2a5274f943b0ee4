from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Bench

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.stages.training_config import check_training


def check(change: str) -> None:
    recipe = load_recipe("tiny_pair", [change]).recipe
    for key, spec in (("teacher", recipe.teacher), ("student", recipe.student)):
        check_training(spec, key, "mine.yaml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("student.train.learning_rat=1", "'student.train.learning_rat': did you mean 'learning_rate'"),
        ("teacher.train.output_dir=/tmp/x", "teacher.train.output_dir"),
        ("student.train.learning_rate=-1", "learning_rate"),
        ("student.train.optim=adamm", "key 'student.train.optim': 'adamm' is not a value of"),
        ("student.lora={rank: 8}", "'student.lora.rank': did you mean 'r'"),
        ("student.train.lr=1", "'student.train.lr': did you mean 'learning_rate'"),
        ("student.train.max_steps=0", "expected 1 or more, or -1 (num_train_epochs decides), found 0"),
        ("student={lora: {}, quantization: {load_in_8bit: maybe}}", "BitsAndBytesConfig refuses"),
    ],
)
def test_the_real_configurations_refuse_a_key_or_value_by_name(change: str, expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        check(change)
    assert str(refusal.value).startswith("mine.yaml: ")
    assert expected in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        "student.lora={r: 4, target_modules: all-linear, lora_dropout: 0.1}",
        "student={lora: {}, quantization: {load_in_8bit: true}}",
        "student.train={max_steps: 1, learning_rate: 1e-3, lr_scheduler_type: cosine, optim: adamw_torch}",
    ],
)
def test_the_real_configurations_accept_common_settings(change: str) -> None:
    check(change)


@pytest.mark.slow
def test_the_command_refuses_before_anything_is_made(bench: Bench, tmp_path: Path) -> None:
    done = bench("--set", "student.train.learning_rat=1", code=2)
    assert "'student.train.learning_rat': did you mean 'learning_rate'" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 10
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "results").exists()
