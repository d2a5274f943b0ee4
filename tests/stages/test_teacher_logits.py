from __future__ import annotations

from pathlib import Path

import pytest
from conftest import THINKING, with_template

from bench.config.carrier_settings import Numbers
from bench.errors import UserError
from bench.stages.settings import Loading, TeacherLogits
from bench.stages.teacher_logits import compute_teacher_logits


def test_teacher_and_student_of_a_distillation_render_alike(gemma_like: Path, tmp_path: Path) -> None:
    folder = with_template(gemma_like, tmp_path / "thinking", THINKING)
    settings = TeacherLogits(
        method="kd-carrier",
        carrier=Numbers(kind="numbers", rows=4),
        model=Loading(dtype="float32", format="chat", chat_template_kwargs={"enable_thinking": True}),
        student_format="chat",
        student_chat_template_kwargs={"enable_thinking": False},
    )
    with pytest.raises(UserError, match="different token maps or formats"):
        compute_teacher_logits(settings, {"start": folder, "student": folder}, tmp_path, lambda *_: None)
