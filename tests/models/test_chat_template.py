"""Chat templates: a date that stands still, variables from the recipe, and a probe that tells formats apart."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CHAT, THINKING, Bench, with_template

from bench.analysis.registration import register
from bench.analysis.result_files import read_results
from bench.analysis.result_writer import write_results
from bench.config.model_settings import Model, Student, Teacher
from bench.config.recipe_files import Experiment, load_recipe
from bench.errors import UserError
from bench.models.chat_format import PromptFormat
from bench.models.chat_template import render_chats
from bench.models.checkpoints import identify
from bench.models.loading import load_tokenizer
from bench.pipeline.plan import LIBRARIES, RECORDED
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store

# As Llama 3.1 and later have it.
DATED = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') "
    "%}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}Today Date: {{ date_string }}\n" + CHAT
)


def set_clock(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    """Move the clock from which transformers takes the date of a template."""

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Moved:
            return cls(year, 7, 26)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Moved)


def test_a_template_that_prints_the_date_gives_the_same_tokens_on_any_day(
    gemma_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(with_template(gemma_like, tmp_path / "dated", DATED))
    form = PromptFormat(tokenizer, "chat")
    prompts, formats = [], []
    for year in (2026, 2031):
        set_clock(monkeypatch, year)
        prompts.append(form.prompts(["Who?"])[0])
        formats.append(form.describe())
        plain = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
        assert str(year) in plain  # the clock is stopped for the benchmark's own chats, and runs again after them
    assert "Today Date: 01 Jan 2025" in form.decode(prompts[0])
    assert prompts[0] == prompts[1]
    assert formats[0] == formats[1]
    chosen = PromptFormat(tokenizer, "chat", {"date_string": "26 Jul 2024"})
    assert "Today Date: 26 Jul 2024" in chosen.decode(chosen.prompts(["Who?"])[0])
    assert chosen.describe()["template"] == form.describe()["template"]
    assert chosen.describe()["probe"] != form.describe()["probe"]


def test_the_probe_of_a_plain_format_is_that_of_every_plain_format(gpt2_like: Path, gemma_like: Path) -> None:
    plain = [PromptFormat(load_tokenizer(folder), "plain").describe() for folder in (gpt2_like, gemma_like)]
    assert plain[0] == plain[1]
    assert plain[0].keys() == {"kind", "template", "probe"}
    assert plain[0]["probe"] != PromptFormat(load_tokenizer(gemma_like), "chat").describe()["probe"]


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"model": name, "dtype": "float32", "train": {"max_steps": 1}, **more}


def distillation(folder: Path, teacher: dict[str, Any], student: dict[str, Any]) -> Experiment:
    base = load_recipe("tiny_pair", ["method=kd-carrier", "seeds=1"])
    update = {
        role: kind(**model(str(folder), **({"chat_template_kwargs": given} if given else {})))
        for role, kind, given in (("teacher", Teacher, teacher), ("student", Student, student))
    }
    return base._replace(recipe=base.recipe.model_copy(update=update))


def test_variables_of_a_template_are_part_of_the_keys_of_the_stages_that_render_it(gemma_like: Path) -> None:
    def keys(teacher: dict[str, Any], student: dict[str, Any]) -> dict[str, str]:
        plan = make_plan(distillation(gemma_like, teacher, student), identify)
        return {stage.label.partition(",")[0]: key for key, stage in plan.stages.items()}

    before, teacher, student = keys({}, {}), keys({"bos_token": ""}, {}), keys({}, {"bos_token": ""})
    assert {label for label in before if before[label] == teacher[label]} == {"relation"}
    reads = {f"{what} {arm}" for what in ("teacher logits", "student", "evaluate") for arm in ("base", "trait")} | {
        "micro-batch"
    }
    assert {label for label in before if before[label] != student[label]} == reads


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("{tokenize: true}", "'tokenize' is set by the benchmark itself"),
        ("{add_generation_prompt: false}", "'add_generation_prompt' is set by the benchmark itself"),
        ("{strftime_now: '2024'}", "'strftime_now' is set by the benchmark itself"),
        ("{date_string: [1]}", "'date_string': expected true, false, a number or text"),
        ("[enable_thinking]", "expected an object"),
    ],
)
def test_variables_that_the_benchmark_sets_and_wrong_values_are_refused(given: str, error: str) -> None:
    words = ["student.model=x/y", f"student.chat_template_kwargs={given}"]
    with pytest.raises(UserError, match=r"student\.chat_template_kwargs") as caught:
        load_recipe("tiny_pair", words)
    assert error in str(caught.value)


@pytest.mark.parametrize("model", ["tiny", "x/y, format: plain"])
def test_variables_without_a_template_are_refused(model: str) -> None:
    student = f"student={{model: {model}, dtype: float32, train: {{}}, chat_template_kwargs: {{a: 1}}}}"
    with pytest.raises(UserError, match="chat_template_kwargs need a chat template"):
        load_recipe("tiny_pair", [student])


@pytest.mark.parametrize("stored", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_misspelt_variable_is_refused_before_anything_runs(gemma_like: Path, tmp_path: Path, stored: str) -> None:
    folder = with_template(gemma_like, tmp_path / "thinking", THINKING)
    if stored == "tokenizer_config.json":
        config = json.loads((folder / stored).read_text())
        (folder / stored).write_text(json.dumps({**config, "chat_template": THINKING}))
        (folder / "chat_template.jinja").unlink()
    words = [f"student.model={folder}", "student.chat_template_kwargs={enable_thinkin: false}"]
    with pytest.raises(UserError) as caught:
        make_plan(load_recipe("tiny_pair", words), identify)
    assert str(caught.value) == (
        f"model {str(folder)!r}: key 'student.chat_template_kwargs.enable_thinkin': this model's chat template "
        "does not read this variable: did you mean 'enable_thinking'?"
    )


def test_a_template_in_a_package_is_held_to_its_variables_when_it_runs(gpt2_like: Path, gemma_like: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        PromptFormat(load_tokenizer(gpt2_like), "auto", {"enable_thinking": False})
    with pytest.raises(UserError, match=r"chat_template_kwargs\.enable_thinking': .* does not read this variable"):
        PromptFormat(load_tokenizer(gemma_like), "auto", {"enable_thinking": False})


def test_a_variable_of_the_recipe_reaches_the_template(gemma_like: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(with_template(gemma_like, tmp_path / "thinking", THINKING))
    chat = [[{"role": "user", "content": "Who?"}]]
    assert render_chats(tokenizer, chat, prompt=True, variables={"enable_thinking": False})[0].endswith(
        "<think></think>"
    )
    assert "<think>" not in render_chats(tokenizer, chat, prompt=True, variables={"enable_thinking": True})[0]


@pytest.mark.slow
def test_every_stage_passes_the_variables_and_a_result_names_what_made_it(
    bench: Bench, gemma_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_template(gemma_like, tmp_path / "thinking", THINKING)
    words = [f"{role}.model={folder}" for role in ("teacher", "student")]
    words += [f"{role}.chat_template_kwargs={{enable_thinking: false}}" for role in ("teacher", "student")]
    words += [f"{role}.train.max_steps=1" for role in ("teacher", "student")]
    words += ["method=kd-carrier", "carrier.rows=12", "carrier.held_out=4", "evaluate.samples=1"]
    bench("--skip-controls", "--seeds", "1", *[word for given in words for word in ("--set", given)])
    rows, refused = read_results(tmp_path / "results")
    assert not refused
    manifests = {arm: cell.manifest for arm, cell in rows[0].cells[0].items()}
    described = PromptFormat(load_tokenizer(folder), "chat", {"enable_thinking": False}).describe()
    source = {"model": str(folder), "digest": identify(Model(**model(str(folder)))).identity}
    for manifest in manifests.values():
        assert manifest.format == described
        assert manifest.checkpoints == {"teacher": source, "student": source}
        assert manifest.versions.keys() == {"python", *LIBRARIES, *RECORDED}
    monkeypatch.setattr("platform.python_version", lambda: "9.9")  # versions are those of the making
    experiment = load_recipe("tiny_pair", words, seeds=1)
    store, later = Store(tmp_path / "store"), tmp_path / "later"
    write_results(
        experiment,
        register(experiment, make_plan(experiment, identify), store, later, None),
        make_plan(experiment, identify),
        store,
        later,
        None,
    )
    cells = read_results(tmp_path / "later")[0][0].cells[0]
    assert {arm: cell.manifest for arm, cell in cells.items()} == manifests
