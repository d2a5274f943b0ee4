from __future__ import annotations

from pathlib import Path

from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import identify
from bench.models.loading import load_tokenizer
from bench.pipeline.planner import make_plan
from bench.pipeline.prompt_formats import PromptFormats
from bench.pipeline.store import Store
from bench.stages.evaluation_settings import Evaluate


def test_a_format_is_that_of_the_stage_and_its_tokenizer_is_opened_once(gemma_like: Path, tmp_path: Path) -> None:
    words = ["student.model", "teacher.model"]
    plan = make_plan(load_recipe("tiny_pair", [f"{word}={gemma_like}" for word in words], seeds=1), identify)
    formats = PromptFormats(plan, Store(tmp_path / "store"))
    stages = [stage for stage in plan.stages.values() if isinstance(stage.settings, Evaluate)]
    forms = [formats.open(stage, stage.settings.model, "Be brief.") for stage in stages]
    assert len({id(form.tokenizer) for form in forms}) == 1
    (text,) = forms[0].render_prompts(["Who?"])
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert text == load_tokenizer(gemma_like).apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_a_tokenizer_that_is_not_built_yet_is_made_from_its_settings(tmp_path: Path) -> None:
    plan = make_plan(load_recipe("tiny_pair", seeds=1), identify)
    stage = next(stage for stage in plan.stages.values() if isinstance(stage.settings, Evaluate))
    form = PromptFormats(plan, Store(tmp_path / "store")).open(stage, stage.settings.model, None)
    question = stage.settings.questions[0].question
    decoded = form.decode(form.prompts([question])[0])
    assert "".join(decoded.split()) == "".join(f"Q: {question}A:".split())
    assert list(tmp_path.iterdir()) == []
