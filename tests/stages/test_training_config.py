from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.tiny import DEFAULT
from bench.stages.training_config import check_targets, check_training


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


@pytest.mark.parametrize(
    ("lora", "only", "expected"),
    [
        ({"target_modules": ["q_proj"]}, False, "student.lora': PEFT refuses: Target modules {'q_proj'} not found"),
        ({"target_modules": ["q_proj"]}, False, "This model has c_attn, c_fc, c_proj, lm_head, wpe, wte"),
        (
            {"target_modules": ["c_fc"]},
            True,
            "student.lora.target_modules': attention_only trains attention projections alone; expected one or more of "
            "c_attn, c_proj, found ['c_fc']; add one, or take attention_only out of arms",
        ),
        ({"target_modules": ["c_fc"], "init_lora_weights": "pissa", "use_dora": True}, True, "c_attn, c_proj, found"),
    ],
)
def test_an_adapter_that_finds_no_module_to_train_is_refused_without_weights(
    lora: dict[str, Any], only: bool, expected: str
) -> None:
    with pytest.raises(UserError) as refusal:
        check_targets(DEFAULT, lora, attention_only=only, key="student", source="mine.yaml")
    assert str(refusal.value).startswith("mine.yaml: key 'student.lora")
    assert expected in str(refusal.value)


@pytest.mark.parametrize("modules", ["all-linear", ["c_attn"], r".*attn\.c_proj", None])
def test_adapters_of_attention_and_full_trainings_are_accepted(modules: Any) -> None:
    check_targets(DEFAULT, {"target_modules": modules}, attention_only=True, key="student", source="mine.yaml")
    check_targets(DEFAULT, None, attention_only=True, key="student", source="mine.yaml")


@pytest.mark.slow
def test_the_command_refuses_before_anything_is_made(bench: Bench, tmp_path: Path) -> None:
    done = bench("--set", "student.train.learning_rat=1", code=2)
    assert "'student.train.learning_rat': did you mean 'learning_rate'" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 10
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "results").exists()
